/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_trace - what recording costs: per page cache access, and of a whole start
 *
 * Usage: bench_trace FILE [ROUNDS [--loop] [COMMAND [ARG]...]]
 *
 * FILE, of at least 8 MiB and not on tmpfs, is read in cached pages: without recorder, with one
 * whose filters refuse it, and with one that records it. Then COMMAND is run without and with a
 * recorder that follows it and all it starts, the host's programs included, or, with --loop, that
 * has the filter of `headstart trace record IMAGE`: the devices loop0 to loop7. CPU time is that of
 * everything it starts, servers that outlive it included, plus that of reading the ring. Cases
 * alternate in every round, so that a busy machine meets all of them. Root.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "err.h"
#include "proc_task.h"
#include "recorder.h"
#include "text.h"

#define PAGE	      4096u
#define FILE_PAGES    2048u
#define READS	      100000u
#define ROUNDS_MAX    101
#define RING_BYTES    (64u << 20) /* nothing is lost while nobody reads it */
#define START_POLL_MS 50

static void fail(const char *what)
{
	fprintf(stderr, "bench_trace: %s\n", what);
	exit(1);
}

/* Median and quartiles. */
struct figure {
	double median, low, high;
};

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static struct figure figure_of(const double *from, int n)
{
	double v[ROUNDS_MAX];

	memcpy(v, from, (size_t)n * sizeof(*v));
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return (struct figure){v[n / 2], v[n / 4], v[n * 3 / 4]};
}

static void ignore(void *arg, const struct recorder_event *ev)
{
	uint64_t *bytes = arg;

	*bytes += ev->bytes;
}

/* ---- one access ---- */

enum access_case { NONE, IDLE, OTHER_DEVICE, OTHER_CGROUP, OTHER_PROCESS, RECORDED, CASES };

static const char *const case_names[CASES] = {
    [NONE] = "no recorder",
    [IDLE] = "no filter",
    [OTHER_DEVICE] = "another device, refused",
    [OTHER_CGROUP] = "another cgroup, refused",
    [OTHER_PROCESS] = "another process, refused",
    [RECORDED] = "recorded",
};

static double read_pages(int fd)
{
	static char buf[PAGE];
	uint64_t start = clock_cpu_ns();

	for (unsigned int i = 0; i < READS; i++)
		if (pread(fd, buf, PAGE, (off_t)(i % FILE_PAGES) * PAGE) != PAGE)
			fail("cannot read FILE");
	return (double)(clock_cpu_ns() - start) / READS;
}

static struct recorder *recorder_for(enum access_case c, const struct stat *st, struct err *e)
{
	struct recorder *r;
	int err = recorder_new(RING_BYTES, &r, e);

	if (err)
		fail(e->msg);
	if (c == OTHER_DEVICE)
		err = recorder_add_device(r, major(st->st_dev), minor(st->st_dev) ^ 1, e);
	else if (c == RECORDED)
		err = recorder_add_device(r, major(st->st_dev), minor(st->st_dev), e);
	else if (c == OTHER_CGROUP)
		err = recorder_add_cgroup(r, 1ull << 60, e);
	else if (c == OTHER_PROCESS)
		err = recorder_add_pid(r, 1 << 22, e);
	if (err)
		fail(e->msg);
	return r;
}

static void bench_access(int fd, int rounds)
{
	static double ns[CASES][ROUNDS_MAX], drain[ROUNDS_MAX];
	struct err e = {0};
	uint64_t bytes = 0;
	struct stat st;
	struct figure f, base;

	if (fstat(fd, &st) || (uint64_t)st.st_size < (uint64_t)FILE_PAGES * PAGE)
		fail("FILE is too small");
	(void)read_pages(fd);
	for (int i = 0; i < rounds; i++)
		for (int c = 0; c < CASES; c++) {
			struct recorder *r = c ? recorder_for((enum access_case)c, &st, &e) : NULL;
			uint64_t start;
			int n;

			ns[c][i] = read_pages(fd);
			if (c != RECORDED) {
				recorder_free(r);
				continue;
			}
			start = clock_cpu_ns();
			n = recorder_poll(r, 0, ignore, &bytes);
			drain[i] = n > 0 ? (double)(clock_cpu_ns() - start) / n : 0;
			if (n < (int)READS)
				fail("fewer events than reads");
			recorder_free(r);
		}
	printf("one cached read of 4 KiB, %d rounds of %u: CPU ns\n", rounds, READS);
	base = figure_of(ns[NONE], rounds);
	for (int c = 0; c < CASES; c++) {
		double more[ROUNDS_MAX];

		f = figure_of(ns[c], rounds);
		printf("  %-26s %7.0f (%.0f-%.0f)", case_names[c], f.median, f.low, f.high);
		for (int i = 0; i < rounds; i++)
			more[i] = ns[c][i] - ns[NONE][i];
		f = figure_of(more, rounds);
		if (c)
			printf("   +%.0f (%.0f to %.0f), x %.2f", f.median, f.low, f.high,
			       (base.median + f.median) / base.median);
		putchar('\n');
	}
	f = figure_of(drain, rounds);
	printf("  reading it from the ring   %7.0f (%.0f-%.0f)\n", f.median, f.low, f.high);
}

/* ---- a start ---- */

static double children_cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static bool loop_devices;

struct start {
	double cpu, own; /* seconds: of all it started, and of reading the ring */
	double events, calls, ns;
};

static struct start run_start(char **argv, bool record, bool measure)
{
	double before = children_cpu();
	struct recorder *r = NULL;
	struct start s = {0};
	struct err e = {0};
	uint64_t bytes = 0, own, calls, ns;
	int go[2];
	pid_t pid;

	if (pipe(go))
		fail("pipe");
	pid = fork();
	if (!pid) {
		int null = open("/dev/null", O_RDWR);
		char c;

		if (null < 0 || read(go[0], &c, 1) != 1)
			_exit(127);
		close(go[0]);
		close(go[1]);
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
		execvp(argv[0], argv);
		_exit(127);
	}
	if (record && (recorder_new(0, &r, &e) || (measure && recorder_measure(r, &e)) ||
		       (!loop_devices && recorder_add_pid(r, pid, &e))))
		fail(e.msg);
	if (record && loop_devices)
		recorder_skip_mapped(r);
	for (uint32_t i = 0; record && loop_devices && i < 8; i++)
		if (recorder_add_device(r, 7, i, &e))
			fail(e.msg);
	own = clock_cpu_ns();
	if (write(go[1], "x", 1) != 1)
		fail("pipe");
	for (;;) {
		int status, n;
		pid_t ended = waitpid(-1, &status, WNOHANG);

		if (ended < 0)
			break; /* nobody is left: all have been counted */
		if (ended == pid && (!WIFEXITED(status) || WEXITSTATUS(status) == 127))
			fail("COMMAND failed");
		if (ended > 0)
			continue;
		if (r) {
			n = recorder_poll(r, START_POLL_MS, ignore, &bytes);
			s.events += n > 0 ? n : 0;
		} else {
			usleep(START_POLL_MS * 1000);
		}
	}
	if (r) {
		int n = recorder_poll(r, 0, ignore, &bytes);

		s.events += n > 0 ? n : 0;
	}
	s.own = r ? (double)(clock_cpu_ns() - own) / 1e9 : 0;
	s.cpu = children_cpu() - before;
	if (measure && !recorder_cost(r, &calls, &ns, &e)) {
		s.calls = (double)calls;
		s.ns = (double)ns;
	}
	if (r && recorder_lost(r))
		fail("events were lost");
	recorder_free(r);
	close(go[0]);
	close(go[1]);
	return s;
}

static void bench_start(char **argv, int rounds)
{
	double plain[ROUNDS_MAX], recorded[ROUNDS_MAX], ratio[ROUNDS_MAX], own[ROUNDS_MAX],
	    share[ROUNDS_MAX];
	struct start s = {0};
	struct figure f;

	(void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* who outlives its parent becomes our child */
	(void)run_start(argv, false, false);
	for (int i = 0; i < rounds; i++) {
		struct start a, b;

		/* in turn, so that neither always comes first */
		if (i % 2) {
			b = run_start(argv, true, false);
			a = run_start(argv, false, false);
		} else {
			a = run_start(argv, false, false);
			b = run_start(argv, true, false);
		}
		s = run_start(argv, true, true);
		plain[i] = a.cpu;
		recorded[i] = b.cpu + b.own;
		ratio[i] = recorded[i] / plain[i];
		own[i] = b.own;
		/* the kernel's own account of the programs, and ours of the ring */
		share[i] = 100 * (s.ns / 1e9 + b.own) / plain[i];
	}
	printf("a start, %d rounds: CPU ms of all that it started\n", rounds);
	f = figure_of(plain, rounds);
	printf("  without                    %7.1f (%.1f-%.1f)\n", f.median * 1e3, f.low * 1e3,
	       f.high * 1e3);
	f = figure_of(recorded, rounds);
	printf("  recorded                   %7.1f (%.1f-%.1f)\n", f.median * 1e3, f.low * 1e3,
	       f.high * 1e3);
	f = figure_of(ratio, rounds);
	printf("  ratio, pair by pair        %7.3f (%.3f-%.3f)\n", f.median, f.low, f.high);
	f = figure_of(own, rounds);
	printf("  of it reading the ring     %7.2f (%.2f-%.2f)\n", f.median * 1e3, f.low * 1e3,
	       f.high * 1e3);
	printf("  programs, the last time    %7.2f ms in %.0f calls, %.0f events, %.0f ns a call\n",
	       s.ns / 1e6, s.calls, s.events, s.calls > 0 ? s.ns / s.calls : 0);
	f = figure_of(share, rounds);
	printf("  programs and ring          %7.2f %% of the start (%.2f-%.2f)\n", f.median, f.low,
	       f.high);
}

int main(int argc, char **argv)
{
	int rounds = argc > 2 ? atoi(argv[2]) : 11;
	int fd = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;

	if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "Usage: bench_trace FILE [ROUNDS [--loop] [COMMAND [ARG]...]]\n");
		return 2;
	}
	if (fd < 0)
		fail(strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	bench_access(fd, rounds);
	(void)fflush(stdout); /* a slow table should be seen growing */
	loop_devices = argc > 3 && !strcmp(argv[3], "--loop");
	if (argc > 3 + loop_devices)
		bench_start(argv + 3 + loop_devices, rounds);
	close(fd);
	return 0;
}
