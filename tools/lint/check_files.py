#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules that every file of the tree keeps.

Errors: no SPDX line at the top, a path of a developer's machine, a package mirror's host name,
trailing blanks, no newline at the end, spaces where C indents with tabs, a link to a file that
is not there in a Markdown page. Warning: a source over 800 lines. Exit 0 without errors, 1 with.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_includes import tracked  # noqa: E402  (needs the path above)

MAX_LINES = 800
# data, and texts whose licence is in their first lines anyway
NO_SPDX = (".md", ".json", ".tsv", ".txt", ".bin", ".zst", ".gz", ".img", ".tar", ".sha256", ".zfile",
           ".lsmt")
NO_SPDX_NAMES = ("LICENSE", ".gitignore", ".clang-format", ".clang-tidy", "SHA256SUMS",
                 "UNPACKED.sha256", "words")
DATA_DIRS = ("tests/golden/vectors/", "tests/golden/files/", "tests/corpus/")
# Written so that this file does not contain what it looks for.
MACHINE = re.compile(r"(?<![\w./-])/(work|shared|Users/\w+|workspace)/\w"
                     r"|artifact-?registr" + r"y|\.pkg\.d" + r"ev|/tmp/b" + r"-")
SPDX = re.compile(r"SPDX-License-Identifier: "
                  r"(Apache-2\.0|GPL-2\.0-only OR BSD-2-Clause)( \*/| -->)?$")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def check(root, name):
    path = os.path.join(root, name)
    if name.startswith(DATA_DIRS) or os.path.islink(path):
        return
    with open(path, "rb") as f:
        data = f.read()
    if b"\0" in data:
        yield "error", 1, "binary file outside of %s" % " and ".join(DATA_DIRS)
        return
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        yield "error", 1, "not UTF-8"
        return
    base = os.path.basename(name)
    if data and not name.endswith(NO_SPDX) and base not in NO_SPDX_NAMES:
        if not any(SPDX.search(x) for x in lines[:3]):
            yield "error", 1, "no SPDX line"
    if data and not data.endswith(b"\n"):
        yield "error", len(lines), "no newline at the end"
    source = name.endswith((".c", ".h"))
    for n, line in enumerate(lines, 1):
        if base != "LICENSE" and MACHINE.search(line):
            yield "error", n, "path or host name of a machine"
        if line != line.rstrip() and base != "LICENSE" and not name.endswith(".md"):
            yield "error", n, "blanks at the end of the line"
        if source and line.startswith("        "):
            yield "error", n, "indented with spaces"
    if name.endswith((".c", ".h", ".py")) and len(lines) - 1 > MAX_LINES:
        yield "warning", len(lines) - 1, "%d lines; over %d, a file does two things" % (
            len(lines) - 1, MAX_LINES)
    if name.endswith(".md"):
        for n, line in enumerate(lines, 1):
            for target in LINK.findall(line):
                if not os.path.exists(os.path.join(os.path.dirname(path), target)):
                    yield "error", n, "link to %s, which is not there" % target


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../..")
    bad = 0
    for name in tracked(root):
        for kind, line, text in check(root, name):
            print("%s:%d: %s: %s" % (name, line, kind, text))
            bad += kind == "error"
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
