/* SPDX-License-Identifier: Apache-2.0 */
/* oci_layout.c - an OCI image layout directory as a store: reading; writing is in
 * oci_layout_write.c */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "imageref.h"
#include "list.h"
#include "log.h"
#include "oci.h"
#include "store_impl.h"
#include "text.h"

#define REF_NAME "org.opencontainers.image.ref.name"

static struct oci_layout *layout_of(struct store *s)
{
	return container_of(s, struct oci_layout, s);
}

static int read_index(struct oci_layout *l, struct oci_index **ret, struct err *e)
{
	_cleanup_free_ char *path = text_printf("%s/index.json", l->dir);
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	int rc = text_read_file(path, OCI_MANIFEST_MAX_BYTES, &text, &len, e);

	if (rc)
		return rc;
	rc = oci_index_parse(text, len, ret, e);
	return rc ? err_wrap(e, rc, "%s", path) : 0;
}

/* A list of what refers to an image is no image. */
static bool is_referrers(const struct oci_descriptor *d)
{
	const char *name = oci_annotation(d, REF_NAME);

	return name && text_starts_with(name, "sha256-") && strlen(name) == 7 + 64 &&
	       strspn(name + 7, "0123456789abcdef") == 64;
}

static int find_tag(struct oci_layout *l, const struct oci_index *x, const char *tag,
		    const struct oci_descriptor **ret, struct err *e)
{
	char quoted[128];

	if (!tag) {
		size_t images = 0;

		for (size_t i = 0; i < x->manifest_count; i++) {
			if (is_referrers(&x->manifests[i]))
				continue;
			*ret = &x->manifests[i];
			images++;
		}
		if (images == 1)
			return 0;
		return err_set(e, -ENOENT, "%s holds %zu images; name one as oci:%s:TAG", l->s.name,
			       images, l->dir);
	}
	for (size_t i = 0; i < x->manifest_count; i++) {
		const char *name = oci_annotation(&x->manifests[i], REF_NAME);

		if (name && strcmp(name, tag) == 0) {
			*ret = &x->manifests[i];
			return 0;
		}
	}
	return err_set(e, -ENOENT, "%s holds no image with tag \"%s\"", l->s.name,
		       log_quote(tag, quoted, sizeof(quoted)));
}

static char *blob_path(const struct oci_layout *l, const char *digest)
{
	return text_printf("%s/blobs/sha256/%s", l->dir, digest + 7);
}

static int layout_get_manifest(struct store *s, const char *ref, const struct store_ask *ask,
			       struct store_manifest *ret, struct err *e)
{
	struct oci_layout *l = layout_of(s);
	struct oci_index *x = NULL;
	char digest[DIGEST_TEXT_BYTES];
	char *type = NULL, *path;
	int rc;

	(void)ask; /* a file is there or not */
	if (!ref)
		ref = l->digest ? l->digest : l->tag;
	if (ref && digest_valid(ref)) {
		memcpy(digest, ref, sizeof(digest));
	} else {
		const struct oci_descriptor *d = NULL;

		rc = read_index(l, &x, e);
		if (!rc)
			rc = find_tag(l, x, ref, &d, e);
		if (!rc) {
			memcpy(digest, d->digest, sizeof(digest));
			type = text_dup(d->media_type);
		}
		oci_index_free(x);
		if (rc)
			return rc;
	}
	path = blob_path(l, digest);
	rc = text_read_file(path, OCI_MANIFEST_MAX_BYTES, &ret->bytes, &ret->len, e);
	free(path);
	if (rc) {
		free(type);
		return rc;
	}
	ret->media_type = type;
	memcpy(ret->digest, digest, sizeof(digest));
	return 0;
}

static int layout_place(struct store *s, const char *digest, uint64_t bytes, struct blob_place *ret,
			struct err *e)
{
	struct oci_layout *l = layout_of(s);
	_cleanup_free_ char *path = blob_path(l, digest);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		int saved = errno;

		return err_set(e, -saved, "cannot open blob %s: %s", path, strerror(saved));
	}
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "blob %s is not a regular file", path);
	if (bytes != UINT64_MAX && (uint64_t)st.st_size != bytes)
		return err_set(e, -EBADMSG, "blob %s has %llu bytes, its descriptor says %llu",
			       path, (unsigned long long)st.st_size, (unsigned long long)bytes);
	*ret = (struct blob_place){.fd = steal_fd(&fd), .bytes = (uint64_t)st.st_size};
	return 0;
}

static int layout_has(struct store *s, const char *digest, struct err *e)
{
	_cleanup_free_ char *path = blob_path(layout_of(s), digest);
	struct stat st;

	if (stat(path, &st) == 0)
		return S_ISREG(st.st_mode);
	if (errno == ENOENT || errno == ENOTDIR)
		return 0;
	return err_set(e, -errno, "cannot look at %s", path);
}

static int layout_list_tags(struct store *s, size_t max, char ***ret, struct err *e)
{
	struct oci_index *x = NULL;
	int rc = read_index(layout_of(s), &x, e);
	char **tags;
	size_t n = 0;

	if (rc)
		return rc;
	tags = store_tags_new(x->manifest_count);
	for (size_t i = 0; i < x->manifest_count && n < max; i++) {
		const char *name = oci_annotation(&x->manifests[i], REF_NAME);

		if (name)
			tags[n++] = text_dup(name);
	}
	oci_index_free(x);
	*ret = tags;
	return 0;
}

static void layout_close(struct store *s)
{
	struct oci_layout *l = layout_of(s);

	free(l->dir);
	free(l->tag);
	free(l->digest);
	free(l->s.name);
	free(l);
}

static const struct store_ops layout_ops = {
    .close = layout_close,
    .get_manifest = layout_get_manifest,
    .place = layout_place,
    .has = layout_has,
    .put_blob = oci_layout_put_blob,
    .put_manifest = oci_layout_put_manifest,
    .list_tags = layout_list_tags,
};

/* The "oci-layout" file says what the directory is. */
static int check_marker(const char *dir, struct err *e)
{
	_cleanup_free_ char *path = text_printf("%s/oci-layout", dir);
	_cleanup_free_ char *text = NULL;
	const cJSON *v;
	cJSON *root;
	size_t len = 0;
	int rc = text_read_file(path, 64u << 10, &text, &len, e);

	if (rc == -ENOENT && access(dir, F_OK) == 0)
		return err_set(e, -EBADMSG, "%s is not an OCI layout: it has no oci-layout file",
			       dir);
	if (rc)
		return rc;
	root = cJSON_ParseWithLength(text, len);
	v = cJSON_GetObjectItemCaseSensitive(root, "imageLayoutVersion");
	if (!cJSON_IsString(v) || strncmp(v->valuestring, "1.", 2) != 0)
		rc = err_set(e, -EBADMSG, "%s does not say imageLayoutVersion 1.x", path);
	cJSON_Delete(root);
	return rc;
}

int oci_layout_open(const struct imageref *r, bool create, struct store **ret, struct err *e)
{
	struct oci_layout *l;
	int rc = create ? oci_layout_create(r->path, e) : 0;

	if (!rc)
		rc = check_marker(r->path, e);
	if (rc)
		return rc;
	l = xmalloc_zero(1, sizeof(*l));
	l->s.ops = &layout_ops;
	l->s.name = text_printf("oci:%s", r->path);
	l->dir = text_dup(r->path);
	l->tag = text_dup(r->tag);
	l->digest = text_dup(r->digest);
	*ret = &l->s;
	return 0;
}
