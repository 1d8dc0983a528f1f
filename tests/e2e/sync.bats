#!/usr/bin/env bats
# What a container writes is in its rootfs afterwards, whatever ended it; and what the host writes is seen inside.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
# Trees of overlays stay in the cache.
teardown() {
	rm -f "$HUSK_DATA"/trees/*
	check_nothing_left
}

# overlay NAME: $B/rootfs becomes an overlay over the file's rootfs, with $B/upper.
overlay() {
	bundle "$1" "${@:2}"
	rm -rf "$B/rootfs"
	mkdir "$B"/{rootfs,upper,work}
	mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$B/upper,workdir=$B/work" "$B/rootfs"
}

# A container that runs until it is told to end, on the bundle $B.
start_here() {
	husk run -d -b "$B" "$1" </dev/null >"$T/$1.out" 2>"$T/$1.err"
	wait_until grep -q up "$T/$1.out"
}

content_is() { [[ -e $2 && $(<"$2") == "$1" ]]; }
inside_is() { [[ $(husk exec "$1" cat "$3" </dev/null 2>/dev/null) == "$2" ]]; }
inside_mode() { [[ $(husk exec "$1" stat -c %a "$3" </dev/null 2>/dev/null) == "$2" ]]; }
inside_gone() { ! husk exec "$1" test -e "$2" </dev/null; }

FOREVER=(sh -c 'trap "exit 0" TERM; echo up; sleep 100000 & wait')

# end ID: as an engine does it, and waits.
end() {
	local pid
	pid=$(pid_of "$1")
	husk kill "$1" TERM
	wait_until gone "$pid"
}

writes='echo new >/new; echo changed >/etc/group; rm /etc/passwd; mkdir -p /a/b; ln -s /new /a/link
	ln /new /a/hard; chmod 600 /new; rm -r /home/user; mkdir /home/user'

check_writes() {
	is new "$(<"$1/new")" && is 600 "$(stat -c %a "$1/new")"
	is changed "$(<"$1/etc/group")"
	[[ ! -e $1/etc/passwd && -d $1/a/b ]]
	is /new "$(readlink "$1/a/link")"
	is "$(stat -c %i "$1/new")" "$(stat -c %i "$1/a/hard")"
	[[ -d $1/home/user ]]
}

@test "what a container wrote is in its rootfs when it has ended, and in the next container" {
	bundle one . sh -c "$writes"
	husk run -b "$B" one </dev/null
	check_writes "$B/rootfs"
	edit_spec "$SPEC" "$B/config.json" . sh -c 'cat /new /a/hard && test ! -e /etc/passwd && echo more >>/new'
	run --separate-stderr husk run -b "$B" two </dev/null
	status_is 0 && is $'new\nnew' "$output"
	is $'new\nmore' "$(<"$B/rootfs/new")"
}

@test "the same with an overlay: changes are in its upper directory, and nothing else is" {
	overlay one . sh -c "$writes"
	husk run -b "$B" one </dev/null
	check_writes "$B/rootfs"
	edit_spec "$SPEC" "$B/config.json" . true
	(cd "$B/upper" && find . | sort) >"$T/before"
	husk run -b "$B" two </dev/null
	(cd "$B/upper" && find . | sort) | diff "$T/before" -
	unmount "$B/rootfs"
	content_is changed "$B/upper/etc/group"
	[[ -c $B/upper/etc/passwd && ! -e $B/upper/bin ]]
}

@test "a container that changed nothing leaves its rootfs untouched" {
	bundle one . true
	find "$B/rootfs" -printf '%p %C@ %T@\n' | sort >"$T/before"
	husk run -b "$B" one </dev/null
	find "$B/rootfs" -printf '%p %C@ %T@\n' | sort | diff "$T/before" -
}

@test "a container that is killed keeps what it wrote, also with husk kill -9" {
	start_box one . sh -c 'echo 1 >/file; echo up; exec sleep 1000'
	wait_until grep -q up "$T/one.out"
	pid=$(pid_of one)
	husk kill one KILL
	wait_until gone "$pid"
	content_is 1 "$B/rootfs/file"
	husk delete one
}

@test "the proxy, husk-vmm or the machine killed: delete, sync or the next container brings what was synced" {
	for part in proxy vmm machine; do
		start_box $part . sh -c 'echo kept >/file; rm /etc/passwd; sync; echo up; exec sleep 1000'
		wait_until grep -q up "$T/$part.out"
		vmm=$(vmm_of $part)
		case $part in
		proxy) kill -9 "$(pid_of $part)" ;;
		vmm) kill -9 "$vmm" ;;
		machine) kill -9 "$(machine_of $part)" ;;
		esac
		wait_until gone "$vmm"
		wait_until is_stopped $part
		[[ ! -e $B/rootfs/file ]]
		case $part in
		proxy) husk delete $part ;;
		vmm)
			run --separate-stderr husk sync vmm
			status_is 0 && has "changed in the rootfs" "$output"
			run --separate-stderr husk sync vmm
			status_is 0 && is "vmm: nothing to do" "$output"
			;;
		machine)
			edit_spec "$SPEC" "$B/config.json" . cat /file
			run --separate-stderr husk run -b "$B" next </dev/null
			status_is 0 && is kept "$output"
			;;
		esac
		content_is kept "$B/rootfs/file"
		[[ ! -e $B/rootfs/etc/passwd ]]
		[[ $part == proxy ]] || husk delete $part
	done
}

@test "the machine killed before anything got to the disk: the rootfs is as it was" {
	start_box one . sh -c 'echo lost >/file; echo up; exec sleep 1000'
	wait_until grep -q up "$T/one.out"
	stat -c '%a %u %g %y' "$B/rootfs" >"$T/before"
	vmm=$(vmm_of one)
	kill -9 "$(machine_of one)"
	wait_until gone "$vmm"
	wait_until is_stopped one
	husk delete one
	if [[ ! -e $B/rootfs/file ]]; then
		stat -c '%a %u %g %y' "$B/rootfs" | diff "$T/before" -
	fi
	is "$(cut -d' ' -f1-3 "$T/before")" "$(stat -c '%a %u %g' "$B/rootfs")"
}

@test "husk sync of a running container: plain directory and overlay" {
	for kind in bundle overlay; do
		$kind $kind . "${FOREVER[@]}"
		start_here $kind
		husk exec $kind sh -c "$writes" </dev/null
		[[ ! -e $B/rootfs/new ]]
		run --separate-stderr husk sync $kind
		status_is 0 && has "changed in the rootfs" "$output"
		check_writes "$B/rootfs"
		# The guest reads on from files that were replaced on the host.
		husk exec $kind sh -c 'grep -q changed /etc/group && cat /new && busybox | head -n 1' </dev/null >"$T/out"
		# Hard links are made again in an overlay.
		husk exec $kind rm /a/hard </dev/null
		husk sync $kind
		run --separate-stderr husk sync $kind
		status_is 0 && has " 0 changed in the rootfs" "$output"
		end $kind
		husk delete $kind
	done
	unmount "$B/rootfs"
}

peak_kib() { awk '/^VmHWM:/ { print $2 }' "/proc/$1/status"; }

@test "30,000 new files need hardly more of the proxy's memory than a hundred" {
	local pid few many
	bundle one . "${FOREVER[@]}"
	start_here one
	pid=$(pid_of one)
	husk exec one sh -c 'mkdir /few && cd /few && seq 100 | xargs touch' </dev/null
	husk sync one
	few=$(peak_kib "$pid")
	husk exec one sh -c 'for d in 1 2 3; do mkdir /m$d && cd /m$d && seq 10000 | xargs touch; done' </dev/null
	run --separate-stderr husk sync one
	status_is 0 && has "changed in the rootfs" "$output"
	many=$(peak_kib "$pid")
	echo "peak: $few KiB, then $many KiB; $output"
	is 30000 "$(find "$B"/rootfs/m? -type f | wc -l)"
	((many < few + 4 * 1024))
	# None of them is pushed back.
	husk exec one sh -c 'echo mine >/m1/1' </dev/null
	echo x >"$B/rootfs/other"
	wait_until inside_is one x /other
	inside_is one mine /m1/1
	end one
	husk delete one
}

@test "with an interval it syncs by itself; a wrong one is refused" {
	bundle one '.annotations["io.husk.sync-interval"] = "1"' "${FOREVER[@]}"
	start_here one
	husk exec one sh -c 'echo 1 >/file' </dev/null
	wait_until content_is 1 "$B/rootfs/file"
	end one
	husk delete one
	bundle two '.annotations["io.husk.sync-interval"] = "1s"' true
	run --separate-stderr husk run -b "$B" two </dev/null
	one_error "$B/config.json: annotations[\"io.husk.sync-interval\"]: \"1s\": must be a number of seconds from 1 to 86400"
}

@test "husk sync holds files that are open inside" {
	bundle one . sh -c 'exec 3</data; echo up; read -r line; cat <&3 | md5sum; cat /data'
	head -c 300000 /dev/urandom >"$B/rootfs/data"
	want=$(md5sum <"$B/rootfs/data")
	mkfifo "$T/in"
	husk run -b "$B" one <"$T/in" >"$T/out" 3>&- &
	pid=$!
	exec {in}>"$T/in"
	wait_until grep -q up "$T/out"
	husk exec one sh -c 'echo other >/x && mv /x /data' </dev/null
	husk sync one
	content_is other "$B/rootfs/data"
	echo go >&"$in"
	exec {in}>&-
	ended $pid 0
	is "up"$'\n'"$want"$'\nother' "$(<"$T/out")"
}

@test "husk sync: of a read-only container there is nothing, of an unknown one an error" {
	bundle one '.root.readonly = true' "${FOREVER[@]}"
	start_here one
	run --separate-stderr husk sync one
	status_is 0 && is "one: nothing to do" "$output"
	end one
	husk delete one
	run --separate-stderr husk sync one
	one_error 'container "one" does not exist'
}

@test "what the host writes into the rootfs is seen inside within a second" {
	for kind in bundle overlay; do
		$kind $kind . "${FOREVER[@]}"
		start_here $kind
		echo 1 >"$B/rootfs/from-host"
		wait_until inside_is $kind 1 /from-host
		echo 2 >"$B/rootfs/from-host"
		wait_until inside_is $kind 2 /from-host
		echo 3 >"$B/rootfs/new" && mv "$B/rootfs/new" "$B/rootfs/etc/group"
		wait_until inside_is $kind 3 /etc/group
		rm "$B/rootfs/etc/passwd"
		wait_until inside_gone $kind /etc/passwd
		mkdir -p "$B/rootfs/dir/sub"
		echo 4 >"$B/rootfs/dir/sub/file"
		chmod 640 "$B/rootfs/dir/sub/file"
		wait_until inside_is $kind 4 /dir/sub/file
		wait_until inside_mode $kind 640 /dir/sub/file
		# What was written inside stays, on both sides.
		husk exec $kind sh -c 'echo inside >>/from-host' </dev/null
		end $kind
		is $'2\ninside' "$(<"$B/rootfs/from-host")"
		husk delete $kind
	done
	unmount "$B/rootfs"
}

# docker cp mounts a container's volumes in its rootfs while it copies.
@test "what is written, and written back, while something is mounted beneath an overlay is not lost" {
	overlay one . "${FOREVER[@]}"
	start_here one
	mount -t tmpfs tmpfs "$B/rootfs/home"
	echo brought >"$B/rootfs/etc/new"
	wait_until inside_is one brought /etc/new
	husk exec one sh -c 'echo made >/root/made' </dev/null
	end one
	husk delete one
	is made "$(<"$B/upper/root/made")"
	unmount "$B/rootfs/home"
	unmount "$B/rootfs"
}

@test "what a container wrote and was synced is not pushed back" {
	overlay one . "${FOREVER[@]}"
	start_here one
	husk exec one sh -c 'echo 1 >/file' </dev/null
	husk sync one
	husk exec one sh -c 'echo 2 >/file' </dev/null
	# A push of something else passes by.
	echo x >"$B/rootfs/other"
	wait_until inside_is one x /other
	inside_is one 2 /file
	end one
	is 2 "$(<"$B/rootfs/file")"
	husk delete one
	unmount "$B/rootfs"
}

@test "a rootfs that went away: an error that tells, the changes are kept, and come back with it" {
	overlay one . "${FOREVER[@]}"
	start_here one
	husk exec one sh -c 'echo 1 >/file' </dev/null
	unmount "$B/rootfs" # whoever looks for changes in it lets it go in no time
	end one
	is stopped "$(state_of one)"
	run --separate-stderr husk sync one
	status_is 1 && has "rootfs $B/rootfs: not there" "$stderr"
	mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$B/upper,workdir=$B/work" "$B/rootfs"
	husk sync one
	content_is 1 "$B/rootfs/file"
	husk delete one
	unmount "$B/rootfs"
}

@test "a container that changes nothing is not asked for changes, one that only changes its root directory is" {
	bundle c . true
	mkdir -p "$B/rootfs"/{proc,dev,sys}
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 0
	before=$(stat -c %Z "$B/rootfs")
	run --separate-stderr husk --debug run -b "$B" c </dev/null
	status_is 0
	[[ $stderr != *"write-back: "*" entries"* ]]
	is "$before" "$(stat -c %Z "$B/rootfs")"
	jq '.process.args = ["chmod", "751", "/"]' "$B/config.json" >"$T/c.json" && mv "$T/c.json" "$B/config.json"
	husk run -b "$B" c </dev/null
	is 751 "$(stat -c %a "$B/rootfs")"
}

@test "a create that comes while the VM of a killed proxy is still ending waits for its changes" {
	bundle first . sh -c 'echo kept >/kept; sync; echo done; exec sleep 1000'
	husk run -d -b "$B" first </dev/null >"$T/out" 2>"$T/err"
	wait_until grep -q "done" "$T/out"
	mkdir "$T/second"
	jq --arg root "$B/rootfs" '.root.path = $root | .process.args = ["cat", "/kept"]' "$B/config.json" >"$T/second/config.json"
	kill -9 "$(pid_of first)"
	run --separate-stderr husk run -b "$T/second" second </dev/null
	status_is 0
	is kept "$output"
	husk delete first
}
