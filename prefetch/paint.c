/* SPDX-License-Identifier: Apache-2.0 */
/* paint.c - see paint.h; parts that are painted are skipped by chains that get shorter with use */
#include "paint.h"

#include <stdlib.h>

#include "text.h"

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void paint_line_make(struct paint_line *l, uint64_t *cut, size_t count)
{
	size_t n = 0;

	if (count)
		qsort(cut, count, sizeof(*cut), ascending);
	for (size_t i = 0; i < count; i++)
		if (!n || cut[i] != cut[n - 1])
			cut[n++] = cut[i];
	*l = (struct paint_line){.cut = cut, .cuts = n};
	l->next = xmalloc_zero(n + 1, sizeof(*l->next));
	paint_line_clear(l);
}

void paint_line_done(struct paint_line *l)
{
	free(l->cut);
	free(l->next);
	*l = (struct paint_line){0};
}

void paint_line_clear(struct paint_line *l)
{
	for (size_t i = 0; i <= l->cuts; i++)
		l->next[i] = i;
}

static size_t unpainted(struct paint_line *l, size_t part)
{
	while (l->next[part] != part) {
		l->next[part] = l->next[l->next[part]];
		part = l->next[part];
	}
	return part;
}

static size_t part_at(const struct paint_line *l, uint64_t off)
{
	size_t lo = 0, hi = l->cuts;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->cut[mid] < off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void paint(struct paint_line *l, uint64_t off, uint64_t bytes, void (*fn)(void *arg, size_t part),
	   void *arg)
{
	size_t part = unpainted(l, part_at(l, off));

	while (part + 1 < l->cuts && l->cut[part] - off < bytes) {
		l->next[part] = part + 1;
		fn(arg, part);
		part = unpainted(l, part + 1);
	}
}
