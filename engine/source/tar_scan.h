/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_scan.h - where the members of an uncompressed tar file lie
 *
 * For archives of images: few, large members that are later read in place. ustar, GNU and PAX
 * names, sizes and links; sparse members are refused. All input comes through one callback, so that
 * the scan runs over a file as over memory.
 */
#ifndef HS_SOURCE_TAR_SCAN_H
#define HS_SOURCE_TAR_SCAN_H

#include <stddef.h>
#include <stdint.h>

struct err;

#define TAR_SCAN_MAX_MEMBERS 200000u
#define TAR_SCAN_NAME_BYTES  4096u

enum tar_kind { TAR_FILE, TAR_LINK /* hard or symbolic */, TAR_OTHER };

struct tar_member {
	char *name;   /* without leading "./" and "/" */
	char *target; /* of a link: a name in the archive, "" when it leads out of it */
	enum tar_kind kind;
	uint64_t off, bytes;
};

struct tar_index {
	struct tar_member *members;
	size_t count, cap;
};

/*
 * tar_scan - list the members
 * @bytes: size of the file
 * @read: fill @buf with [off, off+len), which lies inside; 0 or negative errno
 *
 * Returns 0, -EBADMSG not a tar or cut short, -EOPNOTSUPP compressed or sparse, or what @read did.
 */
int tar_scan(uint64_t bytes, int (*read)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
	     struct tar_index *ret, struct err *e);
void tar_index_done(struct tar_index *x);

/* tar_find - the last file of that name, links followed; NULL when there is none */
const struct tar_member *tar_find(const struct tar_index *x, const char *name);

#endif
