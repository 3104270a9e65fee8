/* SPDX-License-Identifier: Apache-2.0 */
/* cache_dir.c - see cache_dir.h */
#include "cache_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "blobmap.h"
#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "text.h"

#define HEX_DIGITS	 64
#define TEMP_MAX_AGE_S	 3600 /* a temporary file this old has lost its writer */
#define ENTRY_NAME_BYTES (HEX_DIGITS + 1)

/* Something that can be removed as a whole. */
struct candidate {
	char hex[ENTRY_NAME_BYTES];
	int dirfd;
	bool blob;
	uint64_t used_ns; /* mtime */
	uint64_t bytes;
};

struct candidates {
	struct candidate *v;
	size_t n, cap;
	uint64_t bytes;
};

static int open_sub(const char *path, const char *name, int *ret, struct err *e)
{
	_cleanup_free_ char *sub = text_printf("%s/%s", path, name);
	int r = text_mkdirs(sub, 0700, e);

	if (r)
		return r;
	*ret = open(sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret < 0) {
		r = -errno;
		return err_set(e, r, "%s: %s", sub, strerror(-r));
	}
	return 0;
}

int cache_dir_open(const char *path, struct cache_dir *ret, struct err *e)
{
	struct cache_dir d = {.blobs_fd = -1, .objects_fd = -1, .names_fd = -1};
	int r = open_sub(path, "blobs", &d.blobs_fd, e);

	if (!r)
		r = open_sub(path, "objects", &d.objects_fd, e);
	if (!r)
		r = open_sub(path, "names", &d.names_fd, e);
	if (!r && faccessat(d.blobs_fd, ".", W_OK | X_OK, AT_EACCESS))
		r = err_set(e, -EACCES, "cache directory %s is not writable", path);
	if (r) {
		cache_dir_close(&d);
		return r;
	}
	d.path = text_dup(path);
	*ret = d;
	return 0;
}

void cache_dir_close(struct cache_dir *d)
{
	cleanup_fd(&d->blobs_fd);
	cleanup_fd(&d->objects_fd);
	cleanup_fd(&d->names_fd);
	free(d->path);
	d->path = NULL;
}

static bool is_hex(const char *s)
{
	return strspn(s, "0123456789abcdef") >= HEX_DIGITS;
}

static void add_candidate(struct candidates *c, struct candidate one)
{
	if (c->n == c->cap) {
		c->cap = c->cap ? 2 * c->cap : 256;
		c->v = realloc(c->v, c->cap * sizeof(*c->v));
		if (!c->v)
			abort();
	}
	c->v[c->n++] = one;
	c->bytes += one.bytes;
}

static uint64_t mtime_ns(const struct stat *st)
{
	return (uint64_t)st->st_mtim.tv_sec * NS_PER_SEC + (uint64_t)st->st_mtim.tv_nsec;
}

/* An entry of blobs/: by its map, or by a data file that has lost its map. */
static void add_blob(struct candidates *c, int dirfd, const char *name, const struct stat *st)
{
	struct candidate one = {.dirfd = dirfd, .blob = true};
	char other[ENTRY_NAME_BYTES + 8];
	struct stat other_st;

	memcpy(one.hex, name, HEX_DIGITS);
	one.bytes = (uint64_t)st->st_blocks * 512;
	memcpy(other, one.hex, HEX_DIGITS);
	if (strcmp(name + HEX_DIGITS, ".map") == 0) {
		memcpy(other + HEX_DIGITS, ".data", sizeof(".data"));
		one.used_ns = mtime_ns(st);
		if (fstatat(dirfd, other, &other_st, AT_SYMLINK_NOFOLLOW) == 0)
			one.bytes += (uint64_t)other_st.st_blocks * 512;
		add_candidate(c, one);
	} else if (strcmp(name + HEX_DIGITS, ".data") == 0) {
		memcpy(other + HEX_DIGITS, ".map", sizeof(".map"));
		if (fstatat(dirfd, other, &other_st, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
			add_candidate(c, one);
	}
}

static int scan(int dirfd, bool blobs, struct candidates *c)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	time_t now = time(NULL);
	struct dirent *de;
	DIR *dir;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((de = readdir(dir))) {
		struct stat st;

		if (!is_hex(de->d_name) || fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISREG(st.st_mode))
			continue;
		if (blobs) {
			add_blob(c, dirfd, de->d_name, &st);
		} else if (de->d_name[HEX_DIGITS] == '\0') {
			struct candidate one = {.dirfd = dirfd, .used_ns = mtime_ns(&st)};

			memcpy(one.hex, de->d_name, HEX_DIGITS);
			one.bytes = (uint64_t)st.st_blocks * 512;
			add_candidate(c, one);
		} else if (now - st.st_mtime > TEMP_MAX_AGE_S) {
			(void)unlinkat(dirfd, de->d_name, 0); /* somebody else did it: fine */
		}
	}
	closedir(dir);
	return 0;
}

static int by_use(const void *pa, const void *pb)
{
	const struct candidate *a = pa, *b = pb;

	if (a->used_ns != b->used_ns)
		return a->used_ns < b->used_ns ? -1 : 1;
	return strcmp(a->hex, b->hex);
}

int cache_dir_trim(struct cache_dir *d, uint64_t trigger_bytes, uint64_t target_bytes,
		   struct cache_space *ret, uint64_t *ret_freed, uint64_t *ret_blobs)
{
	struct candidates c = {0};
	struct statvfs vfs;
	int r = scan(d->blobs_fd, true, &c);

	*ret_freed = *ret_blobs = 0;
	if (!r)
		r = scan(d->objects_fd, false, &c);
	if (!r)
		r = scan(d->names_fd, false, &c);
	if (!r && c.bytes > trigger_bytes) {
		qsort(c.v, c.n, sizeof(*c.v), by_use);
		for (size_t i = 0; i < c.n && c.bytes - *ret_freed > target_bytes; i++) {
			uint64_t freed = c.v[i].bytes;

			if (c.v[i].blob) {
				if (blobmap_remove(c.v[i].dirfd, c.v[i].hex, &freed))
					continue; /* in use, or gone */
				++*ret_blobs;
			} else if (unlinkat(c.v[i].dirfd, c.v[i].hex, 0)) {
				continue;
			}
			/* it may have grown since the scan */
			*ret_freed += min_u64(freed, c.bytes - *ret_freed);
		}
	}
	free(c.v);
	if (!r && fstatvfs(d->blobs_fd, &vfs))
		r = -errno;
	if (r)
		return r;
	ret->used_bytes = c.bytes - *ret_freed;
	ret->free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	ret->total_bytes = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	return 0;
}
