#!/usr/bin/env bats
# SIGKILL of anything at any moment of a container's writing or of its write-back: everything that the container
# had fsync'ed is in the rootfs afterwards, and the next start works.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

# Says how many files there are, all of which can be read; then writes more, each with an fsync, and says which are done.
# shellcheck disable=SC2016
WRITER='mkdir -p /d; find /d -type f -exec cat {} + >/dev/null && echo "had $(ls /d | wc -l)"; i=$1; while :; do
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

# On one rootfs: each start finds what the ones before it said was done, and so does who looks at it in between.
while_writing() {
	local n id ms i done=0
	bundle k . sh -c "$WRITER" sh 0
	for ((n = 0; n <= $1; n++)); do
		id=k$n ms=$((RANDOM % 900))
		jq --arg from $((n * 10000)) '.process.args[-1] = $from' "$B/config.json" >"$T/next.json"
		mv "$T/next.json" "$B/config.json"
		husk run -d -b "$B" $id </dev/null >"$T/$id.out" 2>"$T/$id.err"
		wait_until grep -q '^had' "$T/$id.out"
		(($(sed -n 's/^had //p' "$T/$id.out") >= done))
		((n < $1)) || break
		((n > 0)) || wait_until grep -q '^[0-9]' "$T/$id.out"
		sleep "$(moment $ms)"
		echo "moment $n: $ms ms"
		kill_something $id
		husk delete $id
		while read -r i; do
			is "content of $i" "$(cat "$B/rootfs/d/$i")"
			done=$((done + 1))
		done < <(grep -v had "$T/$id.out")
		[[ -z $(find "$B/rootfs" -name '.husk-*') ]]
	done
	husk delete --force $id
	((done > 0))
	rm -rf "$B"
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
