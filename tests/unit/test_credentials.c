/* SPDX-License-Identifier: Apache-2.0 */
/* test_credentials.c - auth files and credential helpers */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "credentials.h"
#include "err.h"

static char dir[] = "/tmp/hs-credentials-XXXXXX";
static char file[64];

static void put(const char *name, const char *text, mode_t mode)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* "user password", "token T", "none" or "error". */
static void expect(const char *json, const char *host, const char *repo, const char *want)
{
	struct credential *c = NULL;
	struct err e = {0};
	char got[256];
	int rc;

	put("auth.json", json, 0600);
	rc = credentials_find(file, host, repo, &c, &e);
	if (rc)
		snprintf(got, sizeof(got), "error");
	else if (!c)
		snprintf(got, sizeof(got), "none");
	else if (c->identity_token)
		snprintf(got, sizeof(got), "token %s", c->identity_token);
	else
		snprintf(got, sizeof(got), "%s %s", c->user, c->password);
	if (strcmp(got, want) != 0)
		fail_msg("%s for %s/%s: got %s, want %s (%s)", json, host, repo, got, want, e.msg);
	assert_null(strstr(e.msg, "s3cret"));
	credential_free(c);
}

/* dXNlcjpzM2NyZXQ= is user:s3cret, b3RoZXI6cGFzcw== other:pass */
static void test_files(void **state)
{
	(void)state;
	expect("{\"auths\":{\"r.example\":{\"auth\":\"dXNlcjpzM2NyZXQ=\"}}}", "r.example", "a/b",
	       "user s3cret");
	expect("{\"auths\":{\"https://r.example/v2/\":{\"auth\":\"dXNlcjpzM2NyZXQ\"}}}",
	       "r.example", "a/b", "user s3cret");
	expect("{\"auths\":{\"r.example:5000\":{\"auth\":\"dXNlcjpzM2NyZXQ=\"}}}", "r.example",
	       "a/b", "none");
	expect("{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dXNlcjpzM2NyZXQ=\"}}}",
	       "docker.io", "library/a", "user s3cret");
	/* podman: the longest prefix by whole components */
	expect("{\"auths\":{\"r.example\":{\"auth\":\"b3RoZXI6cGFzcw==\"},"
	       "\"r.example/a\":{\"auth\":\"dXNlcjpzM2NyZXQ=\"}}}",
	       "r.example", "a/b", "user s3cret");
	expect("{\"auths\":{\"r.example\":{\"auth\":\"b3RoZXI6cGFzcw==\"},"
	       "\"r.example/a\":{\"auth\":\"dXNlcjpzM2NyZXQ=\"}}}",
	       "r.example", "ab", "other pass");
	expect("{\"auths\":{\"r.example\":{\"username\":\"u\",\"password\":\"p\"}}}", "r.example",
	       "", "u p");
	expect("{\"auths\":{\"r.example\":{\"auth\":\"dXNlcjpzM2NyZXQ=\","
	       "\"identitytoken\":\"T\"}}}",
	       "r.example", "", "token T");
	expect("{\"auths\":{\"r.example\":{}}}", "r.example", "", "none");
	expect("{}", "r.example", "", "none");
	expect("{\"auths\":{\"r.example\":{\"auth\":\"!!!\"}}}", "r.example", "", "error");
	expect("{\"auths\":{\"r.example\":{\"auth\":\"dXNlcg==\"}}}", "r.example", "", "error");
	expect("{\"auths\":{\"r.example\":{\"auth\":\"dTpwCg==\"}}}", "r.example", "", "error");
	expect("[]", "r.example", "", "error");
	expect("{\"auths\":", "r.example", "", "error");
}

static void test_helpers(void **state)
{
	(void)state;
	put("docker-credential-good",
	    "#!/bin/sh\nread s || :\n[ \"$1\" = get ] || exit 9\n"
	    "printf '{\"ServerURL\":\"%s\",\"Username\":\"%s\",\"Secret\":\"s3cret\"}' \"$s\" "
	    "\"$s\"\n",
	    0755);
	put("docker-credential-token",
	    "#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"<token>\",\"Secret\":\"T\"}'\n",
	    0755);
	put("docker-credential-absent",
	    "#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n", 0755);
	put("docker-credential-bad", "#!/bin/sh\necho s3cret\nexit 0\n", 0755);
	put("docker-credential-fail", "#!/bin/sh\necho s3cret\nexit 3\n", 0755);
	put("docker-credential-flood", "#!/bin/sh\nexec cat /dev/zero\n", 0755);
	expect("{\"credHelpers\":{\"r.example\":\"good\"}}", "r.example", "a", "r.example s3cret");
	expect("{\"credsStore\":\"good\"}", "docker.io", "a", "https://index.docker.io/v1/ s3cret");
	/* what is in the file itself comes before the store, a helper of the host before the file
	 */
	expect(
	    "{\"credsStore\":\"good\",\"auths\":{\"r.example\":{\"auth\":\"b3RoZXI6cGFzcw==\"}}}",
	    "r.example", "a", "other pass");
	expect("{\"credHelpers\":{\"r.example\":\"good\"},"
	       "\"auths\":{\"r.example\":{\"auth\":\"b3RoZXI6cGFzcw==\"}}}",
	       "r.example", "a", "r.example s3cret");
	expect("{\"credsStore\":\"good\",\"auths\":{\"r.example\":{}}}", "r.example", "a",
	       "r.example s3cret");
	expect("{\"credsStore\":\"token\"}", "r.example", "a", "token T");
	expect("{\"credsStore\":\"absent\"}", "r.example", "a", "none");
	expect("{\"credsStore\":\"bad\"}", "r.example", "a", "error");
	expect("{\"credsStore\":\"fail\"}", "r.example", "a", "error");
	expect("{\"credsStore\":\"flood\"}", "r.example", "a", "error");
	expect("{\"credsStore\":\"missing\"}", "r.example", "a", "error");
	expect("{\"credsStore\":\"../good\"}", "r.example", "a", "error");
}

static void test_defaults(void **state)
{
	struct credential *c = NULL;
	struct err e = {0};
	char *files[8], path[128];
	unsigned int n;

	(void)state;
	unsetenv("REGISTRY_AUTH_FILE");
	setenv("XDG_RUNTIME_DIR", dir, 1);
	setenv("XDG_CONFIG_HOME", dir, 1);
	setenv("DOCKER_CONFIG", dir, 1);
	n = credentials_files(NULL, files, 8);
	assert_int_equal(n, 3);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	assert_string_equal(files[2], path);
	for (unsigned int i = 0; i < n; i++)
		free(files[i]);
	/* none of them there is fine */
	assert_int_equal(credentials_find(NULL, "r.example", "a", &c, &e), 0);
	assert_null(c);
	put("config.json", "{\"auths\":{\"r.example\":{\"auth\":\"dXNlcjpzM2NyZXQ=\"}}}", 0600);
	assert_int_equal(credentials_find(NULL, "r.example", "a", &c, &e), 0);
	assert_string_equal(c->user, "user");
	credential_free(c);
	/* one that was named must be there */
	assert_int_equal(credentials_find("/nonexistent/x", "r.example", "a", &c, &e), -ENOENT);
}

static void test_option(void **state)
{
	struct credential *c = NULL;
	char *basic;

	(void)state;
	assert_int_equal(credentials_from_option("user:s3cret", &c, NULL), 0);
	basic = credential_basic(c);
	assert_string_equal(basic, "Authorization: Basic dXNlcjpzM2NyZXQ=");
	secret_free(basic);
	credential_free(c);
	assert_int_equal(credentials_from_option("u:a:b", &c, NULL), 0);
	assert_string_equal(c->password, "a:b");
	credential_free(c);
	assert_int_equal(credentials_from_option("u:", &c, NULL), 0);
	credential_free(c);
	assert_int_equal(credentials_from_option("u", &c, NULL), -EINVAL);
	assert_int_equal(credentials_from_option(":p", &c, NULL), -EINVAL);
	assert_int_equal(credentials_from_option("u:p\r\nX: y", &c, NULL), -EINVAL);
}

static int setup(void **state)
{
	char path[4096];

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof(file), "%s/auth.json", dir);
	snprintf(path, sizeof(path), "%s:%s", dir, getenv("PATH"));
	return setenv("PATH", path, 1);
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
	    cmocka_unit_test(test_files),
	    cmocka_unit_test(test_helpers),
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_option),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
