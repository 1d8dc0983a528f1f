"""Benchmarks of root file systems: how soon a directory is a disk, how fast that reads, how fast changes
come back. Peers in the same run: mkfs.erofs, a raw image file, virtio-fs, tar."""
import json
import os
import random
import re
import shutil
import subprocess

from common import BUILD, TOP, median, must, timed

FILES = 30000
CHANGED = 10000
READ_MIB = 192
RANDOM_READS = 4096


def make_tree(path, files=FILES):
    """Like a python or node tree: small files, many directories."""
    rng = random.Random(1)
    blob = rng.randbytes(1 << 16)
    made = 0
    while made < files:
        d = os.path.join(path, f"pkg{made // 400}", f"mod{made // 20 % 20}")
        os.makedirs(d, exist_ok=True)
        for i in range(20):
            size = min(int(rng.paretovariate(0.9) * 300), 60000)
            with open(os.path.join(d, f"file_{made + i}.py"), "wb") as f:
                f.write(blob[:size])
        made += 20


def tree_of(work):
    """A rootfs with FILES files and busybox, made once a run."""
    path = os.path.join(work.dir, "big")
    if not os.path.isdir(path):
        shutil.copytree(os.path.join(work.bundle, "rootfs"), path, symlinks=True)
        make_tree(os.path.join(path, "tree"))
        must(["make", "-s", "-C", TOP, "test-tools"])
        shutil.copy(os.path.join(BUILD, "tests", "readspeed"), os.path.join(path, "bin"))
    return path


class Bundle:
    """A bundle whose root is an overlay of `lower`, as engines make it, or a plain directory."""

    def __init__(self, work, name, lower, overlay):
        self.work, self.overlay = work, overlay
        self.dir = os.path.join(work.dir, name)
        self.rootfs = os.path.join(self.dir, "rootfs")
        os.makedirs(self.rootfs)
        shutil.copy(os.path.join(work.bundle, "config.json"), self.dir)
        if overlay:
            for d in ("upper", "work"):
                os.makedirs(os.path.join(self.dir, d))
            must(["mount", "-t", "overlay", "overlay", "-o",
                  f"lowerdir={lower},upperdir={self.dir}/upper,workdir={self.dir}/work", self.rootfs])
        else:
            must(["cp", "-a", lower + "/.", self.rootfs])

    def configure(self, args, change=lambda config: None):
        path = os.path.join(self.dir, "config.json")
        with open(path) as f:
            config = json.load(f)
        config["process"]["args"] = args
        change(config)
        with open(path, "w") as f:
            json.dump(config, f)

    def run(self):
        """stdout, and the milliseconds of each step that husk logs."""
        r = subprocess.run(self.work.husk("--debug", "run", "--bundle", self.dir, self.work.new_id()),
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        if r.returncode != 0:
            raise SystemExit(f"bench: husk run: status {r.returncode}: {r.stderr[-800:]}")
        steps = {what: float(ms) for what, ms in re.findall(r"time: (.*): ([0-9.]+) ms", r.stderr)}
        return r.stdout, steps

    def remove(self):
        if self.overlay:
            must(["umount", self.rootfs])
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- tree


def bench_tree(work, runs):
    lower = tree_of(work)
    times = {k: [] for k in ("cold: walk and build, 30,000 files", "warm: chain from the cache", "mkfs.erofs of the same tree")}
    cold, warm, mkfs = times.values()
    image = os.path.join(work.dir, "mkfs.img")
    plain, overlay = Bundle(work, "plain", lower, False), Bundle(work, "overlay", lower, True)
    try:
        for b in (plain, overlay):
            b.configure(["true"])
            b.run()
        for _ in range(runs):
            cold.append(plain.run()[1]["rootfs as disks"])
            warm.append(overlay.run()[1]["rootfs as disks"])
            ms, _ = timed(["mkfs.erofs", "--quiet", image, lower])
            mkfs.append(ms)
            os.unlink(image)
        stats = json.loads(subprocess.check_output([os.path.join(BUILD, "tests", "flatten"), lower]))
    finally:
        plain.remove()
        overlay.remove()
    per_file = (stats["tree_bytes"] - stats["name_bytes"]) / stats["members"]
    rows = [(n, v, "ms", f"{median(v) / median(mkfs):.3f} × mkfs.erofs") for n, v in times.items()]
    rows.append(("metadata per file, names not counted", [per_file], "bytes", f"{stats['members']} members"))
    return rows, [("cold attach of 30,000 files <= 150 ms", median(cold), 150, "ms", "<="),
                  ("cold attach <= 0.15 × mkfs.erofs", median(cold) / median(mkfs), 0.15, "×", "<="),
                  ("warm attach <= 5 ms", median(warm), 5, "ms", "<="),
                  ("metadata <= 150 bytes a file plus names", per_file, 150, "bytes", "<=")], []


# ---- read


def bench_read(work, runs):
    """One file, once in the tree, once in an EROFS image that is attached as it is."""
    lower = tree_of(work)
    data = os.path.join(lower, "data")
    if not os.path.exists(data):
        with open(data, "wb") as f:
            for _ in range(READ_MIB):
                f.write(os.urandom(1 << 20))
    raw = os.path.join(work.dir, "raw")
    os.makedirs(raw, exist_ok=True)
    if not os.path.exists(os.path.join(raw, "data")):
        os.link(data, os.path.join(raw, "data"))
    image = os.path.join(work.dir, "raw.erofs")
    must(["mkfs.erofs", "--quiet", image, raw])
    b = Bundle(work, "read", lower, True)
    names = ("sequential, tree", "sequential, raw image", "random 4 KiB, tree", "random 4 KiB, raw image")
    times = {n: [] for n in names}
    script = " ".join(f"readspeed {kind} {path} {n};" for _ in range(runs) for kind, n, path in (
        ("seq", READ_MIB, "/data"), ("seq", READ_MIB, "/vol/data"),
        ("rand", RANDOM_READS, "/data"), ("rand", RANDOM_READS, "/vol/data")))

    def volume(config):
        config["mounts"].append({"destination": "/vol", "type": "erofs", "source": image, "options": ["ro"]})

    try:
        b.configure(["sh", "-ec", script], volume)
        out, _ = b.run()
    finally:
        b.remove()
    for i, line in enumerate(out.split()):
        times[names[i % 4]].append(float(line))
    seq = median(times[names[0]]) / median(times[names[1]])
    rand = median(times[names[2]]) / median(times[names[3]])
    rows = [(n, v, "MB/s", "O_DIRECT") for n, v in times.items()]
    return rows, [("sequential read >= 0.9 × raw image", seq, 0.9, "×", ">="),
                  ("random 4 KiB read >= 0.8 × raw image", rand, 0.8, "×", ">=")], []


# ---- find


def bench_find(work, runs):
    """13,200 files of the tree: virtiofsd holds a descriptor for each, and here it gets 20,000."""
    lower = tree_of(work)
    b = Bundle(work, "find", lower, True)
    times = {"on the tree's disk": [], "over virtio-fs": []}
    # caches of names and inodes are dropped before each: both are read anew
    script = "".join(
        f"echo 2 >/proc/sys/vm/drop_caches; t=$(readspeed clock); find {where}/pkg[1-3]* -xdev -exec stat -c %s {{}} + >/dev/null;"
        "echo $(($(readspeed clock) - t));" for _ in range(max(3, runs // 3)) for where in ("/tree", "/shared/tree"))

    def share(config):
        config["mounts"].append({"destination": "/shared", "type": "bind", "source": lower, "options": ["rbind", "ro"]})
        config["linux"]["readonlyPaths"] = []
        config["mounts"] = [dict(m, options=[o for o in m.get("options", []) if o != "ro"]) if m["destination"] == "/proc"
                            else m for m in config["mounts"]]

    try:
        b.configure(["sh", "-ec", script], share)
        out, _ = b.run()
    finally:
        b.remove()
    for i, line in enumerate(out.split()):
        times[list(times)[i % 2]].append(int(line) / 1000)
    tree, fs = (median(v) for v in times.values())
    return ([(n, v, "ms", "") for n, v in times.items()],
            [("find -exec stat <= 1.0 × virtio-fs", tree / fs, 1.0, "×", "<=")], [])


# ---- write-back


def bench_writeback(work, runs):
    lower = tree_of(work)
    times = {f"write-back of {CHANGED:,} files": [], "tar to tar of the same files on the host": []}
    back, tar = times.values()
    for i in range(max(3, runs // 3)):
        b = Bundle(work, f"back{i}", lower, True)
        copy = os.path.join(work.dir, "copy")
        os.makedirs(copy)
        try:
            b.configure(["sh", "-ec", "cd /tree; n=0; for d in pkg*; do for f in $d/*/*; do echo changed >>$f;"
                         f"n=$((n + 1)); [ $n -lt {CHANGED} ] || exit 0; done; done"])
            back.append(b.run()[1]["write-back"])
            ms, _ = timed(["sh", "-c", f"tar -C {b.dir}/upper -cf - tree | tar -C {copy} -xf -"])
            tar.append(ms)
        finally:
            b.remove()
            shutil.rmtree(copy)
    ratio = median(back) / median(tar)
    return ([(n, v, "ms", f"{median(v) / median(tar):.2f} × tar") for n, v in times.items()],
            [("write-back of 10,000 files <= 2 × tar to tar", ratio, 2, "×", "<=")], [])
