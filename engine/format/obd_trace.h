/* SPDX-License-Identifier: Apache-2.0 */
/*
 * obd_trace.h - overlaybd's own trace file (overlaybd-format 6.1) and text file list (6.3)
 */
#ifndef HS_FORMAT_OBD_TRACE_H
#define HS_FORMAT_OBD_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "range.h"

struct err;

#define OBD_TRACE_MAX_COUNT 1048576u

struct obd_trace_record {
	uint32_t layer;	    /* 0 = bottom */
	struct range range; /* of the decompressed layer */
};

/*
 * obd_trace_parse - whole file
 * @ret_records: caller frees. Returns 0, -ENOENT not a binary trace (magic), -EBADMSG wrong
 * size, checksum, operation or a count over OBD_TRACE_MAX_COUNT.
 */
int obd_trace_parse(const void *file, size_t bytes, struct obd_trace_record **ret_records,
		    size_t *ret_count, struct err *e);

/* obd_trace_encode - the reverse; @ret_file: caller frees */
int obd_trace_encode(const struct obd_trace_record *records, size_t count, uint8_t **ret_file,
		     size_t *ret_bytes, struct err *e);

#endif
