/* SPDX-License-Identifier: Apache-2.0 */
/* runfiles.c - see runfiles.h */
#include "runfiles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "text.h"

#define ETC_MAX_BYTES (1u << 20)
#define COPY_DEPTH    128
#define COPY_BYTES    65536

static int open_in_root(int root_fd, const char *path, int flags)
{
	struct open_how how = {
	    .flags = (uint64_t)flags | O_CLOEXEC,
	    .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

int runfiles_read(int root_fd, const char *path, size_t max_bytes, char **ret)
{
	/* not to be held up by a FIFO of that name */
	_cleanup_fd_ int fd = open_in_root(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *text = NULL;
	struct stat st;
	size_t len = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	if (st.st_size < 0 || (size_t)st.st_size > max_bytes)
		return -EFBIG;
	text = xmalloc_zero(1, (size_t)st.st_size + 1);
	while (len < (size_t)st.st_size) {
		ssize_t n = read(fd, text + len, (size_t)st.st_size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	*ret = steal_ptr(text);
	return 0;
}

/* /etc/netns/NAME/resolv.conf, as ip-netns(8) has it, else the host's. */
static char *host_resolv_conf(const char *netns)
{
	_cleanup_free_ char *special = NULL;
	char *text;

	if (text_starts_with(netns, "/run/netns/") || text_starts_with(netns, "/var/run/netns/")) {
		special = text_printf("/etc/netns/%s/resolv.conf", strrchr(netns, '/') + 1);
		if (!text_read_file(special, ETC_MAX_BYTES, &text, NULL, NULL))
			return text;
	}
	if (!text_read_file("/etc/resolv.conf", ETC_MAX_BYTES, &text, NULL, NULL))
		return text;
	return text_dup("");
}

static int write_etc(const char *dir, const char *name, const char *text, struct err *e)
{
	_cleanup_free_ char *path = text_printf("%s/%s", dir, name);

	return text_write_file(path, text, strlen(text), 0644, e);
}

int runfiles_etc(const char *dir, const char *hostname, const char *netns, struct err *e)
{
	_cleanup_free_ char *name = text_printf("%s\n", hostname);
	_cleanup_free_ char *hosts = NULL;
	_cleanup_free_ char *resolv = NULL;
	int r;

	if (!netns || *netns || text_read_file("/etc/hosts", ETC_MAX_BYTES, &hosts, NULL, NULL))
		hosts = text_printf("127.0.0.1\tlocalhost\n"
				    "::1\tlocalhost ip6-localhost ip6-loopback\n"
				    "127.0.0.1\t%s\n",
				    hostname);
	resolv = netns ? host_resolv_conf(netns)
		       : text_dup("# this container has no network but its loopback\n");
	r = write_etc(dir, "hostname", name, e);
	if (!r)
		r = write_etc(dir, "hosts", hosts, e);
	if (!r)
		r = write_etc(dir, "resolv.conf", resolv, e);
	return r;
}

static int copy_meta(int fd, const struct stat *st, const char *name, struct err *e)
{
	/* owner first: chown clears set-user-id bits */
	if (fchown(fd, st->st_uid, st->st_gid) || fchmod(fd, st->st_mode & 07777))
		return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
	return 0;
}

static int copy_file(int from, int to_dir, const char *name, const struct stat *st, struct err *e)
{
	_cleanup_fd_ int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	_cleanup_free_ char *buf = xmalloc_zero(1, COPY_BYTES);

	if (to < 0)
		return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
	for (;;) {
		ssize_t n = read(from, buf, COPY_BYTES), w;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
		if (n == 0)
			break;
		for (char *p = buf; n; p += w, n -= w) {
			w = write(to, p, (size_t)n);
			if (w < 0 && errno == EINTR)
				w = 0;
			if (w < 0)
				return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
		}
	}
	return copy_meta(to, st, name, e);
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st,
		     struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
	target[n] = '\0';
	if (symlinkat(target, to_dir, name) ||
	    fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW))
		return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
	return 0;
}

static int copy_dir(int from, int to, const struct stat *st, unsigned int depth, struct err *e);

static int copy_entry(int from_dir, int to_dir, const char *name, unsigned int depth, struct err *e)
{
	_cleanup_fd_ int from = -1;
	_cleanup_fd_ int to = -1;
	struct stat st;

	if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
	if (S_ISLNK(st.st_mode))
		return copy_link(from_dir, to_dir, name, &st, e);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return 0;
	from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
	if (S_ISREG(st.st_mode))
		return copy_file(from, to_dir, name, &st, e);
	if (depth >= COPY_DEPTH)
		return err_set(e, -ELOOP, "volume: %s: too deep", name);
	if (mkdirat(to_dir, name, 0700) ||
	    (to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_set(e, -errno, "volume: %s: %s", name, strerror(errno));
	return copy_dir(from, to, &st, depth + 1, e);
}

/* Borrows both descriptors. */
static int copy_dir(int from, int to, const struct stat *st, unsigned int depth, struct err *e)
{
	int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = again < 0 ? NULL : fdopendir(again);
	struct dirent *d;

	if (!dir) {
		r = err_set(e, -errno, "volume: %s", strerror(errno));
		cleanup_fd(&again);
		return r;
	}
	while (!r && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			r = copy_entry(from, to, d->d_name, depth, e);
	closedir(dir);
	return r ? r : copy_meta(to, st, "its directory", e);
}

int runfiles_volume(int root_fd, const char *path, const char *dir, struct err *e)
{
	_cleanup_fd_ int from = open_in_root(root_fd, path, O_RDONLY | O_DIRECTORY);
	int from_error = from < 0 ? errno : 0;
	_cleanup_fd_ int to = -1;
	struct stat st;

	if (mkdir(dir, 0755) ||
	    (to = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_set(e, -errno, "%s: %s", dir, strerror(errno));
	if (from_error == ENOENT)
		return 0;
	if (from_error || fstat(from, &st)) {
		from_error = from_error ? from_error : errno;
		return err_set(e, -from_error, "volume %s: %s", path, strerror(from_error));
	}
	return copy_dir(from, to, &st, 0, e);
}
