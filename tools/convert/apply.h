/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply.h - one OCI layer onto the file system of an image
 *
 * File data leaves through the sink in the order it arrives; blocks of zeros are not stored. What a
 * start reads can be held back: it then follows in the order of the start. Where a block lies on
 * the device does not depend on that. Names, inodes and everything else stay in the file system's
 * block map until the end; the changed metadata blocks are sent after the data. Nothing outside the
 * file system can be reached: every path is resolved inside it.
 */
#ifndef HS_CONVERT_APPLY_H
#define HS_CONVERT_APPLY_H

#include <stddef.h>
#include <stdint.h>

#include "tar_reader.h"

struct err;
struct ext4;
struct hot_hold;

/* Takes blocks of the device; @dev_off and @bytes are multiples of 4096. 0 or negative errno. */
typedef int apply_sink_fn(void *arg, uint64_t dev_off, const void *p, size_t bytes, struct err *e);

struct apply_stats {
	uint64_t entries;
	uint64_t data_bytes;	      /* file data sent to the sink */
	uint64_t hole_bytes;	      /* zero blocks of files that were not stored */
	uint64_t metadata_bytes;      /* sent after the data that is not held back */
	uint64_t last_metadata_bytes; /* of these, at the very end: what a start reads, or all */
	uint64_t hot_bytes;	      /* of data_bytes, held back for the end */
	uint64_t skipped_sockets;
};

/*
 * apply_layer - apply a tar stream as one layer: ext4_begin() to ext4_end() and all output
 * @input:  the uncompressed layer
 * @sink:   called on this thread
 * @hold:   blocks of its order wait there until the others have gone; NULL: none do. When there
 *          were any, the metadata that its order names goes last of all, the rest before them.
 * @ret:    filled as far as it came, also on failure
 *
 * Returns 0; -EBADMSG a broken or hostile archive, -ENOSPC device full, -E2BIG attributes do not
 * fit, -EOPNOTSUPP something ext4 cannot hold, -EOVERFLOW a number out of range, or what @input or
 * @sink returned. After a failure the file system is of no more use.
 */
int apply_layer(struct ext4 *x, tar_input_fn *input, void *input_arg, apply_sink_fn *sink,
		void *sink_arg, struct hot_hold *hold, struct apply_stats *ret, struct err *e);

#endif
