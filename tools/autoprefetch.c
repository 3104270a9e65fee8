/* SPDX-License-Identifier: Apache-2.0 */
/* autoprefetch.c - see autoprefetch.h */
#include "autoprefetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "options.h"
#include "prefetch_history.h"
#include "prefetch_list.h"
#include "text.h"

static const char *const states[] = {
    [LIST_OFF] = "off", [LIST_SOUGHT] = "sought",   [LIST_NONE] = "none",
    [LIST_BAD] = "bad", [LIST_EXPIRED] = "expired", [LIST_USED] = "used",
};

static void settle(struct autoprefetch *a, enum list_state state, const char *why)
{
	pthread_mutex_lock(&a->lock);
	a->state = state;
	a->found_ns = clock_now_ns();
	if (why)
		snprintf(a->why, sizeof(a->why), "%s", why);
	pthread_mutex_unlock(&a->lock);
}

/* The image's number of a list's blob; UINT32_MAX: it has none of that digest to be fetched. */
static uint32_t blob_number(const struct hs_image *img, const struct prefetch_blob *b)
{
	for (size_t n = 0; n < hs_image_blob_count(img); n++) {
		struct hs_blob_info info;

		hs_image_blob(img, n, &info);
		if (!info.local && !strcmp(info.digest, b->digest) && info.bytes == b->bytes)
			return (uint32_t)n;
	}
	return UINT32_MAX;
}

/* Whether a list was made of what a start was seen to read. An imported one may name whole files.
 */
static bool is_exact(const struct prefetch_list *l)
{
	return l->origin == PREFETCH_RECORDED || l->origin == PREFETCH_PORTED;
}

/* Blobs and list are known: begin. */
static void replay(struct autoprefetch *a, struct hs_image *img, const struct prefetch_list *l)
{
	_cleanup_free_ uint32_t *number = xmalloc_zero(l->blob_count + 1, sizeof(*number));
	_cleanup_free_ struct hs_stored *ranges = xmalloc_zero(l->range_count + 1, sizeof(*ranges));
	uint32_t *at_ms = xmalloc_zero(l->range_count + 1, sizeof(*at_ms));
	struct err e = {0};
	uint64_t dropped = 0;
	size_t count = 0, first;

	for (size_t n = 0; n < l->blob_count; n++)
		number[n] = blob_number(img, &l->blobs[n]);
	for (size_t n = 0; n < l->range_count; n++) {
		const struct prefetch_range *r = &l->ranges[n];

		if (number[r->blob] == UINT32_MAX) {
			dropped += r->bytes;
			continue;
		}
		at_ms[count] = r->at_ms;
		ranges[count++] = (struct hs_stored){number[r->blob], r->off, r->bytes};
	}
	pthread_mutex_lock(&a->lock);
	a->dropped_bytes = dropped;
	a->exact = is_exact(l);
	a->at_ms = at_ms;
	snprintf(a->origin, sizeof(a->origin), "%s", prefetch_origin_name(l->origin));
	pthread_mutex_unlock(&a->lock);
	if (hs_prefetch_add(img, ranges, count, is_exact(l), common.prefetch_budget, &first, &e)) {
		log_warn("prefetch list cannot be used error=%s", e.msg);
		settle(a, LIST_BAD, e.msg);
		return;
	}
	pthread_mutex_lock(&a->lock);
	a->range_count = count;
	a->first_range = first;
	pthread_mutex_unlock(&a->lock);
	/* what a start was seen to read tells better what comes next than its neighbours do */
	if (is_exact(l))
		hs_set_read_around(a->engine, 0);
	settle(a, LIST_USED, NULL);
	log_info("prefetch begins ranges=%zu bytes=%llu dropped=%llu", count,
		 (unsigned long long)prefetch_list_bytes(l), (unsigned long long)dropped);
}

/* Whether pages are, or will be, warmed from the list; under the lock. */
static bool warms(const struct autoprefetch *a)
{
	return common.warm_pages && a->files_path && a->exact && !a->audit;
}

/* The list's files: for who warms pages. */
static bool files_found(void *arg, struct hs_image *img, struct hs_artifact *found,
			const struct err *why)
{
	struct autoprefetch *a = arg;
	struct err e = {0};

	(void)img;
	if (!found) {
		log_info("no files of the prefetch list why=%s", why->msg);
		return false;
	}
	if (!a->files_path)
		return false;
	if (text_write_file(a->files_path, found->bytes, found->len, 0600, &e)) {
		log_warn("cannot keep the prefetch list's files error=%s", e.msg);
		return false;
	}
	pthread_mutex_lock(&a->lock);
	a->files_here = true;
	pthread_mutex_unlock(&a->lock);
	return false;
}

/* A list in a file has both halves. */
static void keep_files(struct autoprefetch *a)
{
	struct err e = {0};

	if (!a->files_path || !a->file->touch_count)
		return;
	if (prefetch_list_save(a->file, a->files_path, &e))
		log_warn("cannot keep the prefetch list's files error=%s", e.msg);
	else {
		pthread_mutex_lock(&a->lock);
		a->files_here = true;
		pthread_mutex_unlock(&a->lock);
	}
}

static void blobs_known(void *arg, struct hs_image *img)
{
	struct autoprefetch *a = arg;

	if (a->file) {
		replay(a, img, a->file);
		keep_files(a);
	} else {
		(void)hs_prefetch_ends(img, true,
				       common.prefetch_budget); /* need not wait for any list */
	}
}

/* Whether the list of this digest has expired here; if not, whether it is to be audited. */
static bool expired(struct autoprefetch *a, const struct hs_image *img, const char *digest)
{
	cJSON *starts;
	bool bad;

	if (!a->cache_dir)
		return false;
	starts = history_load(a->cache_dir, hs_image_digest(img));
	bad = history_expired(starts, digest);
	pthread_mutex_lock(&a->lock);
	a->audit = !bad && history_audit_due(starts, digest);
	pthread_mutex_unlock(&a->lock);
	cJSON_Delete(starts);
	return bad;
}

static bool artifact_found(void *arg, struct hs_image *img, struct hs_artifact *found,
			   const struct err *why)
{
	struct autoprefetch *a = arg;
	struct prefetch_list *list;
	struct err e = {0};
	bool warm;

	if (!found) {
		settle(a, LIST_NONE, why->msg);
		log_info("no prefetch list why=%s", why->msg);
		/* what every start reads, whatever it does */
		(void)hs_prefetch_ends(img, false, common.prefetch_budget);
		return false;
	}
	pthread_mutex_lock(&a->lock);
	snprintf(a->digest, sizeof(a->digest), "%s", found->digest);
	pthread_mutex_unlock(&a->lock);
	if (prefetch_list_parse(found->bytes, found->len, &list, &e)) {
		log_warn("bad prefetch list digest=%s error=%s", found->digest, e.msg);
		settle(a, LIST_BAD, e.msg);
		(void)hs_prefetch_ends(img, false, common.prefetch_budget);
	} else if (expired(a, img, found->digest)) {
		log_warn("prefetch list not used: its last starts here used little of it digest=%s",
			 found->digest);
		settle(a, LIST_EXPIRED, NULL);
		(void)hs_prefetch_ends(img, false, common.prefetch_budget);
		prefetch_list_free(list);
	} else {
		replay(a, img, list);
		prefetch_list_free(list);
	}
	pthread_mutex_lock(&a->lock);
	/* its files are for who warms pages */
	warm = a->state == LIST_USED && warms(a);
	pthread_mutex_unlock(&a->lock);
	return warm;
}

bool autoprefetch_sought(struct autoprefetch *a)
{
	bool sought;

	pthread_mutex_lock(&a->lock);
	sought = a->state == LIST_SOUGHT;
	pthread_mutex_unlock(&a->lock);
	return sought;
}

bool autoprefetch_exact(struct autoprefetch *a)
{
	bool exact;

	pthread_mutex_lock(&a->lock);
	exact = a->state == LIST_USED && a->exact;
	pthread_mutex_unlock(&a->lock);
	return exact;
}

int autoprefetch_init(struct autoprefetch *a, const char *cache_dir, const char *files_path,
		      struct err *e)
{
	*a = (struct autoprefetch){
	    .options = {.arg = a, .blobs = blobs_known},
	    .cache_dir = text_dup(cache_dir),
	    .files_path = text_dup(files_path),
	    .state = LIST_SOUGHT,
	};
	pthread_mutex_init(&a->lock, NULL);
	if (!strcmp(common.prefetch, "off")) {
		a->options.blobs = NULL;
		a->state = LIST_OFF;
		return 0;
	}
	if (strcmp(common.prefetch, "auto") != 0) {
		snprintf(a->digest, sizeof(a->digest), "file");
		return prefetch_list_load(common.prefetch, &a->file, e);
	}
	a->options.artifact_type = PREFETCH_LIST_TYPE;
	a->options.artifact_media = PREFETCH_RANGES_MEDIA;
	a->options.artifact_max_bytes = PREFETCH_LIST_MAX_BYTES;
	a->options.artifact = artifact_found;
	if (common.warm_pages && a->files_path) {
		a->options.more_media = PREFETCH_FILES_MEDIA;
		a->options.more = files_found;
	}
	return 0;
}

void autoprefetch_free(struct autoprefetch *a)
{
	prefetch_list_free(a->file);
	free(a->cache_dir);
	free(a->files_path);
	free(a->at_ms);
	pthread_mutex_destroy(&a->lock);
}

static void add_bytes(cJSON *j, const char *key, uint64_t v)
{
	cJSON_AddNumberToObject(j, key, (double)v);
}

/* A share; left out when there is nothing to have a share of. */
static void add_share(cJSON *j, const char *key, uint64_t part, uint64_t whole)
{
	if (whole)
		cJSON_AddNumberToObject(j, key, (double)part / (double)whole);
}

/* @tells: what was asked for was asked by the application and not by ourselves */
static void add_counters(cJSON *j, const struct hs_prefetch_stats *p, const struct hs_stats *s,
			 bool tells)
{
	static const char *const ends[] = {
	    [HS_PREFETCH_NONE] = "none",	 [HS_PREFETCH_RUNNING] = "running",
	    [HS_PREFETCH_COMPLETE] = "complete", [HS_PREFETCH_OVER_BUDGET] = "over budget",
	    [HS_PREFETCH_STOPPED] = "stopped",	 [HS_PREFETCH_BEHIND] = "behind",
	};

	cJSON_AddStringToObject(j, "end", ends[p->end]);
	add_bytes(j, "planned_bytes", p->planned_bytes);
	add_bytes(j, "fetched_bytes", p->fetched_bytes);
	add_bytes(j, "used_bytes", p->used_bytes);
	add_bytes(j, "wasted_bytes",
		  p->fetched_bytes > p->used_bytes ? p->fetched_bytes - p->used_bytes : 0);
	add_bytes(j, "failed_fetches", p->failed_fetches);
	add_bytes(j, "ranges", p->ranges);
	add_bytes(j, "late_ranges", p->late_ranges);
	add_bytes(j, "asked_bytes", s->asked_bytes);
	add_bytes(j, "asked_local_bytes", s->asked_local_bytes);
	if (tells)
		add_share(j, "coverage", s->asked_local_bytes, s->asked_bytes);
	if (tells && p->fetched_bytes)
		add_share(j, "accuracy", p->used_bytes, p->fetched_bytes);
	else if (tells)
		add_share(j, "accuracy", p->planned_used_bytes, p->planned_bytes);
}

void autoprefetch_pages(struct autoprefetch *a, struct hs_image *img, cJSON *j)
{
	uint64_t landed_ms = 0;
	bool final;
	size_t landed = hs_prefetch_landed(img, &final);

	pthread_mutex_lock(&a->lock);
	if (landed >= a->first_range + a->range_count)
		final = true;
	else if (landed >= a->first_range)
		landed_ms = a->at_ms[landed - a->first_range];
	cJSON_AddBoolToObject(j, "wanted",
			      a->state == LIST_SOUGHT || (a->state == LIST_USED && warms(a)));
	cJSON_AddBoolToObject(j, "final", a->state == LIST_USED && final);
	cJSON_AddNumberToObject(j, "landed_ms", (double)landed_ms);
	if (a->files_here)
		cJSON_AddStringToObject(j, "file", AUTOPREFETCH_FILES);
	pthread_mutex_unlock(&a->lock);
}

cJSON *autoprefetch_json(struct autoprefetch *a, struct hs_image *img, struct hs_engine *eng)
{
	struct hs_prefetch_stats p;
	struct hs_stats s;
	bool warmed;
	cJSON *j = cJSON_CreateObject();

	hs_prefetch_stats_get(img, &p);
	hs_stats_get(eng, &s);
	pthread_mutex_lock(&a->lock);
	cJSON_AddStringToObject(j, "state", states[a->state]);
	if (a->digest[0])
		cJSON_AddStringToObject(j, "list", a->digest);
	if (a->origin[0])
		cJSON_AddStringToObject(j, "origin", a->origin);
	if (a->why[0])
		cJSON_AddStringToObject(j, "why", a->why);
	add_bytes(j, "found_ns", a->found_ns);
	add_bytes(j, "dropped_bytes", a->dropped_bytes);
	warmed = a->state == LIST_USED && warms(a) && a->files_here;
	cJSON_AddBoolToObject(j, "warms_pages", warmed);
	pthread_mutex_unlock(&a->lock);
	add_bytes(j, "start_ns", p.start_ns);
	add_bytes(j, "end_ns", p.end_ns);
	add_counters(j, &p, &s, !warmed);
	return j;
}

void autoprefetch_done(struct autoprefetch *a, struct hs_image *img, struct hs_engine *eng)
{
	cJSON *start;
	bool used;

	pthread_mutex_lock(&a->lock);
	used = a->state == LIST_USED;
	pthread_mutex_unlock(&a->lock);
	if (!used || !a->cache_dir || !*hs_image_digest(img))
		return;
	start = autoprefetch_json(a, img, eng);
	cJSON_AddNumberToObject(start, "unix_s", (double)time(NULL));
	history_add(a->cache_dir, hs_image_digest(img), start);
}
