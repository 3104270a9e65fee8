/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer_writer.h - device blocks in, a finished layer blob out
 *
 * What is added becomes the data of an LSMT layer in the order of arrival; the layer is cut into
 * ZFile blocks, compressed by the pool, and collected in order. The headers need the final sizes,
 * so the blob exists as a whole only after layer_writer_finish(). Its bytes depend on what was
 * added and on the options, not on the number of threads. One thread at a time.
 */
#ifndef HS_CONVERT_LAYER_WRITER_H
#define HS_CONVERT_LAYER_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "layout_note.h"
#include "spool.h"
#include "squeeze.h"

struct err;
struct layer_blob;
struct layer_writer;

struct layer_writer_options {
	struct squeeze *pool;
	struct spool_budget *budget;
	struct layer_format format;
	uint64_t virtual_bytes;
	const char *chain_id;	     /* of the source: gives the UUID */
	const char *parent_chain_id; /* NULL for the bottom layer */
};

/* layer_writer_new - starts with the LSMT header; never fails */
struct layer_writer *layer_writer_new(const struct layer_writer_options *o);
void layer_writer_free(struct layer_writer *w); /* waits for its batches; NULL is fine */

/* layer_writer_add - an apply_sink_fn; @arg is the writer; a block is added once only */
int layer_writer_add(void *arg, uint64_t dev_off, const void *p, size_t bytes, struct err *e);

/*
 * layer_writer_finish - index, trailers, envelope; @w can then only be freed
 * @metadata_bytes: how many of the last bytes that were added are file system metadata
 * @start_bytes: the same with file data before it that was laid out for a start; else the same
 * Returns 0, -EOVERFLOW too many segments, -ENOSPC or -EIO of the temporary file.
 */
int layer_writer_finish(struct layer_writer *w, uint64_t metadata_bytes, uint64_t start_bytes,
			struct layer_blob **ret, struct err *e);

/* layer_blob_note - where things lie in it, for its descriptor */
const struct layout_note *layer_blob_note(const struct layer_blob *b);

uint64_t layer_blob_bytes(const struct layer_blob *b);
uint64_t layer_blob_plain_bytes(const struct layer_blob *b); /* of the LSMT layer */

/* layer_blob_digest - reads the blob once on the first call; then remembered */
int layer_blob_digest(struct layer_blob *b, char ret[static DIGEST_TEXT_BYTES], struct err *e);

/* layer_blob_read - any range inside; 0 or negative errno */
int layer_blob_read(struct layer_blob *b, uint64_t off, void *buf, size_t bytes, struct err *e);
void layer_blob_free(struct layer_blob *b); /* NULL is fine */

#endif
