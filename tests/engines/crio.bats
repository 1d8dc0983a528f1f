#!/usr/bin/env bats
# What CRI-O does with a runtime, without CRI-O, which Debian 12 does not have: conmon, which it does have, with the
# arguments that CRI-O gives it, CRI-O's own calls, and its configuration file as far as a file can be checked.
# Namespaces of a pod are files, as CRI-O's pinns makes them.

load ../e2e/helpers
load ../e2e/netns

CONF=$TREE/contrib/crio/husk.conf

setup_file() {
	make_base
	cp "$NETTEST" "$ROOTFS/bin/"
}

setup() {
	setup_test
	command -v conmon >/dev/null || skip "conmon is missing"
	mkdir -p "$T"/{exits,logs,persist,sock,ipcns,utsns}
}

teardown() {
	umount "$T"/ipcns/* "$T"/utsns/* 2>/dev/null || :
	end_netns
	check_nothing_left
}

# pinned ID: the namespaces of a pod.
pinned() {
	make_netns "$1"
	touch "$T/ipcns/$1" "$T/utsns/$1"
	unshare --ipc="$T/ipcns/$1" --uts="$T/utsns/$1" hostname "$1"
}

# crio_bundle ID POD TYPE ARG...
crio_bundle() {
	bundle "$1" '.annotations = {"io.kubernetes.cri-o.ContainerType": "'"$3"'", "io.kubernetes.cri-o.SandboxID": "'"$2"'",
		"io.kubernetes.cri-o.TTY": "false", "io.container.manager": "cri-o"}
		| .hostname = (if "'"$3"'" == "sandbox" then "'"$2"'" else "" end)
		| .linux.namespaces = [{type: "pid"}, {type: "mount"},
			{type: "network", path: "'"$(ns_path "$2")"'"}, {type: "ipc", path: "'"$T/ipcns/$2"'"},
			{type: "uts", path: "'"$T/utsns/$2"'"}]' "${@:4}"
}

# create ID POD TYPE ARG...: as CRI-O does: conmon makes it, stays, and writes its log and its exit status.
create() {
	crio_bundle "$@"
	# What conmon says to who started it: the pid, or what the runtime said.
	_OCI_SYNCPIPE=7 conmon -b "$B" -c "$1" -u "$1" -n "k8s_$1" --exit-dir "$T/exits" --persist-dir "$T/persist" \
		--socket-dir-path "$T/sock" --full-attach --log-level info -l "$T/logs/$1.log" \
		-p "$T/$1.pid" -P "$T/$1.conmon" -r "$HUSK" --runtime-arg "--root=$ROOT" 3>&- 7>"$T/$1.sync"
	wait_until test -s "$T/$1.sync"
	is "$(cat "$T/$1.pid")" "$(jq .pid "$T/$1.sync")" || { cat "$T/$1.sync" && return 1; }
}

has_status() { [[ $(cat "$T/exits/$1" 2>/dev/null) == "$2" ]]; }
logged() { grep -q "$2" "$T/logs/$1.log"; }

@test "the configuration file: TOML that names the handler, the binary, and keeps infra containers" {
	conf=$(/usr/bin/python3 -c 'import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], "rb"))))' "$CONF")
	is '["runtime_path","runtime_type","runtime_root","privileged_without_host_devices"]' \
		"$(jq -c '.crio.runtime.runtimes.husk | keys_unsorted' <<<"$conf")"
	is false "$(jq .crio.runtime.drop_infra_ctr <<<"$conf")"
	is oci "$(jq -r .crio.runtime.runtimes.husk.runtime_type <<<"$conf")"
	make -s -C "$TREE" install DESTDIR="$T/install" PREFIX=/usr/local >/dev/null
	path=$T/install$(jq -r .crio.runtime.runtimes.husk.runtime_path <<<"$conf")
	# What CRI-O asks of a handler's binary when it starts.
	has "spec: " "$("$path" --version)"
	is object "$("$path" features | jq -r type)"
}

@test "a pod below conmon: infra container, two containers, logs, exits, execs, signals, update, delete" {
	pinned pod1
	create pod1 pod1 sandbox sh -c 'trap "exit 0" TERM; echo up; sleep 100000 & wait'
	husk start pod1
	wait_until logged pod1 "stdout F up"
	create web pod1 container nettest serve 7000
	is created "$(state_of web)"
	husk start web
	create job pod1 container sh -c 'trap "exit 9" USR1; echo out; echo err >&2; hostname; sleep 100000 & wait'
	husk start job
	is running "$(state_of job)"
	is "$(cat "$T/job.pid")" "$(pid_of job)"
	wait_until logged job "stdout F pod1"
	wait_until logged job "stderr F err"
	wait_until logged web ready

	# ExecSync is conmon with a process file; a probe is an exec in the foreground.
	jq '.process | .args = ["nettest", "tcp", "127.0.0.1", "7000", "1000"] | .terminal = false' "$T/job/config.json" >"$T/process"
	run husk exec --process "$T/process" job </dev/null
	is 0 "$status"
	has "ok 1000" "$output"
	jq '.args = ["sh", "-c", "echo by conmon; exit 5"]' "$T/process" >"$T/process2"
	conmon -c job -u job-exec -n k8s_job -r "$HUSK" --runtime-arg "--root=$ROOT" -e -b "$T/job" --exec-process-spec "$T/process2" \
		-p "$T/exec.pid" -l "$T/logs/exec.log" --exit-dir "$T/execs" --socket-dir-path "$T/sock" --log-level info \
		--persist-dir "$T/persist" 3>&- || :
	wait_until logged exec "by conmon"

	echo '{"memory": {"limit": 134217728}}' | husk update --resources - job
	husk pause job
	is paused "$(state_of job)"
	husk resume job
	husk kill job USR1
	wait_until has_status job 9
	is stopped "$(state_of job)"
	husk kill -a job 9 # gone already
	husk delete --force job
	run husk checkpoint --file-locks --image-path "$T/image" --work-path "$T" web
	[[ $status == 1 ]]
	has "not supported" "$output"
	husk kill web KILL
	wait_until has_status web 137
	husk delete --force web
	husk kill pod1 15
	wait_until has_status pod1 0
	husk delete --force pod1
	is "" "$(husk list -q)"
}
