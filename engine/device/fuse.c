/* SPDX-License-Identifier: Apache-2.0 */
/* fuse.c - see fuse.h */
#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "bufpool.h"
#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "fuse_proto.h"
#include "list.h"
#include "log.h"
#include "loop.h"
#include "path.h"
#include "range.h"
#include "request.h"
#include "text.h"

#define DEFAULT_REQUESTS 64u
#define MAX_REQUESTS	 1024u
#define CALLS_PER_STEP	 64u /* then other tasks of the loop get their turn */

/* One READ in flight. */
struct slot {
	struct request req;
	struct fuse_device *device;
	struct list link; /* in free_slots or busy_slots */
	uint64_t unique;
	bool answered; /* by an INTERRUPT; what the request brings is thrown away */
};

struct fuse_device {
	/* constant after new */
	struct path *path;
	struct image *image;
	struct fuse_fs fs;
	char *dir;
	int fd;	       /* /dev/fuse, non-blocking */
	int wake_fd;   /* eventfd: something below changed */
	int closed_fd; /* eventfd: written once, as the loop's last touch of this object */

	/* loop thread */
	struct task task;
	struct op poll;
	struct bufpool_waiter buf_waiter;
	struct list free_slots, busy_slots;
	struct slot *slots;
	struct fuse_call held; /* a READ that waits for a buffer */
	bool holds;
	bool closing;
	struct fuse_stats stats;
	struct log_rate error_log;
	struct mail start_mail, close_mail;
	char in[FUSE_IN_BYTES];

	/* written by the loop (stop: by anybody), read by fuse_device_wait() */
	_Atomic uint64_t opens, openers;
	_Atomic uint64_t idle_since_ns; /* clock_now_ns() of the last release */
	atomic_bool gone, stop;
};

static void wake_waiter(struct fuse_device *d)
{
	uint64_t one = 1;
	int saved = errno;

	/* an eventfd only refuses when its counter is full, and then the waiter wakes anyway */
	(void)!write(d->wake_fd, &one, sizeof(one));
	errno = saved;
}

/* Answers do not block: the kernel copies them. ENOENT: the reader is gone, nobody wants it. */
static void send_answer(struct fuse_device *d, const struct iovec *iov, int count)
{
	ssize_t r;

	do {
		r = writev(d->fd, iov, count);
	} while (r < 0 && errno == EINTR);
	if (r < 0 && errno != ENOENT && errno != ENODEV) {
		uint64_t skipped;

		if (log_rate_ok(&d->error_log, loop_now_ns(d->task.loop), &skipped))
			log_error("cannot answer the kernel error=%s skipped=%llu", strerror(errno),
				  (unsigned long long)skipped);
	}
}

static void send_error(struct fuse_device *d, uint64_t unique, int error)
{
	char head[FUSE_OUT_HEAD];
	struct iovec iov = {head, sizeof(head)};

	fuse_head(unique, error, 0, head);
	send_answer(d, &iov, 1);
}

static void request_ended(struct request *r)
{
	struct slot *s = container_of(r, struct slot, req);
	struct fuse_device *d = s->device;
	char head[FUSE_OUT_HEAD];
	struct iovec iov[2] = {{head, sizeof(head)}, {r->buf, r->range.len}};

	if (s->answered) {
		/* nobody waits any more */
	} else if (r->res < 0) {
		d->stats.read_errors++;
		/* a reader of a file expects EIO; what it was in detail is in the log */
		send_error(d, s->unique, r->res == -EINTR ? -EINTR : -EIO);
	} else {
		d->stats.reads++;
		d->stats.read_bytes += r->range.len;
		fuse_head(s->unique, 0, r->range.len, head);
		send_answer(d, iov, 2);
	}
	bufpool_put(d->path->reply_bufs, r->buf, r->range.len);
	list_del(&s->link);
	list_add(&d->free_slots, &s->link);
	task_wake(&d->task);
}

/* Start the READ in d->held. Returns whether it was started; else a buffer is waited for. */
static bool start_read(struct fuse_device *d)
{
	uint32_t len = fuse_read_bytes(&d->held, d->fs.bytes);
	struct slot *s;
	void *buf;

	if (len == 0) {
		send_error(d, d->held.unique, 0); /* an answer without data: end of the file */
		d->holds = false;
		return true;
	}
	buf = bufpool_get(d->path->reply_bufs, len, &d->buf_waiter);
	if (!buf) {
		d->stats.parked++;
		bufpool_wait(d->path->reply_bufs, &d->buf_waiter);
		return false;
	}
	s = list_entry(list_pop(&d->free_slots), struct slot, link);
	list_add_tail(&d->busy_slots, &s->link);
	s->unique = d->held.unique;
	s->answered = false;
	s->req = (struct request){
	    .image = d->image,
	    .range = range_of(d->held.off, len),
	    .buf = buf,
	    .prio = PRIO_DEMAND,
	    .done = request_ended,
	};
	d->holds = false;
	request_start(d->path, &s->req);
	return true;
}

/*
 * The reader was killed or got a signal: it need not wait for the network. Not found: it is
 * answered already, or was interrupted twice.
 */
static void interrupt_read(struct fuse_device *d, uint64_t unique)
{
	list_for_each (l, &d->busy_slots) {
		struct slot *s = list_entry(l, struct slot, link);

		if (s->unique != unique || s->answered)
			continue;
		s->answered = true;
		d->stats.interrupts++;
		send_error(d, unique, -EINTR);
		return;
	}
}

static void note_open(struct fuse_device *d)
{
	d->stats.opens++;
	atomic_fetch_add(&d->openers, 1);
	atomic_fetch_add(&d->opens, 1);
	wake_waiter(d);
}

static void note_release(struct fuse_device *d)
{
	if (atomic_load(&d->openers) == 0)
		return; /* a RELEASE without an OPEN: not the kernel's doing */
	atomic_store(&d->idle_since_ns, clock_now_ns());
	atomic_fetch_sub(&d->openers, 1);
	wake_waiter(d);
}

static void handle_call(struct fuse_device *d, const struct fuse_call *c)
{
	char out[FUSE_OUT_BYTES];
	struct iovec iov = {out, 0};

	d->stats.calls++;
	if (c->error)
		d->stats.refused++;
	else if (c->opcode == FUSE_OPEN)
		note_open(d);
	else if (c->opcode == FUSE_RELEASE && c->node == FUSE_NODE_DISK)
		note_release(d);
	else if (c->opcode == FUSE_INTERRUPT)
		interrupt_read(d, c->target);
	if (!c->error && c->opcode == FUSE_READ) {
		d->held = *c;
		d->holds = true;
		return;
	}
	iov.iov_len = fuse_answer(&d->fs, c, out);
	if (iov.iov_len)
		send_answer(d, &iov, 1);
}

/* Take one request from the kernel. Returns 1, 0 when there is none now, or negative errno. */
static int take_call(struct fuse_device *d)
{
	struct fuse_call call;
	ssize_t n = read(d->fd, d->in, sizeof(d->in));

	if (n < 0) {
		if (errno == EAGAIN)
			return 0;
		/* ENOENT: the request was withdrawn while it was being read */
		return errno == EINTR || errno == ENOENT ? 1 : -errno;
	}
	if (n == 0)
		return -ENODEV;
	if (fuse_parse(d->in, (size_t)n, &call)) {
		d->stats.refused++;
		return 1;
	}
	handle_call(d, &call);
	return 1;
}

/* Returns whether to come back soon without waiting for the kernel. */
static bool serve(struct fuse_device *d)
{
	for (unsigned int i = 0; i < CALLS_PER_STEP; i++) {
		int r;

		if (list_empty(&d->free_slots)) {
			d->stats.parked++;
			return false; /* request_ended() wakes us */
		}
		if (d->holds && !start_read(d))
			return false; /* the buffer pool wakes us */
		if (d->holds || list_empty(&d->free_slots))
			continue;
		r = take_call(d);
		if (r < 0) {
			if (r != -ENODEV)
				log_error("cannot read from /dev/fuse error=%s", strerror(-r));
			atomic_store(&d->gone, true);
			wake_waiter(d);
			return false;
		}
		if (r == 0) {
			ring_poll(loop_ring(d->task.loop), &d->poll, d->fd, POLLIN);
			return false;
		}
	}
	return true;
}

static void close_step(struct fuse_device *d)
{
	uint64_t one = 1;
	int fd;

	if (d->poll.busy) {
		ring_cancel(loop_ring(d->task.loop), &d->poll);
		return; /* its completion wakes us */
	}
	bufpool_forget(&d->buf_waiter);
	d->holds = false;
	if (!list_empty(&d->busy_slots))
		return;
	task_done(&d->task);
	fd = d->closed_fd;
	/* from here on the object may be gone; a fresh eventfd always takes one more */
	(void)!write(fd, &one, sizeof(one));
}

static void device_step(struct task *t)
{
	struct fuse_device *d = container_of(t, struct fuse_device, task);

	if (d->closing) {
		close_step(d);
		return;
	}
	if (d->poll.busy || atomic_load(&d->gone))
		return;
	if (serve(d))
		task_wake(t);
}

static void deliver_start(struct mail *m)
{
	struct fuse_device *d = container_of(m, struct fuse_device, start_mail);

	task_init(&d->task, d->path->loop, device_step);
	d->poll.task = &d->task;
	d->buf_waiter.task = &d->task;
	list_init(&d->buf_waiter.link);
	task_wake(&d->task);
}

static void deliver_close(struct mail *m)
{
	struct fuse_device *d = container_of(m, struct fuse_device, close_mail);

	d->closing = true;
	task_wake(&d->task);
}

static void free_memory(struct fuse_device *d)
{
	if (!d)
		return;
	cleanup_fd(&d->fd);
	cleanup_fd(&d->wake_fd);
	cleanup_fd(&d->closed_fd);
	free(d->slots);
	free(d->dir);
	free(d);
}

static int mount_fuse(struct fuse_device *d, struct err *e)
{
	char data[128];

	d->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (d->fd < 0)
		return err_set(e, -errno, "cannot open /dev/fuse: %s%s", strerror(errno),
			       errno == ENOENT ? " (is the fuse module loaded?)" : "");
	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=%u", d->fd,
		 FUSE_MAX_READ);
	if (mount("headstart", d->dir, "fuse.headstart",
		  MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME, data)) {
		int r = -errno;

		return err_set(e, r, "cannot mount FUSE on %s: %s%s", d->dir, strerror(-r),
			       r == -EPERM ? " (this needs root)" : "");
	}
	return 0;
}

int fuse_device_new(const struct fuse_options *o, struct fuse_device **ret, struct err *e)
{
	struct fuse_device *d = xmalloc_zero(1, sizeof(*d));
	unsigned int n = o->max_requests ? o->max_requests : DEFAULT_REQUESTS;
	int r;

	if (n > MAX_REQUESTS)
		n = MAX_REQUESTS;
	d->path = o->path;
	d->image = o->image;
	d->fs = (struct fuse_fs){
	    .bytes = o->bytes,
	    .mtime_s = (uint64_t)time(NULL),
	    .max_background = (uint16_t)n,
	};
	d->dir = text_dup(o->dir);
	d->fd = -1;
	d->error_log.every_ns = 10 * NS_PER_SEC;
	d->slots = xmalloc_zero(n, sizeof(*d->slots));
	list_init(&d->free_slots);
	list_init(&d->busy_slots);
	for (unsigned int i = 0; i < n; i++) {
		d->slots[i].device = d;
		list_add_tail(&d->free_slots, &d->slots[i].link);
	}
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->closed_fd = eventfd(0, EFD_CLOEXEC);
	r = d->wake_fd < 0 || d->closed_fd < 0 ? err_set(e, -errno, "eventfd: %s", strerror(errno))
					       : mount_fuse(d, e);
	if (r) {
		free_memory(d);
		return r;
	}
	d->start_mail.deliver = deliver_start;
	d->close_mail.deliver = deliver_close;
	loop_post(d->path->loop, &d->start_mail);
	*ret = d;
	return 0;
}

static void wait_wake(struct fuse_device *d, int timeout_ms)
{
	struct pollfd p = {.fd = d->wake_fd, .events = POLLIN};
	uint64_t count;

	if (poll(&p, 1, timeout_ms) > 0)
		(void)!read(d->wake_fd, &count, sizeof(count)); /* only to quiet it */
}

int fuse_device_wait(struct fuse_device *d, uint64_t linger_ns)
{
	for (;;) {
		uint64_t idle_ns;
		int timeout_ms = -1;

		if (atomic_load(&d->stop)) {
			wake_waiter(d); /* stop is for good: a later wait returns as well */
			return 2;
		}
		if (atomic_load(&d->gone))
			return 1;
		if (atomic_load(&d->opens) && !atomic_load(&d->openers)) {
			idle_ns = clock_now_ns() - atomic_load(&d->idle_since_ns);
			if (idle_ns >= linger_ns)
				return 0;
			timeout_ms = (int)min_u64((linger_ns - idle_ns) / NS_PER_MS + 1, 3600000);
		}
		wait_wake(d, timeout_ms);
	}
}

void fuse_device_stop(struct fuse_device *d)
{
	atomic_store(&d->stop, true);
	wake_waiter(d);
}

void fuse_device_free(struct fuse_device *d)
{
	uint64_t count;

	if (!d)
		return;
	if (!atomic_load(&d->gone) && umount2(d->dir, UMOUNT_NOFOLLOW)) {
		if (errno == EBUSY)
			log_warn("unmounting although somebody uses it dir=%s", d->dir);
		if (errno != EINVAL && umount2(d->dir, UMOUNT_NOFOLLOW | MNT_DETACH) &&
		    errno != EINVAL)
			log_error("cannot unmount dir=%s error=%s", d->dir, strerror(errno));
	}
	loop_post(d->path->loop, &d->close_mail);
	while (read(d->closed_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	free_memory(d);
}

void fuse_device_stats(const struct fuse_device *d, struct fuse_stats *ret)
{
	*ret = d->stats;
	ret->openers = atomic_load(&d->openers);
}
