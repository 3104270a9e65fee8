/* SPDX-License-Identifier: Apache-2.0 */
/* imagefs_image.c - the file system of an image that the engine has opened */
#include "imagefs.h"

#include "headstart.h"

static int image_read(void *arg, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	return hs_image_read(arg, buf, bytes, off, e);
}

int imagefs_open_image(struct hs_image *img, struct imagefs **ret, struct err *e)
{
	struct imagefs_device d = {.read = image_read, .arg = img, .bytes = hs_image_bytes(img)};

	return imagefs_open(&d, ret, e);
}
