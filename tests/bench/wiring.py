"""What one link of a network namespace costs a container's start.

The same container is started in a namespace with a veth that is up, and in one without, in turns. The
difference is all that the link costs, guest included; the log tells the parts.
"""
import json
import os
import re
import subprocess

from common import median, must


class Namespace:
    """One that ends with its process; `setup` are commands that run in it."""

    def __init__(self, *setup):
        script = " && ".join((*setup, "echo made", "exec sleep infinity"))
        self.p = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE,
                                  text=True)
        if self.p.stdout.readline() != "made\n":
            raise SystemExit("bench: no network namespace could be made")
        self.path = f"/proc/{self.p.pid}/ns/net"

    def end(self):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()


def bundle_in(work, name, namespace):
    """A copy of the bundle in that namespace. The root is shared and stays as it is."""
    with open(os.path.join(work.bundle, "config.json")) as f:
        config = json.load(f)
    config["root"] = {"path": os.path.join(work.bundle, "rootfs"), "readonly": True}
    for n in config["linux"]["namespaces"]:
        if n["type"] == "network":
            n["path"] = namespace.path
    path = os.path.join(work.dir, name)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(config, f)
    return path


def started(work, bundle, *options):
    """Milliseconds of `husk start`."""
    name = work.new_id()
    try:
        must(work.husk("create", "--bundle", bundle, name))
        return must(work.husk(*options, "start", name))
    finally:
        must(work.husk("delete", "--force", name))


def parts(work, bundle):
    """The log's times of one start: all of the wiring, and the guest's part of it."""
    log = os.path.join(work.dir, "log")
    started(work, bundle, "--debug", "--log", log)
    with open(log) as f:
        text = f.read()
    os.unlink(log)
    return [float(re.search(rf"time: {name}: ([0-9.]+) ms", text)[1])
            for name in ("network", "network, in the guest")]


def bench_wiring(work, runs):
    far = Namespace("ip link set lo up")
    ways = {"husk start, no link": Namespace("ip link set lo up"),
            "husk start, one veth": Namespace("ip link set lo up",
                                              f"ip link add eth0 type veth peer name far netns {far.p.pid}",
                                              f"nsenter -t {far.p.pid} -n ip link set far up",
                                              "ip addr add 10.77.0.2/24 dev eth0", "ip link set eth0 up",
                                              "ip route add default via 10.77.0.1")}
    try:
        bundles = {n: bundle_in(work, f"bundle-{i}", ns) for i, (n, ns) in enumerate(ways.items())}
        times = {n: [] for n in ways}
        for _ in range(max(runs, 10)):
            for n in ways:
                times[n].append(started(work, bundles[n]))
        both = [parts(work, bundles["husk start, one veth"]) for _ in range(max(runs, 10))]
    finally:
        for ns in (far, *ways.values()):
            ns.end()
    without, with_ = times.values()
    rows = [(n, v, "ms", "") for n, v in times.items()]
    rows.append(("of that, by the log: host's part", [a - b for a, b in both], "ms", "dump, TAP, tc, card"))
    rows.append(("of that, by the log: in the guest", [b for _, b in both], "ms", "driver's probe, addresses, routes"))
    goals = [("wiring of one link <= 10 ms, the difference", median(with_) - median(without), 10, "ms", "<="),
             ("wiring of one link <= 10 ms, the host's part", median([a - b for a, b in both]), 10, "ms", "<=")]
    return rows, goals, []
