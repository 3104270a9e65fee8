/* SPDX-License-Identifier: Apache-2.0 */
/* attribute.c - see attribute.h */
#include "attribute.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "imagefs.h"
#include "text.h"
#include "trace.h"

#define MAX_PENDING_DIRS (4u << 20)

struct wanted {
	uint64_t ino;
	uint32_t dev;
	char *path; /* NULL: not found (yet) */
	uint64_t bytes;
};

struct attribution {
	struct wanted *w; /* sorted by (ino, dev) once @sorted */
	size_t count, room;
	bool sorted;
};

struct attribution *attribution_new(void)
{
	return xmalloc_zero(1, sizeof(struct attribution));
}

void attribution_free(struct attribution *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->count; i++)
		free(a->w[i].path);
	free(a->w);
	free(a);
}

void attribution_want(struct attribution *a, uint32_t dev, uint64_t ino)
{
	assert(!a->sorted);
	if (a->count == a->room) {
		size_t room = a->room ? 2 * a->room : 256;
		struct wanted *w = reallocarray(a->w, room, sizeof(*w));

		if (!w)
			abort();
		a->w = w;
		a->room = room;
	}
	a->w[a->count++] = (struct wanted){.ino = ino, .dev = dev};
}

static int compare(const void *x, const void *y)
{
	const struct wanted *a = x, *b = y;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return (a->dev > b->dev) - (a->dev < b->dev);
}

static void sort(struct attribution *a)
{
	size_t n = 0;

	if (a->sorted)
		return;
	if (a->count)
		qsort(a->w, a->count, sizeof(*a->w), compare);
	for (size_t i = 0; i < a->count; i++)
		if (!n || compare(&a->w[n - 1], &a->w[i]))
			a->w[n++] = a->w[i];
	a->count = n;
	a->sorted = true;
}

/* The first wanted file of that inode number, on whatever device; NULL: none. */
static struct wanted *by_ino(const struct attribution *a, uint64_t ino)
{
	size_t from = 0, to = a->count;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (a->w[mid].ino < ino)
			from = mid + 1;
		else
			to = mid;
	}
	return from < a->count && a->w[from].ino == ino ? &a->w[from] : NULL;
}

static struct wanted *by_both(const struct attribution *a, uint32_t dev, uint64_t ino)
{
	struct wanted *w = by_ino(a, ino);

	for (; w && w < a->w + a->count && w->ino == ino; w++)
		if (w->dev == dev)
			return w;
	return NULL;
}

size_t attribution_missing(const struct attribution *a)
{
	size_t n = 0;

	for (size_t i = 0; i < a->count; i++)
		n += !a->w[i].path;
	return n;
}

const char *attribution_find(const struct attribution *a, uint32_t dev, uint64_t ino,
			     uint64_t *ret_bytes)
{
	const struct wanted *w = a->sorted ? by_both(a, dev, ino) : NULL;

	if (!w || !w->path)
		return NULL;
	if (ret_bytes)
		*ret_bytes = w->bytes;
	return w->path;
}

/* ---- the file system of a device ---- */

struct image_walk {
	struct attribution *a;
	uint32_t dev;
};

static int meet_node(void *arg, const char *path, const struct imagefs_node *n)
{
	const struct image_walk *walk = arg;
	struct wanted *w = by_both(walk->a, walk->dev, n->ino);

	if (w && !w->path) {
		w->path = text_dup(path);
		w->bytes = n->bytes;
	}
	return 0;
}

int attribution_add_image(struct attribution *a, uint32_t dev, struct imagefs *fs, struct err *e)
{
	struct image_walk walk = {a, dev};

	sort(a);
	return imagefs_walk(fs, meet_node, &walk, e);
}

/* ---- a directory tree ---- */

struct tree_walk {
	struct attribution *a;
	int root;
	char **dirs; /* still to be read: "" or "/a/b" */
	size_t count, room;
};

static uint32_t dev_number(dev_t dev)
{
	return (uint32_t)major(dev) << 20 | (minor(dev) & 0xfffff);
}

/* A directory below @root, not over a link or another mount; "": itself. */
static int open_below(int root, const char *path)
{
	struct open_how how = {
	    .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};

	return (int)syscall(SYS_openat2, root, *path ? path + 1 : ".", &how, sizeof(how));
}

static int push_dir(struct tree_walk *t, char *path)
{
	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 256;
		char **dirs =
		    room <= MAX_PENDING_DIRS ? reallocarray(t->dirs, room, sizeof(*dirs)) : NULL;

		if (!dirs) {
			free(path);
			return -E2BIG;
		}
		t->dirs = dirs;
		t->room = room;
	}
	t->dirs[t->count++] = path;
	return 0;
}

/* A name whose inode number is wanted: is it on the right device? */
static void meet_name(struct tree_walk *t, int dir_fd, const char *dir, const char *name)
{
	struct wanted *w;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return;
	w = by_both(t->a, dev_number(st.st_dev), st.st_ino);
	if (w && !w->path) {
		w->path = text_printf("%s/%s", dir, name);
		w->bytes = (uint64_t)st.st_size;
	}
}

static bool is_dir(int dir_fd, const struct dirent *d)
{
	struct stat st;

	if (d->d_type != DT_UNKNOWN)
		return d->d_type == DT_DIR;
	return !fstatat(dir_fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
}

static int read_dir(struct tree_walk *t, const char *path)
{
	int fd = open_below(t->root, path), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0; /* gone, or none of ours */
	}
	for (struct dirent *d; !r && (d = readdir(dir));) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		/* most names are not wanted, and cost nothing more than this */
		if (by_ino(t->a, d->d_ino))
			meet_name(t, fd, path, d->d_name);
		/* a longer path cannot be named by any system call */
		if (is_dir(fd, d) && strlen(path) + strlen(d->d_name) + 2 < PATH_MAX)
			r = push_dir(t, text_printf("%s/%s", path, d->d_name));
	}
	closedir(dir);
	return r;
}

int attribution_add_tree(struct attribution *a, const char *dir, struct err *e)
{
	struct tree_walk t = {.a = a};
	_cleanup_fd_ int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct wanted *w;
	struct stat st;
	int r;

	if (root < 0 || fstat(root, &st))
		return err_set(e, -errno, "%s: %s", dir, strerror(errno));
	sort(a);
	t.root = root;
	w = by_both(a, dev_number(st.st_dev), st.st_ino);
	if (w && !w->path)
		w->path = text_dup("/");
	r = push_dir(&t, text_dup(""));
	while (t.count) {
		_cleanup_free_ char *path = t.dirs[--t.count];

		if (!r)
			r = read_dir(&t, path);
	}
	free(t.dirs);
	return r ? err_set(e, r, "%s: too many directories", dir) : 0;
}

/* ---- a recording ---- */

void attribution_want_objects(struct attribution *a, const struct trace_writer *w)
{
	for (size_t i = 0; i < trace_writer_objects(w); i++) {
		const struct trace_object *o = trace_writer_object_at(w, i);

		if (o->kind == TRACE_FILE && !o->path)
			attribution_want(a, o->dev, o->ino);
	}
}

void attribution_name_objects(const struct attribution *a, struct trace_writer *w)
{
	for (size_t i = 0; i < trace_writer_objects(w); i++) {
		const struct trace_object *o = trace_writer_object_at(w, i);
		const char *path;
		uint64_t bytes;

		if (o->kind != TRACE_FILE || o->path)
			continue;
		path = attribution_find(a, o->dev, o->ino, &bytes);
		if (path)
			trace_writer_path(w, i, path, bytes);
	}
}
