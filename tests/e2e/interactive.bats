#!/usr/bin/env bats
# A terminal: husk run under a pty behaves as a local shell does.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

tty_bundle() {
	bundle c '.process.terminal = true' "$@"
}

@test "typing, Ctrl-C, Ctrl-D, and the terminal is as before" {
	tty_bundle sh
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-'S'
		expect / # 
		raw
		send echo $((6*7)) typed\n
		expect 42 typed
		send sh -c 'echo run''ning; exec sleep 1000'\n
		expect running
		send \x03
		expect ^C
		expect # 
		send echo status $?\n
		expect status 130
		expect # 
		send sh -c 'echo cat''ting; exec cat'\n
		expect catting
		send echoed\n
		expect-re echoed.*echoed
		send \x04
		expect # 
		send \x04
		exit 0
	S
}

@test "the size of the terminal, and its changes" {
	tty_bundle sh -c 'trap "echo new: \$(stty size)" WINCH; echo size: $(stty size); while :; do sleep 0.1; done'
	on_pty --size 132x43 "$HUSK" --root "$ROOT" run -b "$B" c <<-S
		expect size: 43 132
		resize 61 17
		expect new: 17 61
		resize 200 50
		expect new: 50 200
		run $HUSK --root $ROOT delete --force c
		exit 137
	S
}

@test "colours and other escape sequences pass unchanged" {
	tty_bundle sh -c 'printf "\033[31mred\033[0m \033[?25l\033]0;title\007 \303\251\n"; tput 2>/dev/null; exit 0'
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-'S'
		expect \x1b[31mred\x1b[0m \x1b[?25l\x1b]0;title\x07 \xc3\xa9\r\n
		exit 0
	S
}

@test "arrow keys and control characters reach the program raw" {
	tty_bundle sh -c 'stty raw -echo; echo ready; head -c 6 | od -An -tx1; stty sane'
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-'S'
		expect ready
		send \x1b[A\x03\x1a\xff
		expect 1b 5b 41 03 1a ff
		exit 0
	S
}

@test "stdin, stdout and stderr are one terminal of the guest, the controlling one" {
	tty_bundle sh -c 'for i in 0 1 2; do readlink /proc/self/fd/$i; done; echo over >/dev/tty; test -c /dev/console && echo console'
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-'S'
		expect-re /dev/(pts/0|console)\r\n/dev/(pts/0|console)\r\n/dev/(pts/0|console)\r\n
		expect over
		expect console
		exit 0
	S
}

@test "the terminal is restored when the container is killed" {
	tty_bundle sh -c 'echo up; exec sleep 1000'
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-S
		expect up
		raw
		run $HUSK --root $ROOT kill c KILL
		exit 137
		cooked
	S
}

@test "the terminal is restored when husk run gets SIGTERM" {
	tty_bundle sh -c 'trap "echo told; exit 3" TERM; echo up; while :; do sleep 0.1; done'
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-'S'
		expect up
		raw
		kill SIGTERM
		expect told
		exit 3
		cooked
	S
}

@test "the terminal is restored when the VM dies" {
	tty_bundle sh -c 'echo up; exec sleep 1000'
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-S
		expect up
		raw
		run kill -9 \$(jq .vmm_pid $ROOT/c/state.json)
		exit 137
		cooked
	S
}

@test "the terminal is restored when the command is not found" {
	tty_bundle nothing-of-this-name
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-'S'
		expect executable file not found in $PATH
		exit 127
		cooked
	S
}

@test "a large paste and a large output are whole" {
	tty_bundle sh -c 'stty raw -echo; echo ready; head -c 20000 | md5sum; yes 0123456789 | head -n 20000; echo; echo end'
	text=$(head -c 15000 /dev/urandom | base64 -w0 | head -c 20000)
	on_pty "$HUSK" --root "$ROOT" run -b "$B" c <<-S
		expect ready
		send $text
		expect $(printf %s "$text" | md5sum | cut -d' ' -f1)
		expect-re (0123456789\r?\n){20000}
		expect end
		exit 0
	S
}

@test "create with --console-socket sends the terminal's master" {
	tty_bundle sh
	jq '.process.consoleSize = {"width": 111, "height": 22}' "$B/config.json" >"$B/c" && mv "$B/c" "$B/config.json"
	on_pty --listen "$T/sock" "$HUSK" --root "$ROOT" create --console-socket "$T/sock" -b "$B" c <<-S
		run $HUSK --root $ROOT start c
		expect / # 
		send stty size\n
		expect 22 111
		resize 90 30
		send until stty size | grep "30 9""0"; do sleep 0.1; done\n
		expect 30 90
		send exit\n
		eof
	S
	wait_until is_stopped c
	husk delete c
}

@test "a terminal and no place for it is an error" {
	tty_bundle sh
	run --separate-stderr husk create -b "$B" c </dev/null
	status_is 1
	has "give --console-socket" "$stderr"
	run --separate-stderr husk create --console-socket "$T/none" -b "$B" c </dev/null
	one_error "--console-socket $T/none: No such file or directory"
	edit_spec "$B/config.json" "$B/c" . && mv "$B/c" "$B/config.json"
	run --separate-stderr husk create --console-socket "$T/none" -b "$B" c </dev/null
	status_is 1
	has "cannot use console socket if process.terminal is false" "$stderr"
}

@test "in tmux" {
	tty_bundle sh
	tmux -S "$T/tmux" -f /dev/null new-session -d -x 70 -y 20 \
		"PATH=$PATH HUSK_DATA=$HUSK_DATA $HUSK --root $ROOT run -b $B c; echo status \$? >$T/status; sleep 1000"
	screen() { tmux -S "$T/tmux" capture-pane -p | grep -q -- "$1"; }
	wait_until screen '/ #'
	tmux -S "$T/tmux" send-keys 'echo $((6*7)); stty size' Enter
	wait_until screen '^42'
	wait_until screen '20 70'
	tmux -S "$T/tmux" send-keys 'exit 9' Enter
	wait_until test -s "$T/status"
	is "status 9" "$(cat "$T/status")"
	tmux -S "$T/tmux" kill-server
}
