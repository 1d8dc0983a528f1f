#!/usr/bin/env bats
# config-linux.md, "Devices", "Default Devices" and "Allowed Device list": nodes that the container
# has, and which of them can be opened. Block devices of the host are disks of the guest.

load helpers

setup_file() { make_base; }
setup() { setup_test; }

teardown() {
	local l
	for l in "${LOOPS[@]}"; do losetup -d "$l"; done
	check_nothing_left
}
LOOPS=()

# loop SIZE: LOOP is a loop device on a new file, NUMBER a jq object of its numbers.
loop() {
	truncate -s "$1" "$T/disk${#LOOPS[@]}"
	LOOP=$(losetup -f --show "$T/disk${#LOOPS[@]}") || skip "this host has no loop devices"
	LOOPS+=("$LOOP")
	NUMBER="major: $((16#$(stat -c %t "$LOOP"))), minor: $((16#$(stat -c %T "$LOOP")))"
}

deny_all='.linux.resources.devices = [{allow: false, access: "rwm"}]'

@test "Devices: a block device is there with path, mode, uid and gid; reads and writes reach the host" {
	loop 8M
	printf 'from the host' | dd of="$LOOP" conv=notrunc status=none
	run_in "$deny_all | .linux.devices = [{path: \"/dev/disks/mine\", type: \"b\", $NUMBER, fileMode: 432, gid: 5}]
		| .linux.resources.devices += [{allow: true, type: \"b\", $NUMBER, access: \"rwm\"}]" \
		sh -c 'stat -c "%F %a %u:%g" /dev/disks/mine; head -c 13 /dev/disks/mine; echo
			printf "from the guest" | dd of=/dev/disks/mine bs=14 seek=1 conv=notrunc 2>/dev/null; sync
			blockdev --getsize64 /dev/disks/mine'
	status_is 0
	is "block special file 660 0:5 from the host 8388608" "$(xargs <<<"$output")"
	is "from the guest" "$(dd if="$LOOP" bs=14 skip=1 count=1 status=none)"
}

@test "Allowed Device list: the rules for the host's number hold for the guest's disk" {
	loop 8M
	first="major: ${NUMBER#major: }" && loop 8M
	start_box box "$deny_all | .process.capabilities |= map_values(. + [\"CAP_MKNOD\"]) | .linux.devices = [{path: \"/dev/ro\", type: \"b\", $first}, {path: \"/dev/none\", type: \"b\", $NUMBER}]
		| .linux.resources.devices += [{allow: true, type: \"b\", $first, access: \"r\"}]"
	in_box() { husk exec box sh -c "$1" </dev/null; }
	is 5 "$(in_box 'head -c 5 /dev/ro | wc -c')"
	run in_box 'echo x >/dev/ro'
	has "Operation not permitted" "$output"
	run in_box 'head -c 5 /dev/none'
	has "Operation not permitted" "$output"
	# The guest's own disks are nobody's, whatever their numbers are: of five one is /dev/ro.
	run in_box 'for m in 0 16 32 48 64; do mknod /tmp/d$m b 254 $m && head -c 1 /tmp/d$m 2>&1 | tr -d "\0"; done; :'
	is 4 "$(grep -c "Operation not permitted" <<<"$output")"
	end_box box
}

@test "Devices: what cannot be given is refused by name" {
	loop 8M
	mkfs.ext4 -q "$LOOP" && mkdir "$T/mnt" && mount "$LOOP" "$T/mnt"
	run_in ".linux.devices = [{path: \"/dev/mine\", type: \"b\", $NUMBER}]
		| .linux.resources.devices += [{allow: true, type: \"b\", $NUMBER, access: \"rw\"}]" true
	umount "$T/mnt"
	one_error "$B/config.json: linux.devices[0] (/dev/mine): $LOOP: is mounted on the host: unmount it, or bind a directory of it"
	run_in '.linux.devices = [{path: "/dev/nothing", type: "b", major: 259, minor: 1048000}]' true
	one_error "$B/config.json: linux.devices[0] (/dev/nothing): the host has no node of block device 259:1048000"
	run_in '.linux.devices = [{path: "/dev/cuse", type: "c", major: 10, minor: 203}]' true
	one_error "linux.devices[0]: /dev/cuse: the guest's kernel has no such device (character 10:203)"
	# It stays this test's: a device that is let go is the next one's who wants any.
	truncate -s 0 "$T/disk0" && losetup -c "$LOOP"
	run_in ".linux.devices = [{path: \"/dev/mine\", type: \"b\", $NUMBER}]" true
	one_error "$B/config.json: linux.devices[0] (/dev/mine): $LOOP: is empty: its size is 0"
}

@test "a privileged container has the guest's devices, and none of the host's disks" {
	loop 8M
	printf 'from the host' | dd of="$LOOP" conv=notrunc status=none
	run_in ".linux.resources.devices = [{allow: true, access: \"rwm\"}]
		| .linux.devices = [{path: \"/dev/mine\", type: \"b\", $NUMBER}, {path: \"/dev/cuse\", type: \"c\", major: 10, minor: 203},
			{path: \"/dev/fuse\", type: \"c\", major: 10, minor: 229, fileMode: 438},
			{path: \"/dev/fifo\", type: \"p\", fileMode: 384}, {path: \"/dev/null\", type: \"c\", major: 1, minor: 3, fileMode: 438}]" \
		sh -c 'head -c 13 /dev/mine 2>/dev/null; ls -d /dev/cuse /dev/fuse /dev/fifo /dev/null 2>/dev/null; : <>/dev/fuse && echo opened'
	status_is 0
	is "/dev/fifo /dev/fuse /dev/null opened" "$(xargs <<<"$output")"
	# As dockerd lists one that was asked for: by the host's name among all, and again by its own.
	run_in ".linux.resources.devices = [{allow: true, access: \"rwm\"}]
		| .linux.devices = [{path: \"$LOOP\", type: \"b\", $NUMBER}, {path: \"/dev/mine\", type: \"b\", $NUMBER}]" \
		sh -c 'head -c 13 /dev/mine; find /dev -type b ! -name "loop*"; echo written >/dev/mine'
	status_is 0
	is "from the host/dev/mine" "$output"
	is written "$(head -n 1 "$LOOP")"
}
