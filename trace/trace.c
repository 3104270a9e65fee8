/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.c - traces in memory: parsed, loaded, encoded (see trace.h, FORMAT.md)
 *
 * Every count is checked against the bytes that are there and against the limits before anything
 * is allocated for it.
 */
#include "trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockfile.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "range.h"
#include "text.h"
#include "trace_blocks.h"

#define WINDOW_BYTES	  65536u /* mapped windows over this are read-ahead, not demand */
#define OBJECT_MIN_BYTES  4	 /* encoded */
#define PROCESS_MIN_BYTES 2
#define EVENT_MIN_BYTES	  4
#define PATH_MIN_BYTES	  3

void trace_free(struct trace *t)
{
	if (!t)
		return;
	free(t->image);
	free(t->kernel);
	free(t->filter);
	for (size_t i = 0; i < t->object_count; i++)
		free(t->objects[i].path);
	free(t->objects);
	free(t->processes);
	free(t->events);
	free(t->ended_by);
	free(t);
}

bool trace_is_demand(const struct trace *t, const struct trace_event *ev)
{
	enum trace_kind kind = (enum trace_kind)ev->kind;

	if (t->precision == TRACE_FETCHED)
		return kind == TRACE_CACHED || kind == TRACE_BLOCK;
	if (kind == TRACE_READ || kind == TRACE_FAULT)
		return true;
	if (kind == TRACE_MAPPED)
		return t->precision == TRACE_WINDOWS && ev->bytes <= WINDOW_BYTES;
	return kind == TRACE_CACHED && t->objects[ev->object].kind == TRACE_DEVICE;
}

static void free_trace(struct trace **t)
{
	trace_free(*t);
}

/* Room for @more items behind @count; doubling, so that many small blocks cost no more. */
static int grow(void *array, size_t *cap, size_t count, size_t more, size_t item, size_t max,
		const char *what, struct err *e)
{
	void *p, **to = array;
	size_t want = *cap;

	if (more > max - count)
		return err_set(e, -EFBIG, "more than %zu %s", max, what);
	if (count + more <= want)
		return 0;
	while (want < count + more)
		want = want ? want * 2 : 64;
	p = realloc(*to, want * item);
	if (!p)
		return err_set(e, -ENOMEM, "no memory for %zu %s", want, what);
	*to = p;
	*cap = want;
	return 0;
}

/* What parsing needs besides the trace. */
struct parser {
	struct trace *t;
	size_t object_cap, process_cap, event_cap;
};

static int bad_block(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "%s block: malformed", what);
}

static int parse_head(struct trace *t, struct blockview *v, struct err *e)
{
	_cleanup_free_ char *digest = NULL;

	t->image = blockview_text(v, TRACE_TEXT_BYTES);
	digest = blockview_text(v, DIGEST_TEXT_BYTES - 1);
	t->kernel = blockview_text(v, TRACE_TEXT_BYTES);
	t->filter = blockview_text(v, TRACE_TEXT_BYTES);
	t->unix_ns = blockview_u64(v);
	uint64_t precision = blockview_var(v);
	t->read_ahead_bytes = blockview_u64(v);
	if (v->bad)
		return bad_block(e, "head");
	if (*digest && !digest_valid(digest))
		return err_set(e, -EBADMSG, "head block: no digest: '%s'", digest);
	strcpy(t->digest, digest);
	if (precision < TRACE_EXACT || precision > TRACE_FETCHED)
		return err_set(e, -EBADMSG, "head block: precision %llu",
			       (unsigned long long)precision);
	t->precision = (enum trace_precision)precision;
	return 0;
}

static int parse_objects(struct parser *p, struct blockview *v, struct err *e)
{
	size_t n = blockview_count(v, OBJECT_MIN_BYTES);
	struct trace *t = p->t;
	int r = grow(&t->objects, &p->object_cap, t->object_count, n, sizeof(*t->objects),
		     TRACE_MAX_OBJECTS, "objects", e);

	if (r)
		return r;
	while (n--) {
		uint64_t kind = blockview_var(v), dev = blockview_var(v);
		struct trace_object o = {
		    .kind = (enum trace_object_kind)kind,
		    .dev = (uint32_t)dev,
		    .ino = blockview_var(v),
		    .bytes = blockview_var(v),
		};

		if (v->bad || (kind != TRACE_FILE && kind != TRACE_DEVICE) || dev > UINT32_MAX)
			return bad_block(e, "objects");
		t->objects[t->object_count++] = o;
	}
	return v->bad ? bad_block(e, "objects") : 0;
}

static int parse_processes(struct parser *p, struct blockview *v, struct err *e)
{
	size_t n = blockview_count(v, PROCESS_MIN_BYTES);
	struct trace *t = p->t;
	int r = grow(&t->processes, &p->process_cap, t->process_count, n, sizeof(*t->processes),
		     TRACE_MAX_PROCESSES, "processes", e);

	if (r)
		return r;
	while (n--) {
		struct trace_process *to = &t->processes[t->process_count];
		uint64_t pid = blockview_var(v);
		_cleanup_free_ char *comm = blockview_text(v, sizeof(to->comm) - 1);

		if (v->bad || pid > UINT32_MAX)
			return bad_block(e, "processes");
		*to = (struct trace_process){.pid = (uint32_t)pid};
		strcpy(to->comm, comm);
		t->process_count++;
	}
	return v->bad ? bad_block(e, "processes") : 0;
}

static bool parse_event(const struct trace *t, struct blockview *v,
			const struct trace_event *before, struct trace_event *ret)
{
	uint8_t bits = blockview_u8(v);
	uint64_t object = before->object, process = before->process;
	uint64_t ns = blockview_var(v);

	if (bits & 0x10)
		object = blockview_var(v);
	if (bits & 0x20)
		process = blockview_var(v);
	*ret = (struct trace_event){
	    .at_ns = before->at_ns + ns,
	    .off = blockview_zigzag(v) + (bits & 0x10 ? 0 : before->off + before->bytes),
	    .kind = bits & 7,
	    .ahead = bits & 8,
	};
	ret->bytes = blockview_var(v);
	if (v->bad || bits & 0xc0 || ret->kind < TRACE_READ || ret->kind > TRACE_BLOCK ||
	    ns > UINT64_MAX - before->at_ns || object >= t->object_count ||
	    process >= t->process_count || !range_checked(range_of(ret->off, ret->bytes)))
		return false;
	/* as the encoder has it, so that a trace has one encoding */
	if ((bits & 0x10 && object == before->object) ||
	    (bits & 0x20 && process == before->process))
		return false;
	ret->object = (uint32_t)object;
	ret->process = (uint32_t)process;
	return true;
}

static int parse_events(struct parser *p, struct blockview *v, struct err *e)
{
	size_t n = blockview_count(v, EVENT_MIN_BYTES);
	struct trace_event before = {0};
	struct trace *t = p->t;
	uint64_t last = t->event_count ? t->events[t->event_count - 1].at_ns : 0;
	int r = grow(&t->events, &p->event_cap, t->event_count, n, sizeof(*t->events),
		     TRACE_MAX_EVENTS, "events", e);

	if (r)
		return r;
	while (n--) {
		struct trace_event *to = &t->events[t->event_count];

		if (!parse_event(t, v, &before, to))
			return err_set(e, -EBADMSG, "events block: event %zu is malformed",
				       t->event_count);
		if (to->at_ns < last)
			return err_set(e, -EBADMSG, "events block: event %zu is before the last",
				       t->event_count);
		before = *to;
		last = to->at_ns;
		t->event_count++;
	}
	return v->bad ? bad_block(e, "events") : 0;
}

static int parse_paths(struct trace *t, struct blockview *v, struct err *e)
{
	size_t n = blockview_count(v, PATH_MIN_BYTES);

	while (n--) {
		uint64_t object = blockview_var(v), bytes = blockview_var(v);
		char *path = blockview_text(v, TRACE_PATH_BYTES - 1);

		if (v->bad || object >= t->object_count || path[0] != '/' ||
		    t->objects[object].path) {
			free(path);
			return bad_block(e, "paths");
		}
		t->objects[object].path = path;
		t->objects[object].bytes = bytes;
	}
	return v->bad ? bad_block(e, "paths") : 0;
}

static int parse_end(struct trace *t, struct blockview *v, struct err *e)
{
	t->lost_events = blockview_var(v);
	t->unattributed_events = blockview_var(v);
	t->ended_ns = blockview_var(v);
	t->ended_by = blockview_text(v, TRACE_TEXT_BYTES);
	return v->bad ? bad_block(e, "end") : 0;
}

static int parse_block(struct parser *p, uint32_t type, struct blockview *v, struct err *e)
{
	switch (type) {
	case TRACE_BLOCK_HEAD:
		return err_set(e, -EBADMSG, "a second head block");
	case TRACE_BLOCK_OBJECTS:
		return parse_objects(p, v, e);
	case TRACE_BLOCK_PROCESSES:
		return parse_processes(p, v, e);
	case TRACE_BLOCK_EVENTS:
		return parse_events(p, v, e);
	case TRACE_BLOCK_PATHS:
		return parse_paths(p->t, v, e);
	case TRACE_BLOCK_END:
		p->t->truncated = false;
		return parse_end(p->t, v, e);
	default:
		return 0; /* of a later minor change; it may be skipped */
	}
}

int trace_parse(const void *p, size_t bytes, struct trace **ret, struct err *e)
{
	_cleanup_(free_trace) struct trace *t = xmalloc_zero(1, sizeof(*t));
	struct parser parser = {.t = t};
	struct blockview v;
	struct blockiter it;
	uint32_t version, type;
	int r = blockiter_start(&it, p, bytes, TRACE_MAGIC, TRACE_VERSION, &version, e);

	if (r)
		return r == -ENOENT ? err_set(e, -ENOENT, "not a headstart trace")
				    : err_wrap(e, r, "trace");
	if (!blockiter_next(&it, &type, &v) || type != TRACE_BLOCK_HEAD)
		return err_set(e, -EBADMSG, "trace: the head block is missing or damaged");
	r = parse_head(t, &v, e);
	t->truncated = true;
	while (!r && t->truncated && blockiter_next(&it, &type, &v))
		r = parse_block(&parser, type, &v, e);
	if (r)
		return err_wrap(e, r, "trace");
	if (!t->ended_by)
		t->ended_by = text_dup("");
	*ret = steal_ptr(t);
	return 0;
}

int trace_load(const char *path, struct trace **ret, struct err *e)
{
	_cleanup_free_ uint8_t *p = NULL;
	size_t bytes;
	int r = blockfile_load(path, TRACE_MAX_BYTES, &p, &bytes, e);

	if (r)
		return r;
	r = trace_parse(p, bytes, ret, e);
	return r ? err_wrap(e, r, "%s", path) : 0;
}

/* What the parser would refuse is not written either. */
static int check(const struct trace *t, struct err *e)
{
	uint64_t last = 0;

	if (t->object_count > TRACE_MAX_OBJECTS || t->process_count > TRACE_MAX_PROCESSES ||
	    t->event_count > TRACE_MAX_EVENTS)
		return err_set(e, -EFBIG, "trace: too many objects, processes or events");
	for (size_t i = 0; i < t->object_count; i++) {
		const char *path = t->objects[i].path;

		if (path && (path[0] != '/' || strlen(path) >= TRACE_PATH_BYTES))
			return err_set(e, -EINVAL, "trace: object %zu has no absolute path", i);
	}
	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];

		if (ev->at_ns < last || ev->object >= t->object_count ||
		    ev->process >= t->process_count || ev->kind < TRACE_READ ||
		    ev->kind > TRACE_BLOCK || !range_checked(range_of(ev->off, ev->bytes)))
			return err_set(e, -EINVAL, "trace: event %zu cannot be", i);
		last = ev->at_ns;
	}
	return 0;
}

int trace_encode(const struct trace *t, uint8_t **ret, size_t *ret_bytes, struct err *e)
{
	struct blockbuf b = {0};
	int r = check(t, e);

	if (r)
		return r;
	trace_put_head(&b, t);
	trace_put_objects(&b, t->objects, t->object_count);
	trace_put_processes(&b, t->processes, t->process_count);
	trace_put_events(&b, t->events, t->event_count);
	trace_put_paths(&b, t->objects, t->object_count);
	if (!t->truncated)
		trace_put_end(&b, t->lost_events, t->unattributed_events, t->ended_ns, t->ended_by);
	*ret = b.p;
	*ret_bytes = b.len;
	return 0;
}
