/* SPDX-License-Identifier: Apache-2.0 */
/* test_record_target - whether the process that containerd wrote down is still the container's */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>

#include "../../tools/record_target.c"

/* No image is mounted here. */
struct common_options common;

int record_list(const char *run_dir, struct record ***ret, size_t *ret_count, struct err *e)
{
	(void)run_dir;
	(void)e;
	*ret = NULL;
	*ret_count = 0;
	return 0;
}

void record_list_free(struct record **list, size_t count)
{
	(void)list;
	(void)count;
}

void recording_add_device(struct recording *g, uint32_t major, uint32_t minor)
{
	(void)g;
	(void)major;
	(void)minor;
}

static void test_cgroups(void **state)
{
	struct record_target t = {.container = "web"};

	(void)state;
	assert_true(is_its_cgroup(&t, "/default/web"));
	assert_true(is_its_cgroup(&t, "/kube.slice/cri-containerd-web.scope"));
	assert_false(is_its_cgroup(&t, "/default/web2"));
	assert_false(is_its_cgroup(&t, "/web/other"));
	assert_false(is_its_cgroup(&t, "/"));
	assert_false(is_its_cgroup(&t, ""));
}

static void write_pid(const char *file, pid_t pid, time_t later_s)
{
	struct timespec times[2] = {{0}};
	FILE *f = fopen(file, "we");

	assert_non_null(f);
	fprintf(f, "%d", (int)pid);
	assert_int_equal(fclose(f), 0);
	clock_gettime(CLOCK_REALTIME, &times[1]);
	times[1].tv_sec += later_s;
	times[0] = times[1];
	assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
}

static void test_init(void **state)
{
	char dir[] = "/tmp/hs-target-XXXXXX";
	struct record_target t = {.container = "web", .namespace = "default"};
	char *file, *parent;
	int fd = -1, status;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(dir));
	t.containerd_dir = dir;
	file = task_file(&t, "init.pid");
	parent = text_dup(file);
	*strrchr(parent, '/') = '\0';
	assert_int_equal(text_mkdirs(parent, 0700, NULL), 0);
	assert_int_equal(find_init(&t, &fd), 0);

	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		pause();
		_exit(0);
	}
	write_pid(file, pid, 0);
	assert_int_equal(find_init(&t, &fd), pid);
	assert_true(fd >= 0);
	close(fd);
	fd = -1;
	/* written an hour before this process began: of another one with its number */
	write_pid(file, pid, -3600);
	assert_int_equal(find_init(&t, &fd), 0);
	assert_int_equal(fd, -1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	write_pid(file, pid, 0);
	assert_int_equal(find_init(&t, &fd), 0);
	assert_int_equal(fd, -1);

	for (unsigned int n = 0; n < 4; n++) { /* file, container, namespace, tasks */
		(void)remove(file);
		*strrchr(file, '/') = '\0';
	}
	(void)rmdir(dir);
	free(file);
	free(parent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cgroups),
	    cmocka_unit_test(test_init),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
