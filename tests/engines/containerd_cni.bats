#!/usr/bin/env bats
# containerd with CNI: Debian's plugins (bridge, portmap, host-local), by hand before a container is made, as
# CRI does it, and by `ctr run --cni`, which plugs in a container that is made already. Bridge and firewall
# rules are in a network namespace of their own, `node`; `out` is the world beyond it.
# HUSK_TEST_RUNTIME=runc runs the same with runc.

load ../e2e/helpers
load ../e2e/containerd
load ../e2e/netns

IMAGE=example.org/box:latest
PLUGINS=/usr/lib/cni
OUT=10.99.0.1  # the world
NODE=10.99.0.2 # where ports are published

setup_file() {
	make_base
	[[ -x $PLUGINS/bridge ]] && command -v containerd umoci skopeo iptables >/dev/null || return 0
	export CTD=$BASE/ctd
	mkdir -p "$CTD" "$BASE"/{results,opt}
	make_netns node out
	veth out o0 node n0
	addresses out o0 $OUT/24 fd99::1/64
	addresses node n0 $NODE/24 fd99::2/64
	in_ns node ip route add default via $OUT
	# What `ctr run --cni` looks for has fixed names: they are there in this view of the mounts.
	mkdir -p "$BASE"/etc/{upper,work}
	mount -t overlay -o "lowerdir=/etc,upperdir=$BASE/etc/upper,workdir=$BASE/etc/work" overlay /etc
	mount --bind "$BASE/results" /var/lib
	mount --bind "$BASE/opt" /opt
	mkdir -p /opt/cni /etc/cni/net.d
	ln -s $PLUGINS /opt/cni/bin
	rm -f /etc/cni/net.d/*
	config >/etc/cni/net.d/10-box.conflist
	start_containerd
	wait_until ctr_up
	cp "$NETTEST" "$ROOTFS/bin/"
	make_image "$CTD/image.tar"
	ctr image import "$CTD/image.tar" >/dev/null
	serve_in out 7000
	echo "$SERVER" >"$BASE/server.pid"
	export BEFORE
	BEFORE=$(ours | cut -d' ' -f1)
}

teardown_file() {
	local pid
	[[ ${CTD:-} ]] || return 0
	for pid in "$CTD/pid" "$BASE/server.pid"; do
		pid=$(cat "$pid")
		kill "$pid"
		wait_until gone "$pid"
	done
	all_ended
	unmount_below "$CTD"
	umount /opt /var/lib /etc
	end_netns
}

CTR=$(type -P ctr || :)

# A network of both families, whose addresses are out of a range.
config() {
	cat <<-C
		{"cniVersion": "1.0.0", "name": "box", "plugins": [
		  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
		   "ipam": {"type": "host-local", "dataDir": "$BASE/leases",
		    "ranges": [[{"subnet": "172.30.0.0/24"}], [{"subnet": "fd30::/64"}]],
		    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	C
}

setup() {
	setup_test
	[[ ${CTD:-} ]] || skip "containerd, umoci, skopeo, iptables or CNI's plugins are missing"
}

teardown() { check_nothing_left; }

# cni ADD|DEL NAME [PORTS]: the plugins of the network one after another, for the namespace NAME; the result
# is in $T/NAME.result.
cni() {
	local n type conf prev=null order="0 1"
	[[ $1 == ADD ]] || { order="1 0" && prev=$(cat "$T/$2.result"); }
	for n in $order; do
		type=$(config | jq -r ".plugins[$n].type")
		conf=$(config | jq -c --argjson n "$n" --argjson prev "$prev" --argjson ports "${3:-[]}" '
			{cniVersion, name} + .plugins[$n] + {prevResult: $prev, runtimeConfig: {portMappings: $ports}}
			| with_entries(select(.value != null))')
		CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=$(ns_path "$2") CNI_IFNAME=eth0 CNI_PATH=$PLUGINS \
			in_ns node "$PLUGINS/$type" <<<"$conf" >"$T/$2.answer" || { cat "$T/$2.answer" && return 1; }
		[[ $1 == DEL ]] || prev=$(cat "$T/$2.answer")
	done
	[[ $1 == DEL ]] || echo "$prev" >"$T/$2.result"
}

# ip_of NAME 4|6
ip_of() { jq -r --arg v "$2" '.ips[].address | select(contains(":") == ($v == "6")) | split("/")[0]' "$T/$1.result"; }

# What every container is made with; --runc-root is husk's --root.
RUNTIME=${HUSK_TEST_RUNTIME:-$HUSK}
ctr_run() {
	ctr run --runtime io.containerd.runc.v2 --runc-binary "$RUNTIME" --runc-root "$ROOT" "$@" </dev/null
}

# box NAME: runs a server in the namespace NAME.
box() { ctr_run -d --with-ns "network:$(ns_path "$1")" "$IMAGE" "$1" nettest serve 7000; }

in_ct() { timeout $((WAIT_S * 2)) "$CTR" -a "$CTD/sock" task exec --exec-id "e$((++EXECS))-$1-$RANDOM" "$@" </dev/null; }
EXECS=0

task_stopped() { ctr task ls | grep -q "^$1 .*STOPPED"; }
end_task() {
	ctr task rm --force "$1" >/dev/null
	ctr container rm "$1"
}
clean_root() { wait_until is_empty_root && rm -rf "$ROOT"; }
is_empty_root() { [[ -z $(find "$ROOT" -name state.json 2>/dev/null) ]]; }
out() { timeout "$WAIT_S" nsenter --net="$NS/out" -- "$@"; }
has_no_link() { ! in_ct "$1" cat "/sys/class/net/$2/address" >/dev/null 2>&1; }

@test "the bridge plugin's network, before the container is made: neighbours, the world, a published port" {
	make_netns one two
	cni ADD one '[{"hostPort": 8080, "containerPort": 7000, "protocol": "tcp"}]'
	cni ADD two
	box one
	RUNTIME=runc box two
	wait_until in_ct one ping -c 1 -W 5 "$(ip_of two 4)"
	wait_until in_ct one ping -c 1 -W 5 "$(ip_of two 6)"
	wait_until in_ct two nettest tcp "$(ip_of one 4)" 7000 1000000
	in_ct two nettest tcp "$(ip_of one 6)" 7000 1000000
	wait_until in_ct one nettest tcp "$(ip_of two 4)" 7000 1000000
	in_ct one nettest tcp $OUT 7000 1000000
	out "$NETTEST" tcp $NODE 8080 1000000
	in_ns node "$NETTEST" udp "$(ip_of one 4)" 7000 1400
	cni DEL one # takes the link away from a container that runs
	wait_until has_no_link one eth0
	end_task one
	end_task two
	cni DEL two
	is "lo" "$(in_ns one ip -j link | jq -r '.[].ifname')"
	end_netns one two
	clean_root
}

@test "ctr run --cni plugs the container after it was made" {
	timeout 150 nsenter --net="$NS/node" -- "$CTR" -a "$CTD/sock" run --rm --cni \
		--runtime io.containerd.runc.v2 --runc-binary "$RUNTIME" --runc-root "$ROOT" "$IMAGE" plugged \
		sh -c "ping -c 1 -W 20 172.30.0.1 && nettest tcp $OUT 7000 1000000 && nettest tcp $OUT 7000 1" </dev/null
	clean_root
}
