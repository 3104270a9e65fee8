/* SPDX-License-Identifier: Apache-2.0 */
/* temp_dir.c - see temp_dir.h */
#include "temp_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "text.h"

#define PREFIX	  "headstart-cache-"
#define PATTERN	  "XXXXXX" /* of mkdtemp() */
#define MAX_TRIES 16
#define TREE_FDS  16

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) ? -1 : 0;
}

static void remove_tree(const char *path)
{
	/* best effort: what stays is in the temporary directory, for the next sweep */
	(void)nftw(path, remove_entry, TREE_FDS, FTW_DEPTH | FTW_PHYS);
}

static int open_dir(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void sweep_one(const char *path)
{
	_cleanup_fd_ int fd = open_dir(path);
	struct stat st;

	/* with the lock held, its maker sees that it is gone (still_there) */
	if (fd >= 0 && !fstat(fd, &st) && st.st_uid == geteuid() && !flock(fd, LOCK_EX | LOCK_NB))
		remove_tree(path);
}

static void sweep(const char *tmp)
{
	DIR *dir = opendir(tmp);
	const struct dirent *d;

	if (!dir)
		return; /* mkdtemp() will say why */
	while ((d = readdir(dir))) {
		_cleanup_free_ char *path = NULL;

		if (strncmp(d->d_name, PREFIX, strlen(PREFIX)) != 0 ||
		    strlen(d->d_name) != strlen(PREFIX PATTERN))
			continue;
		path = text_printf("%s/%s", tmp, d->d_name);
		sweep_one(path);
	}
	closedir(dir);
}

/* Whether @path is still what @fd is: not swept between its making and its lock. */
static bool still_there(const char *path, int fd)
{
	struct stat a, b;

	return !fstat(fd, &a) && !lstat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Make @d with its lock. -EAGAIN: swept between its making and its lock. */
static int make_locked(const char *tmp, struct temp_dir *d)
{
	d->path = text_printf("%s/" PREFIX PATTERN, tmp);
	if (!mkdtemp(d->path))
		return -errno;
	d->lock_fd = open_dir(d->path);
	if (d->lock_fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	while (flock(d->lock_fd, LOCK_EX) && errno == EINTR)
		;
	return still_there(d->path, d->lock_fd) ? 0 : -EAGAIN;
}

int temp_dir_make(struct temp_dir *ret, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	int r = -EAGAIN;

	if (!tmp || !*tmp)
		tmp = "/tmp";
	sweep(tmp);
	for (int tries = 0; r == -EAGAIN && tries < MAX_TRIES; tries++) {
		struct temp_dir d = {.lock_fd = -1};

		r = make_locked(tmp, &d);
		if (!r) {
			*ret = d;
		} else {
			cleanup_fd(&d.lock_fd);
			free(d.path);
		}
	}
	return r ? err_set(e, r, "cannot make a temporary cache directory in %s: %s", tmp,
			   strerror(-r))
		 : 0;
}

void temp_dir_remove(struct temp_dir *d)
{
	if (!d->path)
		return;
	remove_tree(d->path);
	free(d->path);
	d->path = NULL;
	cleanup_fd(&d->lock_fd);
}
