#!/usr/bin/env bats
# Commands about one container at the same time: each has one answer, whoever comes first, and nothing is left.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() {
	for id in "$ROOT"/*/; do [[ -d $id ]] && husk delete --force "$(basename "$id")"; done
	check_nothing_left
}

begun() { [[ -e $T/begun ]]; }
has_pid() { [[ -s $1 ]]; }

# at_once FILE COMMAND...: husk in the background, its output in FILE.
at_once() {
	{ husk "${@:2}" && echo "${*:2} done"; } >"$1" 2>&1 </dev/null 3>&- &
	PIDS+=($!)
}
all_answered() {
	wait "${PIDS[@]}" || :
	PIDS=()
}
PIDS=()

# slow_create: a create of "c" that is in a hook of the host's until $T/go is there.
slow_create() {
	bundle c ".hooks.createRuntime = [{path: \"/bin/sh\", args: [\"sh\", \"-c\",
		\"touch $T/begun; until [ -e $T/go ]; do sleep 0.02; done\"]}]" sh -c 'trap "exit 7" TERM; echo up; sleep 100000 & wait'
	"$HUSK" --root "$ROOT" create -b "$B" c </dev/null >"$T/create" 2>&1 3>&- &
	creating=$!
	wait_until begun
}

@test "what is done to a container that is being created" {
	slow_create
	is creating "$(state_of c)"
	run --separate-stderr husk kill c TERM
	one_error 'container "c" is being created'
	run --separate-stderr husk exec c true
	one_error 'container "c" is being created' 255
	run --separate-stderr husk create -b "$B" c
	one_error 'container with given ID already exists: "c"'
	touch "$T/go"
	ended "$creating" 0
	is created "$(state_of c)"
	husk delete c

	rm "$T/begun" "$T/go"
	slow_create
	husk kill c KILL
	touch "$T/go"
	ended "$creating" 1
	has "error: " "$(cat "$T/create")"
	run --separate-stderr husk state c
	one_error 'container "c" does not exist'

	rm "$T/begun" "$T/go"
	slow_create
	"$HUSK" --root "$ROOT" start c >"$T/start" 2>&1 </dev/null 3>&- &
	start=$!
	touch "$T/go"
	ended "$creating" 0
	wait_until gone "$start"
	# The create took longer than it waits.
	! grep -q 'is busy: another husk command holds it$' "$T/start" || husk start c
	is running "$(state_of c)"
}

# answers FILE PATTERN: the lines of FILE are all this.
answers() {
	local line
	while read -r line; do
		[[ $line =~ $2 ]] || { echo "$1: $line" && return 1; }
	done <"$1"
}

@test "two starts, two kills, two deletes: one does it, the other is told" {
	local i
	bundle c . sh -c 'trap "exit 7" TERM; echo up; sleep 100000 & wait'
	husk create -b "$B" c </dev/null >"$T/out" 2>&1
	for i in 1 2 3; do at_once "$T/start.$i" start c; done
	all_answered
	is 1 "$(cat "$T"/start.* | grep -c '^start c done$')"
	is 2 "$(cat "$T"/start.* | grep -c 'cannot start an already running container$')"
	wait_until grep -q up "$T/out"
	for i in 1 2 3; do at_once "$T/kill.$i" kill c KILL; done
	all_answered
	cat "$T"/kill.* >"$T/kills"
	has 'kill c KILL done' "$(cat "$T/kills")"
	answers "$T/kills" '^(husk: error: container not running|kill c KILL done)$'
	wait_until is_stopped c
	for i in 1 2 3; do at_once "$T/delete.$i" delete c; done
	all_answered
	is 1 "$(cat "$T"/delete.* | grep -c '^delete c done$')"
	is 2 "$(cat "$T"/delete.* | grep -c 'container "c" does not exist$')"
}

goes_on() {
	[[ $(state_of c) != paused ]] || husk resume c || :
	is_stopped c
}

@test "exec, pause, update and kill while a container ends: done, or in the words that mean it has gone" {
	local signal i
	for signal in TERM KILL; do
		bundle "c-$signal" . sh -c 'trap "exit 7" TERM; echo up; sleep 100000 & wait'
		husk run -d -b "$B" c </dev/null >"$T/out" 2>&1
		wait_until grep -q up "$T/out"
		for i in 1 2 3; do
			at_once "$T/exec.$i" exec c true
			at_once "$T/exec.k$i" exec c sleep 1000
			at_once "$T/told.u$i" update --pids-limit 50 c
			at_once "$T/told.p$i" pause c
			at_once "$T/told.r$i" resume c
			at_once "$T/told.k$i" kill c "$signal"
			at_once "$T/told.s$i" ps -f json c
		done
		# Whoever paused it last: it goes on, and ends.
		wait_until goes_on
		wait_until is_stopped c
		all_answered
		cat "$T"/told.* | grep -vE ' done$|^\[[0-9,]*\]$' >"$T/told" || :
		answers "$T/told" '^husk: (error: .*(container not (running|paused)|does not exist|the VM went away|the VM ended|process already finished|is busy: another husk command holds it)|warning: container "c": what it has changed)'
		cat "$T"/exec.* | grep -v ' done$' >"$T/told" || :
		answers "$T/told" '^husk: (error|warning): '
		husk delete c
		rm -f "$T"/exec.* "$T"/told.*
	done
}

used() { husk events --stats "$1" | jq .data.cpu.usage.total; }
uses_more() { (($(used c) > $1)); }

# Whatever the state says then: a container that is not paused goes on, and resume lets a paused one.
@test "pause and resume that are killed at any time leave a container that can go on" {
	local ms verb before
	bundle c . sh -c 'while :; do usleep 20000; done'
	husk run -d -b "$B" c </dev/null >"$T/out" 2>&1
	for ms in 2 5 10 20 40 80 $(seq 3 7 "$(rounds 60 3)"); do
		for verb in pause resume; do
			timeout -s KILL "$(moment "$ms")" "$HUSK" --root "$ROOT" "$verb" c >/dev/null 2>&1 </dev/null || :
		done
		case $(state_of c) in
		paused) husk resume c ;;
		*) is running "$(state_of c)" ;;
		esac
		before=$(used c)
		wait_until uses_more "$before"
	done
	husk pause c
	is paused "$(state_of c)"
	husk delete --force c
}

@test "delete --force ends a create and a start that hang in a hook of the host" {
	local hang="{path: \"/bin/sh\", args: [\"sh\", \"-c\", \"echo \$\$ >$T/begun; exec sleep 100000\"]}"
	slow_create
	husk delete --force c
	ended "$creating" 1
	has "interrupted" "$(cat "$T/create")"
	run --separate-stderr husk state c
	one_error 'container "c" does not exist'
	rm "$T/begun"

	bundle c ".hooks.poststart = [$hang]" sh -c 'echo up; sleep 100000'
	husk create -b "$B" c </dev/null >"$T/out" 2>&1
	"$HUSK" --root "$ROOT" start c >"$T/start" 2>&1 </dev/null 3>&- &
	start=$!
	wait_until has_pid "$T/begun"
	husk delete --force c
	ended "$start" 1
	has "interrupted" "$(cat "$T/start")"
	gone "$(cat "$T/begun")"
	rm "$T/begun"

	# One that does not hear is killed, in the end; its hook is nobody's then.
	husk create -b "$B" c </dev/null >"$T/out" 2>&1
	"$HUSK" --root "$ROOT" start c >"$T/start" 2>&1 </dev/null 3>&- &
	start=$!
	wait_until has_pid "$T/begun"
	kill -STOP "$start"
	husk delete --force c
	ended "$start" 137
	kill "$(cat "$T/begun")"
	run --separate-stderr husk state c
	one_error 'container "c" does not exist'
}

@test "delete during a start that takes its time waits, with --force ends it" {
	bundle c '.hooks.startContainer = [{path: "/bin/sh", args: ["sh", "-c", "echo >/dev/shm/begun; exec sleep 1000"]}]' true
	husk create -b "$B" c </dev/null >"$T/out" 2>&1
	"$HUSK" --root "$ROOT" start c >"$T/start" 2>&1 </dev/null 3>&- &
	start=$!
	wait_until husk exec c test -e /dev/shm/begun
	husk delete --force c
	ended "$start" 1
	run --separate-stderr husk state c
	one_error 'container "c" does not exist'
}
