#!/usr/bin/env bats
# The jail of husk-vmm, from inside and from outside. What each case does is in jail_cases.py and in
# tests/jail/captive.c.

load helpers

setup_file() {
	make_base
}

setup() {
	setup_test
}

teardown() {
	check_nothing_left
}

case_() {
	PYTHONDONTWRITEBYTECODE=1 python3 "$PY/jail_cases.py" "$@"
}

opener_of() { descendants "$(vmm_of "$1")" | awk '/husk-vmm/ { print $1; exit }'; }

@test "a husk-vmm that was taken over reaches no file, process, network or capability: it dies, and the call is named" {
	case_ nothing_of_the_host_is_reachable "$T"
}

@test "each thread of husk-vmm may do less than the process" {
	case_ threads_have_less "$T"
}

@test "what libc says before it gives up is in the log" {
	case_ libc_is_heard "$T"
}

@test "the host sees husk-vmm without privileges, files, mounts and network" {
	start_box box
	case_ seen "$(vmm_of box)" vmm
	end_box box
}

@test "the opener has one capability and two descriptors" {
	start_box box
	husk exec box cat /bin/busybox </dev/null >/dev/null
	wait_until case_ seen "$(opener_of box)" opener # one that was opened is closed when it has been handed over
	end_box box
}

@test "two containers' husk-vmms are two users" {
	start_box one
	start_box two
	is 2 "$(for c in one two; do awk '/^Uid:/ { print $2 }' "/proc/$(vmm_of "$c")/status"; done | sort -u | wc -l)"
	end_box one
	end_box two
}
