/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer_feed.c - store -> unpack -> digest -> queue
 */
#include "layer_feed.h"

#include "digest.h"
#include "err.h"
#include "store.h"
#include "text.h"
#include "unpack.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (512u << 10)

struct piece {
	uint8_t *p;
	size_t bytes;
};

struct layer_feed {
	struct layer_feed_options o;
	pthread_t thread;

	/* the thread's own */
	struct unpack *unpack;
	struct digest *digest;
	size_t filled; /* of the piece at @head */

	/* under the lock: pieces [tail, head) of the ring are full */
	pthread_mutex_t lock;
	pthread_cond_t change;
	struct piece *ring;
	size_t size;
	uint64_t head, tail;
	bool holding; /* the consumer still looks at piece tail - 1 */
	bool ended;
	_Atomic bool cancelled; /* written under the lock, looked at by the sink without */
	struct err error;
};

/* Hand the piece at head to the consumer and wait for a free one. */
static int push(struct layer_feed *f)
{
	int rc = 0;

	digest_add(f->digest, f->ring[f->head % f->size].p, f->filled);
	pthread_mutex_lock(&f->lock);
	f->ring[f->head % f->size].bytes = f->filled;
	f->filled = 0;
	f->head++;
	pthread_cond_broadcast(&f->change);
	while (!f->cancelled && f->head - f->tail + f->holding >= f->size)
		pthread_cond_wait(&f->change, &f->lock);
	if (f->cancelled)
		rc = -ECANCELED;
	pthread_mutex_unlock(&f->lock);
	return rc;
}

/* Unpack what there is; returns 1 while the stream can go on, 0 at its end. */
static int unpack_some(struct layer_feed *f, const uint8_t *in, size_t bytes, bool eof,
		       struct err *e)
{
	for (;;) {
		struct piece *p = &f->ring[f->head % f->size];
		size_t before = bytes, made = 0;
		int more = unpack_step(f->unpack, &in, &bytes, eof, p->p + f->filled,
				       PIECE_BYTES - f->filled, &made, e);
		int rc;

		if (more < 0)
			return more;
		f->filled += made;
		f->o.totals->plain_bytes += made;
		if (f->o.totals->plain_bytes > f->o.totals->max_plain_bytes)
			return err_set(e, -EFBIG,
				       "unpacks to more than %llu bytes (see --max-size)",
				       (unsigned long long)f->o.totals->max_plain_bytes);
		if (f->filled == PIECE_BYTES) {
			rc = push(f);
			if (rc < 0)
				return rc;
		}
		if (!more)
			return 0;
		if (!made && before == bytes && (!eof || f->filled))
			return 1;
	}
}

static int sink(void *arg, const void *p, size_t bytes)
{
	struct layer_feed *f = arg;
	int rc;

	if (f->cancelled)
		return -ECANCELED;
	f->o.totals->stored_bytes += bytes;
	rc = unpack_some(f, p, bytes, false, &f->error);
	return rc < 0 ? rc : 0;
}

static int stream(struct layer_feed *f, struct err *e)
{
	char text[DIGEST_TEXT_BYTES];
	int rc = store_stream_blob(f->o.store, f->o.digest, f->o.bytes, sink, f, e);

	if (f->error.code)
		return f->error.code; /* the sink's is the cause, not the store's */
	while (rc >= 0 && (rc = unpack_some(f, NULL, 0, true, &f->error)) > 0)
		;
	if (rc == 0 && f->filled)
		rc = push(f);
	if (rc < 0)
		return rc;
	digest_text(f->digest, text);
	if (strcmp(text, f->o.diff_id))
		return err_set(e, -EBADMSG, "unpacks to %s, the image config says %s", text,
			       f->o.diff_id);
	return 0;
}

static void *run(void *arg)
{
	struct layer_feed *f = arg;
	struct err e = {0};
	int rc = stream(f, &e);

	pthread_mutex_lock(&f->lock);
	if (rc < 0 && !f->error.code) {
		if (e.code)
			f->error = e;
		else
			(void)err_set(&f->error, rc, "reading the layer: %s", strerror(-rc));
	}
	f->ended = true;
	pthread_cond_broadcast(&f->change);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

int layer_feed_start(const struct layer_feed_options *o, struct layer_feed **ret, struct err *e)
{
	struct layer_feed *f = xmalloc_zero(1, sizeof(*f));
	int rc;

	f->o = *o;
	f->size = o->queue_bytes / PIECE_BYTES < 4 ? 4 : o->queue_bytes / PIECE_BYTES;
	f->ring = xmalloc_zero(f->size, sizeof(*f->ring));
	for (size_t i = 0; i < f->size; i++)
		f->ring[i].p = xmalloc_zero(1, PIECE_BYTES);
	f->unpack = unpack_new();
	f->digest = digest_new();
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->change, NULL);
	rc = pthread_create(&f->thread, NULL, run, f);
	if (rc) {
		f->size = 0;
		layer_feed_free(f);
		return err_set(e, -rc, "starting a thread: %s", strerror(rc));
	}
	*ret = f;
	return 0;
}

int layer_feed_next(void *arg, const void **ret_p, size_t *ret_bytes, struct err *e)
{
	struct layer_feed *f = arg;
	int rc = 0;

	pthread_mutex_lock(&f->lock);
	f->holding = false;
	pthread_cond_broadcast(&f->change);
	while (f->head == f->tail && !f->ended)
		pthread_cond_wait(&f->change, &f->lock);
	if (f->head != f->tail) {
		*ret_p = f->ring[f->tail % f->size].p;
		*ret_bytes = f->ring[f->tail % f->size].bytes;
		f->tail++;
		f->holding = true;
	} else {
		*ret_bytes = 0;
		if (f->error.code)
			rc = err_set(e, f->error.code, "%s", f->error.msg);
	}
	pthread_mutex_unlock(&f->lock);
	return rc;
}

void layer_feed_cancel(struct layer_feed *f)
{
	pthread_mutex_lock(&f->lock);
	f->cancelled = true;
	pthread_cond_broadcast(&f->change);
	pthread_mutex_unlock(&f->lock);
}

void layer_feed_free(struct layer_feed *f)
{
	if (!f)
		return;
	if (f->size) {
		layer_feed_cancel(f);
		pthread_join(f->thread, NULL);
	}
	for (size_t i = 0; i < f->size; i++)
		free(f->ring[i].p);
	free(f->ring);
	unpack_free(f->unpack);
	digest_free(f->digest);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->change);
	free(f);
}
