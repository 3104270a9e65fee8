/* SPDX-License-Identifier: Apache-2.0 */
/* proc_task.c - see proc_task.h */
#include "proc_task.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "text.h"

#define PROC_MAX_BYTES (16u << 20)

/* Files of /proc have no size: read until the end. */
static char *read_proc(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	size_t len = 0, room = 0;

	if (fd < 0)
		return NULL;
	for (;;) {
		ssize_t n;

		if (len + 1 >= room) {
			char *more;

			room = room ? 2 * room : 16384;
			more = room <= PROC_MAX_BYTES ? realloc(text, room) : NULL;
			if (!more)
				return NULL;
			text = more;
		}
		n = read(fd, text + len, room - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return NULL;
		if (!n)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	return steal_ptr(text);
}

/* ---- cgroups ---- */

char *proc_cgroup_parse(const char *text)
{
	for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
		if (text_starts_with(p, "0::/"))
			return text_printf("%.*s", (int)strcspn(p + 3, "\n"), p + 3);
	return NULL;
}

char *proc_cgroup_root(void)
{
	_cleanup_free_ char *text = read_proc("/proc/self/mountinfo");

	for (char *p = text, *next; p && *p; p = next) {
		char *sep, dir[4096];

		next = strchr(p, '\n');
		if (next)
			*next++ = '\0';
		sep = strstr(p, " - cgroup2 ");
		if (!sep || sscanf(p, "%*s %*s %*s %*s %4095s", dir) != 1)
			continue;
		proc_unescape(dir);
		return text_dup(dir);
	}
	return NULL;
}

int proc_cgroup_id(pid_t pid, uint64_t *ret_id, char **ret_path, struct err *e)
{
	_cleanup_free_ char *file = text_printf("/proc/%d/cgroup", (int)pid);
	_cleanup_free_ char *text = read_proc(file);
	_cleanup_free_ char *path = proc_cgroup_parse(text);
	_cleanup_free_ char *root = proc_cgroup_root();
	_cleanup_free_ char *dir = NULL;
	struct stat st;

	if (!text)
		return err_set(e, -ENOENT, "there is no process %d", (int)pid);
	if (!path || !root)
		return err_set(e, -EOPNOTSUPP,
			       "this host has no cgroup version 2 hierarchy mounted");
	dir = text_printf("%s%s", root, path);
	if (stat(dir, &st))
		return err_set(e, -errno, "%s: %s", dir, strerror(errno));
	*ret_id = st.st_ino;
	if (ret_path)
		*ret_path = steal_ptr(path);
	return 0;
}

/* ---- descendants ---- */

pid_t proc_stat_parent(const char *stat)
{
	/* "12 (a name (with) any thing) S 1 ..." */
	const char *end = strrchr(stat, ')');
	char *rest;
	long parent;

	if (!end || end[1] != ' ' || !end[2] || end[3] != ' ')
		return 0;
	parent = strtol(end + 4, &rest, 10);
	return rest > end + 4 && parent > 0 && parent <= INT_MAX ? (pid_t)parent : 0;
}

uint64_t proc_stat_start(const char *stat)
{
	const char *p = strrchr(stat, ')');
	char *rest;
	uint64_t ticks;

	/* the name is the second word, this one the 22nd */
	for (unsigned int n = 2; p && n < 22; n++)
		p = strchr(p + 1, ' ');
	if (!p)
		return 0;
	ticks = strtoull(p, &rest, 10);
	return rest > p + 1 && *rest == ' ' ? ticks : 0;
}

uint64_t proc_start_ns(pid_t pid)
{
	_cleanup_free_ char *file = text_printf("/proc/%d/stat", (int)pid);
	_cleanup_free_ char *text = read_proc(file);
	uint64_t ticks = text ? proc_stat_start(text) : 0;

	return ticks * (NS_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
}

struct family {
	pid_t *pid, *parent;
	bool *in;
	size_t count, room;
};

static void family_add(struct family *f, pid_t pid, pid_t parent)
{
	if (f->count == f->room) {
		size_t room = f->room ? 2 * f->room : 256;
		struct family more = {.pid = xmalloc_zero(room, sizeof(*f->pid)),
				      .parent = xmalloc_zero(room, sizeof(*f->parent)),
				      .in = xmalloc_zero(room, sizeof(*f->in)),
				      .count = f->count,
				      .room = room};

		if (f->count) {
			memcpy(more.pid, f->pid, f->count * sizeof(*f->pid));
			memcpy(more.parent, f->parent, f->count * sizeof(*f->parent));
		}
		free(f->pid);
		free(f->parent);
		free(f->in);
		*f = more;
	}
	f->pid[f->count] = pid;
	f->parent[f->count] = parent;
	f->count++;
}

/* /proc lists processes by number, so @f is sorted by pid */
static bool family_has(const struct family *f, pid_t pid)
{
	size_t from = 0, to = f->count;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (f->pid[mid] == pid)
			return f->in[mid];
		if (f->pid[mid] < pid)
			from = mid + 1;
		else
			to = mid;
	}
	return false;
}

int proc_descendants(pid_t pid, void (*fn)(void *arg, pid_t pid), void *arg, struct err *e)
{
	struct family f = {0};
	DIR *proc = opendir("/proc");
	bool found = true;

	if (!proc)
		return err_set(e, -errno, "/proc: %s", strerror(errno));
	for (struct dirent *d; (d = readdir(proc));) {
		_cleanup_free_ char *file = NULL;
		_cleanup_free_ char *stat = NULL;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		file = text_printf("/proc/%s/stat", d->d_name);
		stat = read_proc(file);
		if (stat)
			family_add(&f, (pid_t)atoi(d->d_name), proc_stat_parent(stat));
	}
	closedir(proc);
	while (found) {
		found = false;
		for (size_t i = 0; i < f.count; i++) {
			if (f.in[i] || (f.parent[i] != pid && !family_has(&f, f.parent[i])))
				continue;
			f.in[i] = found = true;
			fn(arg, f.pid[i]);
		}
	}
	free(f.pid);
	free(f.parent);
	free(f.in);
	return 0;
}

/* ---- mounts ---- */

void proc_unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to = *s;
		}
	}
	*to = '\0';
}

/* The next word of a line; NULL behind the last. */
static char *word(char **at)
{
	char *start = *at;
	size_t len;

	if (!start || !*start)
		return NULL;
	len = strcspn(start, " ");
	*at = start[len] ? start + len + 1 : start + len;
	start[len] = '\0';
	return start;
}

static bool parse_line(char *line, const char *dir, struct proc_mount *ret)
{
	/* 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue */
	char *at = line, *numbers, *root, *place, *w, *fstype, *source, *options;
	unsigned int major, minor;

	(void)word(&at); /* ids of the mount and its parent */
	(void)word(&at);
	numbers = word(&at);
	root = word(&at);
	place = word(&at);
	if (!place || sscanf(numbers, "%u:%u", &major, &minor) != 2)
		return false;
	proc_unescape(place);
	if (strcmp(place, dir) != 0)
		return false;
	while ((w = word(&at)) && strcmp(w, "-") != 0)
		continue;
	fstype = word(&at);
	source = word(&at);
	options = word(&at);
	if (!source)
		return false;
	proc_unescape(root);
	proc_unescape(source);
	proc_mount_done(ret); /* a later line is mounted on top */
	*ret = (struct proc_mount){
	    .dev = major << 20 | (minor & 0xfffff),
	    .root = text_dup(root),
	    .dir = text_dup(place),
	    .fstype = text_dup(fstype),
	    .source = text_dup(source),
	    .options = text_dup(options ? options : ""),
	};
	return true;
}

int proc_mount_parse(const char *mountinfo, const char *dir, struct proc_mount *ret)
{
	_cleanup_free_ char *text = text_dup(mountinfo);
	struct proc_mount found = {0};

	for (char *p = text, *next; p && *p; p = next) {
		next = strchr(p, '\n');
		if (next)
			*next++ = '\0';
		(void)parse_line(p, dir, &found); /* the last one wins */
	}
	if (!found.dir)
		return -ENOENT;
	*ret = found;
	return 0;
}

int proc_mount_at(pid_t pid, const char *dir, struct proc_mount *ret, struct err *e)
{
	_cleanup_free_ char *file =
	    pid ? text_printf("/proc/%d/mountinfo", (int)pid) : text_dup("/proc/self/mountinfo");
	_cleanup_free_ char *text = read_proc(file);

	if (!text)
		return err_set(e, -ENOENT, "%s cannot be read", file);
	if (proc_mount_parse(text, dir, ret))
		return err_set(e, -ENOENT, "nothing is mounted on %s", dir);
	return 0;
}

void proc_mount_done(struct proc_mount *m)
{
	free(m->root);
	free(m->dir);
	free(m->fstype);
	free(m->source);
	free(m->options);
	*m = (struct proc_mount){0};
}
