/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: ld.so.cache. Input: the file. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "err.h"
#include "ldcache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"libc.so.6", "liba.so.1", ""};
	struct ldcache c;
	struct err e = {0};

	if (ldcache_parse(data, size, &c, &e)) {
		assert(e.msg[0] && e.code < 0);
		return 0;
	}
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		for (unsigned int i = 0; i < 20; i++) {
			const char *path = ldcache_find(&c, names[n], i);

			if (!path)
				break;
			assert(strlen(path) < size);
		}
	}
	return 0;
}
