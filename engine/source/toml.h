/* SPDX-License-Identifier: Apache-2.0 */
/*
 * toml.h - the part of TOML that configuration of registries uses, as a tree
 *
 * Tables, dotted, bare and quoted keys, basic, literal and multi-line strings, booleans, decimal
 * integers, arrays, inline tables. No dates, floats or arrays of tables: those are errors that say
 * so. Pure; bounded in depth and number of nodes.
 */
#ifndef HS_SOURCE_TOML_H
#define HS_SOURCE_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum toml_type { TOML_TABLE, TOML_ARRAY, TOML_STRING, TOML_BOOL, TOML_INT };

struct toml {
	enum toml_type type;
	char *key;  /* in a table */
	char *text; /* string without NUL inside */
	bool truth;
	int64_t number;
	struct toml *child, *next;
	bool closed; /* inline: nothing can be added */
	bool header; /* its own [table] line was seen */
};

/* toml_parse - 0 or -EINVAL with the line number */
int toml_parse(const char *text, size_t len, struct toml **ret, struct err *e);
void toml_free(struct toml *t); /* NULL is fine */

/* toml_get - child of a table by key, or NULL */
const struct toml *toml_get(const struct toml *table, const char *key);

#endif
