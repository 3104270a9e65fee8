/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.c - see resolve.h: images in registries, directories and archives */
#include "resolve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blob.h"
#include "cache.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "imageref.h"
#include "log.h"
#include "lsmt.h"
#include "resolve_local.h"
#include "source.h"
#include "store.h"
#include "text.h"
#include "turbo.h"

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
	memset(r, 0, sizeof(*r));
}

static int fetch_manifest(const struct resolve_env *env, struct store *s, const char *ref,
			  struct store_manifest *ret, struct err *e)
{
	int rc = store_get_manifest(s, ref, ret, e);

	if (!rc && env->cache && cache_put_object(env->cache, ret->digest, ret->bytes, ret->len))
		log_debug("manifest not cached: digest=%s", ret->digest);
	return rc;
}

/* A manifest by digest: cache first. */
static int manifest_by_digest(const struct resolve_env *env, struct store *s, const char *digest,
			      struct store_manifest *ret, struct err *e)
{
	memset(ret, 0, sizeof(*ret));
	if (env->cache && !cache_get_object(env->cache, digest, OCI_MANIFEST_MAX_BYTES, &ret->bytes,
					    &ret->len)) {
		strcpy(ret->digest, digest);
		return 0;
	}
	if (env->pull == PULL_NEVER && env->net)
		return err_set(e, -ENOENT, "manifest %s is not in the cache, and --pull=never",
			       digest);
	return fetch_manifest(env, s, digest, ret, e);
}

/* A manifest by tag: ask what the tag means unless an older answer will do. */
static int manifest_by_tag(const struct resolve_env *env, struct store *s,
			   const struct imageref *ref, struct store_manifest *ret, struct err *e)
{
	_cleanup_free_ char *name = imageref_text(ref);
	char known[DIGEST_TEXT_BYTES], now[DIGEST_TEXT_BYTES];
	bool have = env->cache && !cache_get_name(env->cache, name, known);
	int rc;

	if (ref->kind != IMAGEREF_DOCKER)
		return fetch_manifest(env, s, ref->tag, ret, e);
	if (!have && env->pull == PULL_NEVER)
		return err_set(e, -ENOENT, "%s was never pulled here, and --pull=never", name);
	if (have && env->pull == PULL_ALWAYS) {
		rc = store_resolve(s, ref->tag, now, e);
		if (rc)
			return rc;
		have = strcmp(known, now) == 0;
	}
	if (have)
		return manifest_by_digest(env, s, known, ret, e);
	rc = fetch_manifest(env, s, ref->tag, ret, e);
	if (!rc && env->cache && cache_put_name(env->cache, name, ret->digest))
		log_debug("name not cached: %s", name);
	return rc;
}

/* Follow indexes down to the manifest of the wanted platform. */
static int image_manifest(const struct resolve_env *env, struct store *s,
			  const struct imageref *ref, struct store_manifest *ret, struct err *e)
{
	int rc = ref->digest ? manifest_by_digest(env, s, ref->digest, ret, e)
			     : manifest_by_tag(env, s, ref, ret, e);

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
		rc = manifest_by_digest(env, s, next, ret, e);
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

static int add_layer(const struct resolve_env *env, struct resolved *r,
		     const struct oci_descriptor *d, struct err *e)
{
	struct layer_spec *spec = &r->specs[r->count];
	int rc;

	if (!oci_annotation(d, OBD_ANNOTATION_DIGEST))
		return err_set(e, -EOPNOTSUPP,
			       "layer %s is an ordinary layer: make an accelerated image first with "
			       "\"headstart convert SOURCE DESTINATION\"",
			       d->digest);
	if (is_turbo(d)) {
		rc = turbo_layer(env, r->store, d, spec, e);
	} else {
		spec->kind = LAYER_LSMT;
		spec->blob = known_blob(r, r->count, d->digest);
		rc = spec->blob ? 0
				: resolve_place_blob(env, r->store, d->digest, d->size,
						     &spec->blob, e);
	}
	/* Counted also when half made: resolved_done() knows what is there. */
	r->count++;
	return rc;
}

static int add_layers(const struct resolve_env *env, struct resolved *r,
		      const struct oci_manifest *m, struct err *e)
{
	size_t count = m->layer_count;

	/* A trace for overlaybd's own prefetcher is no part of the device. */
	if (count && oci_annotation(&m->layers[count - 1], OBD_ANNOTATION_ACCEL))
		count--;
	if (!count)
		return err_set(e, -EBADMSG, "the image has no layers");
	if (count > LSMT_MAX_LAYERS)
		return err_set(e, -EBADMSG, "the image has %zu layers, at most %d are possible",
			       count, LSMT_MAX_LAYERS);
	r->specs = xmalloc_zero(count, sizeof(*r->specs));
	for (size_t n = 0; n < count; n++) {
		int rc = add_layer(env, r, &m->layers[n], e);

		if (rc)
			return rc;
	}
	return 0;
}

static int resolve_stored(const struct resolve_env *env, const struct imageref *ref,
			  struct resolved *r, struct err *e)
{
	struct store_manifest sm = {0};
	struct oci_manifest *m = NULL;
	int rc = store_open(env->net, ref, false, &r->store, e);

	if (rc)
		return rc;
	rc = image_manifest(env, r->store, ref, &sm, e);
	if (!rc)
		rc = oci_manifest_parse(sm.bytes, sm.len, &m, e);
	if (!rc) {
		strcpy(r->digest, sm.digest);
		r->config_digest = text_dup(m->config.digest);
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

int resolve_config(const struct resolve_env *env, const struct resolved *r, char **ret,
		   struct err *e)
{
	size_t len;
	int rc;

	if (env->cache && !cache_get_object(env->cache, r->config_digest, OCI_CONFIG_MAX_BYTES, ret,
					    &len))
		return 0;
	if (env->pull == PULL_NEVER && env->net)
		return err_set(e, -ENOENT, "image config %s is not in the cache, and --pull=never",
			       r->config_digest);
	rc = store_get_blob(r->store, r->config_digest, OCI_CONFIG_MAX_BYTES, ret, &len, e);
	if (!rc && env->cache && cache_put_object(env->cache, r->config_digest, *ret, len))
		log_debug("image config not cached: digest=%s", r->config_digest);
	return rc;
}
