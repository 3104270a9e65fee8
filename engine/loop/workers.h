/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workers.h - CPU work (checking, decoding) off the loop thread
 *
 * A fixed set of threads takes work in order. Each owns a struct worker_ctx made by the user of
 * the pool (codec contexts and such). workers_thread.c is real; workers_sim.c runs work on the
 * simulated loop, in seeded order, and never overlaps it.
 */
#ifndef HS_LOOP_WORKERS_H
#define HS_LOOP_WORKERS_H

#include "loop.h"

struct err;
struct workers;

/* One piece of CPU work; embed it. Belongs to the pool from submit until @done is delivered. */
struct work {
	void (*run)(struct work *w, void *ctx); /* on a worker thread */
	struct loop *loop;			/* where @done goes */
	struct mail done;			/* owner sets done.deliver */
	struct work *next;			/* pool only */
};

/*
 * workers_new - @threads >= 1
 * @ctx_new, @ctx_free: make and free one thread's context; called on that thread
 */
int workers_new(unsigned int threads, void *(*ctx_new)(void), void (*ctx_free)(void *ctx),
		struct workers **ret, struct err *e);
void workers_free(struct workers *w); /* finishes what was submitted; NULL is fine */

void workers_submit(struct workers *w, struct work *work); /* loop thread */

#endif
