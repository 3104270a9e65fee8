/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - the decompressed view of a blob: which stored bytes a plain range needs, and back
 *
 * Immutable after open, any thread. Planning and decoding are pure; no I/O happens here.
 */
#ifndef HS_PATH_STREAM_H
#define HS_PATH_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "gzidx.h"
#include "range.h"
#include "zfile.h"

struct blob;
struct usage;

/* Most plain bytes of one piece of a ZFile; keeps several CPUs busy on one large read. */
#define STREAM_PIECE_BYTES (256u << 10)
/*
 * Most stored bytes of such a piece, unless it is a single block. Honest blocks are hardly larger
 * stored than plain; a jump table may still say that each of many tiny ones takes 64 KiB.
 */
#define STREAM_STORED_BYTES (1u << 20)
/* Largest gzip span, stored or plain, that is served. */
#define STREAM_SPAN_MAX (16u << 20)

enum stream_kind {
	STREAM_RAW,   /* plain bytes are blob bytes */
	STREAM_ZFILE, /* independent blocks */
	STREAM_GZIP,  /* spans between checkpoints, decoded as a whole */
};

struct stream {
	struct blob *blob;
	enum stream_kind kind;
	uint64_t base;		   /* payload byte 0 in the blob, behind a tar envelope */
	uint64_t bytes;		   /* plain size */
	struct zfile_info zinfo;   /* ZFILE */
	struct zfile_table *table; /* ZFILE */
	struct gzidx *gzidx;	   /* GZIP */
	struct usage *usage;	   /* what was asked for; of the loop thread; NULL: not kept */
};

void stream_done(struct stream *s); /* frees table and index, not the blob; zeroed is fine */

/* What reading one plain range takes. */
struct stream_plan {
	struct range plain;  /* what decoding yields; starts at or before the wanted byte */
	struct range stored; /* in the blob; whole blocks or a whole span */
	uint64_t first;	     /* block or span number */
	uint64_t count;	     /* blocks; 1 for a span; 0 for raw */
};

/*
 * stream_plan - the first part of @want that one piece can serve
 * @want: inside the stream, length > 0
 * Returns how many bytes from want.off on the plan covers, >= 1.
 */
uint64_t stream_plan(const struct stream *s, struct range want, struct stream_plan *ret);

/* Contexts and scratch of one decoding thread. */
struct decoder;

void *decoder_new(void); /* struct decoder *; the signature workers_new() takes */
void decoder_free(void *d);

/*
 * stream_decode_blocks - verify and decode the part [want) of a planned ZFile range
 * @stored: plan->stored.len bytes
 * @want:   inside plan->plain
 * @ret_bad: on failure, the stored bytes (in the blob) of the first bad block
 * Returns 0 or -EBADMSG.
 */
int stream_decode_blocks(const struct stream *s, const struct stream_plan *plan, struct decoder *d,
			 const void *stored, struct range want, void *dst, struct range *ret_bad);

/* stream_decode_span - inflate a whole planned span into @dst (plan->plain.len); 0 or -EBADMSG */
int stream_decode_span(const struct stream *s, const struct stream_plan *plan, struct decoder *d,
		       const void *stored, void *dst);

#endif
