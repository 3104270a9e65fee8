/* SPDX-License-Identifier: Apache-2.0 */
/* hosts_toml.c - see hosts_toml.h */
#include "hosts_toml.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "err.h"
#include "log.h"
#include "text.h"
#include "toml.h"

#define ALL_CAPS (HOST_PULL | HOST_RESOLVE | HOST_PUSH)

static void entry_done(struct hosts_entry *h)
{
	free(h->url);
	for (size_t i = 0; i < h->ca_count; i++)
		free(h->ca[i]);
	free(h->client_cert);
	free(h->client_key);
	for (size_t i = 0; i < h->header_count; i++) {
		explicit_bzero(h->headers[i], strlen(h->headers[i]));
		free(h->headers[i]);
	}
}

void hosts_config_free(struct hosts_config *c)
{
	if (!c)
		return;
	entry_done(&c->server);
	for (size_t i = 0; i < c->host_count; i++)
		entry_done(&c->hosts[i]);
	free(c->hosts);
	free(c);
}

static void warn(struct hosts_config *c, const char *where, const char *key)
{
	char quoted[96];

	if (!c->warnings++)
		(void)snprintf(c->warning, sizeof(c->warning), "%s%s%s", where, *where ? "." : "",
			       log_quote(key, quoted, sizeof(quoted))); /* cut is fine */
}

/* One string or an array of them. */
static int strings(const struct toml *v, const char *what, char **out, size_t *count, struct err *e)
{
	const struct toml *x = v->type == TOML_ARRAY ? v->child : v;

	for (; x; x = v->type == TOML_ARRAY ? x->next : NULL) {
		if (x->type != TOML_STRING)
			return err_set(e, -EINVAL, "%s must be a string or a list of strings",
				       what);
		if (*count >= HOSTS_TOML_MAX_STRINGS)
			return err_set(e, -EINVAL, "%s has more than %d entries", what,
				       HOSTS_TOML_MAX_STRINGS);
		out[(*count)++] = text_dup(x->text);
	}
	return 0;
}

static int capabilities(const struct toml *v, struct hosts_entry *h, struct err *e)
{
	char quoted[64];

	if (v->type != TOML_ARRAY)
		return err_set(e, -EINVAL, "capabilities must be a list of strings");
	h->caps = 0;
	for (const struct toml *x = v->child; x; x = x->next) {
		if (x->type != TOML_STRING)
			return err_set(e, -EINVAL, "capabilities must be a list of strings");
		if (strcmp(x->text, "pull") == 0)
			h->caps |= HOST_PULL;
		else if (strcmp(x->text, "resolve") == 0)
			h->caps |= HOST_RESOLVE;
		else if (strcmp(x->text, "push") == 0)
			h->caps |= HOST_PUSH;
		else
			return err_set(e, -EINVAL,
				       "unknown capability \"%s\": want pull, resolve or push",
				       log_quote(x->text, quoted, sizeof(quoted)));
	}
	return 0;
}

/* client = "both.pem", ["a.pem", ...] or [["cert", "key"], ...]; the first one counts. */
static int client(const struct toml *v, struct hosts_entry *h, struct err *e)
{
	const struct toml *x = v;

	if (x->type == TOML_ARRAY)
		x = x->child;
	if (x && x->type == TOML_STRING) {
		h->client_cert = text_dup(x->text);
		return 0;
	}
	if (x && x->type == TOML_ARRAY && x->child && x->child->type == TOML_STRING) {
		h->client_cert = text_dup(x->child->text);
		x = x->child->next;
		if (!x || (x->type == TOML_STRING && !x->text[0]))
			return 0;
		if (x->type == TOML_STRING && !x->next) {
			h->client_key = text_dup(x->text);
			return 0;
		}
	}
	return err_set(e, -EINVAL, "client must be a file, or a list of [certificate, key]");
}

static bool token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static int header_add(struct hosts_entry *h, const char *name, const struct toml *v, struct err *e)
{
	if (v->type != TOML_STRING)
		return err_set(e, -EINVAL, "header values must be strings");
	if (h->header_count >= HOSTS_TOML_MAX_STRINGS)
		return err_set(e, -EINVAL, "more than %d headers", HOSTS_TOML_MAX_STRINGS);
	for (const char *p = name; *p || p == name; p++)
		if (!token_char(*p))
			return err_set(e, -EINVAL, "bad header name");
	for (const char *p = v->text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return err_set(e, -EINVAL, "control character in a header value");
	h->headers[h->header_count++] = text_printf("%s: %s", name, v->text);
	return 0;
}

static int headers(const struct toml *v, struct hosts_entry *h, struct err *e)
{
	if (v->type != TOML_TABLE)
		return err_set(e, -EINVAL, "header must be a table");
	for (const struct toml *x = v->child; x; x = x->next) {
		const struct toml *one = x->type == TOML_ARRAY ? x->child : x;

		for (; one; one = x->type == TOML_ARRAY ? one->next : NULL) {
			int rc = header_add(h, x->key, one, e);

			if (rc)
				return rc;
		}
	}
	return 0;
}

static int truth(const struct toml *v, bool *ret, struct err *e)
{
	if (v->type != TOML_BOOL)
		return err_set(e, -EINVAL, "%s must be true or false", v->key);
	*ret = v->truth;
	return 0;
}

static int check_url(const char *url, struct err *e)
{
	const char *rest = text_starts_with(url, "https://")  ? url + 8
			   : text_starts_with(url, "http://") ? url + 7
							      : NULL;
	char quoted[96];

	if (!rest || !*rest || *rest == '/')
		return err_set(e, -EINVAL, "bad host \"%s\": want http:// or https:// and a name",
			       log_quote(url, quoted, sizeof(quoted)));
	for (const char *p = rest; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f ||
		    strchr("\"'<>\\^`{|}?#@", *p))
			return err_set(e, -EINVAL,
				       "bad host \"%s\": user names, queries and odd characters "
				       "cannot be used",
				       log_quote(url, quoted, sizeof(quoted)));
	return 0;
}

/* containerd accepts a host without a scheme and means https. */
static int set_url(struct hosts_entry *h, const char *text, struct err *e)
{
	h->url = strstr(text, "://") ? text_dup(text) : text_printf("https://%s", text);
	return check_url(h->url, e);
}

static int entry(struct hosts_config *c, const struct toml *table, const char *where,
		 struct hosts_entry *h, struct err *e)
{
	int rc = 0;

	h->caps = ALL_CAPS;
	for (const struct toml *v = table->child; v && !rc; v = v->next) {
		if (strcmp(v->key, "capabilities") == 0)
			rc = capabilities(v, h, e);
		else if (strcmp(v->key, "ca") == 0)
			rc = strings(v, "ca", h->ca, &h->ca_count, e);
		else if (strcmp(v->key, "client") == 0)
			rc = client(v, h, e);
		else if (strcmp(v->key, "skip_verify") == 0)
			rc = truth(v, &h->skip_verify, e);
		else if (strcmp(v->key, "override_path") == 0)
			rc = truth(v, &h->override_path, e);
		else if (strcmp(v->key, "header") == 0)
			rc = headers(v, h, e);
		else if (!*where && (strcmp(v->key, "server") == 0 || strcmp(v->key, "host") == 0))
			continue;
		else
			warn(c, where, v->key);
	}
	return rc;
}

static int interpret(const struct toml *root, struct hosts_config *c, struct err *e)
{
	const struct toml *server = toml_get(root, "server"), *hosts = toml_get(root, "host");
	char quoted[96];
	int rc;

	rc = entry(c, root, "", &c->server, e);
	if (rc)
		return rc;
	if (server) {
		if (server->type != TOML_STRING)
			return err_set(e, -EINVAL, "server must be a string");
		rc = set_url(&c->server, server->text, e);
		if (rc)
			return err_wrap(e, rc, "server");
	}
	if (!hosts)
		return 0;
	if (hosts->type != TOML_TABLE)
		return err_set(e, -EINVAL, "host must be a table: [host.\"https://...\"]");
	c->hosts = xmalloc_zero(HOSTS_TOML_MAX_HOSTS, sizeof(*c->hosts));
	for (const struct toml *t = hosts->child; t; t = t->next) {
		struct hosts_entry *h;

		if (t->type != TOML_TABLE)
			return err_set(e, -EINVAL, "host must be a table: [host.\"https://...\"]");
		if (c->host_count >= HOSTS_TOML_MAX_HOSTS)
			return err_set(e, -EINVAL, "more than %d hosts", HOSTS_TOML_MAX_HOSTS);
		h = &c->hosts[c->host_count++];
		rc = set_url(h, t->key, e);
		if (!rc)
			rc = entry(c, t, "host", h, e);
		if (rc)
			return err_wrap(e, rc, "host \"%s\"",
					log_quote(t->key, quoted, sizeof(quoted)));
	}
	return 0;
}

int hosts_toml_parse(const char *text, size_t len, struct hosts_config **ret, struct err *e)
{
	struct hosts_config *c;
	struct toml *root = NULL;
	int rc;

	if (len > HOSTS_TOML_MAX_BYTES)
		return err_set(e, -EINVAL, "larger than %u KiB", HOSTS_TOML_MAX_BYTES >> 10);
	if (memchr(text, '\0', len))
		return err_set(e, -EINVAL, "holds a NUL byte");
	rc = toml_parse(text, len, &root, e);
	if (rc)
		return rc;
	c = xmalloc_zero(1, sizeof(*c));
	rc = interpret(root, c, e);
	toml_free(root);
	if (rc) {
		hosts_config_free(c);
		return rc;
	}
	*ret = c;
	return 0;
}

/* --- directories -------------------------------------------------------------------------------
 */

static void make_absolute(char **file, const char *dir)
{
	char *full;

	if (!*file || (*file)[0] == '/')
		return;
	full = text_printf("%s/%s", dir, *file);
	free(*file);
	*file = full;
}

static void resolve_files(struct hosts_entry *h, const char *dir)
{
	for (size_t i = 0; i < h->ca_count; i++)
		make_absolute(&h->ca[i], dir);
	make_absolute(&h->client_cert, dir);
	make_absolute(&h->client_key, dir);
}

/* docker's older layout: certificates only. */
static struct hosts_config *from_certs(const char *dir)
{
	struct hosts_config *c = NULL;
	struct dirent **names = NULL;
	int count = scandir(dir, &names, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		const char *name = names[i]->d_name;
		bool ca = text_ends_with(name, ".crt"), cert = text_ends_with(name, ".cert");

		if (!c && (ca || cert)) {
			c = xmalloc_zero(1, sizeof(*c));
			c->server.caps = ALL_CAPS;
		}
		if (ca && c->server.ca_count < HOSTS_TOML_MAX_STRINGS)
			c->server.ca[c->server.ca_count++] = text_printf("%s/%s", dir, name);
		if (cert && !c->server.client_cert) {
			c->server.client_cert = text_printf("%s/%s", dir, name);
			c->server.client_key =
			    text_printf("%s/%.*s.key", dir, (int)(strlen(name) - 5), name);
		}
		free(names[i]);
	}
	free(names);
	return c;
}

static int load_dir(const char *dir, struct hosts_config **ret, struct err *e)
{
	char *path = text_printf("%s/hosts.toml", dir), *text = NULL;
	size_t len = 0;
	int rc = text_read_file(path, HOSTS_TOML_MAX_BYTES, &text, &len, e);

	if (rc == -ENOENT) {
		*ret = from_certs(dir);
		rc = 0;
	} else if (!rc) {
		rc = hosts_toml_parse(text, len, ret, e);
		if (rc)
			rc = err_wrap(e, rc, "%s", path);
	}
	free(text);
	free(path);
	if (rc || !*ret)
		return rc;
	resolve_files(&(*ret)->server, dir);
	for (size_t i = 0; i < (*ret)->host_count; i++)
		resolve_files(&(*ret)->hosts[i], dir);
	return 0;
}

int hosts_config_load(const char *dir, const char *host, struct hosts_config **ret, struct err *e)
{
	const char *colon = host[0] == '[' ? strstr(host, "]:") : strrchr(host, ':');
	char *tries[3];
	int rc = 0;

	if (colon && *colon == ']')
		colon++;
	*ret = NULL;
	tries[0] = text_printf("%s/%s", dir, host);
	tries[1] =
	    colon ? text_printf("%s/%.*s_%s_", dir, (int)(colon - host), host, colon + 1) : NULL;
	tries[2] = text_printf("%s/_default", dir);
	for (int i = 0; i < 3; i++) {
		struct stat st;

		if (!tries[i] || stat(tries[i], &st) || !S_ISDIR(st.st_mode))
			continue;
		rc = load_dir(tries[i], ret, e);
		break;
	}
	for (int i = 0; i < 3; i++)
		free(tries[i]);
	return rc;
}
