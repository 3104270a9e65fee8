/* SPDX-License-Identifier: Apache-2.0 */
/* port.c - see port.h */
#include "port.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "err.h"
#include "headstart.h"
#include "imagefs.h"
#include "prefetch_list.h"
#include "range.h"
#include "ranges.h"
#include "text.h"

/* --- what the old list names, by blob of the new image -------------------------------------- */

struct named {
	struct prefetch_range *v; /* blob: number in the new image; ascending, fused, disjoint */
	size_t count;
};

static int by_place(const void *a, const void *b)
{
	const struct prefetch_range *x = a, *y = b;

	if (x->blob != y->blob)
		return x->blob < y->blob ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

/* The new image's number of each blob of the list; UINT32_MAX: it has none like it. */
static uint32_t *blob_numbers(const struct prefetch_list *old, const struct hs_image *img)
{
	uint32_t *number = xmalloc_zero(old->blob_count, sizeof(*number));
	size_t count = hs_image_blob_count(img);

	for (size_t i = 0; i < old->blob_count; i++) {
		number[i] = UINT32_MAX;
		for (size_t k = 0; k < count && *old->blobs[i].digest; k++) {
			struct hs_blob_info info;

			hs_image_blob(img, k, &info);
			if (!strcmp(info.digest, old->blobs[i].digest)) {
				number[i] = (uint32_t)k;
				break;
			}
		}
	}
	return number;
}

static void named_make(struct named *n, const struct prefetch_list *old, const struct hs_image *img)
{
	_cleanup_free_ uint32_t *number = blob_numbers(old, img);
	size_t count = 0, fused = 0;

	n->v = xmalloc_zero(old->range_count, sizeof(*n->v));
	for (size_t i = 0; i < old->range_count; i++) {
		n->v[count] = old->ranges[i];
		n->v[count].blob = number[old->ranges[i].blob];
		count += n->v[count].blob != UINT32_MAX;
	}
	if (count)
		qsort(n->v, count, sizeof(*n->v), by_place);
	for (size_t i = 0; i < count; i++) {
		struct prefetch_range *last = fused ? &n->v[fused - 1] : NULL;

		if (last && last->blob == n->v[i].blob && last->off + last->bytes == n->v[i].off)
			last->bytes += n->v[i].bytes;
		else
			n->v[fused++] = n->v[i];
	}
	n->count = fused;
}

/* Whether all of a stored range is named. */
static bool is_named(const struct named *n, const struct hs_stored *s)
{
	size_t lo = 0, hi = n->count;

	/* the first one behind it */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct prefetch_range *r = &n->v[mid];

		if (r->blob < s->blob || (r->blob == s->blob && r->off <= s->off))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo && n->v[lo - 1].blob == s->blob &&
	       s->off + s->bytes <= n->v[lo - 1].off + n->v[lo - 1].bytes;
}

/* --- one touch after the other -------------------------------------------------------------- */

struct porter {
	const struct prefetch_list *old;
	struct hs_image *img;
	struct imagefs *fs;
	struct named named;
	struct prefetch_list *l;
	struct port_report report;
	struct err *e;

	bool same; /* of the touch at hand: all stored ranges so far are named */
};

static int check_stored(void *arg, const struct hs_stored *s)
{
	struct porter *p = arg;

	p->same = p->same && is_named(&p->named, s);
	return 0;
}

static int check_extent(void *arg, uint64_t file_off, uint64_t dev_off, uint64_t bytes)
{
	struct porter *p = arg;

	(void)file_off;
	/* a file system may claim to be larger than its device */
	if (hs_image_stored(p->img, dev_off, bytes, check_stored, p))
		p->same = false;
	return 0;
}

/* The files of the old list in the new image; bytes and number 0 when they are gone. */
struct found {
	bool there;
	struct imagefs_node node;
	uint32_t number; /* in the new list, plus 1; given with the first touch */
};

static int find_files(struct porter *p, struct found *found)
{
	for (size_t i = 0; i < p->old->file_count; i++) {
		struct found *f = &found[i];
		int r = imagefs_lookup(p->fs, p->old->files[i].path, true, &f->node, NULL, p->e);

		f->there = !r && f->node.type == IMAGEFS_FILE;
		if (r && !imagefs_is_absence(r))
			return r;
		p->report.lost_files += !f->there;
	}
	p->report.files = p->old->file_count;
	return 0;
}

static int port_touch(struct porter *p, const struct prefetch_touch *t, struct found *f)
{
	struct range want = range_of(t->off, t->bytes);
	struct range have = range_of(0, f->there ? f->node.bytes : 0);
	struct range both = range_clip(want, have);
	struct prefetch_list *l = p->l;
	int r;

	p->report.lost_bytes += t->bytes - both.len;
	if (!both.len)
		return 0;
	p->same = true;
	r = imagefs_extents(p->fs, f->node.ino, both.off, both.len, check_extent, p, p->e);
	if (r == -EOPNOTSUPP) {
		p->report.lost_bytes += both.len;
		return 0;
	}
	if (r)
		return r;
	*(p->same ? &p->report.content_bytes : &p->report.offset_bytes) += both.len;
	if (!f->number) {
		l->files[l->file_count++] =
		    (struct prefetch_file){text_dup(p->old->files[t->file].path), f->node.bytes};
		f->number = (uint32_t)l->file_count;
	}
	l->touches[l->touch_count++] =
	    (struct prefetch_touch){f->number - 1, t->at_ms, both.off, both.len};
	return 0;
}

static int port_touches(struct porter *p)
{
	_cleanup_free_ struct found *found = xmalloc_zero(p->old->file_count, sizeof(*found));
	int r = find_files(p, found);

	for (size_t i = 0; i < p->old->touch_count && !r; i++) {
		const struct prefetch_touch *t = &p->old->touches[i];

		if (t->file == PREFETCH_NO_FILE)
			p->report.device_bytes += t->bytes;
		else
			r = port_touch(p, t, &found[t->file]);
	}
	return r;
}

int prefetch_port(const struct prefetch_list *old, struct hs_image *img, struct imagefs *fs,
		  const char *name, const struct plan_options *o, struct prefetch_list **ret,
		  struct port_report *ret_report, struct err *e)
{
	struct porter p = {.old = old, .img = img, .fs = fs, .e = e};
	struct prefetch_list *l;
	int r;

	if (!old->file_count)
		return err_set(e, -EINVAL,
			       "the list does not tell files: its half of files is missing");
	l = p.l = xmalloc_zero(1, sizeof(*l));
	/* a prediction stays one */
	l->origin = old->origin == PREFETCH_PREDICTED ? PREFETCH_PREDICTED : PREFETCH_PORTED;
	l->image = text_dup(name);
	strcpy(l->image_digest, hs_image_digest(img));
	l->created_s = (uint64_t)time(NULL);
	l->runs = old->runs;
	l->files = xmalloc_zero(old->file_count, sizeof(*l->files));
	l->touches = xmalloc_zero(old->touch_count, sizeof(*l->touches));
	named_make(&p.named, old, img);
	r = port_touches(&p);
	if (!r)
		r = prefetch_list_plan(l, img, fs, true, o, NULL, e);
	free(p.named.v);
	if (r) {
		prefetch_list_free(l);
		return r;
	}
	*ret = l;
	*ret_report = p.report;
	return 0;
}
