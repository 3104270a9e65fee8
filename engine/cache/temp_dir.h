/* SPDX-License-Identifier: Apache-2.0 */
/*
 * temp_dir.h - a directory in $TMPDIR (/tmp by default) for a cache that ends with its process
 *
 * Its owner holds a lock (flock) on it. A process that is killed leaves the directory without the
 * lock; the next temp_dir_make() of the same user in the same place removes it. Where the file
 * system has no locks, nothing is swept. Control plane; may block on the disk.
 */
#ifndef HS_CACHE_TEMP_DIR_H
#define HS_CACHE_TEMP_DIR_H

struct err;

struct temp_dir {
	char *path; /* NULL: none */
	int lock_fd;
};

/* temp_dir_make - a new empty directory, mode 0700. Returns 0 or -errno, with the reason in @e. */
int temp_dir_make(struct temp_dir *ret, struct err *e);

/* temp_dir_remove - remove it with all that is in it; best effort. None: does nothing. */
void temp_dir_remove(struct temp_dir *d);

#endif
