#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page of bench/startup in a real browser: every start is drawn, and the script has nothing to complain about.

Usage: e2e_startup_page.py [HEADSTART_BINARY]
requires chromium
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "..", "bench")]
from startup_sample import sample  # noqa: E402  (needs the path above)
import startup_html  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def browse(directory, *options):
    profile = tempfile.mkdtemp(dir=directory)
    return subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--enable-logging=stderr", "--user-data-dir=" + profile] + list(options),
        check=True, timeout=120, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=directory)


def main():
    if not BROWSER:
        print("skipped: requires chromium (tools/deps test)")
        return 77
    with tempfile.TemporaryDirectory(prefix="headstart-page.", dir=os.environ.get("HS_TMP", "/var/tmp"),
                                     ignore_cleanup_errors=True) as directory:
        result = sample()
        path = os.path.join(directory, "startup.html")
        with open(path, "w") as f:
            f.write(startup_html.page(result))
        done = browse(directory, "--dump-dom", "file://" + path)
        said = [line for line in done.stderr.split("\n") if "CONSOLE" in line]
        assert not said, said
        dom = done.stdout
        starts = [s for s in result["images"][0]["starts"] if "ready_s" in s]
        assert 'data-drawn="%d"' % len(starts) in dom, re.findall("<html[^>]*>", dom)
        for s in starts:
            name = "start-nginx-%s-%d" % (s["variant"], s["run"])
            figure = dom[dom.index('<figure id="%s"' % name):]
            figure = figure[:figure.index("</figure>")]
            rows = re.search(r'data-rows="(\d+)"', figure)
            assert rows and int(rows.group(1)) > 0, name
            assert "ready " in figure and 'aria-label="Time line of %s' % s["variant"] in figure, name
            kinds = set(re.findall(r'<path class="(\w+)"', figure))
            wanted = {"prefetch": {"open", "prefetch", "demand", "wait"}, "lazy": {"request"}}
            assert kinds >= wanted.get(s["variant"], set()), (name, kinds)
        # the chart of all variants, with the bound
        assert dom.count('class="bar') == 6 and 'class="bound"' in dom, dom.count('class="bar')
        # an image's name or a message is text, never markup
        assert "<img" not in dom
        picture = os.path.join(directory, "page.png")
        browse(directory, "--screenshot=" + picture, "--window-size=1120,2400", "file://" + path)
        assert os.path.getsize(picture) > 50000
    print("every start is drawn, no message on the console")
    return 0


if __name__ == "__main__":
    sys.exit(main())
