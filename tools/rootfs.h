/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rootfs.h - from the file that the server offers to a mounted root filesystem
 *
 * Loop device (read-only, direct I/O so that pages are not held twice, cleared by the kernel with
 * its last user), file system found by its superblock, overlay on top. None of this may run in the
 * process that serves the file: it would wait for itself.
 */
#ifndef HS_TOOLS_ROOTFS_H
#define HS_TOOLS_ROOTFS_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/* Holding @fd keeps the device although nothing is mounted from it yet. */
struct loopdev {
	int fd;
	unsigned int number;
	char path[24]; /* "/dev/loop3" */
};

/*
 * loopdev_attach - a free loop device over @file
 * @tag: at most 40 characters, found again by loopdev_has_tag()
 * @read_ahead_bytes: see loopdev_read_ahead()
 * Returns 0, -EBUSY no free one, -errno.
 */
int loopdev_attach(const char *file, const char *tag, uint64_t bytes, uint64_t read_ahead_bytes,
		   struct loopdev *ret, struct err *e);
/*
 * loopdev_read_ahead - how far the kernel reads ahead on loop device @number from now on
 * Files that are open already keep what was set when they were opened.
 */
void loopdev_read_ahead(unsigned int number, uint64_t bytes);

void loopdev_close(struct loopdev *l); /* detaches when nothing else uses it; twice is fine */

/* loopdev_has_tag - whether @path is still the device that was attached with @tag */
bool loopdev_has_tag(const char *path, const char *tag);

/* loopdev_detach - now or when its last user goes; 0 also when it is not attached any more */
int loopdev_detach(const char *path, struct err *e);

/* What a superblock says. */
struct fs_probe {
	const char *type; /* "ext4" or "erofs" */
	uint32_t block_bytes;
};

/*
 * fs_probe - which file system starts in @head
 * @head: first bytes of the device, FS_PROBE_BYTES of them
 * Returns 0, -EOPNOTSUPP with what was found instead.
 */
#define FS_PROBE_BYTES 4096
int fs_probe(const void *head, struct fs_probe *ret, struct err *e);

/*
 * rootfs_mount - mount the file system of @l on @dir, read-only
 * @flags: MS_NOSUID, MS_NODEV and such, besides MS_RDONLY
 * @ret_type: constant string
 * Returns 0, -EOPNOTSUPP not ext4 or erofs, -errno.
 */
int rootfs_mount(const struct loopdev *l, const char *dir, unsigned long flags,
		 const char **ret_type, struct err *e);

/*
 * rootfs_overlay - a writable tree on @dir: @lower below, changes in @upper
 * Returns 0, -EINVAL a path that overlayfs cannot take, or @upper on an unsuited file system
 */
int rootfs_overlay(const char *lower, const char *upper, const char *work, const char *dir,
		   struct err *e);

#endif
