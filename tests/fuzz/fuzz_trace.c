/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: traces; what is accepted is encoded, and read back as the same. Each input is also
 * tried with its checksums put right, so that the fuzzer gets past them.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const uint8_t *p, size_t size)
{
	struct trace *t, *again;
	struct err e = {0};
	uint8_t *file, *file2;
	size_t bytes, bytes2;

	if (trace_parse(p, size, &t, &e)) {
		assert(e.msg[0]);
		return;
	}
	assert(trace_encode(t, &file, &bytes, NULL) == 0);
	assert(trace_parse(file, bytes, &again, NULL) == 0);
	assert(t->event_count == again->event_count && t->truncated == again->truncated);
	assert(!t->event_count ||
	       !memcmp(t->events, again->events, t->event_count * sizeof(*t->events)));
	assert(trace_encode(again, &file2, &bytes2, NULL) == 0);
	assert(bytes == bytes2 && !memcmp(file, file2, bytes));
	free(file);
	free(file2);
	trace_free(t);
	trace_free(again);
}

static void put_right(uint8_t *p, size_t size)
{
	if (size < 16)
		return;
	put_le32(p + 12, ~crc32c_raw(~0u, p, 12));
	for (size_t at = 16; size - at >= 12;) {
		size_t n = get_le32(p + at + 4);

		if (n > size - at - 12) {
			n = size - at - 12;
			put_le32(p + at + 4, (uint32_t)n);
		}
		put_le32(p + at + 8 + n, ~crc32c_raw(~0u, p + at, 8 + n));
		at += 12 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *p = malloc(size + 1);

	parse(data, size);
	memcpy(p, data, size);
	put_right(p, size);
	parse(p, size);
	free(p);
	return 0;
}
