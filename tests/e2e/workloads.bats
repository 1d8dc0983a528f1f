#!/usr/bin/env bats
# What a container wrote is in its rootfs afterwards, exactly as if runc had run it: random workloads
# (tests/tools/mutate.c) in both, on copies of one tree, and the trees compared.

load helpers

MUTATE=$TREE/build/tests/mutate
MANIFEST=$TREE/build/tests/manifest

setup_file() {
	own_disk_unless has_user_attributes
	make_base
	# The tree that each workload begins with: files of the image to change, hard-linked ones too.
	local w=$ROOTFS/start i
	mkdir -p "$w"/{a/b/c,d,e/empty}
	for i in 1 2 3 4 5 6; do
		head -c $((i * 1777)) /dev/urandom >"$w/a/f$i"
		echo "$i" >"$w/a/b/g$i"
		ln -s "../a/f$i" "$w/d/s$i"
	done
	head -c 200000 /dev/urandom >"$w/d/big"
	ln "$w/a/f1" "$w/d/hard1"
	ln "$w/a/f1" "$w/e/hard2"
	ln "$w/a/b/g2" "$w/a/b/c/hard"
	mkfifo "$w/e/fifo"
	setfattr -n user.x1 -v old "$w/a/f2"
	setfattr -n user.x2 -v old "$w/a/b"
	chown 1234:5678 "$w/a/f3" "$w/e"
	chmod 2770 "$w/e"
	cp "$MUTATE" "$ROOTFS/bin/"
	# Once the seed has failed it can be tried alone: SEED=n
	FIRST=${SEED:-$((RANDOM * 32768 + RANDOM))}
	export FIRST
}

teardown_file() { leave_own_disk; }
setup() { setup_test; }
teardown() { check_nothing_left; }

# workloads FROM TO: each in a copy of the tree, ten in one container.
workloads() {
	local from=$1 to=$2 i
	for ((; from <= to; from += 10)); do
		bundle "w$from" '.process.capabilities |= map_values(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD"])
			| .linux.resources.devices = [{allow: true, access: "m"}]' sh -ec \
			'for s in "$@"; do mutate "$s" 80 "/w/$s"; done' sh $(seq $((FIRST + from)) $((FIRST + from + 9)))
		mkdir "$B/rootfs/w"
		for ((i = from; i < from + 10; i++)); do
			cp -a "$ROOTFS/start" "$B/rootfs/w/$((FIRST + i))"
		done
		cp -a "$B/rootfs" "$B/copy"
		husk run -b "$B" "w$from" </dev/null
		mv "$B/rootfs" "$B/husk"
		mv "$B/copy" "$B/rootfs"
		timeout 60 runc --root "$T/runc" run -b "$B" "w$from" </dev/null
		"$MANIFEST" -t "$B/husk/w" >"$T/husk.manifest"
		"$MANIFEST" -t "$B/rootfs/w" >"$T/runc.manifest"
		if ! diff -u "$T/runc.manifest" "$T/husk.manifest" >"$T/diff"; then
			echo "seeds $((FIRST + from)) to $((FIRST + from + 9)) differ:"
			head -c 3000 "$T/diff"
			return 1
		fi
		# busybox, and what else nobody touched, is as it was
		diff <("$MANIFEST" "$B/husk/bin") <("$MANIFEST" "$ROOTFS/bin")
		rm -rf "$B"
	done
}

@test "workloads: first quarter" { workloads 1 "$(rounds 50 10)"; }
@test "workloads: second quarter" { workloads 51 "$(rounds 100 60)"; }
@test "workloads: third quarter" { workloads 101 "$(rounds 150 110)"; }
@test "workloads: last quarter" { workloads 151 "$(rounds 200 160)"; }
