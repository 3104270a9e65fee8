/* SPDX-License-Identifier: Apache-2.0 */
/* attribute_overlay.c - what an overlay mount is made of (see attribute.h) */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "attribute.h"
#include "cleanup.h"
#include "err.h"
#include "proc_task.h"
#include "text.h"

#define MAX_LOWER 4096u /* overlayfs has 500 */

void overlay_done(struct overlay_parts *p)
{
	for (size_t i = 0; i < p->lower_count; i++)
		free(p->lower[i]);
	free(p->lower);
	free(p->upper);
	*p = (struct overlay_parts){0};
}

static void add_lower(struct overlay_parts *p, char *dir)
{
	char **more;

	if (!*dir || p->lower_count == MAX_LOWER) {
		free(dir); /* "::" sets layers of data alone apart */
		return;
	}
	more = reallocarray(p->lower, p->lower_count + 1, sizeof(*more));
	if (!more)
		abort();
	p->lower = more;
	p->lower[p->lower_count++] = dir;
}

/* Bytes up to the colon that ends the first name: one of its own has a backslash before it. */
static size_t name_bytes(const char *list)
{
	size_t n = 0;

	while (list[n] && list[n] != ':')
		n += list[n] == '\\' && list[n + 1] ? 2 : 1;
	return n;
}

static void split_lower(struct overlay_parts *p, const char *list)
{
	while (*list) {
		size_t n = name_bytes(list);
		char *dir = xmalloc_zero(n + 1, 1), *to = dir;

		for (size_t i = 0; i < n; i++) {
			i += list[i] == '\\' && i + 1 < n;
			*to++ = list[i];
		}
		add_lower(p, dir);
		list += n + (list[n] == ':');
	}
}

int overlay_parse(const char *options, struct overlay_parts *ret)
{
	struct overlay_parts p = {0};

	/* a comma in a name is \054 here, so every comma separates */
	for (const char *at = options; at && *at; at = strchr(at, ','), at = at ? at + 1 : NULL) {
		_cleanup_free_ char *word = text_printf("%.*s", (int)strcspn(at, ","), at);

		proc_unescape(word);
		if (text_starts_with(word, "lowerdir="))
			split_lower(&p, word + strlen("lowerdir="));
		else if (text_starts_with(word, "lowerdir+="))
			add_lower(&p, text_dup(word + strlen("lowerdir+=")));
		else if (text_starts_with(word, "upperdir=") && !p.upper)
			p.upper = text_dup(word + strlen("upperdir="));
	}
	if (!p.lower_count) {
		overlay_done(&p);
		return -EINVAL;
	}
	*ret = p;
	return 0;
}

static char *below(const char *base, const char *dir)
{
	return *dir == '/' ? text_dup(dir) : text_printf("%s/%s", base, dir);
}

static bool all_below(const struct overlay_parts *p, const char *base)
{
	for (size_t i = 0; i < p->lower_count; i++) {
		_cleanup_free_ char *dir = below(base, p->lower[i]);
		struct stat st;

		if (stat(dir, &st) || !S_ISDIR(st.st_mode))
			return false;
	}
	return true;
}

int overlay_resolve(struct overlay_parts *p, const char *hint, struct err *e)
{
	_cleanup_free_ char *base = text_dup(p->upper && *p->upper == '/' ? p->upper : "");
	const char *found = NULL;
	char *slash;

	while (!found && (slash = strrchr(base, '/'))) {
		*slash = '\0';
		if (all_below(p, base))
			found = base;
	}
	if (!found && all_below(p, hint ? hint : "/"))
		found = hint ? hint : "/";
	if (!found)
		return err_set(e, -ENOENT,
			       "the layers of the overlay are not where its mount says: %s%s",
			       p->lower[0], p->lower_count > 1 ? " ..." : "");
	for (size_t i = 0; i < p->lower_count; i++) {
		char *dir = below(found, p->lower[i]);

		free(p->lower[i]);
		p->lower[i] = dir;
	}
	return 0;
}
