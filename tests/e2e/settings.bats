#!/usr/bin/env bats
# What the host's configuration file says, what config.json may say (annotations io.husk.*, the
# section vm), and what machine that makes.

# Every test is a process of its own:
# shellcheck disable=SC2030,SC2031

load helpers

setup_file() { make_base; }

setup() {
	setup_test
	export HUSK_CONFIG=$T/husk.json
	settings '{}'
}

teardown() { check_nothing_left; }

settings() { printf '%s\n' "$1" >"$HUSK_CONFIG"; }

# refused FILTER MESSAGE: no container comes of this config.json, and the error is that.
refused() {
	bundle r "$1" true
	run --separate-stderr husk run -b "$B" r </dev/null
	one_error "$B/config.json: $2"
	rm -r "$B"
}

# allowed FILTER: it is not the settings that refuse this: an error that comes after they were asked does.
allowed() {
	bundle r "$1" true
	rm -r "$B/rootfs"
	run --separate-stderr husk run -b "$B" r </dev/null
	status_is 1 && has "root.path: $B/rootfs: No such file or directory" "$stderr"
	rm -r "$B"
}

# What the guest says of itself: MiB of memory (its kernel's own left out), processors, words of its kernel's.
LOOK='awk "/^MemTotal/ { print int(\$2 / 1024) }" /proc/meminfo; nproc; cat /proc/cmdline'

# between LOW HIGH GOT
between() {
	(($3 >= $1 && $3 <= $2)) && return
	echo "wanted $1 to $2, got $3"
	return 1
}

@test "the file's defaults size machine and scratch disk, and what the guest says is kept" {
	settings "{\"memory\": {\"default\": \"200M\"}, \"vcpus\": {\"default\": 1},
		\"scratch\": {\"default\": \"40M\"}, \"console\": \"$T/consoles\"}"
	run_in . sh -c "$LOOK; df -m / | awk 'NR == 2 { print \$2 }'"
	status_is 0
	between 160 199 "${lines[0]}"
	is 1 "${lines[1]}"
	between 20 39 "${lines[3]}"
	log=$(echo "$T"/consoles/*.log)
	is "600" "$(stat -c %a "$log")"
	is "700" "$(stat -c %a "$T/consoles")"
	grep -q 'Linux version' "$log" && grep -q 'Run /init as init process' "$log"
	is 0 "$(tr -d '\n\t\40-\176' <"$log" | wc -c)"
}

@test "annotations size the machine; so does vm.hwConfig, and vm.kernel chooses kernel, initrd and parameters" {
	mkdir "$T/k"
	cp "${HUSK_KERNEL:-$TREE/build/vmlinux}" "$T/k/kernel"
	cp "${HUSK_INITRAMFS:-$TREE/build/initramfs.cpio}" "$T/k/initrd"
	unset HUSK_KERNEL HUSK_INITRAMFS
	settings "{\"vcpus\": {\"maximum\": 2}, \"vm\": {\"kernels\": [\"$T/k/*\"], \"initrds\": [\"$T/k/i*\"]}}"
	# The one that husk would take is not there: it is the named one that runs.
	export HUSK_KERNEL=/none HUSK_INITRAMFS=/none
	run_in ".annotations = {\"io.husk.memory\": \"300M\", \"io.husk.vcpus\": \"2\"}
		| .linux.resources.memory.limit = 50000000
		| .vm.kernel = {path: \"$T/k/kernel\", initrd: \"$T/k/initrd\", parameters: [\"husk.test=1\", \"x=y z\"]}
		| .vm.hwConfig = {memory: 100000000, vcpus: 1}" sh -c "$LOOK"
	status_is 0
	between 250 299 "${lines[0]}"
	is 2 "${lines[1]}"
	has " husk.test=1 x=y z" "${lines[2]}"
}

@test "a pod's machine is as large as the kubelet's hints say" {
	settings '{"vcpus": {"maximum": 2}}'
	run_in '.annotations = {"io.kubernetes.cri.container-type": "sandbox",
		"io.kubernetes.cri.sandbox-memory": "268435456", "io.kubernetes.cri.sandbox-cpu-quota": "20000",
		"io.kubernetes.cri.sandbox-cpu-period": "100000"}' sh -c "$LOOK"
	status_is 0
	between 340 400 "${lines[0]}"
	is 1 "${lines[1]}"
	refused '.annotations = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-memory": "2G"}' \
		'annotations["io.kubernetes.cri.sandbox-memory"]: "2G": must be a number'
}

@test "what asks for more than the host allows is refused, and named" {
	bundle r '.annotations["io.husk.memory"] = "900000G"' true
	run --separate-stderr husk run -b "$B" r </dev/null
	status_is 1 && has 'annotations["io.husk.memory"]: 966367641600000 bytes: more than this host has (' "$stderr"
	rm -r "$B"
	settings '{"memory": {"maximum": "1G"}, "vcpus": {"maximum": 1}, "scratch": {"maximum": "1G"}}'
	refused '.annotations["io.husk.memory"] = "2G"' \
		'annotations["io.husk.memory"]: 2147483648 bytes: more than memory.maximum of the configuration file (1G)'
	refused '.annotations["io.husk.memory"] = "2 G"' \
		'annotations["io.husk.memory"]: "2 G": give a size such as 500M or 2G'
	refused '.annotations["io.husk.vcpus"] = "2"' \
		'annotations["io.husk.vcpus"]: 2: more than vcpus.maximum of the configuration file (1)'
	refused '.annotations["io.husk.scratch-size"] = "2G"' \
		'annotations["io.husk.scratch-size"]: "2G": more than scratch.maximum of the configuration file (1G)'
	refused '.linux.resources.memory.limit = 1073741824' \
		'linux.resources.memory.limit: 1073741824 bytes take a machine of 1216 MiB, and memory.maximum of the configuration file is 1024 MiB'
	refused '.vm.hwConfig.memory = 2147483648' \
		'vm.hwConfig.memory: 2147483648 bytes: more than memory.maximum of the configuration file (1G)'
	refused '.vm.hwConfig.vcpus = 2' \
		'vm.hwConfig.vcpus: 2: more than vcpus.maximum of the configuration file (1)'
	if (($(nproc) > 1)); then
		refused '.linux.resources.cpu = {quota: 200000, period: 100000}' \
			'linux.resources.cpu.quota: takes 2 processors, and vcpus.maximum of the configuration file is 1'
	fi
}

@test "annotations are those that the host allows; of the others, one line" {
	allowed '.annotations = {"io.husk.memory": "100M", "io.husk.vcpus": "1", "io.husk.scratch-size": "1G", "io.husk.sync-interval": "9"}'
	for a in engine kernel; do
		refused ".annotations[\"io.husk.$a\"] = \"/x\"" \
			"annotations[\"io.husk.$a\"]: this host does not let config.json set it: its administrator can, with \"annotations\" in $HUSK_CONFIG"
	done
	refused '.annotations["io.husk.cpus"] = "1"' 'annotations["io.husk.cpus"]: husk knows no such annotation'
	settings '{"annotations": ["io.husk.s*"]}'
	allowed '.annotations = {"io.husk.scratch-size": "1G", "io.husk.sync-interval": "9"}'
	refused '.annotations["io.husk.memory"] = "100M"' \
		"annotations[\"io.husk.memory\"]: this host does not let config.json set it: its administrator can, with \"annotations\" in $HUSK_CONFIG"
	settings '{"annotations": ["io.husk.kernel"]}'
	bundle k ".annotations[\"io.husk.kernel\"] = \"$T/kernel\"" true
	run --separate-stderr husk run -b "$B" k </dev/null
	one_error "annotations[\"io.husk.kernel\"]: \"$T/kernel\": this host does not let config.json name it: its administrator can, with \"vm\": {\"kernels\": [...]} in $HUSK_CONFIG"
}

@test "the section vm: what is not on the host's lists, and what no microVM has, is refused by name" {
	unset HUSK_ENGINE
	unlisted() {
		bundle v "$1" true
		run --separate-stderr husk run -b "$B" v </dev/null
		one_error "$2: \"/bin/busybox\": this host does not let config.json name it: its administrator can, with \"vm\": {\"$3\": [...]} in $HUSK_CONFIG"
		rm -r "$B"
	}
	unlisted '.vm.kernel.path = "/bin/busybox"' vm.kernel.path kernels
	unlisted '.vm.kernel.initrd = "/bin/busybox"' vm.kernel.initrd initrds
	unlisted '.vm.hypervisor.path = "/bin/busybox"' vm.hypervisor.path hypervisors
	settings '{"vm": {"kernels": ["/none/*"]}}'
	bundle v '.vm.kernel.path = "/none/kernel"' true
	run --separate-stderr husk run -b "$B" v </dev/null
	one_error "/none/kernel (from vm.kernel.path): No such file or directory"
	refused '.vm.hypervisor.parameters = ["-s"]' \
		"vm.hypervisor.parameters: the hypervisor's arguments are husk's alone, as its jail depends on them"
	refused '.vm.image = {path: "/i", format: "raw"}' \
		"vm.image: the root file system is root.path's: mount the image there (ext4, xfs, erofs or squashfs), and its device is the guest's"
	refused '.vm.hwConfig.deviceTree = "/d"' "vm.hwConfig.deviceTree: the machine has none"
	refused '.vm.hwConfig.irqs = [1]' "vm.hwConfig.irqs: devices of the host are not handed to a guest"
}

@test "vm.hypervisor.path: a QEMU on the host's list" {
	patient
	unset HUSK_ENGINE HUSK_KERNEL
	ln -s "$(command -v qemu-system-x86_64)" "$T/a-qemu-system"
	settings "{\"vm\": {\"hypervisors\": [\"$T/a-*\"]}}"
	bundle q ".vm.hypervisor.path = \"$T/a-qemu-system\"" sleep 1000
	husk run -d -b "$B" q </dev/null >/dev/null 2>&1
	is qemu "$(husk state q | jq -r .engine)"
	is "$T/a-qemu-system" "$(tr '\0' '\n' <"/proc/$(part_of qemu q)/cmdline" | head -1)"
	end_box q
}

@test "an error in the file names file, key and value" {
	bundle c . true
	wrong() {
		settings "$1"
		run --separate-stderr husk run -b "$B" c </dev/null
		one_error "$HUSK_CONFIG: $2"
	}
	wrong '{"memory": {"default": "lots"}}' \
		'memory.default: "lots": must be a number of bytes, or one with K, M, G or T in quotation marks'
	wrong '{"memory": {"pod": "2G", "maximum": "1G"}}' 'memory.pod: 2147483648: is more than memory.maximum, 1073741824'
	wrong '{"vcpus": {"default": 65}}' 'vcpus.default: 65: must be a number from 1 to 64'
	wrong '{"vcpus": {"cores": 1}}' 'vcpus: "cores": no such key: there are default, maximum and pod'
	wrong '{"console": "x"}' 'console: "x": must be an absolute path'
	wrong '{"annotations": ["memory"]}' 'annotations[0]: "memory": must be a string that begins with io.husk.'
	settings "{\"console\": \"$HUSK_CONFIG\"}"
	run --separate-stderr husk run -b "$B" c </dev/null
	one_error "console: $HUSK_CONFIG/c.log: Not a directory"
}

@test "check shows the settings, and where they come from" {
	run husk check
	has "$HUSK_CONFIG" "$output"
	has "memory 512M, a pod's 2G, at most " "$output"
	has "not kept" "$output"
	has "io.husk.memory, io.husk.vcpus, io.husk.scratch-size, io.husk.sync-interval (the default)" "$output"
	settings '{"memory": {"default": "1G", "maximum": "4G"}, "vcpus": {"pod": 1}, "scratch": {"maximum": "20G"},
		"console": "/var/log/x", "annotations": ["io.husk.engine"], "vm": {"kernels": ["/boot/a", "/boot/b*"]}}'
	run husk check
	has "memory 1G (the file), a pod's 2G, at most 4G (the file)" "$output"
	has "a pod's 1 (the file)" "$output"
	has "10G, at most 20G (the file)" "$output"
	has "/var/log/x" "$output"
	has "io.husk.engine (the file)" "$output"
	has "kernels: /boot/a /boot/b*" "$output"
	settings '{"vcpus": 1}'
	run husk check
	status_is 1
	has "$HUSK_CONFIG: vcpus: 1: must be an object" "$output"
}

@test "contrib's configuration file is taken, and has every key that there is" {
	cp "$TREE/contrib/husk/config.json" "$HUSK_CONFIG"
	chmod 644 "$HUSK_CONFIG"
	run husk check
	has "$HUSK_CONFIG" "$output"
	has "a pod's 2G (the file), at most 16G (the file)" "$output"
	settings '{"?": 1}'
	bundle c . true
	run --separate-stderr husk run -b "$B" c </dev/null
	known=$(sed 's/.*there are //; s/ and /, /' <<<"$stderr" | tr -d ' ' | tr , '\n' | sort)
	is "$(jq -r 'keys[]' "$TREE/contrib/husk/config.json" | sort)" "$known"
	for key in $known; do
		grep -qE "^\.(B|BR) $key\\b" "$TREE/docs/husk.8" || { echo "husk.8 has no $key" && false; }
	done
}

@test "features tells what config.json may have, and which annotations choose a machine" {
	husk features >"$T/features"
	jq -e '.linux.cgroup == {v1: true, v2: true, systemd: true, systemdUser: false, rdma: false}' "$T/features"
	jq -e '.linux | .netDevices.enabled and .intelRdt.enabled and .mountExtensions.idmap.enabled' "$T/features"
	jq -e '.linux.memoryPolicy | (.modes | index("MPOL_BIND")) and (.flags | index("MPOL_F_STATIC_NODES"))' "$T/features"
	jq -e '.annotations["org.opencontainers.runc.checkpoint.enabled"] == "false"' "$T/features"
	jq -e '.potentiallyUnsafeConfigAnnotations | index("org.systemd.property.")' "$T/features"
	is true "$(jq '.potentiallyUnsafeConfigAnnotations | index("io.husk.") != null' "$T/features")"
	for a in memory cpu-quota cpu-period cpu-shares; do
		jq -e --arg a "io.kubernetes.cri.sandbox-$a" '.potentiallyUnsafeConfigAnnotations | index($a)' "$T/features"
	done
}
