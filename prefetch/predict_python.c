/* SPDX-License-Identifier: Apache-2.0 */
/*
 * predict_python.c - what a Python program imports, followed through its files
 *
 * Modules are searched for along a path made of the script's directory, PYTHONPATH and the
 * directories that the interpreter of that version and prefix uses. Where a compiled form lies
 * beside a module it is what gets read. Breadth first, each module once.
 */
#include "predict_impl.h"

#include "cleanup.h"
#include "oci.h"
#include "python_imports.h"
#include "tables.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODULES	   20000u
#define IMPORTS	   400000u
#define DIRS	   24u
#define NAME_BYTES 1024u

struct module {
	struct known *source; /* its .py; NULL: nothing to follow */
	char *name;	      /* dotted */
	bool package;
};

struct python {
	struct predict *p;
	unsigned int major, minor;
	char *dirs[DIRS];
	size_t dir_count;
	struct module *modules;
	size_t count, room, done, imports;
	const struct module *from; /* whose imports are being looked at */
};

static void add_dir(struct python *y, char *dir)
{
	struct known *k = predict_find(y->p, dir);

	if (!k || k->node.type != IMAGEFS_DIR || y->dir_count == DIRS) {
		free(dir);
		return;
	}
	y->dirs[y->dir_count++] = dir;
}

static void add_module(struct python *y, const char *name, struct known *source, bool package)
{
	if (y->count >= MODULES)
		return;
	y->modules = room_for_one(y->modules, y->count, &y->room, sizeof(*y->modules));
	y->modules[y->count++] = (struct module){source, text_dup(name), package};
}

/* A .py that is loaded: its compiled form when there is one. */
static void touch_source(struct python *y, struct known *k)
{
	const char *base = strrchr(k->path, '/') + 1;
	_cleanup_free_ char *compiled = NULL;
	struct known *c;

	if (k->frozen)
		return;
	compiled = text_printf("%.*s__pycache__/%.*s.cpython-%u%u.pyc", (int)(base - k->path),
			       k->path, (int)(strlen(base) - 3), base, y->major, y->minor);
	c = predict_find_file(y->p, compiled);

	predict_whole(y->p, c ? c : k);
}

/* A module "a.b" of one directory; 1 found, 2 it is a package. */
static int load_from(struct python *y, const char *dir, const char *last, const char *name)
{
	/* the first three behind the version */
	static const char *const ends[] = {"x86_64-linux-gnu.so", "aarch64-linux-gnu.so",
					   "x86_64-linux-musl.so", ".abi3.so", ".so"};
	_cleanup_free_ char *init = text_printf("%s/%s/__init__.py", dir, last);
	_cleanup_free_ char *plain = text_printf("%s/%s.py", dir, last);
	struct known *k = predict_find_file(y->p, init);

	if (k) {
		if (!k->module) {
			k->module = true;
			touch_source(y, k);
			add_module(y, name, k, true);
		}
		return 2;
	}
	for (size_t n = 0; n < sizeof(ends) / sizeof(ends[0]); n++) {
		_cleanup_free_ char *version = text_printf(".cpython-%u%u-", y->major, y->minor);
		_cleanup_free_ char *so =
		    text_printf("%s/%s%s%s", dir, last, n < 3 ? version : "", ends[n]);

		k = predict_find_file(y->p, so);
		if (k) {
			predict_elf(y->p, k, false);
			return 1;
		}
	}
	k = predict_find_file(y->p, plain);
	if (!k)
		return 0;
	if (!k->module) {
		k->module = true;
		touch_source(y, k);
		add_module(y, name, k, false);
	}
	return 1;
}

/* The directory of a package that was found; caller frees; NULL: a directory without __init__. */
static char *package_dir(struct python *y, const char *name)
{
	_cleanup_free_ char *path = text_dup(name);

	for (char *c = path; *c; c++)
		*c = *c == '.' ? '/' : *c;
	for (size_t n = 0; n < y->dir_count; n++) {
		_cleanup_free_ char *dir = text_printf("%s/%s", y->dirs[n], path);
		struct known *k = predict_find(y->p, dir);

		if (k && k->node.type == IMAGEFS_DIR)
			return steal_ptr(dir);
	}
	return NULL;
}

/* A module by its full name, parents first. */
static int import_module(struct python *y, const char *name)
{
	char part[NAME_BYTES];
	const char *dot = name;
	int found = 0;

	for (;;) {
		const char *end = strchr(dot, '.');
		size_t len = end ? (size_t)(end - name) : strlen(name);
		size_t last = (size_t)(dot - name);

		if (len >= sizeof(part) || len == last)
			return 0;
		memcpy(part, name, len);
		part[len] = 0;
		found = 0;
		if (last == 0) {
			for (size_t n = 0; n < y->dir_count && !found; n++)
				found = load_from(y, y->dirs[n], part, part);
		} else {
			_cleanup_free_ char *parent = NULL, *dir = NULL;

			parent = text_printf("%.*s", (int)last - 1, part);
			dir = package_dir(y, parent);
			if (dir)
				found = load_from(y, dir, part + last, part);
		}
		if (!end || (!found && last))
			return found;
		dot = end + 1;
	}
}

static int on_import(void *arg, unsigned int level, const char *module, const char *name)
{
	struct python *y = arg;
	char full[NAME_BYTES];
	size_t len;

	if (predict_over(y->p) || y->count >= MODULES || ++y->imports > IMPORTS)
		return 1;
	if (level == 0) {
		len = (size_t)snprintf(full, sizeof(full), "%s", module);
	} else {
		/* a package is itself the first dot, a module its parent */
		unsigned int up = y->from->package ? level - 1 : level;

		len = (size_t)snprintf(full, sizeof(full), "%s", y->from->name);
		for (; up && len; up--) {
			while (len && full[len - 1] != '.')
				len--;
			len -= len > 0;
		}
		if (len >= sizeof(full) || (len == 0 && up))
			return 0;
		full[len] = 0;
		if (*module)
			len += (size_t)snprintf(full + len, sizeof(full) - len, "%s%s",
						len ? "." : "", module);
	}
	if (len == 0 || len >= sizeof(full))
		return 0;
	/* what is taken from a package may be a module of it */
	if (import_module(y, full) != 1 && name && strcmp(name, "*") != 0 &&
	    len + strlen(name) + 2 < sizeof(full)) {
		snprintf(full + len, sizeof(full) - len, ".%s", name);
		import_module(y, full);
	}
	return 0;
}

static void follow(struct python *y)
{
	while (y->done < y->count && !predict_over(y->p)) {
		struct module m = y->modules[y->done++];
		_cleanup_free_ char *text = NULL;
		size_t bytes;

		text = predict_load(y->p, m.source, PYTHON_MAX_BYTES, &bytes);
		y->from = &m;
		if (text)
			(void)python_imports(text, bytes, strcmp(m.name, "__main__") == 0,
					     on_import, y);
	}
}

/* The directories of sys.path, and what the site module reads. */
static void search_path(struct python *y, const struct known *interp, const char *script)
{
	struct predict *p = y->p;
	const char *more = predict_env(p, "PYTHONPATH"), *slash = strstr(interp->path, "/bin/");
	_cleanup_free_ char *prefix = NULL, *lib = NULL;

	prefix = text_printf("%.*s", slash ? (int)(slash - interp->path) : 0, interp->path);
	if (script)
		add_dir(y, text_printf("%.*s", (int)(strrchr(script, '/') - script), script));
	while (more && *more) {
		size_t len = strcspn(more, ":");

		if (*more == '/')
			add_dir(y, text_printf("%.*s", (int)len, more));
		more += len;
		more += *more == ':';
	}
	lib = text_printf("%s/lib/python%u.%u", prefix, y->major, y->minor);
	add_dir(y, text_dup(lib));
	add_dir(y, text_printf("%s/lib-dynload", lib));
	add_dir(y, text_printf("%s/site-packages", lib));
	add_dir(y, text_printf("/usr/local/lib/python%u.%u/dist-packages", y->major, y->minor));
	add_dir(y, text_printf("/usr/lib/python%u/dist-packages", y->major));
}

/* What is imported before the script, from disk: since 3.11 much of it is in the interpreter. */
static void start_modules(struct python *y)
{
	static const char *const old[] = {"codecs",	  "io",		 "abc",
					  "site",	  "os",		 "stat",
					  "posixpath",	  "genericpath", "_collections_abc",
					  "_sitebuiltins"};
	static const char *const always[] = {"encodings",	"encodings.aliases",
					     "encodings.utf_8", "encodings.latin_1",
					     "sitecustomize",	"usercustomize"};

	for (size_t n = 0; n < 3; n++)
		(void)import_module(y, always[n]);
	for (size_t n = 0; y->minor < 11 && n < sizeof(old) / sizeof(old[0]); n++)
		(void)import_module(y, old[n]);
	for (size_t n = 4; n < 6; n++)
		(void)import_module(y, always[n]);
}

/* Modules that 3.11 and newer carry inside: their files are not read, but what they import is. */
static void mark_frozen(struct python *y)
{
	static const char names[] = "codecs io abc site os stat posixpath ntpath genericpath "
				    "_collections_abc _sitebuiltins zipimport runpy importlib/util "
				    "importlib/machinery importlib/_bootstrap "
				    "importlib/_bootstrap_external ";

	for (const char *name = names; y->minor >= 11 && *name; name = strchr(name, ' ') + 1) {
		int len = (int)strcspn(name, " ");

		for (size_t d = 0; d < y->dir_count; d++) {
			_cleanup_free_ char *path =
			    text_printf("%s/%.*s.py", y->dirs[d], len, name);
			struct known *k = predict_find_file(y->p, path);

			if (k && strstr(k->path, "/lib/python"))
				k->frozen = true;
		}
	}
}

/* The script, or the module behind -m. */
static void main_module(struct python *y, const char *script, const char *module)
{
	_cleanup_free_ char *name = module ? text_printf("%s.__main__", module) : NULL;
	struct known *k = script ? predict_find_file(y->p, script) : NULL;

	if (k) {
		predict_whole(y->p, k);
		add_module(y, "__main__", k, false);
	}
	if (module) {
		(void)import_module(y, "runpy");
		if (import_module(y, module) == 2)
			(void)import_module(y, name);
	}
}

void predict_python(struct predict *p, struct known *interp, char *const *args)
{
	const char *version = strstr(interp->path, "/python"), *module = NULL;
	const char *cwd = p->config->working_dir;
	_cleanup_free_ char *script = NULL;
	struct python y = {.p = p};

	if (!version || sscanf(version, "/python%u.%u", &y.major, &y.minor) != 2)
		return;
	for (; args && *args && !script && !module; args++) {
		if (strcmp(*args, "-m") == 0 && args[1])
			module = args[1];
		else if (strcmp(*args, "-c") == 0)
			break;
		else if ((*args)[0] != '-')
			script = (*args)[0] == '/' ? text_dup(*args)
						   : text_printf("%s/%s", cwd ? cwd : "", *args);
	}
	if (script && script[0] != '/')
		return;
	if (module && cwd)
		add_dir(&y, text_dup(cwd));
	search_path(&y, interp, script);
	mark_frozen(&y);
	start_modules(&y);
	main_module(&y, script, module);
	follow(&y);
	for (size_t n = 0; n < y.count; n++)
		free(y.modules[n].name);
	for (size_t n = 0; n < y.dir_count; n++)
		free(y.dirs[n]);
	free(y.modules);
}
