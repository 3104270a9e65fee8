/* SPDX-License-Identifier: Apache-2.0 */
/* headstart_prefetch.c - the public interface: prefetching, and what a start waited for */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "cleanup.h"
#include "err.h"
#include "headstart_impl.h"
#include "image.h"
#include "path.h"
#include "replay.h"
#include "text.h"
#include "timeline.h"

struct add_errand {
	struct errand er;
	struct hs_image *img;
	struct replay_item *items;
	size_t count;
	uint64_t budget_bytes;
	bool instead; /* of what was added before and has not been begun */
	size_t first; /* number of the first range that was added */
};

static void run_add(struct errand *er)
{
	struct add_errand *a = container_of(er, struct add_errand, er);

	if (!a->img->replay)
		a->img->replay = replay_new(a->img->eng->path);
	if (a->instead)
		replay_drop_rest(a->img->replay);
	if (a->budget_bytes)
		a->img->replay->budget_bytes = a->budget_bytes;
	a->first = a->img->replay->count;
	replay_add(a->img->replay, a->items, a->count);
	errand_end(er);
}

int hs_prefetch_add(struct hs_image *img, const struct hs_stored *ranges, size_t count,
		    bool instead, uint64_t budget_bytes, size_t *ret_first, struct err *e)
{
	_cleanup_free_ struct replay_item *items = xmalloc_zero(count + 1, sizeof(*items));
	struct add_errand a = {
	    .img = img,
	    .items = items,
	    .count = count,
	    .budget_bytes = budget_bytes,
	    .instead = instead,
	};

	for (size_t n = 0; n < count; n++) {
		const struct hs_stored *s = &ranges[n];
		struct blob *b;

		if (s->blob >= img->image->blob_count)
			return err_set(e, -EINVAL, "range %zu is of blob %u, and there are %zu", n,
				       s->blob, img->image->blob_count);
		b = img->image->blobs[s->blob];
		items[n] = (struct replay_item){b, range_of(s->off, s->bytes)};
		if (!range_inside(items[n].range, b->bytes))
			return err_set(e, -EINVAL, "range %zu is behind the end of blob %s", n,
				       b->name);
	}
	errand_wait(img->eng->loop, &a.er, run_add);
	if (ret_first)
		*ret_first = a.first;
	return 0;
}

/* The stored bytes between two distances from the end of a blob; length 0 when there are none. */
static struct replay_item end_part(struct blob *b, uint64_t from, uint64_t to)
{
	if (from > b->bytes)
		from = to;
	return (struct replay_item){b, range_of(b->bytes - from, from > to ? from - to : 0)};
}

size_t hs_prefetch_ends(struct hs_image *img, bool laid_out, uint64_t budget_bytes)
{
	const struct resolved *r = &img->resolved;
	_cleanup_free_ struct replay_item *items = xmalloc_zero(2 * r->count + 1, sizeof(*items));
	struct add_errand a = {.img = img, .items = items, .budget_bytes = budget_bytes};
	size_t layers = 0;

	/* opening reads the very last bytes itself, and mounting reads metadata first */
	for (size_t n = 0; n < r->count; n++) {
		const struct layer_hints *h = &img->hints[n];

		layers += h->start_bytes > h->metadata_bytes;
		items[a.count++] = end_part(r->specs[n].blob, h->metadata_bytes, h->open_bytes);
	}
	if (laid_out && !layers)
		return 0;
	for (size_t n = 0; laid_out && n < r->count; n++) {
		const struct layer_hints *h = &img->hints[n];

		items[a.count++] = end_part(r->specs[n].blob, h->start_bytes, h->metadata_bytes);
	}
	errand_wait(img->eng->loop, &a.er, run_add);
	return laid_out ? layers : r->count;
}

struct around_errand {
	struct errand er;
	struct path *path;
	uint32_t bytes;
};

static void run_around(struct errand *er)
{
	struct around_errand *a = container_of(er, struct around_errand, er);

	a->path->opt.read_around_bytes = a->bytes;
	errand_end(er);
}

void hs_set_read_around(struct hs_engine *eng, uint64_t bytes)
{
	struct around_errand a = {
	    .path = eng->path,
	    .bytes = (uint32_t)min_u64(bytes, BUFPOOL_MAX_BYTES),
	};

	errand_wait(eng->loop, &a.er, run_around);
}

struct prefetch_errand {
	struct errand er;
	struct hs_image *img;
	struct hs_prefetch_stats *ret;
};

static void run_prefetch_stop(struct errand *er)
{
	struct prefetch_errand *p = container_of(er, struct prefetch_errand, er);

	if (p->img->replay)
		replay_stop(p->img->replay);
	errand_end(er);
}

void hs_prefetch_stop(struct hs_image *img)
{
	struct prefetch_errand p = {.img = img};

	errand_wait(img->eng->loop, &p.er, run_prefetch_stop);
}

static void run_prefetch_stats(struct errand *er)
{
	static const enum hs_prefetch_end ends[] = {
	    [REPLAY_RUNNING] = HS_PREFETCH_RUNNING,
	    [REPLAY_COMPLETE] = HS_PREFETCH_COMPLETE,
	    [REPLAY_OVER_BUDGET] = HS_PREFETCH_OVER_BUDGET,
	    [REPLAY_STOPPED] = HS_PREFETCH_STOPPED,
	    [REPLAY_BEHIND] = HS_PREFETCH_BEHIND,
	};
	struct prefetch_errand *p = container_of(er, struct prefetch_errand, er);
	struct replay *r = p->img->replay;

	*p->ret = (struct hs_prefetch_stats){.end = HS_PREFETCH_NONE};
	if (r)
		*p->ret = (struct hs_prefetch_stats){
		    .end = r->in_flight && r->end == REPLAY_COMPLETE ? HS_PREFETCH_RUNNING
								     : ends[r->end],
		    .planned_bytes = r->planned_bytes,
		    .fetched_bytes = r->fetched_bytes,
		    .used_bytes = p->img->open ? replay_used_bytes(r, p->img->image) : 0,
		    .planned_used_bytes =
			p->img->open ? replay_planned_used_bytes(r, p->img->image) : 0,
		    .failed_fetches = r->failed_fetches,
		    .ranges = r->count,
		    .late_ranges = r->late_ranges,
		    .start_ns = r->start_ns,
		    .end_ns = r->end_ns,
		};
	errand_end(er);
}

struct landed_errand {
	struct errand er;
	struct hs_image *img;
	size_t landed;
	bool final;
};

static void run_landed(struct errand *er)
{
	struct landed_errand *l = container_of(er, struct landed_errand, er);
	struct replay *r = l->img->replay;

	l->landed = r ? replay_landed(r) : 0;
	l->final = !r || (r->end != REPLAY_RUNNING && replay_idle(r));
	errand_end(er);
}

size_t hs_prefetch_landed(struct hs_image *img, bool *ret_final)
{
	struct landed_errand l = {.img = img};

	errand_wait(img->eng->loop, &l.er, run_landed);
	*ret_final = l.final;
	return l.landed;
}

void hs_prefetch_stats_get(struct hs_image *img, struct hs_prefetch_stats *ret)
{
	struct prefetch_errand p = {.img = img, .ret = ret};

	errand_wait(img->eng->loop, &p.er, run_prefetch_stats);
}

struct timeline_errand {
	struct errand er;
	const struct timeline *timeline;
	struct hs_event *events;
	size_t count;
	uint64_t dropped;
};

static void run_timeline(struct errand *er)
{
	static const enum hs_event_kind kinds[] = {
	    [TIMELINE_DEMAND] = HS_EVENT_DEMAND,
	    [TIMELINE_PREFETCH] = HS_EVENT_PREFETCH,
	    [TIMELINE_STALL] = HS_EVENT_STALL,
	};
	struct timeline_errand *t = container_of(er, struct timeline_errand, er);

	if (t->timeline) {
		t->count = t->timeline->count;
		t->dropped = t->timeline->dropped;
		t->events = xmalloc_zero(t->count + 1, sizeof(*t->events));
	}
	for (size_t n = 0; n < t->count; n++) {
		const struct timeline_entry *from = &t->timeline->entry[n];

		t->events[n] = (struct hs_event){kinds[from->kind], from->start_ns, from->end_ns,
						 from->off, from->bytes};
	}
	errand_end(er);
}

size_t hs_timeline_get(struct hs_engine *eng, struct hs_event **ret, uint64_t *ret_dropped)
{
	struct timeline_errand t = {.timeline = eng->path->timeline};

	errand_wait(eng->loop, &t.er, run_timeline);
	*ret = t.events;
	*ret_dropped = t.dropped;
	return t.count;
}
