/* SPDX-License-Identifier: Apache-2.0 */
/*
 * predict_node.c - what a Node program requires, followed through its files
 *
 * Calls of require and import with a constant name, wherever they stand. Names are resolved as Node
 * does: relative to the file, or in node_modules of its directory and those above; package.json
 * says which file a package begins with.
 */
#include "predict_impl.h"

#include "cleanup.h"
#include "oci.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

#define FILES	     20000u
#define SOURCE_BYTES (4u << 20)

struct node {
	struct predict *p;
	struct known **files;
	size_t count;
};

static bool add_file(struct node *o, struct known *k)
{
	if (!k || k->node.type != IMAGEFS_FILE)
		return false;
	if (!k->module && o->count < FILES) {
		k->module = true;
		predict_whole(o->p, k);
		o->files[o->count++] = k;
	}
	return true;
}

/* The string behind "key": in a package.json; good enough without parsing it. */
static char *json_member(const char *json, const char *key)
{
	_cleanup_free_ char *quoted = text_printf("\"%s\"", key);
	const char *at = strstr(json, quoted), *end;

	if (!at)
		return NULL;
	at += strlen(quoted);
	at += strspn(at, " \t\r\n:");
	if (*at != '"')
		return NULL;
	end = strchr(++at, '"');
	return end && end - at < 512 ? text_printf("%.*s", (int)(end - at), at) : NULL;
}

static bool as_file(struct node *o, const char *path)
{
	static const char *const ends[] = {"", ".js", ".json", ".mjs", ".cjs"};
	bool found = false;

	for (size_t n = 0; n < sizeof(ends) / sizeof(ends[0]) && !found; n++) {
		_cleanup_free_ char *full = text_printf("%s%s", path, ends[n]);

		found = add_file(o, predict_find_file(o->p, full));
	}
	if (!found) {
		_cleanup_free_ char *full = text_printf("%s.node", path);
		struct known *k = predict_find_file(o->p, full);

		if (k)
			predict_elf(o->p, k, false);
		found = k != NULL;
	}
	return found;
}

static bool as_package(struct node *o, const char *dir)
{
	_cleanup_free_ char *json = text_printf("%s/package.json", dir);
	_cleanup_free_ char *index = text_printf("%s/index", dir);
	struct known *k = predict_find_file(o->p, json);
	_cleanup_free_ char *text = k ? predict_load(o->p, k, PREDICT_SMALL_BYTES, NULL) : NULL;
	_cleanup_free_ char *main = text ? json_member(text, "main") : NULL;

	if (text)
		predict_whole(o->p, k);
	if (main) {
		_cleanup_free_ char *path = text_printf("%s/%s", dir, main);
		_cleanup_free_ char *below = text_printf("%s/index", path);

		if (as_file(o, path) || as_file(o, below))
			return true;
	}
	return as_file(o, index);
}

static void require(struct node *o, const struct known *from, const char *name, size_t len)
{
	size_t dir = (size_t)(strrchr(from->path, '/') - from->path);

	if (len == 0 || len > 512 || memchr(name, '$', len) || memchr(name, '\n', len))
		return;
	if (name[0] == '.' || name[0] == '/') {
		_cleanup_free_ char *path =
		    name[0] == '/' ? text_printf("%.*s", (int)len, name)
				   : text_printf("%.*s/%.*s", (int)dir, from->path, (int)len, name);

		if (!as_file(o, path))
			(void)as_package(o, path);
		return;
	}
	for (; !predict_over(o->p); dir--) {
		_cleanup_free_ char *path =
		    text_printf("%.*s/node_modules/%.*s", (int)dir, from->path, (int)len, name);

		if (as_package(o, path) || as_file(o, path))
			return;
		while (dir && from->path[dir - 1] != '/')
			dir--;
		if (dir == 0)
			return;
	}
}

/* Behind require( or import( or from or import: a constant string. */
static void requires_of(struct node *o, const struct known *from, const char *text)
{
	static const char *const words[] = {"require", "from", "import"};

	for (const char *at = text; *at && !predict_over(o->p);) {
		const char *name = NULL, *end;

		at += strcspn(at, "rfi");
		for (size_t n = 0; n < 3 && !name; n++) {
			size_t len = strlen(words[n]);

			if (strncmp(at, words[n], len) == 0)
				name = at + len + strspn(at + len, " (");
		}
		at += *at != 0;
		if (!name || (*name != '"' && *name != '\''))
			continue;
		end = strchr(name + 1, *name);
		if (!end)
			continue;
		require(o, from, name + 1, (size_t)(end - name - 1));
		at = end;
	}
}

void predict_node(struct predict *p, char *const *args)
{
	const char *cwd = p->config->working_dir;
	struct node o = {.p = p};
	_cleanup_free_ char *path = NULL, *json = NULL;
	struct known *k;

	while (args && *args && (*args)[0] == '-')
		args++;
	if (!args || !*args)
		return;
	path = (*args)[0] == '/' ? text_dup(*args) : text_printf("%s/%s", cwd ? cwd : "", *args);
	if (path[0] != '/')
		return;
	o.files = xmalloc_zero(FILES, sizeof(struct known *));
	if (!as_file(&o, path))
		(void)as_package(&o, path);
	json = text_printf("%s/package.json", cwd ? cwd : "");
	k = json[0] == '/' ? predict_find_file(p, json) : NULL;
	if (k)
		predict_whole(p, k);
	for (size_t n = 0; n < o.count && !predict_over(p); n++) {
		_cleanup_free_ char *text = predict_load(p, o.files[n], SOURCE_BYTES, NULL);

		if (text)
			requires_of(&o, o.files[n], text);
	}
	free(o.files);
}
