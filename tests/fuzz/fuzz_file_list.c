/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: overlaybd's text lists of files; what is accepted is accepted again as written. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "file_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct file_list l, again;
	struct err e = {0};

	if (file_list_parse(data, size, &l, &e)) {
		assert(e.msg[0]);
		return 0;
	}
	assert(l.count);
	for (size_t i = 0; i < l.count; i++) {
		assert(l.paths[i][0] == '/' && strlen(l.paths[i]) < 4096);
		assert(file_list_parse(l.paths[i], strlen(l.paths[i]), &again, NULL) == 0);
		assert(again.count == 1 && !strcmp(again.paths[0], l.paths[i]));
		file_list_done(&again);
	}
	file_list_done(&l);
	return 0;
}
