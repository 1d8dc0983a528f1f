#!/usr/bin/env bats
# The verbs that engines use on a container that is there: pause, resume, update, events, ps, list, exec with all of
# its flags, checkpoint and restore; what create, run and exec are handed; logs, words and exit codes. Where runc runs
# on this host too, its own words and keys are what ours are compared with.

load helpers
load netns

setup_file() { make_base; }
setup() { setup_test; }
teardown() {
	for id in "$ROOT"/*/; do [[ -d $id ]] && husk delete --force "$(basename "$id")"; done
	[[ -d $T/runc ]] && runc --root "$T/runc" delete --force r
	[[ -z ${NS:-} ]] || end_netns
	check_nothing_left
}

# ---- runc, in the same situation

runc() { command runc --root "$T/runc" "$@"; }

# make_runc: a running container "r" of runc's; fails where runc cannot run.
make_runc() {
	bundle runc-bundle 'del(.linux.resources)' /bin/sleep 100000
	edit_spec "$B/config.json" "$B/config.json.new" ". + {ociVersion: \"1.0.2\"} | .linux.cgroupsPath = \"/husk-test-$$-$RANDOM\"" &&
		mv "$B/config.json.new" "$B/config.json"
	timeout 20 runc --root "$T/runc" run -d -b "$B" r </dev/null >"$T/runc.out" 2>&1
}

# words COMMAND...: the message of an error, of runc or of husk.
words() {
	rm -f "$T/words"
	"$1" --log "$T/words" --log-format json "${@:2}" >/dev/null 2>&1 </dev/null && echo "no error of $*" && return 1
	jq -rs 'map(select(.level == "error")) | last | .msg' "$T/words"
}

# same_words ARGS...: both refuse it, in the same words; r and c are their containers.
same_words() {
	local ours theirs
	ours=$(words husk "${@//@/c}") theirs=$(words runc "${@//@/r}")
	[[ ${theirs#exec failed: } == "$ours" ]] || {
		echo "$*: runc: $theirs; husk: $ours"
		return 1
	}
}

# ---- figures

figure() { husk events --stats "$1" | jq ".data.$2"; }
used() { figure "$1" cpu.usage.total; }
inside() { husk exec "$@" </dev/null; }
limit() { inside c cat "/sys/fs/cgroup/$1"; }
lines_of() { grep -c "\"type\":\"$1\"" "$T/events" || :; }
has_lines() { (($(lines_of "$1") >= $2)); }
uses_more() { (($(used c) > $1)); }

BUSY='trap "exit 0" TERM; echo up; while :; do usleep 20000; done'

@test "pause stops all processes and nothing else; resume lets them go on" {
	start_box c . sh -c "$BUSY"
	make_runc && theirs=1 || theirs=
	if [[ $theirs ]]; then
		same_words resume @
		diff <(runc state r | jq keys) <(husk state c | jq 'keys - ["engine"]')
		diff <(runc list -f json | jq '.[0] | keys') <(husk list -f json | jq '.[0] | keys - ["engine"]')
	fi
	husk pause c
	is paused "$(state_of c)"
	is '["c","paused"]' "$(husk list -f json | jq -c '.[] | [.id, .status]')"
	has " paused " "$(husk list)"
	alive "$(pid_of c)"
	before=$(used c)
	[[ $(used c) == "$before" && $(used c) == "$before" ]]
	if [[ $theirs ]]; then
		runc pause r
		for verb in "pause @" "start @" "exec @ true"; do
			# shellcheck disable=SC2086
			same_words $verb
		done
		runc resume r
	fi
	has 'cannot delete container "c" that is not stopped: paused' "$(words husk delete c)"
	run --separate-stderr husk exec c true
	one_error "cannot exec in a paused container (use --ignore-paused to override)" 255

	# What is no process of the container goes on.
	husk sync c
	husk update --pids-limit 50 c
	[[ $(husk ps -f json c) == "[$(pid_of c)]" ]]
	is paused "$(state_of c)"
	[[ $(used c) == "$before" ]]

	husk exec --ignore-paused c echo late </dev/null >"$T/late" 3>&- &
	exec_pid=$!
	husk resume c
	is running "$(state_of c)"
	ended "$exec_pid" 0
	is late "$(cat "$T/late")"
	wait_until uses_more "$before"

	# It ends as any other, by KILL at once, by others when it goes on.
	husk pause c
	husk kill c KILL
	wait_until is_stopped c
	is "container not paused" "$(words husk resume c)"
	is "container not running" "$(words husk pause c)"
	husk delete c
	start_box c . sh -c "$BUSY"
	wait_until grep -q up "$T/c.out"
	husk pause c
	husk kill c TERM
	is paused "$(state_of c)"
	husk resume c
	wait_until is_stopped c
	husk delete c
}

@test "a container is paused before its start; one whose proxy is killed has stopped" {
	bundle c . true
	husk create -b "$B" c </dev/null
	husk pause c
	is paused "$(state_of c)"
	is "cannot start a container in the paused state" "$(words husk start c)"
	husk resume c
	is created "$(state_of c)"
	husk pause c
	kill -9 "$(pid_of c)"
	wait_until is_stopped c
	is "container not paused" "$(words husk resume c)"
	husk delete c
	is 'container "c" does not exist' "$(words husk pause c)"
	is 'container "c" does not exist' "$(words husk resume c)"
}

@test "a sync does not let a paused container go on; delete --force takes it with its changes" {
	start_box c '.annotations["io.husk.sync-interval"] = "1"' sh -c "$BUSY"
	inside c sh -c 'echo data >/file'
	husk pause c
	is data "$(cat "$B/rootfs/file")" # who pauses it may look at its files
	before=$(used c)
	for _ in 1 2 3; do husk sync c; done
	[[ $(used c) == "$before" ]]
	husk resume c
	wait_until uses_more "$before"
	inside c sh -c 'echo more >/file'
	husk pause c
	husk delete --force c
	is more "$(cat "$B/rootfs/file")"
}

@test "update: flags, JSON and standard input; what is refused changes nothing" {
	start_box c '.linux.resources.memory.limit = 104857600 | .linux.resources.cpu = {period: 50000, quota: 25000}
		| .linux.resources.pids.limit = 100'
	is "104857600 25000 50000 100" "$(inside c cat /sys/fs/cgroup/{memory.max,cpu.max,pids.max} | xargs)"
	husk update c --memory 64m --cpu-quota 20000 --cpu-share 512 --pids-limit 50 --memory-reservation 16m
	is "67108864 20000 50000 50 59 16777216" "$(inside c cat /sys/fs/cgroup/{memory.max,cpu.max,pids.max,cpu.weight,memory.low} | xargs)"
	husk update --memory-swap 80m c
	is $((16 << 20)) "$(limit memory.swap.max)"

	# What engines send: everything, with zeros for what stays.
	echo '{"memory":{"limit":73400320,"swap":-1,"reservation":0},"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":"",
		"realtimeRuntime":0},"pids":{"limit":0},"blockIO":{"weight":0},"devices":[{"allow":false,"access":"rwm"}]}' |
		husk update --resources - c
	is "73400320 max 20000 50000 50" "$(inside c cat /sys/fs/cgroup/{memory.max,memory.swap.max,cpu.max,pids.max} | xargs)"
	echo '{"cpu":{"burst":5000},"unified":{"memory.high":"60000000"}}' >"$T/r"
	husk update -r "$T/r" c
	is "5000 59998208" "$(inside c cat /sys/fs/cgroup/{cpu.max.burst,memory.high} | xargs)"
	husk update --pids-limit -1 c
	is max "$(limit pids.max)"
	husk update --pids-limit 60 c
	is '{"limit":73400320,"reservation":16777216,"swap":-1} 20000 60' \
		"$(jq -r .config "$ROOT/c/state.json" | jq -cS '.linux.resources | .memory, .cpu.quota, .pids.limit' | xargs -d '\n')"

	before=$(inside c cat /sys/fs/cgroup/{memory.max,cpu.max,pids.max,cpu.weight,memory.high})
	[[ $(words husk update --memory 900g c) == "linux.resources.memory.limit: 966367641600 bytes are more than the container's machine has ("*" MiB), and"*"io.husk.memory" ]]
	if (($(nproc) > 1)); then
		[[ $(words husk update --cpu-quota 200000 --cpu-period 100000 c) == "linux.resources.cpu.quota: 200000 of 100000 us take 2 processors, and the container's machine was made with 1:"*"io.husk.vcpus" ]]
	fi
	is "linux.resources.memory.swap: memory+swap limit should be >= memory limit" "$(words husk update --memory 60m --memory-swap 10m c)"
	has "linux.resources.cpu.realtimeRuntime: " "$(words husk update --cpu-rt-runtime 1000 --pids-limit 9 c)"
	has "linux.resources.cpu.realtimePeriod: " "$(words husk update --cpu-rt-period 1000 c)"
	is "--l3-cache-schema: Intel RDT of a running container cannot be changed" "$(words husk update --l3-cache-schema x --pids-limit 9 c)"
	is "--mem-bw-schema: Intel RDT of a running container cannot be changed" "$(words husk update --mem-bw-schema x c)"
	has '--memory: "much": must be a size' "$(words husk update --memory much c)"
	echo '{"pids":{"limit":7},"unified":{"memory.high":"nonsense"}}' >"$T/r"
	has 'linux.resources.unified["memory.high"]' "$(words husk update -r "$T/r" c)"
	echo '{"pids":{"limit":7},"devices":[{"allow":true}]}' >"$T/r"
	is "linux.resources.devices: device rules cannot be changed" "$(words husk update -r "$T/r" c)"
	# the host's part, of processors that it does not have
	has "linux.resources.cpu.cpus: " "$(words husk update --cpuset-cpus 4000 --pids-limit 9 c)"
	echo '{"pids":' >"$T/r"
	words husk update -r "$T/r" c
	has "--resources: open $T/none: No such file" "$(words husk update -r "$T/none" c)"
	is "$before" "$(inside c cat /sys/fs/cgroup/{memory.max,cpu.max,pids.max,cpu.weight,memory.high})"
	is 60 "$(jq -r .config "$ROOT/c/state.json" | jq '.linux.resources.pids.limit')"

	husk kill c KILL
	wait_until is_stopped c
	is "container not running" "$(words husk update --pids-limit 10 c)"
}

@test "events: figures of the guest's cgroup with runc's keys, an OOM kill, the end" {
	make_netns ct lan
	veth ct eth0 lan v0
	addresses ct eth0 10.77.0.2/24
	addresses lan v0 10.77.0.1/24
	start_box c "$(with_netns ct) | .linux.resources = {memory: {limit: 41943040}, pids: {limit: 40}}"
	inside c sh -c 'ping -c 2 -W 20 10.77.0.1 && dd if=/dev/zero of=/big bs=1M count=2 conv=fsync' >/dev/null 2>&1
	husk events --stats c >"$T/stats"
	is 1 "$(wc -l <"$T/stats")"
	is '["c","stats"]' "$(jq -c '[.id, .type]' "$T/stats")"
	jq -e '.data | .cpu.usage.total > 0 and .cpu.usage.total >= .cpu.usage.kernel
		and .memory.usage.limit == 41943040 and .memory.usage.usage > 0 and .memory.raw.file >= 2097152
		and .memory.cache == .memory.raw.file and .pids.current >= 1 and .pids.limit == 40
		and .cpuset.cpus == [0] and (.cpu.psi.some.total | type) == "number" and .memory.psi.full.avg10 != null
		and ([.blkio.ioServiceBytesRecursive[] | select(.op == "Write") | .value // 0] | add) >= 2097152
		and (.network_interfaces | map(select(.Name == "eth0")) | .[0].RxPackets >= 2 and .[0].TxBytes > 100)' "$T/stats"
	if make_runc; then
		# The rest of memory's statistics and what is told of each processor depend on the kind of cgroup; a cache of 0 is left out.
		runc events --stats r | jq -S '.data.cpu.usage |= {kernel, user, total} | .data.memory.raw = 0 | .data.blkio = 0 | del(.data.memory.cache)
			| [paths | select(.[-1] | type == "string") | map(tostring) | join(".")]
			| map(select(test("usage$|max$|total$|pids|cpuset.(cpus|mems)|hugetlb.|psi") | not)) | unique' >"$T/theirs"
		jq -S '.data.network_interfaces = null | .data.memory.raw = 0 | .data.blkio = 0 | del(.data.memory.cache)
			| [paths | select(.[-1] | type == "string") | map(tostring) | join(".")]
			| map(select(test("usage$|max$|total$|pids|cpuset.(cpus|mems)|hugetlb.|psi") | not)) | unique' "$T/stats" >"$T/ours"
		diff "$T/theirs" "$T/ours"
	fi

	husk events --interval 50ms c >"$T/events" 2>"$T/events.err" </dev/null 3>&- &
	events=$!
	wait_until has_lines stats 2
	is 0 "$(lines_of oom)"
	# a command that asks for more than the limit, without swap
	husk exec c sh -c 'exec tail -c 100m /dev/zero' </dev/null >/dev/null 2>&1 && status=0 || status=$?
	is 137 "$status"
	wait_until has_lines oom 1
	is '{"type":"oom","id":"c"}' "$(grep -m1 oom "$T/events")"
	husk pause c
	n=$(lines_of stats)
	wait_until has_lines stats $((n + 2))
	husk resume c
	husk kill c KILL
	ended "$events" 0
	is "" "$(cat "$T/events.err")"
	wait_until is_stopped c
	is "container with id c is not running" "$(words husk events --stats c)"
	is "duration interval must be greater than 0" "$(words husk events --interval 0s c)"
	has '--interval: "5": must be a duration' "$(words husk events --interval 5 c)"
}

@test "ps, list and exec: host pids, the guest's processes, and every flag" {
	start_box c '(.mounts[] | select(.type == "cgroup")).options |= map(select(. != "ro"))
		| .process.capabilities = {bounding: ["CAP_KILL"], effective: ["CAP_KILL"], permitted: ["CAP_KILL"]}'
	pid=$(pid_of c)
	husk exec --detach --pid-file "$T/pid" c sleep 1234 </dev/null >/dev/null 2>&1
	"$HUSK" --root "$ROOT" exec c sh -c 'echo up; sleep 4321' </dev/null >"$T/fg" 3>&- &
	fg=$!
	wait_until grep -q up "$T/fg"
	is "$(printf '%s\n' "$pid" "$(cat "$T/pid")" "$fg" | sort -n | jq -sc .)" "$(husk ps --format json c | jq -c sort)"
	kill "$fg"
	wait "$fg" || :
	is "$(printf '%s\n' "$pid" "$(cat "$T/pid")" | sort -n | jq -sc .)" "$(husk ps -f json c | jq -c sort)"
	husk ps c >"$T/ps"
	is "UID PID PPID STIME TTY TIME CMD" "$(head -1 "$T/ps" | xargs)"
	grep -q ' sleep 1234$' "$T/ps"
	is "$(husk ps --format table c)" "$(husk ps --format table c -ef)"
	is "PID CMD" "$(husk ps c -o pid,cmd | head -1 | xargs)"
	is "$(husk ps c -o pid,cmd)" "$(husk ps c -eo pid -o args)"
	has 'ps option "aux"' "$(words husk ps c aux)"
	is "$(ps -o args= -p "$(cat "$T/pid")")" "sleep 1234"

	# list: as wide as runc's
	run husk list
	is "ID          PID         STATUS      " "${lines[0]:0:36}"
	is "c           $(printf '%-12s' "$pid")running     " "${lines[1]:0:36}"
	[[ ${lines[1]} =~ \ root$ ]]
	is '["c","running","root"]' "$(husk list --format=json | jq -c '.[] | [.id, .status, .owner]')"
	is c "$(husk list -q)"

	# exec
	is "4 5 6 7 /tmp y" "$(inside -u 4:5 -g 6 -g 7 --cwd /tmp -e X=y c sh -c 'echo $(id -u) $(id -G) $(pwd) $X')"
	inside c mkdir /sys/fs/cgroup/sub
	is "0::/sub" "$(inside --cgroup /sub c cat /proc/self/cgroup)"
	is "0::/" "$(inside --cgroup / c cat /proc/self/cgroup)"
	has "cgroup none of the container: No such file" "$(words husk exec --cgroup none c true)"
	has "--cgroup: \"memory:/sub\"" "$(words husk exec --cgroup memory:/sub c true)"
	has "cgroup: must be a path" "$(words husk exec --cgroup sub/../.. c true)"
	has "selinuxLabel" "$(words husk exec --process-label a:b:c:d c true)"
	has "apparmorProfile" "$(words husk exec --apparmor no-such-profile c true)"
	run --separate-stderr husk exec nosuch true
	one_error 'container "nosuch" does not exist' 255
}

@test "checkpoint and restore: every flag is known, the answer is one line" {
	is 'container "c" does not exist' "$(words husk checkpoint c)"
	start_box c
	run --separate-stderr husk checkpoint --image-path "$T/i" --work-path "$T/w" --parent-path "$T/p" --tcp-established \
		--ext-unix-sk --shell-job --file-locks --empty-ns network --leave-running --manage-cgroups-mode soft \
		--lazy-pages --status-fd 3 --page-server a:1 --pre-dump --auto-dedup c
	one_error "checkpoint: not supported yet: husk cannot save and load the state of a container's machine"
	is running "$(state_of c)"
	run --separate-stderr husk restore --image-path "$T/i" --work-path "$T/w" --tcp-established --ext-unix-sk --shell-job \
		--file-locks --empty-ns network --manage-cgroups-mode soft --detach --pid-file "$T/pid" --console-socket "$T/s" \
		--no-pivot -no-subreaper --auto-dedup --lazy-pages --lsm-profile a --lsm-mount-context b --bundle "$B" d
	one_error "restore: not supported yet: husk cannot save and load the state of a container's machine"
	[[ ! -e $ROOT/d && ! -e $T/pid ]]
}

# pidfd_of SOCKET FILE: writes to FILE the pid whose pidfd comes to SOCKET, and how it was called. The socket has its
# name when somebody listens.
pidfd_of() {
	python3 - "$1" <<-'P' >"$2" 3>&- &
		import array, os, socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.bind(sys.argv[1] + ".new")
		s.listen(1)
		os.rename(sys.argv[1] + ".new", sys.argv[1])
		c, _ = s.accept()
		name, ancillary, _, _ = c.recvmsg(64, socket.CMSG_SPACE(4))
		fd = array.array("i", ancillary[0][2])[0]
		pid = [l.split()[1] for l in open(f"/proc/self/fdinfo/{fd}") if l.startswith("Pid:")][0]
		print(name.decode(), pid)
	P
	receiver=$!
	wait_until test -S "$1"
}

@test "descriptors: a pidfd for who asks, none but stdio for the container" {
	bundle c . sh -c 'trap "exit 7" TERM; echo up; sleep 100000 & wait'
	pidfd_of "$T/s1" "$T/p1"
	husk create --pidfd-socket "$T/s1" --pid-file "$T/pid" -b "$B" c </dev/null >"$T/out" 2>&1
	ended "$receiver" 0
	is "pidfd $(cat "$T/pid")" "$(cat "$T/p1")"
	husk start c
	pidfd_of "$T/s2" "$T/p2"
	husk exec --detach --pidfd-socket "$T/s2" --pid-file "$T/pid" c sleep 1000 </dev/null >/dev/null 2>&1
	ended "$receiver" 0
	is "pidfd $(cat "$T/pid")" "$(cat "$T/p2")"
	run --separate-stderr husk exec --pidfd-socket "$T/none" c true
	one_error "--pidfd-socket $T/none: No such file or directory" 255
	run --separate-stderr husk exec --preserve-fds 0 c true
	status_is 0
	run --separate-stderr husk exec --preserve-fds 2 c true
	one_error "--preserve-fds: 2: a microVM cannot be given open descriptors of the host besides standard input, output and error" 255

	# --keep, in the foreground: the status is the process's, the container stays
	bundle d . sh -c 'exit 5'
	pidfd_of "$T/s3" "$T/p3"
	run --separate-stderr husk run --keep --pidfd-socket "$T/s3" -b "$B" d
	status_is 5
	ended "$receiver" 0
	has "pidfd " "$(cat "$T/p3")"
	is stopped "$(state_of d)"
	for verb in create run; do
		run --separate-stderr husk $verb --preserve-fds 1 -b "$B" e
		one_error "--preserve-fds: 1: a microVM cannot be given open descriptors of the host besides standard input, output and error"
		run --separate-stderr husk $verb --preserve-fds x -b "$B" e
		one_error '--preserve-fds: "x": must be a number'
		run --separate-stderr husk $verb --pidfd-socket "$T/none" -b "$B" e
		one_error "--pidfd-socket $T/none: No such file or directory"
		run --separate-stderr sh -c "LISTEN_FDS=1 LISTEN_PID=\$\$ exec $HUSK --root $ROOT $verb -b $B e"
		one_error "LISTEN_FDS=1: a microVM cannot be given listening sockets of the host: start husk without socket activation"
	done
	[[ ! -e $ROOT/e ]]
	# of somebody else's activation
	run --separate-stderr env LISTEN_FDS=1 LISTEN_PID=1 "$HUSK" --root "$ROOT" run -b "$B" e
	status_is 5
}

@test "a process that is killed in a startContainer hook makes start fail" {
	bundle c '.hooks.startContainer = [{path: "/bin/sh", args: ["sh", "-c", "echo >/dev/shm/begun; exec sleep 1000"]}]' true
	husk create -b "$B" c </dev/null >"$T/out" 2>&1
	husk start c >"$T/start" 2>&1 </dev/null 3>&- &
	start=$!
	wait_until inside c test -e /dev/shm/begun
	husk kill c KILL
	ended "$start" 1
	has "error: " "$(cat "$T/start")"
	wait_until is_stopped c
}

@test "errors: the last one of the log is the one; both formats; exit codes" {
	for format in text json; do
		rm -f "$T/log"
		run --separate-stderr husk --log "$T/log" --log-format $format --debug state nosuch
		one_error 'container "nosuch" does not exist'
		case $format in
		json) is '["error","container \"nosuch\" does not exist",true]' \
			"$(tail -n 1 "$T/log" | jq -c '[.level, .msg, (.time | test("^20[0-9-]+T[0-9:]+Z$"))]')" ;;
		text) is 'husk: error: container "nosuch" does not exist' "$(tail -n 1 "$T/log")" ;;
		esac
	done
	bundle c . /no/such/command
	run --separate-stderr husk --log "$T/log2" --log-format=json create -b "$B" c
	status_is 1
	is 'exec: "/no/such/command": stat /no/such/command: no such file or directory' \
		"$(jq -rs 'map(select(.level == "error")) | last | .msg' "$T/log2")"
	[[ ! -e $ROOT/c ]]
}

@test "global flags as callers give them; what --version and spec say" {
	run --separate-stderr husk --debug --log "$T/log" --log-format json --systemd-cgroup --rootless=true --criu /x list -q
	status_is 0 && is "" "$output$stderr"
	run --separate-stderr husk --rootless false --rootless auto list --format=json
	status_is 0
	run --separate-stderr husk --rootless=maybe list
	one_error '--rootless: "maybe": must be true, false or auto'
	# dockerd: the runtime's name is what stands before "version", its version what stands behind
	run --separate-stderr husk --version
	status_is 0
	[[ ${lines[0]} =~ ^husk\ version\ [0-9.]+$ && ${lines[1]} =~ ^commit:\ . && ${lines[2]} =~ ^spec:\ 1\. ]]
	mkdir "$T/s"
	husk spec -b "$T/s"
	is /bin/sh "$(jq -r '.process.args[0]' "$T/s/config.json" | sed 's,^sh$,/bin/sh,')"
	run --separate-stderr husk spec --rootless -b "$T"
	status_is 1
	has "--rootless: " "$stderr"
	[[ ! -e $T/config.json ]]
}
