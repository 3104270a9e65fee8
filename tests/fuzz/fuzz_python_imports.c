/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: import statements of a Python file. Input: whether it is the script, the text. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "python_imports.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_import(void *arg, unsigned int level, const char *module, const char *name)
{
	unsigned int *left = arg;

	assert(level < 256 && strlen(module) < 256 && (!name || strlen(name) < 256));
	return (*left)-- == 0 ? 7 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int left = 100;
	int rc;

	if (size == 0)
		return 0;
	rc = python_imports((const char *)data + 1, size - 1, data[0] & 1, on_import, &left);
	assert(rc == 0 || rc == 7);
	return 0;
}
