# SPDX-License-Identifier: Apache-2.0
"""Before the clock runs: images into the registry, converted, recorded, laid out.

Works in the registry's namespace, where the registry is on loopback and the slow line is not used.
"""
import json
import os
import re
import subprocess
import sys
import time

import startup_report
from startup_bed import Failure
from startup_starts import READY, ROOT

RECORD_SECONDS = 120


class Tools:
    """What this headstart can do, by its own --help."""

    def __init__(self, headstart):
        self.headstart = headstart
        self.helps = {}

    def help(self, *command):
        if command not in self.helps:
            done = subprocess.run([self.headstart] + list(command) + ["--help"], check=False,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True)
            self.helps[command] = done.stdout if not done.returncode else ""
        return self.helps[command]

    def has(self, *command_and_option):
        """("run", "--report"); ("trace", "record") for a command of two words."""
        *command, last = command_and_option
        if last.startswith("--"):
            return re.search(r"(^|[\s,])%s\b" % re.escape(last), self.help(*command)) is not None
        return bool(self.help(*command_and_option))


def get_image(bed, image, options, say):
    """An OCI layout or docker archive of the image, from wherever it comes."""
    layout = bed.path("oci") + ":" + image["name"]
    if "recipe" in image:
        say("%s: making the image from Debian packages (kept for the next time)" % image["name"])
        bed.run([os.path.join(ROOT, "tools", "mkimage"), image["name"], layout], where="host")
    else:
        say("%s: copying %s" % (image["name"], image["given"]))
        plain = ["--src-tls-verify=false"] if options["insecure"] else []
        bed.run(["skopeo", "copy", "--quiet"] + plain + [image["given"], "oci:" + layout], where="host")
    return "oci:" + layout


def copy_within(bed, source, target):
    # preserved, or skopeo compresses the layers once more and drops their annotations
    bed.run(["skopeo", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
             "docker://" + source, "docker://" + target], where="registry")


def beside(bed, tools, command, *args):
    """A command of headstart beside the registry, with nothing of the host's own; what it printed."""
    words = command.split()
    options = ["--insecure"] if tools.has(*words, "--insecure") else []
    if tools.has(*words, "--cache-dir"):
        options.append("--cache-dir=" + bed.path("prepare-cache"))
    return bed.run([tools.headstart] + words + options + list(args), where="registry")


def record(bed, tools, image, name, trace):
    """One start, recorded until the application has answered."""
    options = ["--%s-dir=%s" % (d, bed.path("record", d)) for d in ("cache", "run", "state")
               if tools.has("trace", "record", "--%s-dir" % d)]
    if tools.has("trace", "record", "--insecure"):
        options.append("--insecure")
    if tools.has("trace", "record", "--max"):
        options.append("--max=%ds" % RECORD_SECONDS)
    if tools.has("trace", "record", "--prefetch"):
        options.append("--prefetch=off")
    if tools.has("trace", "record", "--until-exec"):
        # run in the container's network; it asks often itself, so that the end is told when it is there
        probe = [sys.executable, "-S", "-E", READY, "--every=5", "--timeout=10"] + image["ready"]
        options.append("--until-exec=exec " + " ".join(map(quote, probe)))
    elif image["ready"][0] == "http" and tools.has("trace", "record", "--until-http"):
        options.append("--until-http=http://%s%s" % tuple(image["ready"][1:3]))
    else:
        options.append("--until-idle=2s")
    bed.run([tools.headstart, "trace", "record"] + options + ["-o", trace, "docker://" + name], where="registry")


def index_bytes(bed, tools, name):
    """Stored bytes without which no block can be found: headers, seek tables, segment indexes."""
    text = bed.run([tools.headstart, "inspect", "--no-cache", "--insecure", "--json", "docker://" + name],
                   where="registry")
    layers = json.loads(text).get("layers", [])
    return sum(3 * 512 + 4 * layer.get("blocks", 0) + 16 * layer.get("segments", 0) for layer in layers)


def quote(word):
    return word if re.fullmatch(r"[\w./:=@%+-]+", word) else "'%s'" % word.replace("'", "'\\''")


def lacking(tools, variant):
    """Why this headstart cannot do a variant; None when it can."""
    needs = {"static": [("run", "--prefetch")],
             "prefetch": [("run", "--prefetch"), ("trace", "record"), ("prefetch", "make"), ("prefetch", "push")],
             "laid-out": [("run", "--prefetch"), ("trace", "record"), ("prefetch", "make"),
                          ("convert", "--layout-by")]}
    for need in needs.get(variant, []):
        if not tools.has(*need):
            return "this headstart has no '%s'" % " ".join(need)
    return None


def prepare(bed, tools, starter, image, options, say):
    """Everything that the image's variants start from; fills image["usable"] and ["left_out"]."""
    name, variants = image["name"], options["variants"]
    base = "%s/%s" % (bed.registry, name)
    starter.names["classic"] = base + ":1"
    source = get_image(bed, image, options, say)
    bed.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, "docker://" + base + ":1"],
            where="registry")
    image["stored_bytes"] = sum(b for _, b in bed.blobs(base + ":1"))
    for variant in ("lazy", "static", "prefetch", "laid-out"):
        why = lacking(tools, variant)
        if variant in variants and why:
            image["left_out"][variant] = why
        elif variant in variants:
            image["usable"].append(variant)
    if not image["usable"]:
        return
    say("%s: converting" % name)
    begin = time.monotonic()
    beside(bed, tools, "convert", "docker://" + base + ":1", "docker://" + base + ":1_accelerated")
    image["convert_s"] = time.monotonic() - begin
    image["index_bytes"] = index_bytes(bed, tools, base + ":1_accelerated")
    image["accelerated_bytes"] = sum(b for _, b in bed.blobs(base + ":1_accelerated"))
    starter.names["lazy"] = starter.names["static"] = base + ":1_accelerated"
    if not {"prefetch", "laid-out"} & set(image["usable"]):
        return
    trace, listed = bed.path(name + ".trace"), bed.path(name + ".list")
    try:
        say("%s: recording a start" % name)
        record(bed, tools, image, base + ":1_accelerated", trace)
        as_json = ["--json"] if tools.has("prefetch", "make", "--json") else []
        told = beside(bed, tools, "prefetch make", "-o", listed, *as_json, trace)
        image["list"] = json.loads(told) if as_json else None
        image["list_bytes"] = startup_report.list_bytes(image["list"])
    except (Failure, ValueError) as e:
        for variant in ("prefetch", "laid-out"):
            if variant in image["usable"]:
                image["usable"].remove(variant)
                image["left_out"][variant] = str(e)
        return
    make = {"prefetch": push_recorded, "laid-out": lay_out}
    for variant in ("prefetch", "laid-out"):
        if variant in image["usable"]:
            try:
                starter.names[variant] = make[variant](bed, tools, base, listed)
            except Failure as e:
                image["usable"].remove(variant)
                image["left_out"][variant] = str(e)


def push_recorded(bed, tools, base, listed):
    """The same image in a repository of its own, so that the predicted list stays with the other."""
    target = base + "-recorded:1_accelerated"
    copy_within(bed, base + ":1_accelerated", target)
    beside(bed, tools, "prefetch push", listed, "docker://" + target)
    return target


def lay_out(bed, tools, base, listed):
    target = base + "-laid-out:1_accelerated"
    beside(bed, tools, "convert", "--layout-by", listed, "docker://" + base + ":1", "docker://" + target)
    return target
