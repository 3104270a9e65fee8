/* SPDX-License-Identifier: Apache-2.0 */
/* upload.c - see upload.h */
#include "upload.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "http.h"
#include "text.h"

struct upload {
	struct net *net;
	pthread_mutex_t lock;
	pthread_cond_t moved; /* bytes were taken, or the job is done */
	char *ring;
	size_t cap, head, used;
	bool paused, done, broken;

	/* network thread */
	CURL *easy;
};

struct upload *upload_new(struct net *n, size_t ring_bytes)
{
	struct upload *u = xmalloc_zero(1, sizeof(*u));

	u->net = n;
	u->cap = ring_bytes;
	u->ring = malloc(ring_bytes);
	if (!u->ring)
		abort();
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->moved, NULL);
	return u;
}

void upload_free(struct upload *u)
{
	if (!u)
		return;
	pthread_mutex_destroy(&u->lock);
	pthread_cond_destroy(&u->moved);
	free(u->ring);
	free(u);
}

size_t upload_read(struct upload *u, char *out, size_t len)
{
	size_t n, first;

	pthread_mutex_lock(&u->lock);
	if (u->broken) {
		pthread_mutex_unlock(&u->lock);
		return CURL_READFUNC_ABORT;
	}
	if (!u->used) {
		u->paused = true;
		pthread_mutex_unlock(&u->lock);
		return CURL_READFUNC_PAUSE;
	}
	n = u->used < len ? u->used : len;
	first = u->cap - u->head < n ? u->cap - u->head : n;
	memcpy(out, u->ring + u->head, first);
	memcpy(out + first, u->ring, n - first);
	u->head = (u->head + n) % u->cap;
	u->used -= n;
	pthread_cond_signal(&u->moved);
	pthread_mutex_unlock(&u->lock);
	return n;
}

void upload_attach(struct upload *u, CURL *c)
{
	u->easy = c;
}

void upload_kick(struct upload *u)
{
	if (u->easy)
		curl_easy_pause(u->easy, CURLPAUSE_CONT);
}

static void upload_done(struct http_job *j)
{
	struct upload *u = j->arg;

	pthread_mutex_lock(&u->lock);
	u->done = true;
	pthread_cond_signal(&u->moved);
	pthread_mutex_unlock(&u->lock);
}

/* Put up to @left bytes behind what is in the ring; the piece may be shorter. */
static int feed(struct upload *u, uint64_t off, uint64_t left, size_t *ret,
		int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg)
{
	size_t tail, room;
	int rc;

	pthread_mutex_lock(&u->lock);
	while (u->used == u->cap && !u->done)
		pthread_cond_wait(&u->moved, &u->lock);
	tail = (u->head + u->used) % u->cap;
	room = u->cap - u->used;
	if (u->done) {
		pthread_mutex_unlock(&u->lock);
		*ret = 0;
		return 0;
	}
	pthread_mutex_unlock(&u->lock);
	/* only this thread moves the tail, so the room found stays ours without the lock */
	if (room > u->cap - tail)
		room = u->cap - tail;
	if (room > left)
		room = (size_t)left;
	rc = source(arg, off, u->ring + tail, room);
	if (rc)
		return rc;
	*ret = room;
	return 0;
}

int upload_run(struct upload *u, struct http_job *j, uint64_t base,
	       int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg)
{
	struct net *n = u->net;
	uint64_t sent = 0, id;
	int rc = 0;

	u->head = u->used = 0;
	u->paused = u->done = u->broken = false;
	j->upload = u;
	j->done = upload_done;
	j->arg = u;
	http_submit(j);
	id = j->id; /* ours to read until done is seen under the lock */
	while (sent < j->body_total && !rc) {
		size_t got = 0;
		bool kick, done;

		rc = feed(u, base + sent, j->body_total - sent, &got, source, arg);
		pthread_mutex_lock(&u->lock);
		u->used += rc ? 0 : got;
		u->broken = rc != 0;
		kick = u->paused;
		u->paused = false;
		done = u->done;
		pthread_mutex_unlock(&u->lock);
		sent += got;
		if (done)
			break;
		if (rc)
			http_cancel(n, id);
		else if (kick)
			http_kick(n, id);
	}
	pthread_mutex_lock(&u->lock);
	while (!u->done)
		pthread_cond_wait(&u->moved, &u->lock);
	pthread_mutex_unlock(&u->lock);
	return rc ? rc : j->res;
}
