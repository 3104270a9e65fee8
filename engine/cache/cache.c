/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.c - see cache.h
 *
 * The maintenance thread has a loop of its own. On it run all presence jobs: those of the keeper,
 * which syncs every blob that has become dirty some seconds after it did, and those that
 * cache_sync(), cache_drop() and the last close wait for. Trimming runs on it too, or on the
 * caller's thread.
 */
#include "cache.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache_impl.h"
#include "cleanup.h"
#include "clock.h"
#include "digest.h"
#include "err.h"
#include "text.h"

#define KEEPER_EVERY_NS	      (10 * NS_PER_SEC)
#define KEEPER_UNSYNCED_BYTES (256ull << 20) /* sooner than that when so much is at stake */
#define KEEPER_RING_ENTRIES   32
#define RESERVE_MAX_BYTES     (64ull << 20) /* of the file system, left to others */
#define LOG_EVERY_NS	      (60 * NS_PER_SEC)

/* ---- space ---- */

/* Trimming starts above this much of the room, and goes down to that much. */
static uint64_t high_water(uint64_t room)
{
	return room - room / 16;
}

static uint64_t low_water(uint64_t room)
{
	return room - room / 8;
}

static uint64_t used_estimate(struct cache *c)
{
	return atomic_load(&c->used_bytes) + atomic_load(&c->since_bytes);
}

/* What the cache may hold on this file system now. */
static uint64_t room_of(struct cache *c, const struct cache_space *s)
{
	uint64_t reserve = min_u64(RESERVE_MAX_BYTES, s->total_bytes / 100);
	uint64_t there = s->used_bytes + s->free_bytes;

	return min_u64(atomic_load(&c->limit_bytes), there > reserve ? there - reserve : 0);
}

static void report_full(struct cache *c, bool full)
{
	uint64_t skipped;

	if (full && !c->was_full && log_rate_ok(&c->full_log, clock_now_ns(), &skipped))
		log_warn("cache is full of images in use, serving the rest from the network "
			 "used=%llu limit=%llu",
			 (unsigned long long)atomic_load(&c->used_bytes),
			 (unsigned long long)atomic_load(&c->room_bytes));
	c->was_full = full;
	atomic_store(&c->full, full);
}

static bool needs_trim(struct cache *c)
{
	return atomic_load(&c->full) || atomic_load(&c->no_space) ||
	       used_estimate(c) + atomic_load(&c->wanted_bytes) >
		   high_water(atomic_load(&c->room_bytes));
}

int64_t cache_evict(struct cache *c)
{
	uint64_t since, wanted, room, freed = 0, blobs = 0;
	struct cache_space s;
	int r;

	pthread_mutex_lock(&c->trim_lock);
	since = atomic_load(&c->since_bytes);
	wanted = atomic_exchange(&c->wanted_bytes, 0);
	r = cache_dir_trim(&c->dir, UINT64_MAX, 0, &s, &freed, &blobs);
	if (!r) {
		room = room_of(c, &s);
		atomic_store(&c->room_bytes, room);
		if (s.used_bytes + wanted > high_water(room))
			r = cache_dir_trim(&c->dir, 0,
					   low_water(room) - min_u64(wanted, low_water(room)), &s,
					   &freed, &blobs);
	}
	if (!r) {
		atomic_store(&c->used_bytes, s.used_bytes);
		atomic_fetch_sub(&c->since_bytes, since);
		atomic_fetch_add(&c->evicted_blobs, blobs);
		atomic_store(&c->no_space, false);
		report_full(c, s.used_bytes + wanted > high_water(room));
	}
	pthread_mutex_unlock(&c->trim_lock);
	if (blobs)
		log_info("cache trimmed blobs=%llu bytes=%llu", (unsigned long long)blobs,
			 (unsigned long long)freed);
	return r ? r : (int64_t)freed;
}

static void nudge_keeper(struct cache *c)
{
	if (!atomic_exchange(&c->nudged, true))
		loop_post(c->loop, &c->nudge);
}

/* Whether @bytes more may be stored; counts them as refused if not. */
static bool may_store(struct cache *c, struct cache_blob *b, uint64_t bytes)
{
	uint64_t room = atomic_load(&c->room_bytes);
	uint64_t used = used_estimate(c);
	bool fits = used <= room && bytes <= room - used;

	if (used + bytes > high_water(room) && !atomic_load(&c->full)) {
		/* Something larger than half of the cache is not worth emptying it. */
		if (!fits && bytes <= room / 2)
			atomic_store(&c->wanted_bytes, bytes);
		nudge_keeper(c);
	}
	if (fits && !atomic_load(&c->no_space) && !atomic_load(b->map.presence.unsafe))
		return true;
	atomic_fetch_add(&c->refused_bytes, bytes);
	return false;
}

static void count_stored(struct cache_blob *b, uint64_t bytes)
{
	struct cache *c = b->cache;

	atomic_store(&b->dirty, true);
	atomic_fetch_add(&c->stored_bytes, bytes);
	atomic_fetch_add(&c->since_bytes, bytes);
	if (atomic_fetch_add(&c->unsynced_bytes, bytes) + bytes >= KEEPER_UNSYNCED_BYTES)
		nudge_keeper(c);
}

/* A store that failed although it was allowed: says so once until the next trim, or the first time.
 */
static void count_failed(struct cache_blob *b, uint64_t bytes, int res)
{
	struct cache *c = b->cache;

	atomic_fetch_add(&c->refused_bytes, bytes);
	if (res == -ENOSPC) {
		if (!atomic_exchange(&c->no_space, true)) {
			log_warn("no space left for the cache, making room dir=%s", c->dir.path);
			nudge_keeper(c);
		}
	} else if (atomic_fetch_add(&c->io_errors, 1) == 0) {
		log_warn("cannot write to the cache, serving from the network dir=%s blob=%.12s "
			 "error=%s",
			 c->dir.path, b->hex, strerror(-res));
	}
}

/* ---- storing ---- */

static void store_end(struct cache_store *s, int res)
{
	s->res = res;
	s->busy = false;
	task_wake(s->owner);
}

static void store_written(struct presence_write *w)
{
	struct cache_store *s = container_of(w, struct cache_store, write);

	if (w->res)
		count_failed(s->blob, s->range.len, w->res);
	else
		count_stored(s->blob, s->range.len);
	store_end(s, w->res);
}

void cache_store(struct loop *l, struct cache_store *s)
{
	assert(!s->busy);
	s->busy = true;
	if (!s->range.len) {
		store_end(s, 0);
		return;
	}
	if (!may_store(s->blob->cache, s->blob, s->range.len)) {
		store_end(s, -ENOSPC);
		return;
	}
	s->write = (struct presence_write){
	    .p = &s->blob->map.presence,
	    .range = s->range,
	    .buf = s->buf,
	    .done = store_written,
	};
	presence_write_start(l, &s->write);
}

int cache_store_now(struct cache_blob *b, struct range r, const void *buf)
{
	struct presence *p = &b->map.presence;
	int res = 0;

	if (!r.len)
		return 0;
	if (!may_store(b->cache, b, r.len))
		return -ENOSPC;
	for (uint64_t done = 0; done < r.len;) {
		ssize_t n = pwrite(p->data_fd, (const char *)buf + done, (size_t)(r.len - done),
				   (off_t)(r.off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			bool full = n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG);

			res = full ? -ENOSPC : -EIO;
			break;
		}
		done += (uint64_t)n;
	}
	if (!res)
		res = presence_set(p, r);
	if (res)
		count_failed(b, r.len, res);
	else
		count_stored(b, r.len);
	return res;
}

/* ---- jobs on the maintenance thread ---- */

/* Keeps other processes out of SYNCED. Held for a write and an fdatasync of a small file. */
static void lock_synced(struct presence *p, bool lock)
{
	struct flock fl = {
	    .l_type = lock ? F_WRLCK : F_UNLCK,
	    .l_whence = SEEK_SET,
	    .l_start = (off_t)p->synced_off,
	    .l_len = 1,
	};

	while (fcntl(p->map_fd, F_OFD_SETLKW, &fl)) {
		if (errno == EINTR)
			continue;
		/* A file system without locks: several processes may lose each other's SYNCED bits.
		 */
		log_warn("cannot lock a cache map error=%s", strerror(errno));
		break;
	}
}

static int job_buffers(struct presence_job *j)
{
	size_t words = presence_words(j->p->bytes);

	j->synced = malloc(words * sizeof(uint64_t));
	j->snapshot = j->kind == PRESENCE_SYNC ? malloc(words * sizeof(uint64_t)) : NULL;
	if (j->synced && (j->snapshot || j->kind == PRESENCE_DROP))
		return 0;
	free(j->synced);
	free(j->snapshot);
	return -ENOMEM;
}

/* A job that a thread waits for. */
struct request {
	struct mail mail;
	struct task task;
	struct presence_job job;
	struct cache *cache;
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool done;
};

static void request_step(struct task *t)
{
	struct request *q = container_of(t, struct request, task);

	if (q->job.busy)
		return;
	task_done(&q->task);
	pthread_mutex_lock(&q->lock);
	q->done = true;
	pthread_cond_signal(&q->over);
	pthread_mutex_unlock(&q->lock); /* @q is the waiter's again */
}

static void request_deliver(struct mail *m)
{
	struct request *q = container_of(m, struct request, mail);

	task_init(&q->task, q->cache->loop, request_step);
	q->job.owner = &q->task;
	presence_job_start(q->cache->loop, &q->job);
}

static int run_job(struct cache_blob *b, enum presence_kind kind, struct range r)
{
	struct request q = {
	    .mail = {.deliver = request_deliver},
	    .job = {.p = &b->map.presence, .kind = kind, .range = r},
	    .cache = b->cache,
	};

	if (job_buffers(&q.job))
		return -ENOMEM;
	pthread_mutex_init(&q.lock, NULL);
	pthread_cond_init(&q.over, NULL);
	loop_post(b->cache->loop, &q.mail);
	pthread_mutex_lock(&q.lock);
	while (!q.done)
		pthread_cond_wait(&q.over, &q.lock);
	pthread_mutex_unlock(&q.lock);
	pthread_cond_destroy(&q.over);
	pthread_mutex_destroy(&q.lock);
	free(q.job.synced);
	free(q.job.snapshot);
	return q.job.res;
}

static void report_sync(struct cache_blob *b, int res)
{
	if (res == -EAGAIN || res == -ENOMEM)
		atomic_store(&b->dirty, true);
	else if (res)
		log_warn("cache entry cannot be made durable, it is stored anew later blob=%.12s "
			 "error=%s",
			 b->hex, strerror(-res));
}

int cache_sync(struct cache_blob *b)
{
	int r;

	atomic_store(&b->dirty, false);
	r = run_job(b, PRESENCE_SYNC, range_of(0, 0));
	report_sync(b, r);
	return r;
}

void cache_drop(struct cache_blob *b, struct range r)
{
	int res = run_job(b, PRESENCE_DROP, r);

	if (res)
		log_warn("corrupt bytes of a cache entry may be found again after a power loss "
			 "blob=%.12s off=%llu len=%llu error=%s",
			 b->hex, (unsigned long long)r.off, (unsigned long long)r.len,
			 strerror(-res));
}

/* The next dirty blob of this round, marked as kept; NULL when there is none. */
static struct cache_blob *next_dirty(struct cache *c)
{
	struct cache_blob *found = NULL;

	pthread_mutex_lock(&c->lock);
	list_for_each (n, &c->blobs) {
		struct cache_blob *b = list_entry(n, struct cache_blob, link);

		if (b->closing || b->round == c->round || !atomic_exchange(&b->dirty, false))
			continue;
		b->round = c->round;
		b->kept = true;
		found = b;
		break;
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

static void keeper_release(struct cache *c)
{
	free(c->job.synced);
	free(c->job.snapshot);
	report_sync(c->keeping, c->job.res);
	pthread_mutex_lock(&c->lock);
	c->keeping->kept = false;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	c->keeping = NULL;
}

static void begin_round(struct cache *c)
{
	timer_stop(&c->timer);
	c->in_round = true;
	c->round++;
	atomic_store(&c->unsynced_bytes, 0);
	if (needs_trim(c))
		(void)cache_evict(c); /* tried again in the next round */
}

/* One round: trim, sync what is dirty, one blob after the other, then rest. */
static void keeper_step(struct task *t)
{
	struct cache *c = container_of(t, struct cache, keeper);

	if (c->job.busy)
		return;
	if (c->keeping)
		keeper_release(c);
	if (c->quit)
		return;
	if (!c->in_round) {
		if (!c->due && !timer_expired(&c->timer, loop_now_ns(c->loop)))
			return;
		begin_round(c);
	}
	c->keeping = next_dirty(c);
	if (c->keeping) {
		c->job = (struct presence_job){
		    .p = &c->keeping->map.presence, .kind = PRESENCE_SYNC, .owner = &c->keeper};
		c->job.res = job_buffers(&c->job);
		if (c->job.res)
			task_wake(&c->keeper);
		else
			presence_job_start(c->loop, &c->job);
		return;
	}
	c->due = c->in_round = false;
	timer_arm(&c->timer, loop_now_ns(c->loop) + KEEPER_EVERY_NS);
}

static void quit_deliver(struct mail *m)
{
	struct cache *c = container_of(m, struct cache, quit_mail);

	c->quit = true;
	timer_stop(&c->timer);
	loop_stop(c->loop);
}

static void nudge_deliver(struct mail *m)
{
	struct cache *c = container_of(m, struct cache, nudge);

	atomic_store(&c->nudged, false);
	c->due = true;
	task_wake(&c->keeper);
}

static void *maintenance_main(void *arg)
{
	struct cache *c = arg;

	loop_run(c->loop);
	return NULL;
}

/* ---- opening and closing ---- */

static int start_maintenance(struct cache *c, struct err *e)
{
	sigset_t all, old;
	int r = loop_new(KEEPER_RING_ENTRIES, &c->loop, e);

	if (r)
		return r;
	loop_allow_slow(c->loop); /* it trims, and waits for other processes' locks */
	c->nudge.deliver = nudge_deliver;
	task_init(&c->keeper, c->loop, keeper_step);
	timer_init(&c->timer, &c->keeper);
	timer_arm(&c->timer, loop_now_ns(c->loop) + KEEPER_EVERY_NS);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&c->thread, NULL, maintenance_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r)
		return 0;
	timer_stop(&c->timer);
	loop_free(c->loop);
	c->loop = NULL;
	return err_set(e, r, "cannot start the cache's thread: %s", strerror(-r));
}

static void cache_destroy(struct cache *c)
{
	cache_dir_close(&c->dir);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->trim_lock);
	free(c);
}

int cache_open(const char *dir, uint64_t limit_bytes, struct cache **ret, struct err *e)
{
	struct cache *c = xmalloc_zero(1, sizeof(*c));
	uint64_t freed, blobs;
	struct cache_space s;
	int r;

	c->dir = (struct cache_dir){.blobs_fd = -1, .objects_fd = -1, .names_fd = -1};
	pthread_mutex_init(&c->trim_lock, NULL);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	list_init(&c->blobs);
	c->full_log.every_ns = LOG_EVERY_NS;
	r = blobmap_boot_id(c->boot_id, e);
	if (!r)
		r = cache_dir_open(dir, &c->dir, e);
	if (!r) {
		r = cache_dir_trim(&c->dir, UINT64_MAX, 0, &s, &freed, &blobs);
		if (r)
			err_set(e, r, "cannot read cache directory %s: %s", dir, strerror(-r));
	}
	if (!r) {
		if (!limit_bytes)
			limit_bytes = (s.used_bytes + s.free_bytes) / 10 * 9;
		atomic_store(&c->limit_bytes, limit_bytes);
		atomic_store(&c->room_bytes, room_of(c, &s));
		atomic_store(&c->used_bytes, s.used_bytes);
		r = start_maintenance(c, e);
	}
	if (r) {
		cache_destroy(c);
		return r;
	}
	*ret = c;
	return 0;
}

void cache_close(struct cache *c)
{
	if (!c)
		return;
	assert(list_empty(&c->blobs));
	/* Behind any nudge, so that nothing is left in the mailbox. */
	c->quit_mail.deliver = quit_deliver;
	loop_post(c->loop, &c->quit_mail);
	pthread_join(c->thread, NULL);
	task_done(&c->keeper);
	loop_free(c->loop);
	cache_destroy(c);
}

void cache_stats_get(struct cache *c, struct cache_stats *ret)
{
	ret->limit_bytes = atomic_load(&c->limit_bytes);
	ret->used_bytes = used_estimate(c);
	ret->stored_bytes = atomic_load(&c->stored_bytes);
	ret->evicted_blobs = atomic_load(&c->evicted_blobs);
	ret->refused_bytes = atomic_load(&c->refused_bytes);
}

/* A reference to a blob that this process has open; waits for one that is being closed. Locked. */
static struct cache_blob *find_open(struct cache *c, const char *hex)
{
again:
	list_for_each (n, &c->blobs) {
		struct cache_blob *b = list_entry(n, struct cache_blob, link);

		if (strcmp(b->hex, hex) != 0)
			continue;
		if (!b->closing)
			return b;
		pthread_cond_wait(&c->changed, &c->lock);
		goto again;
	}
	return NULL;
}

static int open_entry(struct cache *c, const char *hex, uint64_t bytes, struct cache_blob **ret,
		      struct err *e)
{
	struct cache_blob *b;
	int r;

	pthread_mutex_lock(&c->lock);
	b = find_open(c, hex);
	if (b && b->map.presence.bytes != bytes) {
		pthread_mutex_unlock(&c->lock);
		return err_set(e, -EINVAL, "blob %.12s is open with another size", hex);
	}
	if (b) {
		b->refs++;
		pthread_mutex_unlock(&c->lock);
		*ret = b;
		return 0;
	}
	b = xmalloc_zero(1, sizeof(*b));
	memcpy(b->hex, hex, BLOBMAP_HEX_BYTES);
	b->cache = c;
	/* Under the lock, so that one digest gets one entry: two system calls, rarely a wait. */
	r = blobmap_open(c->dir.blobs_fd, hex, bytes, c->boot_id, &b->map, e);
	if (r) {
		pthread_mutex_unlock(&c->lock);
		free(b);
		return r;
	}
	b->map.presence.lock_file = lock_synced;
	b->refs = 1;
	/* A process that was killed may have left bits that are only LIVE. */
	atomic_store(&b->dirty, presence_count(&b->map.presence) > 0);
	list_add_tail(&c->blobs, &b->link);
	pthread_mutex_unlock(&c->lock);
	*ret = b;
	return 0;
}

int cache_blob_open(struct cache *c, const char *digest, uint64_t bytes, struct cache_blob **ret,
		    struct err *e)
{
	const char *hex = digest + strlen("sha256:");
	int r;

	if (!digest_valid(digest))
		return err_set(e, -EINVAL, "not a sha256 digest");
	/* Before the lock: it needs no entry of ours, and others may go on opening. */
	if (used_estimate(c) > high_water(atomic_load(&c->room_bytes)) && !atomic_load(&c->full))
		(void)cache_evict(c); /* the blob opens all the same, stores are refused */
	r = open_entry(c, hex, bytes, ret, e);
	/* Others have filled the file system since we looked: what we keep for later goes first. */
	if (r == -ENOSPC && cache_evict(c) > 0)
		r = open_entry(c, hex, bytes, ret, e);
	return r;
}

void cache_blob_close(struct cache_blob *b)
{
	struct cache *c;

	if (!b)
		return;
	c = b->cache;
	pthread_mutex_lock(&c->lock);
	if (--b->refs) {
		pthread_mutex_unlock(&c->lock);
		return;
	}
	b->closing = true;
	while (b->kept)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);

	if (atomic_load(&b->dirty))
		(void)cache_sync(b); /* reported; the bits stay LIVE for this boot */
	blobmap_close(&b->map);

	pthread_mutex_lock(&c->lock);
	list_del(&b->link);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	free(b);
}

/* ---- what is here ---- */

int cache_blob_fd(const struct cache_blob *b)
{
	return b->map.presence.data_fd;
}

uint64_t cache_blob_bytes(const struct cache_blob *b)
{
	return b->map.presence.bytes;
}

bool cache_has(const struct cache_blob *b, struct range r)
{
	return presence_has(&b->map.presence, r);
}

struct range cache_missing(const struct cache_blob *b, struct range r)
{
	return presence_missing(&b->map.presence, r);
}

uint64_t cache_present_bytes(const struct cache_blob *b)
{
	return presence_count(&b->map.presence);
}
