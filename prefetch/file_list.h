/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_list.h - overlaybd's list of files to prefetch (overlaybd-format 6.3)
 *
 * Text of at most 64 KiB, one path per line, of the characters A-Z a-z 0-9 _ . - and /. A path that
 * ends with / is a directory with all that is in it. Pure.
 */
#ifndef HS_PREFETCH_FILE_LIST_H
#define HS_PREFETCH_FILE_LIST_H

#include <stddef.h>

struct err;

#define FILE_LIST_MAX_BYTES 65536u

struct file_list {
	char **paths; /* absolute, in the order of the file; a directory ends with '/' */
	size_t count;
};

/* file_list_parse - 0, -EFBIG, -EBADMSG a character that no path may have, or no path at all */
int file_list_parse(const void *p, size_t bytes, struct file_list *ret, struct err *e);
void file_list_done(struct file_list *l);

#endif
