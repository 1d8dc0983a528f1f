# containerd.bash - a containerd of the test's own, in the directory CTD, and images for it.
# shellcheck shell=bash

# Its pid is in $CTD/pid; wait_until ctr_up. The shim takes its environment from it.
start_containerd() {
	cat >"$CTD/config.toml" <<-C
		version = 2
		root = "$CTD/root"
		state = "$CTD/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[timeouts] # a shim that is slow on a busy machine is not dead
		  "io.containerd.timeout.shim.cleanup" = "60s"
		  "io.containerd.timeout.shim.load" = "60s"
		  "io.containerd.timeout.task.state" = "60s"
		[grpc]
		  address = "$CTD/sock"
		[plugins."io.containerd.internal.v1.opt"]
		  path = "$CTD/opt"
	C
	containerd -c "$CTD/config.toml" >"$CTD/log" 2>&1 3>&- &
	echo $! >"$CTD/pid"
}

ctr() { command ctr -a "$CTD/sock" "$@"; }
ctr_up() { ctr version >/dev/null 2>&1; }

# make_image FILE: an image with a busybox in it, as an OCI archive.
make_image() {
	local oci=$CTD/oci
	umoci init --layout "$oci"
	umoci new --image "$oci:box"
	umoci unpack --image "$oci:box" "$CTD/bundle" >/dev/null
	cp -a "$ROOTFS/." "$CTD/bundle/rootfs/"
	umoci repack --image "$oci:box" "$CTD/bundle" >/dev/null
	umoci config --image "$oci:box" --config.cmd sh --config.env PATH=/bin --config.workingdir /tmp
	skopeo copy -q "oci:$oci:box" "oci-archive:$1:example.org/box:latest"
}
