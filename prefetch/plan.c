/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - see plan.h
 *
 * In this order: per run, what was touched first when, of the device; that as stored bytes, each
 * with its time in every run that read it; which of those count, and when; without what is there
 * anyway; as many as the budget allows, earliest first; joined where that is cheap; cut to size; in
 * the order of their times.
 *
 * Joining: a request costs a round trip on one of few connections, as much as some 100 KB. So gaps
 * are filled from the smallest one up, over all blobs, until they are the share of everything that
 * is allowed to be wasted: that leaves the fewest ranges for this waste. What is touched much later
 * than its neighbour is only joined to it while little comes too early by it.
 */
#include "plan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "prefetch_list.h"
#include "range.h"
#include "tables.h"
#include "text.h"
#include "weigh.h"

/* Device bytes per question to the map: pieces then end where compressed blocks do. */
#define STEP_BYTES (256u << 10)

void plan_options_default(struct plan_options *o)
{
	*o = (struct plan_options){
	    .gap_bytes = 128u << 10,
	    .waste_permille = 80,
	    .max_range_bytes = 4u << 20,
	    .window_ns = 250000000,
	    .min_runs_permille = 500,
	};
}

/* Stored bytes to fetch; disjoint. */
struct segment {
	uint32_t blob;
	bool apart; /* between it and the segment before lies what is there anyway */
	uint64_t at_ns;
	uint64_t off, bytes;
};

struct segments {
	struct segment *v;
	size_t count, room;
};

struct planner {
	const struct plan_map *map;
	const struct plan_options *o;
	struct prefetch_list *l;
	struct err *e;

	struct weigh_touch *pieces; /* of stored bytes; the line is the blob */
	size_t piece_count, piece_room;
	struct segments segments;

	uint32_t run;	/* whose pieces are being made */
	uint64_t at_ns; /* and of when */
};

#define COMPARE(a, b)                                                                              \
	do {                                                                                       \
		if ((a) != (b))                                                                    \
			return (a) < (b) ? -1 : 1;                                                 \
	} while (0)

/* --- of the device: first touches of each run ----------------------------------------------- */

static int take_stored(void *arg, uint32_t blob, uint64_t off, uint64_t bytes)
{
	struct planner *p = arg;

	if (!bytes)
		return 0;
	if (blob >= p->l->blob_count ||
	    !range_inside(range_of(off, bytes), p->l->blobs[blob].bytes))
		return err_set(p->e, -EBADMSG, "stored bytes of no blob of the list");
	p->pieces = room_for_one(p->pieces, p->piece_count, &p->piece_room, sizeof(*p->pieces));
	p->pieces[p->piece_count++] = (struct weigh_touch){blob, p->run, p->at_ns, off, bytes};
	return 0;
}

static int map_range(struct planner *p, uint64_t off, uint64_t bytes)
{
	const struct plan_map *map = p->map;

	while (bytes) {
		uint64_t skip = map->next ? map->next(map->arg, off) - off : 0, step;
		int r;

		if (skip >= bytes)
			break;
		off += skip;
		bytes -= skip;
		step = min_u64(bytes, STEP_BYTES - off % STEP_BYTES);
		r = map->stored(map->arg, off, step, take_stored, p);
		if (r)
			return r;
		off += step;
		bytes -= step;
	}
	return 0;
}

/* Neighbours of the same time, to be mapped together. */
struct fused {
	struct planner *p;
	struct weigh_touch t;
	int error;
};

static void map_fused(struct fused *f)
{
	if (f->error)
		return;
	f->p->at_ns = f->t.at_ns;
	f->error = map_range(f->p, f->t.off, f->t.bytes);
}

static void fuse_part(void *arg, const struct weigh_touch *part)
{
	struct fused *f = arg;

	if (f->t.bytes && f->t.at_ns == part->at_ns && f->t.off + f->t.bytes == part->off) {
		f->t.bytes += part->bytes;
		return;
	}
	map_fused(f);
	f->t = *part;
}

static int by_run(const void *a, const void *b)
{
	const struct weigh_touch *x = a, *y = b;

	COMPARE(x->run, y->run);
	return 0;
}

static int map_touches(struct planner *p, const struct plan_touch *touches, size_t count,
		       uint32_t runs)
{
	_cleanup_free_ struct weigh_touch *t = xmalloc_zero(count, sizeof(*t));
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const struct plan_touch *from = &touches[i];

		if (from->run >= runs || !range_checked(range_of(from->off, from->bytes)))
			return err_set(p->e, -EINVAL, "touch %zu cannot be", i);
		if (from->bytes && (!p->o->budget_ns || from->at_ns <= p->o->budget_ns))
			t[n++] =
			    (struct weigh_touch){0, from->run, from->at_ns, from->off, from->bytes};
	}
	if (n)
		qsort(t, n, sizeof(*t), by_run);
	for (size_t i = 0, end; i < n; i = end) {
		struct fused f = {.p = p};

		for (end = i; end < n && t[end].run == t[i].run;)
			end++;
		p->run = t[i].run;
		weigh(t + i, end - i, 1, 0, fuse_part, &f);
		map_fused(&f);
		if (f.error)
			return f.error;
	}
	return 0;
}

/* --- of the blobs: which bytes count, and when ---------------------------------------------- */

static void add_segment(struct segments *s, const struct segment *add)
{
	s->v = room_for_one(s->v, s->count, &s->room, sizeof(*s->v));
	s->v[s->count++] = *add;
}

static void add_part(void *arg, const struct weigh_touch *part)
{
	add_segment(arg, &(struct segment){
			     .blob = part->line,
			     .at_ns = part->at_ns,
			     .off = part->off,
			     .bytes = part->bytes,
			 });
}

/* --- without what is there ------------------------------------------------------------------ */

static int by_place(const void *a, const void *b)
{
	const struct prefetch_range *x = a, *y = b;

	COMPARE(x->blob, y->blob);
	COMPARE(x->off, y->off);
	COMPARE(x->bytes, y->bytes);
	return 0;
}

static bool is_before(const struct prefetch_range *h, uint32_t blob, uint64_t off)
{
	return h->blob < blob || (h->blob == blob && h->off + h->bytes <= off);
}

static void drop_have(struct planner *p)
{
	size_t n = p->o->have_count, h = 0;
	_cleanup_free_ struct prefetch_range *have = xmalloc_zero(n, sizeof(*have));
	struct segments left = {0};

	if (!n)
		return;
	memcpy(have, p->o->have, n * sizeof(*have));
	qsort(have, n, sizeof(*have), by_place);
	for (size_t i = 0; i < p->segments.count; i++) {
		struct segment s = p->segments.v[i];
		uint64_t end = s.off + s.bytes;

		while (h < n && is_before(&have[h], s.blob, s.off))
			h++;
		for (size_t k = h; k < n && have[k].blob == s.blob && have[k].off < end; k++) {
			uint64_t have_end = have[k].off + have[k].bytes;

			if (have[k].off > s.off) {
				s.bytes = have[k].off - s.off;
				add_segment(&left, &s);
			}
			s.off = max_u64(s.off, min_u64(have_end, end));
		}
		s.bytes = end - s.off;
		if (s.bytes)
			add_segment(&left, &s);
	}
	/* nothing is joined across what is there */
	for (size_t i = 1, k = 0; i < left.count; i++) {
		struct segment *s = &left.v[i];

		while (k < n && is_before(&have[k], s[-1].blob, s[-1].off + s[-1].bytes))
			k++;
		s->apart = k < n && have[k].blob == s->blob && have[k].off < s->off;
	}
	free(p->segments.v);
	p->segments = left;
}

/* --- the budget: the earliest --------------------------------------------------------------- */

struct earlier {
	const struct segment *v;
	size_t n;
};

static int by_time(const void *a, const void *b)
{
	const struct earlier *x = a, *y = b;

	COMPARE(x->v->at_ns, y->v->at_ns);
	COMPARE(x->n, y->n); /* ascending by blob and offset */
	return 0;
}

static void keep_budget(struct planner *p)
{
	size_t count = p->segments.count, n = 0;
	_cleanup_free_ struct earlier *order = xmalloc_zero(count, sizeof(*order));
	_cleanup_free_ bool *keep = xmalloc_zero(count, sizeof(*keep));
	uint64_t left = p->o->budget_bytes;
	bool apart = false;

	if (!left)
		return;
	for (size_t i = 0; i < count; i++)
		order[i] = (struct earlier){&p->segments.v[i], i};
	if (count)
		qsort(order, count, sizeof(*order), by_time);
	for (size_t i = 0; i < count && order[i].v->bytes <= left; i++) {
		keep[order[i].n] = true;
		left -= order[i].v->bytes;
	}
	for (size_t i = 0; i < count; i++) {
		apart |= p->segments.v[i].apart;
		if (!keep[i])
			continue;
		p->segments.v[n] = p->segments.v[i];
		p->segments.v[n++].apart = apart;
		apart = false;
	}
	p->segments.count = n;
}

/* --- joining -------------------------------------------------------------------------------- */

/* The space before segment @n, when it may be filled. */
struct gap {
	uint64_t bytes, apart_ns;
	size_t n;
};

/* Segments that become one range; found through their first one. */
struct group {
	size_t first; /* of the group, or on the way to it */
	uint64_t at_ns;
	uint64_t bytes; /* of all its segments and gaps */
	uint64_t early; /* of those that are touched more than the window after @at_ns */
};

static int by_gap(const void *a, const void *b)
{
	const struct gap *x = a, *y = b;

	COMPARE(x->bytes, y->bytes);
	COMPARE(x->apart_ns, y->apart_ns);
	COMPARE(x->n, y->n);
	return 0;
}

static size_t group_of(struct group *g, size_t n)
{
	while (g[n].first != n) {
		g[n].first = g[g[n].first].first;
		n = g[n].first;
	}
	return n;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a < b ? b - a : a - b;
}

static size_t find_gaps(const struct planner *p, struct gap *gaps)
{
	size_t n = 0;

	for (size_t i = 1; i < p->segments.count; i++) {
		const struct segment *s = &p->segments.v[i], *before = s - 1;
		uint64_t bytes = s->off - (before->off + before->bytes);

		if (s->blob == before->blob && !s->apart && bytes <= p->o->gap_bytes)
			gaps[n++] = (struct gap){bytes, distance(s->at_ns, before->at_ns), i};
	}
	if (n)
		qsort(gaps, n, sizeof(*gaps), by_gap);
	return n;
}

/* Join two groups unless that brings too much too early or is too long to be one request. */
static bool join(const struct plan_options *o, struct group *groups, size_t x, size_t y,
		 uint64_t gap)
{
	struct group *a = &groups[x], *b = &groups[y];
	const struct group *late = a->at_ns > b->at_ns ? a : b;
	uint64_t early = a->early + b->early;

	if (distance(a->at_ns, b->at_ns) > o->window_ns)
		early += late->bytes - late->early;
	if (early > o->gap_bytes && distance(a->at_ns, b->at_ns) > o->window_ns)
		return false;
	if (gap && a->bytes + gap + b->bytes > o->max_range_bytes)
		return false;
	a->at_ns = min_u64(a->at_ns, b->at_ns);
	a->bytes += gap + b->bytes;
	a->early = early;
	b->first = x;
	return true;
}

/* Returns for every segment its group: segments of one group follow each other. */
static struct group *join_segments(const struct planner *p)
{
	size_t count = p->segments.count, gap_count;
	struct group *groups = xmalloc_zero(count, sizeof(*groups));
	_cleanup_free_ struct gap *gaps = xmalloc_zero(count, sizeof(*gaps));
	uint64_t used = 0, wasted = 0;

	for (size_t i = 0; i < count; i++) {
		const struct segment *s = &p->segments.v[i];

		groups[i] = (struct group){.first = i, .at_ns = s->at_ns, .bytes = s->bytes};
		used += s->bytes;
	}
	gap_count = find_gaps(p, gaps);
	for (size_t i = 0; i < gap_count; i++) {
		uint64_t waste = wasted + gaps[i].bytes;

		if (gaps[i].bytes && waste * 1000 > p->o->waste_permille * (used + waste))
			break;
		if (gaps[i].bytes && p->o->budget_bytes && used + waste > p->o->budget_bytes)
			break;
		if (join(p->o, groups, group_of(groups, gaps[i].n - 1), group_of(groups, gaps[i].n),
			 gaps[i].bytes))
			wasted = waste;
	}
	return groups;
}

/* --- ranges --------------------------------------------------------------------------------- */

/* A range with the exact time, which decides the order. */
struct timed {
	struct prefetch_range r;
	uint64_t at_ns;
};

static int by_first_touch(const void *a, const void *b)
{
	const struct timed *x = a, *y = b;

	COMPARE(x->at_ns, y->at_ns);
	COMPARE(x->r.blob, y->r.blob);
	COMPARE(x->r.off, y->r.off);
	return 0;
}

struct timed_list {
	struct timed *v;
	size_t count, room;
};

static void add_range(struct timed_list *out, const struct segment *s, uint64_t off, uint64_t bytes)
{
	out->v = room_for_one(out->v, out->count, &out->room, sizeof(*out->v));
	out->v[out->count++] =
	    (struct timed){{.blob = s->blob, .off = off, .bytes = bytes}, s->at_ns};
}

/* One group as ranges of at most the size allowed, cut between segments where that is possible. */
static void cut_group(const struct plan_options *o, const struct segment *s, size_t count,
		      struct timed_list *out)
{
	uint64_t max = o->max_range_bytes ? o->max_range_bytes : UINT64_MAX;
	struct timed *r = NULL;

	for (size_t i = 0; i < count; i++) {
		uint64_t off = s[i].off, left = s[i].bytes;

		if (r && off + left - r->r.off <= max) {
			r->r.bytes = off + left - r->r.off;
			r->at_ns = min_u64(r->at_ns, s[i].at_ns);
			continue;
		}
		while (left) {
			uint64_t n = min_u64(left, max);

			add_range(out, &s[i], off, n);
			off += n;
			left -= n;
		}
		r = &out->v[out->count - 1];
	}
}

static void emit(struct planner *p, struct group *groups)
{
	struct timed_list out = {0};
	size_t count = p->segments.count, n;

	for (size_t i = 0, end; i < count; i = end) {
		for (end = i + 1; end < count && group_of(groups, end) == group_of(groups, i);)
			end++;
		cut_group(p->o, p->segments.v + i, end - i, &out);
	}
	if (out.count)
		qsort(out.v, out.count, sizeof(*out.v), by_first_touch);
	n = out.count < PREFETCH_LIST_MAX_RANGES ? out.count : PREFETCH_LIST_MAX_RANGES;
	p->l->ranges = xmalloc_zero(n, sizeof(*p->l->ranges));
	p->l->range_count = n;
	for (size_t i = 0; i < n; i++) {
		p->l->ranges[i] = out.v[i].r;
		p->l->ranges[i].at_ms = (uint32_t)min_u64(out.v[i].at_ns / 1000000, UINT32_MAX);
	}
	free(out.v);
}

int plan_ranges(const struct plan_touch *touches, size_t count, uint32_t runs,
		const struct plan_map *map, const struct plan_options *o, struct prefetch_list *l,
		struct err *e)
{
	struct planner p = {.map = map, .o = o, .l = l, .e = e};
	int r = map_touches(&p, touches, count, runs);

	if (!r) {
		struct group *groups;

		weigh(p.pieces, p.piece_count, runs, o->min_runs_permille, add_part, &p.segments);
		drop_have(&p);
		keep_budget(&p);
		groups = join_segments(&p);
		emit(&p, groups);
		free(groups);
	}
	free(p.pieces);
	free(p.segments.v);
	return r;
}
