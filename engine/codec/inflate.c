/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inflate.c - raw deflate from a checkpoint with stock ISA-L
 *
 * ISA-L has no inflatePrime(), but read_in and read_in_length are public and mean the same. The
 * dictionary may be set only while a block header is expected, which is so after a reset.
 */
#include "inflate.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <isa-l/igzip_lib.h>

#include "text.h"

#define GZIP_TRAILER_BYTES 8

struct inflate {
	struct inflate_state isal;
};

struct inflate *inflate_new(void)
{
	return xmalloc_zero(1, sizeof(struct inflate));
}

void inflate_free(struct inflate *s)
{
	free(s);
}

/* The first member is entered in its middle: no header, and no checksum that could be checked. */
static int start_raw(struct inflate_state *z, unsigned int bits, uint8_t prime_byte,
		     const void *window, size_t window_bytes)
{
	isal_inflate_init(z);
	z->crc_flag = ISAL_DEFLATE;
	if (bits > 0) {
		z->read_in = (uint64_t)prime_byte >> (8 - bits);
		z->read_in_length = (int32_t)bits;
	}
	if (window_bytes > 0 &&
	    isal_inflate_set_dict(z, (uint8_t *)window, (uint32_t)window_bytes) != 0)
		return -EBADMSG;
	return 0;
}

/* Step over a raw member's trailer; the next one is whole, so ISA-L checks its header and CRC. */
static int start_member(struct inflate_state *z, bool raw)
{
	uint8_t *in = z->next_in;
	uint32_t left = z->avail_in;

	if (raw) {
		uint32_t unread = (uint32_t)z->read_in_length / 8;

		in -= unread;
		left += unread;
		if (left < GZIP_TRAILER_BYTES)
			return -EBADMSG;
		in += GZIP_TRAILER_BYTES;
		left -= GZIP_TRAILER_BYTES;
	}
	isal_inflate_init(z);
	z->crc_flag = ISAL_GZIP;
	z->next_in = in;
	z->avail_in = left;
	return 0;
}

int inflate_span(struct inflate *s, unsigned int bits, uint8_t prime_byte, const void *window,
		 size_t window_bytes, const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
	struct inflate_state *z = &s->isal;
	uint8_t *next_out = out;
	bool raw = true;
	int r;

	if (bits > 7 || window_bytes > INFLATE_WINDOW_BYTES || out_bytes > UINT32_MAX)
		return -EBADMSG;
	r = start_raw(z, bits, prime_byte, window, window_bytes);
	if (r < 0)
		return r;
	z->next_in = (uint8_t *)in;
	z->avail_in = in_bytes < UINT32_MAX ? (uint32_t)in_bytes : UINT32_MAX;
	while (out_bytes > 0) {
		uint32_t before = z->avail_in;

		z->next_out = next_out;
		z->avail_out = (uint32_t)out_bytes;
		/* after an error ISA-L hands out bytes that it never decoded: nothing of it counts
		 */
		if (isal_inflate(z) < 0)
			return -EBADMSG;
		out_bytes -= (size_t)(z->next_out - next_out);
		if (out_bytes == 0)
			break;
		if (z->block_state != ISAL_BLOCK_FINISH) {
			/* more can come only from input that is not there */
			if (z->next_out == next_out && z->avail_in == before)
				return -EBADMSG;
			next_out = z->next_out;
			continue;
		}
		next_out = z->next_out;
		r = start_member(z, raw);
		if (r < 0)
			return r;
		if (z->avail_in == 0)
			return -EBADMSG;
		raw = false;
	}
	return 0;
}
