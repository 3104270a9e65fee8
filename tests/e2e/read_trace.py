#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second reader of trace files, written from trace/FORMAT.md alone: prints one as JSON.

Usage: read_trace.py FILE
       read_trace.py FILE pages KIND[,KIND...] PATH    pages of PATH, "0 1 2 7"

"truncated" tells that there is no end block. Exit 1 when the file is no trace.
"""
import json
import struct
import sys

PAGE = 4096
KINDS = {1: "read", 2: "fault", 3: "mapped", 4: "cached", 5: "block"}


def crc32c(data, table=[]):  # noqa: B006  (made once)
    if not table:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
            table.append(i)
    crc = 0xffffffff
    for b in data:
        crc = crc >> 8 ^ table[(crc ^ b) & 255]
    return crc ^ 0xffffffff


class View:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise ValueError("payload ends too early")
        self.at += n
        return self.data[self.at - n:self.at]

    def var(self):
        value = shift = 0
        while True:
            b = self.take(1)[0]
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def text(self):
        return self.take(self.var()).decode()


def zigzag(v):
    return v >> 1 ^ -(v & 1)


def blocks(data):
    if data[:8] != b"HSTRACE\n" or len(data) < 16:
        raise ValueError("not a trace")
    if struct.unpack("<I", data[12:16])[0] != crc32c(data[:12]):
        raise ValueError("bad header")
    at = 16
    while at + 12 <= len(data):
        kind, n = struct.unpack("<II", data[at:at + 8])
        if at + 12 + n > len(data):
            return
        if struct.unpack("<I", data[at + 8 + n:at + 12 + n])[0] != crc32c(data[at:at + 8 + n]):
            return
        yield kind, View(data[at + 8:at + 8 + n])
        at += 12 + n


def read(data):
    t = {"objects": [], "processes": [], "events": [], "truncated": True}
    for kind, v in blocks(data):
        if kind == 1:
            t.update(image=v.text(), digest=v.text(), kernel=v.text(), filter=v.text(),
                     unix_ns=v.u64(), precision=v.var(), read_ahead=v.u64())
        elif kind == 2:
            for _ in range(v.var()):
                t["objects"].append({"kind": v.var(), "dev": v.var(), "ino": v.var(),
                                     "bytes": v.var(), "path": None})
        elif kind == 3:
            for _ in range(v.var()):
                t["processes"].append({"pid": v.var(), "comm": v.text()})
        elif kind == 4:
            at = obj = proc = end = 0
            for _ in range(v.var()):
                bits = v.take(1)[0]
                at += v.var()
                if bits & 16:
                    obj, end = v.var(), 0
                if bits & 32:
                    proc = v.var()
                off = (end + zigzag(v.var())) & (1 << 64) - 1
                n = v.var()
                end = off + n
                t["events"].append({"at_ns": at, "kind": KINDS[bits & 7], "ahead": bool(bits & 8),
                                    "object": obj, "process": proc, "off": off, "bytes": n})
        elif kind == 5:
            for _ in range(v.var()):
                o = t["objects"][v.var()]
                o["bytes"], o["path"] = v.var(), v.text()
        elif kind == 6:
            t.update(truncated=False, lost=v.var(), unattributed=v.var(), ended_ns=v.var(),
                     ended_by=v.text())
    return t


def pages(t, kinds, path):
    found = set()
    for e in t["events"]:
        if e["kind"] in kinds and t["objects"][e["object"]]["path"] == path:
            found |= set(range(e["off"] // PAGE, (e["off"] + e["bytes"] + PAGE - 1) // PAGE))
    return sorted(found)


def main():
    with open(sys.argv[1], "rb") as f:
        data = f.read()
    try:
        t = read(data)
    except ValueError as e:
        print(e, file=sys.stderr)
        return 1
    if len(sys.argv) > 2:
        print(*pages(t, sys.argv[3].split(","), sys.argv[4]))
    else:
        json.dump(t, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
