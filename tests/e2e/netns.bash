# netns.bash - network namespaces for tests: a container's, and others around it. Each is a file in
# $NS, in the test's own view of the mounts, so that the machine's links and `ip netns` are left alone.
# shellcheck shell=bash

NETTEST=$TREE/build/tests/nettest

# make_netns NAME...: in $NS, which is $T/ns unless the file has one.
make_netns() {
	local name
	export NS=${NS:-$T/ns}
	mkdir -p "$NS"
	for name in "$@"; do
		touch "$NS/$name"
		unshare --net="$NS/$name" ip link set lo up
		# The first second of an address is not for its being looked for.
		in_ns "$name" sh -c 'for f in all default; do
			echo 0 >/proc/sys/net/ipv6/conf/$f/accept_dad; echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done'
	done
}

ns_path() { echo "$NS/$1"; }

in_ns() { nsenter --net="$NS/$1" -- "${@:2}"; }

# veth NS LINK PEER-NS PEER-LINK [MTU]: two ends, both up.
veth() {
	in_ns "$1" ip link add "$2" mtu "${5:-1500}" type veth peer name "$4" mtu "${5:-1500}" netns "$NS/$3"
	in_ns "$1" ip link set "$2" up
	in_ns "$3" ip link set "$4" up
}

# addresses NS LINK ADDRESS...
addresses() {
	local a
	for a in "${@:3}"; do in_ns "$1" ip address add "$a" dev "$2"; done
}

# end_netns [NAME...]: these, or all. They go when nobody is in them either.
end_netns() {
	local f
	[[ -d ${NS:-} ]] || return 0
	# shellcheck disable=SC2046
	(($#)) || set -- $(ls "$NS")
	for f; do
		umount "$NS/$f" && rm "$NS/$f"
	done
}

# netns_settled NS: the kernel finds out later, in a worker of its own, that a link has a carrier, and then gives it what
# belongs to that (a state, its own address, routes), and that an IPv6 address is nobody else's.
netns_settled() {
	[[ -z $(in_ns "$1" ip -6 address show tentative) ]] || return 1
	in_ns "$1" ip -d -j link | jq -e 'map(select(.flags | index("UP"))) | all(
		((.flags | index("LOWER_UP")) == null) == ((.flags | index("NO-CARRIER")) != null)
		and ((.flags | index("LOWER_UP")) == null or .operstate == "UP"
			or ([.linkinfo.info_kind] | inside(["veth", "macvlan", "vlan", "bridge"]) | not)))' >/dev/null
}

# What a test's namespace has: nothing of it may be changed by a container that came and went.
netns_things() {
	wait_until netns_settled "$1" || :
	in_ns "$1" sh -c 'ip -d link show; ip address; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule
		tc qdisc; for l in /proc/sys/net/ipv6/conf/*; do l=${l##*/}; tc filter show dev "$l" parent ffff:; done 2>/dev/null
		cat /proc/sys/net/ipv4/ip_local_port_range; grep -H . /proc/sys/net/ipv?/conf/*/*' 2>/dev/null |
		sed -E 's/[a-z_]+_timer +[0-9.]+//g; s/(valid|preferred)_lft .*//; s/ (expires|cache|age|timer|used|bytes) .*//; /stable_secret|mc_forwarding/d' |
		in_order
}

# The kernel's own order of addresses and routes follows the times of changes.
in_order() { sort; }

# with_netns NS: for jq: the container's network namespace, and what its programs here may.
with_netns() {
	printf '(.linux.namespaces[] | select(.type == "network")).path = "%s"
		| .process.capabilities |= map_values(. + ["CAP_NET_RAW", "CAP_NET_ADMIN"] | unique)
		| .process.rlimits = [{type: "RLIMIT_NOFILE", soft: 20000, hard: 20000}]' "$NS/$1"
}

# serve_in NS PORT: nettest's server; its pid is in $SERVER.
serve_in() {
	local out=$T/serve-$1-$2
	nsenter --net="$NS/$1" -- "$NETTEST" serve "$2" >"$out" 2>&1 3>&- &
	export SERVER=$!
	wait_until grep -q ready "$out"
}

# in_box COMMAND...: in the file's or the test's container `box`.
in_box() { timeout $((WAIT_S * 2)) "$HUSK" --root "$BOX_ROOT" exec box "$@" </dev/null; }
