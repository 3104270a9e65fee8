/* SPDX-License-Identifier: Apache-2.0 */
/* gz_make.c - gzip files whose deflate blocks start at every bit offset */
#include "gz_make.h"

#include <stdlib.h>
#include <string.h>

#include <zlib.h>

static const int STRATEGIES[] = {Z_DEFAULT_STRATEGY, Z_FILTERED, Z_FIXED, Z_RLE, Z_HUFFMAN_ONLY};

static void must(int ok)
{
	if (!ok)
		abort();
}

static void one_member(struct test_random *r, z_stream *z, const uint8_t *p, size_t len)
{
	int level = (int)test_random_below(r, 10);
	int strategy = STRATEGIES[test_random_below(r, 5)];

	z->next_in = (Bytef *)p;
	must(deflateInit2(z, level, Z_DEFLATED, 15 + 16, 8, strategy) == Z_OK);
	while (len > 0) {
		size_t n = 1 + test_random_below(r, 40000);
		int flush = test_random_below(r, 8) == 0 ? Z_SYNC_FLUSH : Z_BLOCK;

		if (n > len)
			n = len;
		z->avail_in = (uInt)n;
		must(deflate(z, flush) == Z_OK && z->avail_in == 0);
		len -= n;
	}
	must(deflate(z, Z_FINISH) == Z_STREAM_END);
	must(deflateEnd(z) == Z_OK);
}

uint8_t *gz_make(struct test_random *r, const uint8_t *plain, size_t plain_bytes,
		 unsigned int members, size_t *ret_bytes)
{
	size_t room = plain_bytes * 2 + 65536 * (members + 1), used = 0, at = 0;
	uint8_t *out = malloc(room);

	must(out != NULL);
	for (unsigned int m = 0; m < members; m++) {
		size_t left = plain_bytes - at;
		size_t n = m + 1 == members ? left : test_random_below(r, left + 1);
		z_stream z;

		memset(&z, 0, sizeof(z));
		z.next_out = out + used;
		z.avail_out = (uInt)(room - used);
		one_member(r, &z, plain + at, n);
		used = (size_t)(z.next_out - out);
		at += n;
	}
	*ret_bytes = used;
	return out;
}
