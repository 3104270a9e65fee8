/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: overlaybd's trace file; what is accepted is written back as it was read. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "obd_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const uint8_t *p, size_t size)
{
	struct obd_trace_record *rec, *again;
	size_t count, count2, bytes;
	struct err e = {0};
	uint8_t *file;

	if (obd_trace_parse(p, size, &rec, &count, &e) < 0) {
		assert(e.msg[0]);
		return;
	}
	assert(obd_trace_encode(rec, count, &file, &bytes, NULL) == 0 && bytes == size);
	assert(obd_trace_parse(file, bytes, &again, &count2, NULL) == 0 && count == count2);
	assert(memcmp(rec, again, count * sizeof(*rec)) == 0);
	free(again);
	free(file);
	free(rec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *p = malloc(size + 1);

	parse(data, size);
	memcpy(p, data, size);
	if (size >= 24) {
		put_le32(p + 16, crc32c_raw(0, p + 24, size - 24));
		parse(p, size);
	}
	free(p);
	return 0;
}
