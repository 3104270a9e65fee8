#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The parts of bench/startup that need no root: numbers, parsing, the table, the page's text."""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path[:0] = [os.path.join(ROOT, "bench"), os.path.join(HERE, "..", "lib")]
import startup_bed  # noqa: E402  (needs the path above)
import startup_html  # noqa: E402
import startup_main  # noqa: E402
import startup_prepare  # noqa: E402
import startup_report as report  # noqa: E402
import startup_starts  # noqa: E402
from startup_sample import sample  # noqa: E402


def close(a, b):
    return abs(a - b) < 1e-6


def raises(kind, function, *args):
    try:
        function(*args)
    except kind:
        return True
    return False


def test_numbers():
    assert report.median([3, 1, 2]) == 2 and report.median([4, 1, 2, 3]) == 2.5
    assert report.median([]) is None and report.spread([None]) is None
    assert report.spread([2, None, 1]) == {"median": 1.5, "min": 1, "max": 2, "n": 2}
    assert report.show(report.spread([1.0, 2.0])) == "1.50 (1.00-2.00)"
    assert report.show(report.spread([1.0, 1.001])) == "1.00" and report.show(None) == "-"
    assert report.parse_rate("300mbit") == 300e6 and report.parse_rate("1Gbit") == 1e9
    assert close(report.parse_time("20ms"), 0.02) and report.parse_time("0.5s") == 0.5
    for bad in ("", "fast", "300mb", "1bit", "-3mbit"):
        assert raises(ValueError, report.parse_rate, bad), bad
    for bad in ("20", "ms", "-1ms", "11s"):
        assert raises(ValueError, report.parse_time, bad), bad


def test_bound():
    # the constants of the known images follow from the same formula
    assert close(report.lower_bound(1.3e6, 0, 300e6, 0.02, 0.08), 0.08 + 0.08 + 1.3e6 * 8 / 300e6)
    image = sample()["images"][0]
    b = image["bound"]
    assert b["touched_bytes"] == 1200000 and b["touched_from"] == "the recorded list" and b["warm_s"] == 0.09
    assert close(b["bound_s"], 1250000 * 8 / 300e6 + 0.08 + 0.09) and b["known_s"] == 0.20
    del image["list_bytes"]
    assert report.bound_of(image, 300e6, 0.02)["touched_from"].startswith("what the prefetching")
    image["starts"] = [s for s in image["starts"] if s["variant"] != "prefetch"]
    assert report.bound_of(image, 300e6, 0.02)["touched_bytes"] == 1.3e6
    assert report.bound_of(image, 1e9, 0.02)["known_s"] is None
    image["name"] = "mine"
    assert report.bound_of(image, 300e6, 0.02)["bound_s"] is None
    assert report.list_bytes({"range_bytes": 5}) == 5 and report.list_bytes([]) is None


def test_summary_and_table():
    image = sample()["images"][0]
    rows = {r["variant"]: r for r in image["summary"]}
    # the ratios take the better of the two pulls, warm ones that of the warm
    assert image["better_pull"] == "cri"
    assert close(rows["prefetch"]["classic_over_this"], 4.0 / 0.31) and rows["cri"]["classic_over_this"] == 1
    assert rows["prefetch-warm"]["over_bound"] is None
    assert rows["lazy"]["failed"] == 1 and rows["lazy"]["ready_s"]["n"] == 1
    assert close(rows["prefetch"]["coverage"]["median"], 0.985)
    table = report.table(image)
    assert re.search(r"^prefetch +0.31 \(0.30-0.32\) +12.9 +1.5 ", table, re.M), table
    assert "1 failed" in table and "the quicker of the pulls" in table
    assert image["summary"][-1]["variant"].endswith("-warm")


def test_parsing():
    assert close(startup_bed.seconds_of("1m2.5s"), 62.5) and close(startup_bed.seconds_of("12.5ms"), 0.0125)
    assert close(startup_bed.seconds_of("45µs"), 45e-6)
    assert close(startup_bed.iso_seconds("1970-01-01T00:01:00.250000000Z"), 60.25)
    assert startup_bed.iso_seconds("1970-01-01T00:01:00Z") == 60
    assert close(startup_bed.iso_seconds("1970-01-01T01:00:00.5+01:00"), 0.5)
    log = ('{"http.request.method":"GET","http.request.uri":"/v2/","http.response.duration":"1.5ms",'
           '"http.response.status":200,"http.response.written":2,"msg":"response completed",'
           '"time":"1970-01-01T00:00:01.5Z"}\nnoise "response completed"\n{"msg":"response completed"}\n')
    assert startup_bed.parse_registry_log(log) == [
        {"at": 1.5, "seconds": 0.0015, "bytes": 2, "status": 200, "method": "GET", "uri": "/v2/"}]
    # PullImageRequest{image: {image: "a:1"}}
    assert startup_starts.cri_message("a:1") == b"\0\0\0\0\7\x0a\5\x0a\3a:1"
    long = startup_starts.cri_message("x" * 200)
    assert len(long) == 5 + 3 + 3 + 200 and long[5:8] == bytes([0x0a, 0xcb, 0x01])
    assert startup_prepare.quote("a b'c") == "'a b'\\''c'" and startup_prepare.quote("/a:1") == "/a:1"


def test_options():
    o = startup_main.parse_options(["--image", "nginx", "--image=docker://h:1/a/Web:2", "--ready", "http h:80 / 'a b'",
                                    "--runs=2", "--keep", "--variants=lazy,warm"])
    assert [i["name"] for i in o["image"]] == ["nginx", "web-2"] and o["runs"] == 2 and o["keep"]
    assert o["image"][1]["ready"] == ["http", "h:80", "/", "a b"] and o["variants"] == ["lazy", "warm"]
    assert o["image"][0]["ready"] == ["http", "127.0.0.1:80", "/", "It came in time"]
    for bad in ([], ["--image", "../x"], ["--image", "docker://h/x:1"], ["--image=nginx", "--runs=0"],
                ["--image=nginx", "--variants=quick"], ["--image=nginx", "--image=nginx"], ["--ready", "x"],
                ["--image=nginx", "--keep=1"], ["--image=nginx", "--rtt"], ["nginx"]):
        assert raises(startup_main.Usage, startup_main.parse_options, bad), bad


def test_page():
    result = sample()
    page = startup_html.page(result)
    for s in result["images"][0]["starts"]:
        if "ready_s" in s:
            assert 'id="start-nginx-%s-%d"' % (s["variant"], s["run"]) in page
    # complete in itself, and what images and registries are called cannot leave its place
    assert not re.search(r"<[a-z]+\s[^>]*(src|href)\s*=|<link", page) and "@import" not in page and "url(" not in page
    assert "<img" not in page and "&lt;img" in page
    assert page.count("</script>") == 2
    # a report that is not what it should be draws what there is
    start = dict(result["images"][0]["starts"][0], report={"phases": [{"name": 1}, 3], "requests": "?", "stalls": [
        {"start_ns": 5, "end_ns": 1}]})
    line = startup_html.timeline(start)
    assert [p["what"] for p in line["phases"]] == ["pull", "start"] and line["stalls"] == []


def test_help():
    done = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "startup"), "--help"], check=True,
                          stdout=subprocess.PIPE, text=True)
    for option in ("--image", "--rate", "--variants", "--keep"):
        assert option in done.stdout
    assert subprocess.run([sys.executable, os.path.join(ROOT, "bench", "startup"), "--bad"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 2


if __name__ == "__main__":
    for name, test in sorted(globals().items()):
        if name.startswith("test_") and callable(test):
            test()
            print("ok", name)
