/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zfile.h - ZFile, the seekable compressed file of overlaybd (overlaybd-format 2)
 *
 * header 512 | blocks, each followed by a CRC when verify is set | jump table | trailer 512.
 * All offsets are relative to the ZFile's first byte. Parsing takes nothing on trust: the table
 * must describe exactly the blocks between header and index, and stays within stated limits.
 */
#ifndef HS_FORMAT_ZFILE_H
#define HS_FORMAT_ZFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "range.h"

struct err;

#define ZFILE_HEADER_BYTES     512
#define ZFILE_BLOCK_BYTES_MIN  512
#define ZFILE_BLOCK_BYTES_MAX  65536
#define ZFILE_STORED_BYTES_MAX 65536 /* one stored block with its CRC */
#define ZFILE_CRC_SEED	       100007
#define ZFILE_MAX_BLOCKS       1000000000ull

/* What header or trailer say; immutable after parsing. */
struct zfile_info {
	uint64_t index_offset; /* bytes */
	uint64_t block_count;  /* table entries; == ceil(original_bytes / block_bytes) */
	uint64_t original_bytes;
	uint32_t index_crc;   /* of the table; checked when has_crc */
	uint32_t block_bytes; /* uncompressed, power of two */
	uint32_t dict_bytes; /* blocks start at 512 + dict_bytes; no dictionary is supported != 0 */
	enum codec_id codec;
	bool verify;  /* a 4-byte CRC follows every block */
	bool has_crc; /* flag bit 4: digest and index_crc are meaningful */
	bool final;   /* header only: index fields are valid, no trailer needed */
};

/* zfile_detect - whether @p (at least 512 bytes) starts a ZFile: magic and header bit */
bool zfile_detect(const void *p, size_t bytes);

/*
 * zfile_parse_header - check and decode the 512 bytes at 0
 * @file_bytes: size of the ZFile, used to bound the index when the header is final
 * When it is not final its index fields are set to 0 and the others are not checked: only the
 * trailer counts then.
 * Returns 0, -EBADMSG, -EOPNOTSUPP unknown codec or a dictionary.
 */
int zfile_parse_header(const void *p512, uint64_t file_bytes, struct zfile_info *ret,
		       struct err *e);

/* zfile_parse_trailer - the same for the last 512 bytes; needed when the header is not final */
int zfile_parse_trailer(const void *p512, uint64_t file_bytes, struct zfile_info *ret,
			struct err *e);

/* zfile_index_range - where the jump table is */
struct range zfile_index_range(const struct zfile_info *i);

struct zfile_table; /* about 4 bytes a block; immutable; any thread */

/*
 * zfile_table_new - check and take in the jump table
 * @table: zfile_index_range(i).len bytes
 * Returns 0, -EBADMSG wrong CRC, an impossible entry, or a sum that is not index_offset.
 */
int zfile_table_new(const struct zfile_info *i, const void *table, struct zfile_table **ret,
		    struct err *e);
void zfile_table_free(struct zfile_table *t); /* NULL is fine */

/* zfile_blocks - stored bytes of blocks [first, first+count), CRCs included; within the ZFile */
struct range zfile_blocks(const struct zfile_table *t, uint64_t first, uint64_t count);

/* zfile_block_plain_bytes - decoded size of block @n: block_bytes, less for the last */
uint32_t zfile_block_plain_bytes(const struct zfile_info *i, uint64_t n);

/*
 * zfile_block_decode - verify and decode one stored block
 * @stored: zfile_blocks(t, n, 1).len bytes
 * @dst:    room for zfile_block_plain_bytes(i, n)
 * Returns 0, -EBADMSG wrong CRC, not decodable or wrong length.
 */
int zfile_block_decode(const struct zfile_info *i, uint64_t n, struct codec *c, const void *stored,
		       size_t stored_bytes, void *dst);

/*
 * zfile_block_encode - the reverse, CRC appended
 * @dst_bytes: at least codec_bound() + 4
 * Returns stored length, -ENOSPC, -EOVERFLOW when it would exceed ZFILE_STORED_BYTES_MAX.
 */
long zfile_block_encode(enum codec_id id, int level, struct codec *c, const void *plain,
			size_t plain_bytes, void *dst, size_t dst_bytes);

enum zfile_head { ZFILE_HEAD_FIRST, ZFILE_HEAD_FINAL, ZFILE_TRAILER };

/* zfile_encode_head - 512 bytes of header (0x13), rewritten header (0x1B) or trailer (0x16) */
void zfile_encode_head(const struct zfile_info *i, enum zfile_head kind,
		       uint8_t out[static ZFILE_HEADER_BYTES]);

/* zfile_table_crc - running raw CRC of encoded table bytes; start with 0 */
uint32_t zfile_table_crc(uint32_t crc, const void *p, size_t bytes);

#endif
