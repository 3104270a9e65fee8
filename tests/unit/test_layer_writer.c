/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_layer_writer.c - the blob is the same for any number of threads and any spool, and keeps
 * every rule of a writer; it is read back through the parsers of engine/format
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "err.h"
#include "layer_writer.h"
#include "lsmt.h"
#include "tar_envelope.h"
#include "test_random.h"
#include "text.h"
#include "zfile.h"

#define CHAIN  "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PARENT "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define DEVICE (64ull << 30)
#define ADDS   300u

struct add {
	uint64_t off;
	uint32_t bytes;
	uint8_t *p;
};

static struct add adds[ADDS];
static uint64_t data_bytes;

/* Runs of blocks in random order and size, none overlapping. */
static int make_adds(void **state)
{
	struct test_random r = test_random_start("test_layer_writer");
	uint64_t off = 0;

	(void)state;
	for (size_t i = 0; i < ADDS; i++) {
		uint32_t blocks = 1 + (uint32_t)test_random_below(&r, i % 50 == 7 ? 2500 : 20);

		off += test_random_below(&r, 3) * 4096 * (1 + test_random_below(&r, 1000));
		adds[i] = (struct add){.off = off, .bytes = blocks * 4096};
		adds[i].p = malloc(adds[i].bytes);
		test_random_fill(&r, adds[i].p, adds[i].bytes);
		off += adds[i].bytes;
		data_bytes += adds[i].bytes;
	}
	for (size_t i = ADDS - 1; i > 0; i--) {
		size_t k = (size_t)test_random_below(&r, i + 1);
		struct add t = adds[i];

		adds[i] = adds[k];
		adds[k] = t;
	}
	return 0;
}

static int free_adds(void **state)
{
	(void)state;
	for (size_t i = 0; i < ADDS; i++)
		free(adds[i].p);
	return 0;
}

static struct layer_blob *make(const struct layer_format *f, unsigned int threads,
			       struct spool_budget *budget, size_t count)
{
	struct layer_writer_options o = {
	    .budget = budget,
	    .format = *f,
	    .virtual_bytes = DEVICE,
	    .chain_id = CHAIN,
	    .parent_chain_id = PARENT,
	};
	struct layer_writer *w;
	struct layer_blob *b = NULL;
	struct err e = {0};

	assert_int_equal(squeeze_new(threads, &o.pool, &e), 0);
	w = layer_writer_new(&o);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(layer_writer_add(w, adds[i].off, adds[i].p, adds[i].bytes, &e), 0);
	if (layer_writer_finish(w, 0, 0, &b, &e) < 0)
		fail_msg("%s", e.msg);
	layer_writer_free(w);
	squeeze_free(o.pool);
	return b;
}

static uint8_t *bytes_of(struct layer_blob *b)
{
	uint8_t *p = malloc(layer_blob_bytes(b));
	uint64_t n = layer_blob_bytes(b);

	/* odd pieces, across every boundary inside */
	for (uint64_t at = 0; at < n;) {
		size_t some = n - at < 700001 ? (size_t)(n - at) : 700001;

		assert_int_equal(layer_blob_read(b, at, p + at, some, NULL), 0);
		at += some;
	}
	return p;
}

static void test_any_thread_count_same_bytes(void **state)
{
	static const unsigned int threads[] = {1, 2, 3, 8};
	struct layer_format f = {.codec = CODEC_ZSTD, .level = 3, .block_bytes = 16384};
	char first[DIGEST_TEXT_BYTES], text[DIGEST_TEXT_BYTES];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		/* the last one goes through a file after the first two megabytes */
		struct spool_budget budget = {.limit = i == 3 ? 2u << 20 : 1u << 30};
		struct layer_blob *b = make(&f, threads[i], &budget, ADDS);

		assert_int_equal(layer_blob_digest(b, i ? text : first, NULL), 0);
		if (i)
			assert_string_equal(text, first);
		assert_true(budget.used > 0);
		layer_blob_free(b);
		assert_int_equal(budget.used, 0);
	}
}

static void check_heads(const uint8_t *layer, uint64_t bytes, struct lsmt_header *ret)
{
	struct lsmt_header head;
	char uuid[LSMT_UUID_BYTES];
	struct err e = {0};

	assert_int_equal(lsmt_parse_header(layer, &head, &e), 0);
	assert_int_equal(lsmt_parse_trailer(layer + bytes - 4096, bytes, ret, &e), 0);
	assert_int_equal(head.flags, 7);
	assert_int_equal(ret->flags, 6);
	assert_int_equal(head.index_offset, 0);
	assert_int_equal(head.index_count, 0);
	assert_int_equal(head.virtual_bytes, DEVICE);
	assert_int_equal(ret->virtual_bytes, DEVICE);
	assert_int_equal(ret->index_count % 256, 0);
	assert_true(ret->index_count <= LSMT_RO_MAX_RECORDS);
	assert_int_equal(ret->index_offset + ret->index_count * 16 + 4096, bytes);
	lsmt_uuid_from_chain(CHAIN, uuid);
	assert_string_equal(head.uuid, uuid);
	assert_string_equal(ret->uuid, "01234567-89AB-CDEF-0123-456789ABCDEF");
	assert_string_equal(ret->parent, "FEDCBA98-7654-3210-FEDC-BA9876543210");
}

/* The records raw, by the text of the format; then as the reader takes them, against what was
 * added. */
static void check_index(const uint8_t *layer, const struct lsmt_header *t, size_t count)
{
	const uint8_t *rec = layer + t->index_offset;
	struct lsmt_index ix;
	uint64_t last = 0, total = 0;
	bool padding = false;

	for (uint64_t i = 0; i < t->index_count; i++) {
		uint64_t w0 = get_le64(rec + i * 16), w1 = get_le64(rec + i * 16 + 8);
		uint64_t off = w0 & ((1ull << 50) - 1), len = w0 >> 50;
		uint64_t moff = w1 & ((1ull << 55) - 1);

		if (off == (1ull << 50) - 1) {
			padding = true;
			assert_true(len == 0 && w1 == 0);
			continue;
		}
		assert_false(padding);
		assert_true(len >= 1 && len <= 16383 && off >= last);
		assert_true(moff >= 8 && (moff + len) * 512 <= t->index_offset);
		assert_int_equal(w1 >> 55, 0); /* neither zeroed nor tagged */
		last = off + len;
		total += len * 512;
	}
	assert_int_equal(lsmt_index_parse(t, LSMT_NORMAL, rec, &ix, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		for (uint64_t at = 0; at < adds[i].bytes; at += 4096) {
			uint64_t off = adds[i].off + at;
			size_t lo = 0, hi = ix.count;

			while (lo + 1 < hi) {
				size_t mid = (lo + hi) / 2;

				if (ix.seg[mid].off <= off)
					lo = mid;
				else
					hi = mid;
			}
			assert_true(off >= ix.seg[lo].off && off - ix.seg[lo].off < ix.seg[lo].len);
			assert_memory_equal(layer + ix.seg[lo].moff + off - ix.seg[lo].off,
					    adds[i].p + at, 512);
		}
	}
	lsmt_index_done(&ix);
	if (count == ADDS)
		assert_int_equal(total, data_bytes);
}

static void check_blob(const struct layer_format *f, size_t count)
{
	struct spool_budget budget = {.limit = 1u << 30};
	struct layer_blob *b = make(f, 2, &budget, count);
	uint64_t bytes = layer_blob_bytes(b), plain = layer_blob_plain_bytes(b);
	uint8_t *p = bytes_of(b), *z, *layer = malloc(plain);
	struct zfile_info head, trailer;
	struct zfile_table *table;
	struct codec *c = codec_new();
	struct lsmt_header t;
	struct range payload;
	struct err e = {0};

	assert_int_equal(bytes % 512, 0);
	assert_int_equal(tar_envelope_parse(p, 1536, bytes, &payload, &e), 1);
	assert_int_equal(payload.off, 1536);
	assert_true(bytes_zero(p + bytes - 1024, 1024));
	z = p + payload.off;
	assert_int_equal(get_le64(z + 32), 0x1b);
	assert_int_equal(get_le64(z + payload.len - 512 + 32), 0x16);
	assert_int_equal(zfile_parse_header(z, payload.len, &head, &e), 0);
	assert_int_equal(zfile_parse_trailer(z + payload.len - 512, payload.len, &trailer, &e), 0);
	assert_true(head.final && head.verify && head.has_crc);
	assert_int_equal(head.index_offset, trailer.index_offset);
	assert_int_equal(head.index_crc, trailer.index_crc);
	assert_int_equal(head.original_bytes, plain);
	assert_int_equal(head.block_bytes, f->block_bytes);
	assert_int_equal(head.codec, f->codec);
	assert_int_equal(zfile_table_new(&head, z + head.index_offset, &table, &e), 0);
	for (uint64_t n = 0; n < head.block_count; n++) {
		struct range r = zfile_blocks(table, n, 1);

		assert_int_equal(
		    zfile_block_decode(&head, n, c, z + r.off, r.len, layer + n * head.block_bytes),
		    0);
	}
	check_heads(layer, plain, &t);
	check_index(layer, &t, count);
	zfile_table_free(table);
	codec_free(c);
	layer_blob_free(b);
	free(layer);
	free(p);
}

static void test_rules_of_a_writer(void **state)
{
	static const struct layer_format f[] = {
	    {CODEC_ZSTD, 3, 4096}, {CODEC_ZSTD, 1, 32768}, {CODEC_LZ4, 0, 4096},
	    {CODEC_LZ4, 0, 32768}, {CODEC_ZSTD, 9, 16384},
	};

	(void)state;
	for (size_t i = 0; i < 5; i++)
		check_blob(&f[i], ADDS);
	check_blob(&f[0], 0); /* a layer that changes nothing */
	check_blob(&f[0], 1);
}

static void test_spool_failure(void **state)
{
	struct spool_budget budget = {.limit = 0, .dir = "/nonexistent"};
	struct layer_format f = {CODEC_LZ4, 0, 4096};
	struct layer_writer_options o = {
	    .budget = &budget, .format = f, .virtual_bytes = DEVICE, .chain_id = CHAIN};
	struct layer_writer *w;
	struct layer_blob *b;
	struct err e = {0};
	int rc = 0;

	(void)state;
	assert_int_equal(squeeze_new(2, &o.pool, &e), 0);
	w = layer_writer_new(&o);
	for (size_t i = 0; rc == 0 && i < ADDS; i++)
		rc = layer_writer_add(w, adds[i].off, adds[i].p, adds[i].bytes, &e);
	if (rc == 0)
		rc = layer_writer_finish(w, 0, 0, &b, &e);
	assert_true(rc < 0);
	assert_non_null(strstr(e.msg, "/nonexistent"));
	layer_writer_free(w); /* batches in flight are waited for */
	squeeze_free(o.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_any_thread_count_same_bytes),
	    cmocka_unit_test(test_rules_of_a_writer),
	    cmocka_unit_test(test_spool_failure),
	};

	return cmocka_run_group_tests(tests, make_adds, free_adds);
}
