/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c - see stream.h */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "inflate.h"
#include "text.h"
#include "usage.h"

struct decoder {
	struct codec *codec;
	struct inflate *inflate;
	uint8_t block[ZFILE_BLOCK_BYTES_MAX];
	uint8_t window[INFLATE_WINDOW_BYTES];
};

void *decoder_new(void)
{
	struct decoder *d = xmalloc_zero(1, sizeof(*d));

	d->codec = codec_new();
	d->inflate = inflate_new();
	return d;
}

void decoder_free(void *ptr)
{
	struct decoder *d = ptr;

	if (!d)
		return;
	codec_free(d->codec);
	inflate_free(d->inflate);
	free(d);
}

void stream_done(struct stream *s)
{
	zfile_table_free(s->table);
	gzidx_free(s->gzidx);
	usage_free(s->usage);
	memset(s, 0, sizeof(*s));
}

static uint64_t plan_blocks(const struct stream *s, struct range want, struct stream_plan *ret)
{
	uint64_t size = s->zinfo.block_bytes;
	uint64_t first = want.off / size;
	uint64_t last = (range_end(want) - 1) / size;
	uint64_t most = max_u64(STREAM_PIECE_BYTES / size, 1);

	if (last - first >= most)
		last = first + most - 1;
	ret->first = first;
	ret->count = last - first + 1;
	ret->stored = zfile_blocks(s->table, first, ret->count);
	while (ret->stored.len > STREAM_STORED_BYTES && ret->count > 1) {
		ret->count /= 2;
		ret->stored = zfile_blocks(s->table, first, ret->count);
	}
	ret->stored.off += s->base;
	ret->plain.off = first * size;
	ret->plain.len = min_u64((first + ret->count) * size, s->bytes) - ret->plain.off;
	return min_u64(range_end(want), range_end(ret->plain)) - want.off;
}

uint64_t stream_plan(const struct stream *s, struct range want, struct stream_plan *ret)
{
	switch (s->kind) {
	case STREAM_ZFILE:
		return plan_blocks(s, want, ret);
	case STREAM_GZIP:
		ret->first = gzidx_find(s->gzidx, want.off);
		ret->count = 1;
		ret->plain = gzidx_span_plain(s->gzidx, ret->first);
		ret->stored = gzidx_span_stored(s->gzidx, ret->first);
		ret->stored.off += s->base;
		return min_u64(range_end(want), range_end(ret->plain)) - want.off;
	case STREAM_RAW:
		break;
	}
	want.len = min_u64(want.len, STREAM_PIECE_BYTES);
	ret->first = 0;
	ret->count = 0;
	ret->plain = want;
	ret->stored = range_of(s->base + want.off, want.len);
	return want.len;
}

int stream_decode_blocks(const struct stream *s, const struct stream_plan *plan, struct decoder *d,
			 const void *stored, struct range want, void *dst, struct range *ret_bad)
{
	const uint8_t *in = stored;
	uint8_t *out = dst;

	for (uint64_t n = plan->first; n < plan->first + plan->count; n++) {
		struct range from = zfile_blocks(s->table, n, 1);
		struct range block =
		    range_of(n * s->zinfo.block_bytes, zfile_block_plain_bytes(&s->zinfo, n));
		struct range part = range_clip(block, want);
		const uint8_t *bytes = in + (s->base + from.off - plan->stored.off);
		bool whole = part.len == block.len;
		int rc;

		if (!part.len)
			continue;
		rc = zfile_block_decode(&s->zinfo, n, d->codec, bytes, from.len,
					whole ? out + (part.off - want.off) : d->block);
		if (rc) {
			*ret_bad = range_of(s->base + from.off, from.len);
			return rc;
		}
		if (!whole)
			memcpy(out + (part.off - want.off), d->block + (part.off - block.off),
			       part.len);
	}
	return 0;
}

int stream_decode_span(const struct stream *s, const struct stream_plan *plan, struct decoder *d,
		       const void *stored, void *dst)
{
	const struct gzidx_point *p = &s->gzidx->point[plan->first];
	const uint8_t *in = stored;
	size_t prime = p->bits ? 1 : 0; /* gzidx_span_stored() begins with the shared byte */
	long window = gzidx_window(s->gzidx, plan->first, d->window, sizeof(d->window));

	if (window < 0 || plan->stored.len < prime)
		return -EBADMSG;
	return inflate_span(d->inflate, p->bits, prime ? in[0] : 0, d->window, (size_t)window,
			    in + prime, plan->stored.len - prime, dst, plan->plain.len);
}
