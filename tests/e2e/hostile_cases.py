"""Hostile guests (tests/hostile) against husk-vmm under AddressSanitizer: hostile_cases.py DEVICE DIR.

One machine attacks a device, another does no harm beside it. HOSTILE_SECONDS (default 4) is how long;
HOSTILE_SEED the first seed. A guest that destroys itself is started again with the next one.
"""

import ctypes
import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

from vmmctl import ROOT, Closed, Refused, Vmm

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "4"))
SLOW = int(os.environ.get("HUSK_TEST_SLOW", "1"))
SEED = int(os.environ.get("HOSTILE_SEED", "1"))
GUEST = os.path.join(ROOT, "build/tests/hostile-guest")
PROGRAM = os.path.join(ROOT, "build/asan/husk-vmm")
DEVICES = {"all": 0, "net": 1, "block": 2, "rng": 4, "balloon": 5, "vsock": 19, "fs": 26}
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
GROWTH_MAX = 16 << 20  # bytes of its own memory, once it is warm
LOG_MAX = 64 << 10
ANSWER_S = 60 * SLOW
# Ends that are no fault of husk-vmm: the guest destroyed itself, or virtiofsd, which the guest may
# attack as well, gave up on it.
GUEST_DIED = ("guest triple fault", "virtiofsd")
CLONE_NEWNET = 0x40000000


def tap():
    """In this process's network namespace, which is its own."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    flags = 0x0002 | 0x1000 | 0x4000  # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"", flags))  # TUNSETIFF
    return fd


class Virtiofsd:
    def __init__(self, directory):
        os.makedirs(os.path.join(directory, "shared"), exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        path = os.path.join(directory, "fs.sock")
        listener.bind(path)
        listener.listen(1)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        os.unlink(path)
        self.log_path = os.path.join(directory, "fs.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [VIRTIOFSD, f"--fd={listener.fileno()}", "-f", "-o", f"source={directory}/shared"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, pass_fds=[listener.fileno()])
        listener.close()

    def gave_up(self):
        """On what a guest had put in a queue."""
        with open(self.log_path, errors="replace") as f:
            log = f.read()
        return "Start for queue" in log and "fv_panic: libvhost-user: " in log

    def close(self):
        self.sock.close()
        self.process.kill()
        self.process.wait()


class Machine:
    """A husk-vmm with a hostile (or peaceful) guest; .died: the guest destroyed itself."""

    def __init__(self, directory, name, device, seed, peace=False):
        self.name, self.died = name, False
        self.log_path = os.path.join(directory, f"{name}.log")
        empty = os.path.join(directory, "empty")
        open(empty, "wb").close()
        with open(self.log_path, "ab") as log:
            self.vm = Vmm(GUEST, empty, control=os.path.join(directory, name + ".sock"), log=log, program=PROGRAM)
        cmdline = f"hostile.device={device} hostile.seed={seed} hostile.peace={int(peace)}"
        self.fs = Virtiofsd(directory) if device == DEVICES["fs"] else None
        try:
            self.vm.start(engine="kvm", memory=64 << 20, cmdline=cmdline, fs=self.fs and self.fs.sock)
        except Closed:
            sys.exit(f"{name}: husk-vmm does not start: exit status {self.vm.wait(ANSWER_S)}\n{self.log()}")
        card = tap()
        self.call("attach-net", fds=[card], id="card", mac="02:00:00:00:00:01")
        os.close(card)
        self.disk = open(os.path.join(directory, f"{name}.disk"), "w+b")
        self.disk.truncate(4 << 20)
        self.call("attach-block", fds=[self.disk.fileno()], serial="disk", readonly=False, discardable=True)

    def call(self, op, **members):
        """None when the machine has ended because its guest destroyed itself."""
        try:
            return self.vm.boot.call(op, timeout=ANSWER_S, **members)
        except (Closed, BrokenPipeError, ConnectionResetError):
            end = self.vm.boot.event("ended", ANSWER_S)
            assert end["why"].startswith(GUEST_DIED), f"{self.name}: {end}"
            self.died = True
            return None

    def rounds(self):
        """How far the guest says that it is; the device must still have answered it."""
        answer = self.call("console")
        if not answer:
            return 0
        text = answer["text"]
        assert "dead" not in text and "none" not in text, f"{self.name}: {text[-200:]}"
        return int((re.findall(r"^round (\d+)$", text, re.M) or ["0"])[-1])

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def own_memory(self):
        """None: it has just ended."""
        with open(f"/proc/{self.vm.process.pid}/status") as f:
            found = re.search(r"RssAnon:\s+(\d+) kB", f.read())
        return int(found.group(1)) << 10 if found else None

    def finish(self):
        """Its end has to be one of its own, without a word of a sanitizer."""
        if not self.died:
            status = self.call("status")
            assert self.died or status["state"] == "running", status
        if not self.died:
            self.call("shutdown")
        code = self.vm.wait(ANSWER_S)
        self.vm.close()
        self.disk.close()
        log = self.log()
        assert "Sanitizer" not in log and "runtime error" not in log, log
        assert code == (1 if self.died else 0), f"{self.name}: exit status {code}\n{log}"
        assert len(log) < LOG_MAX, f"{self.name}: {len(log)} bytes of log"

    def kill(self):
        if self.vm.process.poll() is None:
            self.vm.process.kill()
            self.vm.process.wait()
        if self.fs:
            self.fs.close()


def use_streams(machine, stop):
    """Somebody who wants to talk to the guest all the time, so that there are streams to attack."""
    held, client = [], None
    try:
        while not stop.wait(0.02):
            client = client or type(machine.vm.boot).connect(machine.vm.control)
            try:
                s = client.vsock(1024, timeout_ms=300)
                s.setblocking(False)
                held.append(s)
                s.send(bytes(1000))
            except (Refused, BlockingIOError):
                pass
            if len(held) > 32:
                held.pop(0).close()
    except (Closed, OSError, TimeoutError):
        pass  # the machine has ended, which is others' business
    finally:
        for s in held:
            s.close()
        if client:
            client.close()


def attack(directory, name, seed, until, limit):
    """One hostile machine, until its guest destroys itself or time is up, and it got somewhere or has had it until the
    limit. Returns its rounds."""
    m = Machine(directory, f"hostile-{seed}", DEVICES[name], seed)
    stop = threading.Event()
    talker = threading.Thread(target=use_streams, args=(m, stop))
    talker.start()
    until = max(until, time.monotonic() + SLOW)
    rounds, warm, warm_at = 0, None, time.monotonic() + min(2 * SLOW, SECONDS / 2)
    try:
        while time.monotonic() < (until if rounds else max(until, limit)) and not m.died:
            time.sleep(0.1)  # what is waited for is the end of the time
            if not m.call("status"):
                break
            rounds = max(rounds, m.rounds())
            if m.died:
                break
            now = m.own_memory()
            if now is None:
                continue
            if warm is None and rounds and time.monotonic() > warm_at:
                warm = now
            grown = now - (warm if warm is not None else now)
            assert grown < GROWTH_MAX, f"husk-vmm grew by {grown >> 10} KiB"
        stop.set()
        talker.join()
        m.finish()
        # It may do so in the first rounds, before the guest says how many there were.
        if m.died and m.fs and m.fs.gave_up():
            rounds = max(rounds, 1)
    finally:
        stop.set()
        talker.join()
        m.kill()
    return rounds


def main(name, directory):
    # No search for leaks at the end: it wants /proc, which a jail has not.
    os.environ["ASAN_OPTIONS"] = "quarantine_size_mb=1:exitcode=99:detect_leaks=0"
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) < 0:
        sys.exit(f"a network namespace: {os.strerror(ctypes.get_errno())}")
    until = time.monotonic() + SECONDS
    neighbour = Machine(directory, "neighbour", 0, 1, peace=True)
    try:
        before = neighbour.rounds()
        rounds, seed = 0, SEED
        limit = until + 60 * SLOW
        while time.monotonic() < until or (not rounds and time.monotonic() < limit):
            rounds += attack(directory, name, seed, until, 0 if rounds else limit)
            seed += 1
        assert rounds, "the guest did not get anywhere"
        # The neighbour goes on, and gets on.
        limit = time.monotonic() + ANSWER_S
        while neighbour.rounds() <= before:
            assert time.monotonic() < limit, "the neighbour stands still"
            time.sleep(0.05)
        neighbour.finish()
    finally:
        neighbour.kill()
    print(f"{name}: {rounds} rounds, {seed - SEED} machines")


if __name__ == "__main__":
    main(*sys.argv[1:])
