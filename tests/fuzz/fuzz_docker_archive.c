/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_docker_archive.c - the scan of a tar file for its members */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "err.h"
#include "tar_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct memory {
	const uint8_t *p;
	size_t len;
};

static int read_memory(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct memory *m = arg;

	assert(off <= m->len && len <= m->len - off);
	memcpy(buf, m->p + off, len);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct memory m = {.p = data, .len = len};
	struct tar_index x = {0};
	struct err e = {0};

	if (tar_scan(len, read_memory, &m, &x, &e)) {
		assert(e.msg[0]);
		return 0;
	}
	for (size_t i = 0; i < x.count && i < 64; i++) {
		const struct tar_member *f = tar_find(&x, x.members[i].name);

		assert(!f || (f->kind == TAR_FILE && f->off <= len && f->bytes <= len - f->off));
	}
	tar_index_done(&x);
	return 0;
}
