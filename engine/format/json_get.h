/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_get.h - typed access to members of a JSON object, over cJSON
 *
 * Absent and null are the same; any other type than the asked one is -EBADMSG with the key in the
 * message. Private to the format module.
 */
#ifndef HS_FORMAT_JSON_GET_H
#define HS_FORMAT_JSON_GET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cJSON;
struct err;

/* json_get_root - parse a document that must be one object; cJSON_Delete() by the caller */
int json_get_root(const char *json, size_t bytes, struct cJSON **ret, struct err *e);

/* json_get_object / _array - *ret is NULL when absent; borrowed from @o */
int json_get_object(const struct cJSON *o, const char *key, struct cJSON **ret, struct err *e);
int json_get_array(const struct cJSON *o, const char *key, struct cJSON **ret, struct err *e);

/* json_get_string - a copy for the caller to free; NULL when absent or empty */
int json_get_string(const struct cJSON *o, const char *key, char **ret, struct err *e);

/* json_get_digest - the same, and it must be valid sha256 text */
int json_get_digest(const struct cJSON *o, const char *key, char **ret, struct err *e);

/* json_get_uint - a whole number 0..2^53; *ret is left alone when absent */
int json_get_uint(const struct cJSON *o, const char *key, uint64_t *ret, struct err *e);

/* json_get_bool - *ret is left alone when absent */
int json_get_bool(const struct cJSON *o, const char *key, bool *ret, struct err *e);

/*
 * json_get_strings - an array of strings as a NULL-terminated list, never NULL
 * @ret: json_free_strings() by the caller
 */
int json_get_strings(const struct cJSON *o, const char *key, char ***ret, size_t *ret_count,
		     struct err *e);
void json_free_strings(char **list); /* NULL is fine */

#endif
