#!/usr/bin/env python3
"""A guest's network card on a TAP: husk-vmm's own against QEMU's virtio-net on the same TAP, under the same
accelerator: KVM (engine kvm), or TCG (engine qemu, where QEMU runs the processor for both).

The guest is netload.c as PID 1; the host's end of the TAP and the clients are in a network namespace of their own.
Both VMMs run all the time, and every figure is taken in turns. "neighbour" is husk-vmm's alone: what a
TCP stream of one guest is worth while another one, on the same bridge, floods the host with small datagrams.

  net.py [--engine kvm|qemu] [--runs N] [--seconds S] [--only husk,qemu] [--kinds send,receive,...]

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
GUEST, OTHER, PORT = "10.99.0.2", "10.99.0.3", "5001"
KINDS = {"send": ("TCP, host to guest", "MB/s"), "receive": ("TCP, guest to host", "MB/s"),
         "udp-send": ("UDP of 64 bytes, host to guest", "/s"),
         "udp-receive": ("UDP of 64 bytes, guest to host", "/s"),
         "ping": ("one byte there and back", "/s")}
NEIGHBOUR = "neighbour"
AIMS = {"ping": 1 / 1.1}  # a time: at most 1.1 of QEMU's
HUSK, QEMU = "husk-vmm", "QEMU microvm"
KERNEL = os.environ.get("HUSK_BENCH_KERNEL") or os.path.join(TOP, "build/vmlinux")
CMDLINE = "quiet loglevel=0 panic=-1 reboot=t 8250.nr_uarts=0 tsc=reliable"
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000
KVM_MACHINE = ["-M", "microvm,acpi=off,x-option-roms=off,pit=on,pic=on,isa-serial=off,rtc=off", "-accel", "kvm",
               "-cpu", "host,-arch-capabilities", "-m", str(MIB), "-nodefaults", "-no-user-config", "-display",
               "none", "-no-reboot", "-global", "virtio-mmio.force-legacy=false"]


def ip(*args):
    subprocess.check_call(["ip", *args])


def tap(address, bridge):
    name = "tap" + address
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    if bridge:
        ip("link", "set", name, "master", bridge)
    else:
        ip("address", "add", address[:-1] + "1/24", "dev", name)
    ip("link", "set", name, "up")
    return fd


class Husk:
    def __init__(self, work, address, bridge=None):
        fd = tap(address, bridge)
        self.vm = vmmctl.Vmm(KERNEL, work.initramfs)
        try:
            self.vm.send_start(engine=work.engine, cmdline=f"{CMDLINE} address={address}", memory=MIB << 20, nics=1,
                               readonly_disks=0, writable_disks=0)
            self.vm.boot.call("attach-net", fds=[fd], id="eth0", mac="02:00:00:00:00:0" + address[-1])
        except BaseException:
            self.vm.close()
            raise
        os.close(fd)

    def pids(self):
        s = self.vm.boot.call("status")
        return {s["pid"], s["engine_pid"]}

    def close(self):
        self.vm.close()


class Qemu:
    def __init__(self, work, address, bridge=None):
        machine, append = (KVM_MACHINE, CMDLINE) if work.engine == "kvm" else work.husk_machine()
        fd = tap(address, bridge)
        self.p = subprocess.Popen(
            ["qemu-system-x86_64", *machine, "-kernel", KERNEL, "-initrd", work.initramfs, "-append",
             f"{append} address={address}", "-netdev", f"tap,id=n,fd={fd},vhost=off", "-device",
             f"virtio-net-device,netdev=n,mac=02:00:00:00:00:0{address[-1]}"], stdin=subprocess.DEVNULL,
            pass_fds=(fd,))
        os.close(fd)

    def pids(self):
        return {self.p.pid}

    def close(self):
        self.p.kill()
        self.p.wait()


class Scratch:
    """The guest's initramfs and the client, both the same program."""

    def __init__(self, engine):
        self.engine, self.machine, self.append = engine, None, None
        self.dir = tempfile.mkdtemp(prefix="husk-net.")
        self.load = os.path.join(self.dir, "netload")
        self.initramfs = os.path.join(self.dir, "initramfs.cpio")
        subprocess.check_call(["gcc", "-D_GNU_SOURCE", "-O2", "-static", "-s", "-o", self.load,
                               os.path.join(TOP, "tests/bench/netload.c")])
        subprocess.check_call([os.path.join(TOP, "contrib/initramfs/make-initramfs"), self.load, self.initramfs])

    def husk_machine(self):
        """The options and kernel parameters that husk-vmm gives QEMU, without devices and sandbox: read off once."""
        if not self.machine:
            vm = Husk(self, "10.97.0.2")
            try:
                self.await_guest("10.97.0.2")
                with open(f"/proc/{vm.vm.boot.call('status')['engine_pid']}/cmdline") as f:
                    argv = f.read().split("\0")
            finally:
                vm.close()
            both = [(o, argv[i + 1]) for i, o in enumerate(argv[:-1])]
            keep = {"-M", "-accel", "-cpu", "-smp", "-m", "-object", "-display", "-global"}
            self.machine = [x for o, v in both if o in keep for x in (o, v)]
            self.machine += ["-nodefaults", "-no-user-config", "-no-reboot"]
            self.append = dict(both)["-append"].replace("address=10.97.0.2", "")
        return self.machine, self.append

    def remove(self):
        shutil.rmtree(self.dir)

    def client(self, kind, seconds, guest=GUEST):
        r = subprocess.run([self.load, kind, guest, PORT, str(seconds)], capture_output=True, text=True,
                           timeout=seconds + 30)
        if r.returncode != 0:
            raise RuntimeError(f"{kind}: {r.stderr.strip()}")
        return float(r.stdout)

    def await_guest(self, guest=GUEST, limit=30):
        end = time.monotonic() + limit
        while True:
            try:
                socket.create_connection((guest, int(PORT)), 1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise RuntimeError("the guest does not answer") from None
                time.sleep(0.02)


def cpu(pids):
    """Seconds of processor that a VMM has used, its guest's included."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def measure(work, peers, kinds, runs, seconds, found):
    """All VMMs at once, each on a TAP and a subnet of its own; the one that is not asked is idle. So what else this
    machine does meanwhile concerns all of them alike."""
    vms = {}
    try:
        for i, (name, make) in enumerate(peers):
            guest = f"10.{99 - i}.0.2"
            vms[name] = make(work, guest)
            work.await_guest(guest)
            vms[name].guest = guest
        for kind in kinds:
            for _ in range(runs):
                for name, vm in vms.items():
                    pids = vm.pids()
                    before = cpu(pids)
                    value = work.client(kind, seconds, vm.guest)
                    found[name][kind].append((value, (cpu(pids) - before) / seconds))
    finally:
        for vm in vms.values():
            vm.close()


class Group:
    """A cgroup for processor time of its own, as each container has: what is started within it is in it."""

    def __init__(self, name):
        with open("/proc/self/cgroup") as f:
            mine = {line.split(":")[1]: line.rstrip().split(":", 2)[2] for line in f}
        # Version 1, or the root of version 2.
        top, home = ("/sys/fs/cgroup/cpu", mine["cpu"]) if "cpu" in mine else ("/sys/fs/cgroup", mine.get("", "/"))
        self.path, self.home = f"{top}/husk-bench.{os.getpid()}.{name}", top + home
        os.mkdir(self.path)

    def move(self, path):
        with open(path + "/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))

    def __enter__(self):
        self.move(self.path)

    def __exit__(self, *_):
        self.move(self.home)

    def remove(self):
        end = time.monotonic() + 5
        while True:
            try:
                return os.rmdir(self.path)
            except OSError:  # the last process is on its way out
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)


def neighbour(work, rounds, seconds):
    """Two guests on one bridge, each in a cgroup of its own: of each round MB/s of one's stream while the other is
    paused, and while it floods; the packets a second that it sent; and the memory that its husk-vmm had, in MiB
    without guest memory."""
    found = []
    ip("link", "add", "br0", "type", "bridge")
    ip("address", "add", "10.99.0.1/24", "dev", "br0")
    ip("link", "set", "br0", "up")
    vms, groups = [], []
    try:
        for address in GUEST, OTHER:
            groups.append(Group(address))
            with groups[-1]:
                vms.append(Husk(work, address, "br0"))
            work.await_guest(address)
        flood = subprocess.Popen([work.load, "flood", OTHER, PORT, "600"])
        control = vms[1].vm.boot
        while control.call("stats")["nics"][0]["tx_packets"] < 1000:
            time.sleep(0.02)
        for _ in range(rounds):
            control.call("pause")
            alone = work.client("receive", seconds)
            control.call("resume")
            before = control.call("stats")["nics"][0]["tx_packets"]
            beside = work.client("receive", seconds)
            sent = control.call("stats")["nics"][0]["tx_packets"] - before
            with open(f"/proc/{vms[1].vm.process.pid}/status") as f:
                anon = next(int(line.split()[1]) / 1024 for line in f if line.startswith("RssAnon"))
            found.append((alone, beside, sent / seconds, anon))
        flood.kill()
        flood.wait()
    finally:
        for vm in vms:
            vm.close()
        for group in groups:
            group.remove()
        ip("link", "delete", "br0")
    return found


def child(o):
    """In a network namespace of its own: prints {vmm: {kind: [[figure, processors], ...]}}."""
    ip("link", "set", "lo", "up")
    work, peers = Scratch(o.engine), {"husk": (HUSK, Husk), "qemu": (QEMU, Qemu)}
    kinds = o.kinds.split(",")
    pairs = [k for k in kinds if k != NEIGHBOUR]
    found = {peers[p][0]: {k: [] for k in pairs} for p in o.only.split(",")}
    try:
        # What else this machine does would decide the figures, as they depend on who is woken when: it waits. Not
        # with KVM, where the kernel's workers have a part in it, which wait with the others.
        if o.engine == "qemu":
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        if pairs:
            measure(work, [peers[p] for p in o.only.split(",")], pairs, o.runs, o.seconds, found)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        if NEIGHBOUR in kinds:
            found[NEIGHBOUR] = neighbour(work, o.runs, o.seconds)
    finally:
        work.remove()
    json.dump(found, sys.stdout)


def run(engine, runs, seconds=0.5, only="husk,qemu", kinds=",".join([*KINDS, NEIGHBOUR])):
    r = subprocess.run(["unshare", "--net", sys.executable, __file__, "--child", "--engine", engine, "--runs",
                        str(runs), "--seconds", str(seconds), "--only", only, "--kinds", kinds],
                       stdout=subprocess.PIPE, text=True)
    if r.returncode != 0:
        raise RuntimeError(f"network: status {r.returncode}")
    return json.loads(r.stdout)


def median(values):
    return sorted(values)[len(values) // 2]


def compare(engine, runs):
    """For tests/bench/run: rows, aims and notes."""
    rows, goals, notes = [], [], []
    found = run(engine, runs)
    for kind, (what, unit) in KINDS.items():
        ours, theirs = ([v for v, _ in found[n][kind]] for n in (HUSK, QEMU))
        ratio, aim = median(ours) / median(theirs), AIMS.get(kind, 1)
        rows.append((f"{what}: husk-vmm", ours, unit, f"{ratio:.2f} × QEMU"))
        rows.append((f"{what}: QEMU's virtio-net", theirs, unit, ""))
        goals.append((f"network, {what}: at least {aim:.2f} × QEMU's", ratio, aim, "×", ">="))
        notes.append(f"{what}: processors busy: husk-vmm {median([c for _, c in found[HUSK][kind]]):.2f}, QEMU "
                     f"{median([c for _, c in found[QEMU][kind]]):.2f}.")
    alone, beside, sent, anon = zip(*found[NEIGHBOUR])
    share = median([b / a for a, b in zip(alone, beside)])
    rows += [("TCP, guest to host, two guests on a bridge, the other paused", list(alone), "MB/s", ""),
             ("the same, the other floods", list(beside), "MB/s", f"{share:.2f} ×"),
             ("the flood", list(sent), "/s", "UDP of 64 bytes"),
             ("memory of the flooding one's husk-vmm", list(anon), "MiB", "without guest memory")]
    goals.append(("network, beside a guest that floods: at least half", share, 0.5, "×", ">="))
    return rows, goals, notes


def bench_net(work, runs):
    return compare("kvm", runs)


def bench_net_qemu(work, runs):
    return compare("qemu", runs)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--engine", default=vmmctl.ENGINE)
    p.add_argument("--runs", type=int, default=10)
    p.add_argument("--seconds", type=float, default=0.5)
    p.add_argument("--only", default="husk,qemu")
    p.add_argument("--kinds", default=",".join([*KINDS, NEIGHBOUR]))
    p.add_argument("--child", action="store_true")
    o = p.parse_args()
    if o.child:
        child(o)
        return
    found = run(o.engine, o.runs, o.seconds, o.only, o.kinds)
    if NEIGHBOUR in found:
        alone, beside, sent, anon = zip(*found.pop(NEIGHBOUR))
        print(f"{'husk-vmm':14} TCP, guest to host: {median(alone):.1f} MB/s, beside a flood of {median(sent):.0f}/s "
              f"{median(beside):.1f} MB/s: {median([b / a for a, b in zip(alone, beside)]):.2f} ×, {max(anon):.1f} MiB")
    for name, kinds in found.items():
        for kind, v in kinds.items():
            figures = [f for f, _ in v]
            print(f"{name:14} {KINDS[kind][0]:36} {median(figures):9.1f} {KINDS[kind][1]:5}"
                  f" ({min(figures):.1f} - {max(figures):.1f}), processors {median([c for _, c in v]):.2f}")


if __name__ == "__main__":
    main()
