# helpers.bash - what every end-to-end test uses.
#
# A test gets a directory of its own ($T) with the containers' state ($ROOT), the disks' directory
# ($HUSK_DATA) and its bundles. When it ends, no process, mount, network namespace or file may be
# left of it: teardown looks, and ends what is left by pid.
#
# Run the files with tests/run e2e: it makes bats the one that inherits orphans, so that they can
# be found. Times in here are bounds of waits for events, never assertions.
# shellcheck shell=bash

bats_require_minimum_version 1.5.0
TREE=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
HUSK=$TREE/build/husk
PY=$TREE/tests/e2e
WAIT_S=$((60 * ${HUSK_TEST_SLOW:-1}))
exec {TICK}<> <(:) # never readable: read -t waits on it without a process

# ---- processes

# All descendants of process $1, zombies left out, one "pid args" a line.
descendants() {
	ps -eo pid=,ppid=,stat=,args= | awk -v top="$1" '
		{ parent[$1] = $2; stat[$1] = $3; line[$1] = $0 }
		END {
			for (p in parent) {
				for (q = p; q in parent && q != top; q = parent[q]) ;
				if (q == top && p != top && stat[p] !~ /^Z[^l]*$/) {
					sub(/^ *[0-9]+ +[0-9]+ +[^ ]+ +/, "", line[p])
					print p, line[p]
				}
			}
		}' | sort -n
}

# What runs below the reaper and is not bats itself (its clock of a test is a sleep): proxies, husk-vmm, QEMU, helpers of tests.
ours() {
	[[ ${HUSK_TEST_REAPER:-} ]] || return 0
	descendants "$HUSK_TEST_REAPER" | grep -vE '(^[0-9]+ (bash .*)?(/usr)?(/bin|/libexec|/lib)?[^ ]*/bats|^[0-9]+ bash /[^ ]*/bats|bats-(exec|format|gather|preprocess)|^[0-9]+ (ps -eo|awk|sort|grep|cat$|tee ))|^[0-9]+ sleep '"${BATS_TEST_TIMEOUT:-none}$"
}

# One look: between two it may go. A process whose first thread is a zombie has others that end, and what it had open.
alive() { grep -qsE '^(State:[[:space:]]*[^ZX]|Threads:[[:space:]]*([2-9]|[1-9][0-9]))' "/proc/$1/status"; }
gone() { [[ $1 ]] && ! alive "$1"; }

# wait_until COMMAND...: until it succeeds, at most WAIT_S seconds.
wait_until() {
	local end=$((SECONDS + WAIT_S))
	until "$@"; do
		if ((SECONDS >= end)); then
			echo "waited in vain for: $*" >&2
			return 1
		fi
		read -rt 0.02 -u "$TICK" || :
	done
}

# rounds FULL FEW: how often a loop goes: FEW times where every process costs twenty times as much
# (HUSK_TEST_SLOW, in a first level of tests/nested), unless HUSK_TEST_FULL is set.
rounds() {
	if ((${HUSK_TEST_SLOW:-1} > 1)) && [[ -z ${HUSK_TEST_FULL:-} ]]; then echo "$2"; else echo "$1"; fi
}

# moment MS: the same as seconds, for timeout, sleep and read: later by HUSK_TEST_SLOW, so that what is killed then is as far as
# it would be elsewhere.
moment() {
	local ms=$(($1 * ${HUSK_TEST_SLOW:-1}))
	printf '%d.%03d' $((ms / 1000)) $((ms % 1000))
}

# A QEMU that emulates a machine in one that is emulated itself takes minutes to boot it.
patient() { export HUSK_BOOT_TIMEOUT=$((60 * ${HUSK_TEST_SLOW:-1})); }

# ---- the private directory

# For setup_file: rootfs and template of config.json that bundles are made of.
make_base() {
	export BASE=$BATS_FILE_TMPDIR
	export SPEC=$BASE/config.json ROOTFS=$BASE/rootfs
	export HUSK_DATA=$BASE/data ROOT=$BASE/root BEFORE
	mkdir -p "$HUSK_DATA"
	export HUSK_CONFIG=$BASE/husk.json
	echo '{}' >"$HUSK_CONFIG"
	ENGINE=$("$HUSK" check | awk '$1 == "engine" { print $3 }')
	export ENGINE
	busybox_root "$ROOTFS"
	"$HUSK" spec --bundle "$BASE"
	BEFORE=$(ours | cut -d' ' -f1)
	HOST_BEFORE=$(host_things)
	T=$BASE
}

busybox_root() {
	mkdir -p "$1"/{bin,etc,proc,sys,dev,tmp,root,home/user}
	cp /bin/busybox "$1/bin/"
	"$1/bin/busybox" --list | python3 -c 'import os, sys
for name in set(sys.stdin.read().split()) - {"busybox"}:
    os.symlink("busybox", sys.argv[1] + "/bin/" + name)' "$1"
	chmod 1777 "$1/tmp"
	printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n' \
		>"$1/etc/passwd"
	printf 'root:x:0:\nuser:x:1000:\n' >"$1/etc/group"
	chown 1000:1000 "$1/home/user"
}

# own_disk_unless COMMAND...: for setup_file, before make_base, with leave_own_disk in teardown_file. Where the command fails for
# the file's directory, an ext4 is mounted there, and the tests' directories are on it.
own_disk_unless() {
	"$@" "$BATS_FILE_TMPDIR" 2>/dev/null && return
	truncate -s 4G "$BATS_RUN_TMPDIR/disk"
	mkfs.ext4 -q "$BATS_RUN_TMPDIR/disk"
	mount -o loop "$BATS_RUN_TMPDIR/disk" "$BATS_FILE_TMPDIR"
	export OWN_DISK=$BATS_FILE_TMPDIR
}

leave_own_disk() {
	[[ ${OWN_DISK:-} ]] || return 0
	all_ended
	unmount "$OWN_DISK"
}

# A tmpfs has attributes of users since Linux 6.6.
has_user_attributes() { setfattr -n user.husk -v 1 "$1"; }

test_directory() {
	T=${OWN_DISK:+$OWN_DISK/$BATS_TEST_NUMBER}
	T=${T:-$BATS_TEST_TMPDIR}
	mkdir -p "$T"
}

# unmount_below DIR: all that is mounted there. A file that io_uring had open is closed some moments after its process has ended.
unmount_below() { wait_until none_mounted_below "$1"; }
mounts_below() { cut -d' ' -f5 /proc/self/mountinfo | grep "^$1/" | sort -r; }
none_mounted_below() {
	mounts_below "$1" | xargs -r -n 1 umount 2>/dev/null
	[[ -z $(mounts_below "$1") ]]
}

# For setup: every test has containers of its own; those that setup_file made
# are in $BASE/root.
setup_test() {
	test_directory
	ROOT=$T/root
	BEFORE=$(ours | cut -d' ' -f1)
	HOST_BEFORE=$(host_things)
	DATA_BEFORE=$(data_things)
}

# Mounts: with processes, what keeps a namespace or a disk alive.
host_things() { cut -d' ' -f5 /proc/self/mountinfo | sort; }

# Files of the data directory that belong to a container: those of the file's containers stay, and
# so do caches: templates of scratch disks, trees of layers.
data_things() {
	find "$HUSK_DATA" -mindepth 1 ! -name 'scratch-*.ext4' ! -path "$HUSK_DATA/changes" \
		! -path "$HUSK_DATA/trees" ! -path "$HUSK_DATA/trees/[0-9a-f]*" 2>/dev/null | sort
}

new_processes() {
	ours | while read -r pid args; do
		grep -qx "$pid" <<<"$BEFORE" || echo "$pid $args"
	done
}

none_left() { [[ -z $(new_processes) ]]; }
mounts_as_before() { [[ $(host_things) == "$HOST_BEFORE" ]]; }
new_data() { comm -13 <(echo "$DATA_BEFORE") <(data_things); }
no_new_data() { [[ -z $(new_data) ]]; }

# For teardown_file, when its containers are deleted: a scratch is freed by a process of its own.
all_ended() {
	export BEFORE=
	wait_until none_left
}

# unmount DIR: if something is mounted there. Who has just looked at it may be in it for some moments.
unmount() { ! mountpoint -q "$1" || wait_until umount "$1" 2>/dev/null; }

# Fails if something of this test is left, and ends it.
check_nothing_left() {
	local left status=0
	wait_until none_left 2>/dev/null || {
		left=$(new_processes)
		printf 'processes left:\n%s\n' "$(cut -c 1-120 <<<"$left")"
		cut -d' ' -f1 <<<"$left" | xargs -r kill -9 2>/dev/null
		status=1
	}
	wait_until mounts_as_before 2>/dev/null || {
		diff <(echo "$HOST_BEFORE") <(host_things) || :
		echo "host changed"
		status=1
	}
	if [[ -d $ROOT && -n $(ls -A "$ROOT") ]]; then
		echo "left in --root: $(find "$ROOT" | tr '\n' ' ')"
		status=1
	fi
	for d in "$ROOT"/*/; do
		[[ -d $d ]] && husk delete --force "$(basename "$d")"
	done
	wait_until no_new_data 2>/dev/null || {
		echo "left in the data directory: $(new_data)"
		status=1
	}
	return $status
}

# ---- bundles and containers

# bundle NAME [JQ-FILTER [ARG...]]: makes $T/NAME from the file's template and sets B to it. The
# process has no terminal and a writable root; ARGs are its command.
bundle() {
	local filter=${2:-.}
	B=$T/$1
	shift $(($# < 2 ? $# : 2))
	mkdir -p "$B"
	cp -a "$ROOTFS" "$B/rootfs"
	edit_spec "$SPEC" "$B/config.json" "$filter" "$@"
}

# edit_spec FROM TO FILTER [ARG...]
edit_spec() {
	local from=$1 to=$2 filter=$3
	shift 3
	jq ".process.terminal = false | .root.readonly = false
		| if \$ARGS.positional == [] then . else .process.args = \$ARGS.positional end
		| $filter" "$from" --args -- "$@" >"$to"
}

# With the file's --root.
husk() { "$HUSK" --root "$ROOT" "$@"; }

# run_in FILTER COMMAND...: runs it in a container of its own: output, stderr and status as bats
# has them.
run_in() {
	local filter=$1
	shift
	bundle "c$((++N))" "$filter" "$@"
	run --separate-stderr husk run -b "$B" "c-$BATS_TEST_NUMBER-$N" </dev/null
}
N=0

# start_box ID [FILTER [ARG...]]: a container that runs, for exec. The default is until SIGTERM, which it minds by then: before, a
# PID 1 would not hear of it.
start_box() {
	local id=$1 filter=${2:-.} up=
	shift $(($# < 2 ? $# : 2))
	(($#)) || { up=1 && set -- sh -c 'trap "exit 0" TERM; sleep 100000 & echo up; wait'; }
	bundle "$id" "$filter" "$@"
	husk run -d -b "$B" "$id" </dev/null >"$T/$id.out" 2>"$T/$id.err" || return
	[[ ! $up ]] || wait_until grep -q up "$T/$id.out"
}

end_box() { husk delete --force "$1"; }

state_of() { husk state "$1" | jq -r .status; }
pid_of() { husk state "$1" | jq -r .pid; }
is_stopped() { [[ $(state_of "$1") == stopped ]]; }
is_running() { [[ $(state_of "$1") == running ]]; }

# ---- the engine: kvm, where husk-vmm is the machine, or qemu, where a QEMU below it is. Tests run
# on the one that husk chooses; HUSK_ENGINE and HUSK_KERNEL say otherwise.

# kernel_has TEXT: whether the guest kernel can do what this text in its image stands for.
kernel_has() { grep -qaF "$1" "${HUSK_KERNEL:-$TREE/build/vmlinux}"; }

# only_on ENGINE WHY: skips a test of what the other engine does not have.
only_on() { [[ $ENGINE == "$1" ]] || skip "engine $ENGINE: $2"; }

# The processes of a sandbox besides its proxy, to be killed by tests.
vm_parts() {
	case $ENGINE in
	kvm) echo vmm opener ;;
	qemu) echo vmm opener qemu minder ;;
	esac
}

# part_of PART ID: its pid; nothing if there is none (yet).
part_of() {
	case $1 in
	proxy) jq -r '.pid | select(. > 0)' "$ROOT/$2/state.json" ;;
	vmm) jq -r '.vmm_pid | select(. > 0)' "$ROOT/$2/state.json" ;;
	opener) pgrep -P "$(part_of vmm "$2")" -x husk-opener ;;
	qemu) descendants "$(part_of vmm "$2")" | awk '/qemu-system/ { print $1; exit }' ;;
	minder) ps -o ppid= -p "$(part_of qemu "$2")" | tr -d ' ' ;;
	esac
}

# has_parts ID: all are there, and have their names.
has_parts() {
	local part
	for part in proxy $(vm_parts); do
		[[ -n $(part_of "$part" "$1" 2>/dev/null) ]] || return 1
	done
}

# The container's husk-vmm, and the process that runs its CPUs.
vmm_of() { part_of vmm "$1"; }
machine_of() {
	case $ENGINE in
	kvm) part_of vmm "$1" ;;
	qemu) part_of qemu "$1" ;;
	esac
}

# ---- assertions

# is WANTED GOT
is() {
	[[ "$1" == "$2" ]] && return
	printf 'wanted: %q\ngot:    %q\n' "$1" "$2"
	return 1
}

has() {
	[[ "$2" == *"$1"* ]] && return
	printf 'wanted a text with: %q\ngot: %q\n' "$1" "${2:0:3000}"
	return 1
}

status_is() {
	[[ $status == "$1" ]] && return
	printf 'wanted status %s, got %s\nstdout: %s\nstderr: %s\n' "$1" "$status" "${output:0:2000}" "${stderr:0:2000}"
	return 1
}

# ended PID STATUS: the background job ends so.
ended() {
	wait_until gone "$1"
	wait "$1" && status=0 || status=$?
	is "$2" "$status"
}

# The whole of stderr is this one line.
one_error() {
	status_is "${2:-1}" && is "husk: error: $1" "$stderr"
}

# ---- a pty (pty.py's script on stdin)

on_pty() { PTY_WAIT=${PTY_WAIT:-$WAIT_S} python3 "$PY/pty.py" "$@"; }
