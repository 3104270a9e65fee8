/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: an index is made of any gzip file, and is then good for every span of it. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "gzidx.h"
#include "inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct inflate *s;
	size_t bytes;
	struct gzidx *g;
	uint8_t *file, *window;

	if (!s)
		s = inflate_new();
	if (gzidx_build(data, size, 65536, &file, &bytes, NULL) < 0)
		return 0;
	assert(gzidx_parse(file, bytes, size, &g, NULL) == 0);
	window = malloc(INFLATE_WINDOW_BYTES);
	for (size_t n = 0; n < g->count; n++) {
		struct range plain = gzidx_span_plain(g, n), stored = gzidx_span_stored(g, n);
		long w = gzidx_window(g, n, window, INFLATE_WINDOW_BYTES);
		bool prime = g->point[n].bits > 0;
		uint8_t *out = malloc(plain.len + 1);

		assert(w >= 0);
		assert(inflate_span(s, g->point[n].bits, data[stored.off], window, (size_t)w,
				    data + stored.off + prime, stored.len - prime, out,
				    plain.len) == 0);
		free(out);
	}
	free(window);
	gzidx_free(g);
	free(file);
	return 0;
}
