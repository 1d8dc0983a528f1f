#!/bin/sh
# Build the guest kernel, or find the one built before.
#
#   build.sh [--print-path]
#
# The last line on standard output is the path of vmlinux; beside it are System.map and .config.
# Progress goes to standard error. With --print-path nothing is built: the path is printed, and
# the exit status is 1 if the kernel is not there.
#
# A finished kernel is a directory of the cache, kernel-<key>, where the key is a hash of all
# that decides what comes out: the source, patches/, the compiler, config and this script. It is built in a
# directory tmp-kernel.* of the same cache and renamed when complete, so that there is a whole
# kernel or none. One build runs at a time, by a lock on the file kernel.lock. The lock's
# descriptor is inherited by make: should this script be killed outright, a later build waits
# until the orphans are done too, and then removes what they left.
#
# HUSK_CACHE          the cache (default /var/cache/husk)
# HUSK_LINUX_TARBALL  the source (default: of Debian's package linux-source-6.12)
# JOBS                parallel jobs (default: one per processor)
set -eu
export LC_ALL=C
umask 022

say() {
	echo "kernel: $*" >&2
}

die() {
	say "$*"
	exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=${HUSK_CACHE:-/var/cache/husk}
package=linux-source-6.12
tarball=${HUSK_LINUX_TARBALL:-/usr/src/$package.tar.xz}

print_path=no
case $#:${1-} in
0:) ;;
1:--print-path) print_path=yes ;;
1:-h | 1:--help)
	sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"
	exit 0
	;;
*) die "usage: build.sh [--print-path]" ;;
esac
case $cache in
/*) ;;
*) cache=$(pwd)/$cache ;;
esac
case $cache in
*[[:space:]:]*) die "$cache: a kernel cannot be built where the path has a space or a colon" ;;
esac

# What the source is, without reading 150 MB: the package's version, or size and time.
source_version() {
	if [ -z "${HUSK_LINUX_TARBALL:-}" ] &&
		dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' "$package" 2>/dev/null | grep ' ii *$'; then
		return
	fi
	stat -L -c '%s %Y' -- "$tarball" 2>/dev/null || echo none
}

key=$({
	source_version
	gcc --version 2>/dev/null | head -n 1 || :
	ld --version 2>/dev/null | head -n 1 || :
	cat -- "$here/config" "$here/build.sh" "$here"/patches/*.patch
} | sha256sum | cut -c 1-16)
final=$cache/kernel-$key

if [ -f "$final/vmlinux" ]; then
	echo "$final/vmlinux"
	exit 0
fi
if [ "$print_path" = yes ]; then
	echo "$final/vmlinux"
	exit 1
fi

# need TOOL PACKAGE
need() {
	command -v "$1" >/dev/null || die "$1 is missing: install the package $2"
}
need make make
need gcc gcc
need ld binutils
need flex flex
need bison bison
need bc bc
need perl perl
need tar tar
need patch patch
need xz xz-utils
need flock util-linux
echo '#include <gelf.h>' | gcc -E -x c - >/dev/null 2>&1 || die "gelf.h is missing: install the package libelf-dev"
echo '#include <stdio.h>' | gcc -E -x c - >/dev/null 2>&1 || die "stdio.h is missing: install the package libc6-dev"
if [ ! -r "$tarball" ]; then
	[ -z "${HUSK_LINUX_TARBALL:-}" ] || die "$tarball: cannot be read"
	die "$tarball is missing: install the package $package"
fi
mkdir -p -- "$cache" 2>/dev/null || die "$cache: cannot be made; name another directory in HUSK_CACHE"
[ -w "$cache" ] || die "$cache: not writable; name another directory in HUSK_CACHE"

exec 9>>"$cache/kernel.lock"
if ! flock -n 9; then
	say "another build is running, waiting for it"
	flock 9
	if [ -f "$final/vmlinux" ]; then
		echo "$final/vmlinux"
		exit 0
	fi
fi

# We hold the lock: what is here was left by a build that was killed.
rm -rf -- "$cache"/tmp-kernel.*
work=$(mktemp -d "$cache/tmp-kernel.XXXXXX")
log=$work/build.log
child=

cleanup() {
	[ -z "$child" ] || kill "$child" 2>/dev/null || :
	[ -z "$child" ] || wait "$child" 2>/dev/null || :
	rm -rf -- "$work"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

tty=no
[ ! -t 2 ] || tty=yes
began=$(date +%s)

# progress TEXT: a line that is overwritten on a terminal, else a line.
progress() {
	if [ $tty = yes ]; then
		printf '\r\033[Kkernel: %s' "$*" >&2
	else
		say "$*"
	fi
}

# end_progress: what follows starts on a line of its own.
end_progress() {
	[ $tty = no ] || printf '\r\033[K' >&2
}

# failed WHAT: the end of the log, then one line.
failed() {
	end_progress
	tail -n 20 "$log" >&2
	die "$1 failed; these were the last lines of its output"
}

# Nothing of the caller's environment takes part: neither ARCH and KCFLAGS nor make's job server.
# Nor do the builder's name, the place and the time. Does not return: use it in a subshell or in
# the background, where its process is make's own.
kmake() {
	exec env -i PATH="$PATH" LC_ALL=C TZ=UTC KBUILD_BUILD_USER=husk KBUILD_BUILD_HOST=husk \
		KBUILD_BUILD_VERSION=1 KBUILD_BUILD_TIMESTAMP='2025-01-01 00:00:00 UTC' \
		make -C "$work/src" O="$work/build" ARCH=x86_64 "$@" >>"$log" 2>&1
}

# disobeyed: the lines of the fragment that the configuration does not obey.
disobeyed() {
	while IFS= read -r line; do
		case $line in
		CONFIG_*=n)
			if grep -q "^${line%=n}=" "$work/build/.config"; then echo "$line"; fi
			;;
		CONFIG_*=*)
			grep -qxF -- "$line" "$work/build/.config" || echo "$line"
			;;
		"# CONFIG_"*" is not set")
			symbol=${line#\# }
			if grep -q "^${symbol%% *}=" "$work/build/.config"; then echo "$line"; fi
			;;
		esac
	done <"$here/config"
}

progress "unpacking $tarball"
mkdir "$work/src" "$work/build"
tar -C "$work/src" --strip-components=1 --no-same-owner -xf "$tarball" 2>>"$log" || failed "unpacking $tarball"
[ -f "$work/src/Makefile" ] || die "$tarball: not a kernel source"

for p in "$here"/patches/*.patch; do
	patch -d "$work/src" -p1 -s -f -F0 <"$p" >>"$log" 2>&1 || failed "applying ${p##*/}"
done

progress "configuring"
(kmake -s tinyconfig) || failed "make tinyconfig"
# What neither tinyconfig nor config names shall be off, and not at its default: allnoconfig.
sed -n 's/^\(# \)\{0,1\}\(CONFIG_[A-Za-z0-9_]*\).*/\2/p' "$here/config" >"$work/named"
grep -vwF -f "$work/named" "$work/build/.config" >"$work/wanted"
cat -- "$here/config" >>"$work/wanted"
(kmake -s KCONFIG_ALLCONFIG="$work/wanted" allnoconfig) || failed "make allnoconfig"
missed=$(disobeyed)
if [ -n "$missed" ]; then
	end_progress
	echo "$missed" | sed 's/^/kernel: config: not obeyed: /' >&2
	die "config asks for what this source does not give"
fi

kmake -j"${JOBS:-$(nproc)}" vmlinux &
child=$!
seconds=0
while kill -0 "$child" 2>/dev/null; do
	sleep 1
	seconds=$((seconds + 1))
	if [ $tty = yes ] || [ $((seconds % 20)) -eq 0 ]; then
		objects=$(grep -c '^  *\(CC\|AS\|HOSTCC\) ' "$log" || :)
		progress "$objects objects, $(($(date +%s) - began)) s"
	fi
done
wait "$child" || { child= && failed "make vmlinux"; }
child=

# Symbols and comments go; the PVH note is a segment and stays.
out=$work/out
mkdir "$out"
strip -s -R .comment -o "$out/vmlinux" "$work/build/vmlinux" 2>>"$log" || failed "strip"
readelf -n "$out/vmlinux" 2>/dev/null | grep -q Xen || die "vmlinux has no PVH note"
cp -- "$work/build/System.map" "$out/System.map"
cp -- "$work/build/.config" "$out/.config"
# The cache may hold a directory without vmlinux only if somebody took it out by hand.
rm -rf -- "$final"
mv -T -- "$out" "$final"

end_progress
say "built in $(($(date +%s) - began)) s, $(($(stat -c %s "$final/vmlinux") / 1024)) KiB"
echo "$final/vmlinux"
