/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - block compression: one independent buffer in, one out
 *
 * A struct codec holds the contexts that make calls cheap (a ZSTD_DCtx alone is 96 KB). It
 * belongs to one thread at a time. Encoding is deterministic: the same bytes, codec and
 * level give the same output on every run and machine with the same library version.
 */
#ifndef HS_CODEC_CODEC_H
#define HS_CODEC_CODEC_H

#include <stddef.h>

/* The numbers are ZFile's. */
enum codec_id { CODEC_LZ4 = 1, CODEC_ZSTD = 2 };

struct codec;

/* codec_new - contexts are allocated here, none later; aborts when memory is out */
struct codec *codec_new(void);
void codec_free(struct codec *c); /* NULL is fine */

/*
 * codec_decode - decode one whole compressed buffer
 *
 * Returns the decoded length (<= dst_bytes), -EBADMSG when @src is not a valid stream or
 * does not fit, -EOPNOTSUPP unknown codec. Bytes of @dst behind the result are undefined.
 */
long codec_decode(struct codec *c, enum codec_id id, const void *src, size_t src_bytes, void *dst,
		  size_t dst_bytes);

/* codec_bound - largest encoded size of @src_bytes */
size_t codec_bound(enum codec_id id, size_t src_bytes);

/*
 * codec_encode - encode one buffer
 * @level: zstd level; ignored for lz4
 *
 * Returns the encoded length, -ENOSPC when dst_bytes is too small.
 */
long codec_encode(struct codec *c, enum codec_id id, int level, const void *src, size_t src_bytes,
		  void *dst, size_t dst_bytes);

/* codec_parse / codec_name - "lz4", "zstd"; -EINVAL for anything else, "unknown" for a bad id */
int codec_parse(const char *name, enum codec_id *ret_id);
const char *codec_name(enum codec_id id);

#endif
