/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_config.h - overlaybd's config.v1.json (overlaybd-format 3.1), checked, typed
 */
#ifndef HS_FORMAT_IMAGE_CONFIG_H
#define HS_FORMAT_IMAGE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* Absent strings are NULL. Owned by the image_config. */
struct image_config_lower {
	char *file;
	char *dir;
	char *digest;
	uint64_t size; /* 0 when not given */
	char *target_file;
	char *target_digest;
	char *gzip_index;
};

struct image_config {
	char *repo_blob_url;
	struct image_config_lower *lowers; /* bottom first; acceleration layer removed */
	size_t lower_count;		   /* <= LSMT_MAX_LAYERS */
	char *accel_dir;		   /* directory of the acceleration layer, or NULL */
	char *upper_index, *upper_data;	   /* both or none */
	char *upper_target, *upper_gzip_index;
	char *result_file;
	char *record_trace_path;
};

/*
 * image_config_parse - decode and check
 * A wrong JSON type, no layer at all, more than 255, half an upper, or a lower that names
 * nothing is -EBADMSG with the key in the message. Unknown keys are ignored.
 */
int image_config_parse(const char *json, size_t bytes, struct image_config **ret, struct err *e);
void image_config_free(struct image_config *c); /* NULL is fine */

#endif
