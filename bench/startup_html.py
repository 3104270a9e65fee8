# SPDX-License-Identifier: Apache-2.0
"""One page, in itself complete: the tables, and the time line of every start (drawn by startup_page.js)."""
import html
import json
import os

import startup_report
from startup_report import dig

HERE = os.path.dirname(os.path.abspath(__file__))
LEGEND = (("--open", "opening: manifest, configuration, list, indexes"), ("--prefetch", "prefetch"),
          ("--demand", "on demand: somebody reads it now"), ("--request", "request, seen at the registry"),
          ("--wait", "a read waits for the network"), ("--ready", "first right answer"))
OPENING = ("manifest", "config", "list", "open")
KINDS = OPENING + ("demand", "prefetch")
OPENED = "layers and config"  # the phase of headstart run with which an image is open


def text(value):
    return html.escape(str(value), quote=True)


def inline(name):
    with open(os.path.join(HERE, name)) as f:
        return f.read()


def spans(entries, shift, seconds=1e9):
    """Entries with start_ns and end_ns as seconds after the command; broken ones are left out."""
    found = []
    for e in entries if isinstance(entries, list) else []:
        if not isinstance(e, dict):
            continue
        begin, end = e.get("start_ns"), e.get("end_ns")
        if isinstance(begin, (int, float)) and isinstance(end, (int, float)) and end >= begin:
            found.append({"from": round(begin / seconds + shift, 6), "to": round(end / seconds + shift, 6),
                          "bytes": e.get("bytes") or 0, "entry": e})
    return found


def request_kind(uri):
    return "manifest" if "/manifests/" in uri or uri == "/v2/" or "/referrers/" in uri else "request"


def timeline(start):
    """What the page draws of one start; times in seconds after the command."""
    report = start.get("report") if isinstance(start.get("report"), dict) else {}
    origin = report.get("origin_unix_ns")
    shift = origin / 1e9 - start["begin_unix"] if isinstance(origin, (int, float)) and origin else 0.0
    phases = spans(report.get("phases"), shift)
    for p in phases:
        p["what"] = str(p.pop("entry").get("name", ""))
    if not phases:
        pull = start.get("pull_s")
        ends = [("pull", 0.0, pull)] if pull else []
        ends.append(("start", pull or 0.0, start["ready_s"]))
        phases = [{"what": w, "from": a, "to": b, "bytes": 0} for w, a, b in ends]
    requests = spans(report.get("requests"), shift)
    for r in requests:
        kind = r.pop("entry").get("kind")
        r["kind"] = kind if kind in KINDS else "request"
    seen = spans(start.get("served"), 0.0)
    for r in seen:
        entry = r.pop("entry")
        r["kind"] = request_kind(entry.get("uri", ""))
        r["what"] = "%s %s" % (entry.get("method", ""), entry.get("uri", "").replace("sha256:", "")[:60])
    if not requests:
        requests = seen
    elif not {r["kind"] for r in requests} & set(OPENING):
        # the report tells of data only: what came before is known from the registry
        opened = [p["to"] for p in phases if p["what"] == OPENED]
        requests += [dict(r, kind="open") for r in seen if opened and r["from"] < opened[0]]
    stalls = spans(report.get("stalls"), shift)
    for s in stalls:
        s.pop("entry")
    return {"phases": phases, "requests": requests, "stalls": stalls}


def tell(start, line):
    """A start in words: what the picture shows, for who cannot see it, and its caption."""
    parts = ["ready after %.3f s" % start["ready_s"],
             "%.2f MB on the line in %d requests" % (start.get("wire_bytes", 0) / 1e6, start.get("requests", 0))]
    before = [r for r in line["requests"] if r["to"] <= start["ready_s"]]
    for kind, word in (("prefetch", "prefetched"), ("demand", "fetched on demand")):
        some = [r["bytes"] for r in before if r["kind"] == kind]
        if some:
            parts.append("%.2f MB %s in %d" % (sum(some) / 1e6, word, len(some)))
    stalls = [s for s in line["stalls"] if s["from"] <= start["ready_s"]]
    if stalls:
        parts.append("%d reads waited %.0f ms in all" % (len(stalls), sum(s["to"] - s["from"] for s in stalls) * 1e3))
    stalled = dig(start, "status", "stats", "stalled_ns")
    if stalled is not None and not stalls:
        parts.append("reads waited %.0f ms for the network" % (stalled / 1e6))
    coverage, accuracy = startup_report.coverage_of(start)
    if coverage is not None:
        parts.append("coverage %.1f %%" % (coverage * 100))
    if accuracy is not None:
        parts.append("accuracy %.1f %%" % (accuracy * 100))
    parts.append("load %.1f" % start.get("load_before", 0))
    return "; ".join(parts)


def figure(start, told):
    return ('<figure id="%s"><figcaption><b>%s</b>, run %d: %s</figcaption><div class="scroll"></div>'
            '<p class="readout" aria-live="off"></p></figure>'
            % (start["id"], text(start["variant"]), start["run"], text(told)))


def html_table(image):
    head = "".join('<th scope="col">%s</th>' % text(h) for h in startup_report.HEAD)
    rows = []
    for row in startup_report.table_rows(image):
        cells = "".join("<td>%s</td>" % text(c) for c in row[1:])
        rows.append('<tr><th scope="row">%s</th>%s</tr>' % (text(row[0]), cells))
    return ('<div class="scroll" tabindex="0" role="region" aria-label="results of %s"><table><caption>median '
            '(least-most)</caption><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>'
            % (text(image["name"]), head, "".join(rows)))


def bars(image):
    found = []
    for row in image["summary"]:
        if row["ready_s"]:
            r = row["ready_s"]
            again = row["variant"].endswith("-warm")
            found.append({"variant": row["variant"], "median": r["median"], "min": r["min"], "max": r["max"],
                          "pull": row["variant"].startswith(("classic", "cri")), "again": again,
                          "ratio": row["classic_over_this"]})
    return found


def image_part(image):
    """The HTML of one image, and its data for the script."""
    good = [s for s in image["starts"] if "ready_s" in s]
    parts = ['<section aria-labelledby="h-%s"><h2 id="h-%s">%s</h2>' % ((text(image["name"]),) * 3)]
    size = "%.1f MB in the registry" % (image["stored_bytes"] / 1e6) if image.get("stored_bytes") else ""
    if image.get("accelerated_bytes"):
        size += ", converted %.1f MB" % (image["accelerated_bytes"] / 1e6)
    parts.append('<p class="soft">%s</p>' % text(size))
    parts.append('<figure><div class="scroll" id="bars-%s"></div></figure>' % text(image["name"]))
    parts.append(html_table(image))
    parts.append('<ul class="soft">%s</ul>' % "".join("<li>%s</li>" % text(n) for n in startup_report.notes(image)))
    for variant, why in image.get("left_out", {}).items():
        parts.append('<p class="soft">%s was left out: %s</p>' % (text(variant), text(why)))
    for s in image["starts"]:
        if "error" in s:
            parts.append('<p class="failed">%s, run %d failed: %s</p>' % (
                text(s["variant"]), s["run"], text(s["error"])))
    drawn = []
    for row in image["summary"]:
        mine = [s for s in good if s["variant"] == row["variant"]]
        if not mine:
            continue
        middle = row["ready_s"]["median"]
        # the one that is most like the median is shown, the others are folded
        mine.sort(key=lambda s: abs(s["ready_s"] - middle))
        figures = []
        for i, s in enumerate(mine):
            line = timeline(s)
            shown = {"id": "start-%s-%s-%d" % (image["name"], s["variant"], s["run"]),
                     "variant": s["variant"], "run": s["run"]}
            told = tell(s, line)
            figures.append((i, figure(shown, told)))
            line.update(id=shown["id"], ready_s=s["ready_s"],
                        told="Time line of %s, run %d: %s" % (s["variant"], s["run"], told))
            drawn.append(line)
        parts.append(figures[0][1])
        if len(figures) > 1:
            parts.append("<details><summary>%d more start(s) of %s</summary>%s</details>" % (
                len(figures) - 1, text(row["variant"]), "".join(f for _, f in sorted(figures[1:]))))
    parts.append("</section>")
    return "\n".join(parts), {"name": image["name"], "bars": bars(image), "bound_s": image["bound"]["bound_s"],
                              "starts": drawn}


def versions(conditions):
    known = [(k, v) for k, v in conditions["versions"].items() if v]
    link = conditions.get("link") or {}
    for way, told in link.items():
        known.append(("line, %s" % way.replace("_", " "), "%d packets, %d dropped, late by %.0f us (mean), %.1f ms "
                      "(most)" % (told["packets"], told["dropped"], told["late_mean_us"],
                                  told["late_max_us"] / 1e3)))
    return "".join('<tr><th scope="row">%s</th><td>%s</td></tr>' % (text(k), text(v)) for k, v in known)


def page(result):
    parts, data = [], []
    for image in result["images"]:
        part, drawn = image_part(image)
        parts.append(part)
        data.append(drawn)
    legend = "".join('<li><i style="background:var(%s)"></i>%s</li>' % (c, text(t)) for c, t in LEGEND)
    names = ", ".join(image["name"] for image in result["images"])
    # "</script>" inside the data would end it
    payload = json.dumps({"images": data}, separators=(",", ":")).replace("<", "\\u003c")
    return """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Start-up: %(names)s</title>
<style>
%(css)s</style>
</head>
<body>
<header>
<h1>How soon a container answers</h1>
<p>From the command to the application's first right answer, with nothing of the image on the node and a cold page
cache; the rows that end in <i>-warm</i> are a second start with everything there.</p>
<p class="soft">%(conditions)s</p>
<noscript><p class="failed">The time lines are drawn by a script; the tables are all there without.</p></noscript>
<ul class="legend" aria-label="colours">%(legend)s</ul>
<p class="soft screen">Point at a time line to see what was going on.</p>
</header>
<main>
%(parts)s
</main>
<footer>
<h2>Measured with</h2>
<div class="scroll"><table>%(versions)s</table></div>
</footer>
<script type="application/json" id="data">%(payload)s</script>
<script>
%(js)s</script>
</body>
</html>
""" % {"names": text(names), "css": inline("startup_page.css"), "js": inline("startup_page.js"), "legend": legend,
       "conditions": text(startup_report.conditions_line(result["conditions"])), "parts": "\n".join(parts),
       "versions": versions(result["conditions"]), "payload": payload}
