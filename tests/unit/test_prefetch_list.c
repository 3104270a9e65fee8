/* SPDX-License-Identifier: Apache-2.0 */
/* Prefetch lists as bytes: round trips, halves, size, and everything that makes a list invalid. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockfile.h"
#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "prefetch_list.h"
#include "test_random.h"
#include "text.h"

#define BOTH (PREFETCH_RANGES | PREFETCH_FILES)

/* A list of @ranges ranges in three blobs, some way through each in steps, and files beside. */
static struct prefetch_list *make(struct test_random *rnd, size_t ranges)
{
	struct prefetch_list *l = xmalloc_zero(1, sizeof(*l));
	uint64_t at[3] = {0};

	l->origin = PREFETCH_RECORDED;
	snprintf(l->image_digest, sizeof(l->image_digest), "sha256:%064x", 77);
	l->image = text_dup("docker://r/web:1_accelerated");
	l->created_s = 1700000000;
	l->runs = 2;
	l->blobs = xmalloc_zero(3, sizeof(*l->blobs));
	l->blob_count = 3;
	l->ranges = xmalloc_zero(ranges, sizeof(*l->ranges));
	l->range_count = ranges;
	for (size_t i = 0; i < ranges; i++) {
		uint32_t blob = (uint32_t)test_random_below(rnd, 3);

		at[blob] += test_random_below(rnd, 60000);
		l->ranges[i] = (struct prefetch_range){
		    .blob = blob,
		    .at_ms = (uint32_t)i,
		    .off = at[blob],
		    .bytes = 1 + test_random_below(rnd, 60000),
		};
		at[blob] += l->ranges[i].bytes;
	}
	for (size_t i = 0; i < 3; i++) {
		snprintf(l->blobs[i].digest, sizeof(l->blobs[i].digest), "sha256:%064zx", i);
		l->blobs[i].bytes = at[i];
	}
	/* a start goes forth and back */
	for (size_t i = 0; i + 8 < ranges; i += 8) {
		size_t k = i + test_random_below(rnd, 8);
		struct prefetch_range r = l->ranges[i];

		l->ranges[i] = l->ranges[k];
		l->ranges[k] = r;
	}
	l->files = xmalloc_zero(50, sizeof(*l->files));
	l->file_count = 50;
	for (size_t i = 0; i < 50; i++) {
		l->files[i].path = text_printf("/usr/lib/python3/%zu/module%zu.py", i / 7, i);
		l->files[i].bytes = i * 1000;
	}
	l->touches = xmalloc_zero(200, sizeof(*l->touches));
	l->touch_count = 200;
	for (size_t i = 0; i < 200; i++)
		l->touches[i] = (struct prefetch_touch){
		    .file = i % 9 ? (uint32_t)test_random_below(rnd, 50) : PREFETCH_NO_FILE,
		    .at_ms = (uint32_t)(i / 3),
		    .off = test_random_below(rnd, 1000) * 4096,
		    .bytes = 4096,
		};
	return l;
}

static void assert_same(const struct prefetch_list *a, const struct prefetch_list *b,
			unsigned int halves)
{
	assert_int_equal(a->origin, b->origin);
	assert_string_equal(a->image_digest, b->image_digest);
	assert_string_equal(a->image, b->image);
	assert_int_equal(a->created_s, b->created_s);
	assert_int_equal(a->runs, b->runs);
	assert_int_equal(b->blob_count, halves & PREFETCH_RANGES ? a->blob_count : 0);
	assert_int_equal(b->range_count, halves & PREFETCH_RANGES ? a->range_count : 0);
	assert_int_equal(b->file_count, halves & PREFETCH_FILES ? a->file_count : 0);
	assert_int_equal(b->touch_count, halves & PREFETCH_FILES ? a->touch_count : 0);
	for (size_t i = 0; i < b->blob_count; i++) {
		assert_string_equal(a->blobs[i].digest, b->blobs[i].digest);
		assert_int_equal(a->blobs[i].bytes, b->blobs[i].bytes);
	}
	for (size_t i = 0; i < b->file_count; i++) {
		assert_string_equal(a->files[i].path, b->files[i].path);
		assert_int_equal(a->files[i].bytes, b->files[i].bytes);
	}
	if (b->range_count)
		assert_memory_equal(a->ranges, b->ranges, b->range_count * sizeof(*b->ranges));
	if (b->touch_count)
		assert_memory_equal(a->touches, b->touches, b->touch_count * sizeof(*b->touches));
}

static void test_round_trip(void **state)
{
	struct test_random rnd = test_random_start("prefetch lists");

	(void)state;
	for (unsigned int i = 0; i < 50; i++) {
		struct prefetch_list *l = make(&rnd, test_random_below(&rnd, 500)), *again;
		unsigned int halves = i % 3 + 1;
		uint8_t *p, *q;
		size_t bytes, bytes2;
		struct err e = {0};

		assert_int_equal(prefetch_list_encode(l, halves, &p, &bytes, &e), 0);
		assert_int_equal(prefetch_list_parse(p, bytes, &again, &e), 0);
		assert_same(l, again, halves);
		assert_int_equal(prefetch_list_encode(again, halves, &q, &bytes2, &e), 0);
		assert_int_equal(bytes, bytes2);
		assert_memory_equal(p, q, bytes);
		free(p);
		free(q);
		prefetch_list_free(l);
		prefetch_list_free(again);
	}
}

/* Several blocks of a kind: more than fit one. */
static void test_long(void **state)
{
	struct test_random rnd = test_random_start("long list");
	struct prefetch_list *l = make(&rnd, 200000), *again;
	struct err e = {0};
	size_t bytes;
	uint8_t *p;

	(void)state;
	assert_int_equal(prefetch_list_encode(l, BOTH, &p, &bytes, &e), 0);
	assert_true(bytes > 1000000);
	assert_int_equal(prefetch_list_parse(p, bytes, &again, &e), 0);
	assert_same(l, again, BOTH);
	free(p);
	prefetch_list_free(l);
	prefetch_list_free(again);
}

/* What a start reads before anything else has to come with one answer of the registry. */
static void test_compact(void **state)
{
	struct test_random rnd = test_random_start("compact list");
	struct prefetch_list *l = make(&rnd, 2000);
	struct err e = {0};
	size_t bytes;
	uint8_t *p;

	(void)state;
	assert_int_equal(prefetch_list_encode(l, PREFETCH_RANGES, &p, &bytes, &e), 0);
	print_message("2000 ranges of 3 blobs: %zu bytes\n", bytes);
	assert_in_range(bytes, 2000, 18000);
	free(p);
	prefetch_list_free(l);
}

static void test_files(void **state)
{
	struct test_random rnd = test_random_start("list file");
	struct prefetch_list *l = make(&rnd, 20), *again;
	char path[] = "/tmp/headstart-list-XXXXXX";
	int fd = mkstemp(path);
	struct err e = {0};

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(prefetch_list_save(l, path, &e), 0);
	assert_int_equal(prefetch_list_load(path, &again, &e), 0);
	assert_same(l, again, BOTH);
	prefetch_list_free(again);
	assert_int_equal(truncate(path, 40), 0);
	assert_int_equal(prefetch_list_load(path, &again, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, path));
	unlink(path);
	assert_int_equal(prefetch_list_load(path, &again, &e), -ENOENT);
	prefetch_list_free(l);
}

/* Every cut and every changed byte is noticed. */
static void test_whole_or_invalid(void **state)
{
	struct test_random rnd = test_random_start("damaged list");
	struct prefetch_list *l = make(&rnd, 30), *again;
	struct err e = {0};
	size_t bytes;
	uint8_t *p;

	(void)state;
	assert_int_equal(prefetch_list_encode(l, BOTH, &p, &bytes, &e), 0);
	for (size_t n = 0; n < bytes; n++)
		assert_int_equal(prefetch_list_parse(p, n, &again, &e), n < 8 ? -ENOENT : -EBADMSG);
	for (size_t n = 0; n < bytes; n++) {
		p[n] ^= 0x10;
		assert_int_equal(prefetch_list_parse(p, bytes, &again, &e),
				 n < 8 ? -ENOENT : -EBADMSG);
		p[n] ^= 0x10;
	}
	p = realloc(p, bytes + 1);
	p[bytes] = 0;
	assert_int_equal(prefetch_list_parse(p, bytes + 1, &again, &e), -EBADMSG);
	put_le32(p + 8, 2);
	put_le32(p + 12, ~crc32c_raw(~0u, p, 12));
	assert_int_equal(prefetch_list_parse(p, bytes, &again, &e), -EOPNOTSUPP);
	free(p);
	prefetch_list_free(l);
}

static void outside(struct prefetch_list *l)
{
	l->ranges[3].off = l->blobs[l->ranges[3].blob].bytes;
}

static void past_end(struct prefetch_list *l)
{
	l->ranges[3].bytes = l->blobs[l->ranges[3].blob].bytes;
	l->ranges[3].off = 1;
}

static void wraps(struct prefetch_list *l)
{
	l->ranges[3].off = UINT64_MAX;
}

static void empty(struct prefetch_list *l)
{
	l->ranges[3].bytes = 0;
}

static void overlap(struct prefetch_list *l)
{
	l->ranges[4] = l->ranges[3];
}

static void no_blob(struct prefetch_list *l)
{
	l->ranges[3].blob = 3;
}

static void same_blob(struct prefetch_list *l)
{
	strcpy(l->blobs[2].digest, l->blobs[0].digest);
}

static void no_digest(struct prefetch_list *l)
{
	strcpy(l->blobs[2].digest, "sha256:00");
}

static void no_image_digest(struct prefetch_list *l)
{
	strcpy(l->image_digest, "latest");
}

static void no_origin(struct prefetch_list *l)
{
	l->origin = (enum prefetch_origin)0;
}

static void no_file(struct prefetch_list *l)
{
	l->touches[7].file = 50;
}

static void no_path(struct prefetch_list *l)
{
	l->files[7].path[0] = '.';
}

static void long_path(struct prefetch_list *l)
{
	char *p = xmalloc_zero(1, 5000);

	memset(p, '/', 4096);
	free(l->files[7].path);
	l->files[7].path = p;
}

static void touch_wraps(struct prefetch_list *l)
{
	l->touches[7].off = UINT64_MAX;
}

static void test_not_written(void **state)
{
	static void (*const spoil[])(struct prefetch_list *) = {
	    outside,   past_end,  wraps,	   empty,   overlap, no_blob,	same_blob,
	    no_digest, no_origin, no_image_digest, no_file, no_path, long_path, touch_wraps,
	};
	struct test_random rnd = test_random_start("invalid lists");

	(void)state;
	for (size_t i = 0; i < sizeof(spoil) / sizeof(spoil[0]); i++) {
		struct prefetch_list *l = make(&rnd, 30);
		struct err e = {0};
		size_t bytes;
		uint8_t *p;

		spoil[i](l);
		assert_int_equal(prefetch_list_encode(l, BOTH, &p, &bytes, &e), -EBADMSG);
		assert_true(e.msg[0]);
		prefetch_list_free(l);
	}
}

/* Blocks made by hand, as no encoder writes them. */
static void start(struct blockbuf *b)
{
	blockbuf_head(b, "HSPLIST\n", 1);
	blockbuf_begin(b, 1);
	blockbuf_var(b, PREFETCH_IMPORTED);
	blockbuf_text(b, "");
	blockbuf_text(b, "");
	blockbuf_var(b, 0);
	blockbuf_var(b, 1);
	blockbuf_end(b);
	blockbuf_begin(b, 2);
	blockbuf_var(b, 1);
	blockbuf_var(b, 0);
	blockbuf_var(b, 1000);
	blockbuf_end(b);
}

static int finish(struct blockbuf *b, struct prefetch_list **ret)
{
	struct err e = {0};
	int r;

	blockbuf_begin(b, 6);
	blockbuf_end(b);
	r = prefetch_list_parse(b->p, b->len, ret, &e);
	assert_true(!r == !e.msg[0]);
	blockbuf_done(b);
	return r;
}

static void numbers(struct blockbuf *b, uint32_t type, const uint64_t *n, size_t count)
{
	blockbuf_begin(b, type);
	for (size_t i = 0; i < count; i++)
		blockbuf_var(b, n[i]);
	blockbuf_end(b);
}

static int parse_one(uint32_t type, const uint64_t *n, size_t count)
{
	struct prefetch_list *l;
	struct blockbuf b = {0};
	int r;

	start(&b);
	numbers(&b, type, n, count);
	r = finish(&b, &l);
	if (!r)
		prefetch_list_free(l);
	return r;
}

#define PARSE_ONE(type, ...)                                                                       \
	parse_one(type, (uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / 8)

static void test_by_hand(void **state)
{
	(void)state;
	/* ranges: tag, zigzag offset, bytes */
	assert_int_equal(PARSE_ONE(3, 1, 0, 200, 900), 0);
	assert_int_equal(PARSE_ONE(3, 1, 0, 200, 901), -EBADMSG);
	assert_int_equal(PARSE_ONE(3, 1, 0, 199, 8), -EBADMSG);
	assert_int_equal(PARSE_ONE(3, 1, 1, 1, 0, 8), -EBADMSG);
	assert_int_equal(PARSE_ONE(3, 2, 0, 0, 8, 0, 0, 8), 0);
	assert_int_equal(PARSE_ONE(3, 2, 0, 0, 8, 0, 1, 8), -EBADMSG); /* one byte twice */
	assert_int_equal(PARSE_ONE(3, 2, 0, 0, 8), -EBADMSG);
	assert_int_equal(PARSE_ONE(3, 1ull << 40, 0, 0, 8), -EBADMSG);
	/* what follows is a later headstart's, and so is another type */
	assert_int_equal(PARSE_ONE(3, 1, 0, 200, 900, 5, 5, 5), 0);
	assert_int_equal(PARSE_ONE(77, 1, 2, 3), 0);
	/* touches: the first names its file, the device here */
	assert_int_equal(PARSE_ONE(5, 1, 1, 0, 0, 8), 0);
	assert_int_equal(PARSE_ONE(5, 1, 0, 0, 0, 8), -EBADMSG);
	assert_int_equal(PARSE_ONE(5, 1, 1, 1, 0, 8), -EBADMSG);
	/* files: nothing is shared with no path */
	assert_int_equal(PARSE_ONE(4, 1, 1, 0, 0), -EBADMSG);
	assert_int_equal(PARSE_ONE(4, 1, 0, 1, '/', 0), 0);
	assert_int_equal(PARSE_ONE(4, 2, 0, 1, '/', 0, 2, 1, 'x', 0), -EBADMSG);
	assert_int_equal(PARSE_ONE(4, 2, 0, 1, '/', 0, 1, 1, 'x', 0), 0);
	/* a second head */
	assert_int_equal(PARSE_ONE(1, 1, 0, 0, 0, 0), -EBADMSG);
}

/* A few bytes per file that share a long path would be a gigabyte. */
static void test_shared_paths_are_bounded(void **state)
{
	struct prefetch_list *l;
	struct blockbuf b = {0};
	char path[4001];

	(void)state;
	start(&b);
	memset(path, '/', 4000);
	path[4000] = '\0';
	blockbuf_begin(&b, 4);
	blockbuf_var(&b, 100000);
	blockbuf_var(&b, 0);
	blockbuf_text(&b, path);
	blockbuf_var(&b, 0);
	for (unsigned int i = 1; i < 100000; i++) {
		blockbuf_var(&b, 4000);
		blockbuf_text(&b, "");
		blockbuf_var(&b, 0);
	}
	blockbuf_end(&b);
	assert_int_equal(finish(&b, &l), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_long),
	    cmocka_unit_test(test_compact),
	    cmocka_unit_test(test_files),
	    cmocka_unit_test(test_whole_or_invalid),
	    cmocka_unit_test(test_not_written),
	    cmocka_unit_test(test_by_hand),
	    cmocka_unit_test(test_shared_paths_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
