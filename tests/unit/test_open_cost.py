#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_open_cost.py HEADSTART - opening an image costs few dependent exchanges, whatever its layers

A counting registry serves an image of many layers, one of which has a jump table that the first
read of its tail does not cover. Dependent exchanges are counted from the server's own clock: one
request depends on another if it began after the other had ended.
"""
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request

HEADSTART = os.path.abspath(sys.argv[1])
REGISTRY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib", "fake_registry.py")
LAYERS = 24
# Stored in 40000 tiny blocks: the table alone is larger than the first read of the tail.
LONG_FILE = b"the same line over and over again, but never quite zero\n" * (160 << 20 >> 6)


def blob(layout, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def make_source(layout):
    """An OCI layout with LAYERS uncompressed layers, written by hand."""
    os.makedirs(f"{layout}/blobs/sha256")
    layers = []
    for n in range(LAYERS):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t:
            data = LONG_FILE if n == 0 else os.urandom(1000 + 7000 * n)
            info = tarfile.TarInfo(f"layer{n}/data")
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        layers.append(blob(layout, out.getvalue()) |
                      {"mediaType": "application/vnd.oci.image.layer.v1.tar"})
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [x["digest"] for x in layers]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(layout, json.dumps(config).encode()) |
                {"mediaType": "application/vnd.oci.image.config.v1+json"},
                "layers": layers}
    entry = blob(layout, json.dumps(manifest).encode()) | {
        "mediaType": manifest["mediaType"],
        "annotations": {"org.opencontainers.image.ref.name": "src"}}
    with open(f"{layout}/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, f)
    with open(f"{layout}/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')


def run(*args):
    p = subprocess.run([HEADSTART, *args], capture_output=True, text=True, timeout=100)
    if p.returncode:
        sys.exit(f"{' '.join(args)}: exit {p.returncode}: {p.stderr}")
    return p.stdout


class Registry:
    def __init__(self, layout, *options):
        self.p = subprocess.Popen([sys.executable, REGISTRY, "--dir", layout, *options],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.p.stdout.readline())["port"]

    def call(self, path, body=None):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", body) as r:
            return r.read()

    def opened(self, *args, ref=":acc"):
        """Open the image; the requests that this took, in order."""
        self.call("/_reset", b"")
        run("inspect", "--json", *args, f"docker://127.0.0.1:{self.port}/test/image{ref}")
        return json.loads(self.call("/_stats"))["requests"]

    def close(self):
        self.p.stdin.close()
        self.p.wait()


def dependent(requests):
    """Longest chain of requests, each begun after the one before had ended."""
    chain, end = 0, 0.0
    for r in sorted(requests, key=lambda r: r["t1"]):
        if r["t0"] >= end:
            chain, end = chain + 1, r["t1"]
    return chain


def manifest_end(requests):
    return max(r["t1"] for r in requests if "/manifests/" in r["path"] and r["status"] == 200)


def after_manifest(requests):
    last = manifest_end(requests)
    return [r for r in requests if r["t0"] >= last and "/manifests/" not in r["path"]]


def check(what, ok, detail):
    print(f"{'ok' if ok else 'FAILED'}: {what}: {detail}")
    return ok


def main():
    good = True
    with tempfile.TemporaryDirectory() as tmp:
        make_source(f"{tmp}/oci")
        run("convert", "--codec", "lz4", "--block-size", "4K", f"oci:{tmp}/oci:src",
            f"oci:{tmp}/acc:acc")
        for options in ([], ["--redirect"], ["--redirect", "--auth", "bearer"]):
            cache = f"{tmp}/cache{len(options)}"
            creds = ["--creds", "user:secret"] if "bearer" in options else []
            r = Registry(f"{tmp}/acc", "--latency-ms", "200", *options)
            cold = r.opened("--cache-dir", cache, *creds)
            chain = dependent(after_manifest(cold))
            good &= check(f"cold open, {LAYERS} layers, {options or 'plain'}", 1 <= chain <= 3,
                          f"{chain} dependent exchanges after the manifest, {len(cold)} requests")
            ahead = [q for q in cold if q["path"] == "/v2/" and q["t0"] < manifest_end(cold)]
            good &= check("connections opened while the manifest is in flight", bool(ahead),
                          f"{len(ahead)} of them")
            by_digest = r.opened("--cache-dir", cache, *creds, ref="@" + manifest_digest(tmp))
            good &= check("warm open by digest", not by_digest, f"{len(by_digest)} requests")
            never = r.opened("--cache-dir", cache, "--pull=never", *creds)
            good &= check("warm open, --pull=never", not never, f"{len(never)} requests")
            if not creds:
                by_tag = r.opened("--cache-dir", cache)
                good &= check("warm open by tag", len(by_tag) == 1, f"{len(by_tag)} requests")
            leaks = json.loads(r.call("/_stats")).get("leaks", 0)
            good &= check("no credentials at the storage", leaks == 0, f"{leaks} leaks")
            r.close()
    return 0 if good else 1


def manifest_digest(tmp):
    with open(f"{tmp}/acc/index.json") as f:
        return json.load(f)["manifests"][0]["digest"]


if __name__ == "__main__":
    sys.exit(main())
