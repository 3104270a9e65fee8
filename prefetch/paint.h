/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paint.h - which part of a line of bytes was touched first when
 *
 * Pure. Touches in order of time are painted on the line, each only where nothing is painted yet;
 * n touches take O(n log n), however they overlap.
 */
#ifndef HS_PREFETCH_PAINT_H
#define HS_PREFETCH_PAINT_H

#include <stddef.h>
#include <stdint.h>

/* The line, cut wherever a touch begins or ends; part n is [cut[n], cut[n + 1]). */
struct paint_line {
	uint64_t *cut; /* ascending */
	size_t cuts;
	size_t *next; /* of every part: the next one not painted, itself when it is not */
};

/* paint_line_make - @cut: begins and ends of all touches, any order; taken over */
void paint_line_make(struct paint_line *l, uint64_t *cut, size_t count);
void paint_line_done(struct paint_line *l);
void paint_line_clear(struct paint_line *l); /* nothing is painted */

/* paint - tell @fn every part of [off, off + bytes) that was not painted, ascending */
void paint(struct paint_line *l, uint64_t off, uint64_t bytes, void (*fn)(void *arg, size_t part),
	   void *arg);

#endif
