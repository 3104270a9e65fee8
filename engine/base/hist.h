/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hist.h - a histogram of nanoseconds in powers of two; one writer, any reader
 *
 * Bucket i counts values in [2^i, 2^(i+1)); bucket 0 also counts 0.
 */
#ifndef HS_BASE_HIST_H
#define HS_BASE_HIST_H

#include <stdint.h>

#define HIST_BUCKETS 48

struct hist {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);

/* hist_quantile - upper edge of the bucket that holds quantile @q in 0..1; 0 when empty */
uint64_t hist_quantile(const struct hist *h, double q);

#endif
