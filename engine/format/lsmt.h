/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lsmt.h - LSMT layers: header, trailer, index (overlaybd-format 1)
 *
 * On disk everything counts 512-byte sectors; here everything is bytes. A struct lsmt_index is a
 * sorted array of non-overlapping segments, checked against every reader rule, immutable.
 */
#ifndef HS_FORMAT_LSMT_H
#define HS_FORMAT_LSMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "range.h"

struct err;

#define LSMT_SECTOR_BYTES	512u
#define LSMT_HEADER_BYTES	4096u
#define LSMT_RECORD_BYTES	16u
#define LSMT_RECORD_MAX_SECTORS 16383u
#define LSMT_RO_MAX_RECORDS	1000000ull
#define LSMT_RW_MAX_RECORDS	128000000ull
#define LSMT_MAX_LAYERS		255
#define LSMT_PAD_RECORDS	256
#define LSMT_UUID_BYTES		37

/* One mapping of device bytes. All offsets and lengths are multiples of 512. */
struct lsmt_segment {
	uint64_t off;  /* on the device */
	uint64_t moff; /* in the layer (tag 0) or, warp layers, in the target (tag 1) */
	uint32_t len;  /* bytes, > 0, <= 16383 sectors */
	uint8_t tag;   /* 0; warp: 0 = fs metadata in this file, 1 = remote data */
	bool zeroed;   /* reads as zeros; moff is meaningless */
};

struct lsmt_header {
	uint32_t flags;	       /* LSMT_FLAG_* */
	uint64_t index_offset; /* bytes */
	uint64_t index_count;  /* records, padding included */
	uint64_t virtual_bytes;
	char uuid[LSMT_UUID_BYTES]; /* 36 characters and NUL, or all zero digits */
	char parent[LSMT_UUID_BYTES];
	char user_tag[257];
};

#define LSMT_FLAG_HEADER 0x01u
#define LSMT_FLAG_DATA	 0x02u
#define LSMT_FLAG_SEALED 0x04u
#define LSMT_FLAG_SPARSE 0x10u

/* How the index of a layer is to be read. */
enum lsmt_kind {
	LSMT_NORMAL, /* tags on disk are ignored */
	LSMT_WARP,   /* TurboOCI: tags matter, target offsets are not bounded here */
};

struct lsmt_index {
	struct lsmt_segment *seg; /* sorted, disjoint */
	size_t count;
};

/* lsmt_parse_header - the 4096 bytes at 0: magic, header and data bits; 0 or -EBADMSG */
int lsmt_parse_header(const void *p4096, struct lsmt_header *ret, struct err *e);

/*
 * lsmt_parse_trailer - the last 4096 bytes of a sealed layer of @layer_bytes
 * Checks magic, flags, record limit and that the index lies before the trailer.
 */
int lsmt_parse_trailer(const void *p4096, uint64_t layer_bytes, struct lsmt_header *ret,
		       struct err *e);

/* lsmt_index_range - where the records of a parsed trailer are */
struct range lsmt_index_range(const struct lsmt_header *trailer);

/*
 * lsmt_index_parse - records of a sealed layer, reader rules 4 to 6
 * @records: lsmt_index_range(trailer).len bytes
 * @ret:     lsmt_index_done() by the caller
 */
int lsmt_index_parse(const struct lsmt_header *trailer, enum lsmt_kind kind, const void *records,
		     struct lsmt_index *ret, struct err *e);

/*
 * lsmt_index_replay - chronological records of an append-mode read-write layer
 * @data_bytes: size of the data file, bounds every record
 * Later records win. A torn last record (bytes % 16) is ignored.
 */
int lsmt_index_replay(const void *records, size_t bytes, uint64_t data_bytes,
		      struct lsmt_index *ret, struct err *e);

/*
 * lsmt_index_sparse - index of a sparse read-write layer from its data extents
 * @extents: present ranges of the file, ascending, as SEEK_DATA/SEEK_HOLE gave them
 */
int lsmt_index_sparse(const struct range *extents, size_t count, uint64_t virtual_bytes,
		      struct lsmt_index *ret, struct err *e);

void lsmt_index_done(struct lsmt_index *i);

/* lsmt_parse_rw_index_header - the index file of an append-mode layer; 0 or -EBADMSG */
int lsmt_parse_rw_index_header(const void *p4096, struct lsmt_header *ret, struct err *e);

/* lsmt_encode_header - 4096 bytes; version 1.1; flags as given */
void lsmt_encode_header(const struct lsmt_header *h, uint8_t out[static LSMT_HEADER_BYTES]);

/*
 * lsmt_index_encode - sorted disjoint segments as records: neighbours merged, long ones split,
 * padded to LSMT_PAD_RECORDS with invalid records
 * @end_of_data: byte offset behind the data, used as moffset of zeroed records
 * @ret_records: caller frees; @ret_count includes the padding
 * Returns 0, -EINVAL unsorted or misaligned input, -EOVERFLOW more than LSMT_RO_MAX_RECORDS.
 */
int lsmt_index_encode(const struct lsmt_segment *seg, size_t count, uint64_t end_of_data,
		      uint8_t **ret_records, uint64_t *ret_count, struct err *e);

/* lsmt_uuid_from_chain - first 32 hex digits of "sha256:..." as 8-4-4-4-12, upper case */
void lsmt_uuid_from_chain(const char *chain_id, char out[static LSMT_UUID_BYTES]);

#endif
