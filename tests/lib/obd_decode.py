#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An independent decoder of overlaybd images: nothing of headstart is used.

usage: obd_decode.py [--device FILE] OCI_DIR TAG
       obd_decode.py [--device FILE] --blobs BLOB...        bottom first

Checks every layer against what overlaybd's own writer makes (tar envelope, ZFile header and trailer,
jump table, every block's CRC, LSMT header, index, padding, trailer, uuid chain), for an OCI directory
also media types, annotations, digests and diff IDs, and writes the merged device as a sparse file.
Prints one line per layer. Exit 0 good, 1 the first rule that is broken.
"""
import argparse
import ctypes
import ctypes.util
import hashlib
import json
import os
import re
import struct
import sys

MAX_RECORDS = 1000000
INVALID = (1 << 50) - 1
LSMT_MAGIC = bytes.fromhex("4c534d5400010200") + bytes.fromhex("657e63d29444084ca2d2c8ec4fcfae8a")
ZFILE_MAGIC = b"ZFile\0\1\0" + b"tuji.yyf@Alibaba"
UUID = re.compile(rb"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\0")
NO_UUID = b"00000000-0000-0000-0000-000000000000\0"


class Broken(Exception):
    pass


def need(cond, text, *args):
    if not cond:
        raise Broken(text % args if args else text)


def make_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


TABLE = make_table()


def crc32c(data, crc=0):
    """Raw: no inversion at either end."""
    table = TABLE
    for b in data:
        crc = crc >> 8 ^ table[(crc ^ b) & 255]
    return crc


def library(name):
    return ctypes.CDLL(ctypes.util.find_library(name) or "lib%s.so.1" % name)


class Codecs:
    def __init__(self):
        self.zstd = library("zstd")
        self.zstd.ZSTD_decompress.restype = ctypes.c_size_t
        self.zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t,
                                              ctypes.c_char_p, ctypes.c_size_t]
        self.lz4 = library("lz4")
        self.lz4.LZ4_decompress_safe.argtypes = [ctypes.c_char_p, ctypes.c_char_p,
                                                 ctypes.c_int, ctypes.c_int]

    def decode(self, algo, src, size):
        out = ctypes.create_string_buffer(size)
        if algo == 2:
            n = self.zstd.ZSTD_decompress(out, size, src, len(src))
        else:
            n = self.lz4.LZ4_decompress_safe(src, out, len(src), size)
        need(n == size, "a block decodes to %d bytes instead of %d", n, size)
        return out.raw


CODECS = Codecs()


def tar_checksum(h):
    return sum(h[:148]) + 8 * 32 + sum(h[156:512])


def number(field):
    text = field.strip(b" \0")
    return int(text, 8) if text else 0


def strip_tar(b):
    need(len(b) % 512 == 0, "the blob is not whole tar blocks")
    for at, name, kind in ((0, b"overlaybd.pax", b"x"), (1024, b"overlaybd.commit", b"0")):
        h = b[at:at + 512]
        need(h[257:265] == b"ustar\x0000", "tar header at %d: magic or version", at)
        need(h[:100].rstrip(b"\0") == name, "tar header at %d: name", at)
        need(h[156:157] == kind, "tar header at %d: type", at)
        need(number(h[148:156]) == tar_checksum(h), "tar header at %d: checksum", at)
    size = number(b[124:136])
    record = b[512:512 + size]
    m = re.fullmatch(rb"(\d+) size=(\d+)\n", record)
    need(m and int(m.group(1)) == size, "pax record %r", record)
    need(not any(b[512 + size:1024]), "garbage behind the pax record")
    need(number(b[1024 + 124:1024 + 136]) == 0, "size in the second tar header is not 0")
    payload = int(m.group(2))
    end = 1536 + (payload + 511) // 512 * 512
    need(end + 1024 == len(b), "envelope: payload of %d in a blob of %d", payload, len(b))
    need(not any(b[1536 + payload:]), "envelope: tail is not zeros")
    return memoryview(b)[1536:1536 + payload]


def zfile_head(p, flags, what):
    raw = bytes(p)
    need(raw[:24] == ZFILE_MAGIC, "%s: magic", what)
    size, digest, have, index_offset, index_size, original, index_crc, _, block = \
        struct.unpack_from("<IIQQQQIII", raw, 24)
    need(size == 96, "%s: size field", what)
    need(have == flags, "%s: flags %#x instead of %#x", what, have, flags)
    need(crc32c(raw[:28] + bytes(4) + raw[32:]) == digest, "%s: digest", what)
    algo, _, use_dict, _, _, dict_size, verify = struct.unpack_from("<BBBBIIB", raw, 76)
    need(algo in (1, 2) and verify == 1 and not use_dict and not dict_size, "%s: options", what)
    need(not any(raw[96:]), "%s: bytes behind the fields", what)
    return index_offset, index_size, original, index_crc, block, algo


def unzfile(z):
    head = zfile_head(z[:512], 0x1B, "ZFile header")
    need(zfile_head(z[-512:], 0x16, "ZFile trailer") == head, "ZFile header and trailer differ")
    index_offset, count, original, index_crc, block, algo = head
    need(block & (block - 1) == 0 and 4096 <= block <= 32768, "ZFile: block size %d", block)
    need(count == (original + block - 1) // block, "ZFile: %d table entries", count)
    need(index_offset + count * 4 + 512 == len(z), "ZFile: index is not before the trailer")
    table = bytes(z[index_offset:index_offset + count * 4])
    need(crc32c(table) == index_crc, "ZFile: index CRC")
    at, out = 512, []
    for i, stored in enumerate(struct.unpack("<%dI" % count, table)):
        need(4 < stored <= 65536, "ZFile: block %d stored as %d", i, stored)
        data = bytes(z[at:at + stored - 4])
        crc = struct.unpack("<I", z[at + stored - 4:at + stored])[0]
        need(crc32c(data, 100007) == crc, "ZFile: CRC of block %d", i)
        out.append(CODECS.decode(algo, data, min(block, original - i * block)))
        at += stored
    need(at == index_offset, "ZFile: blocks end at %d, index is at %d", at, index_offset)
    return b"".join(out), "%s-%dK" % ({1: "lz4", 2: "zstd"}[algo], block // 1024)


def lsmt_head(p, flags, what):
    need(p[:24] == LSMT_MAGIC, "%s: magic", what)
    size, have, index_offset, count, virtual = struct.unpack_from("<IIQQQ", p, 24)
    need(size == 390 and p[132] == 1 and p[133] == 1, "%s: size or version", what)
    need(have == flags, "%s: flags %#x instead of %#x", what, have, flags)
    need(UUID.match(p[56:93]) and UUID.match(p[93:130]), "%s: uuid text", what)
    need(not any(p[390:4096]), "%s: bytes behind the fields", what)
    return index_offset, count, virtual, p[56:93], p[93:130]


def read_lsmt(layer):
    """[(device sector, sectors, layer sector or None)], virtual size, uuid, parent"""
    head = lsmt_head(layer[:4096], 7, "LSMT header")
    index_offset, count, virtual, uuid, parent = lsmt_head(layer[-4096:], 6, "LSMT trailer")
    need(head[:2] == (0, 0) and head[2:] == (virtual, uuid, parent), "LSMT header and trailer differ")
    need(count <= MAX_RECORDS and count % 256 == 0, "LSMT: %d records", count)
    need(index_offset % 512 == 0 and index_offset + count * 16 + 4096 == len(layer),
         "LSMT: the index is not just before the trailer")
    end, last, padding, out, used = index_offset // 512, 0, False, [], 0
    for w0, w1 in struct.iter_unpack("<QQ", layer[index_offset:index_offset + count * 16]):
        off, n = w0 & (1 << 50) - 1, w0 >> 50
        moff, zeroed, tag = w1 & (1 << 55) - 1, w1 >> 55 & 1, w1 >> 56
        if off == INVALID:
            need(n == 0 and w1 == 0, "LSMT: padding record")
            padding = True
            continue
        need(not padding, "LSMT: a record behind the padding")
        need(1 <= n <= 16383 and tag == 0, "LSMT: record of %d sectors, tag %d", n, tag)
        need(off >= last and (off + n) * 512 <= virtual, "LSMT: record at %d out of order", off)
        need(8 <= moff and moff + (0 if zeroed else n) <= end, "LSMT: record maps to %d", moff)
        last = off + n
        used += 0 if zeroed else n
        out.append((off, n, None if zeroed else moff))
    need(used * 512 == index_offset - 4096, "LSMT: %d data sectors, %d are mapped",
         (index_offset - 4096) // 512, used)
    return out, virtual, uuid, parent


def merge(device, layers, virtual):
    with open(device, "wb") as f:
        f.truncate(virtual)
        for layer, records in layers:
            for off, n, moff in records:
                f.seek(off * 512)
                f.write(bytes(n * 512) if moff is None else layer[moff * 512:(moff + n) * 512])


def oci_blobs(root, tag):
    def blob(digest):
        with open(os.path.join(root, "blobs", *digest.split(":")), "rb") as f:
            b = f.read()
        need("sha256:" + hashlib.sha256(b).hexdigest() == digest, "digest of %s", digest)
        return b

    with open(os.path.join(root, "index.json"), encoding="utf-8") as f:
        entries = json.load(f)["manifests"]
    found = [e for e in entries
             if e.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag]
    need(len(found) == 1, "tag %s: %d entries", tag, len(found))
    raw = blob(found[0]["digest"])
    m = json.loads(raw)
    if "manifests" in m:
        m = json.loads(blob(m["manifests"][0]["digest"]))
    config = json.loads(blob(m["config"]["digest"]))
    need(m["schemaVersion"] == 2, "schemaVersion")
    kinds = {"application/vnd.oci.image.manifest.v1+json":
             ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"),
             "application/vnd.docker.distribution.manifest.v2+json":
             ("application/vnd.docker.container.image.v1+json",
              "application/vnd.docker.image.rootfs.diff.tar")}
    need(m["mediaType"] in kinds, "manifest media type %s", m["mediaType"])
    config_type, layer_type = kinds[m["mediaType"]]
    need(m["config"]["mediaType"] == config_type, "config media type")
    need(config["rootfs"]["diff_ids"] == [d["digest"] for d in m["layers"]], "diff IDs")
    out = []
    for d in m["layers"]:
        a, b = d["annotations"], blob(d["digest"])
        need(d["mediaType"] == layer_type, "layer media type %s", d["mediaType"])
        need(d["size"] == len(b), "size of %s", d["digest"])
        prefix = "containerd.io/snapshot/overlaybd/"
        need(a[prefix + "blob-digest"] == d["digest"], "annotation blob-digest")
        need(a[prefix + "blob-size"] == str(len(b)), "annotation blob-size")
        need(a[prefix + "version"] == "0.1.0", "annotation version")
        out.append((d["digest"], b))
    return out


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1])
    p.add_argument("--device")
    p.add_argument("--blobs", action="store_true")
    p.add_argument("args", nargs="+")
    a = p.parse_args()
    try:
        if a.blobs:
            blobs = []
            for name in a.args:
                with open(name, "rb") as f:
                    blobs.append((name, f.read()))
        else:
            need(len(a.args) == 2, "an OCI directory and a tag are needed")
            blobs = oci_blobs(*a.args)
        layers, virtual, above = [], 0, None
        for name, b in blobs:
            layer, codec = unzfile(strip_tar(b))
            records, virtual, uuid, parent = read_lsmt(layer)
            need(parent == (above or NO_UUID), "%s: parent uuid %s", name, parent)
            above = uuid
            layers.append((layer, records))
            print("%s: %d bytes, %s, layer %d bytes, %d records, device %d" %
                  (name, len(b), codec, len(layer), len(records), virtual))
        if a.device:
            merge(a.device, layers, virtual)
    except (Broken, KeyError, struct.error, OSError) as e:
        print("obd_decode: %s: %s" % (type(e).__name__, e), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
