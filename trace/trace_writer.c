/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_writer.c - the trace of a running recording (see trace.h)
 *
 * Events wait in memory until they fill a block or a second of the start has passed; then the
 * objects and processes that are new, and the events, go out in one write. Objects and processes
 * are found again by hash tables of their numbers plus one. One thread at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockfile.h"
#include "err.h"
#include "range.h"
#include "text.h"
#include "trace.h"
#include "trace_blocks.h"

#define PENDING_EVENTS 8192u
#define FLUSH_NS       1000000000u
#define NO_NUMBER      UINT32_MAX

/* Numbers of an array, found by the hash of what they stand for; open addressing. */
struct index {
	uint32_t *slot; /* number + 1; 0: free */
	size_t slots;	/* power of two, at least twice the count */
};

struct trace_writer {
	char *path;
	int fd;

	struct trace_object *objects;
	uint64_t *object_events; /* how many, for those without a path at the end */
	size_t object_count, object_room, objects_written;
	struct index object_index;

	struct trace_process *processes;
	size_t process_count, process_room, processes_written;
	struct index process_index;

	struct trace_event *pending;
	size_t pending_count;
	uint64_t events;
	uint64_t last_ns;
	int error; /* a write failed: nothing more is written */
};

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

static uint64_t hash_object(const struct trace_object *o)
{
	return mix(mix(mix(0, o->kind), o->dev), o->ino);
}

static uint64_t hash_process(const struct trace_process *p)
{
	uint64_t h = mix(1, p->pid);

	for (const char *c = p->comm; *c; c++)
		h = mix(h, (uint8_t)*c);
	return h;
}

static bool same_object(const struct trace_object *a, const struct trace_object *b)
{
	return a->kind == b->kind && a->dev == b->dev && a->ino == b->ino;
}

static bool same_process(const struct trace_process *a, const struct trace_process *b)
{
	return a->pid == b->pid && !strcmp(a->comm, b->comm);
}

static void index_put(struct index *x, uint64_t hash, size_t number)
{
	size_t at = hash & (x->slots - 1);

	while (x->slot[at])
		at = (at + 1) & (x->slots - 1);
	x->slot[at] = (uint32_t)number + 1;
}

/* Room for one more; true when all @count have to be put again. */
static bool index_room(struct index *x, size_t count)
{
	if (count * 2 < x->slots)
		return false;
	free(x->slot);
	x->slots = x->slots ? x->slots * 2 : 256;
	x->slot = xmalloc_zero(x->slots, sizeof(*x->slot));
	return true;
}

static int write_all(struct trace_writer *w, const struct blockbuf *b, struct err *e)
{
	size_t at = 0;

	while (!w->error && at < b->len) {
		ssize_t n = write(w->fd, b->p + at, b->len - at);

		if (n > 0)
			at += (size_t)n;
		else if (n < 0 && errno != EINTR)
			w->error = -errno;
	}
	if (w->error)
		return err_set(e, w->error, "cannot write %s: %s", w->path, strerror(-w->error));
	return 0;
}

static void writer_free(struct trace_writer *w)
{
	for (size_t i = 0; i < w->object_count; i++)
		free(w->objects[i].path);
	free(w->objects);
	free(w->object_events);
	free(w->object_index.slot);
	free(w->processes);
	free(w->process_index.slot);
	free(w->pending);
	free(w->path);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

int trace_writer_open(const char *path, const struct trace *head, struct trace_writer **ret,
		      struct err *e)
{
	struct trace_writer *w = xmalloc_zero(1, sizeof(*w));
	struct blockbuf b = {0};
	int r;

	w->path = text_dup(path);
	w->pending = xmalloc_zero(PENDING_EVENTS, sizeof(*w->pending));
	w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (w->fd < 0) {
		r = err_set(e, -errno, "cannot create %s: %s", path, strerror(errno));
	} else {
		trace_put_head(&b, head);
		r = write_all(w, &b, e);
		blockbuf_done(&b);
	}
	if (r)
		writer_free(w);
	else
		*ret = w;
	return r;
}

uint32_t trace_writer_object(struct trace_writer *w, enum trace_object_kind kind, uint32_t dev,
			     uint64_t ino, uint64_t bytes)
{
	struct trace_object o = {.kind = kind, .dev = dev, .ino = ino, .bytes = bytes};
	uint64_t hash = hash_object(&o);
	size_t events_room;

	if (w->object_index.slots) {
		size_t mask = w->object_index.slots - 1;
		uint32_t n;

		for (size_t at = hash & mask; (n = w->object_index.slot[at]); at = (at + 1) & mask)
			if (same_object(&w->objects[n - 1], &o))
				return n - 1;
	}
	if (w->object_count == TRACE_MAX_OBJECTS)
		return NO_NUMBER;
	events_room = w->object_room;
	w->object_events =
	    xgrow(w->object_events, &events_room, w->object_count, sizeof(*w->object_events));
	w->objects = xgrow(w->objects, &w->object_room, w->object_count, sizeof(*w->objects));
	w->objects[w->object_count] = o;
	w->object_events[w->object_count] = 0;
	w->object_count++;
	if (index_room(&w->object_index, w->object_count))
		for (size_t i = 0; i + 1 < w->object_count; i++)
			index_put(&w->object_index, hash_object(&w->objects[i]), i);
	index_put(&w->object_index, hash, w->object_count - 1);
	return (uint32_t)(w->object_count - 1);
}

uint32_t trace_writer_process(struct trace_writer *w, uint32_t pid, const char *comm)
{
	struct trace_process p = {.pid = pid};
	uint64_t hash;

	memcpy(p.comm, comm, strnlen(comm, sizeof(p.comm) - 1));
	hash = hash_process(&p);
	if (w->process_index.slots) {
		size_t mask = w->process_index.slots - 1;
		uint32_t n;

		for (size_t at = hash & mask; (n = w->process_index.slot[at]); at = (at + 1) & mask)
			if (same_process(&w->processes[n - 1], &p))
				return n - 1;
	}
	if (w->process_count == TRACE_MAX_PROCESSES)
		return NO_NUMBER;
	w->processes =
	    xgrow(w->processes, &w->process_room, w->process_count, sizeof(*w->processes));
	w->processes[w->process_count++] = p;
	if (index_room(&w->process_index, w->process_count))
		for (size_t i = 0; i + 1 < w->process_count; i++)
			index_put(&w->process_index, hash_process(&w->processes[i]), i);
	index_put(&w->process_index, hash, w->process_count - 1);
	return (uint32_t)(w->process_count - 1);
}

int trace_writer_add(struct trace_writer *w, const struct trace_event *ev, struct err *e)
{
	struct trace_event *to;

	if (ev->object >= w->object_count || ev->process >= w->process_count ||
	    ev->kind < TRACE_READ || ev->kind > TRACE_BLOCK ||
	    !range_checked(range_of(ev->off, ev->bytes)))
		return err_set(e, -EINVAL, "trace: an event that cannot be");
	if (w->events == TRACE_MAX_EVENTS)
		return err_set(e, -EFBIG, "trace: more than %u events", TRACE_MAX_EVENTS);
	to = &w->pending[w->pending_count++];
	*to = *ev;
	/* two CPUs may take their places in the ring in the other order than their clocks */
	to->at_ns = max_u64(to->at_ns, w->last_ns);
	w->last_ns = to->at_ns;
	w->object_events[ev->object]++;
	w->events++;
	if (w->pending_count == PENDING_EVENTS || to->at_ns - w->pending[0].at_ns >= FLUSH_NS)
		return trace_writer_flush(w, e);
	return w->error ? err_set(e, w->error, "cannot write %s", w->path) : 0;
}

int trace_writer_flush(struct trace_writer *w, struct err *e)
{
	struct blockbuf b = {0};
	int r;

	if (w->objects_written < w->object_count)
		trace_put_objects(&b, w->objects + w->objects_written,
				  w->object_count - w->objects_written);
	if (w->processes_written < w->process_count)
		trace_put_processes(&b, w->processes + w->processes_written,
				    w->process_count - w->processes_written);
	trace_put_events(&b, w->pending, w->pending_count);
	w->objects_written = w->object_count;
	w->processes_written = w->process_count;
	w->pending_count = 0;
	r = write_all(w, &b, e);
	blockbuf_done(&b);
	return r;
}

size_t trace_writer_objects(const struct trace_writer *w)
{
	return w->object_count;
}

const struct trace_object *trace_writer_object_at(const struct trace_writer *w, size_t n)
{
	return &w->objects[n];
}

void trace_writer_path(struct trace_writer *w, size_t object, const char *path, uint64_t bytes)
{
	struct trace_object *o = &w->objects[object];

	free(o->path);
	/* what the format has no place for stays without a path, and is counted as such */
	o->path = path && path[0] == '/' && strlen(path) < TRACE_PATH_BYTES ? text_dup(path) : NULL;
	o->bytes = bytes;
}

int trace_writer_close(struct trace_writer *w, uint64_t lost, uint64_t ended_ns,
		       const char *ended_by, struct err *e)
{
	struct blockbuf b = {0};
	uint64_t unattributed = 0;
	int r;

	if (!w)
		return 0;
	r = trace_writer_flush(w, e);
	for (size_t i = 0; i < w->object_count; i++)
		if (w->objects[i].kind == TRACE_FILE && !w->objects[i].path)
			unattributed += w->object_events[i];
	trace_put_paths(&b, w->objects, w->object_count);
	trace_put_end(&b, lost, unattributed, ended_ns, ended_by);
	if (!r)
		r = write_all(w, &b, e);
	blockbuf_done(&b);
	if (!r && fsync(w->fd) && errno != EINVAL && errno != EROFS)
		r = err_set(e, -errno, "cannot write %s: %s", w->path, strerror(errno));
	writer_free(w);
	return r;
}
