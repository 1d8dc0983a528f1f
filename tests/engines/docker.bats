#!/usr/bin/env bats
# Docker with husk as a runtime: what users and engines do with containers' files.

load ../e2e/helpers
load docker

setup_file() {
	make_base
	make_docker
}

teardown_file() { end_docker; }
setup() { setup_docker; }
teardown() { clean_docker; }

reads() { [[ $(docker exec "$1" cat "$2" 2>/dev/null </dev/null) == "$3" ]]; }

@test "docker run: output, exit status, input, names" {
	run drun --rm box sh -c 'echo out; exit 7'
	status_is 7
	is "out" "$output"
	is "in" "$(echo in | docker run --rm -i --runtime husk --network none box cat)"
	run drun --rm --hostname there box sh -c 'hostname; cat /etc/hostname; tail -n 1 /etc/hosts'
	has "there
there" "$output"
}

@test "what was written is there after stop and start" {
	forever ct
	docker exec ct sh -c 'echo one > /root/one; mkdir /d; mv /etc/passwd /d/; rm -r /home/user'
	docker stop -t 60 ct >/dev/null
	docker start ct >/dev/null
	is "one" "$(docker exec ct cat /root/one)"
	is "d" "$(docker exec ct sh -c 'ls -d d')"
	run docker exec ct ls /etc/passwd /home/user
	has "/etc/passwd: No such file" "$output"
	has "/home/user: No such file" "$output"
	docker exec ct sh -c 'echo two > /root/two'
	docker kill ct >/dev/null
	docker start ct >/dev/null
	is "one
two" "$(docker exec ct cat /root/one /root/two)"
}

@test "docker cp out of and into a stopped container" {
	drun --name ct box sh -c 'mkdir /out; echo written > /out/f; chmod 640 /out/f; ln -s f /out/l'
	docker cp ct:/out "$D/out"
	is "written" "$(cat "$D/out/f")"
	is 640 "$(stat -c %a "$D/out/f")"
	is "f" "$(readlink "$D/out/l")"
	echo brought >"$D/in"
	docker cp "$D/in" ct:/out/in
	docker commit -c 'CMD ["cat", "/out/in", "/out/f"]' ct box2 >/dev/null
	is "brought
written" "$(drun --rm box2)"
	docker rmi box2 >/dev/null
}

@test "docker diff says what was changed, and nothing else" {
	drun --name ct box sh -c 'echo x > /root/new; rm /etc/group; chmod 600 /etc/passwd; cat /bin/busybox > /dev/null'
	is "A /root/new
C /etc
C /etc/passwd
C /root
D /etc/group" "$(docker diff ct | sort)"
}

@test "a committed image runs with the changes in it" {
	drun --name ct box sh -c 'echo layer > /layer; rm -r /home; mkdir /home; echo h > /home/h; chown 3:4 /layer'
	docker commit ct box2 >/dev/null
	# shellcheck disable=SC2016
	is "layer
h
3 4" "$(drun --rm box2 sh -c 'cat /layer; cat $(find /home -type f); stat -c "%u %g" /layer')"
	docker rmi box2 >/dev/null
}

@test "docker cp into a running container is seen inside" {
	forever ct
	echo brought >"$D/in"
	docker cp "$D/in" ct:/root/in
	wait_until reads ct /root/in brought
	mkdir -p "$D/dir/sub"
	echo deep >"$D/dir/sub/f"
	docker cp "$D/dir" ct:/root/
	wait_until reads ct /root/dir/sub/f deep
	echo again >"$D/in"
	docker cp "$D/in" ct:/root/in
	wait_until reads ct /root/in again
	docker stop -t 60 ct >/dev/null
	docker cp ct:/root/in "$D/out"
	is again "$(cat "$D/out")"
}

ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# A machine that does other things as well may be late now and then: one of ten tries has to be in time.
@test "docker cp into a running container is seen inside within a second" {
	local try from took=9999 runner
	# shellcheck disable=SC2016
	drun --name ct box sh -c 'trap "exit 0" TERM; echo up
		while :; do
			now=$(cat /root/in 2>/dev/null); [ "$now" = "$last" ] || echo "$now"; last=$now; usleep 20000
		done' >"$T/seen" 3>&- &
	runner=$!
	wait_until grep -q up "$T/seen"
	for try in 1 2 3 4 5 6 7 8 9 10; do
		echo "value-$try-" >"$D/in"
		docker cp -q "$D/in" ct:/root/in
		from=$(ms)
		wait_until grep -q "value-$try-" "$T/seen"
		took=$(($(ms) - from))
		echo "try $try: $took ms after docker cp returned"
		((took >= 1000)) || break
	done
	docker stop -t 60 ct >/dev/null
	wait $runner || :
	((took < 1000))
}

@test "docker cp out of a running container has what was written before husk sync" {
	forever ct
	docker exec ct sh -c 'echo written > /root/f; rm /etc/group'
	"$HUSK" --root "$(husk_root)" sync "$(docker inspect -f '{{.Id}}' ct)"
	docker cp ct:/root/f "$D/f"
	is written "$(cat "$D/f")"
	run docker cp ct:/etc/group "$D/"
	[[ $status != 0 ]]
	docker exec ct sh -c 'echo more >> /root/f'
	docker stop -t 60 ct >/dev/null
	docker cp ct:/root/f "$D/f"
	is "written
more" "$(cat "$D/f")"
}

@test "a container whose microVM is killed keeps what it had fsync'ed" {
	forever ct
	docker exec ct sh -c 'echo safe > /root/f; sync'
	kill -9 "$(jq -r .vmm_pid "$(husk_root)/$(docker inspect -f '{{.Id}}' ct)/state.json")"
	docker wait ct >/dev/null
	docker start ct >/dev/null
	is safe "$(docker exec ct cat /root/f)"
}

@test "bind mounts and named volumes" {
	forever one -v "$D:/data" -v vol:/vol -v "$D:/ro:ro"
	forever two -v "$D:/data" -v vol:/vol
	docker exec one sh -c 'echo d > /data/f; echo v > /vol/f'
	wait_until reads two /data/f d
	wait_until reads two /vol/f v
	is d "$(cat "$D/f")"
	run docker exec one touch /ro/x
	has "Read-only file system" "$output"
	docker rm -f one two >/dev/null
	is v "$(drun --rm -v vol:/vol box cat /vol/f)"
}

@test "a read-only root and tmpfs" {
	run drun --rm --read-only --tmpfs /tmp box sh -c 'touch /x; touch /tmp/x && echo made'
	has "/x: Read-only file system" "$output"
	has "made" "$output"
}
