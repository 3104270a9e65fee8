/* SPDX-License-Identifier: Apache-2.0 */
/* json_get.c - typed access to members of a JSON object */
#include "json_get.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "digest.h"
#include "err.h"
#include "text.h"

#define JSON_MAX_EXACT 9007199254740992.0 /* 2^53: whole numbers are exact up to here */

int json_get_root(const char *json, size_t bytes, struct cJSON **ret, struct err *e)
{
	const char *end = NULL;
	cJSON *root = cJSON_ParseWithLengthOpts(json, bytes, &end, 0);

	if (!root)
		return err_set(e, -EBADMSG, "not valid JSON");
	while (end < json + bytes && (*end == ' ' || *end == '\t' || *end == '\r' || *end == '\n'))
		end++;
	/* a text that was read with its terminator is tolerated */
	if (end < json + bytes && !(*end == '\0' && end + 1 == json + bytes)) {
		cJSON_Delete(root);
		return err_set(e, -EBADMSG, "bytes after the end of the JSON document");
	}
	if (!cJSON_IsObject(root)) {
		cJSON_Delete(root);
		return err_set(e, -EBADMSG, "not a JSON object");
	}
	*ret = root;
	return 0;
}

static cJSON *member(const cJSON *o, const char *key)
{
	cJSON *m = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsNull(m) ? NULL : m;
}

static int wrong(struct err *e, const char *key, const char *want)
{
	return err_set(e, -EBADMSG, "\"%s\" is not %s", key, want);
}

int json_get_object(const cJSON *o, const char *key, cJSON **ret, struct err *e)
{
	cJSON *m = member(o, key);

	if (m && !cJSON_IsObject(m))
		return wrong(e, key, "an object");
	*ret = m;
	return 0;
}

int json_get_array(const cJSON *o, const char *key, cJSON **ret, struct err *e)
{
	cJSON *m = member(o, key);

	if (m && !cJSON_IsArray(m))
		return wrong(e, key, "an array");
	*ret = m;
	return 0;
}

int json_get_string(const cJSON *o, const char *key, char **ret, struct err *e)
{
	cJSON *m = member(o, key);

	if (m && !cJSON_IsString(m))
		return wrong(e, key, "a string");
	*ret = m && m->valuestring[0] ? text_dup(m->valuestring) : NULL;
	return 0;
}

int json_get_digest(const cJSON *o, const char *key, char **ret, struct err *e)
{
	char *s;
	int r = json_get_string(o, key, &s, e);

	if (r < 0)
		return r;
	if (s && !digest_valid(s)) {
		free(s);
		return wrong(e, key, "a sha256 digest");
	}
	*ret = s;
	return 0;
}

int json_get_uint(const cJSON *o, const char *key, uint64_t *ret, struct err *e)
{
	cJSON *m = member(o, key);

	if (!m)
		return 0;
	if (!cJSON_IsNumber(m) || !(m->valuedouble >= 0 && m->valuedouble <= JSON_MAX_EXACT) ||
	    (double)(uint64_t)m->valuedouble != m->valuedouble)
		return wrong(e, key, "a whole number");
	*ret = (uint64_t)m->valuedouble;
	return 0;
}

int json_get_bool(const cJSON *o, const char *key, bool *ret, struct err *e)
{
	cJSON *m = member(o, key);

	if (!m)
		return 0;
	if (!cJSON_IsBool(m))
		return wrong(e, key, "true or false");
	*ret = cJSON_IsTrue(m);
	return 0;
}

int json_get_strings(const cJSON *o, const char *key, char ***ret, size_t *ret_count, struct err *e)
{
	cJSON *array, *item;
	size_t n = 0;
	char **list;
	int r = json_get_array(o, key, &array, e);

	if (r < 0)
		return r;
	cJSON_ArrayForEach(item, array)
	{
		if (!cJSON_IsString(item))
			return wrong(e, key, "an array of strings");
		n++;
	}
	list = xmalloc_zero(n + 1, sizeof(*list));
	n = 0;
	cJSON_ArrayForEach(item, array) list[n++] = text_dup(item->valuestring);
	*ret = list;
	if (ret_count)
		*ret_count = n;
	return 0;
}

void json_free_strings(char **list)
{
	if (!list)
		return;
	for (char **s = list; *s; s++)
		free(*s);
	free(list);
}
