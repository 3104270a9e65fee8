#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/quickstart runs to its end, and leaves nothing behind then or when it is stopped half-way.
#
# Usage: e2e_quickstart.sh HEADSTART_BINARY
# requires root, /dev/fuse, loop devices, docker-registry, skopeo, umoci, containerd, runc
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tools/testbed.sh
. "$root/tools/testbed.sh"
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "skipped: requires $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip root
[ -c /dev/fuse ] || skip /dev/fuse
[ -e /dev/loop-control ] || skip "loop devices"
for c in docker-registry skopeo umoci jq mmdebstrap losetup containerd ctr runc ip; do
	command -v $c >/dev/null || skip "$c"
done
binary=$(readlink -f "$1")
bed_start e2e
# its directory is made inside of ours: what it leaves, bed_stop finds and fails on
export HS_TMP=$bed

nothing_left() {
	local left
	left="$(bed_mounts)$(bed_loops)$(bed_processes "$bed/")$(ls "$bed"/headstart-* 2>/dev/null || :)"
	[ -z "$left" ] || { echo "left behind by $1: $left"; exit 1; }
}

"$root/tools/quickstart" --runs=1 --no-install --binary="$binary" >"$bed/out" 2>&1 ||
	{ cat "$bed/out"; exit 1; }
cat "$bed/out"
nothing_left "quickstart"
# the point of it all: fewer bytes than the whole image
read -r classic lazy < <(awk '/MB moved until ready/ { print $(NF - 1), $NF }' "$bed/out")
awk "BEGIN { exit !($lazy > 0 && $lazy < $classic / 3) }" ||
	{ echo "$lazy MB moved lazily, $classic MB by a pull"; exit 1; }

"$root/tools/quickstart" --runs=1 --no-install --binary="$binary" >"$bed/out" 2>&1 &
pid=$!
lazy_runs() { bed_mounts | grep "/lazy/run/.*/dev" >/dev/null; }
bed_wait 120 lazy_runs || { cat "$bed/out"; exit 1; }
kill -TERM $pid
code=0
wait $pid || code=$?
[ $code = 143 ] || { cat "$bed/out"; echo "stopped with SIGTERM, exit $code"; exit 1; }
nothing_left "a quickstart that was stopped"
echo "stopped half-way, nothing left"
