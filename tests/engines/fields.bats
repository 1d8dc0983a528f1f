#!/usr/bin/env bats
# Fields of config.json that engines fill in when they are asked to: user namespaces, block devices, id-mapped
# volumes, notification sockets; podman and dockerd.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load ../e2e/helpers
load podman
load docker

setup_file() {
	make_base
	command -v podman conmon dockerd docker >/dev/null || return 0
	chmod o+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/file" "$BASE" # the namespace's root is nobody special
	make_podman
	# Users and groups of a namespace of dockerd's own, in this view of the mounts.
	cp /etc/subuid "$BASE/subuid" && cp /etc/subgid "$BASE/subgid"
	echo nobody:400000:65536 | tee -a "$BASE/subuid" >>"$BASE/subgid"
	mount --bind "$BASE/subuid" /etc/subuid && mount --bind "$BASE/subgid" /etc/subgid
	make_docker --userns-remap=nobody:nogroup
	echo '{}' >"$DOCKER_CONFIG/config.json" # podman reads it, too
}

teardown_file() {
	[[ ${PODMAN:-} ]] || return 0
	end_podman
	end_docker
	umount /etc/subuid /etc/subgid
}

setup() {
	setup_test
	[[ ${PODMAN:-} && ${DOCKER:-} ]] || skip "podman, conmon or dockerd is missing"
	BEFORE+=$'\n'$(cat "$DOCKER/pid")$'\n'$(containerd_pid)
	D=$T/data
	mkdir -p "$D"
	LOOP=
}

teardown() {
	[[ -z $LOOP ]] || losetup -d "$LOOP"
	docker ps -aq | xargs -r docker rm -f >/dev/null
	clean_podman
}

prun() { podman run --network none "$@" </dev/null; }

loop() {
	truncate -s 8M "$D/disk"
	printf 'of the host' | dd of="$D/disk" conv=notrunc status=none
	LOOP=$(losetup -f --show "$D/disk") || skip "this host has no loop devices"
}

@test "dockerd --userns-remap: ids inside and outside, also of what was written and of a volume" {
	mkdir "$D/vol" && chown 400005:400006 "$D/vol"
	run drun --name remap -v "$D/vol:/vol" --user 5:6 box sh -c 'cat /proc/self/uid_map; id -u; stat -c %u /bin /vol; echo x >/vol/file'
	status_is 0
	is "0 400000 65536 5 0 5" "$(xargs <<<"$output")"
	is "400005:400006" "$(stat -c %u:%g "$D/vol/file")"
	docker commit remap remapped >/dev/null
	is 0 "$(drun --rm remapped stat -c %u /bin)"
	run drun --rm box sh -c 'touch /a && chown 7:8 /a && stat -c %u:%g /a; ls -ln /dev/null | cut -c1-10; mount -t tmpfs t /mnt 2>&1'
	has "7:8" "$output"
	has "crw-rw-rw-" "$output"
}

@test "docker, podman: --device with a block device, and read-only" {
	loop
	run drun --rm --userns=host --device "$LOOP:/dev/mine" box sh -c 'head -c 11 /dev/mine; echo; printf "of the guest" | dd of=/dev/mine seek=1 bs=512 conv=notrunc 2>/dev/null; sync'
	is "of the host" "$output"
	is "of the guest" "$(dd if="$D/disk" bs=512 skip=1 count=1 status=none | tr -d '\0')"
	# Privileged, it is the disk that has a name of its own, among all those of the host.
	run drun --rm --userns=host --privileged --device "$LOOP:/dev/mine" box sh -c 'head -c 11 /dev/mine; echo; find /dev -type b ! -name "loop*"'
	is "of the host
/dev/mine" "$output"
	run prun --rm --device "$LOOP:/dev/mine:r" box sh -c 'head -c 11 /dev/mine; echo; echo x >/dev/mine'
	has "of the host" "$output"
	has "Operation not permitted" "$output"
}

@test "podman --uidmap, --userns: mapped ids; an id-mapped volume" {
	mkdir -p "$D/vol/own" && chown 3:4 "$D/vol"
	run prun --rm --uidmap 0:200000:5000 --gidmap 0:300000:5000 -v "$D/vol:/plain" --mount "type=bind,src=$D/vol,dst=/mapped,idmap" \
		box sh -c 'cat /proc/self/uid_map; stat -c %u:%g /bin /plain /mapped; touch /mapped/own/new'
	status_is 0
	is "0 200000 5000 0:0 65534:65534 3:4" "$(xargs <<<"$output")"
	is "0:0" "$(stat -c %u:%g "$D/vol/own/new")"
}

@test "podman --sdnotify=container: READY reaches who started podman" {
	python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listens", flush=True)
while True:
    text, fds, _, _ = socket.recv_fds(s, 8192, 4)
    print(text.decode().strip(), flush=True)
    for f in fds: os.close(f)
    if b"READY=1" in text: break' "$T/notify" >"$T/heard" &
	listener=$!
	wait_until grep -q listens "$T/heard"
	NOTIFY_SOCKET=$T/notify podman run -d --network none --sdnotify=container --name n -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro box /usr/bin/python3 -c "
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
time.sleep(100000)" </dev/null >"$T/id"
	wait_until gone "$listener"
	has "READY=1" "$(cat "$T/heard")"
}
