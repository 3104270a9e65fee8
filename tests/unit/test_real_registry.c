/* SPDX-License-Identifier: Apache-2.0 */
/* test_real_registry.c - push and pull through the real docker-registry with htpasswd */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "digest.h"
#include "err.h"
#include "imageref.h"
#include "log.h"
#include "net.h"
#include "oci.h"
#include "referrers.h"
#include "store.h"

/* bcrypt of "secret", cost 5 */
#define HTPASSWD "user:$2y$05$vgUFCyxGRb9ma7FlYNW5CuSd3SkvabMzKwTOkVoHFpbNcDndqhxYS\n"
#define BYTES	 5000000u

extern char **environ;
static char dir[] = "/tmp/hs-registry-XXXXXX";
static pid_t pid;
static int port;
static char *data;

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static bool answers(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

	close(fd);
	return ok;
}

static int start(void)
{
	char config[128], text[128];
	char *argv[] = {(char *)"docker-registry", (char *)"serve", config, NULL};
	posix_spawn_file_actions_t fa;
	uint64_t end;
	FILE *f;
	int rc;

	assert_non_null(mkdtemp(dir));
	port = free_port();
	snprintf(text, sizeof(text), "%s/htpasswd", dir);
	f = fopen(text, "w");
	assert_non_null(f);
	fputs(HTPASSWD, f);
	assert_int_equal(fclose(f), 0);
	snprintf(config, sizeof(config), "%s/config.yml", dir);
	f = fopen(config, "w");
	assert_non_null(f);
	fprintf(f,
		"version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
		"storage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}\n"
		"http: {addr: \"127.0.0.1:%d\"}\n"
		"auth: {htpasswd: {realm: test, path: %s/htpasswd}}\n",
		dir, port, dir);
	assert_int_equal(fclose(f), 0);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	rc = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (rc)
		return -1;
	end = clock_now_ns() + 20 * NS_PER_SEC;
	while (!answers() && clock_now_ns() < end) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return -1;
		usleep(10000); /* it has no other way to say that it listens */
	}
	return answers() ? 0 : -1;
}

static int give(void *arg, uint64_t off, void *buf, size_t len)
{
	memcpy(buf, (char *)arg + off, len);
	return 0;
}

static int same(void *arg, const void *p, size_t len)
{
	size_t *at = arg;

	assert_memory_equal(p, data + *at, len);
	*at += len;
	return 0;
}

static struct store *open_store(const char *creds, const char *repo, struct net **ret)
{
	struct net_options o = {.creds = creds, .hosts_dir = "/nonexistent"};
	struct imageref r;
	struct err e = {0};
	struct store *s;
	char name[64];

	assert_int_equal(net_new(&o, ret, &e), 0);
	snprintf(name, sizeof(name), "docker://127.0.0.1:%d/%s:1", port, repo);
	assert_int_equal(imageref_parse(name, &r, &e), 0);
	assert_int_equal(store_open(*ret, &r, false, &s, &e), 0);
	imageref_done(&r);
	return s;
}

static void test_push_pull(void **state)
{
	struct net *n;
	struct store *s = open_store("user:secret", "a/b", &n);
	struct store_manifest m;
	struct err e = {0};
	char d[72], c[72], text[1024], got[72], **tags;
	size_t at = 0;

	(void)state;
	digest_of(data, BYTES, d);
	digest_of("{}", 2, c);
	assert_int_equal(store_has_blob(s, d, &e), 0);
	if (store_put_blob(s, d, BYTES, give, data, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(store_put_blob(s, c, 2, give, (void *)"{}", &e), 0);
	assert_int_equal(store_has_blob(s, d, &e), 1);
	assert_int_equal(store_stream_blob(s, d, BYTES, same, &at, &e), 0);
	assert_int_equal(at, BYTES);
	snprintf(
	    text, sizeof(text),
	    "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":{\"mediaType\":\"%s\","
	    "\"digest\":\"%s\",\"size\":2},\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"%s\","
	    "\"size\":%u}]}",
	    OCI_TYPE_MANIFEST, OCI_TYPE_CONFIG, c, OCI_TYPE_LAYER, d, BYTES);
	if (store_put_manifest(s, OCI_TYPE_MANIFEST, text, strlen(text), "1", &e))
		fail_msg("%s", e.msg);
	assert_int_equal(store_get_manifest(s, "1", &m, &e), 0);
	assert_string_equal(m.bytes, text);
	assert_int_equal(store_resolve(s, "1", got, &e), 0);
	assert_string_equal(got, m.digest);
	store_manifest_done(&m);
	assert_int_equal(store_list_tags(s, 10, &tags, &e), 0);
	assert_string_equal(tags[0], "1");
	assert_null(tags[1]);
	free(tags[0]);
	free(tags);
	store_close(s);
	net_free(n);

	s = open_store("user:secret", "c/d", &n);
	assert_int_equal(store_has_blob(s, d, &e), 0);
	assert_int_equal(store_mount_blob(s, d, "a/b", &e), 1);
	assert_int_equal(store_mount_blob(s, d, "no/such", &e), 0);
	assert_int_equal(store_has_blob(s, d, &e), 1);
	store_close(s);
	net_free(n);
}

/* It has no referrers API: the list is under the fallback tag, up to what it takes of a manifest.
 */
static void test_artifacts(void **state)
{
	static const size_t sizes[] = {100, 2000000, 3100000, BYTES};
	struct net *n;
	struct store *s = open_store("user:secret", "a/b", &n);
	struct store_manifest subject, again;
	struct err e = {0};
	char d[72], other[72];

	(void)state;
	assert_int_equal(store_get_manifest(s, "1", &subject, &e), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct referrer_part part = {"test/part", data, sizes[i]};
		struct referrer r;

		if (referrers_attach(s, &subject, "test/type", &part, 1, false, d, &e) ||
		    (!i && referrers_attach(s, &subject, "test/other", &part, 1, true, other, &e)))
			fail_msg("%s", e.msg);
		if (referrers_find(s, subject.digest, "test/type", "test/part", BYTES,
				   20 * NS_PER_SEC, &r, &e))
			fail_msg("%s", e.msg);
		assert_string_equal(r.digest, d);
		assert_int_equal(r.len, sizes[i]);
		assert_memory_equal(r.bytes, data, sizes[i]);
		assert_int_equal(r.was_inline, i < 2);
		referrer_done(&r);
		assert_int_equal(referrers_find(s, subject.digest, "test/other", "test/part", BYTES,
						20 * NS_PER_SEC, &r, &e),
				 0);
		assert_string_equal(r.digest, other);
		referrer_done(&r);
		assert_int_equal(referrers_find(s, subject.digest, "no/such", "test/part", BYTES,
						20 * NS_PER_SEC, &r, &e),
				 -ENOENT);
	}
	assert_int_equal(store_get_manifest(s, "1", &again, &e), 0);
	assert_string_equal(again.digest, subject.digest);
	store_manifest_done(&again);
	store_manifest_done(&subject);
	store_close(s);
	net_free(n);
}

static void test_refused(void **state)
{
	static const char *const creds[] = {"user:wr0ng", NULL};

	(void)state;
	setenv("REGISTRY_AUTH_FILE", HS_SOURCE_DIR "/tests/lib/no-auth.json", 1);
	for (int i = 0; i < 2; i++) {
		struct net *n;
		struct store *s = open_store(creds[i], "a/b", &n);
		struct store_manifest m;
		struct err e = {0};

		assert_int_equal(store_get_manifest(s, "1", &m, &e), -EACCES);
		assert_non_null(strstr(e.msg, "401"));
		assert_non_null(strstr(e.msg, "creds"));
		assert_null(strstr(e.msg, "wr0ng"));
		store_close(s);
		net_free(n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_push_pull),
	    cmocka_unit_test(test_artifacts),
	    cmocka_unit_test(test_refused),
	};
	char cmd[128];
	int rc = 77;

	log_open(LOG_LEVEL_ERROR, 2);
	data = malloc(BYTES);
	for (size_t i = 0; i < BYTES; i++)
		data[i] = (char)(i * 2654435761u >> 11);
	if (start() == 0)
		rc = cmocka_run_group_tests(tests, NULL, NULL);
	else
		printf("skipped: docker-registry cannot be run\n");
	if (pid > 0) {
		kill(pid, SIGTERM);
		(void)waitpid(pid, NULL, 0); /* gone already is fine */
	}
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	if (system(cmd))
		printf("cannot remove %s\n", dir);
	free(data);
	return rc;
}
