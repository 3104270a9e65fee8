/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attribute.h - from (device, inode) to the path inside the image
 *
 * First everything that was seen is wanted, then the places where it may be are walked: the file
 * system of an image device, or the directories that an overlay is made of. A file of several names
 * gets the first one that is met; what has been found stays as it is, so walk upper layers first.
 * Only what is wanted is kept, whatever the size of an image. Not for two threads.
 */
#ifndef HS_TRACE_ATTRIBUTE_H
#define HS_TRACE_ATTRIBUTE_H

#include <stddef.h>
#include <stdint.h>

struct attribution;
struct err;
struct imagefs;
struct trace_writer;

struct attribution *attribution_new(void);
void attribution_free(struct attribution *a); /* NULL is fine */

/* attribution_want - @dev: major << 20 | minor; before anything is walked; repeats are fine */
void attribution_want(struct attribution *a, uint32_t dev, uint64_t ino);
size_t attribution_missing(const struct attribution *a); /* how many have no path yet */

/* attribution_add_image - walk the file system of the device @dev */
int attribution_add_image(struct attribution *a, uint32_t dev, struct imagefs *fs, struct err *e);

/*
 * attribution_add_tree - walk the directory @dir; its "/x" is the image's "/x"
 * Links below it are not followed and other file systems not entered. Directories that cannot be
 * opened are passed over. Returns 0, -ENOTDIR and the like for @dir itself, -E2BIG too large.
 */
int attribution_add_tree(struct attribution *a, const char *dir, struct err *e);

/* attribution_find - path of a wanted file, owned by @a; NULL: not found. @ret_bytes: its size */
const char *attribution_find(const struct attribution *a, uint32_t dev, uint64_t ino,
			     uint64_t *ret_bytes);

/* The same for all files of a recording: want them, and after the walks name them. */
void attribution_want_objects(struct attribution *a, const struct trace_writer *w);
void attribution_name_objects(const struct attribution *a, struct trace_writer *w);

/* What an overlay mount is made of; paths as they were given to mount(2). */
struct overlay_parts {
	char **lower; /* topmost first */
	size_t lower_count;
	char *upper; /* NULL: none */
};

/* overlay_parse - options as /proc/PID/mountinfo has them; 0 or -EINVAL no lowerdir in them */
int overlay_parse(const char *options, struct overlay_parts *ret);
void overlay_done(struct overlay_parts *p);

/*
 * overlay_resolve - make the lower directories absolute
 *
 * Who mounts many layers shortens the list by giving paths relative to where it stands; that is
 * found by trying the directories above the upper one, then @hint (may be NULL).
 * Returns 0 or -ENOENT when not all are to be found.
 */
int overlay_resolve(struct overlay_parts *p, const char *hint, struct err *e);

#endif
