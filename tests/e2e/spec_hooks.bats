#!/usr/bin/env bats
# config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle": when hooks run, with what, and what
# becomes of a container whose hook fails.

load helpers

setup_file() { make_base; }

setup() {
	setup_test
	cat >"$T/hook" <<-'S'
		#!/bin/sh
		# DIR NAME [STATUS]: notes that it ran, and the state
		cat >"$1/$2.state"
		echo "$2" >>"$1/order"
		exit "${3:-0}"
	S
	chmod 755 "$T/hook"
}

teardown() { check_nothing_left; }

# hook NAME [STATUS]: a member of a list of hooks that runs the script.
hook() { jq -nc '{path: $ARGS.positional[0], args: (["hook"] + $ARGS.positional[1:]), env: ["PATH=/usr/bin:/bin"]}' --args "$T/hook" "$T" "$@"; }
order() { xargs <"$T/order"; }

@test "Lifecycle 3 to 5: a prestart, createRuntime or createContainer hook that fails: error, the container is stopped, poststop hooks run" {
	for phase in prestart createRuntime createContainer; do
		rm -f "$T/order"
		bundle "$phase" ".hooks = {$phase: [$(hook one), $(hook two 3), $(hook three)], poststop: [$(hook after)]}" true
		run --separate-stderr husk create -b "$B" "$phase" </dev/null
		one_error "hooks.${phase}[1] ($T/hook): exit status 3"
		is "one two after" "$(order)"
		is "stopped null" "$(jq -r '.status + " " + (.pid // "null" | tostring)' "$T/after.state" | sed 's/ 0$/ null/')"
		[[ ! -e $ROOT/$phase ]]
	done
}

@test "Lifecycle 7: a startContainer hook that fails: error, the container is stopped, its program did not run" {
	bundle c ".hooks = {poststop: [$(hook after)],
		startContainer: [{path: \"/bin/sh\", args: [\"sh\", \"-c\", \"echo sorry; exit 4\"]}]}" sh -c 'echo ran >/ran'
	husk create -b "$B" c </dev/null >"$T/out"
	run --separate-stderr husk start c
	status_is 1
	has "startContainer hook #0 (/bin/sh): exit status 4, output: sorry" "$stderr"
	wait_until is_stopped c
	husk delete c
	is after "$(order)"
	[[ ! -e $B/rootfs/ran ]]
}

@test "Lifecycle 9: a poststart hook that fails: error, the container is stopped" {
	bundle c ".hooks = {poststart: [$(hook one), $(hook two 5), $(hook three)], poststop: [$(hook after)]}" sleep 100000
	husk create -b "$B" c </dev/null >"$T/out"
	run --separate-stderr husk start c
	one_error "hooks.poststart[1] ($T/hook): exit status 5"
	wait_until is_stopped c
	is running "$(jq -r .status "$T/one.state")"
	husk delete c
	is "one two after" "$(order)"
	bundle d ".hooks = {poststart: [$(hook one 6)], poststop: [$(hook after)]}" sleep 100000
	rm "$T/order"
	run --separate-stderr husk run -b "$B" d </dev/null
	one_error "hooks.poststart[0] ($T/hook): exit status 6"
	is "one after" "$(order)"
}

@test "Lifecycle 13: poststop hooks that fail are warnings, the others run" {
	bundle c ".hooks = {poststop: [$(hook one 1), $(hook two), {path: \"/no/such\"}, $(hook three)]}" true
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 0
	is "one two three" "$(order)"
	has "warning: hooks.poststop[0] ($T/hook): exit status 1" "$stderr"
	has "warning: hooks.poststop[2] (/no/such): exec /no/such: No such file or directory" "$stderr"
}

@test "Hooks: path, args, env and timeout; the state on stdin" {
	cat >"$T/tell" <<-'S'
		#!/bin/sh
		tr '\0' ' ' </proc/$$/cmdline >"${OUT:-/nowhere}"
		echo >>"$OUT"; tr '\0' '\n' </proc/$$/environ >>"$OUT"
	S
	chmod 755 "$T/tell"
	bundle c ".annotations = {\"a.b\": \"c\"} | .hooks = {
		createRuntime: [{path: \"$T/tell\", args: [\"name\", \"x y\"], env: [\"OUT=$T/told\", \"B=2\"]}, $(hook one)],
		startContainer: [{path: \"/bin/sh\", args: [\"sh\", \"-c\", \"cat >/dev/shm/state; /bin/env >>/dev/shm/state\"], env: [\"GUEST=1\"]}],
		poststart: [{path: \"/bin/sh\", args: [\"sh\", \"-c\", \"until grep -q GUEST=1 $T/out; do sleep 0.02; done\"], env: [\"PATH=/usr/bin:/bin\"]},
			{path: \"/bin/sleep\", args: [\"sleep\", \"1000\"], timeout: 1}]}" \
		sh -c 'cat /dev/shm/state; exec sleep 100000'
	husk create --pid-file "$T/pid" -b "$B" c </dev/null >"$T/out"
	is "/bin/sh $T/tell x y" "$(head -1 "$T/told" | xargs)"
	is "OUT=$T/told B=2" "$(tail -n +2 "$T/told" | grep -v '^PWD=' | xargs)"
	jq -e --arg id c --argjson pid "$(cat "$T/pid")" --arg bundle "$B" '.ociVersion and .id == $id and .pid == $pid
		and .bundle == $bundle and .status == "creating" and .annotations == {"a.b": "c"}' "$T/one.state"
	run --separate-stderr husk start c
	status_is 1
	has "hooks.poststart[1] (/bin/sleep): not finished in time" "$stderr"
	wait_until is_stopped c
	is '{"a.b":"c"} created c' "$(head -1 "$T/out" | sed 's/}[^}]*$/}/' | jq -cr '"\(.annotations | tojson) \(.status) \(.id)"')"
	has "GUEST=1" "$(cat "$T/out")"
	husk delete c
}
