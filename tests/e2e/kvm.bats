#!/usr/bin/env bats
# What only real virtual machines can show: many at once.

load helpers

setup_file() { make_base; }
setup() {
	setup_test
	only_on kvm "emulation is too slow for it"
}
teardown() { check_nothing_left; }

@test "50 machines at once, each with its own container" {
	local i
	bundle c '.linux.resources.memory.limit = 67108864' sh -c 'trap "exit 0" TERM; sleep 100000 & wait'
	for i in $(seq 50); do
		[[ -d $T/c$i ]] || { mkdir "$T/c$i" && cp -a "$B/rootfs" "$T/c$i/" && cp "$B/config.json" "$T/c$i/"; }
		husk run -d -b "$T/c$i" "c$i" </dev/null >"$T/c$i.out" 2>"$T/c$i.err" || { cat "$T/c$i.err" && return 1; }
	done
	is 50 "$(husk list --format json | jq '[.[] | select(.status == "running")] | length')"
	for i in 1 25 50; do
		is "number $i" "$(husk exec "c$i" echo "number $i" </dev/null)"
	done
	for i in $(seq 50); do
		husk delete --force "c$i"
	done
}
