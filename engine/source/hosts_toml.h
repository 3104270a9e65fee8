/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hosts_toml.h - containerd's certs.d/HOST/hosts.toml
 *
 * hosts_toml_parse() is pure: the subset of TOML that these files use (tables, dotted and quoted
 * keys, strings of all four kinds, booleans, integers, arrays, inline tables). What it does not
 * know as a key gives a warning, what it cannot read as TOML is an error.
 */
#ifndef HS_SOURCE_HOSTS_TOML_H
#define HS_SOURCE_HOSTS_TOML_H

#include <stdbool.h>
#include <stddef.h>

struct err;

#define HOSTS_TOML_MAX_BYTES   (256u << 10)
#define HOSTS_TOML_MAX_HOSTS   32
#define HOSTS_TOML_MAX_STRINGS 16

enum host_caps { HOST_PULL = 1, HOST_RESOLVE = 2, HOST_PUSH = 4 };

struct hosts_entry {
	char *url;	   /* scheme://host[:port][/path] as written */
	unsigned int caps; /* enum host_caps; all when not given */
	bool skip_verify;
	bool override_path;
	char *ca[HOSTS_TOML_MAX_STRINGS];
	size_t ca_count;
	char *client_cert, *client_key;	       /* first pair; key NULL: in the same file */
	char *headers[HOSTS_TOML_MAX_STRINGS]; /* "Name: value" */
	size_t header_count;
};

struct hosts_config {
	struct hosts_entry server; /* top level; url NULL when not given */
	struct hosts_entry *hosts; /* in file order */
	size_t host_count;
	char warning[256]; /* first unknown key, or "" */
	unsigned int warnings;
};

int hosts_toml_parse(const char *text, size_t len, struct hosts_config **ret, struct err *e);
void hosts_config_free(struct hosts_config *c); /* NULL is fine */

/*
 * hosts_config_load - what @dir says about @host, with relative file names resolved
 * @ret: NULL when nothing is configured. Tries HOST:PORT, HOST_PORT_ and _default; a directory
 * without hosts.toml gives its *.crt, *.cert and *.key.
 */
int hosts_config_load(const char *dir, const char *host, struct hosts_config **ret, struct err *e);

#endif
