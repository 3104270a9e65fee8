/* SPDX-License-Identifier: Apache-2.0 */
/* flight.c - see flight.h */
#include "flight.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blob.h"
#include "path.h"
#include "text.h"
#include "timeline.h"

/* The part of @r at and behind @end. */
static struct range range_behind(struct range r, uint64_t end)
{
	return end >= range_end(r)
		   ? range_of(range_end(r), 0)
		   : range_of(max_u64(end, r.off), range_end(r) - max_u64(end, r.off));
}

static bool is_live(const struct flight *f)
{
	return f->state != FLIGHT_FAILED && !f->stale;
}

struct flight *flight_find(const struct blob *b, uint64_t off)
{
	return flight_next(b, range_of(off, 1));
}

struct flight *flight_next(const struct blob *b, struct range r)
{
	struct flight *best = NULL;

	list_for_each (n, &b->flights) {
		struct flight *f = list_entry(n, struct flight, link);

		if (is_live(f) && range_overlaps(f->range, r) &&
		    (!best || f->range.off < best->range.off))
			best = f;
	}
	return best;
}

#define AROUND_FLIGHTS 8u

/* A flight that was begun for somebody who waits; counted until it has landed or failed. */
static void count_demand(struct flight *f)
{
	f->demanded = f->counted = true;
	f->path->demand_flights++;
}

static void uncount_demand(struct flight *f)
{
	if (f->counted)
		f->path->demand_flights--;
	f->counted = false;
}

static void wake_waiters(struct flight *f)
{
	struct list *n;

	while ((n = list_pop(&f->waiters)))
		task_wake(list_entry(n, struct flight_waiter, link)->task);
}

static void release_if_unused(struct flight *f)
{
	if (f->users || f->store.busy || f->in_source)
		return;
	if (f->state == FLIGHT_PARKED || f->state == FLIGHT_FETCHING)
		return;
	assert(list_empty(&f->waiters));
	list_del(&f->link);
	bufpool_put(f->path->flight_bufs, f->buf, f->range.len);
	bufpool_forget(&f->buf_wait);
	task_done(&f->task);
	f->path->busy_flights--;
	f->path->around_flights -= f->around;
	free(f);
}

static void fail(struct flight *f, int res)
{
	f->state = FLIGHT_FAILED;
	f->res = res;
	uncount_demand(f);
	timeline_add(f->path->timeline, f->demanded ? TIMELINE_DEMAND : TIMELINE_PREFETCH,
		     f->born_ns, loop_now_ns(f->path->loop), f->range.off, 0);
	wake_waiters(f);
}

/* Source thread: nothing but the way home. */
static void fetch_done(struct fetch *fetch)
{
	struct flight *f = container_of(fetch, struct flight, fetch);

	loop_post(f->path->loop, &f->landed);
}

static void launch(struct flight *f)
{
	uint64_t waited_ns = loop_now_ns(f->path->loop) - f->born_ns;

	if (waited_ns >= f->path->opt.read_timeout_ns) {
		bufpool_forget(&f->buf_wait);
		/* Whoever is next in line for the buffer has not been told that it is. */
		bufpool_wake_all(f->path->flight_bufs);
		fail(f, -ETIMEDOUT);
		return;
	}
	f->buf = bufpool_get(f->path->flight_bufs, f->range.len, &f->buf_wait);
	if (!f->buf) {
		bufpool_wait(f->path->flight_bufs, &f->buf_wait);
		return;
	}
	f->state = FLIGHT_FETCHING;
	f->fetch.range = f->range;
	f->fetch.buf = f->buf;
	f->fetch.timeout_ns = f->path->opt.read_timeout_ns - waited_ns;
	f->fetch.done = fetch_done;
	f->in_source = true;
	f->path->stats.fetches++;
	source_start(f->blob->source, &f->fetch);
}

/* A write of corrupt bytes to the same place is still under way: it may end after ours. */
static bool bad_write_near(const struct flight *f)
{
	list_for_each (n, &f->blob->flights) {
		struct flight *other = list_entry(n, struct flight, link);

		if (other->stale && other->store.busy && range_overlaps(other->range, f->range))
			return true;
	}
	return false;
}

static void land(struct flight *f)
{
	struct path *p = f->path;
	uint64_t skipped;

	if (f->fetch.res) {
		if (f->fetch.res != -ECANCELED) {
			p->stats.fetch_errors++;
			if (log_rate_ok(&p->fail_log, loop_now_ns(p->loop), &skipped))
				log_error("fetch failed: blob=%s offset=%llu bytes=%llu: %s (and "
					  "%llu more)",
					  f->blob->name, (unsigned long long)f->range.off,
					  (unsigned long long)f->range.len, f->fetch.why,
					  (unsigned long long)skipped);
		}
		fail(f, f->fetch.res);
		return;
	}
	p->stats.fetched_bytes += f->range.len;
	f->state = FLIGHT_LANDED;
	uncount_demand(f);
	timeline_add(p->timeline, f->demanded ? TIMELINE_DEMAND : TIMELINE_PREFETCH, f->born_ns,
		     loop_now_ns(p->loop), f->range.off, f->range.len);
	wake_waiters(f);
	/* Readers are answered from @buf; the cache write follows behind them. */
	if (bad_write_near(f))
		return;
	f->store.blob = f->blob->cache;
	f->store.range = f->range;
	f->store.buf = f->buf;
	f->store.owner = &f->task;
	cache_store(p->loop, &f->store);
}

static void deliver_landed(struct mail *m)
{
	struct flight *f = container_of(m, struct flight, landed);

	f->in_source = false;
	land(f);
	task_wake(&f->task);
}

static void flight_step(struct task *t)
{
	struct flight *f = container_of(t, struct flight, task);

	if (f->state == FLIGHT_PARKED) {
		if (f->path->stopping)
			fail(f, -ECANCELED);
		else
			launch(f);
	}
	release_if_unused(f);
}

static struct flight *start(struct path *p, struct blob *b, struct range r, enum prio prio)
{
	struct flight *f = xmalloc_zero(1, sizeof(*f));

	f->path = p;
	f->blob = b;
	f->range = r;
	f->state = FLIGHT_PARKED;
	f->born_ns = loop_now_ns(p->loop);
	f->fetch.prio = prio;
	f->landed.deliver = deliver_landed;
	task_init(&f->task, p->loop, flight_step);
	f->buf_wait.task = &f->task;
	list_init(&f->buf_wait.link);
	list_init(&f->waiters);
	list_add_tail(&b->flights, &f->link);
	p->busy_flights++;
	if (prio == PRIO_DEMAND)
		count_demand(f);
	launch(f);
	return f;
}

/* The first part of @r that is neither in the cache nor on its way; length 0 when there is none. */
static struct range first_absent(const struct blob *b, struct range r)
{
	while (r.len) {
		struct range miss = cache_missing(b->cache, r);
		struct flight *f;

		if (!miss.len)
			return miss;
		f = flight_next(b, miss);
		if (!f)
			return miss;
		if (f->range.off > miss.off)
			return range_of(miss.off, f->range.off - miss.off);
		/* Covered from its start: look behind the flight. */
		if (range_end(f->range) >= range_end(r))
			break;
		r = range_of(range_end(f->range), range_end(r) - range_end(f->range));
	}
	return range_of(r.off, 0);
}

static void join(struct path *p, struct blob *b, struct range want, enum prio prio)
{
	list_for_each (n, &b->flights) {
		struct flight *f = list_entry(n, struct flight, link);

		if (!is_live(f) || !range_overlaps(f->range, want))
			continue;
		p->stats.joined_fetches++;
		if (prio <= f->fetch.prio || f->state > FLIGHT_FETCHING)
			continue;
		f->demanded = true;
		if (f->in_source)
			source_raise(b->source, &f->fetch);
		else
			f->fetch.prio = prio;
	}
}

/*
 * Somebody waits for what begins at @at or before: what follows it may well be next, and the line
 * is idle while a reader digests. One flight, at prefetch priority; bounded in all.
 */
static void read_around(struct path *p, struct blob *b, uint64_t at)
{
	struct range next =
	    range_clip(range_of(at, p->opt.read_around_bytes), range_of(0, b->bytes));
	struct flight *f;

	if (!next.len || p->around_flights >= AROUND_FLIGHTS)
		return;
	f = flight_start_next(p, b, &next, UINT64_MAX, PRIO_PREFETCH);
	if (!f)
		return;
	f->around = true;
	p->around_flights++;
}

void flight_want(struct path *p, struct blob *b, struct range want, enum prio prio)
{
	struct range rest = want;

	join(p, b, want, prio);
	while (rest.len) {
		struct range miss = first_absent(b, rest);
		struct range wide;

		if (!miss.len)
			return;
		/* A small miss brings its neighbourhood along, as far as nothing of it is there. */
		if (miss.len < p->opt.fetch_min_bytes) {
			wide = range_clip(range_of(miss.off, p->opt.fetch_min_bytes),
					  range_of(0, b->bytes));
			wide = first_absent(b, wide);
			if (wide.off == miss.off && wide.len > miss.len)
				miss.len = wide.len;
		}
		miss.len = min_u64(miss.len, p->opt.fetch_max_bytes);
		(void)start(p, b, miss, prio); /* who needs it finds it in the blob's list */
		rest = range_behind(rest, range_end(miss));
		if (!rest.len && prio == PRIO_DEMAND)
			read_around(p, b, range_end(miss));
	}
}

struct flight *flight_start_next(struct path *p, struct blob *b, struct range *rest,
				 uint64_t max_bytes, enum prio prio)
{
	struct range miss = first_absent(b, *rest);

	if (!miss.len) {
		*rest = range_of(range_end(*rest), 0);
		return NULL;
	}
	miss.len = min_u64(miss.len, min_u64(max_bytes, p->opt.fetch_max_bytes));
	*rest = range_behind(*rest, range_end(miss));
	return start(p, b, miss, prio);
}

bool flight_demanded(const struct blob *b, struct range r)
{
	list_for_each (n, &b->flights) {
		const struct flight *f = list_entry(n, struct flight, link);

		if (is_live(f) && f->demanded && range_overlaps(f->range, r))
			return true;
	}
	return false;
}

void flight_hold(struct flight *f)
{
	f->users++;
}

void flight_drop(struct flight *f)
{
	assert(f->users);
	f->users--;
	release_if_unused(f);
}

void flight_wait(struct flight *f, struct flight_waiter *w)
{
	if (list_empty(&w->link))
		list_add_tail(&f->waiters, &w->link);
}

void flight_forget(struct flight_waiter *w)
{
	list_del(&w->link);
}

void flight_spoil(struct blob *b, struct range bad)
{
	list_for_each_safe (n, &b->flights) {
		struct flight *f = list_entry(n, struct flight, link);

		if (f->state == FLIGHT_LANDED && range_overlaps(f->range, bad)) {
			f->stale = true;
			f->store.write.discard = true;
			task_wake(&f->task);
		}
	}
	cache_drop(b->cache, bad);
}

void flight_cancel_all(struct blob *b)
{
	list_for_each (n, &b->flights) {
		struct flight *f = list_entry(n, struct flight, link);

		if (f->in_source)
			source_cancel(b->source, &f->fetch);
		task_wake(&f->task);
	}
}
