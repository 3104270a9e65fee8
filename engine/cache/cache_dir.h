/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_dir.h - the directory of a cache: its space, and what may be removed from it
 *
 * blobs/ holds two files per blob (blobmap.h), objects/ and names/ one small file each. Control
 * plane; one call at a time.
 */
#ifndef HS_CACHE_CACHE_DIR_H
#define HS_CACHE_CACHE_DIR_H

#include <stdint.h>

struct err;

struct cache_dir {
	char *path;
	int blobs_fd, objects_fd, names_fd;
};

struct cache_space {
	uint64_t used_bytes; /* of the cache: blocks of all its files */
	uint64_t free_bytes; /* of the file system */
	uint64_t total_bytes;
};

int cache_dir_open(const char *path, struct cache_dir *ret, struct err *e);
void cache_dir_close(struct cache_dir *d);

/*
 * cache_dir_trim - remove what was used longest ago until at most @target_bytes are left
 * Nothing is removed unless more than @trigger_bytes are there. Blobs that a process has open stay.
 * @ret: what is left. @ret_freed, @ret_blobs: what was removed. Returns 0 or negative errno.
 */
int cache_dir_trim(struct cache_dir *d, uint64_t trigger_bytes, uint64_t target_bytes,
		   struct cache_space *ret, uint64_t *ret_freed, uint64_t *ret_blobs);

#endif
