/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.h - raw CRC-32C as the overlaybd formats use it
 *
 * Castagnoli polynomial, reflected, register initialised to @seed and *not* inverted at
 * either end (reference: overlaybd-format, "Raw CRC-32C"). standard(x) == ~raw(x, ~0).
 */
#ifndef HS_CODEC_CRC32C_H
#define HS_CODEC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c_raw(uint32_t seed, const void *p, size_t len);

#endif
