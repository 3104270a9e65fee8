/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload.h - the body of one streamed upload, from the caller's thread to the network thread
 *
 * A ring of bounded size in between. When it runs empty the transfer pauses; feeding it makes the
 * network thread go on. The caller feeds in order, once per attempt.
 */
#ifndef HS_SOURCE_UPLOAD_H
#define HS_SOURCE_UPLOAD_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_job;
struct net;
struct upload;

struct upload *upload_new(struct net *n, size_t ring_bytes);
void upload_free(struct upload *u); /* NULL is fine */

/*
 * upload_run - submit @j with @u as its body of j->body_total bytes and feed it from @source
 * Returns j->res, or what @source returned when that was not 0 (the job is cancelled then).
 */
int upload_run(struct upload *u, struct http_job *j, uint64_t base,
	       int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg);

/* network thread */
size_t upload_read(struct upload *u, char *out, size_t len);
void upload_attach(struct upload *u, CURL *c); /* NULL: the exchange is over */
void upload_kick(struct upload *u);	       /* bytes have come */

#endif
