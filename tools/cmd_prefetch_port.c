/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_prefetch_port.c - headstart prefetch port: a list for the next build of its image */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "err.h"
#include "headstart.h"
#include "imagefs.h"
#include "list_print.h"
#include "options.h"
#include "port.h"
#include "prefetch_list.h"
#include "text.h"

static const char *output;
static uint64_t budget, gap = 128u << 10;

static const struct option_def port_options[] = {
    {"output", 'o', OPTION_STRING, "LIST2", &output, "file to write; has to be given", NULL},
    {"budget", 0, OPTION_SIZE, "SIZE", &budget, "fetch at most this much, the earliest; 0: all",
     "0"},
    {"gap", 0, OPTION_SIZE, "SIZE", &gap,
     "fetch gaps of up to SIZE to save requests, as long as 8% are not exceeded", "128K"},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print the result as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", port_options},	    {"Image", image_options},
    {"Registry", registry_options}, {"Cache and reads", engine_options},
    {"General", general_options},   {0},
};

static const struct command command = {
    .name = "prefetch port",
    .usage = "[OPTIONS] -o LIST2 LIST IMAGE",
    .purpose = "Carry the prefetch list in the file LIST over to IMAGE, another build of the "
	       "image it was made for, by path and file offset. Says how much of it could be "
	       "carried, and how surely.",
    .groups = groups,
    .examples = "  headstart prefetch port -o web2.list web.list "
		"docker://127.0.0.1:5000/web:2\n",
    .min_operands = 2,
    .max_operands = 2,
};

static double percent(uint64_t part, uint64_t all)
{
	return all ? 100.0 * (double)part / (double)all : 0.0;
}

static void print_share(const char *what, uint64_t bytes, uint64_t all, const char *how)
{
	char a[24];

	printf("%-8s %10s %5.1f%%  %s\n", what, text_size(bytes, a, sizeof(a)), percent(bytes, all),
	       how);
}

static void print_report(const struct prefetch_list *l, const struct port_report *rep)
{
	uint64_t all = rep->content_bytes + rep->offset_bytes + rep->lost_bytes;

	list_print(l, false, false);
	putchar('\n');
	print_share("carried", rep->content_bytes + rep->offset_bytes, all,
		    "of the bytes of files that the old list touches:");
	print_share("content", rep->content_bytes, all, "the same bytes of the same blob");
	print_share("offset", rep->offset_bytes, all, "same path and offset");
	print_share("lost", rep->lost_bytes, all, "no such file, or too short now");
	printf("%-8s %zu of %zu files are gone\n", "files", rep->lost_files, rep->files);
}

static void print_json(const struct prefetch_list *l, const struct port_report *rep)
{
	uint64_t carried = rep->content_bytes + rep->offset_bytes;
	const struct {
		const char *key;
		double value;
	} rows[] = {
	    {"ranges", (double)l->range_count},
	    {"range_bytes", (double)prefetch_list_bytes(l)},
	    {"touched_bytes", (double)(carried + rep->lost_bytes)},
	    {"carried_bytes", (double)carried},
	    {"carried_percent", percent(carried, carried + rep->lost_bytes)},
	    {"content_bytes", (double)rep->content_bytes},
	    {"offset_bytes", (double)rep->offset_bytes},
	    {"lost_bytes", (double)rep->lost_bytes},
	    {"files", (double)rep->files},
	    {"lost_files", (double)rep->lost_files},
	    {"replaced_metadata_bytes", (double)rep->device_bytes},
	};
	cJSON *j = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(j, "list", output);
	cJSON_AddStringToObject(j, "image", l->image);
	cJSON_AddStringToObject(j, "image_digest", l->image_digest);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cJSON_AddNumberToObject(j, rows[i].key, rows[i].value);
	text = cJSON_Print(j);
	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

static int port(struct hs_engine *engine, const char *list, const char *image, struct err *e)
{
	struct prefetch_list *old = NULL, *l = NULL;
	struct imagefs *fs = NULL;
	struct hs_image *img = NULL;
	struct port_report rep;
	struct plan_options o;
	int r = prefetch_list_load(list, &old, e);

	plan_options_default(&o);
	o.gap_bytes = gap;
	o.budget_bytes = budget;
	if (!r)
		r = hs_image_open(engine, image, &img, e);
	if (!r)
		r = imagefs_open_image(img, &fs, e);
	if (!r)
		r = prefetch_port(old, img, fs, image, &o, &l, &rep, e);
	if (!r)
		r = prefetch_list_save(l, output, e);
	if (!r && common.json)
		print_json(l, &rep);
	else if (!r)
		print_report(l, &rep);
	prefetch_list_free(l);
	prefetch_list_free(old);
	imagefs_close(fs);
	hs_image_close(img);
	return r;
}

int cmd_prefetch_port(int argc, char **argv)
{
	struct hs_engine *engine = NULL;
	struct hs_options o;
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	if (!output)
		return options_usage(&command, "-o LIST2 is missing");
	common_log();
	common_engine(&o);
	r = hs_engine_new(&o, &engine, &e);
	if (!r)
		r = port(engine, argv[first], argv[first + 1], &e);
	if (r)
		fprintf(stderr, "headstart prefetch port: %s\n", e.msg);
	hs_engine_free(engine);
	return r ? EXIT_FAILED : EXIT_OK;
}
