#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# headstart run: what the image config asks for, what the command line changes, exit codes, signals,
# terminal, networks, both runtimes, and every kind of death. After each nothing may be left: no
# mount, loop device, process, record, cgroup or written file.
#
# Usage: e2e_run.sh HEADSTART_BINARY
# requires root, /dev/fuse, loop devices, umoci, jq and runc
# shellcheck disable=SC2016  # what is quoted expands in the container
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
for c in umoci jq runc losetup ldd script; do command -v $c >/dev/null || skip "$c"; done
[ -x "$headstart" ] || { echo "$headstart is not there"; exit 1; }

bed_start run
options=(--run-dir="$bed/run" --state-dir="$bed/state" --cache-dir="$bed/cache")
run() { timeout 120 "$headstart" run "${options[@]}" "$@"; }
hs() { timeout 60 "$headstart" "$1" --run-dir="$bed/run" "${@:2}"; }
bed_end() { hs umount --all --force >/dev/null 2>&1 || :; }
# empty ones: others belong to containers that somebody else runs on this machine
cgroups() {
	local d
	for d in /sys/fs/cgroup/headstart-* /sys/fs/cgroup/*/headstart-*; do
		if [ -d "$d" ] && [ -z "$(cat "$d/cgroup.procs" 2>/dev/null)" ]; then echo "$d"; fi
	done
}
all_gone() {
	[ -z "$(bed_mounts)$(bed_loops)$(bed_processes "$bed/run")$(cgroups)" ] &&
		[ -z "$(ls -A "$bed/run" 2>/dev/null)" ] && [ -z "$(ls -A "$bed/state" 2>/dev/null)" ]
}
nothing_left() {
	bed_wait 15 all_gone || {
		echo "left behind after '$step':"
		bed_mounts
		bed_loops
		cgroups
		ls -A "$bed/run" "$bed/state"
		[ ! -e "$bed/out" ] || cat "$bed/out"
		exit 1
	}
}
begin() { step=$1; echo "--- $step"; }
same() { [ "$1" = "$2" ] || { echo "got '$1', not '$2'"; exit 1; }; }
# must_fail CODE TEXT COMMAND... - exit code and a message that says it
must_fail() {
	local code=0 want=$1 text=$2
	shift 2
	"$@" >"$bed/out" 2>&1 || code=$?
	cat "$bed/out"
	[ $code = "$want" ] || { echo "exit $code instead of $want: $*"; exit 1; }
	grep -q -- "$text" "$bed/out" || { echo "no '$text' in the message"; exit 1; }
}

# A small image of this machine's own programs
umoci --log=error init --layout "$bed/oci"
umoci --log=error new --image "$bed/oci:src"
umoci --log=error unpack --image "$bed/oci:src" "$bed/bundle"
tree=$bed/bundle/rootfs
mkdir -p "$tree"/{bin,etc,tmp,root,home/web,var/lib/data,proc,sys,dev}
for p in bash cat ls sleep id env stat touch hostname pwd stty tty ip grep readlink; do
	p=$(type -P $p)
	cp -L "$p" "$tree/bin/"
	for l in $(ldd "$p" | grep -o '/[^ ]*'); do
		mkdir -p "$tree$(dirname "$l")"
		cp -L "$l" "$tree$l"
	done
done
printf 'root:x:0:0:root:/root:/bin/bash\nweb:x:1000:1001::/home/web:/bin/bash\n' >"$tree/etc/passwd"
printf 'root:x:0:\nweb:x:1001:\nextra:x:2000:root,web\nstaff:x:50:\n' >"$tree/etc/group"
# names are looked up inside the image, wherever its links point
mv "$tree/etc/group" "$tree/etc/group.real"
ln -s /etc/group.real "$tree/etc/group"
echo seed >"$tree/var/lib/data/seed"
chown -R 1000:1001 "$tree/var/lib/data" "$tree/home/web"
chmod 750 "$tree/var/lib/data"
umoci --log=error repack --image "$bed/oci:src" "$bed/bundle"
umoci --log=error config --image "$bed/oci:src" --config.entrypoint /bin/bash --config.entrypoint -c \
	--config.cmd 'id; pwd; echo $FOO $HOME $HOSTNAME' --config.env FOO=bar --config.user web \
	--config.workingdir /home/web --config.volume /var/lib/data --config.stopsignal SIGUSR1
rm -rf "$bed/bundle"
"$headstart" convert "oci:$bed/oci:src" "oci:$bed/acc:img"
img=oci:$bed/acc:img

begin "the image's own command"
run "$img" >"$bed/out"
cat "$bed/out"
grep -q 'uid=1000(web) gid=1001(web) groups=1001(web),2000(extra)' "$bed/out"
grep -qx /home/web "$bed/out"
grep -Eqx 'bar /home/web [0-9a-f]{12}' "$bed/out"
nothing_left

begin "exit codes"
for code in 0 1 42 255; do
	got=0
	run "$img" "exit $code" || got=$?
	same $got $code
done
must_fail 1 "no such file" run --entrypoint /bin/none "$img"
must_fail 2 "operands are missing" run
must_fail 1 "no user" run -u nobody "$img"
must_fail 1 "No such file" run "$bed/absent.json"
must_fail 1 "not absolute" run -w here "$img"
must_fail 1 "needs a terminal" run -t "$img" </dev/null
must_fail 1 "none, host or ns" run --net=moon "$img"
must_fail 1 "SRC:DST" run -v nothing "$img"
must_fail 1 "No such file" run -v "$bed/absent:/x" "$img"
must_fail 1 "not installed" run --runtime=no-such-runtime "$img"
nothing_left

begin "the command line wins"
same "$(run -u 0:staff "$img" 'id')" 'uid=0(root) gid=50(staff) groups=50(staff)'
same "$(run -u 4242 "$img" 'id -u; id -g' | tr '\n' ' ')" '4242 0 '
same "$(run -w /etc "$img" pwd)" /etc
same "$(OUT=side run -e FOO=x -e OUT -e ABSENT "$img" 'echo $FOO $OUT ${ABSENT-unset}')" 'x side unset'
same "$(run --hostname=moon "$img" 'hostname; cat /etc/hostname; grep -c moon /etc/hosts' | tr '\n' ' ')" 'moon moon 1 '
same "$(run --entrypoint /bin/cat "$img" /etc/passwd | head -n1)" 'root:x:0:0:root:/root:/bin/bash'
same "$(echo given | run -i "$img" cat)" given
same "$(echo given | run "$img" cat)" ''
nothing_left

begin "volumes and what is writable"
mkdir "$bed/data"
echo host >"$bed/data/file"
same "$(run -v "$bed/data:/data:ro" -u root "$img" 'cat /data/file; touch /data/x 2>/dev/null || echo ro')" $'host\nro'
run -v "$bed/data:/data" -u root "$img" 'touch /data/new /root/gone'
[ -e "$bed/data/new" ]
same "$(run -u root "$img" 'ls /root')" ''
same "$(run "$img" 'cat /var/lib/data/seed; stat -c "%a %u %g" /var/lib/data; touch /var/lib/data/mine && echo ok')" \
	$'seed\n750 1000 1001\nok'
same "$(run --read-only -u root "$img" 'touch /x 2>/dev/null || echo ro; touch /var/lib/data/x /tmp/x 2>/dev/null; ls /var/lib/data')" \
	$'ro\nseed\nx'
nothing_left
run --keep -u root "$img" 'echo kept >/root/file' 2>"$bed/out"
kept=$(sed -n 's/.*kept //p' "$bed/out")
same "$(cat "$kept/upper/root/file")" kept
rm -rf "$kept"
nothing_left

begin "isolation"
same "$(run "$img" 'ls /sys/class/net')" lo
run "$img" 'ip -o link show lo' | grep -q UP
same "$(run --net=host "$img" 'readlink /proc/self/ns/net')" "$(readlink /proc/self/ns/net)"
bed_netns
same "$(run --net="ns:$bed_net" "$img" 'readlink /proc/self/ns/net')" "$(readlink "$bed_net")"
same "$(run -u root "$img" 'grep CapEff /proc/self/status' | tr -d '\t ')" CapEff:00000000a80425fb
same "$(run "$img" 'grep CapEff /proc/self/status' | tr -d '\t ')" CapEff:0000000000000000
same "$(run "$img" 'echo $$')" 1
run "$img" 'echo x >/proc/sysrq-trigger' 2>/dev/null && exit 1
same "$(run "$img" 'cat /proc/keys')" ''
nothing_left

begin "terminal"
# script(1) gives it one; typed text comes back through the container's
script -qec "$headstart run ${options[*]} -t -i -u root $img 'tty; stty size; read a; echo got-\$a'" /dev/null \
	<<<'typed' >"$bed/out"
cat "$bed/out"
grep -q '/dev/pts/0' "$bed/out"
grep -q 'got-typed' "$bed/out"
nothing_left

# start NAME SCRIPT [OPTION...] - in the background, until it has said "ready"; sets $pid
start() {
	"$headstart" run "${options[@]}" "${@:3}" "$img" "$2" >"$bed/$1" 2>&1 &
	pid=$!
	bed_wait 30 grep -q ready "$bed/$1"
}
ended() { # CODE
	local code=0
	wait "$pid" || code=$?
	same $code "$1"
}

begin "stats, names and status"
start second 'echo ready; sleep 1000' --name second
second=$pid
start first 'echo ready; sleep 1000' --name first --stats
hs status
same "$(hs status --json | jq -r '[.[] | .name + " " + .state] | sort | join(",")')" 'first serving,second serving'
must_fail 1 "is taken" run --name first "$img"
must_fail 1 "running container" hs umount first
hs umount --force second
# the stop signal does nothing to a first process that does not catch it; a second one is for good
kill -TERM "$pid"
sleep 0.2
kill -TERM "$pid"
ended 137
cat "$bed/first"
pid=$second
ended 137
grep -q 'fetched' "$bed/first"
nothing_left

begin "signals"
start int 'trap "echo caught-int; exit 5" INT; echo ready; while :; do sleep 0.1; done'
kill -INT $pid
ended 5
grep -q caught-int "$bed/int"
start term 'trap "echo caught-usr1; exit 6" USR1; echo ready; while :; do sleep 0.1; done'
kill -TERM $pid
ended 6
grep -q caught-usr1 "$bed/term"
start deaf 'trap "" INT TERM USR1; echo ready; while :; do sleep 0.1; done' --stop-timeout=500ms
kill -TERM $pid
ended 137
start twice 'trap "" INT TERM USR1; echo ready; while :; do sleep 0.1; done'
kill -INT $pid
sleep 0.2
kill -INT $pid
ended 137
nothing_left

begin "kill -9 of the runtime"
start runtime 'echo ready; sleep 1000'
kill -9 "$(pgrep -P $pid -f -- 'run --bundle')"
ended 137
nothing_left

begin "kill -9 of the server"
start server 'echo ready; while :; do cat /bin/* >/dev/null; sleep 0.1; done'
kill -9 "$(hs status --json | jq -e '.[0].pid')"
kill -INT $pid
kill -INT $pid
wait $pid || :
nothing_left

begin "kill -9 of headstart run"
start gone 'trap "" USR1 TERM; echo ready; sleep 1000'
kill -9 $pid
wait $pid || :
orphaned() { hs status --json | jq -e '.[0].state == "orphaned" or .[0].state == "dead"'; }
bed_wait 10 orphaned
run "$img" true 2>&1 | grep -q "left behind by a crash"
hs umount --dead
nothing_left

begin "interrupted while it starts"
for delay in 0.00 0.02 0.04 0.06 0.08 0.10 0.15 0.20 0.25; do
	"$headstart" run "${options[@]}" "$img" 'sleep 1000' >"$bed/out" 2>&1 &
	pid=$!
	sleep $delay
	# a shell starts background jobs with SIGINT ignored: the first one may come too early
	while kill -INT $pid 2>/dev/null; do sleep 0.05; done
	wait $pid && exit 1
	nothing_left
done

if command -v crun >/dev/null; then
	begin "crun"
	same "$(run --runtime=crun "$img" 'echo $FOO; ls /sys/class/net; exit 0')" $'bar\nlo'
	got=0
	run --runtime=crun "$img" 'exit 9' || got=$?
	same $got 9
	nothing_left
fi
echo "all well"
