/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: unpack. Byte 0 picks the piece sizes; zlib or zstd must agree on the result. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "err.h"
#include "unpack.h"

#define OUT_MAX (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Returns the length or -1; *ret_cut when there was more than fits. */
static long run(const uint8_t *in, size_t bytes, size_t step, size_t room, uint8_t *out,
		bool *ret_cut)
{
	struct unpack *u = unpack_new();
	size_t fed = 0, made = 0;
	struct err e = {0};
	int r = 1;

	*ret_cut = false;
	while (r == 1) {
		size_t n = bytes - fed < step ? bytes - fed : step, left = n, got = 0;
		size_t space = OUT_MAX - made < room ? OUT_MAX - made : room;
		const uint8_t *p = in + fed;

		if (space == 0) {
			*ret_cut = true;
			break;
		}
		r = unpack_step(u, &p, &left, fed + n == bytes, out + made, space, &got, &e);
		assert(r != 1 || got > 0 || left < n || fed + n == bytes);
		assert(got <= space && left <= n);
		assert(r >= 0 || e.msg[0]);
		fed += n - left;
		made += got;
	}
	unpack_free(u);
	return r < 0 ? -1 : (long)made;
}

/* One member and nothing behind it, by zlib. */
static long by_zlib(const uint8_t *in, size_t bytes, uint8_t *out)
{
	z_stream z = {0};
	long n = -1;

	z.next_in = (Bytef *)in;
	z.avail_in = (uInt)bytes;
	z.next_out = out;
	z.avail_out = OUT_MAX;
	if (inflateInit2(&z, 15 + 16) != Z_OK)
		abort();
	if (inflate(&z, Z_FINISH) == Z_STREAM_END && z.avail_in == 0)
		n = (long)z.total_out;
	(void)inflateEnd(&z); /* nothing to do about it */
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *a, *b;
	bool cut_a, cut_b;
	long n, m;

	if (!a) {
		a = malloc(OUT_MAX);
		b = malloc(OUT_MAX);
	}
	if (size < 1)
		return 0;
	n = run(data + 1, size - 1, SIZE_MAX, 65536, a, &cut_a);
	m = run(data + 1, size - 1, 1 + data[0] % 16 * 11, 64 + data[0] / 4 * 37, b, &cut_b);
	if (cut_a || cut_b)
		return 0;
	assert(n == m && (n < 0 || memcmp(a, b, (size_t)n) == 0));
	if (size > 3 && data[1] == 0x1F && data[2] == 0x8B) {
		m = by_zlib(data + 1, size - 1, b);
		assert(m < 0 || (n == m && memcmp(a, b, (size_t)n) == 0));
	}
	return 0;
}
