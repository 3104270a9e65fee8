#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the golden traces and prefetch lists beside this script, from trace/FORMAT.md alone.

The results are kept in version control; this is run again only for a new version, under other
names: files of old versions stay. golden_files.c says what each of them must do.
"""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
POLY = 0x82F63B78


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLY if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def var(n):
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def zigzag(n):
    return var(n << 1 if n >= 0 else (-n << 1) - 1)


def text(s):
    return var(len(s)) + s.encode()


def u64(n):
    return struct.pack("<Q", n)


def block(kind, payload):
    raw = struct.pack("<II", kind, len(payload)) + payload
    return raw + struct.pack("<I", crc32c(raw))


def header(magic, version=1):
    raw = magic + struct.pack("<I", version)
    return raw + struct.pack("<I", crc32c(raw))


def items(kind, rows):
    return block(kind, var(len(rows)) + b"".join(rows))


def put(name, data):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(data)


DIGEST = "sha256:" + "0123456789abcdef" * 4


def event(bits, ns, off, size, obj=None, process=None):
    out = bytes([bits | (0x10 if obj is not None else 0) | (0x20 if process is not None else 0)])
    out += var(ns)
    out += var(obj) if obj is not None else b""
    out += var(process) if process is not None else b""
    return out + zigzag(off) + var(size)


def traces():
    head = header(b"HSTRACE\n") + block(1, (
        text("docker://r.example/web:1") + text(DIGEST) + text("6.1.0-13-amd64") +
        text("device 7:3") + u64(1700000000123456789) + var(1) + u64(0)))
    dev = 7 << 20 | 3
    objects = items(2, [var(2) + var(dev) + var(0) + var(0),
                        var(1) + var(dev) + var(131) + var(9000),
                        var(1) + var(dev) + var(9999) + var(5)])
    processes = items(3, [var(1) + text("runc:[2:INIT]"), var(41) + text("nginx")])
    events = items(4, [
        event(4, 1000, 1024, 4096),                          # device cached at 1024
        event(1, 250, 0, 8192, obj=1, process=1),            # file read from 0
        event(2, 0, 0, 808),                                 # fault on what follows
        event(5 | 8, 5000000, 67108864, 131072, obj=0),      # block, read-ahead
        event(3, 10, -65536 - 131072, 65536),                # mapped, backwards
        event(1, 300, 0, 5, obj=2, process=0),               # the file without a path
    ])
    end = (items(5, [var(1) + var(9000) + text("/usr/sbin/nginx")]) +
           block(6, var(2) + var(1) + var(9000000000) + text("idle")))
    whole = head + objects + processes + events + end
    put("trace-1.bin", whole)
    put("trace-1-cut.bin", whole[:-10])
    at = len(head + objects + processes) + 20
    put("trace-1-damaged.bin", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
    put("trace-1-bad-object.bin", head + processes + events + end)
    put("trace-2-newer.bin", header(b"HSTRACE\n", 2) + whole[16:])
    put("trace-1-more.bin", head + block(4096, b"of a later headstart") + whole[len(head):])


def lists():
    head = header(b"HSPLIST\n") + block(1, (
        var(1) + text(DIGEST) + text("docker://r.example/web:1") + var(1700000000) + var(3)))
    blobs = items(2, [var(1) + bytes(range(32)) + var(1000000),
                      var(1) + bytes(range(32, 64)) + var(70000),
                      var(0) + var(4096)])
    ranges = items(3, [
        var(0) + zigzag(500000) + var(40000),                # blob 0 at 500000, 0 ms
        var(6 << 1 | 1) + var(1) + zigzag(0) + var(70000),   # 3 ms later all of blob 1
        var(1) + var(0) + zigzag(-540000) + var(12345),      # blob 0 from 0
        var(40 << 1) + zigzag(1000) + var(1),                # 20 ms later, behind a gap of 1000
    ])
    files = items(4, [var(0) + text("/etc/nginx/nginx.conf") + var(643),
                      var(11) + text("mime.types") + var(5000),
                      var(1) + text("usr/sbin/nginx") + var(1234567)])
    touches = items(5, [
        var(1) + var(0) + zigzag(1024) + var(4096),          # the device
        var(2 << 1 | 1) + var(3) + zigzag(0) + var(4096),    # file 2, 1 ms later
        var(0) + zigzag(8192) + var(4096),                   # the same file, further on
        var(1) + var(1) + zigzag(0) + var(643),
    ])
    end = block(6, b"")
    whole = head + blobs + ranges + files + touches + end
    put("list-1.bin", whole)
    put("list-1-ranges.bin", head + blobs + ranges + end)
    put("list-1-files.bin", head + files + touches + end)
    put("list-1-cut.bin", whole[:-12])
    put("list-1-damaged.bin", whole[:200] + bytes([whole[200] ^ 4]) + whole[201:])
    put("list-1-longer.bin", whole + b"\0")
    put("list-2-newer.bin", header(b"HSPLIST\n", 2) + whole[16:])
    put("list-1-more.bin", whole[:-12] + block(4096, b"of a later headstart") + end)
    put("list-1-outside.bin", head + blobs + items(3, [
        var(0) + zigzag(999999) + var(2)]) + end)
    put("list-1-twice.bin", head + blobs + items(3, [
        var(0) + zigzag(0) + var(100), var(0) + zigzag(-1) + var(100)]) + end)


if __name__ == "__main__":
    traces()
    lists()
