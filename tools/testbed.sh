# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# testbed.sh - a directory, a registry and a network namespace that go when the script goes
#
# Sourced by tools/quickstart and the end-to-end tests. bed_start makes $bed, a directory that holds
# everything, and sets traps: on every exit what was started is ended by its process id, what is mounted
# below $bed is unmounted, loop devices over files below it are detached, and $bed is removed.
# shellcheck disable=SC2034,SC2016  # set for the script that sources this; expands in another shell
#
# A script that has more to end defines a function bed_end; it is called first.

bed=
bed_pids=()
bed_keep=

# bed_start NAME - make $bed and the traps
bed_start() {
	PATH=$PATH:/usr/sbin:/sbin
	bed=$(mktemp -d "${HS_TMP:-/var/tmp}/headstart-$1.XXXXXX")
	chmod 755 "$bed"
	trap bed_stop EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# bed_mounts - mount points below $bed, the innermost first
bed_mounts() {
	awk -v p="$bed/" 'index($5, p) == 1 { print $5 }' /proc/self/mountinfo | tac
}

bed_loops() {
	losetup --list --noheadings --output NAME,BACK-FILE | awk -v p="$bed/" 'index($2, p) == 1 { print $1 }'
}

# bed_processes PATH - processes started with a path below PATH among their arguments, except those
# that were started to live as long as the script
bed_processes() {
	local d p
	for d in /proc/[0-9]*; do
		p=${d#/proc/}
		if [ "$p" = $$ ] || [ "$p" = "$BASHPID" ]; then continue; fi
		case " ${bed_pids[*]} " in *" $p "*) continue ;; esac
		if tr '\0' '\n' 2>/dev/null <"$d/cmdline" | grep -qF -- "$1"; then echo "$p"; fi
	done
}

# bed_gone PID SECONDS - wait for a process to end
bed_gone() {
	local end=$((SECONDS + $2))
	while kill -0 "$1" 2>/dev/null; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.02
	done
}

# bed_kill PID - end a process and wait; killed when it does not end itself in 10 s
bed_kill() {
	kill "$1" 2>/dev/null || return 0
	bed_gone "$1" 10 || kill -KILL "$1" 2>/dev/null || :
	wait "$1" 2>/dev/null || :
}

bed_stop() {
	local code=$? p m left=
	trap '' HUP INT TERM
	set +e
	if declare -F bed_end >/dev/null; then bed_end; fi
	for ((p = ${#bed_pids[@]} - 1; p >= 0; p--)); do bed_kill "${bed_pids[p]}"; done
	for p in $(bed_processes "$bed/"); do
		echo "ending a process that was left: $(tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null)" >&2
		left=1
		bed_kill "$p"
	done
	for m in $(bed_mounts); do
		echo "unmounting what was left: $m" >&2
		left=1
		umount "$m" || umount -l "$m"
	done
	for m in $(bed_loops); do
		echo "detaching a loop device that was left: $m" >&2
		left=1
		losetup -d "$m"
	done
	if [ -n "$bed_keep" ]; then
		echo "kept: $bed" >&2
	else
		rm -rf --one-file-system "$bed"
	fi
	# leaving something behind is a failure of whoever left it, even when all else went well
	[ -z "$left" ] || [ $code != 0 ] || code=1
	exit $code
}

# bed_port - a free port on loopback
bed_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# bed_wait SECONDS COMMAND... - until the command succeeds
bed_wait() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { echo "timed out waiting for: $*" >&2; return 1; }
		sleep 0.05
	done
}

bed_answers() {
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# bed_registry - start a docker-registry; sets $bed_host (127.0.0.1:PORT) and $bed_registry_log
bed_registry() {
	local port try
	bed_registry_log=$bed/registry.log
	for try in 1 2 3; do
		port=$(bed_port)
		cat >"$bed/registry.yml" <<-CONF
			version: 0.1
			log: {level: info, formatter: json, accesslog: {disabled: true}}
			storage: {filesystem: {rootdirectory: $bed/registry}, delete: {enabled: true}}
			http: {addr: "127.0.0.1:$port", secret: testbed}
		CONF
		docker-registry serve "$bed/registry.yml" >>"$bed_registry_log" 2>&1 &
		bed_pids+=($!)
		bed_host=127.0.0.1:$port
		# somebody else may have taken the port meanwhile: then ours has ended
		if bed_wait 10 bed_answers "$port" && kill -0 $! 2>/dev/null; then return 0; fi
		echo "registry did not start (try $try)" >&2
	done
	tail -n 5 "$bed_registry_log" >&2
	return 1
}

# bed_log_mark - where the registry's log is now
bed_log_mark() { stat -c %s "$bed_registry_log"; }

# bed_served MARK [MARK] - what the registry answered between two marks: "REQUESTS BYTES"
bed_served() {
	local end=${2:-$(bed_log_mark)}
	tail -c +$(($1 + 1)) "$bed_registry_log" | head -c $((end - $1)) | jq -R -r -s '
		[split("\n")[] | fromjson? | select(.["http.response.status"] != null and .msg == "response completed")]
		| "\(length) \([.[]["http.response.written"] // 0] | add // 0)"'
}

# bed_netns - a network namespace with loopback up, held by a process; sets $bed_net to its path
bed_netns() {
	local holder
	rm -f "$bed/netns-up"
	unshare --net sh -c 'ip link set lo up && : >"$0" && exec sleep 1000000' "$bed/netns-up" &
	holder=$!
	bed_pids+=("$holder")
	bed_wait 10 test -e "$bed/netns-up"
	bed_net=/proc/$holder/ns/net
}
