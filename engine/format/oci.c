/* SPDX-License-Identifier: Apache-2.0 */
/* oci.c - OCI and Docker schema 2 manifests, indexes and image configs */
#include "oci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base64.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "json_get.h"
#include "text.h"

static void cleanup_json(cJSON **j)
{
	cJSON_Delete(*j);
}

static int open_document(const char *json, size_t bytes, size_t max, cJSON **ret, struct err *e)
{
	if (bytes > max)
		return err_set(e, -EBADMSG, "larger than %zu bytes", max);
	return json_get_root(json, bytes, ret, e);
}

static void annotations_free(struct oci_annotation *a, size_t count)
{
	for (size_t n = 0; n < count; n++) {
		free(a[n].key);
		free(a[n].value);
	}
	free(a);
}

static void descriptor_done(struct oci_descriptor *d)
{
	free(d->media_type);
	free(d->digest);
	annotations_free(d->annotations, d->annotation_count);
	oci_platform_done(&d->platform);
	free(d->artifact_type);
	free(d->data);
}

/* @lenient: what is not a string is left out */
static int parse_annotations(const cJSON *j, bool lenient, struct oci_annotation **ret,
			     size_t *ret_count, struct err *e)
{
	cJSON *o, *item;
	int r = json_get_object(j, "annotations", &o, e);

	if (r < 0 || !o)
		return r;
	*ret = xmalloc_zero((size_t)cJSON_GetArraySize(o) + 1, sizeof(**ret));
	cJSON_ArrayForEach(item, o)
	{
		if (!cJSON_IsString(item) && lenient)
			continue;
		if (!cJSON_IsString(item))
			return err_set(e, -EBADMSG, "\"annotations\" holds something not a string");
		(*ret)[(*ret_count)++] = (struct oci_annotation){
		    .key = text_dup(item->string),
		    .value = text_dup(item->valuestring),
		};
	}
	return 0;
}

static int parse_platform(const cJSON *j, struct oci_platform *p, struct err *e)
{
	int r;

	if ((r = json_get_string(j, "os", &p->os, e)) < 0 ||
	    (r = json_get_string(j, "architecture", &p->architecture, e)) < 0)
		return r;
	return json_get_string(j, "variant", &p->variant, e);
}

/* Inline content that is not what its descriptor says is as good as none: it can be fetched. */
static int parse_data(const cJSON *j, struct oci_descriptor *d, struct err *e)
{
	const cJSON *text = cJSON_GetObjectItemCaseSensitive(j, "data");
	char digest[DIGEST_TEXT_BYTES], *data;
	size_t len, bytes;

	if (!text || cJSON_IsNull(text))
		return 0;
	if (!cJSON_IsString(text))
		return err_set(e, -EBADMSG, "\"data\" is not a string");
	len = strlen(text->valuestring);
	if (!d->digest || d->size > len || base64_decode(text->valuestring, len, &data, &bytes) < 0)
		return 0;
	digest_of(data, bytes, digest);
	if (bytes == d->size && strcmp(digest, d->digest) == 0)
		d->data = data;
	else
		free(data);
	return 0;
}

/* On failure what was taken in stays in @d, for the owner to release. */
static int parse_descriptor(const cJSON *j, struct oci_descriptor *d, struct err *e)
{
	uint64_t size = UINT64_MAX;
	cJSON *platform;
	int r;

	if (!cJSON_IsObject(j))
		return err_set(e, -EBADMSG, "not a descriptor");
	if ((r = json_get_string(j, "mediaType", &d->media_type, e)) < 0 ||
	    (r = json_get_digest(j, "digest", &d->digest, e)) < 0 ||
	    (r = json_get_uint(j, "size", &size, e)) < 0 ||
	    (r = parse_annotations(j, false, &d->annotations, &d->annotation_count, e)) < 0 ||
	    (r = json_get_string(j, "artifactType", &d->artifact_type, e)) < 0 ||
	    (r = json_get_object(j, "platform", &platform, e)) < 0)
		return r;
	if (platform && (r = parse_platform(platform, &d->platform, e)) < 0)
		return r;
	if (!d->media_type || !d->digest || size == UINT64_MAX)
		return err_set(e, -EBADMSG, "\"mediaType\", \"digest\" or \"size\" is missing");
	d->size = size;
	return parse_data(j, d, e);
}

/* @lenient: leave out what is not understood */
static int parse_descriptors(const cJSON *root, const char *key, size_t max, bool lenient,
			     struct oci_descriptor **ret, size_t *ret_count, struct err *e)
{
	cJSON *array, *item;
	size_t count;
	int r = json_get_array(root, key, &array, e);

	if (r < 0)
		return r;
	if (!array)
		return err_set(e, -EBADMSG, "\"%s\" is missing", key);
	count = (size_t)cJSON_GetArraySize(array);
	if (count > max)
		return err_set(e, -EBADMSG, "\"%s\" has %zu entries, at most %zu are accepted", key,
			       count, max);
	*ret = xmalloc_zero(count + 1, sizeof(**ret));
	cJSON_ArrayForEach(item, array)
	{
		size_t n = (*ret_count)++;

		r = parse_descriptor(item, &(*ret)[n], e);
		if (r < 0 && lenient) {
			descriptor_done(&(*ret)[n]);
			memset(&(*ret)[n], 0, sizeof(**ret));
			(*ret_count)--;
			continue;
		}
		if (r < 0)
			return err_wrap(e, r, "\"%s\"[%zu]", key, n);
	}
	return 0;
}

static const char *find_annotation(const struct oci_annotation *a, size_t count, const char *key)
{
	for (size_t n = 0; n < count; n++)
		if (strcmp(a[n].key, key) == 0)
			return a[n].value;
	return NULL;
}

const char *oci_annotation(const struct oci_descriptor *d, const char *key)
{
	return find_annotation(d->annotations, d->annotation_count, key);
}

const char *oci_manifest_annotation(const struct oci_manifest *m, const char *key)
{
	return find_annotation(m->annotations, m->annotation_count, key);
}

const struct oci_descriptor *oci_acceleration(const struct oci_manifest *m)
{
	const struct oci_descriptor *top = m->layers + m->layer_count;

	return m->layer_count && oci_annotation(top - 1, OBD_ANNOTATION_ACCEL) ? top - 1 : NULL;
}

static bool is_manifest_type(const char *t)
{
	return strcmp(t, OCI_TYPE_MANIFEST) == 0 || strcmp(t, DOCKER_TYPE_MANIFEST) == 0;
}

static bool is_index_type(const char *t)
{
	return strcmp(t, OCI_TYPE_INDEX) == 0 || strcmp(t, DOCKER_TYPE_LIST) == 0;
}

/* A document that is a manifest to one reader and an index to another is an attack. */
static int kind_of(const cJSON *root, enum oci_kind *ret, struct err *e)
{
	bool layers = cJSON_GetObjectItemCaseSensitive(root, "layers") ||
		      cJSON_GetObjectItemCaseSensitive(root, "config");
	bool manifests = cJSON_GetObjectItemCaseSensitive(root, "manifests");
	_cleanup_free_ char *type = NULL;
	uint64_t version = 2;
	int r;

	if ((r = json_get_uint(root, "schemaVersion", &version, e)) < 0 ||
	    (r = json_get_string(root, "mediaType", &type, e)) < 0)
		return r;
	if (version == 1)
		return err_set(e, -EOPNOTSUPP, "schema 1 manifests are not supported");
	if (version != 2)
		return err_set(e, -EBADMSG, "\"schemaVersion\" is not 2");
	if (layers == manifests)
		return err_set(e, -EBADMSG, "neither a manifest nor an index, or both");
	if (type && ((is_manifest_type(type) && manifests) || (is_index_type(type) && layers)))
		return err_set(e, -EBADMSG, "\"mediaType\" does not fit the content");
	*ret = manifests ? OCI_KIND_INDEX : OCI_KIND_MANIFEST;
	return 0;
}

int oci_kind_of(const char *json, size_t bytes, enum oci_kind *ret, struct err *e)
{
	_cleanup_(cleanup_json) cJSON *root = NULL;
	int r = open_document(json, bytes, OCI_MANIFEST_MAX_BYTES, &root, e);

	if (r == 0)
		r = kind_of(root, ret, e);
	return r < 0 ? err_wrap(e, r, "manifest") : 0;
}

static int fill_manifest(const cJSON *root, struct oci_manifest *m, struct err *e)
{
	cJSON *config, *subject;
	enum oci_kind kind;
	int r;

	if ((r = kind_of(root, &kind, e)) < 0)
		return r;
	if (kind != OCI_KIND_MANIFEST)
		return err_set(e, -EBADMSG, "is an index");
	if ((r = json_get_string(root, "mediaType", &m->media_type, e)) < 0 ||
	    (r = json_get_string(root, "artifactType", &m->artifact_type, e)) < 0 ||
	    (r = parse_annotations(root, true, &m->annotations, &m->annotation_count, e)) < 0 ||
	    (r = json_get_object(root, "config", &config, e)) < 0 ||
	    (r = json_get_object(root, "subject", &subject, e)) < 0)
		return r;
	if (!config)
		return err_set(e, -EBADMSG, "\"config\" is missing");
	r = parse_descriptor(config, &m->config, e);
	if (r < 0)
		return err_wrap(e, r, "\"config\"");
	/* an image that refers to something in a way that is not understood is still an image */
	if (subject && parse_descriptor(subject, &m->subject, NULL) < 0) {
		descriptor_done(&m->subject);
		memset(&m->subject, 0, sizeof(m->subject));
	}
	r = parse_descriptors(root, "layers", OCI_MAX_LAYERS, false, &m->layers, &m->layer_count,
			      e);
	if (r < 0)
		return r;
	m->docker = m->media_type ? strcmp(m->media_type, DOCKER_TYPE_MANIFEST) == 0
				  : strcmp(m->config.media_type, DOCKER_TYPE_CONFIG) == 0;
	return 0;
}

int oci_manifest_parse(const char *json, size_t bytes, struct oci_manifest **ret, struct err *e)
{
	_cleanup_(cleanup_json) cJSON *root = NULL;
	struct oci_manifest *m;
	int r = open_document(json, bytes, OCI_MANIFEST_MAX_BYTES, &root, e);

	if (r < 0)
		return err_wrap(e, r, "manifest");
	m = xmalloc_zero(1, sizeof(*m));
	r = fill_manifest(root, m, e);
	if (r < 0) {
		oci_manifest_free(m);
		return err_wrap(e, r, "manifest");
	}
	*ret = m;
	return 0;
}

void oci_manifest_free(struct oci_manifest *m)
{
	if (!m)
		return;
	free(m->media_type);
	descriptor_done(&m->config);
	descriptor_done(&m->subject);
	free(m->artifact_type);
	annotations_free(m->annotations, m->annotation_count);
	for (size_t n = 0; n < m->layer_count; n++)
		descriptor_done(&m->layers[n]);
	free(m->layers);
	free(m);
}

static int fill_index(const cJSON *root, bool lenient, struct oci_index *i, struct err *e)
{
	enum oci_kind kind;
	int r;

	if ((r = kind_of(root, &kind, e)) < 0)
		return r;
	if (kind != OCI_KIND_INDEX)
		return err_set(e, -EBADMSG, "is a manifest");
	r = json_get_string(root, "mediaType", &i->media_type, e);
	if (r < 0)
		return r;
	return parse_descriptors(root, "manifests", OCI_MAX_MANIFESTS, lenient, &i->manifests,
				 &i->manifest_count, e);
}

static int parse_index(const char *json, size_t bytes, bool lenient, struct oci_index **ret,
		       struct err *e)
{
	_cleanup_(cleanup_json) cJSON *root = NULL;
	struct oci_index *i;
	int r = open_document(json, bytes, OCI_MANIFEST_MAX_BYTES, &root, e);

	if (r < 0)
		return err_wrap(e, r, "index");
	i = xmalloc_zero(1, sizeof(*i));
	r = fill_index(root, lenient, i, e);
	if (r < 0) {
		oci_index_free(i);
		return err_wrap(e, r, "index");
	}
	*ret = i;
	return 0;
}

int oci_index_parse(const char *json, size_t bytes, struct oci_index **ret, struct err *e)
{
	return parse_index(json, bytes, false, ret, e);
}

int oci_referrers_parse(const char *json, size_t bytes, struct oci_index **ret, struct err *e)
{
	return parse_index(json, bytes, true, ret, e);
}

void oci_index_free(struct oci_index *i)
{
	if (!i)
		return;
	free(i->media_type);
	for (size_t n = 0; n < i->manifest_count; n++)
		descriptor_done(&i->manifests[n]);
	free(i->manifests);
	free(i);
}

/* The names of an object's members; {"/data": {}} is how volumes are written. */
static int member_names(const cJSON *o, const char *key, char ***ret, struct err *e)
{
	cJSON *object, *item;
	size_t n = 0;
	int r = json_get_object(o, key, &object, e);

	if (r < 0)
		return r;
	*ret = xmalloc_zero((size_t)cJSON_GetArraySize(object) + 1, sizeof(**ret));
	cJSON_ArrayForEach(item, object)(*ret)[n++] = text_dup(item->string);
	return 0;
}

static int fill_rootfs(const cJSON *root, struct oci_config *c, struct err *e)
{
	cJSON *rootfs;
	int r = json_get_object(root, "rootfs", &rootfs, e);

	if (r < 0)
		return r;
	if (!rootfs)
		return err_set(e, -EBADMSG, "\"rootfs\" is missing");
	r = json_get_strings(rootfs, "diff_ids", &c->diff_ids, &c->diff_id_count, e);
	if (r < 0)
		return r;
	if (c->diff_id_count > OCI_MAX_LAYERS)
		return err_set(e, -EBADMSG, "\"diff_ids\" has %zu entries", c->diff_id_count);
	for (size_t n = 0; n < c->diff_id_count; n++)
		if (!digest_valid(c->diff_ids[n]))
			return err_set(e, -EBADMSG, "\"diff_ids\"[%zu] is not a sha256 digest", n);
	return 0;
}

static int fill_config(const cJSON *root, struct oci_config *c, struct err *e)
{
	cJSON *run;
	int r;

	if ((r = parse_platform(root, &c->platform, e)) < 0 || (r = fill_rootfs(root, c, e)) < 0 ||
	    (r = json_get_object(root, "config", &run, e)) < 0)
		return r;
	if ((r = json_get_strings(run, "Env", &c->env, NULL, e)) < 0 ||
	    (r = json_get_strings(run, "Entrypoint", &c->entrypoint, NULL, e)) < 0 ||
	    (r = json_get_strings(run, "Cmd", &c->cmd, NULL, e)) < 0 ||
	    (r = member_names(run, "Volumes", &c->volumes, e)) < 0 ||
	    (r = json_get_string(run, "User", &c->user, e)) < 0 ||
	    (r = json_get_string(run, "WorkingDir", &c->working_dir, e)) < 0)
		return r;
	return json_get_string(run, "StopSignal", &c->stop_signal, e);
}

int oci_config_parse(const char *json, size_t bytes, struct oci_config **ret, struct err *e)
{
	_cleanup_(cleanup_json) cJSON *root = NULL;
	struct oci_config *c;
	int r = open_document(json, bytes, OCI_CONFIG_MAX_BYTES, &root, e);

	if (r < 0)
		return err_wrap(e, r, "image config");
	c = xmalloc_zero(1, sizeof(*c));
	r = fill_config(root, c, e);
	if (r < 0) {
		oci_config_free(c);
		return err_wrap(e, r, "image config");
	}
	*ret = c;
	return 0;
}

void oci_config_free(struct oci_config *c)
{
	if (!c)
		return;
	oci_platform_done(&c->platform);
	json_free_strings(c->diff_ids);
	json_free_strings(c->env);
	json_free_strings(c->entrypoint);
	json_free_strings(c->cmd);
	json_free_strings(c->volumes);
	free(c->user);
	free(c->working_dir);
	free(c->stop_signal);
	free(c);
}

void oci_chain_id(const char *prev, const char *diff_id, char out[static 72])
{
	char *both;

	if (!prev) {
		digest_of("", 0, out); /* right shape even if @diff_id is not */
		if (digest_valid(diff_id))
			memcpy(out, diff_id, DIGEST_TEXT_BYTES);
		return;
	}
	both = text_printf("%s %s", prev, diff_id);
	digest_of(both, strlen(both), out);
	free(both);
}
