/* SPDX-License-Identifier: Apache-2.0 */
/* turbo.c - see turbo.h */
#include "turbo.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blob.h"
#include "bytes.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "layer_tar.h"
#include "oci.h"
#include "resolve.h"
#include "resolve_local.h"
#include "text.h"

#define ARCHIVE_MAX_BYTES (256u << 20) /* of the layer archive, compressed */
#define GZIP_META_SIZE_AT 33u	       /* gzip_file_size in gzip.meta */
#define MEMBER_MAX_BYTES  (512u << 20)
#define MEMBERS_MAX_BYTES (1u << 30)

/* A blob over memory: the metadata is small and read often. */
static int blob_in_memory(const char *name, const uint8_t *p, size_t len, struct blob **ret,
			  struct err *e)
{
	_cleanup_fd_ int fd = memfd_create("headstart-turbo", MFD_CLOEXEC);

	for (size_t at = 0; fd >= 0 && at < len;) {
		ssize_t n = pwrite(fd, p + at, len - at, (off_t)at);

		if (n < 0 && errno != EINTR)
			return err_set(e, -errno, "cannot hold layer metadata: %s",
				       strerror(errno));
		at += n > 0 ? (size_t)n : 0;
	}
	if (fd < 0)
		return err_set(e, -errno, "cannot hold layer metadata: %s", strerror(errno));
	*ret = blob_new_local(name, steal_fd(&fd), 0, len);
	return 0;
}

struct taking {
	const char *name; /* of the layer */
	struct layer_spec *spec;
};

static int take_member(void *arg, const char *name, struct layer_tar_member *m, struct err *e)
{
	struct taking *t = arg;
	struct layer_spec *spec = t->spec;
	_cleanup_free_ uint8_t *data = NULL;
	size_t len;
	int rc = 0;

	if (!spec->blob && text_ends_with(name, ".fs.meta")) {
		rc = layer_tar_read(m, MEMBER_MAX_BYTES, &data, &len, e);
		if (!rc)
			rc = blob_in_memory(t->name, data, len, &spec->blob, e);
	} else if (!spec->gzip_index && strcmp(name, "gzip.meta") == 0) {
		rc = layer_tar_read(m, MEMBER_MAX_BYTES, &spec->gzip_index, &spec->gzip_index_bytes,
				    e);
	}
	return rc;
}

static int open_archive(const struct resolve_env *env, const struct resolved *r,
			const struct oci_descriptor *d, struct layer_spec *spec, struct err *e)
{
	struct taking t = {.name = d->digest, .spec = spec};
	_cleanup_free_ char *bytes = NULL;
	size_t len;
	int rc;

	rc = resolve_object(env, r, "layer archive", d->digest, ARCHIVE_MAX_BYTES, &bytes, &len, e);
	if (!rc)
		rc = layer_tar_walk(bytes, len, MEMBERS_MAX_BYTES, take_member, &t, e);
	if (!rc && !spec->blob)
		rc = err_set(e, -EBADMSG, "no file system metadata (*.fs.meta) in it");
	return rc;
}

int turbo_layer(const struct resolve_env *env, const struct resolved *r,
		const struct oci_descriptor *d, struct layer_spec *spec, struct err *e)
{
	const char *target = oci_annotation(d, OBD_ANNOTATION_TARGET);
	uint64_t bytes;
	int rc;

	if (!target)
		target = oci_annotation(d, "containerd.io/snapshot/fastoci/target-digest");
	if (!digest_valid(target))
		return err_set(e, -EBADMSG, "layer %s: its target digest is malformed", d->digest);
	spec->kind = LAYER_WARP;
	rc = open_archive(env, r, d, spec, e);
	if (rc)
		return err_wrap(e, rc, "TurboOCI layer %s", d->digest);
	/* The gzip index says how large its target is; others are asked for. */
	if (spec->gzip_index_bytes >= GZIP_META_SIZE_AT + 8)
		bytes = get_le64(spec->gzip_index + GZIP_META_SIZE_AT);
	else
		rc = resolve_blob_bytes(env, r, target, &bytes, e);
	if (rc)
		return err_wrap(e, rc, "original layer %s", target);
	return resolve_place_blob(env, r->store, target, bytes, &spec->target, e);
}
