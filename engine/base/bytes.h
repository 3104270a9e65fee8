/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - little-endian fields at given offsets of a byte buffer
 *
 * Disk and wire structures are read and written with these, field by field; no struct is
 * ever copied as a whole. Callers have checked that the field lies inside the buffer.
 */
#ifndef HS_BASE_BYTES_H
#define HS_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t get_le16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t get_le32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t get_le64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void put_le16(void *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put_le32(void *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put_le64(void *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

/* bytes_zero - whether all of [p, p+len) is zero; fast for large buffers */
bool bytes_zero(const void *p, size_t len);

/* bytes_hex - write 2*len lower-case hex digits and a NUL to @out */
void bytes_hex(const void *p, size_t len, char *out);

#endif
