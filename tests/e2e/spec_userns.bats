#!/usr/bin/env bats
# config-linux.md, "User namespace mappings", and config.md, "Mounts": uidMappings, gidMappings,
# idmap and ridmap: who owns what on both sides.

load helpers

maps_ids() {
	mkdir "$1/from" "$1/to"
	python3 "$PY/idmap.py" "$1/from" "$1/to" "0 100000 1" "0 100000 1" 2>/dev/null && umount "$1/to"
}

# A tmpfs maps ids since Linux 6.3, ext4 since 5.12.
setup_file() {
	own_disk_unless maps_ids
	make_base
}

teardown_file() { leave_own_disk; }
setup() { setup_test; }
teardown() { check_nothing_left; }

MAPS='[{containerID: 0, hostID: 100000, size: 1000}, {containerID: 1000, hostID: 300000, size: 64536}]'
userns=".linux.namespaces += [{type: \"user\"}] | .linux.uidMappings = $MAPS
	| .linux.gidMappings = [{containerID: 0, hostID: 200000, size: 65536}]
	| .process.capabilities |= map_values(. + [\"CAP_CHOWN\", \"CAP_DAC_OVERRIDE\", \"CAP_FOWNER\"])"

@test "User namespace mappings: ids inside and outside, and files written by them" {
	bundle u "$userns | .process.user = {uid: 0, gid: 0, additionalGids: [7]}" sh -c '
		cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G; stat -c "%u:%g" /bin /dev/null /dev/pts /proc /sys
		touch /made && chown 1001:5 /made && mknod /fifo p && stat -c "%u:%g" /made /fifo
		echo x >/etc/passwd.new && mv /etc/passwd.new /etc/passwd && chmod 600 /etc/group
		setpriv --reuid 1001 --clear-groups touch /tmp/by1001 2>/dev/null || { chown 1001 /tmp; touch /tmp/by1001; chown 1001 /tmp/by1001; }'
	chown -R 100000:200000 "$B/rootfs"
	run --separate-stderr husk run -b "$B" u </dev/null
	status_is 0
	is "0 100000 1000 1000 300000 64536 0 200000 65536 0 0 7 0:0 0:0 0:0 65534:65534 65534:65534 1001:5 0:0" "$(xargs <<<"$output")"
	is "300001:200005 100000:200000 100000:200000 100000:200000 300001" "$(cd "$B/rootfs" && stat -c %u:%g made fifo etc/passwd etc/group | xargs) $(stat -c %u "$B/rootfs/tmp/by1001")"
}

@test "Mounts: uidMappings and gidMappings, in a project, a shared directory and a volume" {
	mkdir -p "$T/small" "$T/big" && echo small >"$T/small/file" && echo big >"$T/big/file" && echo mine >"$T/one"
	chown 5:6 "$T/one" "$T/small/file" "$T/big/file" "$T/big"
	truncate -s 16M "$T/disk" && mkfs.ext4 -q -E root_owner=5:6 "$T/disk"
	maps='{uidMappings: [{containerID: 5, hostID: 1005, size: 1}, {containerID: 0, hostID: 0, size: 5}],
		gidMappings: [{containerID: 6, hostID: 1006, size: 1}, {containerID: 0, hostID: 0, size: 1}]}'
	run_in ".process.capabilities |= map_values(. + [\"CAP_CHOWN\", \"CAP_DAC_OVERRIDE\"]) | .mounts += [
		({destination: \"/one\", source: \"$T/one\", type: \"bind\", options: [\"bind\"]} + $maps),
		({destination: \"/small\", source: \"$T/small\", type: \"bind\", options: [\"bind\", \"ro\", \"idmap\"]} + $maps),
		({destination: \"/big\", source: \"$T/big\", type: \"bind\", options: [\"rbind\", \"ridmap\"]} + $maps),
		({destination: \"/vol\", source: \"$T/disk\", type: \"ext4\"} + $maps)]" \
		sh -c 'stat -c "%u:%g" /one /small/file /big/file /vol; cat /one /small/file /big/file
			for d in /big /vol; do echo new >$d/new && chown 1005:1006 $d/new && chown 7:7 $d/new; stat -c "%u:%g" $d/new; done; echo again >>/one'
	status_is 0
	is "1005:1006 1005:1006 1005:1006 1005:1006 mine small big 1005:1006 1005:1006" "$(xargs <<<"$output")"
	has "chown: /big/new" "$stderr" # 7 is nobody there
	has "chown: /vol/new" "$stderr"
	is "5:6 5:6 mine again" "$(stat -c %u:%g "$T/big/new" "$T/one" | xargs) $(xargs <"$T/one")"
	is "5 6" "$(debugfs -R 'stat /new' "$T/disk" 2>/dev/null | awk '/User:/ { print $2, $4 }')"
}

@test "Mounts: idmap takes the mappings of the container's user namespace" {
	mkdir -p "$T/src" && echo x >"$T/src/file" && chown -R 0:0 "$T/src" && chown 1000:1000 "$T/src/file"
	bundle u "$userns | .mounts += [{destination: \"/mapped\", source: \"$T/src\", type: \"bind\", options: [\"rbind\", \"ridmap\"]},
		{destination: \"/plain\", source: \"$T/src\", type: \"bind\", options: [\"bind\"]}]" \
		sh -c 'stat -c "%u:%g" /mapped /mapped/file /plain/file; touch /mapped/by-root; stat -c "%u:%g" /mapped/by-root'
	chown -R 100000:200000 "$B/rootfs"
	run --separate-stderr husk run -b "$B" u </dev/null
	status_is 0
	is "0:0 1000:1000 65534:65534 0:0" "$(xargs <<<"$output")"
	is "0:0" "$(stat -c %u:%g "$T/src/by-root")"
}

@test "a root file system whose layers, or mount, map ids: by engines that map instead of changing owners" {
	mkdir "$T"/{mapped,upper,work,merged,bound}
	python3 "$PY/idmap.py" "$ROOTFS" "$T/mapped" "0 100000 65536" "0 200000 65536" || skip "this host's kernel maps no ids (Linux 5.12)"
	mount -t overlay overlay -o "lowerdir=$T/mapped,upperdir=$T/upper,workdir=$T/work" "$T/merged"
	bundle u "$userns | .root.path = \"$T/merged\"" sh -c 'stat -c "%u:%g" /bin/busybox /etc/passwd; echo x >/root/file'
	run --separate-stderr husk run -b "$B" u </dev/null
	first=$output
	owner=$(stat -c %u:%g "$T/upper/root/file")
	umount "$T/mapped" # as engines do once the overlay is there
	run --separate-stderr husk run -b "$B" u </dev/null
	unmount "$T/merged"
	is "0:0 0:0" "$(xargs <<<"$first")"
	is "0:0 0:0" "$(xargs <<<"$output")"
	is "100000:200000" "$owner"
	python3 "$PY/idmap.py" "$ROOTFS" "$T/bound" "0 100000 65536" "0 200000 65536"
	edit_spec "$B/config.json" "$B/new.json" ".root.path = \"$T/bound\" | .root.readonly = true" stat -c %u:%g /bin/busybox
	mv "$B/new.json" "$B/config.json"
	run --separate-stderr husk run -b "$B" u </dev/null
	unmount "$T/bound"
	is "0:0" "$output"
}

@test "Mounts: what cannot be id-mapped is refused by name" {
	mkdir "$T/src"
	n=$(jq '.mounts | length' "$SPEC")
	refused() {
		run_in ".mounts += [$1]" true
		one_error "$B/config.json: mounts[$n].$2"
	}
	one='[{containerID: 0, hostID: 1000, size: 1}]'
	refused "{destination: \"/a\", type: \"tmpfs\", source: \"t\", uidMappings: $one, gidMappings: $one}" \
		"uidMappings: /a: id-mapped mounts are only supported for bind mounts and volumes"
	refused "{destination: \"/a\", source: \"$T/src\", options: [\"bind\"], uidMappings: $one}" \
		"gidMappings: /a: uidMappings and gidMappings go together"
	refused "{destination: \"/a\", source: \"$T/src\", options: [\"bind\", \"idmap\"]}" \
		"options: /a: idmap: neither the mount nor a user namespace has mappings"
	refused "{destination: \"/a\", source: \"$T/src\", options: [\"bind\"], uidMappings: [{containerID: 0, hostID: 1, size: 0}], gidMappings: $one}" \
		"uidMappings[0].size: must not be zero"
	mkdir "$T/merged" "$T/w" "$T/u" && mount -t overlay overlay -o "lowerdir=$T/src,upperdir=$T/u,workdir=$T/w" "$T/merged"
	run_in ".mounts += [{destination: \"/a\", source: \"$T/merged\", options: [\"bind\"], uidMappings: $one, gidMappings: $one}]" true
	unmount "$T/merged"
	one_error "mounts[$n]: $T/merged: the host's file system there cannot map ids"
}
