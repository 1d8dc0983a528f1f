#!/usr/bin/env bats
# What config.json says, as seen from inside. One container with a rich configuration serves most
# tests; what its first process sees of itself is in $BASE/box.out.

load helpers

setup_file() {
	make_base
	start_box box '
		.hostname = "inside" | .domainname = "example.org"
		| .process.rlimits = [{type: "RLIMIT_NOFILE", soft: 123, hard: 456},
			{type: "RLIMIT_CORE", soft: 0, hard: 0}, {type: "RLIMIT_STACK", soft: 4194304, hard: 8388608}]
		| .process.user = {uid: 0, gid: 0, additionalGids: [5, 77], umask: 63}
		| .process.oomScoreAdj = -321
		| .process.env += ["GREETING=hello  world"]
		| .process.cwd = "/made/by/husk"
		| .process.capabilities = (["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_SYS_ADMIN"] as $c
			| {bounding: $c, effective: $c, permitted: $c, inheritable: ["CAP_KILL"], ambient: ["CAP_KILL"]})
		| .mounts += [
			{destination: "/small", type: "tmpfs", source: "tmpfs", options: ["size=1m", "mode=711", "noexec", "nosuid"]},
			{destination: "/fixed", type: "tmpfs", source: "tmpfs", options: ["ro"]}]
		| .linux.sysctl = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "12345678", "fs.mqueue.msg_max": "77"}
		| .linux.maskedPaths += ["/secret", "/etc/shadow", "/not/there"]
		| .linux.readonlyPaths += ["/frozen", "/not/there/either"]
		| .linux.devices = [{path: "/dev/other-null", type: "c", major: 1, minor: 3, fileMode: 432, uid: 0, gid: 5},
			{path: "/dev/a/fifo", type: "p", fileMode: 416}]
		| .linux.resources = {devices: [{allow: false, access: "rwm"}],
			memory: {limit: 67108864}, pids: {limit: 40},
			cpu: {quota: 50000, period: 100000, shares: 512}, unified: {"memory.high": "60000000"}}
		| .linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86_64"], syscalls: [
			{names: ["sethostname"], action: "SCMP_ACT_ERRNO", errnoRet: 18},
			{names: ["chroot"], action: "SCMP_ACT_KILL_PROCESS"},
			{names: ["kill"], action: "SCMP_ACT_ERRNO", errnoRet: 3,
				args: [{index: 1, value: 12, op: "SCMP_CMP_EQ"}]}]}' \
		sh -c 'while read l; do echo "$l"; done </proc/self/status; ulimit -n; ulimit -Hn; umask; id -G; echo "<$GREETING>"; pwd
			cat /proc/self/oom_score_adj; echo end; trap "exit 0" TERM; while :; do sleep 100000 & wait; done'
	mkdir -p "$B"/rootfs/{secret,frozen}
	touch "$B"/rootfs/{secret/x,frozen/y,etc/shadow}
	husk delete -f box
	husk run -d -b "$B" box </dev/null >"$BASE/box.out" 2>"$BASE/box.err"
	wait_until grep -qx end "$BASE/box.out"
}

teardown_file() {
	husk delete -f box
	all_ended
}

setup() {
	setup_test
	ROOT=$BASE/root
}

teardown() {
	ROOT=$T/none
	check_nothing_left
}

in_box() { husk exec box sh -c "$1" </dev/null; }
said() { grep -E "$1" "$BASE/box.out" | xargs; }

@test "the first process: capabilities, limits, umask, groups, environment, directory" {
	is "CapInh: 0000000000000020 CapPrm: 0000000008200021 CapEff: 0000000008200021 CapBnd: 0000000008200021 CapAmb: 0000000000000020" "$(said '^Cap')"
	is "NoNewPrivs: 1" "$(said ^NoNewPrivs)"
	is "Seccomp: 2" "$(said '^Seccomp:')"
	# (The shell itself ignores SIGQUIT.)
	is "SigBlk: 0000000000000000" "$(said '^SigBlk')"
	is "NSpid: 1" "$(said ^NSpid)"
	is "123 456 0077 0 5 77 <hello  world> /made/by/husk -321 end" \
		"$(sed -n '/^nonvoluntary/,$p' "$BASE/box.out" | tail -n +2 | xargs -d '\n')"
	is "" "$(cat "$BASE/box.err")"
}

@test "an exec'ed process has them too" {
	is "123 456 0" "$(in_box 'ulimit -n; ulimit -Hn; ulimit -c' | xargs)"
	is "CapEff: 0000000008200021 CapBnd: 0000000008200021 Seccomp: 2" \
		"$(in_box 'grep -E "Cap(Eff|Bnd)|Seccomp:" /proc/self/status' | xargs)"
}

@test "signals have their default dispositions" {
	is "SigBlk: 0000000000000000 SigIgn: 0000000000000000 SigCgt: 0000000000000000" \
		"$(husk exec box grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status | xargs)"
}

@test "host name, domain name, sysctls" {
	is "inside example.org 1 12345678 77" "$(in_box 'hostname; cat /proc/sys/kernel/domainname \
		/proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max' | xargs)"
}

@test "namespaces: own pids, ipc, mounts; nothing of the guest around it" {
	is "" "$(in_box 'ls /proc | grep -E "^[0-9]+$" | while read p; do cat /proc/$p/comm 2>/dev/null; done' | grep -vE '^(sh|sleep|ls|grep|cat)$')"
	is 1 "$(in_box 'cat /proc/sysvipc/shm' | wc -l)"
	is "0::/" "$(in_box 'cat /proc/self/cgroup')"
	is "lo" "$(in_box 'ls /sys/class/net')"
	# No mount but those of the configuration.
	is "" "$(in_box "cut -d' ' -f5 /proc/self/mountinfo" | grep -vxE '/|/proc(/.*)?|/dev(/.*)?|/sys(/.*)?|/small|/fixed|/secret|/frozen|/etc/shadow')"
	is "" "$(in_box "cut -d' ' -f4 /proc/self/mountinfo" | grep '//deleted')"
}

@test "masked paths hide, read-only paths refuse" {
	is "" "$(in_box 'ls -A /secret; cat /etc/shadow /proc/kcore')"
	run in_box 'touch /frozen/z'
	has "Read-only file system" "$output"
	run in_box 'echo 1 >/proc/sys/kernel/panic'
	has "Read-only file system" "$output"
	is y "$(in_box 'ls /frozen')"
	run in_box 'touch /secret/z'
	status_is 1
}

@test "devices: the default ones, those of linux.devices, and no others" {
	is "c 1:3 c 1:5 c 1:7 c 1:8 c 1:9 c 5:0" "$(in_box 'for d in null zero full random urandom tty; do
		stat -c "%F %t:%T" /dev/$d; done' | sed 's/character special file/c/' | xargs)"
	is "666 0:0 660 0:5 1:3 640 fifo" "$(in_box 'stat -c "%a %u:%g" /dev/null; stat -c "%a %u:%g %t:%T" /dev/other-null;
		stat -c "%a %F" /dev/a/fifo' | xargs)"
	is "/proc/self/fd /proc/self/fd/0 pts/ptmx" "$(in_box 'for l in fd stdin ptmx; do readlink /dev/$l; done' | xargs)"
	is "" "$(in_box 'cd /dev; ls | grep -vxE "a|core|fd|full|mqueue|null|other-null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero|console"')"
	is "4" "$(in_box 'head -c 4 /dev/zero >/dev/other-null; head -c 4 /dev/urandom | wc -c')"
}

@test "the device rules hold: what is not allowed can be made, not opened" {
	run in_box 'mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg'
	has "Operation not permitted" "$output"
	is 5 "$(in_box 'mknod /tmp/zero c 1 5 && head -c 5 /tmp/zero | wc -c')"
}

@test "mounts have their options" {
	is "711" "$(in_box 'stat -c %a /small')"
	run in_box 'dd if=/dev/zero of=/small/big bs=1M count=2'
	has "No space left on device" "$output"
	run in_box 'cp /bin/busybox /small/ 2>/dev/null; rm -f /small/big; echo "#!/bin/sh" >/small/x; chmod 755 /small/x; /small/x'
	has "Permission denied" "$output"
	run in_box 'touch /fixed/x'
	has "Read-only file system" "$output"
	has "nosuid,noexec" "$(in_box 'grep " /small " /proc/self/mountinfo')"
	in_box 'rm -rf /small/*'
}

@test "seccomp: error, kill, and by argument" {
	run in_box 'hostname other'
	has "Invalid cross-device link" "$output"
	run in_box 'chroot /'
	status_is 159
	# Signal 12 alone is refused.
	is "0 1" "$(in_box 'sleep 100 & kill -10 $!; echo $?; sleep 100 & kill -12 $! 2>/dev/null; echo $?; kill $!' | xargs)"
}

@test "cgroup limits" {
	# memory.high in whole pages; 512 shares are weight 59, as with runc since 1.3.
	is "67108864 59998208 40 50000 100000 59" \
		"$(in_box 'cd /sys/fs/cgroup; cat memory.max memory.high pids.max cpu.max cpu.weight' | xargs)"
	run in_box 'for i in $(seq 60); do sleep 1000 & done; wait'
	has "an't fork" "$output"
	husk exec box killall sleep
}

@test "PID 1 reaps nobody else's children: the agent takes orphans of exec'ed processes" {
	in_box '(sleep 0.01 &) ; true'
	no_zombies() { [[ $(in_box 'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null' | wc -l) == 0 ]]; }
	wait_until no_zombies || skip "orphans belong to the container's PID 1, a shell that does not reap"
}

# For a test with a container of its own.
own_root() { export ROOT=$T/root; }

@test "a user namespace" {
	own_root
	bundle u '.process.capabilities |= map_values(. + ["CAP_CHOWN"]) | .linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}]
		| .linux.gidMappings = [{containerID: 0, hostID: 200000, size: 65536}]' \
		sh -c 'id -u; cat /proc/self/uid_map /proc/self/gid_map; touch /x && chown 5:6 /x && stat -c "%u:%g" /x
			stat -c %u /bin/busybox; hostname; echo 1 >/proc/sys/kernel/panic'
	chown -R 100000:200000 "$B/rootfs"
	run --separate-stderr husk run -b "$B" u </dev/null
	is "0 0 100000 65536 0 200000 65536 5:6 0 husk" "$(xargs <<<"$output")"
	check_nothing_left
}

@test "a time namespace with offsets" {
	own_root
	run_in '.linux.namespaces += [{type: "time"}] | .linux.timeOffsets = {boottime: {secs: 1000000}, monotonic: {secs: 1000000}}' \
		cut -d. -f1 /proc/uptime
	status_is 0
	((output >= 1000000))
	check_nothing_left
}

@test "without namespaces of its own for pid and ipc, a container sees the guest's: never the host's" {
	own_root
	run_in '.linux.namespaces |= map(select(.type != "pid" and .type != "ipc"))' \
		sh -c 'cat /proc/1/comm; test $$ -gt 1 && echo not 1'
	status_is 0
	is "init not 1" "$(xargs <<<"$output")"
	check_nothing_left
}

@test "several CPUs when the quota says so" {
	(($(nproc) > 1)) || skip "one CPU"
	own_root
	run_in . uname -v
	has " SMP " "$output " || skip "HUSK_KERNEL is a kernel for one CPU"
	run_in '.linux.resources.cpu = {quota: 200000, period: 100000}' nproc
	is 2 "$output"
	run_in . nproc
	is 1 "$output"
	check_nothing_left
}
