/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobmap.h - the two files of one cached blob: opening, making, recovering, removing
 *
 * <hex>.map is a header page, the LIVE bitmap, the SYNCED bitmap (64-bit words in host order: the
 * file never leaves its node). Its flock is the entry's lock: shared while open, exclusive to make,
 * recover or remove it. A lock on a file that its path no longer names means nothing, so every
 * locker looks again after locking. Control plane, any thread.
 */
#ifndef HS_CACHE_BLOBMAP_H
#define HS_CACHE_BLOBMAP_H

#include <stdint.h>

#include "presence.h"

struct err;

#define BLOBMAP_HEX_BYTES     65 /* 64 hex digits and NUL */
#define BLOBMAP_BOOT_ID_BYTES 16
#define BLOBMAP_MAX_BYTES     (1ull << 42)

/* Offsets in the header, little-endian; tests damage them. */
#define BLOBMAP_HEADER_BYTES 4096
#define BLOBMAP_AT_MAGIC     0	 /* 8 bytes "hscache1" */
#define BLOBMAP_AT_UNIT	     8	 /* u32 CACHE_UNIT_BYTES */
#define BLOBMAP_AT_BYTES     16	 /* u64 size of the blob */
#define BLOBMAP_AT_WORDS     24	 /* u64 words of one bitmap */
#define BLOBMAP_AT_DIGEST    32	 /* 32 bytes */
#define BLOBMAP_AT_BOOT_ID   64	 /* 16 bytes */
#define BLOBMAP_AT_DROPS     128 /* u64, host order, atomic in the mapping */
#define BLOBMAP_AT_UNSAFE    136 /* u32, the same */

struct blobmap {
	struct presence presence; /* with the descriptors of both files */
	void *mapped;
	size_t mapped_bytes;
};

/* blobmap_boot_id - of this boot of the node; 0 or negative errno */
int blobmap_boot_id(uint8_t ret[static BLOBMAP_BOOT_ID_BYTES], struct err *e);

/*
 * blobmap_open - open or make the entry @hex in directory @dirfd, lock it shared
 * Waits up to some seconds for who makes or removes it. Returns 0, -EBUSY, -ENOSPC, -errno.
 */
int blobmap_open(int dirfd, const char *hex, uint64_t bytes, const uint8_t *boot_id,
		 struct blobmap *ret, struct err *e);
void blobmap_close(struct blobmap *m); /* marks the time of use; zeroed or half-built is fine */

/*
 * blobmap_remove - delete the entry, unless somebody has it open
 * @ret_bytes: disk space that was freed. Returns 0, -EBUSY in use, -errno.
 */
int blobmap_remove(int dirfd, const char *hex, uint64_t *ret_bytes);

#endif
