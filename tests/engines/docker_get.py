"""docker_get.py SOCKET PATH: prints what dockerd answers to GET PATH."""
import http.client
import socket
import sys


class Daemon(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(sys.argv[1])


daemon = Daemon("localhost")
daemon.request("GET", sys.argv[2])
print(daemon.getresponse().read().decode())
