/* SPDX-License-Identifier: Apache-2.0 */
/* path.c - see path.h */
#include "path.h"

#include <assert.h>
#include <stdlib.h>

#include "clock.h"
#include "piece.h"
#include "request.h"
#include "span.h"
#include "stream.h"
#include "text.h"
#include "timeline.h"

void path_options_default(struct path_options *o)
{
	*o = (struct path_options){
	    .memory_bytes = 128u << 20,
	    .workers = 2,
	    .pieces = 2048,
	    .read_timeout_ns = 60 * NS_PER_SEC,
	    .fetch_min_bytes = 128u << 10,
	    .fetch_max_bytes = 1u << 20,
	    .fetch_gap_bytes = 64u << 10,
	    .read_around_bytes = 0,
	};
}

int path_new(struct loop *loop, const struct path_options *o, struct path **ret, struct err *e)
{
	struct path *p = xmalloc_zero(1, sizeof(*p));
	int rc;

	p->loop = loop;
	p->opt = *o;
	/* Widened ranges stay whole cache units. */
	p->opt.fetch_min_bytes =
	    (uint32_t)round_up(max_u64(o->fetch_min_bytes, 1), CACHE_UNIT_BYTES);
	p->opt.fetch_max_bytes = (uint32_t)min_u64(
	    max_u64(round_up(o->fetch_max_bytes, CACHE_UNIT_BYTES), p->opt.fetch_min_bytes),
	    BUFPOOL_MAX_BYTES);
	list_init(&p->piece_waiters);
	list_init(&p->spans);
	p->bad_log.every_ns = p->fail_log.every_ns = p->again_log.every_ns = NS_PER_SEC;
	rc = workers_new(o->workers, decoder_new, decoder_free, &p->workers, e);
	if (rc) {
		free(p);
		return rc;
	}
	p->inline_ctx = decoder_new();
	p->stage_bufs = bufpool_new(o->memory_bytes / 2);
	p->flight_bufs = bufpool_new(o->memory_bytes / 4);
	p->reply_bufs = bufpool_new(o->memory_bytes / 4);
	p->all_pieces = xmalloc_zero(o->pieces, sizeof(struct piece));
	for (unsigned int i = 0; i < o->pieces; i++) {
		p->all_pieces[i].next = p->free_pieces;
		p->free_pieces = &p->all_pieces[i];
	}
	*ret = p;
	return 0;
}

void path_stop(struct path *p)
{
	struct list *n;

	p->stopping = true;
	while ((n = list_pop(&p->piece_waiters)))
		task_wake(&list_entry(n, struct request, link)->task);
	bufpool_wake_all(p->stage_bufs);
	bufpool_wake_all(p->flight_bufs);
	bufpool_wake_all(p->reply_bufs);
}

bool path_idle(const struct path *p)
{
	return !p->busy_requests && !p->busy_flights;
}

void path_free(struct path *p)
{
	if (!p)
		return;
	assert(path_idle(p));
	span_trim(p, 0);
	workers_free(p->workers);
	decoder_free(p->inline_ctx);
	bufpool_free(p->stage_bufs);
	bufpool_free(p->flight_bufs);
	bufpool_free(p->reply_bufs);
	timeline_free(p->timeline);
	free(p->all_pieces);
	free(p);
}
