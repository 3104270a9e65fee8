/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workers_thread.c - workers.h on threads
 *
 * One queue, first come first served, under one mutex that is held for a few instructions. A
 * submit wakes a thread only when one is asleep.
 */
#include "workers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

struct workers {
	void *(*ctx_new)(void);
	void (*ctx_free)(void *ctx);

	pthread_mutex_t lock;	/* all below */
	pthread_cond_t wanted;	/* workers wait: queue not empty, or stop */
	pthread_cond_t started; /* workers_new() waits: a thread has its context or failed */
	struct work *head, **tail;
	unsigned int asleep;
	unsigned int ready, failed;
	bool stop;

	unsigned int nthreads; /* workers_new() and workers_free() only */
	pthread_t threads[];
};

static void report_start(struct workers *w, bool ok)
{
	pthread_mutex_lock(&w->lock);
	if (ok)
		w->ready++;
	else
		w->failed++;
	pthread_cond_signal(&w->started);
	pthread_mutex_unlock(&w->lock);
}

static struct work *next_work(struct workers *w)
{
	struct work *work;

	pthread_mutex_lock(&w->lock);
	while (!w->head && !w->stop) {
		w->asleep++;
		pthread_cond_wait(&w->wanted, &w->lock);
		w->asleep--;
	}
	work = w->head;
	if (work) {
		w->head = work->next;
		if (!w->head)
			w->tail = &w->head;
	}
	pthread_mutex_unlock(&w->lock);
	return work;
}

static void *worker_main(void *arg)
{
	struct workers *w = arg;
	void *ctx = NULL;
	struct work *work;

	if (w->ctx_new) {
		ctx = w->ctx_new();
		if (!ctx) {
			report_start(w, false);
			return NULL;
		}
	}
	report_start(w, true);
	while ((work = next_work(w))) {
		work->run(work, ctx);
		loop_post(work->loop, &work->done);
	}
	if (w->ctx_free)
		w->ctx_free(ctx);
	return NULL;
}

int workers_new(unsigned int threads, void *(*ctx_new)(void), void (*ctx_free)(void *ctx),
		struct workers **ret, struct err *e)
{
	struct workers *w;
	sigset_t all, old;
	int r = 0;

	assert(threads >= 1);
	w = calloc(1, sizeof(*w) + threads * sizeof(w->threads[0]));
	if (!w)
		return err_set(e, -ENOMEM, "no memory for %u workers", threads);
	w->ctx_new = ctx_new;
	w->ctx_free = ctx_free;
	w->tail = &w->head;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wanted, NULL);
	pthread_cond_init(&w->started, NULL);

	/* Signals are the main thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; w->nthreads < threads; w->nthreads++) {
		r = -pthread_create(&w->threads[w->nthreads], NULL, worker_main, w);
		if (r < 0)
			break;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);

	pthread_mutex_lock(&w->lock);
	while (w->ready + w->failed < w->nthreads)
		pthread_cond_wait(&w->started, &w->lock);
	if (w->failed && r == 0)
		r = -ENOMEM;
	pthread_mutex_unlock(&w->lock);
	if (r < 0) {
		workers_free(w);
		return err_set(e, r, "cannot start %u worker threads: %s", threads, strerror(-r));
	}
	*ret = w;
	return 0;
}

void workers_free(struct workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_broadcast(&w->wanted);
	pthread_mutex_unlock(&w->lock);
	for (unsigned int i = 0; i < w->nthreads; i++)
		pthread_join(w->threads[i], NULL);
	pthread_cond_destroy(&w->started);
	pthread_cond_destroy(&w->wanted);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void workers_submit(struct workers *w, struct work *work)
{
	work->next = NULL;
	pthread_mutex_lock(&w->lock);
	*w->tail = work;
	w->tail = &work->next;
	if (w->asleep)
		pthread_cond_signal(&w->wanted);
	pthread_mutex_unlock(&w->lock);
}
