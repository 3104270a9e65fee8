/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hot_order.h - which blocks of which files a start reads, and in which order
 *
 * Made from the touches of a prefetch list; immutable. Every block has a rank: the order of its
 * first touch over all files. Blocks that are not touched have none. Files are known by their path
 * in the finished image, whatever layer they come from. File system metadata is ordered as well:
 * the device counts as a file, whose blocks are those of the device that the list was made for. On
 * another build some of them are others; that only costs order.
 */
#ifndef HS_CONVERT_HOT_ORDER_H
#define HS_CONVERT_HOT_ORDER_H

#include <stdint.h>

#include "digest.h"

struct hot_order;
struct hot_file;
struct prefetch_list;

#define HOT_ORDER_COLD	     UINT32_MAX
#define HOT_ORDER_DEVICE     "//device" /* no path looks like this */
#define HOT_ORDER_MAX_BLOCKS (1u << 20) /* 4 GiB; what is touched later is not ordered */

/* hot_order_new - never fails; a list without touches of files gives an order of nothing */
struct hot_order *hot_order_new(const struct prefetch_list *l);
void hot_order_free(struct hot_order *l); /* NULL is fine */

/* hot_order_id - the same for lists that order the same blocks in the same way */
const char *hot_order_id(const struct hot_order *l);

/* hot_order_find - @path without a leading slash; NULL: nothing of it is ordered */
const struct hot_file *hot_order_find(const struct hot_order *l, const char *path);

/*
 * hot_order_run - how many of @count blocks of a file from @lblk on are alike
 * @ret_rank: of the first; those behind it in the run have the ranks behind it. Or HOT_ORDER_COLD.
 */
uint32_t hot_order_run(const struct hot_order *l, const struct hot_file *f, uint32_t lblk,
		       uint32_t count, uint32_t *ret_rank);

#endif
