/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_make.h - tar archives made in memory, entry by entry, broken ones included
 */
#ifndef HS_TESTS_TAR_MAKE_H
#define HS_TESTS_TAR_MAKE_H

#include <stddef.h>
#include <stdint.h>

struct tar_make {
	uint8_t *p;
	size_t bytes, room;
	/* apply to every following entry */
	unsigned int mode, uid, gid;
	long mtime;
	/* pax records of the next entry, "key=value" with explicit lengths */
	uint8_t pax[65536];
	size_t pax_bytes;
};

void tar_make_init(struct tar_make *t);
void tar_make_done(struct tar_make *t);

/* tar_make_pax - a record for the next entry */
void tar_make_pax(struct tar_make *t, const char *key, const void *value, size_t bytes);

/* tar_make_add - @type as in ustar; @claimed: size in the header; @bytes of @data follow */
void tar_make_add(struct tar_make *t, char type, const char *name, const char *link,
		  const void *data, size_t bytes, uint64_t claimed);

void tar_make_file(struct tar_make *t, const char *name, const char *text);
void tar_make_dir(struct tar_make *t, const char *name);
void tar_make_link(struct tar_make *t, char type, const char *name, const char *target);
void tar_make_end(struct tar_make *t); /* two zero blocks */

#endif
