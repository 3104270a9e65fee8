/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_share.c - several engines and processes on one cache, a cache that is too small, and
 * when a tag is asked for again
 */
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "digest.h"
#include "engine_kit.h"

extern char **environ;

static struct kit k;

/* --- another process -----------------------------------------------------------------------------
 */

/* "--child CACHE REF BYTES SEED SHA": read all of it and then at random; 0 when it is right. */
static int child_main(char **argv)
{
	struct hs_options o = {.cache_dir = argv[2], .hosts_dir = "/nonexistent", .workers = 1};
	struct test_random rnd = {.state = strtoull(argv[5], NULL, 10)};
	struct hs_engine *eng;
	struct hs_image *img;
	struct err e = {0};
	uint8_t *dev = malloc(KIT_DEVICE_BYTES), *buf = malloc(KIT_DEVICE_BYTES);
	char sum[DIGEST_TEXT_BYTES];
	int rc;

	o.cache_bytes = strtoull(argv[4], NULL, 10);
	rc = hs_engine_new(&o, &eng, &e);
	if (!rc)
		rc = hs_image_open(eng, argv[3], &img, &e);
	for (uint64_t off = 0; !rc && off < KIT_DEVICE_BYTES; off += 1u << 19)
		rc = hs_image_read(img, dev + off, 1u << 19, off, &e);
	if (rc) {
		fprintf(stderr, "child: %s\n", e.msg);
		return 1;
	}
	digest_of(dev, KIT_DEVICE_BYTES, sum);
	if (strcmp(sum, argv[6]) != 0)
		return 2;
	for (int n = 0; n < 50; n++) {
		uint64_t off = test_random_below(&rnd, KIT_DEVICE_BYTES - 60000);

		if (hs_image_read(img, buf, 60000, off, &e) || memcmp(buf, dev + off, 60000) != 0)
			return 3;
	}
	hs_image_close(img);
	hs_engine_free(eng);
	free(dev);
	free(buf);
	return 0;
}

static pid_t start_child(const char *cache, uint64_t bytes, const char *sum)
{
	char limit[32], seed[32];
	char *argv[] = {"test_engine_share", "--child", (char *)cache, k.ref, limit, seed,
			(char *)sum,	     NULL};
	pid_t pid;

	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)bytes);
	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)test_random_u64(&k.rnd));
	assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
	return pid;
}

static void end_child(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void check_processes(uint64_t cache_bytes)
{
	_cleanup_free_ char *cache = kit_cache(&k);
	struct hs_options o = {.cache_dir = cache, .cache_bytes = cache_bytes};
	char sum[DIGEST_TEXT_BYTES];
	struct hs_engine *eng;
	struct hs_image *img;
	pid_t pid[2];

	kit_reset(&k, NULL);
	digest_of(k.truth, KIT_DEVICE_BYTES, sum);
	for (int n = 0; n < 2; n++)
		pid[n] = start_child(cache, cache_bytes, sum);
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	assert_int_equal(kit_check_random(img, k.truth, &k.rnd, 60), 0);
	assert_int_equal(kit_check_all(img, k.truth), 0);
	end_child(pid[0]);
	end_child(pid[1]);
	assert_int_equal(kit_check_all(img, k.truth), 0);
	assert_int_equal(kit_stats(eng).bad_blocks, 0);
	hs_image_close(img);
	hs_engine_free(eng);
}

static void test_processes(void **state)
{
	(void)state;
	check_processes(0);
	check_processes(1u << 20);
}

/* --- engines of one process ----------------------------------------------------------------------
 */

static void test_two_engines(void **state)
{
	_cleanup_free_ char *cache = kit_cache(&k);
	struct hs_options o = {.cache_dir = cache};
	struct hs_engine *eng[2];
	struct hs_image *img[3];

	(void)state;
	kit_reset(&k, NULL);
	eng[0] = kit_engine(&o);
	eng[1] = kit_engine(&o);
	img[0] = kit_open(eng[0], k.ref);
	img[1] = kit_open(eng[1], k.ref);
	img[2] = kit_open(eng[1], k.ref);
	for (int n = 0; n < 30; n++)
		assert_int_equal(kit_check_random(img[n % 3], k.truth, &k.rnd, 4), 0);
	assert_int_equal(kit_check_all(img[0], k.truth), 0);
	/* what one engine has fetched, the other finds */
	fake_post(&k.fake, "/_reset", "");
	assert_int_equal(kit_check_all(img[1], k.truth), 0);
	assert_int_equal(kit_check_all(img[2], k.truth), 0);
	assert_int_equal(kit_requests(&k), 0);
	hs_image_close(img[0]);
	hs_image_close(img[2]);
	hs_engine_free(eng[0]);
	assert_int_equal(kit_check_all(img[1], k.truth), 0);
	hs_image_close(img[1]);
	hs_engine_free(eng[1]);
}

static void test_tiny_cache(void **state)
{
	static const uint64_t limits[] = {1, 65536, 1u << 20, 3u << 20};

	(void)state;
	for (size_t n = 0; n < sizeof(limits) / sizeof(limits[0]); n++) {
		_cleanup_free_ char *cache = kit_cache(&k);
		struct hs_options o = {.cache_dir = cache, .cache_bytes = limits[n]};
		struct hs_engine *eng;
		struct hs_image *img;

		kit_reset(&k, NULL);
		for (int round = 0; round < 2; round++) {
			eng = kit_engine(&o);
			img = kit_open(eng, k.ref);
			assert_int_equal(kit_check_all(img, k.truth), 0);
			assert_int_equal(kit_check_random(img, k.truth, &k.rnd, 30), 0);
			assert_int_equal(kit_stats(eng).read_errors, 0);
			hs_image_close(img);
			hs_engine_free(eng);
		}
	}
}

/* --- tags
 * ------------------------------------------------------------------------------------------ */

/* Another device under the same tag: the first one's top layer is gone. */
static void move_tag(const char *tag, size_t layers)
{
	layout_image(&k.layout, tag, k.layers, layers, NULL, NULL);
	fake_post(&k.fake, "/_restart", "");
}

static size_t layers_seen(struct hs_engine *eng, const char *ref)
{
	struct hs_image *img = kit_open(eng, ref);
	size_t n = hs_image_layer_count(img);

	hs_image_close(img);
	return n;
}

static void test_pull(void **state)
{
	_cleanup_free_ char *cache = kit_cache(&k);
	struct hs_options o = {.cache_dir = cache};
	_cleanup_free_ char *ref =
	    text_printf("docker://127.0.0.1:%d/test/image:moving", k.fake.port);
	struct hs_engine *always, *missing, *never;

	(void)state;
	move_tag("moving", 3);
	always = kit_engine(&o);
	o.pull = HS_PULL_MISSING;
	missing = kit_engine(&o);
	o.pull = HS_PULL_NEVER;
	never = kit_engine(&o);

	assert_int_equal(kit_open_fails(never, ref, "--pull=never"), -ENOENT);
	assert_int_equal(kit_requests(&k), 0);
	assert_int_equal(layers_seen(missing, ref), 3);
	assert_int_equal(layers_seen(always, ref), 3);
	fake_post(&k.fake, "/_reset", "");
	assert_int_equal(layers_seen(never, ref), 3);
	assert_int_equal(layers_seen(missing, ref), 3);
	assert_int_equal(kit_requests(&k), 0);

	move_tag("moving", 2);
	assert_int_equal(layers_seen(missing, ref), 3);
	assert_int_equal(layers_seen(never, ref), 3);
	assert_int_equal(kit_requests(&k), 0);
	assert_int_equal(layers_seen(always, ref), 2);
	assert_int_equal(layers_seen(missing, ref), 2);
	assert_int_equal(layers_seen(never, ref), 2);
	hs_engine_free(always);
	hs_engine_free(missing);
	hs_engine_free(never);
}

/* With --pull=never an image opens offline; what was never read still has to come from somewhere.
 */
static void test_never_offline(void **state)
{
	_cleanup_free_ char *cache = kit_cache(&k);
	struct hs_options o = {.cache_dir = cache, .read_timeout_ns = NS_PER_SEC};
	char port[16], dir[96];
	const char *options[] = {"--dir", dir, "--port", port, NULL};
	struct hs_engine *eng;
	struct hs_image *img;
	uint64_t part = KIT_DEVICE_BYTES / 4;
	int rc;

	(void)state;
	kit_reset(&k, NULL);
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	assert_int_equal(kit_check(img, k.truth, 0, part), 0);
	hs_image_close(img);
	hs_engine_free(eng);

	snprintf(port, sizeof(port), "%d", k.fake.port);
	snprintf(dir, sizeof(dir), "%s/oci", k.dir);
	fake_stop(&k.fake);
	o.pull = HS_PULL_NEVER;
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	assert_int_equal(kit_check(img, k.truth, 0, part), 0);
	rc = kit_check(img, k.truth, part, KIT_DEVICE_BYTES - part);
	assert_true(rc < 0);
	assert_int_equal(kit_check(img, k.truth, 0, part), 0);
	hs_image_close(img);
	hs_engine_free(eng);
	assert_int_equal(fake_start(&k.fake, options), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_processes),	  cmocka_unit_test(test_two_engines),
	    cmocka_unit_test(test_tiny_cache),	  cmocka_unit_test(test_pull),
	    cmocka_unit_test(test_never_offline),
	};
	int rc;

	if (argc == 7 && strcmp(argv[1], "--child") == 0)
		return child_main(argv);
	if (kit_start(&k, "test_engine_share")) {
		printf("skipped: no python3\n");
		return 77;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	kit_stop(&k);
	return rc;
}
