#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Enforce the one-way order of the directories over #include lines.

A lower layer never names an upper one. EDGES below is the whole truth; CMake links the same
edges. Also checked: file names of sources and headers are unique in the tree, headers have the
guard HS_<DIR>_<FILE>_H, every quoted include names a file of the tree, and no include names a
path. Exit 0 clean, 1 findings.
"""
import os
import re
import subprocess
import sys

# What a directory (or one file of it) may include besides itself.
EDGES = {
    "engine/base": [],
    "engine/codec": ["engine/base"],
    "engine/format": ["engine/base", "engine/codec"],
    "engine/loop": ["engine/base"],
    "engine/image": ["engine/base", "engine/format"],
    "engine/source": ["engine/base", "engine/codec", "engine/format", "engine/loop"],
    "engine/cache": ["engine/base", "engine/codec", "engine/loop"],
    "engine/path": ["engine/base", "engine/codec", "engine/format", "engine/loop",
                    "engine/image", "engine/source", "engine/cache"],
    "engine/device": ["engine/base", "engine/codec", "engine/format", "engine/loop",
                      "engine/image", "engine/source", "engine/cache", "engine/path"],
    "engine": ["engine/*"],
    # outside the engine: its public header and base/; what is named besides says why
    "tools": ["engine", "engine/base", "trace", "prefetch", "tools/convert"],
    # the converter is made of encoders and stores, and lays layers out by a prefetch list
    "tools/convert": ["engine", "engine/base", "engine/codec", "engine/format", "engine/source",
                      "trace", "prefetch"],
    # its command hands it names and a network, in its own terms
    "tools/cmd_convert.c": ["engine", "engine/base", "engine/source", "trace", "prefetch",
                            "tools", "tools/convert"],
    # bpf/ and trace/ share the event header that bpf/ owns
    "bpf": [],
    # their files carry CRC-32C
    "trace": ["engine", "engine/base", "engine/codec", "bpf"],
    # and overlaybd's own traces are read as input
    "prefetch": ["engine", "engine/base", "engine/codec", "engine/format", "trace"],
    "bench": ["engine", "engine/*", "tools/convert", "trace", "prefetch"],
    "tests": ["engine", "engine/*", "tools", "tools/*", "trace", "prefetch", "bpf"],
}
# Third-party headers that belong to one layer only: naming them elsewhere is a leak of it.
OWNED = {
    "liburing.h": ["engine/loop"],
    "curl/curl.h": ["engine/source"],
    "linux/fuse.h": ["engine/device"],
    "ext2fs/ext2fs.h": ["tools/convert", "trace"],
    "bpf/libbpf.h": ["trace"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def layer_of(path):
    """The longest key of EDGES that holds the file; a new engine directory needs a key of its own."""
    d = path
    while d:
        if d in EDGES:
            return d
        d = os.path.dirname(d)
        if d == "engine" and os.path.dirname(path) != d:
            return None
    return None


def allowed(frm, to):
    if frm == to:
        return True
    for e in EDGES[frm]:
        if e == to or (e.endswith("/*") and to.startswith(e[:-1])):
            return True
    return False


def check(root, files):
    sources = [f for f in files if f.endswith((".c", ".h"))]
    where, out = {}, []
    for f in sources:
        name = os.path.basename(f)
        if name in where:
            out.append("%s:1: file name is taken by %s" % (f, where[name]))
        where.setdefault(name, f)
    for f in sources:
        layer = layer_of(f)
        if layer is None:
            out.append("%s:1: directory has no place in EDGES of check_includes.py" % f)
            continue
        with open(os.path.join(root, f), encoding="utf-8") as fh:
            lines = fh.read().split("\n")
        for n, line in enumerate(lines, 1):
            m = INCLUDE.match(line)
            if not m:
                continue
            if m.group(2):
                homes = OWNED.get(m.group(2))
                if homes and layer not in homes and not layer.startswith(("tests", "bench")):
                    out.append("%s:%d: <%s> belongs to %s" % (f, n, m.group(2), ", ".join(homes)))
                continue
            name = m.group(1)
            # a test may take in the source of a command, which is in no library
            if "/" in name and not (layer == "tests" and name.endswith(".c")):
                out.append("%s:%d: include \"%s\" by its file name alone" % (f, n, name))
            target = where.get(os.path.basename(name))
            if target is None:
                out.append("%s:%d: \"%s\" is not in the tree" % (f, n, name))
                continue
            to = layer_of(target)
            if to is None or allowed(layer, to):
                continue
            out.append("%s:%d: %s may not include %s (%s)" % (f, n, layer, target, to))
        if f.endswith(".h"):
            stem = os.path.basename(f)[:-2].upper()
            if layer == "tests":
                guards = re.findall(r"^#ifndef (HS_\w*%s_H)$" % stem, "\n".join(lines), re.M)
            else:
                guards = ["HS_%s_%s_H" % (os.path.basename(os.path.dirname(f)).upper(), stem),
                          "HS_%s_H" % os.path.basename(os.path.dirname(f)).upper()]
            text = "\n".join(lines)
            if not any("#ifndef %s\n#define %s\n" % (g, g) in text for g in guards):
                out.append("%s:1: no include guard HS_%s_%s_H" % (
                    f, os.path.basename(os.path.dirname(f)).upper(), stem))
    return out


def tracked(root):
    """Files of the tree, those not committed yet included."""
    r = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others",
                        "--exclude-standard"], capture_output=True, check=False)
    if r.returncode == 0:
        names = {os.fsdecode(n) for n in r.stdout.split(b"\0") if n}
        return sorted(n for n in names if os.path.isfile(os.path.join(root, n)))
    found = []
    for d, dirs, names in os.walk(root):
        dirs[:] = [x for x in dirs if not x.startswith((".git", "build"))]
        found += [os.path.relpath(os.path.join(d, n), root) for n in names]
    return sorted(found)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../..")
    findings = check(root, tracked(root))
    for line in findings:
        print(line)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
