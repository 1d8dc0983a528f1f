# systemd.bash - a systemd of the test's own, PID 1 of namespaces of its own, in a cgroup that is the root for
# it. It runs nothing but a D-Bus.
# shellcheck shell=bash

# start_systemd DIR PARENT: its files are in DIR, its cgroups below PARENT; sets SYSTEMD to its pid.
start_systemd() {
	local dir=$1 parent=$2
	mkdir -p "$dir/units"
	printf '[Unit]\nDefaultDependencies=no\nRequires=dbus.socket dbus.service\n' >"$dir/units/test.target"
	printf '[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n' \
		>"$dir/units/dbus.socket"
	cat >"$dir/units/dbus.service" <<-'U'
		[Unit]
		DefaultDependencies=no
		Requires=dbus.socket
		[Service]
		Type=notify
		ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
	U
	cat >"$dir/boot" <<-'S'
		set -e
		step=$1 dir=$2 parent=$3
		each() { cut -d' ' -f5 /proc/self/mountinfo | grep ^/sys/fs/cgroup | while read -r d; do
			[ ! -e "$d/cgroup.procs" ] || "$@" "$d"
		done; }
		enter() {
			for c in cpuset cpu io memory pids; do
				[ ! -e /sys/fs/cgroup/cgroup.controllers ] || echo "+$c" >"$1/cgroup.subtree_control"
			done
			mkdir -p "$1$parent"
			for f in cpuset.cpus cpuset.mems; do
				[ -e "$1/cgroup.controllers" ] || [ ! -e "$1/$f" ] || cat "$1/$f" >"$1$parent/$f"
			done
			echo $$ >"$1$parent/cgroup.procs"
		}
		own() { mount --bind "$1$parent" "$1"; }
		# systemd makes directories in the tmpfs of v1's hierarchies, and makes it read-only: one of its own.
		gather() {
			mkdir -p "/run/cgroup/${1#/sys/fs/cgroup/}"
			mount --bind "$1$parent" "/run/cgroup/${1#/sys/fs/cgroup/}"
		}
		if [ "$step" = enter ]; then
			each enter
			exec unshare --pid --fork --mount --cgroup --uts --ipc --kill-child sh "$0" boot "$dir" "$parent"
		fi
		mount --make-rprivate /
		mount -t tmpfs run /run
		if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
			each own
		else
			mkdir /run/cgroup
			mount -t tmpfs cgroup /run/cgroup
			each gather
			mount --rbind /run/cgroup /sys/fs/cgroup
		fi
		mount -t proc proc /proc
		mkdir -p /run/systemd /run/dbus
		exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test SYSTEMD_UNIT_PATH="$dir/units:/run/systemd/transient" \
			SYSTEMD_LOG_TARGET=console /lib/systemd/systemd --system --unit=test.target
	S
	sh "$dir/boot" enter "$dir" "$parent" >"$dir/log" 2>&1 </dev/null 3>&- &
	SYSTEMD_BELOW=$!
	wait_until systemd_there || { cat "$dir/log" && return 1; }
	# A cgroup of v2 with a process in it hands nothing down.
	[[ ! -e /sys/fs/cgroup/cgroup.controllers ]] || echo "$SYSTEMD_BELOW" >/sys/fs/cgroup/cgroup.procs
}

systemd_there() {
	SYSTEMD=$(pgrep -P "$SYSTEMD_BELOW" -x systemd) && in_systemd busctl --system status org.freedesktop.systemd1 >/dev/null 2>&1
}

# in_systemd COMMAND...: in its namespaces.
in_systemd() { nsenter -t "$SYSTEMD" -p -m -C -r -w -- "$@"; }

# What was below it ends with it, and then the process that waits for it, which is in its cgroups.
stop_systemd() {
	local above
	above=$(ps -o ppid= -p "$SYSTEMD" | tr -d ' ')
	kill -9 "$SYSTEMD"
	wait_until gone "$SYSTEMD"
	wait_until gone "$above"
}
