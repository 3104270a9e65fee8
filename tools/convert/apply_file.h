/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply_file.h - the content of one regular file: cut into blocks, placed, sent on
 */
#ifndef HS_CONVERT_APPLY_FILE_H
#define HS_CONVERT_APPLY_FILE_H

#include "apply.h"
#include "ext4.h"

struct hot_file;
struct hot_hold;

/* State of one layer's files; buffers are reused from file to file. */
struct apply_file {
	struct ext4 *x;
	apply_sink_fn *sink;
	void *sink_arg;
	struct apply_stats *stats;
	struct hot_hold *hold;		 /* or NULL */
	const struct hot_file *hot_file; /* the current one, when some of it is held back */
	struct extents runs;
	uint64_t pos;  /* bytes of the current file taken so far, holes included */
	uint32_t held; /* bytes in @block: the unfinished block that @pos is in */
	uint8_t block[BLOCK_BYTES];
};

/* apply_file_init - @hold: may be NULL */
void apply_file_init(struct apply_file *f, struct ext4 *x, apply_sink_fn *sink, void *sink_arg,
		     struct hot_hold *hold, struct apply_stats *stats);
void apply_file_done(struct apply_file *f);

/*
 * apply_file_data - read the entry's content to its end; sets size and block map of @in
 * @path: in the image, no leading slash; NULL: not known
 */
int apply_file_data(struct apply_file *f, struct tar_reader *tar, const struct tar_entry *te,
		    const char *path, struct ext2_inode_large *in, struct err *e);

#endif
