/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zfile.c - ZFile header, trailer, jump table and blocks
 *
 * Old blobs hold uninitialised memory in reserved bytes, in flag bits above 4, and in the digest
 * and index CRC unless flag bit 4 is set; a header that is not final has no index fields either.
 */
#include "zfile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "text.h"

static const uint8_t MAGIC[24] = {
    'Z', 'F', 'i', 'l', 'e', 0,	  1,   0,   't', 'u', 'j', 'i',
    '.', 'y', 'y', 'f', '@', 'A', 'l', 'i', 'b', 'a', 'b', 'a',
};

enum {
	FIELD_SIZE = 24,
	FIELD_DIGEST = 28,
	FIELD_FLAGS = 32,
	FIELD_INDEX_OFFSET = 40,
	FIELD_INDEX_COUNT = 48,
	FIELD_ORIGINAL = 56,
	FIELD_INDEX_CRC = 64,
	FIELD_BLOCK_BYTES = 72,
	FIELD_ALGO = 76,
	FIELD_DICT_BYTES = 84,
	FIELD_VERIFY = 88,
};

#define STRUCT_BYTES	 96u
#define FLAG_HEADER	 0x01u
#define FLAG_DATA	 0x02u
#define FLAG_SEALED	 0x04u
#define FLAG_OVERWRITTEN 0x08u
#define FLAG_DIGEST	 0x10u
#define FLAG_KNOWN	 0x1Fu

#define ENTRY_BYTES 4u
#define CRC_BYTES   4u

/* Offsets are kept as one 64-bit base per group and a 32-bit distance per block: 64 * 64 KiB. */
#define GROUP_BLOCKS 64u

struct zfile_table {
	uint64_t count;
	uint64_t *base;
	uint32_t *delta; /* count + 1 of them: the last is where the index starts */
};

static uint64_t flags_of(const uint8_t *p)
{
	return get_le64(p + FIELD_FLAGS) & FLAG_KNOWN;
}

static uint32_t digest_of_head(const uint8_t *p)
{
	static const uint8_t zero[4];
	uint32_t crc = crc32c_raw(0, p, FIELD_DIGEST);

	crc = crc32c_raw(crc, zero, sizeof(zero));
	return crc32c_raw(crc, p + FIELD_FLAGS, ZFILE_HEADER_BYTES - FIELD_FLAGS);
}

bool zfile_detect(const void *p, size_t bytes)
{
	const uint8_t *b = p;

	return bytes >= ZFILE_HEADER_BYTES && memcmp(b, MAGIC, sizeof(MAGIC)) == 0 &&
	       (flags_of(b) & FLAG_HEADER);
}

static void decode(const uint8_t *p, struct zfile_info *i)
{
	uint64_t flags = flags_of(p);

	*i = (struct zfile_info){
	    .index_offset = get_le64(p + FIELD_INDEX_OFFSET),
	    .block_count = get_le64(p + FIELD_INDEX_COUNT),
	    .original_bytes = get_le64(p + FIELD_ORIGINAL),
	    .index_crc = get_le32(p + FIELD_INDEX_CRC),
	    .block_bytes = get_le32(p + FIELD_BLOCK_BYTES),
	    .dict_bytes = get_le32(p + FIELD_DICT_BYTES),
	    .codec = (enum codec_id)p[FIELD_ALGO],
	    .verify = p[FIELD_VERIFY] != 0,
	    .has_crc = flags & FLAG_DIGEST,
	    .final = (flags & FLAG_HEADER) && (flags & FLAG_OVERWRITTEN),
	};
}

/* Everything a reader relies on; @limit is where the index must have ended. */
static int check(const struct zfile_info *i, uint64_t limit, const char *what, struct err *e)
{
	uint64_t blocks;

	if (i->block_bytes < ZFILE_BLOCK_BYTES_MIN || i->block_bytes > ZFILE_BLOCK_BYTES_MAX ||
	    (i->block_bytes & (i->block_bytes - 1)))
		return err_set(e, -EBADMSG, "zfile %s: bad block size %" PRIu32, what,
			       i->block_bytes);
	if (i->codec != CODEC_LZ4 && i->codec != CODEC_ZSTD)
		return err_set(e, -EOPNOTSUPP, "zfile %s: unknown compression %d", what,
			       (int)i->codec);
	if (i->dict_bytes != 0)
		return err_set(e, -EOPNOTSUPP, "zfile %s: dictionaries are not supported", what);
	if (i->block_count > ZFILE_MAX_BLOCKS)
		return err_set(e, -EBADMSG, "zfile %s: %" PRIu64 " blocks are too many", what,
			       i->block_count);
	blocks = i->original_bytes / i->block_bytes + (i->original_bytes % i->block_bytes != 0);
	if (i->block_count != blocks)
		return err_set(e, -EBADMSG,
			       "zfile %s: %" PRIu64 " blocks do not make %" PRIu64 " bytes", what,
			       i->block_count, i->original_bytes);
	if (i->index_offset < ZFILE_HEADER_BYTES || !range_inside(zfile_index_range(i), limit))
		return err_set(e, -EBADMSG, "zfile %s: index lies outside the file", what);
	return 0;
}

int zfile_parse_header(const void *p512, uint64_t file_bytes, struct zfile_info *ret, struct err *e)
{
	const uint8_t *p = p512;
	struct zfile_info i;
	int r;

	if (!zfile_detect(p, ZFILE_HEADER_BYTES))
		return err_set(e, -EBADMSG, "zfile: not a header");
	if ((flags_of(p) & FLAG_DIGEST) && digest_of_head(p) != get_le32(p + FIELD_DIGEST))
		return err_set(e, -EBADMSG, "zfile header: digest does not match");
	decode(p, &i);
	if (!i.final) {
		if (!(flags_of(p) & FLAG_DATA))
			return err_set(e, -EBADMSG, "zfile header: not a data file");
		/* may be garbage, and nobody may use them */
		i.index_offset = i.block_count = i.original_bytes = 0;
		i.index_crc = 0;
		*ret = i;
		return 0;
	}
	r = check(&i, file_bytes, "header", e);
	if (r < 0)
		return r;
	*ret = i;
	return 0;
}

int zfile_parse_trailer(const void *p512, uint64_t file_bytes, struct zfile_info *ret,
			struct err *e)
{
	const uint8_t *p = p512;
	uint64_t flags = flags_of(p);
	struct zfile_info i;
	int r;

	if (file_bytes < 2 * ZFILE_HEADER_BYTES)
		return err_set(e, -EBADMSG, "zfile: too short for a trailer");
	if (memcmp(p, MAGIC, sizeof(MAGIC)) != 0 || (flags & FLAG_HEADER) || !(flags & FLAG_DATA) ||
	    !(flags & FLAG_SEALED))
		return err_set(e, -EBADMSG, "zfile: no trailer at the end of the file");
	/* No digest check: overlaybd's reader has none, and blobs with a wrong one are accepted. */
	decode(p, &i);
	r = check(&i, file_bytes - ZFILE_HEADER_BYTES, "trailer", e);
	if (r < 0)
		return r;
	*ret = i;
	return 0;
}

struct range zfile_index_range(const struct zfile_info *i)
{
	return range_of(i->index_offset, i->block_count * ENTRY_BYTES);
}

int zfile_table_new(const struct zfile_info *i, const void *table, struct zfile_table **ret,
		    struct err *e)
{
	const uint8_t *p = table;
	uint64_t pos = ZFILE_HEADER_BYTES + (uint64_t)i->dict_bytes;
	uint32_t least = i->verify ? CRC_BYTES : 0;
	struct zfile_table *t;

	if (i->has_crc && crc32c_raw(0, p, i->block_count * ENTRY_BYTES) != i->index_crc)
		return err_set(e, -EBADMSG, "zfile table: checksum does not match");
	t = xmalloc_zero(1, sizeof(*t));
	t->count = i->block_count;
	t->base = xmalloc_zero(i->block_count / GROUP_BLOCKS + 1, sizeof(*t->base));
	t->delta = xmalloc_zero(i->block_count + 1, sizeof(*t->delta));
	for (uint64_t n = 0;; n++) {
		uint32_t len;

		if (n % GROUP_BLOCKS == 0)
			t->base[n / GROUP_BLOCKS] = pos;
		t->delta[n] = (uint32_t)(pos - t->base[n / GROUP_BLOCKS]);
		if (n == i->block_count)
			break;
		len = get_le32(p + n * ENTRY_BYTES);
		if (len <= least || len > ZFILE_STORED_BYTES_MAX) {
			zfile_table_free(t);
			return err_set(e, -EBADMSG,
				       "zfile table: block %" PRIu64 " of %" PRIu32 " stored bytes",
				       n, len);
		}
		pos += len;
	}
	if (pos != i->index_offset) {
		zfile_table_free(t);
		return err_set(e, -EBADMSG,
			       "zfile table: blocks end at %" PRIu64 ", index starts at %" PRIu64,
			       pos, i->index_offset);
	}
	*ret = t;
	return 0;
}

void zfile_table_free(struct zfile_table *t)
{
	if (!t)
		return;
	free(t->base);
	free(t->delta);
	free(t);
}

static uint64_t block_offset(const struct zfile_table *t, uint64_t n)
{
	return t->base[n / GROUP_BLOCKS] + t->delta[n];
}

struct range zfile_blocks(const struct zfile_table *t, uint64_t first, uint64_t count)
{
	uint64_t off = block_offset(t, first);

	return range_of(off, block_offset(t, first + count) - off);
}

uint32_t zfile_block_plain_bytes(const struct zfile_info *i, uint64_t n)
{
	return (uint32_t)min_u64(i->block_bytes, i->original_bytes - n * i->block_bytes);
}

int zfile_block_decode(const struct zfile_info *i, uint64_t n, struct codec *c, const void *stored,
		       size_t stored_bytes, void *dst)
{
	uint32_t plain = zfile_block_plain_bytes(i, n);
	const uint8_t *p = stored;

	if (i->verify) {
		if (stored_bytes <= CRC_BYTES)
			return -EBADMSG;
		stored_bytes -= CRC_BYTES;
		if (crc32c_raw(ZFILE_CRC_SEED, p, stored_bytes) != get_le32(p + stored_bytes))
			return -EBADMSG;
	}
	return codec_decode(c, i->codec, p, stored_bytes, dst, plain) == (long)plain ? 0 : -EBADMSG;
}

long zfile_block_encode(enum codec_id id, int level, struct codec *c, const void *plain,
			size_t plain_bytes, void *dst, size_t dst_bytes)
{
	uint8_t *p = dst;
	long n;

	if (dst_bytes < CRC_BYTES)
		return -ENOSPC;
	n = codec_encode(c, id, level, plain, plain_bytes, p, dst_bytes - CRC_BYTES);
	if (n < 0)
		return n;
	if (n + (long)CRC_BYTES > (long)ZFILE_STORED_BYTES_MAX)
		return -EOVERFLOW;
	put_le32(p + n, crc32c_raw(ZFILE_CRC_SEED, p, (size_t)n));
	return n + (long)CRC_BYTES;
}

void zfile_encode_head(const struct zfile_info *i, enum zfile_head kind,
		       uint8_t out[static ZFILE_HEADER_BYTES])
{
	uint64_t flags = FLAG_DATA | FLAG_DIGEST;

	memset(out, 0, ZFILE_HEADER_BYTES);
	switch (kind) {
	case ZFILE_HEAD_FIRST:
		flags |= FLAG_HEADER;
		break;
	case ZFILE_HEAD_FINAL:
		flags |= FLAG_HEADER | FLAG_OVERWRITTEN;
		break;
	case ZFILE_TRAILER:
		flags |= FLAG_SEALED;
		break;
	}
	memcpy(out, MAGIC, sizeof(MAGIC));
	put_le32(out + FIELD_SIZE, STRUCT_BYTES);
	put_le64(out + FIELD_FLAGS, flags);
	if (kind != ZFILE_HEAD_FIRST) {
		put_le64(out + FIELD_INDEX_OFFSET, i->index_offset);
		put_le64(out + FIELD_INDEX_COUNT, i->block_count);
		put_le64(out + FIELD_ORIGINAL, i->original_bytes);
		put_le32(out + FIELD_INDEX_CRC, i->index_crc);
	}
	put_le32(out + FIELD_BLOCK_BYTES, i->block_bytes);
	out[FIELD_ALGO] = (uint8_t)i->codec;
	put_le32(out + FIELD_DICT_BYTES, i->dict_bytes);
	out[FIELD_VERIFY] = i->verify;
	put_le32(out + FIELD_DIGEST, digest_of_head(out));
}

uint32_t zfile_table_crc(uint32_t crc, const void *p, size_t bytes)
{
	return crc32c_raw(crc, p, bytes);
}
