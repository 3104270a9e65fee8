/* SPDX-License-Identifier: Apache-2.0 */
/* test_open_bad.c - opening an image that is corrupt does no harm to those that are not */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine_kit.h"

static struct kit k;
static char bad_ref[160];

static uint64_t cached_bytes(const struct hs_image *img)
{
	uint64_t sum = 0;

	for (size_t n = 0; n < hs_image_layer_count(img); n++) {
		struct hs_layer_info info;

		hs_image_layer(img, n, &info);
		sum += info.cached_bytes;
	}
	return sum;
}

/* The good image with a layer of noise on top, which is no layer at all. */
static void make_bad_image(void)
{
	struct made_blob layers[KIT_LAYERS + 1];
	uint8_t *noise = malloc(1u << 20);

	assert_non_null(noise);
	for (size_t i = 0; i < 1u << 20; i += 8) {
		uint64_t v = test_random_u64(&k.rnd);

		memcpy(noise + i, &v, sizeof(v));
	}
	memcpy(layers, k.layers, sizeof(k.layers));
	made_copy(noise, 1u << 20, &layers[KIT_LAYERS]);
	layout_image(&k.layout, "bad", layers, KIT_LAYERS + 1, NULL, NULL);
	made_done(&layers[KIT_LAYERS]);
	free(noise);
	snprintf(bad_ref, sizeof(bad_ref), "docker://127.0.0.1:%d/test/image:bad", k.fake.port);
}

static void test_shared_layers_stay_cached(void **state)
{
	_cleanup_free_ char *cache = kit_cache(&k);
	struct hs_options o = {.cache_dir = cache};
	struct hs_engine *eng = kit_engine(&o);
	struct hs_image *img = kit_open(eng, k.ref);
	uint64_t before, after;

	(void)state;
	assert_int_equal(kit_check_all(img, k.truth), 0);
	hs_image_close(img); /* what is written behind the answers is there now */
	img = kit_open(eng, k.ref);
	before = cached_bytes(img);
	assert_true(before > 1u << 20);
	assert_int_equal(kit_open_fails(eng, bad_ref, "layer 3"), -EBADMSG);
	after = cached_bytes(img);
	hs_image_close(img);
	hs_engine_free(eng);
	/* heads, tables and indexes were looked at again */
	assert_true(after > before - before / 4);

	/* without a network, corrupt is corrupt, and nothing at all is thrown away */
	o.pull = HS_PULL_NEVER;
	eng = kit_engine(&o);
	img = kit_open(eng, k.ref);
	before = cached_bytes(img);
	assert_int_equal(kit_open_fails(eng, bad_ref, "layer 3"), -EBADMSG);
	assert_int_equal(cached_bytes(img), before);
	hs_image_close(img);
	hs_engine_free(eng);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_shared_layers_stay_cached),
	};
	int r;

	if (kit_start(&k, "test_open_bad")) {
		puts("skipped: no python3");
		return 77;
	}
	make_bad_image();
	kit_reset(&k, NULL);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	kit_stop(&k);
	return r;
}
