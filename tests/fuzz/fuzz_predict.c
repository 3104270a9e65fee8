/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: the static list of an image of arbitrary bytes. Input: the device. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "imagefs.h"
#include "predict.h"
#include "prefetch_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char config[] =
    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Entrypoint\":[\"/run.sh\"],"
    "\"Cmd\":[\"python3\",\"/srv/app.py\"],\"Env\":[\"A=/etc\",\"LD_LIBRARY_PATH=/opt\"]},"
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";

struct input {
	const uint8_t *data;
	size_t size;
};

static int input_read(void *arg, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	const struct input *in = arg;

	(void)e;
	assert(off <= in->size && bytes <= in->size - off);
	memcpy(buf, in->data + off, bytes);
	return 0;
}

static void check(const struct prefetch_list *l, size_t size)
{
	for (size_t n = 0; n < l->touch_count; n++) {
		const struct prefetch_touch *t = &l->touches[n];

		assert(t->bytes);
		if (t->file == PREFETCH_NO_FILE) {
			assert(t->off <= size && t->bytes <= size - t->off);
			continue;
		}
		assert(t->file < l->file_count && l->files[t->file].path[0] == '/');
		assert(t->off < l->files[t->file].bytes &&
		       t->bytes <= l->files[t->file].bytes - t->off);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct imagefs_device d = {.read = input_read, .arg = &in, .bytes = size};
	struct predict_options o;
	struct prefetch_list *l;
	struct imagefs *fs;
	struct err e = {0};

	if (imagefs_open(&d, &fs, &e))
		return 0;
	predict_options_default(&o);
	if (predict_touches(fs, config, &o, &l, &e) == 0) {
		check(l, size);
		prefetch_list_free(l);
	} else {
		assert(e.msg[0]);
	}
	imagefs_close(fs);
	return 0;
}
