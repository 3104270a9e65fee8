/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_trace_record.c - headstart trace record: what a start reads, as a trace file
 *
 * Two ways: run the image here, with the read-ahead of its device off, where demand is told
 * exactly; or watch a container of containerd, or a process, as it is.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attribute.h"
#include "cleanup.h"
#include "clock.h"
#include "commands.h"
#include "container.h"
#include "err.h"
#include "interrupt.h"
#include "log.h"
#include "options.h"
#include "probe.h"
#include "record_target.h"
#include "recording.h"
#include "state.h"
#include "text.h"
#include "trace_summary.h"

#define CONTAINER_OPTIONS 32
#define IDLE_STANDARD_NS  (2 * NS_PER_SEC)

static const char *output, *container_id, *namespace = "default",
					  *containerd_dir = "/run/containerd";
static uint64_t pid, idle_ns = UINT64_MAX, max_ns = 60 * NS_PER_SEC, wait_ns = 60 * NS_PER_SEC,
		     ring_bytes = 8 << 20;
static struct probe probe;

static const struct option_def record_options[] = {
    {"output", 'o', OPTION_STRING, "FILE", &output, "write the trace to FILE; has to be given",
     NULL},
    {"until-idle", 0, OPTION_TIME, "TIME", &idle_ns,
     "end when nothing was demanded for TIME; 0: never", "2s; off with a probe"},
    {"max", 0, OPTION_TIME, "TIME", &max_ns, "end after TIME in any case", "60s"},
    {"until-http", 0, OPTION_STRING, "URL", &probe.http,
     "end when URL answers 200 to 399 inside the container's network", NULL},
    {"until-log", 0, OPTION_STRING, "REGEX", &probe.log,
     "end when a line that the container prints matches", NULL},
    {"until-exec", 0, OPTION_STRING, "COMMAND", &probe.exec,
     "end when COMMAND succeeds, run by the host's /bin/sh in the container's network", NULL},
    {"container", 0, OPTION_STRING, "ID", &container_id,
     "record a container that containerd starts or has started", NULL},
    {"namespace", 'n', OPTION_STRING, "NAME", &namespace, "containerd's namespace of it",
     "default"},
    {"containerd-state", 0, OPTION_STRING, "DIR", &containerd_dir, "containerd's state directory",
     "/run/containerd"},
    {"wait", 0, OPTION_TIME, "TIME", &wait_ns, "how long that container may take to appear", "60s"},
    {"pid", 0, OPTION_NUMBER, "PID", &pid, "record a process and its descendants", NULL},
    {"ring-size", 0, OPTION_SIZE, "SIZE", &ring_bytes,
     "buffer between kernel and recorder; a power of two", "8M"},
    {"json", 0, OPTION_FLAG, NULL, &common.json,
     "print the summary as JSON; the container's output goes to standard error", NULL},
    {0},
};

static const struct option_def read_ahead_option[] = {
    {"read-ahead", 0, OPTION_SIZE, "SIZE", &container_opts.read_ahead,
     "read ahead of the loop device; demand is exact with 0 only", "0"},
    {0},
};

/* those of 'run' except the read-ahead, which has another default here; filled in main */
static struct option_def container_options[CONTAINER_OPTIONS];

static const struct option_group groups[] = {
    {"Options", record_options},    {"Container (with IMAGE)", container_options},
    {"", read_ahead_option},	    {"Image", image_options},
    {"Registry", registry_options}, {"Cache and reads", engine_options},
    {"Prefetch", prefetch_options}, {"State", state_options},
    {"General", general_options},   {0},
};

static const struct command command = {
    .name = "trace record",
    .usage = "[OPTIONS] -o FILE IMAGE [COMMAND [ARG]...]\n"
	     "       headstart trace record [OPTIONS] -o FILE --container=ID\n"
	     "       headstart trace record [OPTIONS] -o FILE --pid=PID",
    .purpose = "Record what a start reads: which process read which range of which file, and "
	       "when. Runs a container from the accelerated image IMAGE until the start is over "
	       "and stops it; or watches a container of containerd, whatever its snapshotter, or "
	       "a process. The trace is what prefetch lists are made of.",
    .groups = groups,
    .examples = "  headstart trace record -o web.trace docker://127.0.0.1:5000/web:1_accelerated\n"
		"  headstart trace record --until-http=http://127.0.0.1/ -o web.trace IMAGE\n"
		"  headstart trace record -o web.trace --container=web & ctr run REF web\n",
    .notes = "SIGINT and SIGTERM end the recording well. Needs root (BPF); from Linux 6.12 on it "
	     "tells demand, before that only what was fetched.",
    .stop_after = 1,
    .min_operands = 0,
    .max_operands = UINT_MAX,
};

/* ---- the summary ---- */

static void print_json(const struct trace *t, const struct trace_summary *s, uint64_t elsewhere,
		       int code)
{
	cJSON *j = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(j, "file", output);
	cJSON_AddStringToObject(j, "image", t->image);
	cJSON_AddStringToObject(j, "digest", t->digest);
	cJSON_AddStringToObject(j, "filter", t->filter);
	cJSON_AddStringToObject(j, "precision", trace_precision_name(t->precision));
	cJSON_AddStringToObject(j, "ended_by", t->ended_by);
	cJSON_AddNumberToObject(j, "ended_ns", (double)t->ended_ns);
	cJSON_AddNumberToObject(j, "events", (double)t->event_count);
	cJSON_AddNumberToObject(j, "demand_events", (double)s->demand_events);
	cJSON_AddNumberToObject(j, "demanded_bytes", (double)s->demand_bytes);
	cJSON_AddNumberToObject(j, "metadata_bytes", (double)s->metadata_bytes);
	cJSON_AddNumberToObject(j, "files", (double)s->demand_files);
	cJSON_AddNumberToObject(j, "unattributed_files", (double)s->unnamed_files);
	cJSON_AddNumberToObject(j, "unattributed_events", (double)t->unattributed_events);
	cJSON_AddNumberToObject(j, "processes", (double)t->process_count);
	cJSON_AddNumberToObject(j, "lost_events", (double)t->lost_events);
	cJSON_AddNumberToObject(j, "elsewhere_events", (double)elsewhere);
	if (code >= 0)
		cJSON_AddNumberToObject(j, "exit_code", code);
	text = cJSON_Print(j);
	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

/* What is in the file now, told from the file. @code: of the container; -1: none of ours */
static int print_summary(uint64_t elsewhere, int code, struct err *e)
{
	struct trace_summary s;
	struct trace *t;
	char a[24], b[24];
	int r = trace_load(output, &t, e);

	if (r)
		return r;
	trace_summary_make(&s, t);
	if (common.json)
		print_json(t, &s, elsewhere, code);
	fprintf(stderr,
		"headstart trace record: %s: %zu events, %s demanded of %" PRIu64
		" files by %zu processes, %s of metadata, %.2f s, ended by %s; %s\n",
		output, t->event_count, text_size(s.demand_bytes, a, sizeof(a)), s.demand_files,
		t->process_count, text_size(s.metadata_bytes, b, sizeof(b)),
		(double)t->ended_ns / 1e9, t->ended_by, trace_precision_name(t->precision));
	if (t->lost_events)
		log_warn("events were lost, a larger --ring-size helps count=%" PRIu64,
			 t->lost_events);
	if (t->unattributed_events)
		fprintf(stderr,
			"headstart trace record: %" PRIu64 " events of %" PRIu64
			" files that are not the image's (volumes, written ones, other mounts)\n",
			t->unattributed_events, s.unnamed_files);
	if (code > 0 && !strcmp(t->ended_by, "exit"))
		log_warn("the container failed code=%d", code);
	trace_summary_done(&s);
	trace_free(t);
	return 0;
}

/* ---- an image run here ---- */

struct own_run {
	struct recording g;
	struct container u;
	unsigned int major, minor;
	bool started, probed;
};

static int looped(void *arg, const struct loopdev *l, struct err *e)
{
	struct own_run *o = arg;
	_cleanup_free_ char *filter = text_printf("device 7:%u", l->number);
	struct trace head = {
	    .image = o->u.a.rec->image,
	    .filter = filter,
	    .precision = container_opts.read_ahead ? TRACE_WINDOWS : TRACE_EXACT,
	    .read_ahead_bytes = container_opts.read_ahead,
	};
	int r;

	o->major = 7; /* of loop devices, fixed */
	o->minor = l->number;
	snprintf(head.digest, sizeof(head.digest), "%s", o->u.a.rec->digest);
	recording_add_device(&o->g, o->major, o->minor);
	if (head.precision == TRACE_EXACT)
		recorder_skip_mapped(o->g.recorder);
	r = recording_begin(&o->g, &head, e);
	r = r ? r : recorder_add_device(o->g.recorder, o->major, o->minor, e);
	return r ? r : probe_divert(&probe, common.json, e);
}

static void started(void *arg, pid_t runtime)
{
	struct own_run *o = arg;

	(void)runtime;
	probe_restore(&probe);
	o->started = true;
}

static void signalled(void *arg, int sig)
{
	struct own_run *o = arg;

	(void)sig;
	recording_end(&o->g, "signal");
}

static size_t watch(void *arg, struct pollfd *p, size_t room, int *timeout_ms)
{
	(void)arg;
	if (*timeout_ms < 0 || *timeout_ms > RECORDING_TURN_MS)
		*timeout_ms = RECORDING_TURN_MS;
	return probe_wait(&probe, p, room);
}

static bool turn(void *arg, const struct pollfd *p, size_t count)
{
	struct own_run *o = arg;

	(void)p;
	(void)count;
	if (o->started && !o->probed && (probe.http || probe.exec)) {
		pid_t first = container_pid(o->u.a.rec);

		o->probed = first > 0;
		if (first > 0)
			probe_network(&probe, first);
	}
	if (probe_turn(&probe))
		recording_end(&o->g, "probe");
	return recording_turn(&o->g);
}

/* Paths by the file system of the image, whose metadata the kernel has read by now. */
static void name_own(struct own_run *o)
{
	struct attribution *a = attribution_new();
	struct err e = {0};

	attribution_want_objects(a, o->g.writer);
	/* the kernel may know file systems that we do not */
	if (record_target_device(a, o->major << 20 | o->minor, &e) && o->u.a.mounted &&
	    attribution_add_tree(a, o->u.lower, &e))
		log_warn("files have no paths error=%s", e.msg);
	attribution_name_objects(a, o->g.writer);
	attribution_free(a);
}

static int record_own(struct recording *g, char **args, int *ret_code, struct err *e)
{
	struct own_run o = {.g = *g};
	const struct container_hooks hooks = {
	    .arg = &o,
	    .looped = looped,
	    .started = started,
	    .signalled = signalled,
	    .wait = watch,
	    .turn = turn,
	};
	struct err close_error = {0};
	int r = container_run(&o.u, args[0], args + 1, &hooks, e), closed;

	probe_restore(&probe);
	if (!r)
		(void)recording_turn(&o.g); /* what came after the last look */
	recording_end(&o.g, r == -EINTR ? "signal" : r ? "error" : "exit");
	if (o.g.writer && !r)
		name_own(&o);
	*ret_code = o.u.code;
	g->elsewhere_events = o.g.elsewhere_events;
	closed = recording_full(&o.g) ? 0 : o.g.error;
	if (closed)
		err_set(&close_error, closed, "cannot write %s: %s", output, strerror(-closed));
	if (!closed)
		closed = recording_close(&o.g, &close_error);
	else
		(void)recording_close(&o.g, NULL); /* has failed before */
	*g = (struct recording){.elsewhere_events = g->elsewhere_events};
	container_tear_down(&o.u);
	container_done(&o.u);
	if (!r && closed && e)
		*e = close_error;
	return r ? r : closed;
}

/* ---- somebody else's start ---- */

static int watch_target(struct record_target *t, struct recording *g, struct err *e)
{
	uint64_t until = clock_now_ns() + wait_ns;
	int r = 0;

	while (!r && !g->ended_by) {
		struct pollfd p[4] = {{.fd = recorder_fd(g->recorder), .events = POLLIN}};
		size_t n = 1 + probe_wait(&probe, p + 1, 3);
		bool ended;

		(void)poll(p, n, RECORDING_TURN_MS); /* EINTR: a signal, looked at below */
		r = record_target_turn(t, g, e);
		/* asked first, so that what it did last is still taken */
		ended = record_target_ended(t, g);
		if (!r && !g->writer && t->rooted) {
			struct trace head;

			record_target_head(t, &head);
			r = recording_begin(g, &head, e);
		}
		if (r)
			break;
		if (t->pid)
			probe_network(&probe, t->pid);
		if (interrupt_pending())
			recording_end(g, "signal");
		else if (probe_turn(&probe))
			recording_end(g, "probe");
		else if (!recording_turn(g) && ended)
			recording_end(g, "exit");
		if (!g->ended_by && !g->writer && clock_now_ns() >= until)
			r = err_set(e, -ETIMEDOUT, "container %s did not appear in namespace %s",
				    t->container, t->namespace);
	}
	if (!r && !g->writer)
		r = err_set(e, -EINTR, "interrupted before the container appeared");
	return r;
}

static int record_target(struct recording *g, struct err *e)
{
	struct record_target t = {
	    .container = container_id,
	    .namespace = namespace,
	    .containerd_dir = containerd_dir,
	    .pid = (pid_t)pid,
	};
	int r = record_target_open(&t, g, e);

	r = r ? r : watch_target(&t, g, e);
	if (!r)
		record_target_name(&t, g);
	if (!r && g->error && !recording_full(g))
		r = err_set(e, g->error, "cannot write %s: %s", output, strerror(-g->error));
	if (!r)
		r = recording_close(g, e);
	record_target_close(&t);
	return r;
}

/* ---- options ---- */

static void fill_container_options(void)
{
	size_t n = 0;

	for (const struct option_def *o = container_option_defs; o->name; o++)
		if (strcmp(o->name, "read-ahead") != 0 && n < CONTAINER_OPTIONS - 1)
			container_options[n++] = *o;
	container_opts.read_ahead = 0;
	common.warm_pages = false; /* its reads would be taken for the start's */
}

static int check_options(bool image)
{
	int ways = (int)image + (container_id != NULL) + (pid != 0);

	if (ways != 1)
		return options_usage(&command, "give either IMAGE, --container or --pid");
	if (!output)
		return options_usage(&command, "-o FILE has to be given");
	if (probe.log && !image)
		return options_usage(&command, "--until-log needs a container that is run here");
	if (probe.log && container_opts.tty)
		return options_usage(&command, "--until-log and -t exclude each other");
	if (pid > INT_MAX)
		return options_usage(&command, "--pid is out of range");
	return 0;
}

int cmd_trace_record(int argc, char **argv)
{
	struct recording g = {0};
	struct err e = {0};
	int first, code = -1, r;

	fill_container_options();
	r = options_parse(&command, argc, argv, &first);
	if (r != OPTIONS_GO_ON)
		return r;
	r = check_options(first < argc);
	if (r)
		return r;
	common_log();
	interrupt_catch();
	if (idle_ns == UINT64_MAX)
		idle_ns = probe.http || probe.exec || probe.log ? 0 : IDLE_STANDARD_NS;
	r = probe_open(&probe, &e);
	r = r ? r : recording_open(&g, output, ring_bytes, &e);
	g.idle_ns = idle_ns;
	g.max_ns = max_ns;
	if (!r)
		r = first < argc ? record_own(&g, argv + first, &code, &e) : record_target(&g, &e);
	probe_close(&probe);
	if (!r)
		r = print_summary(g.elsewhere_events, code, &e);
	else
		(void)recording_close(&g, NULL); /* what there is of it; the failure is told */
	if (!r)
		return EXIT_OK;
	fprintf(stderr, "headstart trace record: %s\n", e.msg);
	return EXIT_FAILED;
}
