/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_loop.c - what the loop itself costs
 *
 * One line per case: wall and CPU (of the whole process) nanoseconds per operation. The file is in
 * the page cache. Usage: bench_loop [OPS]
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "err.h"
#include "loop.h"

#define FILE_BYTES (64u << 20)
#define MAX_DEPTH  32u
#define MAX_BLOCK  65536u

static uint64_t ops = 200000;

struct lap {
	uint64_t wall_ns, cpu_ns;
};

static struct lap lap_start(void)
{
	return (struct lap){clock_now_ns(), clock_cpu_ns()};
}

static void lap_end(struct lap l, const char *name, uint64_t n)
{
	printf("%-28s wall_ns=%-8.0f cpu_ns=%-8.0f n=%llu\n", name,
	       (double)(clock_now_ns() - l.wall_ns) / (double)n,
	       (double)(clock_cpu_ns() - l.cpu_ns) / (double)n, (unsigned long long)n);
}

/* ---- wake: a task that wakes itself ---- */

struct spinner {
	struct task task;
	uint64_t left;
};

static void spinner_step(struct task *t)
{
	struct spinner *s = container_of(t, struct spinner, task);

	if (--s->left)
		task_wake(t);
}

static void bench_wake(struct loop *l)
{
	struct spinner s = {.left = 10 * ops};
	struct lap lap = lap_start();

	task_init(&s.task, l, spinner_step);
	task_wake(&s.task);
	while (s.left)
		loop_turn(l, true);
	lap_end(lap, "wake and step", 10 * ops);
}

/* ---- post: a round trip between two loops on two threads, each asleep in between ---- */

struct ball {
	struct mail mail;
	struct loop *here, *there;
	uint64_t left;
};

static void ball_deliver(struct mail *m)
{
	struct ball *b = container_of(m, struct ball, mail);
	struct loop *next = b->there;

	if (b->left-- == 0) {
		loop_stop(b->here);
		loop_stop(b->there);
		return;
	}
	b->there = b->here;
	b->here = next;
	loop_post(next, m);
}

static void *run_main(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void bench_post(struct loop *l)
{
	struct ball b = {.mail = {.deliver = ball_deliver}, .here = l, .left = ops / 2};
	struct loop *other;
	pthread_t thread;
	struct lap lap;

	if (loop_new(32, &b.there, NULL))
		exit(1);
	other = b.there;

	if (pthread_create(&thread, NULL, run_main, other))
		exit(1);
	lap = lap_start();
	loop_post(l, &b.mail);
	loop_run(l);
	lap_end(lap, "post round trip", ops / 4);
	pthread_join(thread, NULL);
	loop_free(other);
}

/* ---- cached reads ---- */

struct reader {
	struct task task;
	struct op op;
	int fd;
	uint32_t block;
	uint64_t *left, *off;
	char *buf;
};

static void reader_step(struct task *t)
{
	struct reader *r = container_of(t, struct reader, task);

	if (r->op.busy || !*r->left)
		return;
	--*r->left;
	*r->off = (*r->off + 17ull * r->block) % (FILE_BYTES - r->block);
	ring_read(loop_ring(t->loop), &r->op, r->fd, r->buf, r->block, *r->off);
}

static void bench_ring(struct loop *l, int fd, uint32_t block, unsigned int depth)
{
	static struct reader readers[MAX_DEPTH];
	static char buf[MAX_DEPTH][MAX_BLOCK];
	uint64_t left = ops, off = 0;
	struct lap lap = lap_start();
	char name[64];
	bool busy;

	for (unsigned int i = 0; i < depth; i++) {
		readers[i] = (struct reader){
		    .fd = fd, .block = block, .left = &left, .off = &off, .buf = buf[i]};
		task_init(&readers[i].task, l, reader_step);
		readers[i].op.task = &readers[i].task;
		task_wake(&readers[i].task);
	}
	do {
		loop_turn(l, true);
		busy = left > 0;
		for (unsigned int i = 0; i < depth; i++)
			busy |= readers[i].op.busy;
	} while (busy);
	loop_turn(l, false);
	(void)snprintf(name, sizeof(name), "ring_read %uK depth %u", block / 1024, depth);
	lap_end(lap, name, ops);
}

static void bench_pread(int fd, uint32_t block)
{
	static char buf[MAX_BLOCK];
	struct lap lap = lap_start();
	uint64_t off = 0;
	char name[64];

	for (uint64_t i = 0; i < ops; i++) {
		off = (off + 17ull * block) % (FILE_BYTES - block);
		if (pread(fd, buf, block, (off_t)off) != (ssize_t)block)
			exit(1);
	}
	(void)snprintf(name, sizeof(name), "pread %uK", block / 1024);
	lap_end(lap, name, ops);
}

int main(int argc, char **argv)
{
	static char page[MAX_BLOCK];
	struct err e = {0};
	struct loop *l;
	FILE *tmp;
	int fd;

	if (argc > 1)
		ops = strtoull(argv[1], NULL, 10);
	if (argc > 2 || ops < 1000) {
		fprintf(stderr, "Usage: bench_loop [OPS], at least 1000\n");
		return 2;
	}
	if (loop_new(64, &l, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	tmp = tmpfile(); /* on a real file system: what a cache file costs */
	if (!tmp)
		return 1;
	fd = fileno(tmp);
	for (uint64_t off = 0; off < FILE_BYTES; off += sizeof(page)) {
		memset(page, (int)(off >> 16), sizeof(page));
		if (pwrite(fd, page, sizeof(page), (off_t)off) != (ssize_t)sizeof(page))
			return 1;
	}
	bench_wake(l);
	bench_post(l);
	for (uint32_t block = 4096; block <= MAX_BLOCK; block *= 16) {
		bench_pread(fd, block);
		bench_ring(l, fd, block, 1);
		bench_ring(l, fd, block, MAX_DEPTH);
	}
	loop_free(l);
	return fclose(tmp) ? 1 : 0;
}
