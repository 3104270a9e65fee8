/* SPDX-License-Identifier: Apache-2.0 */
/* usage.c - see usage.h */
#include "usage.h"

#include <stdlib.h>

#include "stream.h"
#include "text.h"

#define RAW_BLOCK_BYTES 65536u

struct usage {
	uint64_t blocks;
	uint64_t bits[];
};

static uint64_t block_count(const struct stream *s)
{
	switch (s->kind) {
	case STREAM_ZFILE:
		return s->zinfo.block_count;
	case STREAM_GZIP:
		return s->gzidx->count;
	case STREAM_RAW:
		break;
	}
	return s->bytes / RAW_BLOCK_BYTES + 1;
}

/* Stored bytes of block @n, in the blob. */
static struct range block_stored(const struct stream *s, uint64_t n)
{
	struct range r;

	switch (s->kind) {
	case STREAM_ZFILE:
		r = zfile_blocks(s->table, n, 1);
		break;
	case STREAM_GZIP:
		r = gzidx_span_stored(s->gzidx, n);
		break;
	case STREAM_RAW:
	default:
		r = range_clip(range_of(n * RAW_BLOCK_BYTES, RAW_BLOCK_BYTES),
			       range_of(0, s->bytes));
		break;
	}
	r.off += s->base;
	return r;
}

struct usage *usage_new(const struct stream *s)
{
	uint64_t blocks = block_count(s);
	struct usage *u = xmalloc_zero(1, sizeof(*u) + (blocks / 64 + 1) * sizeof(uint64_t));

	u->blocks = blocks;
	return u;
}

void usage_free(struct usage *u)
{
	free(u);
}

void usage_mark(struct usage *u, const struct stream *s, const struct stream_plan *plan)
{
	uint64_t first = plan->first, count = plan->count;

	if (!u)
		return;
	if (s->kind == STREAM_RAW) {
		first = (plan->stored.off - s->base) / RAW_BLOCK_BYTES;
		count = (range_end(plan->stored) - 1 - s->base) / RAW_BLOCK_BYTES - first + 1;
	}
	for (uint64_t n = first; n < first + count && n < u->blocks; n++)
		u->bits[n / 64] |= 1ull << (n % 64);
}

uint64_t usage_bytes(const struct usage *u, const struct stream *s, struct range stored)
{
	uint64_t low = 0, high = u ? u->blocks : 0, sum = 0;

	/* first block that ends behind the range's start */
	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (range_end(block_stored(s, mid)) <= stored.off)
			low = mid + 1;
		else
			high = mid;
	}
	for (uint64_t n = low; u && n < u->blocks; n++) {
		struct range b = block_stored(s, n);

		if (b.off >= range_end(stored))
			break;
		if (u->bits[n / 64] & 1ull << (n % 64))
			sum += range_overlaps(b, stored) ? range_clip(b, stored).len : 0;
	}
	return sum;
}
