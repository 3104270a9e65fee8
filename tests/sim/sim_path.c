/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_path.c - the whole read path in the simulated world
 *
 * An image of random layers (raw, ZFile, gzip; local and remote) is read by many requests at once
 * while the world reorders, cuts transfers short, interrupts, fails the Nth operation or fetch,
 * delivers corrupt bytes, or stops at any step. Always: right bytes or an error, every request
 * ends, nothing is left over (the frees assert it), and no byte is on its way twice. The same with
 * a replay and with reading around beside the readers.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "bytes.h"
#include "flight.h"
#include "gzidx.h"
#include "span.h"

#include "blob.h"
#include "cache.h"
#include "codec.h"
#include "err.h"
#include "image.h"
#include "log.h"
#include "loop.h"
#include "path.h"
#include "replay.h"
#include "request.h"
#include "sim.h"
#include "sim_cache_blob.h"
#include "source.h"
#include "text.h"
#include "usage.h"

#define DEVICE_BYTES (512u << 10)
#define LAYERS	     4
#define SEGMENTS     16
#define REQUESTS     24
#define MAX_PARALLEL 12
#define RANGES	     40

enum corrupt { CORRUPT_NO, CORRUPT_ONCE, CORRUPT_ALWAYS };

struct faults {
	struct sim_options sim;
	uint64_t fail_fetch; /* 1-based number of the fetch that fails */
	enum corrupt corrupt;
	uint64_t stop_at_turn; /* 0: never */
	bool tiny_memory;
	bool cache_refuses; /* no byte is ever stored */
	bool replay;	    /* random ranges are prefetched meanwhile */
	bool around;	    /* what follows a miss is fetched, too */
};

/* --- a simulated source ----------------------------------------------------------------- */

struct sim_source {
	struct source source;
	struct blob *blob;
	const uint8_t *bytes;
	bool checked;					/* its blocks carry a CRC */
	bool seen[2 * DEVICE_BYTES / CACHE_UNIT_BYTES]; /* delivered before */
	struct list flying;				/* struct flying */
};

struct flying {
	struct mail mail;
	struct fetch *fetch;
	struct sim_source *from;
	bool cancelled;
	struct list link;
};

static struct world {
	struct faults faults;
	struct loop *loop;
	struct path *path;
	struct replay *replay;
	uint64_t fetches;
	uint64_t overlaps; /* live fetches that shared bytes */
	uint8_t *dev;	   /* truth */
	struct image image;
	struct sim_source sources[LAYERS];
	uint8_t *stored[LAYERS];
	uint64_t stored_bytes[LAYERS];
	struct request *pending[MAX_PARALLEL];
	unsigned int started, ended, wrong, failed, cancelled;
} w;

/*
 * Every unit arrives corrupt: always, or the first time. Only where a checksum can tell: gzip has
 * none for a span, and corrupt input may well inflate.
 */
static void spoil(struct sim_source *s, struct fetch *f)
{
	if (!s->checked)
		return;
	for (uint64_t at = 0; at < f->range.len; at += CACHE_UNIT_BYTES) {
		uint64_t unit = (f->range.off + at) / CACHE_UNIT_BYTES;
		size_t n = min_u64(CACHE_UNIT_BYTES, f->range.len - at);

		if (w.faults.corrupt == CORRUPT_ALWAYS ||
		    (w.faults.corrupt == CORRUPT_ONCE && !s->seen[unit]))
			memset((uint8_t *)f->buf + at, 0xa5, n);
		s->seen[unit] = true;
	}
}

static void deliver_fetch(struct mail *m)
{
	struct flying *fl = container_of(m, struct flying, mail);
	struct fetch *f = fl->fetch;
	struct sim_source *s = fl->from;

	list_del(&fl->link);
	f->exchanges = 1;
	f->res = fl->cancelled ? -ECANCELED : 0;
	if (!f->res && w.faults.fail_fetch && w.fetches >= w.faults.fail_fetch &&
	    w.fetches < w.faults.fail_fetch + 3) {
		f->res = -EIO;
		strcpy(f->why, "simulated failure");
	}
	if (!f->res) {
		memcpy(f->buf, s->bytes + f->range.off, f->range.len);
		spoil(s, f);
	}
	free(fl);
	f->done(f);
}

static void sim_source_start(struct source *src, struct fetch *f)
{
	struct sim_source *s = container_of(src, struct sim_source, source);
	struct flying *fl = xmalloc_zero(1, sizeof(*fl));

	assert_true(range_inside(f->range, src->bytes));
	list_for_each (n, &s->flying) {
		if (range_overlaps(list_entry(n, struct flying, link)->fetch->range, f->range))
			w.overlaps++;
	}
	w.fetches++;
	fl->mail.deliver = deliver_fetch;
	fl->fetch = f;
	fl->from = s;
	list_add_tail(&s->flying, &fl->link);
	sim_post_later(w.loop, &fl->mail, sim_random(w.faults.sim.max_delay_ns + 1));
}

static void sim_source_raise(struct source *src, struct fetch *f)
{
	(void)src;
	f->prio = PRIO_DEMAND;
}

static void sim_source_cancel(struct source *src, struct fetch *f)
{
	struct sim_source *s = container_of(src, struct sim_source, source);

	list_for_each (n, &s->flying) {
		struct flying *fl = list_entry(n, struct flying, link);

		if (fl->fetch == f)
			fl->cancelled = true;
	}
}

static void sim_source_free(struct source *src)
{
	(void)src; /* part of the world */
}

static const struct source_ops sim_source_ops = {
    .start = sim_source_start,
    .raise = sim_source_raise,
    .cancel = sim_source_cancel,
    .free = sim_source_free,
};

/* --- making an image ----------------------------------------------------------------------- */

static uint64_t rnd(uint64_t below)
{
	return sim_random(below);
}

/* Compressible, but different everywhere. */
static void fill(uint8_t *p, size_t len, unsigned int salt)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i / 7) * 31 + salt + (rnd(16) ? 0 : rnd(256)));
}

static void append(uint8_t **buf, uint64_t *len, const void *p, size_t n)
{
	*buf = realloc(*buf, *len + n);
	assert_non_null(*buf);
	memcpy(*buf + *len, p, n);
	*len += n;
}

static void store_zfile(const uint8_t *plain, uint64_t bytes, struct stream *s, uint8_t **ret,
			uint64_t *ret_bytes)
{
	struct codec *c = codec_new();
	struct zfile_info info = {
	    .original_bytes = bytes,
	    .block_bytes = rnd(2) ? 4096 : 16384,
	    .codec = rnd(2) ? CODEC_LZ4 : CODEC_ZSTD,
	    .verify = true,
	    .has_crc = true,
	    .final = true,
	};
	uint8_t head[ZFILE_HEADER_BYTES] = {0}, word[4];
	uint8_t *table = NULL, *block = malloc(2 * ZFILE_BLOCK_BYTES_MAX);
	uint64_t table_bytes = 0;
	struct err e = {0};

	assert_non_null(block);
	append(ret, ret_bytes, head, sizeof(head));
	for (uint64_t off = 0; off < bytes; off += info.block_bytes) {
		long n = zfile_block_encode(info.codec, 3, c, plain + off,
					    min_u64(info.block_bytes, bytes - off), block,
					    2 * ZFILE_BLOCK_BYTES_MAX);

		assert_true(n > 0);
		append(ret, ret_bytes, block, (size_t)n);
		put_le32(word, (uint32_t)n);
		append(&table, &table_bytes, word, sizeof(word));
		info.block_count++;
	}
	info.index_offset = *ret_bytes;
	info.index_crc = zfile_table_crc(0, table, table_bytes);
	s->kind = STREAM_ZFILE;
	s->zinfo = info;
	s->bytes = bytes;
	assert_int_equal(zfile_table_new(&info, table, &s->table, &e), 0);
	free(table);
	free(block);
	codec_free(c);
}

static void store_gzip(const uint8_t *plain, uint64_t bytes, struct stream *s, uint8_t **ret,
		       uint64_t *ret_bytes)
{
	z_stream z = {0};
	uint8_t *meta;
	size_t meta_bytes;
	struct err e = {0};
	uLong bound;

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	bound = deflateBound(&z, bytes);
	*ret = malloc(bound);
	assert_non_null(*ret);
	z.next_in = (uint8_t *)plain;
	z.avail_in = (uInt)bytes;
	z.next_out = *ret;
	z.avail_out = (uInt)bound;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	*ret_bytes = z.total_out;
	assert_int_equal(deflateEnd(&z), Z_OK);
	assert_int_equal(gzidx_build(*ret, *ret_bytes, 65536, &meta, &meta_bytes, &e), 0);
	assert_int_equal(gzidx_parse(meta, meta_bytes, *ret_bytes, &s->gzidx, &e), 0);
	free(meta);
	s->kind = STREAM_GZIP;
	s->bytes = bytes;
}

/* One layer: random data segments, the truth updated, stored in a random way. */
static void make_layer(unsigned int n, struct lsmt_index *index)
{
	struct layer *l = &w.image.layers[n];
	uint64_t plain_bytes = LSMT_HEADER_BYTES, off = rnd(64) * 512;
	uint8_t *plain = xmalloc_zero(1, LSMT_HEADER_BYTES + DEVICE_BYTES);
	uint8_t *stored = NULL;
	uint64_t stored_bytes = 0;

	fill(plain, LSMT_HEADER_BYTES, n);
	index->seg = xmalloc_zero(SEGMENTS, sizeof(*index->seg));
	while (index->count < SEGMENTS) {
		struct lsmt_segment *seg = &index->seg[index->count];

		seg->len = (uint32_t)(512 * (1 + rnd(120)));
		if (off + seg->len > DEVICE_BYTES)
			break;
		seg->off = off;
		seg->moff = plain_bytes;
		seg->zeroed = rnd(8) == 0;
		if (seg->zeroed) {
			memset(w.dev + off, 0, seg->len);
		} else {
			fill(plain + plain_bytes, seg->len, n * 17);
			memcpy(w.dev + off, plain + plain_bytes, seg->len);
			plain_bytes += seg->len;
		}
		off += seg->len + 512 * rnd(40);
		index->count++;
	}
	switch (n % 3) {
	case 0:
		store_zfile(plain, plain_bytes, &l->main, &stored, &stored_bytes);
		break;
	case 1:
		store_gzip(plain, plain_bytes, &l->main, &stored, &stored_bytes);
		break;
	default:
		append(&stored, &stored_bytes, plain, plain_bytes);
		l->main.kind = STREAM_RAW;
		l->main.bytes = plain_bytes;
	}
	free(plain);
	w.stored[n] = stored;
	w.stored_bytes[n] = stored_bytes;
	/* raw has no checksum: corrupt bytes would go unseen, so it stays local */
	if (n % 3 == 2) {
		l->main.blob =
		    blob_new_local("local", sim_file_new(stored, stored_bytes), 0, stored_bytes);
	} else {
		struct sim_source *s = &w.sources[n];
		struct cache_blob *entry = sim_cache_blob_new(stored_bytes, w.faults.cache_refuses);

		s->source = (struct source){
		    .ops = &sim_source_ops, .bytes = stored_bytes, .name = "sim", .refs = 1};
		s->bytes = stored;
		s->checked = l->main.kind == STREAM_ZFILE;
		list_init(&s->flying);
		l->main.blob = blob_new_remote("sha256:sim", entry, &s->source);
	}
	w.image.blobs[w.image.blob_count++] = l->main.blob;
}

static void add_random_ranges(void)
{
	struct replay_item items[RANGES];

	for (int n = 0; n < RANGES; n++) {
		struct blob *b = w.image.blobs[rnd(LAYERS)];
		uint64_t off = rnd(b->bytes);

		items[n] = (struct replay_item){
		    b, range_of(off, min_u64(1 + rnd(rnd(4) ? 9000 : 200000), b->bytes - off))};
	}
	w.replay = replay_new(w.path);
	replay_add(w.replay, items, RANGES / 2);
	replay_add(w.replay, items + RANGES / 2, RANGES - RANGES / 2);
}

static void world_new(const struct faults *f)
{
	struct lsmt_index indexes[LAYERS] = {0};
	struct path_options o;
	struct err e = {0};

	memset(&w, 0, sizeof(w));
	w.faults = *f;
	sim_reset(&f->sim);
	w.dev = xmalloc_zero(1, DEVICE_BYTES);
	w.image.layers = xmalloc_zero(LAYERS, sizeof(struct layer));
	w.image.blobs = xmalloc_zero(LAYERS, sizeof(struct blob *));
	w.image.layer_count = LAYERS;
	w.image.bytes = DEVICE_BYTES;
	for (unsigned int n = 0; n < LAYERS; n++)
		make_layer(n, &indexes[n]);
	assert_int_equal(image_map_build(indexes, LAYERS, DEVICE_BYTES, &w.image.map, &e), 0);
	for (unsigned int n = 0; n < LAYERS; n++)
		lsmt_index_done(&indexes[n]);
	assert_int_equal(loop_new(64, &w.loop, &e), 0);
	path_options_default(&o);
	o.fetch_min_bytes = 8192;
	o.fetch_max_bytes = 65536;
	o.fetch_gap_bytes = 4096;
	o.pieces = f->tiny_memory ? 3 : 64;
	if (f->tiny_memory)
		o.memory_bytes = 1;
	if (f->around)
		o.read_around_bytes = 20000;
	assert_int_equal(path_new(w.loop, &o, &w.path, &e), 0);
	for (unsigned int n = 0; n < LAYERS; n++)
		w.image.layers[n].main.usage = usage_new(&w.image.layers[n].main);
	if (f->replay)
		add_random_ranges();
}

static void world_free(void)
{
	assert_true(path_idle(w.path));
	replay_free(w.replay);
	for (unsigned int n = 0; n < LAYERS; n++) {
		struct stream *s = &w.image.layers[n].main;

		span_purge(w.path, s);
		stream_done(s);
		sim_blob_free(w.image.blobs[n]);
		free(w.stored[n]);
	}
	path_free(w.path);
	loop_free(w.loop);
	image_map_free(w.image.map);
	free(w.image.layers);
	free(w.image.blobs);
	free(w.dev);
}

/* --- running it ------------------------------------------------------------------------------ */

static void request_done(struct request *r)
{
	w.ended++;
	if (r->res == -ECANCELED)
		w.cancelled++;
	else if (r->res)
		w.failed++;
	else if (memcmp(r->buf, w.dev + r->range.off, r->range.len) != 0)
		w.wrong++;
	for (int i = 0; i < MAX_PARALLEL; i++) {
		if (w.pending[i] == r)
			w.pending[i] = NULL;
	}
	free(r->buf);
	free(r);
}

static void start_request(int slot)
{
	struct request *r = xmalloc_zero(1, sizeof(*r));
	uint64_t len = 1 + rnd(rnd(4) ? 20000 : 300000);
	uint64_t off = rnd(DEVICE_BYTES);

	r->image = &w.image;
	r->range = range_of(off, min_u64(len, DEVICE_BYTES - off));
	r->buf = malloc(r->range.len);
	assert_non_null(r->buf);
	r->done = request_done;
	r->prio = PRIO_DEMAND;
	w.pending[slot] = r;
	w.started++;
	request_start(w.path, r);
}

static bool settled(void *arg)
{
	(void)arg;
	if (w.replay && (w.replay->end == REPLAY_RUNNING || !replay_idle(w.replay)))
		return false;
	return w.ended == w.started && path_idle(w.path);
}

static void stop_everything(void)
{
	path_stop(w.path);
	if (w.replay)
		replay_stop(w.replay);
	for (size_t n = 0; n < w.image.blob_count; n++)
		flight_cancel_all(w.image.blobs[n]);
}

/* Run the scenario; returns the number of loop turns that it took. */
static uint64_t run(const struct faults *f)
{
	uint64_t turns = 0;

	world_new(f);
	while (w.ended < REQUESTS) {
		bool stopping = f->stop_at_turn && turns >= f->stop_at_turn;

		if (stopping) {
			stop_everything();
			break;
		}
		for (int i = 0; i < MAX_PARALLEL && w.started < REQUESTS; i++) {
			if (!w.pending[i])
				start_request(i);
		}
		loop_turn(w.loop, true);
		turns++;
		assert_true(turns < 1000000);
	}
	if (!sim_run(w.loop, settled, NULL))
		fail_msg("stuck: seed %llu, %u of %u requests ended, %u flights",
			 (unsigned long long)f->sim.seed, w.ended, w.started, w.path->busy_flights);
	assert_int_equal(w.wrong, 0);
	return turns;
}

static struct faults faults_of(uint64_t seed)
{
	return (struct faults){.sim = {
				   .seed = seed,
				   .max_delay_ns = 5000000,
				   .short_percent = 20,
				   .eintr_percent = 5,
				   .fail_errno = -EIO,
			       }};
}

static void test_reordered(void **state)
{
	uint64_t joined = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct faults f = faults_of(seed);

		f.tiny_memory = seed % 3 == 0;
		f.cache_refuses = seed % 5 == 0;
		f.replay = seed % 2 == 0;
		f.around = seed % 4 == 1;
		run(&f);
		assert_int_equal(w.failed + w.cancelled, 0);
		assert_int_equal(w.overlaps, 0);
		joined += w.path->stats.joined_fetches;
		world_free();
	}
	assert_true(joined > 100);
}

static void test_fail_every_operation(void **state)
{
	uint64_t ops;

	(void)state;
	for (uint64_t seed = 100; seed < 102; seed++) {
		struct faults f = faults_of(seed);

		run(&f);
		world_free();
		ops = sim_op_count();
		assert_true(ops > 20);
		for (uint64_t n = 1; n <= ops; n++) {
			f.sim.fail_nth = n;
			run(&f);
			/* One failed operation hurts the reads that share it, at most. */
			assert_true(w.failed <= MAX_PARALLEL);
			world_free();
		}
	}
}

static void test_fail_every_fetch(void **state)
{
	uint64_t fetches;

	(void)state;
	for (uint64_t seed = 200; seed < 202; seed++) {
		struct faults f = faults_of(seed);

		f.replay = f.around = seed % 2;
		run(&f);
		fetches = w.fetches;
		world_free();
		for (uint64_t n = 1; n <= fetches; n++) {
			f.fail_fetch = n;
			run(&f);
			world_free();
		}
	}
}

static void test_corrupt_once_is_healed(void **state)
{
	uint64_t healed = 0;

	(void)state;
	for (uint64_t seed = 300; seed < 330; seed++) {
		struct faults f = faults_of(seed);

		f.corrupt = CORRUPT_ONCE;
		f.cache_refuses = seed % 2 == 0;
		run(&f);
		assert_int_equal(w.failed, 0);
		healed += w.path->stats.bad_blocks;
		world_free();
	}
	assert_true(healed > 100);
}

static void test_corrupt_always_is_an_error(void **state)
{
	(void)state;
	for (uint64_t seed = 400; seed < 410; seed++) {
		struct faults f = faults_of(seed);

		f.corrupt = CORRUPT_ALWAYS;
		run(&f);
		assert_true(w.failed > 0);
		world_free();
	}
}

static void test_stop_at_every_step(void **state)
{
	uint64_t turns;

	(void)state;
	for (uint64_t seed = 500; seed < 502; seed++) {
		struct faults f = faults_of(seed);

		f.tiny_memory = seed % 2;
		f.replay = f.around = true;
		turns = run(&f);
		world_free();
		for (uint64_t n = 1; n <= turns; n++) {
			f.stop_at_turn = n;
			run(&f);
			world_free();
		}
	}
}

/* Nobody reads: all of it comes, once, in the order of the list, never more than a window of it. */
static void test_replay_brings_all(void **state)
{
	(void)state;
	for (uint64_t seed = 600; seed < 620; seed++) {
		struct faults f = faults_of(seed);
		uint64_t most = 0;

		f.replay = true;
		world_new(&f);
		while (!settled(NULL)) {
			loop_turn(w.loop, true);
			most = max_u64(most, w.replay->in_flight_bytes);
		}
		assert_int_equal(w.replay->end, REPLAY_COMPLETE);
		assert_int_equal(w.overlaps, 0);
		assert_int_equal(w.replay->failed_fetches, 0);
		assert_true(most <= REPLAY_WINDOW_FIRST + 65536);
		for (size_t n = 0; n < w.replay->count; n++)
			assert_true(
			    cache_has(w.replay->items[n].blob->cache, w.replay->items[n].range));
		assert_true(w.replay->fetched_bytes > 0);
		assert_int_equal(replay_used_bytes(w.replay, &w.image), 0);
		world_free();
	}
}

/* What it brought is used when all of the device is read, and nothing is fetched twice. */
static void test_replay_is_used(void **state)
{
	struct faults f = faults_of(700);
	uint64_t used;

	(void)state;
	f.replay = true;
	world_new(&f);
	assert_true(sim_run(w.loop, settled, NULL));
	for (uint64_t off = 0; off < DEVICE_BYTES; off += 65536) {
		struct request *r = xmalloc_zero(1, sizeof(*r));

		r->image = &w.image;
		r->range = range_of(off, 65536);
		r->buf = malloc(65536);
		assert_non_null(r->buf);
		r->done = request_done;
		r->prio = PRIO_DEMAND;
		w.started++;
		request_start(w.path, r);
	}
	assert_true(sim_run(w.loop, settled, NULL));
	assert_int_equal(w.wrong + w.failed, 0);
	used = replay_used_bytes(w.replay, &w.image);
	assert_true(used > 0 && used <= w.replay->fetched_bytes);
	assert_true(w.path->stats.asked_local_bytes > 0);
	assert_true(w.path->stats.asked_local_bytes <= w.path->stats.asked_bytes);
	world_free();
}

/* Something better comes along: what has begun is counted, the rest is not, and the new comes. */
static void test_replay_instead(void **state)
{
	(void)state;
	for (uint64_t seed = 900; seed < 920; seed++) {
		struct faults f = faults_of(seed);
		struct replay_item better = {0};
		uint64_t planned = 0;

		world_new(&f);
		w.replay = replay_new(w.path);
		for (unsigned int n = 0; n < LAYERS; n++) {
			struct blob *b = w.image.blobs[n];

			if (blob_is_local(b))
				continue;
			replay_add(w.replay, &(struct replay_item){b, range_of(0, b->bytes)}, 1);
			better = (struct replay_item){b, range_of(b->bytes / 2, b->bytes / 4)};
		}
		w.replay->budget_bytes = 0;
		for (uint64_t n = rnd(4); n; n--)
			loop_turn(w.loop, true);
		replay_drop_rest(w.replay);
		assert_int_equal(w.replay->left_bytes, 0);
		replay_add(w.replay, &better, 1);
		assert_true(sim_run(w.loop, settled, NULL));
		assert_int_equal(w.replay->end, REPLAY_COMPLETE);
		assert_int_equal(w.overlaps, 0);
		for (size_t n = 0; n < w.replay->count; n++)
			planned += w.replay->items[n].range.len;
		assert_int_equal(w.replay->planned_bytes, planned);
		assert_int_equal(replay_landed(w.replay), w.replay->count);
		assert_true(cache_has(better.blob->cache, better.range));
		/* and stopping is for good */
		replay_stop(w.replay);
		replay_add(w.replay, &better, 1);
		assert_int_equal(w.replay->planned_bytes, planned);
		assert_int_equal(w.replay->end, REPLAY_STOPPED);
		world_free();
	}
}

static void test_replay_keeps_its_budget(void **state)
{
	struct faults f = faults_of(800);

	(void)state;
	f.replay = true;
	world_new(&f);
	w.replay->budget_bytes = 100000;
	assert_true(sim_run(w.loop, settled, NULL));
	assert_int_equal(w.replay->end, REPLAY_OVER_BUDGET);
	/* whole cache units */
	assert_true(w.replay->fetched_bytes <= 100000 + CACHE_UNIT_BYTES);
	assert_true(w.replay->fetched_bytes > 90000);
	world_free();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_reordered),
	    cmocka_unit_test(test_fail_every_operation),
	    cmocka_unit_test(test_fail_every_fetch),
	    cmocka_unit_test(test_corrupt_once_is_healed),
	    cmocka_unit_test(test_corrupt_always_is_an_error),
	    cmocka_unit_test(test_stop_at_every_step),
	    cmocka_unit_test(test_replay_brings_all),
	    cmocka_unit_test(test_replay_is_used),
	    cmocka_unit_test(test_replay_keeps_its_budget),
	    cmocka_unit_test(test_replay_instead),
	};
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	log_open(LOG_LEVEL_ERROR, null_fd); /* faults are expected here */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
