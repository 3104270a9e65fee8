/* SPDX-License-Identifier: Apache-2.0 */
/* obd_trace.c - overlaybd's binary trace: header and records of 24 bytes each */
#include "obd_trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "lsmt.h"
#include "text.h"

#define MAGIC	     0xC2EF1820u
#define HEADER_BYTES 24u
#define RECORD_BYTES 24u

enum { FIELD_MAGIC = 0, FIELD_DATA_BYTES = 8, FIELD_CHECKSUM = 16 };
enum { RECORD_OP = 0, RECORD_LAYER = 4, RECORD_COUNT = 8, RECORD_OFFSET = 16 };

static int parse_record(const uint8_t *p, struct obd_trace_record *ret)
{
	uint64_t count = get_le64(p + RECORD_COUNT);
	uint64_t offset = get_le64(p + RECORD_OFFSET);
	uint32_t layer = get_le32(p + RECORD_LAYER);

	if (p[RECORD_OP] != 'R' || layer >= LSMT_MAX_LAYERS || count == 0 ||
	    count > OBD_TRACE_MAX_COUNT || offset > INT64_MAX - OBD_TRACE_MAX_COUNT)
		return -EBADMSG;
	ret->layer = layer;
	ret->range = range_of(offset, count);
	return 0;
}

int obd_trace_parse(const void *file, size_t bytes, struct obd_trace_record **ret_records,
		    size_t *ret_count, struct err *e)
{
	const uint8_t *p = file;
	struct obd_trace_record *rec;
	uint64_t data_bytes;
	size_t count;

	if (bytes < 4 || get_le32(p + FIELD_MAGIC) != MAGIC)
		return err_set(e, -ENOENT, "trace: not a binary trace");
	if (bytes < HEADER_BYTES)
		return err_set(e, -EBADMSG, "trace: shorter than its header");
	data_bytes = get_le64(p + FIELD_DATA_BYTES);
	if (data_bytes != bytes - HEADER_BYTES || data_bytes % RECORD_BYTES)
		return err_set(e, -EBADMSG,
			       "trace: %" PRIu64 " bytes of records announced, %zu are there",
			       data_bytes, bytes - HEADER_BYTES);
	if (crc32c_raw(0, p + HEADER_BYTES, data_bytes) != get_le32(p + FIELD_CHECKSUM))
		return err_set(e, -EBADMSG, "trace: checksum does not match");
	count = data_bytes / RECORD_BYTES;
	rec = xmalloc_zero(count + 1, sizeof(*rec));
	for (size_t n = 0; n < count; n++) {
		if (parse_record(p + HEADER_BYTES + n * RECORD_BYTES, &rec[n]) < 0) {
			free(rec);
			return err_set(e, -EBADMSG, "trace: record %zu makes no sense", n);
		}
	}
	*ret_records = rec;
	*ret_count = count;
	return 0;
}

int obd_trace_encode(const struct obd_trace_record *records, size_t count, uint8_t **ret_file,
		     size_t *ret_bytes, struct err *e)
{
	size_t bytes = HEADER_BYTES + count * RECORD_BYTES;
	uint8_t *out = xmalloc_zero(1, bytes);

	for (size_t n = 0; n < count; n++) {
		const struct obd_trace_record *r = &records[n];
		uint8_t *p = out + HEADER_BYTES + n * RECORD_BYTES;
		struct obd_trace_record back;

		p[RECORD_OP] = 'R';
		put_le32(p + RECORD_LAYER, r->layer);
		put_le64(p + RECORD_COUNT, r->range.len);
		put_le64(p + RECORD_OFFSET, r->range.off);
		if (parse_record(p, &back) < 0) {
			free(out);
			return err_set(e, -EINVAL, "trace: record %zu cannot be written", n);
		}
	}
	put_le32(out + FIELD_MAGIC, MAGIC);
	put_le64(out + FIELD_DATA_BYTES, bytes - HEADER_BYTES);
	put_le32(out + FIELD_CHECKSUM, crc32c_raw(0, out + HEADER_BYTES, bytes - HEADER_BYTES));
	*ret_file = out;
	*ret_bytes = bytes;
	return 0;
}
