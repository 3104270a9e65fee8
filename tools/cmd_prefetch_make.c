/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_prefetch_make.c - headstart prefetch make: from traces to a prefetch list */
#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "commands.h"
#include "err.h"
#include "headstart.h"
#include "imagefs.h"
#include "list_print.h"
#include "make.h"
#include "options.h"
#include "predict.h"
#include "prefetch_list.h"
#include "text.h"
#include "trace.h"

#define ACCELERATION_MAX_BYTES (32u << 20) /* 1 Mi records of 24 bytes are the most there are */

static const char *output, *image;
static bool predicted;
static uint64_t budget, max_time, gap = 128u << 10;

static const struct option_def make_options[] = {
    {"output", 'o', OPTION_STRING, "LIST", &output, "file to write; has to be given", NULL},
    {"image", 0, OPTION_STRING, "IMAGE", &image, "make it for this image",
     "the one that was recorded, or TRACE"},
    {"budget", 0, OPTION_SIZE, "SIZE", &budget, "fetch at most this much, the earliest; 0: all",
     "0"},
    {"max-time", 0, OPTION_TIME, "TIME", &max_time,
     "leave out what was touched later than this; 0: nothing", "0"},
    {"gap", 0, OPTION_SIZE, "SIZE", &gap,
     "fetch gaps of up to SIZE to save requests, as long as 8% are not exceeded", "128K"},
    {"static", 0, OPTION_FLAG, NULL, &predicted,
     "make it without traces: what every start of IMAGE must read", NULL},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print the result as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", make_options},	    {"Image", image_options},
    {"Registry", registry_options}, {"Cache and reads", engine_options},
    {"General", general_options},   {0},
};

static const struct command command = {
    .name = "prefetch make",
    .usage = "[OPTIONS] -o LIST TRACE... | --static IMAGE",
    .purpose = "Make a prefetch list of what one or more starts read: ordered by first touch, "
	       "merged, cut to a budget. Several traces are combined; what at least half of "
	       "them read is in the list.",
    .groups = groups,
    .examples = "  headstart prefetch make -o web.list web.trace\n"
		"  headstart prefetch make -o web.list --budget=20M a.trace b.trace\n"
		"  headstart prefetch make -o web.list --image=oci:./web:lazy overlayfs.trace\n"
		"  headstart prefetch make -o web.list docker://R/web:1_obd_accelerated\n"
		"  headstart prefetch make -o web.list --static docker://R/web:1_accelerated\n",
    .notes = "TRACE is a file of 'headstart trace record', a trace of overlaybd, or its list of "
	     "files; the name of an image (docker://, oci:, docker-archive:) stands for the one in "
	     "its acceleration layer. A trace of another image or of a start on overlayfs is "
	     "carried over by path "
	     "and file offset. With --static the list is predicted from the image alone: metadata "
	     "of the file system, the program, its libraries and modules, its configuration.",
    .min_operands = 1,
    .max_operands = UINT_MAX,
};

static bool names_image(const char *trace)
{
	return text_starts_with(trace, "docker://") || text_starts_with(trace, "oci:") ||
	       text_starts_with(trace, "docker-archive:");
}

/* The image that was recorded, or whose own trace it is, when no other one was asked for. */
static int choose_image(char **traces, const struct make_input *in, size_t count, struct err *e)
{
	for (size_t i = 0; i < count && !image; i++) {
		if (names_image(traces[i]))
			image = traces[i];
		else if (in[i].kind == MAKE_TRACE && *in[i].trace->image && *in[i].trace->digest)
			image = in[i].trace->image;
	}
	return image ? 0 : err_set(e, -EINVAL, "no trace names its image; use --image");
}

static void print_report(const struct prefetch_list *l, const struct make_report *rep)
{
	char a[24];

	list_print(l, false, false);
	if (predicted)
		return;
	printf("\ndemand   %llu of %llu events, %s of files and metadata\n",
	       (unsigned long long)rep->demand_events, (unsigned long long)rep->events,
	       text_size(rep->demand_bytes, a, sizeof(a)));
	if (rep->foreign)
		printf(
		    "foreign  %u of the traces are not of this image: taken by path and offset\n",
		    rep->foreign);
	if (rep->missing_files || rep->lost_touches)
		printf("missing  %llu files, %llu touches of what this image does not have\n",
		       (unsigned long long)rep->missing_files,
		       (unsigned long long)rep->lost_touches);
	if (rep->lost_events || rep->unattributed_events || rep->truncated)
		printf("losses   %llu events lost, %llu of unknown files, %u traces cut off\n",
		       (unsigned long long)rep->lost_events,
		       (unsigned long long)rep->unattributed_events, rep->truncated);
}

static void print_json(const struct prefetch_list *l, const struct make_report *rep)
{
	const struct {
		const char *key;
		uint64_t value;
	} rows[] = {
	    {"runs", l->runs},
	    {"ranges", l->range_count},
	    {"range_bytes", prefetch_list_bytes(l)},
	    {"files", l->file_count},
	    {"touches", l->touch_count},
	    {"events", rep->events},
	    {"demand_events", rep->demand_events},
	    {"demand_bytes", rep->demand_bytes},
	    {"foreign_traces", rep->foreign},
	    {"truncated_traces", rep->truncated},
	    {"missing_files", rep->missing_files},
	    {"lost_touches", rep->lost_touches},
	    {"lost_events", rep->lost_events},
	    {"unattributed_events", rep->unattributed_events},
	};
	cJSON *j = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(j, "list", output);
	cJSON_AddStringToObject(j, "origin", prefetch_origin_name(l->origin));
	cJSON_AddStringToObject(j, "image", l->image);
	cJSON_AddStringToObject(j, "image_digest", l->image_digest);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cJSON_AddNumberToObject(j, rows[i].key, (double)rows[i].value);
	text = cJSON_Print(j);
	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

/* The list of an opened image, from traces or without. */
static int make_of(struct hs_image *img, const struct make_input *in, size_t count,
		   const struct plan_options *o, struct prefetch_list **ret,
		   struct make_report *ret_report, struct err *e)
{
	struct imagefs *fs = NULL;
	int r;

	if (predicted) {
		*ret_report = (struct make_report){0};
		r = predict_list_planned(img, o, ret, e);
		if (!r) {
			free((*ret)->image);
			(*ret)->image = text_dup(image);
			(*ret)->created_s = (uint64_t)time(NULL);
		}
		return r;
	}
	r = imagefs_open_image(img, &fs, e);
	if (!r)
		r = prefetch_make(img, fs, image, in, count, o, ret, ret_report, e);
	imagefs_close(fs);
	return r;
}

static bool same_layers(struct hs_image *img, struct hs_image *other)
{
	struct hs_layer_info a, b;
	size_t n = hs_image_layer_count(other);

	if (n > hs_image_layer_count(img))
		return false;
	while (n--) {
		hs_image_layer(img, n, &a);
		hs_image_layer(other, n, &b);
		if (!*a.digest || strcmp(a.digest, b.digest) != 0)
			return false;
	}
	return true;
}

/* A trace of overlaybd knows layers by number: in another image these have to be the same ones. */
static int check_layers(struct hs_engine *engine, struct hs_image *img, char **traces,
			const struct make_input *in, size_t count, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < count && !r; i++) {
		struct hs_image *other = NULL;

		if (in[i].kind != MAKE_OBD_TRACE || !names_image(traces[i]) ||
		    !strcmp(traces[i], image))
			continue;
		r = hs_image_open(engine, traces[i], &other, e);
		if (!r && !same_layers(img, other))
			r = err_set(e, -EINVAL,
				    "the trace of %s names its layers by number, and %s has others",
				    traces[i], image);
		hs_image_close(other);
	}
	return r;
}

static int make_for(struct hs_engine *engine, char **traces, const struct make_input *in,
		    size_t count, struct err *e)
{
	struct prefetch_list *l = NULL;
	struct hs_image *img = NULL;
	struct make_report rep;
	struct plan_options o;
	int r = choose_image(traces, in, count, e);

	plan_options_default(&o);
	o.gap_bytes = gap;
	o.budget_bytes = budget;
	o.budget_ns = max_time;
	if (!r)
		r = hs_image_open(engine, image, &img, e);
	if (!r)
		r = check_layers(engine, img, traces, in, count, e);
	if (!r)
		r = make_of(img, in, count, &o, &l, &rep, e);
	if (!r)
		r = prefetch_list_save(l, output, e);
	if (!r && common.json)
		print_json(l, &rep);
	else if (!r)
		print_report(l, &rep);
	prefetch_list_free(l);
	hs_image_close(img);
	return r;
}

static int load_input(struct hs_engine *engine, const char *trace, struct make_input *ret,
		      struct err *e)
{
	_cleanup_free_ char *p = NULL;
	size_t len;
	int r;

	if (!names_image(trace))
		return make_input_load(trace, ret, e);
	r = hs_image_acceleration(engine, trace, ACCELERATION_MAX_BYTES, &p, &len, e);
	return r ? r : make_input_parse(trace, p, len, ret, e);
}

static int make(char **traces, size_t count, struct err *e)
{
	_cleanup_free_ struct make_input *in = xmalloc_zero(count + 1, sizeof(*in));
	struct hs_engine *engine = NULL;
	struct hs_options o;
	int r;

	common_engine(&o);
	r = hs_engine_new(&o, &engine, e);
	for (size_t i = 0; i < count && !r; i++)
		r = load_input(engine, traces[i], &in[i], e);
	if (!r)
		r = make_for(engine, traces, in, count, e);
	hs_engine_free(engine);
	for (size_t i = 0; i < count; i++)
		make_input_done(&in[i]);
	return r;
}

int cmd_prefetch_make(int argc, char **argv)
{
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	if (!output)
		return options_usage(&command, "-o LIST is missing");
	if (predicted && (image || argc - first != 1))
		return options_usage(&command, "--static takes one image and no traces");
	common_log();
	if (predicted)
		image = argv[first++];
	r = make(argv + first, (size_t)(argc - first), &e);
	if (r)
		fprintf(stderr, "headstart prefetch make: %s\n", e.msg);
	return r ? EXIT_FAILED : EXIT_OK;
}
