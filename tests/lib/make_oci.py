#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Put an image into an OCI directory.

usage: make_oci.py [--arch ARCH] [--diff-id DIGEST] DIR TAG LAYER...   LAYER: .tar, .tar.gz, .tar.zst
       make_oci.py --index TAG,TAG... DIR TAG                          an index of images that are there
       make_oci.py --accelerate TAG DIR TAG LAYER                      one of them, with an acceleration layer
"""
import argparse
import gzip
import hashlib
import json
import os
import subprocess
import sys

REF = "org.opencontainers.image.ref.name"
TYPE = "application/vnd.oci.image."


class Layout:
    def __init__(self, root):
        self.root = root
        os.makedirs(os.path.join(root, "blobs/sha256"), exist_ok=True)
        with open(os.path.join(root, "oci-layout"), "w", encoding="ascii") as f:
            f.write('{"imageLayoutVersion":"1.0.0"}')
        self.index = {"schemaVersion": 2, "manifests": []}
        self.index_path = os.path.join(root, "index.json")
        if os.path.exists(self.index_path):
            with open(self.index_path, encoding="utf-8") as f:
                self.index = json.load(f)

    def put(self, data):
        h = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.root, "blobs/sha256", h), "wb") as f:
            f.write(data)
        return "sha256:" + h

    def descriptor(self, media_type, data):
        return {"mediaType": media_type, "digest": self.put(data), "size": len(data)}

    def tag(self, descriptor, name):
        rest = [m for m in self.index["manifests"] if m.get("annotations", {}).get(REF) != name]
        self.index["manifests"] = rest + [dict(descriptor, annotations={REF: name})]
        with open(self.index_path, "w", encoding="utf-8") as f:
            json.dump(self.index, f)

    def find(self, name):
        for m in self.index["manifests"]:
            if m.get("annotations", {}).get(REF) == name:
                return {k: v for k, v in m.items() if k != "annotations"}
        sys.exit("no tag " + name)


def plain(path, data):
    if path.endswith(".gz"):
        return gzip.decompress(data), "+gzip"
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dc", path], stdout=subprocess.PIPE, check=True).stdout, "+zstd"
    return data, ""


def accelerate(out, name, tag, path):
    """As overlaybd's convertor adds it: on top, with an id and a line of history of its own."""
    def load(digest):
        with open(os.path.join(out.root, "blobs", *digest.split(":")), "rb") as f:
            return json.load(f)

    with open(path, "rb") as f:
        data = f.read()
    m = load(out.find(name)["digest"])
    config = load(m["config"]["digest"])
    layer = out.descriptor(TYPE + "layer.v1.tar", data)
    config["rootfs"]["diff_ids"].append(layer["digest"])
    config["history"].append({"created_by": "Acceleration Layer"})
    key = "containerd.io/snapshot/overlaybd/"
    layer["annotations"] = {key + "acceleration-layer": "yes", key + "version": "0.1.0",
                            key + "blob-digest": layer["digest"], key + "blob-size": str(len(data))}
    m["layers"].append(layer)
    m["config"] = out.descriptor(m["config"]["mediaType"], json.dumps(config).encode())
    out.tag(out.descriptor(TYPE + "manifest.v1+json", json.dumps(m).encode()), tag)


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--arch", default="amd64")
    p.add_argument("--diff-id")
    p.add_argument("--index")
    p.add_argument("--accelerate")
    p.add_argument("root")
    p.add_argument("tag")
    p.add_argument("layers", nargs="*")
    a = p.parse_args()
    out = Layout(a.root)
    if a.index:
        found = []
        for name in a.index.split(","):
            m = out.find(name)
            with open(os.path.join(a.root, "blobs", *m["digest"].split(":")), "rb") as f:
                config = json.load(f)["config"]["digest"]
            with open(os.path.join(a.root, "blobs", *config.split(":")), "rb") as f:
                c = json.load(f)
            found.append(dict(m, platform={"os": c["os"], "architecture": c["architecture"]}))
        data = json.dumps({"schemaVersion": 2, "mediaType": TYPE + "index.v1+json",
                           "manifests": found}).encode()
        out.tag(out.descriptor(TYPE + "index.v1+json", data), a.tag)
        return
    if a.accelerate:
        accelerate(out, a.accelerate, a.tag, *a.layers)
        return
    layers, ids = [], []
    for path in a.layers:
        with open(path, "rb") as f:
            data = f.read()
        tar, suffix = plain(path, data)
        ids.append(a.diff_id or "sha256:" + hashlib.sha256(tar).hexdigest())
        layers.append(out.descriptor(TYPE + "layer.v1.tar" + suffix, data))
    config = json.dumps({
        "architecture": a.arch, "os": "linux", "created": "2024-01-01T00:00:00Z",
        "author": "somebody \u00fc", "unknown": {"kept": [1, 2.5, None]},
        "config": {"Env": ["PATH=/bin", "A=b"], "Labels": {"x": "y"}, "Entrypoint": ["/bin/sh"],
                   "Volumes": {"/v": {}}, "StopSignal": "SIGQUIT"},
        "rootfs": {"type": "layers", "diff_ids": ids},
        "history": [{"created_by": "layer %d" % i} for i in range(len(ids))] +
                   [{"created_by": "ENV", "empty_layer": True}]}).encode()
    manifest = json.dumps({"schemaVersion": 2, "mediaType": TYPE + "manifest.v1+json",
                           "config": out.descriptor(TYPE + "config.v1+json", config),
                           "layers": layers}).encode()
    out.tag(out.descriptor(TYPE + "manifest.v1+json", manifest), a.tag)


if __name__ == "__main__":
    main()
