/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: tar envelope. What is found must lie inside the blob. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "tar_envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t head = size < TAR_ENVELOPE_HEAD_BYTES ? size : TAR_ENVELOPE_HEAD_BYTES;
	struct err e = {0};
	struct range r;
	int found = tar_envelope_parse(data, head, size, &r, &e);

	if (found < 0)
		assert(e.code == found && e.msg[0]);
	else
		assert(range_inside(r, size) && (found || (r.off == 0 && r.len == size)));
	return 0;
}
