# SPDX-License-Identifier: Apache-2.0
"""Starts of one image: each variant from the command to the application's first right answer."""
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time

from startup_bed import (CONTAINER, SPACES, Failure, ctr, end_container, mounts_below, processes_of, tail,
                         wait_for)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
READY = os.path.join(ROOT, "tools", "ready.py")
POLL_MS = 5


def load_average():
    with open("/proc/loadavg") as f:
        return float(f.read().split()[0])


class Poller:
    """tools/ready.py in a network namespace of its own, which the container then joins."""

    def __init__(self, bed, probe, timeout):
        self.log = bed.path("probe.log")
        self.bed = bed
        self.process = bed.start(
            ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"', sys.executable, "-S", "-E",
             READY, "--every=%d" % POLL_MS, "--timeout=%d" % timeout] + probe, "probe.log",
            stdout=subprocess.PIPE)
        self.namespace = "/proc/%d/ns/net" % self.process.pid
        self.text = b""
        if self.line(20) != "polling":
            raise Failure("the readiness probe did not start: " + tail(self.log, 5))

    def line(self, seconds, watched=None):
        """The next line; None when it ends, time is over or the watched process has ended."""
        end = time.monotonic() + seconds
        fd = self.process.stdout.fileno()
        while b"\n" not in self.text:
            if time.monotonic() > end or (watched and watched.poll() is not None):
                return None
            if select.select([fd], [], [], 0.1)[0]:
                got = os.read(fd, 4096)
                if not got:
                    return None
                self.text += got
        line, _, self.text = self.text.partition(b"\n")
        return line.decode()

    def end(self):
        self.bed.end(self.process, signal.SIGKILL)
        self.process.stdout.close()


class Starter:
    """What the starts of one image share. Names of images are without docker://."""

    def __init__(self, bed, image, headstart, timeout=180, warm_tools=False):
        self.bed, self.image, self.headstart = bed, image, headstart
        self.timeout = timeout
        self.warm_tools = warm_tools
        self.containerd = None
        self.names = {}     # variant to the name of its image
        self.blob_files = {}
        self.count = 0
        self.active = None  # (namespace, container) of ctr
        self.running = None  # headstart run

    # ---- before the clock ----

    def warm_registry(self, name):
        """The registry is another machine, and its files are in its memory."""
        if name not in self.blob_files:
            self.blob_files[name] = [self.bed.blob_path(d) for d, _ in self.bed.blobs(name)]
        for path in self.blob_files[name]:
            with open(path, "rb", buffering=0) as f:
                while f.read(1 << 20):
                    pass

    def cold(self, name):
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3\n")
        self.warm_registry(name)
        if self.warm_tools:
            # a node that has started other containers has run these
            for args in (["runc", "--version"], ["ctr", "--version"], ["curl", "--version"],
                         ["containerd-shim-runc-v2", "-v"], [self.headstart, "--help"]):
                subprocess.run(args, check=False, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)

    def measure(self, variant, name, cold, command):
        """One start. command(start, poller) begins it and returns a process to watch, or None."""
        bed = self.bed
        poller = Poller(bed, self.image["ready"], self.timeout)
        try:
            if cold:
                self.cold(name)
            start = {"variant": variant, "image": name, "cold": cold, "load_before": load_average()}
            mark, wire = bed.log_mark(), bed.wire_bytes()
            begin = time.time()
            start["begin_unix"] = begin
            watched = command(start, poller)
            at = poller.line(self.timeout + 5, watched)
            after, log_end = bed.wire_bytes(), bed.log_mark()
            if at is None:
                raise Failure("%s of %s: the application did not answer\n%s\n%s" % (
                    variant, name, tail(bed.path("%s.log" % self.log_of(variant)), 15),
                    tail(poller.log, 3)))
            start["ready_s"] = float(at) - begin
            served = bed.served(mark, log_end)
            start["requests"] = len(served)
            start["registry_bytes"] = sum(r["bytes"] for r in served)
            start["wire_bytes"] = after[0] - wire[0]
            start["wire_sent_bytes"] = after[1] - wire[1]
            start["served"] = [
                {"start_ns": round((r["at"] - r["seconds"] - begin) * 1e9),
                 "end_ns": round((r["at"] - begin) * 1e9), "bytes": r["bytes"],
                 "method": r["method"], "uri": r["uri"], "status": r["status"]} for r in served]
            start["load_after"] = load_average()
            return start
        finally:
            poller.end()

    @staticmethod
    def log_of(variant):
        return variant.partition("-warm")[0]

    # ---- containerd ----

    def start_containerd(self, cri):
        bed = self.bed
        subprocess.run(["rm", "-rf", "--one-file-system", bed.path("c")], check=True)
        os.makedirs(bed.path("c/cni"))
        registry = bed.registry
        with open(bed.path("c/config.toml"), "w") as f:
            f.write('version = 2\nroot = "%s"\nstate = "%s"\n' % (bed.path("c/root"), bed.path("c/state")))
            f.write('[grpc]\naddress = "%s"\n' % bed.path("c/sock"))
            f.write('[plugins."io.containerd.internal.v1.opt"]\npath = "%s"\n' % bed.path("c/opt"))
            if cri:
                p = '[plugins."io.containerd.grpc.v1.cri"'
                f.write('%s.cni]\nbin_dir = "%s"\nconf_dir = "%s"\n' % (p, bed.path("c/cni"), bed.path("c/cni")))
                f.write('%s.registry.mirrors."%s"]\nendpoint = ["http://%s"]\n' % (p, registry, registry))
        if not cri:
            with open(bed.path("c/config.toml")) as f:
                text = f.read()
            with open(bed.path("c/config.toml"), "w") as f:
                f.write('disabled_plugins = ["io.containerd.grpc.v1.cri"]\n' + text)
        self.containerd = bed.start(["containerd", "--config", bed.path("c/config.toml")],
                                    "containerd.log")

        def answers():
            if self.containerd.poll() is not None:
                raise Failure("containerd ended:\n" + tail(bed.path("containerd.log")))
            return not subprocess.run(ctr(bed.dir, SPACES[0], "version"), check=False, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL).returncode
        wait_for("containerd", 30, answers)

    def ctr_run(self, name, space, poller):
        self.count += 1
        container = "%s-%d-%d" % (CONTAINER, os.getpid(), self.count)
        self.active = (space, container)
        self.bed.run(ctr(self.bed.dir, space, "run", "--detach", "--null-io", "--snapshotter", "overlayfs",
                         "--with-ns", "network:" + poller.namespace, name, container))

    def ctr_end(self):
        if self.active:
            end_container(self.bed.dir, *self.active)
        self.active = None

    def stop_containerd(self):
        self.ctr_end()
        self.bed.end(self.containerd)
        self.containerd = None

    def pull(self, start, name):
        with open(self.bed.path("classic.log"), "ab") as log:
            if subprocess.run(ctr(self.bed.dir, SPACES[0], "images", "pull", "--plain-http", "--snapshotter",
                                  "overlayfs", name),
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode:
                raise Failure("ctr images pull failed:\n" + tail(log.name))
        start["pull_s"] = time.time() - start["begin_unix"]

    def cri_pull(self, start, name):
        """CRI's PullImage by hand: gRPC is HTTP/2, a length and one message of protocol buffers."""
        bed = self.bed
        done = subprocess.run(
            ["curl", "-sS", "--http2-prior-knowledge", "--unix-socket", bed.path("c/sock"),
             "-H", "content-type: application/grpc", "-H", "te: trailers", "-D", bed.path("cri.headers"),
             "-o", bed.path("cri.answer"), "--data-binary", "@" + bed.path("cri.message"),
             "http://localhost/runtime.v1.ImageService/PullImage"],
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        start["pull_s"] = time.time() - start["begin_unix"]
        headers = tail(bed.path("cri.headers"), 30)
        if done.returncode or "grpc-status: 0" not in headers:
            raise Failure("CRI's PullImage of %s failed: %s %s" % (
                name, done.stdout.decode(errors="replace").strip(), headers.replace("\n", " ")))

    def classic(self, warm, cri=False):
        """A cold start by containerd, and one again; yields what was measured."""
        name = self.names["classic"]
        variant = "cri" if cri else "classic"
        space = SPACES[1 if cri else 0]
        self.start_containerd(cri)
        try:
            if cri:
                with open(self.bed.path("cri.message"), "wb") as f:
                    f.write(cri_message(name))

            def pull_and_run(start, poller):
                (self.cri_pull if cri else self.pull)(start, name)
                self.ctr_run(name, space, poller)

            def run_again(_, poller):
                self.ctr_run(name, space, poller)
            yield self.measure(variant, name, True, pull_and_run)
            self.ctr_end()
            if warm:
                yield self.measure(variant + "-warm", name, False, run_again)
        finally:
            self.stop_containerd()

    # ---- headstart ----

    def lazy(self, variant, options, warm):
        """A cold start by headstart, and one again with its cache and the page cache kept."""
        base = self.bed.path("h")
        subprocess.run(["rm", "-rf", "--one-file-system", base], check=True)
        os.makedirs(base)
        name = self.names[variant]
        yield self.lazy_once(variant, name, options, True)
        if warm:
            yield self.lazy_once(variant + "-warm", name, options, False)

    def lazy_once(self, variant, name, options, cold):
        bed, headstart = self.bed, self.headstart
        report = bed.path("report.json")
        if os.path.exists(report):
            os.remove(report)
        log = self.log_of(variant) + ".log"
        with open(bed.path(log), "ab") as f:
            f.write(("---- %s\n" % variant).encode())
        dirs = ["--%s-dir=%s" % (d, bed.path("h", d)) for d in ("cache", "run", "state")]

        def command(_, poller):
            args = [headstart, "run", "--rm", "--insecure", "--net=ns:" + poller.namespace] + dirs
            args += [o.replace("REPORT", report) for o in options] + ["docker://" + name]
            self.running = bed.start(args, log)
            return self.running
        try:
            start = self.measure(variant, name, cold, command)
            start["status"] = self.status()
        finally:
            self.lazy_end()
        try:
            with open(report) as f:
                start["report"] = json.load(f)
        except (OSError, ValueError):
            pass
        return start

    def status(self):
        """What its server has counted until now."""
        done = subprocess.run([self.headstart, "status", "--json", "--run-dir=" + self.bed.path("h/run"),
                               "--state-dir=" + self.bed.path("h/state")],
                              check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
        try:
            told = json.loads(done.stdout)
            return told[0].get("server") if told else None
        except (ValueError, AttributeError, IndexError):
            return None

    def lazy_end(self):
        if not self.running:
            return
        self.bed.end(self.running, signal.SIGTERM, 20)
        self.running = None
        run = self.bed.path("h")
        # its server ends with its last mount
        wait_for("headstart's server to end", 15,
                 lambda: not mounts_below(run) and not processes_of(run))

    def stop(self):
        """On any way out."""
        try:
            self.lazy_end()
        finally:
            if self.containerd:
                self.stop_containerd()


def cri_message(name):
    """PullImageRequest{image: ImageSpec{image: name}} in its gRPC frame."""
    def field(number, data):
        size, length = b"", len(data)
        while length > 127:
            size += bytes([length & 127 | 128])
            length >>= 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + data
    body = field(1, field(1, name.encode()))
    return b"\0" + struct.pack(">I", len(body)) + body


# ---- the ideal fetch ----

def ideal_fetch(bed, name, size):
    """curl taking as many bytes of the image's own blobs over the same line, in four ways; seconds."""
    blobs = sorted(bed.blobs(name), key=lambda b: -b[1])
    digest, available = blobs[0]
    url = "http://%s/v2/%s/blobs/%s" % (bed.registry, name.split("/", 1)[1].rpartition(":")[0], digest)
    size = min(int(size), available)

    def curl(*transfers, parallel=False):
        args = ["curl", "-sSf"] + (["-Z", "--parallel-immediate", "--parallel-max", "8"] if parallel else [])
        for i, (first, last) in enumerate(transfers):
            args += (["--next", "-sSf"] if i else []) + [
                "-r", "%d-%d" % (first, last), "-o", "/dev/null", "-w", "%{time_total} %{size_download}\n", url]
        lines = bed.run(args).split("\n")
        return [float(line.split()[0]) for line in lines if line]
    part = (size + 7) // 8
    parts = [(i * part, min((i + 1) * part, size) - 1) for i in range(8) if i * part < size]
    return {"bytes": size,
            "cold_s": curl((0, size - 1))[0],
            "cold_8_s": max(curl(*parts, parallel=True)),
            "used_s": curl((0, 0), (0, size - 1))[1],
            "warm_s": curl((0, size - 1), (0, size - 1), (0, size - 1))[2]}


def connect_time(bed):
    """The round trip as a TCP connection sees it, and the rate of a connection that has warmed up."""
    times = []
    for _ in range(3):
        times.append(float(bed.run(["curl", "-s", "-o", "/dev/null", "-w", "%{time_connect}",
                                    "http://%s/v2/" % bed.registry])))
    return min(times)


def line_rate(bed, name):
    """Bit/s of a download of the image's largest blob on a connection that has warmed up."""
    digest, size = max(bed.blobs(name), key=lambda b: b[1])
    url = "http://%s/v2/%s/blobs/%s" % (bed.registry, name.split("/", 1)[1].rpartition(":")[0], digest)
    out = bed.run(["curl", "-sSf", "-r", "0-%d" % min(size - 1, (8 << 20) - 1), "-o", "/dev/null", url,
                   "--next", "-sSf", "-o", "/dev/null", "-w", "%{time_total} %{size_download}", url])
    seconds, got = out.split()
    return float(got) * 8 / float(seconds)
