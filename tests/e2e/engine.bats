#!/usr/bin/env bats
# Which engine runs a container: who says so, and how it is seen. The other files run on whichever
# husk chooses on this host, or HUSK_ENGINE names.

# Every test is a process of its own:
# shellcheck disable=SC2030,SC2031

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() {
	unmount /dev/kvm
	check_nothing_left
}

engine_row() { "$HUSK" "$@" check | awk '$1 == "engine"'; }

@test "check says which engine there would be, and why" {
	unset HUSK_ENGINE
	has "qemu without KVM (from --engine): a compatibility mode" "$(engine_row --engine qemu)"
	HUSK_ENGINE=qemu
	export HUSK_ENGINE
	has "qemu without KVM (from HUSK_ENGINE)" "$(engine_row)"
	unset HUSK_ENGINE
	echo '{"engine": "qemu"}' >"$HUSK_CONFIG"
	has "qemu without KVM (from the configuration file)" "$(engine_row)"
	echo '{}' >"$HUSK_CONFIG"
	if [[ -e /dev/kvm ]] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
		has "kvm (the host runs guests on hardware)" "$(engine_row --engine auto)"
	else
		has "qemu without KVM" "$(engine_row --engine auto)"
	fi
}

@test "state and list name the engine; exec and delete need not be told" {
	start_box c
	is "$ENGINE" "$(husk state c | jq -r .engine)"
	is "$ENGINE" "$(husk list --format json | jq -r '.[0].engine')"
	HUSK_ENGINE='' husk exec c true
	end_box c
}

@test "the annotation names it, and the command line comes first" {
	unset HUSK_ENGINE HUSK_KERNEL # it may be for one engine alone
	echo '{"annotations": ["io.husk.engine"]}' >"$HUSK_CONFIG"
	bundle d '.annotations["io.husk.engine"] = "xen"' true
	run --separate-stderr husk run -b "$B" d
	one_error 'annotations["io.husk.engine"]: "xen": must be auto, kvm or qemu'
	patient
	husk --engine qemu run -b "$B" d </dev/null
	bundle c '.annotations["io.husk.engine"] = "qemu"' sleep 1000
	husk run -d -b "$B" c </dev/null >/dev/null 2>&1
	is qemu "$(husk state c | jq -r .engine)"
	[[ $(part_of qemu c) ]]
	end_box c
}

@test "a log that is kept says once that there is no KVM" {
	unset HUSK_ENGINE HUSK_KERNEL
	patient
	bundle c . true
	if [[ $(engine_row | awk '{ print $3 }') == kvm ]]; then
		mknod "$T/nothing" c 60 0 # no driver has it
		mount --bind "$T/nothing" /dev/kvm
	fi
	husk --log "$T/log" run -b "$B" c </dev/null
	is 1 "$(grep -c 'engine qemu without KVM, a compatibility mode: ' "$T/log")"
}

@test "words that are none, and a configuration file that is wrong, are refused with their place" {
	bundle c . true
	run --separate-stderr husk --engine xen run -b "$B" c
	one_error '--engine: "xen": must be auto, kvm or qemu'
	HUSK_ENGINE=xen run --separate-stderr husk run -b "$B" c
	one_error 'HUSK_ENGINE: "xen": must be auto, kvm or qemu'
	run --separate-stderr husk --kernel /none/vmlinux run -b "$B" c
	one_error "/none/vmlinux (from --kernel): No such file or directory"
	export HUSK_CONFIG=$T/husk.json
	run --separate-stderr husk run -b "$B" c
	one_error "$T/husk.json (from HUSK_CONFIG): No such file or directory"
	echo '{"engine": "kvm", "kernl": "/x"}' >"$T/husk.json"
	run --separate-stderr husk run -b "$B" c
	one_error "$T/husk.json: \"kernl\": no such key: there are engine, kernel, qemu, memory, vcpus, scratch, console, annotations, vm and network"
	printf '{"engine":\n"xen"}' >"$T/husk.json"
	run --separate-stderr husk run -b "$B" c
	one_error "$T/husk.json: engine: \"xen\": must be auto, kvm or qemu"
	printf '{"engine":\n kvm}' >"$T/husk.json"
	run --separate-stderr husk run -b "$B" c
	status_is 1 && has "$T/husk.json: line 2, column " "$stderr"
	echo '{}' >"$T/husk.json"
	chmod 666 "$T/husk.json"
	run --separate-stderr husk run -b "$B" c
	one_error "$T/husk.json: others than root may write it (mode 0666): refused (chmod go-w)"
}

@test "a configuration file's kernel and engine are used" {
	export HUSK_CONFIG=$T/husk.json
	unset HUSK_ENGINE
	kernel=${HUSK_KERNEL:-$TREE/build/vmlinux}
	unset HUSK_KERNEL
	cp "$kernel" "$T/kernel"
	jq -n --arg k "$T/kernel" --arg e "$ENGINE" '{kernel: $k, engine: $e}' >"$T/husk.json"
	bundle c . echo hello
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 0 && is hello "$output"
	rm "$T/kernel"
	run --separate-stderr husk run -b "$B" c </dev/null
	one_error "$T/kernel (from the configuration file): No such file or directory"
}

@test "a /dev/kvm that is none: engine kvm says so, in one line" {
	[[ -e /dev/kvm ]] || skip "there is no /dev/kvm to hide"
	bundle c . true
	mount --bind /dev/null /dev/kvm
	run --separate-stderr husk --engine kvm run -b "$B" c </dev/null
	status_is 1
	is 1 "$(grep -c . <<<"$stderr")"
	has /dev/kvm "$stderr"
}
