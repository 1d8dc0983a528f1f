#!/usr/bin/env bats
# SIGKILL of any part at any moment: the rest of the sandbox ends, state says stopped, delete cleans up.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

# crash PART ID: kills it, and waits for the end of all others.
crash() {
	local part pid pids=()
	wait_until has_parts "$2"
	for part in proxy $(vm_parts); do
		pid=$(part_of "$part" "$2")
		[[ $pid ]]
		pids+=("$pid")
	done
	kill -9 "$(part_of "$1" "$2")"
	for pid in "${pids[@]}"; do
		wait_until gone "$pid"
	done
}

@test "while the container runs" {
	for part in proxy $(vm_parts); do
		start_box "$part"
		crash "$part" "$part"
		is "stopped 0" "$(husk state "$part" | jq -r '"\(.status) \(.pid)"')"
		run --separate-stderr husk exec "$part" true
		one_error "cannot exec in a stopped container" 255
		run --separate-stderr husk kill "$part"
		one_error "container not running"
		husk delete "$part"
	done
}

@test "between create and start" {
	for part in proxy $(vm_parts); do
		bundle "$part" . true
		husk create -b "$B" "$part" </dev/null
		crash "$part" "$part"
		is stopped "$(state_of "$part")"
		run --separate-stderr husk start "$part"
		one_error "cannot start a container that has stopped"
		husk delete "$part"
	done
}

@test "under husk run: it ends with 137 and cleans up" {
	for part in proxy $(vm_parts); do
		bundle "$part" . sh -c 'echo up; exec sleep 1000'
		husk run -b "$B" "$part" >"$T/$part.said" 2>"$T/err" </dev/null 3>&- &
		pid=$!
		wait_until grep -qs up "$T/$part.said"
		crash "$part" "$part"
		ended $pid 137
		[[ ! -e $ROOT/"$part" ]]
	done
}

@test "under a foreground exec: it ends, and not with success" {
	for part in proxy $(vm_parts); do
		start_box "$part"
		husk exec "$part" sh -c 'echo up; exec sleep 1000' >"$T/$part.said" 2>"$T/err" </dev/null 3>&- &
		pid=$!
		wait_until grep -qs up "$T/$part.said"
		crash "$part" "$part"
		ended $pid 137
		husk delete "$part"
	done
}

# A guest that never gets anywhere, so that create can be hit in its middle.
hang_guests() {
	mkdir -p "$T/i/bin"
	cp /bin/busybox "$T/i/bin/"
	printf '#!/bin/busybox sh\nexec /bin/busybox sleep 100000\n' >"$T/i/init"
	chmod 755 "$T/i/init"
	(cd "$T/i" && find . | cpio -o -H newc --quiet) >"$T/initramfs"
	export HUSK_INITRAMFS=$T/initramfs
}

begin_create() {
	bundle "$1" . true
	"$HUSK" --root "$ROOT" create -b "$B" "$1" </dev/null 2>"$T/err" 3>&- &
	creator=$!
	wait_until creating_or_over "$1"
	is creating "$(jq -r .status "$ROOT/$1/state.json")"
}

creating_or_over() { has_parts "$1" || gone "$creator"; }

@test "during create, a part: create fails with a message and cleans up" {
	hang_guests
	for part in $(vm_parts); do
		begin_create "$part"
		kill -9 "$(part_of "$part" "$part")"
		ended $creator 1
		is 1 "$(grep -c . "$T/err")"
		[[ ! -e $ROOT/"$part" ]]
		wait_until none_left # a scratch is freed by a process of its own
	done
}

@test "during create, the proxy: create fails in bounded time and cleans up" {
	hang_guests
	local s p status
	# Until there is something to kill: what comes first takes a busy machine longer than it may.
	for s in 8 24 72; do
		p=p$s
		HUSK_BOOT_TIMEOUT=$s begin_create $p && kill -9 "$(part_of proxy $p)" && break
		wait "$creator" || :
	done
	wait "$creator" && status=0 || status=$?
	is 1 "$status"
	[[ ! -e $ROOT/$p ]]
}

@test "during create, husk itself: all ends, delete cleans up" {
	hang_guests
	begin_create h
	kill -9 $creator
	ended $creator 137
	wait_until none_left
	is stopped "$(state_of h)"
	husk delete h
}

@test "husk killed at any time of its create leaves nothing but what delete removes" {
	bundle r . true
	for ms in 1 3 10 20 40 80 120 200 300 400; do
		# To a file: a create that was fast enough leaves a container that has it open.
		timeout -s KILL "$(moment $ms)" "$HUSK" --root "$ROOT" create -b "$B" r </dev/null >"$T/out" 2>&1 3>&- || :
		husk delete --force r
		wait_until none_left
		[[ ! -e $ROOT/r ]]
	done
}

@test "SIGKILL of husk run leaves the container running, as runc does" {
	bundle c . sh -c 'echo up; exec sleep 1000'
	"$HUSK" --root "$ROOT" run -b "$B" c >"$T/out" </dev/null 3>&- &
	pid=$!
	wait_until grep -q up "$T/out"
	kill -9 $pid
	ended $pid 137
	is running "$(state_of c)"
	husk delete -f c
}

@test "two containers do not disturb each other" {
	start_box a
	start_box b
	crash "$(vm_parts | awk '{ print $NF }')" a
	is running "$(state_of b)"
	is fine "$(husk exec b echo fine)"
	husk delete a
	husk delete -f b
}
