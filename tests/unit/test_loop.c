/* SPDX-License-Identifier: Apache-2.0 */
/* test_loop.c - loop.h and ring.h on the real io_uring */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "err.h"
#include "log.h"
#include "loop.h"

#define POSTERS	   4
#define POSTS_EACH 20000
#define MANY_OPS   3000
#define SMALL_RING 8

static struct loop *loop_make(unsigned int entries)
{
	struct loop *l;
	struct err e = {0};
	int r = loop_new(entries, &l, &e);

	if (r == -ENOSYS) {
		print_message("skipped: %s\n", e.msg);
		exit(77);
	}
	if (r)
		fail_msg("loop_new: %s", e.msg);
	return l;
}

struct counter {
	struct task task;
	int runs;
	int wake_again;
	struct counter *other;
};

static void counter_step(struct task *t)
{
	struct counter *c = container_of(t, struct counter, task);

	c->runs++;
	if (c->wake_again > 0) {
		c->wake_again--;
		task_wake(t);
	}
	if (c->other)
		task_wake(&c->other->task);
}

static void test_wake_is_idempotent(void **state)
{
	struct loop *l = loop_make(8);
	struct counter a = {0}, b = {0};

	(void)state;
	task_init(&a.task, l, counter_step);
	task_init(&b.task, l, counter_step);
	a.other = &b;
	task_wake(&a.task);
	task_wake(&a.task);
	task_wake(&b.task);
	assert_true(loop_turn(l, false));
	assert_int_equal(a.runs, 1);
	/* b was still waiting for its turn when a woke it */
	assert_int_equal(b.runs, 1);
	assert_false(loop_turn(l, false));

	a.other = NULL;
	a.wake_again = 1000;
	task_wake(&a.task);
	while (loop_turn(l, false))
		;
	assert_int_equal(a.runs, 1002);

	task_wake(&a.task);
	task_done(&a.task);
	assert_false(loop_turn(l, false));
	assert_int_equal(a.runs, 1002);
	loop_free(l);
}

struct alarm {
	struct task task;
	struct timer timer;
	int order, *next;
};

static void alarm_step(struct task *t)
{
	struct alarm *a = container_of(t, struct alarm, task);

	assert_true(timer_expired(&a->timer, loop_now_ns(t->loop)));
	a->order = ++*a->next;
}

static void test_timers(void **state)
{
	struct loop *l = loop_make(8);
	struct alarm a[4];
	uint64_t start = loop_now_ns(l);
	int next = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		a[i] = (struct alarm){.next = &next};
		task_init(&a[i].task, l, alarm_step);
		timer_init(&a[i].timer, &a[i].task);
		assert_false(timer_expired(&a[i].timer, UINT64_MAX));
	}
	timer_arm(&a[0].timer, start + 30 * NS_PER_MS);
	timer_arm(&a[1].timer, start + 10 * NS_PER_MS);
	timer_arm(&a[2].timer, start + 20 * NS_PER_MS);
	timer_arm(&a[3].timer, start + 5 * NS_PER_MS);
	timer_stop(&a[3].timer);
	timer_arm(&a[1].timer, start + 40 * NS_PER_MS); /* moves */
	while (next < 3)
		loop_turn(l, true);
	assert_int_equal(a[2].order, 1);
	assert_int_equal(a[0].order, 2);
	assert_int_equal(a[1].order, 3);
	assert_int_equal(a[3].order, 0);
	assert_true(loop_now_ns(l) >= start + 40 * NS_PER_MS);
	timer_stop(&a[3].timer);
	loop_free(l);
}

struct io {
	struct task task;
	struct op op;
	int runs;
};

static void io_step(struct task *t)
{
	container_of(t, struct io, task)->runs++;
}

static void io_init(struct io *io, struct loop *l)
{
	memset(io, 0, sizeof(*io));
	task_init(&io->task, l, io_step);
	io->op.task = &io->task;
}

static int io_wait(struct loop *l, struct io *io)
{
	while (io->op.busy)
		loop_turn(l, true);
	loop_turn(l, false); /* the wake */
	return io->op.res;
}

static int temp_file(void)
{
	int fd = memfd_create("test_loop", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void test_file_io(void **state)
{
	struct loop *l = loop_make(8);
	struct ring *r = loop_ring(l);
	char out[100], in[100];
	int fd = temp_file();
	struct io io;

	(void)state;
	memset(out, 'x', sizeof(out));
	io_init(&io, l);
	ring_write(r, &io.op, fd, out, sizeof(out), 4096);
	assert_true(io.op.busy);
	assert_int_equal(io_wait(l, &io), 100);
	assert_int_equal(io.runs, 1);
	ring_fdatasync(r, &io.op, fd);
	assert_int_equal(io_wait(l, &io), 0);
	ring_read(r, &io.op, fd, in, sizeof(in), 4096);
	assert_int_equal(io_wait(l, &io), 100);
	assert_memory_equal(in, out, 100);
	ring_read(r, &io.op, fd, in, sizeof(in), 4150);
	assert_int_equal(io_wait(l, &io), 46); /* short at the end */
	ring_read(r, &io.op, -1, in, sizeof(in), 0);
	assert_int_equal(io_wait(l, &io), -EBADF);
	assert_int_equal(io.runs, 5);
	close(fd);
	loop_free(l);
}

/* Far more ops than either queue holds, queued in one go: full queue and completion overflow. */
static void test_many_ops(void **state)
{
	struct loop *l = loop_make(SMALL_RING);
	static uint32_t values[MANY_OPS], back[MANY_OPS];
	static struct io ios[MANY_OPS];
	int fd = temp_file();

	(void)state;
	for (uint32_t i = 0; i < MANY_OPS; i++) {
		values[i] = i * 2654435761u;
		io_init(&ios[i], l);
		ring_write(loop_ring(l), &ios[i].op, fd, &values[i], 4, 4ull * i);
	}
	for (uint32_t i = 0; i < MANY_OPS; i++)
		assert_int_equal(io_wait(l, &ios[i]), 4);
	for (uint32_t i = 0; i < MANY_OPS; i++)
		ring_read(loop_ring(l), &ios[i].op, fd, &back[i], 4, 4ull * i);
	for (uint32_t i = 0; i < MANY_OPS; i++)
		assert_int_equal(io_wait(l, &ios[i]), 4);
	while (loop_turn(l, false))
		;
	for (uint32_t i = 0; i < MANY_OPS; i++) {
		assert_int_equal(back[i], values[i]);
		assert_int_equal(ios[i].runs, 2);
	}
	close(fd);
	loop_free(l);
}

static void test_poll_and_cancel(void **state)
{
	struct loop *l = loop_make(8);
	struct io io;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	io_init(&io, l);
	ring_poll(loop_ring(l), &io.op, p[0], POLLIN);
	for (int i = 0; i < 3; i++)
		loop_turn(l, false);
	assert_true(io.op.busy);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_true(io_wait(l, &io) & POLLIN);

	assert_int_equal(read(p[0], &(char){0}, 1), 1);
	ring_poll(loop_ring(l), &io.op, p[0], POLLIN);
	loop_turn(l, false);
	ring_cancel(loop_ring(l), &io.op);
	assert_int_equal(io_wait(l, &io), -ECANCELED);
	ring_cancel(loop_ring(l), &io.op); /* not busy: nothing */

	/* a cancel queued behind its op in the same submission */
	ring_poll(loop_ring(l), &io.op, p[0], POLLIN);
	ring_cancel(loop_ring(l), &io.op);
	assert_int_equal(io_wait(l, &io), -ECANCELED);
	assert_int_equal(io.runs, 3);
	close(p[0]);
	close(p[1]);
	loop_free(l);
}

/* Everything below has the loop on a thread of its own, made by another one. */
static void *run_main(void *arg)
{
	loop_run(arg);
	return NULL;
}

struct letter {
	struct mail mail;
	int poster, n;
	int *seen; /* per poster, loop thread */
	_Atomic int *total;
};

static void letter_deliver(struct mail *m)
{
	struct letter *t = container_of(m, struct letter, mail);

	/* each poster's letters arrive in its order */
	if (t->seen[t->poster] == t->n)
		t->seen[t->poster]++;
	atomic_fetch_add(t->total, 1);
	free(t);
}

struct poster {
	pthread_t thread;
	struct loop *loop;
	int id;
	int *seen;
	_Atomic int *total;
};

static void *poster_main(void *arg)
{
	struct poster *p = arg;

	for (int i = 0; i < POSTS_EACH; i++) {
		struct letter *t = calloc(1, sizeof(*t));

		t->mail.deliver = letter_deliver;
		t->poster = p->id;
		t->n = i;
		t->seen = p->seen;
		t->total = p->total;
		loop_post(p->loop, &t->mail);
		if (i % 512 == 0)
			sched_yield();
	}
	return NULL;
}

static void test_post_from_threads(void **state)
{
	struct loop *l = loop_make(8);
	struct poster p[POSTERS];
	int seen[POSTERS] = {0};
	_Atomic int total = 0;
	pthread_t runner;

	(void)state;
	assert_int_equal(pthread_create(&runner, NULL, run_main, l), 0);
	for (int i = 0; i < POSTERS; i++) {
		p[i] = (struct poster){.loop = l, .id = i, .seen = seen, .total = &total};
		assert_int_equal(pthread_create(&p[i].thread, NULL, poster_main, &p[i]), 0);
	}
	for (int i = 0; i < POSTERS; i++)
		pthread_join(p[i].thread, NULL);
	while (atomic_load(&total) < POSTERS * POSTS_EACH)
		sched_yield();
	loop_stop(l);
	pthread_join(runner, NULL);
	for (int i = 0; i < POSTERS; i++)
		assert_int_equal(seen[i], POSTS_EACH);
	loop_free(l);
}

/* A lost kick shows as a hang: each round trip starts with the loop about to sleep. */
struct echo {
	struct mail mail;
	_Atomic int done;
};

static void echo_deliver(struct mail *m)
{
	atomic_store(&container_of(m, struct echo, mail)->done, 1);
}

static void test_no_lost_kick(void **state)
{
	struct loop *l = loop_make(8);
	struct echo echo = {.mail = {.deliver = echo_deliver}};
	pthread_t runner;

	(void)state;
	assert_int_equal(pthread_create(&runner, NULL, run_main, l), 0);
	for (int i = 0; i < 20000; i++) {
		atomic_store(&echo.done, 0);
		loop_post(l, &echo.mail);
		while (!atomic_load(&echo.done))
			sched_yield();
	}
	loop_stop(l);
	pthread_join(runner, NULL);
	loop_free(l);
}

/* Posting from the loop's own thread, and a stop before the run. */
struct chain {
	struct mail mail;
	struct loop *loop;
	int left;
};

static void chain_deliver(struct mail *m)
{
	struct chain *c = container_of(m, struct chain, mail);

	if (--c->left > 0)
		loop_post(c->loop, m);
	else
		loop_stop(c->loop);
}

static void test_post_to_self_and_stop(void **state)
{
	struct loop *l = loop_make(8);
	struct chain c = {.mail = {.deliver = chain_deliver}, .loop = l, .left = 100};

	(void)state;
	loop_stop(l);
	loop_run(l);
	loop_post(l, &c.mail);
	loop_run(l);
	assert_int_equal(c.left, 0);
	loop_free(l);
}

static void slow_step(struct task *t)
{
	struct timespec ts = {.tv_nsec = 15000000};

	(void)t;
	(void)nanosleep(&ts, NULL);
}

static void test_slow_step_is_reported(void **state)
{
	struct loop *l = loop_make(8);
	struct task t;
	char line[512];
	int p[2];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	task_init(&t, l, slow_step);
	log_open(LOG_LEVEL_WARN, p[1]);
	for (int i = 0; i < 3; i++) {
		task_wake(&t);
		loop_turn(l, false);
	}
	log_open(LOG_LEVEL_WARN, STDERR_FILENO);
	n = read(p[0], line, sizeof(line) - 1);
	assert_true(n > 0);
	line[n] = '\0';
	assert_non_null(strstr(line, "held up"));
	/* rate limited: one line for three slow steps */
	assert_ptr_equal(strchr(line, '\n'), line + n - 1);
	close(p[0]);
	close(p[1]);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_wake_is_idempotent),
	    cmocka_unit_test(test_timers),
	    cmocka_unit_test(test_file_io),
	    cmocka_unit_test(test_many_ops),
	    cmocka_unit_test(test_poll_and_cancel),
	    cmocka_unit_test(test_post_from_threads),
	    cmocka_unit_test(test_no_lost_kick),
	    cmocka_unit_test(test_post_to_self_and_stop),
	    cmocka_unit_test(test_slow_step_is_reported),
	};

	alarm(55); /* a lost wake-up must not hang the suite */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
