/* SPDX-License-Identifier: Apache-2.0 */
/* golden_file.h - the unpacked golden vectors, by name; failures end the test program */
#ifndef HS_LIB_GOLDEN_FILE_H
#define HS_LIB_GOLDEN_FILE_H

#include <stddef.h>
#include <stdint.h>

/* golden_read - a whole file below the vectors' directory; caller frees */
uint8_t *golden_read(const char *name, size_t *ret_bytes);

/* golden_layer - the LSMT bytes in a blob: tar envelope and ZFile taken off; caller frees */
uint8_t *golden_layer(const char *name, size_t *ret_bytes);

/* golden_zfile - decode all of a ZFile in memory; NULL when any part of it is refused */
uint8_t *golden_zfile(const uint8_t *p, size_t bytes, size_t *ret_bytes);

/* One row of manifest.tsv; fields are "-" when empty. */
struct golden_row {
	char *name, *kind, *expected;
	char *size, *image_sha256, *mapped_sha256, *mappings;
};

/* golden_manifest - all rows, ended by one with a NULL name; kept until exit */
const struct golden_row *golden_manifest(void);

#endif
