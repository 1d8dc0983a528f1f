#!/usr/bin/env bats
# The container's cgroup on the host (docs/cgroups.md), by cgroupfs, v1 or v2. By systemd:
# cgroup_systemd.bats; what engines see: tests/engines/cgroup.bats.

load helpers
load cgroup

setup_file() { make_base; }
setup() {
	setup_test
	PARENT=/husk-e2e.$$.$BATS_TEST_NUMBER
	[[ -w $CG ]] || skip "no cgroups that can be written to"
}
teardown() {
	local status=0
	check_nothing_left || status=1
	is "" "$(cgroup_dirs "$PARENT/")" || status=1
	remove_cgroups "$PARENT"
	return $status
}

# members ID CONTROLLER: pids in the container's cgroup.
members() { cat "$(cg_dir "$2" "$PARENT/$1")/cgroup.procs"; }

# in_cgroup FILTER: with the container's own path below PARENT.
in_cgroup() { echo ".linux.cgroupsPath = \"$PARENT/$1\" | $2"; }

limits='.linux.resources += {memory: {limit: 134217728, reservation: 67108864},
	cpu: {quota: 20000, period: 100000, shares: 512, cpus: "0", mems: "0"}, pids: {limit: 50}}'

@test "the whole machine and its proxies are in the cgroup that config.json names, with its limits" {
	start_box c "$(in_cgroup c "$limits | .process.oomScoreAdj = 300")"
	local p pid
	pid=$(pid_of c)
	for p in "$pid" $(for part in $(vm_parts); do part_of "$part" c; done); do
		is "$PARENT/c" "$(cgroup_of "$p" memory)"
		is "$PARENT/c" "$(cgroup_of "$p" cpu)"
		is 0 "$(awk '/Max core file size/ { print $5 }' "/proc/$p/limits")"
	done
	# guest memory is the container's; the proxy can tell when it was taken away
	is 300 "$(cat "/proc/$(machine_of c)/oom_score_adj")"
	is 200 "$(cat "/proc/$pid/oom_score_adj")"
	is 0 "$(awk '/Max locked memory/ { print $4 }' "/proc/$(machine_of c)/limits")"

	# more than the container's limit, less than half a GiB
	local bytes
	bytes=$(cg_read memory "$PARENT/c" memory.limit_in_bytes memory.max)
	((bytes > 134217728 && bytes < 536870912))
	is 67108864 "$(cg_read memory "$PARENT/c" memory.soft_limit_in_bytes memory.low)"
	if is_v2; then
		is "70000 100000" "$(cat "$CG$PARENT/c/cpu.max")"
		is 59 "$(cat "$CG$PARENT/c/cpu.weight")"
		is max "$(cat "$CG$PARENT/c/pids.max")"
	else
		is 70000 "$(cat "$CG/cpu$PARENT/c/cpu.cfs_quota_us")"
		is 512 "$(cat "$CG/cpu$PARENT/c/cpu.shares")"
		is max "$(cat "$CG/pids$PARENT/c/pids.max")"
	fi
	is 0 "$(cg_read cpuset "$PARENT/c" cpuset.cpus cpuset.cpus)"
	is 0 "$(awk '/^Cpus_allowed_list/ { print $2 }' "/proc/$(machine_of c)/status")"

	# the guest's are exact, and know nothing of the host's processors
	is "134217728
20000 100000
50
0" "$(husk exec c sh -c 'cd /sys/fs/cgroup; cat memory.max cpu.max pids.max; cat cpuset.cpus | wc -w' </dev/null)"

	# an exec's proxy is there, too, in the background and in the foreground
	husk exec -d --pid-file "$T/pid" c sleep 1000 </dev/null >/dev/null 2>&1
	is "$PARENT/c" "$(cgroup_of "$(cat "$T/pid")" memory)"
	"$HUSK" --root "$ROOT" exec c sleep 1000 </dev/null 3>&- &
	wait_until in_there $!

	husk update --memory 67108864 --cpu-quota 50000 --cpu-share 1024 c
	is "$bytes" "$(cg_read memory "$PARENT/c" memory.limit_in_bytes memory.max)"
	if is_v2; then
		is "100000 100000" "$(cat "$CG$PARENT/c/cpu.max")"
	else
		is 100000 "$(cat "$CG/cpu$PARENT/c/cpu.cfs_quota_us")"
		is 1024 "$(cat "$CG/cpu$PARENT/c/cpu.shares")"
	fi
	end_box c
	[[ -z $(cgroup_dirs "$PARENT/c") && -n $(cgroup_dirs "$PARENT") ]]
}

in_there() { [[ $(cgroup_of "$1" memory) == "$PARENT/c" ]]; }

@test "without a path and limits there is none; with limits alone it is below husk's own" {
	start_box c
	is "$(cgroup_of $$ memory)" "$(cgroup_of "$(pid_of c)" memory)"
	is null "$(jq .cgroup.dirs "$ROOT/c/state.json")"
	end_box c
	start_box husk-e2e-d "$limits"
	local own
	own=$(cgroup_of $$ memory)
	is_v2 && own=$(dirname "$own")
	is "${own%/}/husk-e2e-d" "$(cgroup_of "$(pid_of husk-e2e-d)" memory)"
	end_box husk-e2e-d
	[[ -z $(cgroup_dirs husk-e2e-d) ]]
}

@test "a create that fails, or is killed, leaves no cgroup behind" {
	run_in "$(in_cgroup c .)" /no/such/command
	status_is 127
	# in a cgroup of somebody else's: refused, and left alone
	local dir
	dir=$(cg_dir memory "$PARENT/busy")
	mkdir -p "$dir"
	sleep 1000 3>&- &
	echo $! >"$dir/cgroup.procs"
	run_in "$(in_cgroup busy .)" true
	one_error "linux.cgroupsPath: $dir: container's cgroup is not empty: process $! is in it"
	kill $!
	wait_until rmdir "$dir"
	run_in '.linux.cgroupsPath = "/../"' true
	has 'linux.cgroupsPath: "/../": the root cannot be a container' "$stderr"
	run_in "$(in_cgroup c '.linux.resources.cpu.cpus = "4000"')" true
	status_is 1
	has "linux.resources.cpu.cpus: " "$stderr"
	is "" "$(cgroup_dirs "$PARENT/")"

	bundle k "$(in_cgroup k '.hooks.prestart = [{path: "/bin/sh", args: ["sh", "-c", "echo $$ >'"$T"'/hook; exec /bin/sleep 1000"]}]')" true
	"$HUSK" --root "$ROOT" create -b "$B" k </dev/null >/dev/null 2>&1 3>&- &
	wait_until test -s "$T/hook"
	grep -q '"made":true' "$ROOT/k/state.json"
	kill -9 $!
	wait_until husk delete --force k
	# what a killed husk leaves of a hook is this test's to end
	kill "$(cat "$T/hook")"
}

oom_kills() {
	cg_read memory "$PARENT/$1" memory.oom_control memory.events | awk '$1 == "oom_kill" { print $2 }'
}

@test "what the guest's kernel kills for memory counts on the host" {
	bundle c "$(in_cgroup c '.linux.resources.memory.limit = 67108864')" tail /dev/zero
	husk run -d -b "$B" c </dev/null >/dev/null 2>&1
	wait_until is_stopped c
	local before
	is 1 "$(oom_kills c)"
	# with the limit that it had
	before=$(jq '.cgroup.machine_bytes + .cgroup.overhead_bytes' "$ROOT/c/state.json")
	is "$before" "$(cg_read memory "$PARENT/c" memory.limit_in_bytes memory.max)"
	# an engine that removes it itself
	remove_cgroups "$PARENT/c"
	husk delete c
}

@test "quota below a smaller one; scores; block I/O by the host's device numbers; what cannot be is refused by name" {
	local dev
	dev=$(stat -Lc '%Hr:%Lr' "$(find /dev -maxdepth 1 -type b | sort | head -n 1)")
	# above it there is less processor time than the machine would get, in v1 the most that it may have
	is_v2 || { mkdir "$CG/cpu$PARENT" && echo 30000 >"$CG/cpu$PARENT/cpu.cfs_quota_us"; }
	start_box c "$(in_cgroup c ".linux.resources.blockIO.throttleWriteBpsDevice =
		[{major: ${dev%:*}, minor: ${dev#*:}, rate: 1048576}] | .process.oomScoreAdj = -500 |
		.linux.resources.cpu = {quota: 20000, period: 100000}")"
	is_v2 || is 30000 "$(cat "$CG/cpu$PARENT/c/cpu.cfs_quota_us")"
	# the guest's root may do what the host's perhaps may not
	is -500 "$(husk exec c cat /proc/1/oom_score_adj </dev/null)"
	local score
	score=$(cat "/proc/$(machine_of c)/oom_score_adj")
	((score == -500)) || is 0 "$score"
	has "$dev" "$(cg_read "$(is_v2 && echo io || echo blkio)" "$PARENT/c" blkio.throttle.write_bps_device io.max)"
	end_box c
	run_in "$(in_cgroup c '.linux.resources.unified = {"io.max": "999:99 rbps=1"}')" true
	status_is 1
	has 'linux.resources.unified["io.max"]: ' "$stderr"
	run_in '.linux.resources.network.classID = 1' true
	has "linux.resources.network.classID: a microVM's packets" "$stderr"
	run_in '.linux.resources.unified = {"cpuset.cpus.partition": "root"}' true
	has 'linux.resources.unified["cpuset.cpus.partition"]: unknown' "$stderr"
}

@test "cgroups that cannot be written to: an error where one was asked for, none where not" {
	cat >"$T/frozen" <<-'S'
		cut -d' ' -f5 /proc/self/mountinfo | grep ^/sys/fs/cgroup | while read -r m; do
			mount -o remount,bind,ro "$m"
		done
		exec "$@"
	S
	bundle c . true
	run unshare -m sh "$T/frozen" "$HUSK" --root "$ROOT" run -b "$B" c </dev/null
	status_is 0
	bundle d "$(in_cgroup d .)" true
	run unshare -m sh "$T/frozen" "$HUSK" --root "$ROOT" run -b "$B" d </dev/null
	status_is 1
	has "linux.cgroupsPath: this host has no cgroups that husk can use: $CG" "$output"
	has "is mounted read-only" "$output"
}

@test "a container that joins a pod has a cgroup of its own, with its proxy" {
	start_box s "$(in_cgroup s '.annotations["io.kubernetes.cri.container-type"] = "sandbox"')"
	start_box j "$(in_cgroup j ".annotations += {\"io.kubernetes.cri.container-type\": \"container\",
		\"io.kubernetes.cri.sandbox-id\": \"s\"} |
		.linux.namespaces |= map(if .type == \"network\"
			then .path = \"/proc/$(pid_of s)/ns/net\" else . end) |
		.linux.resources.memory.limit = 67108864")" \
		sh -c 'trap "exec tail /dev/zero" USR1; echo up; while :; do sleep 0.1; done'
	wait_until grep -q up "$T/j.out"
	is "$(pid_of j)" "$(members j memory)"
	is $((67108864 + 33554432)) "$(cg_read memory "$PARENT/j" memory.limit_in_bytes memory.max)"
	has "$(vmm_of s)" "$(members s memory)"
	# that it ran out of memory is told in its own, and not in the machine's
	# Not by an exec: its container may have ended before it has.
	husk kill j USR1
	wait_until is_stopped j
	is 1 "$(oom_kills j)"
	is 0 "$(oom_kills s)"
	end_box j
	is "" "$(cgroup_dirs "$PARENT/j")"
	is_running s
	end_box s
}
