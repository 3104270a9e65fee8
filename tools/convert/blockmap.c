/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blockmap.c - two-level table of 4 KiB blocks, and as a device of libext2fs
 *
 * A leaf covers 1024 blocks.
 */
#include "blockmap.h"

#include "err.h"
#include "ext2_device.h"
#include "text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LEAF_BLOCKS 1024u

struct leaf {
	uint8_t *block[LEAF_BLOCKS]; /* NULL: not held */
	uint64_t dirty[LEAF_BLOCKS / 64];
	uint64_t stale[LEAF_BLOCKS / 64]; /* not held, and below lies something that is not zeros */
};

struct blockmap {
	uint64_t blocks;
	size_t leaf_count;
	struct leaf **leaf;
	struct lower_reader lower; /* read is NULL without lower layers */
	uint64_t held;
	struct err error;
};

struct blockmap *blockmap_new(uint64_t blocks, const struct lower_reader *lower)
{
	struct blockmap *m = xmalloc_zero(1, sizeof(*m));

	m->blocks = blocks;
	m->leaf_count = (size_t)((blocks + LEAF_BLOCKS - 1) / LEAF_BLOCKS);
	m->leaf = xmalloc_zero(m->leaf_count, sizeof(struct leaf *));
	if (lower)
		m->lower = *lower;
	return m;
}

void blockmap_free(struct blockmap *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->leaf_count; i++) {
		if (!m->leaf[i])
			continue;
		for (unsigned int j = 0; j < LEAF_BLOCKS; j++)
			free(m->leaf[i]->block[j]);
		free(m->leaf[i]);
	}
	free(m->leaf);
	free(m);
}

const struct err *blockmap_error(const struct blockmap *m)
{
	return &m->error;
}

uint64_t blockmap_bytes_held(const struct blockmap *m)
{
	return m->held * BLOCK_BYTES;
}

static uint8_t *find(const struct blockmap *m, uint64_t block)
{
	const struct leaf *l = m->leaf[block / LEAF_BLOCKS];

	return l ? l->block[block % LEAF_BLOCKS] : NULL;
}

static uint8_t *insert(struct blockmap *m, uint64_t block)
{
	struct leaf **l = &m->leaf[block / LEAF_BLOCKS];

	if (!*l)
		*l = xmalloc_zero(1, sizeof(**l));
	m->held++;
	return (*l)->block[block % LEAF_BLOCKS] = xmalloc_zero(1, BLOCK_BYTES);
}

static bool stale(const struct blockmap *m, uint64_t block)
{
	const struct leaf *l = m->leaf[block / LEAF_BLOCKS];

	return l && (l->stale[block % LEAF_BLOCKS / 64] >> (block % 64) & 1);
}

static void mark_dirty(struct blockmap *m, uint64_t block)
{
	struct leaf *l = m->leaf[block / LEAF_BLOCKS];

	l->dirty[block % LEAF_BLOCKS / 64] |= 1ull << (block % 64);
	l->stale[block % LEAF_BLOCKS / 64] &= ~(1ull << (block % 64));
}

static void remove_block(struct blockmap *m, uint64_t block)
{
	struct leaf *l = m->leaf[block / LEAF_BLOCKS];
	unsigned int i = block % LEAF_BLOCKS;

	if (l->block[i])
		m->held--;
	free(l->block[i]);
	l->block[i] = NULL;
	l->dirty[i / 64] &= ~(1ull << (i % 64));
}

/* The block as it is now, NULL when it is all zeros and not held. */
static int load(struct blockmap *m, uint64_t block, uint8_t **ret)
{
	uint8_t *p = find(m, block);
	int rc;

	if (!p && m->lower.read && !stale(m, block)) {
		p = insert(m, block);
		rc = m->lower.read(m->lower.arg, block * BLOCK_BYTES, p, BLOCK_BYTES, &m->error);
		if (rc < 0) {
			remove_block(m, block);
			if (!m->error.code)
				(void)err_set(&m->error, rc, "read of a lower layer failed");
			return rc;
		}
	}
	*ret = p;
	return 0;
}

int blockmap_read(struct blockmap *m, uint64_t block, void *buf, struct err *e)
{
	uint8_t *p = NULL;
	int rc;

	if (block >= m->blocks)
		return err_set(e, -EBADMSG, "block %llu lies outside the device",
			       (unsigned long long)block);
	rc = load(m, block, &p);
	if (rc < 0)
		return err_set(e, rc, "%s", m->error.msg);
	if (p)
		memcpy(buf, p, BLOCK_BYTES);
	else
		memset(buf, 0, BLOCK_BYTES);
	return 0;
}

/* Change a part of one block; only a real change makes it dirty. */
static int change(struct blockmap *m, uint64_t block, uint32_t at, const uint8_t *src, uint32_t len)
{
	bool was_stale = stale(m, block);
	uint8_t *p = NULL;
	int rc = load(m, block, &p);

	if (rc < 0)
		return rc;
	if (!p)
		p = insert(m, block);
	if (!was_stale && !memcmp(p + at, src, len))
		return 0;
	memcpy(p + at, src, len);
	mark_dirty(m, block);
	return 0;
}

void blockmap_write(struct blockmap *m, uint64_t block, const void *buf)
{
	if (block < m->blocks && change(m, block, 0, buf, BLOCK_BYTES) < 0) {
		/* the old content could not be had: then the new one counts as a change */
		memcpy(insert(m, block), buf, BLOCK_BYTES);
		mark_dirty(m, block);
	}
}

void blockmap_drop(struct blockmap *m, uint64_t block, uint64_t count)
{
	for (uint64_t b = block; b < block + count && b < m->blocks; b++) {
		struct leaf **l = &m->leaf[b / LEAF_BLOCKS];
		unsigned int i = b % LEAF_BLOCKS;

		if (!*l)
			*l = xmalloc_zero(1, sizeof(**l));
		else if ((*l)->block[i])
			remove_block(m, b);
		(*l)->stale[i / 64] |= 1ull << (i % 64);
	}
}

int blockmap_each_dirty(struct blockmap *m, int (*fn)(void *arg, uint64_t block, const void *data),
			void *arg)
{
	for (size_t i = 0; i < m->leaf_count; i++) {
		struct leaf *l = m->leaf[i];

		for (unsigned int w = 0; l && w < LEAF_BLOCKS / 64; w++) {
			while (l->dirty[w]) {
				unsigned int j =
				    w * 64 + (unsigned int)__builtin_ctzll(l->dirty[w]);
				int rc = fn(arg, (uint64_t)i * LEAF_BLOCKS + j, l->block[j]);

				if (rc)
					return rc;
				l->dirty[w] &= l->dirty[w] - 1;
			}
		}
	}
	return 0;
}

/* --- as a device of libext2fs --- */

static errcode_t bytes_io(struct blockmap *m, uint64_t off, uint64_t len, uint8_t *rd,
			  const uint8_t *wr)
{
	if (off > m->blocks * BLOCK_BYTES || len > m->blocks * BLOCK_BYTES - off)
		return EXT2_ET_BAD_BLOCK_NUM;
	while (len) {
		uint64_t block = off / BLOCK_BYTES;
		uint32_t at = off % BLOCK_BYTES;
		uint32_t n = len < BLOCK_BYTES - at ? (uint32_t)len : BLOCK_BYTES - at;
		uint8_t *p = NULL;

		if (wr) {
			if (change(m, block, at, wr, n) < 0)
				return EXT2_ET_SHORT_READ;
			wr += n;
		} else {
			if (load(m, block, &p) < 0)
				return EXT2_ET_SHORT_READ;
			if (p)
				memcpy(rd, p + at, n);
			else
				memset(rd, 0, n);
			rd += n;
		}
		off += n;
		len -= n;
	}
	return 0;
}

static errcode_t read_map(void *arg, void *buf, uint64_t bytes, uint64_t off)
{
	return bytes_io(arg, off, bytes, buf, NULL);
}

static errcode_t write_map(void *arg, const void *buf, uint64_t bytes, uint64_t off)
{
	return bytes_io(arg, off, bytes, NULL, buf);
}

io_manager blockmap_io(struct blockmap *m)
{
	const struct ext2_device dev = {.read = read_map, .write = write_map, .arg = m};

	return ext2_device_io(&dev);
}
