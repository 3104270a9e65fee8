/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_pools.c - reads that share what is scarce: nobody waits for ever for what another one holds
 *
 * One raw layer of a remote blob, a memory budget at its floor, and more reads than that can hold
 * at a time, arranged so that all buffers for arriving bytes are full of bytes which somebody still
 * needs while he waits for more.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blob.h"
#include "bufpool.h"
#include "cache.h"
#include "clock.h"
#include "err.h"
#include "flight.h"
#include "image.h"
#include "loop.h"
#include "path.h"
#include "request.h"
#include "sim.h"
#include "sim_cache_blob.h"
#include "source.h"
#include "text.h"

#define MIB	      (1ull << 20)
#define BUFFERS	      (2 * BUFPOOL_MAX_BYTES / MIB) /* fetches of 1 MiB that the floor allows */
#define DEVICE_BYTES  ((2 * BUFFERS + 2) * MIB)
#define SEGMENT_BYTES (2 * MIB)

struct flying {
	struct mail mail;
	struct fetch *fetch;
};

static struct world {
	struct loop *loop;
	struct path *path;
	struct source source;
	struct image image;
	struct layer layer;
	struct blob *blob;
	unsigned int started, ended, wrong;
} w;

static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(off * 2654435761u >> 13);
}

static void deliver_fetch(struct mail *m)
{
	struct flying *fl = container_of(m, struct flying, mail);
	struct fetch *f = fl->fetch;

	for (uint64_t i = 0; i < f->range.len; i++)
		((uint8_t *)f->buf)[i] = byte_at(f->range.off + i);
	f->res = 0;
	free(fl);
	f->done(f);
}

static void source_start_op(struct source *s, struct fetch *f)
{
	struct flying *fl = xmalloc_zero(1, sizeof(*fl));

	(void)s;
	fl->mail.deliver = deliver_fetch;
	fl->fetch = f;
	sim_post_later(w.loop, &fl->mail, sim_random(NS_PER_MS));
}

static void source_change_op(struct source *s, struct fetch *f)
{
	(void)s;
	(void)f; /* everything lands by itself */
}

static void source_free_op(struct source *s)
{
	(void)s; /* part of the world */
}

static const struct source_ops ops = {
    .start = source_start_op,
    .raise = source_change_op,
    .cancel = source_change_op,
    .free = source_free_op,
};

static void world_new(uint64_t seed, bool cache_refuses)
{
	const struct sim_options so = {.seed = seed, .max_delay_ns = NS_PER_MS};
	struct lsmt_index index = {0};
	struct path_options o;
	struct err e = {0};

	memset(&w, 0, sizeof(w));
	sim_reset(&so);
	assert_int_equal(loop_new(64, &w.loop, &e), 0);
	path_options_default(&o);
	o.memory_bytes = 1; /* raised to the floor */
	assert_int_equal(path_new(w.loop, &o, &w.path, &e), 0);
	w.source = (struct source){.ops = &ops, .bytes = DEVICE_BYTES, .name = "sim", .refs = 1};
	w.blob = blob_new_remote("sha256:sim", sim_cache_blob_new(DEVICE_BYTES, cache_refuses),
				 &w.source);
	w.layer.main = (struct stream){.blob = w.blob, .bytes = DEVICE_BYTES};
	w.image = (struct image){.layers = &w.layer, .layer_count = 1, .bytes = DEVICE_BYTES};
	index.seg = xmalloc_zero(DEVICE_BYTES / SEGMENT_BYTES, sizeof(*index.seg));
	for (uint64_t off = 0; off < DEVICE_BYTES; off += SEGMENT_BYTES)
		index.seg[index.count++] =
		    (struct lsmt_segment){.off = off, .moff = off, .len = SEGMENT_BYTES};
	assert_int_equal(image_map_build(&index, 1, DEVICE_BYTES, &w.image.map, &e), 0);
	lsmt_index_done(&index);
}

static void world_free(void)
{
	assert_true(path_idle(w.path));
	sim_blob_free(w.blob);
	path_free(w.path);
	loop_free(w.loop);
	image_map_free(w.image.map);
}

static void request_done(struct request *r)
{
	w.ended++;
	assert_int_equal(r->res, 0);
	for (uint64_t i = 0; i < r->range.len; i++)
		w.wrong += ((uint8_t *)r->buf)[i] != byte_at(r->range.off + i);
	free(r->buf);
	free(r);
}

static void start(uint64_t off, uint64_t len)
{
	struct request *r = xmalloc_zero(1, sizeof(*r));

	r->image = &w.image;
	r->range = range_of(off, len);
	r->buf = malloc(len);
	assert_non_null(r->buf);
	r->done = request_done;
	r->prio = PRIO_DEMAND;
	w.started++;
	request_start(w.path, r);
}

static bool settled(void *arg)
{
	(void)arg;
	return w.ended == w.started && path_idle(w.path);
}

/*
 * As many fetches as there are buffers, and for each a second read that needs its last bytes and
 * some behind them, for which there is no buffer until one of those is given back.
 */
static void test_half_of_a_read_parked(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		world_new(seed, seed % 2 == 0);
		for (uint64_t i = 0; i < BUFFERS; i++)
			start(2 * i * MIB, MIB);
		for (uint64_t i = 0; i < BUFFERS; i++)
			start((2 * i + 1) * MIB - 4096, 8192);
		if (!sim_run(w.loop, settled, NULL))
			fail_msg("stuck: %u of %u reads ended, %u flights", w.ended, w.started,
				 w.path->busy_flights);
		assert_int_equal(w.wrong, 0);
		world_free();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_half_of_a_read_parked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
