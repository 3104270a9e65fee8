# SPDX-License-Identifier: Apache-2.0
"""The benchmark's course: options, preparation, interleaved runs, results."""
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import startup_html
import startup_report
from startup_bed import Bed, Failure, run
from startup_prepare import Tools, prepare
from startup_starts import ROOT, Starter, connect_time, ideal_fetch, line_rate, load_average

VARIANTS = ("classic", "cri", "lazy", "static", "prefetch", "laid-out", "warm")
began = time.monotonic()


def say(text):
    print("[%3d s] %s" % (time.monotonic() - began, text), flush=True)


class Usage(Exception):
    pass


def parse_options(args):
    o = {"image": [], "rate": "300mbit", "rtt": "20ms", "runs": "5", "variants": ",".join(VARIANTS),
         "headstart": "", "out": "startup-results", "timeout": "180", "keep": False, "warm-tools": False,
         "insecure": False, "no-install": os.environ.get("HS_NO_INSTALL") == "1"}
    args = list(args)
    while args:
        a = args.pop(0)
        if not a.startswith("--"):
            raise Usage("unknown argument \"%s\"" % a)
        name, equals, value = a[2:].partition("=")
        if isinstance(o.get(name), bool) and not equals:
            o[name] = True
            continue
        if name not in o and name != "ready" or isinstance(o.get(name), bool):
            raise Usage("unknown argument \"%s\"" % a)
        if not equals:
            if not args:
                raise Usage("--%s needs a value" % name)
            value = args.pop(0)
        if name == "image":
            o["image"].append({"given": value})
        elif name == "ready":
            if not o["image"]:
                raise Usage("--ready follows the --image that it is for")
            o["image"][-1]["ready"] = shlex.split(value)
        else:
            o[name] = value
    try:
        o["rate_bit_s"] = startup_report.parse_rate(o["rate"])
        o["rtt_s"] = startup_report.parse_time(o["rtt"])
        o["runs"], o["timeout"] = int(o["runs"]), int(o["timeout"])
    except ValueError as e:
        raise Usage(str(e)) from None
    if not 1 <= o["runs"] <= 99:
        raise Usage("--runs is 1 to 99")
    o["variants"] = o["variants"].split(",")
    for v in o["variants"]:
        if v not in VARIANTS:
            raise Usage("no variant \"%s\"; there are %s" % (v, ", ".join(VARIANTS)))
    if not o["image"]:
        raise Usage("--image says what is to be started")
    names = set()
    for image in o["image"]:
        given = image["given"]
        if given.startswith("docker://"):
            image["name"] = re.sub(r"[^a-z0-9]+", "-", given.rpartition("/")[2].lower()).strip("-")
            if "ready" not in image:
                raise Usage("%s needs --ready: how is its first right answer known?" % given)
        else:
            recipe = os.path.join(ROOT, "tools", "recipes", given)
            if not re.fullmatch("[a-z0-9-]+", given) or not os.path.isfile(recipe):
                raise Usage("no image \"%s\"; tools/mkimage --list tells them" % given)
            image["name"], image["recipe"] = given, recipe
            image.setdefault("ready", run(["bash", "-c", '. "$1" && printf "%s\\n" "${ready[@]}"', "sh",
                                           recipe]).split("\n")[:-1])
        if image["name"] in names:
            raise Usage("image \"%s\" is named twice" % image["name"])
        names.add(image["name"])
    return o


def find_programs(options, bed):
    """The program under test and the link's; built when they are not there."""
    if not options["no-install"]:
        say("packages: what is missing of the compiler, libraries, registry and runtimes")
        run([os.path.join(ROOT, "tools", "deps"), "build", "run", "image", "compare"])
    headstart = options["headstart"]
    if not headstart:
        build = os.path.join(os.environ.get("HS_BUILD_ROOT", os.path.join(ROOT, "build")), "gcc")
        say("building headstart in %s" % build)
        os.makedirs(build, exist_ok=True)
        run(["cmake", "-G", "Ninja", "-S", ROOT, "-B", build])
        run(["ninja", "-C", build, "headstart", "bench_linkdelay"])
        headstart = os.path.join(build, "tools", "headstart")
    headstart = os.path.realpath(headstart)
    if not os.access(headstart, os.X_OK):
        raise Failure("%s is not there" % headstart)
    link = os.path.join(os.path.dirname(os.path.dirname(headstart)), "bench", "bench_linkdelay")
    if not os.access(link, os.X_OK):
        link = bed.path("linkdelay")
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang-14")
        if not compiler:
            raise Failure("bench_linkdelay is not built, and there is no compiler")
        run([compiler, "-std=gnu17", "-O2", "-D_GNU_SOURCE", "-o", link,
             os.path.join(ROOT, "bench", "linkdelay.c")])
    return headstart, link


def version(*args):
    try:
        done = subprocess.run(args, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout.strip().split("\n")[0]
    except OSError:
        return ""


def cpu_name():
    with open("/proc/cpuinfo") as f:
        found = re.search(r"model name\s*:\s*(.*)", f.read())
    return found.group(1) if found else platform.machine()


def tell_conditions(options, headstart):
    commit = version("git", "-C", ROOT, "log", "-1", "--format=%h %s")
    return {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "kernel": platform.release(),
            "cpus": os.cpu_count(), "cpu": cpu_name(), "rate": options["rate"], "rtt": options["rtt"],
            "rate_bit_s": options["rate_bit_s"], "rtt_s": options["rtt_s"], "runs": options["runs"],
            "warm_tools": options["warm-tools"], "loads": [],
            "versions": {"headstart": version(headstart, "--version"), "commit": commit,
                         "containerd": version("containerd", "--version"),
                         "runc": version("runc", "--version"), "curl": version("curl", "--version"),
                         "docker-registry": version("docker-registry", "--version"),
                         "python": platform.python_version()}}


def groups_of(starter, variants, usable):
    """What one run consists of: functions that yield starts."""
    warm = "warm" in variants
    report = ["--report=REPORT"] if starter.tools.has("run", "--report") else []
    forms = {"lazy": ["--prefetch=off"] if starter.tools.has("run", "--prefetch") else [],
             "static": ["--prefetch=auto"], "prefetch": ["--prefetch=auto"], "laid-out": ["--prefetch=auto"]}
    ours = [v for v in forms if v in variants and v in usable]
    # one warm start of headstart in a run is enough: the cache is the same whoever filled it
    last = ours[-1] if ours else None
    groups = []
    for v in variants:
        if v == "classic":
            groups.append((v, lambda: starter.classic(warm)))
        elif v == "cri":
            groups.append((v, lambda: starter.classic(warm, cri=True)))
        elif v in ours:
            groups.append((v, lambda v=v: starter.lazy(v, forms[v] + report, warm and v == last)))
    return groups


def measure_image(starter, image, options, conditions):
    groups = groups_of(starter, options["variants"], image["usable"])
    for i in range(options["runs"]):
        # nobody always comes after the same neighbour
        turn = i % len(groups) if groups else 0
        for variant, starts in groups[turn:] + groups[:turn]:
            try:
                for start in starts():
                    start["run"] = i + 1
                    image["starts"].append(start)
                    conditions["loads"] += [start["load_before"], start["load_after"]]
                    say("%s, run %d: %-14s ready after %.3f s, %6.2f MB, %d requests" % (
                        image["name"], i + 1, start["variant"], start["ready_s"], start["wire_bytes"] / 1e6,
                        start["requests"]))
            except Failure as e:
                say("%s, run %d: %s FAILED: %s" % (image["name"], i + 1, variant, e))
                image["starts"].append({"variant": variant, "run": i + 1, "cold": True, "error": str(e)})
        if "ideal_bytes" in image:
            image["ideal_runs"].append(ideal_fetch(starter.bed, starter.names["classic"], image["ideal_bytes"]))


def audit(starter, image):
    """
    Coverage and accuracy of exact lists: of a start of its own in which pages are not warmed, since what
    warms them asks for all of the list.
    """
    image["audits"] = {}
    for variant in ("prefetch", "laid-out"):
        if variant not in image["usable"] or not starter.tools.has("run", "--warm-pages"):
            continue
        try:
            for start in starter.lazy(variant, ["--warm-pages=false", "--report=REPORT"], False):
                image["audits"][variant] = start
                say("%s, audit: %-14s ready after %.3f s" % (image["name"], variant, start["ready_s"]))
        except Failure as e:
            say("%s, audit: %s FAILED: %s" % (image["name"], variant, e))


def ideal_bytes(image):
    known = startup_report.KNOWN.get(image["name"])
    return image.get("list_bytes") or (known["touched_bytes"] if known else None)


def measure(options, bed):
    headstart, link = find_programs(options, bed)
    tools = Tools(headstart)
    say("a line of %s and %s, and a registry behind it" % (options["rate"], options["rtt"]))
    bed.make_link(link, options["rate_bit_s"], options["rtt_s"])
    bed.start_registry()
    result = {"format": "headstart-startup/1", "conditions": tell_conditions(options, headstart), "images": []}
    conditions = result["conditions"]
    starters = []
    for image in options["image"]:
        image.update(starts=[], ideal_runs=[], usable=[], left_out={})
        starter = Starter(bed, image, headstart, options["timeout"], options["warm-tools"])
        starter.tools = tools
        starters.append(starter)
        bed.starters.append(starter)
        prepare(bed, tools, starter, image, options, say)
        for variant, why in image["left_out"].items():
            say("%s: %s is left out: %s" % (image["name"], variant, why))
        if ideal_bytes(image):
            image["ideal_bytes"] = ideal_bytes(image)
        result["images"].append(image)
    conditions["connect_s"] = connect_time(bed)
    conditions["line_bit_s"] = line_rate(bed, starters[0].names["classic"])
    conditions["load_begin"] = load_average()
    for starter, image in zip(starters, options["image"]):
        measure_image(starter, image, options, conditions)
        audit(starter, image)
        if image["ideal_runs"]:
            image["ideal"] = {k: startup_report.spread(r[k] for r in image["ideal_runs"])
                              for k in ("cold_s", "cold_8_s", "used_s", "warm_s")}
            image["ideal"]["bytes"] = image["ideal_runs"][0]["bytes"]
        startup_report.summarize(image, options["rate_bit_s"], options["rtt_s"])
    return result


def write_results(result, out):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "startup.json"), "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    with open(os.path.join(out, "startup.html"), "w") as f:
        f.write(startup_html.page(result))


def interrupted(number, _):
    raise SystemExit(128 + number)


def main(args, usage):
    if "-h" in args or "--help" in args:
        print(usage.strip())
        return 0
    try:
        options = parse_options(args)
    except (Usage, Failure) as e:
        print("startup: %s; see --help" % e, file=sys.stderr)
        return 2
    if os.geteuid():
        print("startup: needs root: it makes namespaces, mounts and starts containers", file=sys.stderr)
        return 1
    out = os.path.abspath(options["out"])
    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    for s in signals:
        signal.signal(s, interrupted)
    bed = Bed(options["keep"])
    code, result = 1, None
    try:
        result = measure(options, bed)
        code = 0
    except Failure as e:
        print("startup: %s" % e, file=sys.stderr)
    finally:
        for s in signals:
            signal.signal(s, signal.SIG_IGN)
        for starter in bed.starters:
            try:
                starter.stop()
            except (Failure, OSError) as e:
                print("startup: %s" % e, file=sys.stderr)
        left = bed.stop()
        for line in left:
            print("startup: this was left and has been ended: " + line, file=sys.stderr)
        if options["keep"]:
            print("kept: " + bed.dir, file=sys.stderr)
    if result is None:
        return code
    result["conditions"]["link"] = bed.link_told
    write_results(result, out)
    print()
    print(startup_report.conditions_line(result["conditions"]))
    for image in result["images"]:
        print("\n%s" % image["name"])
        print(startup_report.table(image))
    print("\nresults: %s/startup.json, %s/startup.html" % (out, out))
    failed = any("error" in s for image in result["images"] for s in image["starts"])
    return 1 if failed or left else 0
