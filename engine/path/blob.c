/* SPDX-License-Identifier: Apache-2.0 */
/* blob.c - see blob.h */
#include "blob.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "source.h"
#include "text.h"

static struct blob *blob_new(const char *name, uint64_t bytes)
{
	struct blob *b = xmalloc_zero(1, sizeof(*b));

	b->name = text_dup(name);
	b->bytes = bytes;
	list_init(&b->flights);
	return b;
}

struct blob *blob_new_local(const char *name, int fd, uint64_t fd_off, uint64_t bytes)
{
	struct blob *b = blob_new(name, bytes);

	b->fd = fd;
	b->fd_off = fd_off;
	return b;
}

struct blob *blob_new_remote(const char *digest, struct cache_blob *cache, struct source *source)
{
	struct blob *b = blob_new(digest, cache_blob_bytes(cache));

	assert(strlen(digest) < sizeof(b->digest));
	strcpy(b->digest, digest);
	b->cache = cache;
	b->source = source;
	b->fd = cache_blob_fd(cache);
	return b;
}

void blob_free(struct blob *b)
{
	if (!b)
		return;
	assert(list_empty(&b->flights));
	if (blob_is_local(b))
		close(b->fd);
	cache_blob_close(b->cache);
	source_unref(b->source);
	free(b->name);
	free(b);
}

bool blob_has(const struct blob *b, struct range r)
{
	return blob_is_local(b) || cache_has(b->cache, r);
}
