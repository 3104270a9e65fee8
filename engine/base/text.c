/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - see text.h */
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"

#define FIRST_ROOM 16 /* items of xgrow() */

char *text_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	return s;
}

char *text_dup(const char *s)
{
	char *copy;

	if (!s)
		return NULL;
	copy = strdup(s);
	if (!copy)
		abort();
	return copy;
}

void *xmalloc_zero(size_t count, size_t bytes)
{
	void *p = calloc(count ? count : 1, bytes ? bytes : 1);

	if (!p)
		abort();
	return p;
}

void *xgrow(void *array, size_t *room, size_t count, size_t item_bytes)
{
	if (count < *room)
		return array;
	*room = *room ? *room * 2 : FIRST_ROOM;
	array = reallocarray(array, *room, item_bytes);
	if (!array)
		abort();
	return array;
}

/* A non-negative decimal number at @s; the suffix starts at *ret_end. */
static int parse_number(const char *s, double *ret, const char **ret_end)
{
	char *end;

	if ((*s < '0' || *s > '9') && *s != '.')
		return -EINVAL;
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
		return -EINVAL;
	*ret = strtod(s, &end);
	if (end == s || !isfinite(*ret))
		return -EINVAL;
	*ret_end = end;
	return 0;
}

int text_parse_size(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "KMGT";
	const char *end, *u;
	double v;

	if (parse_number(s, &v, &end))
		return -EINVAL;
	if (*end) {
		char c = *end;

		if (c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		u = strchr(units, c);
		if (!u)
			return -EINVAL;
		for (long i = 0; i <= u - units; i++)
			v *= 1024;
		end++;
		if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0)
			end += strlen(end);
	}
	if (*end || v >= 9.2e18)
		return -EINVAL;
	*ret_bytes = (uint64_t)v;
	return 0;
}

int text_parse_time(const char *s, uint64_t *ret_ns)
{
	const char *end;
	double v;

	if (parse_number(s, &v, &end))
		return -EINVAL;
	if (strcmp(end, "ms") == 0)
		v *= (double)NS_PER_MS;
	else if (strcmp(end, "s") == 0 || *end == '\0')
		v *= (double)NS_PER_SEC;
	else if (strcmp(end, "m") == 0)
		v *= 60.0 * (double)NS_PER_SEC;
	else if (strcmp(end, "h") == 0)
		v *= 3600.0 * (double)NS_PER_SEC;
	else
		return -EINVAL;
	if (v >= 9.2e18)
		return -EINVAL;
	*ret_ns = (uint64_t)v;
	return 0;
}

const char *text_size(uint64_t bytes, char *out, size_t out_bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	unsigned int u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	(void)snprintf(out, out_bytes, u && v < 100 ? "%.1f %s" : "%.0f %s", v, units[u]);
	return out;
}

bool text_starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool text_ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && strcmp(s + n - m, suffix) == 0;
}

int text_read_file(const char *path, size_t max_bytes, char **ret_data, size_t *ret_len,
		   struct err *e)
{
	_cleanup_free_ char *data = NULL;
	_cleanup_fd_ int fd = -1;
	size_t len = 0, cap = 4096;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int saved = errno;

		return err_set(e, -saved, "cannot open %s: %s", path, strerror(saved));
	}
	data = malloc(cap);
	for (;;) {
		ssize_t n;

		if (!data)
			abort();
		n = read(fd, data + len, cap - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int saved = errno;

			return err_set(e, -saved, "cannot read %s: %s", path, strerror(saved));
		}
		len += (size_t)n;
		if (len > max_bytes)
			return err_set(e, -EFBIG, "%s is larger than %zu bytes", path, max_bytes);
		if (n == 0)
			break;
		if (cap - len < 2) {
			char *more = realloc(data, cap *= 2);

			if (!more)
				abort();
			data = more;
		}
	}
	data[len] = '\0';
	*ret_data = steal_ptr(data);
	if (ret_len)
		*ret_len = len;
	return 0;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/*
 * A file in the directory of @path that has no name yet, so that a process which is killed while it
 * writes leaves nothing. Where the file system has no such files it has its temporary name at once.
 */
static int open_unnamed(const char *path, char *tmp, bool *ret_named)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir =
	    slash ? text_printf("%.*s/", (int)(slash - path), path) : text_dup(".");
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	*ret_named = fd < 0;
	return fd >= 0 ? fd : mkostemp(tmp, O_CLOEXEC);
}

/* Give an unnamed file the name @tmp, whose last six characters are free to choose. */
static int name_file(int fd, char *tmp)
{
	_cleanup_free_ char *self = text_printf("/proc/self/fd/%d", fd);
	static const char letters[] = "0123456789abcdefghijklmnopqrstuv";
	char *x = tmp + strlen(tmp) - 6;

	for (int try = 0; try < 100; try++) {
		uint32_t v;

		if (getrandom(&v, sizeof(v), 0) != sizeof(v))
			return -EIO;
		for (int i = 0; i < 6; i++, v >>= 5)
			x[i] = letters[v & 31];
		if (!linkat(AT_FDCWD, self, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW))
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int text_write_file(const char *path, const void *data, size_t len, unsigned int mode,
		    struct err *e)
{
	_cleanup_free_ char *tmp = text_printf("%s.tmp-XXXXXX", path);
	bool named;
	_cleanup_fd_ int fd = open_unnamed(path, tmp, &named);
	int rc;

	if (fd < 0) {
		int saved = errno;

		return err_set(e, -saved, "cannot create %s: %s", tmp, strerror(saved));
	}
	rc = write_all(fd, data, len);
	if (!rc && fchmod(fd, mode))
		rc = -errno;
	if (!rc && fsync(fd))
		rc = -errno;
	if (!rc && !named) {
		rc = name_file(fd, tmp);
		named = !rc;
	}
	if (!rc && rename(tmp, path))
		rc = -errno;
	if (rc) {
		if (named)
			(void)unlink(tmp); /* the failure to report is the first one */
		return err_set(e, rc, "cannot write %s: %s", path, strerror(-rc));
	}
	return 0;
}

int text_mkdirs(const char *path, unsigned int mode, struct err *e)
{
	_cleanup_free_ char *copy = text_dup(path);

	for (char *p = copy + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) && errno != EEXIST) {
			int saved = errno;

			return err_set(e, -saved, "cannot create directory %s: %s", copy,
				       strerror(saved));
		}
		*p = c;
		if (!c)
			return 0;
	}
}
