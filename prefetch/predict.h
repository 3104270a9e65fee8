/* SPDX-License-Identifier: Apache-2.0 */
/*
 * predict.h - the static list: what every start of an image must read, found without running it
 *
 * The file system's metadata; the program of the image's config with its interpreters and
 * libraries, of each the parts that starting reads (elf_parts.h); what is named by arguments,
 * environment and scripts; the modules a Python or Node program imports; and the few files every
 * start reads. A recorded list is better: this one is for images that have none.
 */
#ifndef HS_PREFETCH_PREDICT_H
#define HS_PREFETCH_PREDICT_H

#include <stdint.h>

struct err;
struct hs_image;
struct imagefs;
struct plan_options;
struct prefetch_list;

struct predict_options {
	uint64_t metadata_bytes; /* more than this: only that of the files in the list; 64 MiB */
	uint64_t file_bytes;	 /* of all touches of files, plain; 256 MiB */
	uint64_t text_bytes;	 /* programs with larger code: without it; 16 MiB */
	uint64_t library_text_bytes; /* the same for libraries; 1 MiB */
};

void predict_options_default(struct predict_options *o);

/*
 * predict_touches - origin, files and touches of a new list, in the order of need
 * @config: the image's config as JSON; NULL: none, then metadata only
 * at_ms is a guess: as if 40 MB arrived in a second. The rest of the list is left empty, the time
 * of creation too. Deterministic. Returns 0, -EBADMSG damaged config or file system, -EFBIG, or an
 * error of reading the image.
 */
int predict_touches(struct imagefs *fs, const char *config, const struct predict_options *o,
		    struct prefetch_list **ret, struct err *e);

/* predict_list - the same for an opened image, with blobs and ranges (ranges.h) */
int predict_list(struct hs_image *img, struct prefetch_list **ret, struct err *e);
/* predict_list_planned - and with other options for the ranges than the default ones */
int predict_list_planned(struct hs_image *img, const struct plan_options *o,
			 struct prefetch_list **ret, struct err *e);

#endif
