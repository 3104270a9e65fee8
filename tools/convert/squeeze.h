/* SPDX-License-Identifier: Apache-2.0 */
/*
 * squeeze.h - worker threads that compress batches of ZFile blocks
 *
 * Whoever submits batches collects them again, in the order of his choice; so the output does not
 * depend on the number of threads. A batch belongs to the pool between submit and wait.
 */
#ifndef HS_CONVERT_SQUEEZE_H
#define HS_CONVERT_SQUEEZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"

struct err;
struct squeeze;

#define SQUEEZE_BATCH_BYTES (256u << 10)

/* How blocks are stored. */
struct layer_format {
	enum codec_id codec;
	int level;
	uint32_t block_bytes; /* power of two, 4096..32768 */
};

struct squeeze_batch {
	struct layer_format format;
	uint32_t in_bytes; /* filled by the submitter, <= SQUEEZE_BATCH_BYTES */
	uint8_t *in;

	uint8_t *out; /* stored blocks, back to back, CRCs included */
	size_t out_bytes;
	uint32_t *stored; /* length of each */
	uint32_t blocks;
	int result; /* 0 or negative errno */

	bool done; /* under the pool's lock */
	struct squeeze_batch *next;
};

int squeeze_new(unsigned int threads, struct squeeze **ret, struct err *e);
void squeeze_free(struct squeeze *s); /* no batch may be submitted any more; NULL is fine */
unsigned int squeeze_threads(const struct squeeze *s);

struct squeeze_batch *squeeze_batch_new(const struct layer_format *f);
void squeeze_batch_free(struct squeeze_batch *b); /* NULL is fine */

void squeeze_submit(struct squeeze *s, struct squeeze_batch *b);
void squeeze_wait(struct squeeze *s, struct squeeze_batch *b);

#endif
