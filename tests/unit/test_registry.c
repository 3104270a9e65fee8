/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_registry.c - fetching from a registry that misbehaves in every way it can be told to
 *
 * One fake registry, as new for each test; each test has a net of its own, so that nothing learned
 * leaks between them.
 */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "digest.h"
#include "err.h"
#include "fake_registry.h"
#include "imageref.h"
#include "log.h"
#include "net.h"
#include "source.h"
#include "store.h"

#define BLOB_BYTES 300000u
#define BIG_BYTES  (9u << 20)

static unsigned char blob[BLOB_BYTES];
static unsigned char big[BIG_BYTES];
static char digest[72];

static struct fake registry;

struct world {
	struct fake f;
	struct net *n;
	struct imageref r;
	struct store *s;
	struct err e;
};

struct one {
	struct fetch f;
	sem_t done;
	unsigned char *buf;
};

static void world_open(struct world *w, const char *config, const struct net_options *o)
{
	static const struct net_options none = {.hosts_dir = "/nonexistent"};
	struct net_options mine = o ? *o : none;
	char name[64];

	memset(w, 0, sizeof(*w));
	w->f = registry;
	fake_post(&w->f, "/_restart", "");
	if (config)
		fake_post(&w->f, "/_config", config);
	if (!mine.hosts_dir)
		mine.hosts_dir = "/nonexistent";
	if (!mine.authfile && !mine.creds)
		setenv("REGISTRY_AUTH_FILE", HS_SOURCE_DIR "/tests/lib/no-auth.json", 1);
	assert_int_equal(net_new(&mine, &w->n, &w->e), 0);
	snprintf(name, sizeof(name), "docker://127.0.0.1:%d/test/image:1", w->f.port);
	assert_int_equal(imageref_parse(name, &w->r, &w->e), 0);
	assert_int_equal(store_open(w->n, &w->r, false, &w->s, &w->e), 0);
	fake_blob(&w->f, blob, sizeof(blob), digest);
}

static void world_close(struct world *w)
{
	assert_int_equal(fake_stat(&w->f, "leaks"), 0);
	store_close(w->s);
	net_free(w->n);
	imageref_done(&w->r);
}

static struct source *blob_source(struct world *w)
{
	struct blob_place p;

	assert_int_equal(store_place(w->s, digest, sizeof(blob), &p, &w->e), 0);
	assert_true(p.fd < 0);
	return p.source;
}

static void one_done(struct fetch *f)
{
	sem_post(&container_of(f, struct one, f)->done);
}

static void one_start(struct source *s, struct one *o, uint64_t off, uint64_t len, enum prio prio,
		      uint64_t timeout_ns)
{
	memset(o, 0, sizeof(*o));
	sem_init(&o->done, 0, 0);
	o->buf = malloc(len + 16);
	memset(o->buf, 0xee, len + 16);
	o->f.buf = o->buf;
	o->f.range = range_of(off, len);
	o->f.prio = prio;
	o->f.timeout_ns = timeout_ns;
	o->f.done = one_done;
	source_start(s, &o->f);
}

static int one_end(struct one *o)
{
	int res;

	while (sem_wait(&o->done))
		;
	res = o->f.res;
	if (res == 0)
		assert_memory_equal(o->buf, blob + o->f.range.off, o->f.range.len);
	for (int i = 0; i < 16; i++) /* never a byte past the buffer */
		assert_int_equal(o->buf[o->f.range.len + (unsigned)i], 0xee);
	free(o->buf);
	sem_destroy(&o->done);
	return res;
}

/* One fetch; returns its result, the rest in @o. */
static int fetch(struct world *w, struct one *o, uint64_t off, uint64_t len)
{
	struct source *s = blob_source(w);
	int res;

	one_start(s, o, off, len, PRIO_DEMAND, 0);
	res = one_end(o);
	source_unref(s);
	return res;
}

static void fault(struct world *w, const char *json)
{
	fake_post(&w->f, "/_fault", json);
}

/* --- plain ranges -------------------------------------------------------------------------------
 */

static void test_ranges(void **state)
{
	struct world w;
	struct one o;

	(void)state;
	world_open(&w, NULL, NULL);
	assert_int_equal(fetch(&w, &o, 1000, 5000), 0);
	assert_int_equal(o.f.exchanges, 1);
	assert_int_equal(fetch(&w, &o, 0, 1), 0);
	assert_int_equal(fetch(&w, &o, BLOB_BYTES - 1, 1), 0);
	assert_int_equal(fetch(&w, &o, 0, BLOB_BYTES), 0);
	assert_int_equal(o.f.exchanges, 1);
	world_close(&w);
}

/* Faults that one retry heals, each with the right bytes in the end. */
static void test_healed(void **state)
{
	static const char *const kinds[] = {
	    "{\"kind\":\"status\",\"code\":500}",
	    "{\"kind\":\"status\",\"code\":503,\"headers\":{\"Retry-After\":\"0\"}}",
	    "{\"kind\":\"status\",\"code\":429,\"headers\":{\"Retry-After\":\"0\"}}",
	    "{\"kind\":\"reset\",\"bytes\":0}",
	    "{\"kind\":\"reset\",\"bytes\":100}",
	    "{\"kind\":\"short\",\"bytes\":70000}",
	    "{\"kind\":\"no-range\"}",
	    "{\"kind\":\"bad-range\"}",
	    "{\"kind\":\"no-content-range\"}",
	    "{\"kind\":\"extra\",\"bytes\":5}",
	    "{\"kind\":\"headers\"}",
	    "{\"kind\":\"garbage\"}",
	};
	struct world w;

	(void)state;
	world_open(&w, NULL, NULL);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char text[256];
		struct one o;

		snprintf(text, sizeof(text), "[%s]", kinds[i]);
		/* the scheme is settled first, or garbage would be taken for TLS */
		assert_int_equal(fetch(&w, &o, 5, 10), 0);
		fault(&w, text);
		if (fetch(&w, &o, 12345, 99999))
			fail_msg("%s: %d %s", kinds[i], o.f.res, o.f.why);
		/* a kept connection that proves dead is replaced inside libcurl, unseen */
		if (o.f.exchanges != 2 && !(o.f.exchanges == 1 && strstr(kinds[i], "reset")))
			fail_msg("%s: %u exchanges", kinds[i], o.f.exchanges);
	}
	world_close(&w);
}

/* A broken body is continued, not repeated. */
static void test_resume(void **state)
{
	struct world w;
	struct one o;
	char *stats;

	(void)state;
	world_open(&w, NULL, NULL);
	fault(&w, "[{\"kind\":\"short\",\"bytes\":70000}]");
	assert_int_equal(fetch(&w, &o, 1000, 100000), 0);
	stats = fake_stats(&w.f);
	if (!strstr(stats, "bytes=71000-100999"))
		fail_msg("%s", stats);
	free(stats);
	world_close(&w);
}

static void test_refused_answers(void **state)
{
	static const struct {
		const char *fault;
		int res;
		const char *why;
	} c[] = {
	    {"{\"kind\":\"no-range\",\"count\":9}", -EPROTO, "ignores Range"},
	    {"{\"kind\":\"bad-range\",\"count\":9}", -EPROTO, "Content-Range"},
	    {"{\"kind\":\"extra\",\"bytes\":1,\"count\":9}", -EPROTO, "more bytes"},
	    {"{\"kind\":\"headers\",\"count\":9}", -EPROTO, "headers"},
	    {"{\"kind\":\"status\",\"code\":404,\"count\":9}", -ENOENT, "404"},
	    {"{\"kind\":\"status\",\"code\":403,\"count\":9}", -EACCES, "--creds"},
	    {"{\"kind\":\"status\",\"code\":416,\"count\":9}", -EPROTO, "416"},
	};
	struct world w;

	(void)state;
	world_open(&w, NULL, NULL);
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		char text[256];
		struct one o;
		int res;

		fake_post(&w.f, "/_reset", "");
		assert_int_equal(fetch(&w, &o, 5, 10), 0);
		snprintf(text, sizeof(text), "[%s]", c[i].fault);
		fault(&w, text);
		res = fetch(&w, &o, 7, 5000);
		if (res != c[i].res || !strstr(o.f.why, c[i].why))
			fail_msg("%s: %d \"%s\"", c[i].fault, res, o.f.why);
		assert_non_null(strstr(o.f.why, "test/image@sha256:"));
	}
	world_close(&w);
}

static void test_burst_of_500(void **state)
{
	struct world w;
	struct one o;

	(void)state;
	world_open(&w, NULL, NULL);
	fault(&w, "[{\"kind\":\"status\",\"code\":500,\"count\":4}]");
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_int_equal(o.f.exchanges, 5);
	world_close(&w);
}

static void test_retry_after(void **state)
{
	struct world w;
	struct one o;
	uint64_t t0;

	(void)state;
	world_open(&w, NULL, NULL);
	fault(&w, "[{\"kind\":\"status\",\"code\":429,\"headers\":{\"Retry-After\":\"1\"}}]");
	t0 = clock_now_ns();
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_true(clock_now_ns() - t0 >= NS_PER_SEC);
	/* longer than there is time: no waiting for nothing */
	fault(&w, "[{\"kind\":\"status\",\"code\":503,\"headers\":{\"Retry-After\":\"100\"}}]");
	t0 = clock_now_ns();
	assert_int_equal(fetch(&w, &o, 0, 1000), -ETIMEDOUT);
	assert_true(clock_now_ns() - t0 < 5 * NS_PER_SEC);
	world_close(&w);
}

static void test_timeout(void **state)
{
	struct world w;
	struct source *s;
	struct one o;
	uint64_t t0;

	(void)state;
	world_open(&w, NULL, NULL);
	s = blob_source(&w);
	fault(&w, "[{\"kind\":\"stall\",\"bytes\":10,\"count\":9}]");
	t0 = clock_now_ns();
	one_start(s, &o, 0, 1000, PRIO_DEMAND, 700 * NS_PER_MS);
	assert_int_equal(one_end(&o), -ETIMEDOUT);
	assert_true(clock_now_ns() - t0 >= 650 * NS_PER_MS);
	assert_true(clock_now_ns() - t0 < 3 * NS_PER_SEC);
	source_unref(s);
	world_close(&w);
}

static void test_cancel(void **state)
{
	struct world w;
	struct source *s;
	struct one o[20];

	(void)state;
	world_open(&w, NULL, NULL);
	s = blob_source(&w);
	fault(&w, "[{\"kind\":\"stall\",\"bytes\":10,\"count\":99}]");
	for (int i = 0; i < 20; i++)
		one_start(s, &o[i], 100u * (unsigned)i, 100, PRIO_PREFETCH, 0);
	for (int i = 0; i < 20; i++)
		source_cancel(s, &o[i].f);
	for (int i = 0; i < 20; i++)
		assert_int_equal(one_end(&o[i]), -ECANCELED);
	source_unref(s);
	world_close(&w);
}

/* net_free() with fetches under way ends them. */
static void test_shutdown(void **state)
{
	struct world w;
	struct source *s;
	struct one o[20];

	(void)state;
	world_open(&w, NULL, NULL);
	s = blob_source(&w);
	fault(&w, "[{\"kind\":\"stall\",\"bytes\":10,\"count\":99}]");
	for (int i = 0; i < 20; i++)
		one_start(s, &o[i], 100u * (unsigned)i, 100, PRIO_DEMAND, 0);
	net_free(w.n);
	for (int i = 0; i < 20; i++)
		assert_int_equal(one_end(&o[i]), -ECANCELED);
	source_unref(s);
	store_close(w.s);
	imageref_done(&w.r);
}

/* With all slots taken by prefetch, demand still gets in at once. */
static void test_demand_first(void **state)
{
	struct net_options o = {.max_conns = 4};
	struct world w;
	struct source *s;
	struct one p[30], d;
	struct net_stats st;
	uint64_t t0;

	(void)state;
	world_open(&w, NULL, &o);
	s = blob_source(&w);
	assert_int_equal(fetch(&w, &d, 0, 10), 0);
	fault(&w, "[{\"kind\":\"slow\",\"delay_ms\":300,\"count\":30,\"match\":\"blobs\"}]");
	for (int i = 0; i < 30; i++)
		one_start(s, &p[i], 1000u * (unsigned)i, 100, PRIO_PREFETCH, 0);
	t0 = clock_now_ns();
	one_start(s, &d, 200000, 100, PRIO_DEMAND, 0);
	assert_int_equal(one_end(&d), 0);
	/* its own 300 ms, and not ten rounds of them */
	assert_true(clock_now_ns() - t0 < 900 * NS_PER_MS);
	source_raise(s, &p[29].f);
	assert_int_equal(one_end(&p[29]), 0);
	assert_true(clock_now_ns() - t0 < 1500 * NS_PER_MS);
	for (int i = 0; i < 29; i++)
		assert_int_equal(one_end(&p[i]), 0);
	net_stats_get(w.n, &st);
	assert_true(st.connections <= 4);
	source_unref(s);
	world_close(&w);
}

/* --- authorization ------------------------------------------------------------------------------
 */

static void test_basic(void **state)
{
	static const char opt[] = "{\"auth\":\"basic\"}";
	struct net_options good = {.creds = "user:secret"}, bad = {.creds = "user:wr0ngpass"};
	struct world w;
	struct one o;

	(void)state;
	world_open(&w, opt, &good);
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_int_equal(o.f.exchanges, 2); /* the challenge, the bytes */
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_int_equal(o.f.exchanges, 1);
	world_close(&w);

	world_open(&w, opt, &bad);
	assert_int_equal(fetch(&w, &o, 0, 1000), -EACCES);
	assert_non_null(strstr(o.f.why, "401"));
	assert_non_null(strstr(o.f.why, "check --creds"));
	assert_null(strstr(o.f.why, "wr0ngpass"));
	world_close(&w);

	world_open(&w, opt, NULL);
	assert_int_equal(fetch(&w, &o, 0, 1000), -EACCES);
	assert_non_null(strstr(o.f.why, "auth file"));
	world_close(&w);
}

static void test_bearer(void **state)
{
	static const char opt[] = "{\"auth\":\"bearer\"}";
	struct net_options good = {.creds = "user:secret"}, bad = {.creds = "user:wr0ngpass"};
	struct world w;
	struct one o;

	(void)state;
	world_open(&w, opt, &good);
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_int_equal(o.f.exchanges, 3); /* challenge, token, bytes */
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_int_equal(o.f.exchanges, 1);
	assert_int_equal(fake_stat(&w.f, "tokens"), 1);
	/* revoked on the other side in the middle: one refusal, one token, go on */
	fake_post(&w.f, "/_config", "{\"revoke\":true}");
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_int_equal(o.f.exchanges, 3);
	assert_int_equal(fake_stat(&w.f, "tokens"), 2);
	world_close(&w);

	world_open(&w, opt, &bad);
	assert_int_equal(fetch(&w, &o, 0, 1000), -EACCES);
	assert_non_null(strstr(o.f.why, "token server"));
	assert_null(strstr(o.f.why, "wr0ngpass"));
	world_close(&w);
}

/* Many first fetches at once: one challenge and one token for all of them. */
static void test_single_flight(void **state)
{
	static const char opt[] =
	    "{\"auth\":\"bearer\",\"anonymous_token\":true,\"latency_ms\":30}";
	struct world w;
	struct source *s;
	struct net_options few = {.max_conns = 8};
	struct one o[24];
	struct net_stats st;

	(void)state;
	world_open(&w, opt, &few);
	s = blob_source(&w);
	for (int i = 0; i < 24; i++)
		one_start(s, &o[i], 1000u * (unsigned)i, 1000, PRIO_DEMAND, 0);
	for (int i = 0; i < 24; i++) {
		assert_int_equal(one_end(&o[i]), 0);
		assert_int_equal(o[i].f.exchanges, 3);
	}
	assert_int_equal(fake_stat(&w.f, "token_requests"), 1);
	assert_int_equal(fake_stat(&w.f, "registry_requests"), 25);
	net_stats_get(w.n, &st);
	assert_int_equal(st.token_fetches, 1);
	assert_int_equal(st.requests, 26);
	assert_int_equal(st.errors, 0);
	if (st.connections < 2 || st.connections > 8)
		fail_msg("%llu connections", (unsigned long long)st.connections);
	source_unref(s);
	world_close(&w);
}

/* A token that expires is renewed without a refused request in between. */
static void test_expiry(void **state)
{
	static const char opt[] = "{\"auth\":\"bearer\",\"anonymous_token\":true,\"token_life\":1}";
	struct world w;
	struct one o;
	uint64_t end;

	(void)state;
	world_open(&w, opt, NULL);
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	end = clock_now_ns() + 2500 * NS_PER_MS;
	while (clock_now_ns() < end) {
		assert_int_equal(fetch(&w, &o, 0, 1000), 0);
		assert_true(o.f.exchanges <= 2);
		usleep(20000); /* a steady reader, not a wait for something */
	}
	assert_true(fake_stat(&w.f, "tokens") >= 3);
	assert_true(fake_stat(&w.f, "tokens") <= 6);
	world_close(&w);
}

static void test_token_faults(void **state)
{
	static const char opt[] = "{\"auth\":\"bearer\",\"anonymous_token\":true}";
	struct world w;
	struct one o;

	(void)state;
	world_open(&w, opt, NULL);
	fault(&w, "[{\"on\":\"token\",\"kind\":\"status\",\"code\":500,\"count\":2}]");
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	world_close(&w);
	world_open(&w, opt, NULL);
	fault(&w, "[{\"on\":\"token\",\"kind\":\"status\",\"code\":200,\"body\":\"{}\"}]");
	assert_int_equal(fetch(&w, &o, 0, 1000), -EPROTO);
	/* and it is not remembered */
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_int_equal(o.f.exchanges, 2);
	world_close(&w);
}

/* --- redirects ----------------------------------------------------------------------------------
 */

static void test_redirect(void **state)
{
	static const char opt[] = "{\"auth\":\"bearer\",\"redirect\":true}";
	struct net_options good = {.creds = "user:secret"};
	struct world w;
	struct one o;

	(void)state;
	world_open(&w, opt, &good);
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	assert_int_equal(o.f.exchanges, 4); /* challenge, token, redirect, bytes */
	for (int i = 0; i < 5; i++) {
		assert_int_equal(fetch(&w, &o, 5000, 1000), 0);
		assert_int_equal(o.f.exchanges, 1);
	}
	assert_int_equal(fake_stat(&w.f, "redirects"), 1);
	/* expired on the other side: resolved once more */
	fake_post(&w.f, "/_config", "{\"expire_urls\":true}");
	assert_int_equal(fetch(&w, &o, 5000, 1000), 0);
	assert_int_equal(o.f.exchanges, 3);
	assert_int_equal(fake_stat(&w.f, "redirects"), 2);
	world_close(&w); /* checks that no Authorization arrived at the storage */
}

static void test_redirect_parallel(void **state)
{
	static const char opt[] = "{\"redirect\":true,\"latency_ms\":20}";
	struct world w;
	struct source *s;
	struct one o[12];
	char other[72];
	char *b = NULL;
	size_t len;

	(void)state;
	world_open(&w, opt, NULL);
	/* the host is known to redirect from its first blob on */
	fake_blob(&w.f, "config", 6, other);
	assert_int_equal(store_get_blob(w.s, other, 100, &b, &len, &w.e), 0);
	free(b);
	s = blob_source(&w);
	for (int i = 0; i < 12; i++)
		one_start(s, &o[i], 1000u * (unsigned)i, 1000, PRIO_DEMAND, 0);
	for (int i = 0; i < 12; i++) {
		assert_int_equal(one_end(&o[i]), 0);
		assert_int_equal(o[i].f.exchanges, 2);
	}
	assert_int_equal(fake_stat(&w.f, "redirects"), 2);
	source_unref(s);
	world_close(&w);
}

static void test_redirect_expiry(void **state)
{
	static const char opt[] = "{\"redirect\":true,\"signed_life\":1}";
	struct world w;
	struct one o;
	uint64_t end;

	(void)state;
	world_open(&w, opt, NULL);
	end = clock_now_ns() + 2200 * NS_PER_MS;
	while (clock_now_ns() < end) {
		assert_int_equal(fetch(&w, &o, 0, 1000), 0);
		/* known to have expired before it is asked for: never a refused request */
		assert_true(o.f.exchanges <= 2);
		usleep(20000);
	}
	assert_true(fake_stat(&w.f, "redirects") >= 2);
	world_close(&w);
}

static void test_redirect_faults(void **state)
{
	static const char opt[] = "{\"redirect\":true}";
	struct world w;
	struct one o;

	(void)state;
	world_open(&w, opt, NULL);
	fault(&w, "[{\"on\":\"storage\",\"kind\":\"status\",\"code\":403,\"count\":99}]");
	assert_int_equal(fetch(&w, &o, 0, 1000), -EACCES);
	assert_null(strstr(o.f.why, "sig="));
	assert_int_equal(fake_stat(&w.f, "redirects"), 2); /* once more, not for ever */
	fake_post(&w.f, "/_reset", "");
	fault(&w, "[{\"on\":\"storage\",\"kind\":\"short\",\"bytes\":10},"
		  "{\"on\":\"storage\",\"kind\":\"status\",\"code\":503}]");
	assert_int_equal(fetch(&w, &o, 0, 1000), 0);
	/* a loop of redirects ends */
	fake_post(&w.f, "/_reset", "");
	fault(&w, "[{\"kind\":\"status\",\"code\":307,\"count\":99,\"headers\":{\"Location\":"
		  "\"/v2/test/image/blobs/x\"}}]");
	fake_post(&w.f, "/_config", "{\"expire_urls\":true}");
	fault(&w, "[{\"on\":\"storage\",\"kind\":\"status\",\"code\":403,\"count\":99}]");
	assert_int_equal(fetch(&w, &o, 0, 1000), -EPROTO);
	assert_non_null(strstr(o.f.why, "redirects"));
	world_close(&w);
}

/* --- the store ----------------------------------------------------------------------------------
 */

static void test_manifests(void **state)
{
	static const char text[] = "{\"schemaVersion\":2,\"mediaType\":"
				   "\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}";
	static const char type[] = "application/vnd.oci.image.index.v1+json";
	struct store_manifest m = {0};
	char want[72], got[72], **tags;
	struct world w;

	(void)state;
	world_open(&w, NULL, NULL);
	digest_of(text, strlen(text), want);
	for (int i = 0; i < 8; i++) {
		char tag[8];

		snprintf(tag, sizeof(tag), "t%d", i);
		assert_int_equal(store_put_manifest(w.s, type, text, strlen(text), tag, &w.e), 0);
	}
	assert_int_equal(store_get_manifest(w.s, "t1", &m, &w.e), 0);
	assert_string_equal(m.bytes, text);
	assert_string_equal(m.digest, want);
	assert_string_equal(m.media_type, type);
	store_manifest_done(&m);
	assert_int_equal(store_get_manifest(w.s, want, &m, &w.e), 0);
	store_manifest_done(&m);
	assert_int_equal(store_resolve(w.s, "t1", got, &w.e), 0);
	assert_string_equal(got, want);
	assert_int_equal(store_get_manifest(w.s, "absent", &m, &w.e), -ENOENT);
	assert_int_equal(store_resolve(w.s, "absent", got, &w.e), -ENOENT);
	assert_int_equal(store_get_manifest(w.s, "../../x", &m, &w.e), -EINVAL);

	/* pages of three */
	assert_int_equal(store_list_tags(w.s, 100, &tags, &w.e), 0);
	for (int i = 0; i < 8; i++) {
		assert_non_null(tags[i]);
		assert_int_equal(tags[i][1], '0' + i);
		free(tags[i]);
	}
	assert_null(tags[8]);
	free(tags);

	fault(&w, "[{\"kind\":\"corrupt\"}]");
	assert_int_equal(store_get_manifest(w.s, want, &m, &w.e), -EBADMSG);
	fault(&w, "[{\"kind\":\"corrupt\"}]");
	assert_int_equal(store_get_manifest(w.s, "t1", &m, &w.e), -EBADMSG);
	fault(&w, "[{\"kind\":\"huge\",\"count\":9}]");
	assert_int_equal(store_get_manifest(w.s, "t1", &m, &w.e), -EPROTO);
	assert_non_null(strstr(w.e.msg, "larger"));
	world_close(&w);
}

struct reader {
	const unsigned char *p;
	uint64_t at, stop;
};

static int compare(void *arg, const void *p, size_t len)
{
	struct reader *r = arg;

	assert_memory_equal(r->p + r->at, p, len);
	r->at += len;
	return r->stop && r->at >= r->stop ? -ENOSPC : 0;
}

static int swallow(void *arg, const void *p, size_t len)
{
	(void)p;
	*(uint64_t *)arg += len;
	return 0;
}

static void test_stream(void **state)
{
	static const char none[] = "{\"ignore_range\":true}";
	struct reader r = {.p = big};
	uint64_t n = 0;
	struct world w;
	char d[72];

	(void)state;
	world_open(&w, NULL, NULL);
	fake_blob(&w.f, big, sizeof(big), d);
	fault(&w, "[{\"kind\":\"short\",\"bytes\":1000000},{\"kind\":\"reset\",\"bytes\":5000}]");
	assert_int_equal(store_stream_blob(w.s, d, sizeof(big), compare, &r, &w.e), 0);
	assert_int_equal(r.at, sizeof(big));
	r = (struct reader){.p = big, .stop = 1};
	assert_int_equal(store_stream_blob(w.s, d, sizeof(big), compare, &r, &w.e), -ENOSPC);
	/* more than one: ranges that the stopped stream had asked ahead may still take some */
	fault(&w, "[{\"kind\":\"corrupt\",\"count\":9}]");
	assert_int_equal(store_stream_blob(w.s, d, sizeof(big), swallow, &n, &w.e), -EBADMSG);
	/* a size that lies */
	assert_int_equal(store_stream_blob(w.s, d, sizeof(big) - 1, swallow, &n, &w.e), -EPROTO);
	world_close(&w);

	/* a server without ranges can still be streamed from */
	world_open(&w, none, NULL);
	fake_blob(&w.f, big, sizeof(big), d);
	r = (struct reader){.p = big};
	fault(&w, "[{\"kind\":\"short\",\"bytes\":1000000,\"skip\":4}]");
	assert_int_equal(store_stream_blob(w.s, d, sizeof(big), compare, &r, &w.e), 0);
	assert_int_equal(r.at, sizeof(big));
	world_close(&w);
}

static int give(void *arg, uint64_t off, void *buf, size_t len)
{
	(void)arg;
	assert_true(off + len <= sizeof(big));
	memcpy(buf, big + off, len);
	return 0;
}

static int give_up(void *arg, uint64_t off, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 0, len);
	return off > 100000 ? -ENOSPC : 0;
}

static void test_push(void **state)
{
	static const char *const opts[] = {
	    "{}",
	    "{\"no_whole_put\":true}",
	    "{\"auth\":\"bearer\"}",
	    "{\"auth\":\"basic\",\"no_whole_put\":true}",
	};
	struct net_options o = {.creds = "user:secret"};
	char d[72];

	(void)state;
	digest_of(big, sizeof(big), d);
	for (size_t i = 0; i < 4; i++) {
		struct reader r = {.p = big};
		struct world w;

		world_open(&w, opts[i], &o);
		assert_int_equal(store_has_blob(w.s, d, &w.e), 0);
		assert_int_equal(store_put_blob(w.s, d, sizeof(big), give, NULL, &w.e), 0);
		assert_int_equal(store_has_blob(w.s, d, &w.e), 1);
		assert_int_equal(store_stream_blob(w.s, d, sizeof(big), compare, &r, &w.e), 0);
		assert_int_equal(fake_stat(&w.f, "patches"), strstr(opts[i], "put") ? 2 : 0);
		assert_int_equal(store_mount_blob(w.s, d, "other/repo", &w.e), 1);
		assert_int_equal(store_mount_blob(w.s, digest, "", &w.e), -EINVAL);
		world_close(&w);
	}
}

static void test_push_faults(void **state)
{
	static const char *const faults[] = {
	    "[{\"method\":\"PUT\",\"kind\":\"reset\",\"bytes\":0}]",
	    "[{\"method\":\"PUT\",\"kind\":\"status\",\"code\":500,\"count\":2}]",
	    "[{\"method\":\"POST\",\"kind\":\"status\",\"code\":503}]",
	    "[{\"method\":\"PUT\",\"kind\":\"status\",\"code\":404}]",
	};
	struct world w;
	char d[72], empty[72];
	struct err e = {0};

	(void)state;
	world_open(&w, NULL, NULL);
	digest_of("", 0, empty);
	assert_int_equal(store_put_blob(w.s, empty, 0, give, NULL, &w.e), 0);
	assert_int_equal(store_has_blob(w.s, empty, &w.e), 1);
	for (size_t i = 0; i < 4; i++) {
		size_t len = 3000000 + i;

		digest_of(big, len, d);
		fault(&w, faults[i]);
		if (store_put_blob(w.s, d, len, give, NULL, &e))
			fail_msg("%s: %s", faults[i], e.msg);
		assert_int_equal(store_has_blob(w.s, d, &w.e), 1);
	}
	/* wrong bytes and a source that fails leave nothing behind */
	digest_of("x", 1, d);
	assert_int_equal(store_put_blob(w.s, d, 5000, give, NULL, &w.e), -EBADMSG);
	assert_int_equal(store_put_blob(w.s, d, 5000000, give_up, NULL, &w.e), -ENOSPC);
	assert_int_equal(store_has_blob(w.s, d, &w.e), 0);
	world_close(&w);
}

static void test_nobody_there(void **state)
{
	struct net_options o = {.hosts_dir = "/nonexistent", .timeout_ns = 2 * NS_PER_SEC};
	struct store_manifest m;
	struct err e = {0};
	struct imageref r;
	struct store *s;
	struct net *n;

	(void)state;
	assert_int_equal(net_new(&o, &n, &e), 0);
	/* port 1 of this machine: refused at once */
	assert_int_equal(imageref_parse("docker://127.0.0.1:1/a/b:c", &r, &e), 0);
	assert_int_equal(store_open(n, &r, false, &s, &e), 0);
	assert_int_equal(store_get_manifest(s, "c", &m, &e), -EIO);
	assert_non_null(strstr(e.msg, "127.0.0.1:1/a/b:c"));
	net_warm(n, &r, 4); /* harmless, too */
	store_close(s);
	imageref_done(&r);
	net_free(n);
}

static void test_warm(void **state)
{
	static const char opt[] =
	    "{\"auth\":\"bearer\",\"anonymous_token\":true,\"latency_ms\":50}";
	struct world w;
	struct one o[6];
	struct source *s;
	struct net_stats st;
	uint64_t before;

	(void)state;
	world_open(&w, opt, NULL);
	net_warm(w.n, &w.r, 6);
	do
		net_stats_get(w.n, &st);
	while (st.connections < 6); /* counted when the answers are in */
	before = st.connections;
	s = blob_source(&w);
	for (int i = 0; i < 6; i++)
		one_start(s, &o[i], 1000u * (unsigned)i, 1000, PRIO_DEMAND, 0);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(one_end(&o[i]), 0);
		assert_int_equal(o[i].f.exchanges, 2); /* the challenge is known already */
	}
	net_stats_get(w.n, &st);
	assert_int_equal(st.connections, before);
	source_unref(s);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_healed),
	    cmocka_unit_test(test_resume),
	    cmocka_unit_test(test_refused_answers),
	    cmocka_unit_test(test_burst_of_500),
	    cmocka_unit_test(test_retry_after),
	    cmocka_unit_test(test_timeout),
	    cmocka_unit_test(test_cancel),
	    cmocka_unit_test(test_shutdown),
	    cmocka_unit_test(test_demand_first),
	    cmocka_unit_test(test_basic),
	    cmocka_unit_test(test_bearer),
	    cmocka_unit_test(test_single_flight),
	    cmocka_unit_test(test_expiry),
	    cmocka_unit_test(test_token_faults),
	    cmocka_unit_test(test_redirect),
	    cmocka_unit_test(test_redirect_parallel),
	    cmocka_unit_test(test_redirect_expiry),
	    cmocka_unit_test(test_redirect_faults),
	    cmocka_unit_test(test_manifests),
	    cmocka_unit_test(test_stream),
	    cmocka_unit_test(test_push),
	    cmocka_unit_test(test_push_faults),
	    cmocka_unit_test(test_nobody_there),
	    cmocka_unit_test(test_warm),
	};
	uint64_t seed = 88172645463325252ull;
	int rc;

	for (size_t i = 0; i < sizeof(big); i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		big[i] = (unsigned char)seed;
	}
	memcpy(blob, big + 777, sizeof(blob));
	log_open(LOG_LEVEL_ERROR, 2);
	if (fake_start(&registry, NULL)) {
		printf("skipped: python3 cannot be run\n");
		return 77;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	fake_stop(&registry);
	return rc;
}
