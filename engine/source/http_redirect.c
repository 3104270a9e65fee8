/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_redirect.c - where an answer sends a job, and how long that may be remembered
 *
 * Network thread only. Addresses here are signed more often than not: secrets.
 */
#include "http.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "credentials.h"
#include "net_impl.h"
#include "text.h"

#define PLACE_LIFE_S	 300u
#define PLACE_MAX_LIFE_S 21600u

/* How long a signed URL says it lives, or our default. */
static uint64_t url_life_ns(const char *url)
{
	static const struct {
		const char *name;
		bool absolute;
	} keys[] = {{"X-Amz-Expires=", false},
		    {"X-Goog-Expires=", false},
		    {"Expires=", true},
		    {"expires=", true},
		    {"exp=", true}};
	const char *q = strchr(url, '?');
	uint64_t life = PLACE_LIFE_S;

	for (; q; q = strchr(q + 1, '&')) {
		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
			size_t len = strlen(keys[i].name);
			unsigned long long v;
			char *end;

			if (strncmp(q + 1, keys[i].name, len) != 0 ||
			    !isdigit((unsigned char)q[1 + len]))
				continue;
			v = strtoull(q + 1 + len, &end, 10);
			if (*end && *end != '&')
				continue;
			if (keys[i].absolute) {
				uint64_t now = (uint64_t)time(NULL);

				v = v > now ? v - now : 0;
			}
			life = v < PLACE_MAX_LIFE_S ? v : PLACE_MAX_LIFE_S;
		}
	}
	/* the clocks differ, and the request still has to get there */
	return life > 300 ? (life - 30) * NS_PER_SEC : life * NS_PER_SEC / 10 * 9;
}

static char *resolve_location(const char *base, const char *location)
{
	CURLU *u = curl_url();
	char *text = NULL, *copy = NULL;

	if (!u)
		abort();
	if (curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK &&
	    /* user names in a redirect would become an Authorization header */
	    curl_url_set(u, CURLUPART_USER, NULL, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_PASSWORD, NULL, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK)
		copy = text_dup(text);
	curl_free(text);
	curl_url_cleanup(u);
	return copy;
}

/* What was asked in this try; secret. */
char *http_asked_url(const struct http_job *j, const struct endpoint *ep)
{
	if (j->target == TARGET_HOP)
		return text_dup(j->hop_url);
	if (j->target == TARGET_URL)
		return text_dup(j->url);
	if (j->target == TARGET_PLACE)
		return text_dup(j->place->url ? j->place->url : "");
	return text_printf("%s://%s%s/%s", ep->http ? "http" : "https", ep->authority, ep->prefix,
			   j->path);
}

void http_follow(struct http_job *j)
{
	struct endpoint *ep = http_endpoint(j);
	char *base = http_asked_url(j, ep), *next = resolve_location(base, j->h_location);
	char loc[512], base_loc[512], host[300];
	bool plain, base_plain, same;

	net_count(&j->net->redirects, 1);
	if (!next || !http_url_loc(next, loc, sizeof(loc), &plain, host, sizeof(host)) ||
	    (plain && !http_plain_allowed(ep, host))) {
		(void)snprintf(j->try_why, sizeof(j->try_why), "%s",
			       next && plain ? "redirected to plain HTTP, refused"
					     : "redirected to an unusable address");
		secret_free(base);
		secret_free(next);
		http_give_up(j, -EPROTO);
		return;
	}
	if (++j->hops > HTTP_MAX_HOPS) {
		(void)snprintf(j->try_why, sizeof(j->try_why), "more than %d redirects",
			       HTTP_MAX_HOPS);
		secret_free(base);
		secret_free(next);
		http_give_up(j, -EPROTO);
		return;
	}
	same = http_url_loc(base, base_loc, sizeof(base_loc), &base_plain, host, sizeof(host)) &&
	       strcmp(base_loc, loc) == 0;
	/* home stays home only as long as it never left */
	j->hop_home = same && (j->target == TARGET_HOP ? j->hop_home : j->target != TARGET_PLACE);
	secret_free(base);
	if (j->place && !j->hop_home) {
		struct place *p = j->place;
		uint64_t life = url_life_ns(next);

		ep->redirects = 1;
		secret_free(p->url);
		p->url = text_dup(next);
		p->loc = NULL;
		p->gen++;
		p->expire_ns = clock_now_ns() + life;
		p->steps++;
		j->place_gen = p->gen;
		if (p->resolver == j)
			p->resolver = NULL;
		place_wake(p);
	}
	secret_free(j->hop_url);
	j->hop_url = next;
	http_ready(j);
}
