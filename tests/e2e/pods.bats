#!/usr/bin/env bats
# Pods: containers that join a sandbox's microVM (docs/pods.md). Bundles are as containerd's CRI plugin writes them,
# where a test does not say otherwise.

load helpers

setup_file() { make_base; }

setup() {
	setup_test
	SHM=$T/shm
	mkdir "$SHM"
	mount -t tmpfs -o nosuid,noexec,nodev,mode=1777,size=8m shm "$SHM"
	printf 'nameserver 10.9.8.7\n' >"$T/resolv.conf"
	N_MEMBERS=0
}

teardown() {
	local id
	for id in "$ROOT"/*/; do
		[[ ! -d $id ]] || husk delete --force "$(basename "$id")"
	done
	unmount "$SHM"
	check_nothing_left
}

# ---- bundles

# sandbox ID [FILTER [ARG...]]: a running sandbox.
sandbox() {
	local id=$1 filter=${2:-.}
	shift $(($# < 2 ? $# : 2))
	(($#)) || set -- sleep 100000
	bundle "$id" ".annotations = {\"io.kubernetes.cri.container-type\": \"sandbox\", \"io.kubernetes.cri.sandbox-id\": \"$id\",
			\"io.kubernetes.cri.sandbox-namespace\": \"default\", \"io.kubernetes.cri.sandbox-name\": \"pod\"}
		| .hostname = \"pod-$id\" | .root.readonly = true
		| del(.mounts[] | select(.destination == \"/dev/shm\"))
		| .mounts += [{destination: \"/dev/shm\", type: \"bind\", source: \"$SHM\", options: [\"rbind\", \"ro\"]},
			{destination: \"/etc/resolv.conf\", type: \"bind\", source: \"$T/resolv.conf\", options: [\"rbind\", \"ro\"]}]
		| $filter" "$@"
	husk run -d -b "$B" "$id" </dev/null >"$T/$id.out" 2>"$T/$id.err" || { cat "$T/$id.err" && return 1; }
	SANDBOX=$id
}

# member ID [FILTER [ARG...]]: the bundle of a container that joins the last sandbox.
member() {
	local id=$1 filter=${2:-.} pid
	shift $(($# < 2 ? $# : 2))
	(($#)) || set -- sh -c 'trap "exit 0" TERM; echo up; sleep 100000 & wait'
	pid=$(part_of proxy "$SANDBOX")
	touch "$T/$id.log"
	printf '127.0.0.1 localhost\n' >"$T/hosts"
	bundle "$id" ".annotations = {\"io.kubernetes.cri.container-type\": \"container\", \"io.kubernetes.cri.sandbox-id\": \"$SANDBOX\",
			\"io.kubernetes.cri.container-name\": \"$id\"}
		| del(.hostname)
		| .linux.namespaces |= map(.type as \$t | if \$t == \"ipc\" or \$t == \"uts\" then .path = \"/proc/$pid/ns/\(\$t)\"
			elif \$t == \"network\" then .path = \"/proc/$pid/ns/net\" else . end)
		| del(.mounts[] | select(.destination == \"/dev/shm\"))
		| .mounts += [{destination: \"/etc/hosts\", type: \"bind\", source: \"$T/hosts\", options: [\"rbind\", \"rprivate\", \"rw\"]},
			{destination: \"/dev/termination-log\", type: \"bind\", source: \"$T/$id.log\", options: [\"rbind\", \"rprivate\", \"rw\"]},
			{destination: \"/etc/resolv.conf\", type: \"bind\", source: \"$T/resolv.conf\", options: [\"rbind\", \"rprivate\", \"rw\"]},
			{destination: \"/dev/shm\", type: \"bind\", source: \"$SHM\", options: [\"rbind\", \"rprivate\", \"rw\"]}]
		| $filter" "$@"
}

# join ID [FILTER [ARG...]]: and it runs.
join() {
	member "$@"
	husk run -d -b "$B" "$1" </dev/null >"$T/$1.out" 2>"$T/$1.err" || { cat "$T/$1.err" && return 1; }
}

# refused FILTER MESSAGE: a member with this is not made.
refused() {
	local b=member$((++N_MEMBERS))
	member "$b" "$1"
	run --separate-stderr husk create -b "$B" "$b" </dev/null
	one_error "$2"
	[[ ! -e $ROOT/$b ]]
}

in_box() { husk exec "$@" </dev/null; }
box_reads() { [[ $(in_box "$1" cat "$2" 2>/dev/null) == "$3" ]]; }
reads() { [[ $(cat "$1" 2>/dev/null) == "$2" ]]; }

stop() {
	husk kill "$1" KILL
	wait_until is_stopped "$1"
}

# disks_of PID: how many files of disks a husk-vmm has open: scratch disks, trees.
disks_of() { find "/proc/$1/fd" \( -lname '*/changes/*' -o -lname '/memfd:*' \) 2>/dev/null | wc -l; }

# share_of ID: the pid of the sandbox's virtiofsd.
share_of() {
	local minder child
	minder=$(jq -r .share_pid "$ROOT/$1/state.json")
	read -r child <"/proc/$minder/task/$minder/children"
	echo "$child"
}

# open_in PID: how many descriptors the process has, which is virtiofsd's child.
open_in() { find "/proc/$(tr -d ' ' <"/proc/$1/task/$1/children")/fd" -mindepth 1 | wc -l; }
has_open() { [[ $(open_in "$1") == "$2" ]]; }

# ---- tests

@test "containers of a pod share one microVM, its network, ipc and host name, and nothing else" {
	sandbox s
	join a
	join b
	is 1 "$(find "$ROOT" -type s -name vmm.sock | wc -l)"
	is "../s/vmm.sock" "$(readlink "$ROOT/a/vmm.sock")"
	is "0 0" "$(jq -r .vmm_pid "$ROOT"/{a,b}/state.json | xargs)"
	is "$(readlink "/proc/$(part_of proxy s)/ns/net")" "$(readlink "/proc/$(part_of proxy a)/ns/net")"
	is "pod-s pod-s" "$(in_box a hostname) $(in_box b hostname)"
	is "nameserver 10.9.8.7" "$(in_box a cat /etc/resolv.conf)"
	# network
	in_box -d a sh -c 'while echo over the network | nc -l -p 7777; do :; done'
	wait_until box_reads_net b 7777 "over the network"
	# ipc: message queues, shared memory
	in_box a sh -c 'touch /dev/mqueue/q; echo mine >/dev/shm/x'
	in_box b test -e /dev/mqueue/q
	is "mine" "$(in_box b cat /dev/shm/x)"
	is 8192 "$(in_box b df -k /dev/shm | awk 'END { print $2 }')"
	[[ ! -e $SHM/x ]]
	# roots and processes are their own
	in_box a sh -c 'echo a >/only-here'
	run ! in_box b test -e /only-here
	is 1 "$(in_box b ps -o pid,args | grep -c 'trap')"
	has "$(pid_of b)" "$(husk ps -f json b)"
	is "a running,b running,s running" "$(husk list -f json | jq -r 'map("\(.id) \(.status)") | join(",")')"
	# an end is one container's
	wait_until grep -q up "$T/a.out"
	husk kill a TERM
	wait_until is_stopped a
	is "a" "$(cat "$T/a/rootfs/only-here")"
	is running "$(state_of b)"
	husk delete a
	in_box b true
	is running "$(state_of s)"
}
box_reads_net() { [[ $(in_box "$1" nc 127.0.0.1 "$2" 2>/dev/null) == "$3" ]]; }

@test "what a container that was deleted had is there for the next one" {
	sandbox s
	local i vmm share fds before files
	vmm=$(vmm_of s) share=$(share_of s)
	files=$(open_in "$share")
	mkdir "$T/empty"
	for ((i = 0; i < $(rounds 5 3); i++)); do
		join c ".mounts += [{destination: \"/e\", type: \"bind\", source: \"$T/empty\", options: [\"rbind\", \"rw\"]}]" \
			sh -c "echo $i >>/e/log; echo $i >/made"
		wait_until is_stopped c
		husk delete c
		is "$i" "$(cat "$T/c/rootfs/made")"
		is 1 "$(wc -l <"/proc/$share/mountinfo")"
		fds=$(disks_of "$vmm")
		((i > 0)) || before=$fds
		rm -rf "$T/c"
	done
	is "$before" "$fds"
	# nor does virtiofsd keep the file system of a share in use
	wait_until has_open "$share" "$files"
	is "$i" "$(wc -l <"$T/empty/log")"
	is "" "$(ls "$HUSK_DATA/changes")"
}

@test "a pod's containers may share their processes" {
	sandbox s '.' sh -c 'trap "exit 0" TERM; sleep 100000 & wait'
	local pid
	pid=".linux.namespaces |= map(if .type == \"pid\" then .path = \"/proc/$(part_of proxy s)/ns/pid\" else . end)"
	join a "$pid" sleep 1111
	join b "$pid" sleep 2222
	has "sleep 2222" "$(in_box a ps -o args)"
	has "sleep 1111" "$(in_box b ps -o args)"
	stop a
	husk delete a
	is "" "$(in_box b ps -o args | grep 'sleep 1111')"
	is running "$(state_of b)"
	# one that shares the processes of a container that is not the sandbox
	join c ".linux.namespaces |= map(if .type == \"pid\" then .path = \"/proc/$(part_of proxy b)/ns/pid\" else . end)" sleep 3333
	has "sleep 3333" "$(in_box b ps -o args)"
	stop s
	wait_until is_stopped b
	wait_until is_stopped c
}

@test "a pod with a user namespace: its containers are in it" {
	# the image's files are not the mapped root's: nothing can be made in them
	local maps='del(.mounts[] | select(.destination | startswith("/etc/"))) | .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] | .linux.gidMappings = .linux.uidMappings'
	sandbox s ".linux.namespaces += [{type: \"user\"}] | $maps"
	# as containerd writes it: the path, and the mappings again
	join a ".linux.namespaces += [{type: \"user\", path: \"/proc/$(part_of proxy s)/ns/user\"}] | $maps"
	is "$(in_box s readlink /proc/self/ns/user)" "$(in_box a readlink /proc/self/ns/user)"
	is "0 100000 65536" "$(in_box a cat /proc/self/uid_map | xargs)"
	in_box a sh -c 'touch /dev/mqueue/q; echo shared >/dev/shm/x'
	is shared "$(in_box s cat /dev/shm/x)"
	refused '.linux.namespaces += [{type: "user", path: "/proc/1/ns/user"}]' \
		'linux.namespaces[6].path: /proc/1/ns/user: is of no container of the pod "s"'
}

@test "Kubernetes' files: hosts, termination log, tokens that are exchanged, a directory of the pod's own" {
	local token=$T/token tokens
	mkdir -p "$token/..1" "$T/empty"
	echo one >"$token/..1/token"
	ln -s ..1 "$token/..data"
	ln -s ..data/token "$token/token"
	sandbox s
	tokens=".mounts += [{destination: \"/var/run/secrets/kubernetes.io/serviceaccount\", type: \"bind\", source: \"$token\",
			options: [\"rbind\", \"rprivate\", \"ro\"]},
		{destination: \"/cache\", type: \"bind\", source: \"$T/empty\", options: [\"rbind\", \"rprivate\", \"rw\"]}]"
	join a "$tokens"
	join b "$tokens"
	in_box a sh -c 'echo from a >/cache/f'
	is "from a" "$(in_box b cat /cache/f)"
	is "from a" "$(cat "$T/empty/f")"
	is one "$(in_box a cat /var/run/secrets/kubernetes.io/serviceaccount/token)"
	mkdir "$token/..2"
	echo two >"$token/..2/token"
	ln -s ..2 "$token/..data_tmp"
	mv -T "$token/..data_tmp" "$token/..data"
	rm -r "$token/..1"
	wait_until box_reads a /var/run/secrets/kubernetes.io/serviceaccount/token two
	wait_until box_reads b /var/run/secrets/kubernetes.io/serviceaccount/token two
	run ! in_box a touch /var/run/secrets/kubernetes.io/serviceaccount/x
	# each has a termination log of its own, under the same name
	in_box a sh -c 'echo done a >/dev/termination-log'
	in_box b sh -c 'echo done b >/dev/termination-log'
	wait_until reads "$T/a.log" "done a"
	wait_until reads "$T/b.log" "done b"
	echo '10.0.0.1 later' >>"$T/hosts"
	wait_until eval "in_box a grep -q later /etc/hosts"
	stop a
	husk delete a
	is two "$(in_box b cat /var/run/secrets/kubernetes.io/serviceaccount/token)"
	is "from a" "$(in_box b cat /cache/f)"
}

@test "the end of the sandbox is the end of all, with what they wrote" {
	sandbox s
	join a '.' sh -c 'trap "" TERM; echo a >/made; sleep 100000 & wait'
	join b
	in_box b sh -c 'echo b >/made'
	wait_until box_reads a /made a
	local vmm
	vmm=$(vmm_of s)
	stop s
	wait_until is_stopped a
	wait_until is_stopped b
	wait_until gone "$vmm"
	is "a b" "$(cat "$T"/{a,b}/rootfs/made | xargs)"
	refused . 'annotations["io.kubernetes.cri.sandbox-id"]: sandbox "s" has stopped'
	run --separate-stderr husk exec a true
	one_error "cannot exec in a stopped container" 255
	husk delete b
	husk delete s
	husk delete a
}

@test "delete --force takes a pod's containers away in any order" {
	sandbox s
	join a
	join b
	in_box a sh -c 'echo a >/made'
	in_box b sh -c 'echo b >/made'
	husk delete --force b
	is b "$(cat "$T/b/rootfs/made")"
	is running "$(state_of a)"
	husk delete --force s
	is stopped "$(state_of a)"
	is a "$(cat "$T/a/rootfs/made")"
	husk delete --force a
}

@test "a killed VM, or sandbox, ends the pod; what was synced is not lost" {
	local part
	for part in vmm proxy; do
		sandbox s
		join a '.' sh -c "echo $part >/made; sync; echo x >/synced; sleep 100000"
		wait_until in_box a test -e /synced
		kill -9 "$(part_of $part s)"
		wait_until is_stopped a
		wait_until is_stopped s
		husk delete a
		is "$part" "$(cat "$T/a/rootfs/made")"
		husk delete s
		rm -rf "$T/a" "$T/s"
	done
}

@test "a joiner whose proxy is killed ends alone, and delete finds its changes" {
	sandbox s
	join a '.' sh -c 'echo a >/made; sleep 100000'
	join b
	wait_until in_box a test -e /made
	kill -9 "$(part_of proxy a)"
	wait_until is_stopped a
	husk delete a
	is a "$(cat "$T/a/rootfs/made")"
	in_box b true
	is "" "$(find "$HUSK_DATA/changes" -name 'r-a-*')"
	# and so does sync
	in_box b sh -c 'echo b >/made; sync'
	kill -9 "$(part_of proxy b)"
	wait_until is_stopped b
	has "b: " "$(husk sync b)"
	is b "$(cat "$T/b/rootfs/made")"
	has "nothing to do" "$(husk sync b)"
	husk delete b
}

@test "sync, exec and kill of a container in a pod" {
	sandbox s
	join a
	# a file of the lower disk is replaced, too, which the disk of this container shows further on
	in_box a sh -c 'echo synced >/made; echo nobody >/etc/group'
	husk sync a
	is "synced nobody" "$(cat "$T/a/rootfs/made" "$T/a/rootfs/etc/group" | xargs)"
	has "\"held\":\"root.$(jq -r .tag "$ROOT/a/state.json")\"" "$(tr -d ' \n' <"$HUSK_DATA"/changes/r-a-*/journal.json)"
	echo pushed >"$T/a/rootfs/from-host"
	wait_until box_reads a /from-host pushed
	run husk exec a sh -c 'exit 42' </dev/null
	status_is 42
	run --separate-stderr husk exec a nowhere </dev/null
	status_is 255
	husk kill --all a KILL
	wait_until is_stopped a
	husk kill --all a KILL
	run --separate-stderr husk kill a KILL
	one_error "container not running"
}

@test "containers may join at the same time, until the machine is full" {
	sandbox s
	local i pids=() most=6
	for ((i = 0; i < most; i++)); do
		member "c$i" '.root.readonly = true' sleep 100000
		husk run -d -b "$B" "c$i" </dev/null >"$T/c$i.out" 2>&1 &
		pids+=($!)
	done
	for ((i = 0; i < most; i++)); do
		wait "${pids[i]}" || { cat "$T/c$i.out" && return 1; }
	done
	is $((most + 1)) "$(husk list -q | wc -l)"
	# two disks each
	for ((; i < 20; i++)); do
		member "c$i" . sleep 100000
		husk run -d -b "$B" "c$i" </dev/null >"$T/c$i.out" 2>"$T/c$i.err" || break
	done
	has "has no room for one more disk: with engine $ENGINE it has 16 at most" "$(cat "$T/c$i.err")"
	[[ ! -e $ROOT/c$i ]]
	is running "$(state_of c0)"
	stop c0
	husk delete c0
	stop c1
	husk delete c1
	husk run -d -b "$B" "c$i" </dev/null >"$T/c$i.out" 2>&1
	in_box "c$i" true
}

@test "a create that fails, or is killed, leaves nothing in the pod" {
	sandbox s
	local vmm share fds
	vmm=$(vmm_of s) share=$(share_of s)
	mkdir "$T/empty"
	local mount=".mounts += [{destination: \"/e\", type: \"bind\", source: \"$T/empty\", options: [\"rbind\", \"rw\"]}]"
	join a "$mount"
	fds=$(disks_of "$vmm")
	member b "$mount" /nowhere
	run --separate-stderr husk create -b "$B" b </dev/null
	status_is 1
	has "/nowhere" "$stderr"
	[[ ! -e $ROOT/b ]]
	is "$fds" "$(disks_of "$vmm")"
	is 2 "$(wc -l <"/proc/$share/mountinfo")"
	# killed in a hook, and in the middle of its work
	mkfifo "$T/go"
	member c "$mount | .hooks.createRuntime = [{path: \"/bin/sh\", args: [\"sh\", \"-c\", \"touch $T/there; cat $T/go\"]}]"
	"$HUSK" --root "$ROOT" create -b "$B" c </dev/null >/dev/null 2>&1 &
	local pid=$!
	wait_until test -e "$T/there"
	kill -9 $pid
	echo >"$T/go"
	wait_until is_stopped c
	husk delete c
	member d "$mount"
	local i
	for ((i = 0; i < $(rounds 8 3); i++)); do
		"$HUSK" --root "$ROOT" create -b "$B" d </dev/null >/dev/null 2>&1 &
		pid=$!
		read -rt "0.0$((i + 1))" -u "$TICK" || :
		kill -9 $pid 2>/dev/null || :
		wait $pid || :
		husk delete --force d
	done
	is "$fds" "$(disks_of "$vmm")"
	is 2 "$(wc -l <"/proc/$share/mountinfo")"
	in_box a true
}

@test "delete --force ends a start that hangs, and the pod goes on" {
	sandbox s
	join a
	member b '.hooks.startContainer = [{path: "/bin/sh", args: ["sh", "-c", "echo >/dev/shm/there; sleep 100000"], env: ["PATH=/bin"]}]'
	husk create -b "$B" b </dev/null >"$T/b.out" 2>&1
	"$HUSK" --root "$ROOT" start b </dev/null >"$T/b.out" 2>&1 &
	local pid=$!
	wait_until in_box a test -e /dev/shm/there
	husk delete --force b
	ended $pid 1
	in_box a true
	is running "$(state_of s)"
}

@test "who joins while the sandbox ends fails, or ends with it" {
	local i pid
	for ((i = 0; i < $(rounds 4 2); i++)); do
		sandbox s
		member a '.' sh -c 'echo a >/made; sleep 100000'
		"$HUSK" --root "$ROOT" run -d -b "$B" a </dev/null >"$T/a.out" 2>"$T/a.err" &
		pid=$!
		read -rt "0.0$((i * 3))" -u "$TICK" || :
		husk kill s KILL
		wait_until gone $pid
		if wait $pid; then
			wait_until is_stopped a
			husk delete a
		else
			is 1 "$(grep -c '^husk: error: ' "$T/a.err")"
			[[ ! -e $ROOT/a ]]
		fi
		wait_until is_stopped s
		husk delete s
		is "" "$(ls "$HUSK_DATA/changes")"
		rm -rf "$T/a" "$T/s"
	done
}

@test "who cannot join is told why" {
	sandbox s
	start_box single "del(.mounts[] | select(.destination == \"/dev/shm\"))
		| .mounts += [{destination: \"/dev/shm\", type: \"bind\", source: \"$SHM\", options: [\"bind\", \"rprivate\"]}]"
	# an engine's /dev/shm is the guest's, of a single container, too
	is "tmpfs 8192" "$(in_box single sh -c "stat -f -c %T /dev/shm; df -k /dev/shm | awk 'END { print \$2 }'" | xargs)"
	local key='annotations["io.kubernetes.cri.sandbox-id"]' pid
	pid=$(part_of proxy s)
	refused '.annotations["io.kubernetes.cri.sandbox-id"] = "none"' "$key: sandbox: container \"none\" does not exist"
	refused '.annotations["io.kubernetes.cri.sandbox-id"] = "single"' "$key: container \"single\" is no sandbox: its VM is its own"
	refused '.linux.namespaces |= map(if .type == "network" then .path = "/proc/1/ns/net" else . end)' \
		'linux.namespaces[1].path: /proc/1/ns/net: is not the network namespace of the sandbox "s"'
	refused '.linux.namespaces |= map(if .type == "network" then del(.path) else . end)' \
		'linux.namespaces[1]: a new network namespace: the containers of a pod share their microVM'"'"'s network: name that of the sandbox "s"'
	refused '.linux.namespaces |= map(if .type == "ipc" then .path = "/proc/1/ns/ipc" else . end)' \
		'linux.namespaces[2].path: /proc/1/ns/ipc: is of no container of the pod "s"'
	refused ".linux.namespaces |= map(if .type == \"uts\" then .path = \"/proc/$(part_of proxy single)/ns/uts\" else . end)" \
		"linux.namespaces[3].path: /proc/$(part_of proxy single)/ns/uts: is of no container of the pod \"s\""
	run --separate-stderr husk list -q
	is $'s\nsingle' "$output"
	end_box single
}

@test "podman's pods: the first container is known by its cgroup, and names of namespaces are its pid's" {
	local pod=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
	bundle infra ".annotations = {\"io.container.manager\": \"libpod\", \"io.kubernetes.cri-o.TTY\": \"false\"}
		| .linux.cgroupsPath = \"/libpod_parent/$pod/libpod-infra\"" sleep 100000
	husk run -d -b "$B" infra </dev/null
	SANDBOX=infra
	join c ".annotations = {\"io.container.manager\": \"libpod\", \"io.kubernetes.cri-o.ContainerType\": \"container\",
		\"io.kubernetes.cri-o.SandboxID\": \"infra\"} | .linux.cgroupsPath = \"/libpod_parent/$pod/libpod-c\""
	is "../infra/vmm.sock" "$(readlink "$ROOT/c/vmm.sock")"
	is "$(in_box infra hostname)" "$(in_box c hostname)"
}
