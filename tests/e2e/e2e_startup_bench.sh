#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench/startup measures, writes what it measured, and leaves nothing behind: at its end, when it is stopped
# half-way, and when it is killed.
#
# Usage: e2e_startup_bench.sh HEADSTART_BINARY
# requires root, /dev/fuse, /dev/net/tun, loop devices, docker-registry, skopeo, umoci, containerd, runc, tc
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tools/testbed.sh
. "$root/tools/testbed.sh"
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "skipped: requires $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip root
[ -c /dev/fuse ] || skip /dev/fuse
[ -c /dev/net/tun ] || skip /dev/net/tun
[ -e /dev/loop-control ] || skip "loop devices"
for c in docker-registry skopeo umoci mmdebstrap losetup containerd ctr runc ip tc curl; do
	command -v $c >/dev/null || skip "$c"
done
binary=$(readlink -f "$1")
bed_start e2e
# its directory is made inside of ours: what it leaves, bed_stop finds and fails on
export HS_TMP=$bed

# what may be there when it runs no more; a watcher may still be at it when it was killed
left() {
	bed_mounts
	bed_loops
	bed_processes "$bed/"
	ls -d "$bed"/headstart-* 2>/dev/null || :
	find /sys/fs/cgroup -maxdepth 2 -name headstart-startup 2>/dev/null || :
}
nothing_left() { [ -z "$(left)" ]; }
check_left() { bed_wait "$2" nothing_left || { echo "left behind by $1: $(left)"; exit 1; }; }

startup() {
	exec "$root/bench/startup" --image nginx --runs 1 --rate 1gbit --rtt 2ms --no-install \
		--headstart "$binary" --out "$bed/out" "$@"
}

(startup --variants classic,lazy,warm) >"$bed/log" 2>&1 || { cat "$bed/log"; exit 1; }
cat "$bed/log"
check_left "a run to the end" 1

python3 - "$bed/out" "$bed/log" <<'CHECK'
import json, re, sys
out, log = sys.argv[1:]
result = json.load(open(out + "/startup.json"))
c = result["conditions"]
image, = result["images"]
starts = {s["variant"]: s for s in image["starts"]}
assert set(starts) == {"classic", "classic-warm", "lazy", "lazy-warm"}, starts.keys()
for s in starts.values():
    assert "error" not in s and 0.02 < s["ready_s"] < 120, s
# the line is what it is said to be, on a machine that may be busy
assert 0.002 <= c["connect_s"] < 0.02 and 1e8 < c["line_bit_s"] < 1e9, c
assert c["link"]["near_to_far"]["dropped"] == 0, c["link"]
# fewer bytes than the whole image; none when it is there
assert 0 < starts["lazy"]["wire_bytes"] < starts["classic"]["wire_bytes"] / 3
assert starts["classic"]["wire_bytes"] > image["stored_bytes"]
assert starts["lazy-warm"]["wire_bytes"] < 1e6 and starts["classic-warm"]["wire_bytes"] < 1e5
assert starts["lazy"]["status"]["stats"]["fetched_bytes"] > 0
ideal = image["ideal"]
assert 0 < ideal["warm_s"]["median"] and 0 < ideal["cold_8_s"]["median"] and ideal["bytes"] > 1e6
assert image["bound"]["bound_s"] < starts["lazy"]["ready_s"]
text = open(log).read()
for variant in starts:
    assert re.search(r"^%s +\d+\.\d\d " % variant, text, re.M), "no row of " + variant
page = open(out + "/startup.html").read()
for variant in starts:
    assert 'id="start-nginx-%s-1"' % variant in page
print("table, JSON and page hold what was measured")
CHECK

# stopped and killed, each where something is running
lazy_runs() { ls "$bed"/headstart-startup.*/h/run/*/control.sock; }
classic_runs() { ls "$bed"/headstart-startup.*/c/state/io.containerd.runtime.v2.task/*/*/init.pid; }
halfway() { # SIGNAL EXIT VARIANT CONDITION
	local pid code=0
	(startup --variants "$3") >"$bed/log" 2>&1 &
	pid=$!
	bed_wait 120 "$4" || { cat "$bed/log"; exit 1; }
	kill "-$1" $pid
	wait $pid || code=$?
	[ $code = "$2" ] || { cat "$bed/log"; echo "$3 stopped with SIG$1: exit $code"; exit 1; }
	check_left "$3 that got SIG$1" 60
	echo "$3, SIG$1 half-way: nothing left"
}
halfway TERM 143 lazy lazy_runs
halfway KILL 137 lazy lazy_runs
halfway TERM 143 classic classic_runs
halfway KILL 137 classic classic_runs
