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
from vmm_cases import TIMEOUT, Skip, expect_refused, initramfs, only, real_processors, vmm, wait_console, wait_until

MAC = "02:00:00:00:00:02"
PORT = 5001
# Connects again and again: each time it takes bytes to the end of them, and sends them back. (nc's -w
# bounds the transfer too, not the connect alone. Without a carrier TCP would ask less and less often.)
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
	read -r up </sys/class/net/eth0/carrier
	[ "$up" = 1 ] && /busybox nc -w 100 10.99.0.1 5001 </dev/null >/bytes 2>/dev/null && [ -s /bytes ] &&
		/busybox nc -w 100 10.99.0.1 5002 </bytes >/dev/null 2>&1
	/busybox usleep 20000
done
"""
# Serves nettest on every card, whose subnet is the last byte of its address, and does what it is sent.
TOLD = """
slots="0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23"
configure() {
	for s in $slots; do echo virtio-mmio.$s >/sys/bus/platform/drivers/virtio-mmio/bind; done 2>/dev/null
	for d in /sys/class/net/eth*; do
		read -r mac <$d/address
		n=${mac##*:}
		/busybox ip link set ${d##*/} up
		/busybox ip address add 10.99.${n#0}.2/24 dev ${d##*/}
		echo "card $mac"
	done
}
until [ -e /sys/class/net/eth%d ]; do configure >/dev/null 2>&1; /busybox usleep 20000; done
/busybox ip link set lo up
configure 2>/dev/null
/nettest serve 7 &
i=0
while :; do
	eval "$(/busybox nc -l -p 9)"
	i=$((i + 1))
	echo "done $i"
done
"""
NETTEST = os.path.join(vmm_cases.ROOT, "build/tests/nettest")
engine = None


def own_netns():
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.check_call(["ip", "link", "set", "lo", "up"])


def tap_queue(name, more=0):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    flags = 0x0002 | 0x1000 | 0x4000 | more  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))  # TUNSETIFF
    return fd


def tap(name="tap0", address="10.99.0.1/24"):
    fd = tap_queue(name)
    subprocess.check_call(["ip", "address", "add", address, "dev", name])
    subprocess.check_call(["ip", "link", "set", name, "up"])
    return fd


def link(name="tap0"):
    return subprocess.run(["ip", "link", "show", name], capture_output=True, text=True).stdout


def machine():
    return vmm(GUEST, kernel=os.environ.get("HUSK_KERNEL"))


def told(cards=1):
    """A machine whose guest serves nettest on its cards, and does what tell() says."""
    return vmm(kernel=os.environ.get("HUSK_KERNEL"), initramfs=initramfs(TOLD % (cards - 1), [NETTEST]))


def start(vm, nics=1, **kw):
    kw |= {"engine": "qemu", "nics": nics} if engine == "qemu" else {"engine": "kvm", "console": True}
    vm.start(readonly_disks=0, writable_disks=0, **kw)


def attach(vm, *fds, **kw):
    try:
        return vm.boot.call("attach-net", fds=fds, **{"id": "eth0", "mac": MAC, **kw})["mac"]
    finally:
        for fd in fds:
            os.close(fd)


def guest(n):
    return f"10.99.{n}.2"


def nettest(*args):
    r = subprocess.run([NETTEST, *map(str, args)], capture_output=True, text=True, timeout=2 * TIMEOUT)
    assert r.returncode == 0, (args, r.stderr)


def traffic(n, size=1 << 20, datagram=65000):
    nettest("tcp", guest(n), 7, size)
    nettest("udp", guest(n), 7, datagram)


def reach(n):
    """Who takes what the guest shall do; between two of them nobody is there. One that stands still has no address either."""
    try:
        return socket.create_connection((guest(n), 9), TIMEOUT)
    except OSError:
        return None


def tell(vm, number, commands, n=2):
    """The guest does it; `number`: how often it was told something, this time included."""
    with wait_until("the guest to listen", lambda: reach(n)) as s:
        s.sendall(commands.encode())
    wait_console(vm, f"done {number}\\b")


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
        wait_console(vm, "carrier 1\\s+carrier 0")
        wait_until("the TAP has no carrier", lambda: "NO-CARRIER" in link())
        assert [(n["id"], n["up"]) for n in nic(vm, "status")] == [("eth0", False)]
        vm.boot.call("net-link", id="eth0", up=True)
        wait_console(vm, "carrier 1\\s+carrier 0\\s+carrier 1")
        there_and_back(1 << 20)
        expect_refused("not_found", "network card eth7", vm.boot.call, "net-link", id="eth7", up=True)


def taps_come_and_go():
    with told() as vm:
        start(vm)
        for i in range(5):
            traffic(own_card(vm, tap_queue("tap0")))
            fd = tap_queue("other")
            try:
                expect_refused("exists", "eth0: attached already", attach, vm, os.dup(fd))
            finally:
                os.close(fd)
            vm.boot.call("detach-net", id="eth0")
            assert nic(vm) == [] and link() == ""
            if engine == "kvm":  # the guest holds on to its device until it unbinds it
                break
        expect_refused("not_found", "network card eth1", vm.boot.call, "detach-net", id="eth1")


def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def net_threads(pid):
    """Those of the cards; threads come and go meanwhile."""
    found = []
    for t in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{t}/comm") as f:
                if f.read().strip() == "net":
                    found.append(f"{pid}/task/{t}")
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def a_deleted_tap_costs_nothing():
    with machine() as vm:
        start(vm)
        attach(vm, tap())
        wait_console(vm, "configured")
        there_and_back(1 << 20)
        subprocess.check_call(["ip", "link", "delete", "tap0"])
        wait_console(vm, "carrier 0")
        assert nic(vm, "status")[0]["up"] is False
        if engine == "qemu":  # it stops a card whose link is down
            wait_until("the card's end", lambda: not net_threads(vm.process.pid))
        else:
            (thread,) = net_threads(vm.process.pid)
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
        # Never faster. As fast where nobody stands still meanwhile: one of these.
        for _ in range(3):
            there, back = there_and_back(4 << 20)
            assert there > 1.6 and back > 1.6, (there, back)
            if there < 10 and back < 10:
                break
        assert there < 10 and back < 10, (there, back)


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


def several_cards():
    count, macs = 4, set()
    with told(count) as vm:
        start(vm, nics=count)
        for i in range(count):
            mac = attach(vm, tap(f"tap{i}", f"10.99.{i}.1/24"), id=f"eth{i}", mac=f"02:00:00:00:00:0{i}")
            assert int(mac[-2:]) == i, mac
            macs.add(mac)
        assert len(macs) == count == len([n for n in nic(vm, "status") if n["mac"] in macs])
        if engine == "qemu":
            expect_refused("no_room", "no free slot", attach, vm, tap("more"), id="more")
        for mac in macs:
            wait_console(vm, f"card {mac}")
        for i in range(count):
            wait_until(f"card {i}", lambda i=i: answers(i))
            traffic(i)


def answers(n):
    try:
        socket.create_connection((guest(n), 7), 1).close()
    except OSError:
        return False
    return True


def own_card(vm, *fds, **kw):
    """One card, at 10.99.n.2: n."""
    n = int(attach(vm, *fds, **kw)[-2:])
    subprocess.check_call(["ip", "address", "add", f"10.99.{n}.1/24", "dev", "tap0"])
    subprocess.check_call(["ip", "link", "set", "tap0", "up"])
    wait_until("the guest", lambda: answers(n))
    return n


def frames_of_any_size():
    with told() as vm:
        start(vm)
        n = own_card(vm, tap_queue("tap0"))
        traffic(n)
        # 65521 is the most that a TAP can have. The host remembers the least that a way had: it comes last.
        for i, mtu in enumerate((576, 1280, 9000, 65521, 68)):
            tell(vm, i + 1, f"/busybox ip link set eth0 mtu {mtu}", n)
            subprocess.check_call(["ip", "link", "set", "tap0", "mtu", str(mtu)])
            traffic(n, *((10000, 1000) if mtu < 576 else ()))
        assert nic(vm)[0]["rx_dropped"] == 0 == nic(vm)[0]["tx_dropped"], nic(vm)


def begins_anew(vm, n, number):
    tell(vm, number, "cd -P /sys/class/net/eth0/device; s=${PWD%/*}; s=${s##*/}; cd /;"
                     "echo $s >/sys/bus/platform/drivers/virtio-mmio/unbind; configure", n)
    wait_until("the guest again", lambda: answers(n))
    traffic(n)


def a_driver_begins_anew():
    with told() as vm:
        start(vm)
        n = own_card(vm, tap_queue("tap0"))
        for i in range(3):
            begins_anew(vm, n, i + 1)


def memory(vm):
    """KiB of husk-vmm's own."""
    with open(f"/proc/{vm.process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


def a_flood_fills_no_memory():
    with told() as vm:
        start(vm)
        n = own_card(vm, tap_queue("tap0"))
        traffic(n)
        before, sent = memory(vm), nic(vm)[0]["tx_packets"]
        tell(vm, 1, f"/nettest flood 10.99.{n}.1 9999 {1000 * TIMEOUT} >/dev/null & flood=$!", n)
        nettest("flood", guest(n), 9999, 1000)  # nobody listens to either
        # where the guest is slow, what floods it leaves it no time: then it goes on alone
        wait_until("the guest's flood", lambda: nic(vm)[0]["tx_packets"] > sent + 1000)
        assert memory(vm) < before + 1024, (before, memory(vm))
        tell(vm, 2, "kill $flood", n)
        traffic(n)


def threads(vm):
    return len(net_threads(vm.process.pid))


def has_processors():
    """vCPUs that a machine can have here."""
    try:
        real_processors()
        return 2
    except Skip:
        return 1


def several_pairs_of_queues():
    only("kvm", "QEMU's cards have one pair of queues")
    with told() as vm:
        cpus, pairs = has_processors(), 4
        start(vm, vcpus=cpus)
        fds = [tap_queue("tap0", 0x0100) for _ in range(pairs)]  # IFF_MULTI_QUEUE
        n = own_card(vm, *fds, queues=pairs)
        assert threads(vm) == cpus  # Linux uses a pair for each processor
        for i in range(4):
            traffic(n)
        nettest("many", guest(n), 7, 50)
        begins_anew(vm, n, 1)
        assert threads(vm) == cpus
        vm.boot.call("net-link", id="eth0", up=False)
        vm.boot.call("net-link", id="eth0", up=True)
        traffic(n)
        vm.boot.call("pause")
        vm.boot.call("resume")
        traffic(n)
        vm.boot.call("detach-net", id="eth0")


def vhost_net_moves_the_packets():
    only("kvm", "vhost-net is for engine kvm")
    if not os.path.exists("/dev/vhost-net"):
        raise Skip("no /dev/vhost-net")
    with told() as vm:
        cpus, pairs = has_processors(), 2
        start(vm, vcpus=cpus)
        fds = [tap_queue("tap0", 0x0100) for _ in range(pairs)]
        fds += [os.open("/dev/vhost-net", os.O_RDWR | os.O_CLOEXEC) for _ in range(pairs)]
        n = own_card(vm, *fds, queues=pairs, vhost=True)
        assert threads(vm) == 0
        traffic(n, 4 << 20)
        begins_anew(vm, n, 1)
        vm.boot.call("net-link", id="eth0", up=False)
        assert not answers(n)
        vm.boot.call("net-link", id="eth0", up=True)
        wait_until("the guest again", lambda: answers(n))
        traffic(n)
        vm.boot.call("pause")
        vm.boot.call("resume")
        traffic(n)
        assert threads(vm) == 0
        tell(vm, 2, "while :; do read -r c </sys/class/net/eth0/carrier; echo carrier $c; /busybox usleep 100000; done &", n)
        wait_console(vm, "carrier 1")
        subprocess.check_call(["ip", "link", "delete", "tap0"])
        wait_console(vm, "carrier 0")
        vm.boot.call("detach-net", id="eth0")
        vm.boot.call("shutdown")
        assert vm.wait() == 0


def main():
    global engine
    name, vmm_cases.work, engine = sys.argv[1:]
    signal.alarm(4 * TIMEOUT)
    own_netns()
    try:
        globals()[name]()
    except Skip as e:
        print(e)
        sys.exit(77)


if __name__ == "__main__":
    main()
