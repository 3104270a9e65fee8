/* SPDX-License-Identifier: Apache-2.0 */
/* rootfs.c - see rootfs.h */
#include "rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "cleanup.h"
#include "err.h"
#include "text.h"

#define LOOP_TRIES	 64
#define LOOP_BLOCK_BYTES 4096u

#define EXT_MAGIC   0xef53u
#define EROFS_MAGIC 0xe0f5e1e2u
#define XFS_MAGIC   "XFSB"

/* udev may be a moment behind the kernel in making the node. */
static int open_node(const char *path)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	int fd;

	for (int i = 0; i < 100; i++) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 || errno != ENOENT)
			return fd;
		nanosleep(&pause, NULL);
	}
	return fd;
}

void loopdev_read_ahead(unsigned int number, uint64_t bytes)
{
	_cleanup_free_ char *path = text_printf("/sys/block/loop%u/queue/read_ahead_kb", number);
	_cleanup_free_ char *text = text_printf("%llu", (unsigned long long)(bytes / 1024));
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	/* without it the device only reads more or less ahead than asked */
	if (fd >= 0)
		(void)!write(fd, text, strlen(text));
}

int loopdev_attach(const char *file, const char *tag, uint64_t bytes, uint64_t read_ahead_bytes,
		   struct loopdev *ret, struct err *e)
{
	_cleanup_fd_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	_cleanup_fd_ int back = -1;
	struct loop_config config = {
	    .block_size = bytes % LOOP_BLOCK_BYTES ? 512 : LOOP_BLOCK_BYTES,
	    .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
	};

	if (control < 0)
		return err_set(e, -errno, "/dev/loop-control: %s", strerror(errno));
	back = open(file, O_RDONLY | O_CLOEXEC);
	if (back < 0)
		return err_set(e, -errno, "%s: %s", file, strerror(errno));
	config.fd = (uint32_t)back;
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", tag);
	for (int i = 0; i < LOOP_TRIES; i++) {
		struct loopdev l;
		int n = ioctl(control, LOOP_CTL_GET_FREE);

		if (n < 0)
			return err_set(e, -errno, "no free loop device: %s", strerror(errno));
		l.number = (unsigned int)n;
		snprintf(l.path, sizeof(l.path), "/dev/loop%d", n);
		l.fd = open_node(l.path);
		if (l.fd < 0)
			return err_set(e, -errno, "%s: %s", l.path, strerror(errno));
		if (!ioctl(l.fd, LOOP_CONFIGURE, &config)) {
			loopdev_read_ahead(l.number, read_ahead_bytes);
			*ret = l;
			return 0;
		}
		n = -errno;
		close(l.fd);
		if (n != -EBUSY) /* EBUSY: another process was faster */
			return err_set(e, n, "cannot set %s up: %s", l.path, strerror(-n));
	}
	return err_set(e, -EBUSY, "no free loop device: others were faster %d times", LOOP_TRIES);
}

void loopdev_close(struct loopdev *l)
{
	cleanup_fd(&l->fd);
}

bool loopdev_has_tag(const char *path, const char *tag)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct loop_info64 info;

	return fd >= 0 && !ioctl(fd, LOOP_GET_STATUS64, &info) &&
	       !strncmp((const char *)info.lo_file_name, tag, LO_NAME_SIZE);
}

int loopdev_detach(const char *path, struct err *e)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (ioctl(fd, LOOP_CLR_FD) && errno != ENXIO)
		return err_set(e, -errno, "cannot detach %s: %s", path, strerror(errno));
	return 0;
}

int fs_probe(const void *head, struct fs_probe *ret, struct err *e)
{
	const uint8_t *p = head, *sb = p + 1024;
	uint32_t shift;

	if (get_le16(sb + 0x38) == EXT_MAGIC) {
		shift = get_le32(sb + 0x18);
		if (shift > 6)
			return err_set(e, -EOPNOTSUPP, "ext4 with a block size of 2^%u",
				       shift + 10);
		*ret = (struct fs_probe){.type = "ext4", .block_bytes = 1024u << shift};
		return 0;
	}
	if (get_le32(sb) == EROFS_MAGIC) {
		shift = sb[12];
		if (shift < 9 || shift > 16)
			return err_set(e, -EOPNOTSUPP, "erofs with a block size of 2^%u", shift);
		*ret = (struct fs_probe){.type = "erofs", .block_bytes = 1u << shift};
		return 0;
	}
	return err_set(e, -EOPNOTSUPP, "the image holds %s, not ext4 or erofs",
		       !memcmp(p, XFS_MAGIC, 4)		  ? "xfs"
		       : bytes_zero(p, FS_PROBE_BYTES)	  ? "nothing at its start"
		       : p[510] == 0x55 && p[511] == 0xaa ? "a partition table"
							  : "no known file system");
}

int rootfs_mount(const struct loopdev *l, const char *dir, unsigned long flags,
		 const char **ret_type, struct err *e)
{
	uint8_t head[FS_PROBE_BYTES];
	struct fs_probe fs;
	ssize_t n = pread(l->fd, head, sizeof(head), 0);
	int r;

	if (n != (ssize_t)sizeof(head))
		return err_set(e, n < 0 ? -errno : -EBADMSG, "cannot read the superblock: %s",
			       n < 0 ? strerror(errno) : "the device is too small");
	r = fs_probe(head, &fs, e);
	if (r)
		return r;
	/* a file system cannot have blocks smaller than those of its device */
	if (fs.block_bytes < LOOP_BLOCK_BYTES && ioctl(l->fd, LOOP_SET_BLOCK_SIZE, 512ul))
		return err_set(e, -errno, "%s: cannot set the block size: %s", l->path,
			       strerror(errno));
	/* noload: nothing here can replay a journal */
	if (mount(l->path, dir, fs.type, MS_RDONLY | flags,
		  strcmp(fs.type, "ext4") ? NULL : "noload")) {
		r = -errno;
		return err_set(e, r, "cannot mount %s on %s: %s%s", fs.type, dir, strerror(-r),
			       r == -ENODEV ? " (this kernel does not have it)" : "");
	}
	*ret_type = fs.type;
	return 0;
}

static int check_overlay_path(const char *path, struct err *e)
{
	if (strpbrk(path, ",:\\\""))
		return err_set(
		    e, -EINVAL,
		    "'%s': overlayfs takes no path with a comma, colon, quote or backslash", path);
	return 0;
}

int rootfs_overlay(const char *lower, const char *upper, const char *work, const char *dir,
		   struct err *e)
{
	_cleanup_free_ char *data =
	    text_printf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
	int r = check_overlay_path(lower, e);

	if (!r)
		r = check_overlay_path(upper, e);
	if (r)
		return r;
	if (strlen(data) >= 4096)
		return err_set(e, -ENAMETOOLONG, "the paths of the overlay are too long");
	if (mount("headstart", dir, "overlay", 0, data)) {
		r = -errno;
		return err_set(e, r, "cannot mount the overlay: %s%s", strerror(-r),
			       r == -EINVAL
				   ? " (is --state-dir on a file system that can hold an upper "
				     "directory? overlay, NFS and FUSE cannot)"
				   : "");
	}
	return 0;
}
