/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_envelope.c - the one-member tar around a layer blob
 *
 * What overlaybd's own reader checks is checked, and no more: magic, version and checksum of the
 * first header. Sizes are checked against the blob, which it does not do.
 */
#include "tar_envelope.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "err.h"

#define TAR_BLOCK_BYTES 512u

/* A field of the 512-byte ustar header. */
struct field {
	unsigned int off, len;
};

static const struct field NAME = {0, 100};
static const struct field MODE = {100, 8};
static const struct field UID = {108, 8};
static const struct field GID = {116, 8};
static const struct field SIZE = {124, 12};
static const struct field MTIME = {136, 12};
static const struct field CHKSUM = {148, 8};
static const struct field TYPE = {156, 1};
static const struct field MAGIC = {257, 6};
static const struct field VERSION = {263, 2};
static const struct field UNAME = {265, 32};
static const struct field GNAME = {297, 32};

/* Octal with blanks around it, or GNU base-256; false when it is neither or does not fit. */
static bool number(const uint8_t *h, struct field f, uint64_t *ret)
{
	const uint8_t *p = h + f.off, *end = p + f.len;
	bool digits = false;
	uint64_t v = 0;

	if (*p & 0x80) {
		v = *p++ & 0x7F;
		for (; p < end; p++) {
			if (v >> 56)
				return false;
			v = v << 8 | *p;
		}
		*ret = v;
		return true;
	}
	while (p < end && *p == ' ')
		p++;
	for (; p < end && *p >= '0' && *p <= '7'; p++) {
		v = v << 3 | (uint64_t)(*p - '0'); /* at most 12 digits: 36 bits */
		digits = true;
	}
	for (; p < end; p++)
		if (*p != ' ' && *p != '\0')
			return false;
	*ret = v;
	return digits;
}

static bool in_field(unsigned int i, struct field f)
{
	return i >= f.off && i < f.off + f.len;
}

/* Historic writers summed signed bytes; either sum is accepted. */
static void checksums(const uint8_t *h, int64_t *ret_unsigned, int64_t *ret_signed)
{
	*ret_unsigned = *ret_signed = 0;
	for (unsigned int i = 0; i < TAR_BLOCK_BYTES; i++) {
		uint8_t b = in_field(i, CHKSUM) ? ' ' : h[i];

		*ret_unsigned += b;
		*ret_signed += (int8_t)b;
	}
}

static bool is_ustar(const uint8_t *h)
{
	int64_t sum, ssum;
	uint64_t want;

	if (memcmp(h + MAGIC.off, "ustar", 5) != 0 || memcmp(h + VERSION.off, "00", 2) != 0)
		return false;
	if (!number(h, CHKSUM, &want))
		return false;
	checksums(h, &sum, &ssum);
	return want == (uint64_t)sum || want == (uint64_t)ssum;
}

static bool decimal(const char *p, const char *end, uint64_t *ret)
{
	uint64_t v = 0;

	if (p == end)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9' || v > (UINT64_MAX - 9) / 10)
			return false;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	*ret = v;
	return true;
}

/*
 * Find "size" among the records "<len> <key>=<value>\n" of a pax block; the last one counts.
 * *ret_found stays false when there is none. Returns false for malformed records.
 */
static bool pax_size(const char *p, size_t bytes, uint64_t *ret_size, bool *ret_found)
{
	const char *end = p + bytes;

	while (p < end) {
		const char *space = memchr(p, ' ', (size_t)(end - p));
		const char *next, *eq;
		uint64_t len;

		if (!space || !decimal(p, space, &len) || len > (uint64_t)(end - p))
			return false;
		next = p + len;
		if (next <= space + 1 || next[-1] != '\n')
			return false;
		eq = memchr(space + 1, '=', (size_t)(next - space - 1));
		if (!eq)
			return false;
		if (eq - space - 1 == 4 && memcmp(space + 1, "size", 4) == 0) {
			if (!decimal(eq + 1, next - 1, ret_size))
				return false;
			*ret_found = true;
		}
		p = next;
	}
	return true;
}

static int parse_pax(const uint8_t *head, size_t head_bytes, uint64_t *ret_size, struct err *e)
{
	uint64_t record_bytes;
	bool found = false;

	if (head_bytes < TAR_ENVELOPE_HEAD_BYTES)
		return err_set(e, -EBADMSG, "tar envelope: blob ends inside the pax header");
	if (!number(head, SIZE, &record_bytes) || record_bytes == 0 ||
	    record_bytes > TAR_BLOCK_BYTES)
		return err_set(e, -EBADMSG, "tar envelope: pax records do not fit one block");
	if (!pax_size((const char *)head + TAR_BLOCK_BYTES, record_bytes, ret_size, &found))
		return err_set(e, -EBADMSG, "tar envelope: malformed pax record");
	if (found && *ret_size > 0)
		return 0;
	if (!number(head + 2 * TAR_BLOCK_BYTES, SIZE, ret_size))
		return err_set(e, -EBADMSG, "tar envelope: no usable size in the member's header");
	return 0;
}

int tar_envelope_parse(const void *head, size_t head_bytes, uint64_t blob_bytes,
		       struct range *ret_payload, struct err *e)
{
	const uint8_t *h = head;
	struct range payload = {0};
	int r;

	if (head_bytes < TAR_BLOCK_BYTES || !is_ustar(h)) {
		*ret_payload = range_of(0, blob_bytes);
		return 0;
	}
	switch (h[TYPE.off]) {
	case 'x':
		payload.off = TAR_ENVELOPE_HEAD_BYTES;
		r = parse_pax(h, head_bytes, &payload.len, e);
		if (r < 0)
			return r;
		break;
	case '0':
	case '\0':
		payload.off = TAR_BLOCK_BYTES;
		if (!number(h, SIZE, &payload.len))
			return err_set(e, -EBADMSG, "tar envelope: malformed size");
		break;
	default:
		*ret_payload = range_of(0, blob_bytes);
		return 0;
	}
	if (!range_inside(payload, blob_bytes))
		return err_set(e, -EBADMSG,
			       "tar envelope: payload of %" PRIu64
			       " bytes does not fit a blob of %" PRIu64,
			       payload.len, blob_bytes);
	*ret_payload = payload;
	return 1;
}

static void put_text(uint8_t *h, struct field f, const char *s)
{
	memcpy(h + f.off, s, strlen(s));
}

/* As upstream writes them: short fields "%6o " and NUL, long ones eleven places and a blank. */
static void put_number(uint8_t *h, struct field f, unsigned int v)
{
	char text[16];

	(void)snprintf(text, sizeof(text), f.len == 8 ? "%6o " : "%11o ", v); /* fits */
	put_text(h, f, text);
}

static void put_common(uint8_t *h, const char *name, char type)
{
	int64_t sum, ssum;

	put_text(h, NAME, name);
	h[TYPE.off] = (uint8_t)type;
	put_text(h, MAGIC, "ustar");
	put_text(h, VERSION, "00");
	checksums(h, &sum, &ssum);
	put_number(h, CHKSUM, (unsigned int)sum);
}

/* "<len> size=<payload>\n", where <len> counts its own digits */
static unsigned int pax_record(uint64_t payload_bytes, char *out, size_t out_bytes)
{
	unsigned int len = 0, n = 1;

	while (n != len) {
		len = n;
		n = (unsigned int)snprintf(out, out_bytes, "%u size=%" PRIu64 "\n", len,
					   payload_bytes);
	}
	return len;
}

void tar_envelope_head(uint64_t payload_bytes, uint8_t out[static TAR_ENVELOPE_HEAD_BYTES])
{
	uint8_t *pax = out, *file = out + 2 * TAR_BLOCK_BYTES;
	unsigned int len;

	memset(out, 0, TAR_ENVELOPE_HEAD_BYTES);
	len = pax_record(payload_bytes, (char *)out + TAR_BLOCK_BYTES, TAR_BLOCK_BYTES);
	put_number(pax, SIZE, len);
	put_common(pax, "overlaybd.pax", 'x');

	put_number(file, MODE, 0100644);
	put_number(file, UID, 0);
	put_number(file, GID, 0);
	put_number(file, SIZE, 0); /* the true size is in the pax record only */
	put_number(file, MTIME, 0);
	put_text(file, UNAME, "root");
	put_text(file, GNAME, "root");
	put_common(file, "overlaybd.commit", '0');
}

size_t tar_envelope_tail_bytes(uint64_t payload_bytes)
{
	uint64_t over = payload_bytes % TAR_BLOCK_BYTES;

	return (over ? TAR_BLOCK_BYTES - over : 0) + 2 * TAR_BLOCK_BYTES;
}
