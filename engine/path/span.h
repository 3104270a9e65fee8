/* SPDX-License-Identifier: Apache-2.0 */
/*
 * span.h - decoded gzip spans that are kept for a while
 *
 * A span is about 1 MiB of output and can only be decoded from its start, while the kernel reads
 * 4 to 128 KiB: without this every read would inflate the whole span again. A span is BUSY while
 * one piece (its owner) decodes it and others wait, then READY. Loop thread only.
 */
#ifndef HS_PATH_SPAN_H
#define HS_PATH_SPAN_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"

struct path;
struct stream;
struct task;

struct span {
	const struct stream *stream;
	uint64_t number;
	uint64_t bytes;
	void *buf; /* from path->stage_bufs; NULL until the owner has got one */
	bool ready;
	unsigned int users;  /* pieces that copy from it or decode into it */
	struct list waiters; /* struct span_waiter */
	struct list link;    /* path->spans, most recent first */
};

struct span_waiter {
	struct list link; /* list_init() when not waiting */
	struct task *task;
};

/* span_find - READY or BUSY span, or NULL; moves it to the front */
struct span *span_find(struct path *p, const struct stream *s, uint64_t number);

/* span_new - a BUSY span that the caller owns and uses */
struct span *span_new(struct path *p, const struct stream *s, uint64_t number, uint64_t bytes);

void span_wait(struct span *sp, struct span_waiter *w);
void span_forget(struct span_waiter *w);

/* span_settle - the owner is through: READY, or gone when @ok is false; wakes the waiters */
void span_settle(struct path *p, struct span *sp, bool ok);

void span_hold(struct span *sp);
void span_drop(struct path *p, struct span *sp);

/* span_trim - free unused spans until at most @keep_bytes are kept */
void span_trim(struct path *p, uint64_t keep_bytes);

/* span_purge - forget all of one stream; no piece uses it any more */
void span_purge(struct path *p, const struct stream *s);

#endif
