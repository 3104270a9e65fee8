/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - see runtime.h */
#include "runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "log.h"
#include "state.h"
#include "text.h"

#define MIXED_CGROUP "/sys/fs/cgroup/unified"
#define CGROUP_TRIES 300

static char *find_in_path(const char *name)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *dirs = text_printf("%s:/usr/sbin:/sbin", path ? path : "/usr/bin");
	char *save = NULL;

	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		_cleanup_free_ char *file = text_printf("%s/%s", d, name);
		struct stat st;

		if (*d == '/' && !access(file, X_OK) && !stat(file, &st) && S_ISREG(st.st_mode))
			return steal_ptr(file);
	}
	return NULL;
}

int runtime_find(const char *name, char **ret, struct err *e)
{
	if (name && strchr(name, '/')) {
		*ret = access(name, X_OK) ? NULL : realpath(name, NULL);
		return *ret ? 0 : err_set(e, -ENOENT, "%s: %s", name, strerror(errno));
	}
	*ret = find_in_path(name ? name : "runc");
	if (!*ret && !name)
		*ret = find_in_path("crun");
	return *ret ? 0
		    : err_set(e, -ENOENT, "%s is not installed",
			      name ? name : "neither runc nor crun");
}

static bool is_crun(const char *path)
{
	const char *base = strrchr(path, '/');

	return !strcmp(base ? base + 1 : path, "crun");
}

void runtime_prepare(const char *path)
{
	if (is_crun(path) && !access(MIXED_CGROUP, F_OK) && umount2(MIXED_CGROUP, MNT_DETACH) &&
	    errno != EINVAL)
		log_warn("cannot hide " MIXED_CGROUP " from crun error=%s", strerror(errno));
}

static void exec_runtime(const struct record *rec, const char *const *args)
    __attribute__((noreturn));

static void exec_runtime(const struct record *rec, const char *const *args)
{
	_cleanup_free_ char *root = record_file(rec, "runtime");
	const char *argv[16] = {rec->runtime, "--root", root};
	size_t n = 3;
	sigset_t none;

	for (; *args && n < 15; args++)
		argv[n++] = *args;
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL); /* refused for some, which are default anyway */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(rec->runtime, (char *const *)argv);
	fprintf(stderr, "headstart: %s: %s\n", rec->runtime, strerror(errno));
	_exit(127);
}

static void quiet(int to)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= to; fd++)
		(void)dup2(null, fd); /* worst case: the runtime's output is seen */
}

pid_t runtime_run(const struct record *rec, const char *bundle, int null_stdin, struct err *e)
{
	const char *args[] = {"run", "--bundle", bundle, rec->id, NULL};
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		return err_set(e, -errno, "fork: %s", strerror(errno));
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* which it passes on to the container */
		if (getppid() != parent)
			_exit(1);
		if (null_stdin)
			quiet(0);
		exec_runtime(rec, args);
	}
	return pid;
}

static int run_quietly(const struct record *rec, const char *const *args)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		quiet(2);
		exec_runtime(rec, args);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int runtime_kill(const struct record *rec, const char *sig)
{
	const char *args[] = {"kill", rec->id, sig, NULL};

	return run_quietly(rec, args);
}

/* Kill what is in the cgroup at @path; returns whether anything was. */
static bool kill_members(const char *path)
{
	_cleanup_free_ char *procs = text_printf("%s/cgroup.procs", path);
	_cleanup_file_ FILE *f = fopen(procs, "re");
	bool any = false;
	int pid;

	while (f && fscanf(f, "%d", &pid) == 1)
		any |= pid > 1 && !kill(pid, SIGKILL);
	return any;
}

/* Remove the cgroup at @path, once its processes have gone. */
static void remove_cgroup(const char *path)
{
	const struct timespec pause = {.tv_nsec = 10000000};

	struct statfs fs;
	struct err e = {0};

	/* where a tree is hidden (see runtime_prepare) crun makes files that look like a cgroup */
	if (!statfs(path, &fs) && fs.f_type == TMPFS_MAGIC) {
		if (tree_remove(path, &e))
			log_error("cannot remove what looks like a cgroup error=%s", e.msg);
		return;
	}
	for (int i = 0; i < CGROUP_TRIES; i++) {
		if (!rmdir(path) || errno == ENOENT)
			return;
		(void)kill_members(path);
		nanosleep(&pause, NULL);
	}
	log_error("cannot remove a cgroup path=%s", path);
}

/*
 * A runtime that is killed before it has written its state leaves a cgroup which `delete` knows
 * nothing of, perhaps with its half-made first process in it. Version 2 has one tree, version 1 has
 * one below each directory here.
 */
static void remove_cgroups(const struct record *rec)
{
	_cleanup_free_ char *alone = runtime_cgroup(rec, "/sys/fs/cgroup");
	DIR *dir = opendir("/sys/fs/cgroup");

	if (!access(alone, F_OK))
		remove_cgroup(alone);
	for (struct dirent *d; dir && (d = readdir(dir));) {
		_cleanup_free_ char *tree = text_printf("/sys/fs/cgroup/%s", d->d_name);
		_cleanup_free_ char *path = runtime_cgroup(rec, tree);

		if (d->d_name[0] != '.' && !access(path, F_OK))
			remove_cgroup(path);
	}
	if (dir)
		closedir(dir);
}

char *runtime_cgroup(const struct record *rec, const char *root)
{
	return text_printf("%s/headstart-%s", root, rec->id);
}

void runtime_delete(const struct record *rec)
{
	const char *args[] = {"delete", "--force", rec->id, NULL};
	_cleanup_free_ char *state = text_printf("%s/runtime/%s", rec->path, rec->id);

	/* a container that ended by itself has been deleted by `run` */
	if (rec->runtime && !access(state, F_OK))
		(void)run_quietly(rec, args);
	remove_cgroups(rec);
}
