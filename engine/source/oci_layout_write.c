/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci_layout_write.c - writing into an OCI image layout
 *
 * A blob appears under its digest when all of it is on disk and verified: unnamed file, fsync,
 * link. index.json is replaced under a lock on the directory. What a killed writer may leave (only
 * where unnamed files are not possible) is locked by its writer while it lives, so that the next
 * run can tell junk from work.
 */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "list.h"
#include "oci.h"
#include "range.h"
#include "store_impl.h"
#include "text.h"

#define REF_NAME    "org.opencontainers.image.ref.name"
#define TMP_PREFIX  ".tmp-headstart-"
#define PIECE_BYTES (1u << 20)
#define MARKER	    "{\"imageLayoutVersion\":\"1.0.0\"}\n"
#define EMPTY_INDEX "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[]}\n"

static struct oci_layout *layout_of(struct store *s)
{
	return container_of(s, struct oci_layout, s);
}

/* The directory, locked until it is closed. */
static int lock_dir(const char *dir, int *ret_fd, struct err *e)
{
	_cleanup_fd_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		rc = -errno;
	while (!rc && flock(fd, LOCK_EX))
		if (errno != EINTR)
			rc = -errno;
	if (rc)
		return err_set(e, rc, "cannot lock %s: %s", dir, strerror(-rc));
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int sync_dir(const char *dir, struct err *e)
{
	_cleanup_fd_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd)) {
		int saved = errno;

		return err_set(e, -saved, "cannot sync %s: %s", dir, strerror(saved));
	}
	return 0;
}

/* Named temporary files whose writer is gone. */
static void clean_blobs(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *x;

	while (d && (x = readdir(d))) {
		int fd;

		if (!text_starts_with(x->d_name, TMP_PREFIX))
			continue;
		fd = openat(dirfd(d), x->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)unlinkat(dirfd(d), x->d_name, 0); /* else the next run does it */
		if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
}

/* Half-written index files: with the lock held, nobody is writing one. */
static void clean_index(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *x;

	while (d && (x = readdir(d)))
		if (text_starts_with(x->d_name, "index.json.tmp-") ||
		    text_starts_with(x->d_name, "oci-layout.tmp-"))
			(void)unlinkat(dirfd(d), x->d_name, 0); /* else the next run does it */
	if (d)
		closedir(d);
}

static int write_if_missing(const char *dir, const char *name, const char *text, struct err *e)
{
	_cleanup_free_ char *path = text_printf("%s/%s", dir, name);

	if (access(path, F_OK) == 0)
		return 0;
	return text_write_file(path, text, strlen(text), 0644, e);
}

/* A directory that holds something else is not turned into a layout. */
static bool foreign(const char *dir)
{
	_cleanup_free_ char *marker = text_printf("%s/oci-layout", dir);
	bool other = false;
	struct dirent *x;
	DIR *d;

	if (access(marker, F_OK) == 0)
		return false;
	d = opendir(dir);
	while (d && (x = readdir(d)))
		if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0 &&
		    strcmp(x->d_name, "blobs") != 0 && strcmp(x->d_name, "index.json") != 0 &&
		    !text_starts_with(x->d_name, "oci-layout.tmp-") &&
		    !text_starts_with(x->d_name, "index.json.tmp-"))
			other = true;
	if (d)
		closedir(d);
	return other;
}

int oci_layout_create(const char *dir, struct err *e)
{
	_cleanup_free_ char *blobs = text_printf("%s/blobs/sha256", dir);
	_cleanup_fd_ int lock = -1;
	int rc;

	if (foreign(dir))
		return err_set(e, -EBADMSG,
			       "%s is not empty and not an OCI layout; name another directory",
			       dir);
	rc = text_mkdirs(blobs, 0755, e);
	if (!rc)
		rc = lock_dir(dir, &lock, e);
	if (rc)
		return rc;
	clean_index(dir);
	clean_blobs(blobs);
	rc = write_if_missing(dir, "index.json", EMPTY_INDEX, e);
	return rc ? rc : write_if_missing(dir, "oci-layout", MARKER, e);
}

/* --- blobs -------------------------------------------------------------------------------------
 */

static int write_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* @ret_name: NULL when the file has no name yet; else locked and to be renamed or unlinked. */
static int open_temporary(const char *dir, int *ret_fd, char **ret_name, struct err *e)
{
	_cleanup_free_ char *name = NULL;
	int fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
	int rc;

	if (fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT) {
		rc = -errno;
		return err_set(e, rc, "cannot write to %s: %s", dir, strerror(-rc));
	}
	name = text_printf("%s/" TMP_PREFIX "XXXXXX", dir);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		return err_set(e, rc, "cannot write to %s: %s", dir, strerror(-rc));
	}
	/* between these two lines the cleaner could take it: then the rename fails, cleanly */
	(void)flock(fd, LOCK_EX | LOCK_NB);
	(void)fchmod(fd, 0644); /* readable by others is a courtesy */
	*ret_fd = fd;
	*ret_name = steal_ptr(name);
	return 0;
}

static int give_name(int fd, const char *tmp, const char *path)
{
	char self[64];

	if (tmp)
		return rename(tmp, path) ? -errno : 0;
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd); /* fits */
	if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) && errno != EEXIST)
		return -errno;
	return 0;
}

static int fill(int fd, const char *digest, uint64_t bytes,
		int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
		struct err *e)
{
	_cleanup_free_ char *buf = xmalloc_zero(1, PIECE_BYTES);
	struct digest *d = digest_new();
	char got[DIGEST_TEXT_BYTES];
	uint64_t off = 0;
	int rc = 0;

	while (off < bytes && !rc) {
		size_t len = (size_t)min_u64(bytes - off, PIECE_BYTES);

		rc = source(arg, off, buf, len);
		if (rc) {
			err_set(e, rc, "the data for blob %.19s... could not be made", digest);
			break;
		}
		digest_add(d, buf, len);
		rc = write_all(fd, buf, len);
		if (rc)
			err_set(e, rc, "cannot write blob %.19s...: %s", digest, strerror(-rc));
		off += len;
	}
	digest_text(d, got);
	digest_free(d);
	if (!rc && strcmp(got, digest) != 0)
		rc =
		    err_set(e, -EBADMSG, "data for blob %.19s... has digest %.19s...", digest, got);
	return rc;
}

int oci_layout_put_blob(struct store *s, const char *digest, uint64_t bytes,
			int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
			struct err *e)
{
	struct oci_layout *l = layout_of(s);
	_cleanup_free_ char *dir = text_printf("%s/blobs/sha256", l->dir);
	_cleanup_free_ char *path = text_printf("%s/%s", dir, digest + 7);
	_cleanup_free_ char *tmp = NULL;
	_cleanup_fd_ int fd = -1;
	struct stat st;
	int rc;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes)
		return 0;
	rc = open_temporary(dir, &fd, &tmp, e);
	if (rc)
		return rc;
	rc = fill(fd, digest, bytes, source, arg, e);
	if (!rc && fsync(fd))
		rc = err_set(e, -errno, "cannot sync blob %.19s...", digest);
	if (!rc) {
		/* one of another size was damaged: it goes */
		if (stat(path, &st) == 0 && (uint64_t)st.st_size != bytes)
			(void)unlink(path);
		rc = give_name(fd, tmp, path);
		if (rc)
			err_set(e, rc, "cannot name blob %s: %s", path, strerror(-rc));
	}
	if (rc && tmp)
		(void)unlink(tmp); /* the failure to report is the first one */
	return rc;
}

/* --- index.json --------------------------------------------------------------------------------
 */

static bool has_name(const cJSON *descriptor, const char *tag)
{
	const cJSON *a = cJSON_GetObjectItemCaseSensitive(descriptor, "annotations");
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(a, REF_NAME);

	return cJSON_IsString(name) && strcmp(name->valuestring, tag) == 0;
}

static int edit_index(const char *dir, const char *media_type, const char *digest, size_t len,
		      const char *tag, struct err *e)
{
	_cleanup_free_ char *path = text_printf("%s/index.json", dir);
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char *out = NULL;
	cJSON *root, *list, *d, *a;
	size_t text_len = 0;
	int rc = text_read_file(path, OCI_MANIFEST_MAX_BYTES, &text, &text_len, e);

	if (rc)
		return rc;
	root = cJSON_ParseWithLength(text, text_len);
	list = cJSON_GetObjectItemCaseSensitive(root, "manifests");
	if (!cJSON_IsArray(list)) {
		cJSON_Delete(root);
		return err_set(e, -EBADMSG, "%s is not an OCI index", path);
	}
	for (int i = cJSON_GetArraySize(list) - 1; i >= 0; i--)
		if (has_name(cJSON_GetArrayItem(list, i), tag))
			cJSON_DeleteItemFromArray(list, i);
	d = cJSON_CreateObject();
	cJSON_AddStringToObject(d, "mediaType", media_type);
	cJSON_AddStringToObject(d, "digest", digest);
	cJSON_AddNumberToObject(d, "size", (double)len);
	a = cJSON_AddObjectToObject(d, "annotations");
	cJSON_AddStringToObject(a, REF_NAME, tag);
	cJSON_AddItemToArray(list, d);
	out = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (!out)
		abort();
	rc = text_write_file(path, out, strlen(out), 0644, e);
	return rc ? rc : sync_dir(dir, e);
}

struct memory {
	const char *p;
};

static int from_memory(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct memory *m = arg;

	memcpy(buf, m->p + off, len);
	return 0;
}

int oci_layout_put_manifest(struct store *s, const char *media_type, const void *bytes, size_t len,
			    const char *digest, const char *tag, bool *ret_listed, struct err *e)
{
	struct oci_layout *l = layout_of(s);
	_cleanup_free_ char *blobs = text_printf("%s/blobs/sha256", l->dir);
	struct memory m = {.p = bytes};
	_cleanup_fd_ int lock = -1;
	int rc;

	*ret_listed = false;
	rc = oci_layout_put_blob(s, digest, len, from_memory, &m, e);
	if (!rc)
		rc = sync_dir(blobs, e);
	if (rc || !tag)
		return rc;
	rc = lock_dir(l->dir, &lock, e);
	if (rc)
		return rc;
	clean_index(l->dir);
	return edit_index(l->dir, media_type, digest, len, tag, e);
}
