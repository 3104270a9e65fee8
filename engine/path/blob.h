/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob.h - one immutable compressed object and where its bytes are
 *
 * Local: a range of a file, complete. Remote: a cache entry that fills up, and a source for what
 * it lacks. Several layers of several images may share one blob. Opened and closed by the control
 * plane; @flights belongs to the loop thread.
 */
#ifndef HS_PATH_BLOB_H
#define HS_PATH_BLOB_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"
#include "range.h"

struct cache_blob;
struct path;
struct source;

struct blob {
	char *name;	 /* for people: digest or file name */
	char digest[72]; /* "" for a local file without one */
	uint64_t bytes;
	int fd;			  /* local file, or the cache entry's data file (not owned then) */
	uint64_t fd_off;	  /* blob byte 0 in @fd */
	struct cache_blob *cache; /* NULL: local */
	struct source *source;	  /* NULL: local */
	struct list flights;	  /* loop thread: fetches on their way, see flight.h */
};

/* blob_new_local - takes @fd over */
struct blob *blob_new_local(const char *name, int fd, uint64_t fd_off, uint64_t bytes);
/* blob_new_remote - takes @cache and @source over */
struct blob *blob_new_remote(const char *digest, struct cache_blob *cache, struct source *source);
void blob_free(struct blob *b); /* no flight left; NULL is fine */

static inline bool blob_is_local(const struct blob *b)
{
	return !b->source;
}

/* blob_has - whether the file at @fd holds all of @r */
bool blob_has(const struct blob *b, struct range r);

#endif
