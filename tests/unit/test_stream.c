/* SPDX-License-Identifier: Apache-2.0 */
/* test_stream.c - what reading a plain range of a stored blob takes */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bufpool.h"
#include "bytes.h"
#include "err.h"
#include "stream.h"

/* A ZFile stream of @count blocks of @block_bytes that are stored as @stored_bytes each. */
static void stream_of(struct stream *s, uint32_t block_bytes, uint64_t count, uint32_t stored_bytes)
{
	uint8_t *table = malloc(count * 4);
	struct err e = {0};

	assert_non_null(table);
	for (uint64_t n = 0; n < count; n++)
		put_le32(table + 4 * n, stored_bytes);
	*s = (struct stream){
	    .kind = STREAM_ZFILE,
	    .base = 512,
	    .bytes = count * block_bytes,
	    .zinfo =
		{
		    .block_bytes = block_bytes,
		    .block_count = count,
		    .original_bytes = count * block_bytes,
		    .index_offset = ZFILE_HEADER_BYTES + count * stored_bytes,
		},
	};
	assert_int_equal(zfile_table_new(&s->zinfo, table, &s->table, &e), 0);
	free(table);
}

/* Walks over all of @s; returns how many pieces that took. */
static unsigned int walk(const struct stream *s)
{
	uint64_t at = 0, stored = s->base + ZFILE_HEADER_BYTES;
	unsigned int pieces = 0;

	while (at < s->bytes) {
		struct stream_plan plan;
		uint64_t n = stream_plan(s, range_of(at, s->bytes - at), &plan);

		assert_true(n > 0 && n <= s->bytes - at);
		assert_true(plan.stored.len <= BUFPOOL_MAX_BYTES);
		assert_true(plan.stored.len <= STREAM_STORED_BYTES || plan.count == 1);
		assert_int_equal(plan.stored.off, stored);
		assert_int_equal(plan.plain.off, at);
		assert_int_equal(plan.plain.len, n);
		at += n;
		stored += plan.stored.len;
		pieces++;
	}
	assert_int_equal(stored, s->base + s->zinfo.index_offset);
	return pieces;
}

/* Blocks of 512 bytes, each of which claims 64 KiB in the blob: no buffer would hold 256 KiB. */
static void test_blocks_that_grew(void **state)
{
	struct stream s;

	(void)state;
	stream_of(&s, 512, 1024, ZFILE_STORED_BYTES_MAX);
	assert_in_range(walk(&s), 64, 128); /* 64 MiB in pieces of half to one */
	stream_done(&s);
}

static void test_ordinary_blocks(void **state)
{
	struct stream s;

	(void)state;
	stream_of(&s, 4096, 1000, 2000);
	assert_int_equal(walk(&s), (1000 * 4096 + STREAM_PIECE_BYTES - 1) / STREAM_PIECE_BYTES);
	stream_done(&s);
	stream_of(&s, 65536, 9, 65000);
	assert_int_equal(walk(&s), 3);
	stream_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_blocks_that_grew),
	    cmocka_unit_test(test_ordinary_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
