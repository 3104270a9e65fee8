/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c - what a job does next: endpoint, grant, place, exchange, and what its outcome means
 *
 * Read http_step() for the way to an exchange and http_answered() for the way from it. Network
 * thread only.
 */
#include "http.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "clock.h"
#include "credentials.h"
#include "hosts_toml.h"
#include "imageref.h"
#include "log.h"
#include "net_impl.h"
#include "text.h"

#define MAX_TRIES	  10u
#define MAX_MIRROR_TRIES  2u
#define MAX_CONNECT_TRIES 4u
#define BACKOFF_FIRST_NS  (100 * NS_PER_MS)
#define BACKOFF_MAX_NS	  (5 * NS_PER_SEC)
#define MIRROR_DOWN_NS	  (30 * NS_PER_SEC)

struct endpoint *http_endpoint(const struct http_job *j)
{
	if (j->pin_ep)
		return j->pin_ep;
	return j->origin && j->ep_index < j->origin->count ? j->origin->ep[j->ep_index] : NULL;
}

bool http_plain_allowed(const struct endpoint *ep, const char *host)
{
	size_t len;

	if (!ep || !ep->may_http)
		return false;
	len = strcspn(ep->authority, ":");
	if (ep->authority[0] == '[')
		len = strcspn(ep->authority, "]") + 1;
	if (strncasecmp(host, ep->authority, len) == 0 && (host[len] == ':' || !host[len]))
		return true;
	/* a registry of this machine may point at another port of it; a remote one may not */
	return imageref_loopback(host) && imageref_loopback(ep->authority);
}

/* --- ends ------------------------------------------------------------------------------------- */

void http_finish(struct http_job *j, int res)
{
	struct net *n = j->net;

	if (j->easy)
		http_release(j);
	if (j->probing) {
		j->probing = false;
		grant_abandoned(j->grant);
	}
	if (j->place) {
		if (j->place->resolver == j) {
			j->place->resolver = NULL;
			place_wake(j->place);
		}
		place_put(n, j->place);
		j->place = NULL;
	}
	secret_free(j->hop_url);
	j->hop_url = NULL;
	list_del(&j->q);
	list_del(&j->live);
	pthread_mutex_lock(&n->lock);
	list_del(&j->id_link);
	list_del(&j->ctl);
	pthread_mutex_unlock(&n->lock);
	j->state = JOB_DONE;
	j->res = res;
	j->answered = http_endpoint(j);
	if (res < 0 && res != -ECANCELED && !j->quiet)
		net_count(&n->errors, 1);
	j->done(j);
}

void http_fail(struct http_job *j, int res, const char *fmt, ...)
{
	char name[160], text[HTTP_TRY_WHY_BYTES];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* cut is fine */
	va_end(ap);
	http_describe(j, name, sizeof(name));
	(void)snprintf(j->why, sizeof(j->why), "%.120s: %.190s", name, text);
	http_finish(j, res);
}

void http_abort(struct http_job *j, int res, const char *why)
{
	struct netloc *l = j->loc;
	struct net *n = j->net; /* failing gives the job back */
	bool active = j->state == JOB_ACTIVE;

	list_del(&j->q);
	if (active)
		http_release(j);
	if (why)
		http_fail(j, res, "%s", why);
	else if (j->tries)
		http_fail(j, res, "time-out after %.1f s and %u tries, last: %s",
			  (double)(clock_now_ns() - j->started_ns) / 1e9, j->tries,
			  j->try_why[0] ? j->try_why : "no answer");
	else
		http_fail(j, res, "no answer within %.1f s",
			  (double)(clock_now_ns() - j->started_ns) / 1e9);
	if (active && l)
		netloc_dispatch(n, l);
}

/* --- the way to an exchange ------------------------------------------------------------------- */

static bool endpoint_usable(const struct http_job *j, size_t i)
{
	return (j->origin->caps[i] & j->need) == j->need;
}

static bool another_endpoint(const struct http_job *j)
{
	if (!j->origin || j->pin_ep)
		return false;
	for (size_t i = j->ep_index + 1; i < j->origin->count; i++)
		if (endpoint_usable(j, i))
			return true;
	return false;
}

/* Skip endpoints that cannot or are down, as long as there is another one. */
static bool choose_endpoint(struct http_job *j)
{
	uint64_t now = 0;

	for (; j->ep_index < j->origin->count; j->ep_index++) {
		struct endpoint *ep;

		if (!endpoint_usable(j, j->ep_index))
			continue;
		ep = j->origin->ep[j->ep_index];
		if (ep->down_until_ns && another_endpoint(j)) {
			if (!now)
				now = clock_now_ns();
			if (now < ep->down_until_ns)
				continue;
		}
		return true;
	}
	return false;
}

static void leave_place(struct http_job *j)
{
	struct place *p = j->place;

	if (!p)
		return;
	j->place = NULL;
	if (p->resolver == j) {
		p->resolver = NULL;
		place_wake(p);
	}
	place_put(j->net, p);
}

static void next_endpoint(struct http_job *j)
{
	char name[200];

	http_describe(j, name, sizeof(name));
	log_debug("going on to the next endpoint what=%s last=\"%s\"", name, j->try_why);
	leave_place(j);
	if (j->probing) {
		j->probing = false;
		grant_abandoned(j->grant);
	}
	j->ep_index++;
	j->tries = j->proto_errors = j->hops = 0;
	j->auth_retried = j->place_retried = j->scheme_retried = false;
	j->grant = NULL;
	secret_free(j->hop_url);
	j->hop_url = NULL;
	j->len = 0;
	http_ready(j);
}

/* Whether the blob's bytes are elsewhere; false: the job waits for somebody who is asking. */
static bool find_place(struct http_job *j, struct endpoint *ep)
{
	struct place *p = j->place;

	if (!p) {
		char key[1024];

		(void)snprintf(key, sizeof(key), "%s|%s", ep->authority, j->place_key);
		p = j->place = place_get(j->net, key);
	}
	if (p->url && clock_now_ns() < p->expire_ns) {
		j->target = TARGET_PLACE;
		return true;
	}
	if (p->resolver && p->resolver != j && ep->redirects == 1) {
		j->wait_steps = p->steps;
		j->waited = true;
		j->state = JOB_WAITING;
		list_add_tail(&p->waiters, &j->q);
		return false;
	}
	if (!p->resolver)
		p->resolver = j;
	return true;
}

static void enqueue(struct http_job *j, const char *loc)
{
	netloc_enqueue(netloc_get(j->net, loc), j);
}

void http_step(struct http_job *j)
{
	struct endpoint *ep;
	char loc[512], host[300];
	bool plain;

	if (j->waited) {
		/* the exchanges it waited for are as serial for it as its own */
		if (j->place && j->place->steps > j->wait_steps && !j->grant)
			j->exchanges += (unsigned int)(j->place->steps - j->wait_steps);
		else if (j->grant && j->grant->steps > j->wait_steps)
			j->exchanges += (unsigned int)(j->grant->steps - j->wait_steps);
		j->waited = false;
	}
	if (j->hop_url) {
		j->target = TARGET_HOP;
		if (!http_url_loc(j->hop_url, loc, sizeof(loc), &plain, host, sizeof(host))) {
			http_fail(j, -EPROTO, "redirected to an unusable address");
			return;
		}
		enqueue(j, loc);
		return;
	}
	if (j->url) {
		j->target = TARGET_URL;
		if (!http_url_loc(j->url, loc, sizeof(loc), &plain, host, sizeof(host))) {
			http_fail(j, -EPROTO, "was given an unusable address");
			return;
		}
		if (j->pin_ep && j->scope) {
			j->grant = grant_get(j->pin_ep, j->scope);
			if (grant_ask(j->grant, j) == GRANT_WAIT)
				return;
		}
		enqueue(j, loc);
		return;
	}
	if (j->pin_ep) {
		ep = j->pin_ep;
	} else if (!choose_endpoint(j)) {
		http_fail(j, -EOPNOTSUPP, "no configured host may do this; see hosts.toml");
		return;
	} else {
		ep = j->origin->ep[j->ep_index];
	}
	j->target = TARGET_PATH;
	if (j->place_key) {
		j->grant = NULL;
		if (!find_place(j, ep))
			return;
	}
	if (j->target == TARGET_PLACE) {
		j->place_used = true;
		if (!j->place->loc) {
			if (!http_url_loc(j->place->url, loc, sizeof(loc), &plain, host,
					  sizeof(host))) {
				http_fail(j, -EPROTO, "redirected to an unusable address");
				return;
			}
			j->place->loc = netloc_get(j->net, loc);
		}
		netloc_enqueue(j->place->loc, j);
		return;
	}
	j->place_used = false;
	if (j->scope) {
		j->grant = grant_get(ep, j->scope);
		if (grant_ask(j->grant, j) == GRANT_WAIT)
			return;
	}
	(void)snprintf(loc, sizeof(loc), "%s://%s", ep->http ? "http" : "https", ep->authority);
	enqueue(j, loc);
}

/* --- while an answer comes in ----------------------------------------------------------------- */

static bool is_redirect(const struct http_job *j)
{
	return (j->method == HTTP_GET || j->method == HTTP_HEAD) && j->h_location &&
	       (j->status == 301 || j->status == 302 || j->status == 303 || j->status == 307 ||
		j->status == 308);
}

static bool to_endpoint(const struct http_job *j)
{
	return j->target == TARGET_PATH || j->target == TARGET_URL;
}

static int check_range(struct http_job *j)
{
	uint64_t from = j->range.off + j->len, len = j->range.len - j->len;

	if (j->status == 200) {
		/* the whole blob is what was asked for: as good as a range */
		if (j->range.off == 0 && j->len == 0 && j->range.len == j->blob_bytes &&
		    j->h_length == (int64_t)j->range.len)
			return 0;
		(void)snprintf(j->try_why, sizeof(j->try_why),
			       "server ignores Range (200 instead of 206)");
		return -EPROTO;
	}
	if (j->status != 206) {
		(void)snprintf(j->try_why, sizeof(j->try_why), "HTTP %ld instead of 206",
			       j->status);
		return -EPROTO;
	}
	if (!j->has_content_range || j->content_from != from || j->content_to != from + len - 1 ||
	    (j->content_total && j->blob_bytes && j->content_total != j->blob_bytes) ||
	    (j->h_length >= 0 && j->h_length != (int64_t)len)) {
		(void)snprintf(j->try_why, sizeof(j->try_why), "wrong Content-Range in answer");
		return -EPROTO;
	}
	return 0;
}

int http_headers(struct http_job *j)
{
	struct endpoint *ep = http_endpoint(j);

	j->headers_ok = true;
	if (ep && to_endpoint(j)) {
		if (j->status != 400) {
			/* what answered counts, whatever another request has guessed meanwhile */
			if (j->loc)
				ep->http = text_starts_with(j->loc->name, "http://");
			ep->scheme_known = true;
		}
		/* 429 and 5xx say nothing about who may come in */
		if (j->probing && (j->status < 400 || j->status == 403 || j->status == 404)) {
			j->probing = false;
			grant_opened(j->grant);
		}
	}
	if (j->status < 200 || j->status > 299)
		return 0;
	if (j->place && j->target == TARGET_PATH) {
		ep->redirects = 0;
		if (j->place->resolver == j) {
			j->place->resolver = NULL;
			j->place->steps++;
			place_wake(j->place);
		}
	}
	if (j->ranged && j->method == HTTP_GET)
		j->try_res = check_range(j);
	return j->try_res;
}

/* --- the way from an exchange ------------------------------------------------------------------
 */

static uint64_t backoff_ns(struct http_job *j)
{
	uint64_t top = BACKOFF_FIRST_NS;

	if (j->status == 429)
		top *= 4;
	for (unsigned int i = 1; i < j->tries && top < BACKOFF_MAX_NS; i++)
		top *= 2;
	if (top > BACKOFF_MAX_NS)
		top = BACKOFF_MAX_NS;
	return net_random(j->net) % top; /* full jitter */
}

/* The try failed for a reason that may pass; @max: how often in all. */
static void try_again(struct http_job *j, int res, unsigned int max)
{
	uint64_t now = clock_now_ns(), wait;

	if (j->max_tries && max > j->max_tries)
		max = j->max_tries;
	j->tries++;
	if (another_endpoint(j) && j->tries >= MAX_MIRROR_TRIES) {
		net_count(&j->net->retries, 1);
		next_endpoint(j);
		return;
	}
	wait = backoff_ns(j);
	if (j->has_retry_after) {
		wait = j->retry_after_ns + wait % (250 * NS_PER_MS);
		if (another_endpoint(j) && wait > NS_PER_SEC) {
			net_count(&j->net->retries, 1);
			next_endpoint(j);
			return;
		}
	}
	if (j->tries >= max) {
		http_fail(j, res, "%s, %u tries", j->try_why, j->tries);
		return;
	}
	if (wait >= j->deadline_ns - min_u64(now, j->deadline_ns)) {
		if (j->has_retry_after)
			http_fail(j, res == -EIO ? -ETIMEDOUT : res,
				  "%s; asks to wait %.0f s, longer than there is time", j->try_why,
				  (double)j->retry_after_ns / 1e9);
		else
			http_fail(j, res, "%s, %u tries", j->try_why, j->tries);
		return;
	}
	net_count(&j->net->retries, 1);
	if (j->status == 429 && j->has_retry_after && now + wait > j->loc->not_before_ns)
		j->loc->not_before_ns = now + j->retry_after_ns;
	secret_free(j->hop_url);
	j->hop_url = NULL;
	j->hops = 0;
	j->state = JOB_BACKOFF;
	j->wake_ns = now + wait;
	net_timer(j->net, j->wake_ns);
}

void http_give_up(struct http_job *j, int res)
{
	if (another_endpoint(j)) {
		next_endpoint(j);
		return;
	}
	http_fail(j, res, "%s", j->try_why);
}

void http_no_grant(struct http_job *j, int res, const char *why)
{
	(void)snprintf(j->try_why, sizeof(j->try_why), "%s", why); /* cut is fine */
	http_give_up(j, res);
}

static void drop_place(struct http_job *j)
{
	struct place *p = j->place;

	if (!p || p->gen != j->place_gen)
		return; /* somebody has asked again meanwhile */
	secret_free(p->url);
	p->url = NULL;
	p->loc = NULL;
}

/* An answer that breaks the protocol: once more, from the start, then the end of it. */
static void protocol_error(struct http_job *j)
{
	j->len = 0;
	if (j->place_used)
		drop_place(j);
	if (++j->proto_errors >= 2 || j->max_tries == 1)
		http_give_up(j, -EPROTO);
	else
		try_again(j, -EPROTO, MAX_TRIES);
}

/* Plain HTTP was a guess, and what came back looks as if TLS were meant. */
static bool guess_other_scheme(struct http_job *j, CURLcode code)
{
	struct endpoint *ep = http_endpoint(j);

	if (!ep || j->target != TARGET_PATH || !ep->may_http || !ep->may_https ||
	    j->scheme_retried || !text_starts_with(j->loc->name, "http://"))
		return false;
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
		return false;
	if (code == CURLE_OK && j->status != 400)
		return false;
	/* of many jobs at once the first switches; the others follow */
	if (ep->http && ep->scheme_known)
		return false;
	ep->http = false;
	j->scheme_retried = true;
	return true;
}

static void transport_error(struct http_job *j, CURLcode code)
{
	struct endpoint *ep = http_endpoint(j);
	unsigned int max = MAX_TRIES;
	bool lasting;
	int res = -EIO;

	lasting = http_say_curl(j, code);
	/* Nothing that answered has settled the scheme: plain is the better guess for the next try.
	 */
	if (ep && to_endpoint(j) && !ep->scheme_known && !lasting)
		ep->http = ep->may_http;
	switch ((int)code) {
	case CURLE_OPERATION_TIMEDOUT:
		res = -ETIMEDOUT;
		break;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
		max = MAX_CONNECT_TRIES;
		break;
	case CURLE_UNSUPPORTED_PROTOCOL: /* so does libcurl name an answer of HTTP/0.9 */
	case CURLE_WEIRD_SERVER_REPLY:
		protocol_error(j);
		return;
	case CURLE_URL_MALFORMAT:
		http_give_up(j, -EPROTO);
		return;
	default:
		/* nobody who speaks HTTP has been met there yet */
		if (j->proxy_status >= 300 ||
		    (ep && to_endpoint(j) && !ep->scheme_known && ep->may_http))
			max = MAX_CONNECT_TRIES;
		break;
	}
	if (ep && to_endpoint(j) && another_endpoint(j) &&
	    (lasting || code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
	     code == CURLE_OPERATION_TIMEDOUT)) {
		log_warn("mirror is of no use, going on without it for a while host=%s "
			 "reason=\"%s\"",
			 ep->authority, j->try_why);
		ep->down_until_ns = clock_now_ns() + MIRROR_DOWN_NS;
		next_endpoint(j);
		return;
	}
	if (lasting) {
		http_give_up(j, -EIO);
		return;
	}
	if (j->place_used || j->target == TARGET_HOP)
		drop_place(j);
	try_again(j, res, max);
}

static void refused(struct http_job *j)
{
	char *hint;

	http_say_status(j);
	if (!to_endpoint(j) && !(j->target == TARGET_HOP && j->hop_home)) {
		/* a signed URL that is no longer good */
		drop_place(j);
		secret_free(j->hop_url);
		j->hop_url = NULL;
		j->hops = 0;
		if (j->place && !j->place_retried) {
			j->place_retried = true;
			net_count(&j->net->retries, 1);
			http_ready(j);
			return;
		}
		http_give_up(j, j->status == 401 || j->status == 403 ? -EACCES : -EIO);
		return;
	}
	if (j->status == 401 && j->grant && grant_refused(j->grant, j, &j->challenge)) {
		secret_free(j->hop_url);
		j->hop_url = NULL;
		http_ready(j);
		return;
	}
	if (another_endpoint(j)) {
		next_endpoint(j);
		return;
	}
	if (!j->origin) {
		http_fail(j, -EACCES, "%s", j->try_why);
		return;
	}
	hint = net_auth_hint(j->net);
	http_fail(j, -EACCES, "%s: %s", j->try_why, hint);
	free(hint);
}

static void answered_ok(struct http_job *j, CURLcode code)
{
	if (j->ranged && j->method == HTTP_GET) {
		if (j->len == j->range.len) {
			http_finish(j, 0);
			return;
		}
		/* what came is right so far and is not asked for again */
		(void)snprintf(j->try_why, sizeof(j->try_why), "%s",
			       code == CURLE_OPERATION_TIMEDOUT ? "stalled in the body"
								: "connection ended in the body");
		if (j->place_used)
			drop_place(j);
		try_again(j, code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO, MAX_TRIES);
		return;
	}
	if (code != CURLE_OK) {
		if (j->sink) {
			(void)http_say_curl(j, code); /* what has been taken cannot be undone */
			http_give_up(j, -EIO);
		} else {
			transport_error(j, code);
		}
		return;
	}
	if (j->max_body && !j->buf)
		j->buf = xmalloc_zero(1, 1); /* an empty answer is still a string */
	if (j->target == TARGET_URL || j->method == HTTP_POST)
		j->final_url = http_asked_url(j, http_endpoint(j));
	http_finish(j, 0);
}

void http_answered(struct http_job *j, CURLcode code)
{
	if (j->try_res == -EPROTO) {
		protocol_error(j);
		return;
	}
	if (j->try_res) {
		http_fail(j, j->try_res, "%s", j->try_why[0] ? j->try_why : "stopped");
		return;
	}
	if (guess_other_scheme(j, code)) {
		http_ready(j);
		return;
	}
	if (j->upload && j->status != 401 && code != CURLE_OK && !j->headers_ok) {
		(void)http_say_curl(j, code); /* nor can an upload be sent again */
		http_fail(j, code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO, "%s",
			  j->try_why);
		return;
	}
	if (!j->headers_ok) {
		transport_error(j, code);
		return;
	}
	if (j->status >= 200 && j->status <= 299) {
		answered_ok(j, code);
		return;
	}
	if (is_redirect(j)) {
		http_follow(j);
		return;
	}
	http_say_status(j);
	switch (j->status) {
	case 401:
	case 403:
		if (j->quiet && j->status == 401 && j->challenge.scheme != AUTH_NONE) {
			struct endpoint *ep = http_endpoint(j);

			ep->challenge = j->challenge;
			ep->has_challenge = true;
		}
		if (j->any_status && !j->grant)
			http_finish(j, 0);
		else if (j->upload)
			http_fail(j, -EACCES, "%s", j->try_why);
		else
			refused(j);
		return;
	case 408:
	case 425:
	case 429:
	case 500:
	case 502:
	case 503:
	case 504:
		if (j->upload)
			http_fail(j, -EIO, "%s", j->try_why);
		else
			try_again(j, -EIO, MAX_TRIES);
		return;
	case 416:
		(void)snprintf(j->try_why, sizeof(j->try_why),
			       "HTTP 416: the blob is shorter than its descriptor says");
		protocol_error(j);
		return;
	default:
		break;
	}
	if (!to_endpoint(j) && j->place && !j->place_retried && j->status != 404) {
		refused(j); /* object stores answer 400 or 410 to what has expired, too */
		return;
	}
	if (another_endpoint(j)) {
		next_endpoint(j);
		return;
	}
	if (j->any_status)
		http_finish(j, 0);
	else
		http_fail(j,
			  j->status == 404  ? -ENOENT
			  : j->status < 400 ? -EPROTO
					    : -EIO,
			  "%s", j->try_why);
}

/* --- blocking use ------------------------------------------------------------------------------
 */

static void run_done(struct http_job *j)
{
	sem_post(j->arg);
}

int http_run(struct http_job *j)
{
	sem_t s;

	sem_init(&s, 0, 0);
	j->arg = &s;
	j->done = run_done;
	http_submit(j);
	while (sem_wait(&s) && errno == EINTR)
		;
	sem_destroy(&s);
	return j->res;
}
