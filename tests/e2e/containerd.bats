#!/usr/bin/env bats
# containerd with io.containerd.runc.v2 and husk as its runtime. No network: the image is made here.

load helpers
load cgroup
load containerd

setup_file() {
	make_base
	command -v containerd umoci skopeo >/dev/null || return 0
	export CTD=$BASE/ctd
	# A container's cgroup is /NAMESPACE/ID: others may have a c1 in the default one.
	export CONTAINERD_NAMESPACE=husk-e2e-$$
	mkdir -p "$CTD"
	start_containerd
	wait_until ctr_up
	make_image "$CTD/image.tar"
	ctr image import "$CTD/image.tar" >/dev/null
}

teardown_file() {
	[[ ${CTD:-} ]] || return 0
	kill "$(cat "$CTD/pid")"
	wait_until gone "$(cat "$CTD/pid")"
	cut -d' ' -f5 /proc/self/mountinfo | grep "^$CTD/" | xargs -r -n 1 umount
	all_ended
	remove_cgroups "/$CONTAINERD_NAMESPACE"
}

setup() {
	setup_test
	[[ ${CTD:-} ]] || skip "containerd, umoci or skopeo is missing"
	IMAGE=example.org/box:latest
}

teardown() { check_nothing_left; }

# What every container is made with; --runc-root is husk's --root.
ctr_run() {
	ctr run --runtime io.containerd.runc.v2 --runc-binary "$HUSK" --runc-root "$ROOT" "$@"
}

task_stopped() { ctr task ls | grep -q "^$1 .*STOPPED"; }

clean_root() { wait_until is_empty_root && rm -rf "$ROOT"; }
is_empty_root() { [[ -z $(find "$ROOT" -name state.json 2>/dev/null) ]]; }

@test "ctr run: output, kernel, exit status" {
	run --separate-stderr ctr_run --rm "$IMAGE" c1 sh -c 'uname -r; pwd; echo err >&2; exit 7'
	status_is 7
	[[ ${lines[0]} == 6.12.* && ${lines[0]} != "$(uname -r)" ]]
	is /tmp "${lines[1]}"
	is err "$stderr"
	clean_root
}

@test "ctr run --detach, task exec, ls, ps, kill, rm" {
	ctr_run -d "$IMAGE" c2 sh -c 'trap "exit 5" TERM; touch /tmp/ready; while :; do sleep 0.1; done'
	has RUNNING "$(ctr task ls | grep c2)"
	run --separate-stderr ctr task exec --exec-id e1 c2 sh -c 'until [ -e /tmp/ready ]; do sleep 0.1; done; cat /proc/1/comm; exit 9'
	status_is 9
	is sh "$output"
	is "typed" "$(echo typed | ctr task exec --exec-id e2 c2 cat)"
	run ctr task exec --exec-id e3 c2 no-such-command
	[[ $status != 0 ]]
	has "executable file not found" "$output"
	pid=$(ctr task ls | awk '$1 == "c2" { print $2 }')
	has "$pid" "$(ctr task ps c2)"
	ctr task kill c2
	wait_until task_stopped c2
	ctr task rm c2 || true
	ctr container rm c2
	clean_root
}

@test "ctr task kill -s KILL, and rm --force of a running task" {
	ctr_run -d "$IMAGE" c3 sleep 1000
	ctr task kill -s SIGKILL c3
	wait_until task_stopped c3
	ctr task rm c3 || true
	ctr container rm c3
	ctr_run -d "$IMAGE" c4 sleep 1000
	ctr task rm --force c4
	ctr container rm c4
	clean_root
}

@test "ctr run with a terminal" {
	ctr_wrap=$(printf '%q ' ctr -a "$CTD/sock" run --rm -t --runc-binary "$HUSK" --runc-root "$ROOT" "$IMAGE" c5 sh)
	on_pty --size 90x25 bash -c "exec $ctr_wrap" <<-'S'
		expect # 
		send until stty size | grep "25 9""0"; do sleep 0.1; done; echo $((6*7))\n
		expect 25 90
		expect 42
		send exit 3\n
		exit 3
	S
	clean_root
}

@test "a command that is not there is reported by ctr run" {
	run ctr_run --rm "$IMAGE" c6 no-such-command
	[[ $status != 0 ]]
	has 'exec: "no-such-command": executable file not found in $PATH' "$output"
	ctr container rm c6 2>/dev/null || true
	clean_root
}

@test "--rm after the VM died" {
	ctr_run -d "$IMAGE" c7 sleep 1000
	kill -9 "$(jq .vmm_pid "$ROOT/$CONTAINERD_NAMESPACE/c7/state.json")"
	wait_until task_stopped c7
	ctr task rm c7 || true
	ctr container rm c7
	clean_root
}
