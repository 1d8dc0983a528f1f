#!/usr/bin/env bats
# process.apparmorProfile and process.selinuxLabel: the machine's processes have them. On a host
# without AppArmor, or SELinux, they are refused by name. A first level of tests/nested has AppArmor.

load helpers

PROFILE=husk-test

has_apparmor() { [[ $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) == Y ]]; }

# As Docker's default one: what husk-vmm's start needs is not in it.
profile() {
	cat <<-EOF
		profile $PROFILE flags=(attach_disconnected,mediate_deleted) {
			network,
			capability,
			file,
			umount,
			signal (receive) peer=unconfined,
			signal (send,receive) peer=$PROFILE,
			deny @{PROC}/* w,
			deny @{PROC}/sysrq-trigger rwklx,
			deny @{PROC}/kcore rwklx,
			deny mount,
			deny /sys/[^f]*/** wklx,
			ptrace (trace,read,tracedby,readby) peer=$PROFILE,
		}
	EOF
}

setup_file() {
	make_base
	has_apparmor || return 0
	mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
	printf '@{PROC}=/proc/\n%s\n' "$(profile)" | apparmor_parser -r -K
}

teardown_file() {
	has_apparmor || return 0
	printf '@{PROC}=/proc/\n%s\n' "$(profile)" | apparmor_parser -R -K
}

setup() { setup_test; }
teardown() { check_nothing_left; }

@test "a host without the security module refuses by name" {
	run_in '.process.selinuxLabel = "system_u:system_r:container_t:s0"' true
	one_error "$B/config.json: process.selinuxLabel: \"system_u:system_r:container_t:s0\": SELinux is not enabled on this host"
	run_in '.linux.mountLabel = "system_u:object_r:container_file_t:s0"' true
	one_error "$B/config.json: linux.mountLabel: \"system_u:object_r:container_file_t:s0\": SELinux is not enabled on this host"
	has_apparmor && return
	run_in '.process.apparmorProfile = "docker-default"' true
	one_error "$B/config.json: process.apparmorProfile: \"docker-default\": AppArmor is not enabled on this host"
	run_in '.process.apparmorProfile = "unconfined"' true
	status_is 0
}

@test "the machine enters the profile, with all its threads, and works there" {
	has_apparmor || skip "AppArmor is not enabled here: the nested tests run this"
	start_box box ".process.apparmorProfile = \"$PROFILE\""
	machine=$(machine_of box)
	for task in /proc/"$(vmm_of box)"/task/*/attr/current /proc/"$machine"/task/*/attr/current; do
		is "$PROFILE (enforce)" "$(cat "$task")"
	done
	is works "$(husk exec box sh -c 'echo works | tee /file; cat /bin/busybox >/dev/null' </dev/null)"
	jq ".process | .terminal = false | .args = [\"true\"] | .apparmorProfile = \"other\"" "$B/config.json" >"$T/process"
	run --separate-stderr husk exec -p "$T/process" box </dev/null
	status_is 255
	has "process.apparmorProfile: \"other\": the container's microVM has another profile, and one only" "$stderr"
	husk kill box TERM
	wait_until is_stopped box
	is works "$(cat "$B/rootfs/file")"
	husk delete box
	is "" "$(dmesg 2>/dev/null | grep -E "apparmor=.DENIED.*$PROFILE" | tail -3)"
}

@test "a profile that is not loaded is an error" {
	has_apparmor || skip "AppArmor is not enabled here: the nested tests run this"
	run_in '.process.apparmorProfile = "husk-none"' true
	one_error 'process.apparmorProfile: enter "husk-none": it is not loaded: No such file or directory'
}
