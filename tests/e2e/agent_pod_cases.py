"""The cases of agent_pod.bats: each drives the agent of a guest that has several containers.

    agent_pod_cases.py CASE DIRECTORY     (an empty directory for images and sockets)
"""

import select
import sys
import time

import agent_cases
from agent_cases import (Container, Guest, busybox, create_members, image, push, read_all, refused,
                         scratch, tree)
from vmmctl import PATIENCE

PROGRAMS = ("hostname", "readlink", "head", "tail", "grep", "wc", "ps", "kill")
NAMESPACES = 'for n in pid ipc uts net mnt cgroup; do echo $n $(readlink /proc/self/ns/$n); done'
ALL = ("pid", "mount", "ipc", "uts", "cgroup")
SHM = [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
       {"destination": "/dev/shm", "type": "bind", "source": "/run/x/shm", "options": ["rbind"]}]
SHM_FROM = [{"mount": 2, "from": "pod", "name": "shm", "size": 1 << 20}]


class PodGuest(Guest):
    """With a root disk that all containers have, each read-only."""

    def __init__(self, **files):
        super().__init__()
        top = busybox(tree("root", {"dev/shm/.keep": "", **files}))
        for name in PROGRAMS:
            agent_cases.os.symlink("busybox", agent_cases.os.path.join(top, "bin", name))
        self.disk("root", image("erofs", top), readonly=True)

    def run(self, id, script, **more):
        return Container(self, script, upper=None, id=id, **more)


def namespaces_of(text):
    return dict(line.split() for line in text.splitlines())


def lines(c, n):
    return "\n".join(c.line() for _ in range(n))


def namespaces_are_joined():
    with PodGuest() as g:
        hold = NAMESPACES + "; hostname; read a"
        s = g.run("s", hold, namespaces=ALL, top={"hostname": "pod"})
        of_s, name = namespaces_of(lines(s, 6)), s.line()
        assert name == "pod"
        # a path of config.json is the host's, and not looked at
        a = g.run("a", hold, namespaces=("mount", "cgroup"), paths=("pid", "ipc", "uts"),
                  join={"ipc": "s", "uts": "s"})
        of_a, name = namespaces_of(lines(a, 6)), a.line()
        assert name == "pod"
        assert {k for k in of_s if of_s[k] == of_a[k]} == {"ipc", "uts", "net"}, (of_s, of_a)
        b = g.run("b", hold, namespaces=ALL, join={"ipc": "s", "uts": "s", "pid": "s"},
                  top={"hostname": "pod"})
        of_b = namespaces_of(lines(b, 6))
        assert {k for k in of_s if of_s[k] == of_b[k]} == {"pid", "ipc", "uts", "net"}, (of_s, of_b)
        alone = g.run("alone", hold, namespaces=ALL, top={"hostname": "other"})
        assert {k for k, v in namespaces_of(lines(alone, 6)).items() if of_s[k] == v} == {"net"}
        assert alone.line() == "other"
        # third parties may be joined, too
        t = g.run("t", hold, namespaces=ALL, join={"pid": "a"})
        of_t = namespaces_of(lines(t, 6))
        assert of_t["pid"] == of_a["pid"] and of_t["ipc"] not in (of_a["ipc"], of_s["ipc"])
        for c, of in ((s, of_s), (a, of_a), (b, of_b), (t, of_t)):
            assert namespaces_of(c.exec(NAMESPACES)) == of, c.id
        # b's processes see s's, and are not the first
        assert s.exec("cat /proc/1/cmdline") == b.exec("cat /proc/1/cmdline")
        assert int(b.exec("echo $PPID; echo $$").split()[1]) > 1
        # a name that is set in a shared namespace is everybody's
        d = g.run("d", "hostname; read a", namespaces=ALL, join={"uts": "s"},
                  top={"hostname": "renamed"})
        assert d.line() == "renamed" and s.exec("hostname") == "renamed\n"
        members = create_members("e", "true", namespaces=ALL, join={"ipc": "none"})
        refused(lambda: s.a.call("create", **members), "not_found",
                "join.ipc: container none does not exist")
        alone.tell("")
        alone.wait()
        members = create_members("e", "true", namespaces=ALL, join={"pid": "alone"})
        refused(lambda: s.a.call("create", **members), "not_running",
                "join.pid: container alone has ended")


def a_user_namespace_is_joined():
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    maps = {"uidMappings": ids, "gidMappings": ids}
    mounts = [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
              {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
              {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}]
    everything = {k: ["CAP_SYS_ADMIN", "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_SETGID"]
                  for k in ("bounding", "effective", "permitted")}
    more = {"mounts": mounts, "namespaces": (*ALL, "user"), "process": {"capabilities": everything}}
    user = "readlink /proc/self/ns/user"
    with PodGuest() as g:
        s = g.run("s", user + "; read a", top={"hostname": "pod"}, **more, **maps)
        of_s = s.line()
        # with the mappings of the one that it joins, which config.json may repeat
        name, joins = "pod", {**more, "namespaces": ALL, "paths": ["user"]}
        for maps_again, id, join in (({}, "a", ("ipc", "uts", "user")),
                                     (maps, "b", ("ipc", "uts", "pid", "user"))):
            c = g.run(id, user + f"; echo {id} >/dev/mqueue/{id}; hostname; echo $?; read a",
                      join={t: "s" for t in join}, **joins, **maps_again)
            told = [c.line(), c.line(), c.line()]
            assert told == [of_s, name, "0"], told
            assert c.exec("cat /proc/self/uid_map").split() == ["0", "100000", "65536"]
            assert c.exec(user).strip() == of_s
            # it has the rights over what is shared
            name = f"of-{id}"
            assert c.exec(f"hostname {name}; hostname").split() == [name]
            assert set(s.exec("ls /dev/mqueue; hostname").split()) >= {id, name}
        pid = b"".join(c.exec("ps").encode().splitlines()[1:2]).split()[0].decode()
        assert s.exec(f"kill -0 {pid}; echo $?") == "0\n"
        c.tell("")
        assert c.wait()[0] == 0
        others = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        members = create_members("e", "true", join={"user": "s"}, uidMappings=others,
                                 gidMappings=ids, **joins)
        refused(lambda: s.a.call("create", **members), "invalid",
                "join.user: linux.uidMappings: not those of the user namespace")
        alone = g.run("alone", user + "; read a", **more, **maps)
        assert alone.line() != of_s
        s.tell("")
        s.wait()
        members = create_members("e", "true", join={"user": "s"}, **joins)
        refused(lambda: s.a.call("create", **members), "not_running", "join.user: ")


def ends_in_a_shared_pid_namespace():
    with PodGuest() as g:
        s = g.run("s", "read a", namespaces=ALL)
        b = g.run("b", "sleep 1001 >/dev/null 2>&1 </dev/null & read a; exit 3", namespaces=ALL,
                  join={"pid": "s"})
        c = g.run("c", "sleep 1002 & echo ready; wait", namespaces=ALL, join={"pid": "s"})
        own = g.run("own", "read a; exit 4", namespaces=ALL)
        assert c.line() == "ready"
        b.tell("")
        assert b.wait()[0] == 3
        assert "1001" not in s.exec("ps"), "what b left is not ended with it"
        assert "1002" in s.exec("ps")
        b.call("delete")
        # signals of the host reach the one, as it is nobody's PID 1
        c.call("kill", signal=15)
        assert c.wait()[0] == 143
        assert "1002" not in s.exec("ps")
        c.call("delete")
        b = g.run("b", "sleep 1000", namespaces=ALL, join={"pid": "s"})
        s.tell("")
        assert s.wait()[0] == 0
        m = b.call("wait")
        assert (m["status"], m["signal"], m["oom"]) == (137, 9, False), m
        own.tell("")
        assert own.wait()[0] == 4
        for x in (s, b, own):
            x.call("delete")


def out_of_memory():
    eat = "read a; exec tail /dev/zero"
    with PodGuest() as g:
        s = g.run("s", "read a; exit 2", namespaces=ALL, process={"oomScoreAdj": -998})
        own = g.run("own", eat, namespaces=ALL, resources={"memory": {"limit": 24 << 20}})
        quiet = g.run("quiet", "dd if=/dev/zero bs=16M count=1 2>/dev/null | wc -c; read a; exit 3",
                      namespaces=ALL, process={"oomScoreAdj": -500})
        assert quiet.line() == str(16 << 20)
        own.tell("")
        m = own.call("wait")
        assert (m["status"], m["oom"], m["killed"]) == (137, True, False), m
        assert own.a.event("oom")["container"] == "own"
        # an exec'd one, too, and its init goes on
        part = g.run("part", "read a; exit 4", namespaces=ALL,
                     resources={"memory": {"limit": 24 << 20}})
        m = part.call("exec", spec={"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
                                    "args": ["tail", "/dev/zero"]})
        m = part.call("wait", process=m["process"])
        assert (m["status"], m["oom"]) == (137, True), m
        assert part.a.event("oom")["container"] == "part"
        # memory of the whole guest: who is to go first is killed
        greedy = g.run("greedy", eat, namespaces=ALL, process={"oomScoreAdj": 900})
        greedy.tell("")
        m = greedy.call("wait")
        assert (m["status"], m["oom"]) == (137, True), m
        for c, code in ((s, 2), (quiet, 3), (part, 4)):
            assert not c.a.events, c.a.events
            c.tell("")
            assert c.wait()[0] == code
        for c in (s, own, quiet, part, greedy):
            c.call("delete")


def answered(client):
    return bool(client.answers or client.data or select.select([client.sock], [], [], 0)[0])


def nobody_is_delayed():
    with PodGuest() as g:
        disk = scratch()
        def create_never(agent, id):
            return agent.send("create", **create_members(id, "true", lower=(("never", "erofs"),),
                                                         namespaces=ALL))

        s = g.run("s", "i=0; while :; do i=$((i+1)); echo $i; read a; done", namespaces=ALL)
        assert s.line() == "1"
        for i in range(5):
            waits = g.agent()
            seq = create_never(waits, f"never{i}")
            s.call("ps")
            s.tell("")
            s.line()
            try:
                s.a.call("start", container=f"never{i}")
            except agent_cases.Refused as e:
                early = "is being made" in str(e) and not answered(waits)
            if early:
                break
        assert early, "others wait for a disk that never comes"
        # another's whole life, and that of its disk
        g.disk("scratch", disk)
        c = Container(g, "echo x >/file; echo done", upper="scratch", id="c")
        assert c.wait() == (0, "done\n", "")
        c.call("delete")
        c.a.call("release", serial="scratch")
        g.boot.call("detach", serial="scratch")
        c.a.call("release", serial="scratch", detached=True)
        # a container that is being made is deleted
        refused(lambda: waits.answer(seq), "timeout", "did not appear")
        seq = create_never(waits, "never")
        while True:
            try:
                s.a.call("delete", container="never")
                break
            except agent_cases.Refused as e:  # it is not known yet
                assert e.kind == "not_found", e
        refused(lambda: waits.answer(seq), "not_running", "killed while it was made")
        # one that has to wait gets what it waits for (which is there before: a guest waits no longer for a slow host)
        late = image("erofs", busybox(tree("late", {"etc/late": "late\n"})))
        seq = waits.send("create", **create_members("late", "cat /etc/late",
                                                    lower=(("late", "erofs"),), namespaces=ALL))
        g.disk("late", late, readonly=True)
        m = waits.answer(seq)
        waits.call("start", container="late")
        assert read_all(g.stream(m["streams"]["stdout"])) == b"late\n"
        # a pause is one container's
        other = g.run("other", "echo up; read a; echo down", namespaces=ALL)
        assert other.line() == "up"
        s.call("pause")
        other.tell("")
        assert other.wait()[0] == 0
        s.tell("")
        assert not select.select([s.out], [], [], 0.2)[0]
        s.call("resume")
        s.line()


def twenty_at_once():
    # processes that are none of the kernel's, what the agent has open and mounted, cgroups
    look = ("set -- /proc/[0-9]*/stat; cat $* | grep -vcE '^2 |[)] . 2 '; ls /proc/1/fd | wc -l; wc -l </proc/1/mountinfo;"
            " ls /sys/fs/cgroup | grep -c ^husk")
    caps = {k: ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_CHROOT"]
            for k in ("bounding", "effective", "permitted")}
    cgroup = [{"destination": "/sys", "type": "sysfs", "source": "sysfs"},
              {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]
    with PodGuest() as g:
        def leftovers():
            c = g.run("look", look, namespaces=("mount",), mounts=cgroup,
                      process={"capabilities": caps})
            out = c.wait()
            c.call("delete")
            c.a.close()
            g.clients.remove(c.a)
            assert out[0] == 0, out
            return out[1]

        s = g.run("s", "read a", namespaces=ALL)
        leftovers()
        before = leftovers()
        for _ in range(2):
            clients = [g.agent() for _ in range(20)]
            joins = [{}, {"ipc": "s"}, {"ipc": "s", "uts": "s"}, {"pid": "s"}]
            seqs = [a.send("create", **create_members(f"c{i}", f"read a; echo $a; exit {i}",
                                                      namespaces=ALL, join=joins[i % 4]))
                    for i, a in enumerate(clients)]
            made = [a.answer(seq)["streams"] for a, seq in zip(clients, seqs)]
            seqs = [a.send("start", container=f"c{i}") for i, a in enumerate(clients)]
            for a, seq in zip(clients, seqs):
                a.answer(seq)
            for i, m in enumerate(made):
                stdin = g.stream(m["stdin"])
                stdin.sendall(b"word %d\n" % i)
                assert read_all(g.stream(m["stdout"])) == b"word %d\n" % i
            for i, a in enumerate(clients):
                assert a.call("wait", container=f"c{i}")["status"] == i
            # two thirds are deleted by their owner, the others by somebody else, all at once
            seqs = [(a, a.send("delete", container=f"c{i}")) if i % 3 else
                    (s.a, s.a.send("delete", container=f"c{i}")) for i, a in enumerate(clients)]
            for a, seq in seqs:
                a.answer(seq)
            for a in clients:
                a.close()
                g.clients.remove(a)
        end = time.monotonic() + PATIENCE  # connections that were closed are, a moment later
        while (after := leftovers()) != before:
            assert time.monotonic() < end, (before, after)


def files():
    bind = [{"destination": "/etc/hosts", "type": "bind", "source": "/x", "options": ["bind"]}]
    own = [{"mount": 1, "from": "project", "name": "m1", "writable": True}]
    with PodGuest(**{"etc/hosts": ""}) as g:
        a, b = g.agent(), g.agent()
        for client, id, text in ((a, "a", b"of a\n"), (b, "b", b"of b\n")):
            assert push(g, client, {"m1": text}, what="projects", container=id) == "ok\n"
        script = "cat /etc/hosts; read a; echo $a >/etc/hosts; read a"
        a = g.run("a", script, mounts=bind, froms=own, agent=a)
        b = g.run("b", script, mounts=bind, froms=own, agent=b)
        assert (a.line(), b.line()) == ("of a", "of b")
        a.call("watch")
        b.call("watch")
        a.tell("changed by a")
        assert a.a.event("changed")["container"] == "a"
        assert a.changes("projects") == {"m1": ("file", b"changed by a\n")}
        assert b.changes("projects") == {"m1": ("file", b"of b\n")}
        assert not b.a.events
        a.call("delete")
        assert b.exec("cat /etc/hosts") == "of b\n"
        # what is pushed for a container that is never made goes with the connection
        c = g.agent()
        assert push(g, c, {"m1": b"x"}, what="projects", container="c") == "ok\n"
        c.close()
        g.clients.remove(c)
        members = create_members("c", "true", mounts=bind, froms=own)
        while True:
            try:
                b.a.call("create", **members)
                b.a.call("delete", container="c")
            except agent_cases.Refused as e:
                assert "none was pushed" in str(e), e
                break
        # a tmpfs of the pod
        d = g.run("d", "echo from d >/dev/shm/file; echo ready; read a", mounts=SHM, froms=SHM_FROM)
        assert d.line() == "ready"
        e = g.run("e", "cat /dev/shm/file; head -c 3m /dev/zero >/dev/shm/much; wc -c </dev/shm/much",
                  mounts=SHM, froms=SHM_FROM)
        status, text, _ = e.wait()
        assert status == 0 and text.startswith("from d\n"), text
        assert 0 < int(text.split()[-1]) <= 1 << 20, text
        d.call("delete")
        e.call("delete")
        f = g.run("f", "cat /dev/shm/file; stat -c %a /dev/shm", mounts=SHM, froms=SHM_FROM)
        assert f.wait()[1] == "from d\n1777\n"
        # one that is not named there has its own
        assert g.run("g", "ls /dev/shm", mounts=[SHM[0]]).wait()[1] == ""


def main(name, directory):
    agent_cases.work = directory
    globals()[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
