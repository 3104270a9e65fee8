/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list_ship.h - prefetch lists to and from beside the image they are for
 *
 * A list is one artifact of two parts: the ranges, which a start reads, and the files, which only
 * tools read.
 */
#ifndef HS_TOOLS_LIST_SHIP_H
#define HS_TOOLS_LIST_SHIP_H

#include <stddef.h>

#include "headstart.h"

struct err;
struct prefetch_list;

/* What is known about a list that lies in a registry. */
struct shipped_list {
	char digest[72]; /* of the artifact */
	char created[64];
	size_t ranges_bytes, files_bytes; /* encoded */
};

/* list_push - both halves of @l, instead of the list that is there; 0 or an error of the store */
int list_push(struct hs_engine *eng, const char *image, const struct prefetch_list *l,
	      struct shipped_list *ret, struct err *e);

/*
 * list_pull - the newest list, both halves
 * Returns 0, -ENOENT there is none, -EBADMSG, or an error of the store.
 */
int list_pull(struct hs_engine *eng, const char *image, struct prefetch_list **ret,
	      struct shipped_list *ret_about, struct err *e);

#endif
