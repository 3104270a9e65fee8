/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_summary.h - what a trace says in numbers: per kind, per file, per process
 *
 * Bytes are counted once wherever it does not say otherwise, however often they were touched.
 */
#ifndef HS_TOOLS_TRACE_SUMMARY_H
#define HS_TOOLS_TRACE_SUMMARY_H

#include <stddef.h>
#include <stdint.h>

#include "trace.h"

struct trace_row {
	uint32_t number; /* of the object or process */
	uint64_t first_ns;
	uint64_t events, demand_events;
	uint64_t demand_bytes;
	uint64_t cached_bytes; /* objects only */
};

struct trace_summary {
	uint64_t events[TRACE_BLOCK + 1], bytes[TRACE_BLOCK + 1]; /* by kind; every touch counts */
	uint64_t demand_bytes;					  /* of files */
	uint64_t metadata_bytes;				  /* of devices */
	uint64_t cached_bytes;		       /* of files: entered the page cache */
	uint64_t ahead_bytes;		       /* of files: cached, and never demanded */
	uint64_t demand_events, demand_files;  /* of files: touches, and how many were demanded */
	uint64_t unnamed_files;		       /* of the latter, without a path */
	struct trace_row *objects, *processes; /* those with events, by first touch */
	size_t object_count, process_count;
};

void trace_summary_make(struct trace_summary *s, const struct trace *t);
void trace_summary_done(struct trace_summary *s);
void trace_summary_by_bytes(struct trace_row *rows, size_t count); /* most demanded first */

/* trace_object_name - path, or what can be said without one; caller frees */
char *trace_object_name(const struct trace_object *o);

const char *trace_kind_name(enum trace_kind k);
const char *trace_precision_name(enum trace_precision p);

#endif
