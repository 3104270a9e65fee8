/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry_push.c - uploads, mounts, manifests and tag lists of a registry
 *
 * A blob goes up in one streamed PUT; where a registry refuses that, in PATCHed pieces. A failed
 * attempt starts a new upload from 0, so nothing half-sent is ever completed.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "digest.h"
#include "err.h"
#include "hosts_toml.h"
#include "http.h"
#include "list.h"
#include "log.h"
#include "net_impl.h"
#include "oci.h"
#include "range.h"
#include "store_impl.h"
#include "text.h"
#include "upload.h"

#define PUSH_TRIES     4
#define RING_BYTES     (2u << 20)
#define CHUNK_BYTES    (8u << 20)
#define UPLOAD_TIME_NS (600 * NS_PER_SEC)
#define UPLOAD_RATE    (64u << 10) /* bytes per second that are surely reached */
#define TAGS_MAX_BYTES (4u << 20)
#define TAGS_PAGE      1000
#define TAGS_MAX_PAGES 1000

static struct registry *registry_of(struct store *s)
{
	return container_of(s, struct registry, s);
}

/* --- addresses of uploads ----------------------------------------------------------------------
 */

/* Location as given, made absolute; it may be relative and carry a query. */
static char *absolute(const struct http_job *j)
{
	CURLU *u = curl_url();
	char *text = NULL, *copy = NULL;

	if (!u)
		abort();
	if (j->final_url && j->h_location &&
	    curl_url_set(u, CURLUPART_URL, j->final_url, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, j->h_location, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK)
		copy = text_dup(text);
	curl_free(text);
	curl_url_cleanup(u);
	return copy;
}

static char *with_digest(const char *url, const char *digest)
{
	return text_printf("%s%sdigest=%s", url, strchr(url, '?') ? "&" : "?", digest);
}

struct attempt {
	struct registry *g;
	const char *digest;
	uint64_t bytes;
	int (*source)(void *arg, uint64_t off, void *buf, size_t len);
	void *arg;
	struct upload *up;
	bool refused; /* a monolithic PUT is not taken here */
	bool again;   /* worth another attempt */
};

static uint64_t upload_time_ns(uint64_t bytes)
{
	return UPLOAD_TIME_NS + bytes / UPLOAD_RATE * NS_PER_SEC;
}

/* Report and free @j; whether a new attempt may help is left in @a. */
static int attempt_failed(struct attempt *a, struct http_job *j, struct err *e)
{
	long st = j->status;

	a->again = j->res == -EIO || j->res == -ETIMEDOUT || st == 401 || st == 404 || st == 408 ||
		   st == 416 || st == 429 || st >= 500;
	return registry_error(j, e);
}

/* POST uploads/, or with a mount; @ret_url: where the upload goes on, NULL when mounted. */
static int begin(struct attempt *a, const char *from, char **ret_url, struct endpoint **ret_ep,
		 const char *scope, struct err *e)
{
	struct registry *g = a->g;
	struct http_job *j;
	char *url;

	j = registry_job(g, HTTP_POST, HOST_PULL | HOST_PUSH,
			 from ? text_printf("%s/blobs/uploads/?mount=%s&from=%s", g->origin->repo,
					    a->digest, from)
			      : text_printf("%s/blobs/uploads/", g->origin->repo));
	j->max_body = HTTP_ERROR_BYTES;
	if (scope)
		j->scope = scope;
	if (http_run(j))
		return attempt_failed(a, j, e);
	*ret_ep = j->answered;
	if (from && j->status == 201) {
		http_job_free(j);
		*ret_url = NULL;
		return 0;
	}
	url = absolute(j);
	if (j->status != 202 || !url) {
		free(url);
		err_set(e, -EPROTO, "%s: upload was not begun (HTTP %ld)", g->origin->name,
			j->status);
		http_job_free(j);
		return -EPROTO;
	}
	http_job_free(j);
	*ret_url = url;
	return 0;
}

static struct http_job *upload_job(struct attempt *a, enum http_method method, char *url,
				   struct endpoint *ep)
{
	struct http_job *j = registry_job(a->g, (int)method, HOST_PULL | HOST_PUSH, NULL);

	j->url = url;
	j->pin_ep = ep;
	j->max_tries = 1;
	j->max_body = HTTP_ERROR_BYTES;
	return j;
}

/* Best effort: a registry forgets abandoned uploads by itself some day. */
static void abandon(struct attempt *a, const char *url, struct endpoint *ep)
{
	struct http_job *j = upload_job(a, HTTP_DELETE, text_dup(url), ep);

	j->timeout_ns = 5 * NS_PER_SEC;
	j->any_status = true;
	j->quiet = true;
	(void)http_run(j);
	http_job_free(j);
}

static int put_whole(struct attempt *a, const char *url, struct endpoint *ep, struct err *e)
{
	struct http_job *j = upload_job(a, HTTP_PUT, with_digest(url, a->digest), ep);
	int rc;

	j->body_total = a->bytes;
	j->timeout_ns = upload_time_ns(a->bytes);
	rc = a->bytes ? upload_run(a->up, j, 0, a->source, a->arg) : http_run(j);
	if (rc == 0 && j->status == 201) {
		http_job_free(j);
		return 0;
	}
	a->refused = j->status == 405 || j->status == 411 || j->status == 413 || j->status == 501;
	if (rc && j->res == -ECANCELED) {
		http_job_free(j);
		return err_set(e, rc, "%s: the data for blob %.19s... could not be made",
			       a->g->origin->name, a->digest);
	}
	if (j->status == 400 && j->error_len && strstr(j->error_body, "DIGEST_INVALID"))
		err_set(e, rc = -EBADMSG, "%s: data for blob %.19s... does not have that digest",
			a->g->origin->name, a->digest);
	else
		return attempt_failed(a, j, e);
	http_job_free(j);
	return rc;
}

static int put_chunks(struct attempt *a, char **url, struct endpoint *ep, struct err *e)
{
	uint64_t off = 0;

	while (off < a->bytes) {
		uint64_t len = min_u64(a->bytes - off, CHUNK_BYTES);
		char range[96], *next;
		struct http_job *j = upload_job(a, HTTP_PATCH, text_dup(*url), ep);
		int rc;

		(void)snprintf(range, sizeof(range), "Content-Range: %llu-%llu",
			       (unsigned long long)off, (unsigned long long)(off + len - 1));
		j->extra = range;
		j->body_total = len;
		j->timeout_ns = upload_time_ns(len);
		rc = upload_run(a->up, j, off, a->source, a->arg);
		if (rc || (j->status != 202 && j->status != 204))
			return attempt_failed(a, j, e);
		next = absolute(j);
		http_job_free(j);
		if (next) {
			free(*url);
			*url = next;
		}
		off += len;
	}
	{
		struct http_job *j = upload_job(a, HTTP_PUT, with_digest(*url, a->digest), ep);

		j->timeout_ns = UPLOAD_TIME_NS;
		if (http_run(j) || j->status != 201)
			return attempt_failed(a, j, e);
		http_job_free(j);
	}
	return 0;
}

static void pause_between(struct net *n, int tries)
{
	uint64_t ns = (200 * NS_PER_MS << tries) / 2;
	struct timespec ts;

	(void)n;
	ts.tv_sec = (time_t)(ns / NS_PER_SEC);
	ts.tv_nsec = (long)(ns % NS_PER_SEC);
	nanosleep(&ts, NULL);
}

int registry_put_blob(struct store *s, const char *digest, uint64_t bytes,
		      int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
		      struct err *e)
{
	struct registry *g = registry_of(s);
	struct attempt a = {.g = g, .digest = digest, .bytes = bytes, .source = source, .arg = arg};
	bool chunked = false;
	int rc = 0;

	a.up = upload_new(g->net, bytes < RING_BYTES ? (size_t)bytes + 1 : RING_BYTES);
	for (int tries = 0; tries < PUSH_TRIES; tries++) {
		struct endpoint *ep = NULL;
		char *url = NULL;

		if (tries) {
			net_count(&g->net->retries, 1);
			pause_between(g->net, tries);
		}
		a.again = a.refused = false;
		rc = begin(&a, NULL, &url, &ep, NULL, e);
		if (rc)
			break; /* http.c has retried what could be retried */
		rc = chunked ? put_chunks(&a, &url, ep, e) : put_whole(&a, url, ep, e);
		if (rc)
			abandon(&a, url, ep);
		free(url);
		if (!rc)
			break;
		if (a.refused && !chunked) {
			log_debug("registry takes no whole blobs, sending pieces repo=%s",
				  g->origin->name);
			chunked = true;
			continue;
		}
		if (!a.again)
			break;
	}
	upload_free(a.up);
	return rc;
}

int registry_mount(struct store *s, const char *digest, const char *from, struct err *e)
{
	struct registry *g = registry_of(s);
	struct attempt a = {.g = g, .digest = digest};
	struct endpoint *ep = NULL;
	char *url = NULL, *scope;
	int rc;

	if (!*from || strspn(from, "abcdefghijklmnopqrstuvwxyz0123456789._/-") != strlen(from))
		return err_set(e, -EINVAL, "%s: bad repository to mount from", g->origin->name);
	/* the token must cover both; a registry with Basic or none does not care */
	scope = text_printf("%s repository:%s:pull", g->origin->scope_push, from);
	rc = begin(&a, from, &url, &ep, scope, e);
	free(scope);
	if (rc == -EACCES)
		return 0; /* not ours to mount from */
	if (rc)
		return rc;
	if (!url)
		return 1;
	abandon(&a, url, ep);
	free(url);
	return 0;
}

int registry_put_manifest(struct store *s, const char *media_type, const void *bytes, size_t len,
			  const char *digest, const char *tag, bool *ret_listed, struct err *e)
{
	struct registry *g = registry_of(s);
	const char *ref = tag ? tag : digest;
	struct http_job *j;

	if (!*ref || strspn(ref, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				 "0123456789._-:") != strlen(ref))
		return err_set(e, -EINVAL, "%s: bad tag", g->origin->name);
	j = registry_job(g, HTTP_PUT, HOST_PULL | HOST_PUSH,
			 text_printf("%s/manifests/%s", g->origin->repo, ref));
	j->content_type = media_type;
	j->body = bytes;
	j->body_len = len;
	j->max_body = HTTP_ERROR_BYTES;
	if (http_run(j))
		return registry_error(j, e);
	if (j->h_digest && digest_valid(j->h_digest) && strcmp(j->h_digest, digest) != 0) {
		err_set(e, -EPROTO, "%s: registry stored the manifest under another digest",
			g->origin->name);
		http_job_free(j);
		return -EPROTO;
	}
	*ret_listed = j->h_subject != NULL;
	if (*ret_listed)
		registry_know_referrers(g, true);
	http_job_free(j);
	return 0;
}

/* --- tags --------------------------------------------------------------------------------------
 */

/* The path behind "/v2/" of Link: <...>; rel="next", or NULL. */
static char *next_page(const struct http_job *j, const char *repo)
{
	const char *open = j->h_link ? strchr(j->h_link, '<') : NULL;
	const char *close = open ? strchr(open, '>') : NULL;
	char *want, *link, *at, *path = NULL;

	if (!close || !strstr(close, "next"))
		return NULL;
	link = text_printf("%.*s", (int)(close - open - 1), open + 1);
	want = text_printf("/%s/tags/list", repo);
	at = strstr(link, want);
	if (at)
		path = text_dup(at + 1);
	free(want);
	free(link);
	return path;
}

static int add_page(const struct http_job *j, char ***tags, size_t *count, size_t *cap, size_t max)
{
	cJSON *root = cJSON_ParseWithLength(j->buf, j->len);
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "tags");

	if (!cJSON_IsObject(root) || (list && !cJSON_IsArray(list) && !cJSON_IsNull(list))) {
		cJSON_Delete(root);
		return -EPROTO;
	}
	for (const cJSON *x = list ? list->child : NULL; x && *count < max; x = x->next) {
		if (!cJSON_IsString(x))
			continue;
		if (*count == *cap) {
			char **more = store_tags_new(*cap * 2 + 64);

			memcpy(more, *tags, *count * sizeof(char *));
			free(*tags);
			*tags = more;
			*cap = *cap * 2 + 64;
		}
		(*tags)[(*count)++] = text_dup(x->valuestring);
	}
	cJSON_Delete(root);
	return 0;
}

int registry_list_tags(struct store *s, size_t max, char ***ret, struct err *e)
{
	struct registry *g = registry_of(s);
	char *path = text_printf("%s/tags/list?n=%d", g->origin->repo, TAGS_PAGE);
	char **tags = store_tags_new(0);
	size_t count = 0, cap = 0;
	int rc = 0;

	for (int page = 0; path && !rc && count < max && page < TAGS_MAX_PAGES; page++) {
		struct http_job *j = registry_job(g, HTTP_GET, HOST_PULL, path);

		path = NULL;
		j->max_body = TAGS_MAX_BYTES;
		if (http_run(j)) {
			rc = registry_error(j, e);
			break;
		}
		rc = add_page(j, &tags, &count, &cap, max);
		if (rc)
			err_set(e, rc, "%s: malformed list of tags", g->origin->name);
		path = next_page(j, g->origin->repo);
		http_job_free(j);
	}
	free(path);
	if (rc) {
		for (size_t i = 0; i < count; i++)
			free(tags[i]);
		free(tags);
		return rc;
	}
	*ret = tags;
	return 0;
}
