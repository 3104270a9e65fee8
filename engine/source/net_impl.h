/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_impl.h - the inside of struct net, for the files of the network thread
 *
 * Lock order: only @lock, never held while a callback runs. Everything below the line "network
 * thread" is touched by that thread alone.
 */
#ifndef HS_SOURCE_NET_IMPL_H
#define HS_SOURCE_NET_IMPL_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "http.h"
#include "list.h"
#include "net.h"

#define NET_ID_BUCKETS	  256
#define NET_PLACE_BUCKETS 256
#define NET_MAX_PLACES	  8192
#define NET_POOL_JOBS	  256
#define NET_POOL_EASY	  64
#define NET_HELPERS	  8 /* credential lookups at a time */

struct origin;

/* A credential lookup on a thread of its own; helpers and files may block. */
struct cred_lookup {
	struct list link;
	struct net *net;
	struct grant *grant;
	char *authfile, *host, *repo;
	pthread_t thread;
	struct credential *found;
	int code;
	char why[160];
};

struct net {
	/* immutable after net_new() */
	char *creds, *authfile, *cacert_pem, *client_cert, *client_key, *hosts_dir, *user_agent;
	bool insecure;
	unsigned int max_conns;
	uint64_t timeout_ns;
	CURLM *multi;
	CURLSH *share;
	pthread_t thread;

	pthread_mutex_t lock;
	struct list inbox;	/* jobs from other threads */
	struct list ctls;	/* jobs to cancel or raise */
	struct list creds_done; /* struct cred_lookup */
	struct list by_id[NET_ID_BUCKETS];
	uint64_t next_id;
	struct list endpoints; /* interned; the list under @lock */
	bool stop;
	struct list free_jobs;
	unsigned int free_job_count;

	_Atomic uint64_t requests, bytes, retries, connections, redirects, token_fetches, errors;

	/* network thread */
	struct list live; /* every job that is not done */
	struct list ready;
	struct list locs;
	struct list places[NET_PLACE_BUCKETS];
	struct list place_lru;
	unsigned int place_count;
	uint64_t next_timer_ns;
	CURL *easy_pool[NET_POOL_EASY];
	unsigned int easy_count;
	unsigned int lookups; /* running */
	struct list lookups_waiting;
	uint64_t random;
};

static inline void net_count(_Atomic uint64_t *c, uint64_t v)
{
	atomic_fetch_add_explicit(c, v, memory_order_relaxed);
}

/* net_timer - see to it that the loop looks at its timers at @when_ns */
static inline void net_timer(struct net *n, uint64_t when_ns)
{
	if (when_ns < n->next_timer_ns)
		n->next_timer_ns = when_ns;
}

uint64_t net_random(struct net *n);

/* netloc_get - the connection slots of "scheme://host:port"; never NULL */
struct netloc *netloc_get(struct net *n, const char *name);
void netloc_enqueue(struct netloc *l, struct http_job *j);
void netloc_leave(struct netloc *l, struct http_job *j); /* slot of an active job */
void netloc_dispatch(struct net *n, struct netloc *l);

/* place_get - pinned until place_put() */
struct place *place_get(struct net *n, const char *key);
void place_put(struct net *n, struct place *p);
void place_free(struct net *n, struct place *p); /* nobody holds or awaits it */
void place_wake(struct place *p);		 /* everybody who waits for it */

/* lookup_start - find credentials for @g in the background, then grant_credential() */
void lookup_start(struct net *n, struct grant *g);

/* net_locked_text - which files credentials come from, for messages */
char *net_auth_hint(struct net *n);

/*
 * origin_new - a repository with its mirrors as configured; reads hosts.toml, blocks on files
 * endpoint_free - at the end of the net
 */
int origin_new(struct net *n, const struct imageref *r, struct origin **ret, struct err *e);
struct origin *origin_ref(struct origin *o);
void origin_unref(struct origin *o); /* NULL is fine */
void endpoint_free(struct endpoint *ep);

#endif
