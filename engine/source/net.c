/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.c - the network thread: inbox, timers, connection slots and counters
 *
 * What one job does is in http.c; here is when it may. Per host at most max_conns requests are
 * under way; prefetch leaves a quarter of them to demand and is only taken when no demand waits.
 */
#include "net.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "credentials.h"
#include "err.h"
#include "http.h"
#include "imageref.h"
#include "log.h"
#include "net_impl.h"
#include "text.h"
#include "upload.h"

#define DEFAULT_CONNS	   32u
#define MAX_CONNS	   128u
#define DEFAULT_TIMEOUT_NS (30 * NS_PER_SEC)
#define HOSTS_DIR	   "/etc/containerd/certs.d"
#define CA_MAX_BYTES	   (4u << 20)
#define IDLE_POLL_NS	   (10 * NS_PER_SEC)

uint64_t net_random(struct net *n)
{
	/* xorshift64*: jitter only, nothing secret hangs on it */
	n->random ^= n->random >> 12;
	n->random ^= n->random << 25;
	n->random ^= n->random >> 27;
	return n->random * 0x2545f4914f6cdd1dull;
}

/* --- connection slots ------------------------------------------------------------------------ */

struct netloc *netloc_get(struct net *n, const char *name)
{
	struct netloc *l;

	list_for_each (pos, &n->locs) {
		l = list_entry(pos, struct netloc, link);
		if (strcmp(l->name, name) == 0)
			return l;
	}
	l = xmalloc_zero(1, sizeof(*l));
	l->name = text_dup(name);
	list_init(&l->demand);
	list_init(&l->prefetch);
	list_add(&n->locs, &l->link);
	return l;
}

static unsigned int prefetch_slots(const struct net *n)
{
	unsigned int spare = n->max_conns / 4 ? n->max_conns / 4 : 1;

	return n->max_conns > spare ? n->max_conns - spare : 1;
}

void netloc_enqueue(struct netloc *l, struct http_job *j)
{
	j->loc = l;
	j->state = JOB_QUEUED;
	list_add_tail(j->prio == PRIO_DEMAND ? &l->demand : &l->prefetch, &j->q);
	netloc_dispatch(j->net, l);
}

void netloc_leave(struct netloc *l, struct http_job *j)
{
	assert(l->active > 0);
	l->active--;
	if (j->counted_prefetch) {
		assert(l->active_prefetch > 0);
		l->active_prefetch--;
		j->counted_prefetch = false;
	}
}

static void launch(struct net *n, struct netloc *l, struct http_job *j)
{
	CURLMcode mc;
	int rc;

	rc = http_prepare(j);
	if (rc > 0)
		http_ready(j);
	if (rc)
		return;
	l->active++;
	if (j->prio == PRIO_PREFETCH) {
		l->active_prefetch++;
		j->counted_prefetch = true;
	}
	j->state = JOB_ACTIVE;
	j->exchanges++;
	net_count(&n->requests, 1);
	mc = curl_multi_add_handle(n->multi, j->easy);
	if (mc != CURLM_OK)
		http_fail(j, -EIO, "network library: %s", curl_multi_strerror(mc));
}

void netloc_dispatch(struct net *n, struct netloc *l)
{
	uint64_t now = 0;

	while (l->active < n->max_conns) {
		struct list *pos;

		if (l->not_before_ns) {
			if (!now)
				now = clock_now_ns();
			if (now < l->not_before_ns) {
				net_timer(n, l->not_before_ns);
				return;
			}
			l->not_before_ns = 0;
		}
		pos = list_pop(&l->demand);
		if (!pos && l->active_prefetch < prefetch_slots(n))
			pos = list_pop(&l->prefetch);
		if (!pos)
			return;
		launch(n, l, list_entry(pos, struct http_job, q));
	}
}

/* --- credential lookups ---------------------------------------------------------------------- */

static void *lookup_main(void *arg)
{
	struct cred_lookup *l = arg;
	struct net *n = l->net;
	struct err e = {0};

	l->code = credentials_find(l->authfile, l->host, l->repo, &l->found, &e);
	(void)snprintf(l->why, sizeof(l->why), "%.159s", e.msg);
	pthread_mutex_lock(&n->lock);
	list_add_tail(&n->creds_done, &l->link);
	pthread_mutex_unlock(&n->lock);
	curl_multi_wakeup(n->multi);
	return NULL;
}

static void lookup_run(struct cred_lookup *l)
{
	struct net *n = l->net;
	int rc = pthread_create(&l->thread, NULL, lookup_main, l);

	if (rc == 0) {
		n->lookups++;
		return;
	}
	grant_credential(l->grant, NULL, -rc, "cannot start a thread");
	free(l->authfile);
	free(l->host);
	free(l->repo);
	free(l);
}

void lookup_start(struct net *n, struct grant *g)
{
	struct cred_lookup *l = xmalloc_zero(1, sizeof(*l));
	/* "repository:REPO:pull": podman keys credentials by repository too */
	const char *repo = strchr(g->scope, ':');
	size_t len = repo ? strcspn(repo + 1, ":") : 0;

	l->net = n;
	l->grant = g;
	l->authfile = text_dup(n->authfile);
	l->host = text_dup(g->ep->cred_host);
	l->repo = text_printf("%.*s", (int)len, repo ? repo + 1 : "");
	list_init(&l->link);
	if (n->lookups >= NET_HELPERS)
		list_add_tail(&n->lookups_waiting, &l->link);
	else
		lookup_run(l);
}

static void lookup_end(struct cred_lookup *l, bool deliver)
{
	struct net *n = l->net;

	pthread_join(l->thread, NULL);
	n->lookups--;
	if (deliver)
		grant_credential(l->grant, l->found, l->code, l->why);
	else
		credential_free(l->found);
	free(l->authfile);
	free(l->host);
	free(l->repo);
	free(l);
}

/* --- jobs from other threads ------------------------------------------------------------------ */

struct http_job *http_job_new(struct net *n)
{
	struct http_job *j = NULL;
	struct list *pos;

	pthread_mutex_lock(&n->lock);
	pos = list_pop(&n->free_jobs);
	if (pos)
		n->free_job_count--;
	pthread_mutex_unlock(&n->lock);
	if (pos) {
		j = list_entry(pos, struct http_job, q);
		memset(j, 0, sizeof(*j));
	} else {
		j = xmalloc_zero(1, sizeof(*j));
	}
	j->net = n;
	j->h_length = -1;
	list_init(&j->q);
	list_init(&j->live);
	list_init(&j->ctl);
	list_init(&j->id_link);
	return j;
}

void http_job_free(struct http_job *j)
{
	struct net *n;

	if (!j)
		return;
	n = j->net;
	assert(j->state == JOB_DONE && !j->easy);
	free(j->path);
	secret_free(j->url);
	if (j->max_body)
		secret_free(j->buf);
	secret_free(j->h_location);
	free(j->h_digest);
	free(j->h_type);
	free(j->h_link);
	free(j->h_range);
	free(j->h_upload_min);
	free(j->h_subject);
	secret_free(j->final_url);
	secret_free(j->hop_url);
	free(j->error_body);
	if (j->origin)
		origin_unref(j->origin);
	pthread_mutex_lock(&n->lock);
	if (n->free_job_count < NET_POOL_JOBS) {
		list_init(&j->q);
		list_add(&n->free_jobs, &j->q);
		n->free_job_count++;
		j = NULL;
	}
	pthread_mutex_unlock(&n->lock);
	free(j);
}

void http_submit(struct http_job *j)
{
	struct net *n = j->net;
	bool wake;

	j->started_ns = clock_now_ns();
	j->deadline_ns = j->started_ns + (j->timeout_ns ? j->timeout_ns : n->timeout_ns);
	j->state = JOB_READY;
	pthread_mutex_lock(&n->lock);
	j->id = ++n->next_id;
	if (j->fetch)
		j->fetch->priv = (void *)(uintptr_t)j->id;
	list_add(&n->by_id[j->id % NET_ID_BUCKETS], &j->id_link);
	wake = list_empty(&n->inbox);
	list_add_tail(&n->inbox, &j->q);
	pthread_mutex_unlock(&n->lock);
	if (wake)
		curl_multi_wakeup(n->multi);
}

static void control(struct net *n, uint64_t id, enum job_want want)
{
	bool found = false;

	pthread_mutex_lock(&n->lock);
	list_for_each (pos, &n->by_id[id % NET_ID_BUCKETS]) {
		struct http_job *j = list_entry(pos, struct http_job, id_link);

		if (j->id != id)
			continue;
		j->wants |= want;
		list_del(&j->ctl);
		list_add_tail(&n->ctls, &j->ctl);
		found = true;
		break;
	}
	pthread_mutex_unlock(&n->lock);
	if (found)
		curl_multi_wakeup(n->multi);
}

void http_cancel(struct net *n, uint64_t id)
{
	control(n, id, WANT_CANCEL);
}

void http_cancel_all(struct net *n, const void *owner)
{
	pthread_mutex_lock(&n->lock);
	for (size_t i = 0; i < NET_ID_BUCKETS; i++) {
		list_for_each (pos, &n->by_id[i]) {
			struct http_job *j = list_entry(pos, struct http_job, id_link);

			if (j->owner != owner)
				continue;
			j->wants |= WANT_CANCEL;
			list_del(&j->ctl);
			list_add_tail(&n->ctls, &j->ctl);
		}
	}
	pthread_mutex_unlock(&n->lock);
	curl_multi_wakeup(n->multi);
}

void http_raise(struct net *n, uint64_t id)
{
	control(n, id, WANT_RAISE);
}

void http_kick(struct net *n, uint64_t id)
{
	control(n, id, WANT_KICK);
}

/* --- the thread ------------------------------------------------------------------------------- */

void http_ready(struct http_job *j)
{
	j->state = JOB_READY;
	list_add_tail(&j->net->ready, &j->q);
}

static void raise_job(struct http_job *j)
{
	if (j->prio == PRIO_DEMAND)
		return;
	j->prio = PRIO_DEMAND;
	if (j->state == JOB_QUEUED) {
		struct netloc *l = j->loc;

		list_del(&j->q);
		netloc_enqueue(l, j);
	} else if (j->state == JOB_ACTIVE && j->counted_prefetch) {
		j->counted_prefetch = false;
		j->loc->active_prefetch--;
		netloc_dispatch(j->net, j->loc);
	}
}

/* Requests about jobs that are under way; one still in the inbox is looked at next time. */
static void take_controls(struct net *n)
{
	struct list early, *pos;

	list_init(&early);
	pthread_mutex_lock(&n->lock);
	while ((pos = list_pop(&n->ctls))) {
		struct http_job *j = list_entry(pos, struct http_job, ctl);
		unsigned int wants = j->wants;

		if (list_empty(&j->live)) {
			list_add_tail(&early, &j->ctl);
			continue;
		}
		j->wants = 0;
		pthread_mutex_unlock(&n->lock);
		if (wants & WANT_CANCEL) {
			http_abort(j, -ECANCELED, "cancelled");
		} else {
			if (wants & WANT_RAISE)
				raise_job(j);
			if (wants & WANT_KICK && j->upload)
				upload_kick(j->upload);
		}
		pthread_mutex_lock(&n->lock);
	}
	while ((pos = list_pop(&early)))
		list_add_tail(&n->ctls, pos);
	pthread_mutex_unlock(&n->lock);
}

static void take_inbox(struct net *n)
{
	struct list jobs, creds;
	struct list *pos;

	list_init(&jobs);
	list_init(&creds);
	pthread_mutex_lock(&n->lock);
	while ((pos = list_pop(&n->inbox)))
		list_add_tail(&jobs, pos);
	while ((pos = list_pop(&n->creds_done)))
		list_add_tail(&creds, pos);
	pthread_mutex_unlock(&n->lock);
	while ((pos = list_pop(&jobs))) {
		struct http_job *j = list_entry(pos, struct http_job, q);

		list_add_tail(&n->live, &j->live);
		net_timer(n, j->deadline_ns);
		http_ready(j);
	}
	while ((pos = list_pop(&creds))) {
		lookup_end(list_entry(pos, struct cred_lookup, link), true);
		pos = list_pop(&n->lookups_waiting);
		if (pos)
			lookup_run(list_entry(pos, struct cred_lookup, link));
	}
	take_controls(n);
}

static void run_timers(struct net *n, uint64_t now)
{
	n->next_timer_ns = UINT64_MAX;
	list_for_each_safe (pos, &n->live) {
		struct http_job *j = list_entry(pos, struct http_job, live);

		if (now >= j->deadline_ns) {
			http_abort(j, -ETIMEDOUT, NULL);
			/* an abort can end other jobs (waiters), so the saved next may be gone */
			net_timer(n, now);
			return;
		}
		net_timer(n, j->deadline_ns);
		if (j->state != JOB_BACKOFF)
			continue;
		if (now >= j->wake_ns)
			http_ready(j);
		else
			net_timer(n, j->wake_ns);
	}
	list_for_each (pos, &n->locs) {
		struct netloc *l = list_entry(pos, struct netloc, link);

		if (l->not_before_ns)
			netloc_dispatch(n, l);
	}
}

static void run_ready(struct net *n)
{
	struct list *pos;

	while ((pos = list_pop(&n->ready)))
		http_step(list_entry(pos, struct http_job, q));
}

static void take_messages(struct net *n)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(n->multi, &left))) {
		struct http_job *j = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &j);
		assert(j && j->easy == m->easy_handle);
		http_try_done(j, m->data.result);
	}
}

static void *net_main(void *arg)
{
	struct net *n = arg;
	bool stop = false;

	while (!stop) {
		uint64_t now;
		int running, wait_ms;

		take_inbox(n);
		now = clock_now_ns();
		if (now >= n->next_timer_ns)
			run_timers(n, now);
		run_ready(n);
		curl_multi_perform(n->multi, &running);
		take_messages(n);
		run_ready(n);

		pthread_mutex_lock(&n->lock);
		stop = n->stop;
		pthread_mutex_unlock(&n->lock);
		if (stop)
			break;
		now = clock_now_ns();
		if (now >= n->next_timer_ns) {
			wait_ms = 0;
		} else {
			uint64_t wait = min_u64(n->next_timer_ns - now, IDLE_POLL_NS);

			wait_ms = (int)((wait + NS_PER_MS - 1) / NS_PER_MS);
		}
		/* jobs just added have curl timers that are due: poll returns at once for them */
		curl_multi_poll(n->multi, NULL, 0, wait_ms, NULL);
	}
	take_inbox(n);
	while (!list_empty(&n->live))
		http_abort(list_entry(n->live.next, struct http_job, live), -ECANCELED,
			   "shutting down");
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

static void curl_once(void)
{
	/* fails only when memory is out; everything after it then fails too, with a message */
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void net_destroy(struct net *n)
{
	struct list *pos;

	for (unsigned int i = 0; i < n->easy_count; i++)
		curl_easy_cleanup(n->easy_pool[i]);
	if (n->multi)
		curl_multi_cleanup(n->multi);
	if (n->share)
		curl_share_cleanup(n->share);
	while ((pos = list_pop(&n->locs))) {
		struct netloc *l = list_entry(pos, struct netloc, link);

		free(l->name);
		free(l);
	}
	while (!list_empty(&n->place_lru))
		place_free(n, list_entry(n->place_lru.next, struct place, lru));
	while ((pos = list_pop(&n->endpoints)))
		endpoint_free(list_entry(pos, struct endpoint, link));
	while ((pos = list_pop(&n->free_jobs)))
		free(list_entry(pos, struct http_job, q));
	secret_free(n->creds);
	free(n->authfile);
	free(n->cacert_pem);
	free(n->client_cert);
	free(n->client_key);
	free(n->hosts_dir);
	free(n->user_agent);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static int set_options(struct net *n, const struct net_options *o, struct err *e)
{
	int rc;

	if (o->creds) {
		struct credential *c = NULL;

		rc = credentials_from_option(o->creds, &c, e);
		if (rc)
			return rc;
		credential_free(c);
	}
	if (o->authfile && access(o->authfile, R_OK)) {
		int saved = errno;

		return err_set(e, -saved, "cannot read auth file %s: %s", o->authfile,
			       strerror(saved));
	}
	if (o->cacert) {
		rc = text_read_file(o->cacert, CA_MAX_BYTES, &n->cacert_pem, NULL, e);
		if (rc)
			return rc;
		if (!strstr(n->cacert_pem, "-----BEGIN "))
			return err_set(e, -EINVAL, "%s holds no certificate in PEM form",
				       o->cacert);
	}
	if (o->client_key && !o->client_cert)
		return err_set(e, -EINVAL, "a client key needs a client certificate");
	if (o->client_cert && access(o->client_cert, R_OK)) {
		int saved = errno;

		return err_set(e, -saved, "cannot read client certificate %s: %s", o->client_cert,
			       strerror(saved));
	}
	if (o->client_key && access(o->client_key, R_OK)) {
		int saved = errno;

		return err_set(e, -saved, "cannot read client key %s: %s", o->client_key,
			       strerror(saved));
	}
	n->creds = text_dup(o->creds);
	n->authfile = text_dup(o->authfile);
	n->client_cert = text_dup(o->client_cert);
	n->client_key = text_dup(o->client_key);
	n->hosts_dir = text_dup(o->hosts_dir ? o->hosts_dir : HOSTS_DIR);
	n->insecure = o->insecure;
	n->max_conns = o->max_conns ? o->max_conns : DEFAULT_CONNS;
	if (n->max_conns > MAX_CONNS)
		n->max_conns = MAX_CONNS;
	n->timeout_ns = o->timeout_ns ? o->timeout_ns : DEFAULT_TIMEOUT_NS;
	n->user_agent = text_dup(o->user_agent ? o->user_agent : "headstart/" HS_VERSION);
	return 0;
}

static int start(struct net *n, struct err *e)
{
	sigset_t all, old;
	int rc;

	n->multi = curl_multi_init();
	n->share = curl_share_init();
	if (!n->multi || !n->share)
		return err_set(e, -ENOMEM, "cannot start the network library");
	curl_multi_setopt(n->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	/* our own slots are the limit; this one only keeps HTTP/2 from opening more (limits.md 3d)
	 */
	curl_multi_setopt(n->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)n->max_conns);
	curl_multi_setopt(n->multi, CURLMOPT_MAXCONNECTS, (long)n->max_conns * 8);
	curl_share_setopt(n->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	if (getrandom(&n->random, sizeof(n->random), 0) != sizeof(n->random) || !n->random)
		n->random = clock_now_ns() | 1;
	n->next_timer_ns = UINT64_MAX;
	/* signals are for the threads that expect them */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&n->thread, NULL, net_main, n);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_set(e, -rc, "cannot start the network thread: %s", strerror(rc));
	(void)pthread_setname_np(n->thread, "hs-net"); /* cosmetic */
	return 0;
}

int net_new(const struct net_options *o, struct net **ret, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct net *n = xmalloc_zero(1, sizeof(*n));
	int rc;

	pthread_once(&once, curl_once);
	pthread_mutex_init(&n->lock, NULL);
	list_init(&n->inbox);
	list_init(&n->ctls);
	list_init(&n->creds_done);
	list_init(&n->endpoints);
	list_init(&n->free_jobs);
	list_init(&n->live);
	list_init(&n->ready);
	list_init(&n->locs);
	list_init(&n->place_lru);
	list_init(&n->lookups_waiting);
	for (int i = 0; i < NET_ID_BUCKETS; i++)
		list_init(&n->by_id[i]);
	for (int i = 0; i < NET_PLACE_BUCKETS; i++)
		list_init(&n->places[i]);
	rc = set_options(n, o, e);
	if (!rc)
		rc = start(n, e);
	if (rc) {
		net_destroy(n);
		return rc;
	}
	*ret = n;
	return 0;
}

void net_free(struct net *n)
{
	if (!n)
		return;
	pthread_mutex_lock(&n->lock);
	n->stop = true;
	pthread_mutex_unlock(&n->lock);
	curl_multi_wakeup(n->multi);
	pthread_join(n->thread, NULL);
	/* Lookups hold no job any more, but their threads still know the net. A helper ends itself
	 * within its time limit. */
	for (;;) {
		struct list *pos;

		pthread_mutex_lock(&n->lock);
		pos = list_pop(&n->creds_done);
		pthread_mutex_unlock(&n->lock);
		if (pos)
			lookup_end(list_entry(pos, struct cred_lookup, link), false);
		else if (n->lookups)
			curl_multi_poll(n->multi, NULL, 0, 1000, NULL);
		else
			break;
	}
	for (;;) {
		struct list *pos = list_pop(&n->lookups_waiting);
		struct cred_lookup *l;

		if (!pos)
			break;
		l = list_entry(pos, struct cred_lookup, link);
		free(l->authfile);
		free(l->host);
		free(l->repo);
		free(l);
	}
	net_destroy(n);
}

void net_stats_get(struct net *n, struct net_stats *ret)
{
	ret->requests = atomic_load_explicit(&n->requests, memory_order_relaxed);
	ret->bytes = atomic_load_explicit(&n->bytes, memory_order_relaxed);
	ret->retries = atomic_load_explicit(&n->retries, memory_order_relaxed);
	ret->connections = atomic_load_explicit(&n->connections, memory_order_relaxed);
	ret->redirects = atomic_load_explicit(&n->redirects, memory_order_relaxed);
	ret->token_fetches = atomic_load_explicit(&n->token_fetches, memory_order_relaxed);
	ret->errors = atomic_load_explicit(&n->errors, memory_order_relaxed);
}

char *net_auth_hint(struct net *n)
{
	char *files[8];
	unsigned int count;
	char *text;

	if (n->creds)
		return text_dup("check --creds");
	count = credentials_files(n->authfile, files, 8);
	text = text_printf("check --creds or the auth file %s",
			   count ? files[0] : "~/.docker/config.json");
	for (unsigned int i = 0; i < count; i++)
		free(files[i]);
	return text;
}

/* --- warm-up ---------------------------------------------------------------------------------- */

static void warm_done(struct http_job *j)
{
	http_job_free(j);
}

void net_warm(struct net *n, const struct imageref *r, unsigned int conns)
{
	struct origin *o = NULL;

	if (r->kind != IMAGEREF_DOCKER || origin_new(n, r, &o, NULL))
		return;
	if (conns >= n->max_conns)
		conns = n->max_conns - 1;
	for (unsigned int i = 0; i < conns; i++) {
		struct http_job *j = http_job_new(n);

		j->method = HTTP_GET;
		j->origin = origin_ref(o);
		j->need = 1; /* HOST_PULL */
		j->path = text_dup("");
		j->max_body = HTTP_ERROR_BYTES;
		j->prio = PRIO_PREFETCH;
		j->timeout_ns = 5 * NS_PER_SEC;
		j->max_tries = 1;
		j->any_status = true;
		j->quiet = true;
		j->done = warm_done;
		http_submit(j);
	}
	origin_unref(o);
}
