/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of LSMT and of the merged map over random layers: encode and decode give the same
 * bytes back, replay equals writing in order, the map equals a naive array of sectors.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"
#include "lsmt.h"
#include "map.h"
#include "test_random.h"

#define S	512ull
#define SECTORS 3000u
#define ROUNDS	300

/* What is at a sector: nothing known, zeros, or a sector of a layer's file. */
struct cell {
	int kind; /* 0 hole, 1 zeroed, 2 data */
	int layer;
	int tag;
	uint64_t moff;
};

static struct test_random rnd;

/* Random sorted segments with gaps, some touching, some continuing each other. */
static struct lsmt_index random_layer(bool warp)
{
	struct lsmt_index l = {.seg = calloc(SECTORS, sizeof(*l.seg))};
	uint64_t at = test_random_below(&rnd, 50), moff = 8;

	while (at < SECTORS) {
		uint64_t len = 1 + test_random_below(&rnd, test_random_below(&rnd, 4) ? 20 : 400);
		struct lsmt_segment *s = &l.seg[l.count++];

		*s = (struct lsmt_segment){
		    .off = at * S,
		    .len = (uint32_t)(len * S),
		    .zeroed = test_random_below(&rnd, 4) == 0,
		    .tag = warp && test_random_below(&rnd, 2),
		};
		if (s->tag)
			s->zeroed = false;
		if (test_random_below(&rnd, 3) == 0)
			moff += test_random_below(&rnd, 9);
		s->moff = moff * S;
		moff += s->zeroed ? 0 : len;
		at += len;
		if (test_random_below(&rnd, 2))
			at += test_random_below(&rnd, 60);
	}
	return l;
}

static void paint(struct cell *dev, const struct lsmt_index *l, int layer)
{
	for (size_t n = 0; n < l->count; n++) {
		const struct lsmt_segment *s = &l->seg[n];

		for (uint64_t k = 0; k < s->len / S; k++) {
			uint64_t at = s->off / S + k;

			if (at < SECTORS)
				dev[at] = (struct cell){.kind = s->zeroed ? 1 : 2,
							.layer = s->zeroed ? 0 : layer,
							.tag = s->zeroed ? 0 : s->tag,
							.moff = s->zeroed ? 0 : s->moff / S + k};
		}
	}
}

static void assert_cells(const struct cell *want, const struct cell *got)
{
	for (unsigned int n = 0; n < SECTORS; n++)
		if (memcmp(&want[n], &got[n], sizeof(*want)) != 0)
			fail_msg("sector %u: kind %d layer %d at %llu, expected kind %d layer %d "
				 "at %llu",
				 n, got[n].kind, got[n].layer, (unsigned long long)got[n].moff,
				 want[n].kind, want[n].layer, (unsigned long long)want[n].moff);
}

/* Decoding what was encoded gives the same device, by each kind of layer. */
static void test_encode_decode(void **state)
{
	static struct cell want[SECTORS], got[SECTORS];

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		bool warp = round % 2;
		struct lsmt_index l = random_layer(warp), back;
		struct lsmt_header h = {0};
		uint8_t *records, *again;
		uint64_t count;

		/* a warp layer has at least one record of its own data */
		l.seg[0].tag = 0;
		h.index_offset = (SECTORS * 3 + 8) * S;
		assert_int_equal(lsmt_index_encode(l.seg, l.count, h.index_offset, &records,
						   &h.index_count, NULL),
				 0);
		assert_int_equal(h.index_count % LSMT_PAD_RECORDS, 0);
		assert_int_equal(
		    lsmt_index_encode(l.seg, l.count, h.index_offset, &again, &count, NULL), 0);
		assert_memory_equal(records, again, count * LSMT_RECORD_BYTES);
		assert_int_equal(
		    lsmt_index_parse(&h, warp ? LSMT_WARP : LSMT_NORMAL, records, &back, NULL), 0);
		assert_true(back.count <= l.count);
		memset(want, 0, sizeof(want));
		memset(got, 0, sizeof(got));
		paint(want, &l, 0);
		paint(got, &back, 0);
		assert_cells(want, got);
		lsmt_index_done(&back);
		lsmt_index_done(&l);
		free(records);
		free(again);
	}
}

static void test_replay(void **state)
{
	static struct cell want[SECTORS], got[SECTORS];

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		size_t count = test_random_below(&rnd, 400);
		uint8_t *records = malloc(count * LSMT_RECORD_BYTES + 1);
		struct lsmt_index i;

		memset(want, 0, sizeof(want));
		memset(got, 0, sizeof(got));
		for (size_t n = 0; n < count; n++) {
			uint64_t off = test_random_below(&rnd, SECTORS);
			uint64_t len =
			    test_random_below(&rnd, test_random_below(&rnd, 3) ? 12 : 500);
			struct lsmt_segment s = {.off = off * S,
						 .len = (uint32_t)(len * S),
						 .moff = (8 + test_random_below(&rnd, 90000)) * S,
						 .zeroed = test_random_below(&rnd, 4) == 0};
			struct lsmt_index single = {&s, 1};

			put_le64(records + 16 * n, off | len << 50);
			put_le64(records + 16 * n + 8, s.moff / S | (uint64_t)s.zeroed << 55 |
							   test_random_below(&rnd, 256) << 56);
			paint(want, &single, 0);
		}
		assert_int_equal(lsmt_index_replay(records, count * 16 + test_random_below(&rnd, 2),
						   100000 * S, &i, NULL),
				 0);
		for (size_t n = 1; n < i.count; n++)
			assert_true(i.seg[n - 1].off + i.seg[n - 1].len <= i.seg[n].off);
		paint(got, &i, 0);
		assert_cells(want, got);
		lsmt_index_done(&i);
		free(records);
	}
}

/* Read [off, off+len) of the map as any reader does, into cells. */
static void read_map(const struct image_map *m, struct range r, struct cell *dev)
{
	while (r.len > 0) {
		struct map_piece p = image_map_next(m, r);

		assert_int_equal(p.range.off, r.off);
		assert_in_range(p.range.len, 1, r.len);
		for (uint64_t k = 0; !p.zero && k < p.range.len / S; k++)
			dev[p.range.off / S + k] = (struct cell){
			    .kind = 2, .layer = p.layer, .tag = p.tag, .moff = p.moff / S + k};
		r.off += p.range.len;
		r.len -= p.range.len;
	}
}

static void test_map(void **state)
{
	static struct cell want[SECTORS], got[SECTORS];

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		size_t count = 1 + test_random_below(&rnd, round % 10 ? 8 : LSMT_MAX_LAYERS);
		struct lsmt_index *layers = calloc(count, sizeof(*layers));
		uint64_t mapped[3] = {0}, mappings, data, zeroed;
		uint64_t device = test_random_below(&rnd, SECTORS) + 1;
		struct image_map *m;

		memset(want, 0, sizeof(want));
		memset(got, 0, sizeof(got));
		for (size_t n = 0; n < count; n++) {
			layers[n] = random_layer(n % 3 == 2);
			paint(want, &layers[n], (int)n);
		}
		memset(want + device, 0, (SECTORS - device) * sizeof(*want));
		for (unsigned int n = 0; n < SECTORS; n++) {
			mapped[want[n].kind]++;
			if (want[n].kind == 1)
				want[n].kind = 0; /* both read as zeros */
		}
		assert_int_equal(image_map_build(layers, count, device * S, &m, NULL), 0);
		image_map_totals(m, &mappings, &data, &zeroed);
		assert_int_equal(data, mapped[2] * S);
		assert_int_equal(zeroed, mapped[1] * S);
		read_map(m, range_of(0, device * S), got);
		assert_cells(want, got);
		for (int k = 0; k < 50; k++) {
			static struct cell part[SECTORS];
			uint64_t off = test_random_below(&rnd, device);
			uint64_t len = 1 + test_random_below(&rnd, device - off);

			memset(part, 0, sizeof(part));
			read_map(m, range_of(off * S, len * S), part);
			assert_memory_equal(part + off, want + off, len * sizeof(*part));
		}
		image_map_free(m);
		for (size_t n = 0; n < count; n++)
			lsmt_index_done(&layers[n]);
		free(layers);
	}
}

/* A sparse layer's index shows exactly the extents. */
static void test_sparse(void **state)
{
	static struct cell want[SECTORS], got[SECTORS];

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct range ext[100];
		struct lsmt_index i;
		uint64_t at = 0;
		size_t count = 0;

		memset(want, 0, sizeof(want));
		memset(got, 0, sizeof(got));
		while (count < 100 && at < SECTORS + 100) {
			uint64_t len = 8 * (1 + test_random_below(&rnd, 10));

			ext[count++] = range_of(at * S, len * S);
			for (uint64_t k = at; k < at + len; k++)
				if (k >= 8 && k - 8 < SECTORS)
					want[k - 8] = (struct cell){.kind = 2, .moff = k};
			at += len + 8 * test_random_below(&rnd, 10);
		}
		assert_int_equal(lsmt_index_sparse(ext, count, SECTORS * S, &i, NULL), 0);
		paint(got, &i, 0);
		assert_cells(want, got);
		lsmt_index_done(&i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_encode_decode),
	    cmocka_unit_test(test_replay),
	    cmocka_unit_test(test_map),
	    cmocka_unit_test(test_sparse),
	};

	rnd = test_random_start("prop_layers");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
