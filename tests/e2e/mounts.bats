#!/usr/bin/env bats
# Mounts with a source on the host: files and directories, shared, projected, and disks.

load helpers

setup_file() { make_base; }

setup() {
	setup_test
	D=$T/data
	mkdir -p "$D"
}

teardown() {
	unmount "$D/sub"
	unmount "$T/at"
	losetup -j "$T/img" | cut -d: -f1 | xargs -r losetup -d
	check_nothing_left
}

# bind SOURCE DESTINATION [OPTION...]: a jq filter that adds the mount.
bind() {
	local source=$1 dest=$2
	shift 2
	jq -cn --arg s "$source" --arg d "$dest" \
		'".mounts += [\({destination: $d, type: "bind", source: $s, options: (["rbind"] + $ARGS.positional)})]"' \
		-r --args -- "$@"
}

# volume TYPE SOURCE DESTINATION [OPTION...]
volume() {
	local type=$1 source=$2 dest=$3
	shift 3
	jq -cn --arg t "$type" --arg s "$source" --arg d "$dest" \
		'".mounts += [\({destination: $d, type: $t, source: $s, options: $ARGS.positional})]"' \
		-r --args -- "$@"
}

# in_box ID COMMAND...
in_box() { husk exec "$@" </dev/null; }
box_reads() { [[ $(in_box "$1" cat "$2" 2>/dev/null) == "$3" ]]; }

@test "two containers and the host share a directory" {
	start_box one "$(bind "$D" /mnt)"
	start_box two "$(bind "$D" /data)"
	in_box one sh -c 'echo from one > /mnt/one'
	wait_until box_reads two /data/one "from one"
	in_box two sh -c 'echo from two > /data/two; mkdir /data/d; ln -s two /data/link'
	wait_until box_reads one /mnt/two "from two"
	is "from one" "$(cat "$D/one")"
	is "two" "$(readlink "$D/link")"
	echo "from the host" >"$D/d/host"
	wait_until box_reads one /mnt/d/host "from the host"
	wait_until box_reads two /data/d/host "from the host"
	rm "$D/one"
	wait_until box_reads two /data/one ""
	end_box one
	end_box two
	is "from two" "$(cat "$D/two")"
}

@test "owners, modes, times and extended attributes are the host's" {
	echo x >"$D/f"
	chown 12:34 "$D/f"
	chmod 4640 "$D/f"
	touch -d @1000000000.5 "$D/f"
	run_in "$(bind "$D" /mnt) | .process.capabilities[] += [\"CAP_CHOWN\"]" sh -c \
		'stat -c "%u %g %a %Y" /mnt/f; touch -d @1100000000 /mnt/g; chown 5:6 /mnt/g'
	status_is 0
	is "12 34 4640 1000000000" "$output"
	is "5 6 1100000000" "$(stat -c '%u %g %Y' "$D/g")"
}

@test "a read-only volume refuses writes, and so does what is mounted beneath it" {
	mkdir "$D/sub"
	mount -t tmpfs none "$D/sub"
	dd if=/dev/zero of="$D/large" bs=1M count=2 status=none
	run_in "$(bind "$D" /mnt ro)" sh -c 'touch /mnt/x; touch /mnt/sub/x; (: >/mnt/large); ls /mnt'
	status_is 0
	has "/mnt/x: Read-only file system" "$stderr"
	has "/mnt/sub/x: Read-only file system" "$stderr"
	has "/mnt/large: Read-only file system" "$stderr"
	is "large
sub" "$output"
}

@test "rbind takes along what is mounted beneath, bind does not" {
	mkdir "$D/sub"
	mount -t tmpfs none "$D/sub"
	touch "$D/sub/there"
	run_in "$(bind "$D" /mnt)" ls /mnt/sub
	is "there" "$output"
	run_in "$(bind "$D" /mnt | sed 's/"rbind"/"bind"/')" ls /mnt/sub
	is "" "$output"
}

@test "a large file is shared" {
	dd if=/dev/zero of="$D/large" bs=1M count=2 status=none
	run_in "$(bind "$D/large" /mnt/file)" sh -c 'echo end >> /mnt/file; stat -c %s /mnt/file'
	status_is 0
	is 2097156 "$output"
	is "end" "$(tail -c 4 "$D/large")"
}

@test "what was just written is there after the end" {
	run_in "$(bind "$D" /mnt)" sh -c 'dd if=/dev/urandom of=/mnt/f bs=64k count=40 2>/dev/null; md5sum </mnt/f'
	status_is 0
	is "$output" "$(md5sum <"$D/f")"
}

@test "a relative source is below the bundle" {
	bundle rel "$(bind conf/file /mnt/f)" cat /mnt/f
	mkdir "$B/conf"
	dd if=/dev/zero of="$B/conf/large" bs=1M count=2 status=none
	echo text >>"$B/conf/large"
	ln -s large "$B/conf/file"
	run husk run -b "$B" rel </dev/null
	has "text" "$output"
}

@test "devices that the guest has, too" {
	run_in "$(bind /dev/urandom /mnt/r)" sh -c 'head -c 5 /mnt/r | wc -c'
	status_is 0
	is 5 "$output"
}

@test "what cannot be given is refused by name" {
	mkfifo "$D/fifo"
	for source in /proc /sys/fs /dev "$D/fifo" "$D/none"; do
		bundle "r$((++N))" "$(bind "$source" /mnt)" true
		run --separate-stderr husk run -b "$B" c
		status_is 1
		has "mounts[" "$stderr"
		has "$source" "$stderr"
	done
}

@test "an image file as a volume keeps what is written" {
	truncate -s 64M "$T/img"
	mkfs.ext4 -q "$T/img"
	run_in "$(volume ext4 "$T/img" /vol)" sh -c 'echo kept > /vol/f; grep " /vol " /proc/mounts'
	status_is 0
	has " ext4 rw" "$output"
	run_in "$(volume ext4 "$T/img" /vol ro)" sh -c 'cat /vol/f; touch /vol/x'
	is "kept" "$output"
	has "Read-only file system" "$stderr"
	e2fsck -fn "$T/img"
	start_box holder "$(volume ext4 "$T/img" /vol)"
	run_in "$(volume ext4 "$T/img" /vol)" true
	status_is 1
	has "$T/img: is in use by another container" "$stderr"
	end_box holder
}

@test "a loop device as a volume, and the host's use of it" {
	local dev
	truncate -s 64M "$T/img"
	mkfs.ext4 -q "$T/img"
	dev=$(losetup -f --show "$T/img")
	run_in "$(volume ext4 "$dev" /vol)" sh -c 'echo kept > /vol/f'
	status_is 0
	mkdir "$T/at"
	mount "$dev" "$T/at"
	is "kept" "$(cat "$T/at/f")"
	run_in "$(volume ext4 "$dev" /vol)" true
	has "$dev: is mounted on the host" "$stderr"
	umount "$T/at"
	run_in "$(volume ext4 "$T/img" /vol)" true
	has "$T/img: is in use on the host by $dev" "$stderr"
}

@test "a source is free when its container is deleted" {
	mkdir "$D/sub"
	mount -t tmpfs none "$D/sub"
	start_box holder "$(bind "$D/sub" /mnt)"
	pid=$(jq .share_pid "$ROOT/holder/state.json")
	is "husk-share" "$(cat "/proc/$pid/comm")"
	end_box holder
	gone "$pid"
	umount "$D/sub"
}

@test "a config map's update arrives, and a termination log goes out" {
	mkdir "$D/..1" "$D/..2"
	echo one >"$D/..1/key"
	echo two >"$D/..2/key"
	ln -s ..1 "$D/..data"
	ln -s ..data/key "$D/key"
	touch "$T/log"
	start_box box "$(bind "$D" /cfg ro) | $(bind "$T/log" /dev/termination-log)" \
		sh -c 'trap "exit 0" TERM; echo up; sleep 100000 & wait'
	wait_until grep -q up "$T/box.out"
	is one "$(in_box box cat /cfg/key)"
	ln -s ..2 "$D/..tmp"
	mv -T "$D/..tmp" "$D/..data"
	wait_until box_reads box /cfg/key two
	in_box box sh -c 'echo why > /dev/termination-log'
	husk kill box TERM
	wait_until is_stopped box
	is why "$(cat "$T/log")"
	end_box box
}

@test "nothing is left when any process of the share is killed" {
	local name victim
	local names=(husk-share virtiofsd husk-vmm)
	[[ $ENGINE == qemu ]] && names+=(qemu-system)
	for name in "${names[@]}"; do
		start_box "k-$name" "$(bind "$D" /mnt)"
		victim=$(descendants "$HUSK_TEST_REAPER" | awk '{print $1}' |
			while read -r p; do
				[[ $(cat "/proc/$p/comm" 2>/dev/null) == "${name:0:15}"* ]] && echo "$p"
			done | tail -n 1)
		[[ $victim ]] || { echo "no $name" && return 1; }
		kill -9 "$victim"
		if [[ $name == husk-vmm || $name == qemu* ]]; then
			wait_until is_stopped "k-$name"
		fi
		end_box "k-$name"
	done
}
