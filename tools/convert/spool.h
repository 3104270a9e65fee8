/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool.h - compressed bytes that wait for their headers: in memory, then in an unlinked file
 *
 * All spools of a conversion share one memory budget; what does not fit goes to a temporary file
 * that has no name, so nothing can be left behind. Appending is for one thread; reading for any,
 * once nothing is appended any more.
 */
#ifndef HS_CONVERT_SPOOL_H
#define HS_CONVERT_SPOOL_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct spool;

struct spool_budget {
	uint64_t limit; /* bytes of memory */
	_Atomic uint64_t used;
	const char *dir; /* for temporary files; NULL: $TMPDIR or /var/tmp */
};

struct spool *spool_new(struct spool_budget *budget);
void spool_free(struct spool *s); /* NULL is fine */

int spool_append(struct spool *s, const void *p, size_t bytes, struct err *e);
int spool_read(struct spool *s, uint64_t off, void *buf, size_t bytes, struct err *e);
uint64_t spool_bytes(const struct spool *s);

#endif
