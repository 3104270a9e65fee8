/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_try.c - one exchange: libcurl options out, header lines and body in
 *
 * Callbacks run inside curl_multi_perform() on the network thread. They check what an answer may be
 * (status, Content-Range, sizes) and stop it early; what follows from it is decided in http.c.
 */
#include "http.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "clock.h"
#include "credentials.h"
#include "imageref.h"
#include "net_impl.h"
#include "text.h"
#include "upload.h"

#define BUFFER_BYTES	  (256L << 10)
#define SMALL_BUFFER	  (32L << 10)
#define LOW_SPEED_BYTES	  512L
#define MAX_RETRY_AFTER_S 3600

bool http_url_loc(const char *url, char *out, size_t out_bytes, bool *ret_plain, char *host,
		  size_t host_bytes)
{
	char *scheme = NULL, *name = NULL, *port = NULL;
	CURLU *u = curl_url();
	bool ok = false;

	if (!u)
		abort();
	if (curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_HOST, &name, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK) {
		bool plain = strcasecmp(scheme, "http") == 0;

		for (char *p = name; *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p - 'A' + 'a');
		ok = plain || strcasecmp(scheme, "https") == 0;
		if (ok) {
			int n = snprintf(out, out_bytes, "%s://%s:%s", plain ? "http" : "https",
					 name, port);
			int m = snprintf(host, host_bytes, "%s:%s", name, port);

			ok = n > 0 && (size_t)n < out_bytes && m > 0 && (size_t)m < host_bytes;
			*ret_plain = plain;
		}
	}
	curl_free(scheme);
	curl_free(name);
	curl_free(port);
	curl_url_cleanup(u);
	return ok;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void forget_answer(struct http_job *j)
{
	j->status = 0;
	j->h_length = -1;
	secret_free(j->h_location);
	free(j->h_digest);
	free(j->h_type);
	free(j->h_link);
	free(j->h_range);
	free(j->h_upload_min);
	free(j->h_subject);
	j->h_location = j->h_digest = j->h_type = j->h_link = j->h_range = NULL;
	j->h_upload_min = j->h_subject = NULL;
	j->has_content_range = j->has_retry_after = false;
	j->challenge.scheme = AUTH_NONE;
	j->headers_ok = j->in_body = false;
	j->error_len = 0;
}

/* "bytes 0-99/1000" or "bytes 0-99/" followed by '*'. */
static bool parse_content_range(struct http_job *j, const char *v, size_t len)
{
	uint64_t n[3];
	size_t i = 6;

	if (len < 7 || strncasecmp(v, "bytes ", 6) != 0)
		return false;
	for (int k = 0; k < 3; k++) {
		size_t digits = 0;

		if (k == 2 && i < len && v[i] == '*') {
			n[2] = 0;
			break;
		}
		for (n[k] = 0; i < len && v[i] >= '0' && v[i] <= '9'; i++, digits++) {
			if (n[k] > (UINT64_MAX - 9) / 10)
				return false;
			n[k] = n[k] * 10 + (uint64_t)(v[i] - '0');
		}
		if (!digits)
			return false;
		if (k < 2 && (i >= len || v[i++] != (k ? '/' : '-')))
			return false;
	}
	j->content_from = n[0];
	j->content_to = n[1];
	j->content_total = n[2];
	return true;
}

static void parse_retry_after(struct http_job *j, const char *v)
{
	char *end;
	long s = strtol(v, &end, 10);

	if (end == v || *end) {
		time_t when = curl_getdate(v, NULL);

		if (when == (time_t)-1)
			return;
		s = (long)(when - time(NULL));
	}
	if (s < 0)
		s = 0;
	if (s > MAX_RETRY_AFTER_S)
		s = MAX_RETRY_AFTER_S;
	j->has_retry_after = true;
	j->retry_after_ns = (uint64_t)s * NS_PER_SEC;
}

static bool name_is(const char *line, size_t name_len, const char *want)
{
	return strlen(want) == name_len && strncasecmp(line, want, name_len) == 0;
}

static void keep(char **dst, const char *v)
{
	secret_free(*dst);
	*dst = text_dup(v);
}

static void header_line(struct http_job *j, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	size_t name_len, start, end;
	char value[8192];

	if (!colon)
		return;
	name_len = (size_t)(colon - line);
	start = name_len + 1;
	end = len;
	while (start < end && (line[start] == ' ' || line[start] == '\t'))
		start++;
	while (end > start && (line[end - 1] == ' ' || line[end - 1] == '\t'))
		end--;
	if (end - start >= sizeof(value))
		return;
	memcpy(value, line + start, end - start);
	value[end - start] = '\0';

	if (name_is(line, name_len, "content-range"))
		j->has_content_range = parse_content_range(j, value, end - start);
	else if (name_is(line, name_len, "content-length"))
		j->h_length = strtoll(value, NULL, 10);
	else if (name_is(line, name_len, "location"))
		keep(&j->h_location, value);
	else if (name_is(line, name_len, "www-authenticate"))
		(void)auth_challenge_parse(value, end - start, &j->challenge);
	else if (name_is(line, name_len, "retry-after"))
		parse_retry_after(j, value);
	else if (j->ranged)
		return; /* the rest is of no use to a range */
	else if (name_is(line, name_len, "docker-content-digest"))
		keep(&j->h_digest, value);
	else if (name_is(line, name_len, "content-type"))
		keep(&j->h_type, value);
	else if (name_is(line, name_len, "link"))
		keep(&j->h_link, value);
	else if (name_is(line, name_len, "range"))
		keep(&j->h_range, value);
	else if (name_is(line, name_len, "oci-chunk-min-length"))
		keep(&j->h_upload_min, value);
	else if (name_is(line, name_len, "oci-subject"))
		keep(&j->h_subject, value);
}

static size_t on_header(char *p, size_t one, size_t len, void *arg)
{
	struct http_job *j = arg;
	size_t all = len;

	(void)one; /* always 1 */
	if (j->in_body)
		return all; /* trailers */
	j->header_bytes += len;
	if (j->header_bytes > HTTP_HEADER_BYTES) {
		j->try_res = -EPROTO;
		(void)snprintf(j->try_why, sizeof(j->try_why), "more than %u KiB of headers",
			       HTTP_HEADER_BYTES >> 10);
		return 0;
	}
	while (len && (p[len - 1] == '\n' || p[len - 1] == '\r'))
		len--;
	if (len >= 5 && memcmp(p, "HTTP/", 5) == 0) {
		const char *sp = memchr(p, ' ', len);

		forget_answer(j);
		j->status = sp ? strtol(sp + 1, NULL, 10) : 0;
		if (sp && len >= 8 && memcmp(p, "HTTP/1", 6) == 0)
			j->loc->http1 = true;
		return all;
	}
	if (len) {
		header_line(j, p, len);
		return all;
	}
	if (j->status < 200)
		return all; /* 100 Continue and its like */
	j->in_body = true;
	return http_headers(j) ? 0 : all;
}

static size_t on_error_body(struct http_job *j, const char *p, size_t len)
{
	if (!j->error_body)
		j->error_body = xmalloc_zero(1, HTTP_ERROR_BYTES + 1);
	if (len > HTTP_ERROR_BYTES - j->error_len)
		return 0; /* the status says enough */
	memcpy(j->error_body + j->error_len, p, len);
	j->error_len += len;
	j->error_body[j->error_len] = '\0';
	return len;
}

static size_t on_body(char *p, size_t one, size_t len, void *arg)
{
	struct http_job *j = arg;

	(void)one;
	if (j->status < 200 || j->status > 299)
		return on_error_body(j, p, len);
	if (j->sink) {
		j->try_res = j->sink(j, p, len);
		j->len += len;
		return j->try_res ? 0 : len;
	}
	if (j->ranged) {
		if (len > j->range.len - j->len) {
			j->try_res = -EPROTO;
			(void)snprintf(j->try_why, sizeof(j->try_why),
				       "more bytes than were asked for");
			return 0;
		}
	} else {
		if (len > j->max_body - j->len) {
			j->try_res = -EPROTO;
			(void)snprintf(j->try_why, sizeof(j->try_why),
				       "answer is larger than %zu bytes", j->max_body);
			return 0;
		}
		if (j->len + len + 1 > j->cap) {
			size_t cap = j->cap ? j->cap * 2 : 16384;

			while (cap < j->len + len + 1)
				cap *= 2;
			j->buf = realloc(j->buf, cap);
			if (!j->buf)
				abort();
			j->cap = cap;
		}
		((char *)j->buf)[j->len + len] = '\0';
	}
	memcpy((char *)j->buf + j->len, p, len);
	j->len += len;
	return len;
}

static size_t on_read(char *out, size_t one, size_t len, void *arg)
{
	struct http_job *j = arg;

	return upload_read(j->upload, out, one * len);
}

/* --- the question ----------------------------------------------------------------------------- */

static void add_header(struct http_job *j, const char *line)
{
	struct curl_slist *more = curl_slist_append(j->headers, line);

	if (!more)
		abort();
	j->headers = more;
}

static void add_header_value(struct http_job *j, const char *name, const char *value)
{
	char *line = text_printf("%s: %s", name, value);

	add_header(j, line);
	free(line);
}

static void set_method(CURL *c, struct http_job *j)
{
	switch (j->method) {
	case HTTP_GET:
		curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
		return;
	case HTTP_HEAD:
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
		return;
	case HTTP_DELETE:
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "DELETE");
		return;
	case HTTP_POST:
		curl_easy_setopt(c, CURLOPT_POST, 1L);
		break;
	case HTTP_PUT:
		curl_easy_setopt(c, CURLOPT_POST, 1L);
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "PUT");
		break;
	case HTTP_PATCH:
		curl_easy_setopt(c, CURLOPT_POST, 1L);
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "PATCH");
		break;
	}
	/* a 100-continue costs a round trip and saves nothing: the token is known by now */
	add_header(j, "Expect:");
	add_header_value(j, "Content-Type",
			 j->content_type ? j->content_type : "application/octet-stream");
	if (j->upload) {
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(c, CURLOPT_READDATA, j);
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)j->body_total);
		curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
		upload_attach(j->upload, c);
	} else {
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, j->body ? j->body : "");
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)j->body_len);
	}
}

static void set_tls(CURL *c, const struct net *n, const struct endpoint *ep)
{
	const char *pem = ep ? ep->ca_pem : n->cacert_pem;

	curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (pem) {
		struct curl_blob b = {
		    .data = (void *)pem, .len = strlen(pem), .flags = CURL_BLOB_NOCOPY};

		curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &b);
		if (ep && ep->ca_only)
			curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
		else /* redirects and token servers may live under public names */
			curl_easy_setopt(c, CURLOPT_CAPATH, "/etc/ssl/certs");
	}
	if (!ep)
		return;
	if (ep->client_cert) {
		curl_easy_setopt(c, CURLOPT_SSLCERT, ep->client_cert);
		/* or OpenSSL asks for it on the terminal, and the network thread waits */
		curl_easy_setopt(c, CURLOPT_KEYPASSWD, "");
	}
	if (ep->client_key)
		curl_easy_setopt(c, CURLOPT_SSLKEY, ep->client_key);
	if (ep->skip_verify) {
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static void set_times(CURL *c, const struct http_job *j, bool more_endpoints)
{
	uint64_t now = clock_now_ns();
	uint64_t left_ms = now < j->deadline_ns ? (j->deadline_ns - now) / NS_PER_MS + 1 : 1;
	uint64_t connect_ms = left_ms / 2 < 10000 ? left_ms / 2 + 1 : 10000;
	uint64_t stall_s = left_ms / 3000;

	/* a mirror that hangs must leave time for the registry behind it */
	if (more_endpoints) {
		left_ms = left_ms / 2 + 1;
		if (connect_ms > 3000)
			connect_ms = 3000;
	}
	if (stall_s < 2)
		stall_s = 2;
	if (stall_s > 15)
		stall_s = 15;
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)left_ms);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
	if (!j->upload) {
		curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, LOW_SPEED_BYTES);
		curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)stall_s);
	}
}

static CURL *easy_get(struct net *n)
{
	CURL *c;

	if (n->easy_count) {
		c = n->easy_pool[--n->easy_count];
		curl_easy_reset(c);
	} else {
		c = curl_easy_init();
		if (!c)
			abort();
	}
	return c;
}

/* The URL of this try; *ret_home: it goes to the endpoint itself. NULL: step again. */
static char *target_url(struct http_job *j, struct endpoint *ep, bool *ret_home)
{
	char loc[512], host[300];
	bool plain;

	*ret_home = false;
	switch (j->target) {
	case TARGET_PLACE:
		if (!j->place->url || clock_now_ns() >= j->place->expire_ns)
			return NULL;
		j->place_gen = j->place->gen;
		return text_dup(j->place->url);
	case TARGET_HOP:
		*ret_home = j->hop_home;
		return text_dup(j->hop_url);
	case TARGET_URL:
		if (ep && http_url_loc(j->url, loc, sizeof(loc), &plain, host, sizeof(host))) {
			char *own = text_printf("http%s://%s", ep->http ? "" : "s", ep->authority);
			char own_loc[512], own_host[300];

			*ret_home = http_url_loc(own, own_loc, sizeof(own_loc), &plain, own_host,
						 sizeof(own_host)) &&
				    strcmp(loc, own_loc) == 0;
			free(own);
		}
		return text_dup(j->url);
	case TARGET_PATH:
		break;
	}
	*ret_home = true;
	return text_printf("%s://%s%s/%s%s%s%s", ep->http ? "http" : "https", ep->authority,
			   ep->prefix, j->path,
			   !ep->ns		  ? ""
			   : strchr(j->path, '?') ? "&"
						  : "?",
			   ep->ns ? "ns=" : "", ep->ns ? ep->ns : "");
}

int http_prepare(struct http_job *j)
{
	struct endpoint *ep = http_endpoint(j);
	struct net *n = j->net;
	char loc[512], host[300];
	bool home, plain = false, more;
	char *url;
	CURL *c;

	url = target_url(j, ep, &home);
	if (!url)
		return 1;
	/* what was true when the job was queued may not be any more */
	if (home && j->grant && !j->probing && !grant_usable(j->grant)) {
		secret_free(url);
		return 1;
	}
	if (j->target == TARGET_PATH) {
		plain = ep->http;
		(void)snprintf(host, sizeof(host), "%s", ep->authority); /* bounded by imageref */
	} else if (!http_url_loc(url, loc, sizeof(loc), &plain, host, sizeof(host))) {
		secret_free(url);
		http_fail(j, -EPROTO, "unusable address");
		return -EPROTO;
	}
	/* whatever the URL came from, this is the gate to plain HTTP */
	if (plain && !http_plain_allowed(ep, host)) {
		secret_free(url);
		http_fail(j, -EPROTO, "refused to use plain HTTP");
		return -EPROTO;
	}
	c = easy_get(n);
	j->easy = c;
	j->headers = NULL;
	j->curl_err[0] = '\0';
	j->header_bytes = 0;
	j->try_res = 0;
	j->try_why[0] = '\0';
	j->proxy_status = 0;
	forget_answer(j);
	if (!j->ranged)
		j->len = 0;

	curl_easy_setopt(c, CURLOPT_URL, url);
	secret_free(url);
	curl_easy_setopt(c, CURLOPT_PRIVATE, j);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, j->curl_err);
	curl_easy_setopt(c, CURLOPT_SHARE, n->share);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, n->user_agent);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE,
			 j->ranged && j->range.len > 32768 ? BUFFER_BYTES : SMALL_BUFFER);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, j);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, j);
	if (plain) {
		curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	} else {
		curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
		/* waiting for ALPN pays only where a connection may be shared */
		curl_easy_setopt(c, CURLOPT_PIPEWAIT, j->loc->http1 ? 0L : 1L);
		set_tls(c, n, home ? ep : NULL);
	}
	/* as other clients: a proxy from the environment is never meant for this machine itself */
	if (imageref_loopback(host))
		curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	more = j->origin && j->target != TARGET_URL && j->ep_index + 1 < j->origin->count;
	set_times(c, j, more);
	set_method(c, j);
	if (j->ranged) {
		char r[64];

		(void)snprintf(r, sizeof(r), "%llu-%llu",
			       (unsigned long long)(j->range.off + j->len),
			       (unsigned long long)(range_end(j->range) - 1));
		curl_easy_setopt(c, CURLOPT_RANGE, r);
	}
	if (j->accept)
		add_header_value(j, "Accept", j->accept);
	if (home && ep && ep->headers)
		for (char **h = ep->headers; *h; h++)
			add_header(j, *h);
	if (home && j->grant && j->grant->header) {
		add_header(j, j->grant->header);
		j->grant_gen = j->grant->gen;
	}
	if (j->extra && j->target != TARGET_HOP)
		add_header(j, j->extra);
	if (j->headers)
		curl_easy_setopt(c, CURLOPT_HTTPHEADER, j->headers);
	return 0;
}

void http_release(struct http_job *j)
{
	struct net *n = j->net;
	CURL *c = j->easy;
	long conns = 0;

	if (!c)
		return;
	if (curl_easy_getinfo(c, CURLINFO_NUM_CONNECTS, &conns) == CURLE_OK && conns > 0)
		net_count(&n->connections, (uint64_t)conns);
	if (j->upload)
		upload_attach(j->upload, NULL);
	curl_multi_remove_handle(n->multi, c);
	for (struct curl_slist *h = j->headers; h; h = h->next)
		explicit_bzero(h->data, strlen(h->data));
	curl_slist_free_all(j->headers);
	j->headers = NULL;
	j->easy = NULL;
	if (n->easy_count < NET_POOL_EASY) {
		curl_easy_reset(c);
		n->easy_pool[n->easy_count++] = c;
	} else {
		curl_easy_cleanup(c);
	}
	netloc_leave(j->loc, j);
}

void http_try_done(struct http_job *j, CURLcode code)
{
	struct netloc *l = j->loc;
	struct net *n = j->net;
	curl_off_t got = 0;

	if (curl_easy_getinfo(j->easy, CURLINFO_SIZE_DOWNLOAD_T, &got) == CURLE_OK && got > 0)
		net_count(&n->bytes, (uint64_t)got);
	(void)curl_easy_getinfo(j->easy, CURLINFO_HTTP_CONNECTCODE, &j->proxy_status); /* stays 0 */
	http_release(j);
	http_answered(j, code);
	netloc_dispatch(n, l);
}
