/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout_note.h - an annotation of a layer's descriptor that says where things lie in its blob
 *
 *	containerd.io/snapshot/headstart/layout: "1536,74411520,40960,1269760,1269760"
 *
 * Offset and length of the ZFile in the blob (behind the tar envelope); how many last bytes of the
 * blob opening it takes: LSMT index, jump table, trailer; how many last bytes hold these and the
 * file system metadata before them; how many hold all this and the file data before it that was
 * laid out for a start. Decimal, in bytes, and no smaller than the one before; whatever follows a
 * further comma is for later versions.
 */
#ifndef HS_FORMAT_LAYOUT_NOTE_H
#define HS_FORMAT_LAYOUT_NOTE_H

#include <stdint.h>

#define LAYOUT_NOTE_ANNOTATION "containerd.io/snapshot/headstart/layout"
#define LAYOUT_NOTE_BYTES      112 /* of the text, NUL included */

struct layout_note {
	uint64_t payload_off, payload_bytes;
	uint64_t open_bytes;	 /* > 0, reaches behind the payload's end */
	uint64_t metadata_bytes; /* >= open_bytes */
	uint64_t start_bytes;	 /* >= metadata_bytes; more: laid out for a start */
};

/* layout_note_parse - 0, or -EBADMSG it is none or does not fit a blob of @blob_bytes */
int layout_note_parse(const char *text, uint64_t blob_bytes, struct layout_note *ret);

void layout_note_text(const struct layout_note *n, char out[static LAYOUT_NOTE_BYTES]);

#endif
