#!/usr/bin/env python3
"""The runtime-spec's own JSON schema (Debian: golang-github-opencontainers-specs-dev).

spec_schema.py valid SCHEMA FILE      FILE is a document of that schema ("config", "state")
spec_schema.py fields HUSK BUNDLE     every field of config.json that the schema has, given a value
                                      of a wrong type, is refused by husk with its name
"""
import copy
import json
import os
import subprocess
import sys

import jsonschema

DIR = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema"
# Fields for other systems, and one that Linux's section of the specification does not have.
FOREIGN = {"solaris", "windows", "zos", "process.commandLine", "process.user.username"}
# A list's element, or a map's value, that its parser needs besides the field that is tried.
NEEDED = {
    "mounts[]": {"destination": "/x"},
    "hooks.*[]": {"path": "/x"},
    "process.rlimits[]": {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    "process.scheduler": {"policy": "SCHED_OTHER"},
    "process.ioPriority": {"class": "IOPRIO_CLASS_BE"},
    "process.consoleSize": {"height": 1, "width": 1},
    "linux.namespaces[]": {"type": "pid"},
    "linux.devices[]": {"path": "/dev/x", "type": "c", "major": 1, "minor": 3},
    "mappings": {"containerID": 0, "hostID": 0, "size": 1},
    "linux.resources.hugepageLimits[]": {"pageSize": "2MB", "limit": 0},
    "linux.resources.network.priorities[]": {"name": "eth0", "priority": 0},
    "linux.resources.blockIO.weightDevice[]": {"major": 8, "minor": 0},
    "throttle": {"major": 8, "minor": 0, "rate": 1},
    "linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
    "linux.seccomp.syscalls[]": {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
    "linux.seccomp.syscalls[].args[]": {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"},
    "linux.personality": {"domain": "LINUX"},
    "linux.resources.devices[]": {"allow": True},
    "vm.kernel": {"path": "/x"},
    "vm.hypervisor": {"path": "/x"},
    "vm.image": {"path": "/x", "format": "raw"},
}


def load(name):
    with open(os.path.join(DIR, name), encoding="utf-8") as f:
        return json.load(f)


def valid(schema, file):
    name = schema + "-schema.json"
    resolver = jsonschema.RefResolver(f"file://{DIR}/{name}", load(name))
    with open(file, encoding="utf-8") as f:
        jsonschema.Draft4Validator(load(name), resolver=resolver).validate(json.load(f))


class Schema:
    def __init__(self):
        self.files = {}

    def resolve(self, file, node):
        while "$ref" in node:
            name, _, path = node["$ref"].partition("#")
            file = name or file
            if file not in self.files:
                self.files[file] = load(file)
            node = self.files[file]
            for part in path.strip("/").split("/"):
                node = node[part] if part else node
        for part in node.get("allOf", []):
            file, node = self.resolve(file, {**{k: v for k, v in node.items() if k != "allOf"}, **part})
        return file, node

    def fields(self, file, node, path=()):
        """(path, type) of everything below; [] is an element of a list, * a value of a map."""
        file, node = self.resolve(file, node)
        kind = node.get("type")
        if path:
            yield path, kind
        for key, sub in node.get("properties", {}).items():
            if ".".join((*path, key)).replace(".[]", "[]") not in FOREIGN:
                yield from self.fields(file, sub, (*path, key))
        if kind == "array" and isinstance(node.get("items"), dict):
            yield from self.fields(file, node["items"], (*path, "[]"))
        elif kind == "object" and "properties" not in node and "patternProperties" in node:
            yield from self.fields(file, next(iter(node["patternProperties"].values())), (*path, "*"))


def needed(path):
    name = ".".join(path).replace(".[]", "[]")
    if name.endswith("Mappings[]"):
        name = "mappings"
    elif ".throttle" in name and name.endswith("[]"):
        name = "throttle"
    elif path[0] == "hooks" and len(path) == 3:
        name = "hooks.*[]"
    return copy.deepcopy(NEEDED.get(name))


def place(config, path, value):
    """The value at that path, with what its parents need; returns what husk calls the field."""
    at, name = config, ""
    for i, part in enumerate(path):
        last = i == len(path) - 1
        if part == "[]":
            at[:] = [None]
            key, name = 0, name + "[0]"
        elif part == "*":
            key, name = "k.k", name + '["k.k"]'
        else:
            key, name = part, name + ("." if name else "") + part
        if last:
            at[key] = value
        else:
            below = [] if path[i + 1] == "[]" else needed(path[: i + 1]) or {}
            if isinstance(at, list) or not isinstance(at.get(key), type(below)):
                at[key] = below
            elif isinstance(below, dict):
                at[key].update(below)
            at = at[key]
    return name


def fields(husk, bundle):
    with open(os.path.join(bundle, "config.json"), encoding="utf-8") as f:
        good = json.load(f)
    schema, tried, wrong = Schema(), 0, []
    for path, kind in schema.fields("config-schema.json", load("config-schema.json")):
        config = copy.deepcopy(good)
        name = place(config, path, [[]] if kind in ("object", "string", None) else {"x": 1})
        with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        p = subprocess.run([husk, "--root", os.path.join(bundle, "root"), "create", "-b", bundle, "c"],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        tried += 1
        if p.returncode != 1 or f"config.json: {name}: " not in p.stderr:
            wrong.append(f"{name} ({kind}): {p.returncode} {p.stderr.strip()}")
    print(f"{tried} fields tried")
    for w in wrong:
        print(w)
    return 1 if wrong else 0


if sys.argv[1] == "valid":
    valid(*sys.argv[2:])
else:
    sys.exit(fields(*sys.argv[2:]))
