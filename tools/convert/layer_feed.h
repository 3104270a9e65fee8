/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer_feed.h - a source layer, fetched, verified and unpacked on a thread of its own
 *
 * The consumer gets the uncompressed stream in order through a bounded queue. The end of the stream
 * is only reported when the digest of the compressed blob, the checksums inside and the diff ID
 * were right; until then everything received is provisional.
 */
#ifndef HS_CONVERT_LAYER_FEED_H
#define HS_CONVERT_LAYER_FEED_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct layer_feed;
struct store;

/* Shared by all layers of a conversion; the feeds add, anybody reads. */
struct feed_totals {
	_Atomic uint64_t stored_bytes; /* compressed, taken from the source */
	_Atomic uint64_t plain_bytes;  /* uncompressed */
	uint64_t max_plain_bytes;      /* of all layers together: a bomb ends here */
};

struct layer_feed_options {
	struct store *store;
	const char *digest;  /* of the blob */
	uint64_t bytes;	     /* of the blob */
	const char *diff_id; /* of the uncompressed stream */
	size_t queue_bytes;
	struct feed_totals *totals;
};

/* layer_feed_start - @o's strings and store stay valid until layer_feed_free() */
int layer_feed_start(const struct layer_feed_options *o, struct layer_feed **ret, struct err *e);

/* layer_feed_next - a tar_input_fn; @arg is the feed; the piece is valid until the next call */
int layer_feed_next(void *arg, const void **ret_p, size_t *ret_bytes, struct err *e);

void layer_feed_cancel(struct layer_feed *f); /* makes the thread end soon; any thread */
void layer_feed_free(struct layer_feed *f);   /* cancels and waits; NULL is fine */

#endif
