/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzidx.h - gzip.meta, the checkpoints of one gzip file (overlaybd-format 7.3)
 *
 * The index is parsed once; windows are kept as stored (zlib or raw) and unpacked per use.
 */
#ifndef HS_FORMAT_GZIDX_H
#define HS_FORMAT_GZIDX_H

#include <stddef.h>
#include <stdint.h>

#include "range.h"

struct err;

struct gzidx_point {
	uint64_t out_off; /* uncompressed position */
	uint64_t in_off;  /* first whole compressed byte behind the point */
	uint64_t win_off; /* of the stored window in the index file */
	uint32_t win_bytes;
	uint8_t bits; /* 0..7 unused bits in the byte at in_off - 1 */
};

struct gzidx {
	uint64_t gzip_bytes;  /* of the target */
	uint64_t plain_bytes; /* of the target, uncompressed */
	uint32_t window_bytes;
	uint8_t window_algo;	   /* 0 raw, 1 zlib */
	size_t count;		   /* > 0 */
	struct gzidx_point *point; /* ascending in out_off and in_off; first has out_off 0 */
	uint8_t *file;		   /* the index file's bytes, owned: windows are read from it */
	size_t file_bytes;
};

/*
 * gzidx_parse - check and take in a whole gzip.meta
 * @target_bytes: size of the gzip file it must belong to
 * @ret: gzidx_free() by the caller
 */
int gzidx_parse(const void *file, size_t bytes, uint64_t target_bytes, struct gzidx **ret,
		struct err *e);
void gzidx_free(struct gzidx *g); /* NULL is fine */

/* gzidx_find - the last point at or before uncompressed position @out_off (< plain_bytes) */
size_t gzidx_find(const struct gzidx *g, uint64_t out_off);

/* gzidx_span_plain / _stored - output range of span @n; input range, prime byte included */
struct range gzidx_span_plain(const struct gzidx *g, size_t n);
struct range gzidx_span_stored(const struct gzidx *g, size_t n);

/*
 * gzidx_window - unpack the window of point @n
 * @out: at least window_bytes. Returns its length, 0 for the first point, -EBADMSG.
 */
long gzidx_window(const struct gzidx *g, size_t n, void *out, size_t out_bytes);

/*
 * gzidx_build - make the index of a whole gzip file in memory (zlib Z_BLOCK, every member)
 * @span_bytes: distance of checkpoints in output bytes, >= 65536
 * @ret_file:   a gzip.meta; caller frees
 */
int gzidx_build(const void *gzip, size_t bytes, uint32_t span_bytes, uint8_t **ret_file,
		size_t *ret_bytes, struct err *e);

#endif
