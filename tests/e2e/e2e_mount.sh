#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# headstart mount, status and umount through every kind of end: umount of both kinds, a busy mount, a
# killed server, a stale record, Ctrl-C, several mounts at once. After each nothing may be left: no mount, loop
# device, process or record.
#
# Usage: e2e_mount.sh HEADSTART_BINARY
# requires root, /dev/fuse, loop devices, jq, zstd
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
for c in jq zstd losetup findmnt; do command -v $c >/dev/null || skip "$c"; done
[ -x "$headstart" ] || { echo "$headstart is not there"; exit 1; }

bed_start mount
cp -r "$root/tests/golden/vectors/." "$bed/golden"
cd "$bed/golden"
chmod -R u+w .
find . -name '*.zst' -exec zstd -q -d -k -f {} \;
ext4=cfg/native-tar-zstd-32k.config.v1.json
erofs=cfg/turbo-erofs-gz.config.v1.json
mkdir "$bed/m1" "$bed/m2" "$bed/m3" "$bed/with space"

hs() {
	local command=$1
	shift
	case $command in
	mount) set -- --cache-dir="$bed/cache" "$@" ;;
	esac
	timeout 60 "$headstart" "$command" --run-dir="$bed/run" "$@"
}
all_gone() {
	[ -z "$(bed_mounts)$(bed_loops)$(bed_processes "$bed/run")" ] &&
		[ -z "$(ls -A "$bed/run" 2>/dev/null)" ]
}
all_gone_after_dead() { hs umount --dead && all_gone; }
nothing_left() {
	bed_wait 10 all_gone || {
		echo "left behind after '$step':"
		bed_mounts
		bed_loops
		ls -A "$bed/run"
		exit 1
	}
}
bed_end() { hs umount --all --force >/dev/null 2>&1 || :; }
begin() { step=$1; echo "--- $step"; }
# must_fail CODE TEXT COMMAND... - exit code and a message that says it
must_fail() {
	local code=0 want=$1 text=$2
	shift 2
	"$@" >"$bed/out" 2>&1 || code=$?
	cat "$bed/out"
	[ $code = "$want" ] || { echo "exit $code instead of $want: $*"; exit 1; }
	grep -q -- "$text" "$bed/out" || { echo "no '$text' in the message"; exit 1; }
}
server_pid() { hs status --json "$1" | jq -e '.[0].pid'; }
state() { hs status --json "$1" | jq -r '.[0].state'; }
# by content, so that what was mounted is known to be the image
files_of() { (cd "$1" && find . -xdev -type f -exec sha256sum {} + | sort -k2 | sha256sum); }

begin "mount, status, umount"
hs mount "$ext4" "$bed/m1"
[ "$(findmnt -n -o FSTYPE "$bed/m1")" = ext4 ]
findmnt -n -o OPTIONS "$bed/m1" | tr , '\n' | grep -qx ro
findmnt -n -o OPTIONS "$bed/m1" | tr , '\n' | grep -qx nosuid
loop=$(findmnt -n -o SOURCE "$bed/m1")
[ "$(losetup -n -O DIO,RO,AUTOCLEAR "$loop" | tr -d ' ')" = 111 ]
[ "$(cat "/sys/block/${loop#/dev/}/queue/read_ahead_kb")" = 128 ]
want=$(files_of "$bed/m1")
[ "$(find "$bed/m1" -xdev -type f | wc -l)" -gt 100 ]
hs status
[ "$(state "$bed/m1")" = serving ]
hs status --json | jq -e '.[0] | .server.stats.reads > 0 and .server.stats.read_errors == 0 and .mounted'
must_fail 1 "in use by pid" bash -c "cd $bed/m1 && exec $headstart umount --run-dir=$bed/run $bed/m1"
hs umount "$bed/m1"
nothing_left
hs status | grep -q "nothing is mounted"

begin "read-ahead, suid and dev"
hs mount --read-ahead=0 --suid --dev --json "$ext4" "$bed/m1" | jq -e '.fstype == "ext4" and .bytes == 67108864'
loop=$(findmnt -n -o SOURCE "$bed/m1")
[ "$(cat "/sys/block/${loop#/dev/}/queue/read_ahead_kb")" = 0 ]
if findmnt -n -o OPTIONS "$bed/m1" | grep -q -e nosuid -e nodev; then exit 1; fi
id=$(hs status --json | jq -r '.[0].id')
hs umount "$id"
nothing_left

begin "the device itself equals the image's truth"
hs mount "$ext4" "$bed/m1"
loop=$(findmnt -n -o SOURCE "$bed/m1")
truth=$(awk -F'\t' '$1 == "native-tar-zstd-32k" { print $6 }' manifest.tsv)
# past the page cache: there a mounted ext4 keeps a superblock of its own
[ "$(dd if="$loop" iflag=direct bs=1M status=none | sha256sum | cut -d' ' -f1)" = "$truth" ]
umount "$bed/m1"
nothing_left

begin "erofs, and a directory with a space in its name"
hs mount "$erofs" "$bed/with space"
[ "$(findmnt -n -o FSTYPE "$bed/with space")" = erofs ]
hs umount "$bed/with space/"
nothing_left

begin "several at once, of the same and of different images"
hs mount "$ext4" "$bed/m1" &
one=$!
hs mount "$ext4" "$bed/m2" &
two=$!
hs mount "$erofs" "$bed/m3"
wait $one
wait $two
[ "$(hs status --json | jq length)" = 3 ]
files_of "$bed/m1" >"$bed/f1" &
one=$!
files_of "$bed/m2" >"$bed/f2"
wait $one
[ "$(cat "$bed/f1")" = "$want" ] && [ "$(cat "$bed/f2")" = "$want" ]
hs umount "$bed/m1" "$bed/m2"
[ "$(state "$bed/m3")" = serving ]
hs umount --all
nothing_left

begin "plain umount"
hs mount "$ext4" "$bed/m1"
umount "$bed/m1"
nothing_left

begin "what cannot be mounted leaves nothing"
must_fail 1 "lsmt" hs mount cfg/edge-lsmt-truncated.lsmt.config.v1.json "$bed/m1"
must_fail 1 "No such file" hs mount cfg/absent.config.v1.json "$bed/m1"
must_fail 1 "not ext4 or erofs" hs mount cfg/rw-committed-alone.config.v1.json "$bed/m1"
must_fail 1 "No such file" hs mount "$ext4" "$bed/absent"
must_fail 1 "not a directory" hs mount "$ext4" "$ext4"
must_fail 2 "operand" hs mount "$ext4"
must_fail 2 "no option" hs mount --nonsense "$ext4" "$bed/m1"
must_fail 1 "nothing of headstart" hs umount "$bed/m1"
nothing_left
hs mount "$ext4" "$bed/m1"
must_fail 1 "mounted on" hs mount "$ext4" "$bed/m1"
hs umount "$bed/m1"
nothing_left

begin "a user inside, then --force"
hs mount "$ext4" "$bed/m1"
(cd "$bed/m1" && exec sleep 1000) &
sleeper=$!
bed_wait 5 test "$bed/m1" -ef "/proc/$sleeper/cwd"
must_fail 1 "in use by pid $sleeper (sleep)" hs umount "$bed/m1"
[ "$(state "$bed/m1")" = serving ]
hs umount --force "$bed/m1"
kill $sleeper
wait $sleeper || :
nothing_left

begin "kill -9 of the server"
hs mount "$ext4" "$bed/m1"
kill -9 "$(server_pid "$bed/m1")"
dead() { [ "$(state "$bed/m1")" = dead ]; }
bed_wait 5 dead
if timeout 10 cat "$bed"/m1/data/* >/dev/null 2>&1; then echo "a dead mount gave data"; exit 1; fi
hs umount "$bed/m1"
nothing_left

begin "kill -9 of the server, umount, then --dead"
hs mount "$ext4" "$bed/m1"
hs mount "$ext4" "$bed/m2"
kill -9 "$(server_pid "$bed/m1")"
umount "$bed/m1"
bed_wait 5 dead
hs umount --dead
[ "$(hs status --json | jq length)" = 1 ]
hs umount "$bed/m2"
nothing_left

begin "SIGTERM to the server"
hs mount "$ext4" "$bed/m1"
kill "$(server_pid "$bed/m1")"
bed_wait 5 dead
hs umount "$bed/m1"
nothing_left

begin "Ctrl-C and kill -9 of mount, at many moments"
for signal in INT KILL; do
	for delay in 0.00 0.01 0.02 0.04 0.06 0.08 0.12; do
		"$headstart" mount --run-dir="$bed/run" --cache-dir="$bed/cache" "$ext4" "$bed/m1" \
			>"$bed/out" 2>&1 &
		pid=$!
		sleep $delay
		kill -$signal $pid 2>/dev/null || :
		code=0
		wait $pid || code=$?
		if [ $signal = INT ] && [ $code = 1 ] && grep -q interrupted "$bed/out"; then
			nothing_left
		fi
		# it may have been complete before the signal came
		if mountpoint -q "$bed/m1"; then umount "$bed/m1"; fi
		# Killed before the server took over: the record alone may be left. It is dead when its server
		# is, and a directory that has no record yet when it is 10 s old: asked again until then.
		bed_wait 20 all_gone_after_dead || nothing_left
	done
done
echo "all well"
