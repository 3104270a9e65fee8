/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of blobs: a ZFile written is read back, whole and broken; a gzip file of any shape is
 * read through its own index from every checkpoint; unpack gives what went in.
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
#include "golden_file.h"
#include "gz_make.h"
#include "gzidx.h"
#include "inflate.h"
#include "tar_envelope.h"
#include "test_random.h"
#include "unpack.h"
#include "zfile.h"

static struct test_random rnd;

/* A whole ZFile, with the header rewritten or with the trailer only. */
static uint8_t *write_zfile(const uint8_t *plain, size_t bytes, struct zfile_info *i, bool final,
			    size_t *ret_bytes)
{
	size_t room = 4096 + bytes * 2 + 1024 * (bytes / i->block_bytes + 1);
	uint8_t *out = calloc(1, room), *table;
	struct codec *c = codec_new();
	size_t at = 512;

	i->original_bytes = bytes;
	i->block_count = (bytes + i->block_bytes - 1) / i->block_bytes;
	table = malloc(4 * i->block_count + 1);
	for (uint64_t n = 0; n < i->block_count; n++) {
		long len = zfile_block_encode(i->codec, 3, c, plain + n * i->block_bytes,
					      zfile_block_plain_bytes(i, n), out + at, room - at);

		assert_true(len > 4);
		put_le32(table + 4 * n, (uint32_t)len);
		at += (size_t)len;
	}
	i->index_offset = at;
	i->index_crc = zfile_table_crc(0, table, 4 * i->block_count);
	memcpy(out + at, table, 4 * i->block_count);
	at += 4 * i->block_count;
	zfile_encode_head(i, ZFILE_TRAILER, out + at);
	zfile_encode_head(i, final ? ZFILE_HEAD_FINAL : ZFILE_HEAD_FIRST, out);
	free(table);
	codec_free(c);
	*ret_bytes = at + 512;
	return out;
}

static void test_zfile(void **state)
{
	(void)state;
	for (int round = 0; round < 150; round++) {
		size_t bytes = test_random_below(&rnd, round % 10 ? 60000 : 600000), len, back_len;
		struct zfile_info i = {
		    .block_bytes = 4096u << test_random_below(&rnd, 4),
		    .codec = test_random_below(&rnd, 2) ? CODEC_LZ4 : CODEC_ZSTD,
		    .verify = true,
		};
		uint8_t *plain = malloc(bytes + 1), *file, *back;
		bool final = test_random_below(&rnd, 2);

		test_random_fill(&rnd, plain, bytes);
		file = write_zfile(plain, bytes, &i, final, &len);
		back = golden_zfile(file, len, &back_len);
		assert_non_null(back);
		assert_int_equal(back_len, bytes);
		assert_memory_equal(back, plain, bytes);
		free(back);
		/*
		 * One flipped bit: refused, or the same bytes (a header or trailer that is not the
		 * one in use; the trailer's digest is not checked, as upstream does not).
		 */
		for (int k = 0; k < 20; k++) {
			size_t at = test_random_below(&rnd, len);
			uint8_t bit = (uint8_t)(1u << test_random_below(&rnd, 8));

			file[at] ^= bit;
			back = golden_zfile(file, len, &back_len);
			if (back) {
				assert_true(at >= len - 512 || (!final && at < 512));
				assert_int_equal(back_len, bytes);
				assert_memory_equal(back, plain, bytes);
			}
			free(back);
			file[at] ^= bit;
		}
		free(file);
		free(plain);
	}
}

static void test_tar(void **state)
{
	uint8_t head[TAR_ENVELOPE_HEAD_BYTES];
	struct range r;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		uint64_t n = test_random_u64(&rnd) >> (4 + test_random_below(&rnd, 60));

		n += n == 0;
		tar_envelope_head(n, head);
		assert_int_equal(tar_envelope_parse(head, sizeof(head),
						    1536 + n + tar_envelope_tail_bytes(n), &r,
						    NULL),
				 1);
		assert_int_equal(r.len, n);
	}
}

/* All spans of an index, and a random piece found through gzidx_find(). */
static void check_spans(const struct gzidx *g, const uint8_t *gz, const uint8_t *plain,
			bool seen[8])
{
	struct inflate *s = inflate_new();
	uint8_t window[INFLATE_WINDOW_BYTES];

	for (size_t n = 0; n < g->count; n++) {
		struct range p = gzidx_span_plain(g, n), c = gzidx_span_stored(g, n);
		unsigned int bits = g->point[n].bits;
		long w = gzidx_window(g, n, window, sizeof(window));
		uint8_t *in = malloc(c.len + 1), *out = malloc(p.len + 1);

		/* a copy of its own, so that reading behind it shows under ASAN */
		in = realloc(in, c.len);
		memcpy(in, gz + c.off, c.len);
		assert_true(w >= 0);
		assert_int_equal(inflate_span(s, bits, in[0], window, (size_t)w, in + (bits > 0),
					      c.len - (bits > 0), out, p.len),
				 0);
		assert_memory_equal(out, plain + p.off, p.len);
		if (p.len > 0) {
			assert_int_equal(gzidx_find(g, p.off), n);
			assert_int_equal(gzidx_find(g, p.off + p.len - 1), n);
		}
		if (c.len > 40 && p.len > 40000)
			assert_int_not_equal(inflate_span(s, bits, in[0], window, (size_t)w,
							  in + (bits > 0), 20, out, p.len),
					     0);
		seen[bits] = true;
		free(in);
		free(out);
	}
	inflate_free(s);
}

static void test_gzip_index(void **state)
{
	bool seen[8] = {false}, all = false;
	size_t most = 0;

	(void)state;
	for (int round = 0; round < 10 || (!all && round < 200); round++) {
		size_t bytes = test_random_below(&rnd, round % 4 ? 1500000 : 6000000);
		unsigned int members = 1 + (unsigned int)test_random_below(&rnd, 5);
		size_t gz_bytes, file_bytes, again_bytes, pad = round % 3 ? 0 : 1000;
		uint8_t *plain = malloc(bytes + 1), *gz, *file, *again;
		struct gzidx *g;

		test_random_fill(&rnd, plain, bytes);
		gz = gz_make(&rnd, plain, bytes, members, &gz_bytes);
		gz = realloc(gz, gz_bytes + pad + 1);
		memset(gz + gz_bytes, 0, pad);
		gz_bytes += pad;
		assert_int_equal(gzidx_build(gz, gz_bytes, 65536, &file, &file_bytes, NULL), 0);
		assert_int_equal(gzidx_build(gz, gz_bytes, 65536, &again, &again_bytes, NULL), 0);
		assert_int_equal(file_bytes, again_bytes);
		assert_memory_equal(file, again, file_bytes);
		assert_int_equal(gzidx_parse(file, file_bytes, gz_bytes, &g, NULL), 0);
		assert_int_equal(g->plain_bytes, bytes);
		most = g->count > most ? g->count : most;
		check_spans(g, gz, plain, seen);
		gzidx_free(g);
		free(again);
		free(file);
		free(gz);
		free(plain);
		all = true;
		for (int b = 0; b < 8; b++)
			all = all && seen[b];
	}
	assert_true(all); /* every bit offset has been a checkpoint's */
	assert_true(most > 10);
}

/* In random pieces, both ways. */
static void test_unpack(void **state)
{
	(void)state;
	for (int round = 0; round < 60; round++) {
		size_t bytes = test_random_below(&rnd, 200000), gz_bytes, fed = 0, made = 0;
		uint8_t *plain = malloc(bytes + 1), *out = malloc(bytes + 1), *gz;
		struct unpack *u = unpack_new();
		int r = 1;

		test_random_fill(&rnd, plain, bytes);
		gz = gz_make(&rnd, plain, bytes, 1 + round % 4, &gz_bytes);
		while (r == 1) {
			size_t left = test_random_below(&rnd, 9000), got = 0, room;
			const uint8_t *p = gz + fed;

			if (left > gz_bytes - fed)
				left = gz_bytes - fed;
			fed += left;
			room = 1 + test_random_below(&rnd, 9000);
			if (room > bytes + 1 - made)
				room = bytes + 1 - made;
			r = unpack_step(u, &p, &left, fed == gz_bytes, out + made, room, &got,
					NULL);
			fed -= left;
			made += got;
			assert_true(made <= bytes);
		}
		assert_int_equal(r, 0);
		assert_int_equal(made, bytes);
		assert_memory_equal(out, plain, bytes);
		unpack_free(u);
		free(plain);
		free(out);
		free(gz);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_zfile),
	    cmocka_unit_test(test_tar),
	    cmocka_unit_test(test_gzip_index),
	    cmocka_unit_test(test_unpack),
	};

	rnd = test_random_start("prop_blobs");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
