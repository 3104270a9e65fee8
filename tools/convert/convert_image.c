/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert_image.c - the pipeline of one image
 *
 *   feeds (a few layers ahead: fetch, verify, unpack) -> apply, here -> pool (compress)
 *     -> uploader (digest, send) -> config -> manifest
 *
 * Layers are applied in order, each on what the ones below left in the block map.
 */
#include "convert_image.h"

#include "apply.h"
#include "base64.h"
#include "clock.h"
#include "err.h"
#include "hot_hold.h"
#include "hot_order.h"
#include "layer_feed.h"
#include "layer_writer.h"
#include "log.h"
#include "oci.h"
#include "progress.h"
#include "reuse.h"
#include "store.h"
#include "text.h"
#include "uploader.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_INLINE_BYTES (16u << 10)
#define FEEDS_AHEAD	    3u
#define FEED_QUEUE_BYTES    (16u << 20)
#define UPLOAD_THREADS	    2u
#define HOLD_MAX_BYTES	    (256ull << 20) /* of one layer, until the rest of it has gone */
#define OBD_VERSION	    "0.1.0"

struct work {
	struct convert_context *c;
	const struct convert_options *o;
	const struct store_manifest *source;
	struct oci_manifest *manifest;
	struct oci_config *config;
	char *config_json;
	size_t config_bytes;
	struct convert_image *result;

	size_t count; /* layers */
	char (*chain)[DIGEST_TEXT_BYTES];
	struct reuse_layer *reused;
	size_t reused_count;
	struct lower_image *lower;
	struct ext4 *fs;
	struct layer_feed **feed;
	size_t feeds_started;
	struct upload_job *job;
	struct uploader *uploader;
};

/* --- reading the source image --- */

static int check_layers(struct work *w, struct err *e)
{
	if (!w->manifest->layer_count)
		return err_set(e, -EOPNOTSUPP, "an image without layers has nothing to convert");
	if (w->manifest->layer_count != w->config->diff_id_count)
		return err_set(e, -EBADMSG,
			       "%zu layers in the manifest, %zu diff IDs in the config",
			       w->manifest->layer_count, w->config->diff_id_count);
	for (size_t i = 0; i < w->manifest->layer_count; i++) {
		const struct oci_descriptor *d = &w->manifest->layers[i];

		if (oci_annotation(d, OBD_ANNOTATION_DIGEST))
			return err_set(e, -EINVAL, "the image is in the overlaybd format already");
		if (!strstr(d->media_type, ".layer.") && !strstr(d->media_type, "rootfs.diff.tar"))
			return err_set(e, -EOPNOTSUPP,
				       "layer %zu is a \"%.80s\", not a file system layer", i,
				       d->media_type);
		if (strstr(d->media_type, "encrypted"))
			return err_set(e, -EOPNOTSUPP, "layer %zu is encrypted", i);
	}
	return 0;
}

static int read_source(struct work *w, struct err *e)
{
	int rc = oci_manifest_parse(w->source->bytes, w->source->len, &w->manifest, e);

	if (rc == 0)
		rc = store_get_blob(w->c->source, w->manifest->config.digest, OCI_CONFIG_MAX_BYTES,
				    &w->config_json, &w->config_bytes, e);
	if (rc == 0)
		rc = oci_config_parse(w->config_json, w->config_bytes, &w->config, e);
	if (rc == 0)
		rc = check_layers(w, e);
	if (rc < 0)
		return rc;
	w->count = w->manifest->layer_count;
	w->chain = xmalloc_zero(w->count, sizeof(*w->chain));
	w->reused = xmalloc_zero(w->count, sizeof(*w->reused));
	w->feed = xmalloc_zero(w->count, sizeof(*w->feed));
	w->job = xmalloc_zero(w->count, sizeof(*w->job));
	w->result->layers = xmalloc_zero(w->count, sizeof(*w->result->layers));
	w->result->layer_count = w->count;
	strcpy(w->result->source_digest, w->source->digest);
	w->result->platform = text_printf(
	    "%s/%s%s%s", w->config->platform.os ? w->config->platform.os : "linux",
	    w->config->platform.architecture ? w->config->platform.architecture : "unknown",
	    w->config->platform.variant ? "/" : "",
	    w->config->platform.variant ? w->config->platform.variant : "");
	for (size_t i = 0; i < w->count; i++) {
		struct convert_layer *l = &w->result->layers[i];

		oci_chain_id(i ? w->chain[i - 1] : NULL, w->config->diff_ids[i], w->chain[i]);
		strcpy(l->chain_id, w->chain[i]);
		strcpy(l->source_digest, w->manifest->layers[i].digest);
		l->source_bytes = w->manifest->layers[i].size;
	}
	return 0;
}

/* --- what the layers stand on --- */

/* Decide how many layers are reused, and make the file system ready for the first new one. */
static int open_device(struct work *w, struct err *e)
{
	struct lower_reader reader;
	struct err why = {0};
	int rc;

	if (w->c->reuse)
		w->reused_count =
		    reuse_match(w->c->reuse, w->c->target, w->chain, w->count, w->reused);
	if (w->reused_count == w->count)
		return 0;
	if (w->reused_count &&
	    lower_open(w->o, w->reused, w->reused_count, &w->lower, &reader, &why) < 0) {
		log_warn("converted layers cannot be read, all are converted anew error=\"%s\"",
			 why.msg);
		w->reused_count = 0;
	}
	rc = ext4_new(w->o->device_bytes, w->reused_count ? &reader : NULL, &w->fs, e);
	if (rc == 0 && !w->reused_count)
		rc = ext4_format(w->fs, w->chain[0] + strlen("sha256:"), e);
	return rc;
}

static void note_reused(struct work *w)
{
	for (size_t i = 0; i < w->reused_count; i++) {
		struct convert_layer *l = &w->result->layers[i];

		strcpy(l->digest, w->reused[i].digest);
		l->bytes = w->reused[i].bytes;
		strcpy(l->note, w->reused[i].note);
		l->ordered = w->reused[i].ordered;
		l->reused = true;
		progress_say(w->o->progress, "layer %zu/%zu: converted before, reused", i + 1,
			     w->count);
	}
}

/* --- converting --- */

static int start_feeds(struct work *w, size_t upto, struct err *e)
{
	for (; w->feeds_started < w->count && w->feeds_started < upto; w->feeds_started++) {
		size_t i = w->feeds_started;
		struct layer_feed_options fo = {
		    .store = w->c->source,
		    .digest = w->manifest->layers[i].digest,
		    .bytes = w->manifest->layers[i].size,
		    .diff_id = w->config->diff_ids[i],
		    .queue_bytes = FEED_QUEUE_BYTES,
		    .totals = progress_feeds(w->o->progress),
		};
		int rc = layer_feed_start(&fo, &w->feed[i], e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

struct counted_feed {
	struct layer_feed *feed;
	uint64_t bytes;
	struct uploader *uploader; /* a failure there makes going on pointless */
};

static int next_counted(void *arg, const void **ret_p, size_t *ret_bytes, struct err *e)
{
	struct counted_feed *cf = arg;
	int rc;

	if (uploader_failed(cf->uploader))
		return uploader_wait(cf->uploader, e);
	rc = layer_feed_next(cf->feed, ret_p, ret_bytes, e);
	if (rc == 0)
		cf->bytes += *ret_bytes;
	return rc;
}

static int convert_layer(struct work *w, size_t i, struct err *e)
{
	struct convert_layer *l = &w->result->layers[i];
	struct layer_writer_options wo = {
	    .pool = w->c->pool,
	    .budget = &w->c->budget,
	    .format = w->o->format,
	    .virtual_bytes = w->o->device_bytes,
	    .chain_id = w->chain[i],
	    .parent_chain_id = i ? w->chain[i - 1] : NULL,
	};
	struct counted_feed cf = {.feed = w->feed[i], .uploader = w->uploader};
	struct layer_writer *writer = layer_writer_new(&wo);
	struct hot_hold *hold = w->o->order ? hot_hold_new(w->o->order, HOLD_MAX_BYTES) : NULL;
	struct apply_stats st;
	char plain[24], stored[24];
	uint64_t start = clock_now_ns();
	int rc = apply_layer(w->fs, next_counted, &cf, layer_writer_add, writer, hold, &st, e);

	hot_hold_free(hold);
	if (rc == 0)
		rc = layer_writer_finish(writer, st.last_metadata_bytes,
					 st.hot_bytes + st.last_metadata_bytes, &w->job[i].blob, e);
	layer_writer_free(writer);
	if (rc < 0)
		return rc;
	l->tar_bytes = cf.bytes;
	l->plain_bytes = layer_blob_plain_bytes(w->job[i].blob);
	l->bytes = layer_blob_bytes(w->job[i].blob);
	layout_note_text(layer_blob_note(w->job[i].blob), l->note);
	l->hot_bytes = st.hot_bytes;
	l->ordered = st.hot_bytes != 0;
	progress_say(
	    w->o->progress, "layer %zu/%zu: %llu entries, %s -> %s in %.1f s", i + 1, w->count,
	    (unsigned long long)st.entries, text_size(cf.bytes, plain, sizeof(plain)),
	    text_size(l->bytes, stored, sizeof(stored)), (double)(clock_now_ns() - start) / 1e9);
	uploader_add(w->uploader, &w->job[i]);
	return 0;
}

static int convert_layers(struct work *w, struct err *e)
{
	struct uploader_options uo = {
	    .store = w->c->target,
	    .mount_from = w->c->mount_from,
	    .threads = UPLOAD_THREADS,
	    .sent_bytes = progress_sent(w->o->progress),
	};
	struct feed_totals *t = progress_feeds(w->o->progress);
	int rc = uploader_new(&uo, &w->uploader, e);

	t->max_plain_bytes = t->plain_bytes + w->o->max_bytes;
	for (size_t i = w->reused_count; i < w->count; i++)
		progress_expect(w->o->progress, w->manifest->layers[i].size);
	w->feeds_started = w->reused_count;
	for (size_t i = w->reused_count; rc == 0 && i < w->count; i++) {
		rc = start_feeds(w, i + FEEDS_AHEAD, e);
		if (rc == 0)
			rc = convert_layer(w, i, e);
		if (rc < 0)
			return err_wrap(e, rc, "layer %zu (%s)", i + 1,
					w->manifest->layers[i].digest);
		layer_feed_free(w->feed[i]);
		w->feed[i] = NULL;
	}
	if (rc == 0)
		rc = uploader_wait(w->uploader, e);
	for (size_t i = w->reused_count; rc == 0 && i < w->count; i++) {
		strcpy(w->result->layers[i].digest, w->job[i].digest);
		w->result->layers[i].sent = w->job[i].sent;
	}
	return rc;
}

/* --- config and manifest --- */

static char *print_json(const cJSON *root)
{
	char *text = cJSON_PrintUnformatted(root);

	if (!text)
		abort();
	return text;
}

static int dump(const struct convert_options *o, const char *name, const char *text, struct err *e)
{
	char *path;
	int rc;

	if (!o->dump_dir)
		return 0;
	rc = text_mkdirs(o->dump_dir, 0755, e);
	if (rc < 0)
		return rc;
	path = text_printf("%s/%s", o->dump_dir, name);
	rc = text_write_file(path, text, strlen(text), 0644, e);
	free(path);
	return rc;
}

/* The source's config with the diff IDs of the new layers; the blobs are plain tars: their digests.
 */
static int put_config(struct work *w, char digest[static DIGEST_TEXT_BYTES], char **ret_text,
		      struct err *e)
{
	cJSON *root = cJSON_ParseWithLength(w->config_json, w->config_bytes);
	cJSON *rootfs = cJSON_GetObjectItemCaseSensitive(root, "rootfs");
	cJSON *ids = cJSON_CreateArray();
	char *text;
	int rc;

	for (size_t i = 0; i < w->count; i++)
		cJSON_AddItemToArray(ids, cJSON_CreateString(w->result->layers[i].digest));
	if (!cJSON_ReplaceItemInObjectCaseSensitive(rootfs, "diff_ids", ids)) {
		cJSON_Delete(ids);
		cJSON_Delete(root);
		return err_set(e, -EBADMSG, "the image config has no rootfs.diff_ids");
	}
	text = print_json(root);
	cJSON_Delete(root);
	digest_of(text, strlen(text), digest);
	rc = dump(w->o, "config.json", text, e);
	if (rc == 0 && w->c->target)
		rc = upload_bytes(w->c->target, digest, text, strlen(text), e);
	*ret_text = text;
	return rc;
}

static cJSON *descriptor(const char *media_type, const char *digest, uint64_t bytes)
{
	cJSON *d = cJSON_CreateObject();

	cJSON_AddStringToObject(d, "mediaType", media_type);
	cJSON_AddStringToObject(d, "digest", digest);
	cJSON_AddNumberToObject(d, "size", (double)bytes);
	return d;
}

static cJSON *layer_descriptor(struct work *w, size_t i)
{
	const struct convert_layer *l = &w->result->layers[i];
	cJSON *d = descriptor(w->o->oci ? OCI_TYPE_LAYER : DOCKER_TYPE_LAYER, l->digest, l->bytes);
	cJSON *a = cJSON_AddObjectToObject(d, "annotations");
	char size[24];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)l->bytes);
	cJSON_AddStringToObject(a, OBD_ANNOTATION_DIGEST, l->digest);
	cJSON_AddStringToObject(a, OBD_ANNOTATION_SIZE, size);
	cJSON_AddStringToObject(a, OBD_ANNOTATION_VERSION, OBD_VERSION);
	cJSON_AddStringToObject(a, ANNOTATION_CHAIN, l->chain_id);
	cJSON_AddStringToObject(a, ANNOTATION_CONVERSION,
				l->ordered ? w->c->ordered : w->c->conversion);
	if (w->o->order && !l->ordered)
		cJSON_AddStringToObject(a, ANNOTATION_UNORDERED, hot_order_id(w->o->order));
	if (l->note[0])
		cJSON_AddStringToObject(a, LAYOUT_NOTE_ANNOTATION, l->note);
	return d;
}

/*
 * The config's descriptor. A small config comes along in it, so that who starts the image need not
 * ask for it: one request less. (Docker's media types know no inline data; readers of them skip
 * it.)
 */
static cJSON *config_descriptor(const struct work *w, const char *digest, const char *config)
{
	size_t bytes = config ? strlen(config) : 0;
	cJSON *d = descriptor(w->o->oci ? OCI_TYPE_CONFIG : DOCKER_TYPE_CONFIG, digest, bytes);
	char *data;

	if (bytes && bytes <= CONFIG_INLINE_BYTES) {
		data = base64_encode(config, bytes);
		cJSON_AddStringToObject(d, "data", data);
		free(data);
	}
	return d;
}

int put_document(struct convert_context *c, void *cjson_root, const char *media_type,
		 const char *tag, const char *dump_name, struct convert_output *out, struct err *e)
{
	char *text = print_json(cjson_root);
	int rc = dump(c->o, dump_name, text, e);

	out->media_type = media_type;
	out->bytes = strlen(text);
	digest_of(text, strlen(text), out->digest);
	if (rc == 0 && c->target)
		rc = store_put_manifest(c->target, media_type, text, strlen(text), tag, e);
	free(text);
	return rc;
}

static int put_manifest(struct work *w, const char *tag, struct convert_output *out, struct err *e)
{
	const char *type = w->o->oci ? OCI_TYPE_MANIFEST : DOCKER_TYPE_MANIFEST;
	cJSON *root, *layers, *source = cJSON_ParseWithLength(w->source->bytes, w->source->len);
	cJSON *annotations = cJSON_DetachItemFromObjectCaseSensitive(source, "annotations");
	char digest[DIGEST_TEXT_BYTES];
	char *config = NULL;
	int rc = put_config(w, digest, &config, e);

	cJSON_Delete(source);
	root = cJSON_CreateObject();
	cJSON_AddNumberToObject(root, "schemaVersion", 2);
	cJSON_AddStringToObject(root, "mediaType", type);
	if (w->o->referrer)
		cJSON_AddStringToObject(root, "artifactType",
					"application/vnd.containerd.overlaybd.native.v1+json");
	cJSON_AddItemToObject(root, "config", config_descriptor(w, digest, config));
	free(config);
	layers = cJSON_AddArrayToObject(root, "layers");
	for (size_t i = 0; i < w->count; i++)
		cJSON_AddItemToArray(layers, layer_descriptor(w, i));
	if (w->o->referrer)
		cJSON_AddItemToObject(
		    root, "subject",
		    descriptor(w->source->media_type, w->source->digest, w->source->len));
	if (annotations && w->o->oci)
		cJSON_AddItemToObject(root, "annotations", annotations);
	else
		cJSON_Delete(annotations);
	if (rc == 0)
		rc = put_document(w->c, root, type, tag, "manifest.json", out, e);
	cJSON_Delete(root);
	return rc;
}

int convert_image(struct convert_context *c, const struct store_manifest *m, const char *tag,
		  struct convert_image *ret, struct convert_output *out, struct err *e)
{
	struct work w = {.c = c, .o = c->o, .source = m, .result = ret};
	int rc = read_source(&w, e);

	if (rc == 0)
		rc = open_device(&w, e);
	if (rc == 0) {
		note_reused(&w);
		if (w.reused_count < w.count)
			rc = convert_layers(&w, e);
	}
	for (size_t i = 0; i < w.count; i++)
		if (w.feed[i])
			layer_feed_cancel(w.feed[i]);
	for (size_t i = 0; i < w.count; i++)
		layer_feed_free(w.feed[i]);
	uploader_free(w.uploader);
	ext4_free(w.fs);
	lower_close(w.lower);
	if (rc == 0)
		rc = put_manifest(&w, tag, out, e);
	if (rc == 0)
		strcpy(ret->digest, out->digest);
	oci_manifest_free(w.manifest);
	oci_config_free(w.config);
	free(w.config_json);
	free(w.chain);
	free(w.reused);
	free(w.feed);
	free(w.job);
	return rc;
}
