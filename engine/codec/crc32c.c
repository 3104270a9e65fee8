/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c.c - raw CRC-32C by ISA-L, whose iSCSI function inverts nothing either */
#include "crc32c.h"

#include <isa-l/crc.h>

/* ISA-L counts in int */
#define CRC32C_PIECE_BYTES (1u << 30)

uint32_t crc32c_raw(uint32_t seed, const void *p, size_t len)
{
	const unsigned char *b = p;

	while (len > 0) {
		size_t n = len < CRC32C_PIECE_BYTES ? len : CRC32C_PIECE_BYTES;

		seed = crc32_iscsi((unsigned char *)b, (int)n, seed);
		b += n;
		len -= n;
	}
	return seed;
}
