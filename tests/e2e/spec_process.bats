#!/usr/bin/env bats
# config.md, "Process", "Linux Process", "User": each field, as a process of the container sees it.
# Clauses of other tests: inside.bats (the usual configuration), interactive.bats (terminals).

load helpers

setup_file() {
	make_base
	start_box box '.process.capabilities |= map_values(. + ["CAP_SYS_NICE", "CAP_OF_TOMORROW"])
		| .process.noNewPrivileges = false
		| .process.env = ["PATH=/bin", "A=1", "EMPTY=", "A=2", "SPACED= x "]
		| .process.user = {uid: 1000, gid: 1001, umask: 9, additionalGids: [5, 6]}
		| .process.cwd = "/home/user"
		| .process.oomScoreAdj = 500
		| .process.rlimits = [{type: "RLIMIT_NOFILE", soft: 100, hard: 1048576}, {type: "RLIMIT_MEMLOCK", soft: 1048576, hard: 2097152}]
		| .process.scheduler = {policy: "SCHED_BATCH", nice: 7}
		| .process.ioPriority = {class: "IOPRIO_CLASS_BE", priority: 6}
		| .process.execCPUAffinity = {initial: "0", final: "0"}' \
		sh -c '/bin/env; id -u; id -G; umask; pwd; ulimit -n; ulimit -Hn; ulimit -l; cat /proc/self/oom_score_adj; ionice; echo $0 $*; ls /proc/self/fd; echo end; exec sleep 100000' zero "one two"
	wait_until grep -qx end "$BASE/box.out"
}

teardown_file() {
	husk delete -f box
	all_ended
}

setup() { setup_test; }
teardown() { check_nothing_left; }

in_box() { "$HUSK" --root "$BASE/root" exec "$@" </dev/null; }
said() { grep -E "$1" "$BASE/box.out" | xargs; }
line_after() { grep -xA1 "$1" "$BASE/box.out" | tail -1; }
# The part behind the environment.
rest() { sed -n '/^1000$/,$p' "$BASE/box.out" | xargs; }

@test "Process, env: as given, the last of a name, and no others but HOME" {
	is "A=2 EMPTY= HOME=/home/user PATH=/bin SPACED= x" "$(sed '/^1000$/,$d' "$BASE/box.out" | grep -vE '^(PWD|SHLVL|_|OLDPWD)=' | sort | xargs)"
}

@test "Process, user: uid, gid, additionalGids, umask; cwd; rlimits; oomScoreAdj; ioPriority; scheduler; args" {
	has "1000 1001 5 6 0011 /home/user 100 1048576 1024 500 best-effort: prio 6 zero one two" "$(rest)"
	is "7 3" "$(in_box box sh -c "sed 's/.*) //' /proc/1/stat | cut -d' ' -f17,39")" # nice, SCHED_BATCH
}

@test "runtime-linux.md, File descriptors: nothing but stdio" {
	has "0 1 2 3 end" "$(rest)" # 3: of ls itself
}

@test "Process, capabilities: an unknown one is a warning" {
	has 'process.capabilities: ignoring unknown capability "CAP_OF_TOMORROW"' "$(cat "$BASE/box.err")"
	(("0x$(in_box box grep CapBnd /proc/self/status | cut -f2)" >> 23 & 1)) # CAP_SYS_NICE
}

@test "Process, noNewPrivileges: off and on; an exec'ed process may have it for itself" {
	is "NoNewPrivs: 0" "$(in_box box grep NoNewPrivs /proc/self/status | xargs)"
	is "NoNewPrivs: 1" "$(in_box --no-new-privs box grep NoNewPrivs /proc/self/status | xargs)"
}

@test "Process, execCPUAffinity: of exec'ed processes, not of the first; a CPU that the machine lacks is named" {
	jq '.process | .terminal = false | .args = ["grep", "Cpus_allowed_list", "/proc/self/status"]' "$BASE/box/config.json" >"$T/process"
	is "Cpus_allowed_list: 0" "$(in_box --process "$T/process" box | xargs)"
	jq '.execCPUAffinity = {final: "700"}' "$T/process" >"$T/other"
	run --separate-stderr in_box --process "$T/other" box
	status_is 255
	has "process.execCPUAffinity (700): Invalid argument" "$stderr"
}

@test "Process, scheduler: real-time and deadline policies, and what contradicts itself" {
	run_in '.process.scheduler = {policy: "SCHED_FIFO", priority: 10} | .process.capabilities |= map_values(. + ["CAP_SYS_NICE"])' \
		sh -c "sed 's/.*) //' /proc/self/stat | cut -d' ' -f38,39"
	is "10 1" "$output"
	run_in '.process.scheduler = {policy: "SCHED_OTHER", priority: 10}' true
	one_error "$B/config.json: process.scheduler.priority: can only be specified for SCHED_FIFO or SCHED_RR"
	run_in '.process.scheduler = {policy: "SCHED_ISO"}' true
	one_error "$B/config.json: process.scheduler.policy: Linux has no SCHED_ISO"
}

@test "Process, what MUST be an error: duplicate rlimits, a relative cwd, no args, soft above hard" {
	local -A bad=(
		['.process.rlimits = [{type: "RLIMIT_CORE", soft: 0, hard: 0}, {type: "RLIMIT_CORE", soft: 0, hard: 0}]']='process.rlimits[1].type: "RLIMIT_CORE" is given twice'
		['.process.rlimits = [{type: "RLIMIT_CORE", soft: 1, hard: 0}]']='process.rlimits[0]: RLIMIT_CORE: soft limit 1 is above hard limit 0'
		['.process.rlimits = [{type: "RLIMIT_X", soft: 1, hard: 0}]']='process.rlimits[0].type: "RLIMIT_X": unknown rlimit type'
		['.process.cwd = "tmp"']='process.cwd: "tmp" must be an absolute path'
		['.process.args = []']='process.args: must not be empty'
		['del(.process.args)']='process.args: must not be empty'
		['.process.oomScoreAdj = 1001']='process.oomScoreAdj: 1001 is out of range (-1000 to 1000)'
		['.process.ioPriority = {class: "IOPRIO_CLASS_NONE"}']='process.ioPriority.class: "IOPRIO_CLASS_NONE": unknown I/O priority class'
		['.process.execCPUAffinity = {final: "a"}']='process.execCPUAffinity.final: "a": not a list of CPUs'
	)
	local filter
	for filter in "${!bad[@]}"; do
		run_in "$filter"
		one_error "$B/config.json: ${bad[$filter]}"
	done
}

@test "Process, consoleSize: the terminal has it from the first moment on" {
	bundle tty '.process.terminal = true | .process.consoleSize = {height: 33, width: 111}' stty size
	python3 -c '
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
print("listens", flush=True)
c, _ = s.accept()
_, fds, _, _ = socket.recv_fds(c, 4096, 1)
text = b""
try:
    while True:
        part = os.read(fds[0], 4096)
        if not part: break
        text += part
except OSError:
    pass
print(text.decode().strip(), flush=True)' "$T/console" >"$T/said" &
	wait_until grep -q listens "$T/said"
	husk run -d --console-socket "$T/console" -b "$B" tty </dev/null
	ended $! 0
	is "33 111" "$(tail -1 "$T/said")"
	wait_until is_stopped tty
	husk delete tty
}
