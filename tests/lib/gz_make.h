/* SPDX-License-Identifier: Apache-2.0 */
/* gz_make.h - gzip files whose deflate blocks start at every bit offset */
#ifndef HS_LIB_GZ_MAKE_H
#define HS_LIB_GZ_MAKE_H

#include <stddef.h>
#include <stdint.h>

#include "test_random.h"

/*
 * gz_make - @members gzip members one after the other
 *
 * Blocks are ended at random places without alignment (zlib's Z_BLOCK), levels and strategies vary,
 * stored and empty blocks occur. Caller frees.
 */
uint8_t *gz_make(struct test_random *r, const uint8_t *plain, size_t plain_bytes,
		 unsigned int members, size_t *ret_bytes);

#endif
