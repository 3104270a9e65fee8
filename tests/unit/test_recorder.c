/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_recorder - the BPF programs at work on this kernel: filters, ranges, losses
 *
 * requires root, or CAP_BPF and CAP_PERFMON
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "err.h"
#include "proc_task.h"
#include "recorder.h"
#include "text.h"

#define PAGE	   4096u
#define FILE_BYTES (100 * PAGE + 123)

static char path[] = "/var/tmp/headstart-recorder-XXXXXX";
static struct stat file;

struct seen {
	struct recorder_event ev[4096];
	size_t count;
};

static void note(void *arg, const struct recorder_event *ev)
{
	struct seen *s = arg;

	if (s->count < sizeof(s->ev) / sizeof(s->ev[0]))
		s->ev[s->count++] = *ev;
}

/* Events about the file of the test. */
static size_t count_kind(const struct seen *s, enum trace_kind kind, uint64_t off, uint64_t bytes)
{
	size_t n = 0;

	for (size_t i = 0; i < s->count; i++) {
		const struct recorder_event *ev = &s->ev[i];

		n += ev->ino == file.st_ino && ev->kind == kind && ev->off == off &&
		     (!bytes || ev->bytes == bytes);
	}
	return n;
}

static struct recorder *start(uint64_t ring_bytes)
{
	struct recorder *r;
	struct err e = {0};
	int err = recorder_new(ring_bytes, &r, &e);

	if (err)
		fail_msg("%s", e.msg);
	return r;
}

static void read_at(int fd, uint64_t off, size_t bytes)
{
	char buf[64 * 1024];

	assert_true(pread(fd, buf, bytes, (off_t)off) >= 0);
}

/* A read, an overlong read at the end, and a fault, by a child; returns its pid. */
static pid_t touch_file(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		volatile char *p = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);

		read_at(fd, 3 * PAGE + 5, 2 * PAGE);
		read_at(fd, 99 * PAGE, 16 * PAGE);
		(void)p[50 * PAGE];
		_exit(0);
	}
	assert_true(waitpid(pid, &status, 0) == pid && status == 0);
	return pid;
}

static void drop_file(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_false(fdatasync(fd));
	assert_false(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM));
	assert_false(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	close(fd);
}

static void check_touched(const struct recorder *r, const struct seen *s, pid_t pid)
{
	size_t mine = 0;

	if (recorder_demand(r)) {
		assert_int_equal(count_kind(s, TRACE_READ, 3 * PAGE, 3 * PAGE), 1);
		/* clipped to the file's end */
		assert_int_equal(count_kind(s, TRACE_READ, 99 * PAGE, PAGE + 123), 1);
		assert_int_equal(count_kind(s, TRACE_FAULT, 50 * PAGE, PAGE), 1);
	}
	assert_true(count_kind(s, TRACE_CACHED, 50 * PAGE, 0) == 1);
	for (size_t i = 0; i < s->count; i++) {
		const struct recorder_event *ev = &s->ev[i];

		assert_true(!i || ev->at_ns >= s->ev[i - 1].at_ns);
		if (ev->ino != file.st_ino)
			continue;
		assert_int_equal(ev->dev, major(file.st_dev) << 20 | minor(file.st_dev));
		assert_int_equal(ev->file_bytes, FILE_BYTES);
		assert_int_equal(ev->pid, pid);
		assert_string_equal(ev->comm, "test_recorder");
		mine++;
	}
	assert_true(mine > 0);
}

static void test_device(void **state)
{
	struct recorder *r = start(0);
	struct seen s = {0};
	struct err e = {0};
	pid_t pid;

	(void)state;
	drop_file();
	(void)touch_file(); /* before there is a filter: nothing passes */
	assert_int_equal(recorder_poll(r, 0, note, &s), 0);
	drop_file();
	assert_false(recorder_add_device(r, major(file.st_dev), minor(file.st_dev) ^ 1, &e));
	(void)touch_file();
	assert_true(recorder_poll(r, 0, note, &s) >= 0);
	for (size_t i = 0; i < s.count; i++)
		assert_true(s.ev[i].ino != file.st_ino);
	drop_file();
	s.count = 0;
	assert_false(recorder_add_device(r, major(file.st_dev), minor(file.st_dev), &e));
	pid = touch_file();
	assert_true(recorder_poll(r, 0, note, &s) > 0);
	check_touched(r, &s, pid);
	assert_int_equal(recorder_lost(r), 0);
	recorder_stop(r);
	s.count = 0;
	assert_true(recorder_poll(r, 0, note, &s) >= 0);
	s.count = 0;
	(void)touch_file();
	assert_int_equal(recorder_poll(r, 0, note, &s), 0);
	recorder_free(r);
}

static void test_process(void **state)
{
	struct recorder *r = start(0);
	struct seen s = {0};
	struct err e = {0};
	int fd, status;
	pid_t stranger, pid;
	int go[2];
	char c = 0;

	(void)state;
	/* one that is there before, and no descendant of whom is followed */
	assert_false(pipe(go));
	stranger = fork();
	if (!stranger) {
		if (read(go[0], &c, 1) == 1) {
			fd = open(path, O_RDONLY | O_CLOEXEC);
			read_at(fd, 70 * PAGE, PAGE);
		}
		_exit(0);
	}
	pid = fork();
	if (!pid) {
		/* the one that is followed; its child's child reads */
		if (read(go[0], &c, 1) == 1 && !fork() && !fork())
			(void)touch_file();
		while (wait(NULL) > 0)
			continue;
		_exit(0);
	}
	assert_false(recorder_add_pid(r, pid, &e));
	drop_file();
	assert_int_equal(write(go[1], "xx", 2), 2);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(waitpid(stranger, &status, 0), stranger);
	assert_true(recorder_poll(r, 0, note, &s) > 0);
	assert_int_equal(count_kind(&s, TRACE_READ, 70 * PAGE, 0), 0);
	if (recorder_demand(r)) {
		assert_int_equal(count_kind(&s, TRACE_READ, 3 * PAGE, 3 * PAGE), 1);
		assert_int_equal(count_kind(&s, TRACE_FAULT, 50 * PAGE, PAGE), 1);
	}
	assert_int_equal(recorder_missed(r), 0);
	close(go[0]);
	close(go[1]);
	recorder_free(r);
}

/* A child of a descendant that was there when the filter was added. */
static void test_descendant(void **state)
{
	struct recorder *r = start(0);
	struct seen s = {0};
	struct err e = {0};
	int go[2], there[2], status;
	pid_t pid;
	char c = 0;

	(void)state;
	assert_false(pipe(go) || pipe(there));
	pid = fork();
	if (!pid) {
		if (!fork()) {
			if (write(there[1], "x", 1) == 1 && read(go[0], &c, 1) == 1)
				(void)touch_file();
			_exit(0);
		}
		while (wait(NULL) > 0)
			continue;
		_exit(0);
	}
	assert_int_equal(read(there[0], &c, 1), 1);
	assert_false(recorder_add_pid(r, pid, &e));
	drop_file();
	assert_int_equal(write(go[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(recorder_poll(r, 0, note, &s) > 0);
	assert_int_equal(count_kind(&s, TRACE_CACHED, 50 * PAGE, 0), 1);
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(there[i]);
	}
	recorder_free(r);
}

/* Run touch_file() in the cgroup @dir. */
static void touch_in(const char *dir)
{
	_cleanup_free_ char *procs = text_printf("%s/cgroup.procs", dir);
	pid_t pid = fork();
	int status;

	if (!pid) {
		FILE *f = fopen(procs, "we");

		if (!f || fprintf(f, "%d", (int)getpid()) < 0 || fclose(f))
			_exit(1);
		(void)touch_file();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_cgroup(void **state)
{
	_cleanup_free_ char *root = proc_cgroup_root();
	_cleanup_free_ char *there = NULL;
	_cleanup_free_ char *below = NULL;
	_cleanup_free_ char *later = NULL;
	_cleanup_free_ char *name = text_printf("headstart-later-%d", (int)getpid());
	struct recorder *r;
	struct seen s = {0};
	struct err e = {0};
	struct stat st;
	uint64_t id = 0;

	(void)state;
	if (!root)
		skip();
	there = text_printf("%s/headstart-there-%d", root, (int)getpid());
	below = text_printf("%s/below", there);
	later = text_printf("%s/%s", root, name);
	if (mkdir(there, 0755))
		skip();
	assert_false(mkdir(below, 0755));
	r = start(0);
	/* filtered for: it and what is below it */
	drop_file();
	assert_false(stat(there, &st));
	assert_false(recorder_add_cgroup(r, st.st_ino, &e));
	(void)touch_file();
	assert_true(recorder_poll(r, 0, note, &s) >= 0);
	assert_int_equal(count_kind(&s, TRACE_CACHED, 50 * PAGE, 0), 0);
	drop_file();
	touch_in(below);
	assert_true(recorder_poll(r, 0, note, &s) > 0);
	assert_int_equal(count_kind(&s, TRACE_CACHED, 50 * PAGE, 0), 1);
	/* one that comes later */
	assert_false(recorder_await_cgroup(r, name, &e));
	assert_false(mkdir(later, 0755));
	drop_file();
	s.count = 0;
	touch_in(later);
	assert_true(recorder_poll(r, 0, note, &s) > 0);
	assert_int_equal(count_kind(&s, TRACE_CACHED, 50 * PAGE, 0), 1);
	assert_int_equal(recorder_await_cgroup(r, "", &e), -EINVAL);
	recorder_free(r);
	assert_false(proc_cgroup_id(getpid(), &id, NULL, &e));
	assert_true(id > 0);
	assert_false(rmdir(below) || rmdir(there) || rmdir(later));
}

static void test_lost(void **state)
{
	struct recorder *r = start(4096);
	struct seen s = {0};
	struct err e = {0};

	(void)state;
	assert_false(recorder_add_device(r, major(file.st_dev), minor(file.st_dev), &e));
	for (int i = 0; i < 100; i++) {
		drop_file();
		(void)touch_file();
	}
	assert_true(recorder_lost(r) > 0);
	assert_true(recorder_poll(r, 0, note, &s) > 0);
	recorder_free(r);
	assert_int_equal(recorder_new(5000, &r, &e), -EINVAL);
}

/* The same page over and over is told once; another process tells it again. */
static void test_repeats(void **state)
{
	struct recorder *r = start(0);
	struct seen s = {0};
	struct err e = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC), status;

	(void)state;
	if (!recorder_demand(r)) {
		recorder_free(r);
		skip();
	}
	assert_false(recorder_add_pid(r, getpid(), &e));
	for (unsigned int i = 0; i < 1000; i++)
		read_at(fd, 8 * PAGE + i, 1);
	assert_true(recorder_poll(r, 0, note, &s) > 0);
	assert_true(count_kind(&s, TRACE_READ, 8 * PAGE, PAGE) >= 1);
	assert_true(count_kind(&s, TRACE_READ, 8 * PAGE, PAGE) < 100);
	s.count = 0;
	if (!fork()) {
		read_at(fd, 8 * PAGE, 1);
		_exit(0);
	}
	assert_true(wait(&status) > 0);
	assert_true(recorder_poll(r, 0, note, &s) > 0);
	assert_int_equal(count_kind(&s, TRACE_READ, 8 * PAGE, PAGE), 1);
	close(fd);
	recorder_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_device),     cmocka_unit_test(test_process),
	    cmocka_unit_test(test_descendant), cmocka_unit_test(test_cgroup),
	    cmocka_unit_test(test_lost),       cmocka_unit_test(test_repeats),
	};
	_cleanup_free_ char *data = xmalloc_zero(1, FILE_BYTES);
	struct recorder *r;
	struct err e = {0};
	int fd, failed, err = recorder_new(0, &r, &e);

	if (err == -EPERM || err == -EOPNOTSUPP) {
		printf("skipped: %s\n", e.msg);
		return 77;
	}
	if (!err)
		recorder_free(r);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0 || write(fd, data, FILE_BYTES) != FILE_BYTES || fstat(fd, &file) || close(fd))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
