#!/usr/bin/env bats
# Docker's networks with husk as a runtime. dockerd, its bridges and its firewall rules are in a network
# namespace of their own, `dock`; `out` is the world beyond it, with a name server.
# HUSK_TEST_RUNTIME=runc runs the same with runc, as far as it is not about what husk refuses.

load ../e2e/helpers
load ../e2e/netns

OUT=10.99.0.1  # the world
DOCK=10.99.0.2 # where ports are published

setup_file() {
	make_base
	command -v dockerd docker iptables >/dev/null || return 0
	export DOCKER=$BASE/docker DOCKER_CONFIG=$BASE/config
	export DOCKER_HOST=unix://$DOCKER/sock RUNTIME=${HUSK_TEST_RUNTIME:-husk}
	mkdir -p "$DOCKER" "$DOCKER_CONFIG" "$ROOTFS/www/cgi-bin"
	make_netns dock out
	veth out o0 dock d0
	addresses out o0 $OUT/24
	addresses dock d0 $DOCK/24
	in_ns dock ip route add default via $OUT
	nsenter --net="$(ns_path out)" -- python3 "$BATS_TEST_DIRNAME/nameserver.py" $OUT >"$BASE/names" 2>&1 3>&- &
	echo $! >"$BASE/names.pid"
	wait_until grep -q ready "$BASE/names"
	serve_in out 7000
	echo "$SERVER" >"$BASE/server.pid"
	echo '{}' >"$DOCKER/daemon.json"
	# The runtime takes its environment from dockerd.
	nsenter --net="$(ns_path dock)" -- dockerd --config-file "$DOCKER/daemon.json" \
		--data-root "$DOCKER/data" --exec-root "$DOCKER/exec" -p "$DOCKER/pid" -H "$DOCKER_HOST" \
		--dns $OUT --bip 172.31.0.1/24 --default-address-pool base=172.31.128.0/17,size=24 \
		--add-runtime "husk=$HUSK" >"$DOCKER/log" 2>&1 3>&- &
	wait_until docker_up || { tail -n 20 "$DOCKER/log" && return 1; }
	cp "$NETTEST" "$ROOTFS/bin/"
	printf '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n"\nexec nc db 5432\n' >"$ROOTFS/www/cgi-bin/ask"
	chmod 755 "$ROOTFS/www/cgi-bin/ask"
	tar -C "$ROOTFS" -c . | docker import -c 'ENV PATH=/bin' -c 'CMD sh' - box >/dev/null
	export BEFORE
	BEFORE=$(ours | cut -d' ' -f1)
}

teardown_file() {
	local pid
	[[ ${DOCKER:-} ]] || return 0
	for pid in "$DOCKER/pid" "$BASE/names.pid" "$BASE/server.pid"; do
		[[ -e $pid ]] || continue
		pid=$(cat "$pid")
		kill "$pid"
		wait_until gone "$pid"
	done
	all_ended
	unmount_below "$DOCKER"
	end_netns
}

docker_up() { docker version >/dev/null 2>&1; }

setup() {
	setup_test
	[[ ${DOCKER:-} ]] || skip "dockerd, docker or iptables is missing"
	LINKS_BEFORE=$(dock_links)
}

teardown() {
	docker ps -aq | xargs -r docker rm -f >/dev/null
	docker network ls -q --filter type=custom | xargs -r docker network rm >/dev/null
	rm -rf "$HUSK_DATA/trees" # a cache: what is in it is of images
	ROOT=$DOCKER/exec/runtime-runc/moby check_nothing_left
	wait_until has_links "$LINKS_BEFORE"
}

dock_links() { nsenter --net="$NS/dock" ip -o link show | awk -F': ' '{ print $2 }' | sort; }
has_links() { [[ $(dock_links) == "$1" ]]; }

# up NAME ARG...: a container that runs in the background.
up() { timeout 150 docker run -d --runtime "$RUNTIME" --hostname "$1" --name "$@" </dev/null >/dev/null; }

# in_ct NAME COMMAND...
in_ct() { timeout $((WAIT_S * 2)) docker exec "$@" </dev/null; }

out() { timeout "$WAIT_S" nsenter --net="$NS/out" -- "$@"; }

address_of() { docker inspect -f "{{with index .NetworkSettings.Networks \"${2:-bridge}\"}}{{.IPAddress}}{{end}}" "$1"; }

# One name may be asked for while its container starts.
finds() { in_ct "$1" ping -c 1 -W 2 "$2" >/dev/null 2>&1; }

lost() { ! in_ct "$1" ping -c 1 -W 1 "$2" >/dev/null 2>&1; }

# resolves NAME HOST ADDRESS: dockerd asks the world, and gives it four seconds.
resolves() { [[ $(in_ct "$1" nslookup "$2" 2>&1) == *"$3"* ]]; }
has_many() { [[ $(in_ct "$1" ping -c 1 -W 1 many.example 2>&1) == *"PING many.example (192.0.2."* ]]; }

has_link() { in_ct "$1" cat "/sys/class/net/$2/address" >/dev/null 2>&1; }
has_no_link() { ! has_link "$@"; }

@test "default bridge: published ports are reached from outside, and the outside from the container" {
	up web -p 8080:7000 -p 8080:7000/udp box nettest serve 7000
	wait_until out "$NETTEST" tcp $DOCK 8080 1000000
	out "$NETTEST" udp $DOCK 8080 1400
	in_ns dock "$NETTEST" tcp 127.0.0.1 8080 100000 # by docker-proxy
	in_ns dock "$NETTEST" tcp "$(address_of web)" 7000 1000000
	in_ct web nettest tcp $OUT 7000 1000000
	wait_until finds web 172.31.0.1
	is "nameserver $OUT" "$(docker run --rm --runtime "$RUNTIME" --dns $OUT box grep nameserver /etc/resolv.conf </dev/null)"
	is "192.0.2.53" "$(docker run --rm --runtime "$RUNTIME" --dns $OUT box sh -c 'for i in 1 2 3; do nslookup out.example && break; done' </dev/null | awk '/^Address/ { a = $2 } END { print a }')"
}

@test "user network: containers of husk and of runc find one another, and names outside" {
	local name
	docker network create --ipv6 --subnet 172.31.200.0/24 --subnet fd31::/64 net1 >/dev/null
	up one --network net1 --dns $OUT box nettest serve 7000
	up two --network net1 --dns $OUT --network-alias alias2 --dns-opt use-vc box nettest serve 7000
	RUNTIME=runc up three --network net1 box nettest serve 7000
	has "nameserver 127.0.0.11" "$(in_ct one cat /etc/resolv.conf)"
	for name in two three alias2; do
		wait_until finds one $name
	done
	for name in one three; do
		wait_until finds two $name # asks by TCP
		wait_until finds $name two
	done
	wait_until finds three one
	wait_until in_ct three nettest tcp "$(address_of one net1)" 7000 1000000
	wait_until in_ct one nettest tcp "$(address_of two net1)" 7000 1000000
	wait_until finds one "$(docker inspect -f '{{.NetworkSettings.Networks.net1.GlobalIPv6Address}}' two)"
	for name in one two; do
		wait_until resolves $name out.example 192.0.2.53
	done
	wait_until has_many one # an answer that only TCP has room for
	run in_ct one nslookup nobody.invalid
	[[ $status != 0 ]]
}

@test "network connect and disconnect while it runs" {
	docker network create net1 >/dev/null
	docker network create net2 >/dev/null
	up mover --network net1 box nettest serve 7000
	RUNTIME=runc up stays --network net2 box nettest serve 7000
	wait_until lost mover stays
	docker network connect --alias moved net2 mover
	wait_until finds mover stays
	wait_until finds stays moved
	wait_until in_ct stays nettest tcp "$(address_of mover net2)" 7000 1000000
	docker network disconnect net2 mover
	wait_until has_no_link mover eth1
	wait_until lost mover stays
	has_link mover eth0
	docker network connect net2 mover
	wait_until finds mover stays
	docker network disconnect net1 mover
	wait_until has_no_link mover eth0
	wait_until finds mover stays
}

# What the web server has from its database, as one outside sees it.
answers() {
	is "$1" "$(printf 'GET /cgi-bin/ask HTTP/1.0\r\n\r\n' | out busybox nc -w 5 $DOCK 8081 | sed '1,/^\r*$/d')" >/dev/null
}

@test "a web server and its database; the database starts again" {
	docker network create app >/dev/null
	# shellcheck disable=SC2016
	up db --network app box sh -c 'trap "exit 0" TERM; echo "start $(cat /n 2>/dev/null)" >>/n; nc -ll -p 5432 -e cat /n & wait'
	up web --network app -p 8081:80 box httpd -f -p 80 -h /www
	wait_until answers "start "
	docker restart -t 60 db >/dev/null
	wait_until answers "start 
start start "
}

@test "--network none is loopback alone" {
	up alone --network none box sh -c 'trap "exit 0" TERM; nettest serve 7000 & wait'
	is "lo" "$(in_ct alone ls /sys/class/net)"
	wait_until in_ct alone nettest tcp 127.0.0.1 7000 1000
	in_ct alone nettest udp 127.0.0.1 7000 1000
	run in_ct alone ping -c 1 -W 1 $OUT
	[[ $status != 0 ]]
	[[ $RUNTIME == husk ]] || return 0
	# It would not see that localhost.
	run timeout 150 docker run --name second --runtime husk --network container:alone box true </dev/null
	[[ $status != 0 ]]
	has "container \"$(docker inspect -f '{{.Id}}' alone)\" of husk has it already" "$output"
}

@test "--network host, and container: of one of husk, are refused in words" {
	[[ $RUNTIME == husk ]] || skip "about what husk refuses"
	local id
	run timeout 150 docker run --rm --runtime husk --network host box true </dev/null
	[[ $status != 0 ]]
	has "is the host's own network namespace" "$output"
	# dockerd binds it at the first such container
	umount "$DOCKER/exec/netns/default"
	up first box sleep 1000
	id=$(docker inspect -f '{{.Id}}' first)
	run timeout 150 docker run --name second --runtime husk --network container:first box true </dev/null
	[[ $status != 0 ]]
	has "container \"$id\" of husk has it already" "$output" "$output"
	wait_until finds first 172.31.0.1 # and has lost nothing
}

@test "after stop and start the links are there again" {
	up again -p 8082:7000 box nettest serve 7000
	wait_until out "$NETTEST" tcp $DOCK 8082 1000
	docker kill again >/dev/null
	docker start again >/dev/null
	wait_until out "$NETTEST" tcp $DOCK 8082 1000
	wait_until finds again 172.31.0.1
}
