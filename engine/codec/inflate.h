/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inflate.h - raw deflate from a checkpoint, at any bit offset (ISA-L)
 *
 * A checkpoint is a deflate block boundary: input position, the bits of the byte before it that
 * still belong to the stream, and up to 32 KiB of the output before it. A span may run over the
 * end of a gzip member into the next one: trailer and header are stepped over.
 * The state is 87 KB: one struct inflate per worker thread.
 */
#ifndef HS_CODEC_INFLATE_H
#define HS_CODEC_INFLATE_H

#include <stddef.h>
#include <stdint.h>

#define INFLATE_WINDOW_BYTES 32768

struct inflate;

struct inflate *inflate_new(void);
void inflate_free(struct inflate *s); /* NULL is fine */

/*
 * inflate_span - decode exactly @out_bytes of output starting at a checkpoint
 * @bits:       0..7, number of unused bits in @prime_byte (its top bits)
 * @prime_byte: the byte before @in; looked at only when bits > 0
 * @window:     output just before the checkpoint, in order; may be NULL with 0 bytes
 * @in:         compressed bytes from the checkpoint's byte position on; may be more than needed
 *
 * ISA-L decodes ahead of @out, so corrupt data behind the span, if given, can fail it as well. It
 * checks less than zlib does: a block whose code sets are incomplete is decoded.
 * Returns 0, -EBADMSG corrupt or @in ends before @out is full.
 */
int inflate_span(struct inflate *s, unsigned int bits, uint8_t prime_byte, const void *window,
		 size_t window_bytes, const void *in, size_t in_bytes, void *out, size_t out_bytes);

#endif
