#!/usr/bin/env bats
# What a rootfs can be: a directory, an overlay with its layers, a device. And the record of a
# container's changes, from create to delete.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() {
	local m
	for m in "$T"/*/m; do unmount "$m"; done
	rm -rf "$HUSK_DATA"/trees/*
	check_nothing_left
}

# layers ID LOWER...: a bundle whose rootfs is an overlay at $B/m with the file's busybox tree as
# its lowest layer; upper directory $B/u. OPTIONS (variable): more of them.
layers() {
	B=$T/$1
	shift
	mkdir -p "$B"/{u,w,m}
	edit_spec "$SPEC" "$B/config.json" '.root.path = "m"'
	mount_layers "$@"
}

mount_layers() {
	local IFS=:
	mount -t overlay -o "lowerdir=$*${*:+:}$ROOTFS,upperdir=$B/u,workdir=$B/w${OPTIONS:-}" overlay "$B/m"
}

# in_root COMMAND: runs it in a container on $B's rootfs.
in_root() {
	edit_spec "$B/config.json" "$B/config.json.new" . sh -c "$1"
	mv "$B/config.json.new" "$B/config.json"
	husk run -b "$B" "r-$BATS_TEST_NUMBER" </dev/null
}

# use NAME: $B is the bundle made as NAME.
use() { B=$T/$1; }

trees() { find "$HUSK_DATA/trees" -type f | wc -l; }

@test "a directory keeps what was written, for the next container on it" {
	bundle d
	is one "$(in_root 'echo one >/f; mkdir /d; ln -s /f /d/l; rm /bin/vi; cat /f')"
	is one "$(cat "$B/rootfs/f")"
	is /f "$(readlink "$B/rootfs/d/l")"
	[[ ! -e $B/rootfs/bin/vi ]]
	is "one no" "$(in_root 'echo $(cat /d/l) $(test -e /bin/vi || echo no)')"
	is 0 "$(trees)"
}

@test "an overlay: layers, whiteouts, opaque directories; the lower ones are read once" {
	mkdir -p "$T"/{a,b}/etc
	echo a >"$T/a/etc/from"
	echo b >"$T/b/etc/from"
	echo x >"$T/b/etc/only-b"
	mknod "$T/a/etc/passwd" c 0 0
	mkdir "$T/a/home"
	setfattr -n trusted.overlay.opaque -v y "$T/a/home"
	layers o "$T/a" "$T/b"
	is "a x gone home:" "$(in_root 'echo $(cat /etc/from /etc/only-b) $(test -e /etc/passwd || echo gone) home:$(ls /home)')"
	is 1 "$(trees)"
	in_root 'echo up >/etc/from; rm /etc/only-b; rm -r /root; mkdir /root; echo r >/root/new; mkdir /home/x'
	is up "$(cat "$B/u/etc/from")"
	is $'a\nb' "$(cat "$T"/{a,b}/etc/from)"
	[[ ! -e $B/m/etc/only-b && -c $B/u/etc/only-b ]]
	is "up gone new x" "$(in_root 'echo $(cat /etc/from) $(test -e /etc/only-b || echo gone) $(ls /root) $(ls /home)')"
	is 1 "$(trees)"
	unmount "$B/m"
	mount_layers "$T/a" "$T/b"
	is "up" "$(in_root 'cat /etc/from')"
	is 1 "$(trees)"
}

@test "an overlay with what only the kernel can resolve is one directory" {
	mkdir -p "$T/a/dir"
	echo f >"$T/a/dir/file"
	OPTIONS=,redirect_dir=on layers o "$T/a"
	mv "$B/m/dir" "$B/m/moved"
	is f "$(in_root 'cat /moved/file; echo g >/moved/file; test ! -e /dir')"
	is g "$(cat "$B/m/moved/file")"
	is 0 "$(trees)"
}

@test "Docker's layer for one container is no part of the image's tree" {
	for c in c1 c2; do
		mkdir -p "$T/$c-init/diff/etc"
		echo "$c" >"$T/$c-init/diff/etc/hosts"
		layers "$c" "$T/$c-init/diff"
		is "$c" "$(in_root 'cat /etc/hosts; echo w >/written')"
		is "$c w" "$(in_root 'echo $(cat /etc/hosts /written)')"
	done
	is 1 "$(trees)"
}

@test "many layers" {
	local all=() i
	for ((i = 0; i < 60; i++)); do
		mkdir -p "$T/l$i/d"
		echo $i >"$T/l$i/d/$i"
		echo $i >"$T/l$i/d/top"
		all+=("$T/l$i")
	done
	B=$T/many
	mkdir -p "$B"/{u,w,m}
	edit_spec "$SPEC" "$B/config.json" '.root.path = "m"'
	mount_layers "${all[@]}"
	is "61 0" "$(in_root 'echo $(ls /d | wc -l) $(cat /d/top)')"
}

@test "containers that are made at once share one tree of their layers; a damaged one is made again" {
	local i pids=() tree
	mkdir -p "$T/a"
	echo a >"$T/a/file"
	for i in 1 2 3; do
		layers "at-once-$i" "$T/a"
		edit_spec "$SPEC" "$T/at-once-$i/config.json" '.root.path = "m"' cat /file
	done
	for i in 1 2 3; do
		husk run -b "$T/at-once-$i" "at-once-$i" </dev/null >"$T/out-$i" 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		ended "$i" 0
	done
	is $'a\na\na' "$(cat "$T"/out-{1,2,3})"
	is 1 "$(trees)"
	tree=$(find "$HUSK_DATA/trees" -type f)
	sum=$(md5sum <"$tree")
	printf garbage | dd of="$tree" bs=1 seek=5000 conv=notrunc status=none
	is a "$(in_root 'cat /file')"
	is 1 "$(trees)"
	is "$sum" "$(md5sum <"$HUSK_DATA"/trees/*)"
}

# device TYPE: a bundle whose rootfs is a file system of that type on a loop device.
device() {
	B=$T/$1
	mkdir -p "$B/m"
	edit_spec "$SPEC" "$B/config.json" '.root.path = "m"'
	case $1 in
	ext4) truncate -s 64M "$B/img" && mkfs.ext4 -q -d "$ROOTFS" "$B/img" ;;
	xfs) truncate -s 320M "$B/img" && mkfs.xfs -q "$B/img" ;;
	erofs) mkfs.erofs --quiet "$B/img" "$ROOTFS" ;;
	squashfs) mksquashfs "$ROOTFS" "$B/img" -quiet -no-progress >/dev/null ;;
	esac
	mount -o loop "$B/img" "$B/m" 2>/dev/null || return 1
	[[ $1 != xfs ]] || cp -a "$ROOTFS/." "$B/m/"
}

@test "a mount of a device is attached as it is, and takes the changes at the end" {
	local done=0
	for type in ext4 xfs; do
		{ kernel_has "$type" && device "$type"; } || continue
		is "mine 1" "$(in_root 'echo mine >/f; chmod 600 /etc/passwd; rm /bin/vi; echo $(cat /f) $(grep -c " / overlay" /proc/mounts)')"
		is mine "$(cat "$B/m/f")"
		[[ ! -e $B/m/bin/vi ]]
		is "mine gone 600" "$(in_root 'echo $(cat /f) $(test -e /bin/vi || echo gone) $(stat -c %a /etc/passwd)')"
		unmount "$B/m"
		done=1
	done
	((done)) || skip "this kernel, or the guest's, mounts neither ext4 nor xfs from a loop device"
	is 0 "$(trees)"
}

@test "a mount of a read-only image, with a read-only root" {
	local done=0
	for type in erofs squashfs; do
		{ kernel_has "$type" && device "$type"; } || continue
		edit_spec "$B/config.json" "$B/ro.json" '.root.readonly = true' sh -c 'cat /etc/group; ! touch /x'
		mkdir "$B/b"
		jq --arg m "$B/m" '.root.path = $m | .root.readonly = true' "$B/ro.json" >"$B/b/config.json"
		is "$(cat "$ROOTFS/etc/group")" "$(husk run -b "$B/b" "r-$type" </dev/null 2>/dev/null)"
		unmount "$B/m"
		done=1
	done
	((done)) || skip "this kernel, or the guest's, mounts neither erofs nor squashfs"
}

@test "a rootfs that is mounted read-only: so is the container's root, whatever config.json says" {
	local done=0
	for type in erofs squashfs; do
		{ kernel_has "$type" && device "$type"; } || continue
		run in_root '(echo x >/f) 2>&1; cat /etc/group'
		has "/f: Read-only file system"$'\n'"$(cat "$ROOTFS/etc/group")" "$output"
		unmount "$B/m"
		done=1
	done
	((done)) || skip "this kernel, or the guest's, mounts neither erofs nor squashfs"
	bundle bound
	mount --bind "$B/rootfs" "$B/rootfs"
	mount -o remount,bind,ro "$B/rootfs"
	run in_root 'echo x >/f || echo refused'
	unmount "$B/rootfs"
	has "refused" "$output"
	[[ ! -e $HUSK_DATA/changes || -z $(ls -A "$HUSK_DATA/changes") ]]
}

@test "the scratch disk has the size that the annotation says" {
	bundle s '.annotations["io.husk.scratch-size"] = "32M"'
	run in_root 'df -m / | tail -1; dd if=/dev/zero of=/big bs=1M count=40 2>&1; rm /big; echo still >/here'
	has "No space left on device" "$output"
	is still "$(cat "$B/rootfs/here")"
	[[ ! -e $B/rootfs/big ]]
}

# A container that has written and synced, and whose VM was killed.
crashed() {
	start_box "$1" . sh -c 'echo kept >/kept; sync; echo ready >/ready; sync; exec sleep 100000'
	wait_until husk exec "$1" test -e /ready
	kill -9 "$(vmm_of "$1")"
	wait_until is_stopped "$1"
}

records() { find "$HUSK_DATA/changes" -mindepth 1 -maxdepth 1 | wc -l; }

@test "delete brings back what a killed VM left" {
	crashed c
	[[ ! -e $T/c/rootfs/kept ]]
	is 1 "$(records)"
	husk delete c
	is kept "$(cat "$T/c/rootfs/kept")"
	is 0 "$(records)"
}

@test "the rootfs is away: delete says what to do; with --force the next create brings the changes back" {
	crashed c
	mv "$T/c/rootfs" "$T/c/away"
	run --separate-stderr husk delete c
	status_is 1
	has "container \"c\": what it changed cannot be brought to its rootfs ('husk delete --force' keeps that in $HUSK_DATA/changes/" "$stderr"
	is stopped "$(state_of c)"
	mkdir "$T/c/rootfs"
	run --separate-stderr husk delete --force c
	status_is 0
	has "warning" "$stderr"
	is 1 "$(records)"
	rmdir "$T/c/rootfs"
	mv "$T/c/away" "$T/c/rootfs"
	use c
	is kept "$(in_root 'cat /kept')"
	is 0 "$(records)"
}

@test "records of a rootfs that is gone for good go with the next create" {
	crashed c
	rm -r "$T/c/rootfs"
	mkdir "$T/c/rootfs"
	husk delete --force c 2>/dev/null
	is 1 "$(records)"
	bundle d
	in_root true
	is 0 "$(records)"
}

@test "delete --force of a running container keeps what it wrote" {
	start_box c . sh -c 'echo kept >/kept; echo ready >/ready; exec sleep 100000'
	wait_until husk exec c test -e /ready
	husk delete --force c
	is kept "$(cat "$T/c/rootfs/kept")"
}

@test "a create that fails leaves no record" {
	bundle c . /no/such/command
	run --separate-stderr husk create -b "$B" c </dev/null
	status_is 1
	is 0 "$(records)"
	run --separate-stderr husk run -b "$B" c </dev/null
	is 0 "$(records)"
}
