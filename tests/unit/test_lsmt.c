/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of lsmt, lsmt_rw and map. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "bytes.h"
#include "err.h"
#include "lsmt.h"
#include "map.h"

#define S 512ull

static void record(uint8_t *p, uint64_t off, uint64_t len, uint64_t moff, bool zeroed, uint8_t tag)
{
	put_le64(p, off | len << 50);
	put_le64(p + 8, moff | (uint64_t)zeroed << 55 | (uint64_t)tag << 56);
}

/* overlaybd-format appendix A: header and trailer of ext4_64, and its first records. */
static void test_golden_numbers(void **state)
{
	struct lsmt_header h = {
	    .flags = 6,
	    .index_offset = 541798400,
	    .index_count = 8448,
	    .virtual_bytes = 68719476736,
	    .uuid = "C02FB491-B4D4-4904-8684-A014D032AF78",
	    .parent = "00000000-0000-0000-0000-000000000000",
	};
	uint8_t p[4096], rec[5 * 16];
	struct lsmt_header back;
	struct lsmt_index i;

	(void)state;
	lsmt_encode_header(&h, p);
	assert_memory_equal(p, "LSMT\0\1\2\0", 8);
	assert_int_equal(get_le32(p + 24), 390);
	assert_int_equal(p[132], 1);
	assert_int_equal(p[133], 1);
	assert_int_equal(lsmt_parse_trailer(p, 541937664, &back, NULL), 0);
	assert_int_equal(lsmt_index_range(&back).off + lsmt_index_range(&back).len,
			 541937664 - 4096);
	assert_string_equal(back.uuid, h.uuid);
	assert_string_equal(back.parent, h.parent);
	assert_int_equal(lsmt_parse_trailer(p, 541937663, &back, NULL), -EBADMSG);

	record(rec, 0, 8272, 8, false, 0);
	record(rec + 16, 8272, 120, 8280, true, 0);
	record(rec + 32, 8392, 8, 8280, false, 0);
	record(rec + 48, 8400, 120, 8288, true, 0);
	record(rec + 64, 8520, 8, 8288, false, 0);
	back.index_count = 5;
	assert_int_equal(lsmt_index_parse(&back, LSMT_NORMAL, rec, &i, NULL), 0);
	assert_int_equal(i.count, 5);
	assert_int_equal(i.seg[2].off, 8392 * S);
	assert_int_equal(i.seg[2].moff, 8280 * S);
	assert_int_equal(i.seg[2].len, 8 * S);
	assert_true(i.seg[3].zeroed);
	lsmt_index_done(&i);
}

static void test_header_flags(void **state)
{
	struct lsmt_header h = {.virtual_bytes = 1 << 20, .uuid = "no uuid", .flags = 7}, back;
	uint8_t p[4096];

	(void)state;
	memset(h.user_tag, 't', 256);
	lsmt_encode_header(&h, p);
	assert_int_equal(lsmt_parse_header(p, &back, NULL), 0);
	assert_string_equal(back.uuid, "00000000-0000-0000-0000-000000000000");
	assert_int_equal(strlen(back.user_tag), 256);
	assert_int_equal(lsmt_parse_trailer(p, 1 << 20, &back, NULL), -EBADMSG);
	assert_int_equal(lsmt_parse_rw_index_header(p, &back, NULL), -EBADMSG);
	h.flags = 3; /* a sealed layer keeps its read-write header */
	lsmt_encode_header(&h, p);
	assert_int_equal(lsmt_parse_header(p, &back, NULL), 0);
	h.flags = 1;
	h.index_offset = 4096;
	lsmt_encode_header(&h, p);
	assert_int_equal(lsmt_parse_header(p, &back, NULL), -EBADMSG);
	assert_int_equal(lsmt_parse_rw_index_header(p, &back, NULL), 0);
	h.index_offset = 8192;
	lsmt_encode_header(&h, p);
	assert_int_equal(lsmt_parse_rw_index_header(p, &back, NULL), -EBADMSG);
	put_le64(p + 48, UINT64_MAX);
	assert_int_equal(lsmt_parse_rw_index_header(p, &back, NULL), -EBADMSG);
}

static int index_of(const uint8_t *rec, uint64_t count, enum lsmt_kind kind, struct lsmt_index *i)
{
	struct lsmt_header h = {.index_offset = 100 * S, .index_count = count};

	return lsmt_index_parse(&h, kind, rec, i, NULL);
}

static int one(uint64_t off, uint64_t len, uint64_t moff, bool zeroed, uint8_t tag,
	       enum lsmt_kind kind)
{
	struct lsmt_index i;
	uint8_t rec[16];
	int r;

	record(rec, off, len, moff, zeroed, tag);
	r = index_of(rec, 1, kind, &i);
	if (r == 0)
		lsmt_index_done(&i);
	return r;
}

static void test_reader_rules(void **state)
{
	struct lsmt_index i;
	uint8_t rec[48];

	(void)state;
	assert_int_equal(one(0, 1, 8, false, 0, LSMT_NORMAL), 0);
	assert_int_equal(one(0, 1, 7, false, 0, LSMT_NORMAL), -EBADMSG);
	assert_int_equal(one(0, 1, 99, false, 0, LSMT_NORMAL), 0);
	assert_int_equal(one(0, 2, 99, false, 0, LSMT_NORMAL), -EBADMSG);
	assert_int_equal(one(0, 1, 100, false, 0, LSMT_NORMAL), -EBADMSG);
	assert_int_equal(one(0, 1, (1ull << 55) - 1, false, 0, LSMT_NORMAL), -EBADMSG);
	assert_int_equal(one(0, 16383, 100, true, 0, LSMT_NORMAL), 0);
	assert_int_equal(one(0, 1, 101, true, 0, LSMT_NORMAL), -EBADMSG);
	assert_int_equal(one(0, 1, 7, true, 0, LSMT_NORMAL), -EBADMSG);
	assert_int_equal(one(0, 1, 8, false, 0x5A, LSMT_NORMAL), 0);

	/* invalid records are dropped wherever they are; order and overlap count */
	record(rec, 5, 5, 8, false, 0);
	record(rec + 16, (1ull << 50) - 1, 0, 0, false, 0);
	record(rec + 32, 10, 1, 13, false, 0);
	assert_int_equal(index_of(rec, 3, LSMT_NORMAL, &i), 0);
	assert_int_equal(i.count, 2);
	lsmt_index_done(&i);
	record(rec + 32, 9, 1, 13, false, 0);
	assert_int_equal(index_of(rec, 3, LSMT_NORMAL, &i), -EBADMSG);
	record(rec + 32, 1, 1, 13, false, 0);
	assert_int_equal(index_of(rec, 3, LSMT_NORMAL, &i), -EBADMSG);
	assert_int_equal(index_of(rec, 0, LSMT_NORMAL, &i), 0);
	assert_int_equal(i.count, 0);
	lsmt_index_done(&i);
}

static void test_warp_rules(void **state)
{
	struct lsmt_index i;
	uint8_t rec[32];

	(void)state;
	/* tags are relative to the smallest; the target is not bounded by this file */
	record(rec, 0, 1, 8, false, 3);
	record(rec + 16, 1, 1, 5000, true, 4);
	assert_int_equal(index_of(rec, 2, LSMT_WARP, &i), 0);
	assert_int_equal(i.seg[0].tag, 0);
	assert_int_equal(i.seg[1].tag, 1);
	assert_int_equal(i.seg[1].moff, 5000 * S);
	assert_false(i.seg[1].zeroed);
	lsmt_index_done(&i);
	record(rec + 16, 1, 1, 5000, false, 5);
	assert_int_equal(index_of(rec, 2, LSMT_WARP, &i), -EBADMSG);
	record(rec + 16, 1, 1, (1ull << 55) - 1, false, 4);
	assert_int_equal(index_of(rec, 2, LSMT_WARP, &i), -EBADMSG);
	record(rec, 0, 1, 100, false, 3);
	record(rec + 16, 1, 1, 0, false, 4);
	assert_int_equal(index_of(rec, 2, LSMT_WARP, &i), -EBADMSG);
}

static void test_encode(void **state)
{
	struct lsmt_segment seg[] = {
	    {.off = 0, .len = 8 * S, .moff = 4096},
	    {.off = 8 * S, .len = 8 * S, .moff = 4096 + 8 * S},	  /* goes on */
	    {.off = 16 * S, .len = 8 * S, .moff = 4096 + 40 * S}, /* elsewhere */
	    {.off = 24 * S, .len = 1000 * S, .zeroed = true},
	    {.off = 1024 * S, .len = 7 * S, .zeroed = true, .moff = 1},
	    {.off = 1031 * S, .len = 20000 * S, .moff = 4096 + 100 * S},
	};
	uint64_t count, end = 4096 + 30000 * S;
	struct lsmt_index i;
	uint8_t *rec;

	(void)state;
	assert_int_equal(lsmt_index_encode(seg, 6, end, &rec, &count, NULL), 0);
	assert_int_equal(count, 256);
	struct lsmt_header h = {.index_offset = end, .index_count = count};
	assert_int_equal(lsmt_index_parse(&h, LSMT_NORMAL, rec, &i, NULL), 0);
	assert_int_equal(i.count, 5);
	assert_int_equal(i.seg[0].len, 16 * S);
	assert_int_equal(i.seg[2].len, 1007 * S);
	assert_int_equal(i.seg[2].moff, end);
	assert_int_equal(i.seg[3].len, 16383 * S);
	assert_int_equal(i.seg[4].len, (20000 - 16383) * S);
	lsmt_index_done(&i);
	free(rec);
	assert_int_equal(lsmt_index_encode(NULL, 0, 4096, &rec, &count, NULL), 0);
	assert_int_equal(count, 0);
	free(rec);

	seg[2].off += 1;
	assert_int_equal(lsmt_index_encode(seg, 6, end, &rec, &count, NULL), -EINVAL);
	seg[2].off = 8 * S;
	assert_int_equal(lsmt_index_encode(seg, 6, end, &rec, &count, NULL), -EINVAL);
	seg[2].off = 16 * S;
	seg[2].moff = end;
	assert_int_equal(lsmt_index_encode(seg, 6, end, &rec, &count, NULL), -EINVAL);
	seg[2].moff = 0;
	assert_int_equal(lsmt_index_encode(seg, 6, end, &rec, &count, NULL), -EINVAL);
	assert_int_equal(lsmt_index_encode(seg, 2, 0, &rec, &count, NULL), -EINVAL);
}

static void test_encode_limit(void **state)
{
	size_t n = 999936; /* the largest multiple of 256 below the limit */
	struct lsmt_segment *seg = calloc(n + 1, sizeof(*seg));
	uint64_t count;
	uint8_t *rec;

	(void)state;
	for (size_t i = 0; i <= n; i++)
		seg[i] = (struct lsmt_segment){.off = 2 * i * S, .len = S, .moff = 4096};
	assert_int_equal(lsmt_index_encode(seg, n, 8192, &rec, &count, NULL), 0);
	assert_int_equal(count, n);
	free(rec);
	assert_int_equal(lsmt_index_encode(seg, n + 1, 8192, &rec, &count, NULL), -EOVERFLOW);
	free(seg);
}

static void test_replay(void **state)
{
	uint8_t rec[6 * 16];
	struct lsmt_index i;

	(void)state;
	record(rec, 10, 100, 8, false, 7);
	record(rec + 16, 50, 10, 108, false, 7); /* in its middle */
	record(rec + 32, 105, 10, 118, true, 7); /* over its end */
	record(rec + 48, (1ull << 50) - 1, 0, 0, false, 0);
	record(rec + 64, 52, 2, 118, true, 0);
	record(rec + 80, 0, 0, 8, false, 0); /* of no length */
	assert_int_equal(lsmt_index_replay(rec, sizeof(rec), 118 * S, &i, NULL), 0);
	static const uint64_t want[][4] = {/* off, len, moff, zeroed */
					   {10, 40, 8, 0},  {50, 2, 108, 0}, {52, 2, 118, 1},
					   {54, 6, 112, 0}, {60, 45, 58, 0}, {105, 10, 118, 1}};
	assert_int_equal(i.count, 6);
	for (int n = 0; n < 6; n++) {
		assert_int_equal(i.seg[n].off, want[n][0] * S);
		assert_int_equal(i.seg[n].len, want[n][1] * S);
		assert_int_equal(i.seg[n].moff, want[n][2] * S);
		assert_int_equal(i.seg[n].zeroed, want[n][3]);
		assert_int_equal(i.seg[n].tag, 0);
	}
	lsmt_index_done(&i);
	/* a torn record at the end is not there yet */
	assert_int_equal(lsmt_index_replay(rec, 31, 118 * S, &i, NULL), 0);
	assert_int_equal(i.count, 1);
	lsmt_index_done(&i);
	assert_int_equal(lsmt_index_replay(rec, 16, 107 * S, &i, NULL), -EBADMSG);
	assert_int_equal(lsmt_index_replay(rec, 16, 0, &i, NULL), -EBADMSG);
	record(rec, 10, 100, 7, true, 7);
	assert_int_equal(lsmt_index_replay(rec, 16, 107 * S, &i, NULL), -EBADMSG);
	assert_int_equal(lsmt_index_replay(rec, 0, 0, &i, NULL), 0);
	assert_int_equal(i.count, 0);
	lsmt_index_done(&i);
}

static void test_sparse(void **state)
{
	struct range ext[] = {{0, 8192}, {12288, 20000ull * 512}, {1ull << 40, 4096}};
	struct lsmt_index i;

	(void)state;
	assert_int_equal(lsmt_index_sparse(ext, 3, 64 << 20, &i, NULL), 0);
	assert_int_equal(i.count, 3); /* the header is no data, what is behind the end neither */
	assert_int_equal(i.seg[0].off, 0);
	assert_int_equal(i.seg[0].moff, 4096);
	assert_int_equal(i.seg[0].len, 4096);
	assert_int_equal(i.seg[1].off, 8192);
	assert_int_equal(i.seg[1].moff, 12288);
	assert_int_equal(i.seg[1].len, 16383 * S);
	assert_int_equal(i.seg[2].len, (20000 - 16383) * S);
	lsmt_index_done(&i);
	ext[1].off = 100;
	assert_int_equal(lsmt_index_sparse(ext, 3, 64 << 20, &i, NULL), -EINVAL);
	ext[1] = (struct range){UINT64_MAX - 1, 5};
	assert_int_equal(lsmt_index_sparse(ext, 2, 64 << 20, &i, NULL), -EINVAL);
}

static void test_uuid(void **state)
{
	char out[LSMT_UUID_BYTES];

	(void)state;
	lsmt_uuid_from_chain(
	    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", out);
	assert_string_equal(out, "BA7816BF-8F01-CFEA-4141-40DE5DAE2223");
	lsmt_uuid_from_chain("sha256:ba", out);
	assert_string_equal(out, "BA000000-0000-0000-0000-000000000000");
}

static void check_piece(struct map_piece p, uint64_t off, uint64_t len, int layer, uint64_t moff)
{
	assert_int_equal(p.range.off, off);
	assert_int_equal(p.range.len, len);
	assert_int_equal(p.zero, layer < 0);
	if (layer >= 0) {
		assert_int_equal(p.layer, layer);
		assert_int_equal(p.moff, moff);
	}
}

static void test_map(void **state)
{
	struct lsmt_segment low[] = {{.off = 0, .len = 100 * S, .moff = 8 * S},
				     {.off = 100 * S, .len = 50 * S, .moff = 108 * S}};
	struct lsmt_segment top[] = {{.off = 20 * S, .len = 10 * S, .moff = 8 * S},
				     {.off = 40 * S, .len = 10 * S, .zeroed = true}};
	struct lsmt_index layers[] = {{low, 2}, {top, 2}};
	uint64_t mappings, data, zeroed;
	struct map_piece p;
	struct image_map *m;

	(void)state;
	assert_int_equal(image_map_build(layers, 2, 140 * S, &m, NULL), 0);
	assert_int_equal(image_map_bytes(m), 140 * S);
	image_map_totals(m, &mappings, &data, &zeroed);
	assert_int_equal(mappings, 6);
	assert_int_equal(data, 130 * S);
	assert_int_equal(zeroed, 10 * S);
	check_piece(image_map_next(m, range_of(0, 140 * S)), 0, 20 * S, 0, 8 * S);
	check_piece(image_map_next(m, range_of(5 * S, 3 * S)), 5 * S, 3 * S, 0, 13 * S);
	check_piece(image_map_next(m, range_of(25 * S, 100 * S)), 25 * S, 5 * S, 1, 13 * S);
	check_piece(image_map_next(m, range_of(30 * S, 100 * S)), 30 * S, 10 * S, 0, 38 * S);
	check_piece(image_map_next(m, range_of(41 * S, 100 * S - 41)), 41 * S, 9 * S, -1, 0);
	/* two segments that continue each other come as one piece, cut at the end of the device */
	check_piece(image_map_next(m, range_of(60 * S, 80 * S)), 60 * S, 80 * S, 0, 68 * S);
	assert_true(image_map_mapping(m, 5, &p));
	check_piece(p, 100 * S, 40 * S, 0, 108 * S);
	assert_false(image_map_mapping(m, 6, &p));
	image_map_free(m);

	assert_int_equal(image_map_build(NULL, 0, 4096, &m, NULL), 0);
	check_piece(image_map_next(m, range_of(100, 50)), 100, 50, -1, 0);
	image_map_free(m);
	image_map_free(NULL);
	assert_int_equal(image_map_build(layers, LSMT_MAX_LAYERS + 1, 4096, &m, NULL), -EINVAL);
}

/* Above 2 TiB sector numbers need more than 32 bits; upstream's lookup tree truncates them. */
static void test_map_large(void **state)
{
	uint64_t tib = 1ull << 40;
	struct lsmt_segment seg[] = {{.off = 0, .len = S, .moff = 8 * S},
				     {.off = 2 * tib, .len = S, .moff = 9 * S},
				     {.off = 1000 * tib, .len = S, .moff = 10 * S}};
	struct lsmt_index layer = {seg, 3};
	struct image_map *m;

	(void)state;
	assert_int_equal(image_map_build(&layer, 1, 1ull << 59, &m, NULL), 0);
	check_piece(image_map_next(m, range_of(2 * tib, tib)), 2 * tib, S, 0, 9 * S);
	check_piece(image_map_next(m, range_of(2 * tib + S, 1000 * tib)), 2 * tib + S,
		    998 * tib - S, -1, 0);
	check_piece(image_map_next(m, range_of(1000 * tib, tib)), 1000 * tib, S, 0, 10 * S);
	image_map_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_golden_numbers), cmocka_unit_test(test_header_flags),
	    cmocka_unit_test(test_reader_rules),   cmocka_unit_test(test_warp_rules),
	    cmocka_unit_test(test_encode),	   cmocka_unit_test(test_encode_limit),
	    cmocka_unit_test(test_replay),	   cmocka_unit_test(test_sparse),
	    cmocka_unit_test(test_uuid),	   cmocka_unit_test(test_map),
	    cmocka_unit_test(test_map_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
