/* SPDX-License-Identifier: Apache-2.0 */
/* test_workers.c - workers.h on threads */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "err.h"
#include "workers.h"

#define JOBS 20000

static _Atomic int contexts;

static void *ctx_make(void)
{
	atomic_fetch_add(&contexts, 1);
	return calloc(1, sizeof(int));
}

static void ctx_drop(void *ctx)
{
	atomic_fetch_sub(&contexts, 1);
	free(ctx);
}

static void *ctx_fail(void)
{
	return NULL;
}

struct job {
	struct work work;
	uint32_t in, out;
	int *left;
};

static void job_run(struct work *w, void *ctx)
{
	struct job *j = container_of(w, struct job, work);

	++*(int *)ctx; /* a context is never used by two threads: TSAN would tell */
	j->out = j->in * 3 + 1;
}

static void job_done(struct mail *m)
{
	struct job *j = container_of(m, struct job, work.done);

	assert_int_equal(j->out, j->in * 3 + 1);
	--*j->left;
}

static void test_all_work_is_done(void **state)
{
	struct job *jobs = calloc(JOBS, sizeof(*jobs));
	struct workers *w;
	struct err e = {0};
	struct loop *l;
	int left = JOBS;
	int r;

	(void)state;
	r = loop_new(8, &l, &e);
	if (r == -ENOSYS) {
		print_message("skipped: %s\n", e.msg);
		exit(77);
	}
	assert_int_equal(r, 0);
	assert_int_equal(workers_new(3, ctx_make, ctx_drop, &w, &e), 0);
	assert_int_equal(contexts, 3);
	for (uint32_t i = 0; i < JOBS; i++) {
		jobs[i].work.run = job_run;
		jobs[i].work.loop = l;
		jobs[i].work.done.deliver = job_done;
		jobs[i].in = i;
		jobs[i].left = &left;
		workers_submit(w, &jobs[i].work);
		if (i % 100 == 0)
			loop_turn(l, false);
	}
	while (left > 0)
		loop_turn(l, true);

	/* freeing the pool finishes what was submitted */
	left = 100;
	for (int i = 0; i < 100; i++)
		workers_submit(w, &jobs[i].work);
	workers_free(w);
	assert_int_equal(contexts, 0);
	while (loop_turn(l, false))
		;
	assert_int_equal(left, 0);
	loop_free(l);
	free(jobs);
}

static void test_context_failure(void **state)
{
	struct workers *w = NULL;
	struct err e = {0};

	(void)state;
	assert_int_equal(workers_new(2, ctx_fail, ctx_drop, &w, &e), -ENOMEM);
	assert_non_null(e.msg[0] ? e.msg : NULL);
	assert_null(w);
	workers_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_work_is_done),
	    cmocka_unit_test(test_context_failure),
	};

	alarm(55);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
