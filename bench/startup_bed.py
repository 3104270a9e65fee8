# SPDX-License-Identifier: Apache-2.0
"""A directory, two namespaces with a slow link between them and a registry, gone when the benchmark goes.

The bed is one directory. Everything that is started has a path below it among its arguments or
is a child that is known; everything mounted is below it. sweep() ends and removes all that. It runs
at the end, and when the benchmark was killed a second process (this file, run as a program) does it.

The benchmark itself moves into the node's network namespace; what it starts is there, unless it is
started with where="registry" or where="host".
"""
import ctypes
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

REGISTRY = "10.79.0.1"
NODE = "10.79.0.2"
PORT = 5000
CONTAINER = "headstart-startup"  # ids of containerd's containers begin so
SPACES = ("headstart-startup", "k8s.io")  # containerd's namespaces: ours, and CRI's
CLONE_NEWNET = 0x40000000


class Failure(Exception):
    """Something the user should read; no traceback."""


def run(args, **options):
    """Run a command to its end; its output is kept for the message when it fails."""
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors="replace", **options)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).split("\n")
        raise Failure("%s: exit %d: %s" % (" ".join(args[:6]), done.returncode,
                                           "\n".join(said[-8:])))
    return done.stdout


def wait_for(what, seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure("timed out waiting for %s" % what)
        time.sleep(0.01)


def tail(path, lines=20):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:]).rstrip()
    except OSError:
        return ""


# ---- what has to go ----

def mounts_below(directory):
    with open("/proc/self/mountinfo") as f:
        points = [line.split()[4].replace("\\040", " ") for line in f]
    return [p for p in reversed(points) if p.startswith(directory + "/")]


def processes_of(directory, but=()):
    """Processes with a path below the directory among their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid() or int(name) in but:
            continue
        try:
            with open("/proc/%s/cmdline" % name, "rb") as f:
                if directory.encode() + b"/" in f.read():
                    found.append(int(name))
        except OSError:
            pass
    return found


def containers_of(directory):
    """First processes of containerd's containers: their command lines are the image's own."""
    found = []
    for where, _, files in os.walk(os.path.join(directory, "c", "state")):
        if "init.pid" not in files:
            continue
        try:
            with open(os.path.join(where, "init.pid")) as f:
                pid = int(f.read())
            with open("/proc/%d/cgroup" % pid) as f:
                if CONTAINER in f.read():
                    found.append(pid)
        except (OSError, ValueError):
            pass
    return found


def ctr(directory, space, *args):
    return ["ctr", "--address", os.path.join(directory, "c/sock"), "--namespace", space] + list(args)


def end_container(directory, space, container):
    """Kill a container of containerd and remove it; its shim ends with the task's record."""
    def quiet(*args):
        try:
            return subprocess.run(ctr(directory, space, *args), check=False, timeout=10, text=True,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return None
    quiet("task", "kill", "--signal", "SIGKILL", container)
    for _ in range(100):
        done = quiet("task", "rm", "--force", container)
        if done is None or not done.returncode:
            break
        left = quiet("task", "ls", "-q")
        if left is None or left.returncode or container not in left.stdout:
            break
        time.sleep(0.02)
    quiet("container", "rm", container)


def cgroups_of(space):
    """Empty directories that runc leaves behind for the containers of one namespace."""
    top = "/sys/fs/cgroup"
    kinds = [os.path.join(top, k) for k in os.listdir(top)] if os.path.isdir(top) else []
    return [d for d in [os.path.join(k, space) for k in [top] + kinds] +
            [os.path.join("/run/containerd/runc", space)] if os.path.isdir(d)]


def ease(directory):
    """After the benchmark was killed: let go what can clean up after itself."""
    state = os.path.join(directory, "c/state/io.containerd.runtime.v2.task")
    for space in SPACES:
        where = os.path.join(state, space)
        for container in os.listdir(where) if os.path.isdir(where) else []:
            end_container(directory, space, container)
    runs = []
    for pid in processes_of(directory):
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as f:
                # headstart run and headstart trace record
                if b"--state-dir=" + directory.encode() in f.read():
                    runs.append(pid)
        except OSError:
            pass
    end_processes(runs, 20)


def loops_below(directory):
    found = []
    for name in os.listdir("/sys/block"):
        try:
            with open("/sys/block/%s/loop/backing_file" % name) as f:
                if f.read().startswith(directory + "/"):
                    found.append("/dev/" + name)
        except OSError:
            pass
    return found


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end_processes(pids, seconds=10.0):
    for s in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, s)
            except ProcessLookupError:
                pass
        end = time.monotonic() + seconds
        while any(alive(p) for p in pids):
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        else:
            return


def sweep(directory, keep=False, but=(), spaces=()):
    """End and remove everything of a bed; returns what was still there."""
    left = []
    containers = containers_of(directory)
    left += ["container process %d" % pid for pid in containers]
    end_processes(containers, 5)
    for _ in range(3):
        pids = processes_of(directory, but)
        if not pids:
            break
        left += ["process %d" % p for p in pids]
        end_processes(pids)
    for point in mounts_below(directory):
        left.append("mount " + point)
        subprocess.run(["umount", "-l", point], check=False)
    for device in loops_below(directory):
        left.append("loop device " + device)
        subprocess.run(["losetup", "-d", device], check=False)
    for space in spaces:
        for d in cgroups_of(space):
            try:
                os.rmdir(d)
            except OSError:
                pass  # in use: not ours alone
    if not keep:
        # never into something that is still mounted
        subprocess.run(["rm", "-rf", "--one-file-system", directory], check=False)
    return left


class Bed:
    def __init__(self, keep=False):
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        os.environ["LC_ALL"] = "C.UTF-8"
        self.keep = keep
        self.processes = []
        self.starters = []
        self.link = self.watcher = None
        self.namespaces = {"node": None}
        self.link_told = None
        # CRI's may be there for somebody else
        self.spaces = [x for x in SPACES if not cgroups_of(x)]
        self.dir = tempfile.mkdtemp(prefix="headstart-startup.", dir=os.environ.get("HS_TMP", "/var/tmp"))
        os.chmod(self.dir, 0o755)
        # whatever happens to us, this one notices that the pipe closes
        self.watcher = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--watch"],
                                        stdin=subprocess.PIPE, text=True, start_new_session=True)
        self.watcher.stdin.write("%s\n%s\n%s\n" % (self.dir, "keep" if keep else "", " ".join(self.spaces)))
        self.watcher.stdin.flush()

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def command(self, args, where="node"):
        space = self.namespaces.get(where)
        return (["nsenter", "--net=" + space] if space else []) + list(args)

    def start(self, args, log, where="node", **options):
        """Start something that lives until end() or the bed's end; its output goes to a log."""
        with open(self.path(log), "ab") as f:
            options.setdefault("stdin", subprocess.DEVNULL)
            options.setdefault("stdout", f)
            options.setdefault("stderr", f)
            p = subprocess.Popen(self.command(args, where), start_new_session=True, **options)
        self.processes.append(p)
        return p

    def run(self, args, where="node", **options):
        return run(self.command(args, where), **options)

    def end(self, p, sig=signal.SIGTERM, seconds=15.0):
        if p is None:
            return
        if p.poll() is None:
            p.send_signal(sig)
            try:
                p.wait(seconds)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        if p in self.processes:
            self.processes.remove(p)

    # ---- the link ----

    def make_link(self, program, rate, rtt_s):
        """Two namespaces, RTT apart, RATE (bit/s) each way; the caller moves into the node's."""
        self.link = subprocess.Popen([program, "%.6f" % (rtt_s * 500)], text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     start_new_session=True)
        ends = self.link.stdout.readline().split()
        if len(ends) != 2:
            raise Failure("the emulated link did not start")
        host = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.namespaces = {"registry": ends[0], "node": ends[1],
                           "host": "/proc/%d/fd/%d" % (os.getpid(), host)}
        # bursts of 2 ms: what a card and a switch between would let pass at once
        burst = max(65536, int(rate / 8 * 0.002))
        for space, mine, other in (("registry", REGISTRY, NODE), ("node", NODE, REGISTRY)):
            self.run(["sh", "-ec", """
                ip link set lo up
                ip addr add %s peer %s dev link0
                # packets of 16K between the stacks, as cards with offload have them
                ip link set link0 gso_max_size 16384
                ip link set link0 txqueuelen 10000 up
                tc qdisc add dev link0 root tbf rate %dbit burst %d limit 16mb
                # every start meets the line for the first time
                sysctl -qw net.ipv4.tcp_no_metrics_save=1
                """ % (mine, other, rate, burst)], where=space)
        self.move(self.namespaces["node"])
        self.namespaces["node"] = None

    @staticmethod
    def move(path):
        fd = os.open(path, os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
            raise Failure("setns: %s" % os.strerror(ctypes.get_errno()))
        os.close(fd)

    @staticmethod
    def wire_bytes():
        """Bytes that came over the link and that went, headers included, until now."""
        with open("/proc/self/net/dev") as f:
            for line in f:
                name, _, counts = line.partition(":")
                if name.strip() == "link0":
                    c = counts.split()
                    return int(c[0]), int(c[8])
        return 0, 0

    # ---- the registry ----

    def start_registry(self):
        self.registry = "%s:%d" % (REGISTRY, PORT)
        self.registry_log = self.path("registry.log")
        with open(self.path("registry.yml"), "w") as f:
            f.write("version: 0.1\n"
                    "log: {level: info, formatter: json, accesslog: {disabled: true}}\n"
                    "storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\n"
                    "http: {addr: \"%s\", secret: startup}\n"
                    % (self.path("registry"), self.registry))
        p = self.start(["docker-registry", "serve", self.path("registry.yml")], "registry.log",
                       where="registry")
        def answers():
            if p.poll() is not None:
                raise Failure("docker-registry ended:\n" + tail(self.registry_log))
            return not subprocess.run(["curl", "-sf", "-o", "/dev/null",
                                       "http://%s/v2/" % self.registry], check=False).returncode
        wait_for("the registry", 15, answers)

    def log_mark(self):
        return os.path.getsize(self.registry_log)

    def served(self, begin, end=None):
        """What the registry answered between two marks of its log, oldest first."""
        with open(self.registry_log, "rb") as f:
            f.seek(begin)
            data = f.read() if end is None else f.read(end - begin)
        return parse_registry_log(data.decode(errors="replace"))

    def blob_path(self, digest):
        algorithm, _, digits = digest.partition(":")
        return self.path("registry/docker/registry/v2/blobs", algorithm, digits[:2], digits, "data")

    def blobs(self, name):
        """Files of the registry that an image consists of: [(digest, bytes)], layers first."""
        repo, _, tag = name.partition("/")[2].rpartition(":")
        accept = ", ".join(("application/vnd.oci.image.manifest.v1+json",
                            "application/vnd.docker.distribution.manifest.v2+json",
                            "application/vnd.oci.image.index.v1+json"))
        text = self.run(["curl", "-sSf", "-H", "Accept: " + accept,
                         "http://%s/v2/%s/manifests/%s" % (self.registry, repo, tag)], where="registry")
        manifest = json.loads(text)
        entries = manifest.get("layers", []) + [manifest["config"]] if "config" in manifest else []
        return [(e["digest"], e["size"]) for e in entries]

    # ---- the end ----

    def stop(self):
        """Everything goes; returns what should have been gone before."""
        for p in reversed(self.processes[:]):
            self.end(p)
        if self.link:
            self.link.stdin.close()
            try:
                self.link_told = json.loads(self.link.stdout.read() or "null")
            except ValueError:
                pass
            self.link.wait()
        but = [self.watcher.pid] if self.watcher else []
        left = sweep(self.dir, self.keep, but, self.spaces)
        if self.watcher:
            self.watcher.stdin.write("done\n")
            self.watcher.stdin.close()
            self.watcher.wait()
        return left


def seconds_of(duration):
    """Go's way to write a duration: 1m2.5s, 12.3ms, 45µs."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
    total, number, unit = 0.0, "", ""
    for c in duration + "0":
        if c.isdigit() or c == ".":
            if unit:
                total += float(number) * units[unit]
                number, unit = "", ""
            number += c
        else:
            unit += c
    return total


def parse_registry_log(text):
    """docker-registry's lines about answers: [{at (unix s, the end), seconds, bytes, method, uri}]."""
    found = []
    for line in text.split("\n"):
        if '"response completed"' not in line:
            continue
        try:
            entry = json.loads(line)
            status = entry["http.response.status"]
            found.append({"at": iso_seconds(entry["time"]),
                          "seconds": seconds_of(entry.get("http.response.duration", "0s")),
                          "bytes": int(entry.get("http.response.written", 0)), "status": status,
                          "method": entry.get("http.request.method", ""),
                          "uri": entry.get("http.request.uri", "")})
        except (ValueError, KeyError):
            continue
    return found


def iso_seconds(text):
    """2026-01-02T03:04:05.678901234Z as seconds since 1970."""
    found = re.fullmatch(r"([^.Z+]{19})(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not found:
        raise ValueError(text)
    zone = found.group(3).replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(found.group(1) + zone).timestamp() + float(found.group(2) or 0)


def watch():
    """Run as a program: sweep the bed when its owner dies without saying that it is done."""
    for s in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(s, signal.SIG_IGN)
    directory = sys.stdin.readline().strip()
    keep = sys.stdin.readline().strip() == "keep"
    spaces = sys.stdin.readline().split()
    if sys.stdin.readline().strip() == "done" or not directory:
        return
    ease(directory)
    for line in sweep(directory, keep, (), spaces):
        print("startup: ended after the benchmark was killed: " + line, file=sys.stderr)


if __name__ == "__main__" and sys.argv[1:] == ["--watch"]:
    watch()
