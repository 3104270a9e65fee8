/* SPDX-License-Identifier: Apache-2.0 */
/* turbo.c - see turbo.h */
#include "turbo.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blob.h"
#include "bytes.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "oci.h"
#include "resolve.h"
#include "resolve_local.h"
#include "text.h"

#define ARCHIVE_MAX_BYTES (256u << 20) /* of the layer archive, compressed */
#define GZIP_META_SIZE_AT 33u	       /* gzip_file_size in gzip.meta */
#define MEMBER_MAX_BYTES  (512u << 20)

static int read_member(struct archive *a, struct archive_entry *entry, uint8_t **ret,
		       size_t *ret_len, struct err *e)
{
	int64_t size = archive_entry_size(entry);
	_cleanup_free_ uint8_t *buf = NULL;

	if (size < 0 || size > (int64_t)MEMBER_MAX_BYTES)
		return err_set(e, -EBADMSG, "member of %lld bytes is too large", (long long)size);
	buf = malloc((size_t)size + 1);
	if (!buf)
		abort();
	if (archive_read_data(a, buf, (size_t)size) != size)
		return err_set(e, -EBADMSG, "the layer archive is cut short");
	*ret = steal_ptr(buf);
	*ret_len = (size_t)size;
	return 0;
}

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

static int take_members(struct archive *a, const char *name, struct layer_spec *spec, struct err *e)
{
	struct archive_entry *entry;
	int rc = 0, n;

	while (!rc && (n = archive_read_next_header(a, &entry)) != ARCHIVE_EOF) {
		const char *path = archive_entry_pathname(entry);
		_cleanup_free_ uint8_t *data = NULL;
		size_t len;

		if (n < ARCHIVE_WARN || !path)
			return err_set(e, -EBADMSG, "not a tar archive: %s",
				       archive_error_string(a) ? archive_error_string(a)
							       : "no name");
		if (!spec->blob && text_ends_with(path, ".fs.meta")) {
			rc = read_member(a, entry, &data, &len, e);
			if (!rc)
				rc = blob_in_memory(name, data, len, &spec->blob, e);
		} else if (!spec->gzip_index && strcmp(path, "gzip.meta") == 0) {
			rc = read_member(a, entry, &spec->gzip_index, &spec->gzip_index_bytes, e);
		}
	}
	if (!rc && !spec->blob)
		rc = err_set(e, -EBADMSG, "no file system metadata (*.fs.meta) in it");
	return rc;
}

static int open_archive(const struct resolve_env *env, const struct resolved *r,
			const struct oci_descriptor *d, struct layer_spec *spec, struct err *e)
{
	_cleanup_free_ char *bytes = NULL;
	struct archive *a;
	size_t len;
	int rc;

	rc = resolve_object(env, r, "layer archive", d->digest, ARCHIVE_MAX_BYTES, &bytes, &len, e);
	if (rc)
		return rc;
	a = archive_read_new();
	if (!a)
		abort();
	if (archive_read_support_filter_gzip(a) < ARCHIVE_WARN ||
	    archive_read_support_format_tar(a) < ARCHIVE_WARN ||
	    archive_read_open_memory(a, bytes, len) != ARCHIVE_OK)
		rc = err_set(e, -EBADMSG, "not a tar archive: %s",
			     archive_error_string(a) ? archive_error_string(a) : "empty");
	if (!rc)
		rc = take_members(a, d->digest, spec, e);
	archive_read_free(a);
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
