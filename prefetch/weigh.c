/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weigh.c - see weigh.h
 *
 * Each line is cut wherever a touch begins or ends. Each run paints its touches on it, earliest
 * first; then every part has the times of those runs that painted it.
 */
#include "weigh.h"

#include <stdlib.h>

#include "paint.h"
#include "text.h"

#define COMPARE(a, b)                                                                              \
	do {                                                                                       \
		if ((a) != (b))                                                                    \
			return (a) < (b) ? -1 : 1;                                                 \
	} while (0)

static int by_line_run_time(const void *a, const void *b)
{
	const struct weigh_touch *x = a, *y = b;

	COMPARE(x->line, y->line);
	COMPARE(x->run, y->run);
	COMPARE(x->at_ns, y->at_ns);
	COMPARE(x->off, y->off);
	COMPARE(x->bytes, y->bytes);
	return 0;
}

/* That a run touched a part first at a time. */
struct sight {
	size_t part;
	uint64_t at_ns;
};

struct sights {
	struct sight *v;
	size_t count, room;
	uint64_t now_ns;
};

static void see_part(void *arg, size_t part)
{
	struct sights *s = arg;

	s->v = xgrow(s->v, &s->room, s->count, sizeof(*s->v));
	s->v[s->count++] = (struct sight){part, s->now_ns};
}

static int by_part_and_time(const void *a, const void *b)
{
	const struct sight *x = a, *y = b;

	COMPARE(x->part, y->part);
	COMPARE(x->at_ns, y->at_ns);
	return 0;
}

/* Touches of one line; by run and time. */
static void paint_runs(struct paint_line *line, const struct weigh_touch *t, size_t count,
		       struct sights *s)
{
	uint64_t *cut = xmalloc_zero(2 * count, sizeof(*cut));

	for (size_t i = 0; i < count; i++) {
		cut[2 * i] = t[i].off;
		cut[2 * i + 1] = t[i].off + t[i].bytes;
	}
	paint_line_make(line, cut, 2 * count);
	for (size_t i = 0; i < count; i++) {
		if (i && t[i].run != t[i - 1].run)
			paint_line_clear(line);
		s->now_ns = t[i].at_ns;
		paint(line, t[i].off, t[i].bytes, see_part, s);
	}
	if (s->count)
		qsort(s->v, s->count, sizeof(*s->v), by_part_and_time);
}

static void weigh_line(const struct weigh_touch *t, size_t count, uint64_t enough, weigh_fn *fn,
		       void *arg)
{
	struct sights s = {0};
	struct paint_line line;

	paint_runs(&line, t, count, &s);
	for (size_t i = 0, end; i < s.count; i = end) {
		size_t part = s.v[i].part;

		for (end = i; end < s.count && s.v[end].part == part;)
			end++;
		if ((uint64_t)(end - i) * 1000 < enough)
			continue;
		fn(arg, &(struct weigh_touch){
			    .line = t->line,
			    .at_ns = s.v[i + (end - i - 1) / 2].at_ns,
			    .off = line.cut[part],
			    .bytes = line.cut[part + 1] - line.cut[part],
			});
	}
	free(s.v);
	paint_line_done(&line);
}

void weigh(struct weigh_touch *t, size_t count, uint32_t runs, unsigned int min_runs_permille,
	   weigh_fn *fn, void *arg)
{
	if (count)
		qsort(t, count, sizeof(*t), by_line_run_time);
	for (size_t i = 0, end; i < count; i = end) {
		for (end = i; end < count && t[end].line == t[i].line;)
			end++;
		weigh_line(t + i, end - i, (uint64_t)min_runs_permille * runs, fn, arg);
	}
}
