/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.c - from a name to the manifests that are converted, and back to one tag
 */
#include "convert.h"

#include "clock.h"
#include "convert_image.h"
#include "err.h"
#include "imageref.h"
#include "hot_order.h"
#include "log.h"
#include "oci.h"
#include "progress.h"
#include "reuse.h"
#include "store.h"
#include "text.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 4 /* of indexes in indexes */

struct run {
	struct convert_context c;
	struct reuse_terms terms;
	struct convert_result *result;
	struct oci_platform platform;
};

static struct convert_image *new_image(struct convert_result *r)
{
	r->images = realloc(r->images, (r->image_count + 1) * sizeof(*r->images));
	if (!r->images)
		abort();
	memset(&r->images[r->image_count], 0, sizeof(*r->images));
	return &r->images[r->image_count++];
}

static int convert_ref(struct run *r, const char *ref, const char *tag, int depth,
		       struct convert_output *out, struct err *e);

/* Entries that describe other entries and are no images. */
static bool is_attestation(const struct oci_descriptor *d)
{
	const char *type = oci_annotation(d, "vnd.docker.reference.type");

	return (type && !strcmp(type, "attestation-manifest")) ||
	       (d->platform.os && !strcmp(d->platform.os, "unknown"));
}

/* Every image of an index; the index itself is edited, so what else it says stays. */
static int convert_index(struct run *r, const struct store_manifest *m, const struct oci_index *ix,
			 const char *tag, int depth, struct convert_output *out, struct err *e)
{
	const char *type = r->c.o->oci ? OCI_TYPE_INDEX : DOCKER_TYPE_LIST;
	cJSON *root = cJSON_ParseWithLength(m->bytes, m->len);
	cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "manifests"), *subject;
	size_t kept = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ix->manifest_count; i++) {
		cJSON *item = cJSON_GetArrayItem(list, (int)kept);
		struct convert_output child;

		if (is_attestation(&ix->manifests[i])) {
			log_warn("attestation dropped digest=%s", ix->manifests[i].digest);
			cJSON_DeleteItemFromArray(list, (int)kept);
			continue;
		}
		rc = convert_ref(r, ix->manifests[i].digest, NULL, depth + 1, &child, e);
		if (rc < 0)
			break;
		cJSON_ReplaceItemInObjectCaseSensitive(item, "mediaType",
						       cJSON_CreateString(child.media_type));
		cJSON_ReplaceItemInObjectCaseSensitive(item, "digest",
						       cJSON_CreateString(child.digest));
		cJSON_ReplaceItemInObjectCaseSensitive(item, "size",
						       cJSON_CreateNumber((double)child.bytes));
		kept++;
	}
	if (rc == 0 && !kept)
		rc = err_set(e, -ENOENT, "the index holds no image");
	cJSON_DeleteItemFromObjectCaseSensitive(root, "mediaType");
	cJSON_AddStringToObject(root, "mediaType", type);
	if (r->c.o->referrer) {
		cJSON_AddStringToObject(root, "artifactType",
					"application/vnd.containerd.overlaybd.native.v1+json");
		subject = cJSON_AddObjectToObject(root, "subject");
		cJSON_AddStringToObject(subject, "mediaType", m->media_type);
		cJSON_AddStringToObject(subject, "digest", m->digest);
		cJSON_AddNumberToObject(subject, "size", (double)m->len);
	}
	if (rc == 0)
		rc = put_document(&r->c, root, type, tag, "index.json", out, e);
	cJSON_Delete(root);
	return rc;
}

static int convert_picked(struct run *r, const struct oci_index *ix, const char *tag, int depth,
			  struct convert_output *out, struct err *e)
{
	const struct oci_descriptor *d = oci_index_pick(ix, &r->platform);

	if (!d)
		return err_set(e, -ENOENT, "the index has no image for %s/%s%s%s (see --platform)",
			       r->platform.os, r->platform.architecture,
			       r->platform.variant ? "/" : "",
			       r->platform.variant ? r->platform.variant : "");
	return convert_ref(r, d->digest, tag, depth + 1, out, e);
}

/* A manifest or an index that was fetched. */
static int convert_document(struct run *r, const struct store_manifest *m, const char *tag,
			    int depth, struct convert_output *out, struct err *e)
{
	struct oci_index *ix = NULL;
	enum oci_kind kind;
	int rc = oci_kind_of(m->bytes, m->len, &kind, e);

	if (rc < 0)
		return rc;
	if (kind == OCI_KIND_MANIFEST)
		return convert_image(&r->c, m, tag, new_image(r->result), out, e);
	rc = oci_index_parse(m->bytes, m->len, &ix, e);
	if (rc == 0)
		rc = r->c.o->all_platforms ? convert_index(r, m, ix, tag, depth, out, e)
					   : convert_picked(r, ix, tag, depth, out, e);
	oci_index_free(ix);
	return rc;
}

static int convert_ref(struct run *r, const char *ref, const char *tag, int depth,
		       struct convert_output *out, struct err *e)
{
	struct store_manifest m = {0};
	int rc;

	if (depth > MAX_DEPTH)
		return err_set(e, -EBADMSG, "indexes are nested more than %d deep", MAX_DEPTH);
	rc = store_get_manifest(r->c.source, ref, &m, e);
	if (rc == 0)
		rc = convert_document(r, &m, tag, depth, out, e);
	store_manifest_done(&m);
	return rc;
}

/* The source is looked at first: a name that is wrong must not make a target directory. */
static int open_stores(struct run *r, struct store_manifest *ret, struct err *e)
{
	const struct convert_options *o = r->c.o;
	const char *ref = o->source->digest ? o->source->digest : o->source->tag;
	int rc = store_open(o->net, o->source, false, &r->c.source, e);

	if (rc == 0)
		rc = store_get_manifest(r->c.source, ref, ret, e);
	if (rc == 0 && o->upload)
		rc = store_open(o->net, o->target, true, &r->c.target, e);
	if (rc < 0)
		return rc;
	if (o->source->kind == IMAGEREF_DOCKER && o->target->kind == IMAGEREF_DOCKER &&
	    !strcmp(o->source->host, o->target->host) &&
	    strcmp(o->source->repo, o->target->repo) != 0)
		r->c.mount_from = o->source->repo;
	if (o->reuse && r->c.target)
		r->c.reuse = reuse_load(r->c.target, o->target->tag, &r->terms);
	return 0;
}

static void sum_up(struct convert_result *r, const struct convert_options *o)
{
	for (size_t i = 0; i < r->image_count; i++) {
		for (size_t k = 0; k < r->images[i].layer_count; k++) {
			const struct convert_layer *l = &r->images[i].layers[k];

			r->tar_bytes += l->tar_bytes;
			r->source_bytes += l->reused ? 0 : l->source_bytes;
			r->stored_bytes += l->bytes;
		}
	}
	r->sent_bytes = *progress_sent(o->progress);
}

int convert_run(const struct convert_options *o, struct convert_result *ret, struct err *e)
{
	struct run r = {.result = ret};
	struct convert_output out;
	uint64_t wall = clock_now_ns(), cpu = clock_cpu_ns();
	struct store_manifest m = {0};
	int rc = 0;

	memset(ret, 0, sizeof(*ret));
	r.c.o = o;
	r.c.budget.limit = o->memory_bytes;
	r.c.budget.dir = o->spool_dir;
	/* "1" is the version of what this converter writes: any change to its output raises it */
	r.c.conversion =
	    text_printf("1 ext4 %llu %s-%d %u", (unsigned long long)o->device_bytes,
			codec_name(o->format.codec), o->format.level, o->format.block_bytes);
	if (o->order)
		r.c.ordered = text_printf("%s layout %s", r.c.conversion, hot_order_id(o->order));
	r.terms = (struct reuse_terms){
	    .plain = r.c.conversion,
	    .ordered = r.c.ordered,
	    .order = o->order ? hot_order_id(o->order) : NULL,
	};
	if (o->platform)
		rc = oci_platform_parse(o->platform, &r.platform, e);
	else
		oci_platform_host(&r.platform);
	if (rc == 0)
		rc = squeeze_new(o->threads, &r.c.pool, e);
	if (rc == 0)
		rc = open_stores(&r, &m, e);
	if (rc == 0)
		rc = convert_document(&r, &m, o->target->tag, 0, &out, e);
	store_manifest_done(&m);
	if (rc == 0) {
		strcpy(ret->digest, out.digest);
		ret->media_type = out.media_type;
	}
	sum_up(ret, o);
	reuse_free(r.c.reuse);
	squeeze_free(r.c.pool);
	store_close(r.c.source);
	store_close(r.c.target);
	oci_platform_done(&r.platform);
	free(r.c.conversion);
	free(r.c.ordered);
	ret->wall_ns = clock_now_ns() - wall;
	ret->cpu_ns = clock_cpu_ns() - cpu;
	return rc;
}

void convert_result_done(struct convert_result *r)
{
	for (size_t i = 0; i < r->image_count; i++) {
		free(r->images[i].platform);
		free(r->images[i].layers);
	}
	free(r->images);
	memset(r, 0, sizeof(*r));
}
