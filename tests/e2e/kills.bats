#!/usr/bin/env bats
# SIGKILL of any part at random moments of writing and of write-back: what the guest had synced is in the rootfs after
# recovery, and later containers work. HUSK_KILLS: how many moments (default 6).

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

# Writes file after file, and says which have been synced.
WRITER='i=0; trap "exit 0" TERM
	while :; do
		i=$((i + 1)); mkdir -p /d$((i % 3))
		echo $i >/d$((i % 3))/new && mv /d$((i % 3))/new /d$((i % 3))/$i
		ln -f /d$((i % 3))/$i /link; rm -f /gone-$i
		sync && echo $i
	done'

pause_ms() { read -rt "$(moment "$1")" -u "$TICK" || :; }

late_kill() {
	husk kill "$1" KILL
	pause_ms $((RANDOM % 60))
	kill -9 "$2" 2>/dev/null || :
}

# Kills one of them, at this moment or in the middle of the write-back.
kill_one() {
	local pid vmm machine
	pid=$(pid_of "$1") vmm=$(vmm_of "$1") machine=$(machine_of "$1")
	case $((RANDOM % 5)) in
	0) kill -9 "$pid" ;;
	1) kill -9 "$vmm" ;;
	2) kill -9 "$machine" ;;
	3) late_kill "$1" "$pid" ;;
	4) late_kill "$1" "$vmm" ;;
	esac
	wait_until gone "$pid"
	wait_until gone "$vmm"
}

# bring ID: with one of the three ways to get the changes.
bring() {
	case $((RANDOM % 3)) in
	0) husk delete "$1" ;;
	1) timeout -s KILL "$(moment $((RANDOM % 9 * 100 + 100)))" "$HUSK" --root "$ROOT" sync "$1" || husk sync "$1" ;;
	2) : ;; # the next container does it
	esac
}

@test "killed at random moments" {
	bundle box . sh -c "$WRITER"
	for n in $(seq "${HUSK_KILLS:-$(rounds 6 2)}"); do
		id=k$n
		rm -rf "$B"/rootfs/d[012] "$B/rootfs/link"
		for i in 1 2 3 4 5 6 7 8 9; do : >"$B/rootfs/gone-$i"; done
		husk run -d -b "$B" "$id" </dev/null >"$T/out" 2>"$T/err"
		wait_until grep -q 3 "$T/out"
		pause_ms $((RANDOM % 500))
		kill_one "$id"
		bring "$id"
		husk run -b "$B" "next-$n" </dev/null >/dev/null 2>&1 3>&- &
		runner=$!
		wait_until is_running "next-$n"
		# It is there before the next one runs.
		while read -r i; do
			is "$i" "$(<"$B/rootfs/d$((i % 3))/$i")"
			[[ ! -e $B/rootfs/gone-$i ]]
		done < <(sed '$!b; /^[0-9]*$/!d' "$T/out")
		[[ ! -e $ROOT/$id ]] || husk delete "$id"
		husk delete --force "next-$n"
		wait $runner || :
	done
}
