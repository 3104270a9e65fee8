/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage.h - which blocks of a stream somebody has asked for
 *
 * One bit a block (ZFile block, gzip span, 64 KiB of a raw stream), so that a prefetch can be told
 * what it was worth. Made when the stream is open; from then on it belongs to the loop thread.
 */
#ifndef HS_PATH_USAGE_H
#define HS_PATH_USAGE_H

#include <stdint.h>

#include "range.h"

struct stream;
struct stream_plan;
struct usage;

struct usage *usage_new(const struct stream *s);
void usage_free(struct usage *u); /* NULL is fine */

/* usage_mark - what @plan needs has been asked for */
void usage_mark(struct usage *u, const struct stream *s, const struct stream_plan *plan);

/* usage_bytes - stored bytes of @stored (in the blob) in blocks that were asked for */
uint64_t usage_bytes(const struct usage *u, const struct stream *s, struct range stored);

#endif
