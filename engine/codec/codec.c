/* SPDX-License-Identifier: Apache-2.0 */
/* codec.c - lz4 blocks and single zstd frames through contexts that are kept */
#include "codec.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>
#include <zstd.h>

#include "text.h"

struct codec {
	ZSTD_DCtx *dctx;
	ZSTD_CCtx *cctx;
	void *lz4;
};

struct codec *codec_new(void)
{
	struct codec *c = xmalloc_zero(1, sizeof(*c));

	c->dctx = ZSTD_createDCtx();
	c->cctx = ZSTD_createCCtx();
	c->lz4 = xmalloc_zero(1, (size_t)LZ4_sizeofState());
	if (!c->dctx || !c->cctx)
		abort();
	return c;
}

void codec_free(struct codec *c)
{
	if (!c)
		return;
	ZSTD_freeDCtx(c->dctx);
	ZSTD_freeCCtx(c->cctx);
	free(c->lz4);
	free(c);
}

long codec_decode(struct codec *c, enum codec_id id, const void *src, size_t src_bytes, void *dst,
		  size_t dst_bytes)
{
	size_t n;
	int r;

	switch (id) {
	case CODEC_LZ4:
		if (src_bytes > INT_MAX)
			return -EBADMSG;
		if (dst_bytes > INT_MAX)
			dst_bytes = INT_MAX;
		r = LZ4_decompress_safe(src, dst, (int)src_bytes, (int)dst_bytes);
		return r < 0 ? -EBADMSG : r;
	case CODEC_ZSTD:
		n = ZSTD_decompressDCtx(c->dctx, dst, dst_bytes, src, src_bytes);
		return ZSTD_isError(n) ? -EBADMSG : (long)n;
	}
	return -EOPNOTSUPP;
}

size_t codec_bound(enum codec_id id, size_t src_bytes)
{
	switch (id) {
	case CODEC_LZ4:
		return src_bytes > LZ4_MAX_INPUT_SIZE ? SIZE_MAX
						      : (size_t)LZ4_compressBound((int)src_bytes);
	case CODEC_ZSTD:
		return ZSTD_compressBound(src_bytes);
	}
	return SIZE_MAX;
}

long codec_encode(struct codec *c, enum codec_id id, int level, const void *src, size_t src_bytes,
		  void *dst, size_t dst_bytes)
{
	size_t n;
	int r;

	switch (id) {
	case CODEC_LZ4:
		if (src_bytes > LZ4_MAX_INPUT_SIZE)
			return -ENOSPC;
		if (dst_bytes > INT_MAX)
			dst_bytes = INT_MAX;
		r = LZ4_compress_fast_extState(c->lz4, src, dst, (int)src_bytes, (int)dst_bytes, 1);
		return r <= 0 ? -ENOSPC : r;
	case CODEC_ZSTD:
		/* content size in the frame, no checksum, no dictionary: what every reader takes */
		n = ZSTD_compressCCtx(c->cctx, dst, dst_bytes, src, src_bytes, level);
		return ZSTD_isError(n) ? -ENOSPC : (long)n;
	}
	return -EOPNOTSUPP;
}

int codec_parse(const char *name, enum codec_id *ret_id)
{
	if (strcmp(name, "lz4") == 0)
		*ret_id = CODEC_LZ4;
	else if (strcmp(name, "zstd") == 0)
		*ret_id = CODEC_ZSTD;
	else
		return -EINVAL;
	return 0;
}

const char *codec_name(enum codec_id id)
{
	switch (id) {
	case CODEC_LZ4:
		return "lz4";
	case CODEC_ZSTD:
		return "zstd";
	}
	return "unknown";
}
