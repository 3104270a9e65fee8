/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prop_engine.c - random images over HTTP through random faults, read by several threads: right
 * bytes or an error in time, never anything else; and right bytes when the faults are over
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "fake_registry.h"
#include "headstart.h"
#include "image_make.h"
#include "log.h"
#include "text.h"

#define ROUNDS	   12
#define THREADS	   4
#define READS	   25
#define MAX_LAYERS 6
#define TIMEOUT_NS NS_PER_SEC
#define SLACK_NS   (6 * NS_PER_SEC) /* a loaded machine with sanitizers */
#define READ_BYTES 300000u

static struct test_random rnd;
static struct fake registry;
static struct layout layout;
static char dir[] = "/tmp/hs-prop-XXXXXX";

struct image_case {
	struct made_blob layers[MAX_LAYERS];
	size_t count;
	uint64_t bytes;
	uint8_t *truth;
	char *ref;
};

static void make_case(struct image_case *c)
{
	static const uint32_t sizes[] = {512, 4096, 16384, 65536};

	c->count = 1 + test_random_below(&rnd, MAX_LAYERS);
	c->bytes = 512 * (200 + test_random_below(&rnd, 20000));
	c->truth = xmalloc_zero(1, c->bytes);
	for (size_t n = 0; n < c->count; n++) {
		struct layer_shape sh = {
		    .codec = test_random_below(&rnd, 8) ? 1 + test_random_below(&rnd, 2) : 0,
		    .block_bytes = sizes[test_random_below(&rnd, 4)],
		    .tar = test_random_below(&rnd, 3) > 0,
		    .device_bytes = c->bytes,
		};

		layer_make_random(&sh, &rnd, c->bytes / (1 + test_random_below(&rnd, 8)), c->truth,
				  &c->layers[n]);
	}
	layout_image(&layout, "1", c->layers, c->count, NULL, NULL);
	c->ref = text_printf("docker://127.0.0.1:%d/test/image:1", registry.port);
}

static void case_done(struct image_case *c)
{
	for (size_t n = 0; n < c->count; n++)
		made_done(&c->layers[n]);
	free(c->truth);
	free(c->ref);
}

/* Raw layers and block-less tables carry no checksum: corrupt bytes are for others to find. */
static void add_fault(void)
{
	static const char *const kinds[] = {
	    "\"kind\": \"reset\", \"bytes\": 0",
	    "\"kind\": \"reset\", \"bytes\": 5000",
	    "\"kind\": \"short\", \"bytes\": 1000",
	    "\"kind\": \"no-range\"",
	    "\"kind\": \"bad-range\"",
	    "\"kind\": \"no-content-range\"",
	    "\"kind\": \"extra\", \"bytes\": 4096",
	    "\"kind\": \"status\", \"code\": 500",
	    "\"kind\": \"status\", \"code\": 429",
	    "\"kind\": \"status\", \"code\": 404",
	    "\"kind\": \"status\", \"code\": 401",
	    "\"kind\": \"stall\", \"bytes\": 100",
	    "\"kind\": \"slow\", \"delay_ms\": 50",
	    "\"kind\": \"garbage\"",
	};
	_cleanup_free_ char *json = text_printf(
	    "[{\"match\": \"%s\", \"on\": \"any\", \"skip\": %llu, \"count\": %llu, %s}]",
	    test_random_below(&rnd, 4) ? "/(blobs|store)/" : "",
	    (unsigned long long)test_random_below(&rnd, 10),
	    (unsigned long long)(1 + test_random_below(&rnd, 5)),
	    kinds[test_random_below(&rnd, sizeof(kinds) / sizeof(kinds[0]))]);

	fake_post(&registry, "/_fault", json);
}

struct reader_thread {
	pthread_t thread;
	const struct image_case *c;
	struct hs_image *img;
	struct test_random rnd;
	unsigned int right, wrong, failed, late;
};

/* No assertions here: cmocka's belong to the main thread. */
static void *reader_main(void *arg)
{
	struct reader_thread *t = arg;
	uint8_t *buf = malloc(READ_BYTES);

	for (int n = 0; n < READS; n++) {
		uint64_t off = test_random_below(&t->rnd, t->c->bytes);
		uint64_t len = 1 + test_random_below(&t->rnd, n % 3 ? 9000 : READ_BYTES);
		uint64_t start = clock_now_ns();
		int rc;

		if (len > t->c->bytes - off)
			len = t->c->bytes - off;
		rc = hs_image_read(t->img, buf, len, off, NULL);
		if (rc)
			t->failed++;
		else if (memcmp(buf, t->c->truth + off, len) != 0)
			t->wrong++;
		else
			t->right++;
		t->late += clock_now_ns() - start > TIMEOUT_NS + SLACK_NS;
	}
	free(buf);
	return NULL;
}

static unsigned int read_in_threads(const struct image_case *c, struct hs_image *img)
{
	struct reader_thread t[THREADS] = {0};
	unsigned int failed = 0;

	for (int n = 0; n < THREADS; n++) {
		t[n].c = c;
		t[n].img = img;
		t[n].rnd.state = test_random_u64(&rnd);
		assert_int_equal(pthread_create(&t[n].thread, NULL, reader_main, &t[n]), 0);
	}
	for (int n = 0; n < THREADS; n++)
		pthread_join(t[n].thread, NULL);
	for (int n = 0; n < THREADS; n++) {
		assert_int_equal(t[n].wrong, 0);
		assert_int_equal(t[n].late, 0);
		failed += t[n].failed;
	}
	return failed;
}

static void one_round(const char *cache)
{
	static const char *const configs[] = {
	    "{}", "{\"redirect\": true}", "{\"auth\": \"bearer\"}",
	    "{\"auth\": \"bearer\", \"redirect\": true, \"signed_life\": 1}"};
	struct hs_options o = {
	    .cache_dir = test_random_below(&rnd, 4) ? cache : NULL,
	    .cache_bytes = test_random_below(&rnd, 3) ? 0 : 1 + test_random_below(&rnd, 2u << 20),
	    .hosts_dir = "/nonexistent",
	    .creds = "user:secret",
	    .workers = 1 + (unsigned int)test_random_below(&rnd, 3),
	    .memory_bytes = test_random_below(&rnd, 2) ? 1 : 0,
	    .max_conns = 1 + (unsigned int)test_random_below(&rnd, 16),
	    .read_timeout_ns = TIMEOUT_NS,
	};
	struct image_case c = {0};
	struct hs_engine *eng;
	struct hs_image *img = NULL;
	struct err e = {0};
	unsigned int failed = 0;
	int rc;

	fake_post(&registry, "/_restart", "");
	make_case(&c);
	fake_post(&registry, "/_config", configs[test_random_below(&rnd, 4)]);
	assert_int_equal(hs_engine_new(&o, &eng, &e), 0);
	if (test_random_below(&rnd, 2))
		add_fault();
	rc = hs_image_open(eng, c.ref, &img, &e);
	assert_true(rc == 0 || e.msg[0]);
	for (int n = 0; !rc && n < 3; n++) {
		add_fault();
		failed += read_in_threads(&c, img);
		if (n == 1)
			fake_post(&registry, "/_config",
				  "{\"revoke\": true, \"expire_urls\": true}");
	}
	fake_post(&registry, "/_reset", "");
	if (rc) /* once more for a host that was given up for a moment */
		rc = hs_image_open(eng, c.ref, &img, &e) && hs_image_open(eng, c.ref, &img, &e);
	if (rc)
		fail_msg("it does not open when the faults are over: %s", e.msg);
	if (read_in_threads(&c, img))
		(void)read_in_threads(&c, img); /* a host given up, see above */
	assert_int_equal(read_in_threads(&c, img), 0);
	print_message("%zu layers, %llu KiB: %u of %u reads failed\n", c.count,
		      (unsigned long long)(c.bytes >> 10), failed, 3 * THREADS * READS);
	hs_image_close(img);
	hs_engine_free(eng);
	case_done(&c);
}

static void test_random_images(void **state)
{
	_cleanup_free_ char *cache = text_printf("%s/cache", dir);

	(void)state;
	for (int n = 0; n < ROUNDS; n++)
		one_round(cache);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_images)};
	_cleanup_free_ char *oci = NULL;
	const char *options[] = {"--dir", NULL, NULL};
	int rc = 77;

	rnd = test_random_start("prop_engine");
	assert_non_null(mkdtemp(dir));
	oci = text_printf("%s/oci", dir);
	options[1] = oci;
	layout_new(&layout, oci);
	setenv("REGISTRY_AUTH_FILE", HS_SOURCE_DIR "/tests/lib/no-auth.json", 1);
	log_open(LOG_LEVEL_ERROR, open("/dev/null", O_WRONLY | O_CLOEXEC));
	if (fake_start(&registry, options)) {
		printf("skipped: no python3\n");
	} else {
		rc = cmocka_run_group_tests(tests, NULL, NULL);
		fake_stop(&registry);
	}
	(void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS); /* best effort */
	return rc;
}
