/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.h - blocking reads over many blobs while an image is being opened
 *
 * Control plane, one thread. What is missing is fetched for all blobs in one parallel round, kept
 * in memory until the open is over, and stored in the cache where that works. Rounds count the
 * dependent HTTP exchanges they took.
 */
#ifndef HS_PATH_READER_H
#define HS_PATH_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"
#include "range.h"

struct blob;
struct decoder;
struct err;
struct stream;

struct reader_want {
	struct blob *blob;
	struct range range; /* inside the blob */
};

struct reader_cost {
	unsigned int exchanges; /* dependent, summed over rounds */
	unsigned int rounds;	/* that fetched anything */
	uint64_t fetches;
	uint64_t bytes;
};

struct reader {
	uint64_t timeout_ns; /* of one fetch */
	bool no_fetch;	     /* what is not here is -ENOENT */
	struct decoder *decoder;
	struct list chunks;	    /* fetched bytes */
	struct reader_want *looked; /* remote bytes that were asked for, in few pieces */
	size_t looked_count, looked_cap;
	bool from_cache; /* some of that was not fetched by this reader */
	struct reader_cost cost;

	/* called once, when the fetches of the first round are on their way; the caller sets it */
	void (*begun)(void *arg);
	void *begun_arg;
};

void reader_init(struct reader *r, uint64_t timeout_ns, bool no_fetch);
void reader_done(struct reader *r);

/*
 * reader_fetch - have all of @wants here, in one round; local blobs are skipped
 * Returns 0 or the first failure: -EIO, -ETIMEDOUT, -EACCES, -ENOENT, -EPROTO.
 */
int reader_fetch(struct reader *r, const struct reader_want *wants, size_t count, struct err *e);

/* reader_stored - bytes of a blob; fetches what a round did not bring */
int reader_stored(struct reader *r, struct blob *b, struct range range, void *buf, struct err *e);

/* reader_plain - decompressed bytes of a stream */
int reader_plain(struct reader *r, struct stream *s, struct range range, void *buf, struct err *e);

/*
 * reader_forget - what this reader has read proved corrupt: drop it here and in the cache
 * @wants: what else is to be fetched again
 * Other bytes of the blobs stay: images that are fine may share them.
 */
void reader_forget(struct reader *r, const struct reader_want *wants, size_t count);

#endif
