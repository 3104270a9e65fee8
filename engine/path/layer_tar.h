/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer_tar.h - members of a small layer archive that is held in memory: tar, plain or gzip
 *
 * For layers that are not layers of the device: TurboOCI metadata, acceleration layers. What is in
 * them is not trusted: sizes are bounded, also of what is passed over.
 */
#ifndef HS_PATH_LAYER_TAR_H
#define HS_PATH_LAYER_TAR_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct layer_tar_member;

/*
 * layer_tar_walk - call @member for each regular file, in the order of the archive
 * @max_bytes: of all regular files together
 * @member: @name without leading "./" and "/", valid during the call; 0 to go on, else the walk
 * ends and returns that
 * Returns 0, what @member returned, or -EBADMSG not a tar archive, cut short or too large.
 */
int layer_tar_walk(const void *p, size_t len, uint64_t max_bytes,
		   int (*member)(void *arg, const char *name, struct layer_tar_member *m,
				 struct err *e),
		   void *arg, struct err *e);

/*
 * layer_tar_read - all of the member that the walk stands at, once; caller frees, NUL behind
 * Returns 0, -EBADMSG more than @max_bytes or cut short.
 */
int layer_tar_read(struct layer_tar_member *m, size_t max_bytes, uint8_t **ret, size_t *ret_len,
		   struct err *e);

#endif
