/* SPDX-License-Identifier: Apache-2.0 */
/* resolve_local.h - images described by an overlaybd config.v1.json; internal to resolve */
#ifndef HS_PATH_RESOLVE_LOCAL_H
#define HS_PATH_RESOLVE_LOCAL_H

#include <stdint.h>

struct blob;
struct err;
struct resolve_env;
struct resolved;
struct store;

/* resolve_local - open what config @path names; relative names are relative to the working
 * directory, remote layers are those that no file or directory holds */
int resolve_local(const struct resolve_env *env, const char *path, struct resolved *r,
		  struct err *e);

/* resolve_place_blob - a blob of a store, local or behind the cache; no request is made */
int resolve_place_blob(const struct resolve_env *env, struct store *s, const char *digest,
		       uint64_t bytes, struct blob **ret, struct err *e);

#endif
