/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h - what all reads of one engine share: loop, workers, buffers, limits, counters
 *
 * Belongs to the loop thread, counters included.
 */
#ifndef HS_PATH_PATH_H
#define HS_PATH_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "bufpool.h"
#include "hist.h"
#include "log.h"
#include "loop.h"
#include "workers.h"

struct err;
struct piece;
struct timeline;

struct path_options {
	uint64_t memory_bytes;	    /* buffers; default 128 MiB */
	unsigned int workers;	    /* decoding threads, >= 1 */
	unsigned int pieces;	    /* parts of requests under way at once; default 2048 */
	uint64_t read_timeout_ns;   /* of one fetch with its retries */
	uint32_t fetch_min_bytes;   /* a miss fetches at least this much of its neighbourhood */
	uint32_t fetch_max_bytes;   /* larger needs are split over connections */
	uint32_t fetch_gap_bytes;   /* two needs closer than this become one fetch */
	uint32_t read_around_bytes; /* behind a miss this much is fetched as well; 0: nothing */
};

struct path_stats {
	uint64_t reads, read_bytes, read_errors;
	uint64_t cache_hit_bytes;
	uint64_t joined_fetches;
	uint64_t bad_blocks;
	uint64_t stalled_ns;
	uint64_t asked_bytes;	    /* decompressed, of demand reads; holes not counted */
	uint64_t asked_local_bytes; /* of these, bytes that were here when asked for */
	uint64_t fetched_bytes, fetches, fetch_errors;
	struct hist latency;
};

struct path {
	struct loop *loop;
	struct workers *workers;
	struct path_options opt;
	struct bufpool *stage_bufs;  /* compressed bytes on their way to a decoder, decoded spans */
	struct bufpool *flight_bufs; /* bytes on their way from the network */
	struct bufpool *reply_bufs;  /* what front-ends answer from */
	struct piece *free_pieces;   /* pool, chained */
	struct piece *all_pieces;
	struct list piece_waiters; /* requests waiting for one */
	struct list spans;	   /* decoded gzip spans, most recent first: see span.h */
	uint64_t span_bytes;
	uint64_t flight_seq;
	unsigned int busy_requests;
	unsigned int busy_flights;
	unsigned int around_flights; /* begun because of what precedes them */
	unsigned int demand_flights; /* on their way, begun for somebody who waits */
	struct timeline *timeline;   /* or NULL; set before anything is read */
	bool stopping;		     /* everything that waits fails with -ECANCELED */
	void *inline_ctx;	     /* decoder contexts of the loop thread */
	struct path_stats stats;
	struct log_rate bad_log, fail_log, again_log;
};

/* path_options_default - what a node on an ordinary network wants */
void path_options_default(struct path_options *o);

/*
 * path_new - @loop must outlive it; workers are started here
 */
int path_new(struct loop *loop, const struct path_options *o, struct path **ret, struct err *e);

/*
 * path_stop - no request is started any more, everything in flight is cancelled; loop thread
 * path_idle - whether nothing of it is left on the loop; then path_free() may be called
 */
void path_stop(struct path *p);
bool path_idle(const struct path *p);
void path_free(struct path *p); /* NULL is fine */

#endif
