/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hot_order.c - see hot_order.h: touches become blocks, sorted by file and place, the first touch
 * counts
 */
#include "hot_order.h"

#include "blockmap.h"
#include "bytes.h"
#include "prefetch_list.h"
#include "range.h"
#include "text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Repeats counted: lists name a block more than once in a while, not all the time. */
#define MAX_TOUCHED (16 * HOT_ORDER_MAX_BLOCKS)

struct hot {
	uint32_t file; /* of the list; from sorting on: of the order */
	uint32_t lblk;
	uint32_t rank;
};

struct hot_file {
	const char *path;      /* in @names of the order */
	uint32_t first, count; /* in @hot */
};

struct hot_order {
	struct hot *hot; /* by file and place */
	size_t count;
	struct hot_file *file; /* by path */
	size_t file_count;
	char **names;
	size_t name_count;
	char id[DIGEST_TEXT_BYTES];
};

static int by_place(const void *a, const void *b)
{
	const struct hot *x = a, *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	if (x->lblk != y->lblk)
		return x->lblk < y->lblk ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static int by_rank(const void *a, const void *b)
{
	const struct hot *x = a, *y = b;

	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct hot_file *)a)->path, ((const struct hot_file *)b)->path);
}

/* Keep the first touch of every block; @hot ends up by file and place. */
static size_t keep_first(struct hot *hot, size_t count)
{
	size_t kept = 0;

	qsort(hot, count, sizeof(*hot), by_place);
	for (size_t n = 0; n < count; n++)
		if (!kept || hot[n].file != hot[kept - 1].file || hot[n].lblk != hot[kept - 1].lblk)
			hot[kept++] = hot[n];
	return kept;
}

/*
 * Repeats are dropped whenever the array is full, so that a list that touches few blocks over and
 * over takes no more room than one that touches them once.
 */
static void take_blocks(struct hot_order *l, const struct prefetch_list *list)
{
	size_t room = 1u << 16;
	uint32_t rank = 0;

	l->hot = xmalloc_zero(room, sizeof(*l->hot));
	for (size_t n = 0; n < list->touch_count; n++) {
		const struct prefetch_touch *t = &list->touches[n];
		uint64_t first = t->off / BLOCK_BYTES, last, left, bytes = t->bytes;
		bool device = t->file == PREFETCH_NO_FILE;
		uint32_t file = device ? (uint32_t)list->file_count : t->file;

		if (!bytes)
			continue;
		/* not further than the file went; 0: not known */
		left = device ? 0 : list->files[t->file].bytes;
		left = left ? left - min_u64(t->off, left) : UINT64_MAX - t->off;
		bytes = min_u64(bytes, left);
		if (!bytes)
			continue;
		last = (t->off + bytes - 1) / BLOCK_BYTES;
		for (uint64_t b = first; b <= last && b < UINT32_MAX; b++) {
			/* touches may overlap as they like, and a device's may claim anything */
			if (rank == MAX_TOUCHED) {
				l->count = keep_first(l->hot, l->count);
				return;
			}
			if (l->count == room) {
				l->count = keep_first(l->hot, l->count);
				if (l->count >= HOT_ORDER_MAX_BLOCKS)
					return;
				if (l->count > room / 2) {
					room *= 2;
					l->hot = realloc(l->hot, room * sizeof(*l->hot));
					if (!l->hot)
						abort();
				}
			}
			l->hot[l->count++] = (struct hot){file, (uint32_t)b, rank++};
		}
	}
	l->count = keep_first(l->hot, l->count);
}

/* Ranks without gaps, so that neighbours in the order are neighbours in number. */
static void number_blocks(struct hot_order *l)
{
	qsort(l->hot, l->count, sizeof(*l->hot), by_rank);
	if (l->count > HOT_ORDER_MAX_BLOCKS)
		l->count = HOT_ORDER_MAX_BLOCKS;
	for (size_t n = 0; n < l->count; n++)
		l->hot[n].rank = (uint32_t)n;
}

static void name_order(struct hot_order *l)
{
	struct digest *d = digest_new();
	uint8_t number[4];

	for (size_t n = 0; n < l->count; n++) {
		const char *path = l->names[l->hot[n].file];

		digest_add(d, path, strlen(path) + 1);
		put_le32(number, l->hot[n].lblk);
		digest_add(d, number, sizeof(number));
	}
	digest_text(d, l->id);
	digest_free(d);
}

struct hot_order *hot_order_new(const struct prefetch_list *list)
{
	struct hot_order *l = xmalloc_zero(1, sizeof(*l));

	l->name_count = list->file_count + 1;
	l->names = xmalloc_zero(l->name_count, sizeof(*l->names));
	for (size_t n = 0; n < list->file_count; n++)
		l->names[n] = text_dup(list->files[n].path + strspn(list->files[n].path, "/"));
	l->names[list->file_count] = text_dup(HOT_ORDER_DEVICE);
	take_blocks(l, list);
	number_blocks(l);
	name_order(l);
	qsort(l->hot, l->count, sizeof(*l->hot), by_place);
	l->file = xmalloc_zero(l->name_count, sizeof(*l->file));
	for (size_t n = 0; n < l->count; n++) {
		struct hot_file *f = l->file_count ? &l->file[l->file_count - 1] : NULL;

		if (!f || l->hot[n].file != l->hot[n - 1].file) {
			f = &l->file[l->file_count++];
			f->path = l->names[l->hot[n].file];
			f->first = (uint32_t)n;
		}
		f->count++;
	}
	qsort(l->file, l->file_count, sizeof(*l->file), by_path);
	return l;
}

void hot_order_free(struct hot_order *l)
{
	if (!l)
		return;
	for (size_t n = 0; n < l->name_count; n++)
		free(l->names[n]);
	free(l->names);
	free(l->file);
	free(l->hot);
	free(l);
}

const char *hot_order_id(const struct hot_order *l)
{
	return l->id;
}

const struct hot_file *hot_order_find(const struct hot_order *l, const char *path)
{
	struct hot_file want = {.path = path};

	return bsearch(&want, l->file, l->file_count, sizeof(*l->file), by_path);
}

uint32_t hot_order_run(const struct hot_order *l, const struct hot_file *f, uint32_t lblk,
		       uint32_t count, uint32_t *ret_rank)
{
	const struct hot *h = l->hot + f->first, *end = h + f->count;
	size_t low = 0, high = f->count;
	uint32_t n = 0;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (h[mid].lblk < lblk)
			low = mid + 1;
		else
			high = mid;
	}
	h += low;
	*ret_rank = HOT_ORDER_COLD;
	if (h == end || h->lblk != lblk)
		return h == end || h->lblk - lblk > count ? count : h->lblk - lblk;
	*ret_rank = h->rank;
	while (n < count && h + n < end && h[n].lblk == lblk + n && h[n].rank == h->rank + n)
		n++;
	return n;
}
