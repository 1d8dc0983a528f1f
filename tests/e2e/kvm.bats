#!/usr/bin/env bats
# What only real virtual machines can show: many at once.

load helpers

setup_file() { make_base; }
setup() {
	setup_test
	only_on kvm "emulation is too slow for it"
}
teardown() { check_nothing_left; }

@test "50 machines at once, each with its own container" {
	local i
	bundle c '.linux.resources.memory.limit = 67108864' sh -c 'trap "exit 0" TERM; sleep 100000 & wait'
	for i in $(seq 50); do
		[[ -d $T/c$i ]] || { mkdir "$T/c$i" && cp -a "$B/rootfs" "$T/c$i/" && cp "$B/config.json" "$T/c$i/"; }
		husk run -d -b "$T/c$i" "c$i" </dev/null >"$T/c$i.out" 2>"$T/c$i.err" || { cat "$T/c$i.err" && return 1; }
	done
	is 50 "$(husk list --format json | jq '[.[] | select(.status == "running")] | length')"
	for i in 1 25 50; do
		is "number $i" "$(husk exec "c$i" echo "number $i" </dev/null)"
	done
	for i in $(seq 50); do
		husk delete --force "c$i"
	done
}

# The container's process group goes on for ever: those that the kernel kills are replaced. The kernel cannot kill
# the agent, which is PID 1.
@test "a container that forks until its guest is out of memory" {
	local own oom_kills=0 end=$((SECONDS + 4 * WAIT_S))
	start_box hog . sh -c 'while :; do dd if=/dev/zero bs=8M count=1 2>/dev/null | sleep 100000 & done'
	until ((oom_kills > 0)) || is_stopped hog; do
		((SECONDS < end)) || { echo "nothing was killed" && return 1; }
		run timeout $((2 * WAIT_S)) "$HUSK" --root "$ROOT" exec hog \
			sed -n 's/^oom_kill //p' /sys/fs/cgroup/memory.events </dev/null 2>/dev/null
		[[ $status != 124 ]] || { echo "exec has no answer" && return 1; }
		[[ ! $output =~ ^[0-9]+$ ]] || oom_kills=$output
	done
	own=$(awk '/^RssAnon:/ { print $2 }' "/proc/$(vmm_of hog)/status" || :)
	((${own:-0} < 8192))
	timeout "$WAIT_S" "$HUSK" --root "$ROOT" delete --force hog
}
