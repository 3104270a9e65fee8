/* SPDX-License-Identifier: Apache-2.0 */
/* hist.c - see hist.h */
#include "hist.h"

void hist_add(struct hist *h, uint64_t ns)
{
	int b = ns ? 63 - __builtin_clzll(ns) : 0;

	if (b >= HIST_BUCKETS)
		b = HIST_BUCKETS - 1;
	h->bucket[b]++;
	h->count++;
	h->sum_ns += ns;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	uint64_t want = (uint64_t)(q * (double)h->count), seen = 0;

	if (!h->count)
		return 0;
	for (int b = 0; b < HIST_BUCKETS; b++) {
		seen += h->bucket[b];
		if (seen > want || seen == h->count) {
			uint64_t edge = 2ull << b;

			return edge < h->max_ns ? edge : h->max_ns;
		}
	}
	return h->max_ns;
}
