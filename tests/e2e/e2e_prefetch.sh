#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The life of a prefetch list, as a stranger would go through it, with a real docker-registry: convert
# puts a predicted one beside the image, a start is recorded, its list made, pushed, found, replayed
# and told about; carried to the next build; laid out for; refused when it is corrupt. A list cannot
# make anybody open a device that the image holds.
#
# Usage: e2e_prefetch.sh HEADSTART_BINARY
# requires root, BPF, /dev/fuse, loop devices, docker-registry, umoci, jq, runc, strace
# shellcheck disable=SC2016  # what is quoted expands in the container or in jq
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tools/testbed.sh
. "$root/tools/testbed.sh"
headstart=$(readlink -f "$1")
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "skipped: requires $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip root
[ -c /dev/fuse ] || skip /dev/fuse
[ -e /dev/loop-control ] || skip "loop devices"
[ -e /sys/kernel/btf/vmlinux ] || skip "a kernel with BTF"
for c in umoci jq runc losetup docker-registry python3 strace; do command -v $c >/dev/null || skip "$c"; done

bed_start prefetch
dirs=(--run-dir="$bed/run" --state-dir="$bed/state")
bed_end() { timeout 60 "$headstart" umount --run-dir="$bed/run" --all --force >/dev/null 2>&1 || :; }
hs() { timeout 120 "$headstart" "$@"; }
begin() { step=$1; echo "--- $step"; }
die() { echo "$step: $*"; exit 1; }
same() { [ "$1" = "$2" ] || die "got '$1', not '$2'"; }
at_least() { jq -ne "$1 >= $2" >/dev/null || die "$1 is less than $2: $3"; }
# start NAME CACHE [OPTION...] - a start to its end; its report is $bed/NAME.json
start() {
	local name=$1 cache=$2
	shift 2
	sync
	echo 3 >/proc/sys/vm/drop_caches
	timeout 120 "$headstart" run "${dirs[@]}" --cache-dir="$bed/$cache" --report="$bed/$name.json" "$@" \
		>"$bed/$name.out" 2>"$bed/$name.err" || { cat "$bed/$name.err"; die "run failed"; }
	grep -q '^right$' "$bed/$name.out" || die "the container did not say what it had to"
}
told() { jq -r "$2" "$bed/$1.json"; }

begin "an image"
umoci --log=error init --layout "$bed/oci"
umoci --log=error new --image "$bed/oci:1"
umoci --log=error unpack --image "$bed/oci:1" "$bed/bundle"
tree=$bed/bundle/rootfs
mkdir -p "$tree"/{bin,etc,tmp,proc,sys,dev,app,data}
for p in sh cat head sleep cmp; do
	p=$(type -P $p)
	cp -L "$p" "$tree/bin/"
	for l in $(ldd "$p" | grep -o '/[^ ]*'); do
		mkdir -p "$tree$(dirname "$l")"
		cp -L "$l" "$tree$l"
	done
done
mknod "$tree/dev-null" c 1 3
# what a start reads lies between much that it does not
for i in $(seq 40); do head -c 400000 /dev/urandom >"$tree/data/$i"; done
umoci --log=error repack --refresh-bundle --image "$bed/oci:1" "$bed/bundle"
cat >"$tree/app/main" <<-'APP'
	#!/bin/sh
	for i in 3 11 17 29 38; do
	    head -c 100000 /data/$i >/tmp/part || exit 1
	done
	cat /app/words >/dev/null
	echo right
APP
chmod 755 "$tree/app/main"
head -c 200000 /dev/urandom >"$tree/app/words"
umoci --log=error repack --refresh-bundle --image "$bed/oci:1" "$bed/bundle"
umoci --log=error config --image "$bed/oci:1" --config.cmd /app/main
bed_registry
image=docker://$bed_host/app:1_accelerated

begin "convert puts a predicted list beside it"
hs convert "oci:$bed/oci:1" "$image" >"$bed/out" 2>&1 || { cat "$bed/out"; die "convert"; }
hs prefetch show "$image" --json >"$bed/list.json"
same "$(jq -r .origin "$bed/list.json")" predicted
digest=$(hs inspect --no-cache --json "$image" | jq -r .digest)
start static c1 "$image"
same "$(told static .prefetch.state)/$(told static .prefetch.origin)" used/predicted
at_least "$(told static .prefetch.coverage)" 0.5 "coverage of a predicted list"

begin "record, make, push"
hs trace record "${dirs[@]}" --cache-dir="$bed/c1" --until-log right -o "$bed/t" "$image" >"$bed/out" 2>&1 ||
	{ cat "$bed/out"; die "record"; }
hs trace show "$bed/t" >/dev/null
hs trace show --html "$bed/t.html" "$bed/t" >/dev/null
grep -q '</html>' "$bed/t.html" || die "no page"
hs prefetch make -o "$bed/list" "$bed/t" >/dev/null
hs prefetch push "$bed/list" "$image" >/dev/null
same "$(hs inspect --no-cache --json "$image" | jq -r .digest)" "$digest"
same "$(hs prefetch show "$image" --json | jq -r .origin)" recorded

begin "a cold start finds it"
start cold c2 --warm-pages=false "$image"
same "$(told cold .prefetch.state)/$(told cold .prefetch.origin)" used/recorded
at_least "$(told cold .prefetch.coverage)" 0.98 "coverage of the recorded list"
at_least "$(told cold .prefetch.accuracy)" 0.9 "accuracy of the recorded list"
start warmed c3 "$image"
same "$(told warmed .prefetch.warms_pages)" true
same "$(told warmed .prefetch.accuracy)" null
# the kernel was asked for the same in fewer, larger reads
at_least "$(told cold .stats.reads)" "$(told warmed .stats.reads)" "reads"
start off c4 --prefetch=off "$image"
same "$(told off .prefetch.state)" off
start file c5 --prefetch="$bed/list" "$image"
same "$(told file .prefetch.state)" used

begin "what it was worth is seen"
hs prefetch show "$image" --cache-dir="$bed/c2" | grep '^here ' || die "no word of its worth"
same "$(hs prefetch show "$image" --cache-dir="$bed/c2" --json | jq '.here.telling, .here.expired' | xargs)" "1 false"

begin "from a cache, without asking"
start never c2 --pull=never "$image"
same "$(told never .prefetch.origin)/$(told never .stats.requests)" recorded/0

begin "converting again leaves the recorded list"
hs convert "oci:$bed/oci:1" "$image" >/dev/null 2>&1
same "$(hs prefetch show "$image" --json | jq -r .origin)" recorded

begin "carried to the next build"
head -c 200000 /dev/urandom >"$tree/app/words"
umoci --log=error repack --refresh-bundle --image "$bed/oci:2" "$bed/bundle"
umoci --log=error config --image "$bed/oci:2" --config.cmd /app/main
next=docker://$bed_host/app:2_accelerated
hs convert "oci:$bed/oci:2" "$next" >/dev/null 2>&1
hs prefetch port "$bed/list" "$next" -o "$bed/list2" >"$bed/out"
cat "$bed/out"
hs prefetch push "$bed/list2" "$next" >/dev/null
start ported c6 --warm-pages=false "$next"
same "$(told ported .prefetch.origin)" ported
at_least "$(told ported .prefetch.coverage)" 0.8 "coverage of the ported list"

begin "laid out for the start"
laid=docker://$bed_host/laid:1_accelerated
hs convert --layout-by "$bed/list" "oci:$bed/oci:1" "$laid" >/dev/null 2>&1
start laid c7 --warm-pages=false "$laid"
at_least "$(told laid .prefetch.coverage)" 0.98 "coverage of the laid out image"
at_least "$(told laid .prefetch.accuracy)" 0.9 "accuracy of the laid out image"
at_least "$(told cold .stats.requests)" "$(told laid .stats.requests)" "requests"

begin "a corrupt list is none"
head -c 100 "$bed/list" >"$bed/short"
hs prefetch push "$bed/short" "$image" >"$bed/out" 2>&1 && die "a cut list was pushed"
cat "$bed/out"
if timeout 60 "$headstart" run "${dirs[@]}" --cache-dir="$bed/c8" --prefetch="$bed/short" "$image" \
	>"$bed/out" 2>&1; then die "a cut list was taken"; fi
cat "$bed/out"

begin "a list that names a device of the image opens nothing"
python3 - "$root" "$bed/list" "$bed/evil" <<'PY'
import struct, sys
# the path of a file in the list is replaced by one of the same length, and the checksum made anew
def crc32c(data):
    crc = 0xffffffff
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
data = bytearray(open(sys.argv[2], "rb").read())
old, new = b"/app/main", b"/dev-null"
at, found = 16, 0
while at < len(data):
    size = struct.unpack_from("<I", data, at + 4)[0]
    block = data[at:at + 8 + size]
    assert struct.unpack_from("<I", data, at + 8 + size)[0] == crc32c(block)
    if old in block:
        found += 1
        data[at:at + 8 + size] = block.replace(old, new)
        struct.pack_into("<I", data, at + 8 + size, crc32c(data[at:at + 8 + size]))
    at += 12 + size
assert found == 1, "the path is not there once"
open(sys.argv[3], "wb").write(data)
PY
strace -f -e trace=openat,openat2,open -o "$bed/strace" timeout 60 "$headstart" run "${dirs[@]}" \
	--cache-dir="$bed/c9" --prefetch="$bed/evil" "$image" >"$bed/out" 2>&1 || { cat "$bed/out"; die "run"; }
grep -q 'openat2(.*dev-null.*O_PATH' "$bed/strace" || die "the list's path was not looked at"
if grep -E 'open(at|at2)?\(.*dev-null' "$bed/strace" | grep -qv O_PATH; then die "a device was opened"; fi

begin "the end"
same "$(ls -A "$bed/run" 2>/dev/null)" ""
echo "all well"
