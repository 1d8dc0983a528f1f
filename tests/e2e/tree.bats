#!/usr/bin/env bats
# Trees against what the kernel and erofs-utils make of them: the flattened image passes fsck.erofs, mounts
# here, and everything in it equals the directory. No container is run.

load helpers

TOOLS=$TREE/build/tests

setup_file() { own_disk_unless has_user_attributes; }
teardown_file() { leave_own_disk; }

setup() {
	test_directory
	[[ $(id -u) == 0 ]] || skip "needs root"
	[[ -x $TOOLS/flatten && -x $TOOLS/manifest ]] || skip "no $TOOLS (make test-tools)"
}

teardown() {
	# what a test that failed left mounted, the last first
	host_things | grep -F "$T/" | sort -r | xargs -r umount || :
}

# same_in_image DIR [BY-MANIFEST-OPTION...]
same_in_image() {
	local dir=$1
	shift
	"$TOOLS/flatten" --tree "$T/tree" "$dir" "$T/image" >"$T/stats"
	is 0 "$(jq .lost_blocks "$T/stats")"
	# fsck.erofs 1.5 wants a lot of stack for deep trees
	(ulimit -s unlimited && fsck.erofs "$T/image")
	mkdir -p "$T/mnt"
	mount -t erofs -o loop,ro "$T/image" "$T/mnt"
	"$TOOLS/manifest" "$@" "$dir" >"$T/wanted"
	"$TOOLS/manifest" "$@" "$T/mnt" >"$T/got"
	umount "$T/mnt"
	rm "$T/image"
	diff "$T/wanted" "$T/got" | cut -c 1-1000 | head -n 20
	cmp "$T/wanted" "$T/got"
	"$TOOLS/flatten" --tree "$T/tree-again" "$dir" >/dev/null
	cmp "$T/tree" "$T/tree-again"
}

stat_of() { jq ".$1" "$T/stats"; }

@test "a busybox tree" {
	busybox_root "$T/root"
	same_in_image "$T/root"
}

@test "an empty directory" {
	mkdir "$T/root"
	same_in_image "$T/root"
}

@test "a Debian minbase" {
	local dir=${HUSK_CACHE:-/var/cache/husk}/debian-bookworm-1
	[[ -d $dir ]] || skip "no Debian tree (debian.bats makes it)"
	same_in_image "$dir"
}

@test "an application of 30,000 files, at most 150 bytes each besides names" {
	"$TREE/tests/tools/app_tree.py" "$T/root"
	same_in_image "$T/root"
	(($(stat_of files) == 30000))
	(($(stat_of tree_bytes) - $(stat_of name_bytes) <= 150 * $(stat_of members)))
}

@test "everything that file systems can hold" {
	"$TREE/tests/tools/nasty_tree.py" "$T/root"
	same_in_image "$T/root"
	is 3 "$(stat_of hard_links)"
	find "$T/root" -delete # rm -r would open each level of the deepest
}

@test "mounts beneath the directory belong to it, those of the kernel are empty" {
	mkdir -p "$T/root"/{proc,sys,tmp,data}
	mount -t tmpfs none "$T/root/data"
	echo inside >"$T/root/data/file"
	mkdir "$T/root/data/dir"
	mount -t proc proc "$T/root/proc"
	mount -t sysfs sys "$T/root/sys"
	run "$TOOLS/flatten" "$T/root" "$T/image"
	umount "$T/root/proc" "$T/root/sys"
	status_is 0
	mkdir "$T/mnt"
	mount -t erofs -o loop,ro "$T/image" "$T/mnt"
	run cat "$T/mnt/data/file"
	is inside "$output"
	run find "$T/mnt/proc" "$T/mnt/sys" "$T/mnt/data/dir"
	umount "$T/mnt" "$T/root/data"
	is "$T/mnt/proc $T/mnt/sys $T/mnt/data/dir" "${lines[*]}"
}

@test "an overlay, as a whole and as a tree of its upper layer above one of its lower" {
	mkdir -p "$T"/{lower/{gone-dir,opaque,kept},upper,work,root,stack,a,b}
	echo low >"$T/lower/kept/file"
	echo low >"$T/lower/opaque/hidden"
	echo low >"$T/lower/gone-file"
	echo low >"$T/lower/changed"
	echo low >"$T/lower/kept/a"
	ln "$T/lower/kept/a" "$T/lower/kept/b"
	mount -t overlay none -o "lowerdir=$T/lower,upperdir=$T/upper,workdir=$T/work,redirect_dir=off,metacopy=off" "$T/root"
	rm -r "$T/root/gone-dir" "$T/root/gone-file" "$T/root/opaque"
	mkdir "$T/root/opaque"
	echo up >"$T/root/opaque/new"
	echo more >>"$T/root/changed"
	setfattr -n user.x -v y "$T/root/kept"
	same_in_image "$T/root"
	"$TOOLS/flatten" "$T/lower" "$T/lower.img" >/dev/null
	"$TOOLS/flatten" --upper "$T/upper" "$T/upper.img" >/dev/null
	fsck.erofs "$T/upper.img"
	mount -t erofs -o loop,ro "$T/lower.img" "$T/a"
	mount -t erofs -o loop,ro "$T/upper.img" "$T/b"
	mount -t overlay none -o "ro,lowerdir=$T/b:$T/a" "$T/stack"
	run diff <("$TOOLS/manifest" "$T/root") <("$TOOLS/manifest" "$T/stack")
	umount "$T/stack" "$T/a" "$T/b" "$T/root"
	status_is 0
}
