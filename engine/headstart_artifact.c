/* SPDX-License-Identifier: Apache-2.0 */
/* headstart_artifact.c - the public interface: artifacts beside an image */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "cleanup.h"
#include "clock.h"
#include "digest.h"
#include "err.h"
#include "headstart_impl.h"
#include "referrers.h"
#include "store.h"
#include "text.h"

void hs_artifact_done(struct hs_artifact *a)
{
	free(a->created);
	free(a->bytes);
	memset(a, 0, sizeof(*a));
}

static struct resolve_env env_of(struct hs_engine *eng)
{
	return (struct resolve_env){
	    .net = eng->net,
	    .cache = eng->cache,
	    .pull = eng->pull,
	    .platform = eng->platform,
	};
}

int hs_artifact_put(struct hs_engine *eng, const char *ref, const char *type,
		    const struct hs_artifact_part *parts, size_t count, bool keep,
		    char ret_digest[72], struct err *e)
{
	struct resolve_env env = env_of(eng);
	struct referrer_part list[REFERRERS_MAX_PARTS];
	struct store_manifest subject;
	struct store *s;
	int rc;

	if (count > REFERRERS_MAX_PARTS)
		return err_set(e, -EINVAL, "an artifact has 1 to %d parts", REFERRERS_MAX_PARTS);
	rc = resolve_manifest(&env, ref, &s, &subject, e);
	if (rc)
		return rc;
	for (size_t n = 0; n < count; n++)
		list[n] = (struct referrer_part){
		    .media_type = parts[n].media_type,
		    .bytes = parts[n].bytes,
		    .len = parts[n].len,
		};
	rc = referrers_attach(s, &subject, type, list, count, keep, ret_digest, e);
	if (rc)
		err_wrap(e, rc, "%s", ref);
	store_manifest_done(&subject);
	store_close(s);
	return rc;
}

int hs_artifact_get(struct hs_engine *eng, const char *ref, const char *type,
		    const char *media_type, size_t max_bytes, struct hs_artifact *ret,
		    struct err *e)
{
	struct resolve_env env = env_of(eng);
	struct store_manifest subject;
	struct referrer found;
	struct store *s;
	int rc = resolve_manifest(&env, ref, &s, &subject, e);

	if (rc)
		return rc;
	/* artifacts are not kept in the cache */
	if (eng->pull == PULL_NEVER && strncmp(ref, "docker://", strlen("docker://")) == 0)
		rc = err_set(e, -ENOENT, "artifacts are not in the cache, and --pull=never");
	else
		rc = referrers_find(s, subject.digest, type, media_type, max_bytes, 0, &found, e);
	store_manifest_done(&subject);
	store_close(s);
	if (rc)
		return err_wrap(e, rc, "%s", ref);
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->digest, found.digest, sizeof(found.digest));
	ret->created = found.created;
	ret->bytes = found.bytes;
	ret->len = found.len;
	ret->was_inline = found.was_inline;
	return 0;
}

/* --- while an image is being opened ----------------------------------------------------------- */

#define SEARCH_TIMEOUT_NS (5 * NS_PER_SEC) /* a start that is longer has no use for it */

struct artifact_search {
	struct hs_image *img;
	struct hs_open_options o;
	const char *media; /* of the part that is looked for now */
	char found[72];	   /* manifest of the artifact, once its first part was found; else "" */
	pthread_t thread;
};

/* What the cache calls the artifact, and its part, that the last search of this kind found. */
static char *search_name(const struct artifact_search *a, const char *what)
{
	return text_printf("%s %s of %s", what, a->o.artifact_type, a->img->resolved.digest);
}

static void remember(const struct artifact_search *a, const struct referrer *found)
{
	_cleanup_free_ char *name = search_name(a, "artifact");
	_cleanup_free_ char *part = search_name(a, a->media);
	struct cache *c = a->img->eng->cache;
	char digest[DIGEST_TEXT_BYTES];

	digest_of(found->bytes, found->len, digest);
	/* best effort: it is asked for again */
	if (!cache_put_object(c, digest, found->bytes, found->len) &&
	    !cache_put_name(c, part, digest))
		(void)cache_put_name(c, name, found->digest);
}

static int recall(const struct artifact_search *a, struct referrer *ret)
{
	_cleanup_free_ char *name = search_name(a, "artifact");
	_cleanup_free_ char *part = search_name(a, a->media);
	struct cache *c = a->img->eng->cache;
	char digest[DIGEST_TEXT_BYTES];
	int rc = cache_get_name(c, name, ret->digest);

	ret->created = NULL;
	ret->was_inline = false;
	rc = rc ? rc : cache_get_name(c, part, digest);
	return rc ? rc
		  : cache_get_object(c, digest, a->o.artifact_max_bytes, &ret->bytes, &ret->len);
}

static int search(const struct artifact_search *a, struct referrer *ret, struct err *e)
{
	const struct resolved *r = &a->img->resolved;
	enum pull pull = r->remote ? a->img->eng->pull : PULL_ALWAYS;
	int rc;

	if (!r->store)
		return err_set(e, -ENOENT, "a config.v1.json has no artifacts");
	if (pull != PULL_ALWAYS && !recall(a, ret))
		return 0;
	/* another part of what was found just now */
	if (a->found[0] && !recall(a, ret)) {
		if (!strcmp(ret->digest, a->found))
			return 0;
		referrer_done(ret);
	}
	if (pull == PULL_NEVER)
		return err_set(e, -ENOENT, "not in the cache, and --pull=never");
	rc = referrers_find(r->store, r->digest, a->o.artifact_type, a->media,
			    a->o.artifact_max_bytes, SEARCH_TIMEOUT_NS, ret, e);
	if (!rc && r->remote)
		remember(a, ret);
	else if (rc && rc != -ENOENT && !recall(a, ret))
		rc = 0; /* what was found the last time is better than nothing */
	return rc;
}

/* Look for the part @a->media and tell @told. Returns whether it was found. */
static bool search_and_tell(struct artifact_search *a,
			    void (*told)(void *arg, struct hs_image *img, struct hs_artifact *f,
					 const struct err *why))
{
	struct err e = {0};
	struct referrer found;
	struct hs_artifact artifact = {0};

	if (search(a, &found, &e)) {
		told(a->o.arg, a->img, NULL, &e);
		return false;
	}
	memcpy(artifact.digest, found.digest, sizeof(artifact.digest));
	memcpy(a->found, found.digest, sizeof(a->found));
	artifact.created = found.created;
	artifact.bytes = found.bytes;
	artifact.len = found.len;
	artifact.was_inline = found.was_inline;
	told(a->o.arg, a->img, &artifact, NULL);
	hs_artifact_done(&artifact);
	return true;
}

static void *search_main(void *arg)
{
	struct artifact_search *a = arg;

	a->media = a->o.artifact_media;
	if (search_and_tell(a, a->o.artifact) && a->o.more_media) {
		a->media = a->o.more_media;
		(void)search_and_tell(a, a->o.more);
	}
	return NULL;
}

void artifact_search_start(struct hs_image *img, const struct hs_open_options *o)
{
	struct artifact_search *a = xmalloc_zero(1, sizeof(*a));
	struct err e = {0};
	int rc;

	a->img = img;
	a->o = *o;
	rc = pthread_create(&a->thread, NULL, search_main, a);
	if (!rc) {
		img->search = a;
		return;
	}
	err_set(&e, -rc, "cannot start a thread: %s", strerror(rc));
	o->artifact(o->arg, img, NULL, &e);
	free(a);
}

void artifact_search_end(struct hs_image *img)
{
	if (!img->search)
		return;
	pthread_join(img->search->thread, NULL);
	free(steal_ptr(img->search));
}
