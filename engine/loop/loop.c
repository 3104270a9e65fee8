/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - see loop.h
 *
 * The mailbox is a stack that posters push to and the loop takes as a whole and turns round, so
 * that mails are delivered in the order of their pushes. A poster kicks the ring only when the
 * loop has announced that it may sleep (@drowsy) and nobody else has kicked it since: the loop
 * sets @drowsy and then looks at the mailbox, a poster pushes and then looks at @drowsy, both
 * sequentially consistent, so one of them sees the other.
 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "err.h"
#include "log.h"

/* Steps run between two looks at the ring; more work than this waits for the next turn. */
#define LOOP_STEPS_PER_TURN 256
/* A step that takes longer is a bug: it holds up every reader of this loop. */
#define LOOP_STEP_SLOW_NS (10 * NS_PER_MS)

struct loop {
	/* loop thread */
	struct ring *ring;
	uint64_t now_ns;
	struct list run;    /* struct task, woken */
	struct list timers; /* struct timer, by at_ns; equal ones in arming order */
	struct log_rate slow;
	bool allow_slow;

	/* any thread */
	_Atomic(struct mail *) inbox; /* newest first */
	_Atomic bool drowsy;
	_Atomic bool stop;
};

/* First address of the program, so that a step can be named to addr2line whatever the load address.
 */
extern const char __executable_start[];

void task_init(struct task *t, struct loop *l, void (*step)(struct task *t))
{
	t->step = step;
	t->loop = l;
	list_init(&t->run);
}

void task_wake(struct task *t)
{
	if (list_empty(&t->run))
		list_add_tail(&t->loop->run, &t->run);
}

void task_done(struct task *t)
{
	list_del(&t->run);
}

void timer_init(struct timer *tm, struct task *t)
{
	tm->task = t;
	tm->at_ns = 0;
	list_init(&tm->link);
}

void timer_arm(struct timer *tm, uint64_t at_ns)
{
	struct list *timers = &tm->task->loop->timers;
	struct list *pos;

	list_del(&tm->link);
	tm->at_ns = at_ns ? at_ns : 1;
	/* From the end: most deadlines are later than those armed before. */
	for (pos = timers->prev; pos != timers; pos = pos->prev)
		if (list_entry(pos, struct timer, link)->at_ns <= tm->at_ns)
			break;
	list_add(pos, &tm->link);
}

void timer_stop(struct timer *tm)
{
	list_del(&tm->link);
	tm->at_ns = 0;
}

bool timer_expired(const struct timer *tm, uint64_t now_ns)
{
	return tm->at_ns && tm->at_ns <= now_ns;
}

int loop_new(unsigned int entries, struct loop **ret, struct err *e)
{
	struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_set(e, -ENOMEM, "no memory for a loop");
	r = ring_new(entries, &l->ring, e);
	if (r < 0) {
		free(l);
		return r;
	}
	list_init(&l->run);
	list_init(&l->timers);
	l->slow.every_ns = 10 * NS_PER_SEC;
	l->now_ns = ring_now_ns(l->ring);
	*ret = l;
	return 0;
}

void loop_allow_slow(struct loop *l)
{
	l->allow_slow = true;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	assert(list_empty(&l->run));
	assert(list_empty(&l->timers));
	assert(!atomic_load(&l->inbox));
	ring_free(l->ring);
	free(l);
}

struct ring *loop_ring(struct loop *l)
{
	return l->ring;
}

uint64_t loop_now_ns(struct loop *l)
{
	return l->now_ns;
}

void loop_post(struct loop *l, struct mail *m)
{
	struct mail *head = atomic_load_explicit(&l->inbox, memory_order_relaxed);

	do
		m->next = head;
	while (!atomic_compare_exchange_weak(&l->inbox, &head, m));
	/* From here on @m may already be delivered and gone. */
	if (atomic_load(&l->drowsy) && atomic_exchange(&l->drowsy, false))
		ring_kick(l->ring);
}

static bool deliver_mail(struct loop *l)
{
	struct mail *m, *next, *fifo = NULL;

	if (!atomic_load_explicit(&l->inbox, memory_order_relaxed))
		return false;
	for (m = atomic_exchange(&l->inbox, NULL); m; m = next) {
		next = m->next;
		m->next = fifo;
		fifo = m;
	}
	for (m = fifo; m; m = next) {
		next = m->next; /* delivery may free or post @m again */
		m->deliver(m);
	}
	return true;
}

static bool fire_timers(struct loop *l)
{
	bool any = false;

	while (!list_empty(&l->timers)) {
		struct timer *tm = list_entry(l->timers.next, struct timer, link);

		if (tm->at_ns > l->now_ns)
			break;
		list_del(&tm->link);
		task_wake(tm->task);
		any = true;
	}
	return any;
}

static void warn_slow_step(struct loop *l, void (*step)(struct task *t), uint64_t ns, uint64_t now)
{
	uint64_t skipped;

	if (log_rate_ok(&l->slow, now, &skipped))
		log_warn("a loop step held up its thread step=+0x%llx took_ms=%llu skipped=%llu",
			 (unsigned long long)((uintptr_t)step - (uintptr_t)__executable_start),
			 (unsigned long long)(ns / NS_PER_MS), (unsigned long long)skipped);
}

static bool run_tasks(struct loop *l)
{
	uint64_t before = ring_now_ns(l->ring);
	unsigned int n;

	for (n = 0; n < LOOP_STEPS_PER_TURN; n++) {
		struct list *node = list_pop(&l->run);
		void (*step)(struct task * t);
		uint64_t after;

		if (!node)
			break;
		step = list_entry(node, struct task, run)->step;
		step(list_entry(node, struct task, run));
		after = ring_now_ns(l->ring);
		if (after - before > LOOP_STEP_SLOW_NS && !l->allow_slow)
			warn_slow_step(l, step, after - before, after);
		before = after;
	}
	return n > 0;
}

/* Whether the next turn has something to do without waiting for the ring. */
static bool has_work(struct loop *l)
{
	if (!list_empty(&l->run) || atomic_load_explicit(&l->inbox, memory_order_relaxed) ||
	    atomic_load_explicit(&l->stop, memory_order_relaxed))
		return true;
	return !list_empty(&l->timers) &&
	       list_entry(l->timers.next, struct timer, link)->at_ns <= l->now_ns;
}

bool loop_turn(struct loop *l, bool wait)
{
	uint64_t deadline = 0;
	bool any;

	if (wait && !has_work(l)) {
		deadline = UINT64_MAX;
		if (!list_empty(&l->timers))
			deadline = list_entry(l->timers.next, struct timer, link)->at_ns;
		atomic_store(&l->drowsy, true);
		if (atomic_load(&l->inbox) || atomic_load(&l->stop))
			deadline = 0;
	}
	ring_wait(l->ring, deadline);
	atomic_store_explicit(&l->drowsy, false, memory_order_relaxed);

	l->now_ns = ring_now_ns(l->ring);
	any = deliver_mail(l);
	any |= fire_timers(l);
	any |= run_tasks(l);
	return any || has_work(l);
}

void loop_run(struct loop *l)
{
	/* Taken back on the way out: a stop that came before the run still counts, once. */
	while (!atomic_exchange(&l->stop, false))
		loop_turn(l, true);
}

void loop_stop(struct loop *l)
{
	atomic_store(&l->stop, true);
	ring_kick(l->ring);
}
