/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make.c - see make.h
 *
 * Every input is a run. Its demand becomes touches of files, numbered over all runs, and of the
 * device; each run's first touches go to the planner through the file system, and weighed together
 * they are the half of the list that is carried to other builds.
 */
#include "make.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blockfile.h"
#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "headstart.h"
#include "imagefs.h"
#include "obd_trace.h"
#include "prefetch_list.h"
#include "range.h"
#include "ranges.h"
#include "tables.h"
#include "text.h"
#include "trace.h"
#include "weigh.h"

#define MAX_RUNS    1024u
#define OBD_STEP_NS 1000u /* imported lists have an order but no times */

/* --- inputs --------------------------------------------------------------------------------- */

int make_input_parse(const char *name, const void *p, size_t bytes, struct make_input *ret,
		     struct err *e)
{
	struct make_input in = {.kind = MAKE_TRACE};
	int r = trace_parse(p, bytes, &in.trace, e);

	if (r == -ENOENT) {
		in.kind = MAKE_OBD_TRACE;
		r = obd_trace_parse(p, bytes, &in.records, &in.record_count, e);
	}
	if (r == -ENOENT) {
		in.kind = MAKE_FILE_LIST;
		r = file_list_parse(p, bytes, &in.files, e);
		if (r)
			return err_set(e, r,
				       "%s is neither a trace, of headstart or overlaybd, nor a "
				       "list of files",
				       name);
	}
	if (r)
		return err_wrap(e, r, "%s", name);
	*ret = in;
	return 0;
}

int make_input_load(const char *path, struct make_input *ret, struct err *e)
{
	_cleanup_free_ uint8_t *p = NULL;
	size_t bytes;
	int r = blockfile_load(path, TRACE_MAX_BYTES, &p, &bytes, e);

	return r ? r : make_input_parse(path, p, bytes, ret, e);
}

void make_input_done(struct make_input *in)
{
	trace_free(in->trace);
	free(in->records);
	file_list_done(&in->files);
	*in = (struct make_input){0};
}

/* --- files, by path ------------------------------------------------------------------------- */

struct maker {
	struct hs_image *img;
	struct imagefs *fs;
	const struct plan_options *o;
	struct make_report report;

	/* all files of all runs; a hash table of their numbers plus one */
	struct prefetch_file *files;
	size_t file_count, file_room;
	uint32_t *slot;
	size_t slots;

	/* lines are numbers of files, PREFETCH_NO_FILE is the device */
	struct weigh_touch *touches;
	size_t touch_count, touch_room;

	struct device_touches device; /* what goes to the planner */
};

static void rehash(struct maker *m)
{
	if (m->file_count * 2 < m->slots)
		return;
	free(m->slot);
	m->slots = m->slots ? m->slots * 2 : 1024;
	m->slot = xmalloc_zero(m->slots, sizeof(*m->slot));
	for (size_t i = 0; i < m->file_count; i++) {
		size_t at = hash_path(m->files[i].path) & (m->slots - 1);

		while (m->slot[at])
			at = (at + 1) & (m->slots - 1);
		m->slot[at] = (uint32_t)i + 1;
	}
}

/* The number of a path; a new one if need be. */
static uint32_t file_number(struct maker *m, const char *path, uint64_t bytes)
{
	size_t at;
	uint32_t n;

	rehash(m);
	at = hash_path(path) & (m->slots - 1);
	while ((n = m->slot[at])) {
		if (!strcmp(m->files[n - 1].path, path)) {
			m->files[n - 1].bytes = max_u64(m->files[n - 1].bytes, bytes);
			return n - 1;
		}
		at = (at + 1) & (m->slots - 1);
	}
	m->files = room_for_one(m->files, m->file_count, &m->file_room, sizeof(*m->files));
	m->files[m->file_count++] = (struct prefetch_file){text_dup(path), bytes};
	m->slot[at] = (uint32_t)m->file_count;
	return (uint32_t)m->file_count - 1;
}

static void add_touch(struct maker *m, const struct weigh_touch *t)
{
	m->touches = room_for_one(m->touches, m->touch_count, &m->touch_room, sizeof(*m->touches));
	m->touches[m->touch_count++] = *t;
}

/* --- traces --------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * Which devices count: those that files of the image lie on, since filters for a container let
 * the disks of its host pass as well; when no file is known, the only one there is.
 */
static uint32_t *image_devices(const struct trace *t, size_t *ret_count)
{
	uint32_t *dev = xmalloc_zero(t->object_count, sizeof(*dev)), only = 0;
	size_t files = 0, devices = 0;

	for (size_t i = 0; i < t->object_count; i++) {
		const struct trace_object *o = &t->objects[i];

		if (o->kind == TRACE_FILE && o->path)
			dev[files++] = o->dev;
		if (o->kind == TRACE_DEVICE && (!devices || o->dev != only)) {
			only = o->dev;
			devices++;
		}
	}
	if (!files && devices == 1)
		dev[files++] = only;
	qsort(dev, files, sizeof(*dev), by_number);
	*ret_count = files;
	return dev;
}

static void add_trace(struct maker *m, const struct trace *t, uint32_t run, bool own)
{
	_cleanup_free_ uint32_t *line = xmalloc_zero(t->object_count, sizeof(*line));
	_cleanup_free_ bool *counts = xmalloc_zero(t->object_count, sizeof(*counts));
	size_t dev_count;
	_cleanup_free_ uint32_t *dev = image_devices(t, &dev_count);

	for (size_t i = 0; i < t->object_count; i++) {
		const struct trace_object *o = &t->objects[i];

		line[i] = PREFETCH_NO_FILE;
		counts[i] = o->path != NULL;
		if (o->kind == TRACE_DEVICE)
			counts[i] =
			    own && bsearch(&o->dev, dev, dev_count, sizeof(*dev), by_number);
		if (o->kind == TRACE_FILE && o->path)
			line[i] = file_number(m, o->path, o->bytes);
	}
	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];
		const struct trace_object *o = &t->objects[ev->object];
		struct weigh_touch touch = {line[ev->object], run, ev->at_ns, ev->off, ev->bytes};

		if (!counts[ev->object] || !trace_is_demand(t, ev))
			continue;
		m->report.demand_events++;
		if (o->kind == TRACE_FILE && o->bytes)
			touch.bytes =
			    range_clip(range_of(ev->off, ev->bytes), range_of(0, o->bytes)).len;
		if (touch.bytes)
			add_touch(m, &touch);
	}
	m->report.events += t->event_count;
	m->report.lost_events += t->lost_events;
	m->report.unattributed_events += t->unattributed_events;
	m->report.truncated += t->truncated;
	m->report.foreign += !own;
}

/* --- lists of files ------------------------------------------------------------------------- */

/* Directories that are wanted, sorted; whatever lies below one is. */
struct wanted {
	struct maker *m;
	const char **dirs;
	size_t count;
	uint32_t run;
	uint64_t at_ns;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_whole(struct wanted *w, const char *path, uint64_t bytes)
{
	uint32_t n = file_number(w->m, path, bytes);

	/* the list has an order only: a millisecond per file keeps it in the touches */
	if (bytes)
		add_touch(w->m, &(struct weigh_touch){n, w->run, w->at_ns, 0, bytes});
	w->at_ns += NS_PER_MS;
}

static int walked(void *arg, const char *path, const struct imagefs_node *n)
{
	struct wanted *w = arg;
	_cleanup_free_ char *dir = NULL;

	if (n->type != IMAGEFS_FILE)
		return 0;
	dir = text_dup(path);
	for (char *slash = strrchr(dir, '/'); slash; slash = strrchr(dir, '/')) {
		const char *key = dir;

		slash[1] = '\0';
		if (bsearch(&key, w->dirs, w->count, sizeof(*w->dirs), by_name)) {
			add_whole(w, path, n->bytes);
			break;
		}
		*slash = '\0';
	}
	return 0;
}

static int add_files(struct maker *m, const struct file_list *l, uint32_t run, struct err *e)
{
	_cleanup_free_ const char **dirs = xmalloc_zero(l->count, sizeof(*dirs));
	struct wanted w = {.m = m, .dirs = dirs, .run = run};

	for (size_t i = 0; i < l->count; i++) {
		struct imagefs_node n;
		int r;

		if (text_ends_with(l->paths[i], "/")) {
			dirs[w.count++] = l->paths[i];
			continue;
		}
		r = imagefs_lookup(m->fs, l->paths[i], true, &n, NULL, e);
		if (!r && n.type == IMAGEFS_FILE)
			add_whole(&w, l->paths[i], n.bytes);
		else if (!r || imagefs_is_absence(r))
			m->report.missing_files++;
		else
			return r;
	}
	if (!w.count)
		return 0;
	qsort(dirs, w.count, sizeof(*dirs), by_name);
	return imagefs_walk(m->fs, walked, &w, e);
}

/* --- from touches to a list ----------------------------------------------------------------- */

/* Touches of a list, from parts that come by file and offset. */
struct gathered {
	struct prefetch_touch *v;
	size_t count, room;
};

static void gather(void *arg, const struct weigh_touch *part)
{
	struct gathered *g = arg;
	struct prefetch_touch *last = g->count ? &g->v[g->count - 1] : NULL;
	uint32_t at_ms = (uint32_t)min_u64(part->at_ns / NS_PER_MS, UINT32_MAX);

	if (last && last->file == part->line && last->at_ms == at_ms &&
	    last->off + last->bytes == part->off) {
		last->bytes += part->bytes;
		return;
	}
	g->v = room_for_one(g->v, g->count, &g->room, sizeof(*g->v));
	g->v[g->count++] = (struct prefetch_touch){part->line, at_ms, part->off, part->bytes};
}

static int by_time(const void *a, const void *b)
{
	const struct prefetch_touch *x = a, *y = b;

	if (x->at_ms != y->at_ms)
		return x->at_ms < y->at_ms ? -1 : 1;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static struct gathered weighed(struct weigh_touch *t, size_t count, uint32_t runs,
			       unsigned int min_runs_permille)
{
	struct gathered g = {0};

	weigh(t, count, runs, min_runs_permille, gather, &g);
	if (g.count)
		qsort(g.v, g.count, sizeof(*g.v), by_time);
	return g;
}

/* The touches of one run, from @first on, for the planner. */
static int plan_run(struct maker *m, size_t first, uint32_t run, bool metadata, struct err *e)
{
	size_t count = m->touch_count - first;
	struct gathered g = {0};
	struct prefetch_list l = {
	    .files = m->files,
	    .file_count = m->file_count,
	};
	int r;

	if (!count)
		return 0;
	g = weighed(m->touches + first, count, 1, 0);
	l.touches = g.v;
	l.touch_count = g.count;
	r = device_touches_add(&m->device, &l, m->fs, run, metadata, e);
	free(g.v);
	return r;
}

static int add_input(struct maker *m, const struct make_input *in, uint32_t run, struct err *e)
{
	size_t first = m->touch_count;
	bool own, metadata = true;
	int r = 0;

	switch (in->kind) {
	case MAKE_TRACE:
		own = *in->trace->digest && !strcmp(in->trace->digest, hs_image_digest(m->img));
		/* an exact trace of this image has seen all metadata itself */
		metadata = !own || in->trace->precision != TRACE_EXACT;
		add_trace(m, in->trace, run, own);
		break;
	case MAKE_OBD_TRACE:
		for (size_t i = 0; i < in->record_count && !r; i++)
			r = device_touches_add_layer(&m->device, run, i * OBD_STEP_NS,
						     in->records[i].layer, in->records[i].range.off,
						     in->records[i].range.len, e);
		break;
	case MAKE_FILE_LIST:
		r = add_files(m, &in->files, run, e);
		break;
	}
	return r ? r : plan_run(m, first, run, metadata, e);
}

/* The files half: what counts of all runs, files renumbered by their first touch. */
static void fill_touches(struct maker *m, uint32_t runs, struct prefetch_list *l)
{
	struct gathered g = weighed(m->touches, m->touch_count, runs, m->o->min_runs_permille);
	_cleanup_free_ uint32_t *number = xmalloc_zero(m->file_count, sizeof(*number));

	for (size_t i = 0; i < g.count; i++)
		m->report.demand_bytes += g.v[i].bytes;
	l->files = xmalloc_zero(m->file_count, sizeof(*l->files));
	l->touches = xmalloc_zero(g.count, sizeof(*l->touches));
	for (size_t i = 0; i < g.count && l->touch_count < PREFETCH_LIST_MAX_TOUCHES; i++) {
		struct prefetch_touch t = g.v[i];

		if (t.file != PREFETCH_NO_FILE && !number[t.file]) {
			if (l->file_count == PREFETCH_LIST_MAX_FILES)
				continue;
			l->files[l->file_count++] = m->files[t.file];
			m->files[t.file].path = NULL;
			number[t.file] = (uint32_t)l->file_count;
		}
		if (t.file != PREFETCH_NO_FILE)
			t.file = number[t.file] - 1;
		l->touches[l->touch_count++] = t;
	}
	free(g.v);
}

static void maker_done(struct maker *m)
{
	for (size_t i = 0; i < m->file_count; i++)
		free(m->files[i].path);
	free(m->files);
	free(m->slot);
	free(m->touches);
	device_touches_done(&m->device);
}

int prefetch_make(struct hs_image *img, struct imagefs *fs, const char *name,
		  const struct make_input *in, size_t count, const struct plan_options *o,
		  struct prefetch_list **ret, struct make_report *ret_report, struct err *e)
{
	struct maker m = {.img = img, .fs = fs, .o = o};
	struct prefetch_list *l;
	int r = 0;

	if (!count || count > MAX_RUNS)
		return err_set(e, -EINVAL, "from 1 to %u traces make a list", MAX_RUNS);
	l = xmalloc_zero(1, sizeof(*l));
	l->origin = PREFETCH_RECORDED;
	l->image = text_dup(name);
	strcpy(l->image_digest, hs_image_digest(img));
	l->created_s = (uint64_t)time(NULL);
	l->runs = (uint32_t)count;
	for (uint32_t i = 0; i < count && !r; i++) {
		if (in[i].kind != MAKE_TRACE)
			l->origin = PREFETCH_IMPORTED;
		r = add_input(&m, &in[i], i, e);
	}
	if (!r)
		r = prefetch_list_ranges(l, &m.device, l->runs, img, o, e);
	if (!r)
		fill_touches(&m, l->runs, l);
	m.report.missing_files += m.device.missing_files;
	m.report.lost_touches += m.device.lost_touches;
	maker_done(&m);
	if (r) {
		prefetch_list_free(l);
		return r;
	}
	*ret = l;
	if (ret_report)
		*ret_report = m.report;
	return 0;
}
