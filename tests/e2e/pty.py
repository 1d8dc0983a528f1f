"""Talks to a program on a pseudo-terminal.

    pty.py [--size COLSxROWS] [--listen SOCKET] COMMAND... < script

Without --listen the command runs on a new pty as its controlling terminal. With --listen, a Unix
socket is made for the command's --console-socket; the command must end with status 0 and send the
master of a pty, which the script then talks to. Script, a line each (arguments with Python's escapes):

    expect TEXT     wait until TEXT has come (from where the last expect ended)
    expect-re RE    the same with a regular expression
    absent TEXT     TEXT has not come until now
    send TEXT       type it
    resize C R      change the size of the terminal
    kill SIGNAL     send it to the command (SIGTERM, ...)
    run COMMAND     a shell command; must succeed. Its $PID is the command's pid
    raw / cooked    the terminal is in that mode now (waits for it)
    exit STATUS     wait for the command's end
    eof             wait for the end of output

At the end the terminal's settings must be what they were. Exit status 0 when all came true.
"""

import array
import codecs
import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

BOUND = float(os.environ.get("PTY_WAIT", "30"))


class Failure(Exception):
    pass


def unescape(s):
    return codecs.escape_decode(s.encode())[0]


class Talk:
    def __init__(self, size):
        self.seen = b""
        self.at = 0
        self.ended = False
        self.size = size
        self.proc = None
        self.before = None
        self.slave = -1

    def set_size(self, cols, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def start_on_pty(self, argv):
        self.master, self.slave = os.openpty()
        self.set_size(*self.size)
        self.before = termios.tcgetattr(self.slave)
        slave = self.slave

        def child():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.proc = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, preexec_fn=child)

    def start_listening(self, path, argv):
        lsock = socket.socket(socket.AF_UNIX)
        lsock.bind(path)
        lsock.listen(1)
        lsock.settimeout(BOUND)
        # Read to its end: nothing that stays behind may hold the command's output open.
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=BOUND)
        self.seen = p.stdout
        if p.returncode != 0:
            raise Failure("%s ended with %d" % (argv, p.returncode))
        conn, _ = lsock.accept()
        _, anc, _, _ = conn.recvmsg(256, socket.CMSG_LEN(4))
        fds = array.array("i")
        fds.frombytes(anc[0][2][:4])
        self.master = fds[0]
        os.unlink(path)

    def read(self, timeout):
        if self.ended:
            return False
        r, _, _ = select.select([self.master], [], [], max(timeout, 0))
        if not r:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        self.seen += data
        return True

    def expect(self, regex):
        end = time.monotonic() + BOUND
        while True:
            m = re.compile(regex, re.S).search(self.seen, self.at)
            if m:
                self.at = m.end()
                return
            left = end - time.monotonic()
            if left <= 0 or (not self.read(left) and self.ended):
                raise Failure("%r did not come" % regex)

    def wait(self):
        end = time.monotonic() + BOUND
        while self.proc.poll() is None:
            if time.monotonic() > end:
                raise Failure("the command did not end")
            if self.ended:
                self.proc.wait(max(end - time.monotonic(), 0))
            self.read(0.05)
        # The slave stays open here for its settings: what is there has come when nothing comes.
        while self.read(0.1):
            pass
        status = self.proc.returncode
        return 128 - status if status < 0 else status

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def mode(self, raw):
        end = time.monotonic() + BOUND
        while self.is_raw() != raw:
            if time.monotonic() > end:
                raise Failure("the terminal is %s" % ("cooked" if raw else "raw"))
            self.read(0.02)

    def do(self, line):
        word, _, rest = line.partition(" ")
        if word == "expect":
            self.expect(re.escape(unescape(rest)))
        elif word == "expect-re":
            self.expect(rest.encode())
        elif word == "absent":
            if unescape(rest) in self.seen:
                raise Failure("%r came" % rest)
        elif word == "send":
            os.write(self.master, unescape(rest))
        elif word == "resize":
            self.set_size(*map(int, rest.split()))
        elif word == "kill":
            os.kill(self.proc.pid, getattr(signal, rest))
        elif word == "run":
            env = dict(os.environ, PID=str(self.proc.pid if self.proc else 0))
            if subprocess.run(["bash", "-c", rest], env=env, stdin=subprocess.DEVNULL, timeout=BOUND).returncode != 0:
                raise Failure("failed: %s" % rest)
        elif word in ("raw", "cooked"):
            self.mode(word == "raw")
        elif word == "exit":
            status = self.wait()
            if status != int(rest):
                raise Failure("exit status %d instead of %s" % (status, rest))
        elif word == "eof":
            end = time.monotonic() + BOUND
            while not self.ended:
                self.read(end - time.monotonic())
                if time.monotonic() > end:
                    raise Failure("no end of output")
        else:
            raise Failure("no such word: " + line)


def main():
    args = sys.argv[1:]
    size, listen = (80, 24), None
    while args and args[0].startswith("--"):
        if args[0] == "--size":
            size = tuple(map(int, args[1].split("x")))
        else:
            listen = args[1]
        args = args[2:]
    t = Talk(size)
    line = "start"
    try:
        if listen:
            t.start_listening(listen, args)
        else:
            t.start_on_pty(args)
        for line in sys.stdin.read().splitlines():
            if line.strip() and not line.startswith("#"):
                t.do(line)
        if t.before is not None and t.proc.poll() is not None:
            line = "settings of the terminal"
            if termios.tcgetattr(t.slave) != t.before:
                raise Failure("changed")
        return 0
    except (Failure, OSError, subprocess.SubprocessError) as e:
        print("pty.py: at '%s': %s\n--- output until then:\n%r" % (line, e, t.seen))
        return 1
    finally:
        if t.proc and t.proc.poll() is None:
            t.proc.kill()
            t.proc.wait()


if __name__ == "__main__":
    sys.exit(main())
