#!/usr/bin/env python3
"""record_netlink.py DIR: what the kernel says of a network namespace that has a bit of everything.

Makes the namespace (root; it goes with this process), asks for what netns/dump.c asks, and writes the
messages of each dump to a file of DIR, one behind the other: links, nexthops, addresses, routes, rules,
neighbours, proxies; routes-by-number: those that the kernel shows when net.ipv4.nexthop_compat_mode is
0. They are the seeds of tests/fuzz/fuzz_netlink.c, and what
tests/unit/test_netns_parse.c reads; both know what is made here.
"""
import ctypes
import os
import socket
import struct
import subprocess
import sys

SETUP = """
link set lo up
link add eth0 address 02:00:00:00:00:10 type veth peer name peer0 address 02:00:00:00:00:20
link add eth1 address 02:00:00:00:00:11 mtu 1400 type veth peer name peer1 address 02:00:00:00:00:21
link set eth1 alias husk:web
link add mv0 link peer1 address 02:00:00:00:00:30 type macvlan mode bridge
link add br0 address 02:00:00:00:00:20 type bridge
link set peer0 master br0
tuntap add dev tap0 mode tap
link set tap0 address 02:00:00:00:00:40
tuntap add dev tun0 mode tun
link add vx0 address 02:00:00:00:00:50 type vxlan id 3 dstport 4789 remote 10.9.9.9
link set eth0 up
link set eth1 up
link set peer0 up
link set peer1 up
link set eth1 allmulticast on promisc on addrgenmode none
addr add 172.17.0.2/16 brd 172.17.255.255 dev eth0
addr add 10.0.0.1/24 dev eth1 label eth1:a
addr add 10.0.0.2/24 dev eth1
addr add 10.5.0.1 peer 10.6.0.0/24 dev eth1
addr add 10.7.0.1/32 dev eth1 scope link noprefixroute
addr add 10.8.0.1/24 dev eth1 valid_lft 1000 preferred_lft 500
addr add fd00::2/64 dev eth0 nodad
addr add fd00:1::2/64 dev eth0
addr add fd00:2::2 peer fd00:3::9/64 dev eth0 nodad
addr add fd00:4::2/64 dev eth0 valid_lft 1000 preferred_lft 500 noprefixroute nodad
route add default via 172.17.0.1 dev eth0
route add 192.168.0.0/16 nexthop via 172.17.0.3 dev eth0 weight 2 nexthop via 10.0.0.9 dev eth1 onlink
route add 192.169.0.0/16 via inet6 fd00::9 dev eth0
route add 1.2.3.4 dev eth0 scope link mtu lock 1300 advmss 1200 metric 77 src 172.17.0.2 table 1000
route add 1.2.3.5 via 99.0.0.1 dev eth0 onlink tos 0x10
route add blackhole 66.0.0.0/8
route append 66.0.0.0/8 dev eth0
route add unreachable 67.0.0.0/8
route add prohibit 68.0.0.0/8
route add throw 69.0.0.0/8 table 7
route add local 88.0.0.0/8 dev lo table 99
route add local 89.0.0.0/8 dev lo table local proto static
-6 route add default via fd00::1 dev eth0
-6 route add fd05::/64 nexthop via fd00::3 dev eth0 weight 3 nexthop via fd00::4 dev eth0
-6 route add blackhole fd06::/64
-6 route add unreachable fd07::/64 table 500
-6 route add default from fd00::/64 via fd00::5 dev eth0 pref high
nexthop add id 5 via 172.17.0.7 dev eth0
nexthop add id 6 via 10.0.0.7 dev eth1 onlink
nexthop add id 9 group 5,3/6,2
nexthop add id 10 blackhole
nexthop add id 11 via fd00::77 dev eth0
route add 200.0.0.0/8 nhid 5
route add 201.0.0.0/8 nhid 9
route add 202.0.0.0/8 nhid 10
-6 route add fd09::/64 nhid 11
rule add pref 100 fwmark 7/0xff table 100
rule add pref 101 iif eth0 table 300
rule add pref 102 oif eth1 to 10.0.0.0/8 table 5
rule add pref 103 uidrange 100-200 blackhole
rule add pref 104 ipproto tcp dport 80-90 sport 1000 unreachable
rule add pref 105 table main suppress_prefixlength 0
rule add pref 106 goto 108
rule add pref 107 not from 1.2.3.0/24 tos 0x10 table 9
rule add pref 108 prohibit
rule add pref 109 nop
-6 rule add pref 110 from fd00::/64 table 1000 protocol 42
neigh add 172.17.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent
neigh add 172.17.0.10 lladdr 02:00:00:00:00:0a dev eth0 nud noarp
neigh add 172.17.0.11 lladdr 02:00:00:00:00:0b dev eth0 nud stale
neigh add fd00::9 lladdr 02:00:00:00:00:09 dev eth0 router nud permanent
neigh add proxy 172.17.0.12 dev eth0
-6 neigh add proxy fd00::12 dev eth0
"""

SOL_NETLINK, GET_STRICT_CHK = 270, 12
REQUEST_DUMP = 0x1 | 0x300
SKIP_STATS = struct.pack("HHI", 8, 29, 8)  # IFLA_EXT_MASK
PROXY = struct.pack("BxxxiHBB", 0, 0, 0, 8, 0)  # struct ndmsg
DUMPS = [  # name, type of the request, its body
    ("links", 18, bytes(16) + SKIP_STATS),
    ("nexthops", 106, bytes(8)),
    ("addresses", 22, bytes(8)),
    ("routes", 26, bytes(12)),
    ("rules", 34, bytes(12)),
    ("neighbours", 30, bytes(12)),
    ("proxies", 30, PROXY),
]


def new_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) < 0:  # CLONE_NEWNET
        sys.exit("unshare: " + os.strerror(ctypes.get_errno()))


def messages(sock, kind, body):
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST_DUMP, 1, 0) + body)
    while True:
        data = sock.recv(65536)
        while data:
            size, what = struct.unpack_from("=IH", data)
            if what == 3:  # NLMSG_DONE
                return
            if what == 2:  # NLMSG_ERROR
                sys.exit("error " + str(struct.unpack_from("=i", data, 16)[0]))
            size = (size + 3) & ~3
            yield data[:size]
            data = data[size:]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    new_namespace()
    for line in SETUP.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True)
    # Before IPv6 is done with looking whether anybody has fd00:1::2.
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    sock.setsockopt(SOL_NETLINK, GET_STRICT_CHK, 1)
    sock.bind((0, 0))
    for name, kind, body in DUMPS:
        with open(os.path.join(sys.argv[1], name), "wb") as f:
            f.writelines(messages(sock, kind, body))
    with open("/proc/sys/net/ipv4/nexthop_compat_mode", "w") as f:
        f.write("0")
    with open(os.path.join(sys.argv[1], "routes-by-number"), "wb") as f:
        f.writelines(messages(sock, 26, bytes(12)))


main()
