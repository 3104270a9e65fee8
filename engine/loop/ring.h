/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - submitting I/O and hearing that it ended; the seam between real and simulated kernels
 *
 * Two files implement this: ring_uring.c (io_uring) and ring_sim.c (virtual clock, seeded
 * reordering, short transfers, EINTR, "fail the Nth operation", power loss). A program links one.
 * A ring belongs to the thread of its loop. An op and its buffer belong to the ring from the call
 * until op->busy is false again, cancelled or not. Nothing here fails: an operation that cannot be
 * submitted completes with the error. Submission queues that are full are flushed, not refused.
 */
#ifndef HS_LOOP_RING_H
#define HS_LOOP_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"

struct err;
struct ring;
struct task;

/*
 * struct op - one operation in flight; embed it, zero-initialise it, set @task
 * Its address is the ring's user_data. Completion writes @res, clears @busy, then wakes @task.
 */
struct op {
	struct task *task; /* owner sets */
	int32_t res;	   /* ring writes: bytes or 0, or negative errno; may be short */
	bool busy;	   /* ring writes: true from submission to completion */
	struct list link;  /* ring_sim's, while busy */
	uint64_t sim[6];   /* ring_sim's arguments, while busy */
};

/*
 * ring_new - @entries: submission queue size, rounded up to a power of two
 * Returns 0, -ENOSYS io_uring not there or forbidden (message says how to allow it), -ENOMEM.
 * Optional set-up flags are tried from best to plainest.
 */
int ring_new(unsigned int entries, struct ring **ret, struct err *e);
void ring_free(struct ring *r); /* no op may be busy; NULL is fine */

void ring_read(struct ring *r, struct op *op, int fd, void *buf, size_t bytes, uint64_t off);
void ring_write(struct ring *r, struct op *op, int fd, const void *buf, size_t bytes, uint64_t off);
void ring_fdatasync(struct ring *r, struct op *op, int fd);
/* ring_poll - one shot; @events as poll(2); res = revents */
void ring_poll(struct ring *r, struct op *op, int fd, unsigned int events);
/* ring_cancel - ask a busy op to end soon with -ECANCELED; it may still succeed */
void ring_cancel(struct ring *r, struct op *op);

/*
 * ring_wait - submit what is queued, wait for at least one completion, a ring_kick() or the
 * deadline, then complete all that is there
 * @deadline_ns: absolute ring_now_ns() time; 0 = do not wait; UINT64_MAX = no deadline
 */
void ring_wait(struct ring *r, uint64_t deadline_ns);

/* ring_kick - make a ring_wait() return; the only call allowed from other threads */
void ring_kick(struct ring *r);

/* ring_now_ns - monotonic; virtual under simulation */
uint64_t ring_now_ns(struct ring *r);

#endif
