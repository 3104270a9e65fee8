/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blockmap.h - a sparse block device in memory, seen by libext2fs as an I/O manager
 *
 * Holds the file system's metadata blocks only: file data never comes here. A block that is not in
 * the map is read from the lower layers when there are any, else it is zeros. A write that does not
 * change a block does not make it dirty, so that what is dirty at the end of a layer is what the
 * layer changed. One thread at a time.
 */
#ifndef HS_CONVERT_BLOCKMAP_H
#define HS_CONVERT_BLOCKMAP_H

#include <stddef.h>
#include <stdint.h>

#include <ext2fs/ext2fs.h>

struct blockmap;
struct err;

#define BLOCK_BYTES 4096u

/* Where blocks come from that were made by layers converted earlier; 0 or negative errno. */
struct lower_reader {
	int (*read)(void *arg, uint64_t off, void *buf, size_t bytes, struct err *e);
	void *arg;
};

/* blockmap_new - @lower: copied; NULL when there are no lower layers. Never fails. */
struct blockmap *blockmap_new(uint64_t blocks, const struct lower_reader *lower);
void blockmap_free(struct blockmap *m); /* NULL is fine */

/* blockmap_io - choose @m for the next ext2fs_open or ext2fs_initialize of this thread */
io_manager blockmap_io(struct blockmap *m);

/* blockmap_read - one block; 0, or what the lower reader returned */
int blockmap_read(struct blockmap *m, uint64_t block, void *buf, struct err *e);

/* blockmap_write - one whole block */
void blockmap_write(struct blockmap *m, uint64_t block, const void *buf);

/* blockmap_drop - forget blocks whose content no longer matters; they are not dirty afterwards */
void blockmap_drop(struct blockmap *m, uint64_t block, uint64_t count);

/*
 * blockmap_each_dirty - visit dirty blocks in ascending order and make them clean
 * Stops at the first non-zero return of @fn and returns it.
 */
int blockmap_each_dirty(struct blockmap *m, int (*fn)(void *arg, uint64_t block, const void *data),
			void *arg);

/* blockmap_error - the first error of the lower reader, for a message; code 0 when there was none
 */
const struct err *blockmap_error(const struct blockmap *m);

uint64_t blockmap_bytes_held(const struct blockmap *m);

#endif
