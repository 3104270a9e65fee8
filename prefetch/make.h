/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make.h - a prefetch list out of what starts were seen to read
 *
 * Inputs are traces (trace.h), and what overlaybd has: its binary traces and its text lists of
 * files, from wherever they came. A trace of this very image, by digest, counts with its device
 * offsets; any other (a start on overlayfs, another build) by path and file offset alone, with the
 * metadata that opening the files takes.
 */
#ifndef HS_PREFETCH_MAKE_H
#define HS_PREFETCH_MAKE_H

#include <stddef.h>
#include <stdint.h>

#include "file_list.h"
#include "plan.h"

struct err;
struct hs_image;
struct imagefs;
struct obd_trace_record;
struct prefetch_list;
struct trace;

enum make_kind { MAKE_TRACE = 1, MAKE_OBD_TRACE, MAKE_FILE_LIST };

struct make_input {
	enum make_kind kind;
	struct trace *trace;
	struct obd_trace_record *records;
	size_t record_count;
	struct file_list files;
};

/*
 * make_input_parse - which kind it is, its first bytes tell; errors of the parsers
 * @name: for messages. make_input_load - the same for a file.
 */
int make_input_parse(const char *name, const void *p, size_t bytes, struct make_input *ret,
		     struct err *e);
int make_input_load(const char *path, struct make_input *ret, struct err *e);
void make_input_done(struct make_input *in);

/* What came of it, for people. */
struct make_report {
	uint64_t events, demand_events;
	uint64_t lost_events, unattributed_events;
	uint64_t demand_bytes;		      /* plain, each byte of a file or the device once */
	uint64_t missing_files, lost_touches; /* not in this image, or behind the file's end */
	unsigned int foreign, truncated; /* traces of something else than this image; cut off */
};

/*
 * prefetch_make - plan for @img, whose file system is @fs; both may be read
 * @name: of the image, as it is to be told. @ret: both halves, with blobs
 * Returns 0, -EINVAL no input, or what reading the image or planning returned.
 */
int prefetch_make(struct hs_image *img, struct imagefs *fs, const char *name,
		  const struct make_input *in, size_t count, const struct plan_options *o,
		  struct prefetch_list **ret, struct make_report *ret_report, struct err *e);

#endif
