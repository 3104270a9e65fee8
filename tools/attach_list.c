/* SPDX-License-Identifier: Apache-2.0 */
/* attach_list.c - see attach_list.h */
#include "attach_list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "err.h"
#include "headstart.h"
#include "imagefs.h"
#include "log.h"
#include "plan.h"
#include "predict.h"
#include "ranges.h"
#include "text.h"

/*
 * Whether blocks lie where they lay in the image that a list was made for. Layers of the same
 * sources have the same UUIDs, and where blocks lie does not depend on the rest.
 */
static bool same_device(struct hs_engine *eng, const struct hs_image *img, const char *other)
{
	struct hs_image *old = NULL;
	struct err e = {0};
	bool same = false;

	if (!other)
		return false;
	if (hs_image_open(eng, other, &old, &e)) {
		log_debug("image of the list cannot be read error=%s", e.msg);
		return false;
	}
	same = hs_image_layer_count(old) == hs_image_layer_count(img) &&
	       hs_image_bytes(old) == hs_image_bytes(img);
	for (size_t n = 0; same && n < hs_image_layer_count(img); n++) {
		struct hs_layer_info a, b;

		hs_image_layer(old, n, &a);
		hs_image_layer(img, n, &b);
		same = strcmp(a.uuid, b.uuid) == 0;
	}
	hs_image_close(old);
	return same;
}

/* Blocks of another device mean nothing on this one. */
static void drop_device_touches(struct prefetch_list *l)
{
	size_t kept = 0;

	for (size_t n = 0; n < l->touch_count; n++)
		if (l->touches[n].file != PREFETCH_NO_FILE)
			l->touches[kept++] = l->touches[n];
	l->touch_count = kept;
}

/* The files half of a list, as one of its own. */
static int copy_touches(const struct prefetch_list *from, struct prefetch_list **ret, struct err *e)
{
	_cleanup_free_ uint8_t *p = NULL;
	size_t bytes = 0;
	int rc = prefetch_list_encode(from, PREFETCH_FILES, &p, &bytes, e);

	return rc ? rc : prefetch_list_parse(p, bytes, ret, e);
}

static int carry(struct hs_engine *eng, const struct hs_image *img, struct imagefs *fs,
		 const struct list_source *source, struct attached_list *about,
		 struct prefetch_list **ret, struct err *e)
{
	struct device_touches d = {0};
	struct prefetch_list *l = NULL;
	struct plan_options o;
	bool same = same_device(eng, img, source->by_image);
	int rc = copy_touches(source->by, &l, e);

	if (rc)
		return rc;
	if (!same) {
		drop_device_touches(l);
		if (l->origin != PREFETCH_PREDICTED)
			l->origin = PREFETCH_PORTED;
	}
	plan_options_default(&o);
	rc = prefetch_list_plan(l, img, fs, !same, &o, &d, e);
	if (rc) {
		prefetch_list_free(l);
		return rc;
	}
	about->missing_files = d.missing_files;
	device_touches_done(&d);
	*ret = l;
	return 0;
}

static int make(struct hs_engine *eng, struct hs_image *img, const struct list_source *source,
		struct attached_list *about, struct prefetch_list **ret, struct err *e)
{
	struct imagefs *fs = NULL;
	int rc;

	if (!source->by)
		return predict_list(img, ret, e);
	rc = imagefs_open_image(img, &fs, e);
	if (!rc)
		rc = carry(eng, img, fs, source, about, ret, e);
	imagefs_close(fs);
	return rc;
}

static int push(struct hs_engine *eng, const struct hs_image *img, const char *image,
		const char *name, struct prefetch_list *l, struct attached_list *about,
		struct err *e)
{
	memcpy(l->image_digest, hs_image_digest(img), strlen(hs_image_digest(img)) + 1);
	free(l->image);
	l->image = text_dup(name);
	l->created_s = (uint64_t)time(NULL);
	about->origin = l->origin;
	about->bytes = prefetch_list_bytes(l);
	about->ranges = l->range_count;
	about->files = l->file_count;
	if (!l->range_count)
		return err_set(e, -ENOENT, "it would be empty");
	return list_push(eng, image, l, &about->shipped, e);
}

/* Whether a list that somebody made of a recording, or put there himself, is beside @image. */
static bool has_better_list(struct hs_engine *eng, const char *image)
{
	struct hs_artifact a;
	struct prefetch_list *l = NULL;
	bool better = false;

	if (hs_artifact_get(eng, image, PREFETCH_LIST_TYPE, PREFETCH_RANGES_MEDIA,
			    PREFETCH_LIST_MAX_BYTES, &a, NULL))
		return false;
	if (!prefetch_list_parse(a.bytes, a.len, &l, NULL))
		better = l->origin != PREFETCH_PREDICTED;
	prefetch_list_free(l);
	hs_artifact_done(&a);
	return better;
}

int attach_list(struct hs_engine *eng, const char *image, const char *name,
		const struct list_source *source, struct attached_list *ret, struct err *e)
{
	struct prefetch_list *l = NULL;
	struct hs_image *img = NULL;
	int rc = hs_image_open(eng, image, &img, e);

	memset(ret, 0, sizeof(*ret));
	if (!rc && !source->by && has_better_list(eng, image))
		rc = err_set(e, -EEXIST, "a better list than a predicted one is there");
	if (!rc)
		rc = make(eng, img, source, ret, &l, e);
	if (!rc)
		rc = push(eng, img, image, name, l, ret, e);
	prefetch_list_free(l);
	hs_image_close(img);
	return rc;
}
