# podman.bash - podman with files of the test's own, that runs containers with husk; and an image, `box`.
# HUSK_TEST_RUNTIME=runc runs the same with runc.
# shellcheck shell=bash

# make_podman: for setup_file, after make_base. PODMAN is its directory. NOFILE: the limits that containers have by default.
make_podman() {
	export PODMAN=$BASE/podman CONTAINERS_CONF=$BASE/containers.conf
	export CONTAINERS_STORAGE_CONF=$BASE/storage.conf
	mkdir -p "$PODMAN"/{tmp,networks,xdg}
	# The process that conmon has clean up knows the runtime, but none of its flags.
	printf '#!/bin/sh\nexec "%s" --root "%s" "$@"\n' "${HUSK_TEST_RUNTIME:-$HUSK}" "$PODMAN/oci" >"$PODMAN/runtime"
	chmod 755 "$PODMAN/runtime"
	cat >"$CONTAINERS_CONF" <<-C
		[containers]
		default_ulimits = ["nofile=${NOFILE:-1024:20000}", "nproc=4096:4096"]
		log_driver = "k8s-file"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		tmp_dir = "$PODMAN/tmp"
		conmon_env_vars = [$(env | sed -nE 's/^(PATH|HUSK_[A-Z]+)=(.*)$/"\1=\2"/p' | paste -sd,)]
		[network]
		network_backend = "netavark"
		network_config_dir = "$PODMAN/networks"
	C
	printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$PODMAN/data" "$PODMAN/run" \
		>"$CONTAINERS_STORAGE_CONF"
	# What has fixed names is private to this view of the mounts. The directories stay: one that was removed would take away
	# what other files' tests have mounted there in theirs.
	mkdir -p "$BASE"/run/{containers,netns} /run/{containers,netns}
	mount --bind "$BASE/run/containers" /run/containers
	mount --bind "$BASE/run/netns" /run/netns
	tar -C "$ROOTFS" -c . | podman import -q -c 'ENV PATH=/bin' -c 'CMD sh' - box >/dev/null
	export BEFORE
	BEFORE=$(ours | cut -d' ' -f1)
}

# For teardown_file.
end_podman() {
	[[ ${PODMAN:-} ]] || return 0
	unmount_below "$PODMAN"
	unmount_below /run/netns
	umount /run/netns /run/containers
}

# NODE_NS: a network namespace for it, if the file has made one. conmon leaves a file `oom` where it was started.
podman() {
	timeout 150 env -C "$PODMAN" ${NODE_NS:+nsenter --net="$NODE_NS" --} podman --root "$PODMAN/data" --runroot "$PODMAN/run" \
		--runtime "$PODMAN/runtime" "$@"
}

# Each podman mounts its directory on itself if it is not, and some unmount it: those that run at the same time leave it
# mounted twice now and then, or not at all. end_podman() unmounts it.
host_things() { cut -d' ' -f5 /proc/self/mountinfo | grep -vxF "$PODMAN/data/overlay" | sort; }

# For teardown.
clean_podman() {
	podman rm -af -t 0 >/dev/null
	wait_until none_left || : # what conmon has clean up; said below
	# podman unmounts a rootfs before it has the container deleted: what was applied stays until the next create
	local record
	for record in "$HUSK_DATA"/changes/*/; do
		[[ -e $record/applied ]] && rm -rf "$record"
	done
	rm -rf "$HUSK_DATA/trees" # a cache: what is in it is of images
	ROOT=$PODMAN/oci check_nothing_left
}
