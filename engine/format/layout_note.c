/* SPDX-License-Identifier: Apache-2.0 */
/* layout_note.c - see layout_note.h */
#include "layout_note.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* A decimal number and the comma behind it, or the end of the text. */
static bool take_number(const char **text, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)**text))
		return false;
	errno = 0;
	*ret = strtoull(*text, &end, 10);
	if (errno || (*end && *end != ','))
		return false;
	*text = *end ? end + 1 : end;
	return true;
}

int layout_note_parse(const char *text, uint64_t blob_bytes, struct layout_note *ret)
{
	struct layout_note n;
	uint64_t behind; /* bytes of the blob behind the payload */

	if (!take_number(&text, &n.payload_off) || !take_number(&text, &n.payload_bytes) ||
	    !take_number(&text, &n.open_bytes) || !take_number(&text, &n.metadata_bytes) ||
	    !take_number(&text, &n.start_bytes))
		return -EBADMSG;
	if (n.payload_off > blob_bytes || n.payload_bytes > blob_bytes - n.payload_off)
		return -EBADMSG;
	behind = blob_bytes - n.payload_off - n.payload_bytes;
	if (n.open_bytes <= behind || n.open_bytes > behind + n.payload_bytes ||
	    n.metadata_bytes < n.open_bytes || n.start_bytes < n.metadata_bytes ||
	    n.start_bytes > blob_bytes)
		return -EBADMSG;
	*ret = n;
	return 0;
}

void layout_note_text(const struct layout_note *n, char out[static LAYOUT_NOTE_BYTES])
{
	snprintf(out, LAYOUT_NOTE_BYTES, "%llu,%llu,%llu,%llu,%llu",
		 (unsigned long long)n->payload_off, (unsigned long long)n->payload_bytes,
		 (unsigned long long)n->open_bytes, (unsigned long long)n->metadata_bytes,
		 (unsigned long long)n->start_bytes);
}
