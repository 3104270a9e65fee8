/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uploader.c - a queue of finished layers and the threads that send them
 */
#include "uploader.h"

#include "err.h"
#include "layer_writer.h"
#include "log.h"
#include "store.h"
#include "text.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct uploader {
	struct uploader_options o;
	pthread_mutex_t lock;
	pthread_cond_t change;
	struct upload_job *first, **last;
	unsigned int busy; /* jobs taken by threads */
	bool stop;
	struct err error;
	unsigned int threads;
	pthread_t *thread;
};

struct sending {
	struct uploader *u;
	struct layer_blob *blob;
	uint64_t sent; /* counted so far: a retry starts again and must not count twice */
};

static int blob_source(void *arg, uint64_t off, void *buf, size_t bytes)
{
	struct sending *s = arg;
	int rc = layer_blob_read(s->blob, off, buf, bytes, NULL);

	if (rc == 0 && off + bytes > s->sent) {
		*s->u->o.sent_bytes += off + bytes - s->sent;
		s->sent = off + bytes;
	}
	return rc;
}

static int send_blob(struct uploader *u, struct upload_job *job, struct err *e)
{
	struct sending s = {.u = u, .blob = job->blob};
	int rc = layer_blob_digest(job->blob, job->digest, e);

	job->bytes = layer_blob_bytes(job->blob);
	if (rc < 0 || !u->o.store)
		return rc;
	rc = store_has_blob(u->o.store, job->digest, e);
	if (rc == 0 && u->o.mount_from) {
		struct err ignored = {0};

		rc = store_mount_blob(u->o.store, job->digest, u->o.mount_from, &ignored);
		if (rc < 0) {
			log_debug("mounting a blob failed digest=%s error=\"%s\"", job->digest,
				  ignored.msg);
			rc = 0; /* then it is sent */
		}
	}
	if (rc)
		return rc < 0 ? rc : 0;
	job->sent = true;
	return store_put_blob(u->o.store, job->digest, job->bytes, blob_source, &s, e);
}

static void *run(void *arg)
{
	struct uploader *u = arg;

	pthread_mutex_lock(&u->lock);
	for (;;) {
		struct upload_job *job = u->first;
		struct err e = {0};
		int rc;

		if (!job || u->error.code) {
			if (u->stop)
				break;
			pthread_cond_wait(&u->change, &u->lock);
			continue;
		}
		u->first = job->next;
		if (!u->first)
			u->last = &u->first;
		u->busy++;
		pthread_mutex_unlock(&u->lock);
		rc = send_blob(u, job, &e);
		layer_blob_free(job->blob);
		job->blob = NULL;
		pthread_mutex_lock(&u->lock);
		u->busy--;
		if (rc < 0 && !u->error.code) {
			u->error = e;
			if (!e.code)
				(void)err_set(&u->error, rc, "%s", strerror(-rc));
		}
		pthread_cond_broadcast(&u->change);
	}
	pthread_mutex_unlock(&u->lock);
	return NULL;
}

int uploader_new(const struct uploader_options *o, struct uploader **ret, struct err *e)
{
	struct uploader *u = xmalloc_zero(1, sizeof(*u));

	u->o = *o;
	u->last = &u->first;
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->change, NULL);
	u->thread = xmalloc_zero(o->threads, sizeof(*u->thread));
	while (u->threads < o->threads) {
		int rc = pthread_create(&u->thread[u->threads], NULL, run, u);

		if (rc) {
			uploader_free(u);
			return err_set(e, -rc, "starting a thread: %s", strerror(rc));
		}
		u->threads++;
	}
	*ret = u;
	return 0;
}

void uploader_add(struct uploader *u, struct upload_job *job)
{
	pthread_mutex_lock(&u->lock);
	job->next = NULL;
	*u->last = job;
	u->last = &job->next;
	pthread_cond_broadcast(&u->change);
	pthread_mutex_unlock(&u->lock);
}

bool uploader_failed(struct uploader *u)
{
	bool failed;

	pthread_mutex_lock(&u->lock);
	failed = u->error.code != 0;
	pthread_mutex_unlock(&u->lock);
	return failed;
}

int uploader_wait(struct uploader *u, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&u->lock);
	while ((u->first && !u->error.code) || u->busy)
		pthread_cond_wait(&u->change, &u->lock);
	if (u->error.code)
		rc = err_set(e, u->error.code, "%s", u->error.msg);
	pthread_mutex_unlock(&u->lock);
	return rc;
}

void uploader_free(struct uploader *u)
{
	if (!u)
		return;
	pthread_mutex_lock(&u->lock);
	u->stop = true;
	while (u->first) {
		struct upload_job *job = u->first;

		u->first = job->next;
		layer_blob_free(job->blob);
		job->blob = NULL;
	}
	u->last = &u->first;
	pthread_cond_broadcast(&u->change);
	pthread_mutex_unlock(&u->lock);
	for (unsigned int i = 0; i < u->threads; i++)
		pthread_join(u->thread[i], NULL);
	pthread_mutex_destroy(&u->lock);
	pthread_cond_destroy(&u->change);
	free(u->thread);
	free(u);
}

static int memory_source(void *arg, uint64_t off, void *buf, size_t bytes)
{
	memcpy(buf, (const uint8_t *)arg + off, bytes);
	return 0;
}

int upload_bytes(struct store *s, const char *digest, const void *p, uint64_t bytes, struct err *e)
{
	int rc = store_has_blob(s, digest, e);

	if (rc)
		return rc < 0 ? rc : 0;
	return store_put_blob(s, digest, bytes, memory_source, (void *)(uintptr_t)p, e);
}
