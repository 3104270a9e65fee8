/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open.h - from blobs to an image: find envelopes, tables and indexes, and merge the layers
 *
 * Control plane, blocks. Over the network it costs, whatever the number of layers, one parallel
 * round for all heads and tails, and one more for what those did not cover.
 */
#ifndef HS_PATH_OPEN_H
#define HS_PATH_OPEN_H

#include <stddef.h>
#include <stdint.h>

#include "image.h"
#include "range.h"

struct blob;
struct err;
struct reader;

/*
 * What the manifest says of a layer's blob, so that opening takes one read of its end. Believed as
 * far as the bytes found there bear it out; else the layer is opened as if nothing had been said.
 */
struct layer_hints {
	struct range
	    payload;	     /* of the ZFile in the blob, behind the tar envelope; length 0: none */
	uint64_t open_bytes; /* the last bytes of the blob: LSMT index, jump table, trailer */
	uint64_t metadata_bytes; /* these, and file system metadata */
	uint64_t start_bytes;	 /* these, and file data laid out for a start; 0: not known */
};

/* One stack element to open. Blobs are taken over by image_new(). */
struct layer_spec {
	enum layer_kind kind;
	struct blob *blob;   /* LSMT, WARP: the layer file; RW: the data file */
	struct blob *target; /* WARP: the original layer as stored */
	uint8_t *gzip_index; /* WARP over gzip: gzip.meta, owned by the caller; else NULL */
	size_t gzip_index_bytes;
	struct blob *rw_index;	  /* RW append mode: the index file */
	struct layer_hints hints; /* LSMT in a registry or OCI directory */
};

/*
 * image_new - an image whose blobs are known and numbered, and which is not open yet
 * Takes the blobs of @specs over; they may be prefetched from now on.
 */
struct image *image_new(const struct layer_spec *specs, size_t count);

/*
 * image_open - open all layers of @i, bottom first; @specs as for image_new()
 * Hints that prove wrong are cleared. Corrupt bytes that came from the cache are fetched once more
 * before the open fails. Returns 0, -EBADMSG corrupt or not a layer (the message names it),
 * -EOPNOTSUPP, -EIO, -ETIMEDOUT, -EACCES, -ENOENT; on failure @i can only be freed.
 */
int image_open(struct reader *r, struct image *i, struct layer_spec *specs, struct err *e);

#endif
