# cgroup.bash - the host's cgroups, v1 or v2, for tests.
# shellcheck shell=bash

CG=/sys/fs/cgroup

# Whether the host has v2 alone.
is_v2() { [[ -e $CG/cgroup.controllers ]]; }

# cg_dir CONTROLLER PATH: the directory of a cgroup.
cg_dir() { if is_v2; then echo "$CG$2"; else echo "$CG/$1$2"; fi; }

# cg_read CONTROLLER PATH V1-FILE V2-FILE
cg_read() { cat "$(cg_dir "$1" "$2")/$(if is_v2; then echo "$4"; else echo "$3"; fi)"; }

# cgroup_of PID CONTROLLER
cgroup_of() {
	if is_v2; then
		sed -n 's/^0:://p' "/proc/$1/cgroup"
	else
		awk -F: -v c="$2" 'split($2, n, ",") { for (i in n) if (n[i] == c) print $3 }' "/proc/$1/cgroup"
	fi
}

cgroup_dirs() { find "$CG" -mindepth 1 -type d -path "*$1*" 2>/dev/null | sort -r; }

# Takes away what a test's parent cgroup is, and what is left below it.
remove_cgroups() {
	local d
	for d in $(cgroup_dirs "$1"); do wait_until cgroup_gone "$d"; done
}

# One is busy until the last process in it has ended.
cgroup_gone() { rmdir "$1" 2>/dev/null || [[ ! -e $1 ]]; }

# Fails if a container's cgroup is left below PARENT (/PARENT/ENGINE/ID).
no_cgroups_below() {
	local left
	left=$(cgroup_dirs "$1/" | grep -E "$1/[^/]+/[^/]+\$" | grep -v conmon)
	[[ -z $left ]] || { echo "cgroups left: $left" && return 1; }
}
