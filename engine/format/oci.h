/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci.h - OCI and Docker schema 2 manifests, indexes and image configs
 *
 * Parsers check types, digests and sizes, and bound counts; unknown members are ignored. Where an
 * image is rewritten the JSON tree itself is edited, so nothing that was there is lost.
 */
#ifndef HS_FORMAT_OCI_H
#define HS_FORMAT_OCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define OCI_MANIFEST_MAX_BYTES (4u << 20)
#define OCI_CONFIG_MAX_BYTES   (16u << 20)
#define OCI_MAX_LAYERS	       1024
#define OCI_MAX_MANIFESTS      1024

#define OCI_TYPE_MANIFEST      "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_INDEX	       "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_CONFIG	       "application/vnd.oci.image.config.v1+json"
#define OCI_TYPE_EMPTY	       "application/vnd.oci.empty.v1+json" /* the two bytes "{}" */
#define OCI_TYPE_LAYER	       "application/vnd.oci.image.layer.v1.tar"
#define OCI_TYPE_LAYER_GZIP    "application/vnd.oci.image.layer.v1.tar+gzip"
#define OCI_TYPE_LAYER_ZSTD    "application/vnd.oci.image.layer.v1.tar+zstd"
#define DOCKER_TYPE_MANIFEST   "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_TYPE_LIST       "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_TYPE_CONFIG     "application/vnd.docker.container.image.v1+json"
#define DOCKER_TYPE_LAYER      "application/vnd.docker.image.rootfs.diff.tar"
#define DOCKER_TYPE_LAYER_GZIP "application/vnd.docker.image.rootfs.diff.tar.gzip"

#define OCI_ANNOTATION_CREATED "org.opencontainers.image.created"

#define OBD_ANNOTATION_DIGEST  "containerd.io/snapshot/overlaybd/blob-digest"
#define OBD_ANNOTATION_SIZE    "containerd.io/snapshot/overlaybd/blob-size"
#define OBD_ANNOTATION_VERSION "containerd.io/snapshot/overlaybd/version"
#define OBD_ANNOTATION_FSTYPE  "containerd.io/snapshot/overlaybd/blob-fs-type"
#define OBD_ANNOTATION_ACCEL   "containerd.io/snapshot/overlaybd/acceleration-layer"
#define OBD_ANNOTATION_TARGET  "containerd.io/snapshot/overlaybd/turbo-oci/target-digest"

struct oci_annotation {
	char *key;
	char *value;
};

struct oci_platform {
	char *os, *architecture, *variant; /* NULL when not given */
};

/* A descriptor; strings owned by whatever it is part of. */
struct oci_descriptor {
	char *media_type;
	char *digest; /* valid sha256 text */
	uint64_t size;
	struct oci_annotation *annotations;
	size_t annotation_count;
	struct oci_platform platform; /* index entries */
	char *artifact_type;	      /* NULL when not given */
	char *data; /* inline content, NUL behind; only when @digest and @size fit it */
};

/* oci_annotation - value of @key, or NULL */
const char *oci_annotation(const struct oci_descriptor *d, const char *key);

struct oci_manifest {
	char *media_type;
	bool docker; /* schema 2 media types */
	struct oci_descriptor config;
	struct oci_descriptor *layers; /* bottom first */
	size_t layer_count;
	char *artifact_type;	       /* NULL when not given */
	struct oci_descriptor subject; /* what it refers to; digest NULL: nothing known */
	struct oci_annotation *annotations;
	size_t annotation_count;
};

struct oci_index {
	char *media_type;
	struct oci_descriptor *manifests;
	size_t manifest_count;
};

/* What a container needs of the image config. Absent strings are NULL, lists are empty. */
struct oci_config {
	struct oci_platform platform;
	char **diff_ids;
	size_t diff_id_count;
	char **env, **entrypoint, **cmd, **volumes; /* NULL-terminated, never NULL themselves */
	char *user, *working_dir, *stop_signal;
};

enum oci_kind { OCI_KIND_MANIFEST, OCI_KIND_INDEX };

/*
 * oci_kind_of - tell a manifest from an index by mediaType, else by its members
 * Returns 0, -EBADMSG not JSON or neither, -EOPNOTSUPP schema 1.
 */
int oci_kind_of(const char *json, size_t bytes, enum oci_kind *ret, struct err *e);

int oci_manifest_parse(const char *json, size_t bytes, struct oci_manifest **ret, struct err *e);
void oci_manifest_free(struct oci_manifest *m); /* NULL is fine */
const char *oci_manifest_annotation(const struct oci_manifest *m, const char *key);
/* oci_acceleration - the top layer, when it is a trace for overlaybd's own prefetcher; or NULL */
const struct oci_descriptor *oci_acceleration(const struct oci_manifest *m);

int oci_index_parse(const char *json, size_t bytes, struct oci_index **ret, struct err *e);
/*
 * oci_referrers_parse - a list of referrers: an index that many hands write
 * Entries that are not understood (another digest algorithm, say) are left out instead of refused.
 */
int oci_referrers_parse(const char *json, size_t bytes, struct oci_index **ret, struct err *e);
void oci_index_free(struct oci_index *i); /* NULL is fine */

int oci_config_parse(const char *json, size_t bytes, struct oci_config **ret, struct err *e);
void oci_config_free(struct oci_config *c); /* NULL is fine */

/*
 * oci_platform_parse - "linux/arm64/v8"; -EINVAL otherwise. oci_platform_done() by the caller
 * oci_platform_host  - this machine's
 * oci_index_pick     - first entry matching @want, one of the very variant (or none) before others;
 *                      attestations never match; an only entry without platform does; NULL if none
 */
int oci_platform_parse(const char *text, struct oci_platform *ret, struct err *e);
void oci_platform_host(struct oci_platform *ret);
void oci_platform_done(struct oci_platform *p);
const struct oci_descriptor *oci_index_pick(const struct oci_index *i,
					    const struct oci_platform *want);

/*
 * oci_chain_id - chain ID of the layers up to and including @diff_ids[n]
 * @prev: chain ID of layer n-1, NULL for n == 0
 */
void oci_chain_id(const char *prev, const char *diff_id, char out[static 72]);

#endif
