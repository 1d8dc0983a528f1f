#!/usr/bin/env bats
# stdin, stdout and stderr: every byte, each stream by itself, with a pipe's back-pressure.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

@test "much data through stdin, cat and stdout is intact" {
	head -c 64M /dev/urandom >"$T/64m"
	feed() { for i in $(seq "$(rounds 16 1)"); do cat "$T/64m" - <<<"$i"; done; }
	bundle c . cat
	got=$(feed | tee >(sha256sum >"$T/wanted") | husk run -b "$B" c | sha256sum)
	wait_until test -s "$T/wanted"
	is "$(cat "$T/wanted")" "$got"
}

@test "every byte value passes unchanged, in both directions" {
	for i in $(seq 0 255); do printf '%b' "\\0$(printf %o "$i")"; done >"$T/all"
	is 256 "$(stat -c %s "$T/all")"
	bundle c . tee /dev/stderr
	husk run -b "$B" c <"$T/all" >"$T/out" 2>"$T/err"
	cmp "$T/all" "$T/out"
	cmp "$T/all" "$T/err"
}

@test "stdout and stderr are apart, and ordered each" {
	bundle c . sh -c 'for i in 1 2 3; do echo o$i; echo e$i >&2; done'
	husk run -b "$B" c >"$T/out" 2>"$T/err" </dev/null
	is "o1 o2 o3" "$(xargs <"$T/out")"
	is "e1 e2 e3" "$(xargs <"$T/err")"
}

@test "a reader that does not read stdout does not stall stderr or exec" {
	mkfifo "$T/fifo"
	exec 7<>"$T/fifo"
	bundle c . sh -c 'cat /dev/zero & i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; read x'
	mkfifo "$T/stdin"
	exec 8<>"$T/stdin"
	husk run -b "$B" c >"$T/fifo" 2>"$T/err" <"$T/stdin" 3>&- 7>&- 8>&- &
	local pid=$!
	wait_until grep -qx "line 1999" "$T/err"
	is fine "$(husk exec c echo fine)"
	echo >&8
	exec 8>&-
	# What the process wrote waits for its reader; then all ends. There is a reader all the time.
	exec 9<"$T/fifo" 7>&-
	timeout $((2 * WAIT_S)) cat <&9 >/dev/null 9<&- 3>&- &
	local reader=$!
	exec 9<&-
	ended $pid 0
	ended $reader 0
}

@test "stdin that ends, ends in the container" {
	bundle c . sh -c 'cat; echo over'
	is $'in\nover' "$(echo in | husk run -b "$B" c)"
	run husk run -b "$B" c </dev/null
	is over "$output"
}

@test "stdin that nobody reads holds nothing up" {
	bundle c . sh -c 'exit 5'
	set +o pipefail
	yes | husk run -b "$B" c || status=$?
	is 5 "$status"
	mkfifo "$T/fifo"
	exec 7<>"$T/fifo"
	husk run -b "$B" c <"$T/fifo" 3>&- 7>&- &
	ended $! 5
	exec 7>&-
}

@test "a reader that goes away is SIGPIPE for the process" {
	bundle c . sh -c 'yes; echo yes: $? >&2'
	husk run -b "$B" c 2>"$T/err" </dev/null | head -n 1 >"$T/out"
	is y "$(cat "$T/out")"
	grep -qx "yes: 141" "$T/err"
}

@test "a process that closes its stdin goes on, whatever is written to it" {
	bundle c . sh -c 'exec </dev/null; echo closed; head -c 1000000 /dev/zero | wc -c; exit 4'
	set +o pipefail
	yes | husk run -b "$B" c >"$T/out" || status=$?
	is 4 "$status"
	is "closed 1000000" "$(xargs <"$T/out")"
}

@test "output of a short-lived process is never lost" {
	start_box box
	for _ in $(seq "$(rounds 40 4)"); do
		is "$(printf 'x%.0s' $(seq 100))" "$(husk exec box sh -c 'printf "x%.0s" $(seq 100)' </dev/null)"
	done
	is 3000000 "$(husk exec box head -c 3000000 /dev/zero </dev/null | wc -c)"
	end_box box
}

@test "files and sockets as stdio, and none at all" {
	bundle c . sh -c 'cat; echo err >&2'
	echo from a file >"$T/in"
	husk run -b "$B" c <"$T/in" >"$T/out" 2>>"$T/out"
	is "err from a file" "$(sort "$T/out" | xargs)"
	husk run -b "$B" c <&- >&- 2>&-
	python3 - "$HUSK" "$ROOT" "$B" <<-'P'
		import socket, subprocess, sys
		a, b = socket.socketpair()
		p = subprocess.Popen([sys.argv[1], "--root", sys.argv[2], "run", "-b", sys.argv[3], "c"], stdin=b, stdout=b, stderr=subprocess.DEVNULL)
		b.close()
		a.sendall(b"through a socket\n")
		a.shutdown(socket.SHUT_WR)
		data = b""
		while True:
		    d = a.recv(4096)
		    if not d:
		        break
		    data += d
		assert p.wait() == 0 and data == b"through a socket\n", (p.returncode, data)
	P
}
