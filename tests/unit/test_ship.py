#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_ship.py HEADSTART - lists beside images, and layers laid out by a list, through the commands

An image of two layers is converted plainly and by a list that is written from trace/FORMAT.md, into an
OCI directory and into fake registries of both kinds. What lies beside it is pulled, pushed elsewhere,
refused where it does not fit, and never changes the image.
"""
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
HEADSTART = os.path.abspath(sys.argv[1])
REGISTRY = os.path.join(HERE, "../lib/fake_registry.py")
MAKE_OCI = os.path.join(HERE, "../lib/make_oci.py")
sys.path.insert(0, os.path.join(HERE, "../golden/files"))
sys.dont_write_bytecode = True
import make_files as hs  # noqa: E402  (the path has to be set before)

BLOCK = 4096
# what the start touches, in its order: (path, offset, bytes)
TOUCHES = [("/usr/bin/app", 409600, 4096), ("/etc/late", 0, 5000), ("/usr/bin/app", 0, 16384),
           ("/usr/lib/base.so", 81920, 40000), ("/no/such", 0, 10)]


def fail(text):
    sys.exit("FAILED: " + text)


def run(*args, code=0, words=""):
    if args[0] == "convert":
        args = (args[0], "--vsize", "64M", *args[1:])
    p = subprocess.run([HEADSTART, *args], capture_output=True, text=True, timeout=100)
    if p.returncode != code or words not in p.stderr:
        fail("%s: exit %d: %s" % (" ".join(args), p.returncode, p.stderr))
    return p.stdout


def noise(name, size):
    out, n = b"", 0
    while len(out) < size:
        out += ("%s %d " % (name, n)).encode() + os.urandom(40)
        n += 1
    return out[:size]


def layer(path, files):
    with tarfile.open(path, "w") as t:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755
            t.addfile(info, io.BytesIO(data))


def make_list(touches):
    """Both halves, for an image that is nowhere."""
    paths = sorted({t[0] for t in touches})
    files = hs.items(4, [hs.var(0) + hs.text(p) + hs.var(0) for p in paths])
    rows = [hs.var(n and 1 << 1 << 1 | 1 or 1) + hs.var(paths.index(p) + 1) + hs.zigzag(off) +
            hs.var(size) for n, (p, off, size) in enumerate(touches)]
    head = hs.header(b"HSPLIST\n") + hs.block(1, (
        hs.var(1) + hs.text(hs.DIGEST) + hs.text("docker://r.example/web:1") +
        hs.var(1700000000) + hs.var(1)))
    return head + files + hs.items(5, rows) + hs.block(6, b"")


class Registry:
    def __init__(self, *options):
        self.p = subprocess.Popen([sys.executable, REGISTRY, *options], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.p.stdout.readline())["port"]
        self.name = "docker://127.0.0.1:%d/app" % self.port

    def get(self, path):
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json, "
                            "application/vnd.oci.image.index.v1+json"}
        url = "http://127.0.0.1:%d%s" % (self.port, path)
        with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as r:
            return r.read()

    def stop(self):
        self.p.stdin.close()
        self.p.wait()


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def manifest_of(layout, digest):
    return read_json(os.path.join(layout, "blobs/sha256", digest[7:]))


def check_directory(tmp):
    """Into a directory: where the data lies, the device, the list, and that others still read it."""
    out = json.loads(run("convert", "--json", "-q", "--no-list", "oci:src:1", "oci:out:plain"))
    if "list" in out["images"][0]:
        fail("a list although --no-list")
    laid = json.loads(run("convert", "--json", "-q", "--layout-by", "start.list", "oci:src:1",
                          "oci:out:laid"))
    image = laid["images"][0]
    a, b = image["layers"]
    if (a["hot_bytes"], b["hot_bytes"]) != (10 * BLOCK, 5 * BLOCK + 2 * BLOCK):
        fail("hot bytes %d, %d" % (a["hot_bytes"], b["hot_bytes"]))
    if not (a["ordered"] and b["ordered"]) or image["list"]["missing_files"] != 1:
        fail("layers or list: %s" % image)
    run("dump", "--no-cache", "-q", "oci:out:plain", "plain.img")
    run("dump", "--no-cache", "-q", "oci:out:laid", "laid.img")
    if subprocess.run(["cmp", "plain.img", "laid.img"], check=False).returncode:
        fail("another device")
    # the list is of the image that was made, and its ranges are few and at the ends
    made = json.loads(run("prefetch", "pull", "--json", "-o", "made.list", "oci:out:laid"))
    if made["image_digest"] != image["digest"] or made["origin"] != "ported":
        fail("pulled %s" % made)
    manifest = manifest_of("out", image["digest"])
    for d in manifest["layers"]:
        note = d["annotations"]["containerd.io/snapshot/headstart/layout"].split(",")
        metadata, start = int(note[3]), int(note[4])
        # hot noise is larger than what can be squeezed out of it
        if not metadata + 15000 < start < d["size"] / 2:
            fail("layout %s of %d bytes" % (note, d["size"]))
    # no more than what was asked for, in whole stored blocks, and metadata
    stored = sum(d["size"] for d in manifest["layers"])
    if not 60000 < made["bytes"] < stored / 4:
        fail("%d bytes of %d in the list" % (made["bytes"], stored))
    # a second time the same image
    again = json.loads(run("convert", "--json", "-q", "--layout-by", "start.list", "oci:src:1",
                           "oci:out:again"))
    if again["digest"] != laid["digest"] or not all(x["reused"] for x in again["images"][0]["layers"]):
        fail("not the same again: %s" % again)
    for tool in (["skopeo", "inspect", "oci:out:laid"],
                 ["skopeo", "copy", "-q", "oci:out:laid", "oci:copy:laid"],
                 ["umoci", "tag", "--image", "out:laid", "tagged"], ["umoci", "ls", "--layout", "out"]):
        if shutil.which(tool[0]):
            p = subprocess.run(tool, capture_output=True, text=True, check=False, cwd=tmp)
            if p.returncode:
                fail("%s: %s" % (" ".join(tool), p.stderr))
    return image["digest"]


def check_registry(r, api, directory_digest):
    """The same into a registry; pulling and pushing there."""
    name = r.name + ":laid"
    laid = json.loads(run("convert", "--json", "-q", "--oci", "--layout-by", "start.list",
                          "oci:src:1", name))
    if laid["digest"] != directory_digest:
        fail("another image than in a directory")
    tag = "sha256-" + laid["digest"][7:]
    tags = json.loads(r.get("/v2/app/tags/list"))["tags"]
    if (tag in tags) == api:
        fail("fallback tag where there is the API, or none: %s" % tags)
    if not api:
        index = json.loads(r.get("/v2/app/manifests/" + tag))
        if len(index["manifests"]) != 1 or "data" not in index["manifests"][0]:
            fail("list of referrers: %s" % index)
    pulled = json.loads(run("prefetch", "pull", "--json", "-o", "pulled.list", name))
    if pulled["digest"] != laid["images"][0]["list"]["digest"]:
        fail("another list than the one that was attached")
    seen = json.loads(run("prefetch", "show", "--json", name))
    if seen["artifact"] != pulled["digest"] or len(seen["ranges"]) != pulled["ranges"]:
        fail("show: %s" % seen)
    if pulled["digest"] not in run("prefetch", "show", name):
        fail("show for people")
    shown = json.loads(run("prefetch", "push", "--json", "--dry-run", "pulled.list", name))
    if shown["pushed"] or not shown["made_for_this_image"] or shown["foreign_bytes"]:
        fail("dry run: %s" % shown)
    pushed = json.loads(run("prefetch", "push", "--json", "pulled.list", name))
    if not pushed["pushed"] or pushed["image_digest"] != laid["digest"]:
        fail("push: %s" % pushed)
    back = json.loads(run("prefetch", "pull", "--json", "-o", "back.list", name))
    if back["digest"] != pushed["digest"]:
        fail("pulled another one than was pushed")
    with open("pulled.list", "rb") as f, open("back.list", "rb") as g:
        if f.read() != g.read():
            fail("the list came back changed")
    if json.loads(r.get("/v2/app/manifests/laid")) != json.loads(
            r.get("/v2/app/manifests/" + laid["digest"])):
        fail("the tag names something else now")
    # another image: nothing of the list is in it; one layer in common: refused, or forced
    run("convert", "-q", "--oci", "--no-list", "oci:src:other", r.name + ":other")
    run("prefetch", "push", "pulled.list", r.name + ":other", code=1, words="names no bytes of")
    run("prefetch", "push", "--force", "pulled.list", r.name + ":other", code=1,
        words="names no bytes of")
    run("convert", "-q", "--oci", "--no-list", "--layout-by", "start.list", "oci:src:more",
        r.name + ":more")
    run("prefetch", "push", "pulled.list", r.name + ":more", code=1, words="prefetch port")
    run("prefetch", "pull", "-o", "x.list", r.name + ":more", code=1, words="refers to")
    run("prefetch", "push", "--force", "pulled.list", r.name + ":more")
    run("prefetch", "pull", "-o", "x.list", r.name + ":more")


def check_refused():
    run("prefetch", "push", "start.list", "oci:out:laid", code=1, words="names no stored bytes")
    run("prefetch", "push", "src/index.json", "oci:out:laid", code=1)
    run("prefetch", "push", "made.list", "oci:out:no-such", code=1, words="no-such")
    run("prefetch", "pull", "-o", "x", "oci:out:plain", code=1, words="refers to")
    run("prefetch", "pull", "oci:out:plain", code=2, words="-o LIST")
    run("convert", "-q", "--layout-by", "no-such.list", "oci:src:1", "oci:out:x", code=1,
        words="no-such.list")
    run("convert", "-q", "--layout-by", "src/index.json", "oci:src:1", "oci:out:x", code=1)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        os.environ["TMPDIR"] = tmp
        os.environ["REGISTRY_AUTH_FILE"] = os.path.join(HERE, "../lib/no-auth.json")
        layer("a.tar", [("usr/lib/base.so", noise("base", 900000)), ("etc/hosts", b"x"),
                        ("usr/lib/other.so", noise("other", 900000))])
        layer("b.tar", [("usr/bin/app", noise("app", 700000)), ("etc/late", noise("late", 5000)),
                        ("usr/share/doc", noise("doc", 700000))])
        layer("c.tar", [("opt/c", noise("c", 5000))])
        for tag, layers in (("1", ["a.tar", "b.tar"]), ("other", ["c.tar"]),
                            ("more", ["a.tar", "b.tar", "c.tar"])):
            subprocess.run([sys.executable, MAKE_OCI, "src", tag, *layers], check=True)
        with open("start.list", "wb") as f:
            f.write(make_list(TOUCHES))
        digest = check_directory(tmp)
        check_refused()
        for api in (False, True):
            r = Registry(*(["--referrers"] if api else []))
            try:
                check_registry(r, api, digest)
            finally:
                r.stop()
        os.chdir("/")
    print("ok")


if __name__ == "__main__":
    main()
