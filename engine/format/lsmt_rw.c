/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lsmt_rw.c - the index of read-write layers: replayed records, or the extents of a sparse file
 *
 * Records of an append-mode layer overlap and are in order of time. They are put in order of
 * place by one sweep: at every position the newest record that covers it wins.
 */
#include "lsmt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "err.h"
#include "lsmt_record.h"
#include "text.h"

/* A record with its age; a larger age is newer. */
struct aged {
	struct lsmt_record rec;
	uint64_t age;
};

struct sweep {
	const struct aged *rec; /* sorted by offset */
	size_t *heap;		/* of indexes into rec, newest on top */
	size_t heap_len;
	struct lsmt_segment *seg;
	size_t count, room;
	uint64_t last_age;
};

static int by_offset(const void *a, const void *b)
{
	const struct aged *x = a, *y = b;

	if (x->rec.off != y->rec.off)
		return x->rec.off < y->rec.off ? -1 : 1;
	return x->age < y->age ? -1 : x->age > y->age;
}

static void heap_push(struct sweep *s, size_t n)
{
	size_t i = s->heap_len++;

	while (i > 0) {
		size_t up = (i - 1) / 2;

		if (s->rec[s->heap[up]].age > s->rec[n].age)
			break;
		s->heap[i] = s->heap[up];
		i = up;
	}
	s->heap[i] = n;
}

static void heap_pop(struct sweep *s)
{
	size_t n = s->heap[--s->heap_len];
	size_t i = 0;

	for (;;) {
		size_t down = 2 * i + 1;

		if (down >= s->heap_len)
			break;
		if (down + 1 < s->heap_len &&
		    s->rec[s->heap[down + 1]].age > s->rec[s->heap[down]].age)
			down++;
		if (s->rec[n].age > s->rec[s->heap[down]].age)
			break;
		s->heap[i] = s->heap[down];
		i = down;
	}
	s->heap[i] = n;
}

static uint64_t record_end(const struct aged *a)
{
	return a->rec.off + a->rec.len;
}

/* The part [off, end) of @a, in sectors. */
static void emit(struct sweep *s, const struct aged *a, uint64_t off, uint64_t end)
{
	struct lsmt_record part = a->rec;

	if (s->count > 0 && s->last_age == a->age) {
		struct lsmt_segment *last = &s->seg[s->count - 1];

		if (last->off + last->len == off * LSMT_SECTOR_BYTES) {
			last->len += (uint32_t)(end - off) * LSMT_SECTOR_BYTES;
			return;
		}
	}
	s->seg = xgrow(s->seg, &s->room, s->count, sizeof(*s->seg));
	if (!part.zeroed)
		part.moff += off - part.off;
	part.off = off;
	part.len = (uint32_t)(end - off);
	s->seg[s->count++] = lsmt_record_segment(&part);
	s->last_age = a->age;
}

static void sweep_run(struct sweep *s, size_t count)
{
	uint64_t pos = 0;
	size_t next = 0;

	while (next < count || s->heap_len > 0) {
		const struct aged *top;
		uint64_t end;

		if (s->heap_len == 0)
			pos = s->rec[next].rec.off;
		while (next < count && s->rec[next].rec.off <= pos)
			heap_push(s, next++);
		top = &s->rec[s->heap[0]];
		if (record_end(top) <= pos) {
			heap_pop(s);
			continue;
		}
		end = record_end(top);
		if (next < count && s->rec[next].rec.off < end)
			end = s->rec[next].rec.off;
		emit(s, top, pos, end);
		pos = end;
	}
}

/* Upstream's open checks of an append-mode layer. */
static bool inside_data(const struct lsmt_record *r, uint64_t data_sectors)
{
	if (r->moff < LSMT_HEADER_BYTES / LSMT_SECTOR_BYTES || r->moff > data_sectors)
		return false;
	return r->zeroed || r->len <= data_sectors - r->moff;
}

int lsmt_index_replay(const void *records, size_t bytes, uint64_t data_bytes,
		      struct lsmt_index *ret, struct err *e)
{
	const uint8_t *p = records;
	size_t count = bytes / LSMT_RECORD_BYTES, used = 0;
	struct sweep s = {0};
	struct aged *rec;

	if (count > LSMT_RW_MAX_RECORDS)
		return err_set(e, -EBADMSG, "lsmt index: %zu records are too many", count);
	rec = xmalloc_zero(count + 1, sizeof(*rec));
	for (size_t n = 0; n < count; n++) {
		struct aged *a = &rec[used];

		if (!lsmt_record_get(p + n * LSMT_RECORD_BYTES, &a->rec))
			continue;
		if (!inside_data(&a->rec, data_bytes / LSMT_SECTOR_BYTES)) {
			free(rec);
			return err_set(e, -EBADMSG,
				       "lsmt index: record %zu is mapped outside the data file", n);
		}
		a->rec.tag = 0; /* what is stored is upstream's run-time number */
		a->age = n;
		if (a->rec.len > 0)
			used++;
	}
	qsort(rec, used, sizeof(*rec), by_offset);
	s.rec = rec;
	s.heap = xmalloc_zero(used + 1, sizeof(*s.heap));
	sweep_run(&s, used);
	free(s.heap);
	free(rec);
	ret->seg = s.seg;
	ret->count = s.count;
	return 0;
}

int lsmt_index_sparse(const struct range *extents, size_t count, uint64_t virtual_bytes,
		      struct lsmt_index *ret, struct err *e)
{
	const uint64_t record_max = (uint64_t)LSMT_RECORD_MAX_SECTORS * LSMT_SECTOR_BYTES;
	struct range file;
	uint64_t done = LSMT_HEADER_BYTES, total = 0;
	struct lsmt_index i = {0};

	virtual_bytes = round_down(virtual_bytes, LSMT_SECTOR_BYTES);
	if (virtual_bytes > LSMT_DEVICE_MAX_SECTORS * LSMT_SECTOR_BYTES)
		return err_set(e, -EBADMSG, "lsmt: device of %" PRIu64 " bytes", virtual_bytes);
	file = range_of(LSMT_HEADER_BYTES, virtual_bytes);
	for (size_t n = 0; n < count; n++) {
		if (!range_checked(extents[n]) ||
		    (n > 0 && extents[n].off < range_end(extents[n - 1])))
			return err_set(e, -EINVAL, "lsmt: extents are out of order");
		total += range_clip(extents[n], file).len / record_max + 2;
	}
	if (total > LSMT_RW_MAX_RECORDS)
		return err_set(e, -EBADMSG, "lsmt: %" PRIu64 " extents are too many", total);
	i.seg = xmalloc_zero(total + 1, sizeof(*i.seg));
	for (size_t n = 0; n < count; n++) {
		struct range x = range_clip(extents[n], file);
		uint64_t off = max_u64(round_down(x.off, LSMT_SECTOR_BYTES), done);
		uint64_t end = round_up(range_end(x), LSMT_SECTOR_BYTES);

		if (x.len == 0)
			continue;
		while (off < end) {
			uint64_t len = min_u64(end - off, record_max);

			i.seg[i.count++] = (struct lsmt_segment){
			    .off = off - LSMT_HEADER_BYTES,
			    .moff = off,
			    .len = (uint32_t)len,
			};
			off += len;
		}
		done = max_u64(done, end);
	}
	*ret = i;
	return 0;
}
