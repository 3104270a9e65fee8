/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - see request.h: planning a read, and answering it when its pieces are there */
#include "request.h"

#include <errno.h>
#include <string.h>

#include "blob.h"
#include "flight.h"
#include "image.h"
#include "path.h"
#include "piece.h"
#include "request_piece.h"
#include "timeline.h"
#include "usage.h"

/* In order of blob and stored offset, so that neighbours can share a fetch. */
static void insert_sorted(struct list *pieces, struct piece *pc)
{
	struct list *n = pieces->prev;

	while (n != pieces) {
		struct piece *other = list_entry(n, struct piece, link);

		if (other->stream->blob < pc->stream->blob ||
		    (other->stream->blob == pc->stream->blob &&
		     other->plan.stored.off <= pc->plan.stored.off))
			break;
		n = n->prev;
	}
	list_add(n, &pc->link);
}

/* Turn the rest of the range into pieces; false when the pool ran dry on the way. */
static bool plan_pieces(struct request *r)
{
	while (r->planned < r->range.len) {
		struct range left = range_of(r->range.off + r->planned, r->range.len - r->planned);
		struct map_piece mp = image_map_next(r->image->map, left);
		char *dst = (char *)r->buf + r->planned;
		struct piece *pc;
		uint64_t bytes;

		if (mp.zero) {
			memset(dst, 0, mp.range.len);
			r->planned += mp.range.len;
			continue;
		}
		pc = piece_get(r, image_stream(r->image, &mp), range_of(mp.moff, mp.range.len), dst,
			       &bytes);
		if (!pc)
			return false;
		r->planned += bytes;
		r->pieces_left++;
		insert_sorted(&r->pieces, pc);
	}
	return true;
}

/* Whether all that @pc needs is on this node, so that it waits for no network. */
static bool is_local(const struct piece *pc)
{
	struct range rest = pc->plan.stored;
	const struct blob *b = pc->stream->blob;

	if (blob_is_local(b))
		return true;
	while (rest.len) {
		struct range miss = cache_missing(b->cache, rest);
		const struct flight *f;

		if (!miss.len)
			return true;
		f = flight_find(b, max_u64(miss.off, rest.off));
		if (!f || f->state != FLIGHT_LANDED)
			return false;
		if (range_end(f->range) >= range_end(rest))
			return true;
		rest = range_of(range_end(f->range), range_end(rest) - range_end(f->range));
	}
	return true;
}

/* What was asked for, and was it here? */
static void account(struct request *r)
{
	struct path *p = r->path;

	if (r->prio != PRIO_DEMAND)
		return;
	list_for_each (n, &r->pieces) {
		const struct piece *pc = list_entry(n, struct piece, link);

		usage_mark(pc->stream->usage, pc->stream, &pc->plan);
		p->stats.asked_bytes += pc->want.len;
		if (is_local(pc))
			p->stats.asked_local_bytes += pc->want.len;
	}
}

/* Have everything the planned pieces lack on its way before any of them waits. */
static void plan_fetches(struct request *r)
{
	struct path *p = r->path;
	struct blob *blob = NULL;
	struct range want = {0};

	list_for_each (n, &r->pieces) {
		struct piece *pc = list_entry(n, struct piece, link);
		struct range stored = pc->plan.stored;
		struct blob *b = pc->stream->blob;

		if (blob_is_local(b) || cache_has(b->cache, stored))
			continue;
		if (pc->state == PIECE_SPAN && span_find(p, pc->stream, pc->plan.first))
			continue;
		if (blob == b && stored.off <= range_end(want) + p->opt.fetch_gap_bytes) {
			want.len = max_u64(range_end(want), range_end(stored)) - want.off;
			continue;
		}
		if (blob)
			flight_want(p, blob, want, r->prio);
		blob = b;
		want = stored;
	}
	if (blob)
		flight_want(p, blob, want, r->prio);
}

static void release_pieces(struct request *r)
{
	struct list *n;

	list_for_each (i, &r->pieces)
		piece_hold_flights(list_entry(i, struct piece, link));
	while ((n = list_pop(&r->pieces)))
		piece_start(list_entry(n, struct piece, link));
}

static void answer(struct request *r)
{
	struct path *p = r->path;

	p->busy_requests--;
	p->stats.reads++;
	p->stats.read_bytes += r->range.len;
	if (r->res)
		p->stats.read_errors++;
	hist_add(&p->stats.latency, loop_now_ns(p->loop) - r->start_ns);
	if (r->stalled)
		timeline_add(p->timeline, TIMELINE_STALL, r->start_ns, loop_now_ns(p->loop),
			     r->range.off, r->range.len);
	task_done(&r->task);
	r->done(r);
}

static void wake_piece_waiters(struct path *p)
{
	struct list *n = list_pop(&p->piece_waiters);

	if (n)
		task_wake(&list_entry(n, struct request, link)->task);
}

void request_piece_done(struct request *r)
{
	struct path *p = r->path;

	if (--r->pieces_left == 0)
		answer(r);
	wake_piece_waiters(p);
}

static void request_step(struct task *t)
{
	struct request *r = container_of(t, struct request, task);
	struct path *p = r->path;
	bool all;

	if (p->stopping) {
		r->res = r->res ? r->res : -ECANCELED;
		r->planned = r->range.len;
	}
	all = plan_pieces(r);
	account(r);
	plan_fetches(r);
	release_pieces(r);
	if (!all) {
		list_add_tail(&p->piece_waiters, &r->link);
		return;
	}
	/* Planning held one count so that no piece could end the request under it. */
	if (--r->pieces_left == 0)
		answer(r);
}

void request_start(struct path *p, struct request *r)
{
	r->path = p;
	r->res = 0;
	r->planned = 0;
	r->pieces_left = 1;
	r->stalled = false;
	r->start_ns = loop_now_ns(p->loop);
	list_init(&r->pieces);
	list_init(&r->link);
	task_init(&r->task, p->loop, request_step);
	p->busy_requests++;
	request_step(&r->task);
}
