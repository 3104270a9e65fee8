#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write tar files that must not be converted, and list.tsv: name, words of the expected error.

usage: hostile_tars.py DIR          also writes bomb.tar.gz, 300 MB of zeros
"""
import gzip
import io
import os
import sys
import tarfile


def entry(name, kind=tarfile.REGTYPE, link="", data=b"", **more):
    i = tarfile.TarInfo(name)
    i.type, i.linkname, i.size = kind, link, len(data)
    for k, v in more.items():
        setattr(i, k, v)
    return i, data


CASES = {
    "dotdot": ("leaves the image's root", [entry("../escape", data=b"x")]),
    "dotdot-deep": ("leaves the image's root", [entry("a/b/../../../escape")]),
    "dir-dotdot": ("leaves the image's root", [entry("..", tarfile.DIRTYPE)]),
    "link-out": ("leaves the image's root", [entry("x", tarfile.LNKTYPE, "../../etc/shadow")]),
    "link-missing": ("not there", [entry("x", tarfile.LNKTYPE, "no/such")]),
    "link-dir": ("is not there\\|directory", [entry("x", tarfile.LNKTYPE, "bin")]),
    "whiteout-dotdot": ("a whiteout of", [entry("data/.wh...")]),
    "whiteout-dot": ("a whiteout of", [entry(".wh..")]),
    "whiteout-empty": ("a whiteout of", [entry("bin/.wh.")]),
    "link-loop": ("symbolic links", [entry("a", tarfile.SYMTYPE, "b"), entry("b", tarfile.SYMTYPE, "a"),
                                     entry("a/x")]),
    "below-file": ("not a directory", [entry("f", data=b"x"), entry("f/x")]),
    "long-name": ("256 bytes", [entry("n" * 256)]),
    "long-path": ("4095", [entry("/".join(["p" * 200] * 25))]),
    "big-owner": ("32 bits", [entry("x", uid=1 << 33)]),
    "xattr-large": ("do not fit", [entry("x", pax_headers={"SCHILY.xattr.user.x": "v" * 70000})]),
}


def main():
    os.makedirs(sys.argv[1], exist_ok=True)
    with open(os.path.join(sys.argv[1], "list.tsv"), "w", encoding="ascii") as out:
        for name, (words, entries) in CASES.items():
            with tarfile.open(os.path.join(sys.argv[1], name + ".tar"), "w",
                              format=tarfile.PAX_FORMAT) as t:
                for info, data in entries:
                    t.addfile(info, io.BytesIO(data))
            out.write("%s\t%s\n" % (name, words))
        # a size that lies: the archive ends inside the file
        b = io.BytesIO()
        with tarfile.open(fileobj=b, mode="w", format=tarfile.USTAR_FORMAT) as t:
            info, data = entry("liar", data=b"y" * 100000)
            t.addfile(info, io.BytesIO(data))
        with open(os.path.join(sys.argv[1], "size-lies.tar"), "wb") as f:
            f.write(b.getvalue()[:20480])
        out.write("size-lies\tentry \"liar\"\n")
        with open(os.path.join(sys.argv[1], "not-a-tar.tar"), "wb") as f:
            f.write(b"this is not a tar archive at all " * 100)
        out.write("not-a-tar\tnot a valid tar\n")
    info, _ = entry("bomb")
    info.size = 300 << 20
    with gzip.open(os.path.join(sys.argv[1], "bomb.tar.gz"), "wb", compresslevel=1) as f:
        f.write(info.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(300):
            f.write(bytes(1 << 20))
        f.write(bytes(1024))


if __name__ == "__main__":
    main()
