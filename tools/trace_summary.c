/* SPDX-License-Identifier: Apache-2.0 */
/* trace_summary.c - see trace_summary.h */
#include "trace_summary.h"

#include <stdlib.h>

#include "cleanup.h"
#include "range.h"
#include "text.h"
#include "weigh.h"

const char *trace_kind_name(enum trace_kind k)
{
	switch (k) {
	case TRACE_READ:
		return "read";
	case TRACE_FAULT:
		return "fault";
	case TRACE_MAPPED:
		return "mapped";
	case TRACE_CACHED:
		return "cached";
	case TRACE_BLOCK:
		return "block";
	}
	return "?";
}

const char *trace_precision_name(enum trace_precision p)
{
	switch (p) {
	case TRACE_EXACT:
		return "exact";
	case TRACE_WINDOWS:
		return "windows";
	case TRACE_FETCHED:
		return "fetched";
	}
	return "?";
}

char *trace_object_name(const struct trace_object *o)
{
	if (o->path)
		return text_dup(o->path);
	if (o->kind == TRACE_DEVICE)
		return text_printf("(device %u:%u, metadata)", o->dev >> 20, o->dev & 0xfffff);
	return text_printf("(unknown file: device %u:%u, inode %llu)", o->dev >> 20,
			   o->dev & 0xfffff, (unsigned long long)o->ino);
}

static void add_event(struct trace_row *row, const struct trace_event *ev, bool demand)
{
	if (!row->events++)
		row->first_ns = ev->at_ns;
	row->demand_events += demand;
}

/* Bytes of weighed parts, by line. */
struct sums {
	uint64_t *of;
};

static void add_part(void *arg, const struct weigh_touch *part)
{
	const struct sums *s = arg;

	s->of[part->line] += part->bytes;
}

enum what { DEMAND = 1, CACHED = 2 };

/* Bytes of each object that were demanded, cached, or either. */
static void sum_objects(const struct trace *t, unsigned int what, uint64_t *ret)
{
	_cleanup_free_ struct weigh_touch *touch = xmalloc_zero(t->event_count, sizeof(*touch));
	struct sums s = {ret};
	size_t n = 0;

	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];

		if (ev->bytes && (((what & DEMAND) && trace_is_demand(t, ev)) ||
				  ((what & CACHED) && ev->kind == TRACE_CACHED)))
			touch[n++] = (struct weigh_touch){ev->object, 0, 0, ev->off, ev->bytes};
	}
	weigh(touch, n, 1, 0, add_part, &s);
}

/* Where each object begins when all lie one behind the other; false: that is more than 2^64. */
static bool line_up(const struct trace *t, uint64_t *base)
{
	uint64_t at = 0;

	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];

		base[ev->object] = max_u64(base[ev->object], ev->off + ev->bytes);
	}
	for (size_t i = 0; i < t->object_count; i++) {
		uint64_t bytes = base[i];

		base[i] = at;
		if (bytes > UINT64_MAX - at)
			return false;
		at += bytes;
	}
	return true;
}

static void sum_processes(const struct trace *t, uint64_t *ret)
{
	_cleanup_free_ struct weigh_touch *touch = xmalloc_zero(t->event_count, sizeof(*touch));
	_cleanup_free_ uint64_t *base = xmalloc_zero(t->object_count, sizeof(*base));
	struct sums s = {ret};
	size_t n = 0;

	if (!line_up(t, base))
		return;
	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];

		if (ev->bytes && trace_is_demand(t, ev))
			touch[n++] = (struct weigh_touch){ev->process, 0, 0,
							  base[ev->object] + ev->off, ev->bytes};
	}
	weigh(touch, n, 1, 0, add_part, &s);
}

static int by_first(const void *a, const void *b)
{
	const struct trace_row *x = a, *y = b;

	if (x->first_ns != y->first_ns)
		return x->first_ns < y->first_ns ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static int by_bytes(const void *a, const void *b)
{
	const struct trace_row *x = a, *y = b;

	if (x->demand_bytes != y->demand_bytes)
		return x->demand_bytes > y->demand_bytes ? -1 : 1;
	return by_first(a, b);
}

void trace_summary_by_bytes(struct trace_row *rows, size_t count)
{
	if (count)
		qsort(rows, count, sizeof(*rows), by_bytes);
}

/* Rows without an event go. */
static size_t order(struct trace_row *rows, size_t count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (rows[i].events)
			rows[n++] = rows[i];
	if (n)
		qsort(rows, n, sizeof(*rows), by_first);
	return n;
}

static void sum_all(struct trace_summary *s, const struct trace *t)
{
	_cleanup_free_ uint64_t *demand = xmalloc_zero(t->object_count, sizeof(*demand));
	_cleanup_free_ uint64_t *cached = xmalloc_zero(t->object_count, sizeof(*cached));
	_cleanup_free_ uint64_t *either = xmalloc_zero(t->object_count, sizeof(*either));
	_cleanup_free_ uint64_t *process = xmalloc_zero(t->process_count, sizeof(*process));

	sum_objects(t, DEMAND, demand);
	sum_objects(t, CACHED, cached);
	sum_objects(t, DEMAND | CACHED, either);
	sum_processes(t, process);
	for (size_t i = 0; i < t->object_count; i++) {
		s->objects[i].demand_bytes = demand[i];
		s->objects[i].cached_bytes = cached[i];
		if (t->objects[i].kind == TRACE_DEVICE) {
			s->metadata_bytes += demand[i];
			continue;
		}
		s->demand_events += s->objects[i].demand_events;
		s->demand_files += s->objects[i].demand_events > 0;
		s->unnamed_files += s->objects[i].demand_events && !t->objects[i].path;
		s->demand_bytes += demand[i];
		s->cached_bytes += cached[i];
		s->ahead_bytes += either[i] - demand[i];
	}
	for (size_t i = 0; i < t->process_count; i++)
		s->processes[i].demand_bytes = process[i];
}

void trace_summary_make(struct trace_summary *s, const struct trace *t)
{
	*s = (struct trace_summary){
	    .objects = xmalloc_zero(t->object_count, sizeof(*s->objects)),
	    .processes = xmalloc_zero(t->process_count, sizeof(*s->processes)),
	};
	for (size_t i = 0; i < t->object_count; i++)
		s->objects[i].number = (uint32_t)i;
	for (size_t i = 0; i < t->process_count; i++)
		s->processes[i].number = (uint32_t)i;
	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];
		bool demand = trace_is_demand(t, ev);

		s->events[ev->kind]++;
		s->bytes[ev->kind] += ev->bytes;
		add_event(&s->objects[ev->object], ev, demand);
		add_event(&s->processes[ev->process], ev, demand);
	}
	sum_all(s, t);
	s->object_count = order(s->objects, t->object_count);
	s->process_count = order(s->processes, t->process_count);
}

void trace_summary_done(struct trace_summary *s)
{
	free(s->objects);
	free(s->processes);
	*s = (struct trace_summary){0};
}
