/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - the network thread: one libcurl multi handle, demand before prefetch
 *
 * One struct net per process side: connection pool, TLS sessions, credentials, tokens and redirect
 * cache hang off it. Any thread may use it.
 */
#ifndef HS_SOURCE_NET_H
#define HS_SOURCE_NET_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct imageref;
struct net;

/* All strings are copied; NULL means the default. */
struct net_options {
	const char *creds;	 /* USER:PASS; overrides files and helpers */
	const char *authfile;	 /* docker or podman auth.json; default: $REGISTRY_AUTH_FILE,
				    podman's, then $DOCKER_CONFIG/config.json */
	const char *cacert;	 /* PEM bundle, in addition to nothing else */
	const char *client_cert; /* PEM */
	const char *client_key;	 /* PEM */
	const char *hosts_dir;	 /* containerd-style certs.d with HOST/hosts.toml;
				    default /etc/containerd/certs.d when it exists */
	bool insecure;		 /* plain HTTP for the named registry, and nothing else */
	unsigned int max_conns;	 /* per host; default 32: opening asks for all layers at once */
	uint64_t timeout_ns;	 /* whole fetch with retries; default 30 s */
	const char *user_agent;
};

/* Counters since net_new(); a snapshot, consistent enough for people. */
struct net_stats {
	uint64_t requests; /* HTTP requests sent, all kinds */
	uint64_t bytes;	   /* body bytes received */
	uint64_t retries;
	uint64_t connections; /* opened */
	uint64_t redirects;
	uint64_t token_fetches;
	uint64_t errors; /* fetches that failed for good */
};

int net_new(const struct net_options *o, struct net **ret, struct err *e);
void net_free(struct net *n); /* cancels what is in flight; NULL is fine */
void net_stats_get(struct net *n, struct net_stats *ret);

/*
 * net_warm - open up to @conns connections to the registry of @r ahead of use
 *
 * Returns at once and reports nothing: each is one GET of the API's root in the background, which
 * also teaches the registry's challenge. Only worth it right before a burst of fetches.
 */
void net_warm(struct net *n, const struct imageref *r, unsigned int conns);

#endif
