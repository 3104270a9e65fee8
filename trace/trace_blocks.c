/* SPDX-License-Identifier: Apache-2.0 */
/* trace_blocks.c - see trace_blocks.h */
#include "trace_blocks.h"

#include <string.h>

#include "blockfile.h"
#include "trace.h"

/* What is too long for the format is cut: these are for people. */
static void put_text(struct blockbuf *b, const char *s)
{
	size_t len = s ? strnlen(s, TRACE_TEXT_BYTES) : 0;

	blockbuf_var(b, len);
	blockbuf_put(b, s, len);
}

void trace_put_head(struct blockbuf *b, const struct trace *t)
{
	blockbuf_head(b, TRACE_MAGIC, TRACE_VERSION);
	blockbuf_begin(b, TRACE_BLOCK_HEAD);
	put_text(b, t->image);
	blockbuf_text(b, t->digest);
	put_text(b, t->kernel);
	put_text(b, t->filter);
	blockbuf_u64(b, t->unix_ns);
	blockbuf_var(b, t->precision);
	blockbuf_u64(b, t->read_ahead_bytes);
	blockbuf_end(b);
}

/* Items of a block type that gather to whole blocks. */
static struct blockitems items_of(struct blockbuf *b, enum trace_block type)
{
	return (struct blockitems){.to = b, .type = type, .full = TRACE_BLOCK_BYTES};
}

void trace_put_objects(struct blockbuf *b, const struct trace_object *o, size_t count)
{
	struct blockitems w = items_of(b, TRACE_BLOCK_OBJECTS);

	for (size_t i = 0; i < count; i++) {
		blockbuf_var(&w.items, o[i].kind);
		blockbuf_var(&w.items, o[i].dev);
		blockbuf_var(&w.items, o[i].ino);
		blockbuf_var(&w.items, o[i].bytes);
		blockitems_next(&w);
	}
	blockitems_done(&w);
}

void trace_put_processes(struct blockbuf *b, const struct trace_process *p, size_t count)
{
	struct blockitems w = items_of(b, TRACE_BLOCK_PROCESSES);

	for (size_t i = 0; i < count; i++) {
		blockbuf_var(&w.items, p[i].pid);
		blockbuf_text(&w.items, p[i].comm);
		blockitems_next(&w);
	}
	blockitems_done(&w);
}

static void put_event(struct blockbuf *b, const struct trace_event *ev,
		      const struct trace_event *before)
{
	bool object = ev->object != before->object, process = ev->process != before->process;

	blockbuf_u8(b, (uint8_t)(ev->kind | ev->ahead << 3 | object << 4 | process << 5));
	blockbuf_var(b, ev->at_ns - before->at_ns);
	if (object)
		blockbuf_var(b, ev->object);
	if (process)
		blockbuf_var(b, ev->process);
	blockbuf_zigzag(b, ev->off - (object ? 0 : before->off + before->bytes));
	blockbuf_var(b, ev->bytes);
}

void trace_put_events(struct blockbuf *b, const struct trace_event *ev, size_t count)
{
	static const struct trace_event none;
	struct blockitems w = items_of(b, TRACE_BLOCK_EVENTS);
	const struct trace_event *before = &none;

	for (size_t i = 0; i < count; i++) {
		put_event(&w.items, &ev[i], before);
		before = blockitems_next(&w) ? &none : &ev[i];
	}
	blockitems_done(&w);
}

void trace_put_paths(struct blockbuf *b, const struct trace_object *o, size_t count)
{
	struct blockitems w = items_of(b, TRACE_BLOCK_PATHS);

	for (size_t i = 0; i < count; i++) {
		if (!o[i].path)
			continue;
		blockbuf_var(&w.items, i);
		blockbuf_var(&w.items, o[i].bytes);
		blockbuf_text(&w.items, o[i].path);
		blockitems_next(&w);
	}
	blockitems_done(&w);
}

void trace_put_end(struct blockbuf *b, uint64_t lost, uint64_t unattributed, uint64_t ended_ns,
		   const char *ended_by)
{
	blockbuf_begin(b, TRACE_BLOCK_END);
	blockbuf_var(b, lost);
	blockbuf_var(b, unattributed);
	blockbuf_var(b, ended_ns);
	put_text(b, ended_by);
	blockbuf_end(b);
}
