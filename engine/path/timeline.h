/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timeline.h - when what was fetched and who waited how long, for people who ask why a start was
 * slow
 *
 * A fixed number of entries from the start on; what comes later is counted. Adding is a few stores.
 * Belongs to the loop thread, but for entries of the opening, which are added before it serves.
 */
#ifndef HS_PATH_TIMELINE_H
#define HS_PATH_TIMELINE_H

#include <stddef.h>
#include <stdint.h>

enum timeline_kind {
	TIMELINE_DEMAND,   /* a fetch somebody waited for */
	TIMELINE_PREFETCH, /* a fetch nobody waited for */
	TIMELINE_STALL,	   /* a read that waited; off and bytes are of the device */
};

struct timeline_entry {
	uint64_t start_ns, end_ns; /* clock_now_ns() */
	uint64_t off, bytes;	   /* stored; 0 bytes: failed */
	enum timeline_kind kind;
};

struct timeline {
	size_t count, room;
	uint64_t dropped;
	struct timeline_entry entry[];
};

struct timeline *timeline_new(size_t room);
void timeline_free(struct timeline *t); /* NULL is fine */

/* timeline_add - @t NULL: nobody wants to know */
void timeline_add(struct timeline *t, enum timeline_kind kind, uint64_t start_ns, uint64_t end_ns,
		  uint64_t off, uint64_t bytes);

#endif
