#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The lints of tools/lint find what they are for: small trees with one mistake each."""
import os
import sys
import tempfile

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(SOURCE, "tools/lint"))
import check_files  # noqa: E402
import check_includes  # noqa: E402

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def header(directory, name, body=""):
    guard = "HS_%s_%s_H" % (directory, name)
    return SPDX + "#ifndef %s\n#define %s\n%s#endif\n" % (guard, guard, body)


GOOD = {
    "engine/base/err.h": header("BASE", "ERR"),
    "engine/format/zfile.h": header("FORMAT", "ZFILE", '#include "err.h"\n'),
    "engine/path/fetch.h": header("PATH", "FETCH"),
    "engine/headstart.h": header("ENGINE", "HEADSTART", '#include "err.h"\n'),
    "tools/mount.c": SPDX + '#include "headstart.h"\n',
    "tools/convert/apply.c": SPDX + '#include "zfile.h"\n',
}
INCLUDES = [
    ("upwards", {"engine/base/up.c": SPDX + '#include "zfile.h"\n'}, "may not include"),
    ("sideways", {"engine/cache/c.c": SPDX + '#include "zfile.h"\n'}, "may not include"),
    ("tool into engine", {"tools/t.c": SPDX + '#include "fetch.h"\n'}, "may not include"),
    ("converter into the read path", {"tools/convert/t.c": SPDX + '#include "fetch.h"\n'},
     "may not include"),
    ("tool into format", {"tools/t.c": SPDX + '#include "zfile.h"\n'}, "may not include"),
    ("same name twice", {"engine/path/err.h": header("PATH", "ERR")}, "taken"),
    ("unknown directory", {"engine/new/x.c": SPDX}, "no place"),
    ("missing header", {"engine/base/x.c": SPDX + '#include "gone.h"\n'}, "not in the tree"),
    ("path in an include", {"engine/format/x.c": SPDX + '#include "base/err.h"\n'}, "alone"),
    ("foreign header", {"engine/cache/x.c": SPDX + "#include <curl/curl.h>\n"}, "belongs to"),
    ("guard", {"engine/base/x.h": SPDX + "#ifndef X_H\n#define X_H\n#endif\n"}, "include guard"),
]
FILES = [
    ("no licence", {"tools/x.c": "int x;\n"}, "error", "no SPDX"),
    ("machine path", {"tools/x.c": SPDX + "/* see /wo" + "rk/main/x */\n"}, "error", "of a machine"),
    ("temporary build", {"x.md": "run /tmp/b" + "-me/headstart\n"}, "error", "of a machine"),
    ("blanks", {"tools/x.c": SPDX + "int x; \n"}, "error", "blanks"),
    ("spaces", {"tools/x.c": SPDX + "        int x;\n"}, "error", "spaces"),
    ("last newline", {"tools/x.c": SPDX + "int x;"}, "error", "newline"),
    ("dead link", {"x.md": "[a](gone.md)\n"}, "error", "not there"),
    ("long file", {"tools/x.c": SPDX + "int x;\n" * 900}, "warning", "lines"),
]


def tree(files):
    d = tempfile.TemporaryDirectory()
    for name, text in files.items():
        path = os.path.join(d.name, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    return d


def main():
    bad = 0

    def expect(what, ok, got):
        nonlocal bad
        if not ok:
            bad += 1
            print("%s: got %r" % (what, got))

    with tree(GOOD) as d:
        found = check_includes.check(d, check_includes.tracked(d))
        expect("good tree", not found, found)
        found = [x for f in check_includes.tracked(d) for x in check_files.check(d, f)]
        expect("good files", not found, found)
    for what, files, words in INCLUDES:
        with tree({**GOOD, **files}) as d:
            found = check_includes.check(d, check_includes.tracked(d))
            expect(what, len(found) == 1 and words in found[0], found)
    for what, files, kind, words in FILES:
        with tree(files) as d:
            found = [x for f in check_includes.tracked(d) for x in check_files.check(d, f)]
            expect(what, len(found) == 1 and found[0][0] == kind and words in found[0][2], found)
    print("%d cases, %d wrong" % (len(INCLUDES) + len(FILES) + 2, bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
