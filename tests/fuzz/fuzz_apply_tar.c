/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_apply_tar.c - any bytes as one or two layers onto a small device
 *
 * The first byte says where the input is cut in two and how large the input pieces are. Whatever
 * comes, the result is an error or a file system whose directories, links, inodes and blocks agree:
 * every block belongs to one owner and is marked, every name leads to an inode in use, every link
 * is counted.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "err.h"
#include "ext4.h"
#include "hot_hold.h"
#include "hot_order.h"
#include "log.h"
#include "prefetch_list.h"

#define DEVICE_BYTES  (32ull << 20)
#define DEVICE_BLOCKS (DEVICE_BYTES / BLOCK_BYTES)
#define SEED	      "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct in {
	const uint8_t *p;
	size_t bytes, step;
};

static int input(void *arg, const void **ret_p, size_t *ret_bytes, struct err *e)
{
	struct in *in = arg;

	(void)e;
	*ret_bytes = in->bytes < in->step ? in->bytes : in->step;
	*ret_p = in->p;
	in->p += *ret_bytes;
	in->bytes -= *ret_bytes;
	return 0;
}

static int sink(void *arg, uint64_t off, const void *p, size_t bytes, struct err *e)
{
	uint64_t *sent = arg;
	volatile uint8_t sum = 0;

	(void)e;
	assert(off % BLOCK_BYTES == 0 && bytes % BLOCK_BYTES == 0 && bytes > 0);
	assert(off < DEVICE_BYTES && bytes <= DEVICE_BYTES - off);
	for (size_t i = 0; i < bytes; i += 512) /* let the sanitizer see the reads */
		sum = (uint8_t)(sum + ((const uint8_t *)p)[i]);
	*sent += bytes;
	return 0;
}

struct check {
	ext2_filsys fs;
	uint8_t owned[DEVICE_BLOCKS];
	uint32_t links[65536];
	bool seen[65536];
	uint32_t queue[65536];
	size_t queued;
};

static const struct hot_order *order;

static int own(ext2_filsys fs, blk64_t *block, e2_blkcnt_t count, blk64_t ref, int off, void *arg)
{
	struct check *c = arg;

	(void)count;
	(void)ref;
	(void)off;
	assert(*block > 0 && *block < DEVICE_BLOCKS);
	assert(!c->owned[*block]);
	assert(ext2fs_test_block_bitmap2(fs->block_map, *block));
	c->owned[*block] = 1;
	return 0;
}

static int name(ext2_ino_t dir, int entry, struct ext2_dir_entry *d, int off, int size, char *buf,
		void *arg)
{
	struct check *c = arg;

	(void)dir;
	(void)entry;
	(void)off;
	(void)size;
	(void)buf;
	assert(d->inode > 0 && d->inode < 65536 && d->inode <= c->fs->super->s_inodes_count);
	assert(ext2fs_test_inode_bitmap2(c->fs->inode_map, d->inode));
	c->links[d->inode]++;
	if (!c->seen[d->inode]) {
		c->seen[d->inode] = true;
		c->queue[c->queued++] = d->inode;
	}
	return 0;
}

static void check(struct ext4 *x)
{
	struct check *c = calloc(1, sizeof(*c));
	uint32_t used = 0;

	assert(ext2fs_open("image", EXT2_FLAG_64BITS, 0, 0, blockmap_io(ext4_map(x)), &c->fs) == 0);
	assert(ext2fs_read_bitmaps(c->fs) == 0);
	c->seen[EXT2_ROOT_INO] = true;
	c->queue[c->queued++] = EXT2_ROOT_INO;
	for (size_t i = 0; i < c->queued; i++) {
		struct ext2_inode in;

		assert(ext2fs_read_inode(c->fs, c->queue[i], &in) == 0);
		if (ext2fs_inode_has_valid_blocks2(c->fs, &in))
			assert(ext2fs_block_iterate3(c->fs, c->queue[i], BLOCK_FLAG_READ_ONLY, NULL,
						     own, c) == 0);
		if (LINUX_S_ISDIR(in.i_mode))
			assert(ext2fs_dir_iterate2(c->fs, c->queue[i], 0, NULL, name, c) == 0);
	}
	for (size_t i = 0; i < c->queued; i++) {
		struct ext2_inode in;

		assert(ext2fs_read_inode(c->fs, c->queue[i], &in) == 0);
		assert(in.i_links_count == c->links[c->queue[i]]);
	}
	for (uint32_t ino = EXT2_FIRST_INODE(c->fs->super); ino <= c->fs->super->s_inodes_count;
	     ino++)
		used += ext2fs_test_inode_bitmap2(c->fs->inode_map, ino) != 0;
	assert(used + 1 == c->queued); /* the root lies below the first one */
	ext2fs_close_free(&c->fs);
	free(c);
}

/* Some blocks of some files of the corpus, out of order. */
static const struct hot_order *make_order(void)
{
	static struct prefetch_file files[] = {
	    {.path = (char *)"/d/a"}, {.path = (char *)"/d/s/b"}, {.path = (char *)"/s"},
	    {.path = (char *)"/x"},   {.path = (char *)"/sp"},	  {.path = (char *)"/a/x"},
	};
	static struct prefetch_touch touches[] = {
	    {.file = 0, .off = 8192, .bytes = 1},
	    {.file = 0, .bytes = 5000},
	    {.file = 1, .bytes = 100},
	    {.file = 2, .bytes = 9000},
	    {.file = 3, .off = 4096, .bytes = 1},
	    {.file = 3, .bytes = 4096},
	    {.file = 4, .bytes = 1u << 20},
	    {.file = 5, .bytes = 1},
	};
	struct prefetch_list l = {
	    .files = files, .file_count = 6, .touches = touches, .touch_count = 8};

	return hot_order_new(&l);
}

static int layer(struct ext4 *x, const uint8_t *p, size_t bytes, size_t step)
{
	struct in in = {.p = p, .bytes = bytes, .step = step};
	struct apply_stats st;
	struct err e = {0};
	uint64_t sent = 0;
	/* few enough that the limit is met as well */
	struct hot_hold *hold = step % 2 ? hot_hold_new(order, 3 * BLOCK_BYTES) : NULL;
	int rc = apply_layer(x, input, &in, sink, &sent, hold, &st, &e);

	assert(!hold || (st.hot_bytes == hot_hold_bytes(hold) && st.hot_bytes <= 3 * BLOCK_BYTES));
	assert(rc != 0 || sent == st.data_bytes + st.metadata_bytes);
	hot_hold_free(hold);
	assert(rc <= 0 && rc == e.code);
	assert(sent <= 2 * DEVICE_BYTES);
	assert((rc == 0) == (e.msg[0] == 0));
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ext4 *x;
	size_t cut, step;
	int rc;

	if (!bytes)
		return 0;
	log_open(LOG_LEVEL_ERROR, 2);
	if (!order)
		order = make_order(); /* for the life of the process */
	/* whole tar blocks before the cut: both parts can be archives */
	cut = (bytes - 1) / 512 * (data[0] >> 4) / 15 * 512;
	step = 1 + (size_t)(data[0] & 15) * 997;
	data++;
	bytes--;
	assert(ext4_new(DEVICE_BYTES, NULL, &x, NULL) == 0);
	assert(ext4_format(x, SEED, NULL) == 0);
	rc = layer(x, data, cut, step);
	if (rc == 0)
		check(x);
	if (rc == 0 && layer(x, data + cut, bytes - cut, step) == 0)
		check(x);
	ext4_free(x);
	return 0;
}
