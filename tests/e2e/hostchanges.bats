#!/usr/bin/env bats
# What is done on the host to files that a running container's lower disk is made of: that file reads as zeros or with
# EIO, or as it was; everything else, and the container, goes on. In a writable rootfs it would be pushed (sync.bats):
# the roots here are read-only, or the changes are beneath an overlay, where nobody has to look.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() {
	husk delete --force box 2>/dev/null || :
	unmount "$T/m" || :
	rm -rf "$HUSK_DATA"/trees/*
	check_nothing_left
}

in_box() { husk exec box sh -c "$1" </dev/null; }
sum_inside() { in_box "md5sum </data/$1 2>&1"; }

lines_about() { grep -c "root: .*data/$1: " "$T/log" || :; }

FOREVER=(sh -c 'trap "exit 0" TERM; sleep 100000 & echo up; wait')
FILES=(shorter removed replaced secret kept grown)

# files DIR: nobody has read them yet when the container runs.
files() {
	local f
	mkdir -p "$1"
	for f in "${FILES[@]}"; do
		head -c 200000 /dev/urandom >"$1/$f"
	done
	md5sum <"$1/removed" >"$T/removed.sum"
	md5sum <"$1/replaced" >"$T/replaced.sum"
}

damage() {
	truncate -s 100000 "$1/shorter"
	rm "$1/removed"
	echo other >"$1/new" && mv "$1/new" "$1/replaced"
	chmod 000 "$1/secret"
	head -c 50000 /dev/urandom >>"$1/grown"
}

start_on() {
	husk --log "$T/log" run -d -b "$B" box </dev/null >"$T/out" 2>"$T/err"
	wait_until grep -q up "$T/out"
}

# others_are_fine DIR: and root reads what is closed to everybody.
others_are_fine() {
	is "$(md5sum <"$1/kept")" "$(sum_inside kept)"
	is "$(md5sum <"$1/secret")" "$(sum_inside secret)"
	is "$(head -c 200000 "$1/grown" | md5sum)" "$(sum_inside grown)"
	is "$(find "$ROOTFS/bin" -mindepth 1 | wc -l)" "$(in_box 'ls /bin | wc -l')"
	is running "$(state_of box)"
}

@test "files that become shorter, vanish, are replaced or closed to everybody" {
	bundle here '.root.readonly = true' "${FOREVER[@]}"
	local d=$B/rootfs/data f
	files "$d"
	start_on
	damage "$d"
	# zeros after its end
	is 200000 "$(in_box 'wc -c </data/shorter')"
	is 0 "$(in_box 'tail -c 90000 /data/shorter | tr -d "\000" | wc -c')"
	is "$(head -c 90000 "$d/shorter" | md5sum)" "$(in_box 'head -c 90000 /data/shorter | md5sum')"
	has "nput/output error" "$(sum_inside removed)"
	has "nput/output error" "$(sum_inside replaced)"
	others_are_fine "$d"
	# once more, for the log
	sum_inside removed || :
	sum_inside replaced || :
	for f in removed replaced shorter; do
		is "1 $f" "$(lines_about $f) $f"
	done
	for f in secret kept grown; do
		is "0 $f" "$(lines_about $f) $f"
	done
}

@test "the same beneath an overlay: the kernel may go on with the old file, never with other data" {
	local d=$T/lower/data f sum
	files "$d"
	mkdir -p "$T"/{u,w,m}
	mount -t overlay -o "lowerdir=$T/lower:$ROOTFS,upperdir=$T/u,workdir=$T/w" overlay "$T/m"
	bundle there
	M=$T/m edit_spec "$SPEC" "$B/config.json" '.root.path = $ENV.M' "${FOREVER[@]}"
	start_on
	damage "$d"
	for f in removed replaced; do
		sum=$(sum_inside $f)
		[[ $sum == *"nput/output error"* ]] || is "$(cat "$T/$f.sum")" "$sum"
	done
	is 0 "$(in_box 'tail -c 90000 /data/shorter | tr -d "\000" | wc -c')"
	others_are_fine "$d"
	in_box 'echo written >/new'
	husk kill box TERM
	wait_until is_stopped box
	husk delete box
	is written "$(cat "$T/u/new")"
}

@test "the whole directory is removed" {
	bundle here '.root.readonly = true' "${FOREVER[@]}"
	files "$B/rootfs/data"
	start_on
	rm -r "$B/rootfs/data"
	has "nput/output error" "$(sum_inside kept)"
	is "6 alive" "$(in_box 'echo $(ls /data | wc -l) alive')"
}
