/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_prefetch_pull.c - headstart prefetch pull: the list beside an image into a file */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "err.h"
#include "headstart.h"
#include "list_ship.h"
#include "options.h"
#include "prefetch_list.h"
#include "text.h"

static const char *output;

static const struct option_def pull_options[] = {
    {"output", 'o', OPTION_STRING, "LIST", &output, "file to write", NULL},
    {"platform", 0, OPTION_STRING, "OS/ARCH", &common.platform,
     "which image of a multi-platform index", "this machine's"},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print the result as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", pull_options},
    {"Registry", registry_options},
    {"General", general_options},
    {0},
};

static const struct command command = {
    .name = "prefetch pull",
    .usage = "[OPTIONS] -o LIST IMAGE",
    .purpose = "Write the newest prefetch list that lies beside IMAGE to the file LIST, whole: "
	       "with the ranges that a start fetches and the files they were made from.",
    .groups = groups,
    .examples = "  headstart prefetch pull -o web.list \\\n"
		"      docker://127.0.0.1:5000/web:1_accelerated\n",
    .min_operands = 1,
    .max_operands = 1,
};

static void print_result(const struct prefetch_list *l, const struct shipped_list *s)
{
	char bytes[24], *text;
	cJSON *j;

	if (!common.json) {
		printf("%s: %s list %s of %s, %zu ranges, %s, %zu files\n", output,
		       prefetch_origin_name(l->origin), s->digest, s->created, l->range_count,
		       text_size(prefetch_list_bytes(l), bytes, sizeof(bytes)), l->file_count);
		return;
	}
	j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "file", output);
	cJSON_AddStringToObject(j, "digest", s->digest);
	cJSON_AddStringToObject(j, "created", s->created);
	cJSON_AddStringToObject(j, "origin", prefetch_origin_name(l->origin));
	cJSON_AddStringToObject(j, "image_digest", l->image_digest);
	cJSON_AddNumberToObject(j, "ranges", (double)l->range_count);
	cJSON_AddNumberToObject(j, "bytes", (double)prefetch_list_bytes(l));
	cJSON_AddNumberToObject(j, "files", (double)l->file_count);
	cJSON_AddNumberToObject(j, "touches", (double)l->touch_count);
	text = cJSON_Print(j);
	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

int cmd_prefetch_pull(int argc, char **argv)
{
	struct hs_engine *engine = NULL;
	struct prefetch_list *l = NULL;
	struct shipped_list about;
	struct hs_options o;
	struct err e = {0};
	int first, rc = options_parse(&command, argc, argv, &first);

	if (rc != OPTIONS_GO_ON)
		return rc;
	if (!output)
		return options_usage(&command, "-o LIST is needed");
	common_log();
	common.no_cache = true; /* a few metadata requests: nothing to keep */
	common_engine(&o);
	rc = hs_engine_new(&o, &engine, &e);
	if (!rc)
		rc = list_pull(engine, argv[first], &l, &about, &e);
	if (!rc)
		rc = prefetch_list_save(l, output, &e);
	if (!rc)
		print_result(l, &about);
	else
		fprintf(stderr, "headstart prefetch pull: %s\n", e.msg);
	prefetch_list_free(l);
	hs_engine_free(engine);
	return rc ? EXIT_FAILED : EXIT_OK;
}
