#!/usr/bin/env bats
# Connections to 127.0.0.1 in a pod's network namespace on the host are to the guest's localhost (docs/pods.md). Real ones
# of Kubernetes' are in tests/engines/cri.bats.

load helpers
load netns

setup_file() {
	make_base
	cp "$NETTEST" "$ROOTFS/bin/"
}

setup() {
	setup_test
	make_netns pod
	steers || skip "this kernel cannot steer connections (Linux 5.9)"
}

teardown() {
	local id
	for id in "$ROOT"/*/; do
		[[ ! -d $id ]] || husk delete --force "$(basename "$id")"
	done
	end_netns
	check_nothing_left
}

steers() { [[ $(uname -r | awk -F. '{ print $1 * 1000 + $2 }') -ge 5009 ]]; }

# pod ID TYPE ARG...: a container in the namespace `pod`; TYPE says what it is.
pod() {
	bundle "$1" ".annotations = {\"io.kubernetes.cri.container-type\": \"$2\"}
		| (.linux.namespaces[] | select(.type == \"network\")).path = \"$(ns_path pod)\"" "${@:3}"
	[[ $2 != single ]] || { jq 'del(.annotations)' "$B/config.json" >"$T/new" && mv "$T/new" "$B/config.json"; }
	husk run -d -b "$B" "$1" </dev/null >"$T/$1.out" 2>"$T/$1.err"
}

nettest() { timeout "$WAIT_S" nsenter --net="$NS/pod" -- "$NETTEST" "$@"; }
serves() { grep -q ready "$T/$1.out"; }
listening() { in_ns pod ss -Hltn; }
closed() { [[ -z $(listening) ]]; }

# answers PORT LINE: the first one of a server of HTTP that has not what is asked for.
answers() {
	[[ $(printf 'GET /none HTTP/1.0\r\n\r\n' | timeout "$WAIT_S" nsenter --net="$NS/pod" -- \
		busybox nc 127.0.0.1 "$1" | head -n 1 | tr -d '\r') == "$2" ]]
}

@test "a port of the guest's localhost: bytes both ways, many at a time, one that only IPv6 has, one that nobody has" {
	pod p sandbox sh -c 'nettest serve 7000 & exec httpd -f -p "[::1]:7001" -h /bin'
	wait_until serves p
	has "ok 5000000" "$(nettest tcp 127.0.0.1 7000 5000000)"
	has "ok 60" "$(nettest many 127.0.0.1 7000 60)"
	wait_until answers 7001 "HTTP/1.1 404 Not Found"
	run nettest tcp 127.0.0.1 7002 1000
	has reset "$output"
	# All the rest is the namespace's own.
	run nettest tcp 127.0.0.2 7000 1000
	has refused "$output"
	is 1 "$(listening | wc -l)"

	kill -9 "$(part_of proxy p)"
	wait_until closed
	run nettest tcp 127.0.0.1 7000 1000
	has refused "$output"
	husk delete --force p
}

@test "a container's that is in no pod is the namespace's: others may be in it" {
	pod c single nettest serve 7000
	wait_until serves c
	run nettest tcp 127.0.0.1 7000 1000
	has refused "$output"
	is "" "$(listening)"
	husk delete --force c
}
