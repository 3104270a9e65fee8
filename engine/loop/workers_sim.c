/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workers_sim.c - workers.h on the simulated world
 *
 * Each submitted piece of work happens after a random delay, in random order, on the one thread
 * there is. With several contexts a random one is used, so code that relies on meeting its own
 * again fails.
 */
#include "workers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "err.h"
#include "list.h"
#include "sim.h"
#include "text.h"

struct workers {
	void (*ctx_free)(void *ctx);
	struct work *queue; /* newest first; order means nothing here */
	uint64_t queued;
	unsigned int nctx;
	void *ctx[];
};

/* Runs one of what is queued. */
static void run_one(void *arg)
{
	struct workers *w = arg;
	uint64_t pick = sim_random(w->queued);
	struct work **p = &w->queue;
	struct work *work;

	while (pick-- > 0)
		p = &(*p)->next;
	work = *p;
	*p = work->next;
	w->queued--;
	work->run(work, w->ctx[sim_random(w->nctx)]);
	loop_post(work->loop, &work->done);
}

int workers_new(unsigned int threads, void *(*ctx_new)(void), void (*ctx_free)(void *ctx),
		struct workers **ret, struct err *e)
{
	struct workers *w;

	assert(threads >= 1);
	w = xmalloc_zero(1, sizeof(*w) + threads * sizeof(w->ctx[0]));
	w->ctx_free = ctx_free;
	for (; w->nctx < threads; w->nctx++) {
		if (!ctx_new)
			continue;
		w->ctx[w->nctx] = ctx_new();
		if (!w->ctx[w->nctx]) {
			workers_free(w);
			return err_set(e, -ENOMEM, "cannot make a worker's context");
		}
	}
	*ret = w;
	return 0;
}

void workers_free(struct workers *w)
{
	if (!w)
		return;
	sim_forget(w);
	while (w->queue)
		run_one(w);
	for (unsigned int i = 0; i < w->nctx; i++)
		if (w->ctx_free)
			w->ctx_free(w->ctx[i]);
	free(w);
}

void workers_submit(struct workers *w, struct work *work)
{
	work->next = w->queue;
	w->queue = work;
	w->queued++;
	sim_call_later(run_one, w, sim_delay_ns());
}
