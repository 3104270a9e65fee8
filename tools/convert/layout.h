/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - which blocks of which files a start reads, and in which order
 *
 * Made from the touches of a prefetch list; immutable. Every block has a rank: the order of its
 * first touch over all files. Blocks that are not touched have none. Files are known by their path
 * in the finished image, whatever layer they come from.
 */
#ifndef HS_CONVERT_LAYOUT_H
#define HS_CONVERT_LAYOUT_H

#include <stdint.h>

#include "digest.h"

struct layout;
struct layout_file;
struct prefetch_list;

#define LAYOUT_COLD	  UINT32_MAX
#define LAYOUT_MAX_BLOCKS (1u << 20) /* 4 GiB; what is touched later is not ordered */

/* layout_new - never fails; a list without touches of files gives a layout of nothing */
struct layout *layout_new(const struct prefetch_list *l);
void layout_free(struct layout *l); /* NULL is fine */

/* layout_id - the same for lists that order the same blocks in the same way */
const char *layout_id(const struct layout *l);

/* layout_find - @path without a leading slash; NULL: nothing of it is ordered */
const struct layout_file *layout_find(const struct layout *l, const char *path);

/*
 * layout_run - how many of @count blocks of a file from @lblk on are alike
 * @ret_rank: of the first; those behind it in the run have the ranks behind it. Or LAYOUT_COLD.
 */
uint32_t layout_run(const struct layout *l, const struct layout_file *f, uint32_t lblk,
		    uint32_t count, uint32_t *ret_rank);

#endif
