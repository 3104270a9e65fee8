/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_reader.h - the entries of a layer's tar stream, names byte-exact
 *
 * Reads ustar, GNU and PAX archives through libarchive, streaming: data is handed out in pieces of
 * the input buffers. One thread, the one that made the reader.
 */
#ifndef HS_CONVERT_TAR_READER_H
#define HS_CONVERT_TAR_READER_H

#include <stddef.h>
#include <stdint.h>

#include "ext4.h"

struct err;
struct tar_reader;

enum tar_type {
	TAR_FILE,
	TAR_DIR,
	TAR_SYMLINK,
	TAR_HARDLINK,
	TAR_CHAR,
	TAR_BLOCK,
	TAR_FIFO,
	TAR_SOCKET,
};

/* Valid until the next call of tar_reader_next(). */
struct tar_entry {
	enum tar_type type;
	const char *path;
	const char *link; /* target of a symbolic or hard link, else NULL */
	uint32_t mode;	  /* permission bits, 07777 */
	int64_t uid, gid;
	uint64_t bytes; /* of the file, holes included */
	uint64_t dev_major, dev_minor;
	int64_t mtime, atime; /* seconds */
	uint32_t mtime_ns, atime_ns;
	const struct xattr *xattrs;
	size_t xattr_count;
};

/*
 * Where the bytes come from: a piece valid until the next call, or 0 bytes at the end.
 * Returns 0 or a negative errno with @e filled, which the reader passes on.
 */
typedef int tar_input_fn(void *arg, const void **ret_p, size_t *ret_bytes, struct err *e);

int tar_reader_new(tar_input_fn *input, void *arg, struct tar_reader **ret, struct err *e);
void tar_reader_free(struct tar_reader *r); /* NULL is fine */

/* tar_reader_next - 1 an entry, 0 the end (the rest of the input was read too), or negative */
int tar_reader_next(struct tar_reader *r, struct tar_entry *ret, struct err *e);

/*
 * tar_reader_data - the next piece of the entry's content
 * @ret_off: position in the file, never going back; gaps are holes
 * Returns 1 a piece, 0 the end of the content, or negative.
 */
int tar_reader_data(struct tar_reader *r, const void **ret_p, size_t *ret_bytes, uint64_t *ret_off,
		    struct err *e);

#endif
