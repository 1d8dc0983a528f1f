#!/usr/bin/env python3
"""nasty_tree.py DIR [--links N] [--entries N] [--gib N]: makes a tree of what file systems can hold and programs
forget (root). DIR must not exist."""
import os
import socket
import struct
import sys

NS = 10**9


def acl(*entries):
    """POSIX ACL as the xattr has it: (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


ANY = 0xFFFFFFFF
ACCESS = acl((1, 6, ANY), (2, 4, 1234), (4, 4, ANY), (8, 6, 70000), (16, 6, ANY), (32, 0, ANY))
DEFAULT = acl((1, 7, ANY), (2, 7, 99), (4, 5, ANY), (16, 7, ANY), (32, 5, ANY))
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep


class Dir:
    """A directory by its descriptor: paths may be longer than PATH_MAX."""

    def __init__(self, fd):
        self.fd = fd

    def sub(self, name, mode=0o755):
        os.mkdir(name, mode, dir_fd=self.fd)
        return Dir(os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd))

    def file(self, name, data=b"", mode=0o644):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=self.fd)
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        return name

    def proc(self, name=""):
        return b"/proc/self/fd/%d/" % self.fd + os.fsencode(name)

    def close(self):
        os.close(self.fd)


def pattern(n, seed=1):
    """n bytes that are not zero and not alike."""
    return bytes((i * 31 + seed + i // 251) % 255 + 1 for i in range(n))


def names(d):
    d.file("new\nline")
    d.file("tab\tand space ")
    d.file(b"latin-1-\xe9\xff\x01\x7f")
    d.file("back\\slash 'quotes\" $HOME `id` *?[a]")
    d.file("-rf")
    d.file("...")
    d.file(".hidden")
    d.file("!before-dot")
    d.file("n" * 255)
    d.file(b"\xff" * 255)
    os.symlink("t" * 4095, "s" * 255, dir_fd=d.fd)
    d.sub("d" * 255).close()
    for i in range(40):  # several blocks of long names
        d.file(f"{i:03d}" + "l" * 252)
    for length in (1, 2, 3, 4, 7, 8, 9, 254):  # prefixes of one another
        d.file("p" * length)


def sizes(d):
    for n in (0, 1, 2, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193, 65536, 1000003):
        d.file(f"size-{n}", pattern(n, n % 97))


def symlinks(d):
    for n in (1, 59, 60, 61, 255, 1000, 3000, 3967, 3968, 4000, 4031, 4032, 4033, 4094, 4095):
        os.symlink("x/" * (n // 2) + "y" * (n % 2), f"to-{n}", dir_fd=d.fd)
    os.symlink("new\nline\xe9", "odd", dir_fd=d.fd)
    os.symlink("../names/-rf", "relative", dir_fd=d.fd)
    os.symlink("/etc/passwd", "absolute", dir_fd=d.fd)


def links(d, n):
    first = d.file("first", pattern(5000))
    sub = d.sub("more")
    for i in range(n - 2):
        os.link(first, f"l{i}", src_dir_fd=d.fd, dst_dir_fd=sub.fd)
    os.link(first, "zz-last", src_dir_fd=d.fd, dst_dir_fd=d.fd)
    os.symlink("first", "linked-symlink", dir_fd=d.fd)
    os.link("linked-symlink", "other-name", src_dir_fd=d.fd, dst_dir_fd=d.fd, follow_symlinks=False)
    os.mkfifo("linked-fifo", dir_fd=d.fd)
    os.link("linked-fifo", "other-fifo", src_dir_fd=d.fd, dst_dir_fd=d.fd)
    sub.close()


def xattrs(d):
    def put(name, key, value):
        os.setxattr(d.proc(name), key, value, follow_symlinks=False)

    put(d.file("user", b"u"), "user.a", b"1")
    put("user", "user.empty", b"")
    put("user", "user." + "k" * 250, b"long name")
    put("user", "user.binary", bytes(range(256)))
    put("user", "trusted.t", b"\0\xff")
    put("user", "security.other", b"s")
    put(d.file("large", b"l"), "user.large", pattern(3500))
    for i in range(40):
        put(d.file(f"many-{i}", b"m"), "user.n", pattern(17 * i))
    d.file("acl", b"a")
    put("acl", "system.posix_acl_access", ACCESS)
    put(d.file("capability", b"c", 0o755), "security.capability", CAPABILITY)
    os.symlink("user", "symlink", dir_fd=d.fd)
    put("symlink", "trusted.on-a-link", b"yes")
    os.symlink("t" * 4000, "long-symlink", dir_fd=d.fd)
    put("long-symlink", "trusted.on-a-link", b"y" * 200)
    sub = d.sub("with-default-acl")
    os.setxattr(d.proc("with-default-acl"), "system.posix_acl_default", DEFAULT)
    os.setxattr(d.proc("with-default-acl"), "user.dir", b"d" * 300)
    sub.file("inherits")
    sub.close()
    os.mkfifo("fifo", dir_fd=d.fd)
    put("fifo", "trusted.fifo", b"f")


def special(d):
    os.mkfifo("fifo", 0o600, dir_fd=d.fd)
    for name, mode, major, minor in (
        ("null", 0o020666, 1, 3),
        ("big-minor", 0o020600, 10, 0xABCDE),
        ("big-major", 0o020600, 0xFFF, 0xFFFFF),
        ("block", 0o060660, 253, 259),
    ):
        os.mknod(name, mode, os.makedev(major, minor), dir_fd=d.fd)
    s = socket.socket(socket.AF_UNIX)
    s.bind(d.proc("socket"))
    s.close()


def sparse(d, size):
    def holes(name, size, *data):
        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644, dir_fd=d.fd)
        for at, n in data:
            os.pwrite(fd, pattern(n, at % 89), at)
        os.ftruncate(fd, size)
        os.close(fd)

    gib = 1 << 30
    holes(f"{size}-gib", size * gib, (0, 5), (size * gib // 3 + 12345, 70000), (size * gib - 3, 3))
    holes("only-a-hole", size * gib // 2 + 1)
    holes("small-hole", 1 << 20, (0, 4096), ((1 << 20) - 4096, 4096))
    holes("ends-in-hole", (1 << 20) + 17, (0, 100000))
    holes("begins-with-hole", 700001, (600000, 100001))
    holes("every-other", 1 << 20, *((i << 13, 4096) for i in range(128)))
    holes("tiny-hole", 40000, (39999, 1))


def metadata(d):
    def put(name, mode=0o644, uid=0, gid=0, ns=0):
        d.file(name, name.encode())
        os.chown(name, uid, gid, dir_fd=d.fd)
        os.chmod(d.proc(name), mode)
        os.utime(name, ns=(ns, ns), dir_fd=d.fd)

    put("1901", ns=-2147483640 * NS + 1)
    put("1969", ns=-1)
    put("epoch", ns=0)
    put("2100", ns=4102444800 * NS + 123456789)
    put("2400", ns=13569465600 * NS + 999999999)
    put("owner", uid=70000, gid=4294967294)
    put("setuid", 0o4755)
    put("setgid", 0o2755, 1, 2)
    put("sticky", 0o1777)
    put("none", 0o000)
    d.sub("sticky-dir").close()
    os.chmod(d.proc("sticky-dir"), 0o3777)
    os.chown("sticky-dir", 1000, 1000, dir_fd=d.fd)
    os.symlink("x", "owned-link", dir_fd=d.fd)
    os.chown("owned-link", 12345, 54321, dir_fd=d.fd, follow_symlinks=False)
    os.utime("owned-link", ns=(5, 77 * NS + 7), dir_fd=d.fd, follow_symlinks=False)


def deep(d, levels, name):
    all_of_them = [d]
    for i in range(levels):
        all_of_them.append(all_of_them[-1].sub(name))
        if i % 50 == 0:
            all_of_them[-1].file("here", b"%d" % i)
        if i >= 2:  # a level has one descriptor at most
            all_of_them[i - 1].close()
    all_of_them[-1].file("bottom", b"reached")
    for x in all_of_them[-2:]:
        x.close()


def many(d, n):
    for i in range(n):
        os.close(os.open(f"entry-{i * 2654435761 % 4294967296:08x}-{i}", os.O_CREAT | os.O_WRONLY, dir_fd=d.fd))


def main():
    args = sys.argv[1:]
    how_many = {"--links": 65000, "--entries": 100000, "--gib": 10}
    while len(args) > 2 and args[1] in how_many:
        how_many[args[1]] = int(args[2])
        del args[1:3]
    if len(args) != 1:
        sys.exit(__doc__)
    os.umask(0)
    os.mkdir(args[0])
    root = Dir(os.open(args[0], os.O_RDONLY | os.O_DIRECTORY))
    os.setxattr(args[0], "user.root", b"r")
    for make in (names, sizes, symlinks, xattrs, special, metadata):
        d = root.sub(make.__name__)
        make(d)
        d.close()
    d = root.sub("sparse")
    sparse(d, how_many["--gib"])
    d.close()
    d = root.sub("links")
    links(d, how_many["--links"])
    d.close()
    d = root.sub("many")
    many(d, how_many["--entries"])
    d.close()
    deep(root.sub("deep-long"), 30, "L" * 250)
    deep(root.sub("deep-short"), 900, "d")
    root.sub("empty").close()
    root.close()


if __name__ == "__main__":
    main()
