# SPDX-License-Identifier: Apache-2.0
"""What was measured becomes numbers: medians, the lower bound, ratios and the table. No side effects."""

ROUND_TRIPS = 4  # TCP, manifest, what the manifest names, the first data

# What an earlier measurement found for the named images (pages touched, by mincore(); gzip):
# MB touched compressed, and the lower bound in seconds at 300 Mbit/s and 20 ms.
KNOWN = {
    "nginx": {"touched_bytes": 1.3e6, "bound_s": 0.20},
    "redis": {"touched_bytes": 2.2e6, "bound_s": 0.24},
    "postgres": {"touched_bytes": 6.5e6, "bound_s": 0.84},
    "python": {"touched_bytes": 18.8e6, "bound_s": 1.29},
}
KNOWN_LINE = (300e6, 0.020)


def median(values):
    v = sorted(values)
    if not v:
        return None
    n = len(v)
    return v[n // 2] if n % 2 else (v[n // 2 - 1] + v[n // 2]) / 2


def spread(values):
    """{median, min, max, n} of the numbers among the values; None without any."""
    v = [x for x in values if isinstance(x, (int, float))]
    return {"median": median(v), "min": min(v), "max": max(v), "n": len(v)} if v else None


def dig(tree, *keys):
    """A member of members, None where one is missing."""
    for k in keys:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(k)
    return tree


def parse_rate(text):
    """300mbit, 1gbit, 500kbit or plain bit/s, as tc has them."""
    units = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "bit": 1.0, "": 1.0}
    number = text.lower().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text.lower()[len(number):]
    if unit not in units or not number or not 1e5 <= float(number) * units[unit] <= 1e11:
        raise ValueError("a rate is 100kbit to 100gbit, for example 300mbit, not '%s'" % text)
    return float(number) * units[unit]


def parse_time(text):
    """20ms, 0.5s: seconds."""
    for suffix, factor in (("ms", 1e-3), ("us", 1e-6), ("s", 1.0)):
        if text.endswith(suffix):
            value = float(text[:-len(suffix)]) * factor
            if 0 <= value <= 10:
                return value
            break
    raise ValueError("a time is 0ms to 10s, for example 20ms, not '%s'" % text)


def lower_bound(touched, metadata, rate, rtt, warm):
    """Seconds that no start over this line can beat: perfect prediction, free decompression."""
    return (touched + metadata) * 8 / rate + ROUND_TRIPS * rtt + warm


def list_bytes(made):
    """Stored bytes that a prefetch list names, as `prefetch make --json` tells; None when it does not."""
    value = dig(made, "range_bytes")
    return int(value) if isinstance(value, (int, float)) and value > 0 else None


def bound_of(image, rate, rtt):
    """The bound of an image from its starts, with what it was made of; None when nothing tells it."""
    good = [s for s in image["starts"] if "ready_s" in s]
    warm = [s["ready_s"] for s in good if s["variant"].endswith("-warm")]
    known = KNOWN.get(image["name"])
    touched = image.get("list_bytes")
    source = "the recorded list"
    if not touched:
        used = [dig(s, "report", "prefetch", "used_bytes") for s in good if s["variant"] == "prefetch"]
        touched = median([u for u in used if u])
        source = "what the prefetching starts used"
    if not touched and known:
        touched, source = known["touched_bytes"], "the constant of an earlier measurement"
    opening = image.get("index_bytes") or 0
    result = {"touched_bytes": touched, "touched_from": source if touched else None,
              "metadata_bytes": opening, "warm_s": min(warm) if warm else None, "bound_s": None,
              "known_s": known["bound_s"] if known and (rate, rtt) == KNOWN_LINE else None}
    if touched and warm:
        result["bound_s"] = lower_bound(touched, opening, rate, rtt, min(warm))
    return result


def coverage_of(start):
    """(coverage, accuracy) at ready where the server told them then, else of the report's end."""
    for place in (("status", "prefetch"), ("status", "stats", "prefetch"), ("report", "prefetch")):
        found = dig(start, *place)
        if isinstance(found, dict) and "coverage" in found:
            return found.get("coverage"), found.get("accuracy")
    return None, None


def summarize(image, rate, rtt):
    """Adds image["bound"] and image["summary"], a list with one entry for each variant."""
    image["bound"] = bound_of(image, rate, rtt)
    rows, order = {}, []
    for s in image["starts"]:
        if s["variant"] not in rows:
            order.append(s["variant"])
        rows.setdefault(s["variant"], []).append(s)
    order.sort(key=lambda v: v.endswith("-warm"))
    summary = []
    for v in order:
        good = [s for s in rows[v] if "ready_s" in s]
        told = [coverage_of(s) for s in good]
        if v in image.get("audits", {}):
            told = [coverage_of(image["audits"][v])]
        summary.append({
            "variant": v, "failed": len(rows[v]) - len(good),
            "ready_s": spread(s["ready_s"] for s in good),
            "pull_s": spread(s.get("pull_s") for s in good),
            "wire_bytes": spread(s.get("wire_bytes") for s in good),
            "requests": spread(s.get("requests") for s in good),
            "stalled_s": spread((dig(s, "status", "stats", "stalled_ns") or 0) / 1e9
                                for s in good if dig(s, "status", "stats", "stalled_ns") is not None),
            "coverage": spread(t[0] for t in told), "accuracy": spread(t[1] for t in told)})
    ready = {row["variant"]: row["ready_s"]["median"] for row in summary if row["ready_s"]}
    pulls = {v: ready[v] for v in ("classic", "cri") if v in ready}
    image["better_pull"] = min(pulls, key=pulls.get) if pulls else None
    again = [ready[v] for v in ("classic-warm", "cri-warm") if v in ready]
    for row in summary:
        mine = dig(row, "ready_s", "median")
        base = pulls.get(image["better_pull"])
        if row["variant"].endswith("-warm"):
            base = min(again) if again else None
        bound = image["bound"]["bound_s"]
        known = image["bound"]["known_s"]
        cold = not row["variant"].endswith("-warm")
        row["classic_over_this"] = base / mine if base and mine else None
        row["over_bound"] = mine / bound if bound and mine and cold else None
        row["over_known_bound"] = mine / known if known and mine and cold else None
    image["summary"] = summary
    return image


# ---- the table ----

def show(spread_, scale=1.0, digits=2):
    """median (min-max); the median alone when all are the same."""
    if not spread_:
        return "-"
    form = "%%.%df" % digits
    text = form % (spread_["median"] / scale)
    least, most = form % (spread_["min"] / scale), form % (spread_["max"] / scale)
    return text if least == most else "%s (%s-%s)" % (text, least, most)


def times(value):
    return "%.1f" % value if value is not None else "-"


def percent(spread_):
    return "%.0f %%" % (spread_["median"] * 100) if spread_ else "-"


HEAD = ("variant", "ready s", "classic / it", "it / bound", "MB on the line", "requests", "demand waited s",
        "coverage", "accuracy")


def table_rows(image):
    for row in image["summary"]:
        ready = show(row["ready_s"]) + (" %d failed" % row["failed"] if row["failed"] else "")
        yield (row["variant"], ready, times(row["classic_over_this"]), times(row["over_bound"]),
               show(row["wire_bytes"], 1e6), show(row["requests"], digits=0), show(row["stalled_s"]),
               percent(row["coverage"]), percent(row["accuracy"]))


def listless(image):
    """Variants that should have replayed a list and found none, with the reason."""
    found = {}
    for s in image["starts"]:
        state = dig(s, "status", "prefetch", "state")
        if s["variant"] in ("static", "prefetch", "laid-out") and state in ("none", "off", "bad", "expired", "sought"):
            found[s["variant"]] = dig(s, "status", "prefetch", "why") or state
    return found


def notes(image):
    """What stands below an image's table."""
    b, lines = image["bound"], []
    if b["bound_s"]:
        lines.append("lower bound %.2f s: %.2f MB touched (%s) and %.2f MB of headers and indexes at the line's rate, %d round "
                     "trips, quickest warm start %.2f s" % (
                         b["bound_s"], b["touched_bytes"] / 1e6, b["touched_from"], b["metadata_bytes"] / 1e6,
                         ROUND_TRIPS, b["warm_s"]))
    else:
        lines.append("no lower bound: it needs a warm start and the touched bytes (a recorded list)")
    if b["known_s"]:
        lines.append("bound of an earlier measurement: %.2f s; over it: %s" % (b["known_s"], ", ".join(
            "%s %s" % (r["variant"], times(r["over_known_bound"])) for r in image["summary"]
            if r["over_known_bound"])))
    if image.get("ideal"):
        i = image["ideal"]
        lines.append("ideal fetch of %.2f MB by curl: %s s over a new connection, %s over 8 new ones, %s over one "
                     "that was used, %s over one that is warm" % (
                         i["bytes"] / 1e6, show(i["cold_s"]), show(i["cold_8_s"]), show(i["used_s"]),
                         show(i["warm_s"])))
    for variant, why in listless(image).items():
        lines.append("%s replayed no list: %s" % (variant, why))
    if image.get("audits"):
        lines.append("coverage and accuracy of %s: of a start of its own, in which pages were not warmed" %
                     " and ".join(sorted(image["audits"])))
    if image["better_pull"]:
        lines.append("\"classic\" in the ratios is %s, the quicker of the pulls measured" % image["better_pull"])
    return lines


def table(image):
    rows = [HEAD] + list(table_rows(image))
    widths = [max(len(r[i]) for r in rows) for i in range(len(HEAD))]
    lines = ["  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))).rstrip()
             for r in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines + notes(image))


def conditions_line(c):
    loads = c.get("loads") or [0]
    return ("%s, %d CPUs (%s), Linux %s; %s and %.0f ms RTT (measured: connect %.1f ms, warm connection %.0f "
            "Mbit/s); load %.1f to %.1f; %d run(s), median (least-most)" % (
                c["date"], c["cpus"], c["cpu"], c["kernel"], c["rate"], c["rtt_s"] * 1e3,
                c["connect_s"] * 1e3, c["line_bit_s"] / 1e6, min(loads), max(loads), c["runs"]))
