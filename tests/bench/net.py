#!/usr/bin/env python3
"""A guest's network card on a TAP: husk-vmm's own (engine kvm) against QEMU's on the same TAP.

The guest is netload.c as PID 1; the host's end of the TAP and the clients are in a network namespace
of their own. Every figure of both VMMs is taken in turns.

  net.py [--runs N] [--seconds S] [--only husk,qemu] [--kinds send,receive,...]

Environment: HUSK_BENCH_KERNEL, the guest kernel (default build/vmlinux).
"""
import argparse
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/e2e"))
import vmmctl  # noqa: E402

MIB = 256
GUEST, PORT = "10.99.0.2", "5001"
KINDS = {"send": ("TCP, host to guest", "MB/s"), "receive": ("TCP, guest to host", "MB/s"),
         "udp-send": ("UDP of 1400 bytes, host to guest", "MB/s"),
         "udp-receive": ("UDP of 1400 bytes, guest to host", "MB/s"),
         "ping": ("one byte there and back", "/s")}
HUSK, QEMU = "husk-vmm", "QEMU microvm"
KERNEL = os.environ.get("HUSK_BENCH_KERNEL") or os.path.join(TOP, "build/vmlinux")
CMDLINE = "quiet loglevel=0 panic=-1 reboot=t 8250.nr_uarts=0 tsc=reliable"
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000


def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    subprocess.check_call(["ip", "address", "add", "10.99.0.1/24", "dev", name])
    subprocess.check_call(["ip", "link", "set", name, "up"])
    return fd


class Husk:
    def __init__(self, work):
        fd = tap("tap0")
        self.vm = vmmctl.Vmm(KERNEL, work.initramfs)
        try:
            self.vm.send_start(engine="kvm", cmdline=CMDLINE, memory=MIB << 20)
            self.vm.boot.call("attach-net", fds=[fd], id="eth0", mac="02:00:00:00:00:02")
        except BaseException:
            self.vm.close()
            raise
        os.close(fd)
        self.pid = self.vm.process.pid

    def close(self):
        self.vm.close()


class Qemu:
    def __init__(self, work):
        fd = tap("tap0")
        self.p = subprocess.Popen(
            ["qemu-system-x86_64", "-M",
             "microvm,acpi=off,x-option-roms=off,pit=on,pic=on,isa-serial=off,rtc=off", "-accel", "kvm", "-cpu",
             "host,-arch-capabilities", "-m", str(MIB), "-nodefaults", "-no-user-config", "-display", "none",
             "-no-reboot", "-global", "virtio-mmio.force-legacy=false", "-kernel", KERNEL, "-initrd",
             work.initramfs, "-append", CMDLINE, "-netdev", f"tap,id=n,fd={fd},vhost=off", "-device",
             "virtio-net-device,netdev=n,mac=02:00:00:00:00:02"], stdin=subprocess.DEVNULL, pass_fds=(fd,))
        os.close(fd)
        self.pid = self.p.pid

    def close(self):
        self.p.kill()
        self.p.wait()


class Scratch:
    """The guest's initramfs and the client, both the same program."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="husk-net.")
        self.load = os.path.join(self.dir, "netload")
        self.initramfs = os.path.join(self.dir, "initramfs.cpio")
        subprocess.check_call(["gcc", "-O2", "-static", "-s", "-o", self.load,
                               os.path.join(TOP, "tests/bench/netload.c")])
        subprocess.check_call([os.path.join(TOP, "contrib/initramfs/make-initramfs"), self.load, self.initramfs])

    def remove(self):
        shutil.rmtree(self.dir)

    def client(self, kind, seconds):
        r = subprocess.run([self.load, kind, GUEST, PORT, str(seconds)], capture_output=True, text=True,
                           timeout=seconds + 30)
        if r.returncode != 0:
            raise RuntimeError(f"{kind}: {r.stderr.strip()}")
        return float(r.stdout)

    def await_guest(self, limit=30):
        end = time.monotonic() + limit
        while True:
            try:
                socket.create_connection((GUEST, int(PORT)), 1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise RuntimeError("the guest does not answer") from None
                time.sleep(0.02)


def cpu(pid):
    """Seconds of processor that a VMM has used, its guest's included."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(work, make, kinds, seconds):
    vm, out = make(work), {}
    try:
        work.await_guest()
        for kind in kinds:
            before = cpu(vm.pid)
            value = work.client(kind, seconds)
            out[kind] = (value, (cpu(vm.pid) - before) / seconds)
    finally:
        vm.close()
    return out


def child(o):
    """In a network namespace of its own: prints {vmm: {kind: [[figure, processors], ...]}}."""
    subprocess.check_call(["ip", "link", "set", "lo", "up"])
    work, peers = Scratch(), {"husk": (HUSK, Husk), "qemu": (QEMU, Qemu)}
    kinds = o.kinds.split(",")
    found = {peers[p][0]: {k: [] for k in kinds} for p in o.only.split(",")}
    try:
        for _ in range(o.runs):
            for p in o.only.split(","):
                name, make = peers[p]
                for kind, v in measure(work, make, kinds, o.seconds).items():
                    found[name][kind].append(v)
    finally:
        work.remove()
    json.dump(found, sys.stdout)


def run(runs, seconds=1.0, only="husk,qemu", kinds=",".join(KINDS)):
    r = subprocess.run(["unshare", "--net", sys.executable, __file__, "--child", "--runs", str(runs), "--seconds",
                        str(seconds), "--only", only, "--kinds", kinds], stdout=subprocess.PIPE, text=True)
    if r.returncode != 0:
        raise RuntimeError(f"network: status {r.returncode}")
    return json.loads(r.stdout)


def median(values):
    return sorted(values)[len(values) // 2]


def bench_net(work, runs):
    """For tests/bench/run: rows, aims and notes."""
    rows, goals, notes = [], [], []
    found = run(runs)
    for kind, (what, unit) in KINDS.items():
        ours, theirs = ([v for v, _ in found[n][kind]] for n in (HUSK, QEMU))
        ratio = median(ours) / median(theirs)
        rows.append((f"{what}: husk-vmm", ours, unit, f"{ratio:.2f} × QEMU"))
        rows.append((f"{what}: QEMU's virtio-net", theirs, unit, ""))
        goals.append((f"network, {what}: at least QEMU's", ratio, 1, "×", ">="))
        notes.append(f"{what}: processors busy: husk-vmm {median([c for _, c in found[HUSK][kind]]):.2f}, QEMU "
                     f"{median([c for _, c in found[QEMU][kind]]):.2f}.")
    return rows, goals, notes


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--only", default="husk,qemu")
    p.add_argument("--kinds", default=",".join(KINDS))
    p.add_argument("--child", action="store_true")
    o = p.parse_args()
    if o.child:
        child(o)
        return
    for name, kinds in run(o.runs, o.seconds, o.only, o.kinds).items():
        for kind, v in kinds.items():
            figures = [f for f, _ in v]
            print(f"{name:14} {KINDS[kind][0]:36} {median(figures):9.1f} {KINDS[kind][1]:5}"
                  f" ({min(figures):.1f} - {max(figures):.1f}), processors {median([c for _, c in v]):.2f}")


if __name__ == "__main__":
    main()
