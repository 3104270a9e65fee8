/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hot_hold.h - blocks of one layer that wait until the others have gone
 *
 * They are kept in memory, up to a limit that does not depend on the machine; what comes behind it
 * is not held back, so that the result is the same everywhere. One thread.
 */
#ifndef HS_CONVERT_HOT_HOLD_H
#define HS_CONVERT_HOT_HOLD_H

#include <stdint.h>

#include "apply.h"

struct hot_order;
struct hot_hold;

/* hot_hold_new - @max_bytes: of blocks */
struct hot_hold *hot_hold_new(const struct hot_order *l, uint64_t max_bytes);
void hot_hold_free(struct hot_hold *h); /* NULL is fine */

const struct hot_order *hot_hold_order(const struct hot_hold *h);

/*
 * hot_hold_add - keep copies of blocks with ascending ranks
 * Returns how many were taken; fewer than @count: the limit is reached, for good.
 */
uint32_t hot_hold_add(struct hot_hold *h, uint32_t rank, uint64_t dev_off, const void *p,
		      uint32_t count);

uint64_t hot_hold_bytes(const struct hot_hold *h);

/* hot_hold_send - all of them to @sink, by rank; returns what @sink returned */
int hot_hold_send(struct hot_hold *h, apply_sink_fn *sink, void *arg, struct err *e);

#endif
