/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch_history.h - what prefetch lists were worth on this node, kept beside the cache
 *
 * CACHE-DIR/prefetch/HEX.json, HEX being the image's digest: the last starts, each with the list it
 * used and what came of it. A list of whose last three starts that could tell each used less than a
 * third of it has expired on this node, until another list takes its place. Best effort: what
 * cannot be read or written counts as no history.
 */
#ifndef HS_TOOLS_PREFETCH_HISTORY_H
#define HS_TOOLS_PREFETCH_HISTORY_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#define HISTORY_STARTS 64 /* kept */

/* history_load - array of starts, oldest first; never NULL; caller deletes */
cJSON *history_load(const char *cache_dir, const char *image_digest);
/* history_expired - whether @list_digest proved useless in @starts */
bool history_expired(const cJSON *starts, const char *list_digest);
/* What a list was worth in the starts of @starts that used it. */
struct history_worth {
	unsigned int starts, telling; /* with it; of these, that could tell */
	double accuracy, coverage;    /* of the last one that could */
	bool expired;
};

void history_worth(const cJSON *starts, const char *list_digest, struct history_worth *ret);

/*
 * history_audit_due - whether the next start with @list_digest should tell its accuracy
 * The third start, then every eleventh; and every one after a bad one, until the list has
 * expired or proved good.
 */
bool history_audit_due(const cJSON *starts, const char *list_digest);
/* history_add - append @start (taken over), drop the oldest, write */
void history_add(const char *cache_dir, const char *image_digest, cJSON *start);

#endif
