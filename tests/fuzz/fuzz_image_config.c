/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: config.v1.json. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "image_config.h"
#include "lsmt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image_config *c;
	struct err e = {0};

	if (image_config_parse((const char *)data, size, &c, &e) < 0) {
		assert(e.msg[0]);
		return 0;
	}
	assert(c->lower_count <= LSMT_MAX_LAYERS && (c->lower_count > 0 || c->upper_data));
	assert(!c->upper_data == !c->upper_index);
	for (size_t n = 0; n < c->lower_count; n++)
		assert(c->lowers[n].file || c->lowers[n].dir || c->lowers[n].digest);
	image_config_free(c);
	return 0;
}
