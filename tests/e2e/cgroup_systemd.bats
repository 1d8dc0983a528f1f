#!/usr/bin/env bats
# --systemd-cgroup with a real systemd (systemd.bash).

load helpers
load cgroup
load systemd

setup_file() {
	make_base
	[[ -w $CG && -x /lib/systemd/systemd ]] && command -v busctl dbus-daemon >/dev/null || return 0
	export PARENT=/husk-systemd.$$
	start_systemd "$BASE/systemd" "$PARENT"
	export SYSTEMD
}

teardown_file() {
	[[ ${SYSTEMD:-} ]] || return 0
	stop_systemd
	remove_cgroups "$PARENT"
}

setup() {
	setup_test
	[[ ${SYSTEMD:-} ]] || skip "systemd, busctl or dbus-daemon is missing, or cgroups cannot be written to"
}
teardown() { check_nothing_left; }

husk_there() { in_systemd "$HUSK" --systemd-cgroup --root "$ROOT" "$@"; }
property() { in_systemd systemctl show -P "$2" "$1"; }
unit_active() { [[ $(property "$1" ActiveState) == active ]]; }
unit_gone() { [[ $(property "$1" LoadState) == not-found ]]; }

@test "a container is a scope of systemd, with its limits; delete takes it away" {
	bundle c '.linux.cgroupsPath = "husk-test.slice:pre:c" | .linux.resources += {
		memory: {limit: 134217728}, cpu: {quota: 20000, period: 100000, shares: 512, cpus: "0"}} |
		.annotations["org.systemd.property.TimeoutStopUSec"] = "uint64 5000000" |
		.annotations["org.systemd.property.Documentation"] = "true"' sleep 1000
	run husk_there run -d -b "$B" c </dev/null
	status_is 1
	has "husk: error: --systemd-cgroup: systemd: pre-c.scope: " "$output"
	has "Failed to set unit properties" "$output"
	wait_until unit_gone pre-c.scope
	# a property's name or value is no option of the program that asks systemd
	for name in --version --address=unix:path=/nowhere; do
		bundle c ".linux.cgroupsPath = \"husk-test.slice:pre:c\" | .annotations[\"org.systemd.property.$name\"] = \"'--help'\"" true
		run husk_there run -d -b "$B" c </dev/null
		status_is 1
		has "husk: error: --systemd-cgroup: systemd: pre-c.scope: " "$output"
		has "Cannot set property $name, or unknown property" "$output"
	done

	bundle c '.linux.cgroupsPath = "husk-test.slice:pre:c" | .linux.resources += {
		memory: {limit: 134217728}, cpu: {quota: 20000, period: 100000, shares: 512, cpus: "0"}} |
		.annotations["org.systemd.property.TimeoutStopUSec"] = "uint64 5000000"' sleep 1000
	husk_there run -d -b "$B" c </dev/null >"$T/out" 2>&1 || { cat "$T/out" && return 1; }
	is active "$(property pre-c.scope ActiveState)"
	is husk-test.slice "$(property pre-c.scope Slice)"
	is yes "$(property pre-c.scope Delegate)"
	is 5s "$(property pre-c.scope TimeoutStopUSec)"
	is 700ms "$(property pre-c.scope CPUQuotaPerSecUSec)"
	local bytes path=$PARENT/husk.slice/husk-test.slice/pre-c.scope
	bytes=$(cg_read memory "$path" memory.limit_in_bytes memory.max)
	((bytes > 134217728 && bytes < 536870912))
	is 0 "$(cg_read cpuset "$path" cpuset.cpus cpuset.cpus)"
	for p in proxy vmm; do is "${path#"$PARENT"}" "$(cgroups_there "$(part_of $p c)")"; done

	# systemd goes over its units, and leaves them as they are
	in_systemd systemctl daemon-reload
	is "$bytes" "$(cg_read memory "$path" memory.limit_in_bytes memory.max)"
	husk_there update --cpu-quota 70000 c
	in_systemd systemctl daemon-reload
	is 1.200000s "$(property pre-c.scope CPUQuotaPerSecUSec)"
	if is_v2; then
		is "120000 100000" "$(cat "$CG$path/cpu.max")"
	else
		is 120000 "$(cat "$CG/cpu$path/cpu.cfs_quota_us")"
	fi
	husk_there exec c true </dev/null
	husk_there delete --force c
	wait_until unit_gone pre-c.scope # systemd forgets it when it gets to that
	[[ -z $(cgroup_dirs "$path") ]]
}

# Where process $1 is in all hierarchies, from systemd's root.
cgroups_there() { in_systemd cut -d: -f3 "/proc/$1/cgroup" | sort -u; }

@test "a container that ends by itself, a killed create, a default name: nothing is left with systemd" {
	bundle e . true
	husk_there run -b "$B" e </dev/null
	husk_there state e 2>/dev/null && husk_there delete e
	wait_until unit_gone husk-e.scope
	bundle k '.hooks.prestart = [{path: "/bin/sh", args: ["sh", "-c", "echo $$ >'"$T"'/hook; exec /bin/sleep 1000"]}]' true
	in_systemd sh -c 'echo $$ >"$0"; exec "$@"' "$T/pid" \
		"$HUSK" --systemd-cgroup --root "$ROOT" create -b "$B" k </dev/null >/dev/null 2>&1 3>&- &
	wait_until test -s "$T/hook"
	wait_until unit_active husk-k.scope
	in_systemd kill -9 "$(cat "$T/pid")"
	in_systemd kill "$(cat "$T/hook")" # what a killed husk leaves of a hook
	wait_until unit_gone husk-k.scope
	husk_there delete --force k
}

@test "without systemd the error names it; a path of cgroupfs is refused" {
	bundle c . true
	run --separate-stderr "$HUSK" --systemd-cgroup --root "$ROOT" run -b "$B" c </dev/null
	one_error "--systemd-cgroup: systemd: husk-c.scope: Failed to connect to bus: No such file or directory"
	bundle d '.linux.cgroupsPath = "/docker/x"' true
	run "$HUSK" --systemd-cgroup --root "$ROOT" run -b "$B" d </dev/null
	status_is 1
	has 'linux.cgroupsPath: "/docker/x": expected cgroupsPath to be of format "slice:prefix:name"' "$output"
}
