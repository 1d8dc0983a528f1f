#!/usr/bin/env bats
# podman with husk as its runtime, by conmon: what docker's tests show of docker, without networks
# (podman_network.bats). HUSK_TEST_RUNTIME=runc runs the same with runc.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load ../e2e/helpers
load podman

setup_file() {
	make_base
	command -v podman conmon >/dev/null || return 0
	make_podman
}

teardown_file() {
	[[ ${PODMAN:-} ]] || return 0
	all_ended
	end_podman
}

setup() {
	setup_test
	[[ ${PODMAN:-} ]] || skip "podman or conmon is missing"
	D=$T/data
	mkdir -p "$D"
}

teardown() { clean_podman; }

prun() { podman run --network none "$@" </dev/null; }
in_ct() { podman exec "$@" </dev/null; }
about() { podman inspect -f "{{$2}}" "$1"; }
about_is() { [[ $(about "$1" "$2") == "$3" ]]; }
logs_have() { podman logs "$1" 2>&1 | grep -q "$2"; }

# Counts in its log; says bye on TERM.
counter() {
	local name=$1
	shift
	prun -d --name "$name" "$@" box sh -c 'trap "echo bye; exit 3" TERM; trap "echo usr1" USR1; echo up
		i=0; while :; do sleep 0.25; echo $((i += 1)); done' >/dev/null
	wait_until logs_have "$name" up
}

@test "run: names, user, directory, capabilities, limits, mounts, streams" {
	mkdir "$D/v"
	echo on-host >"$D/v/f"
	local own='cd /sys/fs/cgroup; cd ./$(cut -d: -f3 /proc/self/cgroup);'
	run --separate-stderr prun --rm -e SET=here -w /tmp -u user --group-add 33 --hostname there --cap-add NET_ADMIN --cap-drop CHOWN \
		--security-opt no-new-privileges --ulimit nofile=100:200 --sysctl net.ipv4.ip_forward=1 --memory 100m --pids-limit 30 --cpus 1.5 \
		-v "$D/v:/v" -v "$D/v:/ro:ro" --tmpfs /t:size=1m --mount type=volume,src=vol,dst=/vol --shm-size 1m box sh -c '
		echo "$SET $PWD $(hostname) $(id -u):$(id -g)"; grep -E "^(CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; ulimit -n; ulimit -Hn
		cat /proc/sys/net/ipv4/ip_forward; '"$own"' cat memory.max pids.max cpu.max; nproc; cat /v/f
		touch /ro/x; df -k /t /dev/shm | awk "NR > 1 { print \$2 }"; exit 7'
	status_is 7
	is "here /tmp there 1000:1000
NoNewPrivs:	1
Seccomp:	2
100
200
1
104857600
30
150000 100000
2
on-host
1024
1024" "$(grep -v ^CapBnd <<<"$output")"
	is "touch: /ro/x: Read-only file system" "$stderr"
	local caps=$((16#$(sed -n 's/^CapBnd:\t//p' <<<"$output")))
	((caps & 1 << 12 && !(caps & 1)))
	is "in" "$(echo in | podman run --rm -i --network none box cat)"
	podman volume rm vol >/dev/null
	run prun --rm --read-only --read-only-tmpfs=false box touch /x
	has "Read-only file system" "$output"
}

@test "run: exit statuses and words of what cannot run; --init; --privileged" {
	run -127 prun --rm box no-such-command
	[[ $output == *no-such-command*"executable file not found"* ]] || { echo "$output" && return 1; }
	run prun --rm box /etc/passwd
	status_is 126
	has "ermission denied" "$output"
	run podman run --rm --network host box true </dev/null
	status_is 126
	has "which a microVM cannot share" "${output/network namespace is needed: a microVM cannot share/which a microVM cannot share}"
	prun --rm --memory 30m --memory-swap 30m box tail /dev/zero || is 137 $?
	run prun --rm --init box cat /proc/1/comm
	is podman-init "$output" # catatonit, by the name that podman mounts it under
	run prun --rm --privileged box sh -c 'mkdir /m && mount -t tmpfs t /m && echo mounted; ls /dev/fuse; find /dev -type b ! -name "loop*"'
	is "mounted
/dev/fuse" "$output"
}

@test "-it: a terminal, attach and detach; exec: -it, user, statuses" {
	podman_line=$(printf '%q ' nsenter -- podman --root "$PODMAN/data" --runroot "$PODMAN/run" --runtime "$PODMAN/runtime")
	podman_line=${podman_line#nsenter -- }
	on_pty --size 90x25 bash -c "exec $podman_line run -it --detach-keys ctrl-q --network none --name ct box sh" <<-'S'
		expect # 
		send until stty size | grep -x "25 9""0"; do sleep 0.1; done; tty; echo $((6*7))\n
		expect 25 90
		expect /dev/pts/0
		expect 42
		expect # 
		send \x11
		exit 0
	S
	is running "$(about ct .State.Status)"
	is "user 1000" "$(in_ct -e WHO=user -u user ct sh -c 'echo $WHO $(id -u)')"
	run in_ct ct sh -c 'exit 77'
	status_is 77
	run -127 in_ct ct no-such-command
	is typed "$(echo typed | podman exec -i ct cat)"
	on_pty --size 77x33 bash -c "exec $podman_line exec -it ct sh" <<-'S'
		expect # 
		send until stty size | grep -x "33 7""7"; do sleep 0.1; done\n
		expect 33 77
		expect # 
		send exit 5\n
		exit 5
	S
	on_pty bash -c "exec $podman_line attach ct" <<-'S'
		send echo again $((5*5))\n
		expect again 25
		send exit 3\n
		exit 0
	S
	wait_until about_is ct .State.Status exited # once conmon has had it cleaned up
	is 3 "$(about ct .State.ExitCode)"
}

went_on() { [[ $(podman logs --tail 1 "$1") != "$2" ]]; }

@test "logs -f, top, stats, kill, pause, update's limits, stop, start, cp, diff, commit, wait, restart, rm" {
	local last
	counter ct --memory 200m
	podman logs -f ct >"$T/logs" 3>&- &
	local logs=$!
	podman kill -s USR1 ct >/dev/null
	wait_until grep -q usr1 "$T/logs"
	has "sh -c trap" "$(podman top ct args)"
	run podman stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' ct
	[[ $output =~ ^ct\ [1-9][0-9.]*MB\ /\ [0-9.]+MB\ [1-9] ]] || { echo "$output" && return 1; }
	in_ct ct sh -c 'echo written >/root/f; rm /etc/group'
	podman pause ct >/dev/null
	is paused "$(about ct .State.Status)"
	last=$(podman logs --tail 1 ct)
	podman unpause ct >/dev/null
	wait_until went_on ct "$last"
	podman commit -q --pause ct box2 >/dev/null
	is "written" "$(prun --rm box2 cat /root/f)"
	podman rmi box2 >/dev/null
	podman stop -t 60 ct >/dev/null
	ended $logs 0
	is bye "$(tail -n 1 "$T/logs")"
	is 3 "$(podman wait ct)"
	is "A /root/f
C /etc
C /root
D /etc/group" "$(podman diff ct | sort)"
	podman cp ct:/root/f "$D/f"
	is written "$(cat "$D/f")"
	podman start ct >/dev/null
	podman restart -t 60 ct >/dev/null
	is "written" "$(in_ct ct cat /root/f)"
	podman rm -f -t 0 ct >/dev/null
	is "" "$(podman ps -aq)"
}

reads() { [[ $(in_ct "$1" cat "$2" 2>/dev/null) == "$3" ]]; }

# It enters the mount namespace of the container's pid.
@test "cp into and out of a container that runs, and top, see the container's files and processes, none of the host's" {
	mkdir "$D/v"
	forever ct -v "$D/v:/home" --tmpfs /tmp
	echo brought >"$D/in"
	podman cp "$D/in" ct:/root/husk-brought
	wait_until reads ct /root/husk-brought brought
	[[ ! -e /root/husk-brought ]]
	podman cp "$D/in" ct:/home/
	is brought "$(cat "$D/v/in")"
	is brought "$(in_ct ct cat /home/in)"
	run podman cp "$D/in" ct:/tmp/in # is the guest's alone
	[[ $status != 0 ]]
	[[ ! -e /tmp/in ]]
	run podman cp "ct:$T/data/in" "$D/out"
	[[ $status != 0 ]]
	in_ct ct sh -c 'echo made >/root/made'
	podman pause ct >/dev/null
	podman cp ct:/root/made "$D/made"
	podman unpause ct >/dev/null
	is made "$(cat "$D/made")"
	is "COMMAND
sh -c trap \"exit 0\" TERM; sleep 100000 & wait " "$(podman top ct args | tr -s ' ')"
	has "root" "$(podman top ct | tail -n +2)"
}

@test "a container whose conmon and microVM are killed; --restart; healthcheck" {
	forever ct
	in_ct ct sh -c 'echo safe >/root/f; sync'
	kill -9 "$(jq -r .vmm_pid "$PODMAN/oci/$(about ct .Id)/state.json")"
	wait_until about_is ct .State.Status exited
	podman start ct >/dev/null
	is safe "$(in_ct ct cat /root/f)"
	prun -d --name fails --restart on-failure:2 box sh -c 'exit 5' >/dev/null
	WAIT_S=$((WAIT_S * 2)) wait_until about_is fails .RestartCount 2
	wait_until about_is fails .State.Status exited
	is 5 "$(about fails .State.ExitCode)"
	prun -d --name well --health-cmd 'test -e /tmp/well' --health-interval disable box sleep 1000 >/dev/null
	run podman healthcheck run well
	[[ $status != 0 ]]
	in_ct well touch /tmp/well
	podman healthcheck run well
}

forever() {
	local name=$1
	shift
	prun -d --name "$name" "$@" box sh -c 'trap "exit 0" TERM; sleep 100000 & wait' >/dev/null
}
