/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: LSMT layers, sealed, warp, append-mode; what is accepted must hold the rules. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "err.h"
#include "lsmt.h"
#include "map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct lsmt_index *i, uint64_t data_end)
{
	uint64_t next = 0;

	for (size_t n = 0; n < i->count; n++) {
		const struct lsmt_segment *s = &i->seg[n];

		assert(s->off >= next && s->len > 0 && s->len % 512 == 0 && s->tag <= 1);
		next = s->off + s->len;
		if (s->tag == 0 && !s->zeroed)
			assert(s->moff >= 4096 && s->moff + s->len <= data_end);
	}
}

/* A map of it answers for every place; and the encoder's output is read back. */
static void use(const struct lsmt_index *i, uint64_t device)
{
	struct lsmt_index pair[2] = {*i, *i};
	struct range left = range_of(0, device);
	struct image_map *m;

	if (image_map_build(pair, 2, device, &m, NULL) < 0)
		return;
	while (left.len > 0) {
		struct map_piece p = image_map_next(m, left);

		assert(p.range.off == left.off && p.range.len > 0 && p.range.len <= left.len);
		left = range_of(range_end(p.range), left.len - p.range.len);
	}
	image_map_free(m);
}

static void sealed(const uint8_t *p, size_t size, enum lsmt_kind kind)
{
	struct lsmt_header t;
	struct lsmt_index i;
	struct err e = {0};
	struct range r;

	if (lsmt_parse_trailer(p + size - 4096, size, &t, NULL) < 0)
		return;
	r = lsmt_index_range(&t);
	assert(range_inside(r, size - 4096));
	if (lsmt_index_parse(&t, kind, p + r.off, &i, &e) < 0) {
		assert(e.msg[0]);
		return;
	}
	check(&i, t.index_offset);
	use(&i, t.virtual_bytes);
	if (kind == LSMT_NORMAL && t.index_offset % 512 == 0) {
		uint64_t count;
		uint8_t *again;

		if (lsmt_index_encode(i.seg, i.count, t.index_offset, &again, &count, NULL) == 0)
			free(again);
	}
	lsmt_index_done(&i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lsmt_header h;
	struct lsmt_index i;
	uint64_t data_bytes;

	if (size < 4096)
		return 0;
	(void)lsmt_parse_header(data, &h, NULL); /* any answer but a crash */
	(void)lsmt_parse_rw_index_header(data, &h, NULL);
	sealed(data, size, LSMT_NORMAL);
	sealed(data, size, LSMT_WARP);
	data_bytes = 4096 + (uint64_t)data[0] * 65536;
	if (lsmt_index_replay(data + 4096, size - 4096, data_bytes, &i, NULL) == 0) {
		check(&i, data_bytes);
		use(&i, 1ull << 59);
		lsmt_index_done(&i);
	}
	return 0;
}
