/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - compressed bytes that are already on this node
 *
 * One directory, shared by any number of processes. Per blob two files: <hex>.data, sparse, blob
 * bytes at their own offsets, and <hex>.map: a header, the LIVE bitmap (mapped shared by all
 * processes; true while this boot lasts) and the SYNCED bitmap (true after power loss). One bit is
 * one CACHE_UNIT_BYTES unit, the last one may be short. The rule that everything here keeps:
 *
 *     a bit is never set for bytes that are not there.
 *
 * LIVE bits are set after the data write completed. SYNCED bits are written only after an
 * fdatasync of the data that began after those bits were LIVE. Opening under another boot id
 * starts LIVE from SYNCED. Eviction removes whole blobs that no process has open (flock), oldest
 * use first; when only open blobs are left the cache stops storing and says so once: readers are
 * served from the network, never hurt. A blob whose data could not be synced stores nothing more
 * and starts anew when it is opened next. The order of all these writes is in presence.h.
 *
 * Thread: open, close, evict block (control plane). The rest belongs to the loop thread, except
 * cache_has() and cache_missing(), which any thread may call.
 */
#ifndef HS_CACHE_CACHE_H
#define HS_CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "presence.h"
#include "range.h"

struct err;
struct cache;
struct cache_blob;

struct cache_stats {
	uint64_t limit_bytes;
	uint64_t used_bytes;	/* as of the last scan */
	uint64_t stored_bytes;	/* written by this process */
	uint64_t evicted_blobs; /* by this process */
	uint64_t refused_bytes; /* not stored because the cache was full or broken */
};

/*
 * cache_open - use (and create) a cache directory; starts the maintenance thread
 * @limit_bytes: 0 = 90 % of what is free there now plus what the cache holds
 * Returns 0, -errno of the file system, or what loop_new() returned.
 */
int cache_open(const char *dir, uint64_t limit_bytes, struct cache **ret, struct err *e);
void cache_close(struct cache *c); /* all blobs closed; NULL is fine */
void cache_stats_get(struct cache *c, struct cache_stats *ret);

/*
 * cache_blob_open - the entry of one blob, made when missing; blocks other processes' eviction of
 * it
 * @digest: valid sha256 text. @bytes: size of the blob; an entry of another size is replaced.
 * Within one process the same digest gives the same entry, counted.
 * Returns 0, -ENOSPC, -EBUSY another process holds it with another size, -errno of the file system.
 */
int cache_blob_open(struct cache *c, const char *digest, uint64_t bytes, struct cache_blob **ret,
		    struct err *e);
void cache_blob_close(struct cache_blob *b); /* no store in flight; NULL is fine */

int cache_blob_fd(const struct cache_blob *b);	       /* data file; blob offset == file offset */
uint64_t cache_blob_bytes(const struct cache_blob *b); /* size of the blob */

/* cache_has - whether every byte of @r is present */
bool cache_has(const struct cache_blob *b, struct range r);

/*
 * cache_missing - first run of absent units in @r, widened to whole units, clipped to the blob
 * Returns length 0 when all of @r is present.
 */
struct range cache_missing(const struct cache_blob *b, struct range r);

/* cache_present_bytes - how much of the blob is here */
uint64_t cache_present_bytes(const struct cache_blob *b);

/* One write-behind. Embed it; belongs to the cache from cache_store() until @owner is woken. */
struct cache_store {
	struct cache_blob *blob;
	struct range range; /* starts on a unit; ends on a unit or at the blob's end */
	const void *buf;
	struct task *owner; /* woken at the end */
	int res;	    /* 0 stored, -ENOSPC or -EIO not stored (already logged) */
	bool busy;
	struct presence_write write; /* the cache's own */
};

/* cache_store - write @s->range and mark it present; loop thread @l */
void cache_store(struct loop *l, struct cache_store *s);

/* cache_store_now - the same, blocking; control plane; 0 or negative errno */
int cache_store_now(struct cache_blob *b, struct range r, const void *buf);

/*
 * cache_drop - forget units of @r (found corrupt): SYNCED first, then LIVE
 * Any thread; blocks while the maintenance thread writes and syncs the map.
 */
void cache_drop(struct cache_blob *b, struct range r);

/*
 * cache_sync - make what is LIVE survive power loss; blocks; also run by cache_blob_close()
 */
int cache_sync(struct cache_blob *b);

/*
 * cache_evict - bring the directory below its limit now; returns bytes freed or negative errno
 * Called by itself from cache_blob_open() and, on a thread of the cache, every few MB stored.
 */
int64_t cache_evict(struct cache *c);

/*
 * Small whole objects (manifests, image configs, tag -> digest), verified by their digest on read.
 * cache_get_object - 0 and a NUL-terminated copy (caller frees), -ENOENT, -EBADMSG
 * cache_put_object - atomic replace
 * cache_get_name / cache_put_name - what @name (an image reference) last resolved to
 */
int cache_get_object(struct cache *c, const char *digest, size_t max_bytes, char **ret,
		     size_t *ret_len);
int cache_put_object(struct cache *c, const char *digest, const void *p, size_t len);
int cache_get_name(struct cache *c, const char *name, char ret_digest[static 72]);
int cache_put_name(struct cache *c, const char *name, const char *digest);

#endif
