/* SPDX-License-Identifier: Apache-2.0 */
/* test_proc_task - what is made of /proc's texts */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "err.h"
#include "proc_task.h"

static void test_stat(void **state)
{
	(void)state;
	assert_int_equal(proc_stat_parent("12 (cat) S 7 12 12 0 -1"), 7);
	assert_int_equal(proc_stat_parent("12 (a (b) 3) S 9) S 7 12"), 7);
	assert_int_equal(proc_stat_parent("12 (cat)"), 0);
	assert_int_equal(proc_stat_parent(""), 0);
	assert_int_equal(proc_stat_parent("12 (cat) S 99999999999999999999"), 0);
	assert_int_equal(proc_stat_parent("12 (cat) S -7"), 0);
	assert_int_equal(proc_stat_parent("12 (cat)S"), 0);
	assert_int_equal(
	    proc_stat_start("12 (a (b) c) S 7 12 12 0 -1 1 2 3 4 5 6 7 8 9 20 0 1 0 4711 8 9"),
	    4711);
	assert_int_equal(proc_stat_start("12 (cat) S 7 12 12 0 -1 1 2 3 4 5 6 7 8 9 20 0 1 0"), 0);
	assert_int_equal(proc_stat_start("12 (cat) S"), 0);
	assert_int_equal(proc_stat_start(""), 0);
}

static void test_cgroup(void **state)
{
	char *path;

	(void)state;
	path = proc_cgroup_parse("3:cpuset:/x\n0::/default/web\n");
	assert_string_equal(path, "/default/web");
	free(path);
	path = proc_cgroup_parse("0::/");
	assert_string_equal(path, "/");
	free(path);
	assert_null(proc_cgroup_parse("3:cpuset:/x\n10::/y\n"));
	assert_null(proc_cgroup_parse(""));
	assert_null(proc_cgroup_parse(NULL));
}

static void test_mount(void **state)
{
	static const char text[] =
	    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
	    "30 22 0:25 / /a\\040b rw - overlay overlay rw,lowerdir=/x\\134:y:/z,upperdir=/u\n"
	    "31 22 7:3 /sub /m ro shared:1 master:2 - ext4 /dev/loop3 ro\n"
	    "nonsense\n"
	    "32 22 7:4 / /m ro - erofs /dev/loop4\n"
	    "33 22 7:1048575 / /cut ro";
	struct proc_mount m = {0};

	(void)state;
	assert_false(proc_mount_parse(text, "/", &m));
	assert_int_equal(m.dev, 8 << 20 | 1);
	assert_string_equal(m.fstype, "ext4");
	proc_mount_done(&m);
	assert_false(proc_mount_parse(text, "/a b", &m));
	assert_string_equal(m.options, "rw,lowerdir=/x\\134:y:/z,upperdir=/u");
	proc_mount_done(&m);
	/* the topmost */
	assert_false(proc_mount_parse(text, "/m", &m));
	assert_int_equal(m.dev, 7 << 20 | 4);
	assert_string_equal(m.fstype, "erofs");
	assert_string_equal(m.root, "/");
	proc_mount_done(&m);
	assert_true(proc_mount_parse(text, "/cut", &m) < 0);
	assert_true(proc_mount_parse(text, "/absent", &m) < 0);
	assert_true(proc_mount_parse("", "/", &m) < 0);
}

static void test_unescape(void **state)
{
	char s[] = "a\\040b\\134\\12", t[] = "\\777";

	(void)state;
	proc_unescape(s);
	assert_string_equal(s, "a b\\\\12");
	proc_unescape(t);
	assert_string_equal(t, "\\777");
}

struct found {
	pid_t wanted;
	int times;
};

static void find(void *arg, pid_t pid)
{
	struct found *f = arg;

	f->times += pid == f->wanted;
}

static void test_descendants(void **state)
{
	struct found f = {0};
	struct err e = {0};
	int tell[2], stop[2], status;
	pid_t child;

	(void)state;
	assert_false(pipe(tell) || pipe(stop));
	child = fork();
	if (!child) {
		pid_t grandchild;
		char c;

		close(stop[1]); /* else it would never see the end */
		grandchild = fork();
		if (!grandchild) {
			grandchild = getpid();
			_exit(write(tell[1], &grandchild, sizeof(grandchild)) < 0 ||
			      read(stop[0], &c, 1) < 0);
		}
		_exit(wait(NULL) < 0);
	}
	assert_int_equal(read(tell[0], &f.wanted, sizeof(f.wanted)), sizeof(f.wanted));
	assert_false(proc_descendants(getpid(), find, &f, &e));
	assert_int_equal(f.times, 1);
	f.times = 0;
	assert_false(proc_descendants(f.wanted, find, &f, &e));
	assert_int_equal(f.times, 0);
	close(stop[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	close(stop[0]);
	close(tell[0]);
	close(tell[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_stat),	cmocka_unit_test(test_cgroup),
	    cmocka_unit_test(test_mount),	cmocka_unit_test(test_unescape),
	    cmocka_unit_test(test_descendants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
