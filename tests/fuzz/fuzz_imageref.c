/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_imageref.c - a name that is taken has a canonical text that means the same */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "imageref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct imageref r, again;
	struct err e = {0};
	char *text = malloc(len + 1), *canonical, *twice;

	assert(text);
	memcpy(text, data, len);
	text[len] = '\0';
	if (imageref_parse(text, &r, &e) == 0) {
		canonical = imageref_text(&r);
		assert(imageref_parse(canonical, &again, &e) == 0);
		assert(again.kind == r.kind);
		twice = imageref_text(&again);
		assert(strcmp(canonical, twice) == 0);
		if (r.host)
			(void)imageref_loopback(r.host);
		free(canonical);
		free(twice);
		imageref_done(&again);
		imageref_done(&r);
	}
	free(text);
	return 0;
}
