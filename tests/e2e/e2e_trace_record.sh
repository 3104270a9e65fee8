#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# headstart trace record against starts whose reads are known to the page: an image run here with the
# read-ahead off, where what is recorded has to be all and nothing else; a container of containerd on
# plain overlayfs from its very first read; a process with its descendants. How recordings end, what
# is lost, and what a kill -9 leaves behind.
#
# Usage: e2e_trace_record.sh HEADSTART_BINARY
# requires root, BPF, /dev/fuse, loop devices, umoci, jq, runc and a C compiler; containerd and skopeo
# for its part
# shellcheck disable=SC2016  # dollars are of jq
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tests/e2e
# shellcheck source=tools/testbed.sh
. "$root/tools/testbed.sh"
headstart=$(readlink -f "$1")
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "skipped: requires $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip root
[ -c /dev/fuse ] || skip /dev/fuse
[ -e /dev/loop-control ] || skip "loop devices"
[ -e /sys/kernel/btf/vmlinux ] || skip "a kernel with BTF"
for c in umoci jq runc losetup cc python3; do command -v $c >/dev/null || skip "$c"; done

bed_start trace
options=(--run-dir="$bed/run" --state-dir="$bed/state" --cache-dir="$bed/cache" --stop-timeout=200ms)
record() { timeout 120 "$headstart" trace record "${options[@]}" "$@"; }
hs() { timeout 60 "$headstart" "$1" --run-dir="$bed/run" "${@:2}"; }
bed_end() { hs umount --all --force >/dev/null 2>&1 || :; }
begin() { step=$1; echo "--- $step"; }
all_gone() {
	[ -z "$(bed_mounts)$(bed_loops)$(bed_processes "$bed/run")" ] &&
		[ -z "$(ls -A "$bed/run" 2>/dev/null)" ] && [ -z "$(ls -A "$bed/state" 2>/dev/null)" ]
}
nothing_left() {
	bed_wait 15 all_gone || {
		echo "left behind after '$step':"
		bed_mounts
		bed_loops
		ls -A "$bed/run" "$bed/state"
		exit 1
	}
}
same() { [ "$1" = "$2" ] || { echo "got '$1', not '$2'"; exit 1; }; }
must_fail() { # CODE TEXT COMMAND...
	local code=0 want=$1 text=$2
	shift 2
	"$@" >"$bed/out" 2>&1 || code=$?
	cat "$bed/out"
	[ $code = "$want" ] || { echo "exit $code instead of $want: $*"; exit 1; }
	grep -q -- "$text" "$bed/out" || { echo "no '$text' in the message"; exit 1; }
}
pages() { "$here/read_trace.py" "$@"; }             # FILE pages KINDS PATH
show() { "$here/read_trace.py" "$1" | jq -r "$2"; } # FILE FILTER

# Two layers. In the second one a file is another, and one is new.
cc -O1 -static -o "$bed/reader" "$here/known_reads.c"
umoci --log=error init --layout "$bed/oci"
umoci --log=error new --image "$bed/oci:src"
mkdir -p "$bed/one/data/deep/er" "$bed/two/data"
cp "$bed/reader" "$bed/one/reader"
for f in a both hard; do head -c 1000123 /dev/urandom >"$bed/one/data/$f"; done
ln "$bed/one/data/hard" "$bed/one/data/deep/er/zz-hard"
ln -s /data/deep/er "$bed/one/data/link"
head -c 5000 /dev/urandom >"$bed/one/data/deep/er/small"
for f in both new; do head -c 700000 /dev/urandom >"$bed/two/data/$f"; done
for l in one two; do
	tar -C "$bed/$l" -cf "$bed/$l.tar" .
	umoci --log=error raw add-layer --image "$bed/oci:src" "$bed/$l.tar"
done
umoci --log=error config --image "$bed/oci:src" --config.entrypoint /reader
"$headstart" convert --quiet "oci:$bed/oci:src" "oci:$bed/acc:img"
img=oci:$bed/acc:img
# read over two pages; the same by a mapping; the end of a file, longer than it is; a hard link by its
# other name; files of either layer
known=(read /data/a 8000 400 map /data/a 409600 child /data/a 81920 read /data/new 0 1 read /data/both 120000 10000
	read /data/hard 4096 1 map /data/link/zz-hard 40960 read /data/link/small 0 20000 read /data/new 698000 50000
	link /data/link list /data)
demand=read,fault
check_known() { # TRACE KINDS
	local hard=/data/hard
	[ -n "$(pages "$1" pages "$2" $hard)" ] || hard=/data/deep/er/zz-hard
	same "$(pages "$1" pages "$2" /data/a)" "1 2 20 100"
	same "$(pages "$1" pages "$2" /data/new)" "0 170"
	same "$(pages "$1" pages "$2" /data/both)" "29 30 31"
	same "$(pages "$1" pages "$2" $hard)" "1 10"
	same "$(pages "$1" pages "$2" /data/deep/er/small)" "0 1"
}

begin "an image run here: all that was read and nothing else"
record --json -o "$bed/own.trace" "$img" "${known[@]}" >"$bed/sum"
cat "$bed/sum"
check_known "$bed/own.trace" $demand
# with the read-ahead off, what was fetched is what was demanded
check_known "$bed/own.trace" cached
same "$(pages "$bed/own.trace" pages $demand /reader)" "$(pages "$bed/own.trace" pages cached /reader)"
same "$(show "$bed/own.trace" '[.truncated, .lost, .unattributed, .ended_by, .precision, .read_ahead] | join(" ")')" \
	"false 0 0 exit 1 0"
same "$(show "$bed/own.trace" .image)" "$img"
digest=$(jq -r .manifests[0].digest "$bed/acc/index.json")
same "$(show "$bed/own.trace" .digest)" "$digest"
# fault-around maps nothing that had not been demanded, so it is not told
same "$(show "$bed/own.trace" '[.events[] | select(.kind == "mapped")] | length')" 0
# metadata: the superblock is read by the mount, the directories by the container
[ "$(show "$bed/own.trace" '.objects as $o | [.events[] | select($o[.object].kind == 2)] | length')" -gt 5 ]
same "$(show "$bed/own.trace" '.objects as $o | [.events[] | select($o[.object].kind == 2 and .off <= 1024)] | length > 0')" true
same "$(show "$bed/own.trace" '[.objects[] | select(.kind == 1 and .path == null)] | length')" 0
# who: the child is another process of the same name
same "$(show "$bed/own.trace" '[.processes[] | select(.comm == "reader") | .pid] | unique | length')" 2
same "$(jq -r '[.ended_by, .precision, .lost_events, .exit_code] | join(" ")' "$bed/sum")" "exit exact 0 0"
same "$(jq -r .events "$bed/sum")" "$(show "$bed/own.trace" '.events | length')"
same "$(jq -r '.demanded_bytes > 50000 and .files >= 6 and .metadata_bytes > 4096' "$bed/sum")" true
nothing_left

begin "the same, with the default read-ahead"
record --read-ahead=128K -o "$bed/ahead.trace" "$img" "${known[@]}"
same "$(show "$bed/ahead.trace" '[.precision, .read_ahead] | join(" ")')" "2 131072"
# more was fetched than demanded, and demand is told apart
[ "$(pages "$bed/ahead.trace" pages cached /data/a | wc -w)" -gt 8 ]
same "$(pages "$bed/ahead.trace" pages read /data/a)" "1 2 20"
nothing_left

begin "a kernel without demand tracepoints"
HEADSTART_TRACE_PLAIN=1 record -o "$bed/plain.trace" "$img" "${known[@]}" 2>"$bed/out"
cat "$bed/out"
grep -q "cannot tell what was demanded" "$bed/out"
same "$(show "$bed/plain.trace" .precision)" 3
same "$(show "$bed/plain.trace" '[.events[] | select(.kind == "read" or .kind == "fault")] | length')" 0
check_known "$bed/plain.trace" cached
nothing_left

begin "how it ends"
record --json --until-idle=500ms -o "$bed/t" "$img" read /data/a 0 1 sleep 1000 >"$bed/sum"
same "$(jq -r '.ended_by == "idle" and .ended_ns > 500e6' "$bed/sum")" true
record --json --until-idle=0 --max=1s -o "$bed/t" "$img" sleep 1000 >"$bed/sum"
same "$(jq -r .ended_by "$bed/sum")" limit
record --json --until-http=http://127.0.0.1:8123/x -o "$bed/t" "$img" serve 8123 sleep 1000 >"$bed/sum"
same "$(jq -r .ended_by "$bed/sum")" probe
record --json --until-log='^i am (ready|done)$' -o "$bed/t" "$img" say "i am" say "i am ready" sleep 1000 >"$bed/sum" 2>"$bed/out"
same "$(jq -r .ended_by "$bed/sum")" probe
grep -qx "i am ready" "$bed/out" # passed on, beside the JSON
record --until-log=ready -o "$bed/t" "$img" say ready sleep 1000 >"$bed/out" 2>/dev/null
same "$(cat "$bed/out")" ready
record --json --until-exec="test -e $bed/go || { touch $bed/go; exit 1; }; ip link show lo | grep -q UP" \
	-o "$bed/t" "$img" sleep 1000 >"$bed/sum"
same "$(jq -r .ended_by "$bed/sum")" probe
[ -e "$bed/go" ]
record --json --max=2s --until-http=http://127.0.0.1:8124/ -o "$bed/t" "$img" sleep 1000 >"$bed/sum"
same "$(jq -r .ended_by "$bed/sum")" limit
nothing_left
for s in INT TERM; do
	rm -f "$bed/out"
	"$headstart" trace record --json "${options[@]}" --until-idle=0 -o "$bed/int.trace" "$img" read /data/a 8000 400 \
		say ready sleep 1000 >"$bed/sum" 2>"$bed/out" &
	pid=$!
	bed_wait 30 grep -q ready "$bed/out"
	python3 -c "import os, signal; os.kill($pid, signal.SIG$s)"
	bed_gone $pid 30
	wait $pid
	same "$(jq -r .ended_by "$bed/sum")" signal
	same "$(pages "$bed/int.trace" pages $demand /data/a)" "1 2"
	same "$(show "$bed/int.trace" '.objects as $o | [.events[] | select($o[.object].path == "/reader")] | length > 0')" true
	nothing_left
done

begin "kill -9 of the recorder"
rm -f "$bed/out"
"$headstart" trace record "${options[@]}" --until-idle=0 -o "$bed/killed.trace" "$img" read /data/a 8000 400 \
	sleep 2 say ready sleep 1000 >"$bed/out" 2>&1 &
pid=$!
bed_wait 30 grep -q ready "$bed/out"
kill -9 $pid
wait $pid || :
same "$(show "$bed/killed.trace" '.truncated and (.events | length) > 20')" true
bed_wait 20 hs umount --dead
nothing_left

begin "a ring that is too small tells what was lost"
record --json --ring-size=4K -o "$bed/lost.trace" "$img" read /data/a 0 1000000 read /data/new 0 700000 >"$bed/sum" 2>"$bed/out"
cat "$bed/out"
same "$(jq -r '.lost_events > 0' "$bed/sum")" true
grep -q "were lost" "$bed/out"
same "$(show "$bed/lost.trace" '.lost > 0 and (.truncated | not)')" true
nothing_left

begin "misuse and failures"
must_fail 2 "either IMAGE" record -o "$bed/t"
must_fail 2 "either IMAGE" record -o "$bed/t" --pid=1 "$img"
must_fail 2 "FILE has to be given" record "$img"
must_fail 2 "run here" record -o "$bed/t" --until-log=x --pid=1
must_fail 1 "TLS" record -o "$bed/t" --until-http=https://127.0.0.1/ "$img"
must_fail 1 "takes http" record -o "$bed/t" --until-http=127.0.0.1 "$img"
must_fail 1 "until-log" record -o "$bed/t" --until-log='(' "$img"
must_fail 1 "only one of" record -o "$bed/t" --until-log=x --until-exec=y "$img"
must_fail 1 "power of two" record -o "$bed/t" --ring-size=5000 "$img"
must_fail 1 "cannot create" record -o "$bed/none/t" "$img"
must_fail 1 "no process" record -o "$bed/t" --pid=4194303
must_fail 1 "did not appear" record -o "$bed/t" --wait=300ms --container=no-such
must_fail 1 "no name of a container" record -o "$bed/t" --container=../x
nothing_left

begin "a process with its descendants, on a mount of ours"
mkdir "$bed/mnt"
hs mount --cache-dir="$bed/cache" --read-ahead=0 "$img" "$bed/mnt" >/dev/null
mkfifo "$bed/fifo"
sh -c "read go <'$bed/fifo'; chroot '$bed/mnt' /reader ${known[*]}; :" &
pid=$!
"$headstart" trace record --json "${options[@]}" -o "$bed/pid.trace" --pid=$pid >"$bed/sum" 2>"$bed/out" &
recorder=$!
bed_wait 10 test -s "$bed/pid.trace"
echo go >"$bed/fifo"
wait $pid
bed_gone $recorder 20
wait $recorder
cat "$bed/out"
same "$(jq -r .ended_by "$bed/sum")" exit
check_known "$bed/pid.trace" $demand
# by the image's own paths; the rest is the host's
same "$(show "$bed/pid.trace" '.unattributed > 0')" true
# other containers of this machine may hold copies of the mount
hs umount --force "$bed/mnt"
nothing_left

command -v containerd >/dev/null && command -v skopeo >/dev/null || { echo "all well (without containerd)"; exit 0; }
begin "containerd, overlayfs: from before its start"
cat >"$bed/containerd.toml" <<CONF
version = 2
root = "$bed/c/root"
state = "$bed/c/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$bed/c.sock"
[ttrpc]
  address = "$bed/c.ttrpc"
CONF
containerd -c "$bed/containerd.toml" >"$bed/containerd.log" 2>&1 &
bed_pids+=($!)
ctr=$(type -P ctr)
ctr() { timeout 60 "$ctr" -a "$bed/c.sock" "$@"; }
bed_wait 20 ctr version
umoci --log=error config --image "$bed/oci:src" --config.cmd list --config.cmd /
skopeo --insecure-policy copy -q "oci:$bed/oci:src" "oci-archive:$bed/plain.tar:example.test/known:1"
ctr images import "$bed/plain.tar" >/dev/null
image=$(ctr images ls -q)
watch=(--containerd-state="$bed/c/state" --until-idle=1s)
begin_recording() { # FILE OPTION...
	"$headstart" trace record --json "${options[@]}" "${watch[@]}" -o "$@" >"$bed/sum" 2>"$bed/out" &
	recorder=$!
}
end_recording() {
	bed_gone $recorder 60
	wait $recorder || { cat "$bed/out"; exit 1; }
	cat "$bed/out"
}
drop() { sync; echo 3 >/proc/sys/vm/drop_caches; }
waiting() { bpftool prog show 2>/dev/null | grep -q on_cgroup_mkdir; }
begin_recording "$bed/c.trace" --container=known-1
bed_wait 10 waiting
drop
ctr run --rm "$image" known-1 /reader "${known[@]}"
end_recording
# demand of reads is exact whatever the read-ahead; a mapping's pages may have been there
same "$(pages "$bed/c.trace" pages read /data/a)" "1 2 20"
same "$(pages "$bed/c.trace" pages $demand,mapped /data/a | tr ' ' '\n' | grep -cx 100)" 1
same "$(pages "$bed/c.trace" pages read /data/both)" "29 30 31"
same "$(pages "$bed/c.trace" pages read /data/new)" "0 170"
same "$(pages "$bed/c.trace" pages read /data/deep/er/small)" "0 1"
[ -n "$(pages "$bed/c.trace" pages read /data/hard)$(pages "$bed/c.trace" pages read /data/deep/er/zz-hard)" ]
# from its first read on: the program's own head was read by its exec
[ "$(pages "$bed/c.trace" pages $demand /reader | cut -d' ' -f1)" = 0 ]
same "$(show "$bed/c.trace" '[.precision, .digest, .lost] | join(" ")')" "2  0"
same "$(show "$bed/c.trace" '[.objects[] | select(.kind == 2)] | length')" 0
show "$bed/c.trace" .filter | grep -q "cgroup.*known-1"
nothing_left

begin "containerd: one that runs already"
ctr run -d "$image" known-2 /reader sleep 3 "${known[@]}" sleep 1000
begin_recording "$bed/c2.trace" --container=known-2 --until-idle=3s
end_recording
same "$(jq -r .ended_by "$bed/sum")" idle
same "$(pages "$bed/c2.trace" pages read /data/a)" "1 2 20"
same "$(pages "$bed/c2.trace" pages read /data/both)" "29 30 31"
ctr task kill -s KILL known-2
bed_wait 10 ctr task rm known-2
ctr container rm known-2
nothing_left
echo "all well"
