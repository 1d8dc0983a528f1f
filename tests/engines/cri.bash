# cri.bash - a Kubernetes node as far as containerd is it: containerd with its CRI plugin, configured by
# contrib/containerd/config.toml, husk installed below /usr/local, a CNI bridge. Paths that configuration names are
# the test's own: in its view of the mounts they lead to $NODE. Its network namespace is `node`.
# HUSK_TEST_RUNTIME=runc puts runc in husk's place.
# shellcheck shell=bash

CRI=$TREE/tests/engines/cri.py
NODE_PATHS="/etc /usr/local" # they show what is there, and take the node's files

# For setup_file: the node's directory, its network and its view of the mounts.
make_node() {
	local path
	export NODE=$BASE/node CGROUP=husk-cri-$$
	mkdir -p "$NODE"/{lib,opt,run,logs,bundle}
	make_netns node
	for path in $NODE_PATHS; do
		mkdir -p "$NODE/upper$path" "$NODE/work$path"
		mount -t overlay -o "lowerdir=$path,upperdir=$NODE/upper$path,workdir=$NODE/work$path" node "$path"
	done
	make -s -C "$TREE" install DESTDIR= PREFIX=/usr/local >/dev/null
	mkdir -p /run/husk /opt/cni /etc/cni/net.d /etc/containerd
	mount --bind "$NODE/lib" /var/lib
	mount --bind "$NODE/run" /run/husk
	mount --bind "$NODE/opt" /opt
	mkdir -p /opt/cni
	ln -s /usr/lib/cni /opt/cni/bin
	rm -f /etc/cni/net.d/*
	cat >/etc/cni/net.d/10-pods.conflist <<-C
		{"cniVersion": "1.0.0", "name": "pods", "plugins": [
		  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
		   "ipam": {"type": "host-local", "ranges": [[{"subnet": "172.31.0.0/24"}]],
		    "routes": [{"dst": "0.0.0.0/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	C
	[[ ! ${HUSK_TEST_RUNTIME:-} ]] || ln -sf "$(type -P "$HUSK_TEST_RUNTIME")" /usr/local/bin/husk
}

# The file as it is, and what a machine of tests needs besides: a super-table may follow its sub-tables.
start_node() {
	cp "$TREE/contrib/containerd/config.toml" /etc/containerd/config.toml
	cat >>/etc/containerd/config.toml <<-C
		[plugins."io.containerd.grpc.v1.cri"]
		  restrict_oom_score_adj = true
		  netns_mounts_under_state_dir = true
		[timeouts] # a shim that is slow on a busy machine is not dead
		  "io.containerd.timeout.shim.cleanup" = "60s"
		  "io.containerd.timeout.shim.load" = "60s"
		  "io.containerd.timeout.task.state" = "60s"
	C
	nsenter --net="$NS/node" -- containerd --root "$NODE/root" --state "$NODE/state" --address "$NODE/sock" \
		>>"$NODE/log" 2>&1 3>&- &
	echo $! >"$NODE/pid"
	[[ -e $NODE/client.pid ]] || start_client
	wait_until node_ready
}

node_ready() { [[ $(cri Status 2>/dev/null | jq '.status.conditions | length == 2 and all(.status)') == true ]]; }

stop_node() { end_process "$(cat "$NODE/pid")"; }
end_process() { kill "$1" && wait_until gone "$1"; }

end_node() {
	local path
	stop_node
	end_process "$(cat "$NODE/client.pid")"
	all_ended # also what frees a scratch: it runs from mounts that go now
	unmount_below "$NODE"
	umount /opt /run/husk /var/lib
	for path in $NODE_PATHS; do umount "$path"; done
	end_netns
	wait_until no_cgroups
}

# Others' come and go meanwhile.
no_cgroups() {
	find /sys/fs/cgroup -depth -path "*/$CGROUP*" -type d -exec rmdir {} + 2>/dev/null
	[[ -z $(find /sys/fs/cgroup -path "*/$CGROUP*" -type d 2>/dev/null) ]]
}

ctr() { command ctr -a "$NODE/sock" -n k8s.io "$@"; }

# import NAME ROOTFS [CONFIG...]: an image with the files of a directory.
import() {
	local oci=$NODE/oci
	[[ -d $oci ]] || umoci init --layout "$oci"
	umoci new --image "$oci:image"
	rm -rf "$NODE/bundle"
	umoci unpack --image "$oci:image" "$NODE/bundle" >/dev/null
	cp -a "$2/." "$NODE/bundle/rootfs/"
	umoci repack --image "$oci:image" "$NODE/bundle" >/dev/null
	umoci config --image "$oci:image" --config.env PATH=/bin "${@:3}"
	skopeo copy -q "oci:$oci:image" "oci-archive:$NODE/image.tar:$1"
	ctr image import "$NODE/image.tar" >/dev/null
	rm "$NODE/image.tar"
}

# ---- what the kubelet does: all of it prints what it made, or what the answer says

# One client for all calls: that it starts takes longer than most of them.
start_client() {
	mkfifo "$NODE/requests" "$NODE/answers"
	"$CRI" "$NODE/sock" serve "$NODE/requests" "$NODE/answers" >"$NODE/client.log" 2>&1 3>&- </dev/null &
	echo $! >"$NODE/client.pid"
}

# cri VERB [JSON], or cri exec|attach|port-forward ... of cri.py.
cri() {
	local said answer fd
	case $1 in
	exec | attach | port-forward)
		nsenter --net="$NS/node" -- timeout 170 "$CRI" "$NODE/sock" "$@"
		return
		;;
	esac
	exec {fd}<>"$NODE/answers"
	echo "$1 $(jq -c . <<<"${2:-{\}}")" >"$NODE/requests"
	read -rt 170 -u "$fd" said answer
	exec {fd}<&-
	[[ $said == ok ]] && echo "$answer" && return
	echo "$answer" >&2
	return 1
}

# Pids are a container's own (CONTAINER), as the kubelet has it unless a pod wants shareProcessNamespace.
# pod NAME [JQ-FILTER]: makes and starts a pod of handler husk: its configuration is in $T/NAME.pod, its id printed.
pod() {
	local id
	jq -n --arg name "$1" --arg cgroup "/$CGROUP" --arg logs "$NODE/logs/$1" '{
		metadata: {name: $name, uid: ("uid-" + $name), namespace: "default"}, hostname: $name,
		log_directory: $logs, linux: {cgroup_parent: $cgroup, security_context: {namespace_options: {pid: 1}}}}
		| '"${2:-.}" >"$T/$1.pod"
	mkdir -p "$NODE/logs/$1"
	id=$(cri RunPodSandbox "$(jq '{config: ., runtime_handler: "husk"}' "$T/$1.pod")") && jq -r .pod_sandbox_id <<<"$id"
}

# container POD-ID POD-NAME NAME JQ-FILTER [ARG...]: makes a container of the image box that runs ARGs.
container() {
	local id
	jq -n --arg pod "$1" --arg name "$3" --slurpfile config "$T/$2.pod" '{
		pod_sandbox_id: $pod, sandbox_config: $config[0],
		config: ({metadata: {name: $name}, image: {image: "example.org/box:latest"},
			command: $ARGS.positional, log_path: ($name + ".log"),
			linux: {security_context: {namespace_options: {pid: 1}}}} | '"$4"')}' --args -- "${@:5}" >"$T/$2.$3"
	id=$(cri CreateContainer "$(cat "$T/$2.$3")") && jq -r .container_id <<<"$id"
}

start() { cri StartContainer "{\"container_id\": \"$1\"}" >/dev/null; }

# run_container ...: as container; it runs, too.
run_container() {
	local id
	id=$(container "$@") && start "$id" && echo "$id"
}

stop() { cri StopContainer "{\"container_id\": \"$1\", \"timeout\": ${2:-60}}" >/dev/null; }
remove() { cri RemoveContainer "{\"container_id\": \"$1\"}" >/dev/null; }
stop_pod() { cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null; }
remove_pod() { cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null; }
end_pod() { stop_pod "$1" && remove_pod "$1"; }

# exec_sync ID COMMAND...: output, errors and status as of the command.
exec_sync() {
	local answer
	answer=$(cri ExecSync "$(jq -n --arg id "$1" '{container_id: $id, cmd: $ARGS.positional, timeout: 110}' \
		--args -- "${@:2}")") || return 255
	jq -j .stderr <<<"$answer" >&2
	jq -j .stdout <<<"$answer"
	return "$(jq -r .exit_code <<<"$answer")"
}

status_of() { cri ContainerStatus "{\"container_id\": \"$1\"}" | jq -r ".status | $2"; }
has_reason() { [[ $(status_of "$1" .reason) == "$2" ]]; }
has_exited() { [[ $(status_of "$1" .state) == CONTAINER_EXITED ]]; }
pod_status() { cri PodSandboxStatus "{\"pod_sandbox_id\": \"$1\"}" | jq -r ".status | $2"; }
pod_ip() { pod_status "$1" .network.ip; }
is_not_ready() { [[ $(pod_status "$1" .state) == SANDBOX_NOTREADY ]]; }
log_of() { cut -d' ' -f4- "$NODE/logs/$1/$2.log"; }
logged() { grep -q "$3" <(log_of "$1" "$2"); }
