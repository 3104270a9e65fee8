/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_uring.c - ring.h on io_uring
 *
 * With SINGLE_ISSUER the kernel takes the thread that enables a ring for its only user, so the ring
 * is made disabled and enabled by the first call that has to enter the kernel: ring_new() may run
 * on another thread than the loop. user_data is the address of a struct op, or one of the small
 * tags.
 *
 * A kick is a write to an eventfd that is polled on the ring. A multishot poll reports every write
 * without being armed again and without anybody reading the counter; where the kernel lacks it a
 * one-shot poll and a read(2) do the same.
 */
#include "ring.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "loop.h"

/* user_data values that are not the address of an op */
#define TAG_IGNORE 1u
#define TAG_KICK   2u

#define RING_MIN_ENTRIES   8u
#define RING_MAX_ENTRIES   4096u
#define RING_REAP_BATCH	   64u
#define RING_MAX_TRANSFER  0x7ffff000u /* what Linux moves at most in one call */
#define RING_RETRY_WAIT_NS NS_PER_MS

struct ring {
	struct io_uring uring;
	bool enabled;	     /* the owning thread is known to the kernel */
	bool poll_armed;     /* the poll of @kick_fd is queued or in flight */
	bool poll_multishot; /* until the kernel refuses it */
	int kick_fd;
	uint64_t inflight; /* ops submitted or queued and not completed */
};

static const struct {
	unsigned int flags;
	const char *name;
} setups[] = {
    {IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
	 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
     "single-issuer"},
    {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, "coop"},
    {0, "plain"},
};

#define SETUP_COUNT (sizeof(setups) / sizeof(setups[0]))

static unsigned int pow2_entries(unsigned int entries)
{
	unsigned int n = RING_MIN_ENTRIES;

	while (n < entries && n < RING_MAX_ENTRIES)
		n *= 2;
	return n;
}

static int setup_error(int r, struct err *e)
{
	if (r == -ENOSYS)
		return err_set(e, -ENOSYS, "this kernel has no io_uring; 5.13 or newer is needed");
	if (r == -EPERM || r == -EACCES)
		return err_set(e, -ENOSYS,
			       "io_uring is forbidden here: see sysctl kernel.io_uring_disabled "
			       "(0 allows it), or allow io_uring_setup in the container's seccomp "
			       "profile");
	if (r == -ENOMEM)
		return err_set(e, -ENOMEM,
			       "no memory for an io_uring (older kernels: raise ulimit -l)");
	return err_set(e, r, "io_uring_setup: %s", strerror(-r));
}

int ring_new(unsigned int entries, struct ring **ret, struct err *e)
{
	const char *plain = getenv("HEADSTART_IO_URING_PLAIN");
	_cleanup_free_ struct ring *r = calloc(1, sizeof(*r));
	unsigned int n = pow2_entries(entries);
	size_t i = 0;
	int err;

	if (!r)
		return err_set(e, -ENOMEM, "no memory for a ring");
	if (plain && strcmp(plain, "1") == 0)
		i = SETUP_COUNT - 1;
	r->poll_multishot = i == 0;
	for (;; i++) {
		/* A completion queue of four times the size: overflow works, but is slow. */
		struct io_uring_params p = {
		    .flags = setups[i].flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		    .cq_entries = 4 * n,
		};

		err = io_uring_queue_init_params(n, &r->uring, &p);
		if (err != -EINVAL || i + 1 == SETUP_COUNT)
			break;
		log_info("io_uring set-up refused, trying a plainer one refused=%s next=%s",
			 setups[i].name, setups[i + 1].name);
	}
	if (err < 0)
		return setup_error(err, e);
	r->enabled = !(setups[i].flags & IORING_SETUP_R_DISABLED);
	if (!(r->uring.features & IORING_FEAT_EXT_ARG) ||
	    !(r->uring.features & IORING_FEAT_NODROP)) {
		io_uring_queue_exit(&r->uring);
		return setup_error(-ENOSYS, e);
	}
	r->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->kick_fd < 0) {
		err = -errno;
		io_uring_queue_exit(&r->uring);
		return err_set(e, err, "eventfd: %s", strerror(-err));
	}
	*ret = steal_ptr(r);
	return 0;
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	assert(r->inflight == 0);
	io_uring_queue_exit(&r->uring);
	close(r->kick_fd);
	free(r);
}

static void complete(struct ring *r, struct op *op, int res)
{
	op->res = res;
	op->busy = false;
	r->inflight--;
	if (op->task)
		task_wake(op->task);
}

static void kick_arrived(struct ring *r, const struct io_uring_cqe *cqe)
{
	uint64_t count;

	if (r->poll_multishot) {
		if (!(cqe->flags & IORING_CQE_F_MORE))
			r->poll_armed = false;
		if (cqe->res == -EINVAL)
			r->poll_multishot = false;
		return;
	}
	r->poll_armed = false;
	/* Only empties the counter; an empty one is fine too. */
	(void)!read(r->kick_fd, &count, sizeof(count));
}

/* Completes what the kernel has reported, overflowed completions too. */
static void reap(struct ring *r)
{
	struct io_uring_cqe *cqes[RING_REAP_BATCH];
	unsigned int n;

	while ((n = io_uring_peek_batch_cqe(&r->uring, cqes, RING_REAP_BATCH)) > 0) {
		for (unsigned int i = 0; i < n; i++) {
			uint64_t data = cqes[i]->user_data;

			if (data == TAG_KICK)
				kick_arrived(r, cqes[i]);
			else if (data != TAG_IGNORE && data != LIBURING_UDATA_TIMEOUT)
				complete(r, (struct op *)(uintptr_t)data, cqes[i]->res);
		}
		io_uring_cq_advance(&r->uring, n);
	}
}

static void enable(struct ring *r)
{
	if (r->enabled)
		return;
	/* liburing 2.3 declares io_uring_enable_rings() but its library does not export it. */
	if (syscall(__NR_io_uring_register, r->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
		    0) < 0) {
		log_error("cannot enable an io_uring errno=%d", errno);
		abort();
	}
	r->uring.flags &= ~IORING_SETUP_R_DISABLED;
	r->enabled = true;
}

/* An error of io_uring_enter() that passes by itself; all others are bugs of ours. */
static void expect_passing(int err)
{
	if (err == -EINTR || err == -EAGAIN || err == -EBUSY || err == -ETIME || err == -ENOMEM)
		return;
	log_error("io_uring_enter failed; is a ring used by two threads? errno=%d", -err);
	abort();
}

/* Makes room in the submission queue. Completes ops, which only wakes their tasks. */
static void flush(struct ring *r)
{
	struct __kernel_timespec pause = {.tv_nsec = RING_RETRY_WAIT_NS};

	enable(r);
	while (io_uring_sq_ready(&r->uring) > 0) {
		struct io_uring_cqe *cqe;
		int n = io_uring_submit(&r->uring);

		if (n >= 0)
			continue;
		expect_passing(n);
		if (n == -EINTR)
			continue;
		/* The kernel wants completions taken, or memory to come back. */
		(void)io_uring_wait_cqe_timeout(&r->uring, &cqe, &pause);
		reap(r);
	}
}

static struct io_uring_sqe *sqe_get(struct ring *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	if (sqe)
		return sqe;
	flush(r);
	sqe = io_uring_get_sqe(&r->uring);
	assert(sqe);
	return sqe;
}

static struct io_uring_sqe *op_begin(struct ring *r, struct op *op)
{
	struct io_uring_sqe *sqe;

	assert(!op->busy);
	op->busy = true;
	op->res = 0;
	r->inflight++;
	sqe = sqe_get(r);
	return sqe;
}

static unsigned int clip_bytes(size_t bytes)
{
	return bytes < RING_MAX_TRANSFER ? (unsigned int)bytes : RING_MAX_TRANSFER;
}

void ring_read(struct ring *r, struct op *op, int fd, void *buf, size_t bytes, uint64_t off)
{
	struct io_uring_sqe *sqe = op_begin(r, op);

	io_uring_prep_read(sqe, fd, buf, clip_bytes(bytes), off);
	io_uring_sqe_set_data(sqe, op);
}

void ring_write(struct ring *r, struct op *op, int fd, const void *buf, size_t bytes, uint64_t off)
{
	struct io_uring_sqe *sqe = op_begin(r, op);

	io_uring_prep_write(sqe, fd, buf, clip_bytes(bytes), off);
	io_uring_sqe_set_data(sqe, op);
}

void ring_fdatasync(struct ring *r, struct op *op, int fd)
{
	struct io_uring_sqe *sqe = op_begin(r, op);

	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data(sqe, op);
}

void ring_poll(struct ring *r, struct op *op, int fd, unsigned int events)
{
	struct io_uring_sqe *sqe = op_begin(r, op);

	io_uring_prep_poll_add(sqe, fd, events);
	io_uring_sqe_set_data(sqe, op);
}

void ring_cancel(struct ring *r, struct op *op)
{
	struct io_uring_sqe *sqe;

	if (!op->busy)
		return;
	sqe = sqe_get(r);
	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
	io_uring_sqe_set_data64(sqe, TAG_IGNORE);
}

static void arm_kick(struct ring *r)
{
	struct io_uring_sqe *sqe;

	if (r->poll_armed)
		return;
	sqe = sqe_get(r);
	if (r->poll_multishot)
		io_uring_prep_poll_multishot(sqe, r->kick_fd, POLLIN);
	else
		io_uring_prep_poll_add(sqe, r->kick_fd, POLLIN);
	io_uring_sqe_set_data64(sqe, TAG_KICK);
	r->poll_armed = true;
}

void ring_wait(struct ring *r, uint64_t deadline_ns)
{
	uint64_t now = deadline_ns && deadline_ns != UINT64_MAX ? clock_now_ns() : 0;
	struct io_uring_cqe *cqe;
	int n = 0;

	if (deadline_ns <= now) { /* 0 or passed */
		if (io_uring_sq_ready(&r->uring) > 0)
			flush(r);
		if (r->inflight > 0 && r->enabled)
			reap(r);
		return;
	}

	arm_kick(r);
	enable(r);
	if (deadline_ns == UINT64_MAX) {
		n = io_uring_submit_and_wait(&r->uring, 1);
	} else {
		struct __kernel_timespec ts = {
		    .tv_sec = (int64_t)((deadline_ns - now) / NS_PER_SEC),
		    .tv_nsec = (long long)((deadline_ns - now) % NS_PER_SEC),
		};

		n = io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1, &ts, NULL);
	}
	if (n < 0)
		expect_passing(n);
	reap(r);
	if (io_uring_sq_ready(&r->uring) > 0)
		flush(r);
}

void ring_kick(struct ring *r)
{
	uint64_t one = 1;

	/* The counter can only be full after 2^64 kicks; then a kick is pending anyway. */
	(void)!write(r->kick_fd, &one, sizeof(one));
}

uint64_t ring_now_ns(struct ring *r)
{
	(void)r; /* the simulated ring has a clock of its own */
	return clock_now_ns();
}
