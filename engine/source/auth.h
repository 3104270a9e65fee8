/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.h - who may read a repository: challenges, and the grants they lead to
 *
 * The parsers are pure. Grants belong to the network thread.
 *
 * A grant is what one scope at one endpoint takes: nothing, a Basic header or a Bearer token.
 *   UNKNOWN -> PROBING   the first job asks without Authorization, all others wait
 *   PROBING -> OPEN      it was answered: nothing is needed
 *   PROBING -> FETCHING  it was refused: credentials are looked up, a token is fetched, once for
 * all UNKNOWN -> FETCHING  the endpoint's challenge is known from another repository FETCHING ->
 * READY, or back to UNKNOWN with every waiter failed READY -> FETCHING    expired, or refused by a
 * 401; before that it is renewed in the background
 */
#ifndef HS_SOURCE_AUTH_H
#define HS_SOURCE_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"

struct credential;
struct endpoint;
struct http_job;
struct net;

enum auth_scheme { AUTH_NONE, AUTH_BASIC, AUTH_BEARER };

struct auth_challenge {
	enum auth_scheme scheme;
	char realm[1024];
	char service[256];
	char scope[1024];
};

/*
 * auth_challenge_parse - the strongest challenge in one WWW-Authenticate value
 * @ret: replaced only by a stronger one, so that several header lines can be fed in turn
 *
 * Unknown schemes are skipped, over-long parameters drop their challenge. Returns whether @ret
 * holds a usable challenge now.
 */
bool auth_challenge_parse(const char *value, size_t len, struct auth_challenge *ret);

/*
 * auth_token_parse - a token server's answer
 * @ret_token: caller frees. @ret_life_s: seconds, at least 1; 60 when the server does not say.
 * Returns 0 or -EPROTO.
 */
int auth_token_parse(const char *json, size_t len, char **ret_token, uint64_t *ret_life_s);

enum grant_state { GRANT_UNKNOWN, GRANT_PROBING, GRANT_FETCHING, GRANT_OPEN, GRANT_READY };

struct grant {
	struct list link; /* in the endpoint's list */
	struct endpoint *ep;
	char *scope; /* as we would ask for it */
	enum grant_state state;
	char *header; /* "Authorization: ..." in READY; secret */
	struct auth_challenge challenge;
	uint64_t gen;	/* counts headers, so that a late 401 does not spoil a newer one */
	uint64_t steps; /* exchanges made for it so far, seen by those who wait */
	uint64_t refresh_ns, expire_ns;
	bool fetching; /* a credential lookup or token request is under way */
	bool fresh;    /* look the credentials up again: those in hand were refused */
	struct list waiters;
};

enum grant_answer { GRANT_GO, GRANT_WAIT };

struct grant *grant_get(struct endpoint *ep, const char *scope);
void grant_free(struct grant *g);

/* grant_ask - may the job go now? GRANT_WAIT: it was queued and will be made ready again */
enum grant_answer grant_ask(struct grant *g, struct http_job *j);

/* grant_usable - whether a job that was let go may still go */
bool grant_usable(const struct grant *g);

/* grant_opened - a request without Authorization was not refused */
void grant_opened(struct grant *g);

/*
 * grant_refused - the job got a 401 with @c (AUTH_NONE: it had none we understand)
 * Returns true when it should be tried again (it will find the grant waiting or ready).
 */
bool grant_refused(struct grant *g, struct http_job *j, const struct auth_challenge *c);

/* grant_abandoned - a probing job ended without an answer; the next waiter probes */
void grant_abandoned(struct grant *g);

/* grant_credential - the lookup that grant_ask() began has ended; takes @c over, NULL: none */
void grant_credential(struct grant *g, struct credential *c, int code, const char *why);

#endif
