#!/usr/bin/env bats
# A container's links of other kinds than veth. Their lower links are in `mid`, as CNI plugins have them on the host.
#
#   lan  l1 ── l0  mid; on l0, in ct: macvlan eth0 10.77.0.0/24, VLAN 5 eth1 10.78.0.0/24
#   lan  p1 ── p0  in ct, a port of br0 10.79.0.0/24; on br0: VLAN 7 br0.7 10.80.0.0/24

load helpers
load netns

setup_file() {
	make_base
	cp "$NETTEST" "$ROOTFS/bin/"
}

setup() {
	setup_test
	HUSK=${HUSK_TEST_RUNTIME:-$HUSK}
	export BOX_ROOT=$ROOT
	make_netns lan mid ct
}

teardown() {
	[[ ! ${SERVER:-} ]] || kill "$SERVER"
	end_netns
	check_nothing_left
}

# net N LINK LAN-LINK: gives both ends addresses of net N.
net() {
	addresses ct "$2" "10.$1.0.2/24" "fd$1::2/64"
	addresses lan "$3" "10.$1.0.1/24" "fd$1::1/64"
}

make_links() {
	veth mid l0 lan l1
	in_ns mid ip link add link l0 name m0 type macvlan mode bridge
	in_ns mid ip link set m0 netns "$NS/ct" name eth0
	veth ct p0 lan p1
	in_ns ct sh -c 'ip link set eth0 up; ip link add br0 type bridge; ip link set p0 master br0; ip link set br0 up'
	net 77 eth0 l1
	net 79 br0 p1
}

make_vlans() {
	in_ns mid ip link add link l0 name m1 type vlan id 5 2>/dev/null || skip "this kernel has no VLANs"
	in_ns mid ip link set m1 netns "$NS/ct" name eth1
	in_ns lan sh -c 'ip link add link l1 name l1.5 type vlan id 5; ip link set l1.5 up
		ip link add link p1 name p1.7 type vlan id 7; ip link set p1.7 up'
	in_ns ct sh -c 'ip link set eth1 up; ip link add link br0 name br0.7 type vlan id 7; ip link set br0.7 up'
	net 78 eth1 l1.5
	net 80 br0.7 p1.7
}

lan() { timeout "$WAIT_S" nsenter --net="$NS/lan" -- "$@"; }

# crosses NET...: traffic of a container, and that nothing is left.
crosses() {
	local n before
	before=$(netns_things ct)
	start_box box "$(with_netns ct)" nettest serve 7000 || { cat "$T/box.err" && return 1; }
	wait_until grep -q ready "$T/box.out"
	serve_in lan 7000
	for n; do
		in_box ping -c 1 -W 20 10."$n".0.1
		in_box ping -c 1 -W 20 fd"$n"::1
		lan busybox ping -c 1 -W 20 10."$n".0.2
		in_box nettest tcp 10."$n".0.1 7000 1000000
		lan "$NETTEST" tcp fd"$n"::2 7000 1000000
		lan "$NETTEST" udp 10."$n".0.2 7000 65000
	done
	links=$(in_box ls /sys/class/net | xargs)
	end_box box
	diff <(echo "$before") <(netns_things ct)
}

@test "macvlan, and a bridge with its port: traffic both ways and families" {
	make_links
	crosses 77 79
	is "br0 eth0 lo" "$links"
}

@test "VLANs, of a link elsewhere and of a bridge here: traffic both ways and families" {
	make_links
	make_vlans
	crosses 77 78 79 80
	is "br0 br0.7 eth0 eth1 lo" "$links"
}

@test "ipvlan: traffic both ways" {
	veth mid l0 lan l1
	in_ns mid ip link add link l0 name m0 type ipvlan mode l2 2>/dev/null || skip "this kernel has no ipvlan"
	in_ns mid ip link set m0 netns "$NS/ct" name eth0
	in_ns ct ip link set eth0 up
	net 77 eth0 l1
	crosses 77
	is "eth0 lo" "$links"
}

@test "dummy: its address is the container's, and what is sent there goes nowhere" {
	in_ns ct ip link add eth0 type dummy 2>/dev/null || skip "this kernel has no dummy links"
	in_ns ct ip link set eth0 up
	addresses ct eth0 10.77.0.2/24
	run_in "$(with_netns ct)" sh -c 'ping -c 1 -W 20 10.77.0.2 && ! ping -c 1 -W 1 10.77.0.1'
	status_is 0
}
