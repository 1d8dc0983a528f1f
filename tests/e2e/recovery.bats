#!/usr/bin/env bats
# SIGKILL of anything at any moment of a container's writing or of its write-back: everything that the container
# had fsync'ed is in the rootfs afterwards, and the next start works.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

# Writes files, each with an fsync, and says which are done.
WRITER='i=0; mkdir -p /d; while [ $i -lt 100000 ]; do
	echo "content of $i" | dd of=/d/$i conv=fsync 2>/dev/null && echo $i; i=$((i + 1)); done'
# Changes a lot without an fsync, then syncs once and says so, then ends.
ENDER='mkdir -p /d; i=0; while [ $i -lt 400 ]; do echo "content of $i" >/d/$i; i=$((i + 1)); done
	rm -rf /etc /home; sync; i=0; while [ $i -lt 400 ]; do echo $i; i=$((i + 1)); done'

# One of the sandbox's processes, or all of them.
kill_something() {
	local vmm machine pid victims
	pid=$(jq -r .pid "$ROOT/$1/state.json") vmm=$(vmm_of "$1") machine=$(machine_of "$1") || :
	case $((RANDOM % 4)) in
	0) victims=$pid ;;
	1) victims=$vmm ;;
	2) victims=$machine ;;
	3) victims="$pid $vmm $machine" ;;
	esac
	# shellcheck disable=SC2086
	kill -9 ${victims:-$pid} 2>/dev/null || :
	for p in $pid $vmm $machine; do
		wait_until gone "$p"
	done
}

# check ID: what it said was done is there, and a next container sees it.
check_recovered() {
	local i last=
	husk delete "$1"
	while read -r i; do
		is "content of $i" "$(cat "$B/rootfs/d/$i")"
		last=$i
	done <"$T/$1.out"
	[[ -z $(find "$B/rootfs" -name '.husk-*') ]]
	jq '.process.args = ["sh", "-c", "ls /d | wc -l; cat /d/* >/dev/null"]' "$B/config.json" >"$B/next.json"
	mv "$B/next.json" "$B/config.json"
	run --separate-stderr husk run -b "$B" "$1-next" </dev/null
	status_is 0
	[[ -z $last || $output -gt $last ]]
	rm -rf "$B"
}

while_writing() {
	local n id ms
	for ((n = 0; n < $1; n++)); do
		id=k$n ms=$((RANDOM % 900))
		bundle $id . sh -c "$WRITER"
		husk run -d -b "$B" $id </dev/null >"$T/$id.out" 2>"$T/$id.err"
		sleep "$(moment $ms)"
		echo "moment $n: $ms ms"
		kill_something $id
		check_recovered $id
	done
}

while_writing_back() {
	local n id ms
	for ((n = 0; n < $1; n++)); do
		id=e$n ms=$((RANDOM % 400))
		bundle $id . sh -c "$ENDER"
		husk run -d -b "$B" $id </dev/null >"$T/$id.out" 2>"$T/$id.err"
		wait_until test -s "$T/$id.out"
		sleep "$(moment $ms)"
		echo "moment $n: $ms ms after the sync"
		kill_something $id
		# all that was synced is there, and what was removed is not
		husk delete $id
		is 400 "$(find "$B/rootfs/d" -type f | wc -l)"
		is "content of 399" "$(cat "$B/rootfs/d/399")"
		[[ ! -e $B/rootfs/etc && ! -e $B/rootfs/home ]]
		[[ -z $(find "$B/rootfs" -name '.husk-*') ]]
		rm -rf "$B"
	done
}

@test "moments of writing: first half" { while_writing "$(rounds 13 2)"; }
@test "moments of writing: second half" { while_writing "$(rounds 12 1)"; }
@test "moments of the end: first half" { while_writing_back "$(rounds 13 2)"; }
@test "moments of the end: second half" { while_writing_back "$(rounds 12 1)"; }

@test "delete killed in the middle of a recovery: the next delete goes on" {
	bundle r . sh -c "$ENDER; echo done; exec sleep 1000"
	for ms in 50 200 400 600 800; do
		[[ -d $B/rootfs/etc ]] || cp -a "$ROOTFS/etc" "$B/rootfs/"
		husk run -d -b "$B" r </dev/null >"$T/r.out" 2>"$T/r.err"
		wait_until grep -q "done" "$T/r.out"
		kill -9 "$(machine_of r)"
		wait_until is_stopped r
		run timeout -s KILL "$(moment $ms)" "$HUSK" --root "$ROOT" delete r </dev/null
		wait_until none_left
		[[ ! -e $ROOT/r ]] || husk delete r
		is 400 "$(find "$B/rootfs/d" -type f | wc -l)"
		[[ ! -e $B/rootfs/etc ]]
		rm -rf "$B/rootfs/d"
	done
}
