/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - all layers of an image merged into one sorted map of the device
 *
 * Pure: built once from the layers' indexes, immutable afterwards, read by any thread.
 */
#ifndef HS_IMAGE_MAP_H
#define HS_IMAGE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lsmt.h"
#include "range.h"

struct err;

/* One run of the device. A run that no layer maps, or that a layer zeroes, is zero. */
struct map_piece {
	struct range range; /* on the device */
	bool zero;
	uint8_t layer; /* index into the layers, 0 = bottom; when !zero */
	uint8_t tag;   /* 0: the layer's own file, 1: its target (warp) */
	uint64_t moff; /* where range.off lies in that file */
};

struct image_map;

/*
 * image_map_build - merge layers, upper ones hiding lower ones
 * @layers:       bottom first, <= LSMT_MAX_LAYERS; not kept
 * @device_bytes: segments beyond it are cut
 * Returns 0, -EINVAL too many layers, -EOVERFLOW more than LSMT_RW_MAX_RECORDS pieces.
 */
int image_map_build(const struct lsmt_index *layers, size_t layer_count, uint64_t device_bytes,
		    struct image_map **ret, struct err *e);
void image_map_free(struct image_map *m); /* NULL is fine */

uint64_t image_map_bytes(const struct image_map *m);

/*
 * image_map_next - the piece that starts at @r.off, clipped to @r
 * @r: inside the device, length > 0. Never fails; callers loop, shrinking @r.
 * Neighbouring segments of one layer that continue each other may come as one piece.
 */
struct map_piece image_map_next(const struct image_map *m, struct range r);

/* image_map_totals - mappings as merged and clipped, data bytes, zeroed bytes */
void image_map_totals(const struct image_map *m, uint64_t *ret_mappings, uint64_t *ret_data_bytes,
		      uint64_t *ret_zeroed_bytes);

/* image_map_mapping - mapping @n in ascending order, zeroed ones included; false behind the last */
bool image_map_mapping(const struct image_map *m, size_t n, struct map_piece *ret);

#endif
