"""The cases of agent.bats: each function drives the agent of a guest of its own.

    agent_cases.py CASE DIRECTORY     (an empty directory for images and sockets)
"""

import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys

from vmmctl import PATIENCE, ROOT, Client, Refused, Vmm, kernel, kernel_has

TYPES = ["", "dir", "leave", "file", "data", "symlink", "fifo", "socket", "char", "block", "link",
         "whiteout", "end"]
work = None


# ---- images

def path(*names):
    return os.path.join(work, *names)


def tree(name, files):
    """A directory with busybox and `files`: {path: text, or None for a whiteout}."""
    top = path(name)
    for d in ("bin", "proc", "sys", "dev", "tmp", "etc"):
        os.makedirs(os.path.join(top, d), exist_ok=True)
    for name, text in files.items():
        p = os.path.join(top, name)
        os.makedirs(os.path.dirname(p), exist_ok=True)
        if text is None:
            os.mknod(p, stat.S_IFCHR, 0)
        else:
            with open(p, "w") as f:
                f.write(text)
    return top


def busybox(top):
    shutil.copy("/bin/busybox", os.path.join(top, "bin"))
    for name in ("sh", "ln", "rm", "cat", "sync", "sleep", "mkdir", "ls", "stat", "dd", "mount"):
        os.symlink("busybox", os.path.join(top, "bin", name))
    return top


def image(kind, top):
    out = top + "." + kind
    if kind == "erofs":
        subprocess.check_call(["mkfs.erofs", "--quiet", out, top])
    elif kind == "squashfs":
        subprocess.check_call(["mksquashfs", top, out, "-quiet", "-no-progress"],
                              stdout=subprocess.DEVNULL)
    elif kind == "ext4":
        subprocess.check_call(["mkfs.ext4", "-q", "-F", "-d", top, out, "64M"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    else:
        with open(out, "wb") as f:
            f.truncate(512 << 20)
        subprocess.check_call(["mkfs.xfs", "-q", out])
        at = path("mnt")
        os.mkdir(at)
        subprocess.check_call(["mount", "-o", "loop", out, at])
        try:
            subprocess.check_call(["cp", "-a", top + "/.", at])
        finally:
            subprocess.check_call(["umount", at])
    return out


def scratch():
    top = path("content")
    os.makedirs(os.path.join(top, "upper"), 0o755)
    os.makedirs(os.path.join(top, "work"))
    os.chmod(os.path.join(top, "upper"), 0)
    out = path("scratch")
    subprocess.check_call(["mkfs.ext4", "-q", "-F", "-m", "0", "-d", top, out, "256M"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


# ---- the guest

class Guest(Vmm):
    def __init__(self):
        super().__init__(kernel(), os.path.join(ROOT, "build/initramfs.cpio"),
                         control=path("vmm.sock"), log=sys.stderr)
        self.start()
        self.clients = []

    def disk(self, serial, file, readonly=False):
        fd = os.open(file, os.O_RDONLY if readonly else os.O_RDWR)
        self.boot.call("attach-block", [fd], serial=serial, readonly=readonly, discardable=True)
        os.close(fd)

    def agent(self):
        c = Client(self.boot.vsock(1024, 60000))
        self.clients.append(c)
        return c

    def stream(self, token):
        s = self.boot.vsock(1025)
        s.sendall(token.encode())
        return s

    def close(self):
        for c in self.clients:
            c.close()
        super().close()


def config(args, mounts=(), namespaces=("pid", "mount", "ipc", "uts"), paths=(), top=None,
           process=None, **linux):
    """Members of config.json besides those that all have: `top`, `process`, and those of linux;
    `paths`: namespaces that have one."""
    return {
        "ociVersion": "1.2.0",
        **(top or {}),
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": args,
                    "env": ["PATH=/bin"],
                    "capabilities": {k: ["CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD"]
                                     for k in ("bounding", "effective", "permitted")},
                    **(process or {})},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, *mounts],
        "linux": {"namespaces": [{"type": t} for t in namespaces] +
                  [{"type": t, "path": f"/proc/1/ns/{t}"} for t in paths], **linux},
    }


def create_members(id, script, lower=(("root", "erofs"),), upper=None, index=False, mounts=(),
                   froms=(), join=None, **more):
    return {"container": id, "mounts": list(froms), **({"join": join} if join else {}),
            "root": {"lower": [{"serial": s, "type": t} for s, t in lower], "upper": upper,
                     "index": index},
            "config": config(["sh", "-c", script], mounts, **more)}


class Container:
    def __init__(self, guest, script, lower=(("root", "erofs"),), upper="scratch", index=False,
                 mounts=(), froms=(), agent=None, id="c", join=None, **more):
        self.guest, self.id, self.a = guest, id, agent or guest.agent()
        m = self.a.call("create",
                        **create_members(id, script, lower, upper, index, mounts, froms, join,
                                         **more))
        self.out = guest.stream(m["streams"]["stdout"])
        self.err = guest.stream(m["streams"]["stderr"])
        self.stdin = guest.stream(m["streams"]["stdin"])
        self.call("start")

    def call(self, op, **members):
        return self.a.call(op, container=self.id, **members)

    def line(self):
        text = b""
        while not text.endswith(b"\n"):
            c = self.out.recv(1)
            assert c, (text, self.err.recv(4096))
            text += c
        return text.decode().rstrip("\n")

    def tell(self, line):
        self.stdin.sendall(line.encode() + b"\n")

    def exec(self, script):
        """What it wrote, when it has ended."""
        m = self.call("exec", spec={"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
                                    "args": ["sh", "-c", script]})
        text = read_all(self.guest.stream(m["streams"]["stdout"])).decode()
        assert self.call("wait", process=m["process"])["status"] == 0, text
        return text

    def wait(self):
        text = read_all(self.out).decode()
        return self.call("wait")["status"], text, read_all(self.err).decode()

    def changes(self, what="root"):
        return changeset(read_all(self.guest.stream(self.call("changes", what=what)["stream"])))


def read_all(s):
    s.settimeout(PATIENCE)
    data = bytearray()
    while True:
        more = s.recv(1 << 16)
        if not more:
            return bytes(data)
        data += more


def changeset(data):
    """{path: (type, bytes of data)} of a whole changeset."""
    assert data[:8] == b"HUSKCS01", data[:64]
    out, dirs, at, last, ended = {}, [], 8, None, False
    while at < len(data):
        assert not ended
        kind, flags, zero, n = struct.unpack_from("<BBHI", data, at)
        body, at = data[at + 8 : at + 8 + n], at + 8 + n
        kind = TYPES[kind]
        if kind == "end":
            ended = True
            assert body[8:12] == b"\0\0\0\0", body
        elif kind == "leave":
            dirs.pop()
        elif kind == "data":
            out[last] = (out[last][0], out[last][1] + body[8:])
        else:
            head = {"link": 8, "whiteout": 0}.get(kind, 72)
            name = body[head : body.index(b"\0", head)].decode()
            if name == ".":
                continue
            last = "/".join(dirs + [name])
            out[last] = (kind, b"")
            if kind == "dir":
                dirs.append(name)
    assert ended and not dirs
    return out


def files_changeset(files):
    """The stream of {name: bytes}, for the top directory."""
    out, n = b"HUSKCS01", 0

    def record(kind, body):
        nonlocal out, n
        out += struct.pack("<BBHI", TYPES.index(kind), 0, 0, len(body)) + body
        n += 1

    for name, data in files.items():
        text = name.encode() + b"\0"
        record("file", struct.pack("<IIIIQIIQQQQHHI", 0o644, 0, 0, 0, 1700000000, 0, 0, len(data),
                                   0, 0, 0, len(text), 0, 0) + text)
        if data:
            record("data", struct.pack("<Q", 0) + data)
    out += struct.pack("<BBHIQI", TYPES.index("end"), 0, 0, 13, n, 0) + b"\0"
    return out


def push(guest, agent, files, **members):
    m = agent.call("push", **members)
    stream, result = guest.stream(m["stream"]), guest.stream(m["result"])
    try:
        stream.sendall(files_changeset(files))
        stream.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the result tells why
    return read_all(result).decode()


# ---- cases

def changes_of_a_root():
    top = busybox(tree("root", {"etc/gone": "x", "etc/kept": "y", "dir/old": "z"}))
    with Guest() as g:
        g.disk("root", image("erofs", top), readonly=True)
        g.disk("scratch", scratch())
        c = Container(g, "rm /etc/gone; echo new >/etc/new; rm -r /dir; mkdir /dir; echo ready;"
                         " read a; echo $a >/etc/late")
        assert c.line() == "ready"
        c.call("pause")
        got = c.changes()
        c.call("resume")
        assert got["etc/gone"][0] == "whiteout", got
        assert got["etc/new"] == ("file", b"new\n"), got
        assert got["dir"][0] == "dir" and "etc/late" not in got and "etc/kept" not in got, got
        c.tell("bye")
        assert c.wait() == (0, "", "")
        assert c.changes()["etc/late"] == ("file", b"bye\n")
        c.call("delete")
        g.boot.call("detach", serial="scratch")


def changes_wait_for_the_last_writer():
    top = busybox(tree("root", {}))
    with Guest() as g:
        g.disk("root", image("erofs", top), readonly=True)
        g.disk("scratch", scratch())
        c = Container(g, "(while :; do echo x >>/log; done) >/dev/null 2>&1 & until [ -s /log ]; do :; done",
                      namespaces=("mount", "ipc"))
        assert c.wait()[0] == 0
        kind, text = c.changes()["log"]
        assert kind == "file" and text and text == b"x\n" * (len(text) // 2)
        assert c.changes()["log"][1] == text


def several_lowers():
    low = busybox(tree("low", {"etc/a": "low", "etc/b": "low", "etc/c": "low", "etc/d": "low"}))
    mid = tree("mid", {"etc/a": "mid", "etc/c": "mid", "etc/b": None})
    up = tree("up", {"etc/a": "up"})
    with Guest() as g:
        g.disk("root", image("erofs", low), readonly=True)
        g.disk("middle", image("erofs", mid), readonly=True)
        g.disk("upper", image("erofs", up), readonly=True)
        c = Container(g, "cat /etc/a /etc/c /etc/d; ls /etc", upper=None,
                      lower=(("upper", "erofs"), ("middle", "erofs"), ("root", "erofs")))
        assert c.wait() == (0, "upmidlowa\nc\nd\n", "")
        c.call("delete")


def other_lowers():
    top = busybox(tree("root", {"etc/a": "text\n"}))
    kinds = [k for k in ("ext4", "xfs", "squashfs") if kernel_has(k)]
    for kind in kinds:
        img = image(kind, top)
        with open(img, "rb") as f:
            before = f.read()
        with Guest() as g:
            g.disk("root", img, readonly=True)
            shutil.rmtree(path("content"), ignore_errors=True)
            g.disk("scratch", scratch())
            c = Container(g, "cat /etc/a; echo more >>/etc/a; cat /etc/a", lower=(("root", kind),))
            assert c.wait() == (0, "text\ntext\nmore\n", ""), kind
            assert c.changes()["etc/a"] == ("file", b"text\nmore\n"), kind
        with open(img, "rb") as f:
            assert f.read() == before, kind
    if kinds != ["ext4", "xfs", "squashfs"]:
        print("this guest kernel has only", *kinds)
        sys.exit(77)


def links_stay_together():
    top = busybox(tree("root", {"etc/one": "1"}))
    os.link(os.path.join(top, "etc/one"), os.path.join(top, "etc/two"))
    with Guest() as g:
        g.disk("root", image("erofs", top), readonly=True)
        g.disk("scratch", scratch())
        c = Container(g, "echo more >>/etc/one; cat /etc/two; stat -c %h /etc/two", index=True)
        assert c.wait() == (0, "1more\n2\n", "")


def recovery():
    top = busybox(tree("root", {"etc/gone": "x"}))
    disk, root = scratch(), image("erofs", top)
    with Guest() as g:
        g.disk("root", root, readonly=True)
        g.disk("scratch", disk)
        c = Container(g, "rm /etc/gone; echo kept >/etc/new; sync; echo ready; sleep 1000")
        assert c.line() == "ready"
        g.process.send_signal(signal.SIGKILL)
        g.wait()
    with Guest() as g:
        g.disk("scratch", disk)
        a = g.agent()
        for _ in range(2):  # whoever is interrupted begins again
            m = a.call("changes", what="disk", serial="scratch")
            got = changeset(read_all(g.stream(m["stream"])))
            assert got["etc/gone"][0] == "whiteout", got
            assert got["etc/new"] == ("file", b"kept\n"), got
        g.boot.call("detach", serial="scratch")
    subprocess.check_call(["e2fsck", "-fn", disk], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)


def refused(call, kind, text):
    try:
        call()
    except Refused as e:
        assert (e.kind, text in str(e)) == (kind, True), (e.kind, e)
    else:
        raise AssertionError("not refused")


def disks_that_are_refused():
    top = busybox(tree("root", {}))
    with open(path("junk"), "wb") as f:
        f.truncate(16 << 20)
    with Guest() as g:
        g.disk("root", image("erofs", top), readonly=True)
        g.disk("scratch", scratch())
        g.disk("junk", path("junk"))
        c = Container(g, "read a")
        refused(lambda: c.a.call("changes", what="disk", serial="scratch"), "other",
                'disk "scratch" is a container\'s')
        refused(lambda: c.a.call("changes", what="disk", serial="junk"), "other", 'disk "junk"')
        refused(lambda: c.a.call("changes", what="disk", serial="none"), "timeout",
                'disk "none" did not appear')
        refused(lambda: Container(g, "true", lower=(("junk", "xfs"),), agent=c.a, id="d"), "other",
                'disk "junk"')


def push_to_a_root():
    top = busybox(tree("root", {"a": "old\n"}))
    with Guest() as g:
        g.disk("root", image("erofs", top), readonly=True)
        g.disk("scratch", scratch())
        c = Container(g, "read a; cat /a /b")
        assert push(g, g.agent(), {"a": b"new\n", "b": b"b" * 200000 + b"\n"}, what="root",
                    container="c") == "ok\n"
        assert push(g, g.agent(), {"../x": b""}, what="root", container="c").startswith("error: ")
        c.tell("")
        status, text, err = c.wait()
        assert (status, text, err) == (0, "new\n" + "b" * 200000 + "\n", ""), (status, err)


def a_disk_is_released():
    top = busybox(tree("root", {"etc/a": "x"}))
    disk = scratch()
    with Guest() as g:
        g.disk("root", image("erofs", top), readonly=True)
        for i in range(3):
            g.disk("scratch", disk)
            c = Container(g, f"read a; echo {i} >/file{i}; ls /", agent=None if i == 0 else a)
            a = c.a
            refused(lambda: a.call("release", serial="scratch"), "other", "container's")
            c.tell("")
            text = c.wait()[1]
            assert all(f"file{n}" in text for n in range(i + 1)), text
            c.call("delete")
            a.call("release", serial="scratch")
            refused(lambda: a.call("release", serial="scratch"), "not_found", "there is none")
            g.boot.call("detach", serial="scratch")
            a.call("release", serial="scratch", detached=True)
        refused(lambda: a.call("release", serial="none"), "not_found", "there is none")


def projects():
    top = busybox(tree("root", {"etc/hosts": "image's\n"}))
    with Guest() as g:
        g.disk("root", image("erofs", top), readonly=True)
        g.disk("scratch", scratch())
        a = g.agent()
        assert push(g, a, {"p1": b"one\n", "p2": b"two\n"}, what="projects",
                    container="c") == "ok\n"
        c = Container(g, "cat /etc/hosts /log; read a; cat /etc/hosts; echo done >/log; read a",
                      mounts=[{"destination": "/etc/hosts", "type": "bind", "source": "/x",
                               "options": ["bind", "ro"]},
                              {"destination": "/log", "type": "bind", "source": "/y",
                               "options": ["bind"]}],
                      froms=[{"mount": 1, "from": "project", "name": "p1"},
                             {"mount": 2, "from": "project", "name": "p2", "writable": True}],
                      agent=a)
        assert [c.line(), c.line()] == ["one", "two"]
        c.call("watch")
        assert push(g, a, {"p1": b"changed\n"}, what="projects", container="c") == "ok\n"
        c.tell("")
        assert c.line() == "changed"
        e = a.event("changed")
        assert (e["container"], e["name"]) == ("c", "p2"), e
        got = c.changes("projects")
        assert got["p2"][0] == "file" and "p1" not in got, got
        c.tell("")
        c.wait()
        assert c.changes("projects") == {"p2": ("file", b"done\n")}
        c.call("delete")
        refused(lambda: c.changes("projects"), "not_found", "does not exist")


def a_stuck_stream():
    top = busybox(tree("root", {}))
    with Guest() as g:
        g.disk("root", image("erofs", top), readonly=True)
        g.disk("scratch", scratch())
        c = Container(g, "dd if=/dev/zero of=/big bs=1M count=32 2>/dev/null; echo ready; read a")
        assert c.line() == "ready"
        s = g.stream(c.call("changes", what="root")["stream"])
        assert s.recv(8) == b"HUSKCS01"
        big = c.changes()["big"]
        assert len(big[1]) <= 32 << 20
        push(g, c.a, {"small": b""}, what="root", container="c")
        c.call("delete")
        g.boot.call("detach", serial="scratch")
        s.close()


def main(name, directory):
    global work
    work = directory
    globals()[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
