#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The lazily mounted root filesystem of a real image is the tree that umoci unpacks: content,
# metadata, extended attributes, hard links. Through a real registry, converter, FUSE server, loop
# device and ext4; cold, then again from the cache alone with the registry gone.
#
# Usage: e2e_lazy_tree.sh HEADSTART_BINARY
# requires root, /dev/fuse, loop devices, docker-registry, skopeo, umoci and a Debian package source
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
for c in docker-registry skopeo umoci jq mmdebstrap losetup; do
	command -v $c >/dev/null || skip "$c"
done
[ -x "$headstart" ] || { echo "$headstart is not there"; exit 1; }

bed_start lazy-tree
mnt=$bed/mnt
hs() {
	local command=$1
	shift
	"$headstart" "$command" --run-dir="$bed/run" "$@"
}
mount_options=(--cache-dir="$bed/cache" --state-dir="$bed/state")
bed_end() {
	if mountpoint -q "$mnt"; then hs umount "$mnt" || umount -l "$mnt"; fi
	bed_wait 10 all_gone || :
}
all_gone() {
	[ -z "$(bed_mounts)$(bed_loops)$(bed_processes "$bed/run")" ]
}
compare() {
	# ext4 has a lost+found; the OCI layers do not tell about the top directory
	"$root/tests/e2e/compare_tree.py" --exclude=lost+found --no-root-metadata "$bed/unpacked/rootfs" "$mnt"
}

"$root/tools/mkimage" nginx "$bed/oci:nginx"
# what no package brings: one layer of everything a tree can hold, and one that takes away
umoci --log=error unpack --image "$bed/oci:nginx" "$bed/bundle"
tree=$bed/bundle/rootfs
mkdir -p "$tree/odd/dir" "$tree/odd/gone" "$tree/odd/opaque"
echo one >"$tree/odd/one"
ln "$tree/odd/one" "$tree/odd/same"
ln -s ../odd/one "$tree/odd/link"
ln -s "$(printf 'x%.0s' {1..200})" "$tree/odd/long-link"
mknod "$tree/odd/null" c 1 3
mknod "$tree/odd/block" b 300 70000
mkfifo "$tree/odd/fifo"
echo name >"$tree/odd/$(printf 'not-utf8-\377\376')"
echo name >"$tree/odd/$(printf 'n%.0s' {1..255})"
cp /bin/true "$tree/odd/capable"
setcap cap_net_raw,cap_sys_time+ep "$tree/odd/capable"
setfacl -m u:12345:rwx,g:54321:r-x "$tree/odd/dir"
setfacl -d -m u:77:r "$tree/odd/dir"
setfattr -n user.note -v "$(printf 'v%.0s' {1..3000})" "$tree/odd/one"
echo x >"$tree/odd/owned"
chown 4000000000:3000000001 "$tree/odd/owned"
chmod 6755 "$tree/odd/owned"
truncate -s 200M "$tree/odd/sparse"
echo end >>"$tree/odd/sparse"
head -c 3000000 /dev/urandom >"$tree/odd/random"
touch -d '1969-07-20 20:17:40.123456789 UTC' "$tree/odd/one"
touch -d '2040-02-03 04:05:06.987654321 UTC' "$tree/odd/random"
touch -d '2001-02-03 04:05:06.5 UTC' "$tree/odd/gone" "$tree/odd/opaque"
for i in {1..3000}; do echo "$i" >"$tree/odd/dir/file-$i"; done
: >"$tree/odd/gone/file"
: >"$tree/odd/opaque/lower"
umoci --log=error repack --refresh-bundle --image "$bed/oci:nginx" "$bed/bundle"
rm -r "$tree/odd/gone" "$tree/odd/opaque"
mkdir "$tree/odd/opaque"
: >"$tree/odd/opaque/upper"
rm "$tree/odd/dir/file-7"
echo changed >"$tree/odd/dir/file-8"
chmod 600 "$tree/odd/dir/file-9"
ln "$tree/odd/dir/file-10" "$tree/odd/hard-link-to-a-lower-layer"
umoci --log=error repack --refresh-bundle --image "$bed/oci:nginx" "$bed/bundle"
rm -rf --one-file-system "$bed/bundle"
# umoci writes whole seconds; GNU tar's PAX has the rest, and files with holes
mkdir -p "$bed/pax/pax"
echo early >"$bed/pax/pax/early"
echo late >"$bed/pax/pax/late"
touch -d '1969-07-20 20:17:40.123456789 UTC' "$bed/pax/pax/early"
touch -d '2040-02-03 04:05:06.987654321 UTC' "$bed/pax/pax/late"
truncate -s 100M "$bed/pax/pax/holes"
printf middle | dd of="$bed/pax/pax/holes" bs=1 seek=50000001 conv=notrunc status=none
ln -s late "$bed/pax/pax/link"
tar -C "$bed/pax" --format=posix --sparse --numeric-owner -cf "$bed/pax.tar" pax
umoci --log=error raw add-layer --image "$bed/oci:nginx" "$bed/pax.tar"
umoci --log=error unpack --image "$bed/oci:nginx" "$bed/unpacked"
[ "$(stat -c %.Y "$bed/unpacked/rootfs/pax/early")" = -14182939.876543211 ] ||
	{ echo "umoci lost the sub-seconds that this test is about"; exit 1; }

bed_registry
ref=docker://$bed_host/tree
skopeo copy --quiet --dest-tls-verify=false "oci:$bed/oci:nginx" "$ref:1"
"$headstart" convert "$ref:1" "$ref:1_accelerated"
echo "converted"

mkdir "$mnt"
mark=$(bed_log_mark)
hs mount "${mount_options[@]}" "${ref}:1_accelerated" "$mnt"
read -r _ opening < <(bed_served "$mark")
compare
# mounting alone must not have fetched the image
whole=$(skopeo inspect --raw --tls-verify=false "$ref:1_accelerated" | jq '[.layers[].size] | add')
echo "mounted after $opening of $whole bytes"
[ "$opening" -lt $((whole / 4)) ] || { echo "mounting fetched too much"; exit 1; }
hs status --json | jq -e . >"$bed/status.json"
grep -qF "$mnt" "$bed/status.json" || { echo "status does not tell of $mnt:"; cat "$bed/status.json"; exit 1; }
# read-only means read-only
if touch "$mnt/new" 2>/dev/null; then echo "the mount can be written"; exit 1; fi
hs umount "$mnt"
bed_wait 20 all_gone
echo "unmounted, nothing left"

# all of it was read: now the registry is not needed
bed_kill "${bed_pids[0]}"
bed_pids=()
echo 1 >/proc/sys/vm/drop_caches
hs mount "${mount_options[@]}" --pull=never "${ref}:1_accelerated" "$mnt"
compare
hs umount "$mnt"
bed_wait 20 all_gone
echo "the same from the cache alone"
