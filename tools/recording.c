/* SPDX-License-Identifier: Apache-2.0 */
/* recording.c - see recording.h */
#include "recording.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "text.h"

int recording_open(struct recording *g, const char *path, uint64_t ring_bytes, struct err *e)
{
	g->path = path;
	return recorder_new(ring_bytes, &g->recorder, e);
}

static bool is_ours(const struct recording *g, uint32_t dev)
{
	for (size_t i = 0; i < g->device_count; i++)
		if (g->devices[i] == dev)
			return true;
	return false;
}

void recording_add_device(struct recording *g, uint32_t major, uint32_t minor)
{
	uint32_t dev = major << 20 | (minor & 0xfffff), *more;

	if (is_ours(g, dev))
		return;
	more = reallocarray(g->devices, g->device_count + 1, sizeof(*more));
	if (!more)
		abort();
	g->devices = more;
	g->devices[g->device_count++] = dev;
}

int recording_begin(struct recording *g, const struct trace *head, struct err *e)
{
	struct trace full = *head;
	struct utsname u = {0};
	struct timespec now;
	int r;

	(void)uname(&u); /* cannot fail with a good pointer */
	clock_gettime(CLOCK_REALTIME, &now);
	full.kernel = u.release;
	full.unix_ns = (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
	if (!recorder_demand(g->recorder))
		full.precision = TRACE_FETCHED;
	r = trace_writer_open(g->path, &full, &g->writer, e);
	if (!r)
		g->start_ns = g->flushed_ns = clock_now_ns();
	return r;
}

static bool is_demand(const struct recording *g, const struct recorder_event *ev)
{
	return ev->kind == TRACE_READ || ev->kind == TRACE_FAULT ||
	       !recorder_demand(g->recorder); /* then what is fetched has to do */
}

static void take(void *arg, const struct recorder_event *in)
{
	struct recording *g = arg;
	struct trace_event ev = {
	    /* what waited in the ring happened at the start */
	    .at_ns = in->at_ns > g->start_ns ? in->at_ns - g->start_ns : 0,
	    .off = in->off,
	    .bytes = in->bytes,
	    .kind = (uint8_t)in->kind,
	    .ahead = in->ahead,
	};
	struct err e = {0};

	if (g->error || g->ended_by)
		return;
	if (in->device && !is_ours(g, in->dev)) {
		g->elsewhere_events++;
		return;
	}
	ev.object = trace_writer_object(g->writer, in->device ? TRACE_DEVICE : TRACE_FILE, in->dev,
					in->ino, in->file_bytes);
	ev.process = trace_writer_process(g->writer, in->pid, in->comm);
	if (ev.object == UINT32_MAX || ev.process == UINT32_MAX)
		g->error = err_set(&e, -EFBIG, "more files or processes than a trace can have");
	else
		g->error = trace_writer_add(g->writer, &ev, &e);
	if (g->error)
		log_error("the recording ends here error=%s", e.msg);
	if (is_demand(g, in))
		g->last_demand_ns = in->at_ns;
}

/* What a crash loses is at most a second. */
static void flush(struct recording *g, uint64_t now)
{
	struct err e = {0};

	if (g->error || now - g->flushed_ns < NS_PER_SEC)
		return;
	g->flushed_ns = now;
	g->error = trace_writer_flush(g->writer, &e);
	if (g->error)
		log_error("the recording ends here error=%s", e.msg);
}

bool recording_full(const struct recording *g)
{
	return g->error == -EFBIG;
}

bool recording_turn(struct recording *g)
{
	uint64_t now;

	if (!g->writer || g->ended_by)
		return g->ended_by != NULL;
	(void)recorder_poll(g->recorder, 0, take, g); /* a bad ring has no events */
	now = clock_now_ns();
	flush(g, now);
	if (recording_full(g))
		recording_end(g, "limit");
	else if (g->error)
		recording_end(g, "error");
	else if (g->idle_ns && g->last_demand_ns && now - g->last_demand_ns >= g->idle_ns &&
		 now > g->last_demand_ns)
		recording_end(g, "idle");
	else if (g->max_ns && now - g->start_ns >= g->max_ns)
		recording_end(g, "limit");
	return g->ended_by != NULL;
}

void recording_end(struct recording *g, const char *by)
{
	if (g->ended_by)
		return;
	recorder_stop(g->recorder);
	if (g->writer)
		(void)recorder_poll(g->recorder, 0, take, g); /* what came until now */
	g->ended_by = by;
	g->ended_ns = clock_now_ns() - g->start_ns;
}

int recording_close(struct recording *g, struct err *e)
{
	uint64_t missed = g->recorder ? recorder_missed(g->recorder) : 0;
	int r = 0;

	if (g->writer) {
		recording_end(g, "exit");
		r = trace_writer_close(g->writer, recorder_lost(g->recorder), g->ended_ns,
				       g->ended_by, e);
		if (missed)
			log_warn("processes could not be followed, there were too many count=%llu",
				 (unsigned long long)missed);
	}
	recorder_free(g->recorder);
	free(g->devices);
	g->writer = NULL;
	g->recorder = NULL;
	g->devices = NULL;
	g->device_count = 0;
	return r;
}
