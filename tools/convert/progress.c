/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.c - see progress.h; the lock keeps lines and bar apart
 */
#include "progress.h"

#include "clock.h"
#include "text.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_NS (200 * NS_PER_MS)
#define BAR_CELLS 24u

struct progress {
	struct feed_totals feeds;
	_Atomic uint64_t sent;
	_Atomic uint64_t expected;
	bool quiet, terminal;
	uint64_t start_ns;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop, drawn;
	pthread_t thread;
};

static void erase(struct progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}

static void draw(struct progress *p)
{
	uint64_t have = p->feeds.stored_bytes, all = p->expected, plain = p->feeds.plain_bytes;
	double seconds = (double)(clock_now_ns() - p->start_ns) / 1e9;
	char bar[BAR_CELLS + 1], size[24], sent[24], eta[24] = "";
	unsigned int cells;

	if (!all)
		return;
	if (have > all)
		have = all;
	cells = (unsigned int)((double)have / (double)all * BAR_CELLS);
	for (unsigned int i = 0; i < BAR_CELLS; i++)
		bar[i] = i < cells ? '#' : '.';
	bar[BAR_CELLS] = 0;
	if (have && have < all && seconds > 1) {
		double left = seconds * (double)(all - have) / (double)have;

		snprintf(eta, sizeof(eta), "  ETA %u:%02u", (unsigned int)(left / 60),
			 (unsigned int)left % 60);
	}
	erase(p);
	fprintf(stderr, "[%s] %3u %%  %s unpacked at %.0f MB/s  %s sent%s", bar,
		(unsigned int)(have * 100 / all), text_size(plain, size, sizeof(size)),
		seconds > 0 ? (double)plain / 1e6 / seconds : 0.0,
		text_size(p->sent, sent, sizeof(sent)), eta);
	fflush(stderr);
	p->drawn = true;
}

static void *run(void *arg)
{
	struct progress *p = arg;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		struct timespec ts;

		draw(p);
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_nsec += (long)REDRAW_NS;
		if (ts.tv_nsec >= (long)NS_PER_SEC) {
			ts.tv_sec++;
			ts.tv_nsec -= (long)NS_PER_SEC;
		}
		(void)pthread_cond_timedwait(&p->wake, &p->lock, &ts); /* woken or not: look */
	}
	erase(p);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct progress *progress_new(bool quiet)
{
	struct progress *p = xmalloc_zero(1, sizeof(*p));
	const char *term = getenv("TERM");

	p->quiet = quiet;
	p->terminal = !quiet && isatty(STDERR_FILENO) && term && *term;
	p->start_ns = clock_now_ns();
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	if (p->terminal && pthread_create(&p->thread, NULL, run, p))
		p->terminal = false; /* plain lines then */
	return p;
}

void progress_free(struct progress *p)
{
	if (!p)
		return;
	if (p->terminal) {
		pthread_mutex_lock(&p->lock);
		p->stop = true;
		pthread_cond_broadcast(&p->wake);
		pthread_mutex_unlock(&p->lock);
		pthread_join(p->thread, NULL);
		fflush(stderr);
	}
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->wake);
	free(p);
}

struct feed_totals *progress_feeds(struct progress *p)
{
	return &p->feeds;
}

_Atomic uint64_t *progress_sent(struct progress *p)
{
	return &p->sent;
}

void progress_expect(struct progress *p, uint64_t source_bytes)
{
	p->expected += source_bytes;
}

void progress_say(struct progress *p, const char *fmt, ...)
{
	va_list ap;

	if (p->quiet)
		return;
	pthread_mutex_lock(&p->lock);
	erase(p);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	pthread_mutex_unlock(&p->lock);
}
