"""A client of husk-vmm's control socket (docs/control-socket.md), for tests and for people.

As a module:

    with Vmm(kernel=..., initramfs=...) as vm:      # starts build/husk-vmm
        vm.start()
        vm.boot.call("attach-block", serial="root", readonly=True, fds=[fd])

As a program it talks to a running sandbox:

    vmmctl.py SOCKET OP [NAME=VALUE...]
"""

import array
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QEMU = "/usr/bin/qemu-system-x86_64"
ENGINE = os.environ.get("HUSK_ENGINE") or "qemu"
PATIENCE = 60 * int(os.environ.get("HUSK_TEST_SLOW") or "1")  # seconds that anybody waits for an answer: no assertion


def kernel():
    """The guest kernel: $HUSK_KERNEL, or the one that was built."""
    path = os.environ.get("HUSK_KERNEL") or os.path.join(ROOT, "build/vmlinux")
    return path if os.path.exists(path) else subprocess.check_output(
        [os.path.join(ROOT, "contrib/kernel/build.sh"), "--print-path"], text=True).strip()



def kernel_has(text):
    """Whether the guest kernel can do what this text in its image stands for."""
    with open(kernel(), "rb") as f:
        return text.encode() in f.read()


class Refused(Exception):
    """An answer with "error"; .kind is one of lib/error.c's names."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.kind = error["kind"]


class Closed(Exception):
    pass


class Client:
    def __init__(self, sock):
        self.sock = sock
        self.seq = 0
        self.events = []
        self.answers = {}
        self.fds = []
        self.data = b""

    @classmethod
    def connect(cls, path):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(path)
        return cls(s)

    def send_raw(self, text, fds=()):
        if isinstance(text, str):
            text = text.encode()
        ctl = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([struct.pack(">I", len(text)) + text], ctl)

    def send(self, op, fds=(), **members):
        self.seq += 1
        self.send_raw(json.dumps({"seq": self.seq, "op": op, **members}), fds)
        return self.seq

    def receive(self, timeout):
        """One message; its descriptors are appended to self.fds."""
        deadline = time.monotonic() + timeout
        while True:
            if len(self.data) >= 4:
                n = struct.unpack(">I", self.data[:4])[0]
                if len(self.data) >= 4 + n:
                    msg, self.data = self.data[4 : 4 + n], self.data[4 + n :]
                    return json.loads(msg)
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError("no message from husk-vmm")
            try:
                data, ctl, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(16))
            except ConnectionResetError:
                raise Closed(self.events) from None
            for level, kind, payload in ctl:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self.fds += array.array("i", payload).tolist()
            if not data:
                raise Closed(self.events)
            self.data += data

    def answer(self, seq, timeout=PATIENCE):
        """The answer to `seq`; events met on the way go to self.events."""
        while seq not in self.answers:
            m = self.receive(timeout)
            if "event" in m:
                self.events.append(m)
            else:
                self.answers[m["seq"]] = m
        m = self.answers.pop(seq)
        if "error" in m:
            raise Refused(m["error"])
        return m

    def call(self, op, fds=(), timeout=PATIENCE, **members):
        return self.answer(self.send(op, fds, **members), timeout)

    def event(self, name, timeout=PATIENCE):
        while True:
            for m in self.events:
                if m["event"] == name:
                    self.events.remove(m)
                    return m
            m = self.receive(timeout)
            if "event" in m:
                self.events.append(m)
            else:
                self.answers[m["seq"]] = m

    def vsock(self, port, timeout_ms=0):
        self.call("vsock-connect", port=port, timeout_ms=timeout_ms)
        return socket.socket(fileno=self.fds.pop(0))

    def close(self):
        self.sock.close()


class Vmm:
    """A husk-vmm process ($HUSK_VMM, or that in build/) with its boot socket (.boot) and lifeline (.lifeline, a descriptor)."""

    def __init__(self, kernel, initramfs, control=None, log=None, program=None, console=False):
        self.kernel, self.initramfs, self.control = kernel, initramfs, control
        self.console = console
        ours, theirs = socket.socketpair()
        life_r, self.lifeline = os.pipe()
        # Numbers above 4 first: 3 and 4 may be taken by what goes to 4 and 3.
        high = [os.dup2(fd, 100 + i, False) for i, fd in enumerate((theirs.fileno(), life_r))]

        def arrange():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)
            os.closerange(5, 256)

        self.process = subprocess.Popen(
            [program or os.environ.get("HUSK_VMM") or os.path.join(ROOT, "build/husk-vmm")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log or subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=arrange,
        )
        theirs.close()
        os.close(life_r)
        for fd in high:
            os.close(fd)
        self.boot = Client(ours)

    def send_start(self, fs=None, **members):
        """`fs`: a socket that is connected to a virtiofsd."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if self.control and os.path.exists(self.control):
            os.unlink(self.control)
        listener.bind(self.control or "")  # "": an abstract name of the kernel's choice
        listener.listen(64)
        files = [open(self.kernel, "rb"), open(self.initramfs, "rb")]
        m = {"engine": ENGINE, "qemu": QEMU, "memory": 256 << 20, "vcpus": 1, "console": self.console,
             "cmdline": "loglevel=1" if self.console else ""}
        m.update(members)
        fds = [listener.fileno()] + [f.fileno() for f in files]
        if fs is not None:
            m["fs"] = True
            fds.append(fs.fileno())
        seq = self.boot.send("start", fds, **m)
        listener.close()
        for f in files:
            f.close()
        return seq

    def start(self, **members):
        return self.boot.answer(self.send_start(**members))

    def wait(self, timeout=PATIENCE):
        return self.process.wait(timeout)

    def close(self):
        self.boot.close()
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None
        if self.control and os.path.exists(self.control):
            os.unlink(self.control)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def main(argv):
    if len(argv) < 3:
        sys.exit(__doc__)
    members = {}
    for word in argv[3:]:
        name, _, value = word.partition("=")
        try:
            members[name] = json.loads(value)
        except ValueError:
            members[name] = value
    try:
        print(json.dumps(Client.connect(argv[1]).call(argv[2], **members), indent=2))
    except Refused as e:
        sys.exit(f"{e.kind}: {e}")


if __name__ == "__main__":
    main(sys.argv)
