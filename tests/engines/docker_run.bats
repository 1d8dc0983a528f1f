#!/usr/bin/env bats
# docker run with husk as its runtime, flag by flag, in few containers; and what it says when a container cannot run,
# beside what it says with runc.
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154

load ../e2e/helpers
load docker

setup_file() {
	make_base
	make_docker
}

teardown_file() { end_docker; }
setup() { setup_docker; }
teardown() { clean_docker; }

ALL_CAPS=0000003fffffffff # that this dockerd knows

# What both runtimes say of what failed: runc names its own steps before it.
said() { sed -nE 's/^docker: Error response from daemon: //; s/runc create failed: (unable to start container process: )?//; 1p' <<<"$1"; }

# same_as_runc ARG...: exit status and words.
same_as_runc() {
	local ours theirs their_status
	run timeout 150 docker run --rm --runtime runc --network none "$@" </dev/null
	theirs=$(said "$output") their_status=$status
	run drun --rm "$@"
	ours=$(said "$output")
	is "$their_status $theirs" "$status $ours"
}

@test "-e -w -u --group-add --hostname --domainname --add-host --dns --label --env-file --entrypoint" {
	printf 'FROM=file\n' >"$D/env"
	drun --name ct -e SET=here --env-file "$D/env" -w /made/here -u user --group-add 33 --hostname there --domainname d.example \
		--add-host other:192.0.2.7 --dns 192.0.2.53 --label l=v --entrypoint /bin/sh box -c '
		echo "$SET $FROM $HOSTNAME $PWD"; id; hostname; cat /proc/sys/kernel/domainname; grep other /etc/hosts
		grep nameserver /etc/resolv.conf' >"$T/out"
	is "here file there /made/here
uid=1000(user) gid=1000(user) groups=33,1000(user)
there
d.example
192.0.2.7	other
nameserver 192.0.2.53" "$(cat "$T/out")"
	is "husk v" "$(about ct .HostConfig.Runtime) $(about ct .Config.Labels.l)"
	is "uid=1234 gid=5678 groups=5678" "$(drun --rm -u 1234:5678 box id)"
}

@test "--cap-add, --cap-drop, --security-opt seccomp and no-new-privileges, --ulimit, --sysctl, --oom-score-adj" {
	local caps='grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status'
	jq -n '{defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO"}]}' >"$D/seccomp"
	run drun --rm --cap-drop ALL --cap-add CHOWN --cap-add NET_ADMIN --security-opt no-new-privileges \
		--security-opt seccomp="$D/seccomp" --ulimit nofile=100:200 --ulimit core=0 --sysctl net.ipv4.ip_forward=1 \
		--sysctl kernel.shmmax=4096 --oom-score-adj 321 box sh -c "$caps"'
		mkdir /d; ulimit -n; ulimit -Hn; ulimit -c; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/self/oom_score_adj'
	is "CapEff:	0000000000001001
NoNewPrivs:	1
Seccomp:	2
mkdir: can't create directory '/d': Operation not permitted
100
200
0
1
4096
321" "$output"
	run drun --rm --security-opt seccomp=unconfined --cap-add ALL box sh -c "$caps; mkdir /d && echo made"
	is "CapEff:	$ALL_CAPS
NoNewPrivs:	0
Seccomp:	0
made" "$output"
}

@test "--memory, --cpus, --pids-limit, --cpuset-cpus, --shm-size bind in the container" {
	# Its cgroup, wherever this host's dockerd has its root mounted.
	local own='cd /sys/fs/cgroup; cd ./$(cut -d: -f3 /proc/self/cgroup);'
	run drun --rm --memory 100m --memory-swap 100m --memory-reservation 50m --cpus 1.5 --cpu-shares 512 --pids-limit 30 --shm-size 1m box \
		sh -c "$own"' cat memory.max memory.low cpu.max pids.max; nproc
		dd if=/dev/zero of=/dev/shm/f bs=1M count=2 2>&1 | grep -o "No space.*"
		(i=0; while [ $((i += 1)) -le 40 ]; do sleep 1000 >/dev/null 2>&1 & done) 2>/forks
		read -r line </forks; echo "can${line#*can}"' # no process is left to be had for anything else
	is "104857600
52428800
150000 100000
30
2
No space left on device
can't fork: Resource temporarily unavailable" "$output"
	is 1 "$(drun --rm --cpuset-cpus 0 box nproc)"
}

@test "-v, --mount, --tmpfs, --read-only, --volumes-from" {
	mkdir "$D/v" "$D/m"
	echo on-host >"$D/v/f"
	docker create --name holder -v "$D/v:/v" -v vol:/vol -v /anonymous box >/dev/null
	run drun --name ct --read-only --volumes-from holder -v "$D/v:/ro:ro" --mount "type=bind,src=$D/m,dst=/m" \
		--mount "type=tmpfs,dst=/t1,tmpfs-size=1m,tmpfs-mode=700" --tmpfs /t2:size=2m,noexec box sh -c '
		cat /v/f; echo changed > /v/f; echo m > /m/f; echo v > /vol/f; echo a > /anonymous/f
		touch /root/x /ro/x 2>&1 | sort; stat -c %a /t1; df -k /t1 /t2 | awk "NR > 1 { print \$2 }"
		cp /bin/busybox /t2/echo; /t2/echo 2>&1 | grep -o "Permission denied"'
	is "on-host
touch: /ro/x: Read-only file system
touch: /root/x: Read-only file system
700
1024
2048
Permission denied" "$output"
	is "changed m" "$(cat "$D/v/f" "$D/m/f" | xargs)"
	is "v a" "$(drun --rm --volumes-from holder --mount type=volume,src=vol,dst=/again,readonly box cat /again/f /anonymous/f | xargs)"
	docker rm -v holder >/dev/null
}

@test "--init: signals and orphans are docker-init's" {
	drun -d --init --name ct box sh -c 'trap "exit 9" TERM; (sleep 0.1 & ); echo up; while :; do sleep 0.1; done' >/dev/null
	wait_until logs_have ct up
	has "docker-init -- sh -c" "$(in_ct ct cat /proc/1/cmdline | tr '\0' ' ')"
	docker kill -s TERM ct >/dev/null
	is 9 "$(docker wait ct)"
}

@test "--device: nodes for what the guest's kernel has; --privileged: all that the guest has, nothing of the host" {
	run drun --rm --device /dev/fuse --device /dev/null:/dev/xnull:r --cap-add MKNOD box sh -c '
		stat -c "%n %t %T" /dev/fuse /dev/xnull; exec 3</dev/fuse && echo open; mknod /dev/k c 1 11; cat /dev/k 2>&1 | head -n 1'
	is "/dev/fuse a e5
/dev/xnull 1 3
open
cat: can't open '/dev/k': Operation not permitted" "$output"
	truncate -s 16M "$D/disk"
	mkfs.ext4 -q "$D/disk"
	run drun --rm --privileged -v "$D:/d" box sh -c 'grep CapEff /proc/self/status
		mkdir /m && losetup -f >/dev/null && losetup /dev/loop0 /d/disk && mount -t ext4 /dev/loop0 /m && echo in > /m/f && umount /m && losetup -d /dev/loop0 && echo mounted
		mount -t tmpfs t /m && echo tmpfs
		echo 3 > /proc/sys/vm/drop_caches && echo sysctl; touch /sys/fs/cgroup/cgroup.procs && echo cgroup
		find /dev -type b ! -name "loop*"; ls /dev/kvm 2>&1'
	is "CapEff:	$ALL_CAPS
mounted
tmpfs
sysctl
cgroup
ls: /dev/kvm: No such file or directory" "$output"
	debugfs -R 'cat f' "$D/disk" 2>/dev/null | grep -qx in
	local loop
	loop=$(losetup -f --show "$D/disk")
	run drun --rm --device "$loop:/dev/disk" box sh -c 'printf there | dd of=/dev/disk bs=1 seek=4096 conv=notrunc 2>/dev/null; stat -c %F /dev/disk'
	losetup -d "$loop"
	is "block special file" "$output"
	is there "$(dd if="$D/disk" bs=1 skip=4096 count=5 2>/dev/null)"
}

@test "what cannot run says so with runc's exit status and words" {
	same_as_runc box no-such-command
	is 127 "$status"
	same_as_runc box /no/such/path
	is 127 "$status"
	same_as_runc box /etc/passwd
	is 126 "$status"
	same_as_runc box /etc
	same_as_runc -u nouser box true
	is 125 "$status"
	same_as_runc -w /etc/passwd box true
	run drun --rm -v "$D:/etc/passwd" box true
	is 125 "$status"
	has "Are you trying to mount a directory onto a file" "$output"
}

@test "how a container ended: its own status, a signal, its memory's limit" {
	drun --name own box sh -c 'exit 42' || is 42 $?
	is "exited 42 false" "$(about own .State.Status) $(about own .State.ExitCode) $(about own .State.OOMKilled)"
	drun --name sig --init box sh -c 'kill -SEGV $$' || is 139 $?
	is "exited 139" "$(about sig .State.Status) $(about sig .State.ExitCode)"
	drun --rm --memory 20m --memory-swap 20m box tail /dev/zero || is 137 $?
}

@test "-it: a terminal of the right size, keys, attach and detach" {
	on_pty --size 90x25 docker run -it --name ct --runtime husk --network none box sh <<-'S'
		expect # 
		send until stty size | grep -x "25 9""0"; do sleep 0.1; done; tty; echo $((6*7))\n
		expect 25 90
		expect /dev/pts/0
		expect 42
		expect # 
		send echo up$((1)); cat\n
		expect up1
		send typed\n
		expect typed
		expect typed
		send \x03
		expect # 
		send \x10\x11
		exit 0
	S
	is running "$(about ct .State.Status)"
	on_pty docker attach ct <<-'S'
		send echo again $((5*5))\n
		expect again 25
		send exit 3\n
		exit 3
	S
	is "exited 3" "$(about ct .State.Status) $(about ct .State.ExitCode)"
}

@test "input, output and error are apart; -a; --sig-proxy; --rm leaves nothing" {
	is "in" "$(echo in | docker run --rm -i --runtime husk --network none box cat)"
	run --separate-stderr drun --rm box sh -c 'echo out; echo err >&2'
	is "out err" "$output $stderr"
	docker run --rm --name ct --runtime husk --network none box sh -c 'trap "exit 8" TERM; echo up; while :; do sleep 0.1; done' </dev/null >"$T/out" 3>&- &
	wait_until grep -q up "$T/out"
	kill -TERM $!
	ended $! 8
	is "" "$(docker ps -aq)"
}

@test "--health-cmd: healthy, then not" {
	forever ct --health-cmd 'test -e /tmp/well' --health-interval 0.3s --health-retries 2 --health-start-period 0.1s
	in_ct ct touch /tmp/well
	wait_until about_is ct .State.Health.Status healthy
	in_ct ct rm /tmp/well
	wait_until about_is ct .State.Health.Status unhealthy
}

@test "what a microVM cannot do is refused by name" {
	local NONE=()
	refused "is the host's own network namespace, which a microVM cannot share" --network host
	HOST_BEFORE=$(host_things) # dockerd's mount of it stays
	NONE=(--network none)
	mount --bind "$D" "$D"
	mount --make-shared "$D"
	refused "rslave: propagation from the host cannot reach a microVM" -v "$D:/d:rslave"
	umount "$D"
	python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$D/s"
	refused "/s:" -v "$D/s:/s"
	forever ct --ipc shareable
	refused "a microVM cannot join" --pid container:ct
	refused "a microVM cannot join" --ipc container:ct
}

# refused WORDS ARG...: and nothing is left of it.
refused() {
	local words=$1
	shift
	run timeout 150 docker run --rm --runtime husk "${NONE[@]}" "$@" box true </dev/null
	is 125 "$status"
	has "$words" "$output"
}
