/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_envelope.h - the one-member tar around a layer blob (overlaybd-format 1.7)
 *
 * Two shapes: pax (payload at byte 1536, true size in the pax record) and plain ustar
 * (payload at 512). Anything else, GNU magic included, is a bare blob.
 */
#ifndef HS_FORMAT_TAR_ENVELOPE_H
#define HS_FORMAT_TAR_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#include "range.h"

struct err;

#define TAR_ENVELOPE_HEAD_BYTES 1536 /* enough of a blob's start to parse any envelope */
#define TAR_ENVELOPE_TAIL_MAX	1535 /* most that can follow the payload: pad and two blocks */

/*
 * tar_envelope_parse - find the payload
 * @head:      first min(blob_bytes, TAR_ENVELOPE_HEAD_BYTES) bytes of the blob
 * @ret_payload: payload within the blob; the whole blob when there is no envelope
 *
 * Returns 1 enveloped, 0 bare, -EBADMSG an envelope whose payload does not fit the blob.
 */
int tar_envelope_parse(const void *head, size_t head_bytes, uint64_t blob_bytes,
		       struct range *ret_payload, struct err *e);

/* tar_envelope_head - the pax-shape prefix for a payload of @payload_bytes */
void tar_envelope_head(uint64_t payload_bytes, uint8_t out[static TAR_ENVELOPE_HEAD_BYTES]);

/* tar_envelope_tail_bytes - zeros that follow the payload: pad to 512, two blocks */
size_t tar_envelope_tail_bytes(uint64_t payload_bytes);

#endif
