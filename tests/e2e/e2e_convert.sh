#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# headstart convert from and to real stores: every kind of source, both kinds of destination, what ends
# up on the device, reuse, hostile layers, and what is left after kill -9.
#
# Usage: e2e_convert.sh HEADSTART_BINARY
# requires root, loop devices, docker-registry, skopeo, jq, zstd and e2fsprogs
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/testbed.sh
. "$here/../../tools/testbed.sh"

skip() { echo "skipped: requires $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip root
for t in docker-registry skopeo jq zstd e2fsck python3; do
	PATH=$PATH:/usr/sbin:/sbin command -v $t >/dev/null || skip $t
done
headstart=$(realpath "${1:?usage: e2e_convert.sh HEADSTART_BINARY}")
golden=$here/../golden/vectors
[ -d "$golden/src" ] || skip the golden vectors
truth=$golden/truth
lib=$here/../lib

bed_start convert
bed_registry
cd "$bed"
export TMPDIR=$bed/tmp
mkdir tmp mnt layers
cp "$golden"/src/* layers
zstd -q -d layers/L1.tar.zst -o layers/L1.tar 2>/dev/null || :
chmod -R u+w layers
zstd -q layers/L2.tar -o layers/L2.tar.zst

die() { echo "FAILED: $*" >&2; exit 1; }
hs() { "$headstart" convert -q "$@"; }

# same TREE_IMAGE LISTING - the device is clean and its kernel mount is the listing
same() {
	e2fsck -fn "$1" >fsck.log 2>&1 || { cat fsck.log; die "e2fsck $1"; }
	mount -o ro,loop "$1" mnt
	python3 "$lib/check_listing.py" mnt "$2" || die "$1 differs from $2"
	umount mnt
}

# must_fail CODE WORDS COMMAND... - exit code and message
must_fail() {
	local code=0 want=$1 words=$2
	shift 2
	"$@" >out.txt 2>err.txt || code=$?
	[ $code = "$want" ] || { cat err.txt; die "exit $code instead of $want: $*"; }
	grep -q -- "$words" err.txt || { cat err.txt; die "no \"$words\" in the message of: $*"; }
}

make() { python3 "$lib/make_oci.py" "$@"; }

echo "== sources: gzip, zstd, uncompressed; oci: and docker:// destinations"
make src g layers/L1.tar.gz layers/L2.tar layers/L3.tar
make src z layers/L1.tar layers/L2.tar.zst layers/L3.tar.gz
make src e layers/L1.tar.gz layers/L2.tar layers/L3e.tar
make src one layers/L1.tar.gz
hs --json oci:src:g oci:out:g >g.json
python3 "$lib/obd_decode.py" --device g.img out g
same g.img "$truth/oci-L123.list.tsv"
hs oci:src:e oci:oute:e
python3 "$lib/obd_decode.py" --device e.img oute e
same e.img "$truth/oci-L123e.list.tsv"
# the compression of the source makes no difference, nor does the number of threads
hs --json --threads 5 oci:src:z oci:outz:z >z.json
[ "$(jq -r '.images[0].layers[].digest' g.json)" = "$(jq -r '.images[0].layers[].digest' z.json)" ] ||
	die "the same layers gave other digests"

for options in "--codec lz4 --block-size 4K" "--codec zstd --block-size 32K --level 9" "--vsize 1"; do
	# shellcheck disable=SC2086  # several words on purpose
	hs $options oci:src:g "oci:outo:$(echo "$options" | tr -dc 'a-z0-9')"
	python3 "$lib/obd_decode.py" --device o.img outo "$(echo "$options" | tr -dc 'a-z0-9')"
	same o.img "$truth/oci-L123.list.tsv"
done

echo "== small layers stay small"
jq -e '.images[0].layers[2] | .bytes < 65536' g.json >/dev/null || die "a small layer is large"

echo "== config: everything but the diff IDs is kept"
config() { skopeo inspect --config --raw "oci:$1" | jq -S 'del(.rootfs.diff_ids)'; }
[ "$(config src:g)" = "$(config out:g)" ] || die "the config changed"

echo "== registry: Docker schema 2, index, reuse, what is there is not sent"
for t in g one; do skopeo copy -q --dest-tls-verify=false oci:src:$t "docker://$bed_host/app:$t"; done
skopeo copy -q --format v2s2 --dest-tls-verify=false oci:src:g "docker://$bed_host/app:v2"
hs --json "docker://$bed_host/app:g" "docker://$bed_host/app:g_accelerated" >r.json
[ "$(jq -r '.images[0].layers[].digest' g.json)" = "$(jq -r '.images[0].layers[].digest' r.json)" ] ||
	die "a registry gave other digests than a directory"
raw=$(skopeo inspect --raw --tls-verify=false "docker://$bed_host/app:g_accelerated")
[ "$(jq -r .mediaType <<<"$raw")" = application/vnd.docker.distribution.manifest.v2+json ] ||
	die "not Docker schema 2 by default"
skopeo copy -q --src-tls-verify=false "docker://$bed_host/app:g_accelerated" dir:pulled ||
	die "skopeo cannot pull the result"
hs --json "docker://$bed_host/app:v2" "docker://$bed_host/app:v2_accelerated" >v2.json
jq -e '[.images[0].layers[].reused] | all' v2.json >/dev/null || die "nothing was reused"
jq -e '.tar_bytes == 0 and .sent_bytes == 0' v2.json >/dev/null || die "reused layers were fetched or sent"
hs --json --no-reuse "docker://$bed_host/app:v2" "docker://$bed_host/app:again" >again.json
jq -e '.tar_bytes > 0 and .sent_bytes == 0' again.json >/dev/null || die "blobs were sent again"
[ "$(jq -r .digest v2.json)" = "$(jq -r .digest again.json)" ] || die "not reproducible"

echo "== a part is reused: the rest is made on top of it"
hs "docker://$bed_host/app:one" "docker://$bed_host/part:one_accelerated"
hs --json "docker://$bed_host/app:g" "docker://$bed_host/part:g_accelerated" >part.json
jq -e '.images[0].layers | .[0].reused and (.[1].reused | not)' part.json >/dev/null ||
	die "the first layer was not reused"
[ "$(jq -r '.images[0].layers[].digest' g.json)" = "$(jq -r '.images[0].layers[].digest' part.json)" ] ||
	die "layers on reused ones differ from layers made in one go"
hs --json oci:src:one oci:outp:one >/dev/null
hs --json oci:src:g oci:outp:g >partdir.json
jq -e '.images[0].layers[0].reused' partdir.json >/dev/null || die "not reused in a directory"
[ "$(jq -r .digest g.json)" = "$(jq -r .digest partdir.json)" ] || die "reuse in a directory differs"
[ -z "$(ls -A tmp)" ] || { ls -A tmp; die "temporary files are left"; }

echo "== laid out for a start: read by other code it is the same device, and a list lies beside it"
# no program in these images: the list is of files that the test names
python3 - <<-PY >start.list
	import os, sys, tarfile
	sys.dont_write_bytecode = True
	sys.path.insert(0, "$golden/../files")
	import make_files as f
	names = {m.name.strip("./") for n in (1, 2, 3) for m in tarfile.open("layers/L%d.tar" % n) if m.isreg()}
	paths = sorted("/" + n for n in names if "/.wh." not in "/" + n)[::3]
	rows = [f.items(4, [f.var(0) + f.text(p) + f.var(0) for p in paths])]
	rows.append(f.items(5, [f.var(1) + f.var(n + 1) + f.zigzag(0) + f.var(1 << 20)
	                        for n in reversed(range(len(paths)))]))
	head = f.header(b"HSPLIST\\n") + f.block(1, f.var(1) + f.text("") + f.text("") + f.var(1) + f.var(1))
	sys.stdout.buffer.write(head + b"".join(rows) + f.block(6, b""))
PY
hs --json --vsize 1 oci:src:g oci:outl:plain >plain.json # small enough to compare every byte
hs --json --vsize 1 --layout-by start.list oci:src:g oci:outl:laid >laid.json
jq -e '[.images[0].layers[].hot_bytes] | add > 65536' laid.json >/dev/null || { jq -c ".images[0].layers[].hot_bytes" laid.json; die "nothing was laid out"; }
[ "$(jq -r '.images[0].layers[0].digest' plain.json)" != "$(jq -r '.images[0].layers[0].digest' laid.json)" ] ||
	die "the layout changed nothing"
python3 "$lib/obd_decode.py" --device p.img outl plain
python3 "$lib/obd_decode.py" --device l.img outl laid
cmp p.img l.img || die "a laid out image is another device"
same l.img "$truth/oci-L123.list.tsv"
hs --json --vsize 1 --layout-by start.list "docker://$bed_host/app:g" "docker://$bed_host/app:laid" >lreg.json
[ "$(jq -r '.images[0].layers[].digest' laid.json)" = "$(jq -r '.images[0].layers[].digest' lreg.json)" ] ||
	die "another layout in a registry"
"$headstart" prefetch pull --json -o pulled.list "docker://$bed_host/app:laid" >pulled.json
jq -e '.ranges > 0 and .origin == "ported"' pulled.json >/dev/null || die "a wrong list beside the image"
skopeo copy -q --src-tls-verify=false "docker://$bed_host/app:laid" dir:laid || die "skopeo cannot pull it"

echo "== an index: one platform, all platforms"
make --arch arm64 src arm layers/LC.tar.zst
make --index g,arm src multi
hs --all-platforms --json oci:src:multi oci:outm:all >all.json
jq -e '.images | length == 2' all.json >/dev/null || die "not both images"
python3 "$lib/obd_decode.py" --device m.img outm all
same m.img "$truth/oci-L123.list.tsv"
hs --platform linux/arm64 oci:src:multi oci:outm:arm
python3 "$lib/obd_decode.py" --device m.img outm arm
same m.img "$truth/oci-LC.list.tsv"
must_fail 1 "no image for linux/s390x" hs --platform linux/s390x oci:src:multi oci:outm:none

echo "== the other convertor's flags"
hs --plain -r "$bed_host/app" -i g -o flags --dump-manifest -d dumped --referrer
jq -e '.subject and .artifactType' dumped/manifest.json >/dev/null || die "no subject"
skopeo inspect --raw --tls-verify=false "docker://$bed_host/app:flags" >/dev/null || die "no tag"
must_fail 2 "fastoci" hs -r "$bed_host/app" -i g -o x --fastoci y
must_fail 2 "fstype xfs" hs --fstype xfs oci:src:g oci:out:x
must_fail 2 "TARGET needs a tag" hs oci:src:g oci:out
must_fail 2 "same name" hs oci:src:g oci:src:g
must_fail 2 "block-size" hs --block-size 5K oci:src:g oci:out:x
must_fail 1 "no image with tag" hs oci:src:nowhere oci:notmade:x
[ ! -e notmade ] || die "a target was made for a source that is not there"
must_fail 1 "already" hs oci:out:g oci:out2:x

echo "== hostile and broken layers"
python3 "$lib/hostile_tars.py" hostile
while IFS=$'\t' read -r name words; do
	make src "h-$name" layers/L1.tar.gz "hostile/$name.tar"
	must_fail 1 "$words" hs oci:src:"h-$name" oci:bad:x
	grep -q "layer 2" err.txt || die "$name: the layer is not named"
done <hostile/list.tsv
make src bomb hostile/bomb.tar.gz
must_fail 1 "max-size" hs --max-size 100M oci:src:bomb oci:bad:x
[ ! -e bad/index.json ] || [ "$(jq '.manifests | length' bad/index.json)" = 0 ] || die "a bad image has a tag"
make src wrong layers/L1.tar.gz
blob=$(jq -r '.layers[0].digest' <(skopeo inspect --raw oci:src:wrong) | cut -d: -f2)
cp -r src damaged
printf x | dd of="damaged/blobs/sha256/$blob" bs=1 seek=100000 conv=notrunc status=none
must_fail 1 "layer 1" hs oci:damaged:wrong oci:bad:x
make --diff-id "sha256:$(printf %064d 7)" src diff layers/L1.tar.gz
must_fail 1 "the image config says" hs oci:src:diff oci:bad:x

echo "== odd entries, as GNU tar writes them"
mkdir odd
(
	cd odd
	truncate -s 5G huge
	printf end | dd of=huge bs=1 seek=5000000000 conv=notrunc status=none
	dd if=/dev/urandom of=holes bs=4096 count=3 seek=7 status=none
	dd if=/dev/urandom of=holes bs=100 count=1 seek=90001 conv=notrunc status=none
	printf x >$'latin-\xe9' && ln -s $'to-\xff' $'link-\xfe'
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
	touch -d '1960-01-01 00:00:00.5 UTC' old && touch -d '2100-01-01 00:00:00.25 UTC' late
	chown 4000000000:4000000001 late
)
for f in gnu posix; do
	tar -C odd --format=$f --sparse --xattrs -cf "odd-$f.tar" . 2>/dev/null
	make src "odd-$f" "odd-$f.tar"
	hs oci:src:odd-$f "oci:outd:$f"
	python3 "$lib/obd_decode.py" --device odd.img outd $f
	e2fsck -fn odd.img >fsck.log 2>&1 || { cat fsck.log; die "e2fsck odd.img"; }
	mount -o ro,loop odd.img mnt
	for n in huge holes; do cmp odd/$n mnt/$n || die "sparse file $n differs ($f)"; done
	[ -e $'mnt/latin-\xe9' ] || die "a name ($f)"
	[ "$(readlink $'mnt/link-\xfe')" = $'to-\xff' ] || die "a link ($f)"
	[ ! -e mnt/sock ] || die "a socket was made"
	[ "$(stat -c '%u:%g' mnt/late)" = 4000000000:4000000001 ] || die "owner ($f)"
	if [ $f = posix ]; then
		for n in old late; do
			[ "$(stat -c %.9Y mnt/$n)" = "$(stat -c %.9Y odd/$n)" ] || die "time of $n"
		done
	fi
	umount mnt
done

echo "== killed at any moment: no tag, no files; again: the rest is done"
dd if=/dev/urandom bs=1M count=64 status=none | base64 >random
tar -cf random.tar random
make src big random.tar layers/L1.tar.gz layers/L2.tar
skopeo copy -q --dest-tls-verify=false oci:src:big "docker://$bed_host/big:src"
hs --json "docker://$bed_host/big:src" oci:whole:big >whole.json
for ms in 5 20 60 100 250 400 700; do
	for target in "docker://$bed_host/killed:$ms" "oci:killed-$ms:x"; do
		"$headstart" convert -q --no-list --spool-memory 1M "docker://$bed_host/big:src" "$target" &
		pid=$!
		sleep "$(printf 0.%03d $ms)"
		kill -KILL $pid 2>/dev/null || :
		wait $pid 2>/dev/null && continue # it was done already
		must_fail 1 . skopeo inspect --raw --tls-verify=false "$target"
	done
	[ -z "$(ls -A tmp)" ] || { ls -lA tmp; die "files are left after kill -9"; }
	[ -z "$(find "killed-$ms" -type f ! -name oci-layout ! -name index.json ! -regex '.*/[0-9a-f]*' 2>/dev/null)" ] ||
		die "odd files in killed-$ms: $(find "killed-$ms" -type f)"
done
echo "== killed while the predicted list is attached: a tag that is there names a whole image"
for ms in 400 700 900; do
	target=docker://$bed_host/killed:list-$ms
	"$headstart" convert -q --spool-memory 1M "docker://$bed_host/big:src" "$target" &
	pid=$!
	sleep "$(printf 0.%03d $ms)"
	kill -KILL $pid 2>/dev/null || :
	wait $pid 2>/dev/null || :
	if skopeo inspect --raw --tls-verify=false "$target" >/dev/null 2>&1; then
		skopeo copy -q --src-tls-verify=false "$target" dir:kept || die "$target has a tag, but not all blobs"
		rm -r kept
	fi
done
hs --json "docker://$bed_host/big:src" "docker://$bed_host/killed:done" >done.json
[ "$(jq -r '.images[0].layers[].digest' done.json)" = "$(jq -r '.images[0].layers[].digest' whole.json)" ] ||
	die "the conversion after the kills differs"
# The temporary cache of a prediction that was killed goes with the next one.
[ -z "$(ls -A tmp)" ] || { ls -lA tmp; die "files are left after kill -9"; }
echo "all good"
