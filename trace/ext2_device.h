/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext2_device.h - byte ranges as a device for libext2fs
 *
 * libext2fs changes the block size while it opens a file system and gives byte counts as negative
 * numbers; here all its calls end in byte ranges. Calls come from the thread that uses the file
 * system.
 */
#ifndef HS_TRACE_EXT2_DEVICE_H
#define HS_TRACE_EXT2_DEVICE_H

#include <stdint.h>

#include <ext2fs/ext2fs.h>

/* Both return 0 or an error code of libext2fs. */
struct ext2_device {
	errcode_t (*read)(void *arg, void *buf, uint64_t bytes, uint64_t off);
	errcode_t (*write)(void *arg, const void *buf, uint64_t bytes, uint64_t off);
	/* write: NULL when the device is read-only */
	void *arg;
};

/*
 * ext2_device_io - the manager for the next ext2fs_open() or ext2fs_initialize() of this thread,
 * whatever its name
 * @dev: copied.
 */
io_manager ext2_device_io(const struct ext2_device *dev);

#endif
