/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turbo.h - TurboOCI layers in a registry: a small archive of file system metadata and gzip index
 * beside the original layer (overlaybd-format 7.1)
 *
 * The archive is fetched as a whole (a few percent of the layer), kept in the cache as an object
 * and held in memory; the original layer is read lazily.
 */
#ifndef HS_PATH_TURBO_H
#define HS_PATH_TURBO_H

struct err;
struct layer_spec;
struct oci_descriptor;
struct resolve_env;
struct resolved;

/*
 * turbo_layer - make @spec of the layer archive @d; 0, -EBADMSG, or an error of the store
 * Of @r only the store is used: several threads may make layers of one image.
 */
int turbo_layer(const struct resolve_env *env, const struct resolved *r,
		const struct oci_descriptor *d, struct layer_spec *spec, struct err *e);

#endif
