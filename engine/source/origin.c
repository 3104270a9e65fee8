/* SPDX-License-Identifier: Apache-2.0 */
/*
 * origin.c - from an image name to the endpoints that serve it
 *
 * Endpoints are interned in the net, so that tokens and what was learned of a host outlive one
 * image.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "credentials.h"
#include "err.h"
#include "hosts_toml.h"
#include "http.h"
#include "imageref.h"
#include "log.h"
#include "net_impl.h"
#include "text.h"

#define CA_MAX_BYTES (4u << 20)

void endpoint_free(struct endpoint *ep)
{
	if (!ep)
		return;
	while (ep->grants.next && !list_empty(&ep->grants))
		grant_free(list_entry(ep->grants.next, struct grant, link));
	credential_free(ep->cred);
	secret_free(ep->key); /* holds the header lines */
	free(ep->authority);
	free(ep->prefix);
	free(ep->cred_host);
	free(ep->ns);
	free(ep->ca_pem);
	free(ep->client_cert);
	free(ep->client_key);
	if (ep->headers)
		for (char **h = ep->headers; *h; h++)
			secret_free(*h);
	free(ep->headers);
	free(ep);
}

/* Give back the one with the same settings if there is one; takes @ep over. */
static struct endpoint *intern(struct net *n, struct endpoint *ep)
{
	struct endpoint *found = NULL;
	char *headers = text_dup("");

	for (char **h = ep->headers; h && *h; h++) {
		char *more = text_printf("%s\n%s", headers, *h);

		secret_free(headers);
		headers = more;
	}
	ep->net = n;
	ep->redirects = -1;
	ep->http = ep->may_http;
	list_init(&ep->grants);
	ep->key = text_printf(
	    "%s|%s|%s|%s|%s|%s|%d%d%d%d%d|%s|%s", ep->authority, ep->prefix, ep->cred_host,
	    ep->ns ? ep->ns : "", ep->client_cert ? ep->client_cert : "",
	    ep->client_key ? ep->client_key : "", ep->ca_only, ep->skip_verify, ep->may_http,
	    ep->may_https, ep->named, ep->ca_pem ? ep->ca_pem : "", headers);
	secret_free(headers);
	pthread_mutex_lock(&n->lock);
	list_for_each (pos, &n->endpoints) {
		struct endpoint *x = list_entry(pos, struct endpoint, link);

		if (strcmp(x->key, ep->key) == 0) {
			found = x;
			break;
		}
	}
	if (!found)
		list_add_tail(&n->endpoints, &ep->link);
	pthread_mutex_unlock(&n->lock);
	if (found)
		endpoint_free(ep);
	return found ? found : ep;
}

static const char *registry_of(const char *host)
{
	return strcmp(host, "docker.io") == 0 ? "registry-1.docker.io" : host;
}

static bool port_is_443(const char *authority)
{
	return text_ends_with(authority, ":443");
}

/* The registry as it is without any configuration. */
static struct endpoint *plain_endpoint(struct net *n, const char *host)
{
	struct endpoint *ep = xmalloc_zero(1, sizeof(*ep));

	ep->authority = text_dup(registry_of(host));
	ep->prefix = text_dup("/v2");
	ep->cred_host = text_dup(host);
	ep->named = true;
	ep->ca_pem = text_dup(n->cacert_pem);
	ep->ca_only = n->cacert_pem != NULL;
	ep->client_cert = text_dup(n->client_cert);
	ep->client_key = text_dup(n->client_key);
	ep->may_https = !n->insecure;
	ep->may_http = n->insecure || (imageref_loopback(host) && !port_is_443(host));
	return ep;
}

static int add_ca(struct endpoint *ep, const char *file, struct err *e)
{
	char *pem = NULL, *both;
	int rc = text_read_file(file, CA_MAX_BYTES, &pem, NULL, e);

	if (rc)
		return rc;
	if (!strstr(pem, "-----BEGIN ")) {
		free(pem);
		return err_set(e, -EINVAL, "%s holds no certificate in PEM form", file);
	}
	both = text_printf("%s%s%s", ep->ca_pem ? ep->ca_pem : "", ep->ca_pem ? "\n" : "", pem);
	free(pem);
	free(ep->ca_pem);
	ep->ca_pem = both;
	return 0;
}

/* What a hosts.toml entry says, on top of the default. */
static int apply(struct endpoint *ep, const struct hosts_entry *h, struct err *e)
{
	for (size_t i = 0; i < h->ca_count; i++) {
		int rc = add_ca(ep, h->ca[i], e);

		if (rc)
			return rc;
		ep->ca_only = false;
	}
	if (h->client_cert) {
		const char *files[] = {h->client_cert, h->client_key};

		for (size_t i = 0; i < 2; i++)
			if (files[i] && access(files[i], R_OK)) {
				int saved = errno;

				return err_set(e, -saved, "cannot read client %s %s: %s",
					       i ? "key" : "certificate", files[i],
					       strerror(saved));
			}
		free(ep->client_cert);
		free(ep->client_key);
		ep->client_cert = text_dup(h->client_cert);
		ep->client_key = text_dup(h->client_key);
	}
	if (h->header_count) {
		ep->headers = xmalloc_zero(h->header_count + 1, sizeof(char *));
		for (size_t i = 0; i < h->header_count; i++)
			ep->headers[i] = text_dup(h->headers[i]);
	}
	if (h->skip_verify) {
		ep->skip_verify = true;
		log_warn("hosts.toml turns off the check of TLS certificates host=%s",
			 ep->authority);
	}
	return 0;
}

static int url_endpoint(struct net *n, const struct hosts_entry *h, const char *host,
			struct endpoint **ret, struct err *e)
{
	struct endpoint *ep = xmalloc_zero(1, sizeof(*ep));
	const char *rest = strstr(h->url, "://") + 3; /* checked by the parser */
	bool http = text_starts_with(h->url, "http://");
	size_t len = strcspn(rest, "/"), path_len;
	int rc;

	ep->authority = text_printf("%.*s", (int)len, rest);
	rest += len;
	path_len = strlen(rest);
	while (path_len && rest[path_len - 1] == '/')
		path_len--;
	ep->prefix = text_printf("%.*s%s", (int)path_len, rest, h->override_path ? "" : "/v2");
	ep->named = strcasecmp(ep->authority, registry_of(host)) == 0;
	ep->cred_host = text_dup(ep->named ? host : ep->authority);
	/* containerd tells a mirror whose images it wants */
	ep->ns = ep->named ? NULL : text_dup(host);
	ep->may_http = http;
	ep->may_https = !http;
	ep->ca_pem = text_dup(n->cacert_pem);
	if (ep->named) {
		ep->client_cert = text_dup(n->client_cert);
		ep->client_key = text_dup(n->client_key);
		ep->ca_only = n->cacert_pem != NULL;
	}
	rc = apply(ep, h, e);
	if (rc) {
		endpoint_free(ep);
		return rc;
	}
	*ret = intern(n, ep);
	return 0;
}

static int add_endpoints(struct net *n, struct origin *o, const struct hosts_config *c,
			 struct err *e)
{
	unsigned int all = HOST_PULL | HOST_RESOLVE | HOST_PUSH;
	struct endpoint *ep;
	int rc;

	for (size_t i = 0; c && i < c->host_count; i++) {
		rc = url_endpoint(n, &c->hosts[i], o->host, &o->ep[o->count], e);
		if (rc)
			return rc;
		o->caps[o->count++] = c->hosts[i].caps;
	}
	if (c && c->server.url) {
		rc = url_endpoint(n, &c->server, o->host, &ep, e);
		if (rc)
			return rc;
		/* the same place twice gives nothing */
		for (size_t i = 0; i < o->count; i++)
			if (o->ep[i] == ep && o->caps[i] == c->server.caps)
				return 0;
		o->ep[o->count] = ep;
		o->caps[o->count++] = c->server.caps;
		return 0;
	}
	ep = plain_endpoint(n, o->host);
	if (c) {
		rc = apply(ep, &c->server, e);
		if (rc) {
			endpoint_free(ep);
			return rc;
		}
	}
	o->ep[o->count] = intern(n, ep);
	o->caps[o->count++] = all;
	return 0;
}

int origin_new(struct net *n, const struct imageref *r, struct origin **ret, struct err *e)
{
	struct origin *o = xmalloc_zero(1, sizeof(*o));
	struct hosts_config *c = NULL;
	int rc;

	atomic_store(&o->refs, 1);
	o->host = text_dup(r->host);
	o->repo = text_dup(r->repo);
	o->name = text_printf("%s/%s", r->host, r->repo);
	o->scope_pull = text_printf("repository:%s:pull", r->repo);
	o->scope_push = text_printf("repository:%s:pull,push", r->repo);
	rc = hosts_config_load(n->hosts_dir, r->host, &c, e);
	if (!rc && c && c->warnings)
		log_warn("hosts.toml: ignored what is not known registry=%s keys=%u first=\"%s\"",
			 r->host, c->warnings, c->warning);
	if (!rc)
		rc = add_endpoints(n, o, c, e);
	hosts_config_free(c);
	if (rc) {
		origin_unref(o);
		return rc;
	}
	*ret = o;
	return 0;
}

struct origin *origin_ref(struct origin *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	return o;
}

void origin_unref(struct origin *o)
{
	if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(o->host);
	free(o->repo);
	free(o->name);
	free(o->scope_pull);
	free(o->scope_push);
	free(o);
}
