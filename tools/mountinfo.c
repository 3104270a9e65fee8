/* SPDX-License-Identifier: Apache-2.0 */
/* mountinfo.c - see mountinfo.h */
#include "mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "text.h"

/* Undo the kernel's \ooo in place. */
static char *unescape(char *s)
{
	char *in = s, *out = s;

	while (*in) {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' &&
		    in[3] >= '0' && in[3] <= '7') {
			*out++ = (char)((in[1] - '0') * 64 + (in[2] - '0') * 8 + (in[3] - '0'));
			in += 4;
		} else {
			*out++ = *in++;
		}
	}
	*out = '\0';
	return s;
}

/* "ID PARENT MAJ:MIN ROOT DIR OPTIONS [TAGS...] - TYPE SOURCE SUPER"; @line is cut up */
static int parse_line(char *line, struct mountinfo *m)
{
	char *rest = strstr(line, " - "), *save = NULL;
	char *dev, *dir, *type, *source;

	if (!rest)
		return -EINVAL;
	*rest = '\0';
	rest += 3;
	if (!strtok_r(line, " ", &save) || !strtok_r(NULL, " ", &save))
		return -EINVAL;
	dev = strtok_r(NULL, " ", &save);
	if (!dev || !strtok_r(NULL, " ", &save))
		return -EINVAL;
	dir = strtok_r(NULL, " ", &save);
	if (!dir || sscanf(dev, "%u:%u", &m->major, &m->minor) != 2)
		return -EINVAL;
	type = strsep(&rest, " ");
	source = strsep(&rest, " ");
	m->dir = text_dup(unescape(dir));
	m->fstype = text_dup(type ? type : "");
	m->source = text_dup(source ? unescape(source) : "");
	return 0;
}

void mountinfo_parse(const char *text, struct mountinfo **ret, size_t *ret_count)
{
	_cleanup_free_ char *copy = text_dup(text);
	struct mountinfo *list = NULL;
	size_t count = 0, room = 0;
	char *save = NULL;

	for (char *l = strtok_r(copy, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (count == room) {
			room = room ? room * 2 : 32;
			list = reallocarray(list, room, sizeof(*list));
			if (!list)
				abort();
		}
		if (!parse_line(l, &list[count]))
			count++;
	}
	*ret = list;
	*ret_count = count;
}

int mountinfo_read(struct mountinfo **ret, size_t *ret_count, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_file_ FILE *f = fopen("/proc/self/mountinfo", "re");
	size_t room = 0;

	/* not text_read_file(): a file of /proc has no size */
	if (!f)
		return err_set(e, -errno, "/proc/self/mountinfo: %s", strerror(errno));
	if (getdelim(&text, &room, '\0', f) < 0)
		return err_set(e, -EIO, "/proc/self/mountinfo: cannot be read");
	mountinfo_parse(text, ret, ret_count);
	return 0;
}

void mountinfo_free(struct mountinfo *m, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(m[i].dir);
		free(m[i].fstype);
		free(m[i].source);
	}
	free(m);
}

const struct mountinfo *mountinfo_at(const struct mountinfo *m, size_t count, const char *dir)
{
	while (count--)
		if (!strcmp(m[count].dir, dir))
			return &m[count];
	return NULL;
}

char *mountinfo_path(const char *dir)
{
	_cleanup_free_ char *copy = text_dup(dir);
	_cleanup_free_ char *parent = NULL;
	size_t len = strlen(copy);
	char *slash, *base;

	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	base = slash ? slash + 1 : copy;
	/* names that stand for another directory cannot be split from their parents */
	if (!*base || !strcmp(base, ".") || !strcmp(base, ".."))
		return realpath(copy, NULL);
	if (slash)
		*slash = '\0';
	parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
	if (!parent)
		return NULL;
	return text_printf("%s/%s", strcmp(parent, "/") ? parent : "", base);
}
