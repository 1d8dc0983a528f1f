# docker.bash - a dockerd of the test's own, in directories of its own, without bridge and firewall rules, that knows
# husk by contrib/docker/daemon.json, the very file; and an image, `box`, that is made here.
# shellcheck shell=bash

# make_docker [DOCKERD-OPTION...]: for setup_file, after make_base. Without docker it does nothing.
make_docker() {
	command -v dockerd docker >/dev/null || return 0
	export DOCKER=$BASE/docker DOCKER_CONFIG=$BASE/config
	export DOCKER_HOST=unix://$DOCKER/sock
	export HUSK_BOOT_TIMEOUT=$((150 * ${HUSK_TEST_SLOW:-1})) # a busy machine emulates twenty guests at once
	mkdir -p "$DOCKER/bin" "$DOCKER_CONFIG"
	# Where `make install` puts it, in this view of the mounts (tests/run).
	ln -s "$HUSK" "$DOCKER/bin/husk"
	mount -t overlay overlay -o "lowerdir=$DOCKER/bin:/usr/local/bin" /usr/local/bin
	start_docker "$@"
	tar -C "$ROOTFS" -c . | docker import -c 'ENV PATH=/bin' -c 'CMD sh' - box >/dev/null
	BEFORE=$(ours | cut -d' ' -f1)
}

# start_docker [DOCKERD-OPTION...]: the runtime takes its environment from dockerd.
start_docker() {
	dockerd --config-file "$TREE/contrib/docker/daemon.json" --data-root "$DOCKER/data" --exec-root "$DOCKER/exec" \
		-p "$DOCKER/pid" -H "$DOCKER_HOST" --bridge none --iptables=false --ip6tables=false "$@" \
		>>"$DOCKER/log" 2>&1 3>&- &
	wait_until docker_up || { tail -n 20 "$DOCKER/log" && return 1; }
}

containerd_pid() { cat "$DOCKER/exec/containerd/containerd.pid"; }
docker_up() { docker version >/dev/null 2>&1; }

# stop_docker SIGNAL: until it is gone, and its containerd, which the next dockerd would take for one that runs.
stop_docker() {
	local pid theirs
	pid=$(cat "$DOCKER/pid") theirs=$(containerd_pid)
	kill -s "$1" "$pid"
	wait_until gone "$pid"
	wait_until no_process "$theirs"
	rm -f "$DOCKER/pid"
}

no_process() { [[ ! -e /proc/$1 ]]; } # not even one that has ended: it can be sent signal 0

# For teardown_file.
end_docker() {
	[[ ${DOCKER:-} && -e $DOCKER/pid ]] || return 0
	stop_docker TERM
	all_ended
	unmount_below "$DOCKER"
	umount /usr/local/bin
}

# For setup, and teardown.
setup_docker() {
	setup_test
	[[ ${DOCKER:-} ]] || skip "dockerd or docker is missing"
	D=$T/data
	mkdir -p "$D"
}

clean_docker() {
	docker ps -aq | xargs -r docker rm -f >/dev/null
	docker volume ls -q | xargs -r docker volume rm >/dev/null
	rm -rf "$HUSK_DATA/trees" # a cache: what is in it is of images
	# A daemon that a test started is the next one's.
	BEFORE+=$'\n'$(cat "$DOCKER/pid")$'\n'$(containerd_pid)
	ROOT=$(husk_root) check_nothing_left
}

# What dockerd gives every runtime as --root.
husk_root() { echo "$DOCKER/exec/runtime-runc/moby"; }

# drun ARG...: `docker run` with what every container here has. HUSK_TEST_RUNTIME=runc: to see what that does.
drun() { timeout 150 docker run --runtime "${HUSK_TEST_RUNTIME:-husk}" --network none "$@" </dev/null; }

# forever NAME [ARG...]: a container that runs until it is stopped, and minds that by then.
forever() {
	local name=$1
	shift
	drun -d --name "$name" "$@" box sh -c 'trap "exit 0" TERM; echo up; sleep 100000 & wait' >/dev/null
	wait_until logs_have "$name" up
}

# in_ct ARG...: `docker exec` without input.
in_ct() { timeout $((WAIT_S * 2)) docker exec "$@" </dev/null; }

logs_have() { docker logs "$1" 2>&1 | grep -q "$2"; }

# about NAME TEMPLATE: of `docker inspect`.
about() { docker inspect -f "{{$2}}" "$1"; }
about_is() { [[ $(about "$1" "$2") == "$3" ]]; }

# events_since TIME [OPTION...]: those until now.
events_since() { docker events --since "$1" --until "$(date +%s.%N)" "${@:2}"; }

# oom_killed NAME STATUS: dockerd knows that it ran out of memory. containerd's shim tells the kill and the end in two threads,
# and dockerd, when it hears of the end, does not wait for the other: so what ran may have to run again, twice at most.
oom_killed() {
	local try
	for try in 1 2 3; do
		about_is "$1" '.State.OOMKilled}} {{.State.ExitCode' "true $2" && return
		echo "run $try: $(about "$1" .State)"
		((try < 3)) || return 1
		docker start "$1" >/dev/null
		docker wait "$1" >/dev/null
	done
}
