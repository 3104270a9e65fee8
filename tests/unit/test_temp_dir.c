/* SPDX-License-Identifier: Apache-2.0 */
/* test_temp_dir.c - temporary caches go with their process, also with one that was killed */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "err.h"
#include "temp_dir.h"
#include "text.h"

static bool there(const char *path)
{
	struct stat st;

	return !lstat(path, &st);
}

static void fill(const char *dir)
{
	char *sub = text_printf("%s/blobs", dir), *file = text_printf("%s/blobs/x", dir);

	assert_int_equal(mkdir(sub, 0700), 0);
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	free(sub);
	free(file);
}

/* A process that makes a directory, says its name and is killed. */
static char *make_and_die(void)
{
	struct temp_dir d;
	struct err e = {0};
	char path[4096] = "";
	int pipe_fds[2];

	assert_int_equal(pipe(pipe_fds), 0);
	pid_t pid = fork();

	if (pid == 0) {
		if (temp_dir_make(&d, &e))
			_exit(1);
		fill(d.path);
		(void)!write(pipe_fds[1], d.path, strlen(d.path));
		close(pipe_fds[1]);
		(void)raise(SIGKILL);
		_exit(1);
	}
	close(pipe_fds[1]);
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_true(read(pipe_fds[0], path, sizeof(path) - 1) > 0);
	close(pipe_fds[0]);
	return text_dup(path);
}

static void test_swept(void **state)
{
	char tmp[] = "/tmp/headstart-test-XXXXXX";
	struct temp_dir a, b;
	struct err e = {0};

	(void)state;
	assert_non_null(mkdtemp(tmp));
	assert_int_equal(setenv("TMPDIR", tmp, 1), 0);
	/* neither of these is one of ours */
	char *file = text_printf("%s/headstart-cache-abcdef", tmp);
	char *longer = text_printf("%s/headstart-cache-abcdefg", tmp);
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(mkdir(longer, 0700), 0);

	assert_int_equal(temp_dir_make(&a, &e), 0);
	fill(a.path);
	char *left = make_and_die();

	assert_true(there(left));
	assert_true(there(a.path)); /* the other process did not take it: it is in use */
	assert_int_equal(temp_dir_make(&b, &e), 0);
	assert_false(there(left));
	assert_true(there(a.path));
	assert_true(there(file));
	assert_true(there(longer));

	char *path = text_dup(a.path);

	temp_dir_remove(&a);
	assert_false(there(path));
	temp_dir_remove(&a); /* nothing to do */
	temp_dir_remove(&b);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(longer), 0);
	assert_int_equal(rmdir(tmp), 0); /* nothing else is left */
	free(path);
	free(left);
	free(file);
	free(longer);
}

static void test_no_place(void **state)
{
	struct temp_dir d = {0};
	struct err e = {0};

	(void)state;
	assert_int_equal(setenv("TMPDIR", "/no/such/place", 1), 0);
	assert_int_equal(temp_dir_make(&d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/no/such/place"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_swept),
	    cmocka_unit_test(test_no_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
