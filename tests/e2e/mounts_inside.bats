#!/usr/bin/env bats
# Mounts whose data is the host's, seen from inside: files and directories that are kept alike on both
# sides, options, user namespaces, volumes. One container with many mounts serves most tests; its
# sources are in $SRC. What the host has to do with it is in mounts.bats.

load helpers

setup_file() {
	make_base
	export SRC=$BASE/src
	make_sources
	mkdir -p "$ROOTFS/copied/d"
	echo kept >"$ROOTFS/copied/d/f"
	ln -s d/f "$ROOTFS/copied/l"
	chown -R 12:34 "$ROOTFS/copied/d"
	chmod 2755 "$ROOTFS/copied/d"
	touch "$ROOTFS/masked"
	start_box box "$(box_mounts)"
}

make_sources() {
	mkdir -p "$SRC"/{shared/sub,readonly,secret,config/..v1}
	echo nameserver 192.0.2.1 >"$SRC/resolv.conf"
	echo "log:" >"$SRC/term"
	echo one >"$SRC/shared/one"
	install -m 4755 /bin/busybox "$SRC/shared/busybox"
	ln -s one "$SRC/shared/link"
	mount -t tmpfs husk-test "$SRC/shared/sub"
	echo below >"$SRC/shared/sub/file"
	head -c 2M /dev/urandom >"$SRC/readonly/big"
	# as the kubelet makes them
	echo a >"$SRC/config/..v1/key"
	ln -s ..v1 "$SRC/config/..data"
	ln -s ..data/key "$SRC/config/key"
	echo hidden >"$SRC/secret/token"
	chown 1000:1000 "$SRC/secret/token"
	chmod 400 "$SRC/secret/token"
}

# A filter that adds the mounts of the container "box".
box_mounts() {
	jq -nr --arg s "$SRC" '
		def m($d; $f; $o): {destination: $d, source: "\($s)/\($f)", type: "bind", options: $o};
		[m("/etc/resolv.conf"; "resolv.conf"; ["rbind", "ro"]),
		m("/term"; "term"; ["rbind", "rprivate", "rw"]),
		m("/config"; "config"; ["rbind", "rprivate", "ro"]),
		m("/secret"; "secret"; ["bind", "ro"]),
		m("/shared"; "shared"; ["rbind", "rprivate"]),
		m("/readonly"; "readonly"; ["rbind", "rprivate", "ro"]),
		m("/deep/in/the/image"; "shared"; ["bind", "nosuid", "nodev", "noexec", "noatime"]),
		m("/nolinks"; "shared"; ["bind", "nosymfollow"]),
		m("/all-ro"; "shared"; ["rbind", "rro", "rnoexec"]),
		m("/unbindable"; "shared"; ["bind", "unbindable"]),
		{destination: "/masked", source: "/dev/null", type: "bind", options: ["bind", "ro"]},
		{destination: "/copied", source: "tmpfs", type: "tmpfs", options: ["tmpcopyup", "nodev"]}]
		| ".mounts += \(tojson) | .process.capabilities |= map_values(. + [\"CAP_CHOWN\"])"'
}

teardown_file() {
	husk delete -f box
	all_ended
	unmount "$SRC/shared/sub"
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
box_has() { [[ $(in_box "cat $1") == "$2" ]]; }
file_has() { [[ $(cat "$1") == "$2" ]]; }
options_of() { in_box "grep ' $1 ' /proc/self/mountinfo" | cut -d' ' -f6; }

# one_mount FILTER-OF-THE-MOUNT COMMAND...: as run_in, in a --root of the test's own.
one_mount() {
	# shellcheck disable=SC2034 # husk() has it
	local filter=$1 ROOT=$T/root
	shift
	run_in ".mounts += [$filter]" "$@"
}

# refused SOURCE OPTIONS-JSON TYPE ERROR
refused() {
	one_mount "{destination: \"/x\", source: \"$1\", options: $2, type: \"$3\"}" true
	one_error "$B/config.json: $4"
	[[ ! -e $T/root || -z $(ls -A "$T/root") ]]
}

# ---- small files and directories

@test "a file is the host's, at a mount point made for it" {
	is "nameserver 192.0.2.1" "$(in_box 'cat /etc/resolv.conf')"
	run in_box 'echo x >/etc/resolv.conf'
	has "Read-only file system" "$output"
}

@test "a file that is rewritten on the host changes inside" {
	echo nameserver 192.0.2.2 >"$SRC/resolv.conf"
	wait_until box_has /etc/resolv.conf "nameserver 192.0.2.2"
}

@test "a file that is written to inside changes on the host at once" {
	in_box 'echo "it ended" >/term'
	wait_until file_has "$SRC/term" "it ended"
	in_box 'echo "again" >>/term'
	wait_until file_has "$SRC/term" $'it ended\nagain'
}

@test "what was written last is on the host when the container has ended" {
	echo >"$T/log"
	one_mount "{destination: \"/dev/termination-log\", source: \"$T/log\", type: \"bind\", options: [\"rbind\", \"rw\"]}" \
		sh -c 'echo "the reason" >/dev/termination-log; exit 3'
	status_is 3
	is "the reason" "$(cat "$T/log")"
}

@test "a config map changes as one, by its ..data link" {
	is a "$(in_box 'cat /config/key')"
	mkdir "$SRC/config/..v2"
	echo b >"$SRC/config/..v2/key"
	ln -s ..v2 "$SRC/config/..data_tmp"
	mv -T "$SRC/config/..data_tmp" "$SRC/config/..data"
	rm -r "$SRC/config/..v1"
	wait_until box_has /config/key b
	wait_until in_box '! test -e /config/..v1'
	is "..v2" "$(in_box 'readlink /config/..data')"
}

@test "a secret keeps owner and mode" {
	is "1000:1000 400" "$(in_box 'stat -c "%u:%g %a" /secret/token')"
	is hidden "$(husk exec --user 1000:1000 box cat /secret/token </dev/null)"
	run husk exec --user 1001:1001 box cat /secret/token </dev/null
	has "Permission denied" "$output"
	run in_box 'touch /secret/new'
	has "Read-only file system" "$output"
}

# ---- shared directories

@test "a directory is shared: each side sees what the other writes" {
	is one "$(in_box 'cat /shared/one')"
	echo from-the-host >"$SRC/shared/host"
	wait_until box_has /shared/host from-the-host
	in_box 'echo from-inside >/shared/inside; chmod 640 /shared/inside; chown 7:8 /shared/inside'
	is from-inside "$(cat "$SRC/shared/inside")"
	is "7:8 640" "$(stat -c '%u:%g %a' "$SRC/shared/inside")"
	rm "$SRC/shared/host"
	wait_until in_box '! test -e /shared/host'
}

@test "a read-only share cannot be written to, whatever the guest does" {
	run in_box 'echo x >/readonly/new'
	has "Read-only file system" "$output"
	one_mount "{destination: \"/readonly\", source: \"$SRC/readonly\", type: \"bind\", options: [\"bind\", \"ro\"]}
		] | .process.capabilities |= map_values(. + [\"CAP_SYS_ADMIN\"]) | .mounts += [" \
		sh -c 'mount -o remount,rw,bind /readonly && echo x >/readonly/big'
	has "Read-only file system" "$stderr"
	is $((2 << 20)) "$(stat -c %s "$SRC/readonly/big")"
}

# ---- options

@test "mounts have their flags, and only theirs" {
	is rw,relatime "$(options_of /shared)"
	is ro,relatime "$(options_of /readonly)"
	is rw,nosuid,nodev,noexec,noatime "$(options_of /deep/in/the/image)"
	is rw,relatime,nosymfollow "$(options_of /nolinks)"
	is ro,noexec,relatime "$(options_of /all-ro)"
	is ro,relatime "$(options_of /config)"
	is rw,relatime "$(options_of /term)"
}

@test "flags have an effect" {
	in_box '/shared/busybox true'
	run in_box '/deep/in/the/image/busybox true'
	has "Permission denied" "$output"
	is one "$(in_box 'cat /shared/link')"
	run in_box 'cat /nolinks/link'
	has "symbolic link" "$output"
	run in_box 'echo x >/all-ro/sub/new'
	has "Read-only file system" "$output"
	has unbindable "$(in_box 'grep " /unbindable " /proc/self/mountinfo')"
}

@test "a file is masked by the null device" {
	is "" "$(in_box 'cat /masked')"
	is "1:3" "$(in_box 'stat -c %t:%T /masked')"
	in_box 'echo gone >/masked'
}

@test "tmpcopyup begins with what the image has" {
	is "tmpfs" "$(in_box 'stat -f -c %T /copied')"
	is "12:34 2755" "$(in_box 'stat -c "%u:%g %a" /copied/d')"
	is kept "$(in_box 'cat /copied/l')"
	in_box 'echo new >/copied/new'
	[[ ! -e $BASE/box/rootfs/copied/new ]]
}

@test "a bind mount in a user namespace" {
	echo mine >"$T/file"
	mkdir "$T/dir"
	chown 100000:100000 "$T/file" "$T/dir"
	bundle userns ".mounts += [
			{destination: \"/file\", source: \"$T/file\", type: \"bind\", options: [\"bind\", \"noatime\", \"nosuid\"]},
			{destination: \"/dir\", source: \"$T/dir\", type: \"bind\", options: [\"rbind\", \"nodev\", \"noatime\"]}]
		| .linux.namespaces += [{type: \"user\"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}]
		| .linux.gidMappings = .linux.uidMappings" \
		sh -c 'cat /file; echo ours >/file; echo new >/dir/new; stat -c %u /dir; grep -E " /(file|dir) " /proc/self/mountinfo | cut -d" " -f6'
	chown -R 100000:100000 "$B/rootfs"
	run --separate-stderr "$HUSK" --root "$T/root" run -b "$B" userns </dev/null
	status_is 0
	is $'mine\n0\nrw,nosuid,noatime\nrw,nodev,noatime' "$output"
	is ours "$(cat "$T/file")"
	is 100000 "$(stat -c %u "$T/dir/new")"
}

# ---- volumes

@test "an ext4 image has its options, and is clean when the container has ended" {
	truncate -s 64M "$T/image"
	mkfs.ext4 -q "$T/image"
	one_mount "{destination: \"/vol\", source: \"$T/image\", type: \"ext4\", options: [\"nosuid\", \"noatime\", \"loop\", \"commit=60\"]}" \
		sh -c 'echo kept >/vol/f; grep " /vol " /proc/self/mountinfo | cut -d" " -f6,8,10'
	status_is 0
	has "rw,nosuid,noatime ext4" "$output"
	has "commit=60" "$output"
	[[ $(dumpe2fs -h "$T/image" 2>/dev/null) != *needs_recovery* ]]
	e2fsck -fn "$T/image"
	one_mount "{destination: \"/vol\", source: \"$T/image\", type: \"ext4\", options: [\"ro\"]}" \
		sh -c 'cat /vol/f; echo x >/vol/g'
	is kept "$output"
	has "Read-only file system" "$stderr"
}

@test "an image file with squashfs is a volume" {
	kernel_has squashfs || skip "this guest kernel has no squashfs"
	mksquashfs "$SRC/config" "$T/image" -quiet -no-progress
	one_mount "{destination: \"/vol\", source: \"$T/image\", type: \"squashfs\"}" sh -c 'cat /vol/key; echo x >/vol/new'
	is "$(cat "$SRC/config/key")" "$output"
	has "Read-only file system" "$stderr"
}

@test "an image file with xfs is a volume" {
	kernel_has xfs || skip "this guest kernel has no xfs"
	truncate -s 320M "$T/image"
	mkfs.xfs -q "$T/image"
	one_mount "{destination: \"/vol\", source: \"$T/image\", type: \"xfs\"}" sh -c 'echo kept >/vol/f; stat -f -c %T /vol'
	status_is 0
	is xfs "$output"
	one_mount "{destination: \"/vol\", source: \"$T/image\", type: \"xfs\", options: [\"ro\"]}" cat /vol/f
	status_is 0
	is kept "$output"
}

@test "a journal that cannot be replayed is told of" {
	local n
	n=$(jq '.mounts | length' "$SPEC")
	truncate -s 64M "$T/image"
	mkfs.ext4 -q "$T/image"
	debugfs -w -R "feature needs_recovery" "$T/image"
	one_mount "{destination: \"/vol\", source: \"$T/image\", type: \"ext4\", options: [\"ro\"]}" true
	status_is 1
	has "mounts[$n] (/vol): disk \"vol$n\"" "$stderr"
	has "ext4: the file system was not unmounted and its journal cannot be replayed on a read-only disk: mount it writable once, or with the option \"noload\"" "$stderr"
	one_mount "{destination: \"/vol\", source: \"$T/image\", type: \"ext4\", options: [\"ro\", \"noload\"]}" ls /vol
	status_is 0
	is lost+found "$output"
}

@test "an image that is not what it is said to be is one error" {
	truncate -s 8M "$T/image"
	one_mount "{destination: \"/vol\", source: \"$T/image\", type: \"ext4\"}" true
	status_is 1
	has "mounts[" "$stderr"
	has "(/vol)" "$stderr"
	is 1 "$(wc -l <<<"$stderr")"
}

# ---- refused by name

@test "what cannot be mounted is refused by name" {
	local n
	n=$(jq '.mounts | length' "$SPEC")
	refused /not/there '["bind"]' bind "mounts[$n].source: /x: /not/there: No such file or directory"
	mkfifo "$T/fifo"
	refused "$T/fifo" '["bind"]' bind "mounts[$n].source: /x: $T/fifo: a fifo of the host cannot be reached from a microVM"
	refused "$SRC/shared" '["bind", "rshared"]' bind "mounts[$n].options: /x: rshared: propagation from the host cannot reach a microVM"
	refused "$SRC/shared" '["bind", "idmap"]' bind "mounts[$n].options: /x: idmap: neither the mount nor a user namespace has mappings"
	refused "$SRC/shared" '[]' ntfs "mounts[$n].type: /x: \"ntfs\": the guest's kernel does not have this filesystem"
}
