#!/usr/bin/env bats
# A container sees its rootfs as it is: every file, link, mode, owner, time, attribute and byte. A manifest
# (tests/tools/manifest.c) of the directory here, and one that a container makes of its root, are equal; for a plain
# directory, and for an overlay whose layers the guest stacks itself. What the container runs changes nothing. Holes have to be read inside, so
# the sparse files are smaller than in tree.bats.

load helpers

MANIFEST=$TREE/build/tests/manifest

setup_file() {
	own_disk_unless has_user_attributes
	make_base
}

teardown_file() { leave_own_disk; }

setup() {
	setup_test
	[[ -x $MANIFEST ]] || skip "no $MANIFEST (make test-tools)"
}

teardown() {
	unmount "$T/o/m"
	# rm -r would open each level of the deepest
	find "$T" -mindepth 1 -delete 2>/dev/null || :
	rm -rf "$HUSK_DATA"/trees/*
	check_nothing_left
}

# box_on DIR: a bundle with that root directory ($R). What a container mounts has its place there, and so has the
# program with which it looks around.
box_on() {
	export R=$1
	B=$T/bundle
	mkdir -p "$B" "$R"/{proc,sys,dev}
	cp "$MANIFEST" "$R/manifest"
	# attributes in trusted.* are for CAP_SYS_ADMIN, files of mode 0 for CAP_DAC_OVERRIDE
	edit_spec "$SPEC" "$B/config.json" '.root.path = $ENV.R
		| .process.capabilities |= map_values(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"])' \
		/manifest -e proc -e sys -e dev /
}

# same_inside: the container's manifest of its root is the one made here, before and after.
same_inside() {
	"$MANIFEST" -e proc -e sys -e dev "$R" >"$T/wanted"
	husk run -b "$B" "in-$BATS_TEST_NUMBER" </dev/null >"$T/got"
	diff "$T/wanted" "$T/got" | cut -c 1-1000 | head -n 20
	cmp "$T/wanted" "$T/got"
	"$MANIFEST" -e proc -e sys -e dev "$R" | cmp "$T/wanted" -
	echo "$(wc -l <"$T/wanted") lines are equal"
}

# stack LOWER...: an overlay of them at $R; its upper directory is $T/o/u.
stack() {
	local IFS=:
	mkdir -p "$T"/o/{u,w,m}
	mount -t overlay -o "lowerdir=$*,upperdir=$T/o/u,workdir=$T/o/w" overlay "$T/o/m"
	box_on "$T/o/m"
}

# What a container, or who made an image, changes in an overlay: through the mount.
change() {
	rm -r "$1/gone" "$1/opaque" "$1/gone-file"
	mkdir "$1/opaque" "$1/fresh"
	echo new >"$1/opaque/new"
	echo more >>"$1/changed"
	chmod 750 "$1/kept"
	setfattr -n user.x -v y "$1/kept"
	ln -s changed "$1/kept/link"
	head -c 70000 /dev/urandom >"$1/fresh/file"
	ln "$1/fresh/file" "$1/fresh/same"
	mkfifo "$1/fresh/fifo"
	touch -d @12345678.9 "$1/fresh"
}

# What change() wants to find: DIR.
to_be_changed() {
	mkdir "$1"/{gone,opaque,kept}
	echo g >"$1/gone/file"
	echo o | tee "$1/opaque/old" "$1/kept/file" "$1/gone-file" >"$1/changed"
}

@test "a busybox tree" {
	busybox_root "$T/tree"
	box_on "$T/tree"
	same_inside
}

@test "a busybox tree beneath two more layers" {
	mkdir "$T/a"
	to_be_changed "$T/a"
	stack "$T/a" "$ROOTFS"
	change "$R"
	same_inside
}

@test "a Debian minbase, with changes above it" {
	local dir=${HUSK_CACHE:-/var/cache/husk}/debian-bookworm-1
	[[ -d $dir ]] || skip "no Debian tree (debian.bats makes it)"
	mkdir "$T/a"
	to_be_changed "$T/a"
	stack "$T/a" "$dir"
	change "$R"
	rm -r "$R/usr/share/doc"
	chmod 600 "$R/etc/hostname"
	same_inside
}

@test "a Debian minbase as one directory, read-only" {
	local dir=${HUSK_CACHE:-/var/cache/husk}/debian-bookworm-1
	[[ -d $dir ]] || skip "no Debian tree (debian.bats makes it)"
	# Nothing is to be made in it: the program takes the place of one that is there.
	B=$T/bundle
	mkdir "$B"
	MANIFEST=$MANIFEST DIR=$dir edit_spec "$SPEC" "$B/config.json" '.root = {path: $ENV.DIR, readonly: true}
		| .process.capabilities |= map_values(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"])
		| .mounts += [{type: "bind", source: $ENV.MANIFEST, destination: "/usr/bin/true", options: ["bind", "ro"]}]' \
		/usr/bin/true -e proc -e sys -e dev -e usr/bin/true /
	"$MANIFEST" -e proc -e sys -e dev -e usr/bin/true "$dir" >"$T/wanted"
	husk run -b "$B" debian </dev/null >"$T/got"
	diff "$T/wanted" "$T/got" | cut -c 1-1000 | head -n 20
	cmp "$T/wanted" "$T/got"
}

# Made once, outside what teardown removes.
application() {
	APP=$BASE/application
	[[ -d $APP ]] || "$TREE/tests/tools/app_tree.py" "$APP"
}

@test "an application of 30,000 files, as a directory" {
	application
	box_on "$APP"
	same_inside
}

@test "an application of 30,000 files, beneath other layers" {
	application
	mkdir "$T/a"
	to_be_changed "$T/a"
	stack "$T/a" "$APP"
	change "$R"
	same_inside
}

@test "everything that file systems can hold, as a directory" {
	"$TREE/tests/tools/nasty_tree.py" "$T/tree" --gib 2
	box_on "$T/tree"
	same_inside
}

@test "everything that file systems can hold, beneath other layers" {
	"$TREE/tests/tools/nasty_tree.py" "$T/tree" --links 500 --entries 5000 --gib 1
	mkdir "$T/a"
	to_be_changed "$T/a"
	stack "$T/a" "$T/tree"
	change "$R"
	same_inside
}
