/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - an opened image: its layers and their merged map
 *
 * Immutable once opened; any thread may read it. Its streams point at blobs whose flights belong to
 * the loop thread. Closed only when no request is under way on it.
 */
#ifndef HS_PATH_IMAGE_H
#define HS_PATH_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lsmt.h"
#include "map.h"
#include "stream.h"

enum layer_kind { LAYER_LSMT, LAYER_WARP, LAYER_RW };

/* One LSMT stack element. */
struct layer {
	enum layer_kind kind;
	struct stream main;	   /* the layer file; tag 0 */
	struct stream target;	   /* warp: the original layer, decompressed; tag 1 */
	struct lsmt_header header; /* the authoritative one: trailer, or header of a RW layer */
	uint64_t segments;
	bool enveloped;
	bool hinted; /* opened by what the manifest says of it: its head was not looked at */
};

/* Stored bytes of one blob. */
struct image_part {
	struct blob *blob;
	struct range range;
};

struct image {
	struct layer *layers; /* bottom first */
	size_t layer_count;
	struct image_map *map;
	uint64_t bytes;	     /* of the device */
	struct blob **blobs; /* owned, every stream's blob is one of them */
	size_t blob_count;
	struct image_part *opening; /* what opening reads of remote blobs: heads, tails, tables */
	size_t opening_count;
};

/* image_stream - where a piece of the map that is not zero reads from */
struct stream *image_stream(const struct image *i, const struct map_piece *mp);

/* image_free - @i may be half built; NULL is fine */
void image_free(struct image *i);

#endif
