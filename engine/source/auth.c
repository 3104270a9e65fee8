/* SPDX-License-Identifier: Apache-2.0 */
/* auth.c - see auth.h */
#include "auth.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "credentials.h"
#include "err.h"
#include "http.h"
#include "imageref.h"
#include "log.h"
#include "net_impl.h"
#include "text.h"

#define TOKEN_LIFE_S	 60
#define TOKEN_MAX_LIFE_S (7 * 86400)
#define TOKEN_MAX_BYTES	 (48u << 10)

/* --- WWW-Authenticate (RFC 7235) ---------------------------------------------------------------
 */

struct cursor {
	const char *p, *end;
};

static bool is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static void skip_space(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
		c->p++;
}

static void skip_commas(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == ','))
		c->p++;
}

static size_t take_token(struct cursor *c, const char **ret)
{
	*ret = c->p;
	while (c->p < c->end && is_token(*c->p))
		c->p++;
	return (size_t)(c->p - *ret);
}

/* A token or quoted string into @out; false when it does not fit or end, or is not clean text. */
static bool take_value(struct cursor *c, char *out, size_t out_bytes)
{
	size_t n = 0;
	bool fits = true;

	if (c->p < c->end && *c->p == '"') {
		for (c->p++; c->p < c->end && *c->p != '"'; c->p++) {
			if (*c->p == '\\' && c->p + 1 < c->end)
				c->p++;
			if (n + 1 >= out_bytes || (unsigned char)*c->p < ' ')
				fits = false;
			else
				out[n++] = *c->p;
		}
		out[n] = '\0';
		if (c->p == c->end)
			return false;
		c->p++;
		return fits;
	}
	while (c->p < c->end && *c->p != ',' && *c->p != ' ' && *c->p != '\t') {
		if (n + 1 >= out_bytes || (unsigned char)*c->p < ' ')
			fits = false;
		else
			out[n++] = *c->p;
		c->p++;
	}
	out[n] = '\0';
	return fits && n;
}

/* The parameters up to the next scheme; false when one of those we need is unusable. */
static bool take_params(struct cursor *c, struct auth_challenge *ch)
{
	char other[1024];
	bool ok = true;

	for (;;) {
		struct cursor save;
		const char *name;
		size_t len;
		char *out = other;
		size_t out_bytes = sizeof(other);
		bool good;

		skip_commas(c);
		save = *c;
		len = take_token(c, &name);
		if (!len) {
			/* token68 or rubbish: leave it to the caller to skip */
			return ok;
		}
		skip_space(c);
		if (c->p == c->end || *c->p != '=') {
			*c = save; /* a scheme */
			return ok;
		}
		c->p++;
		skip_space(c);
		if (len == 5 && strncasecmp(name, "realm", 5) == 0) {
			out = ch->realm;
			out_bytes = sizeof(ch->realm);
		} else if (len == 7 && strncasecmp(name, "service", 7) == 0) {
			out = ch->service;
			out_bytes = sizeof(ch->service);
		} else if (len == 5 && strncasecmp(name, "scope", 5) == 0) {
			out = ch->scope;
			out_bytes = sizeof(ch->scope);
		}
		good = take_value(c, out, out_bytes);
		if (!good && out != other)
			ok = false;
	}
}

bool auth_challenge_parse(const char *value, size_t len, struct auth_challenge *ret)
{
	struct cursor c = {.p = value, .end = value + len};

	for (;;) {
		struct auth_challenge ch = {0};
		const char *name;
		size_t n;
		bool ok;

		skip_commas(&c);
		if (c.p == c.end)
			break;
		n = take_token(&c, &name);
		if (!n) {
			c.p++;
			continue;
		}
		if (n == 6 && strncasecmp(name, "bearer", 6) == 0)
			ch.scheme = AUTH_BEARER;
		else if (n == 5 && strncasecmp(name, "basic", 5) == 0)
			ch.scheme = AUTH_BASIC;
		ok = take_params(&c, &ch);
		if (!ok || ch.scheme == AUTH_NONE || (ch.scheme == AUTH_BEARER && !ch.realm[0]))
			continue;
		if (ch.scheme > ret->scheme)
			*ret = ch;
	}
	return ret->scheme != AUTH_NONE;
}

int auth_token_parse(const char *json, size_t len, char **ret_token, uint64_t *ret_life_s)
{
	cJSON *root = cJSON_ParseWithLength(json, len);
	const cJSON *t, *x;
	const char *token = NULL;
	uint64_t life = TOKEN_LIFE_S;
	int rc = -EPROTO;

	t = cJSON_GetObjectItemCaseSensitive(root, "token");
	if (cJSON_IsString(t) && t->valuestring[0])
		token = t->valuestring;
	t = cJSON_GetObjectItemCaseSensitive(root, "access_token");
	if (!token && cJSON_IsString(t) && t->valuestring[0])
		token = t->valuestring;
	x = cJSON_GetObjectItemCaseSensitive(root, "expires_in");
	if (cJSON_IsNumber(x) && x->valuedouble >= 1)
		life =
		    x->valuedouble < TOKEN_MAX_LIFE_S ? (uint64_t)x->valuedouble : TOKEN_MAX_LIFE_S;
	if (token && strlen(token) <= TOKEN_MAX_BYTES) {
		rc = 0;
		/* it goes into a header line as it is */
		for (const char *p = token; *p; p++)
			if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
				rc = -EPROTO;
	}
	if (!rc) {
		*ret_token = text_dup(token);
		*ret_life_s = life;
	}
	cJSON_Delete(root);
	return rc;
}

/* --- grants ------------------------------------------------------------------------------------
 */

struct grant *grant_get(struct endpoint *ep, const char *scope)
{
	struct grant *g;

	list_for_each (pos, &ep->grants) {
		g = list_entry(pos, struct grant, link);
		if (strcmp(g->scope, scope) == 0)
			return g;
	}
	g = xmalloc_zero(1, sizeof(*g));
	g->ep = ep;
	g->scope = text_dup(scope);
	list_init(&g->waiters);
	list_add(&ep->grants, &g->link);
	return g;
}

void grant_free(struct grant *g)
{
	assert(list_empty(&g->waiters));
	list_del(&g->link);
	secret_free(g->header);
	free(g->scope);
	free(g);
}

static void wake_all(struct grant *g)
{
	struct list *pos;

	while ((pos = list_pop(&g->waiters)))
		http_ready(list_entry(pos, struct http_job, q));
}

static void fail_all(struct grant *g, int res, const char *why)
{
	struct list failed, *pos;

	/* a callback may come back with a new job for this very grant */
	list_init(&failed);
	while ((pos = list_pop(&g->waiters)))
		list_add_tail(&failed, pos);
	g->fetching = false;
	if (g->state == GRANT_READY) {
		/* only the early renewal failed: the token in hand still lives */
		log_warn("cannot renew the token early, will try again host=%s reason=\"%s\"",
			 g->ep->cred_host, why);
		g->refresh_ns = clock_now_ns() + 10 * NS_PER_SEC;
	} else {
		g->state = GRANT_UNKNOWN;
	}
	while ((pos = list_pop(&failed)))
		http_no_grant(list_entry(pos, struct http_job, q), res, why);
}

static void set_header(struct grant *g, char *header, uint64_t life_s, uint64_t asked_ns)
{
	secret_free(g->header);
	g->header = header;
	g->gen++;
	g->state = GRANT_READY;
	g->fetching = false;
	if (life_s) {
		uint64_t life = life_s * NS_PER_SEC;

		g->expire_ns = asked_ns + life - min_u64(life / 10, 10 * NS_PER_SEC);
		g->refresh_ns = asked_ns + life / 4 * 3;
	} else {
		g->expire_ns = g->refresh_ns = UINT64_MAX;
	}
	wake_all(g);
}

/* --- the token server --------------------------------------------------------------------------
 */

static void append_param(char **text, const char *name, const char *value, size_t len)
{
	char *esc = curl_easy_escape(NULL, value, (int)len), *more;

	if (!esc)
		abort();
	more = text_printf("%s%s%s=%s", *text, (*text)[0] ? "&" : "", name, esc);
	curl_free(esc);
	secret_free(*text);
	*text = more;
}

static void append_scopes(char **text, const char *scopes, bool one)
{
	if (one) {
		append_param(text, "scope", scopes, strlen(scopes));
		return;
	}
	while (*scopes) {
		size_t len = strcspn(scopes, " ");

		if (len)
			append_param(text, "scope", scopes, len);
		scopes += len;
		while (*scopes == ' ')
			scopes++;
	}
}

static void token_done(struct http_job *t)
{
	struct grant *g = t->arg;
	char *token = NULL;
	uint64_t life = 0, asked = t->started_ns;
	char why[HTTP_WHY_BYTES];
	int rc = t->res;

	g->steps += t->exchanges;
	if (rc == 0)
		rc = auth_token_parse(t->buf, t->len, &token, &life);
	(void)snprintf(why, sizeof(why), "%s",
		       t->res ? t->why : "token server's answer holds no usable token");
	if (rc == -EACCES) {
		char *hint = net_auth_hint(t->net);

		(void)snprintf(why, sizeof(why), "token server refused (HTTP %ld): %s", t->status,
			       hint); /* cut is fine */
		free(hint);
		g->fresh = true;
	}
	secret_free((char *)t->body);
	secret_free((char *)t->extra);
	http_job_free(t);
	if (rc) {
		fail_all(g, rc, why);
		return;
	}
	set_header(g, text_printf("Authorization: Bearer %s", token), life, asked);
	secret_free(token);
}

static void fetch_token(struct net *n, struct grant *g)
{
	struct endpoint *ep = g->ep;
	const struct credential *c = ep->cred;
	const char *theirs = g->challenge.scope;
	char loc[512], host[300], *scopes, *query = text_dup("");
	struct http_job *t;
	bool plain = false;

	if (!http_url_loc(g->challenge.realm, loc, sizeof(loc), &plain, host, sizeof(host)) ||
	    (plain && !http_plain_allowed(ep, host))) {
		free(query);
		fail_all(g, -EPROTO,
			 plain ? "token server uses plain HTTP, refused"
			       : "token server's address is unusable");
		return;
	}
	/* the registry knows best what it wants to see (proxies rename); a push may need more */
	if (!theirs[0])
		scopes = text_dup(g->scope);
	else if (strchr(g->scope, ' ') || (strstr(g->scope, "push") && !strstr(theirs, "push")))
		scopes = text_printf("%s%s%s", g->scope, strcmp(theirs, g->scope) ? " " : "",
				     strcmp(theirs, g->scope) ? theirs : "");
	else
		scopes = text_dup(theirs);

	t = http_job_new(n);
	t->pin_ep = ep;
	t->max_body = HTTP_TOKEN_BYTES;
	t->prio = PRIO_DEMAND;
	t->done = token_done;
	t->arg = g;
	if (g->challenge.service[0])
		append_param(&query, "service", g->challenge.service, strlen(g->challenge.service));
	if (c && c->identity_token) {
		append_param(&query, "client_id", "headstart", 9);
		append_param(&query, "grant_type", "refresh_token", 13);
		append_scopes(&query, scopes, true);
		append_param(&query, "refresh_token", c->identity_token, strlen(c->identity_token));
		t->method = HTTP_POST;
		t->content_type = "application/x-www-form-urlencoded";
		t->url = text_dup(g->challenge.realm);
		t->body = query;
		t->body_len = strlen(query);
	} else {
		append_scopes(&query, scopes, false);
		t->method = HTTP_GET;
		t->url = text_printf("%s%s%s", g->challenge.realm,
				     strchr(g->challenge.realm, '?') ? "&" : "?", query);
		free(query);
		if (c)
			t->extra = credential_basic(c);
	}
	free(scopes);
	net_count(&n->token_fetches, 1);
	http_submit(t);
}

static void use_credential(struct net *n, struct grant *g)
{
	struct credential *c = g->ep->cred;

	if (g->challenge.scheme == AUTH_BEARER) {
		fetch_token(n, g);
		return;
	}
	if (c && !c->identity_token) {
		char *header = credential_basic(c);

		if (g->header && strcmp(header, g->header) == 0) {
			/* the very thing that was refused */
			secret_free(header);
			secret_free(g->header);
			g->header = NULL;
		} else {
			set_header(g, header, 0, 0);
			return;
		}
	}
	{
		char *hint = net_auth_hint(n), why[160];

		(void)snprintf(why, sizeof(why), "HTTP 401, %s credentials: %s",
			       c ? "refused" : "no", hint); /* cut is fine */
		free(hint);
		fail_all(g, -EACCES, why);
	}
}

static void start_fetch(struct net *n, struct grant *g)
{
	struct endpoint *ep = g->ep;

	if (g->fetching)
		return;
	g->fetching = true;
	if (g->fresh) {
		/* they may have been rotated in the file meanwhile */
		credential_free(ep->cred);
		ep->cred = NULL;
		ep->cred_known = false;
		g->fresh = false;
	}
	if (!ep->cred_known && n->creds && ep->named) {
		/* checked by net_new(): it cannot fail any more */
		(void)credentials_from_option(n->creds, &ep->cred, NULL);
		ep->cred_known = true;
	}
	if (ep->cred_known)
		use_credential(n, g);
	else
		lookup_start(n, g);
}

void grant_credential(struct grant *g, struct credential *c, int code, const char *why)
{
	struct endpoint *ep = g->ep;
	struct net *n = ep->net;

	if (code) {
		fail_all(g, code, why);
		return;
	}
	credential_free(ep->cred);
	ep->cred = c;
	ep->cred_known = true;
	use_credential(n, g);
}

static enum grant_answer wait_for(struct grant *g, struct http_job *j)
{
	j->wait_steps = g->steps;
	j->waited = true;
	j->state = JOB_WAITING;
	list_add_tail(&g->waiters, &j->q);
	return GRANT_WAIT;
}

enum grant_answer grant_ask(struct grant *g, struct http_job *j)
{
	uint64_t now;

	switch (g->state) {
	case GRANT_OPEN:
		j->grant_gen = g->gen;
		return GRANT_GO;
	case GRANT_READY:
		now = clock_now_ns();
		if (now < g->expire_ns) {
			if (now >= g->refresh_ns)
				start_fetch(j->net, g);
			return GRANT_GO;
		}
		g->state = GRANT_FETCHING;
		break;
	case GRANT_UNKNOWN:
		if (!g->ep->has_challenge) {
			g->state = GRANT_PROBING;
			j->probing = true;
			return GRANT_GO;
		}
		g->challenge = g->ep->challenge;
		g->challenge.scope[0] = '\0'; /* that was another repository's */
		g->state = GRANT_FETCHING;
		break;
	case GRANT_PROBING:
		if (j->probing)
			return GRANT_GO;
		return wait_for(g, j);
	case GRANT_FETCHING:
		break;
	}
	(void)wait_for(g, j);
	start_fetch(j->net, g);
	return GRANT_WAIT;
}

bool grant_usable(const struct grant *g)
{
	return g->state == GRANT_OPEN || (g->state == GRANT_READY && clock_now_ns() < g->expire_ns);
}

void grant_opened(struct grant *g)
{
	if (g->state != GRANT_PROBING)
		return;
	g->state = GRANT_OPEN;
	g->steps++;
	wake_all(g);
}

bool grant_refused(struct grant *g, struct http_job *j, const struct auth_challenge *c)
{
	if (c->scheme == AUTH_NONE && !g->ep->has_challenge)
		return false;
	if (c->scheme != AUTH_NONE) {
		g->ep->challenge = *c;
		g->ep->has_challenge = true;
		g->challenge = *c;
	}
	if (j->probing) {
		j->probing = false;
		g->steps++;
		g->state = GRANT_FETCHING;
		return true; /* grant_ask() starts the fetch with this job waiting */
	}
	if (j->auth_retried)
		return false;
	j->auth_retried = true;
	if (j->grant_gen != g->gen || g->state == GRANT_FETCHING)
		return true; /* others have seen to it already */
	g->fresh = g->header != NULL;
	g->state = GRANT_FETCHING; /* an early renewal under way serves as well */
	return true;
}

void grant_abandoned(struct grant *g)
{
	if (g->state != GRANT_PROBING)
		return;
	g->state = GRANT_UNKNOWN;
	wake_all(g);
}
