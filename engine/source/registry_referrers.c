/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry_referrers.c - asking a registry what refers to a manifest
 *
 * A registry has the referrers API of OCI 1.1, or a client keeps the list under a tag. Nobody says
 * which before it is asked: so both questions go out together, and the answer of the API's address
 * is remembered for as long as the network lives. From then on there is one question.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "hosts_toml.h"
#include "http.h"
#include "list.h"
#include "log.h"
#include "net_impl.h"
#include "oci.h"
#include "store_impl.h"
#include "text.h"

static struct registry *registry_of(struct store *s)
{
	return container_of(s, struct registry, s);
}

/* The registry itself comes last in the list of hosts. */
static struct endpoint *home(const struct registry *g)
{
	return g->origin->ep[g->origin->count - 1];
}

void registry_know_referrers(struct registry *g, bool has_api)
{
	atomic_store(&home(g)->referrers, has_api ? 1 : -1);
}

static char *query_escape(const char *s)
{
	char *out = xmalloc_zero(3, strlen(s) + 1), *p = out;

	for (; *s; s++) {
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/",
			   *s))
			*p++ = *s;
		else
			p += sprintf(p, "%%%02X", (unsigned char)*s); /* fits: three for each */
	}
	return out;
}

static struct http_job *api_job(struct registry *g, const char *subject, const char *type,
				const struct store_ask *ask)
{
	struct http_job *j = registry_manifest_job(g, HTTP_GET, subject, ask);
	char *escaped = query_escape(type);

	free(j->path);
	/* a mirror may not have it, and then its answer says nothing about the registry */
	j->path = text_printf("%s/referrers/%s?artifactType=%s", g->origin->repo, subject, escaped);
	j->need |= HOST_RESOLVE;
	j->accept = OCI_TYPE_INDEX;
	free(escaped);
	return j;
}

static void one_done(struct http_job *j)
{
	sem_post(j->arg);
}

static void take(struct http_job *j, char **ret, size_t *ret_len)
{
	if (j->res)
		return;
	*ret = j->buf;
	*ret_len = j->len;
	j->buf = NULL;
}

/* How an address that is not known is answered. */
static bool is_absent(const struct http_job *j)
{
	return j->status == 400 || j->status == 404 || j->status == 405 || j->status == 501;
}

/* Some servers answer any address with a page; the API answers with an index, or not at all. */
static bool is_index(const struct http_job *j)
{
	enum oci_kind kind;

	return !j->res && oci_kind_of(j->buf, j->len, &kind, NULL) == 0 && kind == OCI_KIND_INDEX;
}

static int no_index(const struct registry *g, struct http_job *j, struct err *e)
{
	http_job_free(j);
	return err_set(e, -EPROTO, "%s: the list of referrers is not an index", g->origin->name);
}

int registry_get_referrers(struct store *s, const char *subject, const char *type,
			   uint64_t timeout_ns, struct store_referrers *ret, struct err *e)
{
	struct registry *g = registry_of(s);
	struct store_ask ask = {.timeout_ns = timeout_ns};
	int known = atomic_load(&home(g)->referrers);
	struct http_job *tag = NULL, *api = NULL;
	char name[72];
	sem_t done;

	store_fallback_tag(subject, name);
	sem_init(&done, 0, 0);
	if (known <= 0)
		tag = registry_manifest_job(g, HTTP_GET, name, &ask);
	if (known >= 0)
		api = api_job(g, subject, type, &ask);
	for (int i = 0; i < 2; i++) {
		struct http_job *j = i ? api : tag;

		if (!j)
			continue;
		j->arg = &done;
		j->done = one_done;
		j->quiet = true; /* there being none is no error */
		http_submit(j);
	}
	for (int n = (tag != NULL) + (api != NULL); n; n--)
		while (sem_wait(&done) && errno == EINTR)
			;
	sem_destroy(&done);

	if (api && is_index(api))
		take(api, &ret->listed, &ret->listed_len);
	if (tag)
		take(tag, &ret->tagged, &ret->tagged_len);
	if (api && !known && api->answered == home(g) && (ret->listed || is_absent(api))) {
		registry_know_referrers(g, ret->listed != NULL);
		log_debug("referrers API %s repo=%s", ret->listed ? "there" : "not there",
			  g->origin->name);
	}
	if (ret->listed || ret->tagged) {
		if (tag)
			http_job_free(tag);
		if (api)
			http_job_free(api);
		return 0;
	}
	/* there is nothing only if both say so; a page that is no index says so, too */
	if (api && tag && tag->status == 404 && api->res && !is_absent(api)) {
		http_job_free(tag);
		return registry_error(api, e);
	}
	if (!tag)
		return api->res ? registry_error(api, e) : no_index(g, api, e);
	if (api)
		http_job_free(api);
	return registry_error(tag, e);
}
