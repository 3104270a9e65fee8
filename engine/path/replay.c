/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - see replay.h */
#include "replay.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "image.h"
#include "path.h"
#include "text.h"
#include "usage.h"

static void replay_step(struct task *t);

struct replay *replay_new(struct path *p)
{
	struct replay *r = xmalloc_zero(1, sizeof(*r));

	r->path = p;
	r->end = REPLAY_COMPLETE;
	task_init(&r->task, p->loop, replay_step);
	for (unsigned int n = 0; n < REPLAY_FLIGHTS; n++) {
		r->flights[n].wait.task = &r->task;
		list_init(&r->flights[n].wait.link);
	}
	return r;
}

bool replay_idle(const struct replay *r)
{
	return !r->in_flight;
}

void replay_free(struct replay *r)
{
	if (!r)
		return;
	assert(replay_idle(r));
	task_done(&r->task);
	free(r->items);
	free(r->brought);
	free(r);
}

static void append(struct replay_item **list, size_t *count, struct replay_item item)
{
	/* doubled whenever the count reaches a power of two */
	if (!(*count & (*count - 1))) {
		*list = realloc(*list, (*count ? 2 * *count : 1) * sizeof(item));
		if (!*list)
			abort();
	}
	(*list)[(*count)++] = item;
}

void replay_add(struct replay *r, const struct replay_item *items, size_t count)
{
	for (size_t n = 0; n < count; n++) {
		if (blob_is_local(items[n].blob) || !items[n].range.len)
			continue;
		r->planned_bytes += items[n].range.len;
		r->left_bytes += items[n].range.len;
		append(&r->items, &r->count, items[n]);
		if (r->next == r->count - 1)
			r->rest = items[n].range;
	}
	if (!r->start_ns)
		r->start_ns = loop_now_ns(r->path->loop);
	if (r->next < r->count && r->end == REPLAY_COMPLETE)
		r->end = REPLAY_RUNNING;
	task_wake(&r->task);
}

void replay_drop_rest(struct replay *r)
{
	if (r->next >= r->count)
		return;
	r->planned_bytes -= r->left_bytes;
	r->left_bytes = 0;
	/* what was begun of the item stays, as an item of that length */
	r->items[r->next].range.len -= r->rest.len;
	r->count = r->items[r->next].range.len ? r->next + 1 : r->next;
	r->next = r->count;
	r->rest = range_of(0, 0);
	if (r->end == REPLAY_RUNNING)
		r->end = REPLAY_COMPLETE;
}

void replay_stop(struct replay *r)
{
	if (r->end == REPLAY_RUNNING)
		r->end = REPLAY_STOPPED;
	r->next = r->count;
}

/* --- the line ------------------------------------------------------------------------------- */

static void measure(struct replay *r, const struct replay_flight *rf)
{
	uint64_t took = loop_now_ns(r->path->loop) - rf->start_ns;

	if (!took)
		return;
	if (!r->shortest_ns || took < r->shortest_ns)
		r->shortest_ns = took;
	r->rates[r->rate_at++ % REPLAY_RATES] =
	    (double)(r->delivered_bytes - rf->delivered_before) / (double)took;
}

static uint64_t window_bytes(const struct replay *r)
{
	double best = 0, window;

	for (unsigned int n = 0; n < REPLAY_RATES; n++)
		best = r->rates[n] > best ? r->rates[n] : best;
	window = 2 * best * (double)r->shortest_ns;
	/* The first answers tell too little, coming over new connections: grow with what comes. */
	if (r->rate_at < REPLAY_RATES && window < REPLAY_WINDOW_FIRST + r->delivered_bytes)
		window = REPLAY_WINDOW_FIRST + (double)r->delivered_bytes;
	if (r->path->demand_flights)
		window /= 2;
	if (window < REPLAY_WINDOW_MIN)
		window = REPLAY_WINDOW_MIN;
	if (window > REPLAY_WINDOW_MAX)
		window = REPLAY_WINDOW_MAX;
	/* most buffers are for those who wait */
	return min_u64((uint64_t)window, r->path->opt.memory_bytes / 8 + 1);
}

/* --- what is next --------------------------------------------------------------------------- */

static void finish(struct replay *r, enum replay_end end)
{
	if (r->end == REPLAY_RUNNING)
		r->end = end;
	r->next = r->count;
}

static void next_item(struct replay *r)
{
	r->recent_late = r->recent_late << 1 | r->late;
	r->late_ranges += r->late;
	r->late = false;
	if (++r->next < r->count)
		r->rest = r->items[r->next].range;
	else
		finish(r, REPLAY_COMPLETE);
	if (r->next >= REPLAY_BEHIND_RANGES &&
	    __builtin_popcountll(r->recent_late) >= REPLAY_BEHIND_LATE)
		finish(r, REPLAY_BEHIND);
}

static struct replay_flight *free_slot(struct replay *r)
{
	for (unsigned int n = 0; n < REPLAY_FLIGHTS; n++) {
		if (!r->flights[n].flight)
			return &r->flights[n];
	}
	return NULL;
}

/*
 * How much one flight takes. New connections are slow to start: a short list comes sooner over
 * several of them; a long one is better off with fewer requests.
 */
static uint64_t piece_bytes(const struct replay *r)
{
	uint64_t bytes = round_up(r->left_bytes / REPLAY_LANES + 1, CACHE_UNIT_BYTES);

	return min_u64(max_u64(bytes, REPLAY_PIECE_MIN), REPLAY_PIECE_MAX);
}

/* Start the next flight. Returns false when there is nothing more to start now. */
static bool start_next(struct replay *r)
{
	struct path *p = r->path;
	struct replay_flight *rf = free_slot(r);
	uint64_t before;
	struct blob *b;
	struct flight *f;

	if (!rf || r->next >= r->count || r->in_flight_bytes >= window_bytes(r))
		return false;
	if (p->stopping) {
		finish(r, REPLAY_STOPPED);
		return false;
	}
	if (r->budget_bytes && r->fetched_bytes + r->in_flight_bytes >= r->budget_bytes) {
		finish(r, REPLAY_OVER_BUDGET);
		return false;
	}
	b = r->items[r->next].blob;
	/* somebody who waits has been here before us */
	r->late |= flight_demanded(b, r->rest);
	before = r->rest.len;
	f = flight_start_next(p, b, &r->rest, piece_bytes(r), PRIO_PREFETCH);
	r->left_bytes -= before - r->rest.len;
	if (!r->rest.len)
		next_item(r);
	if (!f)
		return true;
	flight_hold(f);
	*rf = (struct replay_flight){
	    .flight = f,
	    .wait = {.task = &r->task},
	    .start_ns = loop_now_ns(p->loop),
	    .delivered_before = r->delivered_bytes,
	};
	list_init(&rf->wait.link);
	flight_wait(f, &rf->wait);
	r->in_flight++;
	r->in_flight_bytes += f->range.len;
	return true;
}

static void take_landed(struct replay *r, struct replay_flight *rf)
{
	struct flight *f = rf->flight;

	flight_forget(&rf->wait);
	rf->flight = NULL;
	r->in_flight--;
	r->in_flight_bytes -= f->range.len;
	r->end_ns = loop_now_ns(r->path->loop);
	if (f->state == FLIGHT_LANDED) {
		r->delivered_bytes += f->range.len;
		r->fetched_bytes += f->range.len;
		measure(r, rf);
		append(&r->brought, &r->brought_count, (struct replay_item){f->blob, f->range});
	} else {
		r->failed_fetches++;
	}
	flight_drop(f);
}

static void replay_step(struct task *t)
{
	struct replay *r = container_of(t, struct replay, task);

	for (unsigned int n = 0; n < REPLAY_FLIGHTS; n++) {
		struct replay_flight *rf = &r->flights[n];

		if (rf->flight && rf->flight->state > FLIGHT_FETCHING)
			take_landed(r, rf);
	}
	while (start_next(r))
		;
}

/* --- what it was worth ---------------------------------------------------------------------- */

static const struct stream *stream_of(const struct image *i, const struct blob *b)
{
	for (size_t n = 0; n < i->layer_count; n++) {
		if (i->layers[n].main.blob == b)
			return &i->layers[n].main;
		if (i->layers[n].target.blob == b)
			return &i->layers[n].target;
	}
	return NULL;
}

static uint64_t used_bytes(const struct replay_item *items, size_t count, const struct image *i)
{
	uint64_t sum = 0;

	for (size_t n = 0; n < count; n++) {
		const struct stream *s = stream_of(i, items[n].blob);

		if (s)
			sum += usage_bytes(s->usage, s, items[n].range);
	}
	return sum;
}

uint64_t replay_used_bytes(const struct replay *r, const struct image *i)
{
	return used_bytes(r->brought, r->brought_count, i);
}

uint64_t replay_planned_used_bytes(const struct replay *r, const struct image *i)
{
	return used_bytes(r->items, r->count, i);
}

size_t replay_landed(struct replay *r)
{
	while (r->landed < r->count &&
	       cache_has(r->items[r->landed].blob->cache, r->items[r->landed].range))
		r->landed++;
	return r->landed;
}
