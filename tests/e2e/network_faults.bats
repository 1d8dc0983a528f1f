#!/usr/bin/env bats
# What goes wrong around a container's network, and what a great many containers leave: nothing.
# `ct` is the container's namespace, `lan` the other side of its links.

load helpers
load netns

setup_file() {
	make_base
	cp "$NETTEST" "$ROOTFS/bin/"
}

setup() {
	setup_test
	HUSK=${HUSK_TEST_RUNTIME:-$HUSK} # for what is not about husk's refusals and processes
	export NS=$T/ns
	export BOX_ROOT=$ROOT
	make_netns lan ct
	link ct 0
}

teardown() {
	[[ ! ${SERVER:-} ]] || kill "$SERVER"
	end_netns
	check_nothing_left
}

# link NS N [ID]: the namespace has ethN, lan vN (or vID), in a subnet of their own.
link() {
	veth "$1" "eth$2" lan "v${3:-$2}"
	addresses "$1" "eth$2" 10.$((77 + $2)).0.2/24 fd$((77 + $2))::2/64
	addresses lan "v${3:-$2}" 10.$((77 + $2)).0.1/24 fd$((77 + $2))::1/64
}

# box [NS [ID]]: a container in the namespace, for exec.
box() { start_box "${2:-box}" "$(with_netns "${1:-ct}")" nettest serve 7000 || { cat "$T/${2:-box}.err" && return 1; }; }

# By one packet, which may take its time; found: looked for again and again.
box_pings() { pings_in box "$@"; }
pings_in() { timeout $((WAIT_S * 2)) "$HUSK" --root "$ROOT" exec "$1" ping -c 1 -W "${3:-20}" "$2" </dev/null >/dev/null 2>&1; }
found() { box_pings "$1" 2; }
lan_pings() { in_ns lan busybox ping -c 1 -W 2 "$1" >/dev/null 2>&1; }
only_lo() { [[ $(in_box ls /sys/class/net) == lo ]]; }
missing() { ! in_box ls "$1" >/dev/null 2>&1; }

# Refused, with one line that has each of the texts, and without a trace.
refused() {
	local text
	[[ $status != 0 ]]
	is 1 "$(wc -l <<<"$stderr")"
	for text; do has "$text" "$stderr"; done
	run husk list -q
	is "" "$output"
}

@test "a name that a TAP would have is taken: refused, with the name" {
	local before index
	index=$(in_ns ct ip -j link show eth0 | jq '.[0].ifindex')
	in_ns ct ip link add "husk-tap$index" type bridge
	before=$(netns_things ct)
	run_in "$(with_netns ct)" true
	refused "husk-tap$index"
	diff <(echo "$before") <(netns_things ct)
}

@test "no TAP can be made: refused, with the device" {
	local before
	before=$(netns_things ct)
	bundle box "$(with_netns ct)" true
	# shellcheck disable=SC2016
	run --separate-stderr unshare -m --propagation private sh -c \
		'mount -t tmpfs tmpfs /dev/net && exec "$@"' sh "$HUSK" --root "$ROOT" run -b "$B" box </dev/null
	refused /dev/net/tun
	diff <(echo "$before") <(netns_things ct)
}

@test "a link that is deleted while the container runs is gone from it; the other one serves on" {
	link ct 1
	box
	box_pings 10.78.0.1
	in_ns lan ip link delete v1
	wait_until missing /sys/class/net/eth1
	box_pings 10.77.0.1
	box_pings fd77::1
	link ct 1 # another one of that name
	wait_until found 10.78.0.1
	in_ns lan ip link delete v1
	in_ns lan ip link delete v0
	wait_until missing /sys/class/net/eth0
	wait_until only_lo
	end_box box
	is "lo" "$(in_ns ct ip -j link | jq -r '.[].ifname')"
}

@test "two containers with one address: both start, and whoever stays is reached" {
	make_netns ct2
	in_ns lan ip link add br0 type bridge
	in_ns lan ip link set br0 up
	in_ns lan ip address flush dev v0
	addresses lan br0 10.77.0.1/24 fd77::1/64
	veth ct2 eth0 lan w0
	in_ns ct2 sh -c 'echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad'
	in_ns lan ip link set v0 master br0
	in_ns lan ip link set w0 master br0
	box
	addresses ct2 eth0 10.77.0.2/24 fd77::2/64 10.77.0.3/24 fd77::3/64
	box ct2 box2
	pings_in box2 10.77.0.3
	wait_until lan_pings 10.77.0.3
	wait_until lan_pings fd77::3
	end_box box
	in_ns lan ip neigh flush dev br0
	wait_until lan_pings 10.77.0.2
	end_box box2
}

@test "after delete, namespace and host are as before: create, start and delete, again and again" {
	local before i
	before=$(netns_things ct)
	bundle box "$(with_netns ct)" sh -c 'ping -c 1 -W 20 10.77.0.1 >/dev/null && exec sleep 1000'
	for ((i = 1; i <= $(if [[ ${HUSK_TEST_FULL:-} ]]; then echo 100; else rounds 10 4; fi); i++)); do
		husk create -b "$B" box </dev/null >"$T/out" 2>&1
		husk start box
		# every other one is killed with all of its parts
		((i % 2)) || kill -9 "$(part_of proxy box)" "$(part_of vmm box)"
		husk delete -f box
		diff <(echo "$before") <(netns_things ct)
	done
	is "" "$(cat "$T/out")"
	serve_in ct 7000
	in_ns lan "$NETTEST" tcp 10.77.0.2 7000 100000 # the namespace's own, as ever
}

anon_kib() { awk '/^RssAnon/ { print $2 }' "/proc/$1/status"; }

# transfer_ms BYTES: the milliseconds that they took there and back.
transfer_ms() { timeout "$WAIT_S" "$HUSK" --root "$ROOT" exec victim nettest tcp 10.78.0.1 7000 "$1" </dev/null | cut -d' ' -f3; }

@test "a guest that floods costs bounded memory, and another one keeps half of its throughput" {
	local alone flooded=0 try before bytes=150000000 floods
	make_netns ct2
	link ct2 1
	serve_in lan 7000
	box ct box
	box ct2 victim
	before=$(anon_kib "$(vmm_of box)")
	for try in 1 2 3 4 5; do
		alone=$(transfer_ms $bytes)
		husk exec box nettest flood 10.77.0.1 7001 2000 </dev/null >"$T/flood" 2>&1 3>&- &
		floods=$!
		flooded=$(transfer_ms $bytes)
		echo "try $try: $alone ms alone, $flooded ms beside the flood"
		wait "$floods"
		grep sent "$T/flood"
		((flooded <= 2 * alone)) && break
	done
	in_ns lan "$NETTEST" flood 10.77.0.2 7001 1000 # and what floods it
	echo "$before KiB before, $(anon_kib "$(vmm_of box)") KiB after"
	(($(anon_kib "$(vmm_of box)") < before + 16384))
	((flooded <= 2 * alone))
	end_box box
	end_box victim
}
