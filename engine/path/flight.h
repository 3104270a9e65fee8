/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight.h - one range of a blob on its way from the network into memory and the cache
 *
 *	PARKED -> FETCHING -> LANDED -> gone
 *	   \          \-----> FAILED -> gone
 *
 * PARKED waits for a buffer. While LANDED the bytes are read from @buf and, behind that, written to
 * the cache. A flight goes when nobody uses it and no write is in progress. At most one live
 * flight (not FAILED, not stale) covers any byte of a blob: whoever needs that byte joins.
 * Loop thread only.
 */
#ifndef HS_PATH_FLIGHT_H
#define HS_PATH_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "bufpool.h"
#include "cache.h"
#include "list.h"
#include "loop.h"
#include "range.h"
#include "source.h"

struct blob;
struct path;

enum flight_state { FLIGHT_PARKED, FLIGHT_FETCHING, FLIGHT_LANDED, FLIGHT_FAILED };

struct flight {
	struct path *path;
	struct blob *blob;
	struct range range;
	enum flight_state state;
	uint64_t born_ns; /* the time limit includes waiting for a buffer */
	int res;	  /* FAILED: why */
	bool stale;	  /* LANDED, but its bytes proved corrupt: joins nobody, leaves no trace */
	bool in_source;	  /* @fetch has not been given back */
	bool demanded;	  /* somebody waited for it */
	bool counted;	  /* in path->demand_flights: begun for somebody */
	bool around;	  /* started because of what precedes it */
	unsigned int users; /* pieces that hold it */
	void *buf;
	struct fetch fetch;
	struct mail landed; /* from the source's thread */
	struct cache_store store;
	struct task task;
	struct bufpool_waiter buf_wait;
	struct list waiters; /* struct flight_waiter */
	struct list link;    /* blob->flights */
};

/* One task waiting for a flight to land or fail. */
struct flight_waiter {
	struct list link; /* list_init() when not waiting */
	struct task *task;
};

/*
 * flight_want - have all of @want present, landed or on its way
 * Starts flights for what is neither, widened to the path's fetch_min_bytes where nothing is there
 * yet, split at fetch_max_bytes; raises the priority of those that are already under way.
 * @want: inside the (remote) blob
 */
void flight_want(struct path *p, struct blob *b, struct range want, enum prio prio);

/*
 * flight_start_next - start one flight, for the first part of @rest that is neither present nor on
 * its way, at most @max_bytes and fetch_max_bytes, not widened
 * @rest: becomes what is behind that part
 * Returns NULL when nothing of @rest is missing; it is empty then.
 */
struct flight *flight_start_next(struct path *p, struct blob *b, struct range *rest,
				 uint64_t max_bytes, enum prio prio);

/* flight_demanded - whether somebody has asked for a live flight that meets @r */
bool flight_demanded(const struct blob *b, struct range r);

/* flight_find - the live flight that covers blob byte @off, or NULL */
struct flight *flight_find(const struct blob *b, uint64_t off);

/* flight_next - first live flight that meets @r at or behind r.off, or NULL */
struct flight *flight_next(const struct blob *b, struct range r);

void flight_hold(struct flight *f);
void flight_drop(struct flight *f); /* @f may be gone afterwards */

void flight_wait(struct flight *f, struct flight_waiter *w);
void flight_forget(struct flight_waiter *w);

/* flight_spoil - bytes @bad of the blob proved corrupt: forget them in flights and cache */
void flight_spoil(struct blob *b, struct range bad);

/* flight_cancel_all - end every flight of @b soon */
void flight_cancel_all(struct blob *b);

#endif
