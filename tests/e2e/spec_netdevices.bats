#!/usr/bin/env bats
# config-linux.md, "Network Devices": interfaces of the host that the container gets.

load helpers
load netns

setup_file() { make_base; }

setup() {
	setup_test
	make_netns host lan ct
}

teardown() {
	[[ -d $ROOT/box ]] && in_ns host "$HUSK" --root "$ROOT" delete --force box
	end_netns
	check_nothing_left
}

# As if `host` were the host's namespace.
husk_there() { in_ns host "$HUSK" --root "$ROOT" "$@"; }

@test "Network Devices: moved with name, addresses, MTU and MAC, and up; returned to the host at the end" {
	veth host nic0 lan peer 1400
	addresses host nic0 10.9.0.2/24 fd09::2/64 10.9.1.2/32
	addresses lan peer 10.9.0.1/24
	mac=$(in_ns host cat /sys/class/net/nic0/address 2>/dev/null || in_ns host ip -o link show nic0 | sed 's/.*ether \([^ ]*\).*/\1/')
	bundle box "$(with_netns ct) | .linux.netDevices = {nic0: {name: \"net7\"}}" \
		sh -c 'ip -o link show net7; ip -o address show net7; ping -c 1 -W 20 10.9.0.1 >/dev/null && echo reached; exec sleep 100000'
	husk_there create -b "$B" box </dev/null >"$T/out" 2>&1
	run in_ns host ip link show nic0
	status_is 1
	husk_there start box
	wait_until grep -q reached "$T/out"
	has "mtu 1400" "$(cat "$T/out")"
	has "$mac" "$(cat "$T/out")"
	for a in 10.9.0.2/24 fd09::2/64 10.9.1.2/32; do has "$a" "$(cat "$T/out")"; done
	husk_there delete --force box
	has "UP" "$(in_ns host ip -o link show nic0)"
	has "10.9.0.2/24" "$(in_ns host ip -o address show nic0)"
	is "" "$(in_ns ct ip -o link | grep -v ': lo:')"
}

@test "Network Devices: what cannot be moved is an error that names it, and nothing is left moved" {
	veth host nic0 lan peer
	bundle box "$(with_netns ct) | .linux.netDevices = {nic0: {}, nic1: {}}" true
	run --separate-stderr husk_there create -b "$B" box </dev/null
	one_error 'linux.netDevices["nic1"]: there is no such interface: No such device'
	has "nic0" "$(in_ns host ip -o link show nic0)"
	for bad in '{"a/b": {}}' '{lo: {}}'; do
		edit_spec "$SPEC" "$B/config.json" ".linux.netDevices = $bad" true
		run --separate-stderr husk_there create -b "$B" box </dev/null
		one_error "$B/config.json: linux.netDevices[$(jq -nc "$bad | keys[0]")]: not the name of an interface that can be moved"
	done
	edit_spec "$SPEC" "$B/config.json" ".linux.netDevices = {a: {name: \"x\"}, b: {name: \"x\"}}" true
	run --separate-stderr husk_there create -b "$B" box </dev/null
	one_error "$B/config.json: linux.netDevices[\"b\"].name: \"x\" is there twice"
}
