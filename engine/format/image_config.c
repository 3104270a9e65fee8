/* SPDX-License-Identifier: Apache-2.0 */
/* image_config.c - overlaybd's config.v1.json */
#include "image_config.h"

#include <errno.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "cleanup.h"
#include "err.h"
#include "json_get.h"
#include "lsmt.h"
#include "text.h"

#define IMAGE_CONFIG_MAX_BYTES (4u << 20)

static void cleanup_json(cJSON **j)
{
	cJSON_Delete(*j);
}

static void cleanup_config(struct image_config **c)
{
	image_config_free(*c);
}

static int parse_lower(const cJSON *j, struct image_config_lower *l, struct err *e)
{
	int r;

	if (!cJSON_IsObject(j))
		return err_set(e, -EBADMSG, "not an object");
	if ((r = json_get_string(j, "file", &l->file, e)) < 0 ||
	    (r = json_get_string(j, "dir", &l->dir, e)) < 0 ||
	    (r = json_get_digest(j, "digest", &l->digest, e)) < 0 ||
	    (r = json_get_uint(j, "size", &l->size, e)) < 0 ||
	    (r = json_get_string(j, "targetFile", &l->target_file, e)) < 0 ||
	    (r = json_get_digest(j, "targetDigest", &l->target_digest, e)) < 0 ||
	    (r = json_get_string(j, "gzipIndex", &l->gzip_index, e)) < 0)
		return r;
	if (!l->file && !l->dir && !l->digest)
		return err_set(e, -EBADMSG, "none of \"file\", \"dir\" and \"digest\" is given");
	return 0;
}

static int parse_lowers(const cJSON *root, struct image_config *c, struct err *e)
{
	cJSON *array, *item;
	int count, r;

	r = json_get_array(root, "lowers", &array, e);
	if (r < 0)
		return r;
	count = cJSON_GetArraySize(array);
	/* one more may stand there: the acceleration layer */
	if (count > LSMT_MAX_LAYERS + 1)
		return err_set(e, -EBADMSG, "\"lowers\" has %d layers, at most %d are possible",
			       count, LSMT_MAX_LAYERS);
	c->lowers = xmalloc_zero((size_t)count + 1, sizeof(*c->lowers));
	cJSON_ArrayForEach(item, array)
	{
		size_t n = c->lower_count++;

		r = parse_lower(item, &c->lowers[n], e);
		if (r < 0)
			return err_wrap(e, r, "\"lowers\"[%zu]", n);
	}
	return 0;
}

static int parse_upper(const cJSON *root, struct image_config *c, struct err *e)
{
	cJSON *upper;
	int r;

	r = json_get_object(root, "upper", &upper, e);
	if (r < 0 || !upper)
		return r;
	if ((r = json_get_string(upper, "index", &c->upper_index, e)) < 0 ||
	    (r = json_get_string(upper, "data", &c->upper_data, e)) < 0 ||
	    (r = json_get_string(upper, "target", &c->upper_target, e)) < 0 ||
	    (r = json_get_string(upper, "gzipIndex", &c->upper_gzip_index, e)) < 0)
		return err_wrap(e, r, "\"upper\"");
	if (!c->upper_index != !c->upper_data)
		return err_set(e, -EBADMSG, "\"upper\" has only one of \"index\" and \"data\"");
	return 0;
}

static void lower_done(struct image_config_lower *l)
{
	free(l->file);
	free(l->dir);
	free(l->digest);
	free(l->target_file);
	free(l->target_digest);
	free(l->gzip_index);
}

/* The last lower is then no layer: its directory holds the trace. */
static int take_acceleration(struct image_config *c, struct err *e)
{
	struct image_config_lower *last;

	if (c->record_trace_path)
		return err_set(e, -EBADMSG,
			       "\"accelerationLayer\" and \"recordTracePath\" exclude each other");
	if (c->lower_count == 0)
		return err_set(e, -EBADMSG, "\"accelerationLayer\" without any \"lowers\"");
	last = &c->lowers[c->lower_count - 1];
	if (!last->dir)
		return err_set(e, -EBADMSG, "the acceleration layer has no \"dir\"");
	c->accel_dir = steal_ptr(last->dir);
	lower_done(last);
	c->lower_count--;
	return 0;
}

int image_config_parse(const char *json, size_t bytes, struct image_config **ret, struct err *e)
{
	_cleanup_(cleanup_json) cJSON *root = NULL;
	_cleanup_(cleanup_config) struct image_config *c = NULL;
	bool accelerated = false;
	int r;

	if (bytes > IMAGE_CONFIG_MAX_BYTES)
		return err_set(e, -EBADMSG, "image config: larger than %u bytes",
			       IMAGE_CONFIG_MAX_BYTES);
	r = json_get_root(json, bytes, &root, e);
	if (r < 0)
		return err_wrap(e, r, "image config");
	c = xmalloc_zero(1, sizeof(*c));
	if ((r = json_get_string(root, "repoBlobUrl", &c->repo_blob_url, e)) < 0 ||
	    (r = json_get_string(root, "resultFile", &c->result_file, e)) < 0 ||
	    (r = json_get_string(root, "recordTracePath", &c->record_trace_path, e)) < 0 ||
	    (r = json_get_bool(root, "accelerationLayer", &accelerated, e)) < 0 ||
	    (r = parse_lowers(root, c, e)) < 0 || (r = parse_upper(root, c, e)) < 0 ||
	    (accelerated && (r = take_acceleration(c, e)) < 0))
		return err_wrap(e, r, "image config");
	if (c->lower_count > LSMT_MAX_LAYERS)
		return err_set(e, -EBADMSG, "image config: \"lowers\" has more than %d layers",
			       LSMT_MAX_LAYERS);
	if (c->lower_count == 0 && !c->upper_data)
		return err_set(e, -EBADMSG, "image config: \"lowers\" names no layer");
	*ret = steal_ptr(c);
	return 0;
}

void image_config_free(struct image_config *c)
{
	if (!c)
		return;
	for (size_t n = 0; n < c->lower_count; n++)
		lower_done(&c->lowers[n]);
	free(c->lowers);
	free(c->repo_blob_url);
	free(c->accel_dir);
	free(c->upper_index);
	free(c->upper_data);
	free(c->upper_target);
	free(c->upper_gzip_index);
	free(c->result_file);
	free(c->record_trace_path);
	free(c);
}
