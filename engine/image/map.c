/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - merge of the layers' indexes
 *
 * Two sorted maps are laid over each other in one pass; layers are paired off like a merge sort, so
 * that a stack of k layers costs log k passes. A segment is cut where an upper one hides it and
 * never fused again: the mappings are those that upstream's own merge makes.
 */
#include "map.h"

#include <errno.h>
#include <stdlib.h>

#include "err.h"
#include "text.h"

/* A segment that knows its layer; 24 bytes. */
struct mapping {
	uint64_t off;
	uint64_t moff;
	uint32_t len;
	uint8_t layer;
	uint8_t tag;
	bool zeroed;
};

struct mappings {
	struct mapping *m;
	size_t count, room;
};

struct image_map {
	uint64_t device_bytes;
	struct mappings all;
};

static uint64_t mapping_end(const struct mapping *m)
{
	return m->off + m->len;
}

static void append(struct mappings *to, const struct mapping *m)
{
	to->m = xgrow(to->m, &to->room, to->count, sizeof(*to->m));
	to->m[to->count++] = *m;
}

/* The part [off, end) of @m. */
static void append_part(struct mappings *to, const struct mapping *m, uint64_t off, uint64_t end)
{
	struct mapping part = *m;

	part.moff += m->zeroed ? 0 : off - m->off;
	part.off = off;
	part.len = (uint32_t)(end - off);
	append(to, &part);
}

static struct mappings overlay(const struct mappings *upper, const struct mappings *lower)
{
	struct mappings out = {0};
	uint64_t pos = 0; /* all before it is decided */
	size_t l = 0;

	for (size_t u = 0; u <= upper->count; u++) {
		const struct mapping *up = u < upper->count ? &upper->m[u] : NULL;

		while (l < lower->count && (!up || lower->m[l].off < up->off)) {
			const struct mapping *low = &lower->m[l];
			uint64_t off = max_u64(low->off, pos);
			uint64_t end = mapping_end(low);

			if (up && end > up->off) {
				/* goes on below @up; looked at again behind it */
				if (off < up->off)
					append_part(&out, low, off, up->off);
				break;
			}
			if (off < end)
				append_part(&out, low, off, end);
			l++;
		}
		if (up) {
			append(&out, up);
			pos = mapping_end(up);
		}
	}
	return out;
}

static struct mappings from_layer(const struct lsmt_index *layer, size_t number,
				  uint64_t device_bytes)
{
	struct mappings out = {0};

	for (size_t i = 0; i < layer->count; i++) {
		const struct lsmt_segment *s = &layer->seg[i];
		struct mapping m = {
		    .off = s->off,
		    .moff = s->zeroed ? 0 : s->moff,
		    .len = s->len,
		    .layer = (uint8_t)number,
		    .tag = s->tag,
		    .zeroed = s->zeroed,
		};

		if (s->off >= device_bytes)
			break;
		m.len = (uint32_t)min_u64(s->len, device_bytes - s->off);
		append(&out, &m);
	}
	return out;
}

/* Layers [first, first+count) as one; empty and too large when the limit is passed. */
static int merge(const struct lsmt_index *layers, size_t first, size_t count, uint64_t device_bytes,
		 struct mappings *ret, struct err *e)
{
	struct mappings lower, upper;
	size_t half = count / 2;
	int r;

	if (count == 1) {
		*ret = from_layer(&layers[first], first, device_bytes);
		return 0;
	}
	r = merge(layers, first, half, device_bytes, &lower, e);
	if (r < 0)
		return r;
	r = merge(layers, first + half, count - half, device_bytes, &upper, e);
	if (r < 0) {
		free(lower.m);
		return r;
	}
	*ret = overlay(&upper, &lower);
	free(lower.m);
	free(upper.m);
	if (ret->count > LSMT_RW_MAX_RECORDS) {
		free(ret->m);
		return err_set(e, -EOVERFLOW, "image: more than %llu mappings",
			       LSMT_RW_MAX_RECORDS);
	}
	return 0;
}

int image_map_build(const struct lsmt_index *layers, size_t layer_count, uint64_t device_bytes,
		    struct image_map **ret, struct err *e)
{
	struct mappings all = {0};
	struct image_map *m;
	int r = 0;

	if (layer_count > LSMT_MAX_LAYERS)
		return err_set(e, -EINVAL, "image: %zu layers, at most %d are possible",
			       layer_count, LSMT_MAX_LAYERS);
	if (layer_count > 0)
		r = merge(layers, 0, layer_count, device_bytes, &all, e);
	if (r < 0)
		return r;
	m = xmalloc_zero(1, sizeof(*m));
	m->device_bytes = device_bytes;
	m->all = all;
	*ret = m;
	return 0;
}

void image_map_free(struct image_map *m)
{
	if (!m)
		return;
	free(m->all.m);
	free(m);
}

uint64_t image_map_bytes(const struct image_map *m)
{
	return m->device_bytes;
}

/* The first mapping that ends behind @off, or count. */
static size_t find(const struct image_map *m, uint64_t off)
{
	size_t lo = 0, hi = m->all.count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (mapping_end(&m->all.m[mid]) > off)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static struct map_piece piece_of(const struct mapping *m)
{
	return (struct map_piece){
	    .range = range_of(m->off, m->len),
	    .zero = m->zeroed,
	    .layer = m->layer,
	    .tag = m->tag,
	    .moff = m->moff,
	};
}

/* Whether @next is the same file going on, or more zeros. */
static bool continues(const struct map_piece *p, const struct mapping *next)
{
	if (next->off != range_end(p->range) || next->zeroed != p->zero)
		return false;
	return p->zero || (next->layer == p->layer && next->tag == p->tag &&
			   next->moff == p->moff + p->range.len);
}

struct map_piece image_map_next(const struct image_map *m, struct range r)
{
	size_t n = find(m, r.off);
	struct map_piece p;
	uint64_t skip;

	if (n == m->all.count || m->all.m[n].off >= range_end(r))
		return (struct map_piece){.range = r, .zero = true};
	p = piece_of(&m->all.m[n]);
	if (p.range.off > r.off)
		return (struct map_piece){
		    .range = range_of(r.off, p.range.off - r.off),
		    .zero = true,
		};
	while (range_end(p.range) < range_end(r) && ++n < m->all.count &&
	       continues(&p, &m->all.m[n]))
		p.range.len += m->all.m[n].len;
	skip = r.off - p.range.off;
	if (!p.zero)
		p.moff += skip;
	p.range = range_clip(p.range, r);
	return p;
}

void image_map_totals(const struct image_map *m, uint64_t *ret_mappings, uint64_t *ret_data_bytes,
		      uint64_t *ret_zeroed_bytes)
{
	uint64_t data = 0, zeroed = 0;

	for (size_t i = 0; i < m->all.count; i++) {
		if (m->all.m[i].zeroed)
			zeroed += m->all.m[i].len;
		else
			data += m->all.m[i].len;
	}
	*ret_mappings = m->all.count;
	*ret_data_bytes = data;
	*ret_zeroed_bytes = zeroed;
}

bool image_map_mapping(const struct image_map *m, size_t n, struct map_piece *ret)
{
	if (n >= m->all.count)
		return false;
	*ret = piece_of(&m->all.m[n]);
	return true;
}
