/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch_list.h - what to fetch before it is asked for, in order (trace/FORMAT.md)
 *
 * Two halves. The ranges are what a replay needs: stored bytes of the image's blobs, named by
 * digest, in the order of fetching. The touches are what the ranges were made from: files and
 * offsets, with which a list is carried to the next build and layers are laid out. A list in a
 * registry keeps the halves apart, so that a start only reads the first.
 *
 * A list can only cause fetching of the image's own blobs: ranges of blobs that the image does
 * not have are dropped by the replayer, ranges outside a blob make the list invalid.
 */
#ifndef HS_PREFETCH_PREFETCH_LIST_H
#define HS_PREFETCH_PREFETCH_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define PREFETCH_LIST_TYPE    "application/vnd.headstart.prefetch.list.v1" /* artifactType */
#define PREFETCH_RANGES_MEDIA "application/vnd.headstart.prefetch.ranges.v1"
#define PREFETCH_FILES_MEDIA  "application/vnd.headstart.prefetch.files.v1"

#define PREFETCH_LIST_MAX_BYTES	  (16u << 20)
#define PREFETCH_LIST_MAX_BLOBS	  1024u
#define PREFETCH_LIST_MAX_RANGES  262144u
#define PREFETCH_LIST_MAX_FILES	  262144u
#define PREFETCH_LIST_MAX_TOUCHES 1048576u
#define PREFETCH_NO_FILE	  UINT32_MAX /* a touch of the device: file system metadata */

enum prefetch_origin {
	PREFETCH_RECORDED = 1,
	PREFETCH_PREDICTED = 2, /* found without a run */
	PREFETCH_PORTED = 3,	/* carried over from another build */
	PREFETCH_IMPORTED = 4,	/* an overlaybd trace or file list */
};

struct prefetch_blob {
	char digest[72];
	uint64_t bytes;
};

/* Stored bytes of one blob; whole compressed blocks. */
struct prefetch_range {
	uint32_t blob;
	uint32_t at_ms; /* when the start first touched it */
	uint64_t off, bytes;
};

struct prefetch_file {
	char *path;
	uint64_t bytes;
};

/* Plain bytes of a file, or of the device. */
struct prefetch_touch {
	uint32_t file; /* index, or PREFETCH_NO_FILE */
	uint32_t at_ms;
	uint64_t off, bytes;
};

struct prefetch_list {
	enum prefetch_origin origin;
	char image_digest[72]; /* of the manifest it was made for; "" not known */
	char *image;	       /* as it was named; "" not known */
	uint64_t created_s;
	uint32_t runs; /* traces combined; 0 for a predicted list */

	struct prefetch_blob *blobs;
	size_t blob_count;
	struct prefetch_range *ranges;
	size_t range_count;

	struct prefetch_file *files;
	size_t file_count;
	struct prefetch_touch *touches; /* first-touch order */
	size_t touch_count;
};

enum prefetch_half { PREFETCH_RANGES = 1, PREFETCH_FILES = 2 };

/* prefetch_origin_name - "recorded", "predicted", "ported", "imported" */
const char *prefetch_origin_name(enum prefetch_origin o);

void prefetch_list_free(struct prefetch_list *l);	     /* NULL is fine */
uint64_t prefetch_list_bytes(const struct prefetch_list *l); /* sum of ranges */

/*
 * prefetch_list_parse - one or both halves
 * Returns 0, -ENOENT not a list, -EOPNOTSUPP newer version, -EBADMSG corrupt, cut off, over a limit
 * or a range outside its blob.
 */
int prefetch_list_parse(const void *p, size_t bytes, struct prefetch_list **ret, struct err *e);
/* prefetch_list_encode - @halves: enum prefetch_half, or both; deterministic; caller frees */
int prefetch_list_encode(const struct prefetch_list *l, unsigned int halves, uint8_t **ret,
			 size_t *ret_bytes, struct err *e);
int prefetch_list_load(const char *path, struct prefetch_list **ret, struct err *e);
int prefetch_list_save(const struct prefetch_list *l, const char *path, struct err *e);

#endif
