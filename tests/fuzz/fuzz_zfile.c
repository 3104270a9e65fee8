/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: a whole ZFile, opened by header or trailer, all blocks decoded. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "zfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Checksums stop a fuzzer at the door: mend those of header and table. */
static void mend(uint8_t *p, size_t size)
{
	uint64_t off = get_le64(p + 40), count = get_le64(p + 48);

	if (off < size && count <= (size - off) / 4)
		put_le32(p + 64, crc32c_raw(0, p + off, count * 4));
	put_le32(p + 28, 0);
	put_le32(p + 28, crc32c_raw(0, p, 512));
}

static void read_blocks(const struct zfile_info *i, const uint8_t *p, size_t size)
{
	static struct codec *c;
	struct zfile_table *t;
	struct err e = {0};
	uint8_t *stored, *out;

	if (!c)
		c = codec_new();
	assert(range_inside(zfile_index_range(i), size));
	if (zfile_table_new(i, p + i->index_offset, &t, &e) < 0) {
		assert(e.msg[0]);
		return;
	}
	out = malloc(ZFILE_BLOCK_BYTES_MAX);
	for (uint64_t n = 0; n < i->block_count; n++) {
		struct range b = zfile_blocks(t, n, 1);
		uint32_t plain = zfile_block_plain_bytes(i, n);

		assert(range_end(b) <= i->index_offset && b.len <= ZFILE_STORED_BYTES_MAX);
		assert(plain > 0 && plain <= i->block_bytes);
		stored = malloc(b.len);
		memcpy(stored, p + b.off, b.len);
		(void)zfile_block_decode(i, n, c, stored, b.len, out); /* any answer but a crash */
		free(stored);
	}
	free(out);
	zfile_table_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct zfile_info i;
	uint8_t *p;

	if (size < 512)
		return 0;
	p = malloc(size);
	memcpy(p, data, size);
	for (int mended = 0; mended < 2; mended++) {
		bool header = zfile_detect(p, size) && zfile_parse_header(p, size, &i, NULL) == 0;

		if (header && i.final)
			read_blocks(&i, p, size);
		if (zfile_parse_trailer(p + size - 512, size, &i, NULL) == 0)
			read_blocks(&i, p, size);
		mend(p, size);
	}
	free(p);
	return 0;
}
