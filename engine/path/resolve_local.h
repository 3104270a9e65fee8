/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolve_local.h - images described by an overlaybd config.v1.json, and what the files of resolve
 * share; internal to them
 */
#ifndef HS_PATH_RESOLVE_LOCAL_H
#define HS_PATH_RESOLVE_LOCAL_H

#include <stddef.h>
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

/*
 * resolve_object - a small whole blob: from the cache, else from the store and then kept
 * @what: "image config", for messages. Caller frees *@ret. Several threads may ask at once.
 */
int resolve_object(const struct resolve_env *env, const struct resolved *r, const char *what,
		   const char *digest, size_t max_bytes, char **ret, size_t *ret_len,
		   struct err *e);

/*
 * resolve_blob_bytes - size of a blob that no manifest tells: remembered in the cache, else asked
 * for Several threads may ask at once.
 */
int resolve_blob_bytes(const struct resolve_env *env, const struct resolved *r, const char *digest,
		       uint64_t *ret_bytes, struct err *e);

#endif
