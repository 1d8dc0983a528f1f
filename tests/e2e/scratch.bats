#!/usr/bin/env bats
# The disk that takes what a container writes: how large it is, what happens when it is full, and when its blocks are
# the host's again.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

FOREVER=(sh -c 'trap "exit 0" TERM; echo up; sleep 100000 & wait')

scratch() { echo "$HUSK_DATA"/changes/*/scratch; }
# KiB that the file takes on the host
taken() { du -k "$(scratch)" | cut -f1; }
takes_less() { (($(taken) < $1)); }

in_box() { husk exec box sh -c "$1" </dev/null; }

@test "it has 10 GiB, and takes what is in it" {
	start_box box . "${FOREVER[@]}"
	run in_box 'df -k / | tail -n 1'
	# shellcheck disable=SC2086
	set -- $output
	(($2 > 9 * 1024 * 1024 && $2 <= 10 * 1024 * 1024)) || { echo "df: $output" && return 1; }
	is $((10 << 30)) "$(stat -c %s "$(scratch)")"
	takes_less 8192 || { echo "empty, it takes $(taken) KiB" && return 1; }
	end_box box
}

@test "when it is full, the container alone has no space" {
	local other
	start_box other
	other=$B
	start_box box '.annotations["io.husk.scratch-size"] = "24M"' "${FOREVER[@]}"
	run in_box 'dd if=/dev/zero of=/fill bs=64k count=1000'
	has "No space left on device" "$output"
	# what the file system had set aside for what was not on the disk yet, too
	in_box 'for i in 1 2 3; do sync; ! cat /dev/zero 2>/dev/null >>/fill || exit 1; done'
	run in_box 'echo more >/more && sync && cat /more'
	has "No space left on device" "$output"
	# what is there can be read, tmpfs and others have space
	is 0 "$(in_box 'cat /fill | wc -c >/dev/null; echo x >/dev/shm/x; echo $?')"
	husk exec other sh -c 'dd if=/dev/zero of=/fill bs=1M count=32 2>/dev/null; sync; rm /fill' </dev/null
	none_takes_more_than_its_size
	# and when something is removed, there is space again
	in_box 'rm /fill; echo again >/again; sync'
	end_box box
	is again "$(cat "$B/rootfs/again")"
	[[ ! -e $B/rootfs/fill ]]
	end_box other
	[[ ! -e $other/rootfs/fill ]]
}

none_takes_more_than_its_size() {
	local f
	for f in "$HUSK_DATA"/changes/*/scratch; do
		(($(du -k "$f" | cut -f1) <= $(stat -c %s "$f") / 1024)) || return 1
	done
}

@test "what is removed inside is given back to the host" {
	local empty full
	start_box box . "${FOREVER[@]}"
	in_box sync
	empty=$(taken)
	in_box 'dd if=/dev/urandom of=/big bs=1M count=48 2>/dev/null; sync'
	full=$(taken)
	((full >= empty + 48 * 1024)) || { echo "$empty KiB, then $full" && return 1; }
	in_box 'rm /big; sync'
	# discards are sent when the journal's transaction is committed
	wait_until takes_less $((full - 40 * 1024))
	echo "$empty KiB empty, $full with 48 MiB, $(taken) without"
	end_box box
}

@test "delete frees it" {
	local before
	start_box box . "${FOREVER[@]}"
	in_box 'dd if=/dev/urandom of=/tmp/big bs=1M count=8 2>/dev/null; rm /tmp/big; echo kept >/kept; sync'
	before=$(scratch)
	[[ -e $before ]]
	wait_until grep -q up "$T/box.out"
	husk kill box TERM
	wait_until is_stopped box
	husk delete box
	[[ ! -e $before && -z $(ls -A "$HUSK_DATA/changes") ]]
	is kept "$(cat "$B/rootfs/kept")"
}
