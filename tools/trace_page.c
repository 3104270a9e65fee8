/* SPDX-License-Identifier: Apache-2.0 */
/* trace_page.c - see trace_page.h */
#include "trace_page.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockfile.h"
#include "cleanup.h"
#include "err.h"
#include "text.h"
#include "trace.h"
#include "trace_summary.h"

#define PLACE "@DATA@"
/* Marks on the page; what is more is left out, and the page says so. */
#define MAX_MARKS 400000u

/* made of trace_page.html by CMake; NUL behind */
extern const char trace_page_html[];

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

static void add_head(cJSON *j, const struct trace *t)
{
	cJSON_AddStringToObject(j, "image", t->image);
	cJSON_AddStringToObject(j, "digest", t->digest);
	cJSON_AddStringToObject(j, "kernel", t->kernel);
	cJSON_AddStringToObject(j, "filter", t->filter);
	cJSON_AddStringToObject(j, "precision", trace_precision_name(t->precision));
	cJSON_AddNumberToObject(j, "started", (double)t->unix_ns / 1e9);
	if (t->read_ahead_bytes == UINT64_MAX)
		cJSON_AddNullToObject(j, "read_ahead_bytes");
	else
		add_number(j, "read_ahead_bytes", t->read_ahead_bytes);
	cJSON_AddNumberToObject(j, "seconds", (double)t->ended_ns / 1e9);
	cJSON_AddStringToObject(j, "ended_by", t->ended_by);
	cJSON_AddBoolToObject(j, "truncated", t->truncated);
	add_number(j, "lost_events", t->lost_events);
	add_number(j, "unattributed_events", t->unattributed_events);
}

static void add_sums(cJSON *j, const struct trace_summary *s)
{
	cJSON *kinds = cJSON_AddObjectToObject(j, "kinds");

	for (enum trace_kind k = TRACE_READ; k <= TRACE_BLOCK; k++) {
		cJSON *o = cJSON_AddObjectToObject(kinds, trace_kind_name(k));

		add_number(o, "events", s->events[k]);
		add_number(o, "bytes", s->bytes[k]);
	}
	add_number(j, "demand_bytes", s->demand_bytes);
	add_number(j, "metadata_bytes", s->metadata_bytes);
	add_number(j, "cached_bytes", s->cached_bytes);
	add_number(j, "ahead_bytes", s->ahead_bytes);
}

static void add_counts(cJSON *row, const struct trace_row *r)
{
	cJSON_AddNumberToObject(row, "first", (double)r->first_ns / 1e9);
	add_number(row, "events", r->events);
	add_number(row, "demand_events", r->demand_events);
	add_number(row, "demand_bytes", r->demand_bytes);
}

static void add_tables(cJSON *j, const struct trace *t, const struct trace_summary *s)
{
	cJSON *files = cJSON_AddArrayToObject(j, "files");
	cJSON *processes = cJSON_AddArrayToObject(j, "processes");

	for (size_t i = 0; i < s->object_count; i++) {
		const struct trace_object *o = &t->objects[s->objects[i].number];
		_cleanup_free_ char *name = trace_object_name(o);
		cJSON *row = add_row(files);

		cJSON_AddStringToObject(row, "path", name);
		cJSON_AddStringToObject(row, "kind", o->kind == TRACE_FILE ? "file" : "device");
		add_number(row, "bytes", o->bytes);
		add_counts(row, &s->objects[i]);
		add_number(row, "cached_bytes", s->objects[i].cached_bytes);
	}
	for (size_t i = 0; i < s->process_count; i++) {
		const struct trace_process *p = &t->processes[s->processes[i].number];
		cJSON *row = add_row(processes);

		add_number(row, "pid", p->pid);
		cJSON_AddStringToObject(row, "name", p->comm);
		add_counts(row, &s->processes[i]);
	}
}

/* Where each object or process stands in its table. */
static uint32_t *places(const struct trace_row *rows, size_t count, size_t all)
{
	uint32_t *place = xmalloc_zero(all, sizeof(*place));

	for (size_t i = 0; i < count; i++)
		place[rows[i].number] = (uint32_t)i;
	return place;
}

static void add_events(cJSON *j, const struct trace *t, const struct trace_summary *s)
{
	_cleanup_free_ uint32_t *file = places(s->objects, s->object_count, t->object_count);
	_cleanup_free_ uint32_t *process = places(s->processes, s->process_count, t->process_count);
	cJSON *events = cJSON_AddArrayToObject(j, "events");

	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];
		cJSON *row = add_row(events);

		cJSON_AddNumberToObject(row, "s", (double)ev->at_ns / 1e9);
		cJSON_AddStringToObject(row, "kind", trace_kind_name((enum trace_kind)ev->kind));
		cJSON_AddBoolToObject(row, "demand", trace_is_demand(t, ev));
		add_number(row, "file", file[ev->object]);
		add_number(row, "process", process[ev->process]);
		add_number(row, "offset", ev->off);
		add_number(row, "bytes", ev->bytes);
	}
}

struct cJSON *trace_json(const struct trace *t, const struct trace_summary *s, bool events)
{
	cJSON *j = cJSON_CreateObject();

	add_head(j, t);
	add_sums(j, s);
	add_tables(j, t, s);
	if (events)
		add_events(j, t, s);
	return j;
}

/*
 * Marks for the picture, as text: six numbers each, microseconds from the mark before first. What
 * goes on where the mark before ended, by the same process in the same millisecond, is one with it.
 */
struct marks {
	struct blockbuf text;
	size_t count, left_out;
	uint64_t last_us;
	struct trace_event run;
	bool demand;
};

static void put_mark(struct marks *m, const uint32_t *file, const uint32_t *process)
{
	const struct trace_event *ev = &m->run;
	uint64_t us = ev->at_ns / 1000;
	_cleanup_free_ char *text = NULL;

	if (!ev->kind)
		return;
	if (m->count == MAX_MARKS) {
		m->left_out++;
		return;
	}
	text = text_printf("%s%llu,%u,%u,%u,%llu,%llu", m->count ? "," : "",
			   (unsigned long long)(us - m->last_us), file[ev->object],
			   process[ev->process], ev->kind | (m->demand ? 8u : 0u),
			   (unsigned long long)ev->off, (unsigned long long)ev->bytes);
	blockbuf_put(&m->text, text, strlen(text));
	m->last_us = us;
	m->count++;
}

static void make_marks(struct marks *m, const struct trace *t, const struct trace_summary *s)
{
	_cleanup_free_ uint32_t *file = places(s->objects, s->object_count, t->object_count);
	_cleanup_free_ uint32_t *process = places(s->processes, s->process_count, t->process_count);

	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];

		if (ev->kind == m->run.kind && ev->object == m->run.object &&
		    ev->process == m->run.process && ev->off == m->run.off + m->run.bytes &&
		    ev->at_ns - m->run.at_ns < 1000000) {
			m->run.bytes += ev->bytes;
			continue;
		}
		put_mark(m, file, process);
		m->run = *ev;
		m->demand = trace_is_demand(t, ev);
	}
	put_mark(m, file, process);
}

/* '<' only stands in strings, where it may as well be escaped: no text ends the script element. */
static void put_escaped(struct blockbuf *b, const char *s)
{
	for (const char *lt; (lt = strchr(s, '<')); s = lt + 1) {
		blockbuf_put(b, s, (size_t)(lt - s));
		blockbuf_put(b, "\\u003c", 6);
	}
	blockbuf_put(b, s, strlen(s));
}

int trace_page_write(const struct trace *t, const struct trace_summary *s, const char *path,
		     struct err *e)
{
	const char *place = strstr(trace_page_html, PLACE);
	cJSON *j = trace_json(t, s, false);
	struct blockbuf page = {0};
	struct marks m = {0};
	char *text;
	int r;

	assert(place);
	make_marks(&m, t, s);
	add_number(j, "left_out", m.left_out);
	text = cJSON_PrintUnformatted(j);
	blockbuf_put(&page, trace_page_html, (size_t)(place - trace_page_html));
	blockbuf_put(&page, "{\"trace\":", 9);
	put_escaped(&page, text ? text : "null");
	blockbuf_put(&page, ",\"marks\":[", 10);
	blockbuf_put(&page, m.text.p, m.text.len);
	blockbuf_put(&page, "]}", 2);
	blockbuf_put(&page, place + strlen(PLACE), strlen(place + strlen(PLACE)));
	r = blockfile_save(path, page.p, page.len, e);
	free(text);
	cJSON_Delete(j);
	blockbuf_done(&m.text);
	blockbuf_done(&page);
	return r;
}
