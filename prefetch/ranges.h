/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ranges.h - the touches of a list, as device ranges and as stored ranges of one image
 *
 * Touches name files and offsets, so that they fit any build of an image; ranges fit one. What the
 * image at hand does not have (a file that is gone, an offset behind its end) is counted and left
 * out.
 */
#ifndef HS_PREFETCH_RANGES_H
#define HS_PREFETCH_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan.h"

struct err;
struct hs_image;
struct imagefs;
struct prefetch_list;

/* Touches of the device, of one or several lists. */
struct device_touches {
	struct plan_touch *touches;
	size_t count, room;
	uint64_t bytes;		/* of all of them, repeats counted */
	uint64_t lost_touches;	/* of what is not there, or behind its end */
	uint64_t missing_files; /* of the lists, not in the image */
};

void device_touches_done(struct device_touches *d);

/*
 * Touches of the plain bytes of a layer, behind all devices: what traces of overlaybd name.
 * device_touches_add_layer() returns -EINVAL for what no layer can have.
 */
#define DEVICE_LAYER_BASE (UINT64_C(1) << 62)
#define DEVICE_LAYER_BITS 44 /* of offsets in a layer */

int device_touches_add_layer(struct device_touches *d, uint32_t run, uint64_t at_ns, uint32_t layer,
			     uint64_t off, uint64_t bytes, struct err *e);

/*
 * device_touches_add - translate l->touches through the file system, in their order
 * @run: number given to all of them
 * @metadata: also what opening each file takes (imagefs_path_metadata), before its first touch; for
 * lists whose own touches of the device are from another image or not there
 * Returns 0, -EBADMSG a damaged file system, or an error of reading the image.
 */
int device_touches_add(struct device_touches *d, const struct prefetch_list *l, struct imagefs *fs,
		       uint32_t run, bool metadata, struct err *e);

/*
 * prefetch_list_blobs - set l->blobs to the image's blobs that have a digest; one in an OCI
 * directory is not fetched from there, but the list also fits the copy of the image in a registry
 * @ret_number: for every blob of the image its number in the list, UINT32_MAX: not there; caller
 * frees
 */
int prefetch_list_blobs(struct prefetch_list *l, const struct hs_image *img, uint32_t **ret_number,
			struct err *e);

/*
 * prefetch_list_ranges - fill l->blobs and l->ranges for @img from touches of its device
 * @o: what opening loads is set here, o->have is ignored
 */
int prefetch_list_ranges(struct prefetch_list *l, const struct device_touches *d, uint32_t runs,
			 const struct hs_image *img, const struct plan_options *o, struct err *e);

/* prefetch_list_plan - both for one list: l->touches to l->ranges; @ret may be NULL */
int prefetch_list_plan(struct prefetch_list *l, const struct hs_image *img, struct imagefs *fs,
		       bool metadata, const struct plan_options *o, struct device_touches *ret,
		       struct err *e);

#endif
