/* SPDX-License-Identifier: Apache-2.0 */
/* test_docker_archive.c - archives as docker, podman and hostile people make them */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "digest.h"
#include "err.h"
#include "imageref.h"
#include "oci.h"
#include "store.h"
#include "tar_scan.h"

static char dir[] = "/tmp/hs-archive-XXXXXX";
static char path[64];

/* kind: 'f' file with @text, 's' symlink, 'h' hard link to @text */
struct item {
	char kind;
	const char *name, *text;
};

static void make(const struct item *items, size_t count, int format)
{
	struct archive *a = archive_write_new();

	if (format == ARCHIVE_FORMAT_TAR_GNUTAR)
		archive_write_set_format_gnutar(a);
	else
		archive_write_set_format_pax(a);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	for (size_t i = 0; i < count; i++) {
		struct archive_entry *x = archive_entry_new();

		archive_entry_set_pathname(x, items[i].name);
		archive_entry_set_perm(x, 0644);
		archive_entry_set_filetype(x, items[i].kind == 's' ? AE_IFLNK : AE_IFREG);
		if (items[i].kind == 's')
			archive_entry_set_symlink(x, items[i].text);
		else if (items[i].kind == 'h')
			archive_entry_set_hardlink(x, items[i].text);
		archive_entry_set_size(x, items[i].kind == 'f' ? (la_int64_t)strlen(items[i].text)
							       : 0);
		assert_int_equal(archive_write_header(a, x), ARCHIVE_OK);
		if (items[i].kind == 'f')
			assert_true(archive_write_data(a, items[i].text, strlen(items[i].text)) >=
				    0);
		archive_entry_free(x);
	}
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
}

static struct store *open_archive(const char *tag, int want, const char *msg)
{
	char text[128];
	struct imageref r;
	struct err e = {0};
	struct store *s = NULL;
	int rc;

	snprintf(text, sizeof(text), "docker-archive:%s%s%s", path, tag ? ":" : "", tag ? tag : "");
	assert_int_equal(imageref_parse(text, &r, &e), 0);
	rc = store_open(NULL, &r, false, &s, &e);
	imageref_done(&r);
	if (rc != want || (msg && !strstr(e.msg, msg)))
		fail_msg("%d \"%s\"", rc, e.msg);
	return s;
}

static const char long_name[] =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
    "4567890123456789/layer.tar";

static void check_image(const char *ref, const char *config, const char *const *layers, size_t n)
{
	struct store *s = open_archive(ref, 0, NULL);
	struct store_manifest m = {0};
	struct oci_manifest *om = NULL;
	struct err e = {0};
	char d[72], *buf;
	size_t len;

	if (store_get_manifest(s, NULL, &m, &e))
		fail_msg("%s", e.msg);
	assert_string_equal(m.media_type, DOCKER_TYPE_MANIFEST);
	assert_int_equal(oci_manifest_parse(m.bytes, m.len, &om, &e), 0);
	digest_of(config, strlen(config), d);
	assert_string_equal(om->config.digest, d);
	assert_int_equal(om->layer_count, n);
	for (size_t i = 0; i < n; i++) {
		digest_of(layers[i], strlen(layers[i]), d);
		assert_string_equal(om->layers[i].digest, d);
		assert_int_equal(om->layers[i].size, strlen(layers[i]));
		assert_string_equal(om->layers[i].media_type, DOCKER_TYPE_LAYER);
		assert_int_equal(store_get_blob(s, d, 1000, &buf, &len, &e), 0);
		assert_memory_equal(buf, layers[i], len);
		free(buf);
		assert_int_equal(store_has_blob(s, d, &e), 1);
	}
	assert_int_equal(store_put_blob(s, d, 1, NULL, NULL, &e), -EOPNOTSUPP);
	digest_of("absent", 6, d);
	assert_int_equal(store_has_blob(s, d, &e), 0);
	oci_manifest_free(om);
	store_manifest_done(&m);
	store_close(s);
}

static void test_shapes(void **state)
{
	char json[1024];
	const char *const two[] = {"layer one", "layer two"};
	const char *const shared[] = {"layer two", "layer one"};

	(void)state;
	snprintf(json, sizeof(json),
		 "[{\"Config\":\"c.json\",\"RepoTags\":[\"nginx:1\",\"r.example/x:2\"],"
		 "\"Layers\":[\"a/layer.tar\",\"%s\"]},"
		 "{\"Config\":\"blobs/sha256/cc\",\"RepoTags\":null,"
		 "\"Layers\":[\"d/layer.tar\",\"e/f/layer.tar\"]}]",
		 long_name);
	const struct item items[] = {
	    {'f', "a/layer.tar", "layer one"},
	    {'f', long_name, "layer two"},
	    {'f', "blobs/sha256/cc", "{\"second\":1}"},
	    {'h', "d/layer.tar", long_name},
	    {'s', "e/f/layer.tar", "../../a/layer.tar"},
	    {'f', "c.json", "{}"},
	    {'f', "manifest.json", json},
	};

	for (int k = 0; k < 2; k++) {
		make(items, 7, k ? ARCHIVE_FORMAT_TAR_GNUTAR : ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
		check_image("nginx:1", "{}", two, 2);
		check_image("docker.io/library/nginx:1", "{}", two, 2);
		check_image("r.example/x:2", "{}", two, 2);
		check_image("@1", "{\"second\":1}", shared, 2);
	}
	{
		struct store *s = open_archive(NULL, 0, NULL);
		struct store_manifest m;
		struct err e = {0};
		char **tags;

		assert_int_equal(store_get_manifest(s, NULL, &m, &e), -ENOENT);
		assert_non_null(strstr(e.msg, "2 images"));
		assert_int_equal(store_get_manifest(s, "nginx:3", &m, &e), -ENOENT);
		assert_int_equal(store_list_tags(s, 10, &tags, &e), 0);
		assert_string_equal(tags[0], "nginx:1");
		assert_string_equal(tags[1], "r.example/x:2");
		assert_null(tags[2]);
		free(tags[0]);
		free(tags[1]);
		free(tags);
		store_close(s);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *json;
		int open, get;
	} c[] = {
	    {"", -EBADMSG, 0},
	    {"{}", -EBADMSG, 0},
	    {"[]", -EBADMSG, 0},
	    {"[{\"Layers\":[]}]", -EBADMSG, 0},
	    {"[{\"Config\":\"c.json\",\"Layers\":5}]", -EBADMSG, 0},
	    {"[{\"Config\":\"c.json\",\"Layers\":[5]}]", -EBADMSG, 0},
	    {"[{\"Config\":\"absent\",\"Layers\":[]}]", 0, -EBADMSG},
	    {"[{\"Config\":\"c.json\",\"Layers\":[\"absent\"]}]", 0, -EBADMSG},
	    {"[{\"Config\":\"c.json\",\"Layers\":[\"out\"]}]", 0, -EBADMSG},
	    {"[{\"Config\":\"c.json\",\"Layers\":[\"loop\"]}]", 0, -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		const struct item items[] = {
		    {'f', "c.json", "{}"},
		    {'s', "out", "../../../etc/passwd"},
		    {'s', "loop", "loop"},
		    {'f', "manifest.json", c[i].json},
		};
		struct store_manifest m = {0};
		struct err e = {0};
		struct store *s;

		make(items, 4, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
		s = open_archive(NULL, c[i].open, NULL);
		if (!s)
			continue;
		if (store_get_manifest(s, NULL, &m, &e) != c[i].get)
			fail_msg("%s: %s", c[i].json, e.msg);
		store_close(s);
	}
}

static void test_not_tar(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int rc;
	} c[] = {
	    {"", 0, -EBADMSG},
	    {"short", 5, -EBADMSG},
	    {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 600, -EOPNOTSUPP},
	    {"\x28\xb5\x2f\xfd", 600, -EOPNOTSUPP},
	    {"nonsense", 600, -EBADMSG},
	    {"", 2048, -EBADMSG},
	};
	const struct item items[] = {{'f', "big", "0123456789"}, {'f', "manifest.json", "[]"}};

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		char buf[2048] = {0};
		FILE *f = fopen(path, "w");

		for (size_t k = 0; c[i].bytes[k]; k++)
			buf[k] = c[i].bytes[k];
		assert_int_equal(fwrite(buf, 1, c[i].len, f), c[i].len);
		assert_int_equal(fclose(f), 0);
		(void)open_archive(NULL, c[i].rc, NULL);
	}
	/* cut anywhere: an error, never a crash */
	make(items, 2, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
	for (off_t cut = 1500; cut > 0; cut -= 37) {
		assert_int_equal(truncate(path, cut), 0);
		(void)open_archive(NULL, -EBADMSG, NULL);
	}
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/a.tar", dir);
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_shapes),
	    cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_not_tar),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
