# SPDX-License-Identifier: Apache-2.0
"""A result of bench/startup as it would be, made up: every variant, every kind of request, one failure."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
import startup_report  # noqa: E402  (needs the path above)

BEGIN = 1700000000.0


def ms(value):
    return int(value * 1e6)


def pulled(variant, run, ready):
    return {"variant": variant, "run": run, "cold": True, "image": "r/nginx:1", "begin_unix": BEGIN,
            "ready_s": ready, "pull_s": ready - 0.1, "requests": 3, "wire_bytes": 70550000,
            "load_before": 0.5, "load_after": 0.7, "served": [
                {"start_ns": ms(60), "end_ns": ms(62), "bytes": 662, "method": "GET", "status": 200,
                 "uri": "/v2/nginx/manifests/1"},
                {"start_ns": ms(100), "end_ns": ms(2200), "bytes": 63000000, "method": "GET", "status": 200,
                 "uri": "/v2/nginx/blobs/sha256:<img src=x>"}]}


def again(variant, run, ready):
    return {"variant": variant, "run": run, "cold": False, "image": "r/nginx:1", "begin_unix": BEGIN,
            "ready_s": ready, "requests": 0, "wire_bytes": 0, "load_before": 0.5, "load_after": 0.5, "served": []}


def lazy(run, ready):
    return {"variant": "lazy", "run": run, "cold": True, "image": "r/nginx:1_accelerated", "begin_unix": BEGIN,
            "ready_s": ready, "requests": 80, "wire_bytes": 6470000, "load_before": 0.5, "load_after": 0.5,
            "status": {"stats": {"stalled_ns": ms(1900)}},
            "served": [{"start_ns": ms(100 + 20 * i), "end_ns": ms(104 + 20 * i), "bytes": 80000, "method": "GET",
                        "uri": "/v2/nginx/blobs/sha256:0", "status": 206} for i in range(80)]}


def prefetching(run, ready):
    requests = [{"start_ns": ms(2), "end_ns": ms(44), "bytes": 2080, "kind": "manifest"},
                {"start_ns": ms(46), "end_ns": ms(70), "bytes": 900, "kind": "config"},
                {"start_ns": ms(46), "end_ns": ms(72), "bytes": 9000, "kind": "list"}]
    requests += [{"start_ns": ms(46), "end_ns": ms(80 + i * 8), "bytes": 262144, "kind": "open"} for i in range(3)]
    requests += [{"start_ns": ms(75 + i * 3), "end_ns": ms(110 + i * 4), "bytes": 40000, "kind": "prefetch"}
                 for i in range(30)]
    requests += [{"start_ns": ms(150 + i * 30), "end_ns": ms(172 + i * 30), "bytes": 16384, "kind": "demand"}
                 for i in range(4)]
    names = (("resolve", 0, 45), ("open", 45, 110), ("loop", 110, 112), ("mount", 112, 120), ("container", 125, 300))
    return {"variant": "prefetch", "run": run, "cold": True, "image": "r/nginx-recorded:1_accelerated",
            "begin_unix": BEGIN, "ready_s": ready, "requests": 40, "wire_bytes": 1900000, "load_before": 0.5,
            "load_after": 0.5, "served": [], "status": {"stats": {"stalled_ns": ms(92)}},
            "report": {"origin_unix_ns": int((BEGIN + 0.008) * 1e9), "requests": requests,
                       "phases": [{"name": n, "start_ns": ms(a), "end_ns": ms(b)} for n, a, b in names],
                       "stalls": [{"start_ns": ms(150 + i * 30), "end_ns": ms(173 + i * 30), "off": 4096,
                                   "bytes": 4096} for i in range(4)],
                       "prefetch": {"coverage": 0.985, "accuracy": 0.93, "used_bytes": 1100000}}}


def sample():
    image = {"name": "nginx", "stored_bytes": 70300000, "accelerated_bytes": 74400000, "index_bytes": 50000,
             "list_bytes": 1200000, "left_out": {"laid-out": "this headstart has no '<img src=y>'"},
             "ideal": {k: startup_report.spread([v]) for k, v in (
                 ("cold_s", 0.18), ("cold_8_s", 0.15), ("used_s", 0.16), ("warm_s", 0.06))},
             "starts": []}
    image["ideal"]["bytes"] = 1200000
    for run in (1, 2):
        image["starts"] += [pulled("classic", run, 4.9), again("classic-warm", run, 0.08 + run / 100),
                            pulled("cri", run, 4.0), prefetching(run, 0.28 + run / 50),
                            again("prefetch-warm", run, 0.13)]
    image["starts"] += [lazy(1, 2.1), {"variant": "lazy", "run": 2, "cold": True, "error": "no answer <img>"}]
    startup_report.summarize(image, 300e6, 0.02)
    conditions = {"date": "2026-01-01 00:00 UTC", "kernel": "6.1", "cpus": 2, "cpu": "made up", "rate": "300mbit",
                  "rtt": "20ms", "rate_bit_s": 300e6, "rtt_s": 0.02, "runs": 2, "loads": [0.5, 0.7],
                  "connect_s": 0.0203, "line_bit_s": 286e6, "versions": {"headstart": "headstart 0"},
                  "link": {"near_to_far": {"packets": 9, "dropped": 0, "late_mean_us": 50.0, "late_max_us": 900.0}}}
    return {"format": "headstart-startup/1", "conditions": conditions, "images": [image]}
