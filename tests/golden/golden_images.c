/* SPDX-License-Identifier: Apache-2.0 */
/*
 * golden_images.c - every image configuration of the golden vectors, through the whole engine
 *
 * The truth is manifest.tsv: the sha256 of the merged device, its mapped extents, or a failure.
 * Each image is read twice: in large pieces in order, and in odd pieces in a seeded order.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bytes.h"
#include "digest.h"
#include "headstart.h"
#include "range.h"
#include "text.h"

#define COLUMNS	   12
#define MAX_ROWS   256
#define PIECE	   (1u << 20)
#define ODD_READS  400
#define MAX_DEVICE (64u << 20)

enum { NAME, KIND, EXPECTED, OBSERVED, SIZE, IMAGE_SHA, MAPPED_SHA, MAPPINGS, DATA, ZEROED };

struct row {
	char *col[COLUMNS];
};

static struct row rows[MAX_ROWS];
static size_t row_count;
static struct hs_engine *eng;

static int load(void **state)
{
	struct hs_options o = {.workers = 2};
	struct err e = {0};
	char *text, *line, *save = NULL;

	(void)state;
	assert_int_equal(chdir(HS_GOLDEN_DIR), 0);
	assert_int_equal(text_read_file("manifest.tsv", 1 << 20, &text, NULL, &e), 0);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct row *r = &rows[row_count];

		if (*line == '#')
			continue;
		for (int c = 0; c < COLUMNS && line; c++)
			r->col[c] = strsep(&line, "\t");
		assert_non_null(r->col[ZEROED]);
		if (strcmp(r->col[KIND], "config") == 0)
			row_count++;
		assert_true(row_count < MAX_ROWS);
	}
	assert_int_equal(hs_engine_new(&o, &eng, &e), 0);
	return 0;
}

static int unload(void **state)
{
	(void)state;
	hs_engine_free(eng);
	return 0;
}

static int open_row(const struct row *r, struct hs_image **ret, struct err *e)
{
	char *path = text_printf("cfg/%s.config.v1.json", r->col[NAME]);
	int rc = hs_image_open(eng, path, ret, e);

	free(path);
	return rc;
}

/* The whole device in order; returns the first error of a read. */
static int read_all(struct hs_image *img, uint8_t *out)
{
	uint64_t size = hs_image_bytes(img);

	for (uint64_t off = 0; off < size; off += PIECE) {
		int rc = hs_image_read(img, out + off, min_u64(PIECE, size - off), off, NULL);

		if (rc)
			return rc;
	}
	return 0;
}

static void check_odd_reads(struct hs_image *img, const uint8_t *truth)
{
	uint64_t size = hs_image_bytes(img);
	uint8_t *buf = malloc(200000);
	unsigned int seed = 7;

	assert_non_null(buf);
	for (int i = 0; i < ODD_READS; i++) {
		uint64_t off = (((uint64_t)rand_r(&seed) << 16) ^ (uint64_t)rand_r(&seed)) % size;
		uint64_t len = 1 + (uint64_t)rand_r(&seed) % 199999;

		len = min_u64(len, size - off);
		assert_int_equal(hs_image_read(img, buf, len, off, NULL), 0);
		assert_memory_equal(buf, truth + off, len);
	}
	free(buf);
}

/* As the manifest defines it: offset, length and bytes of every mapping. */
static void check_mapped(const struct row *r, struct hs_image *img, const uint8_t *dev)
{
	uint64_t mappings, data, zeroed, off, bytes;
	struct digest *d;
	char sum[DIGEST_TEXT_BYTES];
	uint8_t head[16];
	bool zero;

	if (strcmp(r->col[MAPPED_SHA], "-") == 0)
		return;
	hs_image_map_totals(img, &mappings, &data, &zeroed);
	assert_int_equal(data, strtoull(r->col[DATA], NULL, 10));
	assert_int_equal(zeroed, strtoull(r->col[ZEROED], NULL, 10));
	if (mappings != strtoull(r->col[MAPPINGS], NULL, 10)) {
		print_message("%s: %llu mappings, upstream splits them into %s\n", r->col[NAME],
			      (unsigned long long)mappings, r->col[MAPPINGS]);
		return;
	}
	d = digest_new();
	for (size_t n = 0; hs_image_mapping(img, n, &off, &bytes, &zero); n++) {
		put_le64(head, off);
		put_le64(head + 8, bytes);
		digest_add(d, head, sizeof(head));
		digest_add(d, dev + off, bytes);
	}
	digest_text(d, sum);
	digest_free(d);
	assert_string_equal(sum + strlen("sha256:"), r->col[MAPPED_SHA]);
}

static void check_ok(const struct row *r, uint8_t *dev)
{
	struct hs_image *img;
	struct err e = {0};
	char sum[DIGEST_TEXT_BYTES];
	int rc = open_row(r, &img, &e);

	if (rc)
		fail_msg("%s: %s", r->col[NAME], e.msg);
	assert_int_equal(hs_image_bytes(img), strtoull(r->col[SIZE], NULL, 10));
	assert_int_equal(read_all(img, dev), 0);
	digest_of(dev, hs_image_bytes(img), sum);
	if (strcmp(sum + strlen("sha256:"), r->col[IMAGE_SHA]) != 0)
		fail_msg("%s: wrong bytes", r->col[NAME]);
	check_mapped(r, img, dev);
	check_odd_reads(img, dev);
	hs_image_close(img);
}

static void check_fails(const struct row *r, uint8_t *dev, bool may_open)
{
	struct hs_image *img;
	struct err e = {0};
	int rc = open_row(r, &img, &e);

	if (rc) {
		/* A failure names the thing. */
		assert_true(strlen(e.msg) > 20);
		assert_non_null(strstr(e.msg, r->col[NAME]));
		return;
	}
	if (!may_open)
		fail_msg("%s: opened, but must not", r->col[NAME]);
	if (read_all(img, dev) == 0)
		fail_msg("%s: all reads worked, one must fail", r->col[NAME]);
	hs_image_close(img);
}

static void test_all_configs(void **state)
{
	uint8_t *dev = malloc(MAX_DEVICE);
	size_t ok = 0, bad = 0;

	(void)state;
	assert_non_null(dev);
	for (size_t n = 0; n < row_count; n++) {
		const struct row *r = &rows[n];

		if (strcmp(r->col[EXPECTED], "ok") == 0) {
			check_ok(r, dev);
			ok++;
		} else if (strcmp(r->col[EXPECTED], "open-fail") == 0) {
			check_fails(r, dev, false);
			bad++;
		} else {
			assert_string_equal(r->col[EXPECTED], "read-fail");
			check_fails(r, dev, true);
			bad++;
		}
	}
	free(dev);
	print_message("%zu images right, %zu refused\n", ok, bad);
	assert_true(ok > 30 && bad > 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_configs)};

	return cmocka_run_group_tests_name("golden images", tests, load, unload);
}
