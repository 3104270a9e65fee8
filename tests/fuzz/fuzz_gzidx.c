/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: gzip.meta. Input: 4 bytes, little endian, size of the target; then the file. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "gzidx.h"
#include "inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct gzidx *g)
{
	uint8_t *window = malloc(INFLATE_WINDOW_BYTES);

	assert(g->count > 0 && g->point[0].out_off == 0);
	for (size_t n = 0; n < g->count; n++) {
		struct range plain = gzidx_span_plain(g, n), stored = gzidx_span_stored(g, n);

		assert(range_inside(plain, g->plain_bytes) && range_inside(stored, g->gzip_bytes));
		assert(plain.len == 0 || gzidx_find(g, plain.off) == n);
		if (n < 64)
			assert(gzidx_window(g, n, window, INFLATE_WINDOW_BYTES) <=
			       INFLATE_WINDOW_BYTES);
	}
	free(window);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gzidx *g;
	struct err e = {0};
	uint8_t *p;

	if (size < 4 + 333)
		return 0;
	p = malloc(size - 4);
	memcpy(p, data + 4, size - 4);
	put_le32(p + 329, crc32c_raw(0, p, 329));
	if (gzidx_parse(p, size - 4, get_le32(data), &g, &e) == 0) {
		check(g);
		gzidx_free(g);
	} else {
		assert(e.msg[0]);
	}
	free(p);
	return 0;
}
