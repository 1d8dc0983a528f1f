#!/usr/bin/env bats
# husk exec: further processes in one running container.

load helpers

setup_file() {
	make_base
	start_box box '.process.env += ["FROM=config"] | .process.capabilities |= map_values(["CAP_KILL", "CAP_CHOWN"])'
}

teardown_file() {
	husk delete -f box
	all_ended
}

setup() {
	setup_test
	ROOT=$BASE/root
}

teardown() {
	ROOT=$T/none
	check_nothing_left
}

@test "output, stderr and status are apart" {
	run --separate-stderr husk exec box sh -c 'echo out; echo err >&2; exit 3'
	status_is 3
	is out "$output"
	is err "$stderr"
}

@test "stdin reaches the process and ends" {
	is "6 hello" "$(printf hello | husk exec box sh -c 'x=$(cat; echo .); echo ${#x} ${x%.}')"
	is "" "$(husk exec box cat </dev/null)"
}

@test "environment, directory, user and groups" {
	run husk exec -e A=1 --env "B=two words" --cwd /tmp box sh -c 'echo $FROM $A "$B" $PWD'
	is "config 1 two words /tmp" "$output"
	run husk exec --user 1000:1000 -g 5 --additional-gids 6 box sh -c 'id -u; id -g; id -G; pwd'
	is "1000 1000 1000 5 6 /" "$(xargs <<<"$output")"
	run husk exec -u 1000 box id -u
	is 1000 "$output"
	run --separate-stderr husk exec -u nobody box true
	one_error '--user: "nobody": must be UID[:GID]'
}

@test "capabilities and no_new_privs" {
	all=$(husk exec box grep -E 'Cap(Eff|Bnd)' /proc/self/status | xargs)
	is "CapEff: 0000000000000021 CapBnd: 0000000000000021" "$all"
	is "CapEff: 0000000000000421" "$(husk exec --cap CAP_NET_BIND_SERVICE box grep CapEff /proc/self/status | xargs)"
	is "CapEff: 0000000000000000" "$(husk exec -u 1000:1000 box grep CapEff /proc/self/status | xargs)"
	has 1 "$(husk exec --no-new-privs box grep NoNewPrivs /proc/self/status)"
}

@test "--process takes a process object" {
	cat >"$T/p" <<-'J'
		{"args": ["sh", "-c", "echo $X; pwd; id -u; ulimit -n; exit 12"], "cwd": "/etc",
		 "env": ["PATH=/bin", "X=y"], "user": {"uid": 33, "gid": 33},
		 "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]}
	J
	run --separate-stderr husk exec --process "$T/p" box
	status_is 12
	is "y /etc 33 100" "$(xargs <<<"$output")"
	run --separate-stderr husk exec --process "$T/none" box
	one_error "--process: open $T/none: No such file or directory" 255
	echo '{"cwd": "/", "args": []}' >"$T/p"
	run --separate-stderr husk exec --process "$T/p" box
	status_is 255
	has "args" "$stderr"
}

@test "an exec that cannot start is 255, with runc's words" {
	run --separate-stderr husk exec box no-such
	one_error 'exec: "no-such": executable file not found in $PATH' 255
	run --separate-stderr husk exec box /etc/passwd
	one_error 'exec: "/etc/passwd": permission denied' 255
	run --separate-stderr husk exec --cwd /none/such box true
	[[ $status != 0 ]]
	has /none/such "$stderr"
	run --separate-stderr husk exec box
	one_error "husk exec: give a COMMAND or --process FILE"
}

@test "detached, with a pid file; its pid's end is its end" {
	husk exec --detach --pid-file "$T/pid" box sleep 1000 </dev/null
	pid=$(cat "$T/pid")
	alive "$pid"
	is "sleep 1000" "$(ps -o args= -p "$pid")"
	is "$(readlink "/proc/$(pid_of box)/ns/net")" "$(readlink "/proc/$pid/ns/net")"
	husk exec box pidof sleep
	kill "$pid"
	wait_until gone "$pid"
	husk exec box sh -c 'ps -o args | grep -c "[s]leep 1000$" || true'
	is 0 "$(husk exec box sh -c 'ps -o args | grep -c "[s]leep 1000$"')"
}

@test "SIGKILL of an exec's proxy kills its process, and nothing else" {
	husk exec -d --pid-file "$T/pid" box sleep 2000 </dev/null
	kill -9 "$(cat "$T/pid")"
	none_sleeping() { [[ $(husk exec box sh -c 'ps -o args | grep -c "[s]leep 2000$"') == 0 ]]; }
	wait_until none_sleeping
	is running "$(state_of box)"
}

@test "signals to a foreground exec reach its process" {
	"$HUSK" --root "$ROOT" exec box sh -c 'trap "echo got it; exit 4" TERM; echo up; sleep 1000 & wait' >"$T/out" </dev/null 3>&- &
	wait_until grep -q up "$T/out"
	kill -TERM $!
	ended $! 4
	grep -q "got it" "$T/out"
}

@test "with a terminal" {
	on_pty "$HUSK" --root "$ROOT" exec -t box sh <<-'S'
		expect # 
		raw
		send stty size; tty; exit 6\n
		expect 24 80
		expect /dev/pts/
		exit 6
	S
	on_pty --size 100x30 "$HUSK" --root "$ROOT" exec -t box stty size <<-'S'
		expect 30 100
		exit 0
	S
	run --separate-stderr husk exec -t -d box sh
	status_is 1
	has "give --console-socket" "$stderr"
}

@test "detached with a console socket" {
	on_pty --listen "$T/sock" "$HUSK" --root "$ROOT" exec -t -d --console-socket "$T/sock" box sh <<-'S'
		send echo $((40+2)); stty size; exit\n
		expect 42
		eof
	S
}

@test "a process left behind by an exec does not keep it" {
	run husk exec box sh -c 'sleep 3000 >/dev/null 2>&1 & echo $!'
	status_is 0
	husk exec box kill "$output"
}

@test "many at once" {
	local i pids=() bad='' many
	many=$(rounds 100 10)
	for i in $(seq "$many"); do
		husk exec box sh -c "echo number $i; exit $((i % 50))" >"$T/out.$i" 2>&1 </dev/null 3>&- &
		pids[i]=$!
	done
	for i in $(seq "$many"); do
		wait "${pids[i]}" && status=0 || status=$?
		[[ $status == $((i % 50)) && $(cat "$T/out.$i") == "number $i" ]] || bad+=" $i:$status"
	done
	is "" "$bad"
}
