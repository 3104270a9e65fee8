/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: inflate_span() against zlib's inflatePrime(), from any bit offset. */
/* Input: bit offset, prime byte, 2 bytes output size, 1 byte window size / 128, window, stream. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ISA-L decodes ahead by this much and a little, and complains about what is wrong there. */
#define AHEAD_BYTES (128u << 10)

/*
 * Returns 1 when zlib fills @out, 2 when it does and then waits for input in what follows (where
 * ISA-L may find something wrong already), 0 when it cannot, -1 when nothing is asked of us: the
 * member ends before (the next one is not zlib's to see here), or what is wrong lies behind the
 * last byte.
 * @out has room for AHEAD_BYTES more.
 */
static int by_zlib(unsigned int bits, uint8_t prime, const uint8_t *window, size_t window_bytes,
		   const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	z_stream z = {0};
	int r;

	if (inflateInit2(&z, -15) != Z_OK)
		abort();
	if (bits)
		(void)inflatePrime(&z, (int)bits, prime >> (8 - bits)); /* 1..7 bits always fit */
	if (window_bytes)
		(void)inflateSetDictionary(&z, window, (uInt)window_bytes); /* raw: any time */
	z.next_in = (Bytef *)in;
	z.avail_in = (uInt)in_bytes;
	z.next_out = out;
	z.avail_out = (uInt)out_bytes + AHEAD_BYTES;
	r = inflate(&z, Z_SYNC_FLUSH);
	(void)inflateEnd(&z); /* nothing to do about it */
	if (z.total_out >= out_bytes && (r == Z_STREAM_END || !z.avail_out))
		return 1;
	if (z.total_out >= out_bytes)
		return r == Z_OK || r == Z_BUF_ERROR ? 2 : -1;
	/* what zlib calls corrupt ISA-L may decode: it does not ask for complete sets of codes */
	return r == Z_STREAM_END || r == Z_DATA_ERROR ? -1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct inflate *s;
	size_t window_bytes, out_bytes;
	uint8_t *mine, *theirs;
	unsigned int bits;
	int z, r;

	if (!s)
		s = inflate_new();
	if (size < 5)
		return 0;
	bits = data[0] % 8;
	out_bytes = 1 + (data[2] | (size_t)data[3] << 8);
	window_bytes = (size_t)data[4] * 128;
	if (window_bytes > size - 5)
		window_bytes = size - 5;
	mine = malloc(out_bytes);
	theirs = malloc(out_bytes + AHEAD_BYTES);
	r = inflate_span(s, bits, data[1], data + 5, window_bytes, data + 5 + window_bytes,
			 size - 5 - window_bytes, mine, out_bytes);
	z = by_zlib(bits, data[1], data + 5, window_bytes, data + 5 + window_bytes,
		    size - 5 - window_bytes, theirs, out_bytes);
	if (z == 1)
		assert(r == 0 && memcmp(mine, theirs, out_bytes) == 0);
	else if (z == 2)
		assert(r < 0 || memcmp(mine, theirs, out_bytes) == 0);
	else if (z == 0)
		assert(r < 0);
	free(mine);
	free(theirs);
	return 0;
}
