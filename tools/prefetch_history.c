/* SPDX-License-Identifier: Apache-2.0 */
/* prefetch_history.c - see prefetch_history.h */
#include "prefetch_history.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "log.h"
#include "text.h"

#define HISTORY_MAX_BYTES (1u << 20)
#define EXPIRED_STARTS	  3
#define EXPIRED_SHARE	  (1.0 / 3)
#define AUDIT_STARTS	  10

static char *history_path(const char *cache_dir, const char *image_digest)
{
	const char *hex = strchr(image_digest, ':');

	return text_printf("%s/prefetch/%s.json", cache_dir, hex ? hex + 1 : image_digest);
}

cJSON *history_load(const char *cache_dir, const char *image_digest)
{
	_cleanup_free_ char *path = history_path(cache_dir, image_digest);
	_cleanup_free_ char *text = NULL;
	cJSON *j = NULL;
	size_t len;

	if (!text_read_file(path, HISTORY_MAX_BYTES, &text, &len, NULL))
		j = cJSON_Parse(text);
	if (cJSON_IsArray(j))
		return j;
	cJSON_Delete(j);
	return cJSON_CreateArray();
}

static double number(const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

/* Whether @s used @list_digest and knows how much of it was asked for. */
static bool tells(const cJSON *s, const char *list_digest)
{
	const char *list = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s, "list"));

	return list && !strcmp(list, list_digest) &&
	       cJSON_GetObjectItemCaseSensitive(s, "accuracy");
}

bool history_expired(const cJSON *starts, const char *list_digest)
{
	unsigned int useless = 0;
	const cJSON *s;

	cJSON_ArrayForEach(s, starts)
	{
		if (tells(s, list_digest))
			useless = number(s, "accuracy") < EXPIRED_SHARE ? useless + 1 : 0;
	}
	return useless >= EXPIRED_STARTS;
}

void history_worth(const cJSON *starts, const char *list_digest, struct history_worth *ret)
{
	const cJSON *s;

	*ret = (struct history_worth){.expired = history_expired(starts, list_digest)};
	cJSON_ArrayForEach(s, starts)
	{
		const char *list =
		    cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s, "list"));

		ret->starts += list && !strcmp(list, list_digest);
		if (!tells(s, list_digest))
			continue;
		ret->telling++;
		ret->accuracy = number(s, "accuracy");
		ret->coverage = number(s, "coverage");
	}
}

bool history_audit_due(const cJSON *starts, const char *list_digest)
{
	unsigned int silent = 0; /* starts with this list since one told */
	bool told = false, bad = false;
	const cJSON *s;

	cJSON_ArrayForEach(s, starts)
	{
		const char *list =
		    cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s, "list"));

		if (tells(s, list_digest)) {
			told = true;
			bad = number(s, "accuracy") < EXPIRED_SHARE;
			silent = 0;
		} else if (list && !strcmp(list, list_digest)) {
			silent++;
		}
	}
	return bad || (silent >= (told ? AUDIT_STARTS : 2));
}

void history_add(const char *cache_dir, const char *image_digest, cJSON *start)
{
	_cleanup_free_ char *dir = text_printf("%s/prefetch", cache_dir);
	_cleanup_free_ char *path = history_path(cache_dir, image_digest);
	_cleanup_free_ char *text = NULL;
	cJSON *starts = history_load(cache_dir, image_digest);
	struct err e = {0};

	cJSON_AddItemToArray(starts, start);
	while (cJSON_GetArraySize(starts) > HISTORY_STARTS)
		cJSON_DeleteItemFromArray(starts, 0);
	text = cJSON_PrintUnformatted(starts);
	if (text &&
	    (text_mkdirs(dir, 0700, &e) || text_write_file(path, text, strlen(text), 0600, &e)))
		log_warn("cannot remember what the prefetch was worth error=%s", e.msg);
	cJSON_Delete(starts);
}
