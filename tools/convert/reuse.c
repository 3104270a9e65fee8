/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse.c - see reuse.h
 */
#include "reuse.h"

#include "err.h"
#include "headstart.h"
#include "imageref.h"
#include "log.h"
#include "oci.h"
#include "store.h"
#include "text.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_TAGS      1000u
#define MAX_MANIFESTS 48u

/* One converted image: its layers, bottom first, as far as they carry our annotations. */
struct known {
	struct reuse_layer *layer;
	size_t count;
};

struct reuse {
	struct known known[MAX_MANIFESTS];
	size_t count;
	unsigned int looked_at;
	const struct reuse_terms *terms;
};

/*
 * Whether a layer is what a conversion would make of it now. One that was made without a layout may
 * hold what ours would move, unless ours was tried on it.
 */
static bool usable(const struct reuse_terms *t, const struct oci_descriptor *d, bool *ret_ordered)
{
	const char *how = oci_annotation(d, ANNOTATION_CONVERSION);
	const char *tried = oci_annotation(d, ANNOTATION_UNORDERED);

	*ret_ordered = how && t->ordered && !strcmp(how, t->ordered);
	if (*ret_ordered)
		return true;
	return how && !strcmp(how, t->plain) && (!t->order || (tried && !strcmp(tried, t->order)));
}

static void look_manifest(struct reuse *r, const struct store_manifest *m)
{
	struct known *k = &r->known[r->count];
	struct oci_manifest *om = NULL;

	if (r->count == MAX_MANIFESTS || oci_manifest_parse(m->bytes, m->len, &om, NULL) < 0)
		return;
	k->layer = xmalloc_zero(om->layer_count + 1, sizeof(*k->layer));
	k->count = 0;
	for (size_t i = 0; i < om->layer_count; i++) {
		const struct oci_descriptor *d = &om->layers[i];
		const char *chain = oci_annotation(d, ANNOTATION_CHAIN);
		const char *text = oci_annotation(d, LAYOUT_NOTE_ANNOTATION);
		struct layout_note note;
		struct reuse_layer *l = &k->layer[k->count];

		if (!chain || !digest_valid(chain) || !usable(r->terms, d, &l->ordered))
			break;
		strcpy(l->chain_id, chain);
		strcpy(l->digest, d->digest);
		l->bytes = d->size;
		if (text && !layout_note_parse(text, d->size, &note))
			layout_note_text(&note, l->note);
		k->count++;
	}
	if (k->count)
		r->count++;
	else
		free(k->layer);
	oci_manifest_free(om);
}

static void look(struct reuse *r, struct store *s, const char *ref, bool nested)
{
	struct store_manifest m = {0};
	struct err e = {0};
	enum oci_kind kind;
	struct oci_index *index = NULL;

	if (r->looked_at >= MAX_MANIFESTS)
		return;
	r->looked_at++;
	if (store_get_manifest(s, ref, &m, &e) < 0 || oci_kind_of(m.bytes, m.len, &kind, &e) < 0) {
		log_debug("manifest not looked at for reuse ref=%s error=\"%s\"", ref, e.msg);
	} else if (kind == OCI_KIND_MANIFEST) {
		look_manifest(r, &m);
	} else if (!nested && oci_index_parse(m.bytes, m.len, &index, &e) == 0) {
		for (size_t i = 0; i < index->manifest_count; i++)
			look(r, s, index->manifests[i].digest, true);
		oci_index_free(index);
	}
	store_manifest_done(&m);
}

struct reuse *reuse_load(struct store *target, const char *tag, const struct reuse_terms *terms)
{
	struct reuse *r = xmalloc_zero(1, sizeof(*r));
	struct err e = {0};
	char **tags = NULL;

	r->terms = terms;
	if (store_list_tags(target, MAX_TAGS, &tags, &e) < 0) {
		log_debug("no tags to look at for reuse error=\"%s\"", e.msg);
		return r;
	}
	for (int pass = 0; pass < 3; pass++) {
		for (size_t i = 0; tags[i]; i++) {
			bool same = tag && !strcmp(tags[i], tag);

			if (text_starts_with(tags[i], "sha256-"))
				continue; /* a list of what refers to an image */
			bool accelerated = text_ends_with(tags[i], "_accelerated");

			if (pass == 0 ? same : !same && (pass == 1) == accelerated)
				look(r, target, tags[i], false);
		}
	}
	for (size_t i = 0; tags[i]; i++)
		free(tags[i]);
	free(tags);
	return r;
}

void reuse_free(struct reuse *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->count; i++)
		free(r->known[i].layer);
	free(r);
}

size_t reuse_match(struct reuse *r, struct store *target, char (*chain_ids)[DIGEST_TEXT_BYTES],
		   size_t count, struct reuse_layer *ret)
{
	const struct known *best = NULL;
	size_t most = 0;

	for (size_t i = 0; i < r->count; i++) {
		const struct known *k = &r->known[i];
		size_t n = 0;

		while (n < k->count && n < count && !strcmp(k->layer[n].chain_id, chain_ids[n]))
			n++;
		if (n > most) {
			most = n;
			best = k;
		}
	}
	for (size_t n = 0; n < most; n++) {
		/* a manifest can outlive its blobs; without one the layers above it are worthless
		 */
		if (store_has_blob(target, best->layer[n].digest, NULL) != 1)
			return n;
		ret[n] = best->layer[n];
	}
	return most;
}

/* --- reading reused layers --- */

struct lower_image {
	struct hs_engine *engine;
	struct hs_image *image;
	int config_fd;
};

static int read_lower(void *arg, uint64_t off, void *buf, size_t bytes, struct err *e)
{
	struct lower_image *l = arg;

	return hs_image_read(l->image, buf, bytes, off, e);
}

/* A config.v1.json that names the layers where the target holds them. */
static char *lower_config(const struct convert_options *o, const struct reuse_layer *layers,
			  size_t count)
{
	const struct imageref *t = o->target;
	cJSON *root = cJSON_CreateObject(), *lowers = cJSON_AddArrayToObject(root, "lowers");
	char *text;

	if (t->kind == IMAGEREF_DOCKER) {
		bool plain = o->insecure || imageref_loopback(t->host);
		char *url =
		    text_printf("%s://%s/v2/%s/blobs", plain ? "http" : "https", t->host, t->repo);

		cJSON_AddStringToObject(root, "repoBlobUrl", url);
		free(url);
	}
	for (size_t i = 0; i < count; i++) {
		cJSON *l = cJSON_CreateObject();

		if (t->kind == IMAGEREF_OCI) {
			char *file = text_printf("%s/blobs/sha256/%s", t->path,
						 layers[i].digest + strlen("sha256:"));

			cJSON_AddStringToObject(l, "file", file);
			free(file);
		} else {
			cJSON_AddStringToObject(l, "digest", layers[i].digest);
			cJSON_AddNumberToObject(l, "size", (double)layers[i].bytes);
		}
		cJSON_AddItemToArray(lowers, l);
	}
	text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (!text)
		abort();
	return text;
}

int lower_open(const struct convert_options *o, const struct reuse_layer *layers, size_t count,
	       struct lower_image **ret, struct lower_reader *ret_reader, struct err *e)
{
	struct hs_options ho = {
	    .creds = o->creds,
	    .authfile = o->authfile,
	    .cacert = o->cacert,
	    .client_cert = o->cert,
	    .client_key = o->key,
	    .hosts_dir = o->hosts_dir,
	    .insecure = o->insecure,
	};
	struct lower_image *l = xmalloc_zero(1, sizeof(*l));
	char *json = lower_config(o, layers, count), *path = NULL;
	int rc = 0;

	/* a file without a name: nothing is left behind however this ends */
	l->config_fd = memfd_create("config.v1.json", MFD_CLOEXEC);
	if (l->config_fd < 0 || write(l->config_fd, json, strlen(json)) != (ssize_t)strlen(json))
		rc = err_set(e, -EIO, "memory file: %s", strerror(errno));
	if (rc == 0)
		rc = hs_engine_new(&ho, &l->engine, e);
	if (rc == 0) {
		path = text_printf("/proc/self/fd/%d", l->config_fd);
		rc = hs_image_open(l->engine, path, &l->image, e);
	}
	if (rc == 0 && hs_image_bytes(l->image) < o->device_bytes)
		rc = err_set(e, -EBADMSG, "the reused layers make a device of another size");
	free(path);
	free(json);
	if (rc < 0) {
		lower_close(l);
		return rc;
	}
	ret_reader->read = read_lower;
	ret_reader->arg = l;
	*ret = l;
	return 0;
}

void lower_close(struct lower_image *l)
{
	if (!l)
		return;
	hs_image_close(l->image);
	hs_engine_free(l->engine);
	if (l->config_fd >= 0)
		close(l->config_fd);
	free(l);
}
