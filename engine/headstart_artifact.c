/* SPDX-License-Identifier: Apache-2.0 */
/* headstart_artifact.c - the public interface: artifacts beside an image */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "acceleration.h"
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

int hs_image_acceleration(struct hs_engine *eng, const char *ref, size_t max_bytes, char **ret,
			  size_t *ret_len, struct err *e)
{
	struct resolve_env env = env_of(eng);

	return acceleration_get(&env, ref, max_bytes, ret, ret_len, e);
}

/* --- while an image is being opened ----------------------------------------------------------- */

#define SEARCH_TIMEOUT_NS (5 * NS_PER_SEC) /* a start that is longer has no use for it */

struct artifact_search {
	struct hs_image *img;
	struct hs_open_options o;
	const char *media; /* of the part that is looked for now */
	char found[72];	   /* manifest of the artifact, once its first part was found; else "" */
	atomic_bool stop;  /* the image is being closed */
	pthread_t thread;
};

/* What the cache calls the artifact that the last search of this kind found, and its parts. */
static char *artifact_name(const struct artifact_search *a)
{
	return text_printf("artifact %s of %s", a->o.artifact_type, a->img->resolved.digest);
}

static char *part_name(const struct artifact_search *a, const char *artifact)
{
	return text_printf("%s of artifact %s", a->media, artifact);
}

/* The name of the artifact last: what it leads to is there. */
static void remember(const struct artifact_search *a, const struct referrer *found)
{
	_cleanup_free_ char *name = artifact_name(a);
	_cleanup_free_ char *part = part_name(a, found->digest);
	struct cache *c = a->img->eng->cache;
	char digest[DIGEST_TEXT_BYTES];

	digest_of(found->bytes, found->len, digest);
	/* best effort: it is asked for again */
	if (!cache_put_object(c, digest, found->bytes, found->len) &&
	    !cache_put_name(c, part, digest))
		(void)cache_put_name(c, name, found->digest);
}

/* The part of artifact @artifact, or of the one that was found the last time (""). */
static int recall(const struct artifact_search *a, const char *artifact, struct referrer *ret)
{
	_cleanup_free_ char *name = artifact_name(a);
	_cleanup_free_ char *part = NULL;
	struct cache *c = a->img->eng->cache;
	char digest[DIGEST_TEXT_BYTES];
	int rc = 0;

	memset(ret, 0, sizeof(*ret));
	if (*artifact)
		snprintf(ret->digest, sizeof(ret->digest), "%s", artifact);
	else
		rc = cache_get_name(c, name, ret->digest);
	if (rc)
		return rc;
	part = part_name(a, ret->digest);
	rc = cache_get_name(c, part, digest);
	return rc ? rc
		  : cache_get_object(c, digest, a->o.artifact_max_bytes, &ret->bytes, &ret->len);
}

/* @ret_fresh: it came from the store, and the cache does not know it yet */
static int search(const struct artifact_search *a, struct referrer *ret, bool *ret_fresh,
		  struct err *e)
{
	const struct resolved *r = &a->img->resolved;
	enum pull pull = r->remote ? a->img->eng->pull : PULL_ALWAYS;
	int rc;

	*ret_fresh = false;
	if (!r->store)
		return err_set(e, -ENOENT, "a config.v1.json has no artifacts");
	/* another part of what was found just now, or what will do */
	if ((a->found[0] || pull != PULL_ALWAYS) && !recall(a, a->found, ret))
		return 0;
	if (pull == PULL_NEVER)
		return err_set(e, -ENOENT, "not in the cache, and --pull=never");
	rc = referrers_find(r->store, r->digest, a->o.artifact_type, a->media,
			    a->o.artifact_max_bytes, SEARCH_TIMEOUT_NS, ret, e);
	*ret_fresh = !rc && r->remote;
	/* what was found the last time is better than nothing */
	if (rc && rc != -ENOENT && rc != -ECANCELED && !recall(a, a->found, ret))
		rc = 0;
	return rc;
}

/* Look for the part @a->media and tell @told. Returns whether it was found and told true. */
static bool search_and_tell(struct artifact_search *a,
			    bool (*told)(void *arg, struct hs_image *img, struct hs_artifact *f,
					 const struct err *why))
{
	struct err e = {0};
	struct referrer found;
	struct hs_artifact artifact = {0};
	bool fresh, more;

	if (search(a, &found, &fresh, &e)) {
		(void)told(a->o.arg, a->img, NULL, &e); /* there is no more */
		return false;
	}
	memcpy(artifact.digest, found.digest, sizeof(artifact.digest));
	memcpy(a->found, found.digest, sizeof(a->found));
	artifact.created = found.created;
	artifact.bytes = found.bytes;
	artifact.len = found.len;
	artifact.was_inline = found.was_inline;
	more = told(a->o.arg, a->img, &artifact, NULL);
	/* behind what a start waits for: this syncs files */
	if (fresh)
		remember(a, &found);
	referrer_done(&found);
	return more;
}

static void *search_main(void *arg)
{
	struct artifact_search *a = arg;

	a->media = a->o.artifact_media;
	if (search_and_tell(a, a->o.artifact) && a->o.more_media && !atomic_load(&a->stop)) {
		a->media = a->o.more_media;
		(void)search_and_tell(a, a->o.more); /* the last one */
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
	rc = quiet_thread(&a->thread, search_main, a);
	if (!rc) {
		img->search = a;
		return;
	}
	err_set(&e, -rc, "cannot start a thread: %s", strerror(rc));
	(void)o->artifact(o->arg, img, NULL, &e); /* there is no more */
	free(a);
}

void artifact_search_end(struct hs_image *img)
{
	struct artifact_search *a = img->search;
	struct timespec until;

	if (!a)
		return;
	atomic_store(&a->stop, true);
	do {
		/* also what it has begun since: a question may lead to another one */
		if (img->resolved.store)
			store_cancel(img->resolved.store);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += (long)(20 * NS_PER_MS);
		until.tv_sec += until.tv_nsec / (long)NS_PER_SEC;
		until.tv_nsec %= (long)NS_PER_SEC;
	} while (pthread_timedjoin_np(a->thread, NULL, &until) == ETIMEDOUT);
	free(steal_ptr(img->search));
}
