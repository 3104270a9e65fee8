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
#include "prefetch_history.h"
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
    {"cache-dir", 0, OPTION_STRING, "DIR", &common.cache_dir,
     "where starts of this node have told what the list was worth",
     "/var/cache/headstart; without root: $XDG_CACHE_HOME/headstart"},
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

/* What starts on this node made of the list; false: there were none. */
static bool look_back(const struct prefetch_list *l, const struct shipped_list *about,
		      struct history_worth *ret)
{
	struct hs_options o;
	cJSON *starts;

	common_engine(&o);
	if (!about->digest[0] || !l->image_digest[0] || !o.cache_dir)
		return false;
	starts = history_load(o.cache_dir, l->image_digest);
	history_worth(starts, about->digest, ret);
	cJSON_Delete(starts);
	return ret->starts > 0;
}

static void print_worth(const struct history_worth *w)
{
	printf("here     used by %u starts", w->starts);
	if (w->telling)
		printf("; the last of %u that could tell: %.0f %% of it was asked for, %.1f %% of "
		       "what was read was here in time",
		       w->telling, 100 * w->accuracy, 100 * w->coverage);
	puts(w->expired ? "; it has expired" : "");
}

static void add_worth(cJSON *j, const struct history_worth *w)
{
	cJSON *o = cJSON_AddObjectToObject(j, "here");

	cJSON_AddNumberToObject(o, "starts", w->starts);
	cJSON_AddNumberToObject(o, "telling", w->telling);
	if (w->telling) {
		cJSON_AddNumberToObject(o, "accuracy", w->accuracy);
		cJSON_AddNumberToObject(o, "coverage", w->coverage);
	}
	cJSON_AddBoolToObject(o, "expired", w->expired);
}

int cmd_prefetch_show(int argc, char **argv)
{
	struct prefetch_list *l = NULL;
	struct shipped_list about = {0};
	struct history_worth worth;
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
		if (look_back(l, &about, &worth))
			add_worth(j, &worth);
		text = cJSON_Print(j);
		puts(text ? text : "{}");
		free(text);
		cJSON_Delete(j);
	} else {
		if (about.digest[0])
			printf("artifact %s\npushed   %s\n", about.digest, about.created);
		if (look_back(l, &about, &worth))
			print_worth(&worth);
		list_print(l, ranges, files);
	}
	prefetch_list_free(l);
	return r ? EXIT_FAILED : EXIT_OK;
}
