#!/usr/bin/env bats
# husk-agent and the network: cards on TAPs become links, names are served. What each case does is in
# agent_network_cases.py.

setup() {
	dir=$(mktemp -d "${BATS_TMPDIR:-/tmp}/husk-agent-net.XXXXXX")
}

teardown() {
	rm -rf "$dir" "$dir.out"
}

case_() {
	local status=0
	PYTHONDONTWRITEBYTECODE=1 python3 "$BATS_TEST_DIRNAME/agent_network_cases.py" "$1" "$dir" \
		>"$dir.out" || status=$?
	((status != 77)) || skip "$(cat "$dir.out")"
	return "$status"
}

@test "a card becomes the link that the host describes, carries bytes, and follows changes" { case_ a_card_becomes_a_link; }
@test "links come and go, and spare cards are not seen" { case_ links_come_and_go; }
@test "links exchange their names" { case_ names_are_exchanged; }
@test "a link goes down and up with all it had" { case_ a_link_goes_down_and_up; }
@test "what cannot be made is named, and the rest is made" { case_ errors_name_what_is_wrong; }
@test "sysctls of an interface wait for it, and start fails without it" { case_ sysctls_of_config_wait_for_their_interface; }
@test "a container's name server is the host's" { case_ names_are_served; }
