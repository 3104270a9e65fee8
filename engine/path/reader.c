/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c - see reader.h */
#include "reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blob.h"
#include "cache.h"
#include "cleanup.h"
#include "err.h"
#include "source.h"
#include "stream.h"
#include "text.h"

#define FETCH_MAX_BYTES	 (1u << 20)
#define LOOKED_GAP_BYTES (256u << 10) /* closer reads are remembered as one */

/* Bytes that were fetched in this open. */
struct chunk {
	struct blob *blob;
	struct range range;
	void *buf;
	struct fetch fetch;
	struct round *round;
	struct list link;
};

/* Fetches that were started together and are waited for together. */
struct round {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned int left;
};

void reader_init(struct reader *r, uint64_t timeout_ns, bool no_fetch)
{
	*r = (struct reader){.timeout_ns = timeout_ns, .no_fetch = no_fetch};
	r->decoder = decoder_new();
	list_init(&r->chunks);
}

static void chunk_free(struct chunk *c)
{
	list_del(&c->link);
	free(c->buf);
	free(c);
}

void reader_done(struct reader *r)
{
	list_for_each_safe (n, &r->chunks)
		chunk_free(list_entry(n, struct chunk, link));
	decoder_free(r->decoder);
	free(r->looked);
}

static void remember(struct reader *r, struct blob *b, struct range range)
{
	struct reader_want *w;

	for (size_t i = 0; i < r->looked_count; i++) {
		uint64_t off, end;

		w = &r->looked[i];
		if (w->blob != b || range.off > range_end(w->range) + LOOKED_GAP_BYTES ||
		    w->range.off > range_end(range) + LOOKED_GAP_BYTES)
			continue;
		off = min_u64(w->range.off, range.off);
		end = max_u64(range_end(w->range), range_end(range));
		w->range = range_of(off, end - off);
		return;
	}
	if (r->looked_count == r->looked_cap) {
		r->looked_cap = r->looked_cap ? 2 * r->looked_cap : 64;
		r->looked = realloc(r->looked, r->looked_cap * sizeof(*r->looked));
		if (!r->looked)
			abort();
	}
	r->looked[r->looked_count++] = (struct reader_want){b, range};
}

static void fetch_done(struct fetch *f)
{
	struct chunk *c = container_of(f, struct chunk, fetch);
	struct round *round = c->round;

	pthread_mutex_lock(&round->lock);
	if (--round->left == 0)
		pthread_cond_signal(&round->ended);
	pthread_mutex_unlock(&round->lock);
}

static struct chunk *chunk_at(const struct reader *r, const struct blob *b, uint64_t off)
{
	list_for_each (n, &r->chunks) {
		struct chunk *c = list_entry(n, struct chunk, link);

		if (c->blob == b && range_overlaps(c->range, range_of(off, 1)))
			return c;
	}
	return NULL;
}

/* First part of @range that is neither cached nor in memory; length 0 when there is none. */
static struct range first_absent(const struct reader *r, const struct blob *b, struct range range)
{
	while (range.len) {
		struct range miss = cache_missing(b->cache, range);
		struct chunk *c;
		uint64_t end;

		if (!miss.len)
			return miss;
		c = chunk_at(r, b, miss.off);
		if (!c) {
			/* Whole units; a chunk further on only means some bytes twice. */
			miss.len = min_u64(miss.len, FETCH_MAX_BYTES);
			return miss;
		}
		end = range_end(c->range);
		if (end >= range_end(range))
			break;
		range = range_of(end, range_end(range) - end);
	}
	return range_of(range.off, 0);
}

static void add_chunks(struct reader *r, const struct reader_want *w, struct round *round)
{
	struct range rest = w->range;

	while (rest.len) {
		struct range miss = first_absent(r, w->blob, rest);
		struct chunk *c;
		uint64_t end;

		if (!miss.len)
			return;
		c = xmalloc_zero(1, sizeof(*c));
		c->blob = w->blob;
		c->range = miss;
		c->buf = xmalloc_zero(1, miss.len);
		c->round = round;
		c->fetch.range = miss;
		c->fetch.buf = c->buf;
		c->fetch.prio = PRIO_DEMAND;
		c->fetch.timeout_ns = r->timeout_ns;
		c->fetch.done = fetch_done;
		list_add_tail(&r->chunks, &c->link);
		round->left++;
		end = range_end(miss);
		if (end >= range_end(rest))
			return;
		rest = range_of(end, range_end(rest) - end);
	}
}

/* What is of less importance may start now, and takes the connections that are left. */
static void tell_begun(struct reader *r)
{
	void (*begun)(void *arg) = r->begun;

	r->begun = NULL;
	if (begun)
		begun(r->begun_arg);
}

int reader_fetch(struct reader *r, const struct reader_want *wants, size_t count, struct err *e)
{
	struct round round = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
	struct list *before = r->chunks.prev;
	unsigned int exchanges = 0;
	int rc = 0;

	for (size_t i = 0; i < count; i++) {
		if (!blob_is_local(wants[i].blob) && wants[i].range.len)
			add_chunks(r, &wants[i], &round);
	}
	if (before == r->chunks.prev) {
		tell_begun(r);
		return 0;
	}
	if (r->no_fetch) {
		struct chunk *c = list_entry(before->next, struct chunk, link);

		rc = err_set(e, -ENOENT,
			     "blob %s is not complete in the cache, and nothing may be fetched",
			     c->blob->name);
		while (before->next != &r->chunks)
			chunk_free(list_entry(before->next, struct chunk, link));
		return rc;
	}
	/* Started only now that the list is complete: a fetch may end before the next one starts.
	 */
	for (struct list *n = before->next; n != &r->chunks; n = n->next) {
		struct chunk *c = list_entry(n, struct chunk, link);

		source_start(c->blob->source, &c->fetch);
	}
	tell_begun(r);
	pthread_mutex_lock(&round.lock);
	while (round.left)
		pthread_cond_wait(&round.ended, &round.lock);
	pthread_mutex_unlock(&round.lock);

	for (struct list *n = before->next, *next; n != &r->chunks; n = next) {
		struct chunk *c = list_entry(n, struct chunk, link);

		next = n->next;
		r->cost.fetches++;
		if (c->fetch.exchanges > exchanges)
			exchanges = c->fetch.exchanges;
		if (c->fetch.res) {
			if (!rc)
				rc = err_set(e, c->fetch.res, "cannot fetch %s: %s", c->blob->name,
					     c->fetch.why);
			chunk_free(c);
			continue;
		}
		r->cost.bytes += c->range.len;
		/* The cache reports its own trouble; the bytes are in memory either way. */
		(void)cache_store_now(c->blob->cache, c->range, c->buf);
	}
	r->cost.exchanges += exchanges;
	r->cost.rounds++;
	pthread_mutex_destroy(&round.lock);
	pthread_cond_destroy(&round.ended);
	return rc;
}

static int read_file(struct blob *b, struct range range, char *buf, struct err *e)
{
	while (range.len) {
		ssize_t n = pread(b->fd, buf, range.len, (off_t)(b->fd_off + range.off));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, n ? -errno : -EBADMSG,
				       "cannot read %s at offset %llu: %s", b->name,
				       (unsigned long long)range.off,
				       n ? strerror(errno) : "the file ends there");
		buf += n;
		range.off += (uint64_t)n;
		range.len -= (uint64_t)n;
	}
	return 0;
}

int reader_stored(struct reader *r, struct blob *b, struct range range, void *buf, struct err *e)
{
	struct reader_want want = {b, range};
	char *out = buf;
	int rc;

	if (blob_is_local(b))
		return read_file(b, range, buf, e);
	remember(r, b, range);
	rc = reader_fetch(r, &want, 1, e);
	while (!rc && range.len) {
		struct chunk *c = chunk_at(r, b, range.off);
		struct range part = range;

		if (c) {
			part = range_clip(range, c->range);
			memcpy(out, (char *)c->buf + (part.off - c->range.off), part.len);
		} else {
			struct range miss = cache_missing(b->cache, range);

			if (miss.len && miss.off > range.off)
				part.len = miss.off - range.off;
			else if (miss.len)
				return err_set(e, -EIO, "blob %s was evicted while it was opened",
					       b->name);
			r->from_cache = true;
			rc = read_file(b, part, out, e);
		}
		out += part.len;
		range.off += part.len;
		range.len -= part.len;
	}
	return rc;
}

static int read_planned(struct reader *r, struct stream *s, const struct stream_plan *plan,
			struct range want, void *buf, struct err *e)
{
	_cleanup_free_ void *stored = malloc(plan->stored.len);
	_cleanup_free_ char *span = NULL;
	struct range bad = plan->stored;
	int rc;

	if (!stored)
		abort();
	rc = reader_stored(r, s->blob, plan->stored, stored, e);
	if (rc)
		return rc;
	if (s->kind == STREAM_ZFILE) {
		rc = stream_decode_blocks(s, plan, r->decoder, stored, want, buf, &bad);
	} else {
		span = malloc(plan->plain.len);
		if (!span)
			abort();
		rc = stream_decode_span(s, plan, r->decoder, stored, span);
		if (!rc)
			memcpy(buf, span + (want.off - plan->plain.off), want.len);
	}
	if (rc)
		return err_set(e, rc, "blob %s is corrupt at offset %llu", s->blob->name,
			       (unsigned long long)bad.off);
	return 0;
}

int reader_plain(struct reader *r, struct stream *s, struct range range, void *buf, struct err *e)
{
	char *out = buf;

	if (!range_inside(range, s->bytes))
		return err_set(e, -EBADMSG, "blob %s ends before offset %llu", s->blob->name,
			       (unsigned long long)(range.off + range.len));
	while (range.len) {
		struct stream_plan plan;
		uint64_t n = stream_plan(s, range, &plan);
		int rc;

		if (s->kind == STREAM_RAW)
			rc = reader_stored(r, s->blob, plan.stored, out, e);
		else
			rc = read_planned(r, s, &plan, range_of(range.off, n), out, e);
		if (rc)
			return rc;
		out += n;
		range.off += n;
		range.len -= n;
	}
	return 0;
}

void reader_forget(struct reader *r, const struct reader_want *wants, size_t count)
{
	for (size_t i = 0; i < r->looked_count; i++)
		cache_drop(r->looked[i].blob->cache, r->looked[i].range);
	for (size_t i = 0; i < count; i++) {
		if (!blob_is_local(wants[i].blob))
			cache_drop(wants[i].blob->cache, wants[i].range);
	}
	r->looked_count = 0;
	r->from_cache = false;
	list_for_each_safe (n, &r->chunks)
		chunk_free(list_entry(n, struct chunk, link));
}
