/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_say.c - what a failed exchange is called, and what a person can do about it
 *
 * Everything said here may be logged: hosts, files and option names, never a path of a URL, a query
 * or a header. What a server or libcurl wrote is cut and quoted. Network thread only.
 */
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "imageref.h"
#include "log.h"
#include "net_impl.h"
#include "text.h"

void http_describe(const struct http_job *j, char *out, size_t out_bytes)
{
	const struct endpoint *ep = http_endpoint(j);
	const char *last, *mirror_sep = "", *mirror = "", *close = "";

	if (ep && !ep->named) {
		mirror_sep = " (mirror ";
		mirror = ep->authority;
		close = ")";
	}
	if (!j->origin) {
		(void)snprintf(out, out_bytes, "token server of %s", ep ? ep->cred_host : "?");
		return;
	}
	last = j->path ? strrchr(j->path, '/') : NULL;
	if (last && strncmp(last + 1, "sha256:", 7) == 0)
		(void)snprintf(out, out_bytes, "%s@%.19s%s%s%s", j->origin->name, last + 1,
			       mirror_sep, mirror, close);
	else if (last && j->path && strstr(j->path, "/manifests/"))
		(void)snprintf(out, out_bytes, "%s:%s%s%s%s", j->origin->name, last + 1, mirror_sep,
			       mirror, close);
	else
		(void)snprintf(out, out_bytes, "%s%s%s%s", j->origin->name, mirror_sep, mirror,
			       close);
}

/* An upper-case error code of the registry's JSON, so that nothing it echoes gets into a log. */
static void error_code(const struct http_job *j, char *out, size_t out_bytes)
{
	const char *p = j->error_len && j->target != TARGET_HOP && j->target != TARGET_PLACE
			    ? strstr(j->error_body, "\"code\"")
			    : NULL;
	size_t n = 0;

	out[0] = '\0';
	if (!p)
		return;
	p += 6;
	while (*p == ' ' || *p == ':')
		p++;
	if (*p++ != '"')
		return;
	while (n + 1 < out_bytes && n < 32 && ((*p >= 'A' && *p <= 'Z') || *p == '_'))
		out[n++] = *p++;
	out[n] = '\0';
}

/* The exchange was with the endpoint itself, under its TLS settings. */
static bool was_home(const struct http_job *j)
{
	return j->target == TARGET_PATH || j->target == TARGET_URL ||
	       (j->target == TARGET_HOP && j->hop_home);
}

static bool was_plain(const struct http_job *j)
{
	return text_starts_with(j->loc->name, "http://");
}

/* --insecure, or http:// in a hosts.toml: TLS was not even tried. */
static bool plain_only(const struct endpoint *ep)
{
	return ep && ep->may_http && !ep->may_https;
}

/* The variable libcurl takes a proxy for this exchange from; NULL: none. */
static const char *proxy_variable(const struct http_job *j)
{
	static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy",
					    "ALL_PROXY"};
	bool plain = was_plain(j);

	if (imageref_loopback(strstr(j->loc->name, "://") + 3))
		return NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *v = getenv(names[i]);

		/* in capitals HTTP_PROXY does not count: a CGI's caller could set it */
		if (v && *v && (i > 2 || plain == (i == 2)))
			return names[i];
	}
	return NULL;
}

/* libcurl says whom it could not connect to: not the one that was asked for. */
static bool failed_at_proxy(const struct http_job *j)
{
	static const char start[] = "Failed to connect to ";
	const char *host = strstr(j->loc->name, "://") + 3, *said = j->curl_err;
	size_t len = strcspn(host, host[0] == '[' ? "]" : ":");

	if (!proxy_variable(j) || strncmp(said, start, strlen(start)) != 0)
		return false;
	if (host[0] == '[') {
		host++;
		len--;
	}
	said += strlen(start);
	return strncasecmp(said, host, len) != 0 || said[len] != ' ';
}

static void say_proxy(struct http_job *j, const char *what)
{
	const char *name = proxy_variable(j);

	(void)snprintf(j->try_why, sizeof(j->try_why), "the proxy%s%s %s", name ? " of " : "",
		       name ? name : "", what);
}

/* What the other side says when it has not got the client certificate that it wants. */
static void say_client(struct http_job *j, const char *text)
{
	const struct endpoint *ep = http_endpoint(j);
	bool named = !ep || ep->named;

	if (ep && was_home(j) && ep->client_cert)
		(void)snprintf(j->try_why, sizeof(j->try_why),
			       "%s: the server refuses the client certificate %.80s; see %s", text,
			       ep->client_cert, named ? "--cert" : "client in hosts.toml");
	else
		(void)snprintf(j->try_why, sizeof(j->try_why),
			       "%s: the server wants a client certificate; see %s", text,
			       named ? "--cert and --key" : "client in hosts.toml");
}

void http_say_status(struct http_job *j)
{
	const struct endpoint *ep = http_endpoint(j);
	const char *body = j->error_len ? j->error_body : "";
	char code[40], text[64];

	error_code(j, code, sizeof(code));
	(void)snprintf(text, sizeof(text), "HTTP %ld%s%s", j->status, code[0] ? " " : "", code);
	(void)snprintf(j->try_why, sizeof(j->try_why), "%s", text);
	if (j->status == 407)
		say_proxy(j, "answers HTTP 407: check the user and password in it");
	if (j->status != 400 || code[0] || !was_home(j))
		return;
	/* so do web servers answer what came to the TLS port without TLS */
	if (was_plain(j) && (strstr(body, "HTTPS") || strstr(body, "SSL")))
		(void)snprintf(j->try_why, sizeof(j->try_why), "%s: this port speaks TLS%s", text,
			       !plain_only(ep) ? ""
			       : ep->named     ? ", and --insecure means plain HTTP"
					       : ", and hosts.toml says http://");
	else if (!was_plain(j) && strstr(body, "SSL certificate"))
		say_client(j, text);
}

static bool has_one_of(const char *text, const char *const *signs)
{
	for (; *signs; signs++)
		if (strstr(text, *signs))
			return true;
	return false;
}

/* libcurl's own words, without what only says which library spoke. */
static const char *detail(const struct http_job *j, CURLcode code, char *out, size_t out_bytes)
{
	const char *s = j->curl_err, *at = strstr(s, "SSL routines::");
	char *end;

	/* The detailed text may hold the URL's host, never more; it is only worth it for TLS. */
	if (!*s || strchr(s, '?'))
		s = curl_easy_strerror(code);
	else if (at)
		s = at + strlen("SSL routines::");
	log_quote(s, out, out_bytes);
	end = strstr(out, ", errno ");
	if (end)
		*end = '\0';
	return out;
}

/* A failure of TLS that is the same every time; false: it may pass. */
static bool say_tls(struct http_job *j, CURLcode code)
{
	static const char *const no_tls[] = {"wrong version number", "packet length too long",
					     "http request", NULL};
	static const char *const old_tls[] = {"alert protocol version", "unsupported protocol",
					      NULL};
	static const char *const client[] = {"alert certificate",
					     "alert bad certificate",
					     "alert unsupported certificate",
					     "alert unknown ca",
					     "alert handshake failure",
					     "alert access denied",
					     NULL};
	static const char *const issuer[] = {"issuer", "self-signed", "self signed",
					     "verify the first", NULL};
	const struct endpoint *ep = http_endpoint(j);
	bool named = !ep || ep->named;
	char text[128];

	detail(j, code, text, sizeof(text));
	if (code == CURLE_SSL_CERTPROBLEM && strstr(text, "private key")) {
		(void)snprintf(
		    j->try_why, sizeof(j->try_why),
		    "%.80s is no key, is encrypted, or belongs to another certificate; check %s",
		    ep && ep->client_key ? ep->client_key : "what was given",
		    named ? "--cert and --key" : "client in hosts.toml");
		return true;
	}
	if (code == CURLE_SSL_CERTPROBLEM) {
		(void)snprintf(j->try_why, sizeof(j->try_why), "client certificate: %s; check %s",
			       text, named ? "--cert and --key" : "client in hosts.toml");
		return true;
	}
	if (has_one_of(j->curl_err, client)) {
		say_client(j, text);
		return true;
	}
	if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_ISSUER_ERROR ||
	    code == CURLE_SSL_CACERT_BADFILE) {
		bool hint = code != CURLE_PEER_FAILED_VERIFICATION || has_one_of(text, issuer);

		(void)snprintf(j->try_why, sizeof(j->try_why), "%s%s", text,
			       !hint		       ? ""
			       : named || !was_home(j) ? "; check --cacert"
						       : "; check ca in hosts.toml");
		return true;
	}
	if (code == CURLE_SSL_CONNECT_ERROR && has_one_of(j->curl_err, no_tls)) {
		(void)snprintf(j->try_why, sizeof(j->try_why), "no TLS at this port (%s)%s", text,
			       named && was_home(j) ? "; plain HTTP needs --insecure" : "");
		/* where either is allowed, the answer in plain HTTP may just have been lost */
		return !ep || !was_home(j) || !ep->may_http;
	}
	if (code == CURLE_SSL_CONNECT_ERROR && has_one_of(j->curl_err, old_tls)) {
		(void)snprintf(j->try_why, sizeof(j->try_why),
			       "%s: the server offers no TLS 1.2 or newer", text);
		return true;
	}
	if (code == CURLE_SSL_CONNECT_ERROR)
		(void)snprintf(j->try_why, sizeof(j->try_why), "%s", text);
	return false;
}

/* Who was meant, when it was not the one who was asked first. */
static void say_redirected(struct http_job *j)
{
	char text[sizeof(j->try_why)];

	(void)snprintf(text, sizeof(text), "%s", j->try_why);
	(void)snprintf(j->try_why, sizeof(j->try_why), "redirected to %.60s: %.110s", j->loc->name,
		       text);
}

bool http_say_curl(struct http_job *j, CURLcode code)
{
	const struct endpoint *ep = http_endpoint(j);
	bool lasting;

	/* libcurl has no word for "an answer, but not HTTP" */
	(void)snprintf(j->try_why, sizeof(j->try_why), "%s",
		       code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY
			   ? "answer is not HTTP"
			   : curl_easy_strerror(code));
	if (j->proxy_status >= 300) {
		char text[80];

		(void)snprintf(text, sizeof(text), "answers HTTP %ld%s", j->proxy_status,
			       j->proxy_status == 407 ? ": check the user and password in it" : "");
		say_proxy(j, text);
		return j->proxy_status < 500;
	}
	if (code == CURLE_COULDNT_RESOLVE_PROXY ||
	    (code == CURLE_COULDNT_CONNECT && failed_at_proxy(j))) {
		say_proxy(j, "cannot be reached");
		return false;
	}
	if (code == CURLE_PEER_FAILED_VERIFICATION && !j->proxy_status && proxy_variable(j) &&
	    text_starts_with(getenv(proxy_variable(j)), "https://")) {
		char text[128], why[160];

		detail(j, code, text, sizeof(text));
		(void)snprintf(why, sizeof(why), "is not trusted: %s", text);
		say_proxy(j, why);
		return true;
	}
	lasting = !was_plain(j) && say_tls(j, code);
	if (!was_home(j))
		say_redirected(j);
	if (was_plain(j) && was_home(j) && plain_only(ep) && ep->named && !ep->scheme_known &&
	    (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR ||
	     code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY))
		(void)snprintf(j->try_why, sizeof(j->try_why),
			       "%s; --insecure means plain HTTP, is this a TLS port?",
			       code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR
				   ? "closed without an answer"
				   : "answer is not HTTP");
	return lasting;
}
