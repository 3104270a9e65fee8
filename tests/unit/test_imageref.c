/* SPDX-License-Identifier: Apache-2.0 */
/* test_imageref.c - image names, good and bad */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "err.h"
#include "imageref.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SHA "sha256:" HEX

static void same(const char *a, const char *b)
{
	if (!a || !b)
		assert_ptr_equal(a, b);
	else
		assert_string_equal(a, b);
}

static void test_good(void **state)
{
	static const struct {
		const char *text;
		enum imageref_kind kind;
		const char *host, *repo, *path, *tag, *digest, *canonical;
	} c[] = {
	    {"docker://nginx", IMAGEREF_DOCKER, "docker.io", "library/nginx", NULL, "latest", NULL,
	     "docker://docker.io/library/nginx:latest"},
	    {"docker://index.docker.io/a/b:1", IMAGEREF_DOCKER, "docker.io", "a/b", NULL, "1", NULL,
	     "docker://docker.io/a/b:1"},
	    {"docker://127.0.0.1:5000/nginx:1", IMAGEREF_DOCKER, "127.0.0.1:5000", "nginx", NULL,
	     "1", NULL, NULL},
	    {"docker://localhost/a", IMAGEREF_DOCKER, "localhost", "a", NULL, "latest", NULL,
	     "docker://localhost/a:latest"},
	    {"docker://[::1]:5000/a/b:x", IMAGEREF_DOCKER, "[::1]:5000", "a/b", NULL, "x", NULL,
	     NULL},
	    {"docker://ghcr.io/a/b-c/d__e.f@" SHA, IMAGEREF_DOCKER, "ghcr.io", "a/b-c/d__e.f", NULL,
	     NULL, SHA, NULL},
	    {"docker://r.example/a:t@" SHA, IMAGEREF_DOCKER, "r.example", "a", NULL, "t", SHA,
	     NULL},
	    {"docker://team/app", IMAGEREF_DOCKER, "docker.io", "team/app", NULL, "latest", NULL,
	     "docker://docker.io/team/app:latest"},
	    {"oci:dir", IMAGEREF_OCI, NULL, NULL, "dir", NULL, NULL, NULL},
	    {"oci:./a/b:v1.2", IMAGEREF_OCI, NULL, NULL, "./a/b", "v1.2", NULL, NULL},
	    {"oci:/a:nginx:1", IMAGEREF_OCI, NULL, NULL, "/a", "nginx:1", NULL, NULL},
	    {"oci:/a@" SHA, IMAGEREF_OCI, NULL, NULL, "/a", NULL, SHA, NULL},
	    {"docker-archive:f.tar", IMAGEREF_ARCHIVE, NULL, NULL, "f.tar", NULL, NULL, NULL},
	    {"docker-archive:f.tar:nginx:1", IMAGEREF_ARCHIVE, NULL, NULL, "f.tar", "nginx:1", NULL,
	     NULL},
	    {"./config.v1.json", IMAGEREF_CONFIG, NULL, NULL, "./config.v1.json", NULL, NULL, NULL},
	    {"odd:name.json", IMAGEREF_CONFIG, NULL, NULL, "odd:name.json", NULL, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct imageref r;
		struct err e = {0};
		char *text;

		if (imageref_parse(c[i].text, &r, &e))
			fail_msg("%s: %s", c[i].text, e.msg);
		assert_int_equal(r.kind, c[i].kind);
		same(r.host, c[i].host);
		same(r.repo, c[i].repo);
		same(r.path, c[i].path);
		same(r.tag, c[i].tag);
		same(r.digest, c[i].digest);
		text = imageref_text(&r);
		assert_string_equal(text, c[i].canonical ? c[i].canonical : c[i].text);
		free(text);
		imageref_done(&r);
	}
}

static void test_bad(void **state)
{
	static const char *const c[] = {
	    "",
	    "docker://",
	    "docker:///a",
	    "docker://A/B",
	    "docker://host.x/Upper",
	    "docker://host.x/",
	    "docker://host.x:0/a",
	    "docker://host.x:99999/a",
	    "docker://host.x:/a",
	    "docker://ho st.x/a",
	    "docker://user@host.x/a",
	    "docker://host.x/a:",
	    "docker://host.x/a:b/c:",
	    "docker://host.x/a:-x",
	    "docker://host.x/a@sha256:abc",
	    "docker://host.x/a@md5:" HEX,
	    "docker://host.x/a@sha256:" HEX "0",
	    "docker://host.x/../a",
	    "docker://host.x/a//b",
	    "docker://host.x/-a",
	    "docker://host.x/a_",
	    "docker://host.x/a___b",
	    "docker://[::1/a",
	    "docker://[::1]x/a",
	    "docker://-host.x/a",
	    "docker://host.x-:1/a",
	    "oci:",
	    "oci::tag",
	    "oci:dir:",
	    "oci:dir:a b",
	    "docker-archive:",
	    "dir:/x",
	    "containers-storage:x",
	    "oci-archive:x.tar",
	    "https://host.x/a",
	    "127.0.0.1:5000/a",
	    "nginx:1",
	    "docker://host.x/a\nb",
	    "docker://host.x/a:b\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct imageref r;
		struct err e = {0};

		if (imageref_parse(c[i], &r, &e) != -EINVAL)
			fail_msg("\"%s\" was taken", c[i]);
		assert_true(e.msg[0] != '\0');
		assert_null(strchr(e.msg, '\n'));
	}
}

/* "library/" must not make a name too long that was just short enough */
static void test_length(void **state)
{
	struct imageref r;
	char text[300] = "docker://";

	(void)state;
	memset(text + 9, 'a', 250);
	assert_int_equal(imageref_parse(text, &r, NULL), -EINVAL);
	text[9 + 247] = '\0';
	assert_int_equal(imageref_parse(text, &r, NULL), 0);
	assert_int_equal(strlen(r.repo), 255);
	imageref_done(&r);
}

static void test_loopback(void **state)
{
	static const char *const yes[] = {"localhost",	  "LOCALHOST:1", "127.0.0.1",
					  "127.9.8.7:80", "[::1]",	 "[::1]:443"};
	static const char *const no[] = {
	    "localhost.example", "127.0.0.1.example", "127.1",	  "127.",
	    "1127.0.0.1",	 "128.0.0.1",	      "[::2]",	  "[::1]x",
	    "example",		 "127.0.0.1a",	      "127.0..1", ""};

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (!imageref_loopback(yes[i]))
			fail_msg("%s", yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (imageref_loopback(no[i]))
			fail_msg("%s", no[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good),
	    cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_length),
	    cmocka_unit_test(test_loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
