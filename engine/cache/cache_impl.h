/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_impl.h - the inside of struct cache, shared by cache.c and cache_object.c
 */
#ifndef HS_CACHE_CACHE_IMPL_H
#define HS_CACHE_CACHE_IMPL_H

#include <pthread.h>

#include "blobmap.h"
#include "cache.h"
#include "cache_dir.h"
#include "log.h"

struct cache_blob {
	struct cache *cache;
	char hex[BLOBMAP_HEX_BYTES];
	struct blobmap map;
	_Atomic bool dirty; /* something LIVE may not be SYNCED */

	/* under cache->lock */
	struct list link; /* in cache->blobs */
	unsigned int refs;
	bool closing;	/* nobody may take a reference any more */
	bool kept;	/* the keeper works on it */
	uint64_t round; /* the keeper's last round that took it */
};

struct cache {
	struct cache_dir dir;
	uint8_t boot_id[BLOBMAP_BOOT_ID_BYTES];

	/* lock order: trim_lock, lock */
	pthread_mutex_t trim_lock; /* one trim at a time; guards the rate limits */
	pthread_mutex_t lock;	   /* blobs, and what says so above */
	pthread_cond_t changed;	   /* a blob stopped being closing or kept */
	struct list blobs;	   /* struct cache_blob */
	struct log_rate full_log;
	bool was_full;

	/* any thread */
	_Atomic uint64_t limit_bytes;  /* asked for */
	_Atomic uint64_t room_bytes;   /* that, or less when the file system is full */
	_Atomic uint64_t used_bytes;   /* as of the last trim */
	_Atomic uint64_t since_bytes;  /* stored since */
	_Atomic uint64_t wanted_bytes; /* a store that did not fit */
	_Atomic uint64_t unsynced_bytes;
	_Atomic uint64_t stored_bytes, evicted_blobs, refused_bytes;
	_Atomic bool full;     /* trimming did not help; tried again by the timer only */
	_Atomic bool no_space; /* the file system said ENOSPC; until the next trim */
	_Atomic uint64_t io_errors;
	_Atomic bool nudged; /* @nudge is on its way */
	struct mail nudge;

	/* maintenance thread */
	pthread_t thread;
	struct loop *loop;
	struct task keeper;
	struct timer timer;
	struct presence_job job; /* the keeper's */
	struct cache_blob *keeping;
	bool due, in_round; /* a round over all blobs is wanted, is running */
	uint64_t round;
	bool quit;
	struct mail quit_mail;
};

#endif
