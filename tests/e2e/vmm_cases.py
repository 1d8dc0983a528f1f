"""The cases of vmm.bats: each function drives one husk-vmm of its own through its sockets.

    vmm_cases.py CASE DIRECTORY     (an empty directory for sockets, images and the initramfs)
"""

import hashlib
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

from vmmctl import ENGINE, PATIENCE, ROOT, Client, Refused, Vmm, kernel, kernel_has

TIMEOUT = PATIENCE
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
KVM = ENGINE == "kvm"
# A disk that comes later is found when its slot's driver is bound again, one that has gone (its size
# is 0) lets go of its slot when it is unbound. QEMU's slots keep their drivers.
INIT = """#!/busybox sh
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
/busybox mount -t devtmpfs dev /dev
exec >/dev/console 2>&1
drivers=/sys/bus/platform/drivers/virtio-mmio
probe() {
	for slot in /sys/bus/platform/devices/virtio-mmio.*; do
		[ -e $slot/driver ] || echo ${slot##*/} >$drivers/bind
	done 2>/dev/null
}
let_go() {
	for d in /sys/block/vd*; do
		read -r size <$d/size && [ "$size" = 0 ] || continue
		cd -P $d/device
		slot=${PWD%%/*}
		cd /
		echo ${slot##*/} >$drivers/unbind
	done 2>/dev/null
}
echo guest up
%s
while :; do /busybox sleep 1000; done
"""
SHOW_DISKS = """
while :; do
	%s
	for d in /sys/block/vd*; do
		read -r size <$d/size; read -r serial <$d/serial; read -r ro <$d/ro
		case $size in 0) ;; *) line="$line $serial=$size,ro=$ro" ;; esac
	done
	case $line in "$last") ;; *) echo "disks:$line" ;; esac
	last=$line line=
	/busybox usleep 20000
done
""" % ("let_go; probe" if KVM else "")
FIND_DISK = """
find_disk() {
	disk=
	until [ "$disk" ]; do
		probe
		for d in /sys/block/vd*; do
			read -r serial <$d/serial
			case $serial in $1) disk=/dev/${d##*/} ;; esac
		done
		/busybox usleep 20000
	done
}
"""
MOUNT_FS = """
/busybox mkdir /mnt
cat() { /busybox cat "$@"; }
sync() { /busybox sync; }
/busybox mount -t virtiofs husk /mnt && echo mounted
"""
COUNT = """
i=0
while :; do i=$((i + 1)); echo "count $i"; /busybox usleep 20000; done
"""
work = None


def initramfs(script="", programs=()):
    """`programs` are in the guest's root, by their last name."""
    root = os.path.join(work, "initramfs")
    for d in ("proc", "sys", "dev"):
        os.makedirs(os.path.join(root, d), exist_ok=True)
    subprocess.check_call(["cp", "/bin/busybox", *programs, root])
    with open(os.path.join(root, "init"), "w") as f:
        f.write(INIT % script)
        os.fchmod(f.fileno(), 0o755)
    names = "\n".join([".", "proc", "sys", "dev", "busybox", "init", *map(os.path.basename, programs)])
    with open(root + ".cpio", "wb") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=root,
                       stdout=out, check=True)
    return root + ".cpio"


def vmm(script="", **kw):
    return Vmm(kw.pop("kernel", None) or kernel(), kw.pop("initramfs", None) or initramfs(script),
               control=os.path.join(work, "control.sock"), log=sys.stderr,
               console=kw.pop("console", True), **kw)


class Skip(Exception):
    """Not on this engine, or not on this machine; why."""


def only(engine, why):
    if ENGINE != engine:
        raise Skip(why)


def slot(with_qemu, with_kvm):
    return with_kvm if KVM else with_qemu


def real_processors():
    with open("/proc/cpuinfo") as f:
        if not re.search(r"^flags.* (vmx|svm)\b", f.read(), re.M):
            raise Skip("needs KVM with hardware virtualization")


def wait_until(what, condition):
    deadline = time.monotonic() + TIMEOUT
    while not (r := condition()):
        assert time.monotonic() < deadline, f"waited too long for: {what}"
        time.sleep(0.02)
    return r


def wait_console(vm, pattern):
    return wait_until(f"{pattern!r} on the console",
                      lambda: re.search(pattern, vm.boot.call("console")["text"]))


def process_state(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def gone(pid):
    return process_state(pid) in (None, "Z", "X")


def engine_pid(vm):
    return wait_until("engine_pid", lambda: vm.boot.call("status")["engine_pid"])


def expect_refused(kind, text, call, *args, **kw):
    try:
        call(*args, **kw)
    except Refused as e:
        assert re.fullmatch(kind, e.kind) and re.search(text, str(e)), (e.kind, str(e))
    else:
        raise AssertionError(f"not refused: {args} {kw}")


def image(name, mib=1):
    path = os.path.join(work, name)
    with open(path, "wb") as f:
        f.truncate(mib << 20)
    return path


def attach(client, serial, readonly=False, path=None, **kw):
    fd = os.open(path or image(serial), os.O_RDONLY if readonly else os.O_RDWR)
    try:
        return client.call("attach-block", [fd], serial=serial, readonly=readonly, **kw)
    finally:
        os.close(fd)


class Virtiofsd:
    """A virtiofsd on a directory; .sock is connected to it."""

    def __init__(self, directory, *options):
        path = os.path.join(work, "virtiofsd.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(1)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        os.unlink(path)
        self.process = subprocess.Popen(
            [VIRTIOFSD, f"--fd={listener.fileno()}", "-f", "-o", f"source={directory}", *options],
            stdin=subprocess.DEVNULL, stdout=sys.stderr, pass_fds=[listener.fileno()])
        listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.process.kill()
        self.process.wait()


def make_tree(directory):
    path = os.path.join(work, "tree")
    subprocess.run([os.path.join(ROOT, "build/tests/flatten"), "--tree", path, directory],
                   stdout=subprocess.DEVNULL, check=True)
    return path


def attach_tree(client, serial, tree, directory):
    fds = [os.open(tree, os.O_RDONLY), os.open(directory, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        return client.call("attach-tree", fds, serial=serial)
    finally:
        for fd in fds:
            os.close(fd)


def write(path, text):
    """As an editor does: another file takes the name."""
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)


# ---- cases


def boots_and_shuts_down():
    with vmm() as vm:
        assert vm.start()["ok"] is True
        wait_console(vm, "guest up")
        st = vm.boot.call("status")
        assert (st["engine"], st["state"], st["ready"]) == (ENGINE, "running", False), st
        assert st["pid"] == vm.process.pid
        assert st["times_us"]["exec"] < st["times_us"]["machine"], st
        assert [s["readonly"] for s in st["slots"]] == slot([True, True, False, False],
                                                            [False] * 20), st
        qemu = st["engine_pid"]
        vm.boot.call("shutdown")
        assert KVM or gone(qemu), "the answer came before the end"
        assert vm.wait() == 0


def qemu_is_jailed():
    only("qemu", "QEMU's jail")
    with vmm() as vm:
        vm.start()
        qemu = engine_pid(vm)
        with open(f"/proc/{qemu}/status") as f:
            status = dict(line.rstrip("\n").split(":", 1) for line in f)
        ids = set(status["Uid"].split() + status["Gid"].split() + status["Groups"].split())
        assert len(ids) == 1 and int(ids.pop()) > 1000, status
        for caps in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[caps], 16) == 0, status
        # CAP_DAC_READ_SEARCH, CAP_SETGID, CAP_SETUID, CAP_SYS_CHROOT
        assert int(status["CapBnd"], 16) == 1 << 2 | 1 << 6 | 1 << 7 | 1 << 18, status
        assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2", status
        assert os.listdir(f"/proc/{qemu}/root/") == []
        try:
            os.mkdir(f"/proc/{qemu}/root/x")
            raise AssertionError("the root is writable")
        except OSError:
            pass
        with open(f"/proc/{int(status['PPid'])}/status") as f:
            minder = f.read()
        assert "husk-minder" in minder and "Seccomp:\t2" in minder, minder
        wait_until("an empty mount namespace",
                   lambda: open(f"/proc/{qemu}/mountinfo").read() == "")
        for ns in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{qemu}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}"), ns
        limits = open(f"/proc/{qemu}/limits").read()
        assert re.search(r"Max core file size +0 +0", limits), limits
        for path in open_files(qemu):
            assert re.match(r"(socket|pipe|anon_inode):|/memfd:|/null$|/dev/null$|/$", path) or \
                path in (os.path.realpath(kernel()), os.path.realpath(initramfs())), path
        vm.boot.call("shutdown")


def open_files(pid):
    """What a process has open, which may open and close some meanwhile."""
    for n in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield os.readlink(f"/proc/{pid}/fd/{n}")
        except FileNotFoundError:
            continue


def two_vms_have_two_uids():
    only("qemu", "QEMU's uid")
    with vmm() as a:
        a.start()
        with vmm() as b:
            b.start()
            uids = [os.stat(f"/proc/{engine_pid(v)}").st_uid for v in (a, b)]
            assert uids[0] != uids[1], uids


def disks_come_and_go():
    with vmm(SHOW_DISKS) as vm:
        vm.start()
        wait_console(vm, "guest up")
        assert attach(vm.boot, "upper")["slot"] == slot(2, 0)
        assert attach(vm.boot, "lower", readonly=True)["slot"] == slot(0, 1)
        wait_console(vm, r"disks:(?=.* lower=2048,ro=1)(?=.* upper=2048,ro=0)")
        slots = [s["serial"] for s in vm.boot.call("status")["slots"]]
        assert slots == slot(["lower", None, "upper", None], ["upper", "lower"] + [None] * 18), slots
        expect_refused("exists", "disk upper", attach, vm.boot, "upper")
        vm.boot.call("detach", serial="upper")
        expect_refused("not_found", "disk upper", vm.boot.call, "detach", serial="upper")
        wait_console(vm, r"upper=2048,ro=0(?s:.*)disks: lower=2048,ro=1\r?\n")
        attach(vm.boot, "again", path=image("again", 2))
        wait_console(vm, r"again=4096")
        names = [b["serial"] for b in vm.boot.call("stats")["blocks"]]
        assert sorted(names) == ["again", "lower"], names
        vm.boot.call("shutdown")


def what_the_guest_flushes_and_discards_reaches_the_host():
    script = FIND_DISK + '''
        find_disk disk
        /busybox dd if=/dev/zero of=$disk bs=64k seek=8 count=8 conv=notrunc,fsync 2>/dev/null
        echo flushed
        /busybox blkdiscard -o 1048576 -l 1048576 $disk && echo discarded
    '''
    path = image("disk", 4)
    with open(path, "r+b") as f:
        f.write(b"x" * (4 << 20))
        os.fsync(f.fileno())
    with vmm(script) as vm:
        vm.start()
        assert attach(vm.boot, "disk", path=path)["slot"] == slot(2, 0)
        wait_console(vm, "discarded")
        stats = vm.boot.call("stats")["blocks"][0]
        assert stats["flushes"] >= 1 and stats["discards"] >= 1 and stats["errors"] == 0, stats
        with open(path, "rb") as f:
            data = f.read()
            hole = (os.lseek(f.fileno(), 0, os.SEEK_HOLE), os.lseek(f.fileno(), 1 << 20, os.SEEK_DATA))
        assert data == b"x" * (1 << 19) + bytes(1 << 19) + bytes(1 << 20) + b"x" * (2 << 20)
        assert hole == (1 << 20, 2 << 20), hole
        vm.boot.call("shutdown")


def a_limited_disk_is_as_fast_as_its_limit():
    tries = 5
    script = FIND_DISK + "".join(f'''
        find_disk disk{n}
        /busybox dd if=$disk of=/dev/null bs=64k count=32 2>/dev/null && echo "read twice: first"
        /busybox dd if=$disk of=/dev/null bs=64k skip=32 count=32 2>/dev/null && echo "second {n}"
    ''' for n in range(tries))
    rate = {"bytes_per_s": 4 << 20, "bytes_burst": 1 << 20}
    with vmm(script) as vm:
        vm.start()
        wait_console(vm, "guest up")
        # Never faster. As fast where there is a processor to read with all the time: one of these.
        for n in range(tries):
            before = time.monotonic()
            attach(vm.boot, f"disk{n}", path=image("disk", 4), rate=rate)
            wait_console(vm, f"second {n}")
            took = time.monotonic() - before
            stats = vm.boot.call("stats")["blocks"][0]
            least = (stats["read_bytes"] - rate["bytes_burst"]) / rate["bytes_per_s"]
            assert least > 0.5 and took >= least, (took, stats)
            # A request that waits for its turn does not keep the disk from being taken away.
            vm.boot.call("detach", serial=f"disk{n}")
            if good := stats["throttled"] > 0 and stats["throttled_us"] > 1e6 * least / 2:
                break
        assert good, stats
        expect_refused("invalid", "rate: ops_per_s: -1 is not in", attach, vm.boot, "other",
                       rate={"ops_per_s": -1})
        vm.boot.call("shutdown")


def disks_may_come_before_the_guest():
    with vmm(SHOW_DISKS) as vm:
        seq = vm.send_start()
        attach(vm.boot, "early", readonly=True)
        vm.boot.answer(seq)
        wait_console(vm, r"disks: early=2048,ro=1\s")
        vm.boot.call("shutdown")


def the_guest_knows_the_time():
    with vmm("echo now $(/busybox date +%s); /busybox sleep 0.1; echo slept") as vm:
        before = int(time.time())
        vm.start()
        wait_console(vm, "slept")
        now = int(wait_console(vm, r"now (\d+)")[1])
        assert before - 1 <= now <= time.time() + 1, (before, now)
        vm.boot.call("shutdown")


def the_agent_answers():
    with Vmm(kernel(), os.path.join(ROOT, "build/initramfs.cpio"), log=sys.stderr) as vm:
        vm.start(vcpus=2)
        s = vm.boot.vsock(1024, TIMEOUT * 1000)
        vm.boot.event("ready", TIMEOUT)
        status = vm.boot.call("status")
        assert status["ready"] and status["times_us"]["ready"] > status["times_us"]["machine"]
        agent = Client(s)
        assert agent.call("hello")["version"] == 1
        stats = vm.boot.call("stats")["vsock"]
        assert stats["conns"] == 1 and stats["tx_bytes"] > 0 and stats["rx_bytes"] > 0, stats
        vm.boot.call("pause")
        seq = agent.send("hello")
        assert not select.select([s], [], [], 0.2)[0]
        vm.boot.call("resume")
        assert agent.answer(seq)["version"] == 1
        expect_refused("other|peer|not_running", "", vm.boot.vsock, 9, TIMEOUT * 1000)
        vm.boot.call("shutdown")
        assert s.recv(1) == b""
        assert vm.wait() == 0


def a_tree_is_a_disk():
    source = os.path.join(work, "source")
    os.makedirs(os.path.join(source, "dir"))
    for name in ("plain", "held", "replaced", "dir/100% \n \xe4"):
        write(os.path.join(source, name), f"first {name.encode()}")
    with open(os.path.join(source, "large"), "wb") as f:
        f.write(os.urandom(3 << 20))
    with open(os.path.join(source, "large"), "rb") as f:
        digest = hashlib.md5(f.read()).hexdigest()
    script = FIND_DISK + '''
        /busybox mkdir /mnt
        find_disk root
        /busybox mount -t erofs -o ro $disk /mnt && echo mounted
        echo "plain: $(/busybox cat /mnt/plain)"
        find_disk go
        echo "held: $(/busybox cat /mnt/held /mnt/dir/*)"
        echo "large: $(/busybox md5sum /mnt/large)"
        /busybox cat /mnt/replaced || echo "replaced: unreadable"
        echo end
    '''
    with vmm(script) as vm:
        vm.start()
        assert attach_tree(vm.boot, "root", make_tree(source), source)["slot"] == 0
        assert vm.boot.call("status")["slots"][0] == {"serial": "root", "readonly": True}
        wait_console(vm, "plain: first b'plain'")
        hold = lambda path, serial="root": vm.boot.call("hold", serial=serial, path=path)
        hold("held")
        hold("held")
        hold("dir/100%25 %0a %c3%A4")
        for path in ("dir", "not/there", "held/not/a/dir"):
            hold(path)
        for name in ("held", "replaced", "dir/100% \n \xe4"):
            write(os.path.join(source, name), "second")
        attach(vm.boot, "go")
        wait_console(vm, r"held: first b'held'first b'dir/100% \\n \\xc3\\xa4'")
        wait_console(vm, f"large: {digest}")
        wait_console(vm, "replaced: unreadable")
        expect_refused("invalid", "disk go: not made of a tree", hold, "held", serial="go")
        expect_refused("not_found", "disk other: not attached", hold, "held", serial="other")
        expect_refused("invalid", "path: ", hold, "../held")
        expect_refused("exists", "disk root", attach_tree, vm.boot, "root", source, source)
        vm.boot.call("detach", serial="root")
        expect_refused("not_found", "disk root: not attached", hold, "held")
        vm.boot.call("shutdown")


def a_tree_that_is_none_is_refused():
    source = os.path.join(work, "source")
    os.mkdir(source)
    tree = make_tree(source)
    with open(tree, "rb") as f:
        good = f.read()
    with vmm() as vm:
        vm.start()
        call = lambda *a: attach_tree(vm.boot, "root", *a)
        expect_refused("invalid|other", "disk root: ", call, source, source)
        expect_refused("invalid|other", "disk root: ", call, "/dev/null", source)
        for bad in (b"", good[:-1], b"\0" * len(good), good[:5000]):
            with open(os.path.join(work, "bad"), "wb") as f:
                f.write(bad)
            expect_refused("invalid", "disk root: ", call, os.path.join(work, "bad"), source)
        expect_refused("invalid", "0 descriptors", vm.boot.call, "attach-tree", serial="root")
        assert call(tree, source)["slot"] == 0
        vm.boot.call("shutdown")


def a_directory_is_shared_by_virtiofs():
    shared = os.path.join(work, "shared")
    os.mkdir(shared)
    with open(os.path.join(shared, "from-host"), "w") as f:
        f.write("hello guest")
    script = MOUNT_FS + '''
        cat /mnt/from-host; echo; echo -n hello host >/mnt/from-guest; sync; echo written
        until [ -e /mnt/later ]; do /busybox usleep 20000; done; echo "later: $(cat /mnt/later)"
        until [ -e /mnt/after ]; do /busybox usleep 20000; done; echo "after: $(cat /mnt/after)"
    '''
    with Virtiofsd(shared) as fs, vmm(script) as vm:
        vm.start(fs=fs.sock)
        fs.sock.close()
        wait_console(vm, "hello guest")
        wait_console(vm, "written")
        with open(os.path.join(shared, "from-guest")) as f:
            assert f.read() == "hello host"
        write(os.path.join(shared, "later"), "also this")
        wait_console(vm, "later: also this")
        vm.boot.call("pause")
        vm.boot.call("resume")
        write(os.path.join(shared, "after"), "of a pause")
        wait_console(vm, "after: of a pause")
        assert fs.process.poll() is None
        vm.boot.call("shutdown")
        assert vm.wait() == 0
        assert fs.process.wait(TIMEOUT) is not None


def a_socket_that_goes_nowhere_is_no_virtiofsd():
    for sock in (socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)):
        with sock, vmm() as vm:
            expect_refused("invalid", "fourth descriptor is no connected Unix stream socket",
                           vm.start, fs=sock)
            assert vm.wait() == 1


def the_end_of_virtiofsd_is_told():
    shared = os.path.join(work, "shared")
    os.mkdir(shared)
    with Virtiofsd(shared) as fs, vmm(MOUNT_FS) as vm:
        vm.start(fs=fs.sock)
        fs.sock.close()
        wait_console(vm, "mounted")
        fs.process.kill()
        e = vm.boot.event("ended", TIMEOUT)
        assert e["why"] == "virtiofsd has ended", e
        assert vm.wait() == 1


def slots_are_handed_out_by_kind():
    only("qemu", "disks are plugged, of any kind")
    with vmm() as vm:
        vm.start()
        assert [attach(vm.boot, s)["slot"] for s in "ab"] == [2, 3]
        expect_refused("no_room", "no free writable slot", attach, vm.boot, "c")
        assert [attach(vm.boot, s, readonly=True)["slot"] for s in "de"] == [0, 1]
        vm.boot.call("detach", serial="a")
        assert attach(vm.boot, "f", readonly=True)["slot"] == 2
        expect_refused("no_room", "no free disk slot", attach, vm.boot, "g", readonly=True)
        vm.boot.call("shutdown")


def pause_stops_the_guest():
    with vmm(COUNT) as vm:
        vm.start()
        wait_console(vm, "count 3")
        vm.boot.call("pause")
        vm.boot.call("pause")
        assert vm.boot.call("status")["state"] == "paused"
        before = vm.boot.call("console")["text"]
        time.sleep(0.3)  # nothing may happen: there is no event to wait for
        assert vm.boot.call("console")["text"] == before
        vm.boot.call("resume")
        assert vm.boot.call("status")["state"] == "running"
        wait_until("more counting", lambda: vm.boot.call("console")["text"] != before)
        vm.boot.call("pause")
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def console_is_bounded():
    with vmm("while :; do echo 0123456789abcdef0123456789abcdef; done") as vm:
        vm.start()
        wait_until("a full console", lambda: len(vm.boot.call("console")["text"]) > 7900)
        assert len(vm.boot.call("console")["text"]) <= 8192
        vm.boot.call("shutdown")


def guest_reset_is_told():
    with vmm("echo last words; /busybox reboot -f") as vm:
        vm.start()
        e = vm.boot.event("ended", TIMEOUT)
        assert e["why"] == "guest reset", e
        assert "last words" in e["console"], e
        assert vm.wait() == 1


def guest_panic_is_told():
    with vmm("echo c >/proc/sysrq-trigger; exec /busybox false") as vm:
        vm.start()
        e = vm.boot.event("ended", TIMEOUT)
        assert e["why"].startswith("guest kernel panic: "), e
        assert vm.wait() == 1


def last_words_need_no_console():
    """Without a console nothing can be opened as one: init ends, and with it the kernel."""
    if not kernel_has("earlyprintk"):
        raise Skip("this guest kernel has no early console")
    with vmm(console=False) as vm:
        vm.start()
        e = vm.boot.event("ended", TIMEOUT)
        assert e["why"].startswith("guest kernel panic: Attempted to kill init!"), e
        assert vm.wait() == 1


def agent_without_a_root():
    """husk's own initramfs, and a file where the agent mounts its root."""
    path = os.path.join(work, "broken.cpio")
    with open(os.path.join(work, "root"), "w"), open(path, "wb") as out:
        with open(os.path.join(ROOT, "build/initramfs.cpio"), "rb") as f:
            out.write(f.read())
        out.flush()
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=b"root\n", cwd=work, stdout=out, check=True)
    return path


def the_agents_end_is_told(console=True):
    with vmm(console=console, initramfs=agent_without_a_root()) as vm:
        vm.start()
        e = vm.boot.event("ended", TIMEOUT)
        assert e["why"] == "guest agent: mount a tmpfs on /root: Not a directory", e
        assert vm.wait() == 1


def the_agents_end_is_told_without_a_console():
    if not kernel_has("earlyprintk"):
        raise Skip("this guest kernel has no early console")
    the_agents_end_is_told(console=False)


def program(code, at=0x1000000):
    """A "kernel" of a few instructions: an ELF file with one segment."""
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, at, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 4096, at, at, len(code), 65536, 4096)
    path = os.path.join(work, "program")
    with open(path, "wb") as f:
        f.write((head + segment).ljust(4096, b"\0") + code)
    return path


def a_triple_fault_is_told():
    only("kvm", "QEMU calls it a reset")
    # mov esp, 0x1008000; xor eax, eax; push rax; push rax; lidt [rsp]; ud2
    code = bytes.fromhex("bc00800001" "31c0" "50" "50" "0f011c24" "0f0b")
    with vmm(kernel=program(code)) as vm:
        vm.start()
        e = vm.boot.event("ended", TIMEOUT)
        assert e["why"].startswith("guest triple fault (vCPU 0: rip 0x"), e
        assert vm.wait() == 1


def a_reset_by_the_keyboard_controller_is_told():
    only("kvm", "QEMU's own")
    with vmm(kernel=program(bytes.fromhex("b0fe" "e664" "f4"))) as vm:
        vm.start()
        assert vm.boot.event("ended", TIMEOUT)["why"] == "guest reset"
        assert vm.wait() == 1


def eight_vcpus_run():
    real_processors()
    with vmm("echo cpus $(/busybox nproc)") as vm:
        vm.start(vcpus=8)
        wait_console(vm, "cpus 8")
        vm.boot.call("pause")
        vm.boot.call("resume")
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def memory_lies_above_the_hole():
    script = """
        read -r a total b </proc/meminfo
        echo total $((total / 1024))
        /busybox grep -i "100000000-.*System RAM" /proc/iomem
        /busybox mount -t tmpfs -o size=3800m none /dev
        /busybox dd if=/dev/zero of=/dev/x bs=1M count=64 2>/dev/null && echo filled
    """
    with vmm(script) as vm:
        vm.start(memory=4 << 30)
        assert int(wait_console(vm, r"total (\d+)")[1]) > 3900
        wait_console(vm, "(?i)100000000-13fffffff : System RAM")
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def sixteen_disks_come_and_go():
    only("kvm", "QEMU's disks are there from the start")
    # KVM without them lets interrupts nest that are not acknowledged yet (its in-service register
    # reads 0), and the kernel for it has room for 16.
    real_processors()
    nested = os.environ.get("HUSK_NESTED")  # where everything takes twenty times as long
    rounds = int(os.environ.get("HUSK_TEST_DISK_ROUNDS") or (10 if nested else 200))
    script = """
        disks() { set -- /sys/block/vd*; [ -e $1 ] && count=$# || count=0; }
        n=0
        while disks; do
            until [ $count = 16 ]; do probe; disks; done
            good=0
            for d in /sys/block/vd*; do
                read -r serial <$d/serial
                read -r text </dev/${d##*/}
                [ "$text" = "$serial-$n" ] && good=$((good + 1))
            done
            echo round $n: $good
            until [ $count = 0 ]; do let_go; disks; done
            echo released $n
            n=$((n + 1))
        done
    """
    with vmm(script) as vm:
        vm.start()
        wait_console(vm, "guest up")
        names = [f"disk{i}" for i in range(16)]
        for n in range(rounds):
            for name in names:
                path = os.path.join(work, name)
                with open(path, "wb") as f:
                    f.write(f"{name}-{n}\n".encode().ljust(4096, b"\0"))
                attach(vm.boot, name, path=path, readonly=name < "disk2")
            if n == 0:
                expect_refused("no_room", "no free disk slot", attach, vm.boot, "other")
            wait_console(vm, f"round {n}: 16\\s")
            for name in names:
                vm.boot.call("detach", serial=name)
            wait_console(vm, f"released {n}\\s")
        assert vm.boot.call("stats")["blocks"] == []
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def every_slot_can_have_a_device():
    """16 disks, 4 cards and a console besides vsock and random numbers are all the slots that there are."""
    only("qemu", "slots are filled when they are needed")
    script = """
        until [ "$(/busybox cat /sys/block/vd?/size | /busybox grep -cv '^0$')" = 16 ]; do /busybox usleep 20000; done
        good=0
        for d in /sys/block/vd?; do
            read -r serial <$d/serial
            read -r text </dev/${d##*/}
            [ "$text" = "$serial" ] && good=$((good + 1))
        done
        set -- /sys/class/net/eth*
        echo good $good cards $#
        /busybox dd if=/dev/hwrng bs=16 count=1 2>/dev/null | /busybox wc -c
    """
    with vmm(script) as vm:
        expect_refused("invalid", "nics: 5 with 16 disks and a console", vm.start,
                       readonly_disks=8, writable_disks=8, nics=5)
        vm.start(readonly_disks=8, writable_disks=8, nics=4)
        for i in range(16):
            path = os.path.join(work, f"disk{i}")
            with open(path, "wb") as f:
                f.write(f"disk{i}\n".encode().ljust(4096, b"\0"))
            attach(vm.boot, f"disk{i}", path=path, readonly=i % 2 == 0)
        wait_console(vm, r"good 16 cards 4\s+16\s")
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def exits_are_counted():
    only("kvm", "QEMU's vCPUs are its own")
    with Vmm(kernel(), os.path.join(ROOT, "build/initramfs.cpio"), log=sys.stderr) as vm:
        vm.start(late_devices=True)
        vm.boot.event("ready", TIMEOUT)
        stats = vm.boot.call("stats")
        ready = stats["exits_ready"]
        assert ready["total"] == sum(v for k, v in ready.items() if k != "total"), ready
        assert 0 < ready["mmio_read"] + ready["mmio_write"] <= 20, ready  # the vsock's alone
        assert ready["total"] <= 150, ready
        assert stats["exits"]["total"] >= ready["total"], stats
        # The agent asks for the late devices.
        vm.boot.call("balloon", target_bytes=32 << 20)
        wait_until("a full balloon", lambda: vm.boot.call("stats")["balloon"]["actual_bytes"] == 32 << 20)
        vm.boot.call("shutdown")


def guest_memory(vm):
    """Bytes of guest memory that the host has given out: blocks of its file."""
    pid = vm.process.pid
    for n in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{n}"
        try:
            if re.match("/(memfd:)?husk-guest ", os.readlink(path)):
                return os.stat(path).st_blocks * 512
        except FileNotFoundError:  # closed meanwhile
            continue
    raise AssertionError("no guest memory")


def freed_memory_goes_back_to_the_host():
    only("kvm", "QEMU's machine has no balloon")
    script = FIND_DISK + """
        /busybox mkdir /mnt
        /busybox mount -t tmpfs -o size=100% none /mnt
        /busybox dd if=/dev/zero of=/mnt/x bs=1M count=160 2>/dev/null && echo filled
        find_disk go
        /busybox rm /mnt/x; echo freed
    """
    with vmm(script) as vm:
        vm.start(memory=256 << 20)
        wait_console(vm, "filled")
        full = guest_memory(vm)
        assert full > 160 << 20, full
        attach(vm.boot, "go")
        wait_console(vm, "freed")
        # Linux reports what is free two seconds later.
        wait_until("memory to come back", lambda: guest_memory(vm) < full - (150 << 20))
        # It is counted when it is done.
        wait_until("its count", lambda: vm.boot.call("stats")["balloon"]["reported_bytes"] > 150 << 20)
        stats = vm.boot.call("stats")["balloon"]
        assert stats["target_bytes"] == stats["actual_bytes"] == 0, stats
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def a_balloon_takes_memory_and_gives_it_back():
    only("kvm", "QEMU's machine has no balloon")
    script = """
        while :; do
            while read -r name kb unit; do
                case $name in MemFree:) free=$((kb / 1024)) ;; esac
            done </proc/meminfo
            [ "$free" = "$last" ] || echo "free=$free"
            last=$free; /busybox usleep 100000
        done
    """
    def free_mib(vm):
        return int(re.findall(r"free=(\d+)\s", vm.boot.call("console")["text"])[-1])

    def balloon(vm):
        return vm.boot.call("stats")["balloon"]["actual_bytes"]

    with vmm(script) as vm:
        vm.start(memory=256 << 20)
        wait_console(vm, r"free=\d+\s")
        before = free_mib(vm)
        vm.boot.call("balloon", target_bytes=128 << 20)
        wait_until("a full balloon", lambda: balloon(vm) == 128 << 20)
        wait_until("less free memory", lambda: free_mib(vm) < before - 120)
        assert guest_memory(vm) < 128 << 20
        vm.boot.call("balloon", target_bytes=0)
        wait_until("an empty balloon", lambda: balloon(vm) == 0)
        wait_until("free memory", lambda: free_mib(vm) > before - 64)
        expect_refused("invalid", "target_bytes: missing", vm.boot.call, "balloon")
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def a_guest_that_needs_its_memory_takes_it_from_the_balloon():
    only("kvm", "QEMU's machine has no balloon")
    script = """
        /busybox mkdir /mnt
        /busybox mount -t tmpfs -o size=100% none /mnt
        echo ready
        until [ "$full" ]; do
            while read -r name kb unit; do
                case $name in MemFree:) [ $kb -lt 50000 ] && full=1 ;; esac
            done </proc/meminfo
            /busybox usleep 50000
        done
        echo inflated
        /busybox dd if=/dev/zero of=/mnt/x bs=1M count=120 2>/dev/null && echo filled
    """
    with vmm(script) as vm:
        vm.start(memory=256 << 20)
        wait_console(vm, "ready")
        vm.boot.call("balloon", target_bytes=190 << 20)
        wait_console(vm, "inflated")
        wait_console(vm, "filled")
        assert vm.boot.call("stats")["balloon"]["actual_bytes"] < 150 << 20
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def killed_vmm_leaves_nothing():
    only("qemu", "husk-vmm has no other process")
    with vmm() as vm:
        vm.start()
        qemu = engine_pid(vm)
        vm.process.kill()
        vm.wait()
        wait_until("QEMU's end", lambda: gone(qemu))


def killed_vmm_leaves_nothing_at_any_time():
    only("qemu", "husk-vmm has no other process")
    for delay_ms in range(0, 60, 4):
        with vmm() as vm:
            vm.send_start()
            time.sleep(delay_ms / 1000)
            children = subprocess.run(["pgrep", "-P", str(vm.process.pid)], text=True,
                                      stdout=subprocess.PIPE, check=False).stdout.split()
            vm.process.kill()
            vm.wait()
            for pid in children:
                wait_until("the minder's end", lambda p=pid: gone(int(p)))


def killed_qemu_is_told():
    only("qemu", "there is no QEMU")
    with vmm() as vm:
        vm.start()
        os.kill(engine_pid(vm), signal.SIGKILL)
        e = vm.boot.event("ended", TIMEOUT)
        assert e["why"] == "qemu was killed by signal 9 (Killed)", e
        assert vm.wait() == 1


def stopped_qemu_can_be_shut_down():
    only("qemu", "there is no QEMU")
    with vmm() as vm:
        vm.start()
        qemu = engine_pid(vm)
        os.kill(qemu, signal.SIGSTOP)
        vm.boot.call("shutdown")
        assert gone(qemu)
        assert vm.wait() == 0


def lifeline_ends_all():
    with vmm() as vm:
        vm.start()
        qemu = engine_pid(vm)
        os.close(vm.lifeline)
        vm.lifeline = None
        assert vm.wait() == 0
        assert KVM or gone(qemu)


def sigterm_ends_all():
    with vmm() as vm:
        vm.start()
        qemu = engine_pid(vm)
        vm.process.send_signal(signal.SIGINT)
        vm.process.send_signal(signal.SIGTERM)
        assert vm.wait() == 0
        assert KVM or gone(qemu)


def garbage_kernel_is_explained():
    path = image("garbage")
    with open(path, "wb") as f:
        f.write(os.urandom(1 << 20))
    with vmm(kernel=path) as vm:
        expect_refused("invalid", "kernel: no ELF file", vm.start)
        assert vm.wait() == 1


def missing_qemu_is_explained():
    only("qemu", "there is no QEMU")
    with vmm() as vm:
        expect_refused("not_found", "/nowhere/qemu: not found: install Debian package qemu-system-x86",
                       vm.start, qemu="/nowhere/qemu")
        assert vm.wait() == 1
    with vmm() as vm:
        expect_refused("other", "qemu.*execve: Exec format error", vm.start, qemu=script_without_shebang())
        assert vm.wait() == 1


def script_without_shebang():
    path = os.path.join(work, "not-a-program")
    with open(path, "wb") as f:
        f.write(b"\0\1\2")
        os.fchmod(f.fileno(), 0o755)
    return path


def bad_requests_are_refused():
    with vmm() as vm:
        expect_refused("not_running", "was not started", vm.boot.call, "status")
        expect_refused("unsupported", 'engine: "xen"', vm.start, engine="xen")
        expect_refused("invalid", "memory: ", vm.start, memory=123456789)
        vm.start()
        call = vm.boot.call
        expect_refused("unsupported", 'op: "fly"', call, "fly")
        expect_refused("invalid", "serial: ", call, "detach", serial="a/b")
        expect_refused("invalid", "0 descriptors", call, "attach-block", serial="a")
        expect_refused("invalid", "readonly: not a boolean", call, "attach-block", serial="a",
                       readonly="yes")
        with open("/dev/null", "rb") as f:
            expect_refused("invalid", "1 descriptors", call, "status", [f.fileno()])
        expect_refused("invalid", "started already", vm.start)
        vm.boot.send_raw("{")
        expect_refused("invalid", "", vm.boot.answer, None)
        vm.boot.call("shutdown")


def clients_are_served_and_bounded():
    with vmm() as vm:
        vm.start()
        wait_console(vm, "guest up")
        clients = [Client.connect(vm.control) for _ in range(63)]
        for c in clients:
            assert c.call("status")["state"] == "running"
        # The boot client is the 64th; a further one waits until one leaves.
        extra = Client.connect(vm.control)
        seq = extra.send("status")
        assert not select.select([extra.sock], [], [], 0.2)[0]
        clients.pop().close()
        assert extra.answer(seq)["state"] == "running"
        # Broken framing ends a client, and no other.
        clients[0].sock.sendall(struct.pack(">I", 1 << 30))
        assert clients[0].sock.recv(1) == b""
        assert clients[1].call("status")["ok"]
        expect_refused("invalid", "started already", clients[1].call, "start",
                       [0, 0, 0], engine="qemu", qemu="/x", memory=64 << 20, vcpus=1)
        vm.boot.call("shutdown")


def a_client_that_does_not_read_blocks_nobody():
    with vmm() as vm:
        vm.start()
        deaf = Client.connect(vm.control)
        deaf.sock.setblocking(False)
        sent = 0
        try:
            while sent < 100000:
                deaf.send("status")
                sent += 1
        except BlockingIOError:
            pass
        assert sent < 100000, "unbounded"
        assert vm.boot.call("status")["ok"]
        with open(f"/proc/{vm.process.pid}/status") as f:
            rss = int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))  # guest memory is a file
        assert rss < 16384, rss
        deaf.close()
        vm.boot.call("shutdown")


def connects_wait_for_the_guest_and_no_longer():
    with vmm() as vm:
        vm.start()
        expect_refused("timeout", "", vm.boot.call, "vsock-connect", port=1024, timeout_ms=50)
        c = Client.connect(vm.control)
        for _ in range(64):
            c.send("vsock-connect", port=1024)
        # The 65th request is not read before one of them is answered.
        c.send("status")
        assert not select.select([c.sock], [], [], 0.2)[0]
        assert vm.boot.call("status")["ok"]
        c.close()
        last = vm.boot.send("vsock-connect", port=1024)
        vm.boot.call("shutdown")
        try:
            vm.boot.answer(last)
            raise AssertionError("connected to a guest that is gone")
        except Refused:
            pass
        assert vm.wait() == 0


def the_boot_client_may_leave():
    with vmm() as vm:
        vm.start()
        vm.boot.close()
        c = Client.connect(vm.control)
        assert c.call("status")["ok"]
        vm.boot = c
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def nothing_is_kept_open():
    r, w = os.pipe()
    os.set_inheritable(w, True)
    with vmm() as vm:
        vm.start()
        os.close(w)
        assert select.select([r], [], [], TIMEOUT)[0] and os.read(r, 1) == b""
        vm.boot.call("shutdown")
    os.close(r)


def main():
    global work
    name, work = sys.argv[1:]
    signal.alarm(4 * TIMEOUT)
    try:
        globals()[name]()
    except Skip as e:
        print(e)
        sys.exit(77)


if __name__ == "__main__":
    main()
