/* SPDX-License-Identifier: Apache-2.0 */
/* tables.h - what the tables of lists being made have in common: room that grows, hashes of paths
 */
#ifndef HS_PREFETCH_TABLES_H
#define HS_PREFETCH_TABLES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* room_for_one - an array with room for one more; what is behind @count is not set */
static inline void *room_for_one(void *p, size_t count, size_t *room, size_t bytes)
{
	if (count < *room)
		return p;
	*room = *room ? *room * 2 : 256;
	p = reallocarray(p, *room, bytes);
	if (!p)
		abort();
	return p;
}

static inline uint64_t hash_path(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3u;
	return h ^ h >> 32;
}

#endif
