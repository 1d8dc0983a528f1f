#!/usr/bin/env bats
# A guest's network card on a TAP, by husk-vmm's sockets; what each case does is in net_cases.py.
# On the engine that husk chooses, or HUSK_ENGINE names.

load helpers

setup_file() { make_base; }
setup() {
	setup_test
	[[ -w /dev/net/tun ]] || skip "no /dev/net/tun"
	dir=$(mktemp -d "${BATS_TMPDIR:-/tmp}/husk-net.XXXXXX")
}

teardown() {
	[[ -z ${dir:-} ]] || rm -rf "$dir" "$dir.out"
	check_nothing_left
}

case_() {
	local status=0
	PYTHONDONTWRITEBYTECODE=1 python3 "$BATS_TEST_DIRNAME/net_cases.py" "$1" "$dir" "$ENGINE" \
		>"$dir.out" || status=$?
	((status != 77)) || skip "$(cat "$dir.out")"
	return "$status"
}

@test "bytes cross a TAP both ways unharmed" { case_ bytes_cross_a_tap; }
@test "the guest sees its cable go out and in" { case_ the_cable_goes_out_and_in; }
@test "a detached TAP is closed, and another one may come" { case_ taps_come_and_go; }
@test "a TAP that the host deletes costs nothing" { case_ a_deleted_tap_costs_nothing; }
@test "a limited card is as fast as its limit, and no faster" { case_ a_limited_card_is_as_fast_as_its_limit; }
@test "what is no TAP is refused" { case_ what_is_no_tap_is_refused; }
@test "a machine has several cards, told apart by their addresses" { case_ several_cards; }
@test "frames of any size pass, and datagrams of 65,000 bytes" { case_ frames_of_any_size; }
@test "a driver that begins anew has its card again" { case_ a_driver_begins_anew; }
@test "a guest that floods fills no memory of the host" { case_ a_flood_fills_no_memory; }
@test "a card has several pairs of queues" { case_ several_pairs_of_queues; }
@test "vhost-net moves the packets" { case_ vhost_net_moves_the_packets; }
