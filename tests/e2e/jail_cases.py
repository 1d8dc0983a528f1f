"""What jail.bats tries: jail_cases.py CASE DIRECTORY.

Items are those of tests/jail/captive.c: a husk-vmm that makes one system call when its jail has just
been closed, as code of an attacker would.
"""

import os
import re
import sys

from vmmctl import ROOT, Vmm

CAPTIVE = os.path.join(ROOT, "build/tests/husk-vmm-captive")
KERNEL = os.environ.get("HUSK_KERNEL") or os.path.join(ROOT, "build/vmlinux")
INITRAMFS = os.environ.get("HUSK_INITRAMFS") or os.path.join(ROOT, "build/initramfs.cpio")

DENIED = "denied"
KILLED = "killed"

# Not allowed, and answered with an error instead of death, because glibc asks and does without.
TOLERATED = {"clone3": "ENOSYS", "signal-handler": "EPERM"}
# No call of this machine's interface: no number that a handler could name.
FOREIGN = {"32-bit": KILLED, "x32": KILLED}
# On the list of the process, not on every thread's. What they return shows that they were made.
LISTED = {
    "accept": "EINVAL",
    "socketpair": "success",
    "receive": "EBADF",
    "disk": "EBADF",
    "write": "EBADF",
    "run-vcpu": "EBADF",
    "thread": DENIED,
}
OF_THREAD = {
    "vcpu": {"write", "run-vcpu"},
    "disk": {"write", "disk", "receive"},
    "net": {"write", "disk"},
}
EVERYWHERE = ["open-root", "fork", "socket-unix", "kill-init", "exec", "mmap-exec", "ioctl-new-vm", "bpf"]


def engine():
    """Where there is no KVM at all the lists of engine qemu are tried, which are longer by three."""
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "qemu"


def attempt(directory, thread, item):
    """What became of it, and the line of the log that says so."""
    path = os.path.join(directory, "log")
    os.environ["HUSK_CAPTIVE"] = f"{thread}/{item}"
    with open(path, "wb") as log:
        vm = Vmm(KERNEL, INITRAMFS, log=log, program=CAPTIVE)
        try:
            vm.send_start(engine=engine(), memory=64 << 20)
            status = vm.wait()
        finally:
            vm.close()
    with open(path, encoding="utf-8", errors="replace") as log:
        text = log.read().strip()
    if m := re.search(r"jail: thread (\w+): system call (\w+) .* is not allowed", text):
        assert status == 128 + 31, (status, text)
        assert m[1] == thread, text
        return DENIED, m[2]
    if m := re.search(r"captive: (\S+): (.*)", text):
        assert m[1] == item, text
        return m[2], ""
    return (KILLED if status == -31 else f"status {status}"), text


def items():
    with open(os.path.join(ROOT, "tests/jail/captive.c"), encoding="utf-8") as f:
        return re.findall(r'{"([^"]+)",\s*SYS_(\w+),', f.read(), re.M)


def check(directory, thread, item, number, wanted):
    got, name = attempt(directory, thread, item)
    if got == wanted and (got != DENIED or name == number):
        return []
    return [f"{thread}/{item}: wanted {wanted} of {number}, got {got} {name}"]


def nothing_of_the_host_is_reachable(directory):
    wrong = []
    for item, number in items():
        wanted = TOLERATED.get(item) or LISTED.get(item) or DENIED
        if engine() == "qemu" and item in ("wait", "tgkill", "run-vcpu"):
            continue
        wrong += check(directory, "loop", item, number, wanted)
    for item, wanted in FOREIGN.items():
        wrong += check(directory, "loop", item, "", wanted)
    assert not wrong, "\n".join(wrong)


def libc_is_heard(directory):
    """It notices that its heap was written over, and gives up."""
    for thread in ("loop", "disk"):
        got, name = attempt(directory, thread, "heap")
        assert (got, name) == (DENIED, "writev"), (got, name)
        with open(os.path.join(directory, "log"), encoding="utf-8") as f:
            assert f"jail: thread {thread}: libc: free(): invalid pointer\n" in f.read()


def threads_have_less(directory):
    wrong = []
    numbers = dict(items())
    for thread, listed in OF_THREAD.items():
        for item in list(LISTED) + EVERYWHERE:
            wanted = LISTED[item] if item in listed else DENIED
            wrong += check(directory, thread, item, numbers[item], wanted)
    assert not wrong, "\n".join(wrong)


# ---- what the host sees of a process in its jail: jail_cases.py seen PID KIND


def field(pid, name):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return re.search(rf"^{name}:[ \t]*(.*)$", f.read(), re.M)[1]


def seen(pid, kind):
    own_uid = kind != "opener"
    uids = set(field(pid, "Uid").split() + field(pid, "Gid").split())
    assert len(uids) == 1, uids
    assert own_uid == (int(uids.pop()) >= 1879048192 or uid_is_nobody(pid)), field(pid, "Uid")
    assert field(pid, "Groups") == "", field(pid, "Groups")
    caps = {n: int(field(pid, n), 16) for n in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    allowed = 0 if own_uid else 1 << 2  # CAP_DAC_READ_SEARCH
    assert all(c & ~allowed == 0 for c in caps.values()), caps
    assert field(pid, "NoNewPrivs") == "1"
    assert field(pid, "Seccomp") == "2"
    for ns in ("mnt", "net", "ipc", "uts", "cgroup", "pid"):
        mine, its = (os.readlink(f"/proc/{p}/ns/{ns}") for p in ("self", pid))
        assert mine != its, f"{ns} is the host's"
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
        mounts = f.read().splitlines()
    assert len(mounts) == 1 and " / / ro," in mounts[0] and " - tmpfs " in mounts[0], mounts
    assert os.listdir(f"/proc/{pid}/root/") == []
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0  # not dumpable: root's
    with open(f"/proc/{pid}/limits", encoding="utf-8") as f:
        limits = f.read()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M), limits
    if own_uid:  # as large as its scratch disk
        assert re.search(r"^Max file size +(\d+) +\1 ", limits, re.M), limits
    with open(f"/proc/{pid}/net/dev", encoding="utf-8") as f:
        assert [line.split(":")[0].strip() for line in f.read().splitlines()[2:]] == ["lo"]
    check_fds(pid, kind)


def uid_is_nobody(pid):
    return field(pid, "Uid").split()[0] == "65534"


def check_fds(pid, kind):
    """Nothing that leads into the host's file systems, but what the disks are made of."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            to = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if kind == "opener":
            assert fd in ("0", "2"), (fd, to)
        elif os.path.isdir(f"/proc/{pid}/fd/{fd}"):
            # The root file system of the container, for the opener: openat is not to be had. It
            # is in a mount of its own: nothing can be written, and no device opened.
            assert sorted(os.listdir(f"/proc/{pid}/fd/{fd}")) == sorted(os.listdir(os.environ["ROOTFS"])), to
            flags = os.statvfs(f"/proc/{pid}/fd/{fd}").f_flag
            assert flags & os.ST_RDONLY and flags & os.ST_NODEV, (fd, to, flags)
        else:
            assert to != "/dev/kvm", fd


if __name__ == "__main__":
    if sys.argv[1] == "seen":
        seen(int(sys.argv[2]), sys.argv[3])
    else:
        globals()[sys.argv[1]](sys.argv[2])
