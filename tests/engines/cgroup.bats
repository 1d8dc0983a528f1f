#!/usr/bin/env bats
# What engines see of a container's cgroup on the host: figures, limits, and that it ran out of
# memory. dockerd (with its containerd), containerd and podman are the test's own, and so is the
# cgroup that theirs are in.

load ../e2e/helpers
load ../e2e/containerd
load ../e2e/cgroup
load docker

setup_file() {
	make_base
	export PARENT=/husk-test.$$
	export CTD=$BASE/ctd DOCKER=$BASE/docker PODMAN=$BASE/podman
	mkdir -p "$CTD" "$DOCKER" "$PODMAN/tmp"
	start_docker
	start_containerd
	set_up_podman
	export BEFORE
	BEFORE=$(ours | cut -d' ' -f1)
	wait_until docker_up || { tail -n 20 "$DOCKER/log" && return 1; }
	wait_until ctr_up
	tar -C "$ROOTFS" -c . >"$BASE/box.tar"
	docker import -c 'ENV PATH=/bin' -c 'CMD sh' "$BASE/box.tar" box >/dev/null
	podman import -c ENV=PATH=/bin "$BASE/box.tar" box >/dev/null 2>&1
	make_image "$CTD/image.tar"
	ctr image import "$CTD/image.tar" >/dev/null
}

start_docker() {
	export DOCKER_CONFIG=$BASE/config DOCKER_HOST=unix://$DOCKER/sock
	mkdir -p "$DOCKER_CONFIG"
	echo '{}' >"$DOCKER_CONFIG/config.json"
	echo '{}' >"$DOCKER/daemon.json"
	dockerd --config-file "$DOCKER/daemon.json" --data-root "$DOCKER/data" \
		--exec-root "$DOCKER/exec" -p "$DOCKER/pid" -H "$DOCKER_HOST" --bridge none \
		--iptables=false --ip6tables=false --add-runtime "husk=$HUSK" \
		--cgroup-parent "$PARENT/docker" >"$DOCKER/log" 2>&1 3>&- &
}

set_up_podman() {
	export CONTAINERS_CONF=$BASE/containers.conf CONTAINERS_STORAGE_CONF=$BASE/storage.conf
	# What conmon has clean up gets no environment of ours.
	printf '#!/bin/sh\nexport HUSK_DATA=%s HUSK_CONFIG=%s\nexec "%s" --root "%s" "$@"\n' \
		"$HUSK_DATA" "$HUSK_CONFIG" "$HUSK" "$PODMAN/oci" >"$PODMAN/runtime"
	chmod 755 "$PODMAN/runtime"
	cat >"$CONTAINERS_CONF" <<-C
		[containers]
		default_ulimits = ["nofile=1024:20000", "nproc=4096:4096"]
		log_driver = "k8s-file"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		tmp_dir = "$PODMAN/tmp"
		conmon_env_vars = [$(env | sed -nE 's/^(PATH|HUSK_[A-Z]+)=(.*)$/"\1=\2"/p' | paste -sd,)]
	C
	printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' \
		"$PODMAN/data" "$PODMAN/run" >"$CONTAINERS_STORAGE_CONF"
}

podman() { timeout 120 podman --runtime "$PODMAN/runtime" "$@" </dev/null; }

teardown_file() {
	local pid dir
	for pid in "$(cat "$DOCKER/pid")" "$(cat "$CTD/pid")"; do
		kill "$pid"
		wait_until gone "$pid"
	done
	all_ended
	for dir in "$DOCKER" "$CTD" "$PODMAN"; do unmount_below "$dir"; done
	remove_cgroups "$PARENT"
}

setup() { setup_test; }

# How often podman has its own directory mounted is podman's (podman.bash).
host_things() { cut -d' ' -f5 /proc/self/mountinfo | grep -vxF "$PODMAN/data/overlay" | sort; }

teardown() {
	docker ps -aq | xargs -r docker rm -f >/dev/null
	podman rm -af -t 0 >/dev/null
	rm -rf "$HUSK_DATA/trees"
	check_nothing_left && no_cgroups_below "$PARENT" # only the last status counts here
}

# What takes memory until it is killed.
EATER=(tail /dev/zero)

@test "docker: a container that ran out of memory is OOMKilled, one that did not is not" {
	run drun --name eater -m 64m box "${EATER[@]}"
	status_is 137
	oom_killed eater 137
	# its limit is what it was
	docker start eater >/dev/null
	docker wait eater >/dev/null
	oom_killed eater 137
	drun -d --name killed -m 64m box sleep 1000 >/dev/null
	docker kill killed >/dev/null
	is "false 137" "$(about killed '.State.OOMKilled}} {{.State.ExitCode')"
}

@test "docker: a kill of a child is told, too, at the container's end" {
	run drun --name parent -m 64m box sh -c 'tail /dev/zero; exit 3'
	status_is 3
	oom_killed parent 3
}

@test "docker stats: memory, its limit, processes, processor time" {
	drun -d --name ct -m 128m --cpus 0.5 box sh -c 'while :; do :; done' >/dev/null
	local cg pid json
	cg=$(about ct .Id)
	pid=$(about ct .State.Pid)
	is "$PARENT/docker/$cg" "$(cgroup_of "$pid" memory)"
	json=$(python3 "$BATS_TEST_DIRNAME/docker_get.py" "$DOCKER/sock" "/containers/ct/stats?one-shot=false&stream=false")
	# the machine is in there, its guest's memory with it
	jq -e '.memory_stats.usage > 16777216 and .memory_stats.usage < .memory_stats.limit
		and .memory_stats.limit > 134217728 and .memory_stats.limit < 536870912
		and .pids_stats.current >= 3
		and .cpu_stats.cpu_usage.total_usage > .precpu_stats.cpu_usage.total_usage' <<<"$json" ||
		{ echo "$json" && return 1; }
	wait_until docker_stats || { echo "$output" && return 1; }
}

# The client waits for figures for two seconds, then shows none.
docker_stats() {
	output=$(docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}} {{.CPUPerc}}' ct)
	[[ $output =~ ^[0-9.]+MiB\ /\ [0-9.]+MiB\ [0-9]+\ [0-9.]+%$ ]]
}

@test "containerd: figures of a task, and its event when it runs out of memory" {
	"$(type -P ctr)" -a "$CTD/sock" events >"$T/events" 3>&- & # no function: its pid is to be the client's
	local events=$!
	wait_until told_of_namespace
	ctr_here run -d --memory-limit 67108864 --cgroup "$PARENT/ctr/c1" example.org/box:latest c1 \
		sh -c 'trap "exec tail /dev/zero" USR1; touch /tmp/ready; while :; do sleep 0.1; done'
	ctr task exec --exec-id e1 c1 sh -c 'until [ -e /tmp/ready ]; do sleep 0.1; done'
	run ctr task metrics --format json c1
	jq -e '(.memory.usage.usage // .memory.usage | tonumber) > 16777216
		and (.pids.current | tonumber) >= 3' <<<"$output" || { echo "$output" && return 1; }
	# Not by an exec: its container may have ended before it has.
	ctr task kill -s SIGUSR1 c1
	wait_until task_stopped c1
	wait_until grep -q /tasks/oom "$T/events"
	has "exit code 137" "$(ctr task rm c1 2>&1)"
	ctr c rm c1
	kill "$events"
	rm -rf "$ROOT"
}

ctr_here() {
	local verb=$1
	shift
	ctr "$verb" --runtime io.containerd.runc.v2 --runc-binary "$HUSK" --runc-root "$ROOT" "$@" </dev/null
}
# So it hears of what comes now.
told_of_namespace() {
	ctr namespaces label default asked="$RANDOM"
	grep -q /namespaces/update "$T/events"
}
task_stopped() { ctr task ls | grep -q "^$1 .*STOPPED"; }

# podman 4.3 does not find what conmon notes of the OOM kill (a file in the directory that podman was
# called in), with runc neither: so that is looked at itself.
@test "podman: figures; conmon hears of the OOM kill" {
	local -a run=(run --network none --cgroup-parent "$PARENT/podman")
	podman "${run[@]}" -d --name ct -m 128m box sleep 1000 >/dev/null
	run podman stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' ct
	[[ ${lines[-1]} =~ ^[0-9.]+MB\ /\ [0-9.]+MB\ [0-9]+$ ]] || { echo "$output" && return 1; }
	cd "$T"
	run podman "${run[@]}" --name eater -m 64m box "${EATER[@]}"
	status_is 137
	[[ -e $T/oom ]]
}
