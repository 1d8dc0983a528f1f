#!/usr/bin/env bats
# containerd by ctr, with io.containerd.runc.v2 and husk as its runtime: ctr run flag by flag, tasks, a containerd that is
# killed and comes back, many at once. What a container is in the first place: tests/e2e/containerd.bats.
# shellcheck disable=SC2016

load ../e2e/helpers
load ../e2e/containerd

setup_file() {
	make_base
	command -v containerd umoci skopeo >/dev/null || return 0
	export CTD=$BASE/ctd IMAGE=example.org/box:latest
	mkdir -p "$CTD"
	start_containerd
	wait_until ctr_up
	make_image "$CTD/image.tar"
	ctr image import "$CTD/image.tar" >/dev/null
	BEFORE=$(ours | cut -d' ' -f1)
}

teardown_file() {
	[[ ${CTD:-} ]] || return 0
	kill "$(cat "$CTD/pid")"
	wait_until gone "$(cat "$CTD/pid")"
	all_ended
	unmount_below "$CTD"
}

setup() {
	setup_test
	[[ ${CTD:-} ]] || skip "containerd, umoci or skopeo is missing"
	D=$T/data
	mkdir -p "$D"
}

teardown() {
	local id
	for id in $(ctr container ls -q); do
		ctr task rm -f "$id" >/dev/null 2>&1 || :
		ctr container rm "$id"
	done
	BEFORE+=$'\n'$(cat "$CTD/pid")
	wait_until no_states
	rm -rf "$ROOT" "$HUSK_DATA/trees"
	check_nothing_left
}

no_states() { [[ -z $(find "$ROOT" -name state.json 2>/dev/null) ]]; }

# What every container is made with; --runc-root is husk's --root. HUSK_TEST_RUNTIME=runc: to see what that does.
ctr_run() { timeout 120 "${CTR[@]}" run --runtime io.containerd.runc.v2 --runc-binary "${HUSK_TEST_RUNTIME:-$HUSK}" --runc-root "$ROOT" "$@" </dev/null; }
CTR=(ctr -a "$BATS_FILE_TMPDIR/ctd/sock")

exec_in() {
	local id=$1
	shift
	ctr task exec --exec-id "e$((++N))-$BASHPID" "$id" "$@" </dev/null
}

status_of() { ctr task ls | awk -v id="$1" '$1 == id { print $3 }'; }
has_status() { [[ $(status_of "$1") == "$2" ]]; }

@test "ctr run: environment, user, directory, capabilities, limits, mounts, seccomp, read-only, --privileged" {
	jq -n '{defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO"}]}' >"$D/seccomp"
	echo on-host >"$D/f"
	local own='cd /sys/fs/cgroup; cd ./$(cut -d: -f3 /proc/self/cgroup);'
	run ctr_run --rm --env SET=here --cwd /etc --cap-add CAP_NET_ADMIN --cap-drop CAP_CHOWN --memory-limit 104857600 --cpus 1.5 \
		--seccomp --seccomp-profile "$D/seccomp" --read-only --device /dev/fuse --label l=v \
		--mount "type=bind,src=$D,dst=/mnt,options=rbind:ro" --mount type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro "$IMAGE" c1 sh -c '
		echo "$SET $PWD"; grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status; '"$own"' cat memory.max cpu.max
		cat /mnt/f; touch /mnt/x 2>&1; touch /x 2>&1; mkdir /tmp/d 2>&1; test -c /dev/fuse && echo fuse; exit 7'
	status_is 7
	local caps
	caps=$((16#$(sed -n 's/^CapEff:\t//p' <<<"$output")))
	((caps & 1 << 12 && !(caps & 1)))
	is "here /etc
NoNewPrivs:	1
Seccomp:	2
104857600
150000 100000
on-host
touch: /mnt/x: Read-only file system
touch: /x: Read-only file system
mkdir: can't create directory '/tmp/d': Operation not permitted
fuse" "$(grep -v CapEff <<<"$output")"
	run ctr_run --rm --privileged "$IMAGE" c2 sh -c 'mkdir /m && mount -t tmpfs t /m && echo mounted; find /dev -type b ! -name "loop*"; id -u'
	is "mounted
0" "$output"
}

@test "tasks: pause, resume, metrics, ps, kill of one exec, terminal of an exec" {
	ctr_run -d "$IMAGE" c1 sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; date +%s%N >/now; done'
	exec_in c1 sh -c 'until [ -s /now ]; do sleep 0.1; done'
	ctr task pause c1
	is PAUSED "$(status_of c1)"
	ctr task resume c1
	is RUNNING "$(status_of c1)"
	local was
	was=$(exec_in c1 cat /now)
	wait_until now_is_not "$was"
	has "memory" "$(ctr task metrics c1)"
	ctr task exec --exec-id long c1 sleep 1000 </dev/null &
	local long=$!
	wait_until two_processes
	ctr task kill --exec-id long -s SIGKILL c1
	ended $long 137
	local line
	line=$(printf '%q ' "${CTR[@]}" task exec --exec-id tty -t c1 sh)
	on_pty --size 77x33 bash -c "exec $line" <<-'S'
		expect # 
		send until stty size | grep -x "33 7""7"; do sleep 0.1; done\n
		expect 33 77
		expect # 
		send exit 4\n
		exit 4
	S
	ctr task kill c1
	wait_until has_status c1 STOPPED
}

now_is_not() { [[ $(exec_in c1 cat /now) != "$1" ]]; }
two_processes() { (($(ctr task ps c1 | tail -n +2 | wc -l) == 2)); }

@test "containerd killed and restarted: tasks go on, and can be managed" {
	local pid
	ctr_run -d "$IMAGE" c1 sh -c 'trap "exit 5" TERM; echo >/up; while :; do sleep 0.1; done'
	ctr_run -d "$IMAGE" c2 sh -c 'trap "exit 6" USR1; echo >/up; while :; do sleep 0.1; done'
	exec_in c1 sh -c 'until [ -e /up ]; do sleep 0.1; done'
	exec_in c2 sh -c 'until [ -e /up ]; do sleep 0.1; done'
	pid=$(ctr task ls | awk '$1 == "c1" { print $2 }')
	kill -9 "$(cat "$CTD/pid")"
	wait_until gone "$(cat "$CTD/pid")"
	"${HUSK_TEST_RUNTIME:-$HUSK}" --root "$ROOT/default" kill c2 USR1
	start_containerd
	wait_until ctr_up
	is "$pid RUNNING" "$(ctr task ls | awk '$1 == "c1" { print $2, $3 }')"
	is there "$(exec_in c1 echo there)"
	wait_until has_status c2 STOPPED
	has "exit code 6" "$(ctr task rm c2 2>&1)"
	ctr task kill c1
	wait_until has_status c1 STOPPED
	has "exit code 5" "$(ctr task rm c1 2>&1)"
	ctr_run -d "$IMAGE" c3 sleep 1000
	is RUNNING "$(status_of c3)"
}

@test "eight at once: run, exec, rm --force" {
	local i pids=()
	for i in 1 2 3 4 5 6 7 8; do
		(ctr_run -d "$IMAGE" "m$i" sleep 1000 && is "$i" "$(exec_in "m$i" echo "$i")" &&
			ctr task rm -f "m$i") >"$T/log.$i" 2>&1 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || { cat "$T"/log.* && return 1; }
	done
}
