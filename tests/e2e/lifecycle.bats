#!/usr/bin/env bats
# create, start, state, kill, delete, list, ps: as an engine drives them.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

# A process that says what it gets.
WORKER='trap "echo got TERM; exit 7" TERM; trap "echo got USR1" USR1; trap "echo got 34" 34
	echo up; while :; do sleep 100000 & wait; done'

make_worker() {
	bundle c . sh -c "$WORKER"
	husk create --pid-file "$T/pid" -b "$B" c >"$T/out" 2>"$T/err" </dev/null
}

said() { grep -qx "$1" "$T/out"; }

@test "create, start, kill, delete" {
	make_worker
	is created "$(state_of c)"
	is "$(cat "$T/pid")" "$(pid_of c)"
	pid=$(pid_of c)
	alive "$pid"
	is "" "$(cat "$T/out" "$T/err")"

	husk start c
	wait_until said up
	is running "$(state_of c)"
	is "$pid" "$(pid_of c)"
	run --separate-stderr husk start c
	one_error "cannot start an already running container"
	run --separate-stderr husk delete c
	one_error 'cannot delete container "c" that is not stopped: running: kill it first, or use --force'

	husk kill c TERM
	wait_until is_stopped c
	said "got TERM"
	is 0 "$(pid_of c)"
	gone "$pid"
	run --separate-stderr husk start c
	one_error "cannot start a container that has stopped"
	husk delete c
	run --separate-stderr husk state c
	one_error 'container "c" does not exist'
	run --separate-stderr husk delete c
	one_error 'container "c" does not exist'
	husk delete --force c
}

@test "the pid is in the container's network namespace and is called as its process" {
	make_worker
	pid=$(pid_of c)
	[[ $(readlink "/proc/$pid/ns/net") != $(readlink /proc/self/ns/net) ]]
	is "sh" "$(ps -o args= -p "$pid" | cut -d' ' -f1)"
	husk delete --force c
}

# Engines enter it: podman cp, podman top.
@test "the pid's mount namespace has the container's files and none of the host's" {
	local in
	[[ $(nsenter -t $$ -m stat -c %d:%i /) == $(stat -c %d:%i /) ]] || skip "this is a chroot: the namespace has another root"
	mkdir "$T/vol" "$T/ro"
	echo in-volume >"$T/vol/f"
	bundle c ".mounts += [{destination: \"/home\", type: \"bind\", source: \"$T/vol\", options: [\"rbind\"]},
		{destination: \"/root\", type: \"bind\", source: \"$T/ro\", options: [\"bind\", \"ro\"]},
		{destination: \"/tmp\", type: \"tmpfs\", source: \"tmpfs\"},
		{destination: \"/not/there\", type: \"bind\", source: \"$T/vol\", options: [\"bind\"]}]" sleep 1000
	ln -s ../../../../../../../etc/passwd "$B/rootfs/etc/link"
	husk run -d -b "$B" c </dev/null >"$T/out" 2>&1
	pid=$(pid_of c)
	in=(nsenter -t "$pid" -m /bin/busybox)
	is "$(ls "$B/rootfs")" "$("${in[@]}" ls /)"
	is "$(cat "$ROOTFS/etc/passwd")" "$("${in[@]}" cat /etc/link)"
	is "in-volume" "$("${in[@]}" cat /home/f)"
	"${in[@]}" sh -c 'echo copied >/etc/new; echo copied >/home/new'
	wait_until reads_in c /etc/new copied
	is copied "$(husk exec c cat /home/new </dev/null)"
	run "${in[@]}" touch /root/x /tmp/x /dev/x /sys/x
	is 4 "$(grep -c 'Read-only file system' <<<"$output")"
	is "$pid" "$("${in[@]}" ls /proc | grep -E '^[0-9]+$')"
	husk delete --force c
	is "in-volume copied" "$(cat "$T/vol/f" "$T/vol/new" | xargs)"
	is copied "$(cat "$B/rootfs/etc/new")"
}

reads_in() { [[ $(husk exec "$1" cat "$2" 2>/dev/null </dev/null) == "$3" ]]; }

@test "the pid ends with the process's status, for whoever inherits it" {
	bundle c . sh -c 'read x; exit 33'
	run python3 - "$HUSK" "$ROOT" "$B" "$T/pid" <<-'P'
		import ctypes, os, subprocess, sys
		husk, root, bundle, pidfile = sys.argv[1:]
		ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
		r, w = os.pipe()
		subprocess.run([husk, "--root", root, "create", "-b", bundle, "--pid-file", pidfile, "c"],
		    stdin=r, check=True)
		subprocess.run([husk, "--root", root, "start", "c"], check=True)
		os.write(w, b"\n")
		pid, status = os.waitpid(int(open(pidfile).read()), 0)
		print(os.waitstatus_to_exitcode(status))
	P
	is 33 "$output"
	is stopped "$(state_of c)"
	husk delete c
}

@test "signals by number, by name, with and without SIG; and by the pid itself" {
	make_worker
	husk start c
	wait_until said up
	for sig in USR1 SIGUSR1 10 34; do
		: >"$T/out"
		husk kill c $sig
		wait_until grep -qE '^got (USR1|34)$' "$T/out"
	done
	said "got 34"
	: >"$T/out"
	kill -USR1 "$(pid_of c)"
	wait_until said "got USR1"
	run --separate-stderr husk kill c NOSUCH
	status_is 1
	has 'NOSUCH' "$stderr"
	husk kill --all c 9
	wait_until is_stopped c
	run --separate-stderr husk kill c
	one_error "container not running"
	husk kill --all c 9
	husk delete c
}

@test "SIGTERM is what kill sends by itself; a container killed before start is stopped" {
	make_worker
	husk kill c KILL
	wait_until is_stopped c
	husk delete c
	is "" "$(cat "$T/out")"
}

@test "exec before start; delete of what was never started" {
	make_worker
	is here "$(husk exec c echo here </dev/null)"
	vmm=$(vmm_of c)
	husk delete c
	gone "$vmm"
}

@test "eight containers at once" {
	local i pids=()
	for i in $(seq 8); do
		bundle "c$i" . sh -c "echo number $i; exit $i"
		husk run -b "$B" "c$i" >"$T/out.$i" 2>&1 </dev/null 3>&- &
		pids[i]=$!
	done
	for i in $(seq 8); do
		wait "${pids[i]}" && status=0 || status=$?
		is "$i" "$status"
		is "number $i" "$(cat "$T/out.$i")"
	done
}

@test "delete --force ends a running container" {
	start_box box
	pid=$(pid_of box) vmm=$(vmm_of box)
	husk delete --force box
	gone "$pid"
	gone "$vmm"
}

@test "state and list, as JSON, table and ids" {
	run husk list -q
	is "" "$output"
	is null "$(husk list -f json | jq -c 'if . == [] then null else . end')"
	start_box b1 '.annotations = {"org.example": "yes"}'
	bundle a1 . true
	husk create -b "$B" a1 </dev/null
	is $'a1\nb1' "$(husk list --quiet)"
	is '["a1","created"] ["b1","running"]' "$(husk list --format=json | jq -c '.[] | [.id, .status]' | xargs -d '\n')"
	run husk list
	has "ID " "${lines[0]}"
	has "created" "${lines[1]}"
	[[ ${lines[2]} =~ ^b1\ +$(pid_of b1)\ +running\ +$T/b1\ +20.*Z\ +root ]]
	husk state b1 >"$T/state"
	is '1.2' "$(jq -r '.ociVersion[:3]' "$T/state")"
	is "b1 running $T/b1 $T/b1/rootfs yes" \
		"$(jq -r '[.id, .status, .bundle, .rootfs, .annotations["org.example"]] | join(" ")' "$T/state")"
	is number "$(jq -r '.pid | type' "$T/state")"
	date -d "$(jq -r .created "$T/state")"
	husk delete -f a1
	husk delete -f b1
}

@test "ps shows the guest's processes; as JSON the host's pids" {
	start_box box
	run husk ps box
	status_is 0
	has "UID " "${lines[0]}"
	has "trap" "${lines[1]}"
	wait_until shows_sleep box # the shell has made it, not what it is to be
	run husk ps --format table box -ef
	status_is 0
	is "[$(pid_of box)]" "$(husk ps -f json box)"
	husk exec -d --pid-file "$T/pid" box sleep 1000
	has "$(cat "$T/pid")" "$(husk ps -f json box)"
	is 2 "$(husk ps --format json box | jq length)"
	husk delete -f box
	run --separate-stderr husk ps box
	one_error 'container "box" does not exist'
}

shows_sleep() { husk ps "$1" | grep -q "sleep 100000"; }

@test "errors go to --log as JSON, and to stderr" {
	run --separate-stderr husk --log "$T/log" --log-format json start nothing
	one_error 'container "nothing" does not exist'
	is 'error container "nothing" does not exist' "$(jq -r '.level + " " + .msg' "$T/log")"
	date -d "$(jq -r .time "$T/log")"
	run --separate-stderr husk --log="$T/text" start nothing
	is 'husk: error: container "nothing" does not exist' "$(cat "$T/text")"
}

@test "as containerd's shim calls it" {
	bundle c . sh -c 'trap "exit 4" TERM; echo up; sleep 100000 & wait'
	global=(--log "$T/log.json" --log-format json --systemd-cgroup=false)
	husk "${global[@]}" create --bundle "$B" --pid-file "$T/pid" --no-pivot --no-new-keyring c </dev/null >"$T/out"
	husk "${global[@]}" start c
	wait_until said up
	jq '.process | .args = ["sh", "-c", "exit 9"]' "$B/config.json" >"$T/process"
	run husk "${global[@]}" exec --process "$T/process" --detach --pid-file "$T/exec.pid" c
	status_is 0
	husk "${global[@]}" kill --all c 15
	wait_until is_stopped c
	husk "${global[@]}" delete c
	husk "${global[@]}" delete --force c
	is "" "$(jq -r 'select(.level == "error") | .msg' "$T/log.json")"
}

# ---- hooks

hook_script() {
	cat >"$T/hook" <<-'S'
		#!/bin/sh
		# NAME DIR: notes that it ran, and the state.
		cat >"$2/$1.state"
		echo "$1" >>"$2/order"
	S
	chmod 755 "$T/hook"
}

@test "hooks run on the host, in order, with the state on stdin" {
	hook_script
	bundle c '.hooks = ([["prestart", "createRuntime", "createContainer", "poststart", "poststop"][]
		| {key: ., value: [{path: "'"$T/hook"'", args: ["hook", ., "'"$T"'"],
			env: ["PATH=/usr/bin:/bin"]}]}] | from_entries)' \
		sh -c 'trap "exit 0" TERM; echo up; sleep 100000 & wait'
	husk create -b "$B" c >"$T/out" </dev/null
	is "prestart createRuntime createContainer" "$(xargs <"$T/order")"
	is "creating c $T/c" "$(jq -r '[.status, .id, .bundle] | join(" ")' "$T/createRuntime.state")"
	is "$(pid_of c)" "$(jq .pid "$T/createRuntime.state")"
	husk start c
	wait_until said up
	is "prestart createRuntime createContainer poststart" "$(xargs <"$T/order")"
	is running "$(jq -r .status "$T/poststart.state")"
	husk kill c
	wait_until is_stopped c
	husk delete c
	is "prestart createRuntime createContainer poststart poststop" "$(xargs <"$T/order")"
	is stopped "$(jq -r .status "$T/poststop.state")"
}

@test "a createRuntime hook may still change the root file system; its netns is there" {
	cat >"$T/hook" <<-'S'
		#!/bin/sh
		echo from the hook >"$1/c/rootfs/hooked"
		readlink "/proc/$(jq .pid)/ns/net" >"$1/netns"
	S
	chmod 755 "$T/hook"
	bundle c '.hooks.createRuntime = [{path: "'"$T/hook"'", args: ["hook", "'"$T"'"],
		env: ["PATH=/usr/bin:/bin"]}]' cat /hooked
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 0
	is "from the hook" "$output"
	has "net:[" "$(cat "$T/netns")"
	[[ $(cat "$T/netns") != $(readlink /proc/self/ns/net) ]]
}

@test "startContainer hooks run in the guest" {
	bundle c '.hooks.startContainer = [{path: "/bin/sh", args: ["sh", "-c", "uname -r >/dev/shm/kernel"],
		env: ["PATH=/bin"]}]' cat /dev/shm/kernel
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 0
	[[ $output == 6.12.* && $output != "$(uname -r)" ]]
}

@test "a hook that fails fails create, and nothing is left" {
	bundle c '.hooks.createRuntime = [{path: "/bin/sh", args: ["sh", "-c", "echo no luck >&2; exit 3"]}]' true
	run --separate-stderr husk create -b "$B" c </dev/null
	one_error 'hooks.createRuntime[0] (/bin/sh): exit status 3: no luck'
	bundle d '.hooks.prestart = [{path: "/bin/sleep", args: ["sleep", "1000"], timeout: 1}]' true
	run --separate-stderr husk create -b "$B" d </dev/null
	status_is 1
	has 'hooks.prestart[0] (/bin/sleep): not finished in time' "$stderr"
}
