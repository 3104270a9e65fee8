/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_blocks.h - encoders of the block types of a trace, for whole traces and for the writer
 *
 * Each appends whole blocks and starts another one where a block has grown to TRACE_BLOCK_BYTES.
 * Nothing is appended for a count of 0.
 */
#ifndef HS_TRACE_TRACE_BLOCKS_H
#define HS_TRACE_TRACE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

struct blockbuf;
struct trace;
struct trace_event;
struct trace_object;
struct trace_process;

#define TRACE_MAGIC	  "HSTRACE\n"
#define TRACE_VERSION	  1u
#define TRACE_BLOCK_BYTES (64u << 10)
#define TRACE_TEXT_BYTES  4096u /* of image, kernel, filter */

enum trace_block {
	TRACE_BLOCK_HEAD = 1,
	TRACE_BLOCK_OBJECTS = 2,
	TRACE_BLOCK_PROCESSES = 3,
	TRACE_BLOCK_EVENTS = 4,
	TRACE_BLOCK_PATHS = 5,
	TRACE_BLOCK_END = 6,
};

void trace_put_head(struct blockbuf *b, const struct trace *t); /* header and head block */
void trace_put_objects(struct blockbuf *b, const struct trace_object *o, size_t count);
void trace_put_processes(struct blockbuf *b, const struct trace_process *p, size_t count);
void trace_put_events(struct blockbuf *b, const struct trace_event *ev, size_t count);
/* trace_put_paths - of those objects that have one; @o is object 0 */
void trace_put_paths(struct blockbuf *b, const struct trace_object *o, size_t count);
void trace_put_end(struct blockbuf *b, uint64_t lost, uint64_t unattributed, uint64_t ended_ns,
		   const char *ended_by);

#endif
