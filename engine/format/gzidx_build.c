/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzidx_build.c - gzip.meta made from a whole gzip file
 *
 * zlib is asked to stop at every deflate block boundary, which ISA-L cannot do. The first boundary
 * at least a span behind the last point becomes the next one. Members follow each other as one
 * output; zeros behind the last member are fill.
 */
#include "gzidx.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "gzidx_layout.h"
#include "text.h"

#define SPAN_MIN_BYTES	 65536u
#define WINDOW_LEVEL	 6
#define GZIP_WINDOW_BITS (15 + 16)
#define BOUNDARY	 128 /* of z_stream.data_type, and two more */
#define LAST_BLOCK	 64
#define UNUSED_BITS	 7
#define PIECE_BYTES	 (1u << 30)

struct blob {
	uint8_t *p;
	size_t len, room;
};

struct builder {
	z_stream z;
	const uint8_t *in;
	size_t bytes;
	uint32_t span_bytes;
	uint8_t ring[GZIDX_WINDOW_BYTES]; /* the output goes round in here */
	uint64_t out;			  /* total of all members */
	uint64_t last_out;
	struct blob file, entries;
	uint64_t count;
};

static void blob_add(struct blob *b, const void *p, size_t len)
{
	if (len > b->room - b->len) {
		b->room = (b->len + len) * 2;
		b->p = realloc(b->p, b->room);
		if (!b->p)
			abort();
	}
	memcpy(b->p + b->len, p, len);
	b->len += len;
}

static int add_compressed(struct blob *b, const void *p, size_t len)
{
	uLongf n = compressBound(len);
	uint8_t *out = xmalloc_zero(1, n);
	int r = compress2(out, &n, p, len, WINDOW_LEVEL);

	if (r == Z_OK)
		blob_add(b, out, n);
	free(out);
	return r == Z_OK ? 0 : -ENOMEM;
}

static uint64_t in_position(const struct builder *b)
{
	return (uint64_t)(b->z.next_in - b->in);
}

static int add_point(struct builder *b)
{
	size_t at = b->out % GZIDX_WINDOW_BYTES, before = b->file.len;
	uint8_t window[GZIDX_WINDOW_BYTES], entry[GZIDX_ENTRY_BYTES];

	memcpy(window, b->ring + at, GZIDX_WINDOW_BYTES - at);
	memcpy(window + GZIDX_WINDOW_BYTES - at, b->ring, at);
	if (add_compressed(&b->file, window, sizeof(window)) < 0)
		return -ENOMEM;
	put_le64(entry + GZIDX_ENTRY_OUT, b->out);
	put_le64(entry + GZIDX_ENTRY_IN, in_position(b));
	put_le64(entry + GZIDX_ENTRY_WIN, before);
	entry[GZIDX_ENTRY_BITS] = (uint8_t)(b->z.data_type & UNUSED_BITS);
	put_le32(entry + GZIDX_ENTRY_WIN_BYTES, (uint32_t)(b->file.len - before));
	blob_add(&b->entries, entry, sizeof(entry));
	b->count++;
	b->last_out = b->out;
	return 0;
}

/* One call into zlib. Returns its code. */
static int pump(struct builder *b)
{
	size_t left = b->bytes - in_position(b);
	size_t at = b->out % GZIDX_WINDOW_BYTES;
	int r;

	b->z.avail_in = (uInt)(left < PIECE_BYTES ? left : PIECE_BYTES);
	b->z.next_out = b->ring + at;
	b->z.avail_out = (uInt)(GZIDX_WINDOW_BYTES - at);
	r = inflate(&b->z, Z_BLOCK);
	b->out += GZIDX_WINDOW_BYTES - at - b->z.avail_out;
	return r;
}

/* The end of a last block is no point: raw inflate could not start there. */
static bool wanted(const struct builder *b)
{
	if (!(b->z.data_type & BOUNDARY) || (b->z.data_type & LAST_BLOCK))
		return false;
	return b->count == 0 || b->out - b->last_out >= b->span_bytes;
}

static int scan(struct builder *b, struct err *e)
{
	for (;;) {
		uint64_t out = b->out, in = in_position(b);
		int r = pump(b);

		if (r == Z_STREAM_END) {
			in = in_position(b);
			if (bytes_zero(b->in + in, b->bytes - in))
				return 0;
			if (inflateReset(&b->z) != Z_OK)
				return err_set(e, -EBADMSG, "stream cannot go on");
			continue;
		}
		if (r != Z_OK && r != Z_BUF_ERROR)
			return err_set(e, -EBADMSG, "%s", b->z.msg ? b->z.msg : "corrupt stream");
		/* no block is shorter than a byte, so every call that can go on moves */
		if (b->out == out && in_position(b) == in)
			return err_set(e, -EBADMSG, "stream ends too early");
		if (!wanted(b))
			continue;
		if (b->count == GZIDX_MAX_POINTS)
			return err_set(e, -EOVERFLOW, "too many points");
		r = add_point(b);
		if (r < 0)
			return err_set(e, r, "out of memory");
	}
}

static void finish_header(const struct builder *b, uint64_t index_start, uint8_t *h)
{
	memset(h, 0, GZIDX_HEADER_BYTES);
	memcpy(h, GZIDX_MAGIC, sizeof(GZIDX_MAGIC));
	h[GZIDX_MAJOR] = 1;
	h[GZIDX_ALGO] = GZIDX_ALGO_ZLIB;
	h[GZIDX_LEVEL] = WINDOW_LEVEL;
	put_le32(h + GZIDX_SPAN, b->span_bytes);
	put_le32(h + GZIDX_WINDOW, GZIDX_WINDOW_BYTES);
	put_le32(h + GZIDX_ENTRY_SIZE, GZIDX_ENTRY_BYTES);
	put_le64(h + GZIDX_COUNT, b->count);
	put_le64(h + GZIDX_GZIP_BYTES, b->bytes);
	put_le64(h + GZIDX_FILE_BYTES, b->file.len);
	put_le64(h + GZIDX_PLAIN_BYTES, b->out);
	put_le64(h + GZIDX_INDEX_START, index_start);
	put_le64(h + GZIDX_AREA_BYTES, b->file.len - index_start);
	put_le32(h + GZIDX_CRC, crc32c_raw(0, h, GZIDX_CRC));
}

static int build(struct builder *b, struct err *e)
{
	uint8_t header[GZIDX_HEADER_BYTES] = {0};
	uint64_t index_start;
	int r;

	blob_add(&b->file, header, sizeof(header));
	r = scan(b, e);
	if (r < 0)
		return r;
	index_start = b->file.len;
	if (add_compressed(&b->file, b->entries.p, b->entries.len) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	finish_header(b, index_start, b->file.p);
	return 0;
}

int gzidx_build(const void *gzip, size_t bytes, uint32_t span_bytes, uint8_t **ret_file,
		size_t *ret_bytes, struct err *e)
{
	struct builder *b;
	int r;

	if (span_bytes < SPAN_MIN_BYTES)
		return err_set(e, -EINVAL, "gzip index: checkpoints closer than %u bytes",
			       SPAN_MIN_BYTES);
	b = xmalloc_zero(1, sizeof(*b));
	b->in = gzip;
	b->bytes = bytes;
	b->span_bytes = span_bytes;
	b->z.next_in = (Bytef *)gzip;
	if (inflateInit2(&b->z, GZIP_WINDOW_BITS) != Z_OK)
		abort();
	r = build(b, e);
	(void)inflateEnd(&b->z); /* fails only for a bad stream pointer */
	if (r < 0) {
		free(b->file.p);
		r = err_wrap(e, r, "gzip index");
	} else {
		*ret_file = b->file.p;
		*ret_bytes = b->file.len;
	}
	free(b->entries.p);
	free(b);
	return r;
}
