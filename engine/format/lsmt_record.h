/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lsmt_record.h - the 16-byte index record of LSMT (overlaybd-format 1.3), in sectors
 *
 * Private to the lsmt files.
 */
#ifndef HS_FORMAT_LSMT_RECORD_H
#define HS_FORMAT_LSMT_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "lsmt.h"

#define LSMT_INVALID_OFFSET	((1ull << 50) - 1)
#define LSMT_DEVICE_MAX_SECTORS (1ull << 50)

struct lsmt_record {
	uint64_t off;
	uint64_t moff;
	uint32_t len;
	uint8_t tag;
	bool zeroed;
};

/* lsmt_record_get - false for the invalid (padding) record */
static inline bool lsmt_record_get(const uint8_t *p, struct lsmt_record *ret)
{
	uint64_t w0 = get_le64(p), w1 = get_le64(p + 8);

	*ret = (struct lsmt_record){
	    .off = w0 & LSMT_INVALID_OFFSET,
	    .len = (uint32_t)(w0 >> 50),
	    .moff = w1 & ((1ull << 55) - 1),
	    .zeroed = w1 >> 55 & 1,
	    .tag = (uint8_t)(w1 >> 56),
	};
	return ret->off != LSMT_INVALID_OFFSET;
}

static inline void lsmt_record_put(const struct lsmt_record *r, uint8_t *out)
{
	put_le64(out, r->off | (uint64_t)r->len << 50);
	put_le64(out + 8, r->moff | (uint64_t)r->zeroed << 55 | (uint64_t)r->tag << 56);
}

/* lsmt_record_segment - in bytes; the record has been checked */
static inline struct lsmt_segment lsmt_record_segment(const struct lsmt_record *r)
{
	return (struct lsmt_segment){
	    .off = r->off * LSMT_SECTOR_BYTES,
	    .moff = r->moff * LSMT_SECTOR_BYTES,
	    .len = r->len * LSMT_SECTOR_BYTES,
	    .tag = r->tag,
	    .zeroed = r->zeroed,
	};
}

#endif
