/* SPDX-License-Identifier: Apache-2.0 */
/* bytes.c - see bytes.h */
#include "bytes.h"

bool bytes_zero(const void *p, size_t len)
{
	const unsigned char *b = p;

	/* Sixteen bytes by hand, then the buffer compared with itself shifted by them. */
	for (size_t i = 0; i < 16; i++) {
		if (i == len)
			return true;
		if (b[i])
			return false;
	}
	return memcmp(b, b + 16, len - 16) == 0;
}

void bytes_hex(const void *p, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = p;

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[b[i] >> 4];
		out[2 * i + 1] = digits[b[i] & 15];
	}
	out[2 * len] = '\0';
}
