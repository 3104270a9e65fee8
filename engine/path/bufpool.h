/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bufpool.h - buffers of the read path, in powers of two, under one byte budget
 *
 * Loop thread only. A buffer that was given back is kept for the next user of its class, so the
 * steady state does not allocate. When the budget is used up bufpool_get() returns NULL; the task
 * then queues itself with bufpool_wait() and is woken by the next bufpool_put(), in order.
 */
#ifndef HS_PATH_BUFPOOL_H
#define HS_PATH_BUFPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"
#include "loop.h"

#define BUFPOOL_MIN_BYTES 4096u
#define BUFPOOL_MAX_BYTES (16u << 20)

struct bufpool;

/* One task waiting for any buffer. Initialise with list_init(&w->link). */
struct bufpool_waiter {
	struct list link;
	struct task *task;
};

/*
 * bufpool_new - @budget_bytes: most that is handed out at once, raised to twice
 * BUFPOOL_MAX_BYTES so that every single request can be met
 */
struct bufpool *bufpool_new(uint64_t budget_bytes);
void bufpool_free(struct bufpool *p); /* everything given back; NULL is fine */

/*
 * bufpool_get - @bytes <= BUFPOOL_MAX_BYTES; page-aligned; NULL: over budget now
 * Waiters are not overtaken: NULL as well while somebody else waits.
 */
void *bufpool_get(struct bufpool *p, size_t bytes, struct bufpool_waiter *w);
/*
 * bufpool_get_pair - two buffers or none, so that nobody waits for a second while holding a first
 * Returns whether both were given.
 */
bool bufpool_get_pair(struct bufpool *p, size_t a_bytes, void **ret_a, size_t b_bytes, void **ret_b,
		      struct bufpool_waiter *w);
void bufpool_put(struct bufpool *p, void *buf, size_t bytes);	/* same @bytes; NULL is fine */
void bufpool_wait(struct bufpool *p, struct bufpool_waiter *w); /* idempotent */
void bufpool_forget(struct bufpool_waiter *w);			/* stop waiting */
/* bufpool_wake_all - let everyone who waits look again (shutdown) */
void bufpool_wake_all(struct bufpool *p);
uint64_t bufpool_used_bytes(const struct bufpool *p);

#endif
