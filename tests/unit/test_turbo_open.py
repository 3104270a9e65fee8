#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_turbo_open.py HEADSTART - a TurboOCI image in a registry opens as cheaply as a native one

The three layers of the golden vector ext4-gz are pushed as upstream's tools push them. All their
archives are asked for at once, they are kept in the cache, a warm open asks for nothing, and the
device has the vector's bytes. A layout on this machine needs no network, so --pull=never is no
obstacle to it.
"""
import hashlib
import json
import os
import sys
import tempfile

sys.dont_write_bytecode = True  # the source tree stays clean
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_open_cost import Registry, after_manifest, blob, check, dependent, run

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "vectors")
LAYERS = ("L1", "L2", "L3")


def read(name):
    with open(os.path.join(VECTORS, name), "rb") as f:
        return f.read()


def truth():
    with open(os.path.join(VECTORS, "manifest.tsv"), encoding="ascii") as f:
        for line in f:
            row = line.split("\t")
            if row[0] == "turbo-ext4-gz":
                return row[5]
    sys.exit("the vector turbo-ext4-gz is not in manifest.tsv")


def make_layout(layout):
    """Digest of the manifest of an OCI layout with the turbo image."""
    os.makedirs(f"{layout}/blobs/sha256")
    layers = []
    for name in LAYERS:
        target = blob(layout, read(f"src/{name}.tar.gz"))
        archive = blob(layout, read(f"turbo/ext4-gz.{name}.turbo.tar.gz"))
        layers.append(archive | {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "annotations": {
                "containerd.io/snapshot/overlaybd/blob-digest": archive["digest"],
                "containerd.io/snapshot/overlaybd/blob-size": str(archive["size"]),
                "containerd.io/snapshot/overlaybd/turbo-oci/target-digest": target["digest"],
                "containerd.io/snapshot/overlaybd/turbo-oci/target-media-type":
                    "application/vnd.oci.image.layer.v1.tar+gzip",
            }})
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [x["digest"] for x in layers]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(layout, json.dumps(config).encode()) |
                {"mediaType": "application/vnd.oci.image.config.v1+json"},
                "layers": layers}
    entry = blob(layout, json.dumps(manifest).encode()) | {
        "mediaType": manifest["mediaType"],
        "annotations": {"org.opencontainers.image.ref.name": "acc"}}
    with open(f"{layout}/index.json", "w", encoding="ascii") as f:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, f)
    with open(f"{layout}/oci-layout", "w", encoding="ascii") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    return entry["digest"]


def dumped(tmp, *args):
    out = f"{tmp}/out.img"
    run("dump", *args, out)
    with open(out, "rb") as f:
        got = hashlib.sha256(f.read()).hexdigest()
    os.unlink(out)
    return got


def main():
    good = True
    with tempfile.TemporaryDirectory() as tmp:
        digest = make_layout(f"{tmp}/oci")
        got = dumped(tmp, "--cache-dir", f"{tmp}/cache-local", "--pull=never",
                     f"oci:{tmp}/oci:acc")
        good &= check("a layout with --pull=never", got == truth(), got)
        for options in ([], ["--redirect"]):
            cache = f"{tmp}/cache{len(options)}"
            r = Registry(f"{tmp}/oci", "--latency-ms", "200", *options)
            cold = r.opened("--cache-dir", cache)
            chain = dependent(after_manifest(cold))
            good &= check(f"cold open, {options or 'plain'}", 1 <= chain <= 4,
                          f"{chain} dependent exchanges after the manifest, {len(cold)} requests")
            for how in ([], ["--pull=never"]):
                warm = r.opened("--cache-dir", cache, *how, ref="@" + digest)
                good &= check(f"warm open by digest {how}", not warm, f"{len(warm)} requests")
            got = dumped(tmp, "--cache-dir", cache, f"docker://127.0.0.1:{r.port}/test/image:acc")
            good &= check("bytes of the device", got == truth(), got)
            r.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
