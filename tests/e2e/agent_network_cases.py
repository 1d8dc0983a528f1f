"""The cases of agent_network.bats: each drives the agent of a guest whose cards are on TAPs of a
network namespace of the test's own, with what the host would send.

    agent_network_cases.py CASE DIRECTORY
"""

import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys

import agent_cases
from agent_cases import Container, Guest, busybox, config, image, read_all, refused, scratch, tree
from net_cases import own_netns
from vmm_cases import TIMEOUT, wait_until
from vmmctl import ENGINE

PROGRAMS = ("ip", "ping", "nc", "nslookup", "head", "tr", "grep")


class NetGuest(Guest):
    """With cards on TAPs: .nics is {link index: (TAP's name, the driver's MAC address)}."""

    def start(self, **members):
        super().start(**({"nics": 3, "readonly_disks": 1, "writable_disks": 1} if ENGINE == "qemu" else {}), **members)
        self.nics = {}

    def attach(self, index, mac, mtu=1500, address=None):
        name = f"tap{index}"
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        flags = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))  # TUNSETIFF
        ip("link", "set", name, "mtu", str(mtu), "up")
        for a in address or []:
            ip("address", "add", a, "dev", name, *(["nodad"] if ":" in a else []))
        m = self.boot.call("attach-net", [fd], id=f"n{index}", mac=mac)
        os.close(fd)
        self.nics[index] = (name, m["mac"])

    def detach(self, index):
        self.boot.call("detach-net", id=f"n{index}")
        del self.nics[index]

    def network(self, agent, links, routes=(), cards=None, **more):
        cards = self.nics if cards is None else cards
        return agent.call("network", links=list(links), routes=list(routes),
                          cards=[{"link": i, "mac": mac} for i, (_, mac) in cards.items()], **more)


def ip(*args):
    subprocess.check_call(["ip", *args])


def pings(address):
    return subprocess.run(["busybox", "ping", "-c", "1", "-W", "2", address],
                          stdout=subprocess.DEVNULL, check=False).returncode == 0


def reach(*addresses):
    """The guest has them: it may take its time to answer."""
    for a in addresses:
        wait_until(f"an answer of {a}", lambda a=a: pings(a))


def link(index, name, mac, addresses, **more):
    return {"index": index, "name": name, "kind": "veth", "mac": mac, "up": True, "addresses": addresses, **more}


def v4(n, subnet=99):
    return {"ip": f"10.{subnet}.0.{n}/24", "broadcast": f"10.{subnet}.0.255"}


def connected(index, subnet=99, n=2):
    return {"dst": f"10.{subnet}.0.0/24", "link": index, "scope": 253, "protocol": 2,
            "prefsrc": f"10.{subnet}.0.{n}"}


def shell(guest, agent=None, **more):
    """A container with a shell that does what it is told by lines."""
    top = busybox(tree("root", {}))
    for name in PROGRAMS:
        os.symlink("busybox", os.path.join(top, "bin", name))
    guest.disk("root", image("erofs", top), readonly=True)
    guest.disk("scratch", scratch())
    c = config(["sh", "-c", "while read -r l; do eval \"$l\"; s=$?; echo; echo \"=$s\"; done"],
               [{"destination": "/sys", "type": "sysfs", "source": "sysfs"}],
               ("pid", "mount", "ipc", "uts", "network"))
    for caps in c["process"]["capabilities"].values():
        caps += ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"]
    c["linux"].update(more)
    return Shell(guest, c, agent or guest.agent())


class Shell(Container):
    def __init__(self, guest, spec, agent):
        self.guest, self.id, self.a, self.spec = guest, "c", agent, spec
        m = self.a.call("create", container="c", timeout=60, config=spec,
                        root={"lower": [{"serial": "root", "type": "erofs"}], "upper": "scratch"})
        self.streams = m["streams"]

    def start(self):
        self.call("start")
        self.out = self.guest.stream(self.streams["stdout"])
        self.err = self.guest.stream(self.streams["stderr"])
        self.stdin = self.guest.stream(self.streams["stdin"])

    def until_done(self):
        lines = [self.line()]
        while not lines[-1].startswith("="):
            lines.append(self.line())
        assert lines[-1] == "=0", lines
        return "\n".join(lines[:-1]).strip()

    def run(self, line):
        """What it prints; a failure is one here."""
        self.tell(line)
        return self.until_done()

    def links(self):
        return sorted(self.run("ls /sys/class/net").split())


# ---- cases


def a_card_becomes_a_link():
    mac = "02:42:0a:63:00:02"
    with NetGuest() as g:
        a = g.agent()
        c = shell(g)
        g.attach(7, mac, address=["10.99.0.1/24", "fd99::1/64"])
        g.network(a, [link(7, "web0", mac, [v4(2), {"ip": "fd99::2/64"}, {"ip": "fe80::42/64", "scope": 253}], mtu=1400)],
                  [{"dst": "0.0.0.0/0", "gateway": "10.99.0.1", "link": 7}, connected(7),
                   {"dst": "fd99::/64", "link": 7, "protocol": 2, "priority": 256},
                   {"dst": "10.7.0.0/16", "gateway": "10.99.0.1", "link": 7, "table": 700}],
                  rules=[{"family": 2, "priority": 100, "src": "10.99.0.0/24", "table": 700}],
                  neighbours=[{"link": 7, "ip": "10.99.0.77", "mac": "02:00:00:00:00:77"}],
                  sysctls={"net/ipv4/conf/web0/rp_filter": "2", "net/ipv4/conf/web0/nosuch": "1"})
        reach("10.99.0.2", "fd99::2")
        c.start()
        assert c.links() == ["lo", "web0"], c.links()
        text = c.run("ip address show dev web0")
        assert mac in text and "mtu 1400" in text and "inet 10.99.0.2/24 brd 10.99.0.255" in text, text
        assert "inet6 fe80::42/64 scope link" in text and text.count("inet6") == 2, text
        assert "tentative" not in text, text
        assert "default via 10.99.0.1 dev web0" in c.run("ip route")
        assert "10.7.0.0/16 via 10.99.0.1" in c.run("ip route show table 700")
        assert "100:\tfrom 10.99.0.0/24 lookup 700" in c.run("ip rule")
        assert "02:00:00:00:00:77" in c.run("ip neigh show 10.99.0.77")
        assert c.run("cat /proc/sys/net/ipv4/conf/web0/rp_filter") == "2"
        assert c.run("cat /proc/sys/net/ipv4/ip_local_reserved_ports") == "61440-62463"
        with socket.create_server(("10.99.0.1", 5000)) as server:
            server.settimeout(TIMEOUT)
            c.tell("head -c 3000000 /dev/zero | nc 10.99.0.1 5000")
            assert len(read_all(server.accept()[0])) == 3000000
        c.until_done()
        # A change of one thing is that change alone: what the container did itself stays.
        c.run("ip route add 10.200.0.0/16 via 10.99.0.1")
        g.network(a, [link(7, "web0", mac, [v4(2), v4(3)], mtu=1300)],
                  [{"dst": "0.0.0.0/0", "gateway": "10.99.0.1", "link": 7}, connected(7)])
        text = c.run("ip address show dev web0")
        assert "mtu 1300" in text and "inet 10.99.0.3/24" in text and "inet6" not in text, text
        assert "10.200.0.0/16" in c.run("ip route")
        assert c.run("ip rule").count("\n") == 2
        reach("10.99.0.3")


def links_come_and_go():
    with NetGuest() as g:
        a = g.agent()
        c = shell(g)
        c.start()
        assert c.links() == ["lo"], c.links()  # spare cards are not the container's
        for _ in range(3):
            for i in (2, 3):
                g.attach(i, f"02:42:0a:63:00:0{i}", address=[f"10.{i}.0.1/24"])
            links = [link(i, f"eth{i - 2}", f"02:42:0a:63:00:0{i}", [v4(2, i)]) for i in (2, 3)]
            g.network(a, links, [connected(2, 2), connected(3, 3)])
            assert c.links() == ["eth0", "eth1", "lo"], c.links()
            reach("10.2.0.2", "10.3.0.2")
            # The cards change places, which takes nothing along.
            g.network(a, [{**links[1], "name": "eth0", "index": 9}],
                      [connected(9, 3)], cards={9: g.nics[2]})
            text = c.run("ip -4 address show dev eth0")
            assert "10.3.0.2" in text and "10.2.0.2" not in text, text
            g.network(a, links, [connected(2, 2), connected(3, 3)])
            # The first goes, the other one gets its name.
            links[1]["name"] = "eth0"
            g.network(a, links[1:], [connected(3, 3)], cards={3: g.nics[3]})
            assert c.links() == ["eth0", "lo"], c.links()
            g.detach(2)
            reach("10.3.0.2")
            g.network(a, [], cards={})
            g.detach(3)
            assert c.links() == ["lo"], c.links()


def names_are_exchanged():
    macs = {2: "02:42:0a:63:00:02", 3: "02:42:0a:63:00:03"}
    with NetGuest() as g:
        a = g.agent()
        c = shell(g)
        for i in macs:
            g.attach(i, macs[i], address=[f"10.{i}.0.1/24"])
        for names in (("eth0", "eth1"), ("eth1", "eth0"), ("a", "eth0"), ("eth0", "a")):
            g.network(a, [link(i, n, macs[i], [v4(2, i)]) for i, n in zip(macs, names)],
                      [connected(i, i) for i in macs])
            reach("10.2.0.2", "10.3.0.2")
        c.start()
        assert "10.3.0.2" in c.run("ip address show dev a")


def a_link_goes_down_and_up():
    mac = "02:42:0a:63:00:02"
    with NetGuest() as g:
        c = shell(g)
        g.attach(2, mac, address=["10.99.0.1/24", "fd99::1/64"])
        links = [link(2, "eth0", mac, [v4(2), {"ip": "fd99::2/64"}])]
        routes = [connected(2), {"dst": "0.0.0.0/0", "gateway": "10.99.0.1", "link": 2},
                  {"dst": "fd99::/64", "link": 2, "priority": 256}]
        g.network(c.a, links, routes)
        c.start()
        g.network(c.a, [{**links[0], "up": False, "addresses": [v4(2)]}], [])
        assert "default" not in c.run("ip route") and not pings("10.99.0.2")
        g.network(c.a, links, routes)
        assert "default" in c.run("ip route")
        reach("10.99.0.2", "fd99::2")


def errors_name_what_is_wrong():
    mac = "02:42:0a:63:00:02"
    with NetGuest() as g:
        a = g.agent()
        g.attach(2, mac, address=["10.99.0.1/24"])
        links = [link(2, "eth0", mac, [v4(2)])]
        refused(lambda: g.network(a, links, [connected(2), {"dst": "10.8.0.0/16", "gateway": "10.50.0.1", "link": 2}]),
                "other", "add route 10.8.0.0/16 via 10.50.0.1 dev eth0: ")
        reach("10.99.0.2")  # the rest was done
        g.network(a, links, [connected(2), {"dst": "10.8.0.0/16", "gateway": "10.99.0.1", "link": 2}])
        refused(lambda: g.network(a, links, cards={2: ("", "02:00:00:00:00:99")}), "timeout",
                "link eth0: no network card 02:00:00:00:00:99")
        # meanwhile others are served, and the next one's turn comes
        w, missing = g.agent(), [{"link": 2, "mac": "02:00:00:00:00:98"}]
        for _ in range(5):
            seq = w.send("network", links=links, routes=[], cards=missing)
            a.call("hello")
            if early := not w.answers and not select.select([w.sock], [], [], 0)[0]:
                break
            refused(lambda: w.answer(seq), "timeout", "02:00:00:00:00:98")
        assert early, "a card that never comes delays others"
        g.network(a, links, [connected(2)])
        refused(lambda: w.answer(seq), "timeout", "02:00:00:00:00:98")
        refused(lambda: g.network(a, links, sysctls={"net/ipv4/ip_forward": "1"}), "invalid", "not of an interface")
        refused(lambda: g.network(a, links, sysctls={"net/ipv4/conf/../../../kernel/x": "1"}), "invalid",
                "not of an interface")
        refused(lambda: g.network(a, links, cards={9: ("", mac)}), "invalid", "cards[0].link")
        g.network(a, links, [connected(2)])
        reach("10.99.0.2")


def sysctls_of_config_wait_for_their_interface():
    mac = "02:42:0a:63:00:02"
    with NetGuest() as g:
        c = shell(g, sysctl={"net.ipv4.conf.eth0.rp_filter": "1", "net.ipv4.ip_local_reserved_ports": "8080"})
        refused(lambda: c.call("start"), "not_found", "the container has no interface eth0")
        c.call("wait")
        c.call("delete")
        c = Shell(g, c.spec, c.a)
        g.attach(2, mac, address=["10.99.0.1/24"])
        g.network(c.a, [link(2, "eth0", mac, [v4(2)])], [connected(2)],
                  sysctls={"net/ipv4/conf/eth0/rp_filter": "2", "net/ipv4/conf/eth0/arp_ignore": "1"})
        c.start()
        assert c.run("cat /proc/sys/net/ipv4/conf/eth0/rp_filter") == "1"
        assert c.run("cat /proc/sys/net/ipv4/conf/eth0/arp_ignore") == "1"
        assert c.run("cat /proc/sys/net/ipv4/ip_local_reserved_ports") == "8080,61440-62463"


def names_are_served():
    mac = "02:42:0a:63:00:02"
    with NetGuest() as g:
        c = shell(g)
        g.attach(2, mac, address=["10.99.0.1/24"])
        g.network(c.a, [link(2, "eth0", mac, [v4(2)])], [connected(2)], resolver=True)
        stream = g.stream(c.a.call("resolver")["stream"])
        stream.settimeout(TIMEOUT)
        c.start()
        # The container may serve names itself: the port is free.
        c.run("nc -l -p 53 </dev/null >/tcp & true")
        c.run("until cat /proc/net/tcp* | grep -q :0035; do :; done")
        c.tell(f"nslookup -timeout={TIMEOUT} -retry=1 -type=a some.name 127.0.0.11")
        ident, message = question(stream, 17)
        assert b"\4some\4name\0" in message, message
        answer(stream, ident, 17, message[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + message[12:] +
               b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\x63\0\1")
        text = c.until_done()
        assert "Address: 10.99.0.1" in text, text
        c.tell(r"printf '\0\015question here' | nc 127.0.0.11 53 | tr -d '\0'")
        ident, message = question(stream, 6)
        assert message == b"question here", message
        answer(stream, ident, 6, b"an answer to it")
        assert "an answer to it" in c.until_done()
        assert c.run("cat /tcp") == ""
        # Another stream takes over; nobody is served any more when the host says so.
        other = g.stream(c.a.call("resolver")["stream"])
        other.settimeout(TIMEOUT)
        assert stream.recv(1) == b""
        c.tell(r"printf '\0\015question here' | nc 127.0.0.11 53")
        question(other, 6)
        g.network(c.a, [link(2, "eth0", mac, [v4(2)])], [connected(2)])
        c.until_done()


def question(stream, wanted):
    """The next one, which comes by that protocol."""
    head = stream.recv(8, socket.MSG_WAITALL)
    ident, protocol, zero, n = struct.unpack(">IBBH", head)
    assert (protocol, zero) == (wanted, 0), head
    return ident, stream.recv(n, socket.MSG_WAITALL)


def answer(stream, ident, protocol, message):
    stream.sendall(struct.pack(">IBBH", ident, protocol, 0, len(message)) + message)


def main(name, directory):
    agent_cases.work = directory
    signal.alarm(4 * TIMEOUT)
    if not os.access("/dev/net/tun", os.W_OK):
        print("no /dev/net/tun")
        sys.exit(77)
    own_netns()
    globals()[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
