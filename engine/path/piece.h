/* SPDX-License-Identifier: Apache-2.0 */
/*
 * piece.h - the machine that brings one part of a request: gather stored bytes, check, decode
 *
 * See request.h for the states. A piece comes from the path's pool, belongs to its request, and
 * holds what it waits for: flights by use count, one ring operation, one piece of CPU work. Its
 * buffers are released only when none of these is under way. Loop thread only, but for the decode
 * itself.
 */
#ifndef HS_PATH_PIECE_H
#define HS_PATH_PIECE_H

#include <stdbool.h>
#include <stdint.h>

#include "bufpool.h"
#include "flight.h"
#include "loop.h"
#include "range.h"
#include "span.h"
#include "stream.h"
#include "workers.h"

struct request;

#define PIECE_FLIGHTS	   8	  /* flights one piece holds; more are found again on the way */
#define PIECE_REGATHERS	   4	  /* takes its bytes again because others dropped them */
#define PIECE_INLINE_BYTES 32768u /* decoded on the loop thread: cheaper than a hand-over */

enum piece_state {
	PIECE_SPAN,   /* gzip: join a decoded span or become its owner */
	PIECE_BUFFER, /* get room for the stored bytes */
	PIECE_GATHER, /* from flights, cache or file into @stage */
	PIECE_DECODE,
	PIECE_DONE,
};

struct piece {
	struct piece *next; /* free pool */
	struct request *req;
	struct stream *stream;
	struct stream_plan plan;
	struct range want; /* plain bytes of the stream that go to @dst; inside plan.plain */
	void *dst;
	enum piece_state state;
	int res;
	unsigned int tries;
	unsigned int regathers;

	void *stage; /* stored bytes; == dst for a raw stream */
	uint64_t gathered;
	struct op op;
	bool reading; /* @op's result has not been looked at */
	struct flight *flights[PIECE_FLIGHTS];
	unsigned int flight_count;
	uint64_t stall_since_ns; /* 0: not waiting for the network */

	bool decoding; /* @work is with the pool, or its result not looked at */
	bool decoded;  /* @work came back */
	int decode_res;
	struct range bad;
	struct work work;

	struct span *span; /* gzip: held, or owned while decoding */
	bool span_owner;

	struct task task;
	struct flight_waiter flight_wait;
	struct bufpool_waiter buf_wait;
	struct span_waiter span_wait;
	struct list link; /* request->pieces */
};

/*
 * piece_get - take one from the pool for the bytes of @stream at @want.off, as many as one piece
 * can serve; NULL: the pool is empty
 * @ret_bytes: how many of @want it serves
 */
struct piece *piece_get(struct request *r, struct stream *stream, struct range want, void *dst,
			uint64_t *ret_bytes);

/* piece_hold_flights - keep what is on its way for this piece from vanishing */
void piece_hold_flights(struct piece *pc);

/* piece_start - let it run; ends in request_piece_done() */
void piece_start(struct piece *pc);

#endif
