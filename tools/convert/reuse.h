/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse.h - layers of the target repository that were converted before
 *
 * Found through annotations of the manifests that are there. A converted layer stands on exactly
 * the layers below it, so what is reused is always the beginning of one image.
 */
#ifndef HS_CONVERT_REUSE_H
#define HS_CONVERT_REUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blockmap.h"
#include "convert.h"

struct convert_options;
struct err;
struct lower_image;
struct reuse;
struct store;

struct reuse_layer {
	char chain_id[DIGEST_TEXT_BYTES];
	char digest[DIGEST_TEXT_BYTES];
	uint64_t bytes;
	char note[LAYOUT_NOTE_BYTES]; /* "" none */
	bool ordered;
};

/* How layers must have been made to be as if they were made now. */
struct reuse_terms {
	const char *plain;   /* ANNOTATION_CONVERSION of layers in which nothing is ordered */
	const char *ordered; /* of the others; NULL without a layout */
	const char *order;   /* its ID: who said that nothing is; NULL without a layout */
};

/*
 * reuse_load - look through the target's tags: @tag first, then those ending in "_accelerated",
 * then others, a bounded number of manifests in all
 * @terms: kept, not copied
 * Never fails: what cannot be read is not reused.
 */
struct reuse *reuse_load(struct store *target, const char *tag, const struct reuse_terms *terms);
void reuse_free(struct reuse *r); /* NULL is fine */

/*
 * reuse_match - the longest beginning of @chain_ids that is there, blobs included
 * @ret: room for @count. Returns how many layers.
 */
size_t reuse_match(struct reuse *r, struct store *target, char (*chain_ids)[DIGEST_TEXT_BYTES],
		   size_t count, struct reuse_layer *ret);

/*
 * lower_open - the device that reused layers make, for reading metadata of
 * @ret_reader: valid until lower_close()
 */
int lower_open(const struct convert_options *o, const struct reuse_layer *layers, size_t count,
	       struct lower_image **ret, struct lower_reader *ret_reader, struct err *e);
void lower_close(struct lower_image *l); /* NULL is fine */

#endif
