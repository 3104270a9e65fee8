/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.h - stored ranges brought to the node before anybody asks for them, in a given order
 *
 * One replay belongs to one image. Ranges are appended; a task on the loop starts flights for what
 * is neither cached nor on its way, at prefetch priority, as long as its window has room:
 *
 *	window = twice what fits into the line (highest delivery rate x shortest answer), half of it
 *	         while a read waits for bytes that no replay was bringing; at first, while little is
 *	         known of the line, what has been delivered and REPLAY_WINDOW_FIRST
 *
 * so that the line is kept full and a demand read never stands behind more than that. Demand joins
 * its flights and raises them. Nothing is decoded. It ends when the ranges do, when the budget is
 * used up, when it is stopped, or when demand has got to most ranges first (it fell behind). A
 * fetch that fails is counted and left to demand.
 *
 *	RUNNING -> DRAINING (nothing more is started) -> IDLE (nothing in flight; add: RUNNING)
 *
 * Loop thread only.
 */
#ifndef HS_PATH_REPLAY_H
#define HS_PATH_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "flight.h"
#include "list.h"
#include "loop.h"
#include "range.h"

struct blob;
struct image;
struct path;

#define REPLAY_FLIGHTS	     256u
#define REPLAY_WINDOW_MIN    (512u << 10)
#define REPLAY_WINDOW_FIRST  (2u << 20) /* before anything is known of the line */
#define REPLAY_WINDOW_MAX    (32u << 20)
#define REPLAY_LANES	     8		  /* what is left is cut into so many pieces at least ... */
#define REPLAY_PIECE_MIN     (128u << 10) /* ... unless they were smaller than this */
#define REPLAY_PIECE_MAX     (512u << 10)
#define REPLAY_RATES	     16 /* delivery rates that are remembered */
#define REPLAY_BEHIND_RANGES 64 /* of so many ranges in a row ... */
#define REPLAY_BEHIND_LATE   48 /* ... so many had been asked for already: it is of no use */

/* Stored bytes of a remote blob: wanted, or brought. */
struct replay_item {
	struct blob *blob;
	struct range range;
};

enum replay_end {
	REPLAY_RUNNING,
	REPLAY_COMPLETE,
	REPLAY_OVER_BUDGET,
	REPLAY_STOPPED,
	REPLAY_BEHIND,
};

/* One flight of a replay. */
struct replay_flight {
	struct flight *flight; /* held; NULL: free */
	struct flight_waiter wait;
	uint64_t start_ns;
	uint64_t delivered_before; /* bytes, at its start: for the delivery rate */
};

struct replay {
	struct path *path;
	struct task task;
	struct replay_item *items;
	size_t count;
	size_t next;	     /* first item that is not finished ... */
	struct range rest;   /* ... and what is left of it */
	size_t landed;	     /* items before this one are here; see replay_landed() */
	uint64_t left_bytes; /* of all items from there on */
	bool late;	     /* part of that item had been asked for already */
	enum replay_end end;
	struct replay_flight flights[REPLAY_FLIGHTS];
	unsigned int in_flight;
	uint64_t in_flight_bytes;
	uint64_t budget_bytes; /* 0: none */

	/* the line, as measured */
	uint64_t delivered_bytes;
	double rates[REPLAY_RATES]; /* bytes per ns */
	unsigned int rate_at;
	uint64_t shortest_ns; /* of an answer; 0: none yet */

	uint64_t recent_late; /* one bit a range, the latest at bit 0 */

	struct replay_item *brought; /* ranges of flights that landed */
	size_t brought_count;

	/* counters */
	uint64_t planned_bytes; /* of all items */
	uint64_t fetched_bytes; /* landed; whole cache units */
	uint64_t failed_fetches;
	uint64_t late_ranges;
	uint64_t start_ns, end_ns; /* first start, last landing */
};

struct replay *replay_new(struct path *p);
/* replay_idle - nothing of it is in flight; then replay_free() may be called */
bool replay_idle(const struct replay *r);
void replay_free(struct replay *r); /* NULL is fine */

/* replay_add - more ranges, behind those that are there; those of local blobs are left out */
void replay_add(struct replay *r, const struct replay_item *items, size_t count);

/* replay_drop_rest - forget what has not been begun: something better is about to be added */
void replay_drop_rest(struct replay *r);

/* replay_stop - start nothing more; what is in flight may land */
void replay_stop(struct replay *r);

/* replay_landed - the first so many items are here completely */
size_t replay_landed(struct replay *r);

/*
 * replay_used_bytes - of what it brought, bytes in blocks of @i that somebody asked for
 * replay_planned_used_bytes - the same of all its items
 */
uint64_t replay_used_bytes(const struct replay *r, const struct image *i);
uint64_t replay_planned_used_bytes(const struct replay *r, const struct image *i);

#endif
