/* SPDX-License-Identifier: Apache-2.0 */
/*
 * predict_program.c - executing a file: ELF or script, and what words of scripts name
 *
 * A shell script is not run and not parsed: words that are paths or names of programs are taken as
 * such. That finds the server at the end of an entrypoint script, and a few tools too many.
 */
#include "predict_impl.h"

#include "cleanup.h"
#include "oci.h"
#include "text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define PATH_DIRS    64u
#define WORDS	     400u
#define WORD_BYTES   512u
#define SCRIPT_BYTES (256u << 10)
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct known *predict_in_path(struct predict *p, const char *name)
{
	const char *dirs = predict_env(p, "PATH"), *cwd = p->config->working_dir;

	if (!name[0] || strlen(name) > 1024)
		return NULL;
	if (name[0] == '/')
		return predict_find_file(p, name);
	if (strchr(name, '/')) {
		_cleanup_free_ char *path = text_printf("%s/%s", cwd ? cwd : "", name);

		return path[0] == '/' ? predict_find_file(p, path) : NULL;
	}
	dirs = dirs ? dirs : DEFAULT_PATH;
	for (unsigned int n = 0; n < PATH_DIRS && *dirs; n++) {
		size_t len = strcspn(dirs, ":");
		_cleanup_free_ char *path = text_printf("%.*s/%s", (int)len, dirs, name);
		struct known *k = path[0] == '/' ? predict_find_file(p, path) : NULL;

		if (k && k->node.mode & 0111)
			return k;
		dirs += len;
		dirs += *dirs == ':';
	}
	return NULL;
}

static const char *base_name(const struct known *k)
{
	return strrchr(k->path, '/') + 1;
}

/* Programs that run what their arguments name. */
static bool is_wrapper(const char *name)
{
	static const char *const names[] = {"tini", "dumb-init", "docker-init", "catatonit",
					    "gosu", "su-exec",	 "env",		"setpriv",
					    "nice", "ionice",	 "stdbuf",	"tini-static"};

	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		if (strcmp(name, names[n]) == 0)
			return true;
	}
	return false;
}

static bool is_shell(const char *name)
{
	return strcmp(name, "sh") == 0 || strcmp(name, "bash") == 0 || strcmp(name, "dash") == 0 ||
	       strcmp(name, "busybox") == 0 || strcmp(name, "ash") == 0;
}

/* A program by the name it was called by, which may be a link; its configuration goes by that. */
static void called(struct predict *p, const char *w, struct known *k, char *const *args,
		   unsigned int depth)
{
	const char *slash = strrchr(w, '/');

	predict_program(p, k, args, depth + 1);
	predict_configuration(p, slash ? slash + 1 : w);
}

/* The first argument that is a program, with what follows as its arguments. */
static void run_args(struct predict *p, char *const *args, unsigned int depth)
{
	for (; args && *args && !predict_over(p); args++) {
		struct known *k;

		if ((*args)[0] == '-' || strchr(*args, '='))
			continue;
		k = predict_in_path(p, *args);
		if (k && k->node.mode & 0111) {
			called(p, *args, k, args + 1, depth);
			return;
		}
	}
}

/* One word of a script. */
static void word(struct predict *p, const char *w, bool command, unsigned int depth)
{
	struct known *k;

	if (w[0] == '/') {
		k = predict_find_file(p, w);
		if (k && k->node.mode & 0111)
			called(p, w, k, NULL, depth);
		else if (k && k->node.bytes <= PREDICT_SMALL_BYTES)
			predict_whole(p, k);
	} else if (command && islower((unsigned char)w[0]) && !strchr(w, '/')) {
		k = predict_in_path(p, w);
		if (k)
			called(p, w, k, NULL, depth);
	}
}

void predict_words(struct predict *p, const char *text, unsigned int depth)
{
	/* words after which a command begins */
	static const char *const leads[] = {"exec",  "then", "do", "else", "!", "if",
					    "while", "&&",   "||", "(",	   "{"};
	bool command = true;
	unsigned int words = 0;

	while (*text && words < WORDS && !predict_over(p)) {
		char w[WORD_BYTES];
		size_t len;
		bool lead = false;

		text += strspn(text, " \t\"'");
		if (*text == '#' && command) {
			text += strcspn(text, "\n");
			continue;
		}
		if (*text && strchr("\n;|&`()", *text)) {
			command = true;
			text++;
			continue;
		}
		len = strcspn(text, " \t\n\"';|&`()");
		if (len == 0)
			break;
		if (len < sizeof(w)) {
			memcpy(w, text, len);
			w[len] = 0;
			for (size_t n = 0; n < sizeof(leads) / sizeof(leads[0]); n++)
				lead = lead || strcmp(w, leads[n]) == 0;
			if (!lead)
				word(p, w, command, depth);
			words++;
		}
		command = command && lead;
		text += len;
	}
}

/* "#! interpreter argument"; false: no script. */
static bool script(struct predict *p, struct known *k, char *const *args, unsigned int depth)
{
	_cleanup_free_ char *text = predict_load(p, k, SCRIPT_BYTES, NULL);
	char *interp, *arg, *end, **all;
	const char *rest;
	struct known *i;
	size_t count = 0;

	if (!text || text[0] != '#' || text[1] != '!')
		return false;
	k->elf = true; /* before what it calls, which may be itself */
	predict_whole(p, k);
	end = text + strcspn(text, "\n");
	interp = text + 2 + strspn(text + 2, " \t");
	if (interp >= end)
		return true;
	/* a script may be its first line only, without an end of that */
	rest = *end ? end + 1 : end;
	*end = 0;
	arg = interp + strcspn(interp, " \t\r");
	if (*arg)
		*arg++ = 0;
	arg += strspn(arg, " \t");
	while (args && args[count])
		count++;
	all = xmalloc_zero(count + 3, sizeof(*all));
	count = 0;
	/* env takes the program from its argument */
	if (text_ends_with(interp, "/env")) {
		i = predict_find_file(p, interp);
		if (i)
			predict_elf(p, i, true);
		arg += text_starts_with(arg, "-S ") ? 3 : 0;
		arg[strcspn(arg, " \t\r")] = 0;
		i = predict_in_path(p, arg);
	} else {
		i = predict_find_file(p, interp);
		if (*arg)
			all[count++] = arg;
	}
	all[count++] = k->path;
	for (size_t n = 0; args && args[n]; n++)
		all[count++] = args[n];
	if (i)
		predict_program(p, i, all, depth + 1);
	if (i && is_shell(base_name(i)))
		predict_words(p, rest, depth);
	free(all);
	/* entrypoint scripts end with exec "$@" */
	run_args(p, args, depth);
	return true;
}

void predict_configuration(struct predict *p, const char *name)
{
	_cleanup_free_ char *dir = text_printf("/etc/%s", name);
	_cleanup_free_ char *file = text_printf("/etc/%s.conf", name);
	struct known *k = predict_find_file(p, file);

	if (k) {
		predict_whole(p, k);
		predict_config_words(p, k, name);
	}
	predict_small_files(p, dir, name, 2);
}

/* A module of a program: as it is named, or where a package of that name puts such. */
static void module_word(struct predict *p, const char *w, const char *name)
{
	struct known *k = w[0] == '/' ? predict_find_file(p, w) : NULL;

	for (size_t n = 0; !k && w[0] != '/' && n < 3; n++) {
		_cleanup_free_ char *path = NULL;

		if (n == 0)
			path = text_printf("/usr/lib/%s/%s", name, w);
		else if (n == 1)
			path = text_printf("/usr/lib/%s/modules/%s", name, w);
		else
			path = text_printf("/usr/share/%s/%s", name, w);
		k = predict_find_file(p, path);
	}
	if (k)
		predict_elf(p, k, false);
}

void predict_config_words(struct predict *p, const struct known *k, const char *name)
{
	_cleanup_free_ char *text = predict_load(p, k, PREDICT_SMALL_BYTES, NULL);
	static const char ends[] = " \t\r\n\"';,=()<>{}";
	unsigned int words = 0;

	for (char *w = text; w && *w && words < WORDS && !predict_over(p); words++) {
		size_t len;

		w += strspn(w, ends);
		if (*w == '#') {
			w += strcspn(w, "\n");
			continue;
		}
		len = strcspn(w, ends);
		if (w[len])
			w[len++] = 0;
		if (strlen(w) < WORD_BYTES && text_ends_with(w, ".so"))
			module_word(p, w, name);
		else if (w[0] == '/' && strlen(w) < WORD_BYTES) {
			struct known *f = predict_find_file(p, w);

			if (f && f->node.bytes <= PREDICT_SMALL_BYTES)
				predict_whole(p, f);
		}
		w += len;
	}
}

void predict_program(struct predict *p, struct known *k, char *const *args, unsigned int depth)
{
	const char *name = base_name(k);
	bool python = text_starts_with(name, "python"), node = strncmp(name, "node", 4) == 0;

	/* a file is looked into once; interpreters differ by what they run */
	if (predict_over(p) || depth > PREDICT_DEPTH || (k->elf && !python && !node && !args))
		return;
	if (!k->elf && script(p, k, args, depth))
		return;
	predict_elf(p, k, true);
	predict_configuration(p, name);
	if (is_wrapper(name))
		run_args(p, args, depth);
	if (is_shell(name) && args && args[0] && strcmp(args[0], "-c") == 0 && args[1])
		predict_words(p, args[1], depth);
	else if (is_shell(name) && args && args[0] && args[0][0] != '-' && depth == 0)
		run_args(p, args, depth);
	if (python)
		predict_python(p, k, args);
	else if (node)
		predict_node(p, args);
}
