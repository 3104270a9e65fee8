/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weigh.h - from touches of several runs: which bytes count, and when they are touched first
 *
 * Pure. A line is whatever has offsets: a device, a blob, a file.
 */
#ifndef HS_PREFETCH_WEIGH_H
#define HS_PREFETCH_WEIGH_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a line that a run touched; off + bytes does not wrap. */
struct weigh_touch {
	uint32_t line, run;
	uint64_t at_ns;
	uint64_t off, bytes;
};

/* A part of a line, with the median of the runs' first touches; @run is 0. */
typedef void weigh_fn(void *arg, const struct weigh_touch *part);

/*
 * weigh - parts in at least @min_runs_permille of @runs, ascending by line and offset, disjoint
 * @t: put into another order. Parts end where touches do.
 */
void weigh(struct weigh_touch *t, size_t count, uint32_t runs, unsigned int min_runs_permille,
	   weigh_fn *fn, void *arg);

#endif
