/* SPDX-License-Identifier: Apache-2.0 */
/* file_list.c - see file_list.h */
#include "file_list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "text.h"

#define PATH_BYTES 4095u

void file_list_done(struct file_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->paths[i]);
	free(l->paths);
	*l = (struct file_list){0};
}

static bool allowed(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("_.-/", c));
}

static int add_line(struct file_list *l, size_t line, const char *p, size_t len, struct err *e)
{
	while (len && (p[len - 1] == ' ' || p[len - 1] == '\r'))
		len--;
	for (; len && *p == ' '; len--)
		p++;
	if (!len)
		return 0;
	if (len >= PATH_BYTES)
		return err_set(e, -EBADMSG, "file list, line %zu: too long", line);
	for (size_t i = 0; i < len; i++)
		if (!allowed(p[i]))
			return err_set(e, -EBADMSG, "file list, line %zu: byte %02x in a path",
				       line, (unsigned char)p[i]);
	l->paths[l->count++] = text_printf("%s%.*s", *p == '/' ? "" : "/", (int)len, p);
	return 0;
}

int file_list_parse(const void *p, size_t bytes, struct file_list *ret, struct err *e)
{
	const char *at = p, *end = at + bytes;
	struct file_list l = {0};
	size_t lines = 1;
	int r = 0;

	if (bytes > FILE_LIST_MAX_BYTES)
		return err_set(e, -EFBIG, "file list: larger than %u bytes", FILE_LIST_MAX_BYTES);
	for (size_t i = 0; i < bytes; i++)
		lines += at[i] == '\n';
	l.paths = xmalloc_zero(lines, sizeof(*l.paths));
	for (size_t line = 1; at < end && !r; line++) {
		const char *eol = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((eol ? eol : end) - at);

		r = add_line(&l, line, at, len, e);
		at = eol ? eol + 1 : end;
	}
	if (!r && !l.count)
		r = err_set(e, -EBADMSG, "file list: no path in it");
	if (r)
		file_list_done(&l);
	else
		*ret = l;
	return r;
}
