/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_http.c - the whole engine over HTTP: right bytes, tokens and signed URLs that run
 * out, a registry that misbehaves or dies
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine_kit.h"

static struct kit k;

#define SHORT_NS (700 * NS_PER_MS)

/* --- right bytes ----------------------------------------------------------------------------- */

struct reader_thread {
	pthread_t thread;
	struct hs_image *img;
	struct test_random rnd;
	int wrong, failed;
};

/* No assertions here: cmocka's belong to the main thread. */
static void *reader_main(void *arg)
{
	struct reader_thread *t = arg;
	uint8_t *buf = malloc(700000);

	for (int n = 0; n < 40; n++) {
		uint64_t off = test_random_below(&t->rnd, KIT_DEVICE_BYTES);
		uint64_t len = 1 + test_random_below(&t->rnd, n % 4 ? 20000 : 600000);

		if (len > KIT_DEVICE_BYTES - off)
			len = KIT_DEVICE_BYTES - off;
		if (hs_image_read(t->img, buf, len, off, NULL))
			t->failed++;
		else if (memcmp(buf, k.truth + off, len) != 0)
			t->wrong++;
	}
	free(buf);
	return NULL;
}

static void check_threads(struct hs_image *img)
{
	struct reader_thread t[8] = {0};

	for (unsigned int n = 0; n < 8; n++) {
		t[n].img = img;
		t[n].rnd.state = test_random_u64(&k.rnd);
		assert_int_equal(pthread_create(&t[n].thread, NULL, reader_main, &t[n]), 0);
	}
	for (unsigned int n = 0; n < 8; n++) {
		pthread_join(t[n].thread, NULL);
		assert_int_equal(t[n].failed, 0);
		assert_int_equal(t[n].wrong, 0);
	}
}

/* What is in the cache is not asked for again, and neither manifest nor config are. */
static void check_warm(const struct hs_options *o)
{
	struct hs_engine *eng;
	struct hs_image *img;

	fake_post(&k.fake, "/_reset", "");
	eng = kit_engine(o);
	img = kit_open(eng, k.ref);
	assert_int_equal(kit_check_all(img, k.truth), 0);
	check_threads(img);
	/* a token is not the image's */
	assert_true(kit_stats(eng).fetched_bytes < 4096);
	assert_true(kit_stats(eng).cache_hit_bytes > 0);
	assert_int_equal(fake_stat(&k.fake, "storage_requests"), 0);
	hs_image_close(img);
	hs_engine_free(eng);
}

static void check_cold_and_warm(const char *config, const char *creds)
{
	_cleanup_free_ char *cache = kit_cache(&k), *cache2 = kit_cache(&k);
	struct hs_options o = {.cache_dir = cache, .creds = creds};
	struct hs_engine *eng;
	struct hs_image *img;

	kit_reset(&k, config);
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	assert_int_equal(hs_image_bytes(img), KIT_DEVICE_BYTES);
	assert_int_equal(hs_image_layer_count(img), KIT_LAYERS);
	assert_non_null(hs_image_config(img));
	check_threads(img);
	assert_int_equal(kit_check_all(img, k.truth), 0);
	hs_image_close(img);
	hs_engine_free(eng);
	assert_int_equal(fake_stat(&k.fake, "leaks"), 0);
	check_warm(&o);

	/* in order first, and nothing is fetched twice when nothing goes wrong */
	o.cache_dir = cache2;
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	assert_int_equal(kit_check_all(img, k.truth), 0);
	assert_int_equal(kit_check_random(img, k.truth, &k.rnd, 40), 0);
	assert_true(kit_stats(eng).fetched_bytes <=
		    k.layers[0].len + k.layers[1].len + k.layers[2].len + (64u << 10));
	assert_int_equal(kit_stats(eng).bad_blocks, 0);
	assert_int_equal(kit_stats(eng).read_errors, 0);
	hs_image_close(img);
	hs_engine_free(eng);
	assert_int_equal(kit_log(&k, ""), 0);
}

static void test_plain(void **state)
{
	(void)state;
	check_cold_and_warm(NULL, NULL);
}

static void test_redirect_bearer(void **state)
{
	(void)state;
	check_cold_and_warm("{\"auth\": \"bearer\", \"redirect\": true}", "user:secret");
}

static void test_basic(void **state)
{
	(void)state;
	check_cold_and_warm("{\"auth\": \"basic\"}", "user:secret");
}

static void test_redirect_anonymous(void **state)
{
	(void)state;
	check_cold_and_warm("{\"auth\": \"bearer\", \"anonymous_token\": true, \"redirect\": true}",
			    NULL);
}

static void test_wrong_password(void **state)
{
	struct hs_options o = {.creds = "user:wrong"};
	struct hs_engine *eng;

	(void)state;
	kit_reset(&k, "{\"auth\": \"bearer\"}");
	eng = kit_engine(&o);
	assert_int_equal(kit_open_fails(eng, k.ref, "127.0.0.1"), -EACCES);
	hs_engine_free(eng);
}

/* --- tokens and URLs run out ----------------------------------------------------------------- */

static void check_expiry(const char *config, const char *const *between, int count)
{
	struct hs_options o = {.creds = "user:secret"};
	struct hs_engine *eng;
	struct hs_image *img;
	uint64_t step = KIT_DEVICE_BYTES / 32;

	kit_reset(&k, config);
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	for (int n = 0; n < 32; n++) {
		if (n % 4 == 1)
			fake_post(&k.fake, "/_config", between[n / 4 % count]);
		assert_int_equal(kit_check(img, k.truth, (uint64_t)n * step, step), 0);
	}
	assert_int_equal(kit_stats(eng).read_errors, 0);
	assert_int_equal(fake_stat(&k.fake, "leaks"), 0);
	hs_image_close(img);
	hs_engine_free(eng);
	assert_int_equal(kit_log(&k, "fetch failed"), 0);
}

static void test_expiry(void **state)
{
	static const char *const revoke[] = {"{\"revoke\": true}"};
	static const char *const expire[] = {"{\"expire_urls\": true}"};
	static const char *const both[] = {"{\"revoke\": true, \"expire_urls\": true}",
					   "{\"expire_urls\": true}", "{\"revoke\": true}"};

	(void)state;
	check_expiry("{\"auth\": \"bearer\"}", revoke, 1);
	assert_true(fake_stat(&k.fake, "tokens") >= 3);
	check_expiry("{\"redirect\": true}", expire, 1);
	check_expiry("{\"auth\": \"bearer\", \"redirect\": true}", both, 3);
}

/* A single 401 in the middle, and one that stays. */
static void test_401(void **state)
{
	struct hs_options o = {.creds = "user:secret", .read_timeout_ns = 10 * NS_PER_SEC};
	struct hs_engine *eng;
	struct hs_image *img;
	uint64_t half = KIT_DEVICE_BYTES / 2;
	_cleanup_free_ char *fault = NULL;
	int rc = 0;

	(void)state;
	kit_reset(&k, "{\"auth\": \"bearer\"}");
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	fault = text_printf("[{\"match\": \"/blobs/\", \"kind\": \"status\", \"code\": 401, "
			    "\"headers\": {\"WWW-Authenticate\": \"Bearer realm=\\\"http://"
			    "127.0.0.1:%d/_token\\\",service=\\\"fake\\\"\"}}]",
			    k.fake.port);
	fake_post(&k.fake, "/_fault", fault);
	assert_int_equal(kit_check(img, k.truth, 0, half), 0);
	fake_post(&k.fake, "/_config", "{\"user\": \"user:changed\", \"revoke\": true}");
	for (uint64_t off = half; !rc && off < KIT_DEVICE_BYTES; off += 1u << 20)
		rc = kit_check(img, k.truth, off, 1u << 20);
	assert_true(rc == -EACCES || rc == -EIO);
	assert_int_equal(kit_check(img, k.truth, 0, half), 0);
	fake_post(&k.fake, "/_config", "{\"user\": \"user:secret\"}");
	hs_image_close(img);
	hs_engine_free(eng);
}

/* --- misbehaviour ------------------------------------------------------------------------------
 */

struct trouble {
	const char *fault; /* without match and count */
	bool healed;	   /* it happens @count times only: reads must work all the same */
	int count;	   /* 0: lasting only */
};

static const struct trouble troubles[] = {
    {"\"kind\": \"reset\", \"bytes\": 0", true, 2},
    {"\"kind\": \"reset\", \"bytes\": 3000", true, 2},
    {"\"kind\": \"short\", \"bytes\": 100", true, 2},
    {"\"kind\": \"short\", \"bytes\": 70000", true, 2},
    {"\"kind\": \"no-range\"", true, 2},
    {"\"kind\": \"bad-range\"", false, 2},
    {"\"kind\": \"no-content-range\"", false, 2},
    {"\"kind\": \"extra\", \"bytes\": 5000", false, 2},
    {"\"kind\": \"status\", \"code\": 429, \"headers\": {\"Retry-After\": \"1\"}", true, 1},
    {"\"kind\": \"status\", \"code\": 500", true, 2},
    {"\"kind\": \"status\", \"code\": 503, \"body\": \"busy\"", true, 2},
    {"\"kind\": \"status\", \"code\": 404", false, 2},
    {"\"kind\": \"stall\", \"bytes\": 1000", false, 0},
    {"\"kind\": \"slow\", \"delay_ms\": 300", true, 2},
    {"\"kind\": \"huge\"", false, 2},
    {"\"kind\": \"headers\"", false, 2},
    {"\"kind\": \"garbage\"", false, 2},
};

#define TROUBLES (sizeof(troubles) / sizeof(troubles[0]))

static void set_fault(const struct trouble *t, const char *match, int count)
{
	_cleanup_free_ char *json =
	    text_printf("[{\"match\": \"%s\", \"count\": %d, %s}]", match, count, t->fault);

	fake_post(&k.fake, "/_fault", json);
}

/* Right bytes (kit_check() sees to that) or an error, in time. */
static int timed_check(struct hs_image *img, uint64_t off, size_t len, uint64_t limit_ns)
{
	uint64_t start = clock_now_ns();
	int rc = kit_check(img, k.truth, off, len);
	uint64_t took = clock_now_ns() - start;

	if (took > limit_ns + KIT_SLACK_NS)
		fail_msg("a read took %llu ms", (unsigned long long)(took / NS_PER_MS));
	return rc;
}

/* What passes by itself is not seen by a reader who has time. */
static void check_healed(const struct trouble *t)
{
	struct hs_engine *eng = kit_engine(NULL);
	struct hs_image *img = kit_open(eng, k.ref);

	set_fault(t, "/blobs/", t->count);
	if (kit_check(img, k.truth, 0, KIT_DEVICE_BYTES / 4) && t->healed)
		fail_msg("%s: not healed", t->fault);
	hs_image_close(img);
	hs_engine_free(eng);
}

/* What does not pass is an error in time, and over when it is over. */
static void check_lasting(const struct trouble *t)
{
	struct hs_options o = {.read_timeout_ns = SHORT_NS};
	struct hs_engine *eng = kit_engine(&o);
	struct hs_image *img = kit_open(eng, k.ref);
	uint64_t part = KIT_DEVICE_BYTES / 4;
	int rc;

	set_fault(t, "/blobs/", 100000);
	(void)timed_check(img, 0, part, SHORT_NS); /* some last but do no harm */
	fake_post(&k.fake, "/_reset", "");
	/* a host may be given up for a moment, and this machine be slow */
	rc = -EIO;
	for (int n = 0; rc && n < 4; n++)
		rc = timed_check(img, 0, KIT_DEVICE_BYTES, SHORT_NS);
	if (rc)
		fail_msg("%s: fails after it is over: %s", t->fault, strerror(-rc));
	hs_image_close(img);
	hs_engine_free(eng);
}

static void test_troubles(void **state)
{
	(void)state;
	for (size_t n = 0; n < TROUBLES; n++) {
		uint64_t start = clock_now_ns();

		kit_reset(&k, NULL);
		if (troubles[n].count)
			check_healed(&troubles[n]);
		kit_reset(&k, NULL);
		check_lasting(&troubles[n]);
		print_message("%s: %llu ms\n", troubles[n].fault,
			      (unsigned long long)((clock_now_ns() - start) / NS_PER_MS));
	}
}

/* The same for a layer while the image is being opened: an image or an error, in time, then an
 * image. */
static void test_troubles_at_open(void **state)
{
	(void)state;
	for (size_t n = 0; n < TROUBLES; n += 2) {
		struct hs_options o = {.read_timeout_ns = NS_PER_SEC};
		struct hs_engine *eng = kit_engine(&o);
		_cleanup_free_ char *match = text_printf("/blobs/%s", k.layers[n % 3].digest);
		uint64_t start;
		struct hs_image *img = NULL;
		struct err e = {0};
		int rc;

		kit_reset(&k, NULL);
		set_fault(&troubles[n], match, 100000);
		start = clock_now_ns();
		rc = hs_image_open(eng, k.ref, &img, &e);
		/* twice: corrupt bytes are fetched again */
		if (clock_now_ns() - start > 2 * NS_PER_SEC + KIT_SLACK_NS)
			fail_msg("%s: open took %llu ms (%d: %s)", troubles[n].fault,
				 (unsigned long long)((clock_now_ns() - start) / NS_PER_MS), rc,
				 e.msg);
		if (!rc)
			hs_image_close(img);
		else
			assert_true(strlen(e.msg) > 20 && strstr(e.msg, "test/image"));
		fake_post(&k.fake, "/_reset", "");
		rc = -EIO;
		for (int tries = 0; rc && tries < 4; tries++)
			rc = hs_image_open(eng, k.ref, &img, &e);
		if (rc)
			fail_msg("%s: %s", troubles[n].fault, e.msg);
		rc = -EIO;
		for (int tries = 0; rc && tries < 4; tries++)
			rc = kit_check(img, k.truth, 0, 100000);
		assert_int_equal(rc, 0);
		hs_image_close(img);
		hs_engine_free(eng);
	}
}

/* Short time limits on a slow machine: a read may need another try, but not for ever. */
static int check_all_at_last(struct hs_image *img)
{
	int rc = -EIO;

	for (int n = 0; rc && n < 4; n++)
		rc = kit_check_all(img, k.truth);
	return rc;
}

/* More outstanding than the buffers hold, and nothing comes: the limit is of the read. */
static void test_stall_with_little_memory(void **state)
{
	struct hs_options o = {.read_timeout_ns = SHORT_NS, .memory_bytes = 1};
	struct hs_engine *eng;
	struct hs_image *img;
	struct trouble t = {.fault = "\"kind\": \"stall\", \"bytes\": 1"};

	(void)state;
	kit_reset(&k, NULL);
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	set_fault(&t, "/blobs/", 100000);
	assert_int_not_equal(timed_check(img, 0, KIT_DEVICE_BYTES, SHORT_NS), 0);
	fake_post(&k.fake, "/_reset", "");
	assert_int_equal(check_all_at_last(img), 0);
	hs_image_close(img);
	hs_engine_free(eng);
}

/* --- the registry dies -------------------------------------------------------------------------
 */

static void test_registry_dies(void **state)
{
	struct hs_options o = {.read_timeout_ns = SHORT_NS};
	struct hs_engine *eng;
	struct hs_image *img;
	char port[16], dir[96];
	const char *options[] = {"--dir", dir, "--port", port, NULL};
	uint64_t half = KIT_DEVICE_BYTES / 2;
	int failed = 0;

	(void)state;
	kit_reset(&k, NULL);
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	for (int n = 0; kit_check(img, k.truth, 0, half) && n < 4; n++)
		;
	snprintf(port, sizeof(port), "%d", k.fake.port);
	snprintf(dir, sizeof(dir), "%s/oci", k.dir);
	fake_stop(&k.fake);
	assert_int_equal(timed_check(img, 0, half, SHORT_NS), 0);
	for (uint64_t off = half; off < KIT_DEVICE_BYTES; off += half / 4) {
		uint64_t start = clock_now_ns();

		failed += kit_check(img, k.truth, off, half / 4) != 0;
		assert_true(clock_now_ns() - start < SHORT_NS + KIT_SLACK_NS);
	}
	assert_true(failed > 0);
	assert_int_equal(timed_check(img, 0, half, SHORT_NS), 0);
	assert_int_equal(kit_open_fails(eng, k.ref, "127.0.0.1") < 0, 1);
	assert_int_equal(fake_start(&k.fake, options), 0);
	assert_int_equal(check_all_at_last(img), 0);
	hs_image_close(img);
	hs_engine_free(eng);
}

/* Closing while reads would still take long is not possible, but freeing right after them is. */
static void test_close_is_quick(void **state)
{
	struct hs_options o = {.read_timeout_ns = SHORT_NS};
	struct trouble t = {.fault = "\"kind\": \"stall\", \"bytes\": 1"};

	(void)state;
	for (int n = 0; n < 2; n++) {
		struct hs_engine *eng;
		struct hs_image *img, *second;
		uint64_t start;

		kit_reset(&k, NULL);
		eng = kit_engine(&o);
		img = kit_open(eng, k.ref);
		second = kit_open(eng, k.ref);
		set_fault(&t, "/blobs/", 100000);
		(void)kit_check(img, k.truth, (uint64_t)n << 22, 1u << 22); /* it may fail */
		start = clock_now_ns();
		hs_image_close(img);
		hs_image_close(second);
		hs_engine_free(eng);
		assert_true(clock_now_ns() - start < KIT_SLACK_NS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_redirect_bearer),
	    cmocka_unit_test(test_basic),
	    cmocka_unit_test(test_redirect_anonymous),
	    cmocka_unit_test(test_wrong_password),
	    cmocka_unit_test(test_expiry),
	    cmocka_unit_test(test_401),
	    cmocka_unit_test(test_troubles),
	    cmocka_unit_test(test_troubles_at_open),
	    cmocka_unit_test(test_stall_with_little_memory),
	    cmocka_unit_test(test_registry_dies),
	    cmocka_unit_test(test_close_is_quick),
	};
	int rc;

	if (kit_start(&k, "test_engine_http")) {
		printf("skipped: no python3\n");
		return 77;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	kit_stop(&k);
	return rc;
}
