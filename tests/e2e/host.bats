#!/usr/bin/env bats
# Verbs that need no container: check, features, spec, help, version.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

@test "check says that this host will do, and what it has" {
	run husk check
	status_is 0
	for row in root CPU /dev/kvm QEMU engine husk-vmm kernel initramfs mkfs.ext4 /dev/net/tun 'network wiring' virtiofsd cgroups; do
		grep -q "^$row " <<<"$output"
	done
	has "husk can run containers here." "$output"
}

@test "check names what is missing and the command that mends it" {
	HUSK_KERNEL=$T/none HUSK_QEMU=/none run husk --engine qemu check
	status_is 1
	has "make kernel" "$output" || has "HUSK_KERNEL" "$output"
	has "apt-get install qemu-system-x86" "$output"
	has "husk cannot run containers here" "$output"
}

@test "features is the specification's JSON" {
	husk features >"$T/features"
	is '["object","1.0.0"]' "$(jq -c '[type, .ociVersionMin[:5]]' "$T/features")"
	is '1.2' "$(jq -r '.ociVersionMax[:3]' "$T/features")"
	for hook in prestart createRuntime createContainer startContainer poststart poststop; do
		jq -e --arg h $hook '.hooks | index($h)' "$T/features"
	done
	jq -e '.linux.namespaces | (index("pid") and index("user"))' "$T/features"
	jq -e '.linux.capabilities | index("CAP_SYS_ADMIN")' "$T/features"
	jq -e '.linux.seccomp.enabled' "$T/features"
	is false "$(jq '[.linux.seccomp.actions[] | select(. == "SCMP_ACT_NOTIFY")] | length > 0' "$T/features")"
}

@test "check names what a kernel lacks, by the configuration beside it" {
	: >"$T/vmlinuz-6.1"
	run husk --kernel "$T/vmlinuz-6.1" check
	has "not known: no configuration lies beside the kernel" "$output"
	printf 'CONFIG_EROFS_FS=m\nCONFIG_EXT4_FS=y\n' >"$T/config-6.1"
	run husk --kernel "$T/vmlinuz-6.1" check
	status_is 1
	has "CONFIG_EROFS_FS is a module" "$output"
	has "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES is missing" "$output"
	[[ $output != *EXT4* ]]
}

@test "spec writes config.json once" {
	mkdir "$T/b"
	husk spec -b "$T/b"
	is "1.2" "$(jq -r '.ociVersion[:3]' "$T/b/config.json")"
	run --separate-stderr husk spec --bundle "$T/b"
	one_error "$T/b/config.json: exists: remove it first"
	run --separate-stderr husk spec --bundle "$T/none"
	one_error "create $T/none/config.json: No such file or directory"
}

@test "version and help" {
	run husk --version
	status_is 0
	[[ ${lines[0]} == *"version "* && ${lines[1]} == "commit: "* && ${lines[2]} == "spec: 1.2"* ]]
	run husk --help
	status_is 0
	for verb in check create delete exec features kill list ps run spec start state; do
		grep -q "^  $verb " <<<"$output"
		run_help=$("$HUSK" $verb --help)
		has "usage: husk $verb" "$run_help"
	done
	run husk -h
	status_is 0
	run "$HUSK"
	status_is 0
	has "usage:" "$output"
}
