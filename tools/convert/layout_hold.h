/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout_hold.h - blocks of one layer that wait until the others have gone
 *
 * They are kept in memory, up to a limit that does not depend on the machine; what comes behind it
 * is not held back, so that the result is the same everywhere. One thread.
 */
#ifndef HS_CONVERT_LAYOUT_HOLD_H
#define HS_CONVERT_LAYOUT_HOLD_H

#include <stdint.h>

#include "apply.h"

struct layout;
struct layout_hold;

/* layout_hold_new - @max_bytes: of blocks */
struct layout_hold *layout_hold_new(const struct layout *l, uint64_t max_bytes);
void layout_hold_free(struct layout_hold *h); /* NULL is fine */

const struct layout *layout_hold_layout(const struct layout_hold *h);

/*
 * layout_hold_add - keep copies of blocks with ascending ranks
 * Returns how many were taken; fewer than @count: the limit is reached, for good.
 */
uint32_t layout_hold_add(struct layout_hold *h, uint32_t rank, uint64_t dev_off, const void *p,
			 uint32_t count);

uint64_t layout_hold_bytes(const struct layout_hold *h);

/* layout_hold_send - all of them to @sink, by rank; returns what @sink returned */
int layout_hold_send(struct layout_hold *h, apply_sink_fn *sink, void *arg, struct err *e);

#endif
