/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_make.h - small accelerated images, made in memory and stored as an OCI layout
 *
 * Layers are built with the encoders of engine/format; what a device must read as is painted into a
 * plain array beside them. Failures end the test program.
 */
#ifndef HS_LIB_IMAGE_MAKE_H
#define HS_LIB_IMAGE_MAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "lsmt.h"
#include "range.h"
#include "test_random.h"

/* How a layer is stored. */
struct layer_shape {
	enum codec_id codec; /* 0: raw LSMT */
	uint32_t block_bytes;
	bool tar;
	uint64_t device_bytes;
};

/* One blob with what its descriptor says. */
struct made_blob {
	uint8_t *bytes;
	size_t len;
	char digest[72];
	const char *target; /* TurboOCI: digest of the original layer */
	bool ordinary;	    /* no overlaybd annotations */
	struct range data;  /* stored bytes of the blocks: neither head nor tables */
};

/*
 * layer_make - encode a layer
 * @seg:  sorted, disjoint; moff is ignored
 * @data: bytes of all segments that are not zeroed, one behind the other
 */
void layer_make(const struct layer_shape *sh, const struct lsmt_segment *seg, size_t count,
		const void *data, struct made_blob *ret);

/*
 * layer_make_random - random segments with about @data_bytes of data, painted into @truth
 * @truth: sh->device_bytes
 */
void layer_make_random(const struct layer_shape *sh, struct test_random *r, uint64_t data_bytes,
		       uint8_t *truth, struct made_blob *ret);

/* made_copy - a blob from bytes that are there already */
void made_copy(const void *p, size_t len, struct made_blob *ret);
void made_done(struct made_blob *b);

/* An OCI layout; index.json is rewritten with every tag. */
struct layout {
	char dir[256];
	char tags[32][32];
	char digests[32][72];
	size_t sizes[32];
	size_t count;
};

void layout_new(struct layout *l, const char *dir);
void layout_blob(const struct layout *l, const void *p, size_t len, char ret_digest[static 72]);

/*
 * layout_image - store blobs, config and manifest, and let @tag name it (moved when it exists)
 * @platform: architecture in an index around the manifest, NULL for no index
 * @ret_digest: of what the tag names; may be NULL
 */
void layout_image(struct layout *l, const char *tag, const struct made_blob *layers, size_t count,
		  const char *platform, char *ret_digest);

#endif
