/* SPDX-License-Identifier: Apache-2.0 */
/* test_store_oci.c - OCI layouts: written, read back, damaged, and written by two at once */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "digest.h"
#include "err.h"
#include "imageref.h"
#include "oci.h"
#include "store.h"

static char dir[] = "/tmp/hs-oci-XXXXXX";
static const char manifest[] =
    "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"sha256:"
    "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},"
    "\"layers\":[]}";

static struct store *open_layout(const char *name, bool create, int want)
{
	char text[128];
	struct imageref r;
	struct err e = {0};
	struct store *s = NULL;
	int rc;

	snprintf(text, sizeof(text), "oci:%s/%s", dir, name);
	assert_int_equal(imageref_parse(text, &r, &e), 0);
	rc = store_open(NULL, &r, create, &s, &e);
	imageref_done(&r);
	if (rc != want)
		fail_msg("%s: %d %s", name, rc, e.msg);
	return s;
}

static int give(void *arg, uint64_t off, void *buf, size_t len)
{
	memcpy(buf, (const char *)arg + off, len);
	return 0;
}

static int broken(void *arg, uint64_t off, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 0, len);
	return off ? -EIO : 0;
}

static int eat(void *arg, const void *p, size_t len)
{
	(void)p;
	*(size_t *)arg += len;
	return 0;
}

static unsigned int entries(const char *sub)
{
	char path[128];
	unsigned int n = 0;
	struct dirent *x;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", dir, sub);
	d = opendir(path);
	assert_non_null(d);
	while ((x = readdir(d)))
		n += x->d_name[0] != '.' || strlen(x->d_name) > 2;
	closedir(d);
	return n;
}

static void write_file(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_round_trip(void **state)
{
	struct store *s = open_layout("a/b", true, 0);
	struct store_manifest m;
	struct blob_place p;
	struct err e = {0};
	char d[72], md[72], got[72], *buf, **tags, path[256];
	size_t len = 3000000, n = 0;
	char *data = malloc(len);

	(void)state;
	memset(data, 'x', len);
	digest_of(data, len, d);
	digest_of(manifest, strlen(manifest), md);
	assert_int_equal(store_has_blob(s, d, &e), 0);
	assert_int_equal(store_put_blob(s, d, len, give, data, &e), 0);
	assert_int_equal(store_has_blob(s, d, &e), 1);
	assert_int_equal(store_put_blob(s, d, len, broken, data, &e), 0); /* there already */
	digest_of("{}", 2, got);
	assert_int_equal(store_put_blob(s, got, 2, give, (void *)"{}", &e), 0);
	assert_int_equal(store_get_blob(s, got, 100, &buf, &n, &e), 0);
	assert_string_equal(buf, "{}");
	free(buf);
	assert_int_equal(store_get_blob(s, d, 100, &buf, &n, &e), -EFBIG);
	n = 0;
	assert_int_equal(store_stream_blob(s, d, len, eat, &n, &e), 0);
	assert_int_equal(n, len);
	assert_int_equal(store_place(s, d, len, &p, &e), 0);
	assert_true(p.fd >= 0 && p.fd_off == 0 && p.bytes == len);
	close(p.fd);
	assert_int_equal(store_place(s, d, len + 1, &p, &e), -EBADMSG);

	assert_int_equal(
	    store_put_manifest(s, OCI_TYPE_MANIFEST, manifest, strlen(manifest), "one", &e), 0);
	assert_int_equal(store_get_manifest(s, NULL, &m, &e), 0);
	assert_string_equal(m.media_type, OCI_TYPE_MANIFEST);
	assert_string_equal(m.bytes, manifest);
	store_manifest_done(&m);
	for (int i = 0; i < 2; i++) /* the second time replaces the first */
		assert_int_equal(
		    store_put_manifest(s, OCI_TYPE_MANIFEST, manifest, strlen(manifest), "two", &e),
		    0);
	assert_int_equal(store_get_manifest(s, NULL, &m, &e), -ENOENT);
	assert_int_equal(store_get_manifest(s, "three", &m, &e), -ENOENT);
	assert_int_equal(store_resolve(s, "two", got, &e), 0);
	assert_string_equal(got, md);
	assert_int_equal(store_get_manifest(s, md, &m, &e), 0);
	assert_string_equal(m.media_type, OCI_TYPE_MANIFEST); /* told from the text */
	store_manifest_done(&m);
	assert_int_equal(store_list_tags(s, 100, &tags, &e), 0);
	assert_string_equal(tags[0], "one");
	assert_string_equal(tags[1], "two");
	assert_null(tags[2]);
	free(tags[0]);
	free(tags[1]);
	free(tags);
	assert_int_equal(entries("a/b/blobs/sha256"), 3);
	assert_int_equal(entries("a/b"), 3);

	/* one flipped byte */
	snprintf(path, sizeof(path), "a/b/blobs/sha256/%s", md + 7);
	data[0] = 0;
	memcpy(data, manifest, sizeof(manifest));
	data[5] ^= 1;
	write_file(path, data);
	assert_int_equal(store_get_manifest(s, "two", &m, &e), -EBADMSG);
	free(data);
	store_close(s);
}

/* A failed write is not seen and leaves nothing. */
static void test_failed_write(void **state)
{
	struct store *s = open_layout("f", true, 0);
	struct err e = {0};
	char d[72];

	(void)state;
	digest_of("something else", 14, d);
	assert_int_equal(store_put_blob(s, d, 5000000, broken, NULL, &e), -EIO);
	assert_int_equal(store_put_blob(s, d, 5, give, (void *)"12345", &e), -EBADMSG);
	assert_int_equal(store_has_blob(s, d, &e), 0);
	assert_int_equal(entries("f/blobs/sha256"), 0);
	store_close(s);
}

/* What a killed writer left goes with the next run; what a living one has stays. */
static void test_junk(void **state)
{
	struct store *s = open_layout("j", true, 0);
	char path[256];
	int fd;

	(void)state;
	store_close(s);
	write_file("j/index.json.tmp-abcdef", "{");
	write_file("j/blobs/sha256/.tmp-headstart-dead00", "junk");
	write_file("j/blobs/sha256/.tmp-headstart-alive0", "work");
	snprintf(path, sizeof(path), "%s/j/blobs/sha256/.tmp-headstart-alive0", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	store_close(open_layout("j", true, 0));
	assert_int_equal(entries("j"), 3);
	assert_int_equal(entries("j/blobs/sha256"), 1);
	close(fd);
	store_close(open_layout("j", true, 0));
	assert_int_equal(entries("j/blobs/sha256"), 0);
}

static void test_not_a_layout(void **state)
{
	char path[128];

	(void)state;
	(void)open_layout("absent", false, -ENOENT);
	snprintf(path, sizeof(path), "%s/other", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	(void)open_layout("other", false, -EBADMSG);
	write_file("other/important", "x");
	(void)open_layout("other", true, -EBADMSG);
	assert_int_equal(entries("other"), 1);
	write_file("other/oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}");
	(void)open_layout("other", false, -EBADMSG);
	write_file("other/oci-layout", "nonsense");
	(void)open_layout("other", false, -EBADMSG);
}

static void test_bad_index(void **state)
{
	static const char climbs[] = "{\"manifests\":[{\"digest\":\"../../etc/passwd\","
				     "\"mediaType\":\"x\",\"size\":1}]}";
	static const char *const bad[] = {"", "{}", "[]", "{\"manifests\":5}", climbs};
	struct store *s = open_layout("i", true, 0);
	struct store_manifest m;
	struct err e = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int rc;

		write_file("i/index.json", bad[i]);
		rc = store_get_manifest(s, "x", &m, &e);
		if (rc >= 0)
			fail_msg("%s was taken", bad[i]);
	}
	assert_int_equal(store_get_blob(s, "sha256:../../../x", 10, NULL, NULL, &e), -EINVAL);
	store_close(s);
}

static void *tag_many(void *arg)
{
	struct store *s = open_layout("p", true, 0);
	struct err e = {0};

	for (int i = 0; i < 20; i++) {
		char tag[16];

		snprintf(tag, sizeof(tag), "%s%d", (const char *)arg, i);
		assert_int_equal(
		    store_put_manifest(s, OCI_TYPE_MANIFEST, manifest, strlen(manifest), tag, &e),
		    0);
	}
	store_close(s);
	return NULL;
}

static void test_two_writers(void **state)
{
	pthread_t a, b;
	struct store *s;
	struct err e = {0};
	char **tags;
	int n = 0;

	(void)state;
	assert_int_equal(pthread_create(&a, NULL, tag_many, (void *)"a"), 0);
	assert_int_equal(pthread_create(&b, NULL, tag_many, (void *)"b"), 0);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	s = open_layout("p", false, 0);
	assert_int_equal(store_list_tags(s, 1000, &tags, &e), 0);
	for (; tags[n]; n++)
		free(tags[n]);
	free(tags);
	assert_int_equal(n, 40);
	store_close(s);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
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
	    cmocka_unit_test(test_round_trip), cmocka_unit_test(test_failed_write),
	    cmocka_unit_test(test_junk),       cmocka_unit_test(test_not_a_layout),
	    cmocka_unit_test(test_bad_index),  cmocka_unit_test(test_two_writers),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
