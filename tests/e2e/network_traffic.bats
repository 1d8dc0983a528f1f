#!/usr/bin/env bats
# Traffic between a container and the other side of its links: one container with four of them serves
# all tests. What it is checked against is what runc does: HUSK_TEST_RUNTIME=runc.
#
#   lan    v0 ── eth0  10.77.0.0/24 fd77::/64  MTU 1500, default route
#          v1 ── eth1  10.78.0.0/24 fd78::/64  MTU 9000
#          v2 ── eth2  10.79.0.0/24 fd79::/64  MTU 1280
#   other  v3 ── eth3  10.80.0.0/24 fd80::/64  default route of table 100, for what comes from its address

load helpers
load netns

MTUS=(1500 9000 1280 1500)

setup_file() {
	make_base
	HUSK=${HUSK_TEST_RUNTIME:-$HUSK}
	export BOX_ROOT=$ROOT
	cp "$NETTEST" "$ROOTFS/bin/"
	make_netns lan other ct
	local i ns
	for i in 0 1 2 3; do
		ns=lan
		((i < 3)) || ns=other
		veth ct eth$i $ns v$i "${MTUS[i]}"
		addresses ct eth$i 10.$((77 + i)).0.2/24 fd$((77 + i))::2/64
		addresses $ns v$i 10.$((77 + i)).0.1/24 fd$((77 + i))::1/64
	done
	addresses lan lo 192.0.2.8/32 2001:db8::8/128
	addresses other lo 192.0.2.9/32 2001:db8::9/128
	in_ns ct sh -c 'ip route add default via 10.77.0.1; ip -6 route add default via fd77::1
		ip route add default via 10.80.0.1 table 100; ip -6 route add default via fd80::1 table 100
		ip rule add from 10.80.0.2 table 100; ip -6 rule add from fd80::2 table 100'
	start_box box "$(with_netns ct)" nettest serve 7000
	wait_until grep -q ready "$BASE/box.out"
	serve_in lan 7000
	export LAN_SERVER=$SERVER
}

teardown_file() {
	kill "$LAN_SERVER"
	"${HUSK_TEST_RUNTIME:-$HUSK}" --root "$ROOT" delete -f box
	end_netns
	all_ended
}

setup() {
	setup_test
	HUSK=${HUSK_TEST_RUNTIME:-$HUSK}
	ROOT=$BATS_TEST_TMPDIR/none
}

teardown() { check_nothing_left; }

# to_lan, to_box WHAT ARG...: nettest from one side to the other, by both families of link N's addresses.
to_lan() {
	in_box nettest "$2" "10.$((77 + $1)).0.1" 7000 "${@:3}"
	in_box nettest "$2" "fd$((77 + $1))::1" 7000 "${@:3}"
}
to_box() {
	timeout "$WAIT_S" nsenter --net="$NS/lan" "$NETTEST" "$2" "10.$((77 + $1)).0.2" 7000 "${@:3}"
	timeout "$WAIT_S" nsenter --net="$NS/lan" "$NETTEST" "$2" "fd$((77 + $1))::2" 7000 "${@:3}"
}

@test "ping, both ways and families" {
	in_box ping -c 1 -W 20 10.77.0.1
	in_box ping -c 1 -W 20 fd77::1
	in_ns lan busybox ping -c 1 -W 20 10.77.0.2
	in_ns lan busybox ping -c 1 -W 20 fd77::2
}

@test "the container's four links are the namespace's: names, MAC addresses, MTUs, addresses" {
	local look i
	# shellcheck disable=SC2016
	look='for i in 0 1 2 3; do read -r mac </sys/class/net/eth$i/address; read -r mtu </sys/class/net/eth$i/mtu; echo $mac $mtu; done'
	is "$(for i in 0 1 2 3; do in_ns ct ip -j link show eth$i | jq -r '.[] | "\(.address) \(.mtu)"'; done)" "$(in_box sh -c "$look")"
	look() { grep -oE 'inet6? [0-9a-f.:/]+' | sort; }
	is "$(in_ns ct ip address | look)" "$(in_box ip address | look)"
}

@test "TCP to a server outside: bytes come back unharmed" { to_lan 0 tcp 4000000; }
@test "TCP to a server in the container from the host's side" { to_box 0 tcp 4000000; }

@test "UDP, both ways and families, to 65,000 bytes" {
	local bytes
	for bytes in 1 1472 65000; do
		to_lan 0 udp $bytes
		to_box 0 udp $bytes
	done
}

@test "MTU 9000 and 1280: transfers, and datagrams of an exact frame and of many" {
	to_lan 1 tcp 2000000
	to_box 1 tcp 2000000
	to_lan 1 udp 8952
	to_box 1 udp 65000
	to_lan 2 tcp 500000
	to_box 2 tcp 500000
	to_lan 2 udp 1232
	to_box 2 udp 65000
}

@test "policy routing: what comes from the fourth link's address goes by its table" {
	in_box ping -c 1 -W 20 -I 10.80.0.2 192.0.2.9
	in_box ping -c 1 -W 20 -I fd80::2 2001:db8::9
	in_box ping -c 1 -W 20 192.0.2.8
	in_box ping -c 1 -W 20 2001:db8::8
	run in_box ping -c 1 -W 1 192.0.2.9
	status_is 1
	run in_box ping -c 1 -W 1 -I 10.80.0.2 192.0.2.8
	status_is 1
}

# cast_until FILE COMMAND...: a multicast datagram is lost now and then.
cast_until() {
	"${@:2}"
	grep -q hello "$1"
}

# multicast GROUP: from the container, and to it.
multicast() {
	local got=$BATS_TEST_TMPDIR/$1 pid
	nsenter --net="$NS/lan" "$NETTEST" join "$1" v0 7100 >"$got.lan" 3>&- &
	pid=$!
	wait_until grep -q ready "$got.lan"
	wait_until cast_until "$got.lan" in_box nettest cast "$1" eth0 7100 "hello lan"
	wait $pid
	in_box nettest join "$1" eth0 7100 >"$got.box" 3>&- &
	pid=$!
	wait_until grep -q ready "$got.box"
	wait_until cast_until "$got.box" in_ns lan "$NETTEST" cast "$1" v0 7100 "hello box"
	wait $pid
	is "ready
hello lan" "$(cat "$got.lan")"
	is "ready
hello box" "$(cat "$got.box")"
}

@test "multicast by IPv4, both ways" { multicast 239.1.2.3; }
@test "multicast by IPv6, both ways" { multicast ff15::1234; }

mac_in() { in_ns "$1" cat /proc/self/net/dev >/dev/null && in_ns "$1" ip -j link show "$2" | jq -r '.[0].address'; }

@test "neighbours find one another by IPv6, and by ARP" {
	local box lan ll
	box=$(mac_in ct eth0) lan=$(mac_in lan v0)
	in_ns lan ip neigh flush dev v0
	in_box ip neigh flush dev eth0
	in_box ping -c 1 -W 20 fd77::1
	in_box ping -c 1 -W 20 10.77.0.1
	has "10.77.0.1 dev eth0 lladdr $lan" "$(in_box ip neigh | tr -s ' ')"
	has "fd77::1 dev eth0 lladdr $lan" "$(in_box ip neigh | tr -s ' ')"
	has "fd77::2 dev v0 lladdr $box" "$(in_ns lan ip neigh)"
	has "10.77.0.2 dev v0 lladdr $box" "$(in_ns lan ip neigh)"
	ll=$(in_ns ct ip -j -6 address show eth0 scope link | jq -r '.[].addr_info[] | select(.scope == "link").local')
	in_ns lan ip neigh flush dev v0
	in_ns lan busybox ping -c 1 -W 20 "$ll%v0"
	addresses lan v0 fd77::77/64
	in_box ping -c 1 -W 20 fd77::77
}

@test "5,000 connections at the same time, to the container and from it" {
	local n
	n=$(rounds 5000 500)
	is "ok $n" "$(timeout 100 nsenter --net="$NS/lan" "$NETTEST" many 10.77.0.2 7000 "$n")"
	is "ok $n" "$(in_box nettest many 10.77.0.1 7000 "$n")"
}
