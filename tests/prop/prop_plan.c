/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planner against a model that knows for every stored byte whether and when it is needed.
 *
 * The model's image is a device of blocks that are stored, compressed to any length and in any
 * order, in a few blobs, or are holes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "plan.h"
#include "prefetch_list.h"
#include "test_random.h"
#include "text.h"

#define BLOCK	  4096u
#define BLOBS	  3u
#define MAX_RUNS  4u
#define MS	  1000000u
#define BLOB_ROOM (512u * 5000u)

struct stored {
	uint32_t blob;
	uint64_t off, bytes; /* 0: a hole */
};

struct model {
	struct stored *block;
	size_t blocks;
	uint64_t blob_bytes[BLOBS];
	int fail; /* returned by the map */
};

static int model_stored(void *arg, uint64_t off, uint64_t bytes, plan_stored_fn *fn, void *fn_arg)
{
	const struct model *m = arg;

	if (m->fail)
		return m->fail;
	assert_true(bytes > 0 && off < m->blocks * BLOCK);
	for (uint64_t n = off / BLOCK; n * BLOCK < off + bytes && n < m->blocks; n++) {
		const struct stored *s = &m->block[n];
		int r = s->bytes ? fn(fn_arg, s->blob, s->off, s->bytes) : 0;

		if (r)
			return r;
	}
	return 0;
}

static void model_make(struct model *m, struct test_random *rnd, size_t blocks)
{
	size_t *order = xmalloc_zero(blocks, sizeof(*order));

	*m = (struct model){.blocks = blocks};
	m->block = xmalloc_zero(blocks, sizeof(*m->block));
	for (size_t i = 0; i < blocks; i++)
		order[i] = i;
	/* mostly ascending, as converters store them */
	for (size_t i = 0; i < blocks / 8; i++) {
		size_t a = test_random_below(rnd, blocks), b = test_random_below(rnd, blocks);
		size_t t = order[a];

		order[a] = order[b];
		order[b] = t;
	}
	for (size_t i = 0; i < blocks; i++) {
		struct stored *s = &m->block[order[i]];

		if (!test_random_below(rnd, 10))
			continue;
		s->blob = (uint32_t)test_random_below(rnd, BLOBS);
		s->off = m->blob_bytes[s->blob];
		s->bytes = 1 + test_random_below(rnd, 4999);
		m->blob_bytes[s->blob] += s->bytes;
	}
	free(order);
}

static void model_free(struct model *m)
{
	free(m->block);
}

/* What is true of every stored byte: time + 1 of the run's first touch, then of all runs. */
struct truth {
	uint64_t *first[MAX_RUNS][BLOBS];
	uint64_t *need[BLOBS]; /* 0: not needed */
	uint8_t *have[BLOBS], *got[BLOBS];
};

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void truth_of_touches(struct truth *t, const struct model *m,
			     const struct plan_touch *touches, size_t count, uint64_t budget_ns)
{
	for (size_t i = 0; i < count; i++) {
		const struct plan_touch *p = &touches[i];

		for (uint64_t n = p->off / BLOCK; p->bytes && n * BLOCK < p->off + p->bytes; n++) {
			const struct stored *s = &m->block[n];
			uint64_t *first = t->first[p->run][s->blob];

			for (uint64_t k = 0; k < s->bytes; k++)
				if ((!budget_ns || p->at_ns <= budget_ns) &&
				    (!first[s->off + k] || first[s->off + k] > p->at_ns + 1))
					first[s->off + k] = p->at_ns + 1;
		}
	}
}

static void truth_make(struct truth *t, const struct model *m, const struct plan_touch *touches,
		       size_t count, uint32_t runs, const struct plan_options *o)
{
	for (uint32_t b = 0; b < BLOBS; b++) {
		for (uint32_t r = 0; r < runs; r++)
			t->first[r][b] = xmalloc_zero(BLOB_ROOM, sizeof(uint64_t));
		t->need[b] = xmalloc_zero(BLOB_ROOM, sizeof(uint64_t));
		t->have[b] = xmalloc_zero(BLOB_ROOM, 1);
		t->got[b] = xmalloc_zero(BLOB_ROOM, 1);
	}
	truth_of_touches(t, m, touches, count, o->budget_ns);
	for (size_t i = 0; i < o->have_count; i++)
		memset(t->have[o->have[i].blob] + o->have[i].off, 1, o->have[i].bytes);
	for (uint32_t b = 0; b < BLOBS; b++)
		for (uint64_t k = 0; k < m->blob_bytes[b]; k++) {
			uint64_t seen[MAX_RUNS];
			size_t n = 0;

			for (uint32_t r = 0; r < runs; r++)
				if (t->first[r][b][k])
					seen[n++] = t->first[r][b][k];
			if (!n || t->have[b][k] || n * 1000 < (size_t)o->min_runs_permille * runs)
				continue;
			qsort(seen, n, sizeof(*seen), compare_u64);
			t->need[b][k] = seen[(n - 1) / 2];
		}
}

static void truth_free(struct truth *t, uint32_t runs)
{
	for (uint32_t b = 0; b < BLOBS; b++) {
		for (uint32_t r = 0; r < runs; r++)
			free(t->first[r][b]);
		free(t->need[b]);
		free(t->have[b]);
		free(t->got[b]);
	}
}

static struct prefetch_list *list_for(const struct model *m)
{
	struct prefetch_list *l = xmalloc_zero(1, sizeof(*l));

	l->origin = PREFETCH_RECORDED;
	l->blobs = xmalloc_zero(BLOBS, sizeof(*l->blobs));
	l->blob_count = BLOBS;
	for (uint32_t b = 0; b < BLOBS; b++)
		l->blobs[b].bytes = m->blob_bytes[b];
	return l;
}

/* Ranges one by one: inside, once, with the time of their first needed byte, in that order. */
static void check_ranges(const struct prefetch_list *l, struct truth *t,
			 const struct plan_options *o)
{
	uint64_t before = 0;

	for (size_t i = 0; i < l->range_count; i++) {
		const struct prefetch_range *r = &l->ranges[i];
		uint64_t first = UINT64_MAX;

		assert_true(r->blob < BLOBS && r->bytes > 0);
		assert_true(r->off + r->bytes <= l->blobs[r->blob].bytes);
		assert_true(r->bytes <= o->max_range_bytes);
		for (uint64_t k = r->off; k < r->off + r->bytes; k++) {
			uint64_t need = t->need[r->blob][k];

			assert_false(t->got[r->blob][k]);
			assert_false(t->have[r->blob][k]);
			t->got[r->blob][k] = 1;
			if (need && need < first)
				first = need;
		}
		assert_true(first != UINT64_MAX);
		/* a budget may have left out what is in a gap now, and came earlier than nothing */
		if (!o->budget_bytes)
			assert_int_equal(r->at_ms, (first - 1) / MS);
		assert_true(r->at_ms >= before);
		before = r->at_ms;
		/* neither its first nor its last byte is of a gap */
		assert_true(t->need[r->blob][r->off] && t->need[r->blob][r->off + r->bytes - 1]);
	}
}

static void check_plan(const struct prefetch_list *l, const struct model *m, struct truth *t,
		       const struct plan_options *o)
{
	uint64_t used = 0, wasted = 0, missing = 0, missing_first = UINT64_MAX, sooner = 0;

	check_ranges(l, t, o);
	for (uint32_t b = 0; b < BLOBS; b++)
		for (uint64_t k = 0; k < m->blob_bytes[b]; k++) {
			if (t->got[b][k])
				*(t->need[b][k] ? &used : &wasted) += 1;
			else if (t->need[b][k]) {
				missing++;
				if (t->need[b][k] < missing_first)
					missing_first = t->need[b][k];
			}
		}
	assert_true(wasted * 1000 <= (used + wasted) * o->waste_permille);
	if (!o->gap_bytes)
		assert_int_equal(wasted, 0);
	if (!o->budget_bytes) {
		assert_int_equal(missing, 0);
		return;
	}
	assert_true(used + wasted <= o->budget_bytes);
	if (!missing)
		return;
	/* nothing is left out for something later */
	for (uint32_t b = 0; b < BLOBS; b++)
		for (uint64_t k = 0; k < m->blob_bytes[b]; k++)
			sooner += t->need[b][k] && t->need[b][k] <= missing_first;
	assert_true(sooner > o->budget_bytes);
}

static struct plan_touch *random_touches(struct test_random *rnd, const struct model *m,
					 uint32_t runs, size_t *ret_count)
{
	size_t count = test_random_below(rnd, 200);
	struct plan_touch *t = xmalloc_zero(count, sizeof(*t));
	uint64_t size = m->blocks * BLOCK;

	for (size_t i = 0; i < count; i++) {
		uint64_t pages = test_random_below(rnd, 8) ? 1 : test_random_below(rnd, 100);

		t[i].off = test_random_below(rnd, size);
		if (test_random_below(rnd, 4))
			t[i].off -= t[i].off % BLOCK;
		t[i].bytes = pages * BLOCK < size - t[i].off ? pages * BLOCK : size - t[i].off;
		t[i].at_ns = test_random_below(rnd, 3000) * MS / 2;
		t[i].run = (uint32_t)test_random_below(rnd, runs);
	}
	*ret_count = count;
	return t;
}

static void random_options(struct test_random *rnd, const struct model *m, struct plan_options *o,
			   struct prefetch_range have[static 4])
{
	plan_options_default(o);
	o->gap_bytes = test_random_below(rnd, 3) ? test_random_below(rnd, 30000) : 0;
	o->waste_permille = (unsigned int)test_random_below(rnd, 300);
	o->max_range_bytes = 1 + test_random_below(rnd, 100000);
	o->window_ns = test_random_below(rnd, 500) * MS;
	o->budget_bytes = test_random_below(rnd, 2) ? 0 : test_random_below(rnd, 300000);
	o->budget_ns = test_random_below(rnd, 3) ? 0 : test_random_below(rnd, 1000) * MS;
	o->min_runs_permille = (unsigned int)test_random_below(rnd, 1001);
	o->have = have;
	for (o->have_count = 0; o->have_count < test_random_below(rnd, 5); o->have_count++) {
		struct prefetch_range *h = &have[o->have_count];

		h->blob = (uint32_t)test_random_below(rnd, BLOBS);
		h->off = test_random_below(rnd, m->blob_bytes[h->blob] + 1);
		h->bytes = test_random_below(rnd, m->blob_bytes[h->blob] - h->off + 1);
		if (test_random_below(rnd, 2))
			h->bytes = h->bytes < 20000 ? h->bytes : 20000;
	}
}

static void shuffle(struct test_random *rnd, struct plan_touch *t, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		size_t k = test_random_below(rnd, i + 1);
		struct plan_touch x = t[i];

		t[i] = t[k];
		t[k] = x;
	}
}

static void test_model(void **state)
{
	struct test_random rnd = test_random_start("plans");

	(void)state;
	for (unsigned int round = 0; round < 120; round++) {
		uint32_t runs = (uint32_t)(1 + test_random_below(&rnd, MAX_RUNS));
		struct prefetch_range have[4];
		struct prefetch_list *l, *again;
		struct plan_touch *touches;
		struct plan_options o;
		struct truth t = {0};
		struct model m;
		struct err e = {0};
		size_t count;

		model_make(&m, &rnd, 1 + test_random_below(&rnd, 512));
		random_options(&rnd, &m, &o, have);
		touches = random_touches(&rnd, &m, runs, &count);
		struct plan_map map = {.stored = model_stored, .arg = &m};
		l = list_for(&m);
		assert_int_equal(plan_ranges(touches, count, runs, &map, &o, l, &e), 0);
		truth_make(&t, &m, touches, count, runs, &o);
		check_plan(l, &m, &t, &o);

		shuffle(&rnd, touches, count);
		again = list_for(&m);
		assert_int_equal(plan_ranges(touches, count, runs, &map, &o, again, &e), 0);
		assert_int_equal(l->range_count, again->range_count);
		assert_memory_equal(l->ranges, again->ranges, l->range_count * sizeof(*l->ranges));
		truth_free(&t, runs);
		prefetch_list_free(l);
		prefetch_list_free(again);
		free(touches);
		model_free(&m);
	}
}

/*
 * Like a start of python: packages of files, of which some are imported, each some blocks long;
 * every import reads the file, and later some go on in it.
 */
static void test_python(void **state)
{
	struct test_random rnd = test_random_start("python");
	struct prefetch_list l = {0};
	struct prefetch_blob blob = {.bytes = 0};
	struct plan_options o;
	struct plan_touch *t = xmalloc_zero(20000, sizeof(*t));
	struct model m = {.blocks = 40000};
	struct err e = {0};
	size_t count = 0;
	uint64_t needed = 0, at = 0;

	(void)state;
	m.block = xmalloc_zero(m.blocks, sizeof(*m.block));
	for (size_t i = 0; i < m.blocks; i++) {
		m.block[i] = (struct stored){0, blob.bytes, 1000 + test_random_below(&rnd, 1500)};
		blob.bytes += m.block[i].bytes;
	}
	for (size_t file = 0, block = 0; file < 1600; file++) {
		size_t blocks = 1 + test_random_below(&rnd, 4);

		/* tests and data that nothing imports lie between packages, some between files */
		block += !test_random_below(&rnd, 5) ? test_random_below(&rnd, 30)
						     : !test_random_below(&rnd, 3);
		for (size_t k = 0; k < blocks; k++, block++) {
			t[count++] = (struct plan_touch){at, block * BLOCK, BLOCK, 0};
			needed += m.block[block].bytes;
			at += 300000;
		}
		assert_true(block < m.blocks);
	}
	plan_options_default(&o);
	l.blobs = &blob;
	l.blob_count = 1;
	struct plan_map map = {.stored = model_stored, .arg = &m};
	assert_int_equal(plan_ranges(t, count, 1, &map, &o, &l, &e), 0);
	print_message("%zu blocks, %zu ranges, %llu of %llu bytes needed\n", count, l.range_count,
		      (unsigned long long)needed, (unsigned long long)prefetch_list_bytes(&l));
	assert_in_range(l.range_count, 1, 450);
	assert_true(needed * 1000 >= prefetch_list_bytes(&l) * 920);
	free(l.ranges);
	free(t);
	free(m.block);
}

static struct plan_touch touch(uint64_t ms, uint64_t block, uint64_t blocks)
{
	return (struct plan_touch){ms * MS, block * BLOCK, blocks * BLOCK, 0};
}

/* What comes late is not brought along with what comes early, but for little. */
static void test_late(void **state)
{
	struct model m = {.blocks = 400};
	struct prefetch_blob blob = {.bytes = 400 * 4000};
	struct plan_map map = {.stored = model_stored, .arg = &m};
	struct prefetch_list l = {.blobs = &blob, .blob_count = 1};
	struct plan_options o;
	struct err e = {0};
	struct plan_touch t[3];

	(void)state;
	m.block = xmalloc_zero(m.blocks, sizeof(*m.block));
	for (size_t i = 0; i < m.blocks; i++)
		m.block[i] = (struct stored){0, i * 4000, 4000};
	plan_options_default(&o);

	t[0] = touch(0, 0, 10);
	t[1] = touch(100, 200, 10);
	t[2] = touch(900, 10, 10);
	assert_int_equal(plan_ranges(t, 3, 1, &map, &o, &l, &e), 0);
	assert_int_equal(l.range_count, 2);
	assert_int_equal(l.ranges[0].bytes, 20 * 4000);
	assert_int_equal(l.ranges[1].off, 200 * 4000);
	free(l.ranges);

	t[2] = touch(900, 10, 100);
	assert_int_equal(plan_ranges(t, 3, 1, &map, &o, &l, &e), 0);
	assert_int_equal(l.range_count, 3);
	assert_int_equal(l.ranges[2].off, 10 * 4000);
	assert_int_equal(l.ranges[2].bytes, 100 * 4000);
	assert_int_equal(l.ranges[2].at_ms, 900);
	free(l.ranges);

	/* within the window the order in time between them does not matter */
	t[2] = touch(200, 10, 100);
	assert_int_equal(plan_ranges(t, 3, 1, &map, &o, &l, &e), 0);
	assert_int_equal(l.range_count, 2);
	assert_int_equal(l.ranges[0].bytes, 110 * 4000);
	free(l.ranges);
	free(m.block);
}

static uint64_t model_next(void *arg, uint64_t off)
{
	const struct model *m = arg;
	uint64_t n = off / BLOCK;

	while (n < m->blocks && !m->block[n].bytes)
		n++;
	if (n >= m->blocks)
		return UINT64_MAX;
	return n * BLOCK > off ? n * BLOCK : off;
}

/* Touches of more than any device has end where the device does. */
static void test_endless(void **state)
{
	struct test_random rnd = test_random_start("endless");
	struct plan_touch whole, endless[] = {
				     {.bytes = UINT64_MAX},
				     {.off = BLOCK, .bytes = UINT64_C(1) << 63},
				     {.off = UINT64_C(1) << 63, .bytes = INT64_MAX},
				     {.at_ns = 1, .off = UINT64_MAX - 1, .bytes = 1},
				 };
	struct prefetch_list *l, *all;
	struct plan_options o;
	struct model m;
	struct err e = {0};

	(void)state;
	model_make(&m, &rnd, 300);
	plan_options_default(&o);
	struct plan_map map = {.stored = model_stored, .arg = &m};
	whole = (struct plan_touch){.bytes = m.blocks * BLOCK};
	all = list_for(&m);
	assert_int_equal(plan_ranges(&whole, 1, 1, &map, &o, all, &e), 0);
	map.next = model_next;
	l = list_for(&m);
	assert_int_equal(plan_ranges(endless, 4, 1, &map, &o, l, &e), 0);
	assert_int_equal(l->range_count, all->range_count);
	assert_memory_equal(l->ranges, all->ranges, l->range_count * sizeof(*l->ranges));
	prefetch_list_free(l);
	prefetch_list_free(all);
	model_free(&m);
}

static void test_refused(void **state)
{
	struct test_random rnd = test_random_start("refused");
	struct plan_touch t = {.bytes = BLOCK};
	struct plan_options o;
	struct prefetch_list *l;
	struct model m;
	struct err e = {0};

	(void)state;
	model_make(&m, &rnd, 10);
	struct plan_map map = {.stored = model_stored, .arg = &m};
	plan_options_default(&o);
	l = list_for(&m);
	t.run = 1;
	assert_int_equal(plan_ranges(&t, 1, 1, &map, &o, l, &e), -EINVAL);
	t.run = 0;
	t.off = UINT64_MAX;
	assert_int_equal(plan_ranges(&t, 1, 1, &map, &o, l, &e), -EINVAL);
	t.off = 0;
	m.fail = -EIO;
	assert_int_equal(plan_ranges(&t, 1, 1, &map, &o, l, &e), -EIO);
	m.fail = 0;
	m.block[0] = (struct stored){0, l->blobs[0].bytes, 1};
	assert_int_equal(plan_ranges(&t, 1, 1, &map, &o, l, &e), -EBADMSG);
	assert_null(l->ranges);
	assert_int_equal(plan_ranges(NULL, 0, 0, &map, &o, l, &e), 0);
	assert_int_equal(l->range_count, 0);
	prefetch_list_free(l);
	model_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_model),   cmocka_unit_test(test_python),
	    cmocka_unit_test(test_late),    cmocka_unit_test(test_endless),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
