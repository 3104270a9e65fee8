/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acceleration.h - the trace or list of files that overlaybd images carry as an extra top layer
 * (overlaybd-format 6.4)
 *
 * Control plane, blocks. The layer is no part of the device and opening an image leaves it alone.
 */
#ifndef HS_PATH_ACCELERATION_H
#define HS_PATH_ACCELERATION_H

#include <stddef.h>

struct err;
struct resolve_env;

/*
 * acceleration_get - what the acceleration layer of image @name holds, as it is
 * Kept in the cache. Caller frees *@ret, NUL behind. Returns 0, -ENOENT no image or one without
 * such a layer, -EBADMSG no tar archive, without "trace" or one of more than @max_bytes, or as
 * resolve_manifest() or the store.
 */
int acceleration_get(const struct resolve_env *env, const char *name, size_t max_bytes, char **ret,
		     size_t *ret_len, struct err *e);

#endif
