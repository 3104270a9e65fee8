/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_cache.c - the order of the cache's writes, under faults, kills and power cuts at any moment
 *
 * Writers store and drop ranges of one blob, each in a region of its own, while it is synced again
 * and again; bytes whose bits were dropped are overwritten with garbage at once. Then the process
 * is killed and LIVE is compared with the bytes, and the power is cut and SYNCED is. The rule: a
 * bit is never set for bytes that are not there. The same run with one order reversed has to break
 * it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "loop.h"
#include "presence.h"
#include "sim.h"

#define UNIT	     CACHE_UNIT_BYTES
#define WRITERS	     3
#define REGION_UNITS 50
#define BLOB_UNITS   (WRITERS * REGION_UNITS)
#define BLOB_BYTES   (BLOB_UNITS * UNIT - 100) /* the last unit is short */
#define WRITER_OPS   25
#define SYNCS	     12
#define SYNCED_OFF   8192
#define GOOD_SEEDS   1500
#define WRONG_SEEDS  3000

/* What the should-fail runs do in the wrong order. */
enum wrong {
	RIGHT,
	BITS_BEFORE_BYTES,   /* LIVE is set before the write has completed */
	NO_DATA_SYNC,	     /* SYNCED without an fdatasync of the data */
	SNAPSHOT_AFTER_SYNC, /* LIVE is read after the fdatasync began */
	DROP_LIVE_ONLY,	     /* a drop that forgets SYNCED */
};

enum writer_state { W_IDLE, W_STORING, W_DROPPING, W_GARBAGE };

struct world;

struct writer {
	struct task task;
	struct world *world;
	struct range region;
	struct presence_write write;
	struct presence_job drop;
	struct op op;
	enum writer_state state;
	struct range range;
	uint64_t done_bytes;
	int left;
	uint8_t buf[REGION_UNITS * UNIT];
	uint64_t synced[BLOB_BYTES / UNIT];
};

struct syncer {
	struct task task;
	struct timer timer;
	struct world *world;
	struct presence_job job;
	struct op op;
	int state; /* of the wrong orders */
	int left;
	uint64_t *snapshot, *synced;
};

struct world {
	enum wrong wrong;
	struct loop *loop;
	struct presence p;
	_Atomic uint64_t *live, drops;
	_Atomic uint32_t unsafe;
	int data_fd, map_fd;
	size_t words;
	struct writer writers[WRITERS];
	struct syncer syncer;
	int failed_syncs, put_off_syncs, done_syncs;
};

static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)((off * 0x9e3779b97f4a7c15ull) >> 56) | 1; /* never 0 */
}

/* Number of set bits whose bytes are not there. */
static int lies(struct world *w, const uint64_t *bits)
{
	static uint8_t got[BLOB_UNITS * UNIT];
	int n = 0;

	assert_int_equal(sim_file_read(w->data_fd, 0, got, BLOB_BYTES), BLOB_BYTES);
	for (uint64_t u = 0; u < BLOB_UNITS; u++) {
		struct range r = range_clip(range_of(u * UNIT, UNIT), range_of(0, BLOB_BYTES));

		if (!(bits[u / 64] >> (u % 64) & 1))
			continue;
		for (uint64_t o = r.off; o < range_end(r); o++) {
			if (got[o] != byte_at(o)) {
				n++;
				break;
			}
		}
	}
	return n;
}

static int live_lies(struct world *w)
{
	uint64_t bits[BLOB_UNITS / 64 + 1];

	for (size_t i = 0; i < BLOB_UNITS / 64 + 1; i++)
		bits[i] = atomic_load(&w->live[i]);
	return lies(w, bits);
}

static int synced_lies(struct world *w, int *ret_bits)
{
	uint64_t bits[BLOB_UNITS / 64 + 1];

	assert_int_equal(sim_file_read(w->map_fd, SYNCED_OFF, bits, sizeof(bits)), sizeof(bits));
	*ret_bits = 0;
	for (size_t i = 0; i < BLOB_UNITS / 64 + 1; i++)
		*ret_bits += __builtin_popcountll(bits[i]);
	return lies(w, bits);
}

/* ---- writers ---- */

static void written(struct presence_write *pw)
{
	task_wake(&container_of(pw, struct writer, write)->task);
}

static void pick_range(struct writer *a)
{
	uint64_t units = a->region.len / UNIT;
	uint64_t first = sim_random(units);
	uint64_t n = 1 + sim_random(min_u64(units - first, 12));

	a->range =
	    range_clip(range_of(a->region.off + first * UNIT, n * UNIT), range_of(0, BLOB_BYTES));
}

static void start_store(struct writer *a)
{
	struct world *w = a->world;

	for (uint64_t i = 0; i < a->range.len; i++)
		a->buf[i] = byte_at(a->range.off + i);
	if (w->wrong == BITS_BEFORE_BYTES)
		(void)presence_set(&w->p, a->range);
	a->write =
	    (struct presence_write){.p = &w->p, .range = a->range, .buf = a->buf, .done = written};
	a->state = W_STORING;
	presence_write_start(w->loop, &a->write);
}

static void more_garbage(struct writer *a)
{
	ring_write(loop_ring(a->world->loop), &a->op, a->world->data_fd, a->buf,
		   a->range.len - a->done_bytes, a->range.off + a->done_bytes);
}

static void start_garbage(struct writer *a)
{
	memset(a->buf, 0, a->range.len);
	a->done_bytes = 0;
	a->state = W_GARBAGE;
	more_garbage(a);
}

static void start_drop(struct writer *a)
{
	struct world *w = a->world;

	if (w->wrong == DROP_LIVE_ONLY) {
		for (uint64_t u = a->range.off / UNIT; u * UNIT < range_end(a->range); u++)
			atomic_fetch_and(&w->live[u / 64], ~(1ull << (u % 64)));
		start_garbage(a);
		return;
	}
	a->drop = (struct presence_job){.p = &w->p,
					.kind = PRESENCE_DROP,
					.range = a->range,
					.owner = &a->task,
					.synced = a->synced};
	a->state = W_DROPPING;
	presence_job_start(w->loop, &a->drop);
}

static void writer_step(struct task *t)
{
	struct writer *a = container_of(t, struct writer, task);

	switch (a->state) {
	case W_STORING:
		if (a->write.busy)
			return;
		break;
	case W_DROPPING:
		if (a->drop.busy)
			return;
		if (a->drop.res == 0) {
			assert_false(presence_has(&a->world->p, range_of(a->range.off, 1)));
			start_garbage(a);
			return;
		}
		break;
	case W_GARBAGE:
		if (a->op.busy)
			return;
		if (a->op.res > 0)
			a->done_bytes += (uint64_t)a->op.res;
		if (a->done_bytes < a->range.len && (a->op.res > 0 || a->op.res == -EINTR)) {
			more_garbage(a);
			return;
		}
		break;
	case W_IDLE:
		break;
	}
	a->state = W_IDLE;
	if (a->left-- <= 0 || atomic_load(&a->world->unsafe))
		return;
	pick_range(a);
	if (sim_random(100) < 70)
		start_store(a);
	else
		start_drop(a);
}

/* ---- syncer ---- */

static void snapshot(struct syncer *s)
{
	for (size_t i = 0; i < s->world->words; i++)
		s->snapshot[i] = atomic_load(&s->world->live[i]);
}

/* fdatasync, snapshot, write, fdatasync: the order is wrong, or the first is left out. */
static bool wrong_sync(struct syncer *s)
{
	struct world *w = s->world;
	struct ring *r = loop_ring(w->loop);

	if (s->op.busy)
		return false;
	switch (s->state++) {
	case 0:
		if (w->wrong == NO_DATA_SYNC) {
			task_wake(&s->task);
			return false;
		}
		ring_fdatasync(r, &s->op, w->data_fd);
		return false;
	case 1:
		snapshot(s);
		ring_write(r, &s->op, w->map_fd, s->snapshot, w->words * 8, SYNCED_OFF);
		return false;
	case 2:
		ring_fdatasync(r, &s->op, w->map_fd);
		return false;
	default:
		s->state = 0;
		return true;
	}
}

static void syncer_step(struct task *t)
{
	struct syncer *s = container_of(t, struct syncer, task);
	struct world *w = s->world;

	if (s->job.busy)
		return;
	if (s->timer.at_ns) {
		if (!timer_expired(&s->timer, loop_now_ns(w->loop)))
			return;
		timer_stop(&s->timer);
		if (w->wrong == NO_DATA_SYNC || w->wrong == SNAPSHOT_AFTER_SYNC) {
			if (!wrong_sync(s))
				return;
		} else {
			s->job = (struct presence_job){.p = &w->p,
						       .kind = PRESENCE_SYNC,
						       .owner = &s->task,
						       .snapshot = s->snapshot,
						       .synced = s->synced};
			presence_job_start(w->loop, &s->job);
			return;
		}
	} else if (s->state) {
		if (!wrong_sync(s))
			return;
	} else {
		w->done_syncs += s->job.res == 0;
		w->put_off_syncs += s->job.res == -EAGAIN; /* drops kept coming */
		w->failed_syncs += s->job.res != 0 && s->job.res != -EAGAIN;
	}
	if (s->left-- > 0)
		timer_arm(&s->timer, loop_now_ns(w->loop) + 1 + sim_random(20000));
}

/* ---- the world ---- */

static struct world *world_new(struct sim_options o, enum wrong wrong)
{
	struct world *w = calloc(1, sizeof(*w));

	sim_reset(&o);
	w->wrong = wrong;
	assert_int_equal(loop_new(8, &w->loop, NULL), 0);
	w->words = presence_words(BLOB_BYTES);
	w->live = calloc(w->words, sizeof(uint64_t));
	w->data_fd = sim_file_new(NULL, BLOB_BYTES);
	w->map_fd = sim_file_new(NULL, SYNCED_OFF + w->words * 8);
	w->p = (struct presence){.bytes = BLOB_BYTES,
				 .synced_off = SYNCED_OFF,
				 .data_fd = w->data_fd,
				 .map_fd = w->map_fd,
				 .live = w->live,
				 .drops = &w->drops,
				 .unsafe = &w->unsafe};
	list_init(&w->p.waiters);
	for (int i = 0; i < WRITERS; i++) {
		struct writer *a = &w->writers[i];

		a->world = w;
		a->region = range_of((uint64_t)i * REGION_UNITS * UNIT, REGION_UNITS * UNIT);
		a->left = WRITER_OPS;
		task_init(&a->task, w->loop, writer_step);
		a->op.task = &a->task;
		task_wake(&a->task);
	}
	w->syncer.world = w;
	w->syncer.left = SYNCS - 1; /* behind the first */
	w->syncer.snapshot = calloc(w->words, sizeof(uint64_t));
	w->syncer.synced = calloc(w->words, sizeof(uint64_t));
	task_init(&w->syncer.task, w->loop, syncer_step);
	w->syncer.op.task = &w->syncer.task;
	timer_init(&w->syncer.timer, &w->syncer.task);
	timer_arm(&w->syncer.timer, loop_now_ns(w->loop) + 1);
	return w;
}

static void forget_task(struct task *t)
{
	if (t->step)
		task_done(t);
}

static void world_free(struct world *w)
{
	for (int i = 0; i < WRITERS; i++) {
		forget_task(&w->writers[i].task);
		forget_task(&w->writers[i].write.task);
		forget_task(&w->writers[i].drop.task);
	}
	forget_task(&w->syncer.task);
	forget_task(&w->syncer.job.task);
	timer_stop(&w->syncer.timer);
	loop_free(w->loop);
	free((void *)w->live);
	free(w->syncer.snapshot);
	free(w->syncer.synced);
	free(w);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

/* A run that ends at a random moment. Returns the number of broken promises. */
static int crash_run(struct sim_options o, enum wrong wrong, int *ret_synced)
{
	struct world *w = world_new(o, wrong);
	uint64_t turns = sim_random(400);
	int n;

	for (uint64_t i = 0; i < turns; i++)
		loop_turn(w->loop, true);
	sim_kill();
	n = live_lies(w);
	sim_power_cut();
	n += synced_lies(w, ret_synced);
	world_free(w);
	return n;
}

static struct sim_options options(uint64_t seed)
{
	return (struct sim_options){
	    .seed = seed, .max_delay_ns = 10000, .short_percent = 20, .eintr_percent = 5};
}

static void test_rule_holds(void **state)
{
	int synced, crashes_with_bits = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= GOOD_SEEDS; seed++) {
		if (crash_run(options(seed), RIGHT, &synced))
			fail_msg("seed %llu: a bit is set for bytes that are not there",
				 (unsigned long long)seed);
		crashes_with_bits += synced > 0;
	}
	assert_true(crashes_with_bits > GOOD_SEEDS / 3); /* the rule is easy to keep with no bits */
}

/* Any operation may fail once, the fdatasyncs among them. */
static void test_rule_holds_with_errors(void **state)
{
	int synced, unused = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= GOOD_SEEDS; seed++) {
		struct sim_options o = options(seed);

		o.fail_nth = 1 + seed % 250;
		o.fail_errno = seed % 3 ? -EIO : -ENOSPC;
		if (crash_run(o, RIGHT, &synced))
			fail_msg("seed %llu: a bit is set for bytes that are not there",
				 (unsigned long long)seed);
		unused += synced == 0;
	}
	assert_true(unused < GOOD_SEEDS);
}

static void test_wrong_orders_are_found(void **state)
{
	static const enum wrong orders[] = {BITS_BEFORE_BYTES, NO_DATA_SYNC, SNAPSHOT_AFTER_SYNC,
					    DROP_LIVE_ONLY};

	(void)state;
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		int synced, broken = 0;

		for (uint64_t seed = 1; seed <= WRONG_SEEDS && broken < 3; seed++)
			broken += crash_run(options(seed), orders[i], &synced) > 0;
		if (!broken)
			fail_msg("wrong order %d was not noticed", (int)orders[i]);
	}
}

/* Left alone, everything ends, and what is LIVE is SYNCED. */
static void test_runs_to_the_end(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct world *w = world_new(options(seed), RIGHT);
		uint64_t live = 0;
		int synced;

		assert_false(sim_run(w->loop, never, NULL));
		assert_int_equal(w->failed_syncs, 0);
		assert_int_equal(w->done_syncs + w->put_off_syncs, SYNCS);
		assert_null(w->p.holder);
		/* one more, with everything at rest */
		w->syncer.left = 0;
		timer_arm(&w->syncer.timer, loop_now_ns(w->loop) + 1);
		assert_false(sim_run(w->loop, never, NULL));
		assert_int_equal(w->done_syncs + w->put_off_syncs, SYNCS + 1);
		for (size_t i = 0; i < w->words; i++)
			live += (uint64_t)__builtin_popcountll(atomic_load(&w->live[i]));
		assert_true(live > 0);
		sim_power_cut();
		assert_int_equal(synced_lies(w, &synced), 0);
		assert_int_equal(synced, live);
		world_free(w);
	}
}

/* A data fdatasync that fails: LIVE falls back to SYNCED and the next sync does not hide it. */
static void test_failed_sync_is_final(void **state)
{
	int seen = 0;

	(void)state;
	for (uint64_t nth = 1; nth < 200; nth++) {
		struct sim_options o = options(7);
		struct world *w;
		int synced;

		o.fail_nth = nth;
		o.fail_errno = -EIO;
		w = world_new(o, RIGHT);
		assert_false(sim_run(w->loop, never, NULL));
		assert_null(w->p.holder);
		if (atomic_load(&w->unsafe)) {
			seen++;
			assert_true(w->failed_syncs > 0 ||
				    w->done_syncs + w->put_off_syncs == SYNCS);
		}
		assert_int_equal(live_lies(w), 0);
		sim_power_cut();
		assert_int_equal(synced_lies(w, &synced), 0);
		world_free(w);
	}
	assert_true(seen > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rule_holds),
	    cmocka_unit_test(test_rule_holds_with_errors),
	    cmocka_unit_test(test_wrong_orders_are_found),
	    cmocka_unit_test(test_runs_to_the_end),
	    cmocka_unit_test(test_failed_sync_is_final),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	sim_reset(&(struct sim_options){0}); /* the world's memory, for the leak checker */
	return r;
}
