/* SPDX-License-Identifier: Apache-2.0 */
/*
 * range.h - an offset and a length in bytes, with arithmetic that cannot wrap
 *
 * A valid range has off + len <= UINT64_MAX. Ranges made from input go through
 * range_checked() or range_inside() first.
 */
#ifndef HS_BASE_RANGE_H
#define HS_BASE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct range {
	uint64_t off;
	uint64_t len;
};

static inline struct range range_of(uint64_t off, uint64_t len)
{
	return (struct range){.off = off, .len = len};
}

static inline uint64_t range_end(struct range r)
{
	return r.off + r.len;
}

/* range_checked - whether off + len does not wrap */
static inline bool range_checked(struct range r)
{
	return r.len <= UINT64_MAX - r.off;
}

/* range_inside - whether @r lies in [0, size); safe for any input */
static inline bool range_inside(struct range r, uint64_t size)
{
	return r.off <= size && r.len <= size - r.off;
}

static inline bool range_overlaps(struct range a, struct range b)
{
	return a.off < range_end(b) && b.off < range_end(a);
}

/* range_clip - the part of @a inside @b; length 0 when they do not meet */
static inline struct range range_clip(struct range a, struct range b)
{
	uint64_t off = a.off > b.off ? a.off : b.off;
	uint64_t end = range_end(a) < range_end(b) ? range_end(a) : range_end(b);

	return range_of(off, end > off ? end - off : 0);
}

static inline uint64_t round_down(uint64_t v, uint64_t unit)
{
	return v - v % unit;
}

/* round_up - caller knows that the result does not wrap */
static inline uint64_t round_up(uint64_t v, uint64_t unit)
{
	return round_down(v + unit - 1, unit);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
