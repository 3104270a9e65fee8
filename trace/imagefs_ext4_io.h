/* SPDX-License-Identifier: Apache-2.0 */
/* imagefs_ext4_io.h - libext2fs's I/O manager over the cached device: reads, and nothing else */
#ifndef HS_TRACE_IMAGEFS_EXT4_IO_H
#define HS_TRACE_IMAGEFS_EXT4_IO_H

#include <stdint.h>

#include <ext2fs/ext2fs.h>

struct imagefs_cache;

/* imagefs_ext4_io - the manager for the next ext2fs_open2() of this thread, whatever the name */
io_manager imagefs_ext4_io(struct imagefs_cache *dev);

#endif
