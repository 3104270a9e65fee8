/* SPDX-License-Identifier: Apache-2.0 */
/* ranges.c - see ranges.h */
#include "ranges.h"

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "headstart.h"
#include "imagefs.h"
#include "prefetch_list.h"
#include "range.h"
#include "tables.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_TOUCHES (8u << 20)

void device_touches_done(struct device_touches *d)
{
	free(d->touches);
	memset(d, 0, sizeof(*d));
}

static int add_touch(struct device_touches *d, const struct plan_touch *t, struct err *e)
{
	if (d->count >= DEVICE_TOUCHES)
		return err_set(e, -EFBIG, "more than %u touches of the device", DEVICE_TOUCHES);
	d->touches = room_for_one(d->touches, d->count, &d->room, sizeof(*d->touches));
	d->touches[d->count++] = *t;
	d->bytes += t->bytes;
	return 0;
}

int device_touches_add_layer(struct device_touches *d, uint32_t run, uint64_t at_ns, uint32_t layer,
			     uint64_t off, uint64_t bytes, struct err *e)
{
	uint64_t max = UINT64_C(1) << DEVICE_LAYER_BITS;
	struct plan_touch t = {.at_ns = at_ns, .bytes = bytes, .run = run};

	if (layer > UINT16_MAX || off >= max || bytes > max - off)
		return err_set(e, -EINVAL, "layer %u has no %llu bytes at %llu", layer,
			       (unsigned long long)bytes, (unsigned long long)off);
	t.off = DEVICE_LAYER_BASE + ((uint64_t)layer << DEVICE_LAYER_BITS) + off;
	return add_touch(d, &t, e);
}

struct adding {
	struct device_touches *d;
	struct plan_touch proto;
	size_t found;
	struct err *e;
};

static int add_range(void *arg, uint64_t off, uint64_t bytes)
{
	struct adding *a = arg;

	a->proto.off = off;
	a->proto.bytes = bytes;
	a->found++;
	return add_touch(a->d, &a->proto, a->e);
}

static int add_extent(void *arg, uint64_t file_off, uint64_t dev_off, uint64_t bytes)
{
	(void)file_off;
	return add_range(arg, dev_off, bytes);
}

/* What is known of a file of the list. */
struct known {
	bool asked, there;
	uint64_t ino, bytes;
};

static int know(struct adding *a, struct imagefs *fs, const char *path, bool metadata,
		struct known *k)
{
	struct imagefs_node n;
	int rc;

	k->asked = true;
	rc = imagefs_lookup(fs, path, true, &n, NULL, a->e);
	if (rc == 0 && n.type == IMAGEFS_FILE) {
		k->there = true;
		k->ino = n.ino;
		k->bytes = n.bytes;
		if (metadata)
			rc = imagefs_path_metadata(fs, path, add_range, a, a->e);
	} else if (rc == 0 || imagefs_is_absence(rc)) {
		a->d->missing_files++;
		rc = 0;
	}
	return rc;
}

int device_touches_add(struct device_touches *d, const struct prefetch_list *l, struct imagefs *fs,
		       uint32_t run, bool metadata, struct err *e)
{
	_cleanup_free_ struct known *known = xmalloc_zero(l->file_count + 1, sizeof(*known));
	struct range device = range_of(0, imagefs_device_bytes(fs));
	struct adding a = {.d = d, .proto.run = run, .e = e};

	for (size_t n = 0; n < l->touch_count; n++) {
		const struct prefetch_touch *t = &l->touches[n];
		struct known *k;
		int rc = 0;

		a.proto.at_ns = t->at_ms * NS_PER_MS;
		if (t->file == PREFETCH_NO_FILE) {
			struct range r = range_clip(range_of(t->off, t->bytes), device);

			/* a list may name what no device has, or this one has not */
			rc = r.len ? add_range(&a, r.off, r.len) : 0;
			if (rc < 0)
				return rc;
			d->lost_touches += r.len == 0;
			continue;
		}
		if (t->file >= l->file_count)
			return err_set(e, -EINVAL, "touch %zu names no file of the list", n);
		k = &known[t->file];
		if (!k->asked)
			rc = know(&a, fs, l->files[t->file].path, metadata, k);
		if (rc < 0)
			return rc;
		if (!k->there || t->off >= k->bytes) {
			d->lost_touches++;
			continue;
		}
		rc = imagefs_extents(fs, k->ino, t->off, t->bytes, add_extent, &a, e);
		if (rc < 0 && rc != -EOPNOTSUPP)
			return rc;
		d->lost_touches += rc == -EOPNOTSUPP;
	}
	return 0;
}

int prefetch_list_blobs(struct prefetch_list *l, const struct hs_image *img, uint32_t **ret_number,
			struct err *e)
{
	size_t count = hs_image_blob_count(img);
	_cleanup_free_ uint32_t *number = xmalloc_zero(count + 1, sizeof(*number));
	struct prefetch_blob *blobs = xmalloc_zero(count + 1, sizeof(*blobs));
	size_t used = 0;

	for (size_t n = 0; n < count; n++) {
		struct hs_blob_info info;
		size_t same = 0;

		number[n] = UINT32_MAX;
		hs_image_blob(img, n, &info);
		if (!info.digest[0] || strlen(info.digest) >= sizeof(blobs->digest))
			continue;
		/* one blob may be several layers */
		while (same < used && strcmp(blobs[same].digest, info.digest) != 0)
			same++;
		number[n] = (uint32_t)same;
		if (same < used)
			continue;
		strcpy(blobs[used].digest, info.digest);
		blobs[used++].bytes = info.bytes;
	}
	if (used > PREFETCH_LIST_MAX_BLOBS) {
		free(blobs);
		return err_set(e, -EFBIG, "the image has more than %u blobs",
			       PREFETCH_LIST_MAX_BLOBS);
	}
	free(l->blobs);
	l->blobs = blobs;
	l->blob_count = used;
	*ret_number = steal_ptr(number);
	return 0;
}

/* From the numbers of the image to those of the list. */
struct mapping {
	const struct hs_image *img;
	size_t mappings; /* of its merged map */
	const uint32_t *number;
	plan_stored_fn *fn;
	void *fn_arg;
};

static int one_stored(void *arg, const struct hs_stored *s)
{
	const struct mapping *m = arg;

	if (m->number[s->blob] == UINT32_MAX)
		return 0;
	return m->fn(m->fn_arg, m->number[s->blob], s->off, s->bytes);
}

/* A touch of a layer that the image does not have, or behind its end, is none. */
static int layer_stored(struct mapping *m, uint64_t off, uint64_t bytes)
{
	size_t layer = off >> DEVICE_LAYER_BITS;
	struct hs_layer_info info;

	off &= (UINT64_C(1) << DEVICE_LAYER_BITS) - 1;
	if (layer >= hs_image_layer_count(m->img))
		return 0;
	hs_image_layer(m->img, layer, &info);
	if (off >= info.plain_bytes)
		return 0;
	if (bytes > info.plain_bytes - off)
		bytes = info.plain_bytes - off;
	return hs_image_stored_layer(m->img, layer, off, bytes, one_stored, m);
}

static int stored(void *arg, uint64_t dev_off, uint64_t bytes, plan_stored_fn *fn, void *fn_arg)
{
	struct mapping m = *(const struct mapping *)arg;
	uint64_t size = hs_image_bytes(m.img);

	m.fn = fn;
	m.fn_arg = fn_arg;
	if (dev_off >= DEVICE_LAYER_BASE)
		return layer_stored(&m, dev_off - DEVICE_LAYER_BASE, bytes);
	/* a touch of a list may lie anywhere */
	if (dev_off >= size)
		return 0;
	if (bytes > size - dev_off)
		bytes = size - dev_off;
	return hs_image_stored(m.img, dev_off, bytes, one_stored, &m);
}

/* The first mapping of the device that ends behind @dev_off. */
static uint64_t next_mapped(const struct mapping *m, uint64_t dev_off)
{
	uint64_t off = 0, bytes = 0;
	size_t low = 0, high = m->mappings;
	bool zeroed;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (!hs_image_mapping(m->img, mid, &off, &bytes, &zeroed) || off + bytes > dev_off)
			high = mid;
		else
			low = mid + 1;
	}
	if (!hs_image_mapping(m->img, low, &off, &bytes, &zeroed))
		return UINT64_MAX;
	return max_u64(off, dev_off);
}

static uint64_t next(void *arg, uint64_t dev_off)
{
	const struct mapping *m = arg;
	size_t layer = (dev_off - DEVICE_LAYER_BASE) >> DEVICE_LAYER_BITS;
	struct hs_layer_info info;

	if (dev_off < DEVICE_LAYER_BASE)
		return next_mapped(m, dev_off);
	if (layer >= hs_image_layer_count(m->img))
		return UINT64_MAX;
	hs_image_layer(m->img, layer, &info);
	dev_off -= DEVICE_LAYER_BASE;
	if ((dev_off & ((UINT64_C(1) << DEVICE_LAYER_BITS) - 1)) >= info.plain_bytes)
		dev_off = (uint64_t)(layer + 1) << DEVICE_LAYER_BITS;
	return DEVICE_LAYER_BASE + dev_off;
}

/* What opening reads anyway, in the list's numbers. */
static struct prefetch_range *opening(const struct hs_image *img, const uint32_t *number,
				      size_t *ret_count)
{
	struct prefetch_range *r;
	struct hs_stored s;
	size_t count = 0, used = 0;

	while (hs_image_opening(img, count, &s))
		count++;
	r = xmalloc_zero(count + 1, sizeof(*r));
	for (size_t n = 0; n < count && hs_image_opening(img, n, &s); n++) {
		if (number[s.blob] != UINT32_MAX)
			r[used++] = (struct prefetch_range){
			    .blob = number[s.blob], .off = s.off, .bytes = s.bytes};
	}
	*ret_count = used;
	return r;
}

int prefetch_list_ranges(struct prefetch_list *l, const struct device_touches *d, uint32_t runs,
			 const struct hs_image *img, const struct plan_options *o, struct err *e)
{
	_cleanup_free_ struct prefetch_range *have = NULL;
	_cleanup_free_ uint32_t *number = NULL;
	uint64_t mappings, data, zeroed;
	struct plan_options mine = *o;
	struct mapping m = {.img = img};
	struct plan_map map = {.stored = stored, .next = next, .arg = &m};
	int rc = prefetch_list_blobs(l, img, &number, e);

	if (rc < 0)
		return rc;
	hs_image_map_totals(img, &mappings, &data, &zeroed);
	m.mappings = (size_t)mappings;
	m.number = number;
	mine.have = have = opening(img, number, &mine.have_count);
	free(l->ranges);
	l->ranges = NULL;
	l->range_count = 0;
	return plan_ranges(d->touches, d->count, runs, &map, &mine, l, e);
}

int prefetch_list_plan(struct prefetch_list *l, const struct hs_image *img, struct imagefs *fs,
		       bool metadata, const struct plan_options *o, struct device_touches *ret,
		       struct err *e)
{
	struct device_touches d = {0};
	int rc = device_touches_add(&d, l, fs, 0, metadata, e);

	if (rc == 0)
		rc = prefetch_list_ranges(l, &d, 1, img, o, e);
	if (rc == 0 && ret)
		*ret = d;
	else
		device_touches_done(&d);
	return rc;
}
