/* SPDX-License-Identifier: Apache-2.0 */
/* test_hosts_toml.c - the TOML subset, what hosts.toml means, and mirrors at work */
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

#include "digest.h"
#include "err.h"
#include "fake_registry.h"
#include "hosts_toml.h"
#include "imageref.h"
#include "log.h"
#include "net.h"
#include "store.h"

static const char full[] = "# comment\n"
			   "server = \"https://registry-1.docker.io\" # tail\n"
			   "ca = \"/etc/ca.crt\"\n"
			   "\n"
			   "[host.\"https://mirror.example:5000\"]\n"
			   "  capabilities = [\"pull\", 'resolve',\n"
			   "\t# in between\n"
			   "\t]\n"
			   "  ca = ['a.crt', \"b.crt\",]\n"
			   "  client = [[\"c.cert\", \"c.key\"]]\n"
			   "  skip_verify = true\n"
			   "  override_path = true\n"
			   "  surprise = 1_000\n"
			   "  [host.\"https://mirror.example:5000\".header]\n"
			   "    x-one = \"v\\u00e9\"\n"
			   "    \"x-two\" = [\"a\", \"b\"]\n"
			   "[host.'http://plain.example/prefix']\n"
			   "client = \"both.pem\"\r\n"
			   "header = { X-Three = '''q''', a.b = false }\n";

static struct hosts_config *parse(const char *text, int want, const char *msg)
{
	struct hosts_config *c = NULL;
	struct err e = {0};
	int rc = hosts_toml_parse(text, strlen(text), &c, &e);

	if (rc != want || (msg && !strstr(e.msg, msg)))
		fail_msg("%s: %d \"%s\"", text, rc, e.msg);
	return c;
}

static void test_full(void **state)
{
	char good[sizeof(full)], *bad;
	struct hosts_config *c;

	(void)state;
	memcpy(good, full, sizeof(full));
	bad = strstr(good, ", a.b = false");
	assert_non_null(bad);
	memset(bad, ' ', 13);
	c = parse(good, 0, NULL);
	assert_string_equal(c->server.url, "https://registry-1.docker.io");
	assert_int_equal(c->server.ca_count, 1);
	assert_int_equal(c->host_count, 2);
	assert_string_equal(c->hosts[0].url, "https://mirror.example:5000");
	assert_int_equal(c->hosts[0].caps, HOST_PULL | HOST_RESOLVE);
	assert_int_equal(c->hosts[0].ca_count, 2);
	assert_string_equal(c->hosts[0].ca[1], "b.crt");
	assert_string_equal(c->hosts[0].client_cert, "c.cert");
	assert_string_equal(c->hosts[0].client_key, "c.key");
	assert_true(c->hosts[0].skip_verify);
	assert_true(c->hosts[0].override_path);
	assert_int_equal(c->hosts[0].header_count, 3);
	assert_string_equal(c->hosts[0].headers[0], "x-one: v\xc3\xa9");
	assert_string_equal(c->hosts[0].headers[2], "x-two: b");
	assert_string_equal(c->hosts[1].url, "http://plain.example/prefix");
	assert_int_equal(c->hosts[1].caps, HOST_PULL | HOST_RESOLVE | HOST_PUSH);
	assert_string_equal(c->hosts[1].client_cert, "both.pem");
	assert_null(c->hosts[1].client_key);
	assert_string_equal(c->hosts[1].headers[0], "X-Three: q");
	assert_int_equal(c->warnings, 1);
	assert_string_equal(c->warning, "host.surprise");
	hosts_config_free(c);
	/* a header that is a table is not a header */
	(void)parse(full, -EINVAL, "header values");
}

static void test_bad(void **state)
{
	static const char *const c[][2] = {
	    {"server = nope", "line 1"},
	    {"server = \"a", "line 1"},
	    {"\n\nserver == \"a\"", "line 3"},
	    {"server = \"ftp://x\"", "http:// or https://"},
	    {"server = \"https://u:p@x\"", "cannot be used"},
	    {"server = \"https://x?y\"", "cannot be used"},
	    {"server = \"https://x\"\nserver = \"https://y\"", "twice"},
	    {"server = 5", "must be a string"},
	    {"[host.\"https://x\"]\ncapabilities = [\"fly\"]", "unknown capability"},
	    {"[host.\"https://x\"]\ncapabilities = \"pull\"", "list"},
	    {"[host.\"https://x\"]\nskip_verify = \"true\"", "true or false"},
	    {"[host.\"https://x\"]\n[host.\"https://x\"]", "twice"},
	    {"[[host]]", "arrays of tables"},
	    {"[host.\"https://x\"", "']'"},
	    {"[host.\"https://x\"]\nheader = {a = \"x\\ny\"}", "control character"},
	    {"[host.\"https://x\"]\nheader = {\"a b\" = \"x\"}", "header name"},
	    {"a = 1.5", "line 1"},
	    {"a = 1979-05-27", "line 1"},
	    {"a = \"\\q\"", "escape"},
	    {"a = \"\\ud800\"", "escape"},
	    {"a = [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]", "deep"},
	    {"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s = 1", "deep"},
	    {"a = 1 b = 2", "unexpected"},
	    {"= 1", "key"},
	    {"a", "'='"},
	    {"a = {b = 1\n}", "inline"},
	    {"a = {b = 1}\n[a]\nc = 2", "something else"},
	    {"a = 'x'\na.b = 1", "something else"},
	    {"host = 1", "must be a table"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++)
		(void)parse(c[i][0], -EINVAL, c[i][1]);
}

/* --- mirrors ------------------------------------------------------------------------------------
 */

static char dir[] = "/tmp/hs-hosts-XXXXXX";

static void configure(const char *host, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, host);
	assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
	snprintf(path, sizeof(path), "%s/%s/hosts.toml", dir, host);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_mirrors(void **state)
{
	struct net_options o = {.hosts_dir = dir};
	struct fake mirror, origin;
	struct err e = {0};
	struct imageref r;
	struct store *s;
	struct net *n;
	char name[64], host[64], text[512], digest[72], only[72], *b;
	size_t len;

	(void)state;
	if (fake_start(&mirror, NULL))
		skip();
	assert_int_equal(fake_start(&origin, NULL), 0);
	fake_blob(&mirror, "both", 4, digest);
	fake_blob(&origin, "both", 4, digest);
	fake_blob(&origin, "origin", 6, only);
	snprintf(host, sizeof(host), "127.0.0.1_%d_", origin.port);
	/* the first mirror is not there at all, the second one has half of it */
	snprintf(text, sizeof(text),
		 "[host.\"http://127.0.0.1:1\"]\ncapabilities = [\"pull\"]\n"
		 "[host.\"http://127.0.0.1:%d\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
		 "[host.\"http://127.0.0.1:%d\".header]\nx-test = \"1\"\n",
		 mirror.port, mirror.port);
	configure(host, text);
	setenv("REGISTRY_AUTH_FILE", HS_SOURCE_DIR "/tests/lib/no-auth.json", 1);
	assert_int_equal(net_new(&o, &n, &e), 0);
	snprintf(name, sizeof(name), "docker://127.0.0.1:%d/test/image:1", origin.port);
	assert_int_equal(imageref_parse(name, &r, &e), 0);
	assert_int_equal(store_open(n, &r, false, &s, &e), 0);
	assert_int_equal(store_get_blob(s, digest, 100, &b, &len, &e), 0);
	assert_memory_equal(b, "both", 5);
	free(b);
	assert_int_equal(fake_stat(&mirror, "registry_requests"), 1);
	assert_int_equal(fake_stat(&origin, "registry_requests"), 0);
	assert_int_equal(store_get_blob(s, only, 100, &b, &len, &e), 0);
	free(b);
	assert_int_equal(fake_stat(&mirror, "registry_requests"), 2);
	assert_int_equal(fake_stat(&origin, "registry_requests"), 1);
	/* a mirror that only answers errors costs two tries, not the whole patience */
	fake_post(&mirror, "/_fault", "[{\"kind\":\"status\",\"code\":500,\"count\":99}]");
	assert_int_equal(store_get_blob(s, digest, 100, &b, &len, &e), 0);
	free(b);
	/* nothing is pushed to a mirror without the capability */
	assert_int_equal(store_put_manifest(s, "application/vnd.oci.image.index.v1+json",
					    "{\"manifests\":[]}", 16, "x", &e),
			 0);
	assert_int_equal(fake_stat(&origin, "manifests_put"), 1);
	store_close(s);
	imageref_done(&r);
	net_free(n);
	fake_stop(&mirror);
	fake_stop(&origin);
}

static void test_load(void **state)
{
	struct hosts_config *c = NULL;
	struct err e = {0};
	char want[128];

	(void)state;
	configure("r.example", "ca = \"rel.crt\"\n");
	configure("bad.example", "ca = \n");
	assert_int_equal(hosts_config_load(dir, "r.example", &c, &e), 0);
	snprintf(want, sizeof(want), "%s/r.example/rel.crt", dir);
	assert_string_equal(c->server.ca[0], want);
	hosts_config_free(c);
	assert_int_equal(hosts_config_load(dir, "bad.example", &c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "bad.example/hosts.toml: line 1"));
	assert_int_equal(hosts_config_load(dir, "none.example", &c, &e), 0);
	assert_null(c);
	configure("_default", "server = \"https://d.example\"\n");
	assert_int_equal(hosts_config_load(dir, "none.example", &c, &e), 0);
	assert_string_equal(c->server.url, "https://d.example");
	hosts_config_free(c);
}

static int setup(void **state)
{
	(void)state;
	log_open(LOG_LEVEL_ERROR, 2);
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
	    cmocka_unit_test(test_full),
	    cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_mirrors),
	    cmocka_unit_test(test_load),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
