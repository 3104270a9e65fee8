/* SPDX-License-Identifier: Apache-2.0 */
/* toml.c - see toml.h */
#include "toml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "text.h"

#define MAX_DEPTH 16
#define MAX_NODES 8192

struct parser {
	const char *p, *end;
	unsigned int line, depth, nodes;
	struct err *e;
};

static int fail(struct parser *ps, const char *what)
{
	return err_set(ps->e, -EINVAL, "line %u: %s", ps->line, what);
}

static struct toml *node_new(struct parser *ps, enum toml_type type)
{
	struct toml *t;

	if (++ps->nodes > MAX_NODES)
		return NULL;
	t = xmalloc_zero(1, sizeof(*t));
	t->type = type;
	return t;
}

void toml_free(struct toml *t)
{
	while (t) {
		struct toml *next = t->next;

		toml_free(t->child); /* depth is bounded by the parser */
		free(t->key);
		free(t->text);
		free(t);
		t = next;
	}
}

const struct toml *toml_get(const struct toml *table, const char *key)
{
	if (!table || table->type != TOML_TABLE)
		return NULL;
	for (const struct toml *c = table->child; c; c = c->next)
		if (strcmp(c->key, key) == 0)
			return c;
	return NULL;
}

static void append(struct toml *parent, struct toml *c)
{
	struct toml **at = &parent->child;

	while (*at)
		at = &(*at)->next;
	*at = c;
}

static bool more(const struct parser *ps)
{
	return ps->p < ps->end;
}

static void blanks(struct parser *ps)
{
	while (more(ps) && (*ps->p == ' ' || *ps->p == '\t'))
		ps->p++;
}

static void comment(struct parser *ps)
{
	if (more(ps) && *ps->p == '#')
		while (more(ps) && *ps->p != '\n')
			ps->p++;
}

static void white(struct parser *ps)
{
	for (;;) {
		blanks(ps);
		comment(ps);
		if (more(ps) && *ps->p == '\r' && ps->p + 1 < ps->end && ps->p[1] == '\n')
			ps->p++;
		if (!more(ps) || *ps->p != '\n')
			return;
		ps->line++;
		ps->p++;
	}
}

static int line_end(struct parser *ps)
{
	blanks(ps);
	comment(ps);
	if (more(ps) && *ps->p == '\r')
		ps->p++;
	if (more(ps) && *ps->p != '\n')
		return fail(ps, "unexpected text behind the value");
	return 0;
}

/* --- strings -----------------------------------------------------------------------------------
 */

struct out {
	char *buf;
	size_t len, cap;
};

static void put(struct out *o, char c)
{
	if (o->len + 2 > o->cap) {
		o->cap = o->cap ? o->cap * 2 : 64;
		o->buf = realloc(o->buf, o->cap);
		if (!o->buf)
			abort();
	}
	o->buf[o->len++] = c;
	o->buf[o->len] = '\0';
}

static void put_utf8(struct out *o, uint32_t v)
{
	if (v < 0x80) {
		put(o, (char)v);
	} else if (v < 0x800) {
		put(o, (char)(0xc0 | v >> 6));
		put(o, (char)(0x80 | (v & 63)));
	} else if (v < 0x10000) {
		put(o, (char)(0xe0 | v >> 12));
		put(o, (char)(0x80 | (v >> 6 & 63)));
		put(o, (char)(0x80 | (v & 63)));
	} else {
		put(o, (char)(0xf0 | v >> 18));
		put(o, (char)(0x80 | (v >> 12 & 63)));
		put(o, (char)(0x80 | (v >> 6 & 63)));
		put(o, (char)(0x80 | (v & 63)));
	}
}

static int escape(struct parser *ps, struct out *o, bool multi)
{
	static const char from[] = "btnfr\"\\e", to[] = "\b\t\n\f\r\"\\\x1b";
	const char *at;
	uint32_t v = 0;
	int digits;
	char c;

	if (!more(ps))
		return fail(ps, "string does not end");
	c = *ps->p++;
	at = c ? strchr(from, c) : NULL;
	if (at) {
		put(o, to[at - from]);
		return 0;
	}
	if (multi && (c == '\n' || c == '\r' || c == ' ' || c == '\t')) {
		/* a line that goes on: skip all white space */
		ps->p--;
		while (more(ps) && strchr(" \t\r\n", *ps->p) && *ps->p) {
			ps->line += *ps->p == '\n';
			ps->p++;
		}
		return 0;
	}
	if (c != 'u' && c != 'U')
		return fail(ps, "unknown escape in string");
	digits = c == 'u' ? 4 : 8;
	for (int i = 0; i < digits; i++) {
		char d = more(ps) ? *ps->p++ : '\0';

		if (d >= '0' && d <= '9')
			v = v << 4 | (uint32_t)(d - '0');
		else if (d >= 'a' && d <= 'f')
			v = v << 4 | (uint32_t)(d - 'a' + 10);
		else if (d >= 'A' && d <= 'F')
			v = v << 4 | (uint32_t)(d - 'A' + 10);
		else
			return fail(ps, "bad \\u escape in string");
	}
	if (!v || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
		return fail(ps, "bad \\u escape in string");
	put_utf8(o, v);
	return 0;
}

static int string_body(struct parser *ps, char quote, bool multi, struct out *o)
{
	for (;;) {
		char c;

		if (!more(ps))
			return fail(ps, "string does not end");
		c = *ps->p++;
		if (c == quote) {
			if (!multi)
				return 0;
			if (ps->end - ps->p >= 2 && ps->p[0] == quote && ps->p[1] == quote) {
				ps->p += 2;
				/* up to two quotes may stand right before the end */
				for (int i = 0; i < 2 && more(ps) && *ps->p == quote; i++) {
					put(o, quote);
					ps->p++;
				}
				return 0;
			}
		}
		if (c == '\\' && quote == '"') {
			int rc = escape(ps, o, multi);

			if (rc)
				return rc;
			continue;
		}
		if (c == '\n') {
			if (!multi)
				return fail(ps, "string does not end on its line");
			ps->line++;
		} else if (((unsigned char)c < ' ' && c != '\t' && !(multi && c == '\r')) ||
			   c == 0x7f) {
			return fail(ps, "control character in string");
		}
		put(o, c);
	}
}

static int string(struct parser *ps, bool key, char **ret)
{
	char quote = *ps->p++;
	struct out o = {0};
	bool multi = false;
	int rc;

	put(&o, '\0');
	o.len = 0;
	if (!key && ps->end - ps->p >= 2 && ps->p[0] == quote && ps->p[1] == quote) {
		multi = true;
		ps->p += 2;
		if (more(ps) && *ps->p == '\r')
			ps->p++;
		if (more(ps) && *ps->p == '\n') {
			ps->line++;
			ps->p++;
		}
	}
	rc = string_body(ps, quote, multi, &o);
	if (rc) {
		free(o.buf);
		return rc;
	}
	o.buf[o.len] = '\0';
	*ret = o.buf;
	return 0;
}

/* --- keys and values ---------------------------------------------------------------------------
 */

static bool bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

static int one_key(struct parser *ps, char **ret)
{
	const char *start;

	blanks(ps);
	if (!more(ps))
		return fail(ps, "key is missing");
	if (*ps->p == '"' || *ps->p == '\'')
		return string(ps, true, ret);
	start = ps->p;
	while (more(ps) && bare(*ps->p))
		ps->p++;
	if (ps->p == start)
		return fail(ps, "key is missing or has characters that need quotes");
	*ret = text_printf("%.*s", (int)(ps->p - start), start);
	return 0;
}

/* The child table @key of @t, made when it is not there. Takes @key over. */
static int enter(struct parser *ps, struct toml *t, char *key, struct toml **ret)
{
	struct toml *c = (struct toml *)toml_get(t, key);

	if (c) {
		free(key);
		if (c->type != TOML_TABLE || c->closed)
			return fail(ps, "key is already something else");
		*ret = c;
		return 0;
	}
	c = node_new(ps, TOML_TABLE);
	if (!c) {
		free(key);
		return fail(ps, "too many entries");
	}
	c->key = key;
	append(t, c);
	*ret = c;
	return 0;
}

/* a.b.c: all but the last are entered; @ret_key is the last. */
static int path(struct parser *ps, struct toml *t, struct toml **ret_table, char **ret_key)
{
	for (int depth = 0;; depth++) {
		char *key = NULL;
		int rc = one_key(ps, &key);

		if (rc)
			return rc;
		if (depth >= MAX_DEPTH) {
			free(key);
			return fail(ps, "key is nested too deeply");
		}
		blanks(ps);
		if (!more(ps) || *ps->p != '.') {
			*ret_table = t;
			*ret_key = key;
			return 0;
		}
		ps->p++;
		rc = enter(ps, t, key, &t);
		if (rc)
			return rc;
	}
}

static int value(struct parser *ps, struct toml **ret);

static int assignment(struct parser *ps, struct toml *t)
{
	struct toml *table, *v = NULL;
	char *key = NULL;
	int rc = path(ps, t, &table, &key);

	if (rc)
		return rc;
	if (!more(ps) || *ps->p != '=') {
		free(key);
		return fail(ps, "'=' is missing behind the key");
	}
	ps->p++;
	if (toml_get(table, key)) {
		free(key);
		return fail(ps, "key is set twice");
	}
	rc = value(ps, &v);
	if (rc) {
		free(key);
		return rc;
	}
	v->key = key;
	append(table, v);
	return 0;
}

static int inline_table(struct parser *ps, struct toml *t)
{
	int rc;

	ps->p++;
	t->closed = true;
	blanks(ps);
	if (more(ps) && *ps->p == '}') {
		ps->p++;
		return 0;
	}
	for (;;) {
		rc = assignment(ps, t);
		if (rc)
			return rc;
		blanks(ps);
		if (more(ps) && *ps->p == '}') {
			ps->p++;
			return 0;
		}
		if (!more(ps) || *ps->p++ != ',')
			return fail(ps, "',' or '}' is missing in inline table");
	}
}

static int array(struct parser *ps, struct toml *t)
{
	ps->p++;
	for (;;) {
		struct toml *v = NULL;
		int rc;

		white(ps);
		if (more(ps) && *ps->p == ']') {
			ps->p++;
			return 0;
		}
		rc = value(ps, &v);
		if (rc)
			return rc;
		append(t, v);
		white(ps);
		if (more(ps) && *ps->p == ',') {
			ps->p++;
			continue;
		}
		if (!more(ps) || *ps->p != ']')
			return fail(ps, "',' or ']' is missing in array");
	}
}

static int word(struct parser *ps, struct toml *t)
{
	const char *start = ps->p;
	size_t len;
	bool minus = false;

	while (more(ps) && (bare(*ps->p) || *ps->p == '+' || *ps->p == '.' || *ps->p == ':'))
		ps->p++;
	len = (size_t)(ps->p - start);
	if ((len == 4 && memcmp(start, "true", 4) == 0) ||
	    (len == 5 && memcmp(start, "false", 5) == 0)) {
		t->type = TOML_BOOL;
		t->truth = len == 4;
		return 0;
	}
	t->type = TOML_INT;
	if (len && (*start == '-' || *start == '+')) {
		minus = *start == '-';
		start++;
		len--;
	}
	if (!len || len > 18)
		return fail(ps, "not a value (strings need quotes)");
	for (; len; len--, start++) {
		if (*start == '_')
			continue;
		if (*start < '0' || *start > '9')
			return fail(ps,
				    "not a value (strings need quotes; no dates or floats here)");
		t->number = t->number * 10 + (*start - '0');
	}
	if (minus)
		t->number = -t->number;
	return 0;
}

static int value(struct parser *ps, struct toml **ret)
{
	struct toml *t;
	int rc;

	blanks(ps);
	if (!more(ps))
		return fail(ps, "value is missing");
	if (ps->depth >= MAX_DEPTH)
		return fail(ps, "value is nested too deeply");
	t = node_new(ps, TOML_STRING);
	if (!t)
		return fail(ps, "too many entries");
	ps->depth++;
	if (*ps->p == '"' || *ps->p == '\'') {
		rc = string(ps, false, &t->text);
	} else if (*ps->p == '[') {
		t->type = TOML_ARRAY;
		rc = array(ps, t);
	} else if (*ps->p == '{') {
		t->type = TOML_TABLE;
		rc = inline_table(ps, t);
	} else {
		rc = word(ps, t);
	}
	ps->depth--;
	if (rc) {
		toml_free(t);
		return rc;
	}
	*ret = t;
	return 0;
}

static int header(struct parser *ps, struct toml *root, struct toml **ret)
{
	struct toml *table;
	char *key = NULL;
	int rc;

	ps->p++;
	if (more(ps) && *ps->p == '[')
		return fail(ps, "arrays of tables ([[...]]) are not used here");
	rc = path(ps, root, &table, &key);
	if (!rc)
		rc = enter(ps, table, key, ret);
	if (rc)
		return rc;
	if (!more(ps) || *ps->p != ']')
		return fail(ps, "']' is missing");
	ps->p++;
	if ((*ret)->header)
		return fail(ps, "table is defined twice");
	(*ret)->header = true;
	return line_end(ps);
}

int toml_parse(const char *text, size_t len, struct toml **ret, struct err *e)
{
	struct parser ps = {.p = text, .end = text + len, .line = 1, .e = e};
	struct toml *root = node_new(&ps, TOML_TABLE), *now = root;
	int rc = 0;

	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		ps.p += 3;
	while (!rc) {
		white(&ps);
		if (!more(&ps))
			break;
		if (*ps.p == '[') {
			rc = header(&ps, root, &now);
		} else {
			rc = assignment(&ps, now);
			if (!rc)
				rc = line_end(&ps);
		}
	}
	if (rc) {
		toml_free(root);
		return rc;
	}
	*ret = root;
	return 0;
}
