/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: prefetch lists; what is accepted is encoded, and read back as the same. Each input
 * is also tried with its checksums put right, so that the fuzzer gets past them.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "prefetch_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the promise of a list is: bytes of its blobs and nothing else. */
static void check(const struct prefetch_list *l)
{
	for (size_t i = 0; i < l->range_count; i++) {
		const struct prefetch_range *r = &l->ranges[i];

		assert(r->blob < l->blob_count && r->bytes);
		assert(r->bytes <= l->blobs[r->blob].bytes);
		assert(r->off <= l->blobs[r->blob].bytes - r->bytes);
	}
	for (size_t i = 0; i < l->touch_count; i++)
		assert(l->touches[i].file == PREFETCH_NO_FILE ||
		       l->touches[i].file < l->file_count);
}

static void parse(const uint8_t *p, size_t size)
{
	struct prefetch_list *l, *again;
	struct err e = {0};
	uint8_t *file, *file2;
	size_t bytes, bytes2;

	if (prefetch_list_parse(p, size, &l, &e)) {
		assert(e.msg[0]);
		return;
	}
	check(l);
	assert(prefetch_list_encode(l, PREFETCH_RANGES | PREFETCH_FILES, &file, &bytes, NULL) == 0);
	assert(prefetch_list_parse(file, bytes, &again, NULL) == 0);
	assert(l->range_count == again->range_count && l->touch_count == again->touch_count);
	assert(!l->range_count ||
	       !memcmp(l->ranges, again->ranges, l->range_count * sizeof(*l->ranges)));
	assert(prefetch_list_encode(again, PREFETCH_RANGES | PREFETCH_FILES, &file2, &bytes2,
				    NULL) == 0);
	assert(bytes == bytes2 && !memcmp(file, file2, bytes));
	free(file);
	free(file2);
	prefetch_list_free(l);
	prefetch_list_free(again);
}

static void put_right(uint8_t *p, size_t size)
{
	if (size < 16)
		return;
	put_le32(p + 12, ~crc32c_raw(~0u, p, 12));
	for (size_t at = 16; size - at >= 12;) {
		size_t n = get_le32(p + at + 4);

		if (n > size - at - 12) {
			n = size - at - 12;
			put_le32(p + at + 4, (uint32_t)n);
		}
		put_le32(p + at + 8 + n, ~crc32c_raw(~0u, p + at, 8 + n));
		at += 12 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *p = malloc(size + 1);

	parse(data, size);
	memcpy(p, data, size);
	put_right(p, size);
	parse(p, size);
	free(p);
	return 0;
}
