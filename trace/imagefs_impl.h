/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imagefs_impl.h - what the readers of single file systems share with imagefs.c
 *
 * A reader knows inodes, directories and blocks; paths, links on the way, walking and caching are
 * imagefs.c's. Everything on the device is untrusted: a reader checks numbers before it uses them
 * and bounds its loops by the size of the device.
 */
#ifndef HS_TRACE_IMAGEFS_IMPL_H
#define HS_TRACE_IMAGEFS_IMPL_H

#include "imagefs.h"
#include "imagefs_cache.h"
#include "range.h"

#define PATH_BYTES	   4096u       /* with NUL: what an open(2) can name */
#define IMAGEFS_LINK_BYTES 4096u       /* longest target of a link, NUL included */
#define IMAGEFS_DIR_NAMES  (4u << 20)  /* names in one directory */
#define IMAGEFS_DIR_BYTES  (2u << 30)  /* of one directory: names of that number, none short */
#define IMAGEFS_NAMES	   (32u << 20) /* names told in one walk */
#define IMAGEFS_RANGES	   (4u << 20)  /* ranges of metadata */
#define IMAGEFS_INODES	   (16u << 20) /* inodes looked at for all metadata */

/* A run of file data; @packed: inside of a metadata block. */
struct imagefs_run {
	uint64_t file_off, dev_off, bytes;
	bool packed;
};

typedef int imagefs_run_fn(void *arg, const struct imagefs_run *r);
/* @name: neither "." nor "..", without slashes and NULs, not terminated */
typedef int imagefs_entry_fn(void *arg, const char *name, size_t len, uint64_t ino);

/* Ranges of metadata that are being collected; whole blocks. */
struct imagefs_ranges {
	struct range *r;
	size_t count, room;
};

/* ranges_add - 0 or -EFBIG too many */
int imagefs_ranges_add(struct imagefs_ranges *rs, uint64_t off, uint64_t bytes, struct err *e);

struct imagefs_ops {
	const char *kind;
	void (*close)(struct imagefs *fs);
	int (*node)(struct imagefs *fs, uint64_t ino, struct imagefs_node *ret, struct err *e);
	/* entries in the order of the disk; returns what @fn returned when not 0 */
	int (*list)(struct imagefs *fs, uint64_t ino, imagefs_entry_fn *fn, void *arg,
		    struct err *e);
	int (*link)(struct imagefs *fs, uint64_t ino, char **ret, struct err *e);
	/* runs that meet [off, end), ascending, not clipped, none behind the file's size */
	int (*runs)(struct imagefs *fs, uint64_t ino, uint64_t off, uint64_t end,
		    imagefs_run_fn *fn, void *arg, struct err *e);
	/* a file that lies in its inode as a whole; may be NULL; *ret stays NULL for others */
	int (*inlined)(struct imagefs *fs, uint64_t ino, uint8_t **ret, size_t *ret_bytes,
		       struct err *e);
	/* what mounting reads / one inode, its tree and attributes / a directory until @name */
	int (*mount_metadata)(struct imagefs *fs, struct imagefs_ranges *rs, struct err *e);
	int (*inode_metadata)(struct imagefs *fs, uint64_t ino, struct imagefs_ranges *rs,
			      struct err *e);
	int (*dir_metadata)(struct imagefs *fs, uint64_t ino, const char *name, size_t len,
			    struct imagefs_ranges *rs, struct err *e);
	int (*metadata)(struct imagefs *fs, struct imagefs_ranges *rs, struct err *e);
};

struct imagefs {
	const struct imagefs_ops *ops;
	struct imagefs_cache *dev;
	uint64_t root;
	uint64_t listed; /* bytes of directories, see imagefs_listed_bytes() */
	void *reader;	 /* of ops */
};

/* imagefs_ext4_open/imagefs_erofs_open - set ops, root and reader; @super: 1024 bytes at 1024 */
int imagefs_ext4_open(struct imagefs *fs, const uint8_t *super, struct err *e);
int imagefs_erofs_open(struct imagefs *fs, const uint8_t *super, struct err *e);

/*
 * imagefs_fill - an imagefs_run_fn: bytes of a run that lie in [off, end) go to @buf, which is @off
 * @arg: struct imagefs_fill
 */
struct imagefs_fill {
	struct imagefs *fs;
	uint8_t *buf;
	uint64_t off, end;
	struct err *e;
};
int imagefs_fill(void *arg, const struct imagefs_run *run);

/* imagefs_name_ok - whether a name of the disk can be one */
bool imagefs_name_ok(const char *name, size_t len);

#endif
