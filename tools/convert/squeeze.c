/* SPDX-License-Identifier: Apache-2.0 */
/*
 * squeeze.c - one queue, one lock, a codec per thread
 */
#include "squeeze.h"

#include "err.h"
#include "text.h"
#include "zfile.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct squeeze {
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	struct squeeze_batch *first, **last; /* waiting, oldest first */
	bool stop;
	unsigned int threads;
	pthread_t *thread;
};

static size_t out_room(const struct layer_format *f)
{
	return SQUEEZE_BATCH_BYTES / f->block_bytes * (codec_bound(f->codec, f->block_bytes) + 4);
}

struct squeeze_batch *squeeze_batch_new(const struct layer_format *f)
{
	struct squeeze_batch *b = xmalloc_zero(1, sizeof(*b));

	b->format = *f;
	b->in = xmalloc_zero(1, SQUEEZE_BATCH_BYTES);
	b->out = xmalloc_zero(1, out_room(f));
	b->stored = xmalloc_zero(SQUEEZE_BATCH_BYTES / f->block_bytes, sizeof(*b->stored));
	return b;
}

void squeeze_batch_free(struct squeeze_batch *b)
{
	if (!b)
		return;
	free(b->in);
	free(b->out);
	free(b->stored);
	free(b);
}

static void compress(struct squeeze_batch *b, struct codec *c)
{
	size_t room = out_room(&b->format);

	b->out_bytes = 0;
	b->blocks = 0;
	b->result = 0;
	for (uint32_t at = 0; at < b->in_bytes; at += b->format.block_bytes) {
		uint32_t n = b->in_bytes - at;
		long stored;

		if (n > b->format.block_bytes)
			n = b->format.block_bytes;
		stored = zfile_block_encode(b->format.codec, b->format.level, c, b->in + at, n,
					    b->out + b->out_bytes, room - b->out_bytes);
		if (stored < 0) {
			b->result = (int)stored;
			return;
		}
		b->stored[b->blocks++] = (uint32_t)stored;
		b->out_bytes += (size_t)stored;
	}
}

static void *worker(void *arg)
{
	struct squeeze *s = arg;
	struct codec *c = codec_new();

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct squeeze_batch *b = s->first;

		if (!b) {
			if (s->stop)
				break;
			pthread_cond_wait(&s->work, &s->lock);
			continue;
		}
		s->first = b->next;
		if (!s->first)
			s->last = &s->first;
		pthread_mutex_unlock(&s->lock);
		compress(b, c);
		pthread_mutex_lock(&s->lock);
		b->done = true;
		pthread_cond_broadcast(&s->done);
	}
	pthread_mutex_unlock(&s->lock);
	codec_free(c);
	return NULL;
}

int squeeze_new(unsigned int threads, struct squeeze **ret, struct err *e)
{
	struct squeeze *s = xmalloc_zero(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, NULL);
	pthread_cond_init(&s->done, NULL);
	s->last = &s->first;
	s->thread = xmalloc_zero(threads, sizeof(*s->thread));
	while (s->threads < threads) {
		int rc = pthread_create(&s->thread[s->threads], NULL, worker, s);

		if (rc) {
			squeeze_free(s);
			return err_set(e, -rc, "starting a thread: %s", strerror(rc));
		}
		s->threads++;
	}
	*ret = s;
	return 0;
}

void squeeze_free(struct squeeze *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->work);
	pthread_mutex_unlock(&s->lock);
	for (unsigned int i = 0; i < s->threads; i++)
		pthread_join(s->thread[i], NULL);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->done);
	free(s->thread);
	free(s);
}

unsigned int squeeze_threads(const struct squeeze *s)
{
	return s->threads;
}

void squeeze_submit(struct squeeze *s, struct squeeze_batch *b)
{
	pthread_mutex_lock(&s->lock);
	b->done = false;
	b->next = NULL;
	*s->last = b;
	s->last = &b->next;
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->lock);
}

void squeeze_wait(struct squeeze *s, struct squeeze_batch *b)
{
	pthread_mutex_lock(&s->lock);
	while (!b->done)
		pthread_cond_wait(&s->done, &s->lock);
	pthread_mutex_unlock(&s->lock);
}
