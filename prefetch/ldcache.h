/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldcache.h - glibc's /etc/ld.so.cache: names of libraries and where they lie; pure
 *
 * The format "glibc-ld.so.cache1.1", alone or behind the old one. Entries for special hardware are
 * left out: a program finds the plain ones everywhere.
 */
#ifndef HS_PREFETCH_LDCACHE_H
#define HS_PREFETCH_LDCACHE_H

#include <stddef.h>
#include <stdint.h>

struct err;

#define LDCACHE_MAX_BYTES (16u << 20)

struct ldcache {
	const uint8_t *p; /* where the format begins; of the caller */
	size_t bytes;
	uint32_t count;
};

/* ldcache_parse - @p must outlive *ret; 0, -EOPNOTSUPP another format, -EBADMSG */
int ldcache_parse(const void *p, size_t bytes, struct ldcache *ret, struct err *e);

/*
 * ldcache_find - path number @n (from 0) of the library @name; NULL: no more
 * Those of other machines are told too: the caller looks at the file.
 */
const char *ldcache_find(const struct ldcache *c, const char *name, unsigned int n);

#endif
