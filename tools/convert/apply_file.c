/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply_file.c - file data goes out as it comes in, or waits in the hold
 */
#include "apply_file.h"

#include "bytes.h"
#include "err.h"
#include "hot_order.h"
#include "hot_hold.h"

#include <errno.h>
#include <string.h>

#define FILE_BYTES_MAX ((1ull << 44) - BLOCK_BYTES) /* 32-bit block numbers of 4 KiB */

void apply_file_init(struct apply_file *f, struct ext4 *x, apply_sink_fn *sink, void *sink_arg,
		     struct hot_hold *hold, struct apply_stats *stats)
{
	memset(f, 0, sizeof(*f));
	f->x = x;
	f->sink = sink;
	f->sink_arg = sink_arg;
	f->hold = hold;
	f->stats = stats;
}

void apply_file_done(struct apply_file *f)
{
	extents_done(&f->runs);
}

/* Blocks that have their place: on, or held back. Either way each goes out once. */
static int send(struct apply_file *f, uint32_t lblk, uint64_t dev_off, const uint8_t *p,
		uint32_t count, struct err *e)
{
	while (f->hot_file && count) {
		uint32_t rank,
		    n = hot_order_run(hot_hold_order(f->hold), f->hot_file, lblk, count, &rank);
		uint32_t held =
		    rank == HOT_ORDER_COLD ? 0 : hot_hold_add(f->hold, rank, dev_off, p, n);
		uint32_t rest = n - held;
		int rc = 0;

		f->stats->hot_bytes += (uint64_t)held * BLOCK_BYTES;
		if (rest)
			rc = f->sink(f->sink_arg, dev_off + (uint64_t)held * BLOCK_BYTES,
				     p + (size_t)held * BLOCK_BYTES, (size_t)rest * BLOCK_BYTES, e);
		if (rc < 0)
			return rc;
		lblk += n;
		dev_off += (uint64_t)n * BLOCK_BYTES;
		p += (size_t)n * BLOCK_BYTES;
		count -= n;
	}
	return count ? f->sink(f->sink_arg, dev_off, p, (size_t)count * BLOCK_BYTES, e) : 0;
}

/* @count blocks with content, to be at block @lblk of the file. */
static int emit(struct apply_file *f, uint32_t lblk, const uint8_t *p, uint32_t count,
		struct err *e)
{
	while (count) {
		uint64_t start;
		uint32_t got;
		int rc = ext4_alloc(f->x, count < EXT_INIT_MAX_LEN ? count : EXT_INIT_MAX_LEN,
				    &start, &got, e);

		if (rc == 0)
			rc = send(f, lblk, start * BLOCK_BYTES, p, got, e);
		if (rc < 0)
			return rc;
		extents_add(&f->runs, lblk, start, got);
		f->stats->data_bytes += (uint64_t)got * BLOCK_BYTES;
		lblk += got;
		p += (size_t)got * BLOCK_BYTES;
		count -= got;
	}
	return 0;
}

/* Whole blocks at a block boundary: runs with content go out, zeros become holes. */
static int take_blocks(struct apply_file *f, const uint8_t *p, uint32_t count, struct err *e)
{
	uint32_t lblk = (uint32_t)(f->pos / BLOCK_BYTES);

	f->pos += (uint64_t)count * BLOCK_BYTES;
	for (uint32_t i = 0; i < count;) {
		uint32_t n = 0;
		int rc;

		while (i + n < count && !bytes_zero(p + (size_t)(i + n) * BLOCK_BYTES, BLOCK_BYTES))
			n++;
		rc = n ? emit(f, lblk + i, p + (size_t)i * BLOCK_BYTES, n, e) : 0;
		if (rc < 0)
			return rc;
		i += n;
		if (i < count) {
			f->stats->hole_bytes += BLOCK_BYTES;
			i++;
		}
	}
	return 0;
}

/* The held block is complete, or the file ends in it. */
static int close_block(struct apply_file *f, struct err *e)
{
	memset(f->block + f->held, 0, BLOCK_BYTES - f->held);
	f->pos -= f->held;
	f->held = 0;
	return take_blocks(f, f->block, 1, e);
}

static int take(struct apply_file *f, const uint8_t *p, size_t len, struct err *e)
{
	int rc = 0;

	while (len && rc == 0) {
		size_t n;

		if (!f->held && len >= BLOCK_BYTES) {
			n = len / BLOCK_BYTES < 1u << 20 ? len / BLOCK_BYTES : 1u << 20;
			rc = take_blocks(f, p, (uint32_t)n, e);
			n *= BLOCK_BYTES;
		} else {
			n = len < BLOCK_BYTES - f->held ? len : BLOCK_BYTES - f->held;
			memcpy(f->block + f->held, p, n);
			f->held += (uint32_t)n;
			f->pos += n;
			if (f->held == BLOCK_BYTES)
				rc = close_block(f, e);
		}
		p += n;
		len -= n;
	}
	return rc;
}

/* A gap of a sparse file. */
static int skip_to(struct apply_file *f, uint64_t off, struct err *e)
{
	if (f->held && off / BLOCK_BYTES != f->pos / BLOCK_BYTES) {
		int rc = close_block(f, e);

		if (rc < 0)
			return rc;
	}
	if (f->held || off % BLOCK_BYTES) {
		uint32_t at = off % BLOCK_BYTES;

		memset(f->block + f->held, 0, at - f->held);
		f->held = at;
	}
	f->pos = off;
	return 0;
}

int apply_file_data(struct apply_file *f, struct tar_reader *tar, const struct tar_entry *te,
		    const char *path, struct ext2_inode_large *in, struct err *e)
{
	const void *p;
	uint64_t off;
	size_t len;
	int rc;

	if (te->bytes > FILE_BYTES_MAX)
		return err_set(e, -EFBIG, "a file of %llu bytes is larger than ext4 can hold",
			       (unsigned long long)te->bytes);
	f->hot_file = f->hold && path ? hot_order_find(hot_hold_order(f->hold), path) : NULL;
	f->runs.count = 0;
	f->pos = 0;
	f->held = 0;
	while ((rc = tar_reader_data(tar, &p, &len, &off, e)) == 1) {
		if (off > te->bytes || len > te->bytes - off)
			return err_set(e, -EBADMSG, "its content goes past its size of %llu bytes",
				       (unsigned long long)te->bytes);
		if (off != f->pos)
			rc = skip_to(f, off, e);
		else
			rc = 0;
		if (rc == 0)
			rc = take(f, p, len, e);
		if (rc < 0)
			return rc;
	}
	if (rc == 0 && f->held)
		rc = close_block(f, e);
	if (rc < 0)
		return rc;
	in->i_size = (uint32_t)te->bytes;
	in->i_size_high = (uint32_t)(te->bytes >> 32);
	return ext4_extents_set(f->x, in, &f->runs, e);
}
