#!/usr/bin/env bats
# A guest that wants to break husk-vmm (tests/hostile), one device at a time: husk-vmm, built with
# AddressSanitizer, neither crashes nor hangs nor grows, the device works afterwards, and so does
# another machine all the time. HOSTILE_SECONDS: how long a device (default 4).

setup() {
	[[ -w /dev/kvm ]] || skip "no /dev/kvm: the guest attacks engine kvm"
	dir=$(mktemp -d "${BATS_TMPDIR:-/tmp}/husk-hostile.XXXXXX")
}

teardown() {
	[[ -z ${dir:-} ]] || rm -rf "$dir"
}

attack() {
	PYTHONDONTWRITEBYTECODE=1 python3 "$BATS_TEST_DIRNAME/hostile_cases.py" "$1" "$dir"
}

@test "a hostile guest cannot break the random numbers" { attack rng; }
@test "a hostile guest cannot break a disk" { attack block; }
@test "a hostile guest cannot break vsock" { attack vsock; }
@test "a hostile guest cannot break the balloon" { attack balloon; }
@test "a hostile guest cannot break a network card" { attack net; }
@test "a hostile guest cannot break virtio-fs" { attack fs; }
@test "a hostile guest cannot break all devices in turn" { attack all; }
