/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_prefetch_show.c - headstart prefetch show: what a list fetches */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "err.h"
#include "headstart.h"
#include "list_print.h"
#include "list_ship.h"
#include "options.h"
#include "prefetch_list.h"
#include "text.h"

static bool ranges, files;

static const struct option_def show_options[] = {
    {"ranges", 0, OPTION_FLAG, NULL, &ranges, "one line for each range, in the order of fetching",
     NULL},
    {"files", 0, OPTION_FLAG, NULL, &files, "one line for each file, in the order of first touch",
     NULL},
    {"platform", 0, OPTION_STRING, "OS/ARCH", &common.platform,
     "which image of a multi-platform index", "this machine's"},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print all of the list as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", show_options},
    {"Registry", registry_options},
    {"General", general_options},
    {0},
};

static const struct command command = {
    .name = "prefetch show",
    .usage = "[OPTIONS] LIST|IMAGE",
    .purpose = "Show what the prefetch list in the file LIST fetches, or the one that lies beside "
	       "IMAGE in its registry or OCI directory.",
    .groups = groups,
    .examples = "  headstart prefetch show web.list\n"
		"  headstart prefetch show --files docker://127.0.0.1:5000/web:1_accelerated\n",
    .min_operands = 1,
    .max_operands = 1,
};

/* @ret_about: digest "" when it is a file. */
static int load(const char *name, struct prefetch_list **ret, struct shipped_list *ret_about,
		struct err *e)
{
	struct hs_engine *engine = NULL;
	struct hs_options o;
	int r;

	if (!text_starts_with(name, "docker://") && !text_starts_with(name, "oci:"))
		return prefetch_list_load(name, ret, e);
	common_engine(&o);
	o.cache_dir = NULL;
	r = hs_engine_new(&o, &engine, e);
	if (!r)
		r = list_pull(engine, name, ret, ret_about, e);
	hs_engine_free(engine);
	return r;
}

int cmd_prefetch_show(int argc, char **argv)
{
	struct prefetch_list *l = NULL;
	struct shipped_list about = {0};
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	common_log();
	r = load(argv[first], &l, &about, &e);
	if (r) {
		fprintf(stderr, "headstart prefetch show: %s\n", e.msg);
	} else if (common.json) {
		cJSON *j = list_json(l);
		char *text;

		if (about.digest[0]) {
			cJSON_AddStringToObject(j, "artifact", about.digest);
			cJSON_AddStringToObject(j, "pushed", about.created);
		}
		text = cJSON_Print(j);
		puts(text ? text : "{}");
		free(text);
		cJSON_Delete(j);
	} else {
		if (about.digest[0])
			printf("artifact %s\npushed   %s\n", about.digest, about.created);
		list_print(l, ranges, files);
	}
	prefetch_list_free(l);
	return r ? EXIT_FAILED : EXIT_OK;
}
