/* SPDX-License-Identifier: Apache-2.0 */
/* list_print.c - see list_print.h; what comes from a list is quoted */
#include "list_print.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cleanup.h"
#include "log.h"
#include "prefetch_list.h"
#include "text.h"

#define QUOTED_BYTES 4096

/* What a list has of one blob or file. */
struct share {
	size_t count;
	uint64_t bytes;
	uint32_t first_ms;
};

static void add_share(struct share *s, uint64_t bytes, uint32_t at_ms)
{
	if (!s->count || at_ms < s->first_ms)
		s->first_ms = at_ms;
	s->count++;
	s->bytes += bytes;
}

static struct share *blob_shares(const struct prefetch_list *l)
{
	struct share *s = xmalloc_zero(l->blob_count, sizeof(*s));

	for (size_t i = 0; i < l->range_count; i++)
		add_share(&s[l->ranges[i].blob], l->ranges[i].bytes, l->ranges[i].at_ms);
	return s;
}

/* One per file, and one more for the device. */
static struct share *file_shares(const struct prefetch_list *l)
{
	struct share *s = xmalloc_zero(l->file_count + 1, sizeof(*s));

	for (size_t i = 0; i < l->touch_count; i++) {
		const struct prefetch_touch *t = &l->touches[i];

		add_share(&s[t->file == PREFETCH_NO_FILE ? l->file_count : t->file], t->bytes,
			  t->at_ms);
	}
	return s;
}

static void print_head(const struct prefetch_list *l)
{
	char quoted[QUOTED_BYTES], a[24];
	time_t created = (time_t)l->created_s;
	struct tm tm;

	printf("list     %s", prefetch_origin_name(l->origin));
	if (l->runs)
		printf(" from %u run%s", l->runs, l->runs == 1 ? "" : "s");
	if (gmtime_r(&created, &tm) && tm.tm_year < 8000)
		printf(", %04d-%02d-%02d %02d:%02d UTC", tm.tm_year + 1900, tm.tm_mon + 1,
		       tm.tm_mday, tm.tm_hour, tm.tm_min);
	printf("\nimage    %s\n", *l->image ? log_quote(l->image, quoted, sizeof(quoted)) : "-");
	printf("digest   %s\n", *l->image_digest ? l->image_digest : "-");
	printf("fetches  %s in %zu ranges", text_size(prefetch_list_bytes(l), a, sizeof(a)),
	       l->range_count);
	if (l->range_count)
		printf(", first touched from %.3f to %.3f s", l->ranges[0].at_ms / 1e3,
		       l->ranges[l->range_count - 1].at_ms / 1e3);
	printf("\nfiles    %zu, %zu touches\n", l->file_count, l->touch_count);
}

static void print_blobs(const struct prefetch_list *l)
{
	_cleanup_free_ struct share *s = blob_shares(l);
	char a[24], b[24];

	if (!l->blob_count)
		return;
	printf("\n%3s %-12s %10s %10s %6s %7s\n", "", "BLOB", "SIZE", "FETCHED", "SHARE", "RANGES");
	for (size_t i = 0; i < l->blob_count; i++)
		printf("%3zu %-12.12s %10s %10s %5.1f%% %7zu\n", i,
		       *l->blobs[i].digest ? l->blobs[i].digest + 7 : "(local)",
		       text_size(l->blobs[i].bytes, a, sizeof(a)),
		       text_size(s[i].bytes, b, sizeof(b)),
		       l->blobs[i].bytes ? 100.0 * (double)s[i].bytes / (double)l->blobs[i].bytes
					 : 0.0,
		       s[i].count);
}

static void print_ranges(const struct prefetch_list *l)
{
	printf("\n%9s %4s %12s %10s\n", "MS", "BLOB", "OFFSET", "BYTES");
	for (size_t i = 0; i < l->range_count; i++)
		printf("%9u %4u %12llu %10llu\n", l->ranges[i].at_ms, l->ranges[i].blob,
		       (unsigned long long)l->ranges[i].off,
		       (unsigned long long)l->ranges[i].bytes);
}

static void print_share(const struct share *s, const char *name)
{
	char a[24];

	printf("%9u %10s %7zu  %s\n", s->first_ms, text_size(s->bytes, a, sizeof(a)), s->count,
	       name);
}

static void print_files(const struct prefetch_list *l)
{
	_cleanup_free_ struct share *s = file_shares(l);
	char quoted[QUOTED_BYTES];

	printf("\n%9s %10s %7s  %s\n", "MS", "TOUCHED", "TOUCHES", "FILE");
	if (s[l->file_count].count)
		print_share(&s[l->file_count], "(file system metadata)");
	for (size_t i = 0; i < l->file_count; i++)
		print_share(&s[i], log_quote(l->files[i].path, quoted, sizeof(quoted)));
}

void list_print(const struct prefetch_list *l, bool ranges, bool files)
{
	print_head(l);
	print_blobs(l);
	if (ranges)
		print_ranges(l);
	if (files)
		print_files(l);
}

static void add_number(cJSON *o, const char *key, uint64_t v)
{
	cJSON_AddNumberToObject(o, key, (double)v);
}

static cJSON *add_row(cJSON *array)
{
	cJSON *row = cJSON_CreateObject();

	cJSON_AddItemToArray(array, row);
	return row;
}

static void add_ranges(cJSON *j, const struct prefetch_list *l)
{
	cJSON *blobs = cJSON_AddArrayToObject(j, "blobs");
	cJSON *ranges = cJSON_AddArrayToObject(j, "ranges");

	for (size_t i = 0; i < l->blob_count; i++) {
		cJSON *row = add_row(blobs);

		cJSON_AddStringToObject(row, "digest", l->blobs[i].digest);
		add_number(row, "bytes", l->blobs[i].bytes);
	}
	for (size_t i = 0; i < l->range_count; i++) {
		cJSON *row = add_row(ranges);

		add_number(row, "blob", l->ranges[i].blob);
		add_number(row, "ms", l->ranges[i].at_ms);
		add_number(row, "offset", l->ranges[i].off);
		add_number(row, "bytes", l->ranges[i].bytes);
	}
}

static void add_files(cJSON *j, const struct prefetch_list *l)
{
	cJSON *files = cJSON_AddArrayToObject(j, "files");
	cJSON *touches = cJSON_AddArrayToObject(j, "touches");

	for (size_t i = 0; i < l->file_count; i++) {
		cJSON *row = add_row(files);

		cJSON_AddStringToObject(row, "path", l->files[i].path);
		add_number(row, "bytes", l->files[i].bytes);
	}
	for (size_t i = 0; i < l->touch_count; i++) {
		const struct prefetch_touch *t = &l->touches[i];
		cJSON *row = add_row(touches);

		if (t->file == PREFETCH_NO_FILE)
			cJSON_AddNullToObject(row, "file");
		else
			add_number(row, "file", t->file);
		add_number(row, "ms", t->at_ms);
		add_number(row, "offset", t->off);
		add_number(row, "bytes", t->bytes);
	}
}

struct cJSON *list_json(const struct prefetch_list *l)
{
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "origin", prefetch_origin_name(l->origin));
	cJSON_AddStringToObject(j, "image", l->image);
	cJSON_AddStringToObject(j, "image_digest", l->image_digest);
	add_number(j, "created", l->created_s);
	add_number(j, "runs", l->runs);
	add_number(j, "range_bytes", prefetch_list_bytes(l));
	add_ranges(j, l);
	add_files(j, l);
	return j;
}
