/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext4.h - the ext4 file system inside a converted image, changed one layer at a time
 *
 * One struct ext4 lives as long as the conversion of one image. Each layer is ext4_begin(),
 * changes, ext4_end(); then the dirty blocks of the map are what the layer adds. The file system is
 * opened anew for every layer, so what a layer becomes depends on the device below it and on
 * nothing else: a conversion that starts on reused layers gives the same bytes as one that made
 * them.
 *
 * Blocks and inodes are handed out in ascending order behind the highest one in use; file data goes
 * through the caller, which only asks here where it may lie. Everything an image may bring from a
 * registry is checked before it is followed: extents, directory blocks, inode numbers.
 */
#ifndef HS_CONVERT_EXT4_H
#define HS_CONVERT_EXT4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ext2fs/ext2fs.h>

#include "blockmap.h"

struct err;
struct ext4;

#define EXT4_MAX_LINKS	 65000u
#define EXT4_BYTES_MIN	 (16ull << 20)
#define EXT4_BYTES_MAX	 (15ull << 40)
#define EXT4_SYMLINK_MAX 4095u

/* One run of a file: blocks of the file to blocks of the device; len <= 32768. */
struct extent {
	uint32_t lblk;
	uint32_t len;
	uint64_t pblk;
};

struct extents {
	struct extent *e; /* ascending in lblk, disjoint */
	size_t count, room;
};

/* extents_add - append a run, fused with the last one where possible */
void extents_add(struct extents *x, uint32_t lblk, uint64_t pblk, uint32_t len);
void extents_done(struct extents *x);

/*
 * ext4_new - the device of one image
 * @bytes: multiple of 4096 between EXT4_BYTES_MIN and EXT4_BYTES_MAX
 * @lower: the device as the layers that are reused leave it, or NULL: then ext4_format() comes
 * first
 */
int ext4_new(uint64_t bytes, const struct lower_reader *lower, struct ext4 **ret, struct err *e);
void ext4_free(struct ext4 *x); /* NULL is fine */

/* ext4_format - mkfs; @seed: at least 64 hex digits, give the UUID and the hash seed */
int ext4_format(struct ext4 *x, const char *seed, struct err *e);

int ext4_begin(struct ext4 *x, struct err *e);
int ext4_end(struct ext4 *x, struct err *e);

struct blockmap *ext4_map(struct ext4 *x);
uint64_t ext4_bytes(const struct ext4 *x);
uint32_t ext4_inode_count(const struct ext4 *x);

/*
 * ext4_alloc - take a run of free blocks
 * @want: blocks, > 0; @ret_len: 1..want
 * Returns 0, -ENOSPC.
 */
int ext4_alloc(struct ext4 *x, uint32_t want, uint64_t *ret_start, uint32_t *ret_len,
	       struct err *e);

int ext4_inode_new(struct ext4 *x, bool dir, uint32_t *ret_ino, struct err *e);
int ext4_inode_read(struct ext4 *x, uint32_t ino, struct ext2_inode_large *ret, struct err *e);
int ext4_inode_write(struct ext4 *x, uint32_t ino, const struct ext2_inode_large *in,
		     struct err *e);

/* ext4_inode_release - free an inode that no name refers to, with all its blocks */
int ext4_inode_release(struct ext4 *x, uint32_t ino, struct err *e);

/* ext4_extents_set - give @in these runs and i_blocks; allocates tree blocks; @in held none before
 */
int ext4_extents_set(struct ext4 *x, struct ext2_inode_large *in, const struct extents *runs,
		     struct err *e);
/* ext4_extents_get - the runs of an inode with an extent tree; @ret: extents_done() by the caller
 */
int ext4_extents_get(struct ext4 *x, const struct ext2_inode_large *in, struct extents *ret,
		     struct err *e);
/* ext4_extents_free_tree - free the blocks of the tree itself, not those it maps */
int ext4_extents_free_tree(struct ext4 *x, const struct ext2_inode_large *in, struct err *e);

/* ext4_symlink_read - target of a symbolic link, NUL behind it; @out: EXT4_SYMLINK_MAX + 1 bytes */
int ext4_symlink_read(struct ext4 *x, uint32_t ino, char *out, size_t *ret_len, struct err *e);

struct xattr {
	const char *name; /* "user.x", "security.capability", "system.posix_acl_access" */
	const void *value;
	size_t bytes;
};

/*
 * ext4_xattrs_set - replace all extended attributes of an inode that is written already
 * Returns 0, -E2BIG they do not fit an inode and one block, -EOPNOTSUPP a name ext4 cannot hold,
 * -EBADMSG a malformed ACL.
 */
int ext4_xattrs_set(struct ext4 *x, uint32_t ino, const struct xattr *a, size_t count,
		    struct err *e);

#endif
