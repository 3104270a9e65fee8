#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare a directory tree with a listing of the golden vectors (truth/*.list.tsv).

usage: check_listing.py ROOT LIST.tsv     exit 0 equal, 1 different (one line per difference)
Columns: path, type, mode, uid, gid, size, sha256, target, xattrs, links, rdev, mtime. "-" in the
listing means "not said". Bytes outside 0x21..0x7E and "%" are %XX in paths and targets.
"""
import hashlib
import os
import stat
import sys

TYPES = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c",
         stat.S_IFBLK: "b", stat.S_IFIFO: "p", stat.S_IFSOCK: "s"}
COLUMNS = "path type mode uid gid size sha256 target xattrs nlink rdev mtime".split()


def quote(b):
    return "".join(chr(c) if 0x21 <= c <= 0x7E and c != 0x25 else "%%%02X" % c for c in b)


def describe(root, rel):
    path = os.path.join(root, rel) if rel != b"." else root
    st = os.lstat(path)
    kind = TYPES[stat.S_IFMT(st.st_mode)]
    row = dict.fromkeys(COLUMNS, "-")
    row.update(path=quote(rel), type=kind, mode="%04o" % stat.S_IMODE(st.st_mode),
               uid=str(st.st_uid), gid=str(st.st_gid), mtime=str(st.st_mtime_ns // 10**9))
    if kind == "f":
        h = hashlib.sha256()
        with open(path, "rb") as f:
            for piece in iter(lambda: f.read(1 << 20), b""):
                h.update(piece)
        row.update(sha256=h.hexdigest())
    if kind in "fl":
        row.update(size=str(st.st_size))
    if kind == "l":
        row.update(target=quote(os.readlink(path)))
    if kind in "cb":
        row.update(rdev="%d:%d" % (os.major(st.st_rdev), os.minor(st.st_rdev)))
    if kind != "d":
        row.update(nlink=str(st.st_nlink))
    names = sorted(n for n in os.listxattr(path, follow_symlinks=False))
    row.update(xattrs=",".join(
        "%s=%s" % (n, os.getxattr(path, n, follow_symlinks=False).hex()) for n in names))
    return row


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    root, want, bad = os.fsencode(sys.argv[1]), {}, 0
    with open(sys.argv[2], encoding="ascii") as f:
        for line in f:
            if not line.startswith("#"):
                row = dict(zip(COLUMNS, line.rstrip("\n").split("\t")))
                want[row["path"]] = row
    have = {".": describe(root, b".")}
    for base, dirs, files in os.walk(root):
        for n in dirs + files:
            rel = os.path.relpath(os.path.join(base, n), root)
            have[quote(rel)] = describe(root, rel)
    for path in sorted(set(want) | set(have)):
        if path not in have or path not in want:
            print("%s: only in the %s" % (path, "listing" if path in want else "tree"))
            bad += 1
            continue
        for c in COLUMNS:
            w, h = want[path][c], have[path][c]
            if c == "xattrs" and w == "-":
                w = ""
            if w != "-" and w != h:
                print("%s: %s is %s, should be %s" % (path, c, h, w))
                bad += 1
    print("%d entries, %d differences" % (len(want), bad))
    return 1 if bad or not want else 0


if __name__ == "__main__":
    sys.exit(main())
