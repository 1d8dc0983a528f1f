#!/usr/bin/env bats
# Pods of podman's with husk as its runtime: by hand and from Kubernetes' YAML. podman says by CRI-O's annotations what
# a container is to its pod. Its bridges and firewall rules are in a network namespace of their own, `node`.

load ../e2e/helpers
load ../e2e/netns
load podman

setup_file() {
	make_base
	command -v podman iptables catatonit >/dev/null && [[ -x /usr/lib/podman/netavark ]] || return 0
	make_netns node
	NODE_NS=$(ns_path node)
	export NODE_NS
	cp "$NETTEST" "$ROOTFS/bin/"
	# kube play gives a soft limit that is the hard one, and the other way round: the same for both
	NOFILE=20000:20000 make_podman
}

teardown_file() {
	[[ ${PODMAN:-} ]] || return 0
	all_ended
	end_podman
	end_netns
}

setup() {
	setup_test
	[[ ${PODMAN:-} ]] || skip "podman, netavark, catatonit or iptables is missing"
}

teardown() {
	[[ ${BATS_TEST_COMPLETED:-} == 1 ]] || podman pod rm -f -t 0 -a || :
	clean_podman
}

in_ct() { podman exec "$@"; }
logs_are() { [[ $(podman logs "$1") == "$2" ]]; }
reads() { [[ $(in_ct "$1" cat "$2" 2>/dev/null) == "$3" ]]; }
pod_is() { [[ $(podman pod inspect -f '{{.State}}' "$1") == "$2" ]]; }
ON_TERM='trap "exit 0" TERM'
STAY="$ON_TERM; sleep 100000 & wait"

# What is podman's word for it, which husk goes by.
annotation() { jq -r --arg k "io.kubernetes.cri-o.$2" '.annotations[$k] // ""' "$(podman inspect -f '{{.OCIConfigPath}}' "$1")"; }

@test "a pod by hand: localhost, ports and a volume shared; exec, logs, stop, start; one ends, the others go on" {
	podman pod create --name p1 --hostname inside -p 8080:7000
	podman run -d --pod p1 --name a -v vol:/work box sh -c "$ON_TERM; echo kept >/work/file; echo from a; $STAY"
	wait_until logs_are a "from a"
	podman run -d --pod p1 --name b -v vol:/work box nettest serve 7000
	infra=$(podman pod inspect -f '{{.InfraContainerID}}' p1)
	is container "$(annotation a ContainerType)"
	is "$infra" "$(annotation a SandboxID)"

	wait_until in_ct a nettest tcp 127.0.0.1 7000 100000
	nsenter --net="$NS/node" -- "$NETTEST" tcp 127.0.0.1 8080 1000
	is inside "$(in_ct a hostname)"
	is inside "$(in_ct b hostname)"
	is kept "$(in_ct b cat /work/file)"
	is "$(in_ct a readlink /proc/self/ns/ipc)" "$(in_ct b readlink /proc/self/ns/ipc)"
	[[ $(in_ct a readlink /proc/self/ns/mnt) != "$(in_ct b readlink /proc/self/ns/mnt)" ]]
	if [[ ! ${HUSK_TEST_RUNTIME:-} ]]; then
		is 3 "$(podman pod inspect p1 | jq '.Containers | length')"
		is 1 "$(find "$PODMAN/oci" -name vmm.sock -type s | wc -l)" # one machine
	fi

	run podman run --rm --pod p1 box sh -c 'exit 6'
	is 6 "$status"
	podman kill -s KILL b
	is 137 "$(podman wait b)"
	is ok "$(in_ct a echo ok)"
	podman start b
	wait_until in_ct a nettest tcp 127.0.0.1 7000 1000
	podman stop -t 60 a
	is "exited 0" "$(podman inspect -f '{{.State.Status}} {{.State.ExitCode}}' a)"
	podman pod stop -t 5 p1
	wait_until pod_is p1 Exited
	podman pod start p1
	wait_until reads a /work/file kept # which it writes anew
	podman pod rm -f -t 5 p1
	podman volume rm vol
}

@test "kube play: init container, two containers, environment, a shared emptyDir, limits; kube down" {
	[[ ! ${HUSK_TEST_RUNTIME:-} ]] || skip "needs limits that root does not have everywhere; guests do"
	cat >"$T/pod.yaml" <<-Y
		apiVersion: v1
		kind: Pod
		metadata:
		  name: web
		spec:
		  restartPolicy: Never
		  volumes:
		  - name: scratch
		    hostPath: {path: $T/scratch, type: DirectoryOrCreate}
		  initContainers:
		  - name: first
		    image: localhost/box:latest
		    imagePullPolicy: Never
		    command: ["sh", "-c", "echo prepared >/scratch/file"]
		    volumeMounts: [{name: scratch, mountPath: /scratch}]
		  containers:
		  - name: server
		    image: localhost/box:latest
		    imagePullPolicy: Never
		    command: ["nettest", "serve", "7000"]
		    resources: {limits: {memory: 128Mi}}
		  - name: client
		    image: localhost/box:latest
		    imagePullPolicy: Never
		    env: [{name: WHO, value: client}]
		    securityContext: {readOnlyRootFilesystem: true, runAsUser: 1000}
		    command: ["sh", "-c", "cat /scratch/file; echo \$WHO; id -u; sleep 100000"]
		    volumeMounts: [{name: scratch, mountPath: /scratch, readOnly: true}]
	Y
	podman play kube "$T/pod.yaml"
	wait_until in_ct web-client nettest tcp 127.0.0.1 7000 1000
	wait_until has_logged
	run in_ct web-client sh -c 'echo >/file'
	has "Read-only" "$output"
	podman play kube --down "$T/pod.yaml"
	is "" "$(podman ps -aq)"
}
has_logged() { [[ $(podman logs web-client | tr '\n' ' ') == "prepared client 1000 " ]]; }
