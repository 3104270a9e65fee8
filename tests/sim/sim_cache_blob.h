/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_cache_blob.h - cache entries over simulated files, for sim_path.c only
 *
 * The machine that writes and sets bits is the real one (presence.h). Only what the cache proper
 * adds (directories, processes, eviction) is absent: the calls of cache.h that the read path makes
 * are defined here in its place.
 */
#ifndef HS_TESTS_SIM_CACHE_BLOB_H
#define HS_TESTS_SIM_CACHE_BLOB_H

#include <stdlib.h>

#include "blob.h"
#include "cache.h"
#include "presence.h"
#include "sim.h"
#include "text.h"

struct cache_blob {
	struct presence presence;
	_Atomic uint64_t drops;
	_Atomic uint32_t unsafe;
	bool refuses; /* as when the cache is full */
};

static struct cache_blob *sim_cache_blob_new(uint64_t bytes, bool refuses)
{
	struct cache_blob *b = xmalloc_zero(1, sizeof(*b));

	b->presence.bytes = bytes;
	b->presence.data_fd = sim_file_new(NULL, bytes);
	b->presence.map_fd = -1;
	b->presence.live = xmalloc_zero(presence_words(bytes), sizeof(uint64_t));
	b->presence.drops = &b->drops;
	b->presence.unsafe = &b->unsafe;
	list_init(&b->presence.waiters);
	b->refuses = refuses;
	return b;
}

int cache_blob_fd(const struct cache_blob *b)
{
	return b->presence.data_fd;
}

uint64_t cache_blob_bytes(const struct cache_blob *b)
{
	return b->presence.bytes;
}

void cache_blob_close(struct cache_blob *b)
{
	if (b)
		free((void *)b->presence.live);
	free(b);
}

bool cache_has(const struct cache_blob *b, struct range r)
{
	return presence_has(&b->presence, r);
}

struct range cache_missing(const struct cache_blob *b, struct range r)
{
	return presence_missing(&b->presence, r);
}

void cache_drop(struct cache_blob *b, struct range r)
{
	for (uint64_t u = r.off / CACHE_UNIT_BYTES; u * CACHE_UNIT_BYTES < range_end(r); u++)
		b->presence.live[u / 64] &= ~(1ull << (u % 64));
}

static void store_written(struct presence_write *pw)
{
	struct cache_store *s = container_of(pw, struct cache_store, write);

	s->res = pw->res;
	s->busy = false;
	task_wake(s->owner);
}

void cache_store(struct loop *l, struct cache_store *s)
{
	if (s->blob->refuses) {
		s->res = -ENOSPC;
		task_wake(s->owner);
		return;
	}
	s->busy = true;
	s->write.p = &s->blob->presence;
	s->write.range = s->range;
	s->write.buf = s->buf;
	s->write.done = store_written;
	presence_write_start(l, &s->write);
}

/* blob_free() closes a local blob's descriptor; a simulated one is only a number. */
static void sim_blob_free(struct blob *b)
{
	if (!blob_is_local(b)) {
		blob_free(b);
		return;
	}
	free(b->name);
	free(b);
}

#endif
