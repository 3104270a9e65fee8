/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_referrers.c - artifacts beside an image: registries with and without the referrers API, OCI
 * directories, lists that lie, lists that others write as well, answers that do not come
 */
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base64.h"
#include "clock.h"
#include "digest.h"
#include "err.h"
#include "fake_registry.h"
#include "headstart.h"
#include "imageref.h"
#include "log.h"
#include "net.h"
#include "oci.h"
#include "referrers.h"
#include "store.h"
#include "text.h"

#define TYPE	  "application/vnd.test.list.v1"
#define OTHER	  "application/vnd.test.other+x.v1"
#define HEAD_TYPE "application/vnd.test.head"
#define TAIL_TYPE "application/vnd.test.tail"
#define REPO	  "test/image"
#define MAX_BYTES (16u << 20)

static const char image[] =
    "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":{\"mediaType\":"
    "\"" OCI_TYPE_CONFIG "\",\"digest\":\"sha256:"
    "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},"
    "\"layers\":[]}";

static struct fake registry;
static char dir[] = "/tmp/hs-referrers-XXXXXX";

struct world {
	struct net *n;
	struct store *s;
	struct store_manifest subject;
	struct err e;
};

static void open_subject(struct world *w, const char *name)
{
	struct imageref r;

	assert_int_equal(imageref_parse(name, &r, &w->e), 0);
	assert_int_equal(store_open(w->n, &r, r.kind == IMAGEREF_OCI, &w->s, &w->e), 0);
	imageref_done(&r);
	if (store_put_manifest(w->s, OCI_TYPE_MANIFEST, image, strlen(image), "1", &w->e) ||
	    store_get_manifest(w->s, "1", &w->subject, &w->e))
		fail_msg("%s", w->e.msg);
}

/* A network of its own: nothing is known about the registry yet. */
static void reopen(struct world *w, const char *creds)
{
	struct net_options o = {.hosts_dir = "/nonexistent", .creds = creds};
	struct imageref r;
	char name[64];

	if (w->s)
		store_close(w->s);
	net_free(w->n);
	assert_int_equal(net_new(&o, &w->n, &w->e), 0);
	snprintf(name, sizeof(name), "docker://127.0.0.1:%d/" REPO ":1", registry.port);
	assert_int_equal(imageref_parse(name, &r, &w->e), 0);
	assert_int_equal(store_open(w->n, &r, false, &w->s, &w->e), 0);
	imageref_done(&r);
}

static void world_open(struct world *w, const char *config)
{
	char name[64];

	memset(w, 0, sizeof(*w));
	fake_post(&registry, "/_restart", "");
	setenv("REGISTRY_AUTH_FILE", HS_SOURCE_DIR "/tests/lib/no-auth.json", 1);
	reopen(w, NULL);
	store_close(w->s);
	snprintf(name, sizeof(name), "docker://127.0.0.1:%d/" REPO ":1", registry.port);
	open_subject(w, name);
	if (config)
		fake_post(&registry, "/_config", config);
}

static void world_layout(struct world *w, const char *sub)
{
	char name[128];

	memset(w, 0, sizeof(*w));
	snprintf(name, sizeof(name), "oci:%s/%s:1", dir, sub);
	open_subject(w, name);
}

static void world_close(struct world *w)
{
	store_manifest_done(&w->subject);
	store_close(w->s);
	net_free(w->n);
}

static int attach_parts(struct world *w, const char *type, const void *head, size_t len, bool keep,
			char digest[static 72])
{
	struct referrer_part parts[] = {
	    {HEAD_TYPE, head, len},
	    {TAIL_TYPE, "the tail", strlen("the tail")},
	};

	return referrers_attach(w->s, &w->subject, type, parts, 2, keep, digest, &w->e);
}

static void attach(struct world *w, const char *type, const char *head, bool keep,
		   char digest[static 72])
{
	if (attach_parts(w, type, head, strlen(head), keep, digest))
		fail_msg("%s", w->e.msg);
}

static int find(struct world *w, const char *type, const char *media, struct referrer *r)
{
	w->e = (struct err){0};
	return referrers_find(w->s, w->subject.digest, type, media, MAX_BYTES, 3 * NS_PER_SEC, r,
			      &w->e);
}

static void expect(struct world *w, const char *type, const char *media, const char *text,
		   const char *digest, bool was_inline)
{
	struct referrer r;

	if (find(w, type, media, &r))
		fail_msg("%s", w->e.msg);
	assert_int_equal(r.len, strlen(text));
	assert_string_equal(r.bytes, text);
	assert_string_equal(r.digest, digest);
	assert_int_equal(r.was_inline, was_inline);
	assert_int_equal(strlen(r.created), strlen("2006-01-02T15:04:05.123Z"));
	referrer_done(&r);
}

static char *fallback_list(struct world *w, struct oci_index **ret)
{
	struct store_manifest m;
	char tag[72];

	store_fallback_tag(w->subject.digest, tag);
	assert_int_equal(store_get_manifest(w->s, tag, &m, &w->e), 0);
	if (ret)
		assert_int_equal(oci_index_parse(m.bytes, m.len, ret, &w->e), 0);
	free(m.media_type);
	return m.bytes;
}

/* --- the two kinds of registries, and directories ----------------------------------------------
 */

static void both_parts(struct world *w, bool api)
{
	struct store_manifest m;
	struct referrer r;
	char first[72], second[72], other[72];

	assert_int_equal(find(w, TYPE, HEAD_TYPE, &r), -ENOENT);
	attach(w, TYPE, "head one", false, first);
	expect(w, TYPE, HEAD_TYPE, "head one", first, !api);
	expect(w, TYPE, TAIL_TYPE, "the tail", first, false);
	assert_int_equal(find(w, OTHER, HEAD_TYPE, &r), -ENOENT);
	attach(w, OTHER, "another", false, other);
	attach(w, TYPE, "head two", false, second);
	expect(w, TYPE, HEAD_TYPE, "head two", second, !api);
	expect(w, OTHER, HEAD_TYPE, "another", other, !api);
	assert_int_equal(find(w, TYPE, "no/such", &r), -EBADMSG);
	assert_non_null(strstr(w->e.msg, "no/such"));
	/* the image is what it was */
	assert_int_equal(store_get_manifest(w->s, "1", &m, &w->e), 0);
	assert_string_equal(m.digest, w->subject.digest);
	store_manifest_done(&m);
}

static void test_api(void **state)
{
	struct store_manifest m;
	struct referrer r;
	struct world w;
	char d[72], tag[72];

	(void)state;
	world_open(&w, "{\"referrers\": true}");
	both_parts(&w, true);
	store_fallback_tag(w.subject.digest, tag);
	assert_int_equal(store_get_manifest(w.s, tag, &m, &w.e), -ENOENT);
	/* known by now: list and manifest, no question for the tag */
	fake_post(&registry, "/_reset", "");
	assert_int_equal(find(&w, TYPE, HEAD_TYPE, &r), 0);
	referrer_done(&r);
	assert_int_equal(fake_stat(&registry, "registry_requests"), 2);
	/* not known: one more, at the same time */
	reopen(&w, NULL);
	fake_post(&registry, "/_reset", "");
	attach(&w, TYPE, "three", true, d);
	expect(&w, TYPE, HEAD_TYPE, "three", d, false);
	world_close(&w);
}

static void test_fallback(void **state)
{
	struct oci_index *x;
	struct world w;
	char *json, d[72];

	(void)state;
	world_open(&w, NULL);
	both_parts(&w, false);
	json = fallback_list(&w, &x);
	assert_int_equal(x->manifest_count, 2); /* the first of the type was replaced */
	oci_index_free(x);
	free(json);
	attach(&w, TYPE, "head three", true, d);
	json = fallback_list(&w, &x);
	assert_int_equal(x->manifest_count, 3); /* unless it was to be kept */
	oci_index_free(x);
	free(json);
	expect(&w, TYPE, HEAD_TYPE, "head three", d, true);

	/* one exchange: both questions at first, then only the one that has an answer */
	reopen(&w, NULL);
	fake_post(&registry, "/_reset", "");
	expect(&w, TYPE, HEAD_TYPE, "head three", d, true);
	assert_int_equal(fake_stat(&registry, "registry_requests"), 2);
	fake_post(&registry, "/_reset", "");
	expect(&w, TYPE, HEAD_TYPE, "head three", d, true);
	assert_int_equal(fake_stat(&registry, "registry_requests"), 1);
	world_close(&w);
}

static void test_layout(void **state)
{
	struct store_manifest m;
	struct world w;
	char name[128];
	struct imageref r;

	(void)state;
	world_layout(&w, "plain");
	both_parts(&w, false);
	/* the list is not an image: the directory still has one, which needs no name */
	store_close(w.s);
	snprintf(name, sizeof(name), "oci:%s/plain", dir);
	assert_int_equal(imageref_parse(name, &r, &w.e), 0);
	assert_int_equal(store_open(NULL, &r, false, &w.s, &w.e), 0);
	imageref_done(&r);
	assert_int_equal(store_get_manifest(w.s, NULL, &m, &w.e), 0);
	assert_string_equal(m.digest, w.subject.digest);
	store_manifest_done(&m);
	world_close(&w);
}

/* A registry that got the API later still has the list from before. */
static void test_api_came_later(void **state)
{
	struct world w;
	char d[72];

	(void)state;
	world_open(&w, NULL);
	attach(&w, TYPE, "old", false, d);
	fake_post(&registry, "/_config", "{\"referrers\": true}");
	reopen(&w, NULL);
	expect(&w, TYPE, HEAD_TYPE, "old", d, false);
	world_close(&w);
}

static void test_auth(void **state)
{
	struct referrer r;
	struct world w;
	char d[72];

	(void)state;
	for (int api = 0; api < 2; api++) {
		world_open(&w, api ? "{\"referrers\": true, \"auth\": \"bearer\"}"
				   : "{\"auth\": \"bearer\"}");
		reopen(&w, "user:secret");
		attach(&w, TYPE, "secret", false, d);
		expect(&w, TYPE, HEAD_TYPE, "secret", d, !api);
		reopen(&w, "user:wrong");
		assert_int_equal(find(&w, TYPE, HEAD_TYPE, &r), -EACCES);
		assert_non_null(strstr(w.e.msg, "401"));
		world_close(&w);
	}
}

/* --- lists by others ---------------------------------------------------------------------------
 */

static char *entry(const char *digest, size_t size, const char *created, const char *data)
{
	char *inside = data ? base64_encode(data, strlen(data)) : NULL, *out;

	out = text_printf("{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"%s\",\"size\":%zu,"
			  "\"artifactType\":\"" TYPE "\",\"annotations\":{\"%s\":\"%s\"}%s%s%s}",
			  digest, size, OCI_ANNOTATION_CREATED, created,
			  inside ? ",\"data\":\"" : "", inside ? inside : "", inside ? "\"" : "");
	free(inside);
	return out;
}

static void put_list(struct world *w, const char *a, const char *b, const char *c)
{
	char *json = text_printf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX
				 "\",\"foreign\":[1],\"manifests\":[%s%s%s%s%s]}",
				 a, b ? "," : "", b ? b : "", c ? "," : "", c ? c : "");
	char tag[72];

	store_fallback_tag(w->subject.digest, tag);
	fake_manifest(&registry, REPO, tag, json);
	free(json);
}

static char *artifact(const char *subject, const char *type, const char *text)
{
	char *data = base64_encode(text, strlen(text)), d[72], *out;

	digest_of(text, strlen(text), d);
	out = text_printf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST
			  "\",\"artifactType\":\"%s\",\"config\":{\"mediaType\":\"" OCI_TYPE_EMPTY
			  "\",\"digest\":\"sha256:"
			  "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\","
			  "\"size\":2},\"layers\":[{\"mediaType\":\"" HEAD_TYPE
			  "\",\"digest\":\"%s\",\"size\":%zu,\"data\":\"%s\"}],\"subject\":{"
			  "\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"%s\",\"size\":7},"
			  "\"annotations\":{\"" OCI_ANNOTATION_CREATED
			  "\":\"2024-01-01T00:00:00.000Z\"}}",
			  type, d, strlen(text), data, subject);
	free(data);
	return out;
}

static void test_foreign_kept(void **state)
{
	static const char sha512[] =
	    "{\"mediaType\":\"x/y\",\"digest\":\"sha512:00\",\"size\":1,\"artifactType\":\"z\","
	    "\"mine\":{\"a\":[true]}}";
	struct world w;
	char d[72], *json, *one, *m;

	(void)state;
	world_open(&w, NULL);
	m = artifact(w.subject.digest, TYPE, "one");
	digest_of(m, strlen(m), d);
	one = entry(d, strlen(m), "2024-01-01T00:00:00Z", m);
	put_list(&w, sha512, one, NULL);
	/* what is not understood does not hide what is */
	expect(&w, TYPE, HEAD_TYPE, "one", d, true);
	attach(&w, TYPE, "two", true, d);
	json = fallback_list(&w, NULL);
	assert_non_null(strstr(json, sha512));
	assert_non_null(strstr(json, one));
	assert_non_null(strstr(json, "\"foreign\":[1]"));
	free(json);
	expect(&w, TYPE, HEAD_TYPE, "two", d, true);
	attach(&w, TYPE, "three", false, d);
	json = fallback_list(&w, NULL);
	assert_non_null(strstr(json, sha512));
	assert_null(strstr(json, one));
	free(json);
	free(one);
	free(m);
	world_close(&w);
}

/* Inline content with another digest than its descriptor's is not used: what it names is fetched.
 */
static void test_inline_lies(void **state)
{
	struct referrer r;
	struct world w;
	char d[72], *good, *lie, *one;

	(void)state;
	world_open(&w, NULL);
	good = artifact(w.subject.digest, TYPE, "good");
	lie = artifact(w.subject.digest, TYPE, "evil");
	assert_int_equal(strlen(good), strlen(lie));
	digest_of(good, strlen(good), d);
	fake_manifest(&registry, REPO, d, good);
	one = entry(d, strlen(good), "2024-01-01T00:00:00Z", lie);
	put_list(&w, one, NULL, NULL);
	expect(&w, TYPE, HEAD_TYPE, "good", d, false);
	/* and what is fetched is checked as well */
	fake_manifest(&registry, REPO, d, lie);
	assert_int_equal(find(&w, TYPE, HEAD_TYPE, &r), -EBADMSG);
	free(one);
	free(lie);
	free(good);
	world_close(&w);
}

static void test_newest(void **state)
{
	static const char *const times[][3] = {
	    /* the newest is where "b" is */
	    {"2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", "2023-12-31T23:59:59Z"},
	    {"2024-01-01T00:00:00Z", "2024-01-01T00:00:00.5Z", "2024-01-01T00:00:00.25Z"},
	    {"2024-01-01T00:00:00Z", "2024-01-01T00:00:00.001Z", ""},
	    {"", "2024-01-01T00:00:00Z", "nonsense before 2"},
	};
	char *m[3], *en[3], d[3][72];
	struct world w;

	(void)state;
	world_open(&w, NULL);
	for (int n = 0; n < 3; n++) {
		char text[2] = {(char)('a' + n), 0};

		m[n] = artifact(w.subject.digest, TYPE, text);
		digest_of(m[n], strlen(m[n]), d[n]);
	}
	for (size_t i = 0; i < 3; i++) {
		for (int n = 0; n < 3; n++)
			en[n] = entry(d[n], strlen(m[n]), times[i][n], m[n]);
		put_list(&w, en[0], en[1], en[2]);
		expect(&w, TYPE, HEAD_TYPE, "b", d[1], true);
		for (int n = 0; n < 3; n++)
			free(en[n]);
	}
	for (int n = 0; n < 3; n++)
		free(m[n]);
	world_close(&w);
}

/* One that is gone, one for another image, one of another type: the next older one is taken. */
static void test_bad_ones_passed_over(void **state)
{
	char *m[2], *en[3], d[2][72], gone[72];
	struct referrer r;
	struct world w;

	(void)state;
	digest_of("gone", 4, gone);
	world_open(&w, NULL);
	m[0] = artifact(w.subject.digest, TYPE, "right");
	m[1] = artifact(gone, TYPE, "for another image");
	for (int n = 0; n < 2; n++)
		digest_of(m[n], strlen(m[n]), d[n]);
	en[0] = entry(d[0], strlen(m[0]), "2024-01-01T00:00:00Z", m[0]);
	en[1] = entry(d[1], strlen(m[1]), "2024-01-02T00:00:00Z", m[1]);
	en[2] = entry(gone, 4, "2024-01-03T00:00:00Z", NULL);
	put_list(&w, en[0], en[1], en[2]);
	expect(&w, TYPE, HEAD_TYPE, "right", d[0], true);
	put_list(&w, en[1], NULL, NULL);
	assert_int_equal(find(&w, TYPE, HEAD_TYPE, &r), -EBADMSG);
	assert_non_null(strstr(w.e.msg, "another image"));
	put_list(&w, en[2], NULL, NULL);
	assert_int_equal(find(&w, TYPE, HEAD_TYPE, &r), -EBADMSG);
	for (int n = 0; n < 3; n++)
		free(en[n]);
	free(m[0]);
	m[0] = artifact(w.subject.digest, OTHER, "wrong type");
	digest_of(m[0], strlen(m[0]), d[0]);
	en[0] = entry(d[0], strlen(m[0]), "", m[0]);
	put_list(&w, en[0], NULL, NULL);
	assert_int_equal(find(&w, TYPE, HEAD_TYPE, &r), -EBADMSG);
	assert_non_null(strstr(w.e.msg, "another type"));
	free(en[0]);
	free(m[0]);
	free(m[1]);
	world_close(&w);
}

static void test_not_a_list(void **state)
{
	struct referrer r;
	struct world w;
	char tag[72], d[72];

	(void)state;
	world_open(&w, NULL);
	store_fallback_tag(w.subject.digest, tag);
	fake_manifest(&registry, REPO, tag, image);
	assert_int_equal(find(&w, TYPE, HEAD_TYPE, &r), -EBADMSG);
	/* somebody's image is not overwritten */
	assert_int_equal(attach_parts(&w, TYPE, "x", 1, false, d), -EBADMSG);
	fake_manifest(&registry, REPO, tag, "{\"schemaVersion\":2,\"manifests\":[7,{},null]}");
	assert_int_equal(find(&w, TYPE, HEAD_TYPE, &r), -ENOENT);
	world_close(&w);
}

/* --- sizes -------------------------------------------------------------------------------------
 */

static void test_large(void **state)
{
	/* inline twice; inline in the artifact only; not inline at all */
	static const size_t sizes[] = {2000000, 3000000, 5000000};
	char *text = malloc(sizes[2] + 1), d[72];
	struct referrer r;
	struct world w;

	(void)state;
	for (int api = 0; api < 2; api++) {
		world_open(&w, api ? "{\"referrers\": true}" : NULL);
		for (size_t i = 0; i < 3; i++) {
			memset(text, 'a' + (int)i, sizes[i]);
			text[sizes[i]] = '\0';
			if (attach_parts(&w, TYPE, text, sizes[i], false, d))
				fail_msg("%s", w.e.msg);
			/* whether there is the API is known from then on */
			expect(&w, TYPE, HEAD_TYPE, text, d, !api && i == 0);
			fake_post(&registry, "/_reset", "");
			expect(&w, TYPE, HEAD_TYPE, text, d, !api && i == 0);
			if (!api)
				assert_int_equal(fake_stat(&registry, "registry_requests"),
						 i ? 2 : 1);
		}
		/* older ones are still listed by the API */
		if (!api)
			assert_int_equal(referrers_find(w.s, w.subject.digest, TYPE, HEAD_TYPE,
							sizes[2] - 1, 0, &r, &w.e),
					 -EFBIG);
		world_close(&w);
	}
	free(text);
}

static void test_list_full(void **state)
{
	size_t room = 4u << 20;
	char *filler = malloc(room), d[72], *big, *json;
	struct world w;

	(void)state;
	/* room for an entry, not for its inline content */
	world_open(&w, NULL);
	memset(filler, 'f', room);
	filler[room - 1200] = '\0';
	big = text_printf("{\"note\":\"%s\"}", filler);
	put_list(&w, big, NULL, NULL);
	attach(&w, TYPE, "little text", false, d);
	expect(&w, TYPE, HEAD_TYPE, "little text", d, false);
	json = fallback_list(&w, NULL);
	assert_non_null(strstr(json, "\"note\":\"fff"));
	free(json);
	free(big);
	/* none for that either */
	memset(filler, 'f', room);
	filler[room - 200] = '\0';
	big = text_printf("{\"note\":\"%s\"}", filler);
	put_list(&w, big, NULL, NULL);
	assert_int_equal(attach_parts(&w, TYPE, "x", 1, false, d), -ENOSPC);
	assert_non_null(strstr(w.e.msg, "full"));
	free(big);
	free(filler);
	world_close(&w);
}

/* --- answers that are errors, or do not come ---------------------------------------------------
 */

static void test_faults(void **state)
{
	static const struct {
		const char *fault;
		int rc;
	} faults[] = {
	    {"[{\"kind\":\"status\",\"code\":404,\"count\":9}]", -ENOENT},
	    {"[{\"kind\":\"status\",\"code\":403,\"count\":9}]", -EACCES},
	    {"[{\"kind\":\"status\",\"code\":500,\"count\":9}]", -EIO},
	    {"[{\"kind\":\"status\",\"code\":200,\"count\":9,\"body\":\"<html>\"}]", -EBADMSG},
	    {"[{\"kind\":\"garbage\",\"count\":9}]", -EPROTO},
	    {"[{\"kind\":\"slow\",\"count\":9,\"delay_ms\":5000}]", -ETIMEDOUT},
	    {"[{\"kind\":\"huge\",\"count\":9}]", -EPROTO},
	};
	struct referrer r;
	struct world w;
	char d[72];

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		uint64_t start;

		world_open(&w, "{\"referrers\": false}");
		attach(&w, TYPE, "text", false, d);
		reopen(&w, NULL);
		fake_post(&registry, "/_fault", faults[i].fault);
		start = clock_now_ns();
		w.e = (struct err){0};
		assert_int_equal(referrers_find(w.s, w.subject.digest, TYPE, HEAD_TYPE, MAX_BYTES,
						NS_PER_SEC, &r, &w.e),
				 faults[i].rc);
		assert_true(w.e.msg[0]);
		assert_true(clock_now_ns() - start < 4 * NS_PER_SEC);
		world_close(&w);
	}
}

/* The API fails, the list under the tag is there: it does. */
static void test_api_fails(void **state)
{
	struct world w;
	char d[72];

	(void)state;
	world_open(&w, NULL);
	attach(&w, TYPE, "text", false, d);
	reopen(&w, NULL);
	fake_post(&registry, "/_fault",
		  "[{\"match\":\"/referrers/\",\"kind\":\"status\",\"code\":500,\"count\":99}]");
	expect(&w, TYPE, HEAD_TYPE, "text", d, true);
	/* nothing was learned from that: the API is asked again */
	fake_post(&registry, "/_reset", "");
	expect(&w, TYPE, HEAD_TYPE, "text", d, true);
	assert_int_equal(fake_stat(&registry, "registry_requests"), 2);
	world_close(&w);
}

/* --- several writers ---------------------------------------------------------------------------
 */

struct writer {
	pthread_t thread;
	struct world w;
	const char *type;
	char digest[72];
	int rc;
};

static void *write_one(void *arg)
{
	struct writer *x = arg;

	x->rc = attach_parts(&x->w, x->type, x->type, strlen(x->type), false, x->digest);
	return NULL;
}

static void concurrent(struct world *w)
{
	static const char *const types[] = {TYPE, OTHER, "application/vnd.test.third"};
	struct writer x[3];
	struct oci_index *index;
	char *json;

	for (int n = 0; n < 3; n++) {
		x[n] = (struct writer){.w = *w, .type = types[n]};
		assert_int_equal(pthread_create(&x[n].thread, NULL, write_one, &x[n]), 0);
	}
	for (int n = 0; n < 3; n++) {
		pthread_join(x[n].thread, NULL);
		if (x[n].rc)
			fail_msg("%s", x[n].w.e.msg);
	}
	for (int n = 0; n < 3; n++)
		expect(w, types[n], HEAD_TYPE, types[n], x[n].digest, true);
	json = fallback_list(w, &index);
	assert_int_equal(index->manifest_count, 3);
	oci_index_free(index);
	free(json);
}

static void test_concurrent(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, NULL);
	concurrent(&w);
	world_close(&w);
	world_layout(&w, "many");
	concurrent(&w);
	world_close(&w);
}

struct vandal {
	pthread_t thread;
	char tag[72];
	int times;
};

/* Another machine that read the list before and writes it once our entry was seen in it. */
static void *overwrite(void *arg)
{
	struct vandal *v = arg;
	long seen = 0;

	while (v->times) {
		long puts = fake_stat(&registry, "manifests_put");

		if (puts > seen && puts >= 2) {
			fake_manifest(&registry, REPO, v->tag,
				      "{\"schemaVersion\":2,\"manifests\":[]}");
			v->times--;
		}
		seen = puts;
	}
	return NULL;
}

static void test_overwritten(void **state)
{
	struct vandal v = {.times = 1};
	struct world w;
	char d[72];

	(void)state;
	world_open(&w, NULL);
	store_fallback_tag(w.subject.digest, v.tag);
	fake_post(&registry, "/_reset", "");
	assert_int_equal(pthread_create(&v.thread, NULL, overwrite, &v), 0);
	attach(&w, TYPE, "text", false, d);
	pthread_join(v.thread, NULL);
	expect(&w, TYPE, HEAD_TYPE, "text", d, true);
	/* the artifact, the list, and the list again */
	assert_int_equal(fake_stat(&registry, "manifests_put"), 3);
	world_close(&w);
}

/* --- the public interface ----------------------------------------------------------------------
 */

static void test_public(void **state)
{
	struct hs_options o = {.hosts_dir = "/nonexistent"};
	struct hs_artifact_part part = {HEAD_TYPE, "public", 6};
	struct hs_engine *eng;
	struct hs_artifact a;
	struct world w;
	struct err e = {0};
	char name[128], d[72];

	(void)state;
	assert_int_equal(hs_engine_new(&o, &eng, &e), 0);
	world_layout(&w, "public");
	snprintf(name, sizeof(name), "oci:%s/public:1", dir);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(hs_artifact_get(eng, name, TYPE, HEAD_TYPE, MAX_BYTES, &a, &e),
				 -ENOENT);
		if (hs_artifact_put(eng, name, TYPE, &part, 1, false, d, &e) ||
		    hs_artifact_get(eng, name, TYPE, HEAD_TYPE, MAX_BYTES, &a, &e))
			fail_msg("%s", e.msg);
		assert_string_equal(a.bytes, "public");
		assert_string_equal(a.digest, d);
		assert_true(a.was_inline);
		hs_artifact_done(&a);
		world_close(&w);
		world_open(&w, NULL);
		snprintf(name, sizeof(name), "docker://127.0.0.1:%d/" REPO ":1", registry.port);
	}
	world_close(&w);
	assert_int_equal(
	    hs_artifact_get(eng, "/no/such/config.v1.json", TYPE, HEAD_TYPE, 1, &a, &e),
	    -EOPNOTSUPP);
	hs_engine_free(eng);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_api),
	    cmocka_unit_test(test_fallback),
	    cmocka_unit_test(test_layout),
	    cmocka_unit_test(test_api_came_later),
	    cmocka_unit_test(test_auth),
	    cmocka_unit_test(test_foreign_kept),
	    cmocka_unit_test(test_inline_lies),
	    cmocka_unit_test(test_newest),
	    cmocka_unit_test(test_bad_ones_passed_over),
	    cmocka_unit_test(test_not_a_list),
	    cmocka_unit_test(test_large),
	    cmocka_unit_test(test_list_full),
	    cmocka_unit_test(test_faults),
	    cmocka_unit_test(test_api_fails),
	    cmocka_unit_test(test_concurrent),
	    cmocka_unit_test(test_overwritten),
	    cmocka_unit_test(test_public),
	};
	int rc;

	log_open(LOG_LEVEL_ERROR, 2);
	if (fake_start(&registry, NULL)) {
		printf("skipped: python3 cannot be run\n");
		return 77;
	}
	if (!mkdtemp(dir))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	fake_stop(&registry);
	(void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS); /* the next run has its own */
	return rc;
}
