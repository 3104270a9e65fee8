/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imagefs_cache.h - device bytes behind a callback, the last 8 MiB of them kept
 *
 * Lines of 64 KiB, least recently used leaves. One thread.
 */
#ifndef HS_TRACE_IMAGEFS_CACHE_H
#define HS_TRACE_IMAGEFS_CACHE_H

#include "imagefs.h"

struct imagefs_cache;

struct imagefs_cache *imagefs_cache_new(const struct imagefs_device *d);
void imagefs_cache_free(struct imagefs_cache *c);	     /* NULL is fine */
uint64_t imagefs_cache_bytes(const struct imagefs_cache *c); /* of the device */

/* imagefs_cache_read - 0, -EBADMSG outside of the device, or what the callback returned */
int imagefs_cache_read(struct imagefs_cache *c, void *buf, size_t bytes, uint64_t off,
		       struct err *e);
/* imagefs_cache_failed - the callback's error in the last read; code 0: none */
const struct err *imagefs_cache_failed(const struct imagefs_cache *c);

#endif
