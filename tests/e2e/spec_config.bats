#!/usr/bin/env bats
# config.md and runtime.md but for Process, Mounts (mounts*.bats) and hooks (spec_hooks.bats): what
# MUST be an error, what MUST be ignored, and the operations' answers.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

# refused FILTER ERROR: create is refused in these words, and leaves nothing.
refused() {
	((++N))
	bundle "r$N" "$1" true
	run --separate-stderr husk create -b "$B" "r$N" </dev/null
	one_error "$B/config.json: $2"
	[[ ! -d $ROOT || -z $(ls -A "$ROOT") ]]
}

@test "Specification version: MUST be a SemVer that the runtime knows" {
	refused 'del(.ociVersion)' 'ociVersion: property must not be empty'
	refused '.ociVersion = "0.9.0"' 'ociVersion: "0.9.0": unsupported version'
	refused '.ociVersion = "2.0.0"' 'ociVersion: "2.0.0": unsupported version'
	refused '.ociVersion = "1.2"' 'ociVersion: "1.2": unsupported version'
	run_in '.ociVersion = "1.0.2-dev"' true
	status_is 0
}

@test "Root: MUST be there, a directory; relative to the bundle or absolute; readonly MUST hold" {
	refused 'del(.root)' 'root: property must not be empty'
	refused 'del(.root.path)' 'root.path: property must not be empty'
	refused '.root.path = "nowhere"' "root.path: $T/r$((N + 1))/nowhere: No such file or directory"
	bundle ro '.root.readonly = true' sh -c 'touch /x; touch /etc/x; touch /dev/shm/x && echo shm'
	mv "$B/rootfs" "$T/elsewhere"
	edit_spec "$B/config.json" "$T/config" ".root = {path: \"$T/elsewhere\", readonly: true}"
	mv "$T/config" "$B/config.json"
	run --separate-stderr husk run -b "$B" ro </dev/null
	is shm "$output"
	is 2 "$(grep -c 'Read-only file system' <<<"$stderr")"
	[[ ! -e $T/elsewhere/x && ! -e $T/elsewhere/etc/x ]]
}

@test "Extensibility: unknown properties MUST be ignored; Valid values: what is invalid MUST be an error" {
	run_in '.unknown = {a: [1]} | .process.unknown = 1 | .linux.unknown = null | .mounts[0].unknown = "x"' echo here
	is here "$output"
	refused '.hostname = 5' 'hostname: must be a string'
	refused '.linux.namespaces += [{type: "quantum"}]' 'linux.namespaces[6].type: "quantum": unknown namespace type'
	refused '.linux.rootfsPropagation = "sideways"' 'linux.rootfsPropagation: "sideways": unknown mount propagation'
}

@test "Hostname, Domainname: set; without a uts namespace an error" {
	run_in '.hostname = "h-1" | .domainname = "d.example"' sh -c 'hostname; cat /proc/sys/kernel/domainname'
	is "h-1 d.example" "$(xargs <<<"$output")"
	refused '.linux.namespaces |= map(select(.type != "uts")) | .hostname = "x"' 'hostname: unable to set hostname without a private UTS namespace'
	refused '.linux.namespaces |= map(select(.type != "uts")) | del(.hostname) | .domainname = "x"' \
		'domainname: unable to set domainname without a private UTS namespace'
}

@test "Annotations: keys MUST be strings that are not empty, values strings; unknown ones are ignored" {
	refused '.annotations = {"": "x"}' 'annotations: a key must not be empty'
	refused '.annotations = {a: 1}' 'annotations["a"]: must be a string'
	run_in '.annotations = {"com.example.unknown": ""}' true
	status_is 0
}

@test "Operations: create: an id MUST be unique; later changes of config.json MUST have no effect" {
	bundle c . sh -c 'echo first; cat /etc/hostname 2>/dev/null; exec sleep 100000'
	husk create -b "$B" c </dev/null >"$T/out"
	run --separate-stderr husk create -b "$B" c </dev/null
	one_error 'container with given ID already exists: "c"'
	is created "$(state_of c)"
	echo '{}' >"$B/config.json"
	husk start c
	wait_until grep -q first "$T/out"
	is "2 null" "$(husk exec c sh -c 'echo $((1 + 1))' </dev/null) null"
	husk delete -f c
}

@test "Operations: start, kill and delete in a state that does not allow them MUST be errors without effect" {
	run --separate-stderr husk start none
	one_error 'container "none" does not exist'
	run --separate-stderr husk kill none
	one_error 'container "none" does not exist'
	bundle c . sh -c 'trap "exit 3" TERM; echo up; sleep 100000 & wait'
	husk create -b "$B" c </dev/null >"$T/out"
	run --separate-stderr husk delete c # a created one is taken, as by runc
	status_is 0
	husk create -b "$B" c </dev/null >"$T/out"
	husk start c
	run --separate-stderr husk start c
	one_error "cannot start an already running container"
	run --separate-stderr husk delete c
	has 'cannot delete container "c" that is not stopped' "$stderr"
	is running "$(state_of c)"
	wait_until grep -q up "$T/out"
	husk kill c TERM
	wait_until is_stopped c
	run --separate-stderr husk kill c
	one_error "container not running"
	run --separate-stderr husk start c
	one_error "cannot start a container that has stopped"
	husk delete c
}
