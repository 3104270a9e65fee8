/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_heal.c - corrupt bytes, from the server and in the cache: healed when a second look
 * helps, an error for just the blocks concerned when it does not
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blobmap.h"
#include "engine_kit.h"

static struct kit k;

/* --- from the server ---------------------------------------------------------------------------
 */

struct sweep {
	long requests;
	struct hs_stats stats;
};

/*
 * All of it is in the cache. A heal that arrives while the corrupt bytes are still being written
 * there is not stored, and its parts come once more: never twice.
 */
static void check_stored(struct hs_image *img, uint64_t heals)
{
	fake_post(&k.fake, "/_reset", "");
	assert_int_equal(kit_check_all(img, k.truth), 0);
	assert_true(kit_requests(&k) <= 4 * (long)heals);
	fake_post(&k.fake, "/_reset", "");
	assert_int_equal(kit_check_all(img, k.truth), 0);
	assert_int_equal(kit_requests(&k), 0);
}

/* All of the image through a new engine without a cache of before; faults as posted. */
static struct sweep sweep_with(const char *fault, uint64_t faults)
{
	struct hs_engine *eng = kit_engine(NULL);
	struct hs_image *img;
	struct sweep s;

	kit_reset(&k, NULL);
	img = kit_open(eng, k.ref);
	fake_post(&k.fake, "/_reset", "");
	if (fault)
		fake_post(&k.fake, "/_fault", fault);
	assert_int_equal(kit_check_all(img, k.truth), 0);
	/* all of it came once; what was corrupt has been replaced in the cache, too */
	s.requests = kit_requests(&k);
	s.stats = kit_stats(eng);
	/* a unit that came again for its second half may have brought a bad first one: found now */
	check_stored(img, faults);
	assert_true(kit_stats(eng).bad_blocks <= faults);
	assert_int_equal(s.stats.read_errors, 0);
	hs_image_close(img);
	hs_engine_free(eng);
	return s;
}

/* A bit of one answer is wrong: the block is found bad once, and fetched again. */
static void test_server_once(void **state)
{
	struct sweep clean = sweep_with(NULL, 0);
	unsigned int healed = 0;

	(void)state;
	assert_int_equal(clean.stats.bad_blocks, 0);
	for (int n = 0; n < 8; n++) {
		_cleanup_free_ char *fault = text_printf(
		    "[{\"match\": \"/blobs/\", \"kind\": \"corrupt\", \"skip\": %d}]", n);
		struct sweep s = sweep_with(fault, 1);

		/* the bit may lie in a block that open had read already: then nobody minds */
		assert_true(s.stats.bad_blocks <= 1);
		healed += s.stats.bad_blocks == 1;
		/* once more, and again when the heal could not be stored: see check_stored() */
		assert_true(s.requests <= clean.requests + 4);
		assert_int_equal(kit_log(&k, "corrupt block"), (int)s.stats.bad_blocks);
	}
	assert_true(healed >= 4);
}

/* Every answer is wrong at first. */
static void test_server_often(void **state)
{
	struct sweep s =
	    sweep_with("[{\"match\": \"/blobs/\", \"kind\": \"corrupt\", \"count\": 3}]", 3);

	(void)state;
	assert_true(s.stats.bad_blocks >= 1);
}

static char *blob_path(const struct made_blob *b)
{
	return text_printf("%s/oci/blobs/sha256/%s", k.dir, b->digest + strlen("sha256:"));
}

static void store_bytes(const struct made_blob *b, uint64_t at, unsigned char flip)
{
	_cleanup_free_ char *path = blob_path(b);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	unsigned char c = b->bytes[at] ^ flip;

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &c, 1, (off_t)at), 1);
	close(fd);
}

/* The registry's copy is corrupt: one block fails, and everything else works. */
static void check_always(int layer, uint64_t block_bytes)
{
	const struct made_blob *b = &k.layers[layer];
	uint64_t at = b->data.off + b->data.len / 2, bad_from = 0, bad_to = 0;
	struct hs_engine *eng;
	struct hs_image *img;
	int failed = 0;

	kit_reset(&k, NULL);
	store_bytes(b, at, 0x10);
	eng = kit_engine(NULL);
	img = kit_open(eng, k.ref);
	for (uint64_t off = 0; off < KIT_DEVICE_BYTES; off += 65536) {
		int rc = kit_check(img, k.truth, off, 65536);

		assert_true(rc == 0 || rc == -EIO);
		if (!rc)
			continue;
		bad_from = failed++ ? bad_from : off;
		bad_to = off + 65536;
	}
	/* hidden by an upper layer there may be nothing to see; the seed would have to be unlucky
	 */
	if (!failed) {
		print_message("the corrupt block of layer %d is hidden\n", layer);
		goto out;
	}
	(void)kit_log(&k, "");
	failed = 0;
	for (uint64_t off = bad_from; off < bad_to; off += 512)
		failed += kit_check(img, k.truth, off, 512) == -EIO;
	assert_true(failed > 0 && (uint64_t)failed * 512 <= block_bytes);
	/* many failures in a second are one or two lines */
	assert_true(kit_log(&k, "reads of it fail") <= 12);
	assert_true(kit_stats(eng).bad_blocks >= (uint64_t)failed);
	/* mended at its home: the next read asks again, and is right */
	store_bytes(b, at, 0);
	kit_reset(&k, NULL);
	assert_int_equal(kit_check_all(img, k.truth), 0);
out:
	store_bytes(b, at, 0);
	hs_image_close(img);
	hs_engine_free(eng);
}

static void test_server_always(void **state)
{
	(void)state;
	check_always(0, 16384);
	check_always(1, 4096);
	check_always(2, 65536);
}

/* One bad read is one error line. */
static void test_one_log_line(void **state)
{
	const struct made_blob *b = &k.layers[2]; /* nothing is above it */
	uint64_t at = b->data.off + b->data.len / 2;
	struct hs_engine *eng;
	struct hs_image *img;

	(void)state;
	kit_reset(&k, NULL);
	store_bytes(b, at, 0x80);
	eng = kit_engine(NULL);
	img = kit_open(eng, k.ref);
	(void)kit_log(&k, "");
	assert_int_equal(kit_check(img, k.truth, 0, KIT_DEVICE_BYTES), -EIO);
	assert_int_equal(kit_log(&k, "error: "), 1);
	store_bytes(b, at, 0);
	hs_image_close(img);
	hs_engine_free(eng);
}

/* --- in the cache -------------------------------------------------------------------------------
 */

typedef void damage_fn(const char *path, const char *hex);

/* Call @fn for every file of the cache's blobs that ends in @suffix. */
static void damage(const char *cache, const char *suffix, damage_fn *fn)
{
	_cleanup_free_ char *dir = text_printf("%s/blobs", cache);
	DIR *d = opendir(dir);
	struct dirent *de;
	int found = 0;

	assert_non_null(d);
	while ((de = readdir(d))) {
		_cleanup_free_ char *path = text_printf("%s/%s", dir, de->d_name);

		if (!text_ends_with(de->d_name, suffix))
			continue;
		fn(path, de->d_name);
		found++;
	}
	closedir(d);
	assert_int_equal(found, KIT_LAYERS);
}

static void fill_file(const char *path, off_t from, off_t to)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned char junk[4096];
	off_t end = lseek(fd, 0, SEEK_END);

	memset(junk, 0x5a, sizeof(junk));
	assert_true(fd >= 0 && end > 0);
	if (from < 0)
		from += end;
	to = to <= 0 ? to + end : to;
	for (; from < to; from += (off_t)sizeof(junk)) {
		size_t n = sizeof(junk);

		if ((off_t)n > to - from)
			n = (size_t)(to - from);
		assert_int_equal(pwrite(fd, junk, n, from), n);
	}
	close(fd);
}

static void damage_middle(const char *path, const char *hex)
{
	(void)hex;
	fill_file(path, 100000, 180000);
}

static void damage_head(const char *path, const char *hex)
{
	(void)hex;
	fill_file(path, 0, 4096);
}

static void damage_tail(const char *path, const char *hex)
{
	(void)hex;
	fill_file(path, -20000, 0);
}

static void damage_everything(const char *path, const char *hex)
{
	(void)hex;
	fill_file(path, 0, 0);
}

static void damage_cut(const char *path, const char *hex)
{
	(void)hex;
	assert_int_equal(truncate(path, 150000), 0);
}

static void damage_empty(const char *path, const char *hex)
{
	(void)hex;
	assert_int_equal(truncate(path, 0), 0);
}

static void damage_remove(const char *path, const char *hex)
{
	(void)hex;
	assert_int_equal(unlink(path), 0);
}

static void damage_size(const char *path, const char *hex)
{
	(void)hex;
	fill_file(path, BLOBMAP_AT_BYTES, BLOBMAP_AT_BYTES + 8);
}

static void damage_words(const char *path, const char *hex)
{
	(void)hex;
	fill_file(path, BLOBMAP_AT_WORDS, BLOBMAP_AT_WORDS + 8);
}

static void damage_map_head(const char *path, const char *hex)
{
	(void)hex;
	fill_file(path, 0, 256);
}

static void damage_map_cut(const char *path, const char *hex)
{
	(void)hex;
	assert_int_equal(truncate(path, BLOBMAP_HEADER_BYTES + 100), 0);
}

static struct hs_stats read_with(const char *cache)
{
	struct hs_options o = {.cache_dir = cache};
	struct hs_engine *eng = kit_engine(&o);
	struct hs_image *img = kit_open(eng, k.ref);
	struct hs_stats s;

	assert_int_equal(kit_check_all(img, k.truth), 0);
	assert_int_equal(kit_check_random(img, k.truth, &k.rnd, 20), 0);
	s = kit_stats(eng);
	assert_int_equal(s.read_errors, 0);
	hs_image_close(img);
	hs_engine_free(eng);
	return s;
}

static void test_cache(void **state)
{
	static const struct {
		const char *name, *suffix;
		damage_fn *fn;
	} cases[] = {
	    {"data: middle", ".data", damage_middle},
	    {"data: head", ".data", damage_head},
	    {"data: tail with tables", ".data", damage_tail},
	    {"data: everything", ".data", damage_everything},
	    {"data: cut", ".data", damage_cut},
	    {"data: emptied", ".data", damage_empty},
	    {"data: removed", ".data", damage_remove},
	    {"map: size of the blob", ".map", damage_size},
	    {"map: words", ".map", damage_words},
	    {"map: head", ".map", damage_map_head},
	    {"map: cut", ".map", damage_map_cut},
	    {"map: emptied", ".map", damage_empty},
	    {"map: removed", ".map", damage_remove},
	};
	_cleanup_free_ char *cache = kit_cache(&k);

	(void)state;
	kit_reset(&k, NULL);
	(void)read_with(cache);
	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		print_message("%s\n", cases[n].name);
		damage(cache, cases[n].suffix, cases[n].fn);
		(void)read_with(cache);
		/* and it is whole again: see check_stored() for why after two */
		assert_int_equal(read_with(cache).bad_blocks, 0);
		fake_post(&k.fake, "/_reset", "");
		assert_int_equal(read_with(cache).bad_blocks, 0);
		assert_true(fake_stat(&k.fake, "registry_requests") <= 1);
	}
}

/* The same damage while an image is open. */
static void test_cache_while_open(void **state)
{
	static damage_fn *const fns[] = {damage_middle, damage_tail, damage_everything, damage_cut,
					 damage_empty};
	_cleanup_free_ char *cache = kit_cache(&k);
	struct hs_options o = {.cache_dir = cache};
	struct hs_engine *eng;
	struct hs_image *img;

	(void)state;
	kit_reset(&k, NULL);
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	assert_int_equal(kit_check_all(img, k.truth), 0);
	for (size_t n = 0; n < sizeof(fns) / sizeof(fns[0]); n++) {
		damage(cache, ".data", fns[n]);
		assert_int_equal(kit_check_all(img, k.truth), 0);
		check_stored(img, kit_stats(eng).bad_blocks);
	}
	assert_true(kit_stats(eng).bad_blocks > 0);
	hs_image_close(img);
	hs_engine_free(eng);
}

static void damage_objects(const char *cache, const char *sub)
{
	_cleanup_free_ char *dir = text_printf("%s/%s", cache, sub);
	DIR *d = opendir(dir);
	struct dirent *de;

	assert_non_null(d);
	while ((de = readdir(d))) {
		_cleanup_free_ char *path = text_printf("%s/%s", dir, de->d_name);

		if (de->d_name[0] != '.')
			fill_file(path, 0, 0);
	}
	closedir(d);
}

/* Manifest, image config and what the tag meant, all overwritten. */
static void test_objects(void **state)
{
	static const char *const subs[] = {"objects", "names"};
	_cleanup_free_ char *cache = kit_cache(&k);

	(void)state;
	kit_reset(&k, NULL);
	(void)read_with(cache);
	for (int n = 0; n < 2; n++) {
		damage_objects(cache, subs[n]);
		(void)read_with(cache);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_server_once),	  cmocka_unit_test(test_server_often),
	    cmocka_unit_test(test_server_always), cmocka_unit_test(test_one_log_line),
	    cmocka_unit_test(test_cache),	  cmocka_unit_test(test_cache_while_open),
	    cmocka_unit_test(test_objects),
	};
	int rc;

	if (kit_start(&k, "test_engine_heal")) {
		printf("skipped: no python3\n");
		return 77;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	kit_stop(&k);
	return rc;
}
