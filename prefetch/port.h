/* SPDX-License-Identifier: Apache-2.0 */
/*
 * port.h - a prefetch list carried over to another build of its image
 *
 * By path and file offset. That the content is the same is known where the new image stores the
 * bytes in the same place of the same blob as the old list names; elsewhere the same offset of a
 * file of the same path is the best guess there is.
 */
#ifndef HS_PREFETCH_PORT_H
#define HS_PREFETCH_PORT_H

#include <stddef.h>
#include <stdint.h>

#include "plan.h"

struct err;
struct hs_image;
struct imagefs;
struct prefetch_list;

/* Plain bytes of files that the old list touches, and what became of them. */
struct port_report {
	uint64_t content_bytes; /* known to be the same */
	uint64_t offset_bytes;	/* same path and offset */
	uint64_t lost_bytes;	/* no such file, or too short now */
	size_t files, lost_files;
	uint64_t device_bytes; /* metadata of the old image, replaced by that of the files' */
};

/*
 * prefetch_port - plan for @img, whose file system is @fs, by the touches of @old
 * @name: of the image, as it is to be told
 * Returns 0, -EINVAL @old has no touches of files, or an error of reading the image or planning.
 */
int prefetch_port(const struct prefetch_list *old, struct hs_image *img, struct imagefs *fs,
		  const char *name, const struct plan_options *o, struct prefetch_list **ret,
		  struct port_report *ret_report, struct err *e);

#endif
