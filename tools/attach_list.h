/* SPDX-License-Identifier: Apache-2.0 */
/* attach_list.h - a prefetch list for an image that has just been made, put beside it */
#ifndef HS_TOOLS_ATTACH_LIST_H
#define HS_TOOLS_ATTACH_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "list_ship.h"
#include "prefetch_list.h"

struct err;

struct list_source {
	const struct prefetch_list *by; /* whose touches are used; NULL: they are predicted */
	const char *by_image; /* the image it was made for, where the new one is; NULL: not there */
};

struct attached_list {
	struct shipped_list shipped;
	enum prefetch_origin origin;
	uint64_t bytes; /* to be fetched */
	size_t ranges, files;
	uint64_t missing_files; /* of the list, not in the image */
};

/*
 * attach_list - @image: by digest; @name: what the list calls it
 * A predicted list takes the place of a predicted one only.
 * Returns 0, -EEXIST there is a better one, or an error of reading the image, planning or pushing.
 */
int attach_list(struct hs_engine *eng, const char *image, const char *name,
		const struct list_source *source, struct attached_list *ret, struct err *e);

#endif
