"""A name server for tests: nameserver.py ADDRESS, on port 53, UDP and TCP.

Every name under `example` has the address 192.0.2.53; `many.example` has forty, from 192.0.2.1 on,
which do not fit into a datagram: asked by UDP its answer says so (TC), and is empty.
"""

import socket
import struct
import sys
import threading


def question(query):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    return labels, struct.unpack(">H", query[at + 1 : at + 3])[0], query[12 : at + 5]


def answer(query, datagram):
    labels, qtype, asked = question(query)
    known = bool(labels) and labels[-1].lower() == "example"
    addresses = []
    if known and qtype == 1:
        addresses = range(1, 41) if labels[0] == "many" else [53]
    truncated = datagram and len(addresses) > 20
    if truncated:
        addresses = []
    flags = 0x8180 | (0x0200 if truncated else 0) | (0 if known else 3)
    head = query[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4)
    return head + asked + b"".join(record + bytes([192, 0, 2, n]) for n in addresses)


def serve_udp(sock):
    while True:
        query, peer = sock.recvfrom(4096)
        sock.sendto(answer(query, True), peer)


def serve_one(conn):
    with conn, conn.makefile("rb") as stream:
        while len(head := stream.read(2)) == 2:
            out = answer(stream.read(struct.unpack(">H", head)[0]), False)
            conn.sendall(struct.pack(">H", len(out)) + out)


def main():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((sys.argv[1], 53))
    tcp = socket.create_server((sys.argv[1], 53))
    print("ready", flush=True)
    threading.Thread(target=serve_udp, args=(udp,), daemon=True).start()
    while True:
        threading.Thread(target=serve_one, args=(tcp.accept()[0],), daemon=True).start()


main()
