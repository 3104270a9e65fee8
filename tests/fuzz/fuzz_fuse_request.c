/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_fuse_request.c - any bytes from /dev/fuse: parsed and answered within bounds */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuse_proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* half of the runs get a length field that is right, or most would end there */
	static const struct fuse_fs fs = {.bytes = 1 << 20, .max_background = 12};
	struct fuse_call c;
	uint32_t len, read_bytes;
	size_t n, name_sum = 0;
	char *in, *out;

	if (size == 0)
		return 0;
	in = malloc(size);
	out = malloc(FUSE_OUT_BYTES);
	if (!in || !out)
		abort();
	memcpy(in, data, size);
	if (size >= 5 && data[size - 1] & 1) {
		len = (uint32_t)size;
		memcpy(in, &len, sizeof(len));
	}
	if (!fuse_parse(in, size, &c)) {
		for (size_t i = 0; i < c.name_bytes && c.name; i++)
			name_sum += (unsigned char)c.name[i];
		read_bytes = fuse_read_bytes(&c, fs.bytes);
		if (read_bytes && (c.off > fs.bytes || read_bytes > fs.bytes - c.off))
			abort();
		n = fuse_answer(&fs, &c, out);
		if (n > FUSE_OUT_BYTES || (c.silent && n) || (!c.silent && n < FUSE_OUT_HEAD))
			abort();
		if (n) {
			memcpy(&len, out, sizeof(len));
			if (len != n)
				abort();
		}
	}
	free(in);
	free(out);
	return name_sum == SIZE_MAX;
}
