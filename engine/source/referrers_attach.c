/* SPDX-License-Identifier: Apache-2.0 */
/* referrers_attach.c - see referrers.h: storing an artifact, and the list under the fallback tag */
#include "referrers.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base64.h"
#include "cleanup.h"
#include "clock.h"
#include "digest.h"
#include "err.h"
#include "log.h"
#include "oci.h"
#include "store.h"
#include "text.h"

#define LIST_TRIES  6
#define LIST_NAP_NS (50 * NS_PER_MS)
#define LIST_LOOKS  3

/* Writers of this process wait for each other, so that only other machines can get in between. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;

static char *print(const cJSON *j)
{
	char *text = cJSON_PrintUnformatted(j);

	if (!text)
		abort();
	return text;
}

static cJSON *descriptor(const char *type, const char *digest, size_t len)
{
	cJSON *d = cJSON_CreateObject();

	cJSON_AddStringToObject(d, "mediaType", type);
	cJSON_AddStringToObject(d, "digest", digest);
	cJSON_AddNumberToObject(d, "size", (double)len);
	return d;
}

static void add_data(cJSON *d, const void *p, size_t len)
{
	_cleanup_free_ char *text = base64_encode(p, len);

	cJSON_AddStringToObject(d, "data", text);
}

static void add_created(cJSON *o, const char *created)
{
	cJSON *a = cJSON_AddObjectToObject(o, "annotations");

	cJSON_AddStringToObject(a, OCI_ANNOTATION_CREATED, created);
}

/* With milliseconds, so that of two in a row the later one is the newer one. */
static char *now_text(void)
{
	char second[32];
	struct timespec ts;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(second, sizeof(second), "%Y-%m-%dT%H:%M:%S", &tm);
	return text_printf("%s.%03ldZ", second, ts.tv_nsec / 1000000);
}

/* --- the artifact ------------------------------------------------------------------------------
 */

static int from_memory(void *arg, uint64_t off, void *buf, size_t len)
{
	memcpy(buf, (const char *)arg + off, len);
	return 0;
}

static int put_part(struct store *s, const void *p, size_t len, char digest[static 72],
		    struct err *e)
{
	int rc;

	digest_of(p, len, digest);
	rc = store_has_blob(s, digest, e);
	if (rc > 0)
		return 0;
	/* whether it is there may not be told to everybody who may write: then it is sent */
	return store_put_blob(s, digest, len, from_memory, (void *)p, e);
}

static char *make_manifest(const struct store_manifest *subject, const char *type,
			   const char *created, const struct referrer_part *parts,
			   const char (*digests)[72], size_t count, const char *empty_digest)
{
	cJSON *root = cJSON_CreateObject(), *d, *layers;
	size_t rough = 4096;
	char *text;

	for (size_t n = 0; n < count; n++)
		rough += strlen(parts[n].media_type) + 256;
	cJSON_AddNumberToObject(root, "schemaVersion", 2);
	cJSON_AddStringToObject(root, "mediaType", OCI_TYPE_MANIFEST);
	cJSON_AddStringToObject(root, "artifactType", type);
	d = descriptor(OCI_TYPE_EMPTY, empty_digest, 2);
	add_data(d, "{}", 2);
	cJSON_AddItemToObject(root, "config", d);
	layers = cJSON_AddArrayToObject(root, "layers");
	for (size_t n = 0; n < count; n++) {
		d = descriptor(parts[n].media_type, digests[n], parts[n].len);
		if (n == 0 && rough + base64_text_bytes(parts[0].len) <= OCI_MANIFEST_MAX_BYTES)
			add_data(d, parts[0].bytes, parts[0].len);
		cJSON_AddItemToArray(layers, d);
	}
	cJSON_AddItemToObject(root, "subject",
			      descriptor(subject->media_type, subject->digest, subject->len));
	add_created(root, created);
	text = print(root);
	cJSON_Delete(root);
	return text;
}

/* --- the list under the fallback tag -----------------------------------------------------------
 */

struct entry {
	const char *type, *created, *manifest;
	size_t len;
	char digest[72];
	bool keep;
};

static bool is_text(const cJSON *o, const char *key, const char *want)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) && strcmp(v->valuestring, want) == 0;
}

/* Change the list that @root is; what others wrote is not looked into. */
static void replace_entry(cJSON *root, const struct entry *n, bool with_data)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "manifests"), *d, *next;

	for (d = list->child; d; d = next) {
		next = d->next;
		if (is_text(d, "digest", n->digest) ||
		    (!n->keep && is_text(d, "artifactType", n->type)))
			cJSON_Delete(cJSON_DetachItemViaPointer(list, d));
	}
	d = descriptor(OCI_TYPE_MANIFEST, n->digest, n->len);
	cJSON_AddStringToObject(d, "artifactType", n->type);
	add_created(d, n->created);
	if (with_data)
		add_data(d, n->manifest, n->len);
	cJSON_AddItemToArray(list, d);
}

static int read_list(struct store *s, const char *tag, cJSON **ret, struct err *e)
{
	struct store_manifest m = {0};
	enum oci_kind kind;
	int rc = store_get_tag_fresh(s, tag, &m, e);

	if (rc == -ENOENT) {
		*ret = cJSON_CreateObject();
		cJSON_AddNumberToObject(*ret, "schemaVersion", 2);
		cJSON_AddStringToObject(*ret, "mediaType", OCI_TYPE_INDEX);
		cJSON_AddArrayToObject(*ret, "manifests");
		return 0;
	}
	if (rc)
		return rc;
	rc = oci_kind_of(m.bytes, m.len, &kind, e);
	if (!rc && kind != OCI_KIND_INDEX)
		rc = err_set(e, -EBADMSG, "it is no index");
	if (rc) {
		store_manifest_done(&m);
		return err_wrap(e, rc, "tag %s, where referrers are listed", tag);
	}
	*ret = cJSON_ParseWithLength(m.bytes, m.len);
	store_manifest_done(&m);
	if (*ret && cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(*ret, "manifests")))
		return 0;
	cJSON_Delete(*ret);
	return err_set(e, -EBADMSG, "tag %s, where referrers are listed: not an index", tag);
}

static int write_list(struct store *s, const char *tag, cJSON *root, const struct entry *n,
		      struct err *e)
{
	_cleanup_free_ char *text = NULL;
	size_t count;

	replace_entry(root, n, true);
	text = print(root);
	if (strlen(text) > OCI_MANIFEST_MAX_BYTES) {
		free(text);
		replace_entry(root, n, false);
		text = print(root);
	}
	count = (size_t)cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "manifests"));
	if (strlen(text) > OCI_MANIFEST_MAX_BYTES || count > OCI_MAX_MANIFESTS)
		return err_set(e, -ENOSPC,
			       "the list of referrers under tag %s is full: %zu entries, %zu bytes",
			       tag, count, strlen(text));
	return store_put_manifest(s, OCI_TYPE_INDEX, text, strlen(text), tag, e);
}

static void nap(unsigned int times)
{
	uint64_t ns = LIST_NAP_NS * times + clock_now_ns() % LIST_NAP_NS; /* not in step */
	struct timespec ts = {.tv_sec = (time_t)(ns / NS_PER_SEC),
			      .tv_nsec = (long)(ns % NS_PER_SEC)};

	(void)nanosleep(&ts, NULL); /* waking early is fine */
}

/* Somebody who read the list before we wrote it may still write it without us: look again. */
static int is_listed(struct store *s, const char *tag, const struct entry *n, struct err *e)
{
	for (unsigned int look = 0; look < LIST_LOOKS; look++) {
		const cJSON *d;
		cJSON *root;
		bool there = false;
		int rc;

		if (look)
			nap(look);
		rc = read_list(s, tag, &root, e);
		if (rc)
			return rc;
		cJSON_ArrayForEach(d, cJSON_GetObjectItemCaseSensitive(root, "manifests")) there |=
		    is_text(d, "digest", n->digest);
		cJSON_Delete(root);
		if (!there)
			return 0;
	}
	return 1;
}

static int list_entry(struct store *s, const char *subject, const struct entry *n, struct err *e)
{
	char tag[72];

	store_fallback_tag(subject, tag);
	for (unsigned int tries = 1; tries <= LIST_TRIES; tries++) {
		cJSON *root;
		int rc = read_list(s, tag, &root, e);

		if (rc)
			return rc;
		rc = write_list(s, tag, root, n, e);
		cJSON_Delete(root);
		if (rc)
			return err_wrap(e, rc, "list of referrers");
		rc = is_listed(s, tag, n, e);
		if (rc)
			return rc < 0 ? rc : 0;
		log_debug("list of referrers was overwritten by somebody, again tag=%s", tag);
		nap(tries);
	}
	return err_set(e, -EAGAIN, "others keep overwriting the list of referrers (tag %s)", tag);
}

int referrers_attach(struct store *s, const struct store_manifest *subject, const char *type,
		     const struct referrer_part *parts, size_t count, bool keep,
		     char ret_digest[static 72], struct err *e)
{
	_cleanup_free_ char *created = now_text();
	_cleanup_free_ char *text = NULL;
	char digests[REFERRERS_MAX_PARTS][72], empty[72];
	struct entry n = {.type = type, .created = created, .keep = keep};
	bool listed = false;
	int rc;

	if (!count || count > REFERRERS_MAX_PARTS)
		return err_set(e, -EINVAL, "an artifact has 1 to %d parts", REFERRERS_MAX_PARTS);
	rc = put_part(s, "{}", 2, empty, e);
	for (size_t i = 0; !rc && i < count; i++)
		rc = put_part(s, parts[i].bytes, parts[i].len, digests[i], e);
	if (rc)
		return rc;
	text = make_manifest(subject, type, created, parts, digests, count, empty);
	n.manifest = text;
	n.len = strlen(text);
	digest_of(text, n.len, n.digest);
	rc = store_put_referrer(s, text, n.len, &listed, e);
	if (!rc && !listed) {
		pthread_mutex_lock(&list_lock);
		rc = list_entry(s, subject->digest, &n, e);
		pthread_mutex_unlock(&list_lock);
	}
	if (!rc)
		memcpy(ret_digest, n.digest, sizeof(n.digest));
	return rc;
}
