/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - a bar with rate and ETA on a terminal, plain lines elsewhere; standard error
 *
 * Other threads only add to the counters. A thread of its own redraws the bar.
 */
#ifndef HS_CONVERT_PROGRESS_H
#define HS_CONVERT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "layer_feed.h"

struct progress;

/* progress_new - @quiet: print nothing at all */
struct progress *progress_new(bool quiet);
void progress_free(struct progress *p); /* takes the bar away; NULL is fine */

struct feed_totals *progress_feeds(struct progress *p);
_Atomic uint64_t *progress_sent(struct progress *p);

/* progress_expect - source bytes that will come, in addition to what was said before */
void progress_expect(struct progress *p, uint64_t source_bytes);

/* progress_say - one line for the person */
void progress_say(struct progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
