#!/usr/bin/env bats
# Bad input and broken hosts: one clear line, exit 1, and nothing left (teardown looks).

load helpers

setup_file() { make_base; }
setup() { setup_test; }

teardown() {
	unmount "$T/small"
	check_nothing_left
}

# refused FILTER MESSAGE: of a config.json with that change.
refused() {
	bundle "c$((++N))" "$1" true
	run --separate-stderr husk run -b "$B" c </dev/null
	one_error "$B/config.json: $2"
}

@test "no config.json" {
	mkdir "$T/b"
	run --separate-stderr husk run -b "$T/b" c
	one_error "$T/b/config.json: no such file or directory: make one with 'husk spec'"
	run --separate-stderr husk create -b "$T/none" c
	one_error "bundle $T/none: No such file or directory"
}

@test "broken JSON: line and column" {
	mkdir -p "$T/b/rootfs"
	printf '{\n  "ociVersion": "1.2.0",\n  "process" {}\n}\n' >"$T/b/config.json"
	run --separate-stderr husk run -b "$T/b" c
	status_is 1
	is 1 "$(wc -l <<<"$stderr")"
	[[ $stderr =~ ^"husk: error: $T/b/config.json: line 3, column "[0-9]+": " ]]
	: >"$T/b/config.json"
	run --separate-stderr husk run -b "$T/b" c
	status_is 1
	has "line 1, column 1: " "$stderr"
}

@test "unknown ociVersion" {
	bundle c '.ociVersion = "9.9.9"' true
	run --separate-stderr husk run -b "$B" c
	status_is 1
	is 1 "$(wc -l <<<"$stderr")"
	has "ociVersion: " "$stderr"
	has "9.9.9" "$stderr"
}

@test "no args, relative cwd, a wrong type: the field is named" {
	bundle c '.process.args = []'
	run --separate-stderr husk run -b "$B" c
	status_is 1
	has "$B/config.json: process.args" "$stderr"
	bundle d '.process.cwd = "tmp"' true
	run --separate-stderr husk run -b "$B" c
	status_is 1
	has "$B/config.json: process.cwd: " "$stderr"
	bundle e '.process.user.uid = "root"' true
	run --separate-stderr husk run -b "$B" c
	status_is 1
	has "process.user.uid" "$stderr"
	bundle f '.linux.namespaces[2].path = "relative"' true
	run --separate-stderr husk run -b "$B" c
	status_is 1
	has "linux.namespaces[2].path" "$stderr"
}

@test "what husk cannot do is refused by name" {
	bundle c '.linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", listenerPath: "/x",
		syscalls: [{names: ["mount"], action: "SCMP_ACT_NOTIFY"}]}' true
	run --separate-stderr husk run -b "$B" c
	status_is 1
	has "linux.seccomp" "$stderr"
	bundle d '.mounts += [{destination: "/x", type: "bind", source: "/etc", options: ["rbind", "rslave"]}]' true
	run --separate-stderr husk run -b "$B" c
	status_is 1
	has "mounts[" "$stderr"
}

@test "a missing root file system, and one that is no directory" {
	bundle c '.root.path = "none"' true
	run --separate-stderr husk run -b "$B" c
	one_error "$B/config.json: root.path: $B/none: No such file or directory"
	bundle d '.root.path = "file"' true
	touch "$B/file"
	run --separate-stderr husk run -b "$B" c
	one_error "$B/config.json: root.path: $B/file: not a directory"
}

@test "bad ids" {
	bundle c . true
	run --separate-stderr husk create -b "$B" a/b
	one_error 'invalid container id format: "a/b": use letters, digits and _+-.'
	run --separate-stderr husk create -b "$B" ..
	one_error 'invalid container id format: "..": use letters, digits and _+-.'
	run --separate-stderr husk create -b "$B" ""
	one_error "container id must not be empty"
	run --separate-stderr husk delete --force ../../etc
	one_error 'invalid container id format: "../../etc": use letters, digits and _+-.'
	[[ ! -e $ROOT ]]
}

@test "an id in use; the container that has it goes on" {
	bundle c . sleep 1000
	husk run -d -b "$B" c </dev/null >/dev/null
	run --separate-stderr husk run -b "$B" c
	one_error 'container with given ID already exists: "c"'
	is running "$(state_of c)"
	husk delete -f c
}

@test "unknown verbs and flags, missing operands" {
	run --separate-stderr husk frobnicate
	one_error "unknown command \"frobnicate\": see 'husk --help'"
	run --separate-stderr "$HUSK" --frob run c
	one_error "husk: unknown flag --frob: see 'husk --help'"
	run --separate-stderr husk run --frob c
	one_error "husk run: unknown flag --frob: see 'husk run --help'"
	run --separate-stderr husk run
	one_error "husk run: wrong number of arguments: usage: husk run [OPTIONS] ID"
	run --separate-stderr husk state a b
	one_error "husk state: wrong number of arguments: usage: husk state [OPTIONS] ID"
	run --separate-stderr husk --log-format xml list
	one_error '--log-format: "xml": must be text or json'
	run --separate-stderr husk --log /none/such/log list
	one_error "--log: open /none/such/log: No such file or directory"
}

@test "exec and kill on a stopped container" {
	bundle c . true
	husk run --keep -b "$B" c </dev/null
	run --separate-stderr husk exec c true
	one_error "cannot exec in a stopped container" 255
	run --separate-stderr husk kill c
	one_error "container not running"
	run --separate-stderr husk ps c
	one_error "container not running"
	husk delete c
	run --separate-stderr husk exec c true
	one_error 'container "c" does not exist' 255
}

@test "the kernel file is absent, or garbage" {
	bundle c . true
	HUSK_KERNEL=$T/none run --separate-stderr husk run -b "$B" c
	one_error "$T/none (from HUSK_KERNEL): No such file or directory"
	head -c 100000 /dev/urandom >"$T/garbage"
	HUSK_KERNEL=$T/garbage run --separate-stderr husk run -b "$B" c
	status_is 1
	is 1 "$(grep -c . <<<"$stderr")"
	has "kernel" "$stderr"
	: >"$T/empty"
	HUSK_KERNEL=$T/empty run --separate-stderr husk run -b "$B" c
	status_is 1
}

@test "the initramfs is absent, or garbage: the kernel's last words are in the message" {
	bundle c . true
	HUSK_INITRAMFS=$T/none run --separate-stderr husk run -b "$B" c
	one_error "$T/none (from HUSK_INITRAMFS): No such file or directory"
	head -c 100000 /dev/urandom >"$T/garbage"
	HUSK_INITRAMFS=$T/garbage run --separate-stderr husk run -b "$B" c
	status_is 1
	is 1 "$(grep -c . <<<"$stderr")"
	kernel_has earlyprintk || skip "this guest kernel has no early console"
	has "anic" "$stderr"
}

# An initramfs whose init does what the script says.
fake_initramfs() {
	mkdir -p "$T/i/bin" "$T/i/dev"
	cp /bin/busybox "$T/i/bin/"
	printf '#!/bin/busybox sh\n%s\n' "$1" >"$T/i/init"
	chmod 755 "$T/i/init"
	(cd "$T/i" && find . | cpio -o -H newc --quiet) >"$T/initramfs"
	export HUSK_INITRAMFS=$T/initramfs
}

# A husk that fails with one line; a guest has a console only for those who want to see much.
with_console() {
	run --separate-stderr husk --debug "$@" </dev/null
	stderr=$(grep -vE '^husk(-vmm)?: debug: ' <<<"$stderr")
	status_is 1 && is 1 "$(grep -c . <<<"$stderr")"
}

@test "a guest that never answers: a bounded wait, and what its console said" {
	fake_initramfs 'echo this guest hangs; exec /bin/busybox sleep 100000'
	bundle c . true
	local s=$((2 * ${HUSK_TEST_SLOW:-1})) longest=$WAIT_S
	# Its init has to get there first, which takes a busy machine longer.
	for (( ; s < longest; s *= 3)); do
		HUSK_BOOT_TIMEOUT=$s with_console run -b "$B" c
		has "the guest did not answer within $s s: last console lines: " "$stderr"
		[[ $stderr != *"this guest hangs"* ]] || break
	done
	has "this guest hangs" "$stderr"
}

@test "a guest that dies before it answers is told at once" {
	fake_initramfs 'echo about to die; exit 1'
	bundle c . true
	HUSK_BOOT_TIMEOUT=10000 with_console run -b "$B" c # "at once" is before this test's own time is up
	has "about to die" "$stderr"
}

@test "QEMU is not installed: the package is named" {
	bundle c . true
	HUSK_QEMU=/none/qemu run --separate-stderr husk --engine qemu run -b "$B" c
	one_error "/none/qemu (from HUSK_QEMU): install it with 'apt-get install qemu-system-x86': No such file or directory"
	HUSK_QEMU=/bin/false run --separate-stderr husk --engine qemu run -b "$B" c
	status_is 1
	is 1 "$(grep -c . <<<"$stderr")"
}

@test "the disk is full: no scratch disk; a read-only root needs none" {
	bundle c . true
	mkdir "$T/small"
	mount -t tmpfs -o size=32k husk-test "$T/small"
	HUSK_DATA=$T/small run --separate-stderr husk run -b "$B" c </dev/null
	status_is 1
	is 1 "$(grep -c . <<<"$stderr")"
	has "make the scratch template in $T/small: mkfs.ext4: " "$stderr"
	is "" "$(find "$T/small" -type f)"
	bundle r '.root.readonly = true' true
	HUSK_DATA=$T/small husk run -b "$B" r </dev/null
	is "" "$(find "$T/small" -type f)"
}

@test "a size of the scratch disk that is none" {
	for size in 0 1M 2T x -1 10GB "" 1.5G 99999999999999999999; do
		bundle c ".annotations[\"io.husk.scratch-size\"] = \"$size\"" true
		run --separate-stderr husk run -b "$B" c </dev/null
		one_error "$B/config.json: annotations[\"io.husk.scratch-size\"]: \"$size\": give a size from 16M to 1T, such as 500M or 10G"
	done
}

@test "a data directory that cannot be made" {
	bundle c . true
	HUSK_DATA=/proc/none run --separate-stderr husk run -b "$B" c </dev/null
	one_error "mkdir /proc/none: No such file or directory"
}

@test "SIGINT and SIGTERM during create" {
	fake_initramfs 'exec /bin/busybox sleep 100000'
	for sig in TERM INT HUP; do
		bundle "s$sig" '.hooks.createRuntime = [{path: "/bin/sh", args: ["sh", "-c", "kill -'$sig' $PPID; exec sleep 1000"],
			env: ["PATH=/usr/bin:/bin"]}]' true
		run --separate-stderr husk create -b "$B" c </dev/null
		status_is 1
		has "interrupted by a signal" "$stderr"
		is 1 "$(grep -c . <<<"$stderr")"
		wait_until none_left # a scratch is freed by a process of its own
	done
	# While it waits for the guest.
	bundle w . true
	"$HUSK" --root "$ROOT" run -b "$B" w </dev/null 2>"$T/err" 3>&- &
	pid=$!
	wait_until test -e "$ROOT/w/state.json"
	wait_until has_machine w
	kill -TERM "$pid"
	ended "$pid" 1
	has "interrupted by a signal" "$(cat "$T/err")"
	[[ ! -e $ROOT/w ]]
}

has_machine() { [[ -n $(machine_of "$1") ]]; }

@test "a root directory that is not ours to write" {
	bundle c . true
	run --separate-stderr "$HUSK" --root /proc/husk run -b "$B" c </dev/null
	one_error "mkdir /proc/husk: No such file or directory"
	echo >"$T/file"
	run --separate-stderr "$HUSK" --root "$T/file" run -b "$B" c </dev/null
	status_is 1
	has "$T/file" "$stderr"
}

@test "a state file that was damaged does not keep delete --force from its work" {
	bundle c . sleep 1000
	husk run -d -b "$B" c </dev/null >/dev/null
	vmm=$(vmm_of c) pid=$(pid_of c)
	kill -9 "$pid"
	wait_until gone "$vmm"
	echo garbage >"$ROOT/c/state.json"
	run --separate-stderr husk state c
	status_is 1
	has "$ROOT/c/state.json: line 1, column" "$stderr"
	husk list
	husk delete --force c
}
