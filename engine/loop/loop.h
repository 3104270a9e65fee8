/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - one thread, one ring, and the tasks that live on it
 *
 * A task is one resumable activity: a *_step() function that looks at its state, does what can be
 * done without blocking, and returns. Whatever it waits for wakes it by task_wake(); a woken task
 * runs once, however often it was woken. A step re-checks its condition after every wake and
 * never calls another task's step. Other threads reach a loop only through loop_post().
 */
#ifndef HS_LOOP_LOOP_H
#define HS_LOOP_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "list.h"
#include "ring.h"

struct err;
struct loop;

struct task {
	void (*step)(struct task *t);
	struct loop *loop;
	struct list run; /* in the loop's run queue while woken */
};

/* task_init - @t sleeps until its first task_wake() */
void task_init(struct task *t, struct loop *l, void (*step)(struct task *t));
/* task_wake - loop thread only; idempotent */
void task_wake(struct task *t);
/* task_done - forget a pending wake; the owner has no op, timer or waiter left */
void task_done(struct task *t);

/* One deadline; wakes its task once when it passes. Loop thread only. */
struct timer {
	struct task *task;
	uint64_t at_ns;	  /* loop_now_ns() time */
	struct list link; /* in the loop's sorted list while armed */
};

void timer_init(struct timer *tm, struct task *t);
void timer_arm(struct timer *tm, uint64_t at_ns);	     /* re-arming moves it */
void timer_stop(struct timer *tm);			     /* harmless when not armed */
bool timer_expired(const struct timer *tm, uint64_t now_ns); /* at_ns set and passed */

/* A message to a loop; @deliver runs once on the loop thread. Belongs to the loop until then. */
struct mail {
	struct mail *next; /* mailbox only */
	void (*deliver)(struct mail *m);
};

/*
 * loop_new - does not start a thread; 0 or what ring_new() returned
 */
int loop_new(unsigned int entries, struct loop **ret, struct err *e);
/* loop_allow_slow - no reader waits for this loop: its steps may block, no warning of slow ones */
void loop_allow_slow(struct loop *l);
void loop_free(struct loop *l); /* stopped, nothing left on it; NULL is fine */

struct ring *loop_ring(struct loop *l);
uint64_t loop_now_ns(struct loop *l); /* cached once per turn */

/*
 * loop_post - any thread; never blocks, takes no lock; mails are delivered in posting order
 * Touches @l until it returns: join the posting threads before loop_free().
 */
void loop_post(struct loop *l, struct mail *m);

/*
 * loop_turn - one round: submit and wait, then deliver mail, fire timers, run woken tasks
 * @wait: false = do not sleep. Never sleeps while mail, a due timer or a woken task is there, so
 * `while (!done) loop_turn(l, true)` works. Ops that the steps start are submitted by the next
 * turn. The first turn that submits ties the loop to its thread. Returns whether anything was done.
 */
bool loop_turn(struct loop *l, bool wait);

/* loop_run - turn until loop_stop(); loop_stop() may come from any thread */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

#endif
