#!/usr/bin/env bats
# Docker: many containers at one time, restart policies, and engines that die and come back with live-restore on.
# shellcheck disable=SC2016

load ../e2e/helpers
load docker

setup_file() {
	make_base
	make_docker --live-restore
}

teardown_file() { end_docker; }
setup() { setup_docker; }
teardown() { clean_docker; }

# vm_of NAME: the pid of its husk-vmm.
vm_of() { jq -r .vmm_pid "$(husk_root)/$(about "$1" .Id)/state.json"; }

# at_once N COMMAND...: the command N times at one time with a number as its last argument. Fails if one does.
at_once() {
	local n=$1 i pids=() bad=0
	shift
	for ((i = 1; i <= n; i++)); do
		"$@" $i 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || bad=1
	done
	return $bad
}

start_nth() { forever "m$1" -e "NTH=$1" -v "shared:/shared" >"$T/start.$1" 2>&1; }

exec_nth() { in_ct "m$1" sh -c 'echo $NTH; echo $NTH >/shared/$NTH' >"$T/exec.$1"; }

@test "20 containers at once: started, exec'ed in, stopped, removed" {
	local i
	at_once 20 start_nth || { cat "$T"/start.* && return 1; }
	is 20 "$(docker ps -q | wc -l)"
	WAIT_S=$((WAIT_S * 2)) at_once 20 exec_nth
	for ((i = 1; i <= 20; i++)); do
		is $i "$(cat "$T/exec.$i")"
	done
	is 20 "$(in_ct m7 ls /shared | wc -l)"
	docker ps -q | xargs docker stop -t 120 >/dev/null
	is "20 0" "$(docker ps -aq --filter exited=0 | wc -l) $(docker ps -q | wc -l)"
	docker ps -aq | xargs docker rm >/dev/null
}

restarts_are() { about_is "$1" .RestartCount "$2" && about_is "$1" .State.Status "$3"; }

@test "--restart: on-failure gives up, always comes back when its microVM was killed, a clean exit ends on-failure" {
	drun -d --name fails --restart on-failure:2 box sh -c 'exit 5' >/dev/null
	forever keeps --restart always
	drun -d --name ends --restart on-failure:2 box true >/dev/null
	in_ct keeps sh -c 'echo safe >/root/f; sync'
	kill -9 "$(vm_of keeps)"
	WAIT_S=$((WAIT_S * 2)) wait_until restarts_are keeps 1 running
	is safe "$(in_ct keeps cat /root/f)"
	WAIT_S=$((WAIT_S * 2)) wait_until restarts_are fails 2 exited
	wait_until about_is ends .State.Status exited
	is "5 0 0" "$(about fails .State.ExitCode) $(about ends .State.ExitCode) $(about ends .RestartCount)"
}

@test "dockerd and containerd restarted, and killed: containers go on, and can be managed afterwards" {
	local pid theirs
	drun -d --name ct box sh -c 'trap "echo bye; exit 3" TERM; i=0; while :; do echo $((i += 1)); sleep 0.2; done' >/dev/null
	forever other
	pid=$(about ct .State.Pid)
	stop_docker TERM
	[[ -e /proc/$pid ]]
	start_docker --live-restore
	still_there ct "$pid" "after a restart"
	# It takes containerd along.
	stop_docker KILL
	[[ -e /proc/$pid ]]
	start_docker --live-restore
	still_there ct "$pid" "after a kill"
	docker stop -t 60 ct >/dev/null
	is "3 bye" "$(about ct .State.ExitCode) $(docker logs --tail 1 ct)"
	docker start ct >/dev/null
	pid=$(about ct .State.Pid)
	theirs=$(containerd_pid)
	kill -9 "$theirs"
	WAIT_S=$((WAIT_S * 2)) wait_until new_containerd "$theirs"
	WAIT_S=$((WAIT_S * 2)) wait_until still_there ct "$pid" "after containerd's kill" >"$T/log"
	docker stop -t 60 ct >/dev/null # its status is not known to dockerd, with runc neither
	is exited "$(about ct .State.Status)"
	docker start ct >/dev/null
	in_ct ct true
	docker rm -f ct >/dev/null
	is "other" "$(docker ps --format '{{.Names}}')"
}

# new_containerd PID: not the one that had this pid.
new_containerd() {
	local pid
	pid=$(containerd_pid 2>/dev/null)
	[[ ${pid:-$1} != "$1" ]] && alive "$pid" && docker info >/dev/null 2>&1
}

# Also a condition: every line counts.
still_there() {
	local last
	is "running $2" "$(about "$1" .State.Status) $(about "$1" .State.Pid)" &&
		is "$3" "$(in_ct "$1" echo "$3")" &&
		last=$(docker logs --tail 1 "$1") &&
		wait_until logs_went_on "$1" "$last"
}

logs_went_on() { [[ $(docker logs --tail 1 "$1") != "$2" ]]; }

@test "a container that ended while no dockerd ran is known to have, with its status" {
	drun -d --name ct box sh -c 'trap "exit 6" USR1; echo up; while :; do sleep 0.1; done' >/dev/null
	wait_until logs_have ct up
	local id pid
	id=$(about ct .Id) pid=$(about ct .State.Pid)
	stop_docker KILL
	"${HUSK_TEST_RUNTIME:-$HUSK}" --root "$(husk_root)" kill "$id" USR1
	wait_until gone "$pid"
	start_docker --live-restore
	wait_until about_is ct .State.Status exited
	is 6 "$(about ct .State.ExitCode)"
}
