/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext4.c - mkfs, allocation, inodes and attributes over libext2fs and the block map
 *
 * Layout: one flexible group spans the device, so bitmaps and inode tables lie together at its
 * start and everything behind them is one stretch of free blocks. No journal, no resize inode, no
 * backup superblocks (sparse_super2 without backup groups: each would be rewritten by every layer),
 * group checksums with lazily initialised groups, so unused bitmaps and inode tables cost nothing.
 */
#include "ext4.h"

#include "err.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FS_TIME 1 /* every time stamp of the file system itself; 0 would mean "ask the clock" */

struct ext4 {
	struct blockmap *map;
	uint64_t blocks;
	uint64_t tree_blocks; /* blocks of the extent tree last written */

	/* while a layer is open */
	ext2_filsys fs;
	uint64_t run_start, run_end; /* free run that blocks are taken from */
	uint64_t layer_start;	     /* first block this layer could take */
	bool wrapped;		     /* the end was reached: now from the start to layer_start */
	uint32_t next_ino;
};

static int fail(struct ext4 *x, errcode_t rc, const char *what, struct err *e)
{
	const struct err *m = blockmap_error(x->map);

	if (m->code)
		return err_set(e, m->code, "%s: %s", what, m->msg);
	if (rc == ENOMEM || rc == EXT2_ET_NO_MEMORY)
		return err_set(e, -ENOMEM, "%s: out of memory", what);
	return err_set(e, -EIO, "%s: %s", what, error_message(rc));
}

int ext4_new(uint64_t bytes, const struct lower_reader *lower, struct ext4 **ret, struct err *e)
{
	struct ext4 *x;

	if (bytes < EXT4_BYTES_MIN || bytes > EXT4_BYTES_MAX || bytes % BLOCK_BYTES)
		return err_set(e, -EINVAL,
			       "device size %llu is not a multiple of 4096 from 16M to 15T",
			       (unsigned long long)bytes);
	x = xmalloc_zero(1, sizeof(*x));
	x->blocks = bytes / BLOCK_BYTES;
	x->map = blockmap_new(x->blocks, lower);
	*ret = x;
	return 0;
}

void ext4_free(struct ext4 *x)
{
	if (!x)
		return;
	if (x->fs)
		ext2fs_free(x->fs);
	blockmap_free(x->map);
	free(x);
}

struct blockmap *ext4_map(struct ext4 *x)
{
	return x->map;
}

uint64_t ext4_bytes(const struct ext4 *x)
{
	return x->blocks * BLOCK_BYTES;
}

uint32_t ext4_inode_count(const struct ext4 *x)
{
	return x->fs->super->s_inodes_count;
}

static void hex_bytes(const char *hex, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char two[3] = {hex[2 * i], hex[2 * i + 1], 0};

		out[i] = (uint8_t)strtoul(two, NULL, 16);
	}
}

/* The root directory: one block with "." and "..", and the reserved inodes marked as in use. */
static int make_root(struct ext4 *x, struct err *e)
{
	ext2_filsys fs = x->fs;
	struct ext2_inode_large in = {0};
	struct extents runs = {0};
	uint8_t block[BLOCK_BYTES] = {0};
	struct ext2_dir_entry *d = (void *)block;
	uint64_t start;
	uint32_t len;
	int rc;

	for (uint32_t ino = 1; ino < EXT2_FIRST_INODE(fs->super); ino++)
		ext2fs_inode_alloc_stats2(fs, ino, +1, ino == EXT2_ROOT_INO);
	rc = ext4_alloc(x, 1, &start, &len, e);
	if (rc < 0)
		return rc;
	d->inode = EXT2_ROOT_INO;
	d->rec_len = 12;
	d->name_len = 1 | EXT2_FT_DIR << 8;
	d->name[0] = '.';
	d = (void *)(block + 12);
	d->inode = EXT2_ROOT_INO;
	d->rec_len = BLOCK_BYTES - 12;
	d->name_len = 2 | EXT2_FT_DIR << 8;
	memcpy(d->name, "..", 2);
	blockmap_write(x->map, start, block);

	in.i_mode = LINUX_S_IFDIR | 0755;
	in.i_links_count = 2;
	in.i_size = BLOCK_BYTES;
	in.i_extra_isize = sizeof(in) - EXT2_GOOD_OLD_INODE_SIZE;
	extents_add(&runs, 0, start, 1);
	rc = ext4_extents_set(x, &in, &runs, e);
	extents_done(&runs);
	return rc < 0 ? rc : ext4_inode_write(x, EXT2_ROOT_INO, &in, e);
}

static void first_run(struct ext4 *x);

int ext4_format(struct ext4 *x, const char *seed, struct err *e)
{
	struct ext2_super_block p = {0};
	uint64_t groups = (x->blocks + 32767) / 32768;
	errcode_t rc;
	int err;

	p.s_rev_level = EXT2_DYNAMIC_REV;
	p.s_log_block_size = 2;
	p.s_log_cluster_size = 2;
	p.s_inode_size = 256;
	p.s_blocks_count = (uint32_t)x->blocks;
	p.s_blocks_count_hi = (uint32_t)(x->blocks >> 32);
	p.s_inodes_count = (uint32_t)(x->blocks / 4 < 0xfffffff0u ? x->blocks / 4 : 0xfffffff0u);
	while (1ull << p.s_log_groups_per_flex < groups)
		p.s_log_groups_per_flex++;
	p.s_min_extra_isize = p.s_want_extra_isize =
	    sizeof(struct ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
	p.s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_DIR_INDEX |
			     EXT4_FEATURE_COMPAT_SPARSE_SUPER2;
	p.s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
			       EXT4_FEATURE_INCOMPAT_FLEX_BG;
	p.s_feature_ro_compat =
	    EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
	    EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
	    EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM;

	rc = ext2fs_initialize("image", EXT2_FLAG_64BITS, &p, blockmap_io(x->map), &x->fs);
	if (rc)
		return fail(x, rc, "making the file system", e);
	x->fs->now = FS_TIME;
	hex_bytes(seed, x->fs->super->s_uuid, 16);
	x->fs->super->s_uuid[6] = (x->fs->super->s_uuid[6] & 0x0f) | 0x40;
	x->fs->super->s_uuid[8] = (x->fs->super->s_uuid[8] & 0x3f) | 0x80;
	hex_bytes(seed + 32, (uint8_t *)x->fs->super->s_hash_seed, 16);
	x->fs->super->s_def_hash_version = EXT2_HASH_HALF_MD4;
	x->fs->super->s_flags = EXT2_FLAGS_UNSIGNED_HASH;
	x->fs->super->s_mkfs_time = x->fs->super->s_wtime = x->fs->super->s_lastcheck = FS_TIME;
	x->fs->super->s_max_mnt_count = -1;
	x->fs->super->s_checkinterval = 0;
	x->fs->super->s_creator_os = EXT2_OS_LINUX;
	x->fs->super->s_errors = EXT2_ERRORS_CONTINUE;
	rc = ext2fs_allocate_tables(x->fs);
	if (rc)
		return fail(x, rc, "placing the inode tables", e);
	/* what is not stored reads as zeros, so the tables are initialised as they are */
	for (dgrp_t g = 0; g < x->fs->group_desc_count; g++) {
		ext2fs_bg_flags_set(x->fs, g, EXT2_BG_INODE_ZEROED);
		ext2fs_group_desc_csum_set(x->fs, g);
	}
	first_run(x);
	err = make_root(x, e);
	if (err < 0)
		return err;
	return ext4_end(x, e);
}

/* Where free space begins behind everything in use; groups never used are all free. */
static void first_run(struct ext4 *x)
{
	ext2_filsys fs = x->fs;
	uint64_t at = fs->super->s_first_data_block;

	for (dgrp_t g = fs->group_desc_count; g-- > 0;) {
		uint64_t first = ext2fs_group_first_block2(fs, g);
		uint64_t last = ext2fs_group_last_block2(fs, g);

		if (ext2fs_bg_free_blocks_count(fs, g) == last - first + 1)
			continue;
		while (last > first && !ext2fs_test_block_bitmap2(fs->block_map, last))
			last--;
		at = last + 1;
		break;
	}
	x->run_start = x->run_end = x->layer_start = at;
	x->wrapped = false;
}

static void first_inode(struct ext4 *x)
{
	ext2_filsys fs = x->fs;

	x->next_ino = EXT2_FIRST_INODE(fs->super);
	for (dgrp_t g = fs->group_desc_count; g-- > 0;) {
		uint32_t unused = ext2fs_bg_itable_unused(fs, g);

		if (ext2fs_bg_flags_test(fs, g, EXT2_BG_INODE_UNINIT) ||
		    unused >= fs->super->s_inodes_per_group)
			continue;
		x->next_ino = g * fs->super->s_inodes_per_group +
			      (fs->super->s_inodes_per_group - unused) + 1;
		break;
	}
	if (x->next_ino < EXT2_FIRST_INODE(fs->super))
		x->next_ino = EXT2_FIRST_INODE(fs->super);
}

/* libext2fs asks here for the blocks of attributes; it does the accounting itself. */
static int take(struct ext4 *x, uint32_t want, uint64_t *ret_start, uint32_t *ret_len);

static errcode_t alloc_hook(ext2_filsys fs, blk64_t goal, blk64_t *ret)
{
	struct ext4 *x = fs->priv_data;
	uint64_t start;
	uint32_t len;

	(void)goal;
	if (take(x, 1, &start, &len) < 0)
		return EXT2_ET_BLOCK_ALLOC_FAIL;
	*ret = start;
	return 0;
}

int ext4_begin(struct ext4 *x, struct err *e)
{
	errcode_t rc = ext2fs_open2("image", NULL, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0,
				    blockmap_io(x->map), &x->fs);

	if (rc)
		return fail(x, rc, "opening the file system of the layers below", e);
	if (x->fs->blocksize != BLOCK_BYTES || ext2fs_blocks_count(x->fs->super) > x->blocks ||
	    EXT2_INODE_SIZE(x->fs->super) != 256)
		return err_set(e, -EBADMSG,
			       "the file system of the layers below is not one of ours");
	x->fs->now = FS_TIME;
	x->fs->priv_data = x;
	rc = ext2fs_read_bitmaps(x->fs);
	if (rc)
		return fail(x, rc, "reading the bitmaps of the layers below", e);
	ext2fs_set_alloc_block_callback(x->fs, alloc_hook, NULL);
	first_run(x);
	first_inode(x);
	return 0;
}

int ext4_end(struct ext4 *x, struct err *e)
{
	/* the only superblock is the first one, see the head of this file */
	errcode_t rc;

	x->fs->flags |= EXT2_FLAG_MASTER_SB_ONLY;
	rc = ext2fs_close_free(&x->fs);
	return rc ? fail(x, rc, "writing the file system's metadata", e) : 0;
}

/* --- blocks --- */

/*
 * The next free run from run_end on. At the end of the device the search starts again at its
 * beginning and ends where this layer started: blocks freed by this layer that it wrote itself lie
 * behind that point, so no block gets two contents in one layer.
 */
static int next_run(struct ext4 *x)
{
	uint64_t end = x->wrapped ? x->layer_start : x->blocks;
	blk64_t start, stop;

	if (x->run_end >= end ||
	    ext2fs_find_first_zero_block_bitmap2(x->fs->block_map, x->run_end, end - 1, &start)) {
		if (x->wrapped)
			return -ENOSPC;
		x->wrapped = true;
		x->run_start = x->run_end = x->fs->super->s_first_data_block;
		return next_run(x);
	}
	if (ext2fs_find_first_set_block_bitmap2(x->fs->block_map, start, end - 1, &stop))
		stop = end;
	x->run_start = start;
	x->run_end = stop;
	return 0;
}

static int take(struct ext4 *x, uint32_t want, uint64_t *ret_start, uint32_t *ret_len)
{
	uint64_t room;

	if (x->run_start == x->run_end) {
		int rc = next_run(x);

		if (rc < 0)
			return rc;
	}
	room = x->run_end - x->run_start;
	*ret_start = x->run_start;
	*ret_len = room < want ? (uint32_t)room : want;
	x->run_start += *ret_len;
	blockmap_drop(x->map, *ret_start, *ret_len);
	return 0;
}

int ext4_alloc(struct ext4 *x, uint32_t want, uint64_t *ret_start, uint32_t *ret_len, struct err *e)
{
	if (take(x, want, ret_start, ret_len) < 0)
		return err_set(e, -ENOSPC, "the device of %llu bytes is full (see --vsize)",
			       (unsigned long long)ext4_bytes(x));
	ext2fs_block_alloc_stats_range(x->fs, *ret_start, *ret_len, +1);
	return 0;
}

static int free_blocks(struct ext4 *x, uint64_t start, uint64_t len, struct err *e)
{
	if (start < 1 || len > x->blocks || start > x->blocks - len)
		return err_set(e, -EBADMSG,
			       "an inode of the layers below names blocks outside the device");
	for (uint64_t b = start; b < start + len; b++)
		if (!ext2fs_test_block_bitmap2(x->fs->block_map, b))
			return err_set(e, -EBADMSG, "block %llu is in use but marked free",
				       (unsigned long long)b);
	ext2fs_block_alloc_stats_range(x->fs, start, (blk_t)len, -1);
	blockmap_drop(x->map, start, len);
	return 0;
}

/* --- extents --- */

void extents_add(struct extents *x, uint32_t lblk, uint64_t pblk, uint32_t len)
{
	struct extent *last = x->count ? &x->e[x->count - 1] : NULL;

	if (last && last->lblk + last->len == lblk && last->pblk + last->len == pblk &&
	    last->len + len <= EXT_INIT_MAX_LEN) {
		last->len += len;
		return;
	}
	if (x->count == x->room) {
		x->room = x->room ? x->room * 2 : 4;
		x->e = realloc(x->e, x->room * sizeof(*x->e));
		if (!x->e)
			abort();
	}
	x->e[x->count++] = (struct extent){.lblk = lblk, .len = len, .pblk = pblk};
}

void extents_done(struct extents *x)
{
	free(x->e);
	memset(x, 0, sizeof(*x));
}

#define NODE_ENTRIES                                                                               \
	((BLOCK_BYTES - sizeof(struct ext3_extent_header)) / sizeof(struct ext3_extent))
#define ROOT_ENTRIES 4u

/* One node of the tree; @leaf: @run, else @child and @first give the blocks below. */
struct child {
	uint32_t first; /* lowest lblk below */
	uint64_t block;
};

static void put_node(void *node, unsigned int depth, size_t max, const struct extent *run,
		     const struct child *child, size_t count)
{
	struct ext3_extent_header *h = node;
	struct ext3_extent *x = (void *)(h + 1);
	struct ext3_extent_idx *i = (void *)(h + 1);

	h->eh_magic = htole16(EXT3_EXT_MAGIC);
	h->eh_entries = htole16((uint16_t)count);
	h->eh_max = htole16((uint16_t)max);
	h->eh_depth = htole16((uint16_t)depth);
	h->eh_generation = 0;
	for (size_t n = 0; n < count; n++) {
		if (depth == 0) {
			x[n].ee_block = htole32(run[n].lblk);
			x[n].ee_len = htole16((uint16_t)run[n].len);
			x[n].ee_start = htole32((uint32_t)run[n].pblk);
			x[n].ee_start_hi = htole16((uint16_t)(run[n].pblk >> 32));
		} else {
			i[n].ei_block = htole32(child[n].first);
			i[n].ei_leaf = htole32((uint32_t)child[n].block);
			i[n].ei_leaf_hi = htole16((uint16_t)(child[n].block >> 32));
			i[n].ei_unused = 0;
		}
	}
}

/* Write one level of the tree as blocks; the children of the level above come back in @out. */
static int put_level(struct ext4 *x, unsigned int depth, const struct extent *run,
		     const struct child *child, size_t count, struct child *out, size_t *ret_count,
		     struct err *e)
{
	size_t n = 0;

	for (size_t at = 0; at < count; at += NODE_ENTRIES, n++) {
		size_t some = count - at < NODE_ENTRIES ? count - at : NODE_ENTRIES;
		uint8_t block[BLOCK_BYTES] = {0};
		struct child c;
		uint32_t len;
		int rc = ext4_alloc(x, 1, &c.block, &len, e);

		if (rc < 0)
			return rc;
		c.first = depth ? child[at].first : run[at].lblk;
		put_node(block, depth, NODE_ENTRIES, run ? run + at : NULL,
			 child ? child + at : NULL, some);
		blockmap_write(x->map, c.block, block);
		out[n] = c; /* @out may be @child: only now */
		x->tree_blocks++;
	}
	*ret_count = n;
	return 0;
}

int ext4_extents_set(struct ext4 *x, struct ext2_inode_large *in, const struct extents *runs,
		     struct err *e)
{
	size_t count = runs->count;
	unsigned int depth = 0;
	struct child *level = NULL;
	uint64_t blocks = 0;
	int rc = 0;

	x->tree_blocks = 0;
	if (count > ROOT_ENTRIES)
		level = xmalloc_zero((count + NODE_ENTRIES - 1) / NODE_ENTRIES, sizeof(*level));
	/* a level is written over the array that held the one below: it is always shorter */
	while (count > ROOT_ENTRIES && rc == 0) {
		rc = put_level(x, depth, depth ? NULL : runs->e, depth ? level : NULL, count, level,
			       &count, e);
		depth++;
	}
	if (rc == 0) {
		memset(in->i_block, 0, sizeof(in->i_block));
		put_node(in->i_block, depth, ROOT_ENTRIES, runs->e, level, count);
#if __BYTE_ORDER == __BIG_ENDIAN
#error "the extent root is little-endian inside an inode that libext2fs swaps"
#endif
		for (size_t i = 0; i < runs->count; i++)
			blocks += runs->e[i].len;
		blocks = (blocks + x->tree_blocks) * (BLOCK_BYTES / 512);
		in->i_flags |= EXT4_EXTENTS_FL;
		in->i_blocks = (uint32_t)blocks;
		in->osd2.linux2.l_i_blocks_hi = (uint16_t)(blocks >> 32);
	}
	free(level);
	return rc;
}

struct walk {
	struct extents *runs; /* collect here, or NULL */
	bool free_tree;	      /* free index and leaf blocks */
	uint64_t budget;      /* nodes that may still be visited */
};

static int walk_node(struct ext4 *x, const void *node, size_t bytes, unsigned int depth,
		     struct walk *w, struct err *e)
{
	const struct ext3_extent_header *h = node;
	const struct ext3_extent *ex = (const void *)(h + 1);
	const struct ext3_extent_idx *ix = (const void *)(h + 1);
	size_t count = le16toh(h->eh_entries);

	if (le16toh(h->eh_magic) != EXT3_EXT_MAGIC || le16toh(h->eh_depth) != depth ||
	    count > (bytes - sizeof(*h)) / sizeof(*ex))
		return err_set(e, -EBADMSG, "an extent tree of the layers below is corrupt");
	for (size_t n = 0; n < count; n++) {
		if (depth == 0) {
			uint32_t lblk = le32toh(ex[n].ee_block), len = le16toh(ex[n].ee_len);
			uint64_t pblk =
			    le32toh(ex[n].ee_start) | (uint64_t)le16toh(ex[n].ee_start_hi) << 32;
			const struct extents *r = w->runs;

			if (!len || len > EXT_INIT_MAX_LEN || pblk < 1 || pblk > x->blocks - len ||
			    lblk > UINT32_MAX - len ||
			    (r && r->count &&
			     lblk < r->e[r->count - 1].lblk + r->e[r->count - 1].len))
				return err_set(e, -EBADMSG,
					       "an extent of the layers below is corrupt");
			if (r)
				extents_add(w->runs, lblk, pblk, len);
		} else {
			uint64_t b = le32toh(ix[n].ei_leaf) | (uint64_t)le16toh(ix[n].ei_leaf_hi)
								  << 32;
			uint8_t block[BLOCK_BYTES];
			int rc;

			if (!w->budget--)
				return err_set(e, -EBADMSG,
					       "an extent tree of the layers below loops");
			rc = blockmap_read(x->map, b, block, e);
			if (rc == 0)
				rc = walk_node(x, block, BLOCK_BYTES, depth - 1, w, e);
			if (rc == 0 && w->free_tree)
				rc = free_blocks(x, b, 1, e);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int walk_extents(struct ext4 *x, const struct ext2_inode_large *in, struct walk *w,
			struct err *e)
{
	const struct ext3_extent_header *h = (const void *)in->i_block;
	unsigned int depth = le16toh(h->eh_depth);

	if (!(in->i_flags & EXT4_EXTENTS_FL) || depth > 5)
		return err_set(e, -EBADMSG,
			       "an inode of the layers below has no valid extent tree");
	w->budget = x->blocks;
	return walk_node(x, in->i_block, sizeof(in->i_block), depth, w, e);
}

int ext4_extents_get(struct ext4 *x, const struct ext2_inode_large *in, struct extents *ret,
		     struct err *e)
{
	struct walk w = {.runs = ret};
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = walk_extents(x, in, &w, e);
	if (rc < 0)
		extents_done(ret);
	return rc;
}

int ext4_extents_free_tree(struct ext4 *x, const struct ext2_inode_large *in, struct err *e)
{
	struct walk w = {.free_tree = true};

	return walk_extents(x, in, &w, e);
}

/* --- inodes --- */

int ext4_inode_new(struct ext4 *x, bool dir, uint32_t *ret_ino, struct err *e)
{
	ext2_filsys fs = x->fs;
	uint32_t count = fs->super->s_inodes_count;
	ext2_ino_t ino;

	if ((x->next_ino > count ||
	     ext2fs_find_first_zero_inode_bitmap2(fs->inode_map, x->next_ino, count, &ino)) &&
	    ext2fs_find_first_zero_inode_bitmap2(fs->inode_map, EXT2_FIRST_INODE(fs->super), count,
						 &ino))
		return err_set(e, -ENOSPC, "all %u inodes of the device are in use (see --vsize)",
			       count);
	ext2fs_inode_alloc_stats2(fs, ino, +1, dir);
	x->next_ino = ino + 1;
	*ret_ino = ino;
	return 0;
}

static int check_ino(struct ext4 *x, uint32_t ino, struct err *e)
{
	if (ino < 1 || ino > x->fs->super->s_inodes_count)
		return err_set(e, -EBADMSG, "inode number %u is out of range", ino);
	return 0;
}

int ext4_inode_read(struct ext4 *x, uint32_t ino, struct ext2_inode_large *ret, struct err *e)
{
	errcode_t rc;

	if (check_ino(x, ino, e) < 0)
		return -EBADMSG;
	rc = ext2fs_read_inode_full(x->fs, ino, (struct ext2_inode *)ret, sizeof(*ret));
	return rc ? fail(x, rc, "reading an inode", e) : 0;
}

int ext4_inode_write(struct ext4 *x, uint32_t ino, const struct ext2_inode_large *in, struct err *e)
{
	struct ext2_inode_large copy = *in;
	errcode_t rc;

	rc = ext2fs_write_inode_full(x->fs, ino, (struct ext2_inode *)&copy, sizeof(copy));
	return rc ? fail(x, rc, "writing an inode", e) : 0;
}

int ext4_inode_release(struct ext4 *x, uint32_t ino, struct err *e)
{
	union {
		struct ext2_inode_large in;
		uint8_t bytes[256];
	} z;
	struct extents runs = {0};
	bool dir;
	errcode_t err;
	int rc = ext4_inode_read(x, ino, &z.in, e);

	if (rc < 0)
		return rc;
	if (ino < EXT2_FIRST_INODE(x->fs->super) ||
	    !ext2fs_test_inode_bitmap2(x->fs->inode_map, ino))
		return err_set(e, -EBADMSG, "inode %u has a name but is not in use", ino);
	dir = LINUX_S_ISDIR(z.in.i_mode);
	err = ext2fs_free_ext_attr(x->fs, ino, &z.in);
	if (err)
		return fail(x, err, "freeing extended attributes", e);
	if (z.in.i_flags & EXT4_EXTENTS_FL) {
		rc = ext4_extents_get(x, &z.in, &runs, e);
		for (size_t i = 0; rc == 0 && i < runs.count; i++)
			rc = free_blocks(x, runs.e[i].pblk, runs.e[i].len, e);
		if (rc == 0)
			rc = ext4_extents_free_tree(x, &z.in, e);
		extents_done(&runs);
		if (rc < 0)
			return rc;
	}
	/* all 256 bytes: attributes inside the inode go with it */
	memset(&z, 0, sizeof(z));
	err = ext2fs_write_inode_full(x->fs, ino, (struct ext2_inode *)&z.in, sizeof(z));
	if (err)
		return fail(x, err, "freeing an inode", e);
	ext2fs_inode_alloc_stats2(x->fs, ino, -1, dir);
	return 0;
}

int ext4_symlink_read(struct ext4 *x, uint32_t ino, char *out, size_t *ret_len, struct err *e)
{
	struct ext2_inode_large in;
	struct extents runs;
	uint8_t block[BLOCK_BYTES];
	int rc = ext4_inode_read(x, ino, &in, e);

	if (rc < 0)
		return rc;
	if (!LINUX_S_ISLNK(in.i_mode) || in.i_size > EXT4_SYMLINK_MAX)
		return err_set(e, -EBADMSG, "inode %u is not a valid symbolic link", ino);
	if (!(in.i_flags & EXT4_EXTENTS_FL)) {
		if (in.i_size >= sizeof(in.i_block))
			return err_set(e, -EBADMSG, "symbolic link %u is too long for its inode",
				       ino);
		memcpy(out, in.i_block, in.i_size);
	} else {
		rc = ext4_extents_get(x, &in, &runs, e);
		if (rc < 0)
			return rc;
		rc = runs.count ? blockmap_read(x->map, runs.e[0].pblk, block, e)
				: err_set(e, -EBADMSG, "symbolic link %u has no content", ino);
		extents_done(&runs);
		if (rc < 0)
			return rc;
		memcpy(out, block, in.i_size);
	}
	out[in.i_size] = 0;
	*ret_len = in.i_size;
	return 0;
}

/* --- extended attributes --- */

/* What the kernel would accept as an ACL attribute; libext2fs converts it to the disk form. */
static bool acl_valid(const uint8_t *p, size_t bytes)
{
	if (bytes < 4 || (bytes - 4) % 8 || p[0] != 2 || p[1] || p[2] || p[3])
		return false;
	for (size_t at = 4; at < bytes; at += 8) {
		unsigned int tag = p[at] | (unsigned int)p[at + 1] << 8;
		unsigned int perm = p[at + 2] | (unsigned int)p[at + 3] << 8;

		if (perm > 7 ||
		    (tag != 1 && tag != 2 && tag != 4 && tag != 8 && tag != 0x10 && tag != 0x20))
			return false;
	}
	return true;
}

static bool name_valid(const char *name)
{
	static const char *const prefix[] = {"user.", "trusted.", "security."};

	if (!strcmp(name, "system.posix_acl_access") || !strcmp(name, "system.posix_acl_default"))
		return true;
	for (size_t i = 0; i < 3; i++)
		if (text_starts_with(name, prefix[i]))
			return name[strlen(prefix[i])] && strlen(name) <= 255;
	return false;
}

static int set_one(struct ext4 *x, struct ext2_xattr_handle *h, const struct xattr *a,
		   struct err *e)
{
	errcode_t rc;

	if (!name_valid(a->name))
		return err_set(e, -EOPNOTSUPP,
			       "extended attribute \"%.64s\" cannot be stored in ext4", a->name);
	if (!strncmp(a->name, "system.posix_acl_", 17) && !acl_valid(a->value, a->bytes))
		return err_set(e, -EBADMSG, "extended attribute %s is not a valid ACL", a->name);
	rc = ext2fs_xattr_set(h, a->name, a->value, a->bytes);
	if (rc == EXT2_ET_EA_NO_SPACE || a->bytes > BLOCK_BYTES)
		return err_set(e, -E2BIG,
			       "extended attributes do not fit: \"%.64s\" (%zu bytes); ext4 holds "
			       "about 4000 bytes a file",
			       a->name, a->bytes);
	return rc ? fail(x, rc, "setting an extended attribute", e) : 0;
}

int ext4_xattrs_set(struct ext4 *x, uint32_t ino, const struct xattr *a, size_t count,
		    struct err *e)
{
	struct ext2_xattr_handle *h;
	errcode_t err = ext2fs_xattrs_open(x->fs, ino, &h);
	int rc = 0;

	if (err)
		return fail(x, err, "opening extended attributes", e);
	err = ext2fs_xattrs_read(h);
	if (err)
		rc = fail(x, err, "reading extended attributes", e);
	if (rc == 0 && !count) {
		size_t old = 0;

		if (ext2fs_xattrs_count(h, &old) || !old) {
			ext2fs_xattrs_close(&h);
			return 0;
		}
	}
	if (rc == 0) {
		/* a fresh handle starts empty: what was there before is replaced as a whole */
		ext2fs_xattrs_close(&h);
		err = ext2fs_xattrs_open(x->fs, ino, &h);
		if (err)
			return fail(x, err, "opening extended attributes", e);
	}
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = set_one(x, h, &a[i], e);
	if (rc == 0) {
		err = ext2fs_xattrs_write(h);
		if (err == EXT2_ET_EA_NO_SPACE)
			rc = err_set(e, -E2BIG,
				     "extended attributes do not fit an inode and one block");
		else if (err)
			rc = fail(x, err, "writing extended attributes", e);
	}
	ext2fs_xattrs_close(&h);
	return rc;
}
