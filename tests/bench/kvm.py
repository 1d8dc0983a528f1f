"""Engine kvm against other VMMs on KVM: launch, exits, memory, creation, idle, disks.

The same kernel, initramfs, memory and one CPU for all, in turns. The guest (guest.c) says when its user
space runs. Peers other than QEMU take part when the environment names their programs:

  HUSK_BENCH_FIRECRACKER   firecracker
  HUSK_BENCH_KVMTOOL       lkvm; it takes a bzImage alone: HUSK_BENCH_BZIMAGE names it
  HUSK_BENCH_KERNEL        the kernel (vmlinux), default husk's own
  HUSK_BENCH_VMS           how many idle containers for the memory of the last one (default 50)
  HUSK_BENCH_CROWD         how many VMs there are when another one is made (default 200)
"""
import glob
import json
import mmap
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

from common import BUILD, HUSK, TOP, median, must, timed

sys.path.insert(0, os.path.join(TOP, "tests/e2e"))
import net  # noqa: E402
import vmmctl  # noqa: E402

MIB = 256  # of memory, for every VM of this bench
MARK = b"\x16"
WAIT_S = 120
KERNEL = os.environ.get("HUSK_BENCH_KERNEL") or os.path.join(BUILD, "vmlinux")
# What a guest for containers is booted with, and nothing of one VMM's own.
CMDLINE = ("quiet loglevel=0 panic=-1 reboot=t 8250.nr_uarts=0 tsc=reliable noreplace-smp "
           "rcupdate.rcu_expedited=1")
HUSK_KVM, QEMU_KVM, LKVM, FIRECRACKER = "husk-vmm, engine kvm", "QEMU microvm with KVM", "kvmtool", "Firecracker"


# ---- VMMs: start(what) -> a machine with .pid, .until_mark(), .line(), .until_gone(), .kill()


class Process:
    """A VMM whose guest's serial port is its standard output."""

    def __init__(self, argv):
        self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.pid, self.seen = self.p.pid, b""

    def until(self, byte):
        end = time.monotonic() + WAIT_S
        while byte not in self.seen:
            if not select.select([self.p.stdout], [], [], max(0, end - time.monotonic()))[0]:
                break
            chunk = os.read(self.p.stdout.fileno(), 65536)
            if not chunk:
                break
            self.seen += chunk
        if byte not in self.seen:
            text = self.seen.decode(errors="replace")[-600:]
            self.kill()
            raise RuntimeError("its guest did not get there: " + text.strip())

    def until_mark(self):
        self.until(MARK)

    def line(self):
        self.until(b">")
        return self.seen[self.seen.rindex(b"<") + 1:self.seen.rindex(b">")].decode()

    def until_gone(self):
        self.p.communicate(timeout=WAIT_S)

    def kill(self):
        self.p.kill()
        self.p.communicate()


class HuskVmm:
    """husk-vmm alone, as husk starts it. The descriptors 3 and 4 are the process's from the start (hold_3_and_4()),
    so that it can be made as cheaply as the peers are."""

    def __init__(self, files, wrapper=(), **start):
        ours, theirs = vmmctl.socket.socketpair()
        life, self.lifeline = os.pipe()
        os.dup2(theirs.fileno(), 3)
        os.dup2(life, 4)
        program = os.environ.get("HUSK_VMM") or os.path.join(BUILD, "husk-vmm")
        self.log = tempfile.TemporaryFile()
        self.p = subprocess.Popen([*wrapper, program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=self.log, pass_fds=(3, 4))
        self.pid = self.p.pid
        hold_3_and_4()
        theirs.close()
        os.close(life)
        self.boot = vmmctl.Client(ours)
        listener = vmmctl.socket.socket(vmmctl.socket.AF_UNIX)
        listener.bind("")
        listener.listen()
        opened = [open(f, "rb") for f in files]
        self.seq = self.boot.send("start", [listener.fileno(), *[f.fileno() for f in opened]], **{
            "engine": "kvm", "memory": MIB << 20, "vcpus": 1, "late_devices": True, **start})
        for f in (listener, *opened):
            f.close()

    def complain(self, what):
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")[-600:]
        self.kill()
        raise RuntimeError(f"{what}: {text.strip()}")

    def started(self):
        try:
            self.boot.answer(self.seq, WAIT_S)
        except (vmmctl.Refused, vmmctl.Closed) as e:
            self.complain(f"start: {e}")

    def until_mark(self):
        try:
            self.boot.event("ready", WAIT_S)
        except (vmmctl.Closed, TimeoutError) as e:
            self.complain(f"no guest: {e}")

    def line(self):
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            found = re.findall("<([^<>\n]*)>", self.boot.call("console")["text"])
            if found:
                return found[-1]
            select.select([], [], [], 0.05)
        self.complain("no figures")

    def until_gone(self):
        self.p.wait(WAIT_S)
        self.free()

    def kill(self):
        self.p.kill()
        self.p.wait()
        self.free()

    def free(self):
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None
            self.boot.close()


def hold_3_and_4():
    null = os.open("/dev/null", os.O_RDWR)
    for fd in {3, 4} - {null}:
        os.dup2(null, fd, False)
    if null not in (3, 4):
        os.close(null)


def guest_initramfs(work):
    init, cpio = os.path.join(work.dir, "guest"), os.path.join(work.dir, "guest.cpio")
    if not os.path.exists(cpio):
        must(["gcc", "-O2", "-static", "-s", "-o", init, os.path.join(TOP, "tests/bench/guest.c")])
        must([os.path.join(TOP, "contrib/initramfs/make-initramfs"), init, cpio])
    return cpio


def cmdline(what):
    return CMDLINE + (f" BENCH={what}" if what else "")


def qemu_kvm(cpio, what, disk):
    argv = ["qemu-system-x86_64", "-M", "microvm,acpi=off,x-option-roms=off,pit=on,pic=on,isa-serial=on,rtc=off",
            "-accel", "kvm", "-cpu", "host,-arch-capabilities", "-m", str(MIB), "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-global", "virtio-mmio.force-legacy=false", "-serial", "stdio",
            "-kernel", KERNEL, "-initrd", cpio, "-append", cmdline(what)]
    if disk:
        argv += ["-drive", f"if=none,id=d,file={disk},format=raw,readonly=on", "-device", "virtio-blk-device,drive=d"]
    return argv


def firecracker(work, cpio, what, disk):
    path = os.path.join(work.dir, f"firecracker-{what or 'wait'}.json")
    drives = [{"drive_id": "d", "path_on_host": disk, "is_root_device": False, "is_read_only": True}] if disk else []
    with open(path, "w") as f:
        json.dump({"boot-source": {"kernel_image_path": KERNEL, "initrd_path": cpio, "boot_args": cmdline(what)},
                   "drives": drives, "machine-config": {"vcpu_count": 1, "mem_size_mib": MIB}}, f)
    return [os.environ["HUSK_BENCH_FIRECRACKER"], "--no-api", "--level", "Error", "--config-file", path]


def kvmtool(cpio, what, disk):
    argv = [os.environ["HUSK_BENCH_KVMTOOL"], "run", "--nodefaults", "-c", "1", "-m", str(MIB), "--console", "serial",
            "-n", "mode=none", "-k", os.environ["HUSK_BENCH_BZIMAGE"], "-i", cpio, "-p", cmdline(what)]
    return argv + (["-d", disk] if disk else [])


def vmms(work, notes):
    """name -> start(what=None, wrapper=(), disk=None)"""
    cpio = guest_initramfs(work)

    def husk(what=None, wrapper=(), disk=None):
        vm = HuskVmm((KERNEL, cpio), wrapper, cmdline=f"BENCH={what}" if what else "", console=bool(disk))
        if disk:
            vm.started()
            with open(disk, "rb") as f:
                vm.boot.call("attach-block", [f.fileno()], serial="bench", readonly=True)
        return vm

    found = {HUSK_KVM: husk,
             QEMU_KVM: lambda what=None, wrapper=(), disk=None: Process([*wrapper, *qemu_kvm(cpio, what, disk)])}
    if os.environ.get("HUSK_BENCH_KVMTOOL") and os.environ.get("HUSK_BENCH_BZIMAGE"):
        found[LKVM] = lambda what=None, wrapper=(), disk=None: Process([*wrapper, *kvmtool(cpio, what, disk)])
    if os.environ.get("HUSK_BENCH_FIRECRACKER"):
        found[FIRECRACKER] = lambda what=None, wrapper=(), disk=None: Process(
            [*wrapper, *firecracker(work, cpio, what, disk)])
    for name in list(found):  # a warm-up; what cannot run here is left out by name
        try:
            vm = found[name]()
            vm.until_mark()
            vm.kill()
        except (RuntimeError, OSError) as e:
            notes.append(f"{name}: not measured: {e}")
            del found[name]
    return found


# ---- launch


def write_to_free_memory():
    """What the last guest gave back may be code that an emulator has translated, in a nested run: whoever writes to
    it next pays for the end of each translation. 77 ms were seen for 2 MiB, of a launch of 500; no processor does
    that."""
    with open("/proc/meminfo") as f:
        free = next(int(line.split()[1]) << 10 for line in f if line.startswith("MemFree:"))
    size = min(free * 7 // 8, 4 << 30) & ~(Reserve.HUGE - 1)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


def to_mark(start):
    write_to_free_memory()
    begin = time.monotonic()
    vm = start()
    vm.until_mark()
    ms = (time.monotonic() - begin) * 1000
    vm.kill()
    return ms


def to_exit(start):
    write_to_free_memory()
    begin = time.monotonic()
    vm = start("off")
    vm.until_gone()
    return (time.monotonic() - begin) * 1000


def bench_launch(work, runs):
    notes = [f"kernel {KERNEL}; {MIB} MiB, one CPU; the same initramfs. husk-vmm's machine has a vsock and a random number "
             "generator and 24 slots, those of the others no device; its guest is ready when it has connected to the host, "
             "the others' before, when its user space wrote a byte to the serial port."]
    found = vmms(work, notes)
    ready, whole = {n: [] for n in found}, {n: [] for n in found}
    for _ in range(max(runs, 10)):
        for name, start in found.items():
            ready[name].append(to_mark(start))
        for name, start in found.items():
            whole[name].append(to_exit(start))
    rows, goals = [], []
    if HUSK_KVM not in found:
        return rows, goals, notes
    for title, times in (("launch to ready", ready), ("launch to exit, the guest resets", whole)):
        base = median(times[HUSK_KVM])
        for name, v in times.items():
            rows.append((f"{title}: {name}", v, "ms", f"husk-vmm: {base / median(v):.2f} ×"))
    for name, bound in ((QEMU_KVM, 0.6), (LKVM, 0.8), (FIRECRACKER, 1.0)):
        if name in found:
            goals.append((f"launch to ready <= {bound} × {name}", median(ready[HUSK_KVM]) / median(ready[name]), bound, "×", "<="))
    return rows, goals, notes


# ---- exits


class Debugfs:
    """KVM's own counters of each VM; mounted where nobody else sees it if it is not there."""

    def __enter__(self):
        self.own, self.path = None, "/sys/kernel/debug/kvm"
        if not os.path.isdir(self.path):
            self.own = tempfile.mkdtemp(prefix="husk-bench-debugfs.")
            if subprocess.run(["mount", "-t", "debugfs", "none", self.own]).returncode == 0:
                self.path = os.path.join(self.own, "kvm")
        return self

    def __exit__(self, *_):
        if self.own:
            subprocess.run(["umount", self.own], stderr=subprocess.DEVNULL)
            os.rmdir(self.own)

    def exits(self, pid):
        for path in glob.glob(f"{self.path}/{pid}-*/exits"):
            try:
                with open(path) as f:
                    return int(f.read())
            except PermissionError:  # a kernel that is locked down
                return None
        return None


def traced_exits(start, work):
    """Exits in all, and to user space, from the start to the guest's reset, by the kernel's tracepoints; None if perf
    cannot."""
    out = os.path.join(work.dir, "perf.out")
    if not shutil.which("perf"):
        return None
    vm = start("off", wrapper=("perf", "stat", "-x,", "-o", out, "-e", "kvm:kvm_exit,kvm:kvm_userspace_exit", "--"))
    vm.until_gone()
    with open(out) as f:
        found = re.findall(r"^(\d+),", f.read(), re.M)
    return [int(n) for n in found] if len(found) == 2 else None


def bench_exits(work, runs):
    notes = []
    found = vmms(work, notes)
    rows, goals = [], []
    everything, to_user, traced = ({n: [] for n in found} for _ in range(3))
    own = []
    with Debugfs() as debugfs:
        for _ in range(max(3, runs // 3)):
            for name, start in found.items():
                vm = start()
                vm.until_mark()
                n = debugfs.exits(vm.pid)
                if n is not None:
                    everything[name].append(n)
                if name == HUSK_KVM:
                    own.append(vm.boot.call("stats")["exits_ready"]["total"])
                vm.kill()
                both = traced_exits(start, work)
                if both:
                    traced[name].append(both[0])
                    to_user[name].append(both[1])
    if own:
        rows.append(("exits to user space until the agent is ready: husk-vmm's own count", own, "", ""))
        goals.append(("exits to user space until ready <= 150", median(own), 150, "", "<="))
    for title, counts in (("exits in all until ready (KVM's counters)", everything),
                          ("exits in all, launch to reset (traced)", traced),
                          ("exits to user space, launch to reset (traced)", to_user)):
        rows += [(f"{title}: {n}", v, "", "") for n, v in counts.items() if any(v)]
        if not any(any(v) for v in counts.values()):
            notes.append(f"{title}: this kernel does not tell")
    counts = everything if everything.get(HUSK_KVM) else traced
    if counts.get(HUSK_KVM) and counts.get(QEMU_KVM) and median(counts[QEMU_KVM]):
        goals.append(("exits in all <= 0.5 × QEMU microvm", median(counts[HUSK_KVM]) / median(counts[QEMU_KVM]),
                      0.5, "×", "<="))
    return rows, goals, notes


# ---- memory, creation, idle


def tree(pid):
    pids = [pid]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        with open(path) as f:
            for kid in f.read().split():
                pids += tree(int(kid))
    return pids


def pss_kib(pids, guest_memory):
    """Proportional set size, without what is guest memory."""
    total = 0
    for pid in pids:
        skip = False
        with open(f"/proc/{pid}/smaps") as f:
            for line in f:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    skip = bool(re.search(guest_memory, line))
                elif line.startswith("Pss:") and not skip:
                    total += int(line.split()[1])
    return total


# The kernel's text is mapped from its file where there are no huge pages.
GUEST_MEMORY = r"/(memfd:)?husk-guest|/vmlinux"


class Containers:
    """Idle containers on engine kvm."""

    def __init__(self, work):
        self.work, self.names = work, []
        work.set_args(["sleep", "100000"], readonly=True)

    def add(self):
        name = self.work.new_id()
        must([HUSK, "--engine", "kvm", "--kernel", KERNEL, "--root", self.work.root, "run", "--detach",
              "--bundle", self.work.bundle, name])
        self.names.append(name)

    def pids(self):
        found = []
        for name in self.names:
            with open(os.path.join(self.work.root, name, "state.json")) as f:
                state = json.load(f)
            found += tree(state["pid"]) + tree(state["vmm_pid"])
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in self.names:
            must(self.work.husk("delete", "--force", name))
        self.work.set_args(["true"])


def cpu_ns(pids):
    """Processor time of each thread."""
    threads = {}
    for path in (p for pid in pids for p in glob.glob(f"/proc/{pid}/task/*/schedstat")):
        with open(path) as f:
            threads[path] = int(f.read().split()[0])
    return threads


IDLE_S = 20
SETTLE_S = 10  # until the guest's kernel has nothing left to do of its start


def idle_percent(pids):
    """Of one processor: all threads, and those that are no vCPU. There is one vCPU, and it uses most."""
    before, begin = cpu_ns(pids), time.monotonic()
    time.sleep(IDLE_S)
    after, s = cpu_ns(pids), time.monotonic() - begin
    used = sorted(after[t] - before.get(t, 0) for t in after)
    return sum(used) / s / 1e7, sum(used[:-1]) / s / 1e7


def bench_footprint(work, runs):
    count = int(os.environ.get("HUSK_BENCH_VMS") or 50)
    totals = {}
    with Containers(work) as c:
        for n in range(1, count + 1):
            c.add()
            if n in (1, 2, count):
                totals[n] = pss_kib(c.pids(), GUEST_MEMORY) / 1024
            if n == 1:
                time.sleep(SETTLE_S)
                idle = idle_percent(c.pids())
    first, more = totals[1], (totals[count] - totals[1]) / (count - 1)
    rows = [("PSS of husk-vmm and proxy, idle container", [first], "MiB", "without guest memory"),
            ("the second one's share", [totals[2] - first], "MiB", "what both together have more"),
            (f"each further one's share, of {count}", [more], "MiB", ""),
            ("CPU of an idle container", [idle[0]], "%", f"of one processor, all threads, over {IDLE_S} s"),
            ("the same without its vCPU", [idle[1]], "%", "what is not the guest's own timers")]
    goals = [("PSS, idle container <= 3 MiB", first, 3, "MiB", "<="),
             ("each further one <= 2 MiB", more, 2, "MiB", "<="),
             ("CPU, idle container <= 0.1 %", idle[0], 0.1, "%", "<=")]
    return rows, goals, []


def creation_ms(files):
    """Processor time of the thread that makes the machine, from its exec until the vCPUs run."""
    vm = HuskVmm(files)
    vm.started()
    with open(f"/proc/{vm.pid}/task/{vm.pid}/schedstat") as f:
        ms = int(f.read().split()[0]) / 1e6
    return vm, ms


def bench_check(work, runs):
    """What telling a /dev/kvm that only emulates from one that runs guests costs."""
    looks, whole = [], []
    for _ in range(max(runs, 10)):
        ms, r = timed([HUSK, "--debug", "check"])
        whole.append(ms)
        looks += [float(ms) for ms in re.findall(rb"time: does /dev/kvm run guests: ([0-9.]+) ms", r.stderr)]
    return [("the look at /dev/kvm", looks, "ms", ""), ("the whole of husk check", whole, "ms", "")], \
        [("a /dev/kvm that runs no guests is known in <= 50 ms", median(looks), 50, "ms", "<=")], []


def bench_syscalls(work, runs):
    """As the build counted them (vmm/syscalls)."""
    with open(os.path.join(BUILD, "gen/syscalls.txt")) as f:
        counts = {who: int(n) for who, n in re.findall(r"^(\S.*): (\d+)$", f.read(), re.M)}
    rows = [(f"system calls allowed: {who}", [n], "", "") for who, n in counts.items()]
    goals = [(f"system calls, {who} <= {bound}", n, bound, "", "<=") for who, n in counts.items()
             for word, bound in (("vCPU", 15), ("engine kvm", 40)) if word in who]
    return rows, goals, []


class Reserve:
    """Memory that this machine has already, a share of which is set free for each VM. On a machine that is a VM
    itself its own host's page faults would be measured otherwise: 2 MiB that it gives for the first time were seen
    to cost 5 ms, where clearing them costs 0.1."""

    SHARE = 40 << 20
    HUGE = 2 << 20

    def __init__(self, shares):
        self.left = shares
        self.memory = mmap.mmap(-1, shares * self.SHARE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, len(self.memory), self.HUGE):
            self.memory[at] = 1

    def release(self):
        self.left -= 1
        self.memory.madvise(mmap.MADV_DONTNEED, self.left * self.SHARE, self.SHARE)


class Shelf:
    """Keeps descriptors of paused VMs in the queue of a socket: a child of ours would spend time on closing each of
    those that we have."""

    def __init__(self):
        self.ends = vmmctl.socket.socketpair()

    def put(self, vm):
        fds = [vm.boot.sock.fileno(), vm.lifeline, vm.log.fileno()]
        vmmctl.socket.send_fds(self.ends[0], [b"x"], fds)
        vm.free()
        vm.log.close()


def bench_creation(work, runs):
    crowd = int(os.environ.get("HUSK_BENCH_CROWD") or 200)
    files = (KERNEL, guest_initramfs(work))
    vms, times = [], []
    reserve, shelf = Reserve(crowd), Shelf()
    try:
        for _ in range(crowd):
            reserve.release()
            vm, ms = creation_ms(files)
            vms.append(vm)
            times.append(ms)
            vm.until_mark()
            vm.boot.call("pause")  # 200 idle guests' timers would be most of what there is to see
            shelf.put(vm)
    finally:
        for vm in vms:
            vm.kill()
    first, last = times[:10], times[-10:]
    rows = [("CPU of making a VM: the first ten", first, "ms", ""),
            (f"the last ten of {crowd}", last, "ms", f"{median(last) / median(first):.2f} ×")]
    return rows, [("CPU of making a VM <= 8 ms", median(times), 8, "ms", "<="),
                  (f"flat from 1 to {crowd}: the last ones <= 1.25 × the first", median(last) / median(first), 1.25, "×", "<=")], []


# ---- disks


def bench_disk(work, runs):
    notes = ["a raw file of 256 MiB in the host's page cache; the guest reads past its own (O_DIRECT)"]
    disk = os.path.join(work.dir, "disk")
    with open(disk, "wb") as f:
        for _ in range(256):
            f.write(os.urandom(1 << 20))
    figures = {}
    found = vmms(work, notes)
    found.pop(LKVM, None)  # its disks are on PCI
    for _ in range(max(3, runs // 2)):
        for name, start in found.items():
            vm = start("disk", disk=disk)
            text = vm.line()
            vm.kill()
            if text == "none":
                raise RuntimeError(f"{name}: no disk in the guest")
            for what, v in zip(("MB/s", "4 KiB reads/s"), text.split()):
                figures.setdefault((what, name), []).append(float(v))
    os.unlink(disk)
    rows = [(f"{what.replace('MB/s', 'reads of 1 MiB')}: {name}", v, "MB/s" if "MB" in what else "/s", "")
            for (what, name), v in sorted(figures.items())]
    goals = [(f"disk, {what}: >= QEMU's own virtio-blk", median(figures[what, HUSK_KVM]) / median(figures[what, QEMU_KVM]),
              1, "×", ">=") for what in ("MB/s", "4 KiB reads/s") if (what, HUSK_KVM) in figures and (what, QEMU_KVM) in figures]
    return rows, goals, notes


def is_chosen():
    return bool(re.search(r"^engine +yes +kvm ", subprocess.run([HUSK, "check"], capture_output=True, text=True).stdout, re.M))


BENCHES = {"kvm-launch": ("Engine kvm: launch", bench_launch),
           "kvm-exits": ("Engine kvm: exits", bench_exits),
           "kvm-footprint": ("Engine kvm: memory and idle CPU", bench_footprint),
           "kvm-creation": ("Engine kvm: making VMs", bench_creation),
           "kvm-syscalls": ("System calls", bench_syscalls),
           "kvm-check": ("Does /dev/kvm run guests?", bench_check),
           "kvm-disk": ("Engine kvm: disks", bench_disk),
           "kvm-net": ("Engine kvm: network", net.bench_net)}

hold_3_and_4()
