/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_trace_show.c - headstart trace show: what was read, when, by whom, from which file */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cleanup.h"
#include "commands.h"
#include "err.h"
#include "log.h"
#include "options.h"
#include "text.h"
#include "trace.h"
#include "trace_page.h"
#include "trace_summary.h"

#define QUOTED_BYTES 4096

static const char *html;
static bool events;
static uint64_t lines = 20;
static unsigned int sort;

static const struct option_def show_options[] = {
    {"html", 0, OPTION_STRING, "FILE", &html, "write a picture to FILE: one page for a browser",
     NULL},
    {"sort", 0, OPTION_CHOICE, "time|bytes", &sort,
     "order of files and processes: first touch, or most demanded", "time"},
    {"lines", 0, OPTION_NUMBER, "N", &lines, "of each table at most; 0: all", "20"},
    {"events", 0, OPTION_FLAG, NULL, &events, "every event as well", NULL},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print all files and processes as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", show_options},
    {"General", general_options},
    {0},
};

static const struct command command = {
    .name = "trace show",
    .usage = "[OPTIONS] TRACE",
    .purpose = "Show what a start was seen to read: how much of which files, when first, by which "
	       "process; what was read ahead for nothing; and what the trace does not know.",
    .groups = groups,
    .examples = "  headstart trace show web.trace\n"
		"  headstart trace show --sort=bytes --lines=0 web.trace\n"
		"  headstart trace show --html=web.html web.trace\n",
    .min_operands = 1,
    .max_operands = 1,
};

/* What may be believed, in a sentence. */
static const char *precision_sentence(enum trace_precision p)
{
	switch (p) {
	case TRACE_EXACT:
		return "exact: read-ahead was off, so all that was demanded is known and nothing "
		       "else";
	case TRACE_WINDOWS:
		return "windows: with read-ahead; pages mapped around a fault count as demanded";
	case TRACE_FETCHED:
		return "fetched: this kernel does not tell demand; what was cached counts, "
		       "read-ahead too";
	}
	return "unknown";
}

static void print_head(const struct trace *t)
{
	time_t started = (time_t)(t->unix_ns / 1000000000u);
	char quoted[QUOTED_BYTES], a[24];
	struct tm tm;

	printf("image    %s\n", *t->image ? log_quote(t->image, quoted, sizeof(quoted)) : "-");
	printf("digest   %s\n", *t->digest ? t->digest : "- (not known)");
	if (gmtime_r(&started, &tm) && tm.tm_year < 8000)
		printf("started  %04d-%02d-%02d %02d:%02d:%02d UTC", tm.tm_year + 1900,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	if (t->truncated)
		printf(", cut off: how it ended is not known\n");
	else
		printf(", %.2f s, ended by %s\n", (double)t->ended_ns / 1e9,
		       *t->ended_by ? log_quote(t->ended_by, quoted, sizeof(quoted)) : "-");
	printf("kernel   %s", log_quote(t->kernel, quoted, sizeof(quoted)));
	if (t->read_ahead_bytes != UINT64_MAX)
		printf(", read-ahead %s", text_size(t->read_ahead_bytes, a, sizeof(a)));
	printf("\nfilter   %s\n", log_quote(t->filter, quoted, sizeof(quoted)));
	printf("demand   %s\n", precision_sentence(t->precision));
	if (t->lost_events)
		printf("LOST     %llu events: the buffer was full; bytes below are too few\n",
		       (unsigned long long)t->lost_events);
	else if (!t->truncated)
		printf("lost     no events\n");
	if (t->unattributed_events)
		printf("unknown  %llu events of files whose path was not found\n",
		       (unsigned long long)t->unattributed_events);
}

static void print_sums(const struct trace_summary *s)
{
	char a[24], b[24];

	printf("\n%-8s %9s %12s\n", "KIND", "EVENTS", "BYTES");
	for (enum trace_kind k = TRACE_READ; k <= TRACE_BLOCK; k++)
		if (s->events[k])
			printf("%-8s %9llu %12s\n", trace_kind_name(k),
			       (unsigned long long)s->events[k],
			       text_size(s->bytes[k], a, sizeof(a)));
	printf("\ndemanded %s of files, %s of metadata, each byte once\n",
	       text_size(s->demand_bytes, a, sizeof(a)),
	       text_size(s->metadata_bytes, b, sizeof(b)));
	printf("cached   %s of files; %s of it was never demanded\n",
	       text_size(s->cached_bytes, a, sizeof(a)), text_size(s->ahead_bytes, b, sizeof(b)));
}

static size_t shown(size_t count)
{
	return lines && count > lines ? (size_t)lines : count;
}

static void print_more(size_t count)
{
	if (shown(count) < count)
		printf("%9s and %zu more: --lines=0\n", "", count - shown(count));
}

static void print_processes(const struct trace *t, const struct trace_summary *s)
{
	char quoted[80], a[24];

	printf("\n%9s %8s %10s %8s  %s\n", "FIRST", "EVENTS", "DEMANDED", "PID", "PROCESS");
	for (size_t i = 0; i < shown(s->process_count); i++) {
		const struct trace_row *r = &s->processes[i];
		const struct trace_process *p = &t->processes[r->number];

		printf("%8.3fs %8llu %10s %8u  %s\n", (double)r->first_ns / 1e9,
		       (unsigned long long)r->events, text_size(r->demand_bytes, a, sizeof(a)),
		       p->pid, log_quote(p->comm, quoted, sizeof(quoted)));
	}
	print_more(s->process_count);
}

static void print_files(const struct trace *t, const struct trace_summary *s)
{
	char quoted[QUOTED_BYTES], a[24], b[24], c[24];

	printf("\n%9s %8s %10s %10s %10s  %s\n", "FIRST", "EVENTS", "DEMANDED", "CACHED", "SIZE",
	       "FILE");
	for (size_t i = 0; i < shown(s->object_count); i++) {
		const struct trace_row *r = &s->objects[i];
		const struct trace_object *o = &t->objects[r->number];
		_cleanup_free_ char *name = trace_object_name(o);

		printf("%8.3fs %8llu %10s %10s %10s  %s\n", (double)r->first_ns / 1e9,
		       (unsigned long long)r->events, text_size(r->demand_bytes, a, sizeof(a)),
		       text_size(r->cached_bytes, b, sizeof(b)),
		       o->bytes ? text_size(o->bytes, c, sizeof(c)) : "-",
		       log_quote(name, quoted, sizeof(quoted)));
	}
	print_more(s->object_count);
}

static void print_events(const struct trace *t)
{
	char quoted[QUOTED_BYTES], comm[80];

	printf("\n%12s %-6s %1s %12s %9s %-16s %s\n", "S", "KIND", "", "OFFSET", "BYTES", "PROCESS",
	       "FILE");
	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];
		_cleanup_free_ char *name = trace_object_name(&t->objects[ev->object]);

		printf("%12.6f %-6s %1s %12llu %9llu %-16s %s\n", (double)ev->at_ns / 1e9,
		       trace_kind_name((enum trace_kind)ev->kind),
		       trace_is_demand(t, ev) ? "*" : "", (unsigned long long)ev->off,
		       (unsigned long long)ev->bytes,
		       log_quote(t->processes[ev->process].comm, comm, sizeof(comm)),
		       log_quote(name, quoted, sizeof(quoted)));
	}
}

static void print_all(const struct trace *t, struct trace_summary *s)
{
	print_head(t);
	print_sums(s);
	if (sort) {
		trace_summary_by_bytes(s->objects, s->object_count);
		trace_summary_by_bytes(s->processes, s->process_count);
	}
	print_processes(t, s);
	print_files(t, s);
	if (events)
		print_events(t);
}

static void print_json(const struct trace *t, const struct trace_summary *s)
{
	cJSON *j = trace_json(t, s, events);
	char *text = cJSON_Print(j);

	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

int cmd_trace_show(int argc, char **argv)
{
	struct trace_summary s = {0};
	struct trace *t = NULL;
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	common_log();
	r = trace_load(argv[first], &t, &e);
	if (!r)
		trace_summary_make(&s, t);
	if (!r && html)
		r = trace_page_write(t, &s, html, &e);
	if (r)
		fprintf(stderr, "headstart trace show: %s\n", e.msg);
	else if (common.json)
		print_json(t, &s);
	else
		print_all(t, &s);
	trace_summary_done(&s);
	trace_free(t);
	return r ? EXIT_FAILED : EXIT_OK;
}
