/* SPDX-License-Identifier: Apache-2.0 */
/* hot_hold.c - see hot_hold.h */
#include "hot_hold.h"

#include "blockmap.h"
#include "hot_order.h"
#include "log.h"
#include "text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_BLOCKS 256u

struct held {
	uint32_t rank, slot; /* place in the slabs */
	uint64_t dev_off;
};

struct hot_hold {
	const struct hot_order *order;
	uint64_t max_blocks;
	struct held *held;
	size_t count, room;
	uint8_t **slab;
	size_t slab_room;
	bool full;
};

struct hot_hold *hot_hold_new(const struct hot_order *l, uint64_t max_bytes)
{
	struct hot_hold *h = xmalloc_zero(1, sizeof(*h));

	h->order = l;
	h->max_blocks = max_bytes / BLOCK_BYTES;
	return h;
}

void hot_hold_free(struct hot_hold *h)
{
	if (!h)
		return;
	for (size_t n = 0; n * SLAB_BLOCKS < h->count; n++)
		free(h->slab[n]);
	free(h->slab);
	free(h->held);
	free(h);
}

const struct hot_order *hot_hold_order(const struct hot_hold *h)
{
	return h->order;
}

uint64_t hot_hold_bytes(const struct hot_hold *h)
{
	return (uint64_t)h->count * BLOCK_BYTES;
}

static uint8_t *slot(const struct hot_hold *h, uint32_t n)
{
	return h->slab[n / SLAB_BLOCKS] + (size_t)(n % SLAB_BLOCKS) * BLOCK_BYTES;
}

uint32_t hot_hold_add(struct hot_hold *h, uint32_t rank, uint64_t dev_off, const void *p,
		      uint32_t count)
{
	for (uint32_t n = 0; n < count; n++) {
		if (h->count == h->max_blocks) {
			if (!h->full)
				log_warn("layer has more for the start than is held back, the rest "
					 "stays where it is held_bytes=%llu",
					 (unsigned long long)hot_hold_bytes(h));
			h->full = true;
			return n;
		}
		h->held = xgrow(h->held, &h->room, h->count, sizeof(*h->held));
		if (h->count % SLAB_BLOCKS == 0) {
			h->slab =
			    xgrow(h->slab, &h->slab_room, h->count / SLAB_BLOCKS, sizeof(*h->slab));
			h->slab[h->count / SLAB_BLOCKS] = xmalloc_zero(SLAB_BLOCKS, BLOCK_BYTES);
		}
		h->held[h->count] = (struct held){
		    .rank = rank + n,
		    .slot = (uint32_t)h->count,
		    .dev_off = dev_off + (uint64_t)n * BLOCK_BYTES,
		};
		memcpy(slot(h, (uint32_t)h->count++), (const uint8_t *)p + (size_t)n * BLOCK_BYTES,
		       BLOCK_BYTES);
	}
	return count;
}

/* A path may come twice in a layer: then blocks of both have the same ranks. */
static int by_rank(const void *a, const void *b)
{
	const struct held *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

int hot_hold_send(struct hot_hold *h, apply_sink_fn *sink, void *arg, struct err *e)
{
	int rc = 0;

	if (h->count)
		qsort(h->held, h->count, sizeof(*h->held), by_rank);
	for (size_t n = 0; rc == 0 && n < h->count; n++)
		rc = sink(arg, h->held[n].dev_off, slot(h, h->held[n].slot), BLOCK_BYTES, e);
	return rc;
}
