/* SPDX-License-Identifier: Apache-2.0 */
/* gzidx_layout.h - fields of gzip.meta (overlaybd-format 7.3); private to the gzidx files */
#ifndef HS_FORMAT_GZIDX_LAYOUT_H
#define HS_FORMAT_GZIDX_LAYOUT_H

#include <stdint.h>

static const uint8_t GZIDX_MAGIC[8] = {'d', 'd', 'g', 'z', 'i', 'd', 'x', 0};

enum {
	GZIDX_MAJOR = 8,
	GZIDX_ALGO = 10,
	GZIDX_LEVEL = 11,
	GZIDX_SPAN = 13,
	GZIDX_WINDOW = 17,
	GZIDX_ENTRY_SIZE = 21,
	GZIDX_COUNT = 25,
	GZIDX_GZIP_BYTES = 33,
	GZIDX_FILE_BYTES = 41,
	GZIDX_PLAIN_BYTES = 49,
	GZIDX_INDEX_START = 313,
	GZIDX_AREA_BYTES = 321,
	GZIDX_CRC = 329,
	GZIDX_HEADER_BYTES = 333,
};

enum {
	GZIDX_ENTRY_OUT = 0,
	GZIDX_ENTRY_IN = 8,
	GZIDX_ENTRY_WIN = 16,
	GZIDX_ENTRY_BITS = 24,
	GZIDX_ENTRY_WIN_BYTES = 25,
	GZIDX_ENTRY_BYTES = 29,
};

#define GZIDX_ALGO_RAW	   0
#define GZIDX_ALGO_ZLIB	   1
#define GZIDX_WINDOW_BYTES 32768u
#define GZIDX_MAX_POINTS   (4u << 20) /* 4 TiB of output at the usual distance of 1 MiB */

#endif
