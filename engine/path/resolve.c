/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.c - see resolve.h: images in registries, directories and archives */
#include "resolve.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blob.h"
#include "cache.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "imageref.h"
#include "layout_note.h"
#include "log.h"
#include "lsmt.h"
#include "net.h"
#include "resolve_local.h"
#include "source.h"
#include "store.h"
#include "text.h"
#include "turbo.h"

#define TURBO_THREADS 31u /* as many requests at a time as the network makes to one host */
#define WARM_CONNS    8u

static void specs_done(struct resolved *r)
{
	for (size_t n = 0; n < r->count; n++) {
		struct layer_spec *s = &r->specs[n];
		bool seen = false;

		free(s->gzip_index);
		if (r->blobs_taken)
			continue;
		/* The same blob may stand for several layers. */
		for (size_t m = 0; m < n; m++)
			seen |= r->specs[m].blob == s->blob;
		if (!seen)
			blob_free(s->blob);
		blob_free(s->target);
		blob_free(s->rw_index);
	}
	free(r->specs);
}

void resolved_done(struct resolved *r)
{
	specs_done(r);
	store_close(r->store);
	free(r->config_digest);
	free(r->config);
	memset(r, 0, sizeof(*r));
}

/* Whether the store may be asked; what lies on this machine always may. */
static int may_ask(const struct resolve_env *env, const struct resolved *r, const char *what,
		   const char *digest, struct err *e)
{
	if (env->pull != PULL_NEVER || !r->remote)
		return 0;
	return err_set(e, -ENOENT, "%s %s is not in the cache, and --pull=never", what, digest);
}

static int fetch_manifest(const struct resolve_env *env, struct resolved *r,
			  const struct imageref *name, const char *ref, struct store_manifest *ret,
			  struct err *e)
{
	int rc;

	if (r->remote && !r->warmed)
		net_warm(env->net, name, WARM_CONNS);
	r->warmed = true;
	rc = store_get_manifest(r->store, ref, ret, e);
	if (!rc && env->cache && cache_put_object(env->cache, ret->digest, ret->bytes, ret->len))
		log_debug("manifest not cached: digest=%s", ret->digest);
	return rc;
}

/* A manifest by digest: cache first. */
static int manifest_by_digest(const struct resolve_env *env, struct resolved *r,
			      const struct imageref *name, const char *digest,
			      struct store_manifest *ret, struct err *e)
{
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (env->cache &&
	    !cache_get_object(env->cache, digest, OCI_MANIFEST_MAX_BYTES, &ret->bytes, &ret->len)) {
		strcpy(ret->digest, digest);
		return 0;
	}
	rc = may_ask(env, r, "manifest", digest, e);
	return rc ? rc : fetch_manifest(env, r, name, digest, ret, e);
}

/* A manifest by tag: ask what the tag means unless an older answer will do. */
static int manifest_by_tag(const struct resolve_env *env, struct resolved *r,
			   const struct imageref *ref, struct store_manifest *ret, struct err *e)
{
	_cleanup_free_ char *name = imageref_text(ref);
	char known[DIGEST_TEXT_BYTES], now[DIGEST_TEXT_BYTES];
	bool have = env->cache && !cache_get_name(env->cache, name, known);
	int rc;

	if (!r->remote)
		return fetch_manifest(env, r, ref, ref->tag, ret, e);
	if (!have && env->pull == PULL_NEVER)
		return err_set(e, -ENOENT, "%s was never pulled here, and --pull=never", name);
	if (have && env->pull == PULL_ALWAYS) {
		rc = store_resolve(r->store, ref->tag, now, e);
		if (rc)
			return rc;
		have = strcmp(known, now) == 0;
	}
	if (have)
		return manifest_by_digest(env, r, ref, known, ret, e);
	rc = fetch_manifest(env, r, ref, ref->tag, ret, e);
	if (!rc && env->cache && cache_put_name(env->cache, name, ret->digest))
		log_debug("name not cached: %s", name);
	return rc;
}

/* Follow indexes down to the manifest of the wanted platform. */
static int image_manifest(const struct resolve_env *env, struct resolved *r,
			  const struct imageref *ref, struct store_manifest *ret, struct err *e)
{
	int rc = ref->digest ? manifest_by_digest(env, r, ref, ref->digest, ret, e)
			     : manifest_by_tag(env, r, ref, ret, e);

	for (int depth = 0; !rc; depth++) {
		const struct oci_descriptor *d;
		struct oci_index *index;
		enum oci_kind kind;
		char next[DIGEST_TEXT_BYTES];

		rc = oci_kind_of(ret->bytes, ret->len, &kind, e);
		if (rc || kind == OCI_KIND_MANIFEST)
			break;
		rc = depth < 4 ? oci_index_parse(ret->bytes, ret->len, &index, e)
			       : err_set(e, -EBADMSG, "indexes are nested too deeply");
		if (rc)
			break;
		d = oci_index_pick(index, &env->platform);
		if (d)
			strcpy(next, d->digest);
		oci_index_free(index);
		store_manifest_done(ret);
		if (!d)
			return err_set(e, -ENOENT, "no image for platform %s/%s in this index",
				       env->platform.os, env->platform.architecture);
		rc = manifest_by_digest(env, r, ref, next, ret, e);
	}
	return rc;
}

static struct blob *known_blob(const struct resolved *r, size_t count, const char *digest)
{
	for (size_t n = 0; n < count; n++) {
		if (r->specs[n].blob && strcmp(r->specs[n].blob->digest, digest) == 0)
			return r->specs[n].blob;
	}
	return NULL;
}

int resolve_place_blob(const struct resolve_env *env, struct store *s, const char *digest,
		       uint64_t bytes, struct blob **ret, struct err *e)
{
	struct cache_blob *entry;
	struct blob_place place;
	int rc = store_place(s, digest, bytes, &place, e);

	if (rc)
		return err_wrap(e, rc, "blob %s", digest);
	if (place.fd >= 0) {
		*ret = blob_new_local(digest, place.fd, place.fd_off, place.bytes);
		strcpy((*ret)->digest, digest);
		return 0;
	}
	rc = cache_blob_open(env->cache, digest, bytes, &entry, e);
	if (rc) {
		source_unref(place.source);
		return err_wrap(e, rc, "cache of blob %s", digest);
	}
	*ret = blob_new_remote(digest, entry, place.source);
	return 0;
}

static bool is_turbo(const struct oci_descriptor *d)
{
	return oci_annotation(d, OBD_ANNOTATION_TARGET) ||
	       oci_annotation(d, "containerd.io/snapshot/fastoci/target-digest");
}

/* A note that makes no sense is as good as none. */
static void take_layout_note(struct layer_spec *spec, const struct oci_descriptor *d)
{
	const char *text = oci_annotation(d, LAYOUT_NOTE_ANNOTATION);
	struct layout_note note;

	if (!text || layout_note_parse(text, spec->blob->bytes, &note))
		return;
	spec->hints = (struct layer_hints){
	    .payload = range_of(note.payload_off, note.payload_bytes),
	    .open_bytes = note.open_bytes,
	    .metadata_bytes = note.metadata_bytes,
	    .start_bytes = note.start_bytes,
	};
}

static int add_layer(const struct resolve_env *env, struct resolved *r, size_t n,
		     const struct oci_descriptor *d, struct err *e)
{
	struct layer_spec *spec = &r->specs[n];

	int rc = 0;

	spec->kind = LAYER_LSMT;
	spec->blob = known_blob(r, n, d->digest);
	if (!spec->blob)
		rc = resolve_place_blob(env, r->store, d->digest, d->size, &spec->blob, e);
	if (!rc)
		take_layout_note(spec, d);
	return rc;
}

/* The TurboOCI layers of an image: each needs an archive, so they are made on several threads. */
struct turbo_job {
	const struct resolve_env *env;
	struct resolved *r;
	const struct oci_manifest *m;
	_Atomic size_t next;
	pthread_mutex_t lock; /* what follows */
	size_t failed;	      /* lowest layer that did; r->count: none */
	int rc;
	struct err err;
};

static void *turbo_main(void *arg)
{
	struct turbo_job *job = arg;
	size_t n;

	while ((n = atomic_fetch_add(&job->next, 1)) < job->r->count) {
		const struct oci_descriptor *d = &job->m->layers[n];
		struct err e = {0};
		int rc = is_turbo(d) ? turbo_layer(job->env, job->r, d, &job->r->specs[n], &e) : 0;

		pthread_mutex_lock(&job->lock);
		if (rc && n < job->failed) {
			job->failed = n;
			job->rc = rc;
			job->err = e;
		}
		pthread_mutex_unlock(&job->lock);
	}
	return NULL;
}

static int add_turbo_layers(const struct resolve_env *env, struct resolved *r,
			    const struct oci_manifest *m, struct err *e)
{
	struct turbo_job job = {.env = env, .r = r, .m = m, .failed = r->count};
	pthread_t threads[TURBO_THREADS];
	size_t turbo = 0, n = 0;

	for (size_t i = 0; i < r->count; i++)
		turbo += is_turbo(&m->layers[i]);
	if (!turbo)
		return 0;
	pthread_mutex_init(&job.lock, NULL);
	/* This thread works as well; with fewer than wanted it only takes longer. */
	while (n + 1 < turbo && n < TURBO_THREADS &&
	       !pthread_create(&threads[n], NULL, turbo_main, &job))
		n++;
	(void)turbo_main(&job);
	while (n)
		pthread_join(threads[--n], NULL);
	pthread_mutex_destroy(&job.lock);
	if (job.rc && e)
		*e = job.err;
	return job.rc;
}

static int add_layers(const struct resolve_env *env, struct resolved *r,
		      const struct oci_manifest *m, struct err *e)
{
	size_t count = m->layer_count;
	int rc;

	/* A trace for overlaybd's own prefetcher is no part of the device. */
	if (oci_acceleration(m))
		count--;
	if (!count)
		return err_set(e, -EBADMSG, "the image has no layers");
	if (count > LSMT_MAX_LAYERS)
		return err_set(e, -EBADMSG, "the image has %zu layers, at most %d are possible",
			       count, LSMT_MAX_LAYERS);
	for (size_t n = 0; n < count; n++) {
		if (!oci_annotation(&m->layers[n], OBD_ANNOTATION_DIGEST))
			return err_set(e, -EOPNOTSUPP,
				       "layer %s is an ordinary layer: make an accelerated image "
				       "first with \"headstart convert SOURCE DESTINATION\"",
				       m->layers[n].digest);
	}
	r->specs = xmalloc_zero(count, sizeof(*r->specs));
	r->count = count;
	rc = add_turbo_layers(env, r, m, e);
	for (size_t n = 0; !rc && n < count; n++) {
		if (!is_turbo(&m->layers[n]))
			rc = add_layer(env, r, n, &m->layers[n], e);
	}
	return rc;
}

static int resolve_stored(const struct resolve_env *env, const struct imageref *ref,
			  struct resolved *r, struct err *e)
{
	struct store_manifest sm = {0};
	struct oci_manifest *m = NULL;
	int rc = store_open(env->net, ref, false, &r->store, e);

	if (rc)
		return rc;
	r->remote = ref->kind == IMAGEREF_DOCKER;
	rc = image_manifest(env, r, ref, &sm, e);
	if (!rc)
		rc = oci_manifest_parse(sm.bytes, sm.len, &m, e);
	if (!rc) {
		strcpy(r->digest, sm.digest);
		r->config_digest = text_dup(m->config.digest);
		r->config = text_dup(m->config.data);
		rc = add_layers(env, r, m, e);
	}
	oci_manifest_free(m);
	store_manifest_done(&sm);
	return rc;
}

int resolve_image(const struct resolve_env *env, const char *name, struct resolved *ret,
		  struct err *e)
{
	struct imageref ref = {0};
	int rc = imageref_parse(name, &ref, e);

	if (rc)
		return rc;
	if (ref.kind == IMAGEREF_CONFIG)
		rc = resolve_local(env, ref.path, ret, e);
	else
		rc = resolve_stored(env, &ref, ret, e);
	imageref_done(&ref);
	if (rc) {
		resolved_done(ret);
		return err_wrap(e, rc, "%s", name);
	}
	return 0;
}

static int stored_manifest(const struct resolve_env *env, const struct imageref *ref,
			   struct store **ret_store, struct store_manifest *ret, struct err *e)
{
	struct resolved r = {.warmed = true, .remote = ref->kind == IMAGEREF_DOCKER};
	struct oci_manifest *m = NULL;
	int rc = store_open(env->net, ref, false, &r.store, e);

	if (rc)
		return rc;
	rc = image_manifest(env, &r, ref, ret, e);
	if (!rc)
		rc = oci_manifest_parse(ret->bytes, ret->len, &m, e);
	if (rc) {
		store_manifest_done(ret);
		store_close(r.store);
		return rc;
	}
	/* one from the cache comes without */
	if (!ret->media_type)
		ret->media_type = text_dup(m->docker ? DOCKER_TYPE_MANIFEST : OCI_TYPE_MANIFEST);
	oci_manifest_free(m);
	*ret_store = r.store;
	return 0;
}

int resolve_manifest(const struct resolve_env *env, const char *name, struct store **ret_store,
		     struct store_manifest *ret, struct err *e)
{
	struct imageref ref = {0};
	int rc = imageref_parse(name, &ref, e);

	if (rc)
		return rc;
	memset(ret, 0, sizeof(*ret));
	if (ref.kind == IMAGEREF_CONFIG)
		rc = err_set(e, -EOPNOTSUPP, "an image description has no manifest");
	else
		rc = stored_manifest(env, &ref, ret_store, ret, e);
	imageref_done(&ref);
	return rc ? err_wrap(e, rc, "%s", name) : 0;
}

int resolve_object(const struct resolve_env *env, const struct resolved *r, const char *what,
		   const char *digest, size_t max_bytes, char **ret, size_t *ret_len, struct err *e)
{
	int rc;

	if (env->cache && !cache_get_object(env->cache, digest, max_bytes, ret, ret_len))
		return 0;
	rc = may_ask(env, r, what, digest, e);
	if (!rc)
		rc = store_get_blob(r->store, digest, max_bytes, ret, ret_len, e);
	if (!rc && env->cache && cache_put_object(env->cache, digest, *ret, *ret_len))
		log_debug("%s not cached: digest=%s", what, digest);
	return rc;
}

int resolve_blob_bytes(const struct resolve_env *env, const struct resolved *r, const char *digest,
		       uint64_t *ret_bytes, struct err *e)
{
	/* The cache remembers a digest for a name: the number goes where the hash would. */
	_cleanup_free_ char *name = text_printf("size of %s", digest);
	char value[DIGEST_TEXT_BYTES];
	int rc;

	if (!r->remote)
		return store_blob_bytes(r->store, digest, ret_bytes, e);
	if (env->cache && !cache_get_name(env->cache, name, value)) {
		*ret_bytes = strtoull(value + strlen("sha256:"), NULL, 16);
		return 0;
	}
	rc = may_ask(env, r, "size of blob", digest, e);
	if (!rc)
		rc = store_blob_bytes(r->store, digest, ret_bytes, e);
	if (rc)
		return rc;
	snprintf(value, sizeof(value), "sha256:%064llx", (unsigned long long)*ret_bytes);
	if (env->cache && cache_put_name(env->cache, name, value))
		log_debug("size not cached: digest=%s", digest);
	return 0;
}

int resolve_config(const struct resolve_env *env, const struct resolved *r, char **ret,
		   struct err *e)
{
	size_t len;

	if (r->config) {
		*ret = text_dup(r->config);
		return 0;
	}
	return resolve_object(env, r, "image config", r->config_digest, OCI_CONFIG_MAX_BYTES, ret,
			      &len, e);
}
