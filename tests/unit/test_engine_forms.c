/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_forms.c - all kinds of images: TurboOCI, many layers, huge devices, merged, sealed
 * and read-write layers; and what is said about images that cannot be served
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "digest.h"
#include "engine_kit.h"
#include "golden_file.h"

static struct kit k;

static char *fake_ref(const char *tag)
{
	return text_printf("docker://127.0.0.1:%d/test/image%s%s", k.fake.port,
			   text_starts_with(tag, "sha256:") ? "@" : ":", tag);
}

/* sha256 of the device is what manifest.tsv says of @name */
static void check_golden(struct hs_image *img, const char *name)
{
	const struct golden_row *row = golden_manifest();
	uint64_t bytes = hs_image_bytes(img);
	uint8_t *dev = malloc(bytes);
	char sum[DIGEST_TEXT_BYTES];

	while (row->name && strcmp(row->name, name) != 0)
		row++;
	assert_non_null(row->name);
	assert_int_equal(bytes, strtoull(row->size, NULL, 10));
	assert_non_null(dev);
	for (uint64_t off = 0; off < bytes; off += 1u << 20)
		assert_int_equal(hs_image_read(img, dev + off, 1u << 20, off, NULL), 0);
	digest_of(dev, bytes, sum);
	assert_string_equal(sum + strlen("sha256:"), row->image_sha256);
	free(dev);
}

static void take_golden(const char *path, struct made_blob *ret)
{
	size_t len;
	uint8_t *p = golden_read(path, &len);

	made_copy(p, len, ret);
	free(p);
}

/* --- registry forms made by overlaybd's own tools ------------------------------------------------
 */

static void check_native(const char *tag, const char *const files[3], const char *name)
{
	_cleanup_free_ char *ref = fake_ref(tag);
	_cleanup_free_ char *local = text_printf("oci:%s/oci:%s", k.dir, tag);
	struct made_blob b[3];
	struct hs_engine *eng;
	struct hs_image *img;

	for (int n = 0; n < 3; n++)
		take_golden(files[n], &b[n]);
	layout_image(&k.layout, tag, b, 3, NULL, NULL);
	kit_reset(&k, NULL);
	eng = kit_engine(NULL);
	img = kit_open(eng, ref);
	check_golden(img, name);
	hs_image_close(img);
	img = kit_open(eng, local);
	assert_int_equal(hs_image_bytes(img), 64u << 20);
	hs_image_close(img);
	hs_engine_free(eng);
	for (int n = 0; n < 3; n++)
		made_done(&b[n]);
}

static void test_native(void **state)
{
	static const char *const lz4[] = {"native/L1.lz4-4k.tar", "native/L2.lz4-4k.tar",
					  "native/L3.lz4-4k.tar"};
	static const char *const zstd[] = {"native/L1.zstd-32k.tar", "native/L2.zstd-32k.tar",
					   "native/L3.zstd-32k.tar"};
	static const char *const bare[] = {"native/L1.lz4-16k.zfile", "native/L2.zstd-4k.zfile",
					   "native/L3.lsmt"};

	(void)state;
	check_native("native", lz4, "native-tar-lz4-4k");
	check_native("native", zstd, "native-tar-zstd-32k");
	check_native("native", bare, "native-lsmt");
}

/* --- TurboOCI
 * ---------------------------------------------------------------------------------------- */

static void check_turbo(const char *form, const char *suffix, const char *tag, const char *name)
{
	_cleanup_free_ char *cache = kit_cache(&k), *ref = fake_ref(tag);
	struct hs_options o = {.cache_dir = cache};
	struct made_blob b[3];
	char targets[3][72];
	struct hs_engine *eng;
	struct hs_image *img;

	for (int n = 0; n < 3; n++) {
		/* erofs was made without the device nodes that it cannot hold */
		const char *e = n == 2 && text_starts_with(form, "erofs") ? "e" : "";
		_cleanup_free_ char *meta = text_printf("turbo/%s.L%d.turbo.tar.gz", form, n + 1);
		_cleanup_free_ char *src = text_printf("src/L%d%s.%s", n + 1, e, suffix);
		struct made_blob target;

		take_golden(src, &target);
		layout_blob(&k.layout, target.bytes, target.len, targets[n]);
		made_done(&target);
		take_golden(meta, &b[n]);
		b[n].target = targets[n];
	}
	layout_image(&k.layout, tag, b, 3, NULL, NULL);
	kit_reset(&k, "{\"auth\": \"bearer\", \"anonymous_token\": true, \"redirect\": true}");
	eng = kit_engine(&o);
	img = kit_open(eng, ref);
	check_golden(img, name);
	hs_image_close(img);
	hs_engine_free(eng);

	/* all of it is here now: a second time it needs no registry */
	fake_post(&k.fake, "/_reset", "");
	o.pull = HS_PULL_NEVER;
	eng = kit_engine(&o);
	img = kit_open(eng, ref);
	check_golden(img, name);
	assert_int_equal(kit_requests(&k), 0);
	hs_image_close(img);
	hs_engine_free(eng);
	for (int n = 0; n < 3; n++)
		made_done(&b[n]);
}

static void test_turbo(void **state)
{
	(void)state;
	check_turbo("ext4-gz", "tar.gz", "turbo", "turbo-ext4-gz");
	check_turbo("ext4-tar", "tar", "turbo", "turbo-ext4-tar");
	check_turbo("erofs-gz", "tar.gz", "turbo", "turbo-erofs-gz");
	check_turbo("erofs-tar", "tar", "turbo", "turbo-erofs-tar");
}

/* Metadata of one layer with the original of another. */
static void test_turbo_wrong_target(void **state)
{
	_cleanup_free_ char *ref = fake_ref("turbo");
	struct made_blob b, target;
	char digest[72];
	struct hs_engine *eng;

	(void)state;
	take_golden("src/L2.tar.gz", &target);
	layout_blob(&k.layout, target.bytes, target.len, digest);
	take_golden("turbo/ext4-gz.L1.turbo.tar.gz", &b);
	b.target = digest;
	layout_image(&k.layout, "turbo", &b, 1, NULL, NULL);
	kit_reset(&k, NULL);
	eng = kit_engine(NULL);
	{
		struct hs_image *img;
		struct err e = {0};
		int rc = hs_image_open(eng, ref, &img, &e);

		/* the sizes differ, so that a read at the latest fails */
		if (!rc) {
			uint8_t *dev = malloc(hs_image_bytes(img));

			assert_non_null(dev);
			assert_true(hs_image_read(img, dev, hs_image_bytes(img), 0, &e) < 0);
			free(dev);
			hs_image_close(img);
		}
	}
	hs_engine_free(eng);
	made_done(&b);
	made_done(&target);
}

/* --- many layers
 * ------------------------------------------------------------------------------------ */

static void test_many_layers(void **state)
{
	struct made_blob *b = xmalloc_zero(256, sizeof(*b));
	struct layer_shape sh = {
	    .codec = CODEC_LZ4, .block_bytes = 4096, .tar = true, .device_bytes = 1u << 20};
	uint8_t *truth = xmalloc_zero(1, 1u << 20), *data = xmalloc_zero(1, 4096);
	_cleanup_free_ char *ref = fake_ref("many");
	struct hs_engine *eng = kit_engine(NULL);
	struct hs_image *img;

	(void)state;
	for (unsigned int n = 0; n < 256; n++) {
		struct lsmt_segment seg = {.off = n * 3584u, .len = 4096};

		test_random_fill(&k.rnd, data, 4096);
		layer_make(&sh, &seg, 1, data, &b[n]);
		if (n < 255)
			memcpy(truth + seg.off, data, 4096);
	}
	layout_image(&k.layout, "many", b, 255, NULL, NULL);
	kit_reset(&k, NULL);
	img = kit_open(eng, ref);
	assert_int_equal(hs_image_layer_count(img), 255);
	assert_int_equal(kit_check_all(img, truth), 0);
	assert_int_equal(kit_check_random(img, truth, &k.rnd, 100), 0);
	hs_image_close(img);

	layout_image(&k.layout, "many", b, 256, NULL, NULL);
	kit_reset(&k, NULL);
	assert_int_equal(kit_open_fails(eng, ref, "256 layers, at most 255"), -EBADMSG);
	layout_image(&k.layout, "many", b, 0, NULL, NULL);
	kit_reset(&k, NULL);
	assert_int_equal(kit_open_fails(eng, ref, "no layers"), -EBADMSG);
	hs_engine_free(eng);
	for (int n = 0; n < 256; n++)
		made_done(&b[n]);
	free(b);
	free(truth);
	free(data);
}

/* The same blob as two layers of one image. */
static void test_same_blob_twice(void **state)
{
	struct made_blob b[3] = {k.layers[2], k.layers[1], k.layers[2]};
	uint8_t *truth = xmalloc_zero(1, KIT_DEVICE_BYTES), *other = malloc(KIT_DEVICE_BYTES);
	_cleanup_free_ char *ref = fake_ref("twice");
	_cleanup_free_ char *first = fake_ref("first");
	struct hs_engine *eng = kit_engine(NULL);
	struct hs_image *img;

	(void)state;
	assert_non_null(other);
	layout_image(&k.layout, "first", &b[1], 2, NULL, NULL);
	layout_image(&k.layout, "twice", b, 3, NULL, NULL);
	kit_reset(&k, NULL);
	img = kit_open(eng, first);
	assert_int_equal(hs_image_read(img, truth, KIT_DEVICE_BYTES, 0, NULL), 0);
	hs_image_close(img);
	img = kit_open(eng, ref);
	assert_int_equal(hs_image_layer_count(img), 3);
	assert_int_equal(kit_check_all(img, truth), 0);
	hs_image_close(img);
	hs_engine_free(eng);
	free(truth);
	free(other);
}

/* --- huge devices
 * ----------------------------------------------------------------------------------- */

static void test_huge_device(void **state)
{
	static const uint64_t tib = 1ull << 40;
	struct layer_shape sh = {.codec = CODEC_ZSTD, .block_bytes = 4096, .tar = true};
	struct lsmt_segment seg[4] = {
	    {.off = 0, .len = 65536},
	    {.off = 2 * tib - 512, .len = 1024},
	    {.off = 2 * tib + (7u << 20), .len = 100u << 10},
	    {.off = 3 * tib - 4096, .len = 4096},
	};
	uint8_t *data = xmalloc_zero(1, 200u << 10), *buf = malloc(200u << 10);
	_cleanup_free_ char *ref = fake_ref("huge");
	struct made_blob b;
	struct hs_engine *eng = kit_engine(NULL);
	struct hs_image *img;
	uint64_t at = 0, off, bytes;

	(void)state;
	assert_non_null(buf);
	sh.device_bytes = 3 * tib;
	test_random_fill(&k.rnd, data, 200u << 10);
	layer_make(&sh, seg, 4, data, &b);
	layout_image(&k.layout, "huge", &b, 1, NULL, NULL);
	kit_reset(&k, NULL);
	img = kit_open(eng, ref);
	assert_int_equal(hs_image_bytes(img), 3 * tib);
	for (int n = 0; n < 4; n++) {
		assert_int_equal(hs_image_read(img, buf, seg[n].len, seg[n].off, NULL), 0);
		assert_memory_equal(buf, data + at, seg[n].len);
		assert_true(hs_image_next_data(img, seg[n].off, &off, &bytes));
		assert_int_equal(off, seg[n].off);
		at += seg[n].len;
	}
	/* a hole, and a range over the end of data */
	memset(buf, 0xee, 8192);
	assert_int_equal(hs_image_read(img, buf, 4096, tib, NULL), 0);
	for (int n = 0; n < 4096; n++)
		assert_int_equal(buf[n], 0);
	assert_int_equal(hs_image_read(img, buf, 8192, 3 * tib - 8192, NULL), 0);
	assert_memory_equal(buf + 4096, data + at - 4096, 4096);
	assert_int_equal(buf[4095], 0);
	assert_int_equal(hs_image_read(img, buf, 1, 3 * tib, NULL), -EINVAL);
	assert_int_equal(hs_image_read(img, buf, 8192, 3 * tib - 4096, NULL), -EINVAL);
	assert_int_equal(hs_image_read(img, buf, SIZE_MAX, 512, NULL), -EINVAL);
	assert_false(hs_image_next_data(img, 3 * tib, &off, &bytes));
	hs_image_close(img);
	hs_engine_free(eng);
	made_done(&b);
	free(data);
	free(buf);
}

/* --- files
 * ------------------------------------------------------------------------------------------- */

static void test_golden_files(void **state)
{
	/* the others are golden_images.c's */
	static const char *const names[] = {"merged-zfile", "sealed", "sealed-upper", "rw-upper"};
	struct hs_engine *eng;

	(void)state;
	assert_int_equal(chdir(HS_GOLDEN_DIR), 0);
	eng = kit_engine(NULL);
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		_cleanup_free_ char *path = text_printf("cfg/%s.config.v1.json", names[n]);
		struct hs_image *img = kit_open(eng, path);

		check_golden(img, names[n]);
		assert_string_equal(hs_image_digest(img), "");
		assert_null(hs_image_config(img));
		hs_image_close(img);
	}
	hs_engine_free(eng);
}

static void put_file(const char *path, const void *p, size_t len)
{
	assert_int_equal(text_write_file(path, p, len, 0644, NULL), 0);
}

/* A sparse read-write layer over the standard image: data where the file has extents. */
static void test_sparse_upper(void **state)
{
	_cleanup_free_ char *data_path = text_printf("%s/upper.data", k.dir);
	_cleanup_free_ char *config_path = text_printf("%s/upper.json", k.dir);
	_cleanup_free_ char *json = NULL;
	_cleanup_free_ char *chunk = malloc(1u << 20);
	uint8_t *truth = malloc(KIT_DEVICE_BYTES);
	struct lsmt_header h = {.flags = LSMT_FLAG_HEADER | LSMT_FLAG_DATA | LSMT_FLAG_SPARSE,
				.virtual_bytes = KIT_DEVICE_BYTES};
	uint8_t head[LSMT_HEADER_BYTES];
	struct hs_engine *eng = kit_engine(NULL);
	struct hs_image *img;
	int fd = open(data_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0 && truth && chunk);
	memcpy(truth, k.truth, KIT_DEVICE_BYTES);
	lsmt_encode_header(&h, head);
	assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
	/* whole file system blocks, so that extents are exact */
	for (int n = 0; n < 20; n++) {
		uint64_t off = test_random_below(&k.rnd, KIT_DEVICE_BYTES / 65536 - 4) * 65536;
		size_t len = 65536 * (1 + test_random_below(&k.rnd, 3));

		test_random_fill(&k.rnd, chunk, len);
		assert_int_equal(pwrite(fd, chunk, len, (off_t)(sizeof(head) + off)), len);
		memcpy(truth + off, chunk, len);
	}
	assert_int_equal(ftruncate(fd, sizeof(head) + KIT_DEVICE_BYTES), 0);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	json = text_printf("{\"repoBlobUrl\": \"http://127.0.0.1:%d/v2/test/image/blobs\","
			   "\"lowers\": [{\"digest\": \"%s\", \"size\": %zu},"
			   "{\"file\": \"%s/oci/blobs/sha256/%s\"},{\"digest\": \"%s\"}],"
			   "\"upper\": {\"data\": \"%s\", \"index\": \"%s\"}}",
			   k.fake.port, k.layers[0].digest, k.layers[0].len, k.dir,
			   k.layers[1].digest + strlen("sha256:"), k.layers[2].digest, data_path,
			   data_path);
	put_file(config_path, json, strlen(json));
	kit_reset(&k, NULL);
	img = kit_open(eng, config_path);
	assert_int_equal(kit_check_all(img, truth), 0);
	assert_int_equal(kit_check_random(img, truth, &k.rnd, 100), 0);
	hs_image_close(img);
	hs_engine_free(eng);
	free(truth);
}

/* --- what is said
 * ------------------------------------------------------------------------------------ */

static void test_ordinary(void **state)
{
	struct made_blob b[2] = {k.layers[0], k.layers[1]};
	_cleanup_free_ char *ref = fake_ref("ordinary");
	struct hs_engine *eng = kit_engine(NULL);

	(void)state;
	b[1].ordinary = true;
	layout_image(&k.layout, "ordinary", b, 2, NULL, NULL);
	kit_reset(&k, NULL);
	assert_int_equal(kit_open_fails(eng, ref, "headstart convert"), -EOPNOTSUPP);
	kit_open_fails(eng, ref, b[1].digest);
	hs_engine_free(eng);
}

static void test_missing_blob(void **state)
{
	struct made_blob b = k.layers[1];
	static const char gone[] = "sha256:"
				   "00000000000000000000000000000000"
				   "000000000000000000000000000000aa";
	_cleanup_free_ char *ref = fake_ref("gone");
	struct hs_engine *eng = kit_engine(NULL);

	(void)state;
	strcpy(b.digest, gone);
	layout_image(&k.layout, "gone", &b, 1, NULL, NULL);
	kit_reset(&k, NULL);
	assert_int_equal(kit_open_fails(eng, ref, "000000000000"), -ENOENT);
	hs_engine_free(eng);
}

static void test_platform(void **state)
{
	_cleanup_free_ char *ref = fake_ref("arch");
	struct hs_options o = {.platform = "linux/s390x"};
	struct hs_engine *eng;
	struct hs_image *img;
	struct err e = {0};

	(void)state;
	layout_image(&k.layout, "arch", k.layers, KIT_LAYERS, "riscv64", NULL);
	kit_reset(&k, NULL);
	eng = kit_engine(&o);
	assert_int_equal(kit_open_fails(eng, ref, "linux/s390x"), -ENOENT);
	hs_engine_free(eng);
	o.platform = "linux/riscv64";
	eng = kit_engine(&o);
	img = kit_open(eng, ref);
	assert_int_equal(kit_check(img, k.truth, 0, 1u << 20), 0);
	hs_image_close(img);
	hs_engine_free(eng);
	o.platform = "nonsense";
	assert_true(hs_engine_new(&o, &eng, &e) < 0);
	assert_non_null(strstr(e.msg, "nonsense"));
}

static void test_names(void **state)
{
	static const struct {
		const char *json, *word;
		int rc;
	} configs[] = {
	    {"{\"lowers\": [{\"file\": \"/nonexistent/layer.lsmt\"}]}", "/nonexistent/layer.lsmt",
	     -ENOENT},
	    {"{\"lowers\": [{\"dir\": \"/nonexistent/snap\"}]}", "/nonexistent/snap", -ENOENT},
	    {"{\"lowers\": [{\"file\": \"/dev/null\"}]}", "/dev/null", -EINVAL},
	    {"{\"lowers\": []}", "lower", -EBADMSG},
	    {"{\"lowers\": 5}", "lowers", -EBADMSG},
	    {"not json", "bad.json", -EBADMSG},
	    {"{\"repoBlobUrl\": \"http://h/x\", \"lowers\": [{\"digest\": \"sha256:"
	     "0000000000000000000000000000000000000000000000000000000000000000\"}]}",
	     "repoBlobUrl", -EBADMSG},
	};
	_cleanup_free_ char *path = text_printf("%s/bad.json", k.dir);
	_cleanup_free_ char *no_tag = fake_ref("no-such-tag");
	struct hs_engine *eng = kit_engine(NULL);

	(void)state;
	kit_reset(&k, NULL);
	for (size_t n = 0; n < sizeof(configs) / sizeof(configs[0]); n++) {
		put_file(path, configs[n].json, strlen(configs[n].json));
		assert_int_equal(kit_open_fails(eng, path, configs[n].word), configs[n].rc);
		kit_open_fails(eng, path, "bad.json");
	}
	assert_int_equal(
	    kit_open_fails(eng, "/nonexistent/config.v1.json", "/nonexistent/config.v1.json"),
	    -ENOENT);
	assert_int_equal(kit_open_fails(eng, no_tag, "no-such-tag"), -ENOENT);
	assert_int_equal(kit_open_fails(eng, "docker://localhost/UPPER:1", "UPPER"), -EINVAL);
	kit_open_fails(eng, "docker://127.0.0.1:1/test/image:1", "127.0.0.1:1");
	kit_open_fails(eng, "oci:/nonexistent/layout:1", "/nonexistent/layout");
	kit_open_fails(eng, "", "");
	hs_engine_free(eng);
}

/* A layer that is not one names itself, whatever it is. */
static void test_not_layers(void **state)
{
	static const char *const files[] = {"edge/lsmt-overlap.lsmt", "edge/zfile-digest-bad.zfile",
					    "edge/tar-truncated.tar", "edge/random.blob",
					    "edge/short.blob",	      "src/L1.tar.gz"};
	_cleanup_free_ char *ref = fake_ref("bad");
	struct hs_engine *eng = kit_engine(NULL);

	(void)state;
	for (size_t n = 0; n < sizeof(files) / sizeof(files[0]); n++) {
		struct made_blob b[2];

		take_golden("edge/base.lsmt", &b[0]);
		take_golden(files[n], &b[1]);
		layout_image(&k.layout, "bad", b, 2, NULL, NULL);
		kit_reset(&k, NULL);
		assert_int_equal(kit_open_fails(eng, ref, b[1].digest), -EBADMSG);
		made_done(&b[0]);
		made_done(&b[1]);
	}
	hs_engine_free(eng);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_native),
	    cmocka_unit_test(test_turbo),
	    cmocka_unit_test(test_turbo_wrong_target),
	    cmocka_unit_test(test_many_layers),
	    cmocka_unit_test(test_same_blob_twice),
	    cmocka_unit_test(test_huge_device),
	    cmocka_unit_test(test_golden_files),
	    cmocka_unit_test(test_sparse_upper),
	    cmocka_unit_test(test_ordinary),
	    cmocka_unit_test(test_missing_blob),
	    cmocka_unit_test(test_platform),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_not_layers),
	};
	int rc;

	if (kit_start(&k, "test_engine_forms")) {
		printf("skipped: no python3\n");
		return 77;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	kit_stop(&k);
	return rc;
}
