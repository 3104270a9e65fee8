/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - from touches of one or more starts to an ordered, merged, budgeted prefetch list
 *
 * Pure: no I/O, no clock, the same input gives the same list. The caller has turned what was read
 * into device ranges; a callback maps those to stored bytes of blobs.
 */
#ifndef HS_PREFETCH_PLAN_H
#define HS_PREFETCH_PLAN_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct prefetch_list;
struct prefetch_range;

/* One touch of one run. */
struct plan_touch {
	uint64_t at_ns;	     /* since that run's start */
	uint64_t off, bytes; /* of the device */
	uint32_t run;	     /* 0 .. runs - 1 */
};

/* Calls @fn with the whole stored blocks behind a device range; holes give nothing. */
typedef int plan_stored_fn(void *arg, uint32_t blob, uint64_t off, uint64_t bytes);
struct plan_map {
	int (*stored)(void *arg, uint64_t dev_off, uint64_t bytes, plan_stored_fn *fn,
		      void *fn_arg);
	/*
	 * The first byte from @dev_off on behind which something may be stored; UINT64_MAX: none.
	 * NULL: behind any. A touch may claim 2^63 bytes, of which nearly all are no device's.
	 */
	uint64_t (*next)(void *arg, uint64_t dev_off);
	void *arg;
};

/* Defaults behind the semicolons. */
struct plan_options {
	uint64_t gap_bytes;	     /* ranges of a blob this close are joined ... ; 128 KiB */
	unsigned int waste_permille; /* ... as long as gaps are at most this share of all; 80 */
	uint64_t max_range_bytes;    /* joined ranges are not longer; 4 MiB */
	/*
	 * Touches this close in time may change places to be joined; 250 ms. What comes later is
	 * joined as well while it is at most gap_bytes that come too early by it.
	 */
	uint64_t window_ns;
	uint64_t budget_bytes;		/* stored bytes in all, the earliest; 0: no limit; 0 */
	uint64_t budget_ns;		/* touches later than this are left out; 0: no limit; 0 */
	unsigned int min_runs_permille; /* seen in at least this share of the runs; 500 */
	const struct prefetch_range *have; /* what opening loads anyway; at_ms ignored */
	size_t have_count;
};

void plan_options_default(struct plan_options *o);

/*
 * plan_ranges - fill l->ranges; l->blobs are set already and bound the ranges
 * Order: by first touch (over several runs: by the median of first touches); no stored byte twice.
 * Returns 0, -EINVAL a touch that wraps or of no run, -EBADMSG the map names bytes of no blob of
 * @l, or what @map->stored returned.
 */
int plan_ranges(const struct plan_touch *touches, size_t count, uint32_t runs,
		const struct plan_map *map, const struct plan_options *o, struct prefetch_list *l,
		struct err *e);

#endif
