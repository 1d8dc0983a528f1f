#!/usr/bin/env bats
# The links of a container's network namespace are its guest's: those that are there at the start,
# those that come and go later, and what is refused. Traffic: network_traffic.bats.
#
#   lan  v0 ── eth0  10.77.0.0/24 fd77::/64

load helpers
load netns

setup_file() { make_base; }

setup() {
	setup_test
	export BOX_ROOT=$ROOT
	make_netns lan ct
	addresses lan lo 192.0.2.8/32
}

teardown() {
	[[ -d $ROOT/box ]] && husk delete --force box
	end_netns
	check_nothing_left
}

# plug NAME NET [MTU]: a link of the container, with the lan at its other end.
plug() {
	veth ct "$1" lan "v-$1" "${3:-1500}"
	addresses ct "$1" "10.$2.0.2/24" "fd$2::2/64"
	addresses lan "v-$1" "10.$2.0.1/24" "fd$2::1/64"
}

# box [COMMAND...]: made, not started.
create_box() {
	(($#)) || set -- sh -c 'trap "exit 0" TERM; sleep 100000 & wait'
	bundle box "$(with_netns ct) | .root.readonly = true" "$@"
	husk --log "$T/log" create -b "$B" box </dev/null >"$T/box.out" 2>"$T/box.err"
}

run_box() { create_box "$@" && husk start box; }

# reaches, reached_at ADDRESS: by one packet, which may take its time; found, found_at: looked for again and again.
reaches() { in_box ping -c 1 -W 20 "$1" >/dev/null; }
reached_at() { in_ns lan busybox ping -c 1 -W 20 "$1" >/dev/null; }
found() { in_box ping -c 1 -W 1 "$1" >/dev/null; }
found_at() { in_ns lan busybox ping -c 1 -W 1 "$1" >/dev/null; }
sees() { has "$1" "$(in_box "${@:2}" | tr -s ' \t' ' ')" >/dev/null; }
sees_not() { ! sees "$@"; }

@test "one link: both ways and families, the process has it from its first moment on" {
	plug eth0 77
	in_ns ct ip route add default via 10.77.0.1
	run_box sh -c 'ip route; ip address; ping -c 1 -W 20 10.77.0.1; echo ping $?; sleep 100000 & wait'
	wait_until grep -q '^ping 0' "$T/box.out"
	has "default via 10.77.0.1 dev eth0" "$(cat "$T/box.out")"
	has "inet 10.77.0.2/24" "$(cat "$T/box.out")"
	has "inet6 fd77::2/64" "$(cat "$T/box.out")"
	reaches fd77::1
	reaches 192.0.2.8
	reached_at 10.77.0.2
	reached_at fd77::2
	is "" "$(cat "$T/box.err")"
}

@test "a namespace without links gives loopback alone" {
	run_box
	is "lo" "$(in_box ls /sys/class/net)"
	reaches 127.0.0.1
}

@test "a link that is plugged between create and start is there at the start" {
	create_box ping -c 1 -W 20 10.77.0.1
	plug eth0 77
	husk start box
	wait_until is_stopped box
	has "1 packets received" "$(cat "$T/box.out")"
}

@test "links that come and go while the container runs" {
	plug eth0 77
	run_box
	plug eth1 78
	wait_until found 10.78.0.1
	reaches 10.77.0.1
	wait_until found_at fd78::2 # an address of its own, and a moment later
	in_ns ct ip link del eth1
	wait_until sees_not eth1 ls /sys/class/net
	reaches 10.77.0.1
	plug eth1 79
	wait_until found fd79::1
	wait_until sees "inet 10.79.0.2/24" ip address show eth1
}

@test "a link that is replaced by another one of its name, with all cards in use" {
	local i
	for i in 0 1 2 3; do plug eth$i 7$i; done
	run_box
	for i in 0 1 2 3; do reaches 10.7$i.0.1; done
	in_ns ct ip link del eth2
	plug eth2 79
	wait_until found 10.79.0.1
	reaches 10.73.0.1
}

@test "a link that a microVM cannot have, while the container runs: a warning, and the others come" {
	plug eth0 77
	run_box
	in_ns ct ip tuntap add tun7 mode tun
	in_ns ct ip link set tun7 up
	plug eth1 78
	wait_until found 10.78.0.1
	in_ns ct ip link del eth1
	wait_until sees_not eth1 ls /sys/class/net
	is 1 "$(grep -c 'its network is not as its namespace.*tun7: a tun interface' "$T/log")"
}

@test "more links than cards: the last is refused, and has the first free card" {
	local n=8 i
	for ((i = 0; i < n; i++)); do plug eth$i 7$i; done
	run_box
	plug eth9 79
	wait_until grep -q 'network interface eth9: there is no room for one more network card' "$T/log"
	in_ns ct ip link del eth1
	wait_until found 10.79.0.1
	reaches 10.70.0.1
	husk delete --force box
	plug eth1 71
	bundle box "$(with_netns ct) | .root.readonly = true" true
	run --separate-stderr husk run -b "$B" box </dev/null
	status_is 1
	has 'there is no room for one more network card' "$stderr"
}

@test "the first link may come when the container runs already" {
	run_box
	plug eth0 77
	wait_until found 10.77.0.1
}

@test "addresses, routes and rules are followed" {
	plug eth0 77
	run_box
	in_ns ct sh -c 'ip route add default via 10.77.0.1; ip address add 10.77.0.33/24 dev eth0
		ip route add 198.51.100.0/24 via 10.77.0.1 metric 7 table 200; ip rule add from 10.77.0.33 table 200 priority 900
		ip route add blackhole 203.0.113.0/24'
	wait_until sees "default via 10.77.0.1" ip route
	wait_until sees "198.51.100.0/24 via 10.77.0.1" ip route show table 200
	wait_until sees "900: from 10.77.0.33 lookup 200" ip rule
	wait_until sees "blackhole 203.0.113.0/24" ip route
	wait_until found_at 10.77.0.33
	in_ns ct sh -c 'ip route del default; ip address del 10.77.0.33/24 dev eth0; ip rule del priority 900'
	wait_until sees_not default ip route
	wait_until sees_not 10.77.0.33 ip address
	wait_until sees_not "900:" ip rule
	reaches 10.77.0.1
}

@test "the MTU is followed, larger and smaller" {
	plug eth0 77 1400
	in_ns lan ip link set v-eth0 mtu 9000
	run_box
	is 1400 "$(in_box cat /sys/class/net/eth0/mtu)"
	in_ns ct ip link set eth0 mtu 9000
	wait_until sees 9000 cat /sys/class/net/eth0/mtu
	in_box ping -c 1 -W 20 -s 8972 10.77.0.1
	in_ns ct ip link set eth0 mtu 1300
	in_ns lan ip link set v-eth0 mtu 1300
	wait_until sees 1300 cat /sys/class/net/eth0/mtu
	in_box ping -c 1 -W 20 -s 4000 10.77.0.1
}

@test "a cable that is pulled out, and a link that goes down and up" {
	plug eth0 77
	run_box
	wait_until sees 1 cat /sys/class/net/eth0/carrier
	in_ns lan ip link set v-eth0 down
	wait_until sees 0 cat /sys/class/net/eth0/carrier
	in_ns lan ip link set v-eth0 up
	wait_until sees 1 cat /sys/class/net/eth0/carrier
	wait_until found 10.77.0.1
	in_ns ct ip link set eth0 down
	wait_until sees_not UP ip link show eth0
	in_ns ct ip link set eth0 up
	wait_until found 10.77.0.1
}

@test "a link's MAC address and name are the guest's, and are followed" {
	plug eth0 77
	in_ns ct sh -c 'ip link set eth0 down; ip link set eth0 address 02:11:22:33:44:55; ip link set eth0 up'
	run_box
	is 02:11:22:33:44:55 "$(in_box cat /sys/class/net/eth0/address)"
	in_ns ct sh -c 'ip link set eth0 down; ip link set eth0 address 02:11:22:33:44:66 name lan0; ip link set lan0 up'
	wait_until sees 02:11:22:33:44:66 cat /sys/class/net/lan0/address
	in_ns lan ip neigh flush dev v-eth0
	wait_until found 10.77.0.1
}

@test "settings of an interface go along" {
	plug eth0 77
	in_ns ct sh -c 'echo 2 >/proc/sys/net/ipv4/conf/eth0/arp_announce; echo 1 >/proc/sys/net/ipv4/conf/eth0/accept_local'
	run_box
	is "2 1" "$(in_box sh -c 'cd /proc/sys/net/ipv4/conf/eth0; echo $(cat arp_announce accept_local)')"
}

@test "a name server at 127.0.0.11 in the namespace answers in the guest, UDP and TCP" {
	plug eth0 77
	nsenter --net="$(ns_path ct)" -- python3 "$TREE/tests/engines/nameserver.py" 127.0.0.11 >"$T/names" 2>&1 3>&- &
	local server=$!
	wait_until grep -q ready "$T/names"
	run_box
	has 192.0.2.53 "$(in_box nslookup db.example 127.0.0.11)"
	# The relay is the container's: it stays when the namespace changes.
	plug eth1 78
	wait_until found 10.78.0.1
	has 192.0.2.53 "$(in_box nslookup web.example 127.0.0.11)"
	kill $server
}

@test "nothing is left in the namespace when the container has ended, nor by any death of husk's processes" {
	local before part
	plug eth0 77
	before=$(netns_things ct)
	run_box true
	wait_until is_stopped box
	is "$before" "$(netns_things ct)"
	husk delete box
	for part in vmm proxy; do
		run_box
		reaches 10.77.0.1
		[[ $before != "$(netns_things ct)" ]]
		kill -9 "$(part_of $part box)"
		wait_until is_stopped box
		husk delete --force box
		is "$before" "$(netns_things ct)"
	done
	run_box
	kill -9 "$(part_of proxy box)" "$(part_of vmm box)"
	husk delete --force box
	is "$before" "$(netns_things ct)"
	run_box
	husk delete --force box
	is "$before" "$(netns_things ct)"
}

@test "wired by a bridge, where the configuration file says so: traffic, MTU, nothing left" {
	local before
	export HUSK_CONFIG=$T/husk.json
	echo '{"network": {"wiring": "bridge"}}' >"$HUSK_CONFIG"
	plug eth0 77
	before=$(netns_things ct)
	run_box
	is "husk-br$(in_ns ct ip -j link show eth0 | jq '.[0].ifindex')" "$(in_ns ct ip -j link show eth0 | jq -r '.[0].master')"
	reaches 10.77.0.1
	reaches fd77::1
	reached_at 10.77.0.2
	in_ns ct ip link set eth0 mtu 1400
	wait_until sees 1400 cat /sys/class/net/eth0/mtu
	in_ns ct ip link set eth0 mtu 1500
	wait_until sees 1500 cat /sys/class/net/eth0/mtu
	husk delete --force box
	is "$before" "$(netns_things ct)"
}

@test "a container that cannot be started leaves nothing in the namespace" {
	local before
	plug eth0 77
	in_ns ct ip tuntap add tun7 mode tun
	in_ns ct ip link set tun7 up
	without_carrier() { in_ns ct ip link show tun7 | grep -q NO-CARRIER; }
	wait_until without_carrier # older kernels see it a moment later
	before=$(netns_things ct)
	create_box
	run --separate-stderr husk start box
	status_is 1
	has "tun7: a tun interface has no Ethernet frames" "$stderr"
	is "$before" "$(netns_things ct)"
	husk delete --force box
	bundle run "$(with_netns ct)" true
	run --separate-stderr husk run -b "$B" run </dev/null
	status_is 1
	has "tun7" "$stderr"
	is "$before" "$(netns_things ct)"
	in_ns ct ip link del tun7
	husk run -b "$B" run </dev/null
}

@test "a namespace that another container has, with and without links, is refused by that container's name" {
	run_box
	bundle second "$(with_netns ct)" true
	run --separate-stderr husk run -b "$B" second </dev/null
	status_is 1
	has "linux.namespaces[1].path: $NS/ct: container \"box\" of husk has it already" "$stderr"
	plug eth0 77
	wait_until found 10.77.0.1
	run --separate-stderr husk run -b "$B" second </dev/null
	status_is 1
	has "container \"box\" of husk has it already" "$stderr"
	# from its proxy, which may have made it
	edit_spec "$SPEC" "$B/config.json" "(.linux.namespaces[] | select(.type == \"network\")).path = \"/proc/$(part_of proxy box)/ns/net\""
	run --separate-stderr husk --root "$T/other" run -b "$B" second </dev/null
	status_is 1
	has "process $(part_of proxy box) has it already" "$stderr"
	reaches 10.77.0.1
	# The namespace of one that has ended is anybody's, however it ended.
	kill -9 "$(part_of proxy box)"
	bundle second "$(with_netns ct)" true
	wait_until is_stopped box
	husk run -b "$B" second </dev/null
}

@test "a path that is no network namespace is named, and so is the host's" {
	bundle bad '(.linux.namespaces[] | select(.type == "network")).path = "/proc/self/ns/mnt"' true
	run --separate-stderr husk run -b "$B" bad </dev/null
	status_is 1
	has "linux.namespaces[1].path: /proc/self/ns/mnt: not a network namespace" "$stderr"
	edit_spec "$SPEC" "$B/config.json" '(.linux.namespaces[] | select(.type == "network")).path = "/none/net"'
	run --separate-stderr husk run -b "$B" bad </dev/null
	status_is 1
	has "linux.namespaces[1].path: /none/net: No such file or directory" "$stderr"
	edit_spec "$SPEC" "$B/config.json" 'del(.linux.namespaces[] | select(.type == "network"))'
	run --separate-stderr husk run -b "$B" bad </dev/null
	status_is 1
	has "a network namespace is needed" "$stderr"
	stat -L /proc/1/ns/net >/dev/null 2>&1 || return 0
	edit_spec "$SPEC" "$B/config.json" '(.linux.namespaces[] | select(.type == "network")).path = "/proc/1/ns/net"'
	run --separate-stderr husk run -b "$B" bad </dev/null
	status_is 1
	has "/proc/1/ns/net: is the host's own network namespace" "$stderr"
}
