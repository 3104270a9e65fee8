/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse.h - a device served as one file of a FUSE file system, over raw /dev/fuse
 *
 * One task on the path's loop reads requests, as many as there are free slots; a full table or an
 *empty buffer pool leaves the rest in the kernel, whose own limit (max_background) is set to match.
 *A READ becomes one struct request; its answer is written from the request's buffer. Everything
 *else is answered at once (see fuse_proto.h).
 *
 *	INIT -> serving -> closing (free was called) -> closed
 *	            `----> gone (unmounted: reading gives ENODEV) -> closing -> closed
 *
 * The slots and the connection belong to the loop thread; new, wait and free to the control
 * plane. What both see is atomic, and an eventfd tells the waiter to look again.
 */
#ifndef HS_DEVICE_FUSE_H
#define HS_DEVICE_FUSE_H

#include <stdint.h>

struct err;
struct fuse_device;
struct image;
struct path;

struct fuse_options {
	struct path *path;	   /* its loop runs on a thread of its own, until after free */
	struct image *image;	   /* what requests read from; outlives the device */
	uint64_t bytes;		   /* size of the device */
	const char *dir;	   /* an existing directory */
	unsigned int max_requests; /* READs in flight; 0: 64 */
};

/* Written by the loop, read by anybody. */
struct fuse_stats {
	uint64_t calls; /* requests of every kind */
	uint64_t reads; /* READs answered */
	uint64_t read_bytes;
	uint64_t read_errors;
	uint64_t interrupts; /* READs answered with EINTR because their reader was killed */
	uint64_t refused;    /* malformed, unknown or forbidden calls */
	uint64_t parked;     /* times that no slot or buffer was free */
	uint64_t opens;
	uint64_t openers; /* now */
};

/*
 * fuse_device_new - mount @o->dir/disk; from now on requests are answered
 *
 * Blocks for a moment. Returns 0, -EPERM not allowed to mount, -ENODEV or -ENOENT no FUSE on this
 * machine, -errno of mount(2).
 */
int fuse_device_new(const struct fuse_options *o, struct fuse_device **ret, struct err *e);

/*
 * fuse_device_wait - until the file has been opened and then had no opener for @linger_ns
 *
 * Returns 0 idle, 1 unmounted by somebody, 2 fuse_device_stop() was called.
 */
int fuse_device_wait(struct fuse_device *d, uint64_t linger_ns);

/* fuse_device_stop - wake fuse_device_wait() for good; any thread, async-signal-safe */
void fuse_device_stop(struct fuse_device *d);

/*
 * fuse_device_free - unmount and forget; NULL is fine
 *
 * Blocks until the requests in flight have ended, which the read deadline bounds. The loop still
 * runs. When somebody holds the file open it is unmounted lazily and its readers get errors.
 */
void fuse_device_free(struct fuse_device *d);

void fuse_device_stats(const struct fuse_device *d, struct fuse_stats *ret);

#endif
