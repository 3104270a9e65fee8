/* SPDX-License-Identifier: Apache-2.0 */
/* python_imports.c - see python_imports.h */
#include "python_imports.h"

#include <ctype.h>
#include <string.h>

#define LINE_BYTES 8192u
#define NAME_BYTES 256u

/* Where the scanner is; a logical line without comments and long strings is in @line. */
struct scanner {
	const char *p, *end;
	char line[LINE_BYTES]; /* cut when longer */
	size_t len;
	unsigned int indent;
};

static void put(struct scanner *s, char c)
{
	if (s->len + 1 < sizeof(s->line))
		s->line[s->len++] = c;
}

/* At a quote: to behind the string. Short strings are kept, for conditions are made of them. */
static void skip_string(struct scanner *s)
{
	char quote = *s->p;
	bool triple = s->end - s->p >= 3 && s->p[1] == quote && s->p[2] == quote;

	s->p += triple ? 3 : 1;
	put(s, quote);
	while (s->p < s->end) {
		if (*s->p == '\\' && s->end - s->p >= 2) {
			s->p += 2;
			continue;
		}
		if (triple && s->end - s->p >= 3 && s->p[0] == quote && s->p[1] == quote &&
		    s->p[2] == quote) {
			s->p += 3;
			break;
		}
		if (!triple && (*s->p == quote || *s->p == '\n')) {
			s->p += *s->p == quote;
			break;
		}
		if (!triple)
			put(s, *s->p);
		s->p++;
	}
	put(s, quote);
}

/* The next logical line that is not empty; false at the end. */
static bool next_line(struct scanner *s)
{
	unsigned int depth = 0;

	do {
		s->len = 0;
		s->indent = 0;
		for (; s->p < s->end && (*s->p == ' ' || *s->p == '\t'); s->p++)
			s->indent += *s->p == '\t' ? 8 : 1;
		while (s->p < s->end) {
			char c = *s->p;

			if (c == '"' || c == '\'') {
				skip_string(s);
				continue;
			}
			s->p++;
			if (c == '#') {
				while (s->p < s->end && *s->p != '\n')
					s->p++;
			} else if (c == '\\' && s->p < s->end && *s->p == '\n') {
				s->p++;
				put(s, ' ');
			} else if (c == '\n' && depth == 0) {
				break;
			} else {
				depth += c == '(' || c == '[' || c == '{';
				depth -= depth && (c == ')' || c == ']' || c == '}');
				put(s, isspace((unsigned char)c) ? ' ' : c);
			}
		}
		while (s->len && s->line[s->len - 1] == ' ')
			s->len--;
		s->line[s->len] = 0;
	} while (s->len == 0 && s->p < s->end);
	return s->len > 0;
}

static bool starts(const char *s, const char *word)
{
	size_t len = strlen(word);

	return strncmp(s, word, len) == 0 && (s[len] == ' ' || s[len] == 0);
}

/* Whether what is indented below this line does not run. */
static bool skips_block(const char *line, bool script)
{
	static const char *const elsewhere[] = {"win32",  "'nt'",   "\"nt\"",
						"darwin", "cygwin", "emscripten"};

	if (starts(line, "def") || starts(line, "class") || starts(line, "async def"))
		return true;
	if (!starts(line, "if") && !starts(line, "elif"))
		return false;
	if (strstr(line, "TYPE_CHECKING") && !strstr(line, "not "))
		return true;
	if (strstr(line, "__name__") && !script)
		return true;
	for (size_t n = 0; n < sizeof(elsewhere) / sizeof(elsewhere[0]); n++) {
		if (strstr(line, elsewhere[n]) && !strstr(line, "!=") && !strstr(line, "not "))
			return true;
	}
	return false;
}

/* A dotted name at *@p, which is moved behind it; false: there is none of a possible length. */
static bool take_name(const char **p, char *ret)
{
	size_t len = 0;

	while (**p == ' ')
		(*p)++;
	while (isalnum((unsigned char)**p) || **p == '_' || **p == '.' || **p == '*' ||
	       (unsigned char)**p >= 0x80) {
		if (len + 1 >= NAME_BYTES)
			return false;
		ret[len++] = *(*p)++;
	}
	ret[len] = 0;
	return len > 0;
}

/* Behind "as x", at a comma or at the end. */
static bool next_item(const char **p)
{
	*p += strcspn(*p, ",;)");
	if (**p != ',')
		return false;
	(*p)++;
	return true;
}

static int plain_import(const char *p, python_import_fn *fn, void *arg)
{
	char module[NAME_BYTES];
	int rc = 0;

	do {
		if (!take_name(&p, module) || module[0] == '.')
			return 0;
		rc = fn(arg, 0, module, NULL);
	} while (rc == 0 && next_item(&p));
	return rc;
}

static int from_import(const char *p, python_import_fn *fn, void *arg)
{
	char module[NAME_BYTES], name[NAME_BYTES];
	unsigned int level = 0;
	int rc = 0;

	if (!take_name(&p, module))
		return 0;
	while (module[level] == '.')
		level++;
	while (*p == ' ')
		p++;
	if (!starts(p, "import") && strncmp(p, "import(", 7) != 0)
		return 0;
	p += strlen("import");
	while (*p == ' ' || *p == '(')
		p++;
	do {
		if (!take_name(&p, name))
			return rc;
		rc = fn(arg, level, module + level, name);
	} while (rc == 0 && next_item(&p));
	return rc;
}

int python_imports(const char *p, size_t bytes, bool script, python_import_fn *fn, void *arg)
{
	struct scanner s = {.p = p, .end = p + bytes};
	unsigned int skip = 0;
	bool skipping = false;
	int rc = 0;

	while (rc == 0 && next_line(&s)) {
		const char *at = s.line;

		if (skipping && s.indent > skip)
			continue;
		skipping = skips_block(s.line, script);
		skip = s.indent;
		for (; at && rc == 0; at = strchr(at, ';')) {
			at += strspn(at, "; ");
			if (starts(at, "import"))
				rc = plain_import(at + strlen("import"), fn, arg);
			else if (starts(at, "from"))
				rc = from_import(at + strlen("from"), fn, arg);
		}
	}
	return rc;
}
