/* SPDX-License-Identifier: Apache-2.0 */
/* resolve_local.c - see resolve_local.h */
#include "resolve_local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob.h"
#include "cleanup.h"
#include "err.h"
#include "image_config.h"
#include "imageref.h"
#include "log.h"
#include "resolve.h"
#include "store.h"
#include "text.h"

#define CONFIG_MAX_BYTES     (4u << 20)
#define GZIP_INDEX_MAX_BYTES (512u << 20)

static int open_file(const char *path, struct blob **ret, struct err *e)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		int saved = errno;

		return err_set(e, -saved, "cannot open layer file %s: %s", path, strerror(saved));
	}
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "layer file %s is not a regular file", path);
	*ret = blob_new_local(path, steal_fd(&fd), 0, (uint64_t)st.st_size);
	return 0;
}

/* The complete layer in a snapshot directory, under one of its three names; -ENOENT: none. */
static int open_in_dir(const char *dir, struct blob **ret)
{
	static const char *const names[] = {"overlaybd.commit", ".commit", "overlaybd.sealed"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		_cleanup_free_ char *path = text_printf("%s/%s", dir, names[i]);

		if (access(path, F_OK) == 0 && !open_file(path, ret, NULL))
			return 0;
	}
	return -ENOENT;
}

/* "https://host/v2/some/repo/blobs[/]" -> the store of host and some/repo */
static int open_store(const struct resolve_env *env, const char *url, struct resolved *r,
		      struct err *e)
{
	_cleanup_free_ char *name = NULL;
	_cleanup_free_ char *copy = text_dup(url);
	struct imageref ref = {0};
	char *host, *repo, *end;
	int rc;

	host = strstr(copy, "://");
	repo = host ? strstr(host + 3, "/v2/") : NULL;
	if (!repo)
		return err_set(e, -EBADMSG,
			       "repoBlobUrl must look like https://HOST/v2/REPOSITORY/blobs");
	*repo = '\0';
	host += 3;
	repo += 4;
	end = repo + strlen(repo);
	while (end > repo && end[-1] == '/')
		*--end = '\0';
	if (!text_ends_with(repo, "/blobs"))
		return err_set(e, -EBADMSG, "repoBlobUrl must end in /blobs");
	end[-(long)strlen("/blobs")] = '\0';
	name = text_printf("docker://%s/%s", host, repo);
	rc = imageref_parse(name, &ref, e);
	if (!rc)
		rc = store_open(env->net, &ref, false, &r->store, e);
	r->remote = true;
	imageref_done(&ref);
	return rc ? err_wrap(e, rc, "repoBlobUrl") : 0;
}

static int open_remote(const struct resolve_env *env, const struct image_config *c,
		       const char *digest, uint64_t bytes, struct resolved *r, struct blob **ret,
		       struct err *e)
{
	int rc;

	if (!c->repo_blob_url || !*c->repo_blob_url)
		return err_set(e, -EBADMSG, "repoBlobUrl is empty, so %s cannot be fetched",
			       digest);
	if (!r->store) {
		rc = open_store(env, c->repo_blob_url, r, e);
		if (rc)
			return rc;
	}
	if (!bytes) {
		rc = resolve_blob_bytes(env, r, digest, &bytes, e);
		if (rc)
			return err_wrap(e, rc, "size of %s", digest);
	}
	return resolve_place_blob(env, r->store, digest, bytes, ret, e);
}

static int open_target(const struct resolve_env *env, const struct image_config *c,
		       const struct image_config_lower *lower, struct resolved *r,
		       struct layer_spec *spec, struct err *e)
{
	int rc;

	spec->kind = LAYER_WARP;
	if (lower->target_file)
		rc = open_file(lower->target_file, &spec->target, e);
	else
		rc = open_remote(env, c, lower->target_digest, 0, r, &spec->target, e);
	if (!rc && lower->gzip_index)
		rc = text_read_file(lower->gzip_index, GZIP_INDEX_MAX_BYTES,
				    (char **)&spec->gzip_index, &spec->gzip_index_bytes, e);
	return rc;
}

static int open_lower(const struct resolve_env *env, const struct image_config *c,
		      const struct image_config_lower *lower, struct resolved *r,
		      struct layer_spec *spec, struct err *e)
{
	int rc;

	spec->kind = LAYER_LSMT;
	if (lower->target_file || lower->target_digest) {
		rc = open_target(env, c, lower, r, spec, e);
		if (rc)
			return rc;
	}
	if (lower->file)
		return open_file(lower->file, &spec->blob, e);
	if (lower->dir && !open_in_dir(lower->dir, &spec->blob))
		return 0;
	if (lower->digest)
		return open_remote(env, c, lower->digest, lower->size, r, &spec->blob, e);
	return err_set(e, -ENOENT, "no overlaybd.commit, .commit or overlaybd.sealed in %s",
		       lower->dir);
}

static int open_upper(const struct image_config *c, struct layer_spec *spec, struct err *e)
{
	int rc;

	spec->kind = LAYER_RW;
	if (c->upper_target)
		return err_set(e, -EOPNOTSUPP, "a TurboOCI read-write layer is not supported");
	rc = open_file(c->upper_data, &spec->blob, e);
	return rc ? rc : open_file(c->upper_index, &spec->rw_index, e);
}

int resolve_local(const struct resolve_env *env, const char *path, struct resolved *r,
		  struct err *e)
{
	_cleanup_free_ char *json = NULL;
	struct image_config *c;
	size_t len;
	int rc = text_read_file(path, CONFIG_MAX_BYTES, &json, &len, e);

	if (!rc)
		rc = image_config_parse(json, len, &c, e);
	if (rc)
		return rc;
	r->specs = xmalloc_zero(c->lower_count + 1, sizeof(*r->specs));
	for (size_t n = 0; !rc && n < c->lower_count; n++) {
		rc = open_lower(env, c, &c->lowers[n], r, &r->specs[r->count++], e);
		if (rc)
			err_wrap(e, rc, "lowers[%zu]", n);
	}
	if (!rc && c->upper_data) {
		rc = open_upper(c, &r->specs[r->count++], e);
		if (rc)
			err_wrap(e, rc, "upper");
	}
	image_config_free(c);
	return rc;
}
