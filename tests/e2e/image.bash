# shellcheck shell=bash
# For tests of containerd: images. CTD is a directory of the test's.

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
