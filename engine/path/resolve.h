/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolve.h - from an image name to the blobs of its layers
 *
 * Control plane, blocks. Manifests and image configs are kept in the cache as objects, and so is
 * what a tag last meant, so that a warm open asks the registry for a tag's digest or for nothing.
 */
#ifndef HS_PATH_RESOLVE_H
#define HS_PATH_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>

#include "oci.h"
#include "open.h"

struct cache;
struct err;
struct net;
struct store;
struct store_manifest;

/* When to ask the registry what a tag means. */
enum pull { PULL_ALWAYS, PULL_MISSING, PULL_NEVER };

struct resolve_env {
	struct net *net;
	struct cache *cache;
	enum pull pull;
	struct oci_platform platform;
};

/* Zero-initialise. The blobs in @specs pass to image_open(); the rest stays here. */
struct resolved {
	struct layer_spec *specs; /* bottom first */
	size_t count;
	struct store *store; /* NULL for a config.v1.json */
	char digest[72];     /* of the manifest; "" for a config.v1.json */
	char *config_digest; /* NULL for a config.v1.json */
	char *config;	     /* the image config, when the manifest brought it along; or NULL */
	bool blobs_taken;    /* set when image_open() was called */
	bool remote;	     /* @store is a registry: asking it is what --pull is about */
	bool warmed;	     /* connections to it have been opened ahead */
};

/*
 * resolve_image - name -> manifest -> blobs; no layer byte is read
 * Returns 0, -EINVAL bad name, -ENOENT, -EACCES, -EBADMSG, -EOPNOTSUPP not an overlaybd image (the
 * message says how to convert it), -EIO, -ETIMEDOUT.
 */
int resolve_image(const struct resolve_env *env, const char *name, struct resolved *ret,
		  struct err *e);

/*
 * resolve_manifest - name -> store and the manifest of the wanted platform, whatever its layers are
 * @ret_store: store_close() by the caller; @ret: store_manifest_done(), its media_type is set
 * Returns as resolve_image(), and -EOPNOTSUPP for a config.v1.json.
 */
int resolve_manifest(const struct resolve_env *env, const char *name, struct store **ret_store,
		     struct store_manifest *ret, struct err *e);

/* resolve_config - the OCI image config, from the cache or the store; caller frees */
int resolve_config(const struct resolve_env *env, const struct resolved *r, char **ret,
		   struct err *e);

void resolved_done(struct resolved *r);

#endif
