#!/usr/bin/env bats
# What is done with containers that run: exec, logs, attach, signals, ends, top, inspect, pause, update, stats, events.
# shellcheck disable=SC2016

load ../e2e/helpers
load docker

setup_file() {
	make_base
	make_docker
}

teardown_file() { end_docker; }
setup() { setup_docker; }
teardown() { clean_docker; }

# Counts in its log, four times a second; says bye on TERM.
counter() {
	local name=$1
	shift
	drun -d --name "$name" "$@" box sh -c 'trap "echo bye; exit 3" TERM; trap "echo usr1" USR1; echo up
		i=0; while :; do sleep 0.25; echo $((i += 1)); done' >/dev/null
	wait_until logs_have "$name" up
}

# What both runtimes say when an exec fails: runc names its own steps before it.
same_exec_as_runc() {
	local theirs
	run in_ct "${@/NAME/theirs}"
	theirs="$status ${output/exec failed: unable to start container process: /}"
	run in_ct "${@/NAME/ct}"
	is "$theirs" "$status $output"
}

@test "exec: -e -w -u -i -d -t --privileged, exit status, and runc's words for what cannot run" {
	forever ct
	is "here /etc 1000:1000" "$(in_ct -e SET=here -w /etc -u user ct sh -c 'echo $SET $PWD $(id -u):$(id -g)')"
	run in_ct ct sh -c 'exit 77'
	status_is 77
	run in_ct ct sh -c 'kill -9 $$'
	status_is 137
	is "typed" "$(echo typed | docker exec -i ct cat)"
	in_ct -d ct sh -c 'echo from-behind >/root/f'
	wait_until reads ct /root/f from-behind
	has 0000003fffffffff "$(in_ct --privileged ct grep CapEff /proc/self/status)"
	on_pty --size 77x33 docker exec -it ct sh <<-'S'
		expect # 
		send until stty size | grep -x "33 7""7"; do sleep 0.1; done; tty\n
		expect 33 77
		expect /dev/pts/
		expect # 
		send exit 5\n
		exit 5
	S
	docker run -d --name theirs --runtime runc --network none box sleep 1000 >/dev/null
	same_exec_as_runc NAME no-such-command
	same_exec_as_runc NAME /no/such/path
	same_exec_as_runc NAME /etc
	same_exec_as_runc -w /no/such/dir NAME true
	same_exec_as_runc -u nouser NAME true
	docker rm -f theirs >/dev/null
	docker stop -t 60 ct >/dev/null
	run in_ct ct true
	has "is not running" "$output"
}

reads() { [[ $(in_ct "$1" cat "$2" 2>/dev/null) == "$3" ]]; }

@test "logs -f follows to the end; attach sees the rest; kill -s; stop; wait; events tell of all" {
	local from id
	from=$(date +%s)
	counter ct
	id=$(about ct .Id)
	docker logs -f ct >"$T/logs" 3>&- &
	local logs=$!
	timeout 150 docker attach --sig-proxy=false ct >"$T/attached" </dev/null 3>&- &
	local attached=$!
	wait_until test -s "$T/attached" # nothing of what was before it
	docker kill -s USR1 ct >/dev/null
	wait_until grep -q usr1 "$T/logs"
	wait_until grep -q usr1 "$T/attached"
	docker wait ct >"$T/waited" 3>&- &
	local waiting=$!
	docker stop -t 60 ct >/dev/null
	ended $logs 0
	ended $attached 3
	ended $waiting 0
	is 3 "$(cat "$T/waited")"
	is "up bye" "$(sed -n '1p; $p' "$T/logs" | xargs)"
	is bye "$(tail -n 1 "$T/attached")"
	is "exited 3" "$(about ct .State.Status) $(about ct .State.ExitCode)"
	docker start ct >/dev/null
	in_ct ct true
	wait_until told "$from" "$id" exec_die # after the client
	docker rename ct other
	docker rm -f other >/dev/null
	is "create start kill kill die stop start exec_create exec_start exec_die rename kill die destroy" \
		"$(actions "$from" "$id" | grep -v attach | xargs)"
}

actions() { events_since "$1" --filter "container=$2" --format '{{.Action}}' | sed 's/:.*//'; }
told() { actions "$1" "$2" | grep -qx "$3"; }

@test "stop: --stop-signal, --time; a process that minds no signal is killed; restart" {
	drun -d --name deaf --stop-signal USR2 box sh -c 'trap "" TERM; trap "echo usr2" USR2; echo up; while :; do sleep 0.1; done' >/dev/null
	wait_until logs_have deaf up
	docker stop -t 100 deaf >/dev/null 3>&- &
	local stopping=$!
	wait_until logs_have deaf usr2
	docker stop -t 1 deaf >/dev/null
	ended $stopping 0
	is "usr2 137" "$(docker logs deaf | tail -n 1) $(about deaf .State.ExitCode)"
	counter ct
	in_ct ct sh -c 'echo kept >/root/f'
	local first
	first=$(about ct .State.Pid)
	docker restart -t 60 ct >/dev/null
	[[ $(about ct .State.Pid) != "$first" ]]
	is "kept" "$(in_ct ct cat /root/f)"
	wait_until logs_have ct bye
	docker kill ct >/dev/null
	is 137 "$(docker wait ct)"
}

@test "top, inspect, port and a pid on the host that stands for the container" {
	local pid
	forever ct
	in_ct -d ct sleep 4321
	pid=$(about ct .State.Pid)
	has "trap" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
	wait_until top_shows ct "sleep 4321"
	docker top ct -o pid,args >"$T/top"
	grep -q "^$pid  *sh -c trap" "$T/top"
	is "running false false false 0" "$(about ct .State.Status) $(about ct .State.Paused) $(about ct .State.OOMKilled) $(about ct .State.Dead) $(about ct .State.ExitCode)"
	in_ct -d ct sh -c 'exit 0' # nothing to see of it later
	kill -9 "$pid"
	is 137 "$(docker wait ct)"
}

top_shows() { docker top "$1" | grep -q "$2"; }

# Nothing more comes. What was under way may, just after a pause.
stands_still() {
	local last
	last=$(docker logs --tail 1 "$1")
	timeout 1 docker logs -f --tail 0 "$1" || :
	is "$last" "$(docker logs --tail 1 "$1")"
}

went_on() { [[ $(docker logs --tail 1 "$1") != "$2" ]]; }

@test "pause, unpause; exec and stop of a paused container; commit of one that runs has what it wrote" {
	local last
	counter ct
	in_ct ct sh -c 'echo written >/root/f; rm /etc/group'
	docker pause ct >/dev/null
	is "paused true" "$(about ct .State.Status) $(about ct .State.Paused)"
	has "(Paused)" "$(docker ps --format '{{.Status}}')"
	wait_until stands_still ct
	run in_ct ct true
	has "is paused, unpause the container before exec" "$output"
	run docker pause ct
	has "is already paused" "$output"
	last=$(docker logs --tail 1 ct)
	docker unpause ct >/dev/null
	wait_until went_on ct "$last"
	in_ct ct sh -c 'echo more >>/root/f'
	docker commit ct box2 >/dev/null
	last=$(docker logs --tail 1 ct)
	wait_until went_on ct "$last"
	run drun --rm box2 sh -c 'cat /root/f; ls /etc/group 2>&1'
	is "written
more
ls: /etc/group: No such file or directory" "$output"
	docker rmi box2 >/dev/null
	docker pause ct >/dev/null
	docker stop -t 60 ct >/dev/null
	is exited "$(about ct .State.Status)"
}

@test "update: memory, CPUs, processes, of a container that runs; its --restart" {
	local own='cd /sys/fs/cgroup; cd ./$(cut -d: -f3 /proc/self/cgroup);'
	forever ct --memory 200m --memory-swap 400m
	docker update --memory 100m --memory-swap 100m --cpus 0.5 --cpu-shares 512 --pids-limit 50 --restart on-failure:3 ct >/dev/null
	is "104857600 50000 100000 50" "$(in_ct ct sh -c "$own cat memory.max cpu.max pids.max" | xargs)"
	is "104857600 on-failure" "$(about ct .HostConfig.Memory) $(about ct .HostConfig.RestartPolicy.Name)"
	docker update --memory 150m --memory-swap -1 ct >/dev/null
	is 157286400 "$(in_ct ct sh -c "$own cat memory.max")"
}

@test "stats: CPU, memory and its limit, processes, block I/O are of the whole microVM; the limit is the container's" {
	drun -d --name ct --memory 128m box sh -c 'while :; do :; done' >/dev/null
	curl_stats ct >"$T/stats"
	jq -e '.cpu_stats.cpu_usage.total_usage > .precpu_stats.cpu_usage.total_usage' "$T/stats"
	jq -e '.memory_stats.usage > 20000000 and .memory_stats.limit >= 134217728 and .memory_stats.limit < 600000000' "$T/stats"
	jq -e '.pids_stats.current > 0' "$T/stats"
	wait_until stats_show_work ct
}

# The client waits for figures for two seconds, then shows none.
stats_show_work() {
	docker stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}' "$1" | tee "$T/table"
	grep -qE "^$1 [1-9][0-9.]*% [0-9.]+MiB / " "$T/table"
}

curl_stats() { python3 "$BATS_TEST_DIRNAME/docker_get.py" "${DOCKER_HOST#unix://}" "/containers/$1/stats?stream=false"; }

@test "a memory OOM in the guest: OOMKilled, status 137, and an event" {
	local from
	from=$(date +%s)
	drun -d --name ct --memory 30m --memory-swap 30m box tail /dev/zero >/dev/null
	is 137 "$(docker wait ct)"
	oom_killed ct 137
	drun -d --name child --memory 30m --memory-swap 30m box sh -c 'tail /dev/zero; echo $? >/root/f; exec sleep 1000' >/dev/null
	wait_until reads child /root/f 137
	docker kill child >/dev/null
	wait_until out_of_memory "$from" "child ct"
}

# out_of_memory SINCE NAMES: of these there were events.
out_of_memory() { is "$2" "$(events_since "$1" --filter event=oom --format '{{.Actor.Attributes.name}}' | sort -u | xargs)" >/dev/null; }
