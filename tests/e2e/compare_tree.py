#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare two directory trees, file by file.

Looked at: paths (as bytes), types, permission bits, owner and group, sizes, content (SHA-256),
modification times to the nanosecond, extended attributes (capabilities and ACLs are some of
them), which names are hard links of one another, device numbers, symlink targets. Not looked at:
sizes and link counts of directories, access and change times, inode numbers, allocated blocks.

Prints one line per difference and a summary. Exit 0 equal, 1 different, 2 usage or unreadable.
"""
import argparse
import hashlib
import os
import stat
import sys

KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device", stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
# set by the security policy of the host that unpacked the tree, not by the image
HOST_XATTRS = ("security.selinux",)


def show(path):
    """A printable form of any bytes."""
    return path.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while True:
            b = f.read(1 << 20)
            if not b:
                return h.hexdigest()
            h.update(b)


def xattrs(path, ignored):
    out = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if not name.startswith(ignored):
            out[name] = os.getxattr(path, name, follow_symlinks=False)
    return out


def scan(root, excluded=(), ignored_xattrs=HOST_XATTRS):
    """Map of relative path (bytes, b"." for the root) to a dict of what is compared."""
    root = os.fsencode(root)
    excluded = {os.fsencode(e) for e in excluded}
    found, groups = {}, {}
    device = os.lstat(root).st_dev
    stack = [b""]
    while stack:
        rel = stack.pop()
        path = os.path.join(root, rel) if rel else root
        st = os.lstat(path)
        kind = stat.S_IFMT(st.st_mode)
        entry = {
            "type": KINDS.get(kind, oct(kind)),
            "mode": stat.S_IMODE(st.st_mode),
            "uid": st.st_uid,
            "gid": st.st_gid,
            "mtime": st.st_mtime_ns,
            "xattrs": xattrs(path, ignored_xattrs),
        }
        if kind == stat.S_IFREG:
            entry["size"] = st.st_size
            entry["path"] = path
        elif kind == stat.S_IFLNK:
            entry["target"] = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry["rdev"] = "%d:%d" % (os.major(st.st_rdev), os.minor(st.st_rdev))
        if kind != stat.S_IFDIR and st.st_nlink > 1:
            groups.setdefault((st.st_dev, st.st_ino), []).append(rel)
        found[rel or b"."] = entry
        # another file system mounted inside is not part of the tree
        if kind == stat.S_IFDIR and st.st_dev == device:
            for name in os.listdir(path):
                child = os.path.join(rel, name)
                if child not in excluded:
                    stack.append(child)
    for names in groups.values():
        names.sort()
        for n in names:
            found[n]["links"] = tuple(names)
    return found


def text(field, value):
    if value is None:
        return "none"
    if field == "mode":
        return "%04o" % value
    if field == "mtime":
        return "%d.%09d" % divmod(value, 10 ** 9)
    if field == "target":
        return show(value)
    if field == "links":
        return "{" + ", ".join(show(v) for v in value) + "}"
    if field == "xattrs":
        return "{" + ", ".join("%s=%s" % (k, v.hex()) for k, v in sorted(value.items())) + "}"
    return str(value)


def same(field, a, b, slack_ns):
    if field == "mtime" and slack_ns:
        return abs(a - b) < slack_ns
    return a == b


def compare(a, b, ignored=(), root_metadata=True, slack_ns=0):
    """Lines that tell the differences between two results of scan()."""
    for rel in sorted(set(a) | set(b)):
        if rel not in b:
            yield "only in first: %s (%s)" % (show(rel), a[rel]["type"])
            continue
        if rel not in a:
            yield "only in second: %s (%s)" % (show(rel), b[rel]["type"])
            continue
        x, y = a[rel], b[rel]
        if x["type"] != y["type"]:
            yield "type of %s: %s, %s" % (show(rel), x["type"], y["type"])
            continue
        if rel == b"." and not root_metadata:
            continue
        for field in ("mode", "uid", "gid", "size", "mtime", "xattrs", "links", "rdev", "target"):
            if field in ignored:
                continue
            if not same(field, x.get(field), y.get(field), slack_ns):
                yield "%s of %s: %s, %s" % (field, show(rel), text(field, x.get(field)),
                                            text(field, y.get(field)))
        if "path" in x and x["size"] == y["size"] and "content" not in ignored:
            dx, dy = digest(x["path"]), digest(y["path"])
            if dx != dy:
                yield "content of %s: sha256 %s, %s" % (show(rel), dx, dy)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("first")
    p.add_argument("second")
    p.add_argument("--exclude", action="append", default=[], metavar="PATH",
                   help="leave out PATH (relative to the roots) and what is below; repeatable")
    p.add_argument("--ignore", action="append", default=[], metavar="FIELD",
                   choices=["mode", "uid", "gid", "size", "mtime", "xattrs", "links", "rdev",
                            "target", "content"], help="do not compare FIELD; repeatable")
    p.add_argument("--ignore-xattr", action="append", default=[], metavar="PREFIX",
                   help="leave out attributes that start with PREFIX; repeatable")
    p.add_argument("--no-root-metadata", action="store_true",
                   help="mode, owner, time and attributes of the top directory may differ")
    p.add_argument("--mtime-slack", type=int, default=0, metavar="NS",
                   help="times may differ by less than NS nanoseconds [0]")
    p.add_argument("--max", type=int, default=200, help="print at most MAX differences [200]")
    o = p.parse_args()
    for d in (o.first, o.second):
        if not os.path.isdir(d):
            print("compare_tree: %s: not a directory" % d, file=sys.stderr)
            return 2
    try:
        ignored_xattrs = HOST_XATTRS + tuple(o.ignore_xattr)
        a = scan(o.first, o.exclude, ignored_xattrs)
        b = scan(o.second, o.exclude, ignored_xattrs)
        n = 0
        for line in compare(a, b, o.ignore, not o.no_root_metadata, o.mtime_slack):
            n += 1
            if n <= o.max:
                print(line)
    except OSError as e:
        # a tree that cannot be read has failed, whatever was equal before
        print("compare_tree: %s" % e, file=sys.stderr)
        return 2
    nbytes = sum(e.get("size", 0) for e in a.values())
    if n:
        print("%d difference%s%s" % (n, "" if n == 1 else "s",
                                     ", the first %d shown" % o.max if n > o.max else ""))
        return 1
    print("equal: %d names, %d bytes of files" % (len(a), nbytes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
