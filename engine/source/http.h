/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - one logical HTTP request of the network thread, with everything it takes
 *
 * A job is one thing somebody wants: a range, a manifest, a token, an upload. It may need several
 * exchanges: a probe, a token, a redirect, retries, another mirror. Jobs are made by any thread,
 * handed over with http_submit(), belong to the network thread until @done has been called there,
 * and then to their maker again.
 *
 *   ready -> [waits for a grant] -> [waits for a URL] -> queued at a host -> active -> ready again
 *   (redirect, 401), backing off, or done
 */
#ifndef HS_SOURCE_HTTP_H
#define HS_SOURCE_HTTP_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth.h"
#include "list.h"
#include "net.h"
#include "range.h"
#include "source.h"

struct err;
struct imageref;

#define HTTP_WHY_BYTES	   320
#define HTTP_TRY_WHY_BYTES 192
#define HTTP_HEADER_BYTES  (64u << 10) /* of one answer, all lines */
#define HTTP_ERROR_BYTES   (16u << 10) /* body of an answer that is not a success */
#define HTTP_TOKEN_BYTES   (64u << 10)
#define HTTP_MAX_HOPS	   5
#define HTTP_MAX_ENDPOINTS 34

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE };

/*
 * One place that speaks the registry API. Interned: lives as long as the net. The upper half is
 * immutable, the lower belongs to the network thread.
 */
struct endpoint {
	struct list link;
	struct net *net;
	char *key;	 /* all of the immutable settings */
	char *authority; /* HOST[:PORT] to connect to */
	char *prefix;	 /* "/v2" */
	char *cred_host; /* what credentials call it */
	char *ns;	 /* for a mirror: the registry it stands for */
	char *ca_pem;	 /* NULL: system */
	bool ca_only;	 /* and nothing else */
	char *client_cert, *client_key;
	char **headers; /* NULL-terminated "Name: value" */
	bool skip_verify;
	bool may_http; /* plain HTTP is allowed */
	bool may_https;
	bool named; /* the registry itself, not a mirror: --creds is meant for it */

	_Atomic int referrers; /* any thread: 1 has the API, -1 has not, 0 not known */

	bool scheme_known; /* an answer came over @http */
	bool http;	   /* use plain HTTP now */
	bool has_challenge;
	struct auth_challenge challenge;
	struct credential *cred;
	bool cred_known;
	struct list grants;
	int redirects; /* blobs: -1 not known, 0 served directly, 1 redirected */
	uint64_t down_until_ns;
};

/* A repository at its mirrors and its registry; immutable. */
struct origin {
	_Atomic uint32_t refs;
	char *host, *repo;
	char *name;	  /* "host/repo" */
	char *scope_pull; /* "repository:REPO:pull" */
	char *scope_push;
	size_t count;
	struct endpoint *ep[HTTP_MAX_ENDPOINTS];
	unsigned int caps[HTTP_MAX_ENDPOINTS];
};

/* Where a blob's bytes really are, once a redirect told. Network thread. */
struct place {
	struct list link, lru;
	uint64_t hash;
	char *key;
	char *url; /* signed: secret. NULL: not known */
	uint64_t expire_ns;
	uint64_t gen;
	uint64_t steps;
	struct http_job *resolver; /* asks just now */
	struct list waiters;
	unsigned int pins;
	struct netloc *loc; /* of @url */
};

/* scheme://host:port with its queues and connection slots. Network thread. */
struct netloc {
	struct list link;
	char *name;
	bool http1; /* known not to multiplex */
	unsigned int active, active_prefetch;
	struct list demand, prefetch;
	uint64_t not_before_ns; /* 429 with Retry-After */
};

enum job_want { WANT_CANCEL = 1, WANT_RAISE = 2, WANT_KICK = 4 };

/* What this try asks: the API path, @url, a cached redirect, a redirect just got. */
enum job_target { TARGET_PATH, TARGET_URL, TARGET_PLACE, TARGET_HOP };

enum job_state { JOB_DONE, JOB_READY, JOB_WAITING, JOB_QUEUED, JOB_ACTIVE, JOB_BACKOFF };

/* Body of an upload, fed by the caller's thread. See upload.c */
struct upload;

struct http_job {
	/* set by the maker */
	enum http_method method;
	struct origin *origin; /* NULL: @url alone (token) */
	unsigned int need;     /* enum host_caps an endpoint must have */
	const char *scope;     /* grant to use; NULL: none */
	char *path;	       /* behind "/v2/": "repo/blobs/..."; with @origin */
	char *url;	       /* absolute; instead of @path */
	const char *place_key; /* cache redirects under this; NULL: don't */
	const char *accept, *content_type;
	const char *extra; /* one more header line, may be secret; NULL */
	const void *body;  /* request body */
	size_t body_len;
	struct upload *upload; /* or a streamed one of @body_len bytes */
	uint64_t body_total;
	bool ranged;
	struct range range;
	uint64_t blob_bytes; /* size of the whole, 0 not known */
	void *buf;	     /* answer: ranged: range.len bytes, else see @max_body */
	size_t max_body;     /* answers of more are -EPROTO; @buf is malloc()ed */
	int (*sink)(struct http_job *j, const void *p, size_t len); /* instead of buf */
	enum prio prio;
	uint64_t timeout_ns;	/* 0: the net's */
	unsigned int max_tries; /* 0: default */
	bool any_status;	/* 4xx is an answer, not a failure (401 is still handled) */
	bool quiet;		/* not counted as an error (warm-up) */
	void (*done)(struct http_job *j);
	void *arg;
	const void *owner; /* whom http_cancel_all() means; NULL */
	struct fetch *fetch;
	struct endpoint
	    *pin_ep; /* absolute @url of this endpoint: its TLS and Authorization when same host */

	/* the answer */
	int res;
	long status;
	size_t len; /* bytes in buf */
	unsigned int exchanges;
	char why[HTTP_WHY_BYTES];
	char *h_location, *h_digest, *h_type, *h_link, *h_range, *h_upload_min, *h_subject;
	int64_t h_length;	   /* Content-Length or -1 */
	struct endpoint *answered; /* endpoint that did */
	char *final_url;	   /* what answered, for relative locations; uploads only */

	/* network thread */
	struct net *net;
	uint64_t id;
	enum job_state state;
	struct list live;    /* all jobs */
	struct list id_link; /* bucket by id, under the net's lock */
	struct list q;	     /* inbox, ready, waiters, queue of a netloc */
	struct list ctl;     /* under the net's lock */
	unsigned int wants;  /* enum job_want, under the net's lock */
	uint64_t deadline_ns, wake_ns, started_ns;
	unsigned int tries; /* failed ones at this endpoint */
	unsigned int proto_errors;
	size_t ep_index;
	bool auth_retried, place_retried, scheme_retried;
	struct grant *grant;
	bool probing;
	uint64_t grant_gen, wait_steps;
	bool waited;
	struct place *place;
	bool place_used; /* this try goes to a cached URL */
	uint64_t place_gen;
	enum job_target target;
	unsigned int hops;
	char *hop_url; /* redirect being followed; secret */
	bool hop_home; /* it leads back to the endpoint itself */
	struct netloc *loc;
	bool counted_prefetch;
	CURL *easy;
	struct curl_slist *headers;
	char curl_err[CURL_ERROR_SIZE];
	size_t header_bytes;
	long proxy_status; /* of CONNECT; 0: none was needed */
	bool in_body, headers_ok;
	int try_res; /* negative: why the callbacks aborted */
	char try_why[HTTP_TRY_WHY_BYTES];
	uint64_t content_from, content_to, content_total;
	bool has_content_range, has_retry_after;
	uint64_t retry_after_ns;
	struct auth_challenge challenge; /* of this answer */
	char *error_body;
	size_t error_len;
	size_t cap;
};

/* http_job_new - zeroed, from the pool */
struct http_job *http_job_new(struct net *n);
/* http_job_free - also what it owns: path, url, h_*; buf when max_body was set */
void http_job_free(struct http_job *j);

void http_submit(struct http_job *j);
void http_cancel(struct net *n, uint64_t id);
void http_cancel_all(struct net *n, const void *owner); /* that are under way now */
void http_raise(struct net *n, uint64_t id);
void http_kick(struct net *n, uint64_t id); /* its upload has bytes again */

/* http_run - submit and block until done; returns j->res */
int http_run(struct http_job *j);

/* -- between net.c, http.c, http_try.c and auth.c; network thread only -- */
void http_ready(struct http_job *j);			       /* run its next step soon */
void http_step(struct http_job *j);			       /* next step of a ready job */
void http_finish(struct http_job *j, int res);		       /* done; j->why says why */
void http_abort(struct http_job *j, int res, const char *why); /* in any state */
void http_fail(struct http_job *j, int res, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* http_answered - one exchange ended; decides what comes next */
void http_answered(struct http_job *j, CURLcode code);
/* http_headers - all header lines of an answer are in; non-zero: stop reading */
int http_headers(struct http_job *j);
void http_follow(struct http_job *j); /* its answer is a redirect */
/* http_give_up - fail with j->try_why, or go on to the next endpoint */
void http_give_up(struct http_job *j, int res);
/* http_no_grant - a waiting job gets no grant at its endpoint: on to the next, or fail with @why */
void http_no_grant(struct http_job *j, int res, const char *why);
/* http_asked_url - what was asked in this try; secret, caller frees */
char *http_asked_url(const struct http_job *j, const struct endpoint *ep);
struct endpoint *http_endpoint(const struct http_job *j); /* NULL for a token */

/*
 * http_prepare - set up the exchange that j->target says
 * Returns 0, 1 when the job must take its step again, or negative when it has failed (and is gone).
 */
int http_prepare(struct http_job *j);
void http_release(struct http_job *j); /* easy handle and slot back */
void http_try_done(struct http_job *j, CURLcode code);

/*
 * http_describe - what a job is about: "host/repo@sha256:0123456789ab (mirror HOST)"
 * http_say_status - put what j->status means into j->try_why
 * http_say_curl - the same for a transport failure; true when the next try will fail as well
 */
void http_describe(const struct http_job *j, char *out, size_t out_bytes);
void http_say_status(struct http_job *j);
bool http_say_curl(struct http_job *j, CURLcode code);

/* http_url_loc - "scheme://host:port" of a URL; false when it is not http(s) or malformed */
bool http_url_loc(const char *url, char *out, size_t out_bytes, bool *ret_plain, char *host,
		  size_t host_bytes);

/* http_plain_allowed - whether an endpoint may lead to plain HTTP on @host (HOST[:PORT]) */
bool http_plain_allowed(const struct endpoint *ep, const char *host);

#endif
