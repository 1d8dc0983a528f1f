#!/usr/bin/env bats
# NOTIFY_SOCKET (sd_notify): the container's READY reaches the socket that husk was started with.

load helpers

setup_file() { make_base; }

setup() {
	setup_test
	# Who waits for READY, and answers barriers, as a service manager does.
	python3 -c '
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listens", flush=True)
while True:
    text, fds, _, _ = socket.recv_fds(s, 8192, 4)
    print(text.decode().strip(), flush=True)
    for f in fds:
        os.close(f)
    if b"BARRIER" in text:
        break' "$T/notify" >"$T/heard" &
	LISTENER=$!
	wait_until grep -q listens "$T/heard"
}

teardown() {
	kill "$LISTENER" 2>/dev/null
	wait "$LISTENER" 2>/dev/null
	check_nothing_left
}

heard() { tail -n +2 "$T/heard" | xargs; }


@test "create and start: READY is passed on with the container's pid, and nothing else" {
	[[ -x /usr/bin/python3 ]]
	bundle box '.mounts += [{destination: "/usr", source: "/usr", type: "bind", options: ["rbind", "ro"]},
			{destination: "/lib", source: "/lib", type: "bind", options: ["rbind", "ro"]},
			{destination: "/lib64", source: "/lib64", type: "bind", options: ["rbind", "ro"]}]
		| .process.user.uid = 1000' /usr/bin/python3 -c "
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(text): s.sendto(text, os.environ['NOTIFY_SOCKET'])
say(b'STATUS=begins')
say(b'MAINPID=1\nREADY=1\nSTATUS=done')
for i in range(50): say(b'WATCHDOG=1')
try: open('/run/notify/x', 'w')
except OSError as e: print(e.strerror, flush=True)
time.sleep(100000)"
	NOTIFY_SOCKET=$T/notify husk create --pid-file "$T/pid" -b "$B" box </dev/null >"$T/out" 2>&1
	NOTIFY_SOCKET=$T/notify husk start box
	wait_until gone "$LISTENER"
	is "READY=1 MAINPID=$(cat "$T/pid") BARRIER=1" "$(heard)"
	wait_until grep -q . "$T/out" # not blocked by a socket that nobody reads
	is "Read-only file system" "$(cat "$T/out")"
	end_box box
}

@test "run in the foreground: the process to watch is husk itself; detached: the container's" {
	bundle box '.mounts += [{destination: "/usr", source: "/usr", type: "bind", options: ["rbind", "ro"]},
			{destination: "/lib", source: "/lib", type: "bind", options: ["rbind", "ro"]},
			{destination: "/lib64", source: "/lib64", type: "bind", options: ["rbind", "ro"]}]' /usr/bin/python3 -c "
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
sys.stdin.read()"
	mkfifo "$T/stdin"
	NOTIFY_SOCKET=$T/notify "$HUSK" --root "$ROOT" run -b "$B" box <"$T/stdin" 3>&- &
	exec {IN}>"$T/stdin"
	wait_until gone "$LISTENER"
	is "READY=1 MAINPID=$! BARRIER=1" "$(heard)"
	exec {IN}>&-
	ended $! 0
}

@test "a container that ends without READY, and one that was created without a socket, do not keep start waiting" {
	bundle a . true
	NOTIFY_SOCKET=$T/notify husk run -d -b "$B" a </dev/null >/dev/null 2>"$T/err"
	is "" "$(cat "$T/err")"
	wait_until is_stopped a
	husk delete a
	bundle b . sh -c 'echo "<$NOTIFY_SOCKET>"; ls /run 2>/dev/null; echo up; exec sleep 1000'
	husk create -b "$B" b </dev/null >"$T/b.out"
	NOTIFY_SOCKET=$T/notify run --separate-stderr husk start b
	status_is 0
	has "has no notification socket" "$stderr"
	wait_until grep -q up "$T/b.out"
	is "<> up" "$(xargs <"$T/b.out")"
	husk kill b KILL
	wait_until is_stopped b
	husk delete b
	is "" "$(heard)"
}
