/* SPDX-License-Identifier: Apache-2.0 */
/* blockfile.c - see blockfile.h */
#include "blockfile.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "text.h"

#define BLOCK_HEAD_BYTES 8
#define BLOCK_TAIL_BYTES 4

/* --- encoding ------------------------------------------------------------------------------- */

void blockbuf_done(struct blockbuf *b)
{
	free(b->p);
	*b = (struct blockbuf){0};
}

void blockbuf_put(struct blockbuf *b, const void *p, size_t bytes)
{
	if (bytes > b->cap - b->len) {
		size_t cap = b->cap ? b->cap : 4096;
		uint8_t *grown;

		while (cap - b->len < bytes)
			cap *= 2;
		grown = realloc(b->p, cap);
		if (!grown)
			abort();
		b->p = grown;
		b->cap = cap;
	}
	if (bytes)
		memcpy(b->p + b->len, p, bytes);
	b->len += bytes;
}

void blockbuf_u8(struct blockbuf *b, uint8_t v)
{
	blockbuf_put(b, &v, 1);
}

void blockbuf_u32(struct blockbuf *b, uint32_t v)
{
	uint8_t raw[4];

	put_le32(raw, v);
	blockbuf_put(b, raw, sizeof(raw));
}

void blockbuf_u64(struct blockbuf *b, uint64_t v)
{
	uint8_t raw[8];

	put_le64(raw, v);
	blockbuf_put(b, raw, sizeof(raw));
}

void blockbuf_var(struct blockbuf *b, uint64_t v)
{
	uint8_t raw[10];
	size_t n = 0;

	for (; v > 0x7f; v >>= 7)
		raw[n++] = (uint8_t)(v | 0x80);
	raw[n++] = (uint8_t)v;
	blockbuf_put(b, raw, n);
}

void blockbuf_zigzag(struct blockbuf *b, uint64_t v)
{
	blockbuf_var(b, blockfile_zigzag(v));
}

void blockbuf_text(struct blockbuf *b, const char *s)
{
	size_t len = s ? strlen(s) : 0;

	blockbuf_var(b, len);
	blockbuf_put(b, s, len);
}

void blockbuf_head(struct blockbuf *b, const char magic[static BLOCKFILE_MAGIC_BYTES],
		   uint32_t version)
{
	blockbuf_put(b, magic, BLOCKFILE_MAGIC_BYTES);
	blockbuf_u32(b, version);
	blockbuf_u32(b, ~crc32c_raw(~0u, b->p + b->len - 12, 12));
}

void blockbuf_begin(struct blockbuf *b, uint32_t type)
{
	b->open = b->len;
	blockbuf_u32(b, type);
	blockbuf_u32(b, 0); /* known at the end */
}

size_t blockbuf_payload(const struct blockbuf *b)
{
	return b->len - b->open - BLOCK_HEAD_BYTES;
}

void blockbuf_end(struct blockbuf *b)
{
	size_t payload = blockbuf_payload(b);

	assert(payload <= BLOCKFILE_MAX_PAYLOAD);
	put_le32(b->p + b->open + 4, (uint32_t)payload);
	blockbuf_u32(b, ~crc32c_raw(~0u, b->p + b->open, BLOCK_HEAD_BYTES + payload));
}

static void put_items(struct blockitems *w)
{
	if (w->count) {
		blockbuf_begin(w->to, w->type);
		blockbuf_var(w->to, w->count);
		blockbuf_put(w->to, w->items.p, w->items.len);
		blockbuf_end(w->to);
	}
	w->count = 0;
	w->items.len = 0;
}

bool blockitems_next(struct blockitems *w)
{
	w->count++;
	if (w->items.len < w->full)
		return false;
	put_items(w);
	return true;
}

void blockitems_done(struct blockitems *w)
{
	put_items(w);
	blockbuf_done(&w->items);
}

/* --- reading -------------------------------------------------------------------------------- */

const uint8_t *blockview_bytes(struct blockview *v, size_t bytes)
{
	const uint8_t *p = v->p + v->at;

	if (v->bad || bytes > v->len - v->at) {
		v->bad = true;
		return NULL;
	}
	v->at += bytes;
	return p;
}

uint8_t blockview_u8(struct blockview *v)
{
	const uint8_t *p = blockview_bytes(v, 1);

	return p ? *p : 0;
}

uint32_t blockview_u32(struct blockview *v)
{
	const uint8_t *p = blockview_bytes(v, 4);

	return p ? get_le32(p) : 0;
}

uint64_t blockview_u64(struct blockview *v)
{
	const uint8_t *p = blockview_bytes(v, 8);

	return p ? get_le64(p) : 0;
}

uint64_t blockview_var(struct blockview *v)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		uint8_t byte = blockview_u8(v);

		/* the tenth byte holds one bit; a number has one encoding */
		if (v->bad || (shift == 63 && byte > 1) || (shift && !byte))
			break;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
	v->bad = true;
	return 0;
}

uint64_t blockview_zigzag(struct blockview *v)
{
	return blockfile_unzigzag(blockview_var(v));
}

size_t blockview_count(struct blockview *v, size_t item_bytes)
{
	uint64_t n = blockview_var(v);

	if (v->bad || n > (v->len - v->at) / item_bytes) {
		v->bad = true;
		return 0;
	}
	return (size_t)n;
}

char *blockview_text(struct blockview *v, size_t max)
{
	uint64_t len = blockview_var(v);
	const uint8_t *p = len > max ? NULL : blockview_bytes(v, (size_t)len);
	char *s;

	if (!p || v->bad || memchr(p, 0, (size_t)len)) {
		v->bad = true;
		return NULL;
	}
	s = xmalloc_zero(1, (size_t)len + 1);
	memcpy(s, p, (size_t)len);
	return s;
}

int blockiter_start(struct blockiter *it, const void *p, size_t bytes,
		    const char magic[static BLOCKFILE_MAGIC_BYTES], uint32_t max_version,
		    uint32_t *ret_version, struct err *e)
{
	const uint8_t *head = p;
	uint32_t version;

	if (bytes < BLOCKFILE_MAGIC_BYTES || memcmp(p, magic, BLOCKFILE_MAGIC_BYTES) != 0)
		return err_set(e, -ENOENT, "does not begin with \"%.7s\"", magic);
	if (bytes < BLOCKFILE_HEAD_BYTES)
		return err_set(e, -EBADMSG, "cut off inside the header");
	if (get_le32(head + 12) != ~crc32c_raw(~0u, head, 12))
		return err_set(e, -EBADMSG, "header: wrong checksum");
	version = get_le32(head + 8);
	if (version > max_version)
		return err_set(e, -EOPNOTSUPP, "version %u; this headstart knows up to %u", version,
			       max_version);
	if (!version)
		return err_set(e, -EBADMSG, "header: version 0");
	*it = (struct blockiter){.p = p, .len = bytes, .at = BLOCKFILE_HEAD_BYTES};
	*ret_version = version;
	return 0;
}

bool blockiter_next(struct blockiter *it, uint32_t *ret_type, struct blockview *ret)
{
	const uint8_t *p = it->p + it->at;
	size_t left = it->len - it->at;
	uint32_t payload;

	if (!left || it->truncated)
		return false;
	it->truncated = true;
	if (left < BLOCK_HEAD_BYTES + BLOCK_TAIL_BYTES)
		return false;
	payload = get_le32(p + 4);
	if (payload > BLOCKFILE_MAX_PAYLOAD || payload > left - BLOCK_HEAD_BYTES - BLOCK_TAIL_BYTES)
		return false;
	if (get_le32(p + BLOCK_HEAD_BYTES + payload) !=
	    ~crc32c_raw(~0u, p, BLOCK_HEAD_BYTES + payload))
		return false;
	it->truncated = false;
	it->at += BLOCK_HEAD_BYTES + payload + BLOCK_TAIL_BYTES;
	*ret_type = get_le32(p);
	*ret = (struct blockview){.p = p + BLOCK_HEAD_BYTES, .len = payload};
	return true;
}

/* --- files ---------------------------------------------------------------------------------- */

int blockfile_load(const char *path, size_t max_bytes, uint8_t **ret, size_t *ret_bytes,
		   struct err *e)
{
	char *data;
	int r = text_read_file(path, max_bytes, &data, ret_bytes, e);

	if (!r)
		*ret = (uint8_t *)data;
	return r;
}

int blockfile_save(const char *path, const void *p, size_t bytes, struct err *e)
{
	return text_write_file(path, p, bytes, 0644, e);
}
