#!/usr/bin/env bats
# config-linux.md: namespaces, paths, propagation, personality, offsets, sysctls; and what MUST be an
# error. Devices, user namespaces, network devices: spec_*.bats of their own; resources: cgroup*.bats.

load helpers

setup_file() {
	make_base
	start_box box '.linux.namespaces += [{type: "time"}]
		| .linux.timeOffsets = {monotonic: {secs: 5000000, nanosecs: 500000000}, boottime: {secs: 6000000}}
		| .linux.personality = {domain: "LINUX32"}
		| .linux.rootfsPropagation = "shared"
		| .linux.sysctl = {"net/ipv4/conf/all/log_martians": "1", "net.core.somaxconn": "77", "kernel.msgmax": "4321", "kernel/domainname": "by.sysctl"}
		| .linux.maskedPaths = ["/etc/group", "/home", "/proc/keys", "/none"]
		| .linux.readonlyPaths = ["/root", "/proc/sys", "/none"]
		| .mounts += [{destination: "/deep/er/file", type: "tmpfs", source: "t", options: ["size=64k", "nr_inodes=10"]},
			{destination: "/mnt/slave", type: "tmpfs", source: "t", options: ["rslave"]},
			{destination: "/mnt/private", type: "tmpfs", source: "t", options: ["private"]},
			{destination: "/mnt/unbindable", type: "tmpfs", source: "t", options: ["unbindable"]}]'
}

teardown_file() {
	husk delete -f box
	all_ended
}

setup() { setup_test; }
teardown() { check_nothing_left; }

in_box() { "$HUSK" --root "$BASE/root" exec box sh -c "$1" </dev/null; }
mount_line() { in_box "grep ' $1 ' /proc/self/mountinfo"; }

refused() {
	run_in "$1" true
	one_error "$B/config.json: $2"
}

@test "Default Filesystems: proc, sysfs, devpts and shm MUST be there" {
	is "proc sysfs devpts tmpfs" "$(in_box 'for m in /proc /sys /dev/pts /dev/shm; do stat -f -c %T $m; done' | xargs)"
}

@test "runtime-linux.md, Dev symbolic links: fd, stdin, stdout, stderr and ptmx" {
	is "/proc/self/fd /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 pts/ptmx" \
		"$(in_box 'for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done' | xargs)"
}

@test "Namespaces: each new one is another than that of the guest around it; exec is in the same" {
	is 0 "$(in_box 'cat /proc/self/cgroup | grep -vc "^0::/$"; :')"
	is "" "$(comm -12 <(in_box 'readlink /proc/1/ns/*' | sort) <(readlink /proc/self/ns/* | sort))"
	is "$(in_box 'readlink /proc/1/ns/*')" "$(in_box 'readlink /proc/self/ns/*')"
}

@test "Namespaces: duplicates MUST be an error; paths of the host cannot be joined" {
	refused '.linux.namespaces += [{type: "pid"}]' 'linux.namespaces[6]: duplicate "pid" namespace'
	refused '.linux.namespaces |= map(if .type == "ipc" then .path = "ipc" else . end)' 'linux.namespaces[2].path: "ipc" must be an absolute path'
	run_in '.linux.namespaces |= map(if .type == "ipc" then .path = "/proc/1/ns/ipc" else . end)' true
	status_is 1
	has 'linux.namespaces[2].path: "/proc/1/ns/ipc": a microVM cannot join' "$stderr"
	run_in '.linux.namespaces |= map(select(.type != "network"))' true
	has 'linux.namespaces: a network namespace is needed' "$stderr"
}

@test "Offset for Time namespace: monotonic and boottime; without the namespace an error" {
	(($(in_box 'cut -d. -f1 /proc/uptime') >= 6000000))
	is "monotonic 5000000 500000000 boottime 6000000 0" "$(in_box 'cat /proc/self/timens_offsets' | xargs)"
	refused '.linux.timeOffsets = {boottime: {secs: 1}}' "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config"
}

@test "Sysctl: in both notations, in their namespaces; others are refused" {
	is "1 77 4321 by.sysctl" "$(in_box 'cd /proc/sys; cat net/ipv4/conf/all/log_martians net/core/somaxconn kernel/msgmax kernel/domainname' | xargs)"
	run_in '.linux.sysctl = {"vm.swappiness": "1"}' true
	one_error 'linux.sysctl["vm.swappiness"]: sysctl "vm.swappiness" is not in a separate kernel namespace'
	refused '.linux.sysctl = {"kernel.hostname": "x"}' 'linux.sysctl: sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field'
}

@test "Rootfs Mount Propagation: of the root, and of mounts" {
	has " shared:" "$(mount_line / | head -1)"
	[[ $(mount_line /mnt/private) != *shared:* ]]
	has " unbindable " "$(mount_line /mnt/unbindable)"
	for p in private rslave unbindable; do
		run_in ".linux.rootfsPropagation = \"$p\"" sh -c "grep ' / / ' /proc/self/mountinfo"
		[[ $p != unbindable ]] || has " unbindable " "$output"
		[[ $output != *shared:* ]]
	done
}

@test "Masked Paths cannot be read, Readonly Paths cannot be written; missing ones are passed over" {
	is "" "$(in_box 'cat /etc/group /proc/keys; ls -A /home')"
	run in_box 'touch /root/x'
	has "Read-only file system" "$output"
	run in_box 'echo 1 >/proc/sys/net/core/somaxconn'
	has "Read-only file system" "$output"
	refused '.linux.maskedPaths = ["etc"]' 'linux.maskedPaths[0]: "etc" must be an absolute path'
	refused '.linux.readonlyPaths = ["etc"]' 'linux.readonlyPaths[0]: "etc" must be an absolute path'
}

@test "Personality: the first process and exec'ed ones; flags are refused" {
	is "i686" "$(in_box 'uname -m')"
	is "00000008" "$(in_box 'cat /proc/1/personality')"
	refused '.linux.personality = {domain: "LINUX", flags: ["X"]}' 'linux.personality.flags[0]: "X": unknown personality flag'
	refused '.linux.personality = {domain: "BSD"}' 'linux.personality.domain: "BSD": unknown personality domain'
}

@test "Mounts: in their order, at destinations that are made; options of the file system reach it" {
	has "size=64k,nr_inodes=10" "$(mount_line /deep/er/file)"
	run_in '.mounts += [{destination: "/a", type: "tmpfs", source: "1"}, {destination: "/a/b", type: "tmpfs", source: "2"}, {destination: "/a", type: "tmpfs", source: "3"}]' \
		sh -c 'grep -c " /a" /proc/self/mountinfo; ls -A /a'
	is 3 "$(xargs <<<"$output")"
	refused '.mounts += [{destination: "/a", type: "tmpfs", source: "1", options: 5}]' 'mounts[7].options: must be an array'
	run_in '.mounts += [{destination: "/a", type: "tmpfs", source: "1", options: ["nonsense"]}]' true
	status_is 1
	has 'mounts[7] (/a): ' "$stderr"
}

@test "Seccomp: what a guest cannot do is refused; unknown actions MUST be errors" {
	refused '.linux.seccomp = {defaultAction: "SCMP_ACT_NOTIFY"}' 'linux.seccomp.defaultAction: SCMP_ACT_NOTIFY: a guest cannot reach a seccomp listener on the host'
	refused '.linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", listenerPath: "/x"}' 'linux.seccomp.listenerPath: "/x": a guest cannot reach a seccomp listener on the host'
	refused '.linux.seccomp = {defaultAction: "SCMP_ACT_GUESS"}' 'linux.seccomp.defaultAction: "SCMP_ACT_GUESS": unknown seccomp action'
	refused '.linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: [], action: "SCMP_ACT_ERRNO"}]}' 'linux.seccomp.syscalls[0].names: must not be empty'
}

@test "Memory policy, Intel RDT, RDMA: done, or refused by name where the host has none" {
	run_in '.linux.memoryPolicy = {mode: "MPOL_BIND", nodes: "0"}' true
	[[ $status == 0 ]] || has 'linux.memoryPolicy: set_mempolicy (MPOL_BIND, nodes 0): ' "$stderr"
	refused '.linux.memoryPolicy = {mode: "MPOL_GUESS"}' 'linux.memoryPolicy.mode: "MPOL_GUESS": unknown mode'
	[[ -e /sys/fs/resctrl/schemata ]] ||
		refused '.linux.intelRdt = {closID: "gold"}' 'linux.intelRdt: resctrl is not mounted on /sys/fs/resctrl: this host has no Intel RDT, or has not enabled it'
	refused '.linux.resources.rdma = {mlx5_1: {hcaHandles: 3}}' 'linux.resources.rdma: a microVM has no RDMA devices'
}
