/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imagefs.h - the file system inside an image, read without mounting it
 *
 * Knows ext4 (through libext2fs) and EROFS, finds out which by the superblock, and answers what the
 * tracer and the planner ask: which file owns an inode, where a file's bytes lie on the device,
 * which blocks are metadata. Reads what it needs through a callback; everything read is untrusted.
 * Nothing is written. One thread at a time.
 */
#ifndef HS_TRACE_IMAGEFS_H
#define HS_TRACE_IMAGEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct hs_image;
struct imagefs;

/* Where device bytes come from; returns 0 or negative errno. */
struct imagefs_device {
	int (*read)(void *arg, void *buf, size_t bytes, uint64_t off, struct err *e);
	void *arg;
	uint64_t bytes; /* of the device */
};

enum imagefs_type { IMAGEFS_FILE, IMAGEFS_DIR, IMAGEFS_SYMLINK, IMAGEFS_OTHER };

struct imagefs_node {
	uint64_t ino;
	enum imagefs_type type;
	uint32_t mode;	/* as in struct stat */
	uint32_t links; /* names */
	uint64_t bytes;
};

/*
 * imagefs_open - @d is copied
 * Returns 0, -EOPNOTSUPP neither ext4 nor EROFS or a feature that is not known, -EBADMSG corrupt,
 * or what @d->read returned.
 */
int imagefs_open(const struct imagefs_device *d, struct imagefs **ret, struct err *e);
/* imagefs_open_image - the same over an opened image, which must outlive it */
int imagefs_open_image(struct hs_image *img, struct imagefs **ret, struct err *e);
void imagefs_close(struct imagefs *fs);		    /* NULL is fine */
const char *imagefs_kind(const struct imagefs *fs); /* "ext4" or "erofs" */

uint64_t imagefs_device_bytes(const struct imagefs *fs);
/*
 * imagefs_listed_bytes - what was read of directories until now, a few hundred for each inode on
 * a path included: the cost of look-ups, for who has to end some time
 */
uint64_t imagefs_listed_bytes(const struct imagefs *fs);

/* imagefs_node - one inode by number; 0, -ENOENT not in use, -EBADMSG */
int imagefs_node(struct imagefs *fs, uint64_t ino, struct imagefs_node *ret, struct err *e);

/*
 * imagefs_lookup - @path absolute, resolved inside the image; links on the way are followed, the
 * last component too when @follow
 * Returns 0, -ENOENT, -ENOTDIR, -ELOOP (or directories of more than 1 GiB together), -ENAMETOOLONG,
 * -EINVAL not absolute, -EFBIG a directory larger than any can be, -EBADMSG. @ret_real (may be
 * NULL): path without links, caller frees.
 */
int imagefs_lookup(struct imagefs *fs, const char *path, bool follow, struct imagefs_node *ret,
		   char **ret_real, struct err *e);

/*
 * imagefs_is_absence - whether imagefs_lookup() said no more than that nothing is there, or that
 * nothing can be: what a path of another image, or of a liar, may meet
 */
bool imagefs_is_absence(int rc);

/* imagefs_link - where a symbolic link leads; 0, -EINVAL no link; caller frees */
int imagefs_link(struct imagefs *fs, uint64_t ino, char **ret, struct err *e);

/* imagefs_read - bytes of a regular file, holes as zeros; returns bytes read (short at its end) */
long imagefs_read(struct imagefs *fs, uint64_t ino, uint64_t off, void *buf, size_t bytes,
		  struct err *e);

/* A run of a file: @bytes at @file_off lie at @dev_off. Holes and inline data have none. */
typedef int imagefs_extent_fn(void *arg, uint64_t file_off, uint64_t dev_off, uint64_t bytes);

/*
 * imagefs_extents - runs of [off, off + bytes) clipped to it, ascending; none behind the file's
 * size Returns 0, what @fn returned when not 0, -EOPNOTSUPP compressed data (EROFS), -EBADMSG.
 */
int imagefs_extents(struct imagefs *fs, uint64_t ino, uint64_t off, uint64_t bytes,
		    imagefs_extent_fn *fn, void *arg, struct err *e);

/*
 * imagefs_walk - every name of the image, a directory before what is in it
 * @fn: path absolute; a file with several names is told once for each; non-zero stops and is
 * returned. Paths of 4096 bytes and more, which no system call can name, are left out.
 */
int imagefs_walk(struct imagefs *fs,
		 int (*fn)(void *arg, const char *path, const struct imagefs_node *n), void *arg,
		 struct err *e);

/* Names in one directory, in the order of the disk, without "." and "..". */
struct imagefs_names {
	char **name;
	size_t count;
};

/* imagefs_names - 0, -ENOTDIR, -EFBIG more than @max */
int imagefs_names(struct imagefs *fs, uint64_t ino, size_t max, struct imagefs_names *ret,
		  struct err *e);
void imagefs_names_done(struct imagefs_names *n);

/* A range of metadata on the device, whole blocks. */
typedef int imagefs_range_fn(void *arg, uint64_t dev_off, uint64_t bytes);

/*
 * imagefs_metadata - what the kernel may read that is no file data: superblock, group descriptors,
 * inode tables as far as in use, directories, extent trees, xattr blocks, long links; no bitmaps
 * and no journal but its first block; ascending, fused
 */
int imagefs_metadata(struct imagefs *fs, imagefs_range_fn *fn, void *arg, struct err *e);

/*
 * imagefs_path_metadata - the metadata that mounting, opening and reading all of @path takes:
 * superblock, descriptors, inodes and directory blocks along it, its extent tree and xattr block;
 * of a directory all its blocks
 */
int imagefs_path_metadata(struct imagefs *fs, const char *path, imagefs_range_fn *fn, void *arg,
			  struct err *e);

#endif
