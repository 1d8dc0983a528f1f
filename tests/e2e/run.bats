#!/usr/bin/env bats
# husk run: a process in a container with a kernel of its own.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

@test "a container has a kernel of its own, its hostname and PID 1" {
	run_in '.hostname = "box"' sh -c 'uname -snr; echo pid $$; set -- /proc/[0-9]*; echo $#'
	status_is 0
	is "" "$stderr"
	[[ ${lines[0]} == "Linux box 6.12."* ]]
	[[ ${lines[0]} != *"$(uname -r)"* ]]
	is "pid 1" "${lines[1]}"
	is 1 "${lines[2]}"
}

@test "the exit status is the process's" {
	for want in 0 1 42 126 127 137 143 255; do
		run_in . sh -c "exit $want"
		status_is $want
		is "" "$output$stderr"
	done
}

@test "death by a signal is 128 + its number" {
	local pairs="HUP:129 INT:130 TERM:143 KILL:137 USR1:138 SEGV:139 ABRT:134"
	start_box box
	for pair in $pairs; do
		run husk exec box sh -c "kill -${pair%:*} \$\$"
		status_is "${pair#*:}"
	done
	end_box box
	# The container's own process: nobody but the kernel's parent can kill a PID 1 by SIGKILL.
	bundle k . sh -c 'echo up; exec sleep 1000'
	husk run -b "$B" k >"$T/k.out" </dev/null 3>&- &
	wait_until grep -q up "$T/k.out"
	husk kill k KILL
	ended $! 137
}

@test "exit statuses from 0 to 255" {
	start_box box
	bad=
	for i in $(seq 0 "$(rounds 1 15)" 255); do
		husk exec box sh -c "exit $i" </dev/null && got=0 || got=$?
		((got == i)) || bad+=" $i:$got"
	done
	end_box box
	is "" "$bad"
}

@test "an unknown command is 127, with runc's words" {
	run_in . no-such-command --flag
	one_error 'exec: "no-such-command": executable file not found in $PATH' 127
	run_in . /no/such/command
	one_error 'exec: "/no/such/command": stat /no/such/command: no such file or directory' 127
}

@test "a command that cannot be executed is 126, with runc's words" {
	run_in . /etc/passwd
	one_error 'exec: "/etc/passwd": permission denied' 126
	run_in . /etc
	status_is 126
	has 'exec: "/etc": ' "$stderr"
}

@test "an unknown interpreter and a file of no known format are told" {
	bundle c . /bin/script
	printf '#!/no/interpreter\n' >"$B/rootfs/bin/script"
	printf 'no program\n' >"$B/rootfs/bin/text"
	chmod 755 "$B"/rootfs/bin/{script,text}
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 127
	has 'no such file or directory' "$stderr"
	jq '.process.args = ["/bin/text"]' "$B/config.json" >"$B/c" && mv "$B/c" "$B/config.json"
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 126
	has 'exec format error' "$stderr"
}

@test "a container over its memory limit dies by SIGKILL" {
	run_in '.linux.resources.memory.limit = 33554432' \
		sh -c 'x=$(head -c 200000000 /dev/zero | tr "\0" x); echo survived'
	status_is 137
	[[ $output != *survived* ]]
	run_in '.linux.resources.memory.limit = 33554432' tail -c 60000000 /dev/zero
	status_is 137
}

@test "the root file system takes writes, which are in the bundle when the container has ended" {
	bundle c . sh -c 'test ! -e /new && echo hello >/new && cat /new && rm /bin/vi &&
		mkdir -p /a/b/c && mv /etc/passwd /a/b/c/ && chmod 700 /root && ls /a/b/c; ls / | wc -l'
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 0
	is "" "$stderr"
	is hello "${lines[0]}"
	is passwd "${lines[1]}"
	[[ ! -e $B/rootfs/bin/vi && ! -e $B/rootfs/etc/passwd && -e $B/rootfs/a/b/c/passwd ]]
	is hello "$(cat "$B/rootfs/new")"
	is 700 "$(stat -c %a "$B/rootfs/root")"
}

@test "the files of the root file system are as they were: modes, owners, links, times, contents" {
	bundle c . sh -c 'cd /t; stat -c "%n %a %u:%g %Y %F" *; readlink l; cat "sp ace"; sha256sum big;
		stat -c %h hard1; ls -d .hidden ünï'
	mkdir "$B/rootfs/t"
	pushd "$B/rootfs/t"
	echo content >"sp ace"
	ln -s "sp ace" l
	echo x >hard1
	ln hard1 hard2
	mkfifo fifo
	touch .hidden ünï
	head -c 5000000 /dev/urandom >big
	touch s && chown 1000:7 s && chmod 4751 s
	touch -d @1000000000 s "sp ace"
	popd
	run --separate-stderr husk run -b "$B" c </dev/null
	status_is 0
	has "s 4751 1000:7 1000000000 regular empty file" "$output"
	has "sp ace 644 0:0 1000000000 regular file" "$output"
	has "fifo 644 0:0" "$output"
	has $'\nsp ace\ncontent\n'"$(sha256sum "$B/rootfs/t/big" | cut -d' ' -f1)  big"$'\n2\n' "$output"
	has "ünï" "$output"
}

@test "a read-only root refuses writes" {
	run_in '.root.readonly = true' sh -c 'touch /x; echo $?; touch /tmp/x; echo $?; echo y >/dev/shm/x && echo shm'
	status_is 0
	is $'1\n1\nshm' "$output"
	has 'Read-only file system' "$stderr"
}

@test "a bundle as husk spec makes it runs unchanged" {
	mkdir "$T/b"
	cp -a "$ROOTFS" "$T/b/rootfs"
	cd "$T/b"
	husk spec
	on_pty --size 100x30 "$HUSK" --root "$ROOT" run own <<-'S'
		expect / # 
		send echo $((6*7)) $0; stty size; touch /x; hostname\n
		expect 42 sh
		expect 30 100
		expect Read-only file system
		expect husk
		send exit 3\n
		exit 3
	S
}

@test "a bundle as runc spec makes it runs unchanged" {
	mkdir "$T/b"
	cp -a "$ROOTFS" "$T/b/rootfs"
	cd "$T/b"
	runc spec
	on_pty "$HUSK" --root "$ROOT" run own <<-'S'
		expect / # 
		send echo $((6*7)); id -u; hostname\n
		expect 42
		expect runc
		send exit\n
		exit 0
	S
}

@test "run --detach, --keep and --pid-file" {
	bundle d . sh -c 'exit 5'
	husk run --detach --pid-file "$T/pid" -b "$B" d </dev/null >/dev/null
	wait_until is_stopped d
	grep -qxE '[0-9]+' "$T/pid"
	husk delete d
	run husk run --keep -b "$B" d </dev/null
	status_is 5
	is stopped "$(state_of d)"
	husk delete d
}

@test "--debug tells where the time went" {
	bundle c . true
	run --separate-stderr husk --debug run -b "$B" c </dev/null
	status_is 0
	for what in parse "rootfs as disks" "scratch disk and record" "VMM start" kernel agent "attach disks" "create, in all" start; do
		has "$what" "$stderr"
	done
	is "" "$output"
}
