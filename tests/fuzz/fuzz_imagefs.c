/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: the file system of a device of arbitrary bytes. Input: the device. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "imagefs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NAMES 300

struct input {
	const uint8_t *data;
	size_t size;
	struct imagefs *fs;
	unsigned int names;
	uint64_t end; /* of what was told before */
};

static int input_read(void *arg, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	const struct input *in = arg;

	(void)e;
	assert(off <= in->size && bytes <= in->size - off);
	memcpy(buf, in->data + off, bytes);
	return 0;
}

static int range(void *arg, uint64_t off, uint64_t bytes)
{
	struct input *in = arg;

	assert(bytes && off >= in->end && off <= in->size && bytes <= in->size - off);
	in->end = off + bytes;
	return 0;
}

static int extent(void *arg, uint64_t file_off, uint64_t dev_off, uint64_t bytes)
{
	struct input *in = arg;

	assert(bytes && file_off >= in->end && dev_off <= in->size && bytes <= in->size - dev_off);
	in->end = file_off + bytes;
	return 0;
}

static int name(void *arg, const char *path, const struct imagefs_node *n)
{
	struct input *in = arg;
	struct imagefs_node same;
	struct err e = {0};
	uint8_t buf[5000];
	char *text;
	long got;

	assert(path[0] == '/' && strlen(path) < 4096);
	if (++in->names > NAMES)
		return 1;
	if (n->type == IMAGEFS_SYMLINK && imagefs_link(in->fs, n->ino, &text, &e) == 0)
		free(text);
	got = imagefs_read(in->fs, n->ino, n->bytes / 2, buf, sizeof(buf), &e);
	assert(got <= (long)sizeof(buf) && (got >= 0 || e.msg[0]));
	in->end = 0;
	(void)imagefs_extents(in->fs, n->ino, 0, UINT64_MAX, extent, in, &e);
	in->end = 0;
	(void)imagefs_extents(in->fs, n->ino, 4096, 100, extent, in, &e);
	if (imagefs_lookup(in->fs, path, true, &same, &text, &e) == 0) {
		assert(text[0] == '/');
		free(text);
	}
	in->end = 0;
	if (in->names < 30)
		(void)imagefs_path_metadata(in->fs, path, range, in, &e);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .size = size};
	struct imagefs_device d = {.read = input_read, .arg = &in, .bytes = size};
	struct err e = {0};

	if (imagefs_open(&d, &in.fs, &e)) {
		assert(e.msg[0] && e.code < 0);
		return 0;
	}
	(void)imagefs_walk(in.fs, name, &in, &e);
	in.end = 0;
	(void)imagefs_metadata(in.fs, range, &in, &e);
	imagefs_close(in.fs);
	return 0;
}
