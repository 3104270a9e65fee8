/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uploader.h - finished layers go to the destination while the next ones are made
 *
 * A job's digest and size are valid once uploader_wait() has returned 0. The first failure stops
 * the rest.
 */
#ifndef HS_CONVERT_UPLOADER_H
#define HS_CONVERT_UPLOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "digest.h"

struct err;
struct layer_blob;
struct store;
struct uploader;

struct upload_job {
	struct layer_blob *blob; /* owned by the uploader from uploader_add() on */
	char digest[DIGEST_TEXT_BYTES];
	uint64_t bytes;
	bool sent; /* false: the destination had it, or it could be mounted */
	struct upload_job *next;
};

struct uploader_options {
	struct store *store;	/* NULL: only digests are made (--no-upload) */
	const char *mount_from; /* repository of the same registry that may hold blobs, or NULL */
	unsigned int threads;
	_Atomic uint64_t *sent_bytes;
};

int uploader_new(const struct uploader_options *o, struct uploader **ret, struct err *e);
void uploader_add(struct uploader *u, struct upload_job *job);
/* uploader_failed - whether it is pointless to go on */
bool uploader_failed(struct uploader *u);
/* uploader_wait - until all jobs are done; 0 or the first failure */
int uploader_wait(struct uploader *u, struct err *e);
void uploader_free(struct uploader *u); /* drops what has not begun; NULL is fine */

/* upload_bytes - a small blob from memory, unless it is there already */
int upload_bytes(struct store *s, const char *digest, const void *p, uint64_t bytes, struct err *e);

#endif
