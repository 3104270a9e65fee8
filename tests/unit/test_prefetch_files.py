#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Traces and lists through the commands: trace show, prefetch make, show and port.

Two builds of a small image, of which the second one has another upper layer, and traces written
here, so that it is known what was read. Usage: test_prefetch_files.py HEADSTART_BINARY
"""
import io
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../golden/files"))
import make_files as files  # noqa: E402  the encoder of the golden files

DEVICE = 7 << 20 | 3
READ, FAULT, MAPPED, CACHED, BLOCK = 1, 2, 3, 4, 5
EXACT, WINDOWS, FETCHED = 1, 2, 3


def noise(seed, size):
    return random.Random(seed).randbytes(size)


APP, LIB, DATA, OTHER = noise(1, 300000), noise(2, 200000), noise(3, 400000), noise(4, 100000)


def tar(path, members):
    with tarfile.open(path, "w") as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            if isinstance(data, str):
                info.type, info.linkname, info.size = tarfile.SYMTYPE, data, 0
            t.addfile(info, None if isinstance(data, str) else io.BytesIO(data))


class Test:
    def __init__(self, binary, work):
        self.binary, self.work = binary, work
        self.failed = 0

    def run(self, *args, code=0):
        r = subprocess.run([self.binary, *args], cwd=self.work, capture_output=True, text=True,
                           timeout=100, check=False, stdin=subprocess.DEVNULL)
        if r.returncode != code:
            sys.exit("%s: exit %d instead of %d\n%s%s" % (args, r.returncode, code, r.stdout,
                                                        r.stderr))
        return r.stdout if code == 0 else r.stderr

    def json(self, *args):
        return json.loads(self.run(*args, "--json"))

    def check(self, what, ok, detail=""):
        if not ok:
            print("FAILED: %s: %s" % (what, detail))
            self.failed += 1

    def put(self, name, data):
        with open(os.path.join(self.work, name), "wb") as f:
            f.write(data)

    def build(self):
        lower = os.path.join(self.work, "lower.tar")
        # two links that together make a path too long to follow
        tar(lower, [("bin/app", APP), ("lib/lib.so", LIB), ("lib/sub/deep", b"x" * 5000),
                    ("far", "farther" + "/." * 2000), ("farther", "." + "/." * 2000)])
        for n, members in ((1, [("srv/data", DATA), ("srv/gone", OTHER), ("etc/conf", b"a" * 700)]),
                           (2, [("new", OTHER), ("srv/data", DATA[:150000])])):
            upper = os.path.join(self.work, "upper%d.tar" % n)
            tar(upper, members)
            subprocess.run([sys.executable, os.path.join(HERE, "../lib/make_oci.py"), "plain",
                            "b%d" % n, lower, upper], cwd=self.work, check=True,
                           stdout=subprocess.DEVNULL)
            self.run("convert", "-q", "oci:plain:b%d" % n, "oci:lazy:b%d" % n)

    def digest(self, n):
        return self.json("inspect", "--no-cache", "oci:lazy:b%d" % n)["digest"]


def trace(digest, events, objects, precision=EXACT, image="oci:lazy:b1", end=True):
    """@events: (ns, kind, object, offset, bytes); @objects: paths, None for the device."""
    out = files.header(b"HSTRACE\n") + files.block(1, (
        files.text(image) + files.text(digest) + files.text("6.1.0") + files.text("device 7:3") +
        files.u64(1700000000000000000) + files.var(precision) + files.u64(0)))
    out += files.items(2, [files.var(1 if o else 2) + files.var(DEVICE) + files.var(i) +
                           files.var(0) for i, o in enumerate(objects)])
    out += files.items(3, [files.var(7) + files.text("app<script>")])
    rows, before, last, at = [], 0, 0, 0
    for ns, kind, obj, off, size in events:
        rows.append(files.event(kind, ns - before, off - (last if obj == at else 0), size,
                                obj=None if obj == at else obj))
        before, last, at = ns, off + size, obj
    out += files.items(4, rows)
    out += files.items(5, [files.var(i) + files.var(0) + files.text(o)
                           for i, o in enumerate(objects) if o])
    return out + (files.block(6, files.var(0) + files.var(0) + files.var(10 ** 9) +
                              files.text("idle")) if end else b"")


def raw_crc(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (files.POLY if crc & 1 else 0)
    return crc


def obd_trace(records):
    body = b"".join(struct.pack("<B3xIQq", 0x52, layer, size, off) for layer, off, size in records)
    return struct.pack("<I4xQI4x", 0xC2EF1820, len(body), raw_crc(body)) + body


PATHS = [None, "/bin/app", "/lib/lib.so", "/srv/data", "/srv/gone"]
MS = 10 ** 6
EVENTS = [
    (1 * MS, CACHED, 0, 1024, 4096),            # the superblock: metadata, demand
    (2 * MS, READ, 1, 0, 131072),
    (3 * MS, FAULT, 1, 131072, 4096),
    (4 * MS, CACHED, 2, 0, 65536),              # read ahead
    (5 * MS, MAPPED, 2, 0, 65536),
    (400 * MS, READ, 3, 100000, 300000),
    (401 * MS, READ, 4, 0, 50000),
    (402 * MS, READ, 3, 100000, 300000),        # once more
]


def shows(t):
    s = t.json("trace", "show", "exact.trace")
    t.check("demand", s["demand_bytes"] == 131072 + 4096 + 300000 + 50000, s["demand_bytes"])
    t.check("metadata", s["metadata_bytes"] == 4096, s["metadata_bytes"])
    t.check("read ahead", s["ahead_bytes"] == 65536, s["ahead_bytes"])
    t.check("order", [f["path"] for f in s["files"]][1:] == PATHS[1:], s["files"])
    t.check("whole", not s["truncated"] and s["seconds"] == 1, s)
    t.check("processes", s["processes"][0]["demand_bytes"] == s["demand_bytes"] + 4096)
    s = t.json("trace", "show", "windows.trace")
    t.check("windows", s["demand_bytes"] == 131072 + 4096 + 65536 + 300000 + 50000, s)
    t.check("windows, ahead", s["ahead_bytes"] == 0, s["ahead_bytes"])
    s = t.json("trace", "show", "--events", "cut.trace")
    t.check("cut off", s["truncated"] and len(s["events"]) == len(EVENTS), s["truncated"])
    t.check("event", s["events"][3]["kind"] == "cached" and not s["events"][3]["demand"])
    t.check("said", "cut off" in t.run("trace", "show", "cut.trace"))
    t.run("trace", "show", "--html=page.html", "exact.trace")
    with open(os.path.join(t.work, "page.html"), encoding="utf-8") as f:
        page = f.read()
    data = page.split('id="data">')[1].split("</script>")[0]
    t.check("page", len(json.loads(data)["marks"]) == 6 * len(EVENTS))
    t.check("page is closed", "app<script>" not in page and "@DATA@" not in page)
    t.check("refused", "not a headstart trace" in t.run("trace", "show", "files.txt", code=1))


def makes(t):
    r = t.json("prefetch", "make", "--no-cache", "-o", "one.list", "exact.trace")
    l = t.json("prefetch", "show", "one.list")
    t.check("origin", l["origin"] == "recorded" and l["runs"] == 1, l["origin"])
    t.check("digest", l["image_digest"] == t.digest(1), l["image_digest"])
    t.check("files of a list", [f["path"] for f in l["files"]] ==
            ["/bin/app", "/srv/data", "/srv/gone"], l["files"])
    t.check("sums", r["demand_bytes"] == 135168 + 350000 + 4096 and r["foreign_traces"] == 0, r)
    # noise does not shrink: what was read of it has to be stored, and not much more
    want = 135168 + 350000
    t.check("bytes", want <= l["range_bytes"] <= want * 1.15 + 65536, (want, l["range_bytes"]))
    t.check("device", any(x["file"] is None and x["offset"] == 1024 for x in l["touches"]))
    t.check("at once", [x["ms"] for x in l["ranges"]] == sorted(x["ms"] for x in l["ranges"]))
    same = t.json("prefetch", "make", "--no-cache", "-o", "cut.list", "cut.trace")
    t.check("of a cut trace", same["range_bytes"] == r["range_bytes"] and
            same["truncated_traces"] == 1, same)

    b = t.json("prefetch", "make", "--no-cache", "--budget=200K", "-o", "b.list", "exact.trace")
    t.check("budget", 100000 < b["range_bytes"] <= 200 << 10, b["range_bytes"])
    m = t.json("prefetch", "make", "--no-cache", "--max-time=100ms", "-o", "b.list", "exact.trace")
    t.check("time", m["range_bytes"] < 250000, m["range_bytes"])

    # of nowhere: by path, with the metadata of the files; its device is another one
    f = t.json("prefetch", "make", "--no-cache", "--image=oci:lazy:b1", "-o", "f.list",
               "foreign.trace")
    l = t.json("prefetch", "show", "f.list")
    t.check("foreign", f["foreign_traces"] == 1 and f["missing_files"] == 0, f)
    t.check("foreign bytes", want < l["range_bytes"] <= want * 1.15 + 65536, l["range_bytes"])
    t.check("no device", all(x["file"] is not None for x in l["touches"]), l["touches"])
    t.run("prefetch", "make", "--no-cache", "-o", "f.list", "foreign.trace", code=1)

    # of two runs of three counts what both have read; all of three what one has
    two = t.json("prefetch", "make", "--no-cache", "-o", "c.list", "exact.trace", "exact.trace",
                 "small.trace")
    t.check("three runs", two["runs"] == 3 and two["range_bytes"] == r["range_bytes"], two)
    one = t.json("prefetch", "make", "--no-cache", "-o", "c.list", "exact.trace", "small.trace",
                 "small.trace")
    t.check("one of three", one["range_bytes"] < 60000, one["range_bytes"])


def endless(t):
    """A trace that claims 2^63 bytes of the device: that is all of it."""
    m = t.json("prefetch", "make", "--no-cache", "-o", "e.list", "endless.trace")
    t.check("all of the device", len(APP) < m["range_bytes"] < 2000000, m)
    t.run("convert", "-q", "--layout-by=e.list", "oci:plain:b1", "oci:lazy:by")


def imports(t):
    i = t.json("prefetch", "make", "--no-cache", "--image=oci:lazy:b1", "-o", "i.list", "obd.trace")
    l = t.json("prefetch", "show", "i.list")
    t.check("imported", l["origin"] == "imported" and 100000 <= l["range_bytes"] < 150000, i)
    t.check("layers", len({x["blob"] for x in l["ranges"]}) == 2, l["ranges"])
    f = t.json("prefetch", "make", "--no-cache", "--image=oci:lazy:b1", "-o", "i.list", "files.txt")
    l = t.json("prefetch", "show", "i.list")
    t.check("list of files", sorted(x["path"] for x in l["files"]) ==
            ["/bin/app", "/lib/lib.so", "/lib/sub/deep"], l["files"])
    t.check("first named", l["files"][0]["path"] == "/bin/app", l["files"])
    t.check("missing", f["missing_files"] == 2, f)
    t.check("whole files", l["range_bytes"] >= len(APP) + len(LIB), l["range_bytes"])
    for bad in ("bad.txt", "empty"):
        t.check("refused", "neither a trace" in t.run(
            "prefetch", "make", "--no-cache", "--image=oci:lazy:b1", "-o", "x", bad, code=1))


def accelerated(t, tag, data, of="b1"):
    t.put("layer.tar", data)
    subprocess.run([sys.executable, os.path.join(HERE, "../lib/make_oci.py"), "--accelerate", of,
                    "lazy", tag, "layer.tar"], cwd=t.work, check=True)
    return "oci:lazy:" + tag


def one_member(name, data, mode="w", kind=tarfile.REGTYPE):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as f:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.type = len(data), 0o444, kind
        f.addfile(info, io.BytesIO(data))
    return out.getvalue()


def same_list(t, what, image, trace_file):
    """The layer's trace makes the list that the same bytes make as a file."""
    a = t.json("prefetch", "make", "--no-cache", "-o", "a.list", image)
    f = t.json("prefetch", "make", "--no-cache", "--image=" + image, "-o", "f.list", trace_file)
    t.check(what, dict(a, list="") == dict(f, list="") and a["origin"] == "imported" and
            a["image"] == image and a["ranges"], (a, f))
    lists = [t.json("prefetch", "show", name) for name in ("a.list", "f.list")]
    t.check(what + ", ranges", lists[0]["ranges"] == lists[1]["ranges"] and
            lists[0]["files"] == lists[1]["files"], lists)


def layers(t):
    """Acceleration layers: what an image was given for overlaybd's own prefetcher."""
    with open(os.path.join(HERE, "../golden/vectors/trace/accel/trace"), "rb") as f:
        golden = f.read()
    with open(os.path.join(t.work, "files.txt"), "rb") as f:
        text = f.read()
    t.put("golden.trace", golden)
    image = accelerated(t, "golden", one_member("trace", golden))
    same_list(t, "golden trace", image, "golden.trace")
    same_list(t, "text list", accelerated(t, "text", one_member("trace", text)), "files.txt")
    same_list(t, "its name, gzip", accelerated(t, "gz", one_member("./trace", text, "w:gz")),
              "files.txt")
    # it is no layer of the device
    with_it, without = (t.json("inspect", "--no-cache", i) for i in (image, "oci:lazy:b1"))
    t.check("opened without", with_it["layers"] == without["layers"], with_it)

    def fails(want, *args):
        said = t.run("prefetch", "make", "--no-cache", "-o", "none.list", *args, code=1)
        t.check("fails: " + want, want in said, said)

    # layers by number: into the same layers, not into others; a list of files goes anywhere
    t.run("prefetch", "make", "--no-cache", "--image=oci:lazy:b1", "-o", "a.list", image)
    fails("layers by number", "--image=oci:lazy:b2", image)
    fails("layers by number", accelerated(t, "second", one_member("trace", text), "b2"), image)
    t.run("prefetch", "make", "--no-cache", "--image=oci:lazy:b2", "-o", "a.list", "oci:lazy:text")

    fails("no acceleration layer", "oci:lazy:b1")
    whole = one_member("trace", golden)
    for tag, data, want in (
            ("noise", noise(5, 5000), "not a tar archive"), ("empty", b"", "not a tar archive"),
            ("sum", b"\0" * 8 + whole[8:], "not a tar archive"),
            ("short", whole[:512 + 300], "cut short"),
            ("large", one_member("trace", bytes((32 << 20) + 1), "w:gz"), "too large"),
            ("beside", one_member("other", bytes(34 << 20), "w:gz"), "holds more than"),
            ("named", one_member("traces", golden), 'no member "trace"'),
            ("link", one_member("trace", b"", kind=tarfile.SYMTYPE), 'no member "trace"'),
            ("damaged", one_member("trace", golden[:-1] + b"\xff"), "oci:lazy:damaged"),
            ("neither", one_member("trace", b"/a/*\n"), "neither a trace"),
            ("nothing", one_member("trace", b""), "neither a trace")):
        fails(want, accelerated(t, tag, data))
    t.check("nothing written", not os.path.exists(os.path.join(t.work, "none.list")))
    from_registry(t, "text")


def from_registry(t, tag):
    """In a registry: kept in the cache, and without it --pull=never asks for nothing."""
    with subprocess.Popen([sys.executable, os.path.join(HERE, "../lib/fake_registry.py"), "--dir",
                           os.path.join(t.work, "lazy")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as registry:
        image = "docker://127.0.0.1:%d/test/image:%s" % (json.loads(registry.stdout.readline())["port"],
                                                         tag)
        make = ("prefetch", "make", "--cache-dir=cache", "-o", "r.list", image)
        t.check("not cached", "--pull=never" in t.run(*make, "--pull=never", code=1))
        first = t.json(*make)
        t.check("from a registry", first["files"] == 3 and first["image"] == image, first)
        registry.stdin.close()
        registry.wait()
    t.check("from the cache", t.json(*make, "--pull=never") == first)


def predicts(t):
    p = t.json("prefetch", "make", "--no-cache", "-o", "s.list", "--static", "oci:lazy:b1")
    l = t.json("prefetch", "show", "s.list")
    t.check("predicted", l["origin"] == "predicted" and l["runs"] == 0 and
            l["image_digest"] == t.digest(1), l)
    t.check("metadata", l["touches"][0]["file"] is None and l["touches"][0]["offset"] == 0, l)
    t.check("nothing of large files", 0 < p["range_bytes"] < 65536, p["range_bytes"])
    for args in (("oci:lazy:b1", "oci:lazy:b2"), ("--image=oci:lazy:b1", "oci:lazy:b1"), ()):
        t.run("prefetch", "make", "-o", "x", "--static", *args, code=2)


def ports(t):
    p = t.json("prefetch", "port", "--no-cache", "-o", "p.list", "one.list", "oci:lazy:b1")
    t.check("to itself", p["carried_percent"] == 100 and p["offset_bytes"] == 0 and
            p["lost_files"] == 0, p)
    p = t.json("prefetch", "port", "--no-cache", "-o", "p.list", "one.list", "oci:lazy:b2")
    l = t.json("prefetch", "show", "p.list")
    t.check("by content", p["content_bytes"] == 135168, p)
    t.check("by offset", p["offset_bytes"] == 50000, p)
    t.check("lost", p["lost_bytes"] == 250000 + 50000 and p["lost_files"] == 1, p)
    t.check("ported", l["origin"] == "ported" and l["image_digest"] == t.digest(2), l["origin"])
    t.check("ported files", [f["path"] for f in l["files"]] == ["/bin/app", "/srv/data"], l)
    t.check("ported bytes", 185168 < l["range_bytes"] < 185168 * 1.2 + 65536, l["range_bytes"])
    t.check("no old device", all(x["file"] is not None for x in l["touches"]))
    t.check("halves", "half of files" in t.run(
        "prefetch", "port", "--no-cache", "-o", "x", "ranges.list", "oci:lazy:b2", code=1))


def main():
    binary = os.path.realpath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="headstart-files-") as work:
        t = Test(binary, work)
        t.build()
        own = t.digest(1)
        t.put("exact.trace", trace(own, EVENTS, PATHS))
        t.put("cut.trace", trace(own, EVENTS, PATHS, end=False))
        t.put("windows.trace", trace(own, EVENTS, PATHS, precision=WINDOWS))
        t.put("small.trace", trace(own, EVENTS[:1], PATHS))
        t.put("foreign.trace", trace("", EVENTS, PATHS, image=""))
        t.put("endless.trace", trace(own, [(MS, CACHED, 0, 0, 1 << 63)], PATHS))
        t.put("obd.trace", obd_trace([(0, 65536, 50000), (1, 65536, 50000), (7, 0, 512),
                                      (0, 1 << 40, 512)]))
        t.put("files.txt", b"  /bin/app \n\nlib/\n/no/such\n/far" + b"/." * 500 + b"\n")
        t.put("bad.txt", b"/bin/app\n/lib/*\n")
        t.put("empty", b"\n")
        t.put("ranges.list", open(os.path.join(HERE, "../golden/files/list-1-ranges.bin"),
                                  "rb").read())
        for part in (shows, makes, endless, imports, layers, predicts, ports):
            part(t)
        return 1 if t.failed else 0


if __name__ == "__main__":
    sys.exit(main())
