"""The cases of net.bats: each drives one husk-vmm in a network namespace of its own.

    net_cases.py CASE DIRECTORY ENGINE
"""

import ctypes
import fcntl
import hashlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time

import vmm_cases
from vmm_cases import TIMEOUT, expect_refused, vmm, wait_console, wait_until

MAC = "02:00:00:00:00:02"
PORT = 5001
# Connects again and again: each time it takes bytes to the end of them, and sends them back. (nc's -w
# bounds the transfer too, not the connect alone.)
GUEST = """
for s in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23; do echo virtio-mmio.$s; done >/slots
until [ -e /sys/class/net/eth0 ]; do
	while read -r s; do echo $s >/sys/bus/platform/drivers/virtio-mmio/bind; done </slots 2>/dev/null
	/busybox usleep 20000
done
/busybox ip link set eth0 address 02:00:00:00:00:02 mtu 1500 up
/busybox ip address add 10.99.0.2/24 dev eth0
echo configured
while :; do
	read -r carrier </sys/class/net/eth0/carrier
	case $carrier in $last) ;; *) echo "carrier $carrier" ;; esac
	last=$carrier
	/busybox usleep 20000
done &
while :; do
	/busybox nc -w 30 10.99.0.1 5001 </dev/null >/bytes 2>/dev/null && [ -s /bytes ] &&
		/busybox nc -w 30 10.99.0.1 5002 </bytes >/dev/null 2>&1
	/busybox usleep 20000
done
"""
engine = None


def own_netns():
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.check_call(["ip", "link", "set", "lo", "up"])


def tap(name="tap0"):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    flags = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))  # TUNSETIFF
    subprocess.check_call(["ip", "address", "add", "10.99.0.1/24", "dev", name])
    subprocess.check_call(["ip", "link", "set", name, "up"])
    return fd


def link(name="tap0"):
    return subprocess.run(["ip", "link", "show", name], capture_output=True, text=True).stdout


def machine():
    return vmm(GUEST, kernel=os.environ.get("HUSK_KERNEL"))


def start(vm):
    kw = {"engine": "qemu", "nics": 1} if engine == "qemu" else {"engine": "kvm", "console": True}
    vm.start(readonly_disks=0, writable_disks=0, **kw)


def attach(vm, fd, **kw):
    try:
        return vm.boot.call("attach-net", fds=[fd], **{"id": "eth0", "mac": MAC, **kw})["mac"]
    finally:
        os.close(fd)


def listen(port):
    s = socket.create_server(("", port))
    s.settimeout(TIMEOUT)
    return s


def there_and_back(size):
    """Sends bytes to the guest and takes them back: seconds of both ways."""
    data = random.Random(size).randbytes(size)
    with listen(PORT) as there, listen(PORT + 1) as back:
        c = there.accept()[0]
        begin = time.monotonic()
        c.sendall(data)
        c.close()
        c = back.accept()[0]  # the guest has it all
        there_s = time.monotonic() - begin
        begin = time.monotonic()
        got = hashlib.sha256()
        n = 0
        while n < size and (chunk := c.recv(1 << 20)):
            got.update(chunk)
            n += len(chunk)
        back_s = time.monotonic() - begin
        c.close()
    assert n == size, (n, size)
    assert got.digest() == hashlib.sha256(data).digest()
    return there_s, back_s


def nic(vm, what="stats"):
    return vm.boot.call(what)["nics"]


# ---- cases


def bytes_cross_a_tap():
    with machine() as vm:
        start(vm)
        attach(vm, tap())
        wait_console(vm, "configured")
        there_and_back(16 << 20)
        (s,) = nic(vm)
        assert s["id"] == "eth0" and s["tx_bytes"] > 16 << 20 < s["rx_bytes"], s
        # Segments are left to the other side: packets are larger than the wire's.
        assert s["rx_bytes"] / s["rx_packets"] > 1514, s
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def the_cable_goes_out_and_in():
    with machine() as vm:
        start(vm)
        attach(vm, tap())
        wait_console(vm, "carrier 1")
        assert [(n["id"], n["up"]) for n in nic(vm, "status")] == [("eth0", True)]
        vm.boot.call("net-link", id="eth0", up=False)
        wait_console(vm, "carrier 0")
        wait_until("the TAP has no carrier", lambda: "NO-CARRIER" in link())
        assert [(n["id"], n["up"]) for n in nic(vm, "status")] == [("eth0", False)]
        vm.boot.call("net-link", id="eth0", up=True)
        wait_console(vm, "carrier 0\\s+carrier 1")
        there_and_back(1 << 20)
        expect_refused("not_found", "network card eth7", vm.boot.call, "net-link", id="eth7", up=True)


def taps_come_and_go():
    with machine() as vm:
        start(vm)
        attach(vm, tap())
        wait_console(vm, "configured")
        for i in range(5):
            there_and_back(1 << 20)
            fd = tap("other")
            try:
                expect_refused("exists", "eth0: attached already", attach, vm, os.dup(fd))
            finally:
                os.close(fd)
            vm.boot.call("detach-net", id="eth0")
            assert nic(vm) == [] and link() == ""
            if engine == "kvm":  # the guest holds on to its device until it unbinds it
                break
            attach(vm, tap())
        expect_refused("not_found", "network card eth1", vm.boot.call, "detach-net", id="eth1")


def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def net_thread(pid):
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/comm") as f:
            if f.read().strip() == "net":
                return f"{pid}/task/{t}"
    return None


def a_deleted_tap_costs_nothing():
    with machine() as vm:
        start(vm)
        attach(vm, tap())
        wait_console(vm, "configured")
        there_and_back(1 << 20)
        subprocess.check_call(["ip", "link", "delete", "tap0"])
        wait_console(vm, "carrier 0")
        assert nic(vm, "status")[0]["up"] is False
        thread = net_thread(vm.process.pid)  # QEMU stops a card whose link is down
        if thread:
            before, begin = cpu(thread), time.monotonic()
            wait_until("a second", lambda: time.monotonic() - begin > 1)
            assert cpu(thread) - before < 0.2
        assert vm.process.poll() is None
        vm.boot.call("detach-net", id="eth0")


def a_limited_card_is_as_fast_as_its_limit():
    rate = {"bytes_per_s": 2 << 20, "bytes_burst": 256 << 10}
    with machine() as vm:
        start(vm)
        attach(vm, tap(), rate_tx=rate, rate_rx=rate)
        wait_console(vm, "configured")
        there, back = there_and_back(4 << 20)
        assert 1.6 < there < 10 and 1.6 < back < 10, (there, back)


def what_is_no_tap_is_refused():
    with machine() as vm:
        start(vm)
        r, w = os.pipe()
        os.close(w)
        expect_refused("invalid", "not the descriptor of a TAP", attach, vm, r)
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"plain", 0x1002))
        expect_refused("invalid", "plain: not opened with", attach, vm, fd)
        expect_refused("invalid", "mac", attach, vm, tap(), mac="01:00:00:00:00:00")
        attach(vm, tap("tap2"))


def main():
    global engine
    name, vmm_cases.work, engine = sys.argv[1:]
    signal.alarm(4 * TIMEOUT)
    own_netns()
    globals()[name]()


if __name__ == "__main__":
    main()
