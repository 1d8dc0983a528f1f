#!/usr/bin/env bats
# podman with husk as its runtime, on networks of its own (netavark; aardvark-dns for names). Its bridges and
# firewall rules are in a network namespace of their own, `node`; `out` is the world beyond it.
# HUSK_TEST_RUNTIME=runc runs the same with runc.

load ../e2e/helpers
load ../e2e/netns

OUT=10.99.0.1  # the world
NODE=10.99.0.2 # where ports are published

setup_file() {
	make_base
	command -v podman iptables >/dev/null && [[ -x /usr/lib/podman/netavark ]] || return 0
	export PODMAN=$BASE/podman CONTAINERS_CONF=$BASE/containers.conf
	export CONTAINERS_STORAGE_CONF=$BASE/storage.conf
	mkdir -p "$PODMAN"/{tmp,networks,xdg}
	make_netns node out
	veth out o0 node n0
	addresses out o0 $OUT/24
	addresses node n0 $NODE/24
	in_ns node ip route add default via $OUT
	# The process that conmon has clean up knows the runtime, but none of its flags.
	printf '#!/bin/sh\nexec "%s" --root "%s" "$@"\n' "${HUSK_TEST_RUNTIME:-$HUSK}" "$PODMAN/oci" >"$PODMAN/runtime"
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
		[network]
		network_backend = "netavark"
		network_config_dir = "$PODMAN/networks"
	C
	printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$PODMAN/data" "$PODMAN/run" \
		>"$CONTAINERS_STORAGE_CONF"
	# What has fixed names is private to this view of the mounts.
	mkdir -p "$BASE"/run/{containers,netns} /run/{containers,netns}
	mount --bind "$BASE/run/containers" /run/containers
	mount --bind "$BASE/run/netns" /run/netns
	cp "$NETTEST" "$ROOTFS/bin/"
	tar -C "$ROOTFS" -c . | podman import -c 'ENV PATH=/bin' -c 'CMD sh' - box >/dev/null
	serve_in out 7000
	echo "$SERVER" >"$BASE/server.pid"
	BEFORE=$(ours | cut -d' ' -f1)
}

teardown_file() {
	[[ ${PODMAN:-} ]] || return 0
	kill "$(cat "$BASE/server.pid")"
	wait_until gone "$(cat "$BASE/server.pid")"
	cut -d' ' -f5 /proc/self/mountinfo | grep "^$PODMAN/" | sort -r | xargs -r -n 1 umount
	cut -d' ' -f5 /proc/self/mountinfo | grep '^/run/netns/' | xargs -r -n 1 umount
	umount /run/netns /run/containers
	rmdir /run/containers 2>/dev/null || :
	end_netns
	export BEFORE=
	none_left
}

# As root of a node whose network namespace is `node`, and whose files are the test's.
podman() { timeout 120 nsenter --net="$NS/node" -- podman --root "$PODMAN/data" --runroot "$PODMAN/run" --runtime "$PODMAN/runtime" "$@"; }

setup() {
	setup_test
	[[ ${PODMAN:-} ]] || skip "podman, netavark or iptables is missing"
}

teardown() {
	# podman unmounts a rootfs before it has the container deleted: what was applied stays until the next create
	local record
	for record in "$HUSK_DATA"/changes/*/; do
		[[ -e $record/applied ]] && rm -rf "$record"
	done
	ROOT=$PODMAN/oci check_nothing_left
}

in_ct() { podman exec "$@"; }
out() { timeout "$WAIT_S" nsenter --net="$NS/out" -- "$@"; }
finds() { in_ct "$1" ping -c 1 -W 2 "$2" >/dev/null 2>&1; }

@test "a network of podman's: names, the world, a published port; nothing is left" {
	podman network create --subnet 172.29.0.0/24 --ipv6 --subnet fd29::/64 net1
	podman run -d --name one --network net1 -p 8080:7000 box nettest serve 7000
	podman run -d --name two --network net1 box nettest serve 7000
	wait_until finds one two
	wait_until finds two one
	wait_until out "$NETTEST" tcp $NODE 8080 1000000
	in_ct one nettest tcp $OUT 7000 1000000
		podman rm -f -t 0 one two
	podman network rm net1
}
