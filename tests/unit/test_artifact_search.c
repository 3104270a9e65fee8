/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_artifact_search.c - what is looked for beside an image while it is being opened: both parts
 * of one artifact, never parts of two; what the cache knows; a registry that never answers;
 * prefetching before the layers are open
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "engine_kit.h"

#define TYPE	"application/vnd.test.list.v1"
#define FIRST	"application/vnd.test.first"
#define SECOND	"application/vnd.test.second"
#define WAIT_NS (10 * NS_PER_SEC)

static struct kit kit;

/* What the callbacks were told. */
struct heard {
	pthread_mutex_t lock;
	unsigned int first, second, missing, blobs;
	char first_text[32], second_text[32];
	char digest[72];
	bool prefetch, enough;
};

static void hear(struct heard *h, const struct hs_artifact *a, unsigned int *count, char *text)
{
	pthread_mutex_lock(&h->lock);
	if (a) {
		(*count)++;
		snprintf(text, 32, "%.*s", (int)a->len, a->bytes);
		snprintf(h->digest, sizeof(h->digest), "%s", a->digest);
	} else {
		h->missing++;
	}
	pthread_mutex_unlock(&h->lock);
}

static bool hear_first(void *arg, struct hs_image *img, struct hs_artifact *a,
		       const struct err *why)
{
	struct heard *h = arg;

	assert_true(hs_image_blob_count(img) == KIT_LAYERS);
	assert_true(a || why->msg[0]);
	hear(h, a, &h->first, h->first_text);
	return !h->enough;
}

static bool hear_second(void *arg, struct hs_image *img, struct hs_artifact *a,
			const struct err *why)
{
	struct heard *h = arg;

	(void)img;
	assert_true(a || why->msg[0]);
	hear(h, a, &h->second, h->second_text);
	return true;
}

static void hear_blobs(void *arg, struct hs_image *img)
{
	struct heard *h = arg;
	struct hs_blob_info info;
	struct hs_stored all[KIT_LAYERS], bad = {.blob = KIT_LAYERS};
	size_t first;

	h->blobs++;
	assert_int_equal(hs_prefetch_add(img, &bad, 1, false, 0, NULL, NULL), -EINVAL);
	for (uint32_t n = 0; n < KIT_LAYERS; n++) {
		hs_image_blob(img, n, &info);
		assert_false(info.local);
		all[n] = (struct hs_stored){n, 0, info.bytes};
	}
	bad = (struct hs_stored){0, all[0].bytes, 1};
	assert_int_equal(hs_prefetch_add(img, &bad, 1, false, 0, NULL, NULL), -EINVAL);
	if (h->prefetch)
		assert_int_equal(hs_prefetch_add(img, all, KIT_LAYERS, false, 0, &first, NULL), 0);
}

static struct hs_image *open_image(struct hs_engine *eng, struct heard *h)
{
	struct hs_open_options o = {
	    .arg = h,
	    .blobs = hear_blobs,
	    .artifact_type = TYPE,
	    .artifact_media = FIRST,
	    .artifact_max_bytes = 4096,
	    .artifact = hear_first,
	    .more_media = SECOND,
	    .more = hear_second,
	};
	struct hs_image *img;
	struct err e = {0};

	memset(h, 0, offsetof(struct heard, prefetch));
	pthread_mutex_init(&h->lock, NULL);
	if (hs_image_open_with(eng, kit.ref, &o, &img, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(h->blobs, 1);
	return img;
}

/* Until both parts, or that there are none, has been told. */
static void wait_told(struct heard *h, unsigned int count)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	uint64_t end = clock_now_ns() + WAIT_NS;

	for (;;) {
		unsigned int told;

		pthread_mutex_lock(&h->lock);
		told = h->first + h->second + h->missing;
		pthread_mutex_unlock(&h->lock);
		if (told >= count)
			return;
		assert_true(clock_now_ns() < end);
		nanosleep(&pause, NULL);
	}
}

static void push(struct hs_engine *eng, const char *first, const char *second)
{
	const struct hs_artifact_part parts[] = {{FIRST, first, strlen(first)},
						 {SECOND, second, strlen(second)}};
	char digest[72];
	struct err e = {0};

	if (hs_artifact_put(eng, kit.ref, TYPE, parts, 2, false, digest, &e))
		fail_msg("%s", e.msg);
}

static void test_parts_belong_together(void **state)
{
	struct hs_engine *eng;
	struct hs_options o = {.hosts_dir = "/nonexistent"};
	char cache[96], digest[72];
	struct hs_image *img;
	struct heard h = {0};
	struct err e = {0};

	(void)state;
	snprintf(cache, sizeof(cache), "%s/parts", kit.dir);
	o.cache_dir = cache;
	assert_int_equal(hs_engine_new(&o, &eng, &e), 0);
	img = open_image(eng, &h);
	wait_told(&h, 1);
	hs_image_close(img);
	assert_int_equal(h.missing, 1); /* the second is not looked for without the first */

	push(eng, "first of A", "second of A");
	img = open_image(eng, &h);
	wait_told(&h, 2);
	hs_image_close(img);
	assert_string_equal(h.first_text, "first of A");
	assert_string_equal(h.second_text, "second of A");
	strcpy(digest, h.digest);

	/* the cache knows A now; B takes its place */
	push(eng, "first of B", "second of B");
	img = open_image(eng, &h);
	wait_told(&h, 2);
	hs_image_close(img);
	assert_string_equal(h.first_text, "first of B");
	assert_string_equal(h.second_text, "second of B");
	assert_string_not_equal(h.digest, digest);
	hs_engine_free(eng);

	/* without asking, what was found the last time, under the same digest */
	strcpy(digest, h.digest);
	o.pull = HS_PULL_NEVER;
	assert_int_equal(hs_engine_new(&o, &eng, &e), 0);
	fake_post(&kit.fake, "/_reset", "");
	img = open_image(eng, &h);
	wait_told(&h, 2);
	hs_image_close(img);
	assert_string_equal(h.first_text, "first of B");
	assert_string_equal(h.second_text, "second of B");
	assert_string_equal(h.digest, digest);
	assert_int_equal(kit_requests(&kit), 0);

	/* who has enough of the first is not told of the second */
	h.enough = true;
	img = open_image(eng, &h);
	wait_told(&h, 1);
	hs_image_close(img);
	assert_int_equal(h.first, 1);
	assert_int_equal(h.second + h.missing, 0);
	hs_engine_free(eng);
}

static void test_closing_waits_for_no_registry(void **state)
{
	struct hs_options o = {.hosts_dir = "/nonexistent"};
	struct hs_engine *eng;
	struct hs_image *img;
	struct heard h = {0};
	struct err e = {0};
	char cache[96];
	uint64_t start;

	(void)state;
	snprintf(cache, sizeof(cache), "%s/hang", kit.dir);
	o.cache_dir = cache;
	assert_int_equal(hs_engine_new(&o, &eng, &e), 0);
	fake_post(&kit.fake, "/_fault",
		  "[{\"match\": \"referrers|sha256-\", \"count\": 100, \"kind\": \"slow\", "
		  "\"delay_ms\": 30000}]");
	img = open_image(eng, &h); /* is not held up */
	assert_int_equal(h.first + h.second + h.missing, 0);
	start = clock_now_ns();
	hs_image_close(img);
	hs_engine_free(eng);
	/* its own patience is five seconds */
	assert_true(clock_now_ns() - start < KIT_SLACK_NS);
	assert_int_equal(h.missing, 1);
	fake_post(&kit.fake, "/_reset", "");
}

/* All stored bytes are asked for before the layers are open, and come; reads then find them. */
static void test_prefetch_before_open(void **state)
{
	struct hs_options o = {.hosts_dir = "/nonexistent"};
	const struct timespec pause = {.tv_nsec = 2000000};
	uint64_t end = clock_now_ns() + WAIT_NS;
	uint8_t *buf = xmalloc_zero(1, KIT_DEVICE_BYTES);
	struct hs_prefetch_stats p;
	struct hs_stats s;
	struct hs_engine *eng;
	struct hs_image *img;
	struct heard h = {.prefetch = true};
	struct err e = {0};
	char cache[96];
	bool final;

	(void)state;
	snprintf(cache, sizeof(cache), "%s/ahead", kit.dir);
	o.cache_dir = cache;
	o.timeline = true;
	assert_int_equal(hs_engine_new(&o, &eng, &e), 0);
	img = open_image(eng, &h);
	while (hs_prefetch_landed(img, &final) < KIT_LAYERS || !final) {
		assert_true(clock_now_ns() < end);
		nanosleep(&pause, NULL);
	}
	hs_prefetch_stats_get(img, &p);
	assert_int_equal(p.end, HS_PREFETCH_COMPLETE);
	assert_true(p.fetched_bytes > 0 && p.fetched_bytes <= p.planned_bytes);
	assert_int_equal(p.used_bytes, 0); /* nobody has asked for anything */
	if (hs_image_read(img, buf, KIT_DEVICE_BYTES, 0, &e))
		fail_msg("%s", e.msg);
	assert_memory_equal(buf, kit.truth, KIT_DEVICE_BYTES);
	hs_stats_get(eng, &s);
	assert_true(s.asked_bytes > 0);
	assert_int_equal(s.asked_local_bytes, s.asked_bytes);
	hs_prefetch_stats_get(img, &p);
	assert_true(p.used_bytes > p.fetched_bytes / 2 && p.used_bytes <= p.fetched_bytes);

	/* stopping is for good */
	hs_prefetch_stop(img);
	assert_int_equal(hs_prefetch_add(img, &(struct hs_stored){0, 0, 1}, 1, false, 0, NULL, &e),
			 0);
	hs_prefetch_stats_get(img, &p);
	assert_int_equal(p.end, HS_PREFETCH_STOPPED);
	assert_int_equal(p.ranges, KIT_LAYERS);
	hs_image_close(img);
	hs_engine_free(eng);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parts_belong_together),
	    cmocka_unit_test(test_closing_waits_for_no_registry),
	    cmocka_unit_test(test_prefetch_before_open),
	};
	int rc;

	if (kit_start(&kit, "test_artifact_search")) {
		puts("skipped: requires python3");
		return 77;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	kit_stop(&kit);
	return rc;
}
