#!/usr/bin/env bats
# Pods of Kubernetes, as its kubelet makes them: through the socket of containerd's CRI plugin, which is configured by
# contrib/containerd/config.toml. HUSK_TEST_RUNTIME=runc runs the same with runc.
# Scripts in quotes are for containers; every test has a pod of its own:
# shellcheck disable=SC2016,SC2030,SC2031

load ../e2e/helpers
load ../e2e/netns
load cri


setup_file() {
	make_base
	for c in containerd umoci skopeo protoc iptables; do command -v $c >/dev/null || return 0; done
	/usr/bin/python3 -c 'import grpc, websocket, google.protobuf' && [[ -x /usr/lib/cni/bridge ]] || return 0
	make_node
	start_node
	cp "$NETTEST" "$ROOTFS/bin/"
	import example.org/box:latest "$ROOTFS" --config.cmd sh
	mkdir "$BASE/pause"
	cp "$TREE/build/tests/pause" "$BASE/pause/"
	import registry.k8s.io/pause:3.6 "$BASE/pause" --config.entrypoint /pause
	export BEFORE
	BEFORE=$(ours | cut -d' ' -f1)
}

teardown_file() {
	[[ ${NODE:-} ]] || return 0
	end_node
}

setup() {
	setup_test
	[[ ${NODE:-} ]] || skip "containerd, umoci, skopeo, protoc, iptables, CNI's plugins, or Python's grpc, protobuf, websocket are missing"
	ROOT=$NODE/run/k8s.io
	NETNS_BEFORE=$(netns_of_pods)
}

# Whatever a test did not come to remove, the kubelet would.
teardown() {
	local id
	[[ ${NODE:-} ]] || return 0
	if [[ ${BATS_TEST_COMPLETED:-} != 1 ]]; then
		tail -n 30 "$NODE/log" | cut -c 1-400
		for id in $(cri ListPodSandbox | jq -r '.items[].id'); do end_pod "$id" || :; done
		for id in $(cri ListContainers | jq -r '.containers[].id'); do remove "$id" || :; done
	fi
	BEFORE+=$'\n'$(cat "$NODE/pid") # one that a test started is the next one's
	check_nothing_left
	is "$NETNS_BEFORE" "$(netns_of_pods)"
	is "" "$(cgroups_of_pods)"
	is "" "$(ctr task ls -q)"
	is "" "$(cri ListContainers | jq -r '.containers[].id')"
}

netns_of_pods() { cut -d' ' -f5 /proc/self/mountinfo | grep "^$NODE/state/io.containerd.grpc.v1.cri/netns/" || :; }
cgroups_of_pods() { find /sys/fs/cgroup -path "*/$CGROUP/*" -type d ! -name limited 2>/dev/null; }
with_runc() { [[ ${HUSK_TEST_RUNTIME:-} == runc ]]; }

SHARED_PIDS='.linux.security_context.namespace_options.pid = 0'

ON_TERM='trap "exit 0" TERM'
STAY="$ON_TERM; sleep 100000 & wait"

@test "a pod of two containers: one localhost, one ipc and host name, root file systems of their own; exec, logs" {
	pod=$(pod one '.dns_config = {servers: ["192.0.2.53"], searches: ["test.example.org"]}')
	a=$(run_container "$pod" one a . sh -c "$ON_TERM; echo A >/mine; echo from a; echo worse >&2; $STAY")
	b=$(run_container "$pod" one b '.envs = [{key: "WHO", value: "b"}] | .working_dir = "/tmp"' sh -c "echo from \$WHO; nettest serve 7000")
	is SANDBOX_READY "$(pod_status "$pod" .state)"
	is husk "$(pod_status "$pod" .runtime_handler)"
	is "CONTAINER_RUNNING CONTAINER_RUNNING" "$(cri ListContainers | jq -r '[.containers[].state] | join(" ")')"

	wait_until logged one b ready
	wait_until logged one a "from a"
	wait_until logged one a worse
	run exec_sync "$a" nettest tcp 127.0.0.1 7000 100000
	has "ok 100000" "$output"
	in_ns node "$NETTEST" tcp "$(pod_ip "$pod")" 7000 1000
	is one "$(exec_sync "$a" hostname)"
	is one "$(exec_sync "$b" hostname)"
	has "nameserver 192.0.2.53" "$(exec_sync "$b" cat /etc/resolv.conf)"
	is "$(exec_sync "$a" readlink /proc/self/ns/ipc)" "$(exec_sync "$b" readlink /proc/self/ns/ipc)"
	is "$(exec_sync "$a" readlink /proc/self/ns/net)" "$(exec_sync "$b" readlink /proc/self/ns/net)"
	exec_sync "$a" sh -c 'echo shared >/dev/shm/file'
	is shared "$(exec_sync "$b" cat /dev/shm/file)"
	is A "$(exec_sync "$a" cat /mine)"
	run exec_sync "$b" cat /mine
	has "No such file" "$output"
	is /tmp "$(exec_sync "$b" pwd)"
	is sh "$(exec_sync "$a" sh -c 'cat /proc/1/comm')" # pids of its own

	has "stderr F worse" "$(cat "$NODE/logs/one/a.log")"
	has "stdout F from a" "$(cat "$NODE/logs/one/a.log")"
	has "from b" "$(log_of one b)"
	mv "$NODE/logs/one/a.log" "$NODE/logs/one/a.log.1" # rotated
	cri ReopenContainerLog "{\"container_id\": \"$a\"}"
	[[ -e $NODE/logs/one/a.log ]]

	# Streams: a pipe each, a terminal, statuses.
	run cri exec "$a" sh -c 'echo out; echo err >&2; exit 7'
	is 7 "$status"
	has out "$output"
	has err "$output"
	is "got it" "$(echo it | cri exec -i "$a" sh -c 'read -r x; echo got $x')"
	run on_tty "$a" 'until stty size | grep -x "40 1""00"; do sleep 0.1; done; exit 3'
	is 3 "$status"
	has "40 100" "$output"
	run exec_sync "$a" nothing-of-this-name
	has "nothing-of-this-name" "$output"
	run cri ExecSync "$(jq -n --arg id "$a" '{container_id: $id, cmd: ["sleep", "1000"], timeout: 1}')"
	has "timeout" "$output"

	stop "$a"
	is "CONTAINER_EXITED 0 Completed" "$(status_of "$a" '"\(.state) \(.exit_code) \(.reason)"')"
	run exec_sync "$a" true
	[[ $status != 0 ]]
	is 0 "$(exec_sync "$b" sh -c 'echo 0')"
	remove "$a"
	end_pod "$pod"
}

# on_tty ID LINE: a shell on a terminal is told LINE.
on_tty() {
	local fifo=$T/keys
	rm -f "$fifo"
	mkfifo "$fifo"
	exec {KEYS}<>"$fifo"
	echo "$2" >&"$KEYS"
	cri exec -i -t "$1" sh <&"$KEYS" || { set -- $? && exec {KEYS}>&- && return "$1"; }
	exec {KEYS}>&-
}

@test "port-forward: what listens on the pod's localhost, and on all addresses; two ports at once; nobody there" {
	pod=$(pod ports)
	run_container "$pod" ports local . sh -c 'mkdir /www && echo one >/www/file && httpd -f -p 127.0.0.1:8001 -h /www'
	run_container "$pod" ports all . sh -c 'mkdir /www && head -c 3000000 /dev/zero | tr "\0" Z >/www/file && httpd -f -p 8002 -h /www'
	wait_until answers 8001
	wait_until answers 8002
	has one "$(forward 8001)"
	forward 8002 >"$T/much"
	is 3000000 "$(tail -n 1 "$T/much" | wc -c)"
	forward 8001 8002 >"$T/both"
	grep -q one "$T/both" # somewhere between the others
	is 3000000 "$(tr -dc Z <"$T/both" | wc -c)"
	run forward 8003
	[[ $output != *HTTP* ]]
	end_pod "$pod"
}

forward() { printf 'GET /file HTTP/1.0\r\n\r\n' | cri port-forward "$pod" "$@"; }
answers() { forward "$1" 2>/dev/null | grep -q '200 OK'; }

@test "a container that ends, fails, or needs too much memory leaves its neighbour alone; it is made again in the pod" {
	pod=$(pod lives)
	a=$(run_container "$pod" lives stays . sh -c "$STAY")
	b=$(run_container "$pod" lives fails . sh -c 'echo first; exit 5')
	wait_until has_exited "$b"
	is "5 Error" "$(status_of "$b" '"\(.exit_code) \(.reason)"')"
	b=$(run_container "$pod" lives fails '.metadata.attempt = 1 | .log_path = "fails.1.log"' sh -c "echo second; $STAY")
	remove "$(cri ListContainers | jq -r '.containers[] | select(.state == "CONTAINER_EXITED").id')"
	wait_until logged lives fails.1 second
	# All of it in one call: a program that has to be read anew, page by page, dies slowly.
	c=$(run_container "$pod" lives greedy '.linux.resources.memory_limit_in_bytes = 33554432' \
		dd if=/dev/zero of=/dev/null bs=64M count=1)
	wait_until has_exited "$c"
	is 137 "$(status_of "$c" .exit_code)"
	wait_until has_reason "$c" OOMKilled # heard by containerd before its end or after
	is "CONTAINER_RUNNING CONTAINER_RUNNING" "$(status_of "$a" .state) $(status_of "$b" .state)"
	is ok "$(exec_sync "$a" echo ok)"
	is ok "$(exec_sync "$b" echo ok)"
	remove "$c"
	# Many one after another: what they had is free for the next one.
	for i in 1 2 3; do
		c=$(run_container "$pod" lives "next$i" . true)
		wait_until has_exited "$c"
		is 0 "$(status_of "$c" .exit_code)"
		remove "$c"
	done
	end_pod "$pod"
}

@test "shareProcessNamespace: containers see each other's processes, and pause takes their orphans" {
	pod=$(pod pids "$SHARED_PIDS")
	a=$(run_container "$pod" pids a "$SHARED_PIDS" sh -c "$STAY")
	b=$(run_container "$pod" pids b "$SHARED_PIDS" nettest serve 7000)
	is pause "$(exec_sync "$a" cat /proc/1/comm)"
	has "nettest serve" "$(exec_sync "$a" ps)"
	exec_sync "$a" sh -c 'kill -9 $(pidof nettest)'
	wait_until has_exited "$b"
	is 137 "$(status_of "$b" .exit_code)"
	is CONTAINER_RUNNING "$(status_of "$a" .state)"
	end_pod "$pod"
}

@test "volumes: a directory that two containers share, files, read-only ones" {
	mkdir -p "$T"/{empty,config}
	echo key=value >"$T/config/file"
	echo secret >"$T/token"
	echo 127.0.0.1 localhost >"$T/hosts"
	local mounts
	mounts=$(jq -cn --arg t "$T" '[{container_path: "/work", host_path: ($t + "/empty")},
		{container_path: "/config", host_path: ($t + "/config"), readonly: true},
		{container_path: "/run/token", host_path: ($t + "/token"), readonly: true},
		{container_path: "/etc/hosts", host_path: ($t + "/hosts")}]')
	pod=$(pod volumes)
	a=$(run_container "$pod" volumes a ".mounts = $mounts" sh -c "$STAY")
	b=$(run_container "$pod" volumes b ".mounts = $mounts" sh -c "$STAY")
	exec_sync "$a" sh -c 'echo of a >/work/a'
	is "of a" "$(exec_sync "$b" cat /work/a)"
	is "of a" "$(cat "$T/empty/a")"
	is key=value "$(exec_sync "$b" cat /config/file)"
	is secret "$(exec_sync "$a" cat /run/token)"
	run exec_sync "$a" sh -c 'echo no >/config/file'
	has "Read-only" "$output"
	run exec_sync "$b" sh -c 'echo no >/run/token'
	has "Read-only" "$output"
	echo later >"$T/config/later"
	wait_until exec_sync "$b" test -e /config/later
	remove_container "$a"
	is "of a" "$(exec_sync "$b" cat /work/a)"
	end_pod "$pod"
}

remove_container() { stop "$1" && remove "$1"; }

@test "security contexts: a read-only root, users and groups, capabilities, seccomp, privileged, sysctls of the pod" {
	pod=$(pod safe '.linux.sysctls = {"net.ipv4.ip_unprivileged_port_start": "80"}')
	a=$(run_container "$pod" safe a '.linux.security_context = {readonly_rootfs: true, run_as_user: {value: 1000}, run_as_group: {value: 1000}, supplemental_groups: [4242], no_new_privs: true,
		namespace_options: {pid: 1}, capabilities: {drop_capabilities: ["ALL"]}, seccomp: {profile_type: 0},
		masked_paths: ["/proc/kcore"], readonly_paths: ["/proc/sys"]}' sh -c "$STAY")
	b=$(run_container "$pod" safe b '.linux.security_context = {namespace_options: {pid: 1},
		capabilities: {add_capabilities: ["NET_ADMIN"]}}' sh -c "$STAY")
	is "1000 1000" "$(exec_sync "$a" sh -c 'echo $(id -u) $(id -g)')"
	has 4242 "$(exec_sync "$a" id -G)"
	run exec_sync "$a" sh -c 'echo >/tmp/file'
	has "Read-only" "$output"
	has "CapEff:	0000000000000000" "$(exec_sync "$a" cat /proc/self/status)"
	has "Seccomp:	2" "$(exec_sync "$a" cat /proc/self/status)"
	has "NoNewPrivs:	1" "$(exec_sync "$a" cat /proc/self/status)"
	is 80 "$(exec_sync "$b" cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
	has "Seccomp:	0" "$(exec_sync "$b" cat /proc/self/status)"
	exec_sync "$b" ip link add dummy7 type bridge # NET_ADMIN
	end_pod "$pod"
	with_runc && return # lacks capabilities for it where root does
	pod=$(pod strong '.linux.security_context.privileged = true')
	a=$(run_container "$pod" strong a '.linux.security_context = {privileged: true, namespace_options: {pid: 1}}' sh -c "$STAY")
	exec_sync "$a" mount -t tmpfs none /tmp
	exec_sync "$a" sh -c '! ls /dev | grep -E "^(kvm|sd|nvme)"'
	end_pod "$pod"
}

# On hosts with v1 hierarchies containerd gives containers no cgroup namespace: they see the pod's whole tree.
of_cgroup() { exec_sync "$1" sh -c 'cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/'"$2"; }

# The cgroup of a pod as the kubelet makes it, with this limit.
limit_pod() {
	local dir=/sys/fs/cgroup/memory file=memory.limit_in_bytes
	[[ -d $dir ]] || dir=/sys/fs/cgroup file=memory.max
	mkdir -p "$dir/$CGROUP/limited"
	echo "$1" >"$dir/$CGROUP/limited/$file"
}

@test "a pod's resources size its machine, the RuntimeClass's overhead is enough for it; containers' bind, are updated, and counted" {
	class=$TREE/contrib/kubernetes/runtimeclass.yaml
	is "node.k8s.io/v1 RuntimeClass husk husk" "$(awk '$1 ~ /^(apiVersion|kind|name|handler):$/ { printf "%s%s", sep, $2; sep = " " }' "$class")"
	grep -q '^\[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.husk\]$' /etc/containerd/config.toml
	overhead=$(sed -nE 's/^ +memory: ([0-9]+)Mi$/\1/p' "$class")
	limit_pod $(((overhead + 128) * 1048576))
	pod=$(pod sized '.linux.cgroup_parent += "/limited"
		| .linux.resources = {memory_limit_in_bytes: 134217728, cpu_quota: 150000, cpu_period: 100000, cpu_shares: 512}')
	a=$(run_container "$pod" sized a '.linux.resources = {memory_limit_in_bytes: 67108864, cpu_quota: 50000, cpu_period: 100000}' \
		sh -c "$STAY")
	if ! with_runc; then
		is 2 "$(exec_sync "$a" nproc)"
		kib=$(exec_sync "$a" awk '/^MemTotal/ { print $2 }' /proc/meminfo)
		((kib > 200000 && kib < 400000)) || { echo "MemTotal: $kib" && return 1; }
		is 67108864 "$(of_cgroup "$a" memory.max)"
		is "50000 100000" "$(of_cgroup "$a" cpu.max)"
	fi
	cri UpdateContainerResources "$(jq -n --arg id "$a" \
		'{container_id: $id, linux: {memory_limit_in_bytes: 134217728, cpu_quota: 150000, cpu_period: 100000}}')"
	with_runc || is 134217728 "$(of_cgroup "$a" memory.max)"

	# As much as it may have, of memory and of its files' cache.
	exec_sync "$a" sh -c 'for f in /dev/shm/file /file; do dd if=/dev/zero of=$f bs=1M count=57 2>/dev/null || exit; done; sync'
	is CONTAINER_RUNNING "$(status_of "$a" .state)"
	is SANDBOX_READY "$(pod_status "$pod" .state)"

	stats=$(cri ContainerStats "{\"container_id\": \"$a\"}")
	is a "$(jq -r .stats.attributes.metadata.name <<<"$stats")"
	jq -e '.stats.cpu.usage_core_nano_seconds.value | tonumber > 0' <<<"$stats"
	jq -e '.stats.memory.working_set_bytes.value | tonumber > 100000' <<<"$stats"
	stats=$(cri PodSandboxStats "{\"pod_sandbox_id\": \"$pod\"}" | jq .stats.linux)
	jq -e '.cpu.usage_core_nano_seconds.value | tonumber > 0' <<<"$stats"
	jq -e '.memory.working_set_bytes.value | tonumber > 60000000' <<<"$stats"
	is eth0 "$(jq -r .network.default_interface.name <<<"$stats")"
	is 1 "$(jq '.containers | length' <<<"$stats")"
	end_pod "$pod"
}

@test "what a pod cannot have is refused by name: the host's network, pids and ipc" {
	with_runc && skip "runc has them"
	run pod host '.hostname = "" | .linux.security_context.namespace_options.network = 2'
	[[ $status != 0 ]]
	has "linux.namespaces: a network namespace is needed" "$output"
	has hostNetwork "$output"
	run pod pids '.linux.security_context.namespace_options.pid = 2'
	[[ $status != 0 ]]
	has hostPID "$output"
	run pod ipc '.linux.security_context.namespace_options.ipc = 2'
	[[ $status != 0 ]]
	has hostIPC "$output"
	is "" "$(cri ListPodSandbox | jq -r '.items[].id')"
}

@test "a pod whose machine dies is not ready any more, its containers have ended, and all can be removed" {
	pod=$(pod dies)
	a=$(run_container "$pod" dies a . sh -c "$STAY")
	b=$(run_container "$pod" dies b . sh -c "$STAY")
	if with_runc; then
		kill -9 "$(jq -r .init_process_pid "$ROOT/$pod/state.json")" # nothing but the pause process
		wait_until is_not_ready "$pod"
	else
		kill -9 "$(part_of vmm "$pod")"
		wait_until is_not_ready "$pod"
		wait_until has_exited "$a"
		wait_until has_exited "$b"
		is 137 "$(status_of "$a" .exit_code)"
		run cri CreateContainer "$(jq --arg n again '.config.metadata.name = $n' "$T/dies.a")"
		[[ $status != 0 ]]
	fi
	end_pod "$pod"
	pod=$(pod dies) # in its place, as the kubelet does
	is SANDBOX_READY "$(pod_status "$pod" .state)"
	end_pod "$pod"
}

@test "containerd ends and comes back: pods go on, and are its again; attach to a container's terminal" {
	pod=$(pod stays)
	a=$(run_container "$pod" stays a '.tty = true | .stdin = true' sh -c "echo begun; exec sh")
	stop_node
	start_node
	is SANDBOX_READY "$(pod_status "$pod" .state)"
	is CONTAINER_RUNNING "$(status_of "$a" .state)"
	is ok "$(exec_sync "$a" echo ok)"
	mkfifo "$T/keys"
	exec {KEYS}<>"$T/keys"
	cri attach -i -t "$a" <"$T/keys" >"$T/screen" 2>&1 3>&- &
	attached=$!
	echo 'echo $((6 * 7)); tty; exit 4' >&"$KEYS"
	wait_until grep -q 42 "$T/screen"
	exec {KEYS}>&-
	wait_until has_exited "$a"
	is 4 "$(status_of "$a" .exit_code)"
	wait_until gone $attached
	has /dev/pts "$(cat "$T/screen")"
	logged stays a begun
	end_pod "$pod"
}
