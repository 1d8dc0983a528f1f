#!/usr/bin/python3
"""cri.py SOCKET VERB ...: calls of the container runtime interface, as the kubelet makes them.

    cri.py SOCK serve REQUESTS ANSWERS              any calls of cri.proto, JSON in, JSON out: a line "VERB JSON" from
                                                    one fifo, a line "ok JSON" or "error CODE: MESSAGE" to the other
    cri.py SOCK exec [-i] [-t] ID COMMAND...        a streamed exec: its output, its exit status
    cri.py SOCK attach [-i] [-t] ID                 ... of the container's first process
    cri.py SOCK port-forward POD PORT...            standard input to the ports, what they answer to the output,
                                                    until their sides close

Otherwise an error of the runtime's is one line on standard error and status 1 (255 of a stream). Bytes of the
answers are text. Streams are WebSockets (channel protocol v4: the first byte of a message says whose it is), which have no
way to say that the standard input has ended: what reads it to its end does not end.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
from urllib.parse import urlparse

import grpc
import websocket
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

TIMEOUT_S = 120
STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)


def messages():
    """The messages of cri.proto, by name."""
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", "-I", here, f"--descriptor_set_out={out.name}", "cri.proto"], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return lambda name: factory.GetPrototype(pool.FindMessageTypeByName("runtime.v1." + name))


MESSAGE = messages()


def call(sock, verb, request):
    with grpc.insecure_channel("unix:" + sock) as channel:
        method = channel.unary_unary(
            "/runtime.v1.RuntimeService/" + verb,
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=MESSAGE(verb + "Response").FromString)
        return method(json_format.ParseDict(request, MESSAGE(verb + "Request")()), timeout=TIMEOUT_S)


def to_json(answer):
    result = json_format.MessageToDict(answer, preserving_proto_field_name=True, including_default_value_fields=True)
    for field, value in answer.ListFields():
        if field.type == field.TYPE_BYTES:
            result[field.name] = value.decode(errors="replace")
    return json.dumps(result)


def error_text(error):
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else str(error)


def serve(sock, requests, answers):
    """Both fifos are opened for both directions, so that clients come and go; SIGTERM ends it."""
    with open(os.open(requests, os.O_RDWR)) as r, open(os.open(answers, os.O_RDWR), "w") as a:
        for line in r:
            verb, _, request = line.partition(" ")
            try:
                print("ok", to_json(call(sock, verb, json.loads(request))), file=a, flush=True)
            except (grpc.RpcError, json_format.Error) as error:
                print("error", error_text(error).replace("\n", " "), file=a, flush=True)


def connect(url):
    parts = urlparse(url)
    return websocket.create_connection(
        parts._replace(scheme="ws").geturl(), subprotocols=["v4.channel.k8s.io"], timeout=TIMEOUT_S)


def receive(ws):
    """A message, or nothing at the end."""
    try:
        return ws.recv()
    except (websocket.WebSocketConnectionClosedException, BrokenPipeError, ConnectionResetError):
        return b""


def send_input(ws, channel):
    """Standard input in a thread of its own, which ends with the program."""
    def run():
        while data := os.read(0, 65536):
            ws.send_binary(bytes([channel]) + data)
    threading.Thread(target=run, daemon=True).start()


def stream(ws, with_input, size=None):
    """exec and attach: returns the exit status."""
    if size:
        ws.send_binary(bytes([RESIZE]) + json.dumps({"Width": size[0], "Height": size[1]}).encode())
    if with_input:
        send_input(ws, STDIN)
    while data := receive(ws):
        channel, data = data[0], data[1:]
        if channel in (STDOUT, STDERR):
            os.write(channel, data)
        elif channel == STATUS:
            status = json.loads(data)
            if status.get("status") == "Success":
                return 0
            for cause in status.get("details", {}).get("causes", []):
                if cause.get("reason") == "ExitCode":
                    return int(cause["message"])
            print(status.get("message"), file=sys.stderr)
            return 255
    print("the stream ended without a status", file=sys.stderr)
    return 255


def forward(ws, ports):
    """Two channels a port: data and errors, each of which begins with the port's number."""
    begun, status = set(), 0
    data_in = sys.stdin.buffer.read()
    if data_in:
        for n in range(len(ports)):
            ws.send_binary(bytes([2 * n]) + data_in)
    while data := receive(ws):
        channel, data = data[0], data[1:]
        if channel not in begun:
            begun.add(channel)
            assert struct.unpack("<H", data[:2])[0] == ports[channel // 2]
            data = data[2:]
        if channel % 2 and data:
            print(data.decode(errors="replace"), file=sys.stderr)
            status = 255
        elif data:
            os.write(1, data)
    return status


def main(args):
    sock, verb, *rest = args
    with_input, tty = False, False
    while rest and rest[0] in ("-i", "-t"):
        with_input, tty = with_input or rest[0] == "-i", tty or rest[0] == "-t"
        rest.pop(0)
    if verb == "exec":
        url = call(sock, "Exec", {"container_id": rest[0], "cmd": rest[1:], "stdin": with_input, "tty": tty,
                                  "stdout": True, "stderr": not tty}).url
        return stream(connect(url), with_input, (100, 40) if tty else None)
    if verb == "attach":
        url = call(sock, "Attach", {"container_id": rest[0], "stdin": with_input, "tty": tty, "stdout": True,
                                    "stderr": not tty}).url
        return stream(connect(url), with_input, (100, 40) if tty else None)
    if verb == "port-forward":
        ports = [int(p) for p in rest[1:]]
        return forward(connect(call(sock, "PortForward", {"pod_sandbox_id": rest[0], "port": ports}).url), ports)
    assert verb == "serve", verb
    return serve(sock, *rest)


try:
    sys.exit(main(sys.argv[1:]))
except grpc.RpcError as error:
    print(error_text(error), file=sys.stderr)
    sys.exit(1)
