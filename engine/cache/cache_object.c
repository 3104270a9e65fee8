/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_object.c - small whole objects and names of a cache, see cache.h
 *
 * An object's file is named by its digest and verified on every read. A name's file is named by the
 * SHA-256 of the name and holds the digest and the name, one a line.
 */
#include "cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "cache_impl.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "log.h"
#include "text.h"

#define NAME_MAX_BYTES 8192 /* of a name's file */

static const char *hex_of(const char *digest)
{
	return digest + strlen("sha256:");
}

int cache_get_object(struct cache *c, const char *digest, size_t max_bytes, char **ret,
		     size_t *ret_len)
{
	_cleanup_free_ char *path = NULL, *data = NULL;
	char found[DIGEST_TEXT_BYTES];
	size_t len;
	int r;

	if (!digest_valid(digest))
		return -EINVAL;
	path = text_printf("%s/objects/%s", c->dir.path, hex_of(digest));
	r = text_read_file(path, max_bytes, &data, &len, NULL);
	if (r == -EFBIG)
		return -EBADMSG;
	if (r)
		return r;
	digest_of(data, len, found);
	if (strcmp(found, digest) != 0) {
		log_warn("cached object is corrupt, removed it object=%.12s", hex_of(digest));
		(void)unlink(path); /* it stays as unusable as it is */
		return -EBADMSG;
	}
	/* The time of use; without it the object is evicted earlier. */
	(void)utimensat(AT_FDCWD, path, NULL, 0);
	*ret = steal_ptr(data);
	*ret_len = len;
	return 0;
}

int cache_put_object(struct cache *c, const char *digest, const void *p, size_t len)
{
	_cleanup_free_ char *path = NULL;
	char found[DIGEST_TEXT_BYTES];

	if (!digest_valid(digest))
		return -EINVAL;
	digest_of(p, len, found);
	if (strcmp(found, digest) != 0)
		return -EBADMSG;
	path = text_printf("%s/objects/%s", c->dir.path, hex_of(digest));
	return text_write_file(path, p, len, 0600, NULL);
}

static char *name_path(struct cache *c, const char *name)
{
	char hashed[DIGEST_TEXT_BYTES];

	digest_of(name, strlen(name), hashed);
	return text_printf("%s/names/%s", c->dir.path, hex_of(hashed));
}

int cache_get_name(struct cache *c, const char *name, char ret_digest[static 72])
{
	_cleanup_free_ char *path = name_path(c, name);
	_cleanup_free_ char *data = NULL;
	char *end;
	int r = text_read_file(path, NAME_MAX_BYTES, &data, NULL, NULL);

	if (r)
		return r == -EFBIG ? -EBADMSG : r;
	end = strchr(data, '\n');
	if (!end)
		return -EBADMSG;
	*end++ = '\0';
	if (!digest_valid(data) || strncmp(end, name, strlen(name)) != 0 ||
	    strcmp(end + strlen(name), "\n") != 0)
		return -EBADMSG;
	memcpy(ret_digest, data, DIGEST_TEXT_BYTES);
	(void)utimensat(AT_FDCWD, path, NULL, 0); /* the time of use, as for objects */
	return 0;
}

int cache_put_name(struct cache *c, const char *name, const char *digest)
{
	_cleanup_free_ char *path = NULL, *text = NULL;

	if (!digest_valid(digest) || strlen(name) > NAME_MAX_BYTES / 2 || strchr(name, '\n'))
		return -EINVAL;
	path = name_path(c, name);
	text = text_printf("%s\n%s\n", digest, name);
	return text_write_file(path, text, strlen(text), 0600, NULL);
}
