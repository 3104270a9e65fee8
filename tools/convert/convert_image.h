/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert_image.h - one manifest: its layers, its config, its new manifest
 */
#ifndef HS_CONVERT_CONVERT_IMAGE_H
#define HS_CONVERT_CONVERT_IMAGE_H

#include "convert.h"
#include "spool.h"

struct reuse;
struct store;
struct store_manifest;
struct uploader;

/* What all images of one run share. */
struct convert_context {
	const struct convert_options *o;
	struct store *source, *target; /* target is NULL without upload */
	struct squeeze *pool;
	struct spool_budget budget;
	struct reuse *reuse; /* or NULL */
	char *conversion;    /* how layers are made, for ANNOTATION_CONVERSION */
	char *ordered;	     /* the same for those with something of the layout; NULL: no layout */
	const char *mount_from;
};

/* What became of a manifest or index: its new descriptor. */
struct convert_output {
	const char *media_type;
	char digest[DIGEST_TEXT_BYTES];
	uint64_t bytes;
};

/*
 * convert_image - @tag: name it so, the last thing that happens; NULL: by digest only
 * @ret: filled as far as it came, also on failure; freed by convert_result_done()
 */
int convert_image(struct convert_context *c, const struct store_manifest *m, const char *tag,
		  struct convert_image *ret, struct convert_output *out, struct err *e);

/* put_document - print @root, store it as manifest or index, describe it; dumps it when asked */
int put_document(struct convert_context *c, void *cjson_root, const char *media_type,
		 const char *tag, const char *dump_name, struct convert_output *out, struct err *e);

#endif
