#!/usr/bin/env bats
# Input beyond busybox: a Debian tree, made once by debootstrap and kept in ${HUSK_CACHE:-/var/cache/husk}.

load helpers

PACKAGES=perl,python3

# Makes the tree if it is not there; needs the network only then.
make_tree() {
	local cache=${HUSK_CACHE:-/var/cache/husk} new
	TREE_DIR=$cache/debian-bookworm-1
	export TREE_DIR
	mkdir -p "$cache"
	exec 9>"$cache/debian.lock"
	flock 9
	if [[ ! -d $TREE_DIR ]]; then
		new=$(mktemp -d "$cache/.debian.XXXXXX")
		if debootstrap --variant=minbase --include=$PACKAGES bookworm "$new/tree" >"$cache/debootstrap.log" 2>&1; then
			rm -rf "$new/tree/var/cache/apt/archives"/*.deb "$new/tree/var/lib/apt/lists"/*
			chmod 755 "$new/tree"
			mv "$new/tree" "$TREE_DIR"
		fi
		rm -rf "$new"
	fi
	exec 9>&-
	[[ -d $TREE_DIR ]]
}

setup_file() {
	make_base
	make_tree || return 0
	# One container for all tests: programs of a real distribution find what they need in it. Its
	# root is an overlay, as engines mount it, so that the tree stays as it is.
	mkdir -p "$BASE"/debian/{rootfs,upper,work}
	mount -t overlay -o "lowerdir=$TREE_DIR,upperdir=$BASE/debian/upper,workdir=$BASE/debian/work" \
		overlay "$BASE/debian/rootfs"
	edit_spec "$SPEC" "$BASE/debian/config.json" '.root.path = "rootfs" | .process.noNewPrivileges = false
		| .process.capabilities |= map_values(["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID",
			"SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"] | map("CAP_" + .))' \
		sleep 100000
	husk run -d -b "$BASE/debian" debian </dev/null >/dev/null
}

teardown_file() {
	[[ -d ${TREE_DIR:-} ]] || return 0
	husk delete -f debian
	all_ended
	unmount "$BASE/debian/rootfs"
}

setup() {
	setup_test
	[[ -d ${TREE_DIR:-} ]] || skip "no Debian tree and no network to make one (see ${HUSK_CACHE:-/var/cache/husk}/debootstrap.log)"
	export ROOT=$BASE/root
}

teardown() {
	export ROOT=$T/none
	check_nothing_left
}

@test "apt-get --version" {
	run husk exec debian apt-get --version
	status_is 0
	has "apt 2.6" "${lines[0]}"
}

@test "perl" {
	run husk exec debian perl -MPOSIX -e 'printf "%s %d\n", (POSIX::uname())[2], 6 * 7; exit 3'
	status_is 3
	[[ $output == 6.12.*" 42" ]]
}

@test "python3: modules, threads, a subprocess, sockets" {
	run husk exec debian python3 -c '
import hashlib, json, os, socket, subprocess, sys, threading, tempfile
t = [threading.Thread(target=lambda: hashlib.sha256(b"x" * 100000).digest()) for _ in range(8)]
[x.start() for x in t]; [x.join() for x in t]
a, b = socket.socketpair(); a.sendall(b"hi")
with tempfile.TemporaryFile() as f: f.write(b"y" * 100000)
print(json.dumps([sys.version_info[0], b.recv(9).decode(), subprocess.check_output(["uname", "-n"], text=True).strip(), os.cpu_count()]))'
	status_is 0
	is '[3, "hi", "husk", 1]' "$output"
}

@test "a shell script that writes 200 MB to its root reads them back" {
	run --separate-stderr husk exec debian bash -c 'set -e
		for i in $(seq 4); do head -c 50M /dev/urandom >/var/big.$i; done
		cat /var/big.* | tee /root/copy | sha256sum >/tmp/sum
		sync; echo 3 >/proc/sys/vm/drop_caches 2>/dev/null || true
		sha256sum </root/copy | cmp - /tmp/sum && stat -c %s /root/copy'
	status_is 0
	is 209715200 "$output"
}

@test "dpkg and its database work on the writable root" {
	run husk exec debian bash -c 'dpkg -l | grep -c ^ii; dpkg --verify coreutils && echo verified
		mkdir -p /tmp/p/DEBIAN /tmp/p/opt && printf "Package: small\nVersion: 1\nArchitecture: all\nMaintainer: m <m@example.org>\nDescription: d\n" >/tmp/p/DEBIAN/control &&
		echo x >/tmp/p/opt/small && dpkg-deb --build /tmp/p /tmp/p.deb >/dev/null && dpkg -i /tmp/p.deb >/dev/null 2>&1 && cat /opt/small'
	status_is 0
	((lines[0] > 50))
	is "verified" "${lines[1]}"
	is "x" "${lines[2]}"
	[[ ! -e $TREE_DIR/opt/small ]]
}

@test "setuid programs, users and login shells" {
	run --separate-stderr husk exec debian bash -c 'useradd -m tester && su tester -c "id -un; touch /root/x"; stat -c %a /bin/su'
	is "tester" "${lines[0]}"
	has "Permission denied" "$stderr"
	is 4755 "${lines[-1]}"
}
