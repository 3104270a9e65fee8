/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h - one read of the device, from the question to the answer
 *
 * A request is split by the image map into pieces; all of them are planned, and what is missing is
 * on its way, before the first byte is waited for. Each piece is a small machine:
 *
 *	PLAN -> GATHER -> DECODE -> done
 *	          ^          | a block is bad, first time: drop it, fetch again
 *	          +----------+
 *
 * Loop thread only.
 */
#ifndef HS_PATH_REQUEST_H
#define HS_PATH_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"
#include "loop.h"
#include "range.h"
#include "source.h"

struct image;
struct path;

struct request {
	/* the caller sets, and keeps valid until @done */
	struct image *image;
	struct range range; /* inside the device, length > 0; any alignment */
	void *buf;	    /* range.len bytes; undefined content when res < 0 */
	enum prio prio;
	void (*done)(struct request *r); /* on the loop, exactly once; may free @r */

	/* the result: 0, -EIO (already logged), -ETIMEDOUT, -ECANCELED */
	int res;

	/* the machine's own */
	struct path *path;
	struct task task;
	uint64_t planned;	  /* bytes of @range that have become pieces */
	unsigned int pieces_left; /* pieces not finished, plus one while planning */
	uint64_t start_ns;
	bool stalled;	    /* some piece had to wait for the network */
	struct list pieces; /* planned, for the fetch planner */
	struct list link;   /* in path->piece_waiters */
};

/*
 * request_start - begin @r; never fails here, @done may be called before it returns
 */
void request_start(struct path *p, struct request *r);

#endif
