/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blockfile.h - the framing that traces and prefetch lists share (trace/FORMAT.md)
 *
 * A file is 16 bytes of header (magic 8, version u32, CRC-32C of those 12 bytes u32) and then
 * blocks: type u32, payload bytes u32, payload, CRC-32C u32 over type, length and payload.
 * Little-endian. What was cut off or damaged ends the file at the last whole block; readers skip
 * types they do not know. Pure, but for blockfile_load() and blockfile_save().
 */
#ifndef HS_TRACE_BLOCKFILE_H
#define HS_TRACE_BLOCKFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define BLOCKFILE_MAGIC_BYTES 8
#define BLOCKFILE_HEAD_BYTES  16
#define BLOCKFILE_MAX_PAYLOAD (16u << 20)

/* Small distances of both signs as small numbers: 0, -1, 1, -2 ... are 0, 1, 2, 3 ... */
static inline uint64_t blockfile_zigzag(uint64_t v)
{
	return v << 1 ^ (v >> 63 ? UINT64_MAX : 0);
}

static inline uint64_t blockfile_unzigzag(uint64_t v)
{
	return v >> 1 ^ (v & 1 ? UINT64_MAX : 0);
}

/* Bytes being encoded; grows; zero-initialise. */
struct blockbuf {
	uint8_t *p;
	size_t len, cap;
	size_t open; /* start of the block being built */
};

void blockbuf_done(struct blockbuf *b);
void blockbuf_head(struct blockbuf *b, const char magic[static BLOCKFILE_MAGIC_BYTES],
		   uint32_t version);
/* blockbuf_begin .. put .. blockbuf_end: one block. Varints are LEB128, at most 10 bytes. */
void blockbuf_begin(struct blockbuf *b, uint32_t type);
void blockbuf_put(struct blockbuf *b, const void *p, size_t bytes);
void blockbuf_u8(struct blockbuf *b, uint8_t v);
void blockbuf_u32(struct blockbuf *b, uint32_t v);
void blockbuf_u64(struct blockbuf *b, uint64_t v);
void blockbuf_var(struct blockbuf *b, uint64_t v);
void blockbuf_zigzag(struct blockbuf *b, uint64_t v);  /* a distance, modulo 2^64 */
void blockbuf_text(struct blockbuf *b, const char *s); /* varint length, bytes; NULL like "" */
size_t blockbuf_payload(const struct blockbuf *b);     /* of the open block, so far */
void blockbuf_end(struct blockbuf *b);

/*
 * Blocks that are a number of items: items gather, and go out with their number in front when there
 * are @full bytes of them. Nothing is written for no items.
 */
struct blockitems {
	struct blockbuf *to;
	uint32_t type;
	size_t full;
	struct blockbuf items; /* items are put here */
	size_t count;
};

/* blockitems_next - an item is complete; true when the next one is the first of a block */
bool blockitems_next(struct blockitems *w);
void blockitems_done(struct blockitems *w); /* the last block goes out */

/* A payload being read. After a read past its end every further one gives 0 and @bad stays set. */
struct blockview {
	const uint8_t *p;
	size_t len, at;
	bool bad;
};

uint8_t blockview_u8(struct blockview *v);
uint32_t blockview_u32(struct blockview *v);
uint64_t blockview_u64(struct blockview *v);
uint64_t blockview_var(struct blockview *v);
uint64_t blockview_zigzag(struct blockview *v);
/* blockview_count - a number of items of at least @item_bytes each, so that it fits the rest */
size_t blockview_count(struct blockview *v, size_t item_bytes);
/* blockview_text - NUL-terminated copy, no NUL inside, at most @max bytes; caller frees; NULL: bad
 */
char *blockview_text(struct blockview *v, size_t max);
const uint8_t *blockview_bytes(struct blockview *v, size_t bytes); /* NULL: bad */

struct blockiter {
	const uint8_t *p;
	size_t len, at;
	bool truncated; /* bytes follow that are no whole good block */
};

/*
 * blockiter_start - check the header
 * Returns 0, -ENOENT another magic, -EOPNOTSUPP a version over @max_version, -EBADMSG.
 */
int blockiter_start(struct blockiter *it, const void *p, size_t bytes,
		    const char magic[static BLOCKFILE_MAGIC_BYTES], uint32_t max_version,
		    uint32_t *ret_version, struct err *e);
/* blockiter_next - false at the end; then @truncated tells whether it is the real one */
bool blockiter_next(struct blockiter *it, uint32_t *ret_type, struct blockview *ret);

/* blockfile_load - a file of at most @max_bytes; 0, -EFBIG, -errno; caller frees */
int blockfile_load(const char *path, size_t max_bytes, uint8_t **ret, size_t *ret_bytes,
		   struct err *e);
/* blockfile_save - write a file completely or not at all (rename) */
int blockfile_save(const char *path, const void *p, size_t bytes, struct err *e);

#endif
