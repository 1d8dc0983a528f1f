#!/usr/bin/env bats
# podman with husk as its runtime, on networks of its own (netavark; aardvark-dns for names). Its bridges and
# firewall rules are in a network namespace of their own, `node`; `out` is the world beyond it.

load ../e2e/helpers
load ../e2e/netns
load podman

OUT=10.99.0.1  # the world
NODE=10.99.0.2 # where ports are published

setup_file() {
	make_base
	command -v podman iptables >/dev/null && [[ -x /usr/lib/podman/netavark ]] || return 0
	make_netns node out
	veth out o0 node n0
	addresses out o0 $OUT/24
	addresses node n0 $NODE/24
	in_ns node ip route add default via $OUT
	NODE_NS=$(ns_path node)
	export NODE_NS
	cp "$NETTEST" "$ROOTFS/bin/"
	make_podman
	serve_in out 7000
	echo "$SERVER" >"$BASE/server.pid"
	export BEFORE
	BEFORE=$(ours | cut -d' ' -f1)
}

teardown_file() {
	[[ ${PODMAN:-} ]] || return 0
	kill "$(cat "$BASE/server.pid")"
	wait_until gone "$(cat "$BASE/server.pid")"
	all_ended
	end_podman
	end_netns
}

setup() {
	setup_test
	[[ ${PODMAN:-} ]] || skip "podman, netavark or iptables is missing"
}

teardown() { clean_podman; }

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
