/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recording.h - one running recording: from the recorder's events to the trace file, and its end
 *
 *	WAITING (no event yet) -> RUNNING -> ended (by whom is in @ended_by)
 *
 * What is recorded is decided by filters of the recorder; this keeps the clock. The head of the
 * trace is written with recording_begin(), so all that goes into it has to be known by then; events
 * that come earlier wait in the recorder's ring.
 */
#ifndef HS_TOOLS_RECORDING_H
#define HS_TOOLS_RECORDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "recorder.h"
#include "trace.h"

struct err;
struct record;

#define RECORDING_TURN_MS 50 /* the recorder has to be polled at least that often */

struct recording {
	struct recorder *recorder;
	struct trace_writer *writer; /* NULL until recording_begin() */
	const char *path;	     /* of the trace; the caller's */

	/* when to end; 0: never */
	uint64_t idle_ns; /* without demand, after the first */
	uint64_t max_ns;

	uint64_t start_ns;	 /* CLOCK_MONOTONIC; 0 until recording_begin() */
	uint64_t last_demand_ns; /* 0: none yet */
	uint64_t flushed_ns;	 /* when the file was last made to have all */
	uint64_t ended_ns;
	const char *ended_by; /* NULL while it runs */
	int error;	      /* of the writer */

	/* devices of images; accesses to other block devices are counted, not written */
	uint32_t *devices;
	size_t device_count;
	uint64_t elsewhere_events;
};

/* recording_open - load the recorder; @ring_bytes as in recorder_new() */
int recording_open(struct recording *g, const char *path, uint64_t ring_bytes, struct err *e);
void recording_add_device(struct recording *g, uint32_t major, uint32_t minor);

/*
 * recording_begin - create the trace; the clock starts
 * @head: image, digest, filter, precision and read_ahead_bytes are used; PRECISION is lowered when
 * the kernel cannot tell demand
 */
int recording_begin(struct recording *g, const struct trace *head, struct err *e);

/* recording_turn - take what is there, look at the clock; true: it has ended */
bool recording_turn(struct recording *g);
/* recording_full - it has ended because a trace can have no more: a limit, not a failure */
bool recording_full(const struct recording *g);
/* recording_end - stop recording now; the first reason counts; @by is a constant */
void recording_end(struct recording *g, const char *by);

/*
 * recording_close - write paths (named by the caller before) and the end
 * Frees everything. A recording that never began leaves no file. 0 or what the writer said.
 */
int recording_close(struct recording *g, struct err *e);

#endif
