/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.h - streaming decompression of a whole layer: gzip (ISA-L), zstd or plain
 *
 * The kind is found from the first bytes. gzip streams of several members and zstd streams
 * of several frames are one stream. Checksums of the containers are verified.
 */
#ifndef HS_CODEC_UNPACK_H
#define HS_CODEC_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct unpack;

struct unpack *unpack_new(void);
void unpack_free(struct unpack *u); /* NULL is fine */

/*
 * unpack_step - consume some input, produce some output
 * @in, @in_bytes:   advanced past what was consumed
 * @eof:             no input follows @in
 * @ret_out_bytes:   bytes written to @out
 *
 * Returns 1 while more can follow, 0 at the proper end of the stream, -EBADMSG corrupt or
 * truncated. Makes progress on every call that returns 1 with input or @eof given.
 */
int unpack_step(struct unpack *u, const uint8_t **in, size_t *in_bytes, bool eof, uint8_t *out,
		size_t out_bytes, size_t *ret_out_bytes, struct err *e);

#endif
