#!/usr/bin/env bats
# Containers made, started, exec'ed in, killed and deleted again and again, and many at a time: nothing fails, nothing of any
# kind is left, and the last ones are as fast as the first ones. HUSK_TEST_FULL=1: 500 of them (or HUSK_CYCLES), 24 at a time, and
# figures; with HUSK_TEST_SLOW=10, for the time that takes.

load helpers

setup_file() { make_base; }

setup() {
	setup_test
	CGROUP=/husk-cycles-$$
	bundle box ".linux.resources = {memory: {limit: 134217728}, pids: {limit: 100}}
		| .mounts += [{destination: \"/shared\", type: \"bind\", source: \"$T/shared\", options: [\"rbind\"]}]" \
		sh -c 'trap "exit 7" TERM; echo $$ >/pid; sleep 100000 & wait'
	mkdir "$T/shared"
	CYCLES=$(rounds 25 5) AT_ONCE=6
	[[ ! ${HUSK_TEST_FULL:-} ]] || CYCLES=${HUSK_CYCLES:-500} AT_ONCE=24
}

teardown() {
	rm -rf "$HUSK_DATA/trees"
	find /sys/fs/cgroup -depth -type d -path "*$CGROUP" -exec rmdir {} + 2>/dev/null || : # of those that were named in it
	check_nothing_left
}

cgroups() { find /sys/fs/cgroup -type d -path "*$CGROUP/*" 2>/dev/null | wc -l; }
loops() { losetup -a | grep -cF "$BATS_RUN_TMPDIR" || :; }

# Everything that a container is made of, and that a leak of could be. A network namespace is kept by a process or a mount; so
# is a file that has no name.
left() {
	local processes
	processes=$(new_processes) # not in a pipe to another one
	echo "processes: $(grep -c . <<<"$processes")"
	echo "mounts: $(host_things | wc -l)"
	echo "cgroups: $(cgroups)"
	echo "loop devices: $(loops)"
	echo "files: $({ data_things; find "$ROOT" -mindepth 1 2>/dev/null; } | xargs)"
	echo "of this shell: $(find /proc/$$/fd -mindepth 1 | wc -l) descriptors"
}

is_left() { [[ $(left) == "$1" ]]; }

us() { echo "${EPOCHREALTIME/[.,]/}"; }

# cycle ID: what one took goes to $T/times, in microseconds: all, create, start, exec, kill, delete.
cycle() {
	local id=$1 b=$T/$1 t0 t1 t2 t3 t4 t5
	mkdir -p "$b"
	cp -a "$B/rootfs" "$b/rootfs"
	jq ".linux.cgroupsPath = \"$CGROUP/$id\"" "$B/config.json" >"$b/config.json"
	t0=$(us)
	husk create -b "$b" --pid-file "$b/pid" "$id" </dev/null >"$b/out" 2>&1 || { cat "$b/out" && return 1; }
	t1=$(us)
	husk start "$id" || return 1
	t2=$(us)
	[[ $(husk exec "$id" sh -c 'echo in >/shared/$0; echo there; exit 0' "$id" </dev/null) == there ]] || return 1
	t3=$(us)
	husk kill "$id" KILL || return 1
	wait_until gone "$(cat "$b/pid")" || return 1
	t4=$(us)
	husk delete "$id" || return 1
	t5=$(us)
	echo "$((t5 - t0)) $((t1 - t0)) $((t2 - t1)) $((t3 - t2)) $((t4 - t3)) $((t5 - t4))" >>"$T/times"
	[[ $(cat "$T/shared/$id") == in && -s $b/rootfs/pid ]] || { echo "$id: not what it wrote" && return 1; }
	rm -r "$b" "$T/shared/$id"
}

# median FIRST LAST: of the whole time of these cycles.
median() { sed -n "$1,$2p" "$T/times" | sort -n | awk '{ v[NR] = $1 } END { print int(v[int((NR + 1) / 2)] / 1000) }'; }

@test "one after the other: nothing is left, the last ones are no slower" {
	local i before tenth first last
	cycle warm
	wait_until none_left # a scratch is freed by a process of its own
	: >"$T/times"
	before=$(left)
	for ((i = 1; i <= CYCLES; i++)); do
		cycle "c$i"
	done
	wait_until is_left "$before" || is "$before" "$(left)"
	[[ ${HUSK_TEST_FULL:-} ]] || return 0
	tenth=$((CYCLES / 10))
	first=$(median 1 $tenth) last=$(median $((CYCLES - tenth + 1)) "$CYCLES")
	awk '{ for (i = 1; i <= NF; i++) s[i] += $i }
		END { printf "# mean of %d: %d ms; create %d, start %d, exec %d, kill %d, delete %d\n", NR, s[1] / NR / 1000, s[2] / NR / 1000,
			s[3] / NR / 1000, s[4] / NR / 1000, s[5] / NR / 1000, s[6] / NR / 1000 }' "$T/times" >&3
	echo "# median of the first tenth: $first ms, of the last: $last ms" >&3
	((last * 2 < first * 3))
}

@test "many at a time: none fails, nothing is left" {
	local i before pids=()
	before=$(left)
	for ((i = 1; i <= AT_ONCE; i++)); do
		cycle "m$i" >"$T/log.$i" 2>&1 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || { cat "$T"/log.* && return 1; }
	done
	wait_until is_left "$before" || is "$before" "$(left)"
}

# What the processes of a container hold: descriptors and threads.
held() {
	local part pid
	for part in proxy $(vm_parts); do
		pid=$(part_of "$part" box)
		echo "$part: $(find "/proc/$pid/fd" -mindepth 1 2>/dev/null | wc -l) descriptors, $(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l) threads"
	done
}

# no_more_than BEFORE: fewer may be, as what is just ending when it is looked at goes.
no_more_than() {
	paste -d ' ' <(echo "$1") <(held) | awk '{ if ($7 > $2 || $9 > $4) more = 1 } END { exit more }'
}
is_free() { (($(guest_free) > $1)); }
guest_free() { husk exec box awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo </dev/null; }

@test "a container that lives long: exec, ps, kill and sync again and again keep nothing" {
	local i before free
	husk run -d -b "$B" box </dev/null >"$T/out" 2>&1
	for i in 1 2 3; do
		husk exec box true </dev/null
		husk sync box >/dev/null
	done
	before=$(held) free=$(guest_free)
	[[ ${HUSK_TEST_FULL:-} ]] || CYCLES=10
	for ((i = 1; i <= CYCLES; i++)); do
		husk exec box sh -c 'echo $0 >/root/f; exit 0' "$i" </dev/null
		husk exec -d --pid-file "$T/pid" box sleep 1000 </dev/null >/dev/null 2>&1
		husk ps -f json box >/dev/null
		kill -9 "$(cat "$T/pid")"
		((i % 5)) || husk sync box >/dev/null
	done
	is "$CYCLES" "$(husk exec box cat /root/f </dev/null)"
	wait_until no_more_than "$before" || is "$before" "$(held)"
	echo "free in the guest: $free MiB before, $(guest_free) after"
	wait_until is_free $((free - 12))
	husk delete --force box
}
