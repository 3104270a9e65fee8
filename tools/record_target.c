/* SPDX-License-Identifier: Apache-2.0 */
/* record_target.c - see record_target.h */
#include "record_target.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "imagefs.h"
#include "log.h"
#include "options.h"
#include "proc_task.h"
#include "recording.h"
#include "state.h"
#include "text.h"

#define SNAPSHOTS      "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
#define MAX_FILE_BYTES (4u << 20)
#define START_SLACK_NS NS_PER_SEC /* of clocks and ticks */

/* The directories that runtimes make for a container called %s. */
static const char *const cgroup_names[] = {"%s", "cri-containerd-%s.scope", "nerdctl-%s.scope",
					   "docker-%s.scope"};

static uint64_t ns_of(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * NS_PER_SEC + (uint64_t)t->tv_nsec;
}

static char *task_file(const struct record_target *t, const char *name)
{
	return text_printf("%s/io.containerd.runtime.v2.task/%s/%s/%s", t->containerd_dir,
			   t->namespace, t->container, name);
}

/* ---- filters ---- */

static bool safe_name(const char *s)
{
	if (!isalnum((unsigned char)*s))
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
			return false;
	return true;
}

static char *cgroup_name(const struct record_target *t, size_t n)
{
	const char *format = cgroup_names[n], *at = strchr(format, '%');

	return text_printf("%.*s%s%s", (int)(at - format), format, t->container, at + 2);
}

static int await(struct record_target *t, struct recording *g, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < sizeof(cgroup_names) / sizeof(cgroup_names[0]) && !r; i++) {
		_cleanup_free_ char *name = cgroup_name(t, i);

		r = recorder_await_cgroup(g->recorder, name, e);
	}
	if (r == -EOPNOTSUPP) {
		log_warn("the container's first moments will be missed: %s", e->msg);
		return 0;
	}
	return r;
}

static int follow(struct record_target *t, struct recording *g, struct err *e)
{
	int r = recorder_add_pid(g->recorder, t->pid, e);

	if (!r) {
		free(t->filter);
		t->filter = text_printf("pid %d", (int)t->pid);
	}
	return r;
}

/* The container's first process is there: its cgroup, when it has one of its own. */
static int filter_container(struct record_target *t, struct recording *g, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	uint64_t id;
	int r = proc_cgroup_id(t->pid, &id, &path, e);

	if (r == -ENOENT)
		return 0; /* gone already */
	t->filtered = true;
	if (r || !strcmp(path, "/"))
		return follow(t, g, e);
	r = recorder_add_cgroup(g->recorder, id, e);
	if (!r) {
		free(t->filter);
		t->filter = text_printf("cgroup %s", path);
	}
	return r;
}

/* Whether a cgroup is one that runtimes make for this container. */
static bool is_its_cgroup(const struct record_target *t, const char *path)
{
	const char *last = strrchr(path, '/');

	for (size_t i = 0; last && i < sizeof(cgroup_names) / sizeof(cgroup_names[0]); i++) {
		_cleanup_free_ char *name = cgroup_name(t, i);

		if (!strcmp(last + 1, name))
			return true;
	}
	return false;
}

/* Whether a process began before @file was last written, and so may be what it tells of. */
static bool began_before(pid_t pid, const char *file)
{
	uint64_t start = proc_start_ns(pid), written, age;
	struct timespec real, boot;
	struct stat st;

	if (!start || stat(file, &st))
		return false;
	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	age = ns_of(&boot) - start;
	written = ns_of(&st.st_mtim);
	return ns_of(&real) <= written + age + START_SLACK_NS;
}

/*
 * The container's first process, as a descriptor too. What its file says may be of a process that
 * is gone, whose number is another's by now: who is asked is held first.
 */
static pid_t find_init(const struct record_target *t, int *ret_fd)
{
	_cleanup_free_ char *file = task_file(t, "init.pid");
	_cleanup_free_ char *text = NULL, *path = NULL;
	_cleanup_fd_ int fd = -1;
	uint64_t id;
	pid_t pid;

	if (text_read_file(file, 64, &text, NULL, NULL))
		return 0;
	pid = (pid_t)atoi(text);
	fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (fd < 0)
		return 0;
	if ((proc_cgroup_id(pid, &id, &path, NULL) || !is_its_cgroup(t, path)) &&
	    !began_before(pid, file))
		return 0;
	*ret_fd = fd;
	fd = -1;
	return pid;
}

static int find_container(struct record_target *t, struct recording *g, struct err *e)
{
	if (t->pid)
		return 0;
	t->pid = find_init(t, &t->pid_fd);
	if (!t->pid)
		return 0;
	return filter_container(t, g, e);
}

/* Accesses to the devices of mounted images are file system metadata of them. */
static void add_devices(struct recording *g)
{
	struct record **list;
	size_t count;

	if (record_list(common.run_dir, &list, &count, NULL))
		return;
	for (size_t i = 0; i < count; i++) {
		struct stat st;

		if (list[i]->loop && !stat(list[i]->loop, &st) && S_ISBLK(st.st_mode))
			recording_add_device(g, major(st.st_rdev), minor(st.st_rdev));
	}
	record_list_free(list, count);
}

int record_target_open(struct record_target *t, struct recording *g, struct err *e)
{
	int r;

	t->pid_fd = -1;
	t->read_ahead_bytes = UINT64_MAX;
	add_devices(g);
	if (!t->container) {
		t->pid_fd = (int)syscall(SYS_pidfd_open, t->pid, 0);
		if (t->pid_fd < 0)
			return err_set(e, -ESRCH, "there is no process %d", (int)t->pid);
		return follow(t, g, e);
	}
	if (!safe_name(t->container) || !safe_name(t->namespace))
		return err_set(e, -EINVAL, "'%s' in '%s' is no name of a container", t->container,
			       t->namespace);
	t->filter = text_printf("cgroup %s, awaited", t->container);
	r = await(t, g, e);
	return r ? r : find_container(t, g, e);
}

/* ---- its root ---- */

/* Device, image and digest, if @st_dev is an image's of ours. */
static void know_image(struct record_target *t, uint32_t dev)
{
	_cleanup_free_ char *file =
	    text_printf("/sys/dev/block/%u:%u/queue/read_ahead_kb", dev >> 20, dev & 0xfffff);
	_cleanup_free_ char *text = NULL;
	struct record **list;
	size_t count;

	if (record_list(common.run_dir, &list, &count, NULL))
		return;
	for (size_t i = 0; i < count && !t->image; i++) {
		const struct record *rec = list[i];
		struct stat st;

		if (!rec->loop || stat(rec->loop, &st) ||
		    (major(st.st_rdev) << 20 | minor(st.st_rdev)) != dev)
			continue;
		t->image = text_dup(rec->image);
		if (rec->digest)
			snprintf(t->digest, sizeof(t->digest), "%s", rec->digest);
		if (!text_read_file(file, 64, &text, NULL, NULL))
			t->read_ahead_bytes = strtoull(text, NULL, 10) << 10;
	}
	record_list_free(list, count);
}

/* The name of the image, where containerd's CRI plugin wrote it down. */
static void know_name(struct record_target *t)
{
	_cleanup_free_ char *file = task_file(t, "config.json");
	_cleanup_free_ char *text = NULL;
	const cJSON *name;
	cJSON *j;

	if (t->image || text_read_file(file, MAX_FILE_BYTES, &text, NULL, NULL))
		return;
	j = cJSON_Parse(text);
	name = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(j, "annotations"),
						"io.kubernetes.cri.image-name");
	if (cJSON_IsString(name))
		t->image = text_dup(name->valuestring);
	cJSON_Delete(j);
}

static void learn_mount(struct record_target *t, const struct proc_mount *m)
{
	struct err e = {0};

	if (strcmp(m->fstype, "overlay") != 0) {
		know_image(t, m->dev);
		return;
	}
	if (overlay_parse(m->options, &t->layers))
		return;
	if (overlay_resolve(&t->layers, SNAPSHOTS, &e)) {
		log_warn("files will be looked for in the container itself error=%s", e.msg);
		overlay_done(&t->layers);
		return;
	}
	for (size_t i = 0; i < t->layers.lower_count; i++) {
		struct stat st;

		if (!stat(t->layers.lower[i], &st))
			know_image(t, major(st.st_dev) << 20 | minor(st.st_dev));
	}
}

/*
 * The container's root directory as containerd mounts it before the runtime begins, else as its
 * first process sees it.
 */
static void learn_root(struct record_target *t, struct recording *g)
{
	struct proc_mount m = {0};
	struct stat ours, theirs;
	char *dir;

	add_devices(g); /* it may have been mounted a moment ago */
	if (t->container) {
		dir = task_file(t, "rootfs");
		if (!proc_mount_at(0, dir, &m, NULL)) {
			t->rooted = true;
			t->tree = dir;
			learn_mount(t, &m);
			know_name(t);
			proc_mount_done(&m);
			return;
		}
		free(dir);
	}
	if (!t->pid || proc_mount_at(t->pid, "/", &m, NULL))
		return;
	t->rooted = true;
	dir = text_printf("/proc/%d/root", (int)t->pid);
	/* who has the host's root has no image, but for what it may enter */
	if (stat("/", &ours) || stat(dir, &theirs) || ours.st_dev != theirs.st_dev ||
	    ours.st_ino != theirs.st_ino) {
		t->tree = steal_ptr(dir);
		learn_mount(t, &m);
	}
	free(dir);
	proc_mount_done(&m);
}

int record_target_turn(struct record_target *t, struct recording *g, struct err *e)
{
	int r = t->container ? find_container(t, g, e) : 0;
	struct pollfd p = {.fd = recorder_fd(g->recorder), .events = POLLIN};

	/* something happens in it: then containerd has mounted its root */
	if (!r && !t->rooted && (t->pid || poll(&p, 1, 0) > 0))
		learn_root(t, g);
	return r;
}

bool record_target_ended(const struct record_target *t, const struct recording *g)
{
	struct pollfd p = {.fd = t->pid_fd, .events = POLLIN};

	if (!t->container)
		return !recorder_following(g->recorder);
	return t->pid_fd >= 0 && poll(&p, 1, 0) > 0;
}

void record_target_head(const struct record_target *t, struct trace *ret)
{
	*ret = (struct trace){
	    .image = t->image,
	    .filter = t->filter,
	    .precision = t->read_ahead_bytes ? TRACE_WINDOWS : TRACE_EXACT,
	    .read_ahead_bytes = t->read_ahead_bytes,
	};
	memcpy(ret->digest, t->digest, sizeof(ret->digest));
}

static int device_read(void *arg, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	const int *fd = arg;

	while (bytes) {
		ssize_t n = pread(*fd, buf, bytes, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, n ? -errno : -EIO, "device of the image: %s",
				       n ? strerror(errno) : "it ends too early");
		buf = (char *)buf + n;
		bytes -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

int record_target_device(struct attribution *a, uint32_t dev, struct err *e)
{
	_cleanup_free_ char *path = text_printf("/dev/loop%u", dev & 0xfffff);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	struct imagefs_device d = {.read = device_read, .arg = &fd, .bytes = (uint64_t)end};
	struct imagefs *fs;
	int r;

	if (end < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	r = imagefs_open(&d, &fs, e);
	if (r)
		return r;
	r = attribution_add_image(a, dev, fs, e);
	imagefs_close(fs);
	return r;
}

/* Images that are mounted here, wherever: their own paths count. */
static void name_by_devices(struct attribution *a, const struct recording *g)
{
	for (size_t i = 0; i < g->device_count; i++) {
		struct err e = {0};
		bool touched = false;

		for (size_t n = 0; n < trace_writer_objects(g->writer) && !touched; n++)
			touched = trace_writer_object_at(g->writer, n)->dev == g->devices[i];
		if (touched && record_target_device(a, g->devices[i], &e))
			log_info("an image will be looked for as a directory error=%s", e.msg);
	}
}

void record_target_name(const struct record_target *t, struct recording *g)
{
	struct attribution *a = attribution_new();
	struct err e = {0};

	attribution_want_objects(a, g->writer);
	name_by_devices(a, g);
	for (size_t i = 0; i < t->layers.lower_count; i++)
		if (attribution_missing(a) && attribution_add_tree(a, t->layers.lower[i], &e))
			log_warn("a layer cannot be looked through error=%s", e.msg);
	if (!t->layers.lower_count && t->tree && attribution_missing(a) &&
	    attribution_add_tree(a, t->tree, &e))
		log_warn("the root directory cannot be looked through, files have no paths "
			 "error=%s",
			 e.msg);
	attribution_name_objects(a, g->writer);
	attribution_free(a);
}

void record_target_close(struct record_target *t)
{
	overlay_done(&t->layers);
	free(t->tree);
	free(t->image);
	free(t->filter);
	if (t->pid_fd >= 0)
		close(t->pid_fd);
	t->pid_fd = -1;
}
