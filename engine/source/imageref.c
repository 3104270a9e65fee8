/* SPDX-License-Identifier: Apache-2.0 */
/* imageref.c - see imageref.h; pure, no I/O */
#include "imageref.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "err.h"
#include "log.h"
#include "text.h"

#define REPO_MAX_BYTES 255
#define TAG_MAX_BYTES  128
#define TEXT_MAX_BYTES 4096

static bool lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool ascii_alnum(char c)
{
	return lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

static bool port_valid(const char *s)
{
	unsigned long v = 0;

	if (!*s || strlen(s) > 5)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (unsigned long)(*s - '0');
	}
	return v >= 1 && v <= 65535;
}

static bool host_valid(const char *host)
{
	const char *p = host;

	if (*p == '[') {
		const char *close = strchr(p, ']');

		if (!close || close == p + 1)
			return false;
		for (p++; p < close; p++)
			if (!isxdigit((unsigned char)*p) && *p != ':' && *p != '.')
				return false;
		p = close + 1;
	} else {
		if (!ascii_alnum(*p))
			return false;
		while (ascii_alnum(*p) || *p == '.' || *p == '-')
			p++;
		if (p[-1] == '-')
			return false;
	}
	return *p == '\0' || (*p == ':' && port_valid(p + 1));
}

/* One path component: lower-case words joined by '.', '_', '__' or any number of '-'. */
static const char *repo_component(const char *p)
{
	for (;;) {
		if (!lower_or_digit(*p))
			return NULL;
		while (lower_or_digit(*p))
			p++;
		if (*p == '.') {
			p++;
		} else if (*p == '_') {
			p++;
			if (*p == '_')
				p++;
		} else if (*p == '-') {
			while (*p == '-')
				p++;
		} else {
			return p;
		}
	}
}

static bool repo_valid(const char *repo)
{
	const char *p = repo;

	if (strlen(repo) > REPO_MAX_BYTES)
		return false;
	for (;;) {
		p = repo_component(p);
		if (!p)
			return false;
		if (!*p)
			return true;
		if (*p++ != '/')
			return false;
	}
}

static bool tag_valid(const char *tag)
{
	if (!ascii_alnum(*tag) && *tag != '_')
		return false;
	if (strlen(tag) > TAG_MAX_BYTES)
		return false;
	for (; *tag; tag++)
		if (!ascii_alnum(*tag) && *tag != '_' && *tag != '.' && *tag != '-')
			return false;
	return true;
}

static bool has_upper(const char *s)
{
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			return true;
	return false;
}

/* Whether the first component of a docker name is a registry and not part of the repository. */
static bool looks_like_host(const char *s)
{
	return strchr(s, '.') || strchr(s, ':') || strcmp(s, "localhost") == 0 || has_upper(s);
}

static int parse_docker(char *rest, struct imageref *ret, struct err *e)
{
	char *at, *slash, *colon, quoted[128];
	const char *host, *repo;

	at = strchr(rest, '@');
	if (at) {
		*at = '\0';
		if (!digest_valid(at + 1))
			return err_set(
			    e, -EINVAL,
			    "bad digest \"%s\": want @sha256: and 64 lower-case hex digits",
			    log_quote(at + 1, quoted, sizeof(quoted)));
		ret->digest = text_dup(at + 1);
	}
	slash = *rest == '[' ? strchr(rest, ']') : rest;
	slash = slash ? strchr(slash, '/') : NULL;
	host = "docker.io";
	repo = rest;
	if (slash) {
		*slash = '\0';
		if (looks_like_host(rest)) {
			host = rest;
			repo = slash + 1;
		} else {
			*slash = '/';
		}
	}
	if (!host_valid(host))
		return err_set(
		    e, -EINVAL,
		    "bad registry \"%s\": want HOST[:PORT], as in docker://127.0.0.1:5000/nginx:1",
		    log_quote(host, quoted, sizeof(quoted)));
	colon = strrchr(repo, ':');
	if (colon && !strchr(colon, '/')) {
		*colon = '\0';
		if (!tag_valid(colon + 1))
			return err_set(
			    e, -EINVAL,
			    "bad tag \"%s\": want up to 128 letters, digits, '_', '.', '-'",
			    log_quote(colon + 1, quoted, sizeof(quoted)));
		ret->tag = text_dup(colon + 1);
	}
	if (strcasecmp(host, "index.docker.io") == 0 ||
	    strcasecmp(host, "registry-1.docker.io") == 0 || strcasecmp(host, "docker.io") == 0)
		host = "docker.io";
	if (has_upper(repo))
		return err_set(e, -EINVAL, "bad repository \"%s\": it must be lower case",
			       log_quote(repo, quoted, sizeof(quoted)));
	if (!repo_valid(repo))
		return err_set(e, -EINVAL,
			       "bad repository \"%s\": want NAME[/NAME...], as in "
			       "docker://127.0.0.1:5000/team/app:1",
			       log_quote(repo, quoted, sizeof(quoted)));
	ret->kind = IMAGEREF_DOCKER;
	ret->host = text_dup(host);
	ret->repo = strcmp(host, "docker.io") == 0 && !strchr(repo, '/')
			? text_printf("library/%s", repo)
			: text_dup(repo);
	if (strlen(ret->repo) > REPO_MAX_BYTES)
		return err_set(e, -EINVAL, "repository name is longer than %d bytes",
			       REPO_MAX_BYTES);
	if (!ret->tag && !ret->digest)
		ret->tag = text_dup("latest");
	return 0;
}

static int parse_local(char *rest, enum imageref_kind kind, const char *example,
		       struct imageref *ret, struct err *e)
{
	size_t len = strlen(rest);
	char *colon, quoted[128];

	/* oci:DIR@sha256:... is ours; everything else splits at the first colon, as skopeo does */
	if (len > 72 && rest[len - 72] == '@' && digest_valid(rest + len - 71)) {
		ret->digest = text_dup(rest + len - 71);
		rest[len - 72] = '\0';
	}
	colon = strchr(rest, ':');
	if (colon) {
		*colon = '\0';
		if (!colon[1])
			return err_set(e, -EINVAL, "empty tag behind the last ':', want %s",
				       example);
		for (const char *p = colon + 1; *p; p++)
			if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
				return err_set(e, -EINVAL, "bad tag \"%s\": want %s",
					       log_quote(colon + 1, quoted, sizeof(quoted)),
					       example);
		if (strlen(colon + 1) > REPO_MAX_BYTES + TAG_MAX_BYTES)
			return err_set(e, -EINVAL, "tag is too long");
		ret->tag = text_dup(colon + 1);
	}
	if (!*rest)
		return err_set(e, -EINVAL, "path is empty, want %s", example);
	ret->kind = kind;
	ret->path = text_dup(rest);
	return 0;
}

static int parse(const char *text, struct imageref *ret, struct err *e)
{
	static const char *const unsupported[] = {
	    "dir:", "oci-archive:", "docker-daemon:", "containers-storage:", "ostree:", "sif:"};
	char *copy = NULL, quoted[128];
	int rc;

	if (!text || !*text)
		return err_set(e, -EINVAL,
			       "image name is empty, want one as docker://HOST/REPO:TAG, "
			       "oci:DIR:TAG, docker-archive:FILE or the path of a config.v1.json");
	if (strlen(text) > TEXT_MAX_BYTES)
		return err_set(e, -EINVAL, "image name is longer than %d bytes", TEXT_MAX_BYTES);
	if (text_starts_with(text, "docker://")) {
		copy = text_dup(text + 9);
		rc = parse_docker(copy, ret, e);
	} else if (text_starts_with(text, "oci:")) {
		copy = text_dup(text + 4);
		rc = parse_local(copy, IMAGEREF_OCI, "oci:DIR[:TAG], as in oci:./layout:nginx", ret,
				 e);
	} else if (text_starts_with(text, "docker-archive:")) {
		copy = text_dup(text + 15);
		rc = parse_local(copy, IMAGEREF_ARCHIVE,
				 "docker-archive:FILE[:NAME:TAG], as in docker-archive:nginx.tar",
				 ret, e);
	} else {
		for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++)
			if (text_starts_with(text, unsupported[i]))
				return err_set(e, -EINVAL,
					       "images of kind \"%s\" are not supported; use "
					       "docker://, oci: or docker-archive:",
					       unsupported[i]);
		if (strstr(text, "://") || (strchr(text, ':') && !text_ends_with(text, ".json")))
			return err_set(
			    e, -EINVAL,
			    "\"%s\" is not an image name; a registry image is "
			    "docker://HOST/REPO:TAG, as in docker://127.0.0.1:5000/nginx:1",
			    log_quote(text, quoted, sizeof(quoted)));
		ret->kind = IMAGEREF_CONFIG;
		ret->path = text_dup(text);
		rc = 0;
	}
	free(copy);
	return rc;
}

int imageref_parse(const char *text, struct imageref *ret, struct err *e)
{
	struct imageref r = {0};
	int rc = parse(text, &r, e);

	if (rc) {
		imageref_done(&r);
		return rc;
	}
	*ret = r;
	return 0;
}

void imageref_done(struct imageref *r)
{
	free(r->host);
	free(r->repo);
	free(r->path);
	free(r->tag);
	free(r->digest);
	memset(r, 0, sizeof(*r));
}

/* "127." and three further decimal numbers, so that 127.evil.example is not taken for loopback */
static bool ipv4_loopback(const char *h, size_t len)
{
	unsigned int dots = 0, digits = 0;

	if (len < 9 || strncmp(h, "127.", 4) != 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (h[i] == '.') {
			if (!digits)
				return false;
			dots++;
			digits = 0;
		} else if (h[i] >= '0' && h[i] <= '9' && digits < 3) {
			digits++;
		} else {
			return false;
		}
	}
	return dots == 3 && digits;
}

bool imageref_loopback(const char *host)
{
	size_t len;

	if (host[0] == '[')
		return strncmp(host, "[::1]", 5) == 0 && (host[5] == '\0' || host[5] == ':');
	len = strcspn(host, ":");
	if (len == 9 && strncasecmp(host, "localhost", 9) == 0)
		return true;
	return ipv4_loopback(host, len);
}

char *imageref_text(const struct imageref *r)
{
	const char *tag_sep = r->tag ? ":" : "", *tag = r->tag ? r->tag : "";
	const char *at = r->digest ? "@" : "", *digest = r->digest ? r->digest : "";

	switch (r->kind) {
	case IMAGEREF_DOCKER:
		return text_printf("docker://%s/%s%s%s%s%s", r->host, r->repo, tag_sep, tag, at,
				   digest);
	case IMAGEREF_OCI:
		return text_printf("oci:%s%s%s%s%s", r->path, tag_sep, tag, at, digest);
	case IMAGEREF_ARCHIVE:
		return text_printf("docker-archive:%s%s%s%s%s", r->path, tag_sep, tag, at, digest);
	case IMAGEREF_CONFIG:
		break;
	}
	return text_dup(r->path);
}
