#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the seed corpora of the format fuzz targets out of the golden vectors.

Run in tests/corpus; the results are kept in version control, so this is needed only when a
target's input changes. Each corpus has good inputs and at least one that must be refused.
"""
import base64
import glob
import gzip
import hashlib
import json
import os
import struct
import subprocess
import tempfile
import zlib

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../golden/vectors")


def golden(name):
    with open(os.path.join(GOLDEN, name), "rb") as f:
        return f.read()


def put(target, name, data):
    os.makedirs(target, exist_ok=True)
    with open(os.path.join(target, name), "wb") as f:
        f.write(data)


def gz(data, level=6):
    return gzip.compress(data, level, mtime=0)


def plain_bytes(n):
    """Compressible and reproducible."""
    out, h = b"", hashlib.sha256(b"headstart").digest()
    while len(out) < n:
        h = hashlib.sha256(h).digest()
        out += h[:7] * (1 + h[8] % 9) + h
    return out[:n]


def tars():
    for name in ("base.lz4-4k.tar", "tar-plain-ustar-zfile.tar", "tar-gnu-magic.tar",
                 "tar-checksum-bad.tar", "tar-truncated.tar"):
        put("tar_envelope", name, golden("edge/" + name)[:4096])
    whole = golden("zfile/odd.zstd-16k.tar")
    put("tar_envelope", "fits.tar", whole[:1536] + bytes(len(whole) - 1536))


def zfiles():
    for name in ("one.lz4-4k", "one.zstd-16k", "b4097.zstd-16k", "b4096.lz4-4k", "zeros.zstd-16k"):
        put("zfile", name, golden("zfile/%s.zfile" % name))
    for name in ("digest-bad", "table-zero-entry", "old-no-digest", "trailer-only-truncated"):
        put("zfile", "edge-" + name, golden("edge/zfile-%s.zfile" % name))


def lsmts():
    base = golden("edge/base.lsmt")
    put("lsmt", "base", base)
    for name in ("out-of-order", "overlap", "tag-nonzero", "zeroed-moffset-0"):
        put("lsmt", name, golden("edge/lsmt-%s.lsmt" % name))
    put("lsmt", "rw-index", golden("rw/rw.index"))


def gzidxs():
    for n, target in (("L2", "src/L2.tar.gz"), ("L3", "src/L3.tar.gz")):
        head = struct.pack("<I", len(golden(target)))
        put("gzidx", n, head + golden("turbo/ext4-gz.%s.gzip.meta" % n))
    put("gzidx", "target-size", head + golden("edge/gzip-meta-target-size.gzip.meta"))
    put("gzidx", "truncated", head + golden("edge/gzip-meta-truncated.gzip.meta"))


def gzips():
    data = plain_bytes(12000)
    put("gzidx_build", "one", gz(data))
    put("gzidx_build", "members", gz(data[:5000]) + gz(b"") + gz(data[5000:], 1) + bytes(100))
    put("gzidx_build", "spans", gz(bytes(140000)) + gz(data, 9))
    put("gzidx_build", "cut", gz(data)[:-5])
    for size in (0x00, 0xFF):
        put("unpack", "gzip-%x" % size, bytes([size]) + gz(data))
        put("unpack", "members-%x" % size, bytes([size]) + gz(data[:100]) + gz(data) + bytes(9))
        put("unpack", "plain-%x" % size, bytes([size]) + data[:1000])
    put("unpack", "cut", b"\x80" + gz(data)[:-3])
    put("unpack", "crc", b"\x80" + gz(data)[:-8] + bytes(8))
    frame = golden("src/LC.tar.zst")
    put("unpack", "zstd", b"\x33" + frame[:4000])
    put("unpack", "zstd-frames", b"\x33" + bytes.fromhex("502a4d18020000000102") + frame)


def from_bit(data, k):
    """The stream that starts at bit @k of @data, moved to a byte boundary."""
    return (int.from_bytes(data, "little") >> k).to_bytes(len(data), "little")


def spans():
    """As the target takes them: from inside a stream, the window before, the bits in between."""
    data = plain_bytes(30000)
    want = set(range(8))
    for at in range(2600, 20000, 13):
        z = zlib.compressobj(6, zlib.DEFLATED, -15)
        z.compress(data[:at])
        z.flush(zlib.Z_BLOCK)
        # the bits of the last begun byte are still in there: they come first now
        body = z.compress(data[at:at + 2000]) + z.flush()
        window = data[at - 2560:at]
        for k in range(8):
            d = zlib.decompressobj(-15, window)
            try:
                if d.decompress(from_bit(body, k)) != data[at:at + 2000]:
                    continue
            except zlib.error:
                continue
            bits = (8 - k) % 8
            if bits in want:
                want.remove(bits)
                stream = body[1:] if bits else body
                put("inflate", "bits%d" % bits,
                    bytes([bits, body[0], 0xCF, 0x07, 20]) + window + stream)
    assert not want
    put("inflate", "whole", bytes([0, 0, 0xFF, 0x1F, 0]) + gz(data)[10:6000])
    put("inflate", "members", bytes([0, 0, 0xFF, 0x0F, 0]) + gz(data[:999])[10:] + gz(data[:9000]))
    put("inflate", "refused", bytes([0, 0, 0xFF, 0x0F, 0]) + b"\xff" * 50)


def own_files():
    put("file_list", "paths", b"/usr/bin/python3\n  /etc/conf.d/ \r\n\nusr/lib/x_1.so-2\n")
    put("file_list", "refused", b"/usr/bin/*\n")
    here = os.path.join(GOLDEN, "../files")
    for name in sorted(os.listdir(here)):
        if name.endswith(".bin"):
            with open(os.path.join(here, name), "rb") as f:
                put("trace" if name.startswith("trace") else "prefetch_list", name[:-4], f.read())


def documents():
    for path in sorted(glob.glob(GOLDEN + "/cfg/*.json")):
        name = os.path.basename(path).replace(".config.v1.json", "")
        if name.split("-")[0] in ("native", "turbo", "sealed", "trace"):
            put("image_config", name, golden("cfg/" + os.path.basename(path)))
    put("image_config", "refused", b'{"lowers":[{"file":"a","size":"7"}],"upper":{"index":"i"}}')
    for name in ("trace.bin", "trace-corrupt.bin", "trace-truncated.bin"):
        put("obd_trace", name, golden("trace/" + name))
    digest = "sha256:" + hashlib.sha256(b"").hexdigest()
    desc = '{"mediaType":"%s","digest":"' + digest + '","size":7%s}'
    oci = "application/vnd.oci.image."
    platform = ',"platform":{"os":"linux","architecture":"amd64","variant":"v2"}'
    notes = ',"annotations":{"containerd.io/snapshot/overlaybd/version":"0.1.0"}'
    put("oci", "manifest", ('{"schemaVersion":2,"mediaType":"%smanifest.v1+json","config":%s,"layers":'
                            '[%s,%s]}' % (oci, desc % (oci + "config.v1+json", ""),
                                          desc % (oci + "layer.v1.tar+gzip", ""),
                                          desc % (oci + "layer.v1.tar", notes))).encode())
    put("oci", "index", ('{"schemaVersion":2,"mediaType":"%sindex.v1+json","manifests":[%s,%s]}' % (
        oci, desc % (oci + "manifest.v1+json", platform), desc % ("x", ""))).encode())
    put("oci", "config", ('{"os":"linux","architecture":"arm64","config":{"Env":["A=1"],"Cmd":["sh"],'
                          '"Volumes":{"/v":{}},"User":"1"},"rootfs":{"type":"layers","diff_ids":["%s"]}}'
                          % digest).encode())
    put("oci", "schema1", b'{"schemaVersion":1,"fsLayers":[]}')
    put("oci", "both", ('{"schemaVersion":2,"manifests":[],"layers":[],"config":%s}'
                        % (desc % ("t", ""))).encode())
    referrers()


def referrers():
    """An artifact that refers to an image, and the list under a fallback tag that has it inline."""
    def described(kind, data, inline, **more):
        d = {"mediaType": kind, "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
             "size": len(data)}
        if inline:
            d["data"] = base64.b64encode(data).decode()
        return dict(d, **more)

    kind = "application/vnd.oci.image.manifest.v1+json"
    notes = {"org.opencontainers.image.created": "2024-05-06T07:08:09.123Z"}
    list_type = "application/vnd.headstart.prefetch.list.v1"
    part = "application/vnd.headstart.prefetch.%s.v1"
    artifact = {
        "schemaVersion": 2, "mediaType": kind, "artifactType": list_type,
        "config": described("application/vnd.oci.empty.v1+json", b"{}", True),
        "layers": [described(part % "ranges", b"the ranges", True),
                   described(part % "files", b"the files", False)],
        "subject": described(kind, b"the image", False), "annotations": notes}
    data = json.dumps(artifact, separators=(",", ":")).encode()
    put("oci", "artifact", data)
    lie = described(kind, data, True, artifactType=list_type, annotations=notes)
    lie["digest"] = "sha256:" + hashlib.sha256(b"something else").hexdigest()
    index = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described(kind, data, True, artifactType=list_type, annotations=notes), lie,
                      {"mediaType": "x/y", "digest": "sha512:00", "size": 1}]}
    put("oci", "referrers", json.dumps(index, separators=(",", ":")).encode())


def file_systems():
    """Small images of both file systems; needs e2fsprogs and erofs-utils."""
    uuid = "00112233-4455-6677-8899-aabbccddeeff"
    env = dict(os.environ, E2FSPROGS_FAKE_TIME="1", SOURCE_DATE_EPOCH="1")
    with tempfile.TemporaryDirectory() as top:
        tree = os.path.join(top, "tree")
        os.makedirs(os.path.join(tree, "d/e"))
        for name, data in (("d/small", b"x" * 40), ("d/e/file", bytes(range(250)) * 20),
                           ("tail", b"tail" * 300)):
            with open(os.path.join(tree, name), "wb") as f:
                f.write(data)
        with open(os.path.join(tree, "holes"), "wb") as f:
            for n in range(6):
                f.seek(n * 8192)
                f.write(b"h" * 1024)
        os.symlink("d/e/../small", os.path.join(tree, "link"))
        os.symlink("/" + "l" * 150, os.path.join(tree, "d/long"))
        os.link(os.path.join(tree, "tail"), os.path.join(tree, "d/hard"))
        for root, dirs, files in os.walk(tree):
            for name in dirs + files:
                os.utime(os.path.join(root, name), (1, 1), follow_symlinks=False)
        image = os.path.join(top, "image")
        for name, how in (
                ("ext4", "-t ext4 -O ^has_journal,^metadata_csum,^resize_inode"),
                ("ext4-csum", "-t ext4 -O ^has_journal,^resize_inode"),
                ("ext4-inline", "-t ext4 -O ^has_journal,^metadata_csum,^resize_inode,inline_data"),
                ("ext2", "-t ext2 -O ^resize_inode")):
            subprocess.run(["mke2fs", "-q", "-F", "-b", "1024", "-N", "24", "-I", "256", "-U",
                            uuid, "-E", "hash_seed=" + uuid] + how.split() +
                           ["-d", tree, image, "96k"], check=True, env=env)
            with open(image, "rb") as f:
                data = f.read()
            put("imagefs", name, data)
            os.unlink(image)
        put("imagefs", "ext2-cut", data[:40000])
        for name, how in (("erofs", ""), ("erofs-plain", "-Enoinline_data,force-inode-extended"),
                          ("erofs-chunks", "--chunksize=4096"), ("erofs-lz4", "-zlz4")):
            subprocess.run(["mkfs.erofs", "--quiet", "-T1", "-U", uuid, "--all-root"] +
                           how.split() + [image, tree], check=True, env=env,
                           stdout=subprocess.DEVNULL)
            with open(image, "rb") as f:
                data = f.read()
            put("imagefs", name, data)
            os.unlink(image)
        put("imagefs", "erofs-cut", data[:3000])


def elf(needed, interp=b"/lib/ld.so", text=512):
    """A small 64-bit ELF file: tables, code, constants, dynamic section."""
    strings = b"\0" + b"".join(n + b"\0" for n in needed) + b"$ORIGIN/lib\0"
    at, dyn = 1, b""
    for n in needed:
        dyn += struct.pack("<QQ", 1, at)
        at += len(n) + 1
    dyn += struct.pack("<QQ", 29, at) + struct.pack("<QQQQ", 5, 0x10000 + 1024, 10, len(strings))
    dyn += struct.pack("<QQQQ", 7, 0x10000 + 1200, 8, 48) + struct.pack("<QQ", 0x6FFFFEF5, 0x10400)
    dyn += bytes(16)
    text_at, const_at, data_at = 2048, 2048 + text, 2048 + text + 512

    def header(kind, flags, off, size):
        return struct.pack("<IIQQQQQQ", kind, flags, off, off + 0x10000, 0, size, size, 4096)

    headers = (header(3, 4, 900, len(interp) + 1) + header(1, 4, 0, 2048) +
               header(1, 5, text_at, text) + header(1, 4, const_at, 512) +
               header(1, 6, data_at, 512) + header(2, 6, data_at, len(dyn)) +
               header(0x6474E550, 4, const_at + 256, 64))
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0x10800, 64, 0,
                                                     0, 64, 56, len(headers) // 56, 0, 0, 0)
    out = bytearray(data_at + 512)
    out[:64], out[64:64 + len(headers)] = head, headers
    out[900:900 + len(interp)] = interp
    out[1024:1024 + len(strings)] = strings
    out[data_at:data_at + len(dyn)] = dyn
    return bytes(out)


def starts():
    good = elf([b"libc.so.6", b"libm.so.6"])
    put("elf_parts", "library", good)
    put("elf_parts", "alone", elf([], text=100))
    put("elf_parts", "cut", good[:1000])
    put("elf_parts", "class", good[:4] + b"\1" + good[5:])
    pairs = [(b"libc.so.6", b"/lib/libc.so.6"), (b"liba.so.1", b"/usr/lib/liba.so.1")]
    at, entries, strings = 48 + 24 * len(pairs), b"", b""
    for name, path in pairs:
        entries += struct.pack("<IIIIQ", 0x303, at, at + len(name) + 1, 0, 0)
        strings += name + b"\0" + path + b"\0"
        at += len(name) + len(path) + 2
    cache = (b"glibc-ld.so.cache1.1" + struct.pack("<II", len(pairs), len(strings)) + bytes(20) +
             entries + strings)
    put("ldcache", "new", cache)
    put("ldcache", "old", b"ld.so-1.7.0\0" + struct.pack("<I", 1) + bytes(16) + cache)
    put("ldcache", "count", cache[:20] + struct.pack("<I", 9999) + cache[24:])
    put("python_imports", "plain", b"\0import a, b.c as d\nfrom ..x import (y as z,\n  w)\n")
    put("python_imports", "blocks", b"\1def f():\n import x\nif TYPE_CHECKING:\n import y\n"
        b"try:\n  import z; from . import q\nexcept E:\n  pass\n")
    put("python_imports", "strings",
        b"\0'''\nimport a\n'''\nx = \"im\\\"port\"\nimport \\\n b\n")
    put("python_imports", "open", b"\0x = (\"\"\"\nimport a\n")


def mountinfo():
    good = (b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            b"30 22 0:25 / / rw - overlay overlay rw,lowerdir=/x\\134:y:/z\\040q,upperdir=/u,"
            b"workdir=/w\n0::/default/web\n")
    put("mountinfo", "overlay", good)
    put("mountinfo", "relative", b"1 2 0:3 / / rw a:1 b:2 - overlay o rw,lowerdir=2/fs:1/fs\n")
    put("mountinfo", "added", b"1 2 0:3 / / rw - overlay o rw,lowerdir+=/a:b,lowerdir+=/c\n")
    put("mountinfo", "cut", good[:90])
    put("mountinfo", "stat", b"12 (a (b) c) S 7 12 12 0 -1")


def program_image(files, links):
    """The bytes of a small file system with something to start; needs e2fsprogs."""
    uuid = "00112233-4455-6677-8899-aabbccddeeff"
    env = dict(os.environ, E2FSPROGS_FAKE_TIME="1")
    with tempfile.TemporaryDirectory() as top:
        tree, image = os.path.join(top, "tree"), os.path.join(top, "image")
        for name, data in files.items():
            path = os.path.join(tree, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)
            os.chmod(path, 0o755)
        for name, target in links.items():
            os.symlink(target, os.path.join(tree, name))
        for root, dirs, names in os.walk(tree):
            for name in dirs + names:
                os.utime(os.path.join(root, name), (1, 1), follow_symlinks=False)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-N", "48", "-I", "128",
                        "-U", uuid, "-E", "hash_seed=" + uuid + ",root_owner=0:0", "-O",
                        "^has_journal,^metadata_csum,^resize_inode", "-d", tree, image, "128k"],
                       check=True, env=env)
        with open(image, "rb") as f:
            return f.read()


def programs():
    files = {
        "run.sh": b"#!/bin/sh\nexec /bin/tool -x\n", "bin/sh": elf([b"libc.so.6"]),
        "bin/tool": elf([b"libb.so"], text=3000), "lib/ld.so": elf([]), "lib/libc.so.6": elf([]),
        "lib/libb.so": elf([b"libc.so.6"]), "etc/tool.conf": b"load x.so /etc/more\n",
        "bin/python3.11": elf([b"libc.so.6"]), "srv/app.py": b"import os, m\nfrom p import q\n",
        "srv/m.py": b"import m\n", "srv/p/__init__.py": b"from . import r\n",
        "srv/p/q.py": b"from ..m import x\n", "lib/python3.11/os.py": b"import sys\n"}
    data = program_image(files, {"bin/python3": "python3.11"})
    put("predict", "image", data)
    put("predict", "cut", data[:70000])
    # a script that ends within its first line
    put("predict", "line", program_image({"run.sh": b"#!/bin/sh", "bin/sh": elf([])}, {}))


if __name__ == "__main__":
    tars()
    zfiles()
    lsmts()
    gzidxs()
    gzips()
    spans()
    own_files()
    documents()
    file_systems()
    starts()
    mountinfo()
    programs()
