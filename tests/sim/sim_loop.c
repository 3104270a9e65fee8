/* SPDX-License-Identifier: Apache-2.0 */
/* sim_loop.c - the simulated world itself: clock, order, faults, durability, workers */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "err.h"
#include "loop.h"
#include "sim.h"
#include "workers.h"

#define SEEDS 300
#define PAGE  4096

struct io {
	struct task task;
	struct op op;
	int runs;
	int *log, *nlog, id;
};

static void io_step(struct task *t)
{
	struct io *io = container_of(t, struct io, task);

	io->runs++;
	if (io->log)
		io->log[(*io->nlog)++] = io->id;
}

static void io_init(struct io *io, struct loop *l)
{
	memset(io, 0, sizeof(*io));
	task_init(&io->task, l, io_step);
	io->op.task = &io->task;
}

static bool io_over(void *arg)
{
	struct io *io = arg;

	return !io->op.busy && list_empty(&io->task.run);
}

static int io_wait(struct loop *l, struct io *io)
{
	assert_true(sim_run(l, io_over, io));
	return io->op.res;
}

static struct loop *world(struct sim_options o)
{
	struct loop *l;

	sim_reset(&o);
	assert_int_equal(loop_new(8, &l, NULL), 0);
	return l;
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static void test_clock_and_timers(void **state)
{
	struct loop *l = world((struct sim_options){.seed = 1, .max_delay_ns = NS_PER_MS});
	struct io io;
	struct timer tm;
	uint64_t start = loop_now_ns(l);

	(void)state;
	io_init(&io, l);
	timer_init(&tm, &io.task);
	timer_arm(&tm, start + 3600 * NS_PER_SEC);
	assert_false(sim_run(l, never, NULL));
	assert_int_equal(io.runs, 1);
	assert_int_equal(loop_now_ns(l), start + 3600 * NS_PER_SEC);
	/* nothing pending: turning does not move the clock */
	assert_false(loop_turn(l, true));
	assert_int_equal(loop_now_ns(l), start + 3600 * NS_PER_SEC);
	loop_free(l);
}

/* The order in which 16 reads complete, as one number. */
static uint64_t order_of(uint64_t seed, uint64_t delay)
{
	struct loop *l = world((struct sim_options){.seed = seed, .max_delay_ns = delay});
	int fd = sim_file_new("abc", 3), log[16], nlog = 0;
	char buf[16];
	struct io io[16];
	uint64_t h = 0;

	for (int i = 0; i < 16; i++) {
		io_init(&io[i], l);
		io[i].log = log;
		io[i].nlog = &nlog;
		io[i].id = i;
		ring_read(loop_ring(l), &io[i].op, fd, &buf[i], 1, 1);
	}
	assert_false(sim_idle());
	assert_false(sim_run(l, never, NULL));
	assert_true(sim_idle());
	assert_int_equal(nlog, 16);
	for (int i = 0; i < 16; i++) {
		assert_int_equal(buf[i], 'b');
		h = h * 16 + (uint64_t)log[i];
	}
	loop_free(l);
	return h;
}

static void test_order_is_seeded(void **state)
{
	(void)state;
	assert_int_equal(order_of(1, 0), 0x0123456789abcdefull);
	assert_int_equal(order_of(7, NS_PER_MS), order_of(7, NS_PER_MS));
	assert_int_not_equal(order_of(7, NS_PER_MS), order_of(8, NS_PER_MS));
}

static void test_transfers(void **state)
{
	bool saw_short = false, saw_eintr = false;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct loop *l = world((struct sim_options){
		    .seed = seed, .max_delay_ns = 1000, .short_percent = 30, .eintr_percent = 10});
		char out[10000], in[10000] = {0};
		int fd = sim_file_new(NULL, 0);
		struct io io;
		size_t at = 0;

		for (size_t i = 0; i < sizeof(out); i++)
			out[i] = (char)sim_random(256);
		io_init(&io, l);
		while (at < sizeof(out)) {
			ring_write(loop_ring(l), &io.op, fd, out + at, sizeof(out) - at, 3 + at);
			if (io_wait(l, &io) == -EINTR) {
				saw_eintr = true;
				continue;
			}
			assert_true(io.op.res > 0);
			saw_short |= (size_t)io.op.res < sizeof(out) - at;
			at += (size_t)io.op.res;
		}
		assert_int_equal(sim_file_bytes(fd), 10003);
		assert_int_equal(sim_file_read(fd, 3, in, sizeof(in)), sizeof(in));
		assert_memory_equal(in, out, sizeof(in));
		ring_read(loop_ring(l), &io.op, fd, in, 10, 20000);
		assert_true(io_wait(l, &io) == 0 || io.op.res == -EINTR);
		ring_read(loop_ring(l), &io.op, 3, in, 10, 0);
		assert_int_equal(io_wait(l, &io), -EBADF);
		loop_free(l);
	}
	assert_true(saw_short);
	assert_true(saw_eintr);
}

static void test_fail_nth_and_cancel(void **state)
{
	int cancelled = 0, succeeded = 0;
	char c[4];

	(void)state;
	for (uint64_t nth = 1; nth <= 4; nth++) {
		struct loop *l = world((struct sim_options){.fail_nth = nth, .fail_errno = -EIO});
		int fd = sim_file_new("abcd", 4);
		struct io io;

		io_init(&io, l);
		for (uint64_t i = 1; i <= 4; i++) {
			ring_read(loop_ring(l), &io.op, fd, c, 4, 0);
			assert_int_equal(io_wait(l, &io), i == nth ? -EIO : 4);
		}
		assert_int_equal(sim_op_count(), 4);
		loop_free(l);
	}
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct loop *l = world((struct sim_options){.seed = seed, .max_delay_ns = 1000});
		int fd = sim_file_new("abcd", 4);
		struct io io;

		io_init(&io, l);
		ring_read(loop_ring(l), &io.op, fd, c, 4, 0);
		ring_cancel(loop_ring(l), &io.op);
		assert_true(io_wait(l, &io) == 4 || io.op.res == -ECANCELED);
		assert_int_equal(io.runs, 1);
		if (io.op.res == 4)
			succeeded++;
		else
			cancelled++;
		loop_free(l);
	}
	assert_true(cancelled > 5 && succeeded > 5);
}

/* Old or new per page, synced is kept, a write completed after the sync began is not covered. */
static void test_power_cut(void **state)
{
	bool kept = false, lost = false, uncovered_lost = false;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct loop *l = world((struct sim_options){.seed = seed, .max_delay_ns = 1000});
		static char a[PAGE], b[2 * PAGE], in[4 * PAGE];
		int fd = sim_file_new(NULL, 4 * PAGE);
		struct io w, s;

		memset(a, 'a', sizeof(a));
		memset(b, 'b', sizeof(b));
		io_init(&w, l);
		io_init(&s, l);
		ring_write(loop_ring(l), &w.op, fd, a, PAGE, 0);
		assert_int_equal(io_wait(l, &w), PAGE);
		ring_fdatasync(loop_ring(l), &s.op, fd); /* covers page 0 only */
		ring_write(loop_ring(l), &w.op, fd, b, 2 * PAGE, PAGE);
		assert_int_equal(io_wait(l, &w), 2 * PAGE);
		assert_int_equal(io_wait(l, &s), 0);
		sim_power_cut();
		assert_int_equal(sim_file_read(fd, 0, in, sizeof(in)), sizeof(in));
		assert_memory_equal(in, a, PAGE);
		for (int p = 1; p < 3; p++) {
			bool new = in[p * PAGE] == 'b';

			assert_true(new || in[p * PAGE] == 0);
			assert_int_equal(in[p * PAGE], in[p * PAGE + PAGE - 1]);
			kept |= new;
			lost |= !new;
		}
		uncovered_lost |= in[PAGE] == 0 && in[2 * PAGE] == 0;
		loop_free(l);
	}
	assert_true(kept && lost && uncovered_lost);
}

/* After a failed fdatasync a second one succeeds and saves nothing; see fsync errors on Linux. */
static void test_failed_sync_loses(void **state)
{
	bool lost = false;

	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct loop *l =
		    world((struct sim_options){.seed = seed, .fail_nth = 2, .fail_errno = -EIO});
		int fd = sim_file_new(NULL, PAGE);
		struct io io;
		char c;

		io_init(&io, l);
		ring_write(loop_ring(l), &io.op, fd, "x", 1, 0);
		assert_int_equal(io_wait(l, &io), 1);
		ring_fdatasync(loop_ring(l), &io.op, fd);
		assert_int_equal(io_wait(l, &io), -EIO);
		ring_fdatasync(loop_ring(l), &io.op, fd);
		assert_int_equal(io_wait(l, &io), 0);
		assert_int_equal(sim_file_read(fd, 0, &c, 1), 1);
		assert_int_equal(c, 'x');
		sim_power_cut();
		sim_file_read(fd, 0, &c, 1);
		lost |= c == 0;
		loop_free(l);
	}
	assert_true(lost);
}

/* Killed or cut with ops in flight: they are dropped, a write may have happened in part. */
static void test_cut_in_flight(void **state)
{
	bool some = false, none = false;

	(void)state;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct loop *l = world((struct sim_options){.seed = seed, .max_delay_ns = 1000});
		int fd = sim_file_new(NULL, 2 * PAGE);
		static char x[2 * PAGE];
		struct io io;
		char c;

		memset(x, 'x', sizeof(x));
		io_init(&io, l);
		ring_write(loop_ring(l), &io.op, fd, x, sizeof(x), 0);
		if (seed % 2)
			sim_power_cut();
		else
			sim_kill();
		assert_false(io.op.busy);
		assert_true(sim_idle());
		assert_int_equal(io.runs, 0);
		sim_file_read(fd, PAGE, &c, 1);
		some |= c == 'x';
		none |= c == 0;
		loop_free(l);
	}
	assert_true(some && none);
}

struct letter {
	struct mail mail;
	struct loop *loop;
	uint64_t at_ns;
};

static void letter_deliver(struct mail *m)
{
	struct letter *t = container_of(m, struct letter, mail);

	t->at_ns = loop_now_ns(t->loop);
}

static void test_mail_later(void **state)
{
	struct loop *l = world((struct sim_options){.seed = 3});
	struct letter t = {.mail = {.deliver = letter_deliver}, .loop = l};

	(void)state;
	sim_post_later(l, &t.mail, 5 * NS_PER_MS);
	assert_false(sim_idle());
	assert_false(sim_run(l, never, NULL));
	assert_int_equal(t.at_ns, NS_PER_SEC + 5 * NS_PER_MS);
	loop_free(l);
}

struct job {
	struct work work;
	int id, *log, *nlog, *done;
};

static void job_run(struct work *w, void *ctx)
{
	struct job *j = container_of(w, struct job, work);

	assert_non_null(ctx);
	j->log[(*j->nlog)++] = j->id;
}

static void job_done(struct mail *m)
{
	++*container_of(m, struct job, work.done)->done;
}

static void *ctx_make(void)
{
	return malloc(1);
}

static void test_workers(void **state)
{
	bool shuffled = false;

	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct loop *l = world((struct sim_options){.seed = seed, .max_delay_ns = 1000});
		int log[10], nlog = 0, done = 0;
		struct job jobs[10];
		struct workers *w;

		assert_int_equal(workers_new(2, ctx_make, free, &w, NULL), 0);
		for (int i = 0; i < 10; i++) {
			jobs[i] = (struct job){
			    .work = {.run = job_run, .loop = l, .done = {.deliver = job_done}},
			    .id = i,
			    .log = log,
			    .nlog = &nlog,
			    .done = &done};
			workers_submit(w, &jobs[i].work);
			if (i == 4) {
				assert_false(sim_run(l, never, NULL));
				assert_int_equal(done, 5);
			}
		}
		workers_free(w); /* finishes the other five */
		assert_int_equal(nlog, 10);
		assert_true(sim_idle());
		while (loop_turn(l, false))
			;
		assert_int_equal(done, 10);
		for (int i = 0; i < 10; i++)
			shuffled |= log[i] != i;
		loop_free(l);
	}
	assert_true(shuffled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_clock_and_timers), cmocka_unit_test(test_order_is_seeded),
	    cmocka_unit_test(test_transfers),	     cmocka_unit_test(test_fail_nth_and_cancel),
	    cmocka_unit_test(test_power_cut),	     cmocka_unit_test(test_failed_sync_loses),
	    cmocka_unit_test(test_cut_in_flight),    cmocka_unit_test(test_mail_later),
	    cmocka_unit_test(test_workers),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	sim_reset(&(struct sim_options){0}); /* the world's memory, for the leak checker */
	return r;
}
