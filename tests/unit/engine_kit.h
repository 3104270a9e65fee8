/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_kit.h - what the tests of the whole engine share: a layout with one standard image, a fake
 * registry that serves it, engines on cache directories of their own
 *
 * The standard image "test/image:1" has three layers of different forms; @truth is its device.
 * Include after cmocka.h.
 */
#ifndef HS_TESTS_ENGINE_KIT_H
#define HS_TESTS_ENGINE_KIT_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "fake_registry.h"
#include "headstart.h"
#include "image_make.h"
#include "log.h"
#include "text.h"

#define KIT_DEVICE_BYTES (16u << 20)
#define KIT_LAYERS	 3
#define KIT_SLACK_NS	 (4 * NS_PER_SEC) /* a loaded machine with sanitizers */

struct kit {
	char dir[64];
	struct layout layout;
	struct fake fake;
	struct test_random rnd;
	uint8_t *truth;
	struct made_blob layers[KIT_LAYERS];
	unsigned int caches; /* directories made so far */
	char ref[128];
	int log; /* what the engine logged */
};

static inline int kit_remove_entry(const char *path, const struct stat *st, int type,
				   struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void kit_remove_tree(const char *dir)
{
	(void)nftw(dir, kit_remove_entry, 16, FTW_DEPTH | FTW_PHYS); /* the next run has its own */
}

/* Returns -1 when there is no python3: nothing can be tested then. */
static inline int kit_start(struct kit *k, const char *what)
{
	static const struct layer_shape shapes[KIT_LAYERS] = {
	    {.codec = CODEC_ZSTD, .block_bytes = 16384, .tar = true},
	    {.codec = CODEC_LZ4, .block_bytes = 4096, .tar = true},
	    {.codec = CODEC_ZSTD, .block_bytes = 65536},
	};
	static const uint64_t data[KIT_LAYERS] = {6u << 20, 2u << 20, 1u << 20};
	char path[96];
	const char *options[] = {"--dir", path, NULL};

	memset(k, 0, sizeof(*k));
	k->rnd = test_random_start(what);
	strcpy(k->dir, "/tmp/hs-engine-XXXXXX");
	assert_non_null(mkdtemp(k->dir));
	snprintf(path, sizeof(path), "%s/oci", k->dir);
	layout_new(&k->layout, path);
	k->truth = xmalloc_zero(1, KIT_DEVICE_BYTES);
	for (int n = 0; n < KIT_LAYERS; n++) {
		struct layer_shape sh = shapes[n];

		sh.device_bytes = KIT_DEVICE_BYTES;
		layer_make_random(&sh, &k->rnd, data[n], k->truth, &k->layers[n]);
		/* else an open fetches all of it, and reads have nothing left to do */
		assert_true(k->layers[n].data.len > 0);
	}
	layout_image(&k->layout, "1", k->layers, KIT_LAYERS, NULL, NULL);
	setenv("REGISTRY_AUTH_FILE", HS_SOURCE_DIR "/tests/lib/no-auth.json", 1);
	snprintf(path, sizeof(path), "%s/log", k->dir);
	k->log = open(path, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
	log_open(LOG_LEVEL_WARN, k->log);
	snprintf(path, sizeof(path), "%s/oci", k->dir);
	if (fake_start(&k->fake, options)) {
		kit_remove_tree(k->dir);
		return -1;
	}
	snprintf(k->ref, sizeof(k->ref), "docker://127.0.0.1:%d/test/image:1", k->fake.port);
	return 0;
}

static inline void kit_stop(struct kit *k)
{
	fake_stop(&k->fake);
	close(k->log);
	log_open(LOG_LEVEL_WARN, 2);
	kit_remove_tree(k->dir);
	for (int n = 0; n < KIT_LAYERS; n++)
		made_done(&k->layers[n]);
	free(k->truth);
}

/* kit_log - lines logged since the last call that hold @word */
static inline int kit_log(struct kit *k, const char *word)
{
	char path[96], *text, *save = NULL;
	size_t len;
	int count = 0;

	snprintf(path, sizeof(path), "%s/log", k->dir);
	assert_int_equal(text_read_file(path, 16u << 20, &text, &len, NULL), 0);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		/* a loaded machine is not what is tested here */
		count += strstr(l, word) && !strstr(l, "a loop step held up");
		if (getenv("HEADSTART_TEST_LOG"))
			print_message("log: %s\n", l);
	}
	free(text);
	assert_int_equal(ftruncate(k->log, 0), 0);
	return count;
}

/* kit_reset - a registry as new; counters, faults and options forgotten */
static inline void kit_reset(struct kit *k, const char *config)
{
	fake_post(&k->fake, "/_restart", "");
	if (config)
		fake_post(&k->fake, "/_config", config);
	(void)kit_log(k, "");
}

/* kit_cache - name of a cache directory that nobody has used yet */
static inline char *kit_cache(struct kit *k)
{
	return text_printf("%s/cache%u", k->dir, k->caches++);
}

/* kit_engine - with the tests' defaults where @o says nothing */
static inline struct hs_engine *kit_engine(const struct hs_options *o)
{
	struct hs_options mine = o ? *o : (struct hs_options){0};
	struct hs_engine *eng;
	struct err e = {0};

	if (!mine.hosts_dir)
		mine.hosts_dir = "/nonexistent";
	if (!mine.workers)
		mine.workers = 2;
	if (!mine.read_timeout_ns)
		mine.read_timeout_ns = 30 * NS_PER_SEC;
	if (hs_engine_new(&mine, &eng, &e))
		fail_msg("engine: %s", e.msg);
	return eng;
}

static inline struct hs_image *kit_open(struct hs_engine *eng, const char *ref)
{
	struct hs_image *img;
	struct err e = {0};

	if (hs_image_open(eng, ref, &img, &e))
		fail_msg("open: %s", e.msg);
	return img;
}

/* kit_open_fails - the error, and a message that holds @word */
static inline int kit_open_fails(struct hs_engine *eng, const char *ref, const char *word)
{
	struct hs_image *img;
	struct err e = {0};
	int rc = hs_image_open(eng, ref, &img, &e);

	if (!rc)
		fail_msg("%s opened, but must not", ref);
	assert_int_equal(e.code, rc);
	if (!strstr(e.msg, word))
		fail_msg("message \"%s\" does not hold \"%s\"", e.msg, word);
	return rc;
}

/* kit_check - read a range; 0 and the right bytes, or the error */
static inline int kit_check(struct hs_image *img, const uint8_t *truth, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len + 8);
	struct err e = {0};
	int rc;

	assert_non_null(buf);
	memset(buf, 0xee, len + 8);
	rc = hs_image_read(img, buf, len, off, &e);
	if (!rc && memcmp(buf, truth + off, len) != 0)
		fail_msg("wrong bytes in %zu at %llu", len, (unsigned long long)off);
	for (int i = 0; i < 8; i++)
		assert_int_equal(buf[len + (size_t)i], 0xee);
	if (rc)
		assert_true(e.msg[0] != '\0' && e.code == rc);
	free(buf);
	return rc;
}

/* kit_check_all - the whole device in order; the first error */
static inline int kit_check_all(struct hs_image *img, const uint8_t *truth)
{
	uint64_t size = hs_image_bytes(img), step = 1u << 20;
	int rc = 0;

	for (uint64_t off = 0; !rc && off < size; off += step)
		rc = kit_check(img, truth, off, size - off < step ? size - off : step);
	return rc;
}

/* kit_check_random - @count reads of any alignment; the first error */
static inline int kit_check_random(struct hs_image *img, const uint8_t *truth,
				   struct test_random *r, int count)
{
	uint64_t size = hs_image_bytes(img);
	int rc = 0;

	for (int n = 0; !rc && n < count; n++) {
		uint64_t off = test_random_below(r, size);
		uint64_t len = 1 + test_random_below(r, test_random_below(r, 4) ? 20000 : 600000);

		rc = kit_check(img, truth, off, size - off < len ? size - off : len);
	}
	return rc;
}

static inline struct hs_stats kit_stats(struct hs_engine *eng)
{
	struct hs_stats s;

	hs_stats_get(eng, &s);
	return s;
}

/* kit_blob_requests - GETs of blobs that the fake answered with bytes, by the count it kept */
static inline long kit_requests(struct kit *k)
{
	return fake_stat(&k->fake, "registry_requests") + fake_stat(&k->fake, "storage_requests");
}

#endif
