"""What every benchmark uses: clocks, a bundle of its own, the machine's tools."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, "build")
HUSK = os.path.join(BUILD, "husk")
OUT = os.path.join(BUILD, "bench")
MEMORY_MIB = 512  # what husk gives a container without a limit


def median(values):
    return statistics.median(values)


LIMIT_S = 60  # of any one process


def timed(argv):
    """Milliseconds of a whole process, and how it ended."""
    # A file, not a pipe: what a detached container holds open would be waited for.
    with tempfile.TemporaryFile() as messages:
        begin = time.monotonic()
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=messages, timeout=LIMIT_S)
        ms = (time.monotonic() - begin) * 1000
        messages.seek(0)
        r.stderr = messages.read()
    return ms, r


def timed_until_up(argv):
    """Milliseconds from QEMU's start until its guest says "up" and QEMU has been killed and reaped."""
    begin = time.monotonic()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    guard = threading.Timer(LIMIT_S, p.kill)
    guard.start()
    seen = b""
    while b"up" not in seen:
        chunk = p.stdout.read1(4096)
        if not chunk:
            break
        seen += chunk
    p.kill()
    p.wait()
    ms = (time.monotonic() - begin) * 1000
    guard.cancel()
    status = 0 if b"up" in seen else 1
    return ms, subprocess.CompletedProcess(argv, status, stderr=seen + p.stderr.read())


def must(argv):
    ms, r = timed(argv)
    if r.returncode != 0:
        sys.exit(f"bench: {' '.join(argv)}: status {r.returncode}: {r.stderr.decode()[-500:]}")
    return ms


class Work:
    """A directory with a bundle, its own state and data, removed at the end."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="husk-bench.")
        self.root = os.path.join(self.dir, "root")
        self.bundle = os.path.join(self.dir, "bundle")
        os.environ["HUSK_DATA"] = os.path.join(self.dir, "data")
        self.serial = 0
        self.make_bundle()
        # A second one with a read-only root, as `husk spec` and `runc spec` write it.
        self.bundle_ro = self.bundle + "-ro"
        shutil.copytree(self.bundle, self.bundle_ro, symlinks=True)
        self.bundle, rw = self.bundle_ro, self.bundle
        self.set_args(["true"], readonly=True)
        self.bundle = rw

    def make_bundle(self):
        rootfs = os.path.join(self.bundle, "rootfs")
        for d in ("bin", "dev", "proc", "sys", "tmp", "etc"):
            os.makedirs(os.path.join(rootfs, d))
        shutil.copy("/bin/busybox", os.path.join(rootfs, "bin"))
        for name in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
            if name != "busybox":
                os.symlink("busybox", os.path.join(rootfs, "bin", name))
        must([HUSK, "spec", "--bundle", self.bundle])
        self.set_args(["true"])

    def set_args(self, args, readonly=False):
        path = os.path.join(self.bundle, "config.json")
        with open(path) as f:
            config = json.load(f)
        config["ociVersion"] = "1.0.2"  # all that crun 1.8 knows
        config["process"]["args"] = args
        config["process"]["terminal"] = False
        config["root"]["readonly"] = readonly
        with open(path, "w") as f:
            json.dump(config, f)

    def new_id(self):
        self.serial += 1
        return f"bench-{os.getpid()}-{self.serial}"

    def husk(self, *args):
        return [HUSK, "--root", self.root, *args]

    def remove(self):
        for name in os.listdir(self.root) if os.path.isdir(self.root) else []:
            subprocess.run(self.husk("delete", "--force", name))
        shutil.rmtree(self.dir, ignore_errors=True)
