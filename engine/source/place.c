/* SPDX-License-Identifier: Apache-2.0 */
/* place.c - the table of redirect targets: bounded, least recently used goes first. Network thread
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "credentials.h"
#include "http.h"
#include "net_impl.h"
#include "text.h"

static uint64_t hash_text(const char *s)
{
	uint64_t h = 1469598103934665603ull;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211ull;
	return h;
}

void place_free(struct net *n, struct place *p)
{
	assert(list_empty(&p->waiters) && !p->pins);
	list_del(&p->link);
	list_del(&p->lru);
	n->place_count--;
	secret_free(p->url);
	free(p->key);
	free(p);
}

struct place *place_get(struct net *n, const char *key)
{
	uint64_t h = hash_text(key);
	struct place *p;

	list_for_each (pos, &n->places[h % NET_PLACE_BUCKETS]) {
		p = list_entry(pos, struct place, link);
		if (p->hash == h && strcmp(p->key, key) == 0) {
			list_del(&p->lru);
			list_add_tail(&n->place_lru, &p->lru);
			p->pins++;
			return p;
		}
	}
	if (n->place_count >= NET_MAX_PLACES) {
		list_for_each (pos, &n->place_lru) {
			p = list_entry(pos, struct place, lru);
			if (!p->pins) {
				place_free(n, p);
				break;
			}
		}
	}
	p = xmalloc_zero(1, sizeof(*p));
	p->hash = h;
	p->key = text_dup(key);
	p->pins = 1;
	list_init(&p->waiters);
	list_add(&n->places[h % NET_PLACE_BUCKETS], &p->link);
	list_add_tail(&n->place_lru, &p->lru);
	n->place_count++;
	return p;
}

void place_put(struct net *n, struct place *p)
{
	(void)n; /* it stays cached until the table is full */
	assert(p->pins > 0);
	p->pins--;
}

void place_wake(struct place *p)
{
	struct list *pos;

	while ((pos = list_pop(&p->waiters)))
		http_ready(list_entry(pos, struct http_job, q));
}
