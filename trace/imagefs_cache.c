/* SPDX-License-Identifier: Apache-2.0 */
/* imagefs_cache.c - see imagefs_cache.h */
#include "imagefs_cache.h"

#include "err.h"
#include "list.h"
#include "range.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES (64u << 10)
#define LINES	   128u
#define BUCKETS	   256u

struct line {
	struct list lru;    /* of the cache, last used first */
	struct list bucket; /* by number */
	uint64_t number;
	uint8_t data[LINE_BYTES];
};

struct imagefs_cache {
	struct imagefs_device d;
	struct list lru;
	struct list bucket[BUCKETS];
	unsigned int lines;
	struct err failed;
};

struct imagefs_cache *imagefs_cache_new(const struct imagefs_device *d)
{
	struct imagefs_cache *c = xmalloc_zero(1, sizeof(*c));

	c->d = *d;
	list_init(&c->lru);
	for (size_t n = 0; n < BUCKETS; n++)
		list_init(&c->bucket[n]);
	return c;
}

void imagefs_cache_free(struct imagefs_cache *c)
{
	if (!c)
		return;
	list_for_each_safe (pos, &c->lru)
		free(list_entry(pos, struct line, lru));
	free(c);
}

uint64_t imagefs_cache_bytes(const struct imagefs_cache *c)
{
	return c->d.bytes;
}

const struct err *imagefs_cache_failed(const struct imagefs_cache *c)
{
	return &c->failed;
}

static int fetch(struct imagefs_cache *c, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	struct err why = {0};
	int rc = c->d.read(c->d.arg, buf, bytes, off, &why);

	if (rc >= 0)
		return 0;
	if (!why.msg[0])
		(void)err_set(&why, rc, "reading %zu bytes at %llu of the device failed", bytes,
			      (unsigned long long)off);
	c->failed = why;
	c->failed.code = rc;
	return err_set(e, rc, "%s", why.msg);
}

static int find(struct imagefs_cache *c, uint64_t number, struct line **ret, struct err *e)
{
	struct list *bucket = &c->bucket[number % BUCKETS];
	struct line *l;
	int rc;

	list_for_each (pos, bucket) {
		l = list_entry(pos, struct line, bucket);
		if (l->number != number)
			continue;
		list_del(&l->lru);
		list_add(&c->lru, &l->lru);
		*ret = l;
		return 0;
	}
	if (c->lines < LINES) {
		l = xmalloc_zero(1, sizeof(*l));
		list_init(&l->lru);
		list_init(&l->bucket);
		c->lines++;
	} else {
		l = list_entry(c->lru.prev, struct line, lru);
		list_del(&l->lru);
		list_del(&l->bucket);
	}
	rc = fetch(c, l->data, (size_t)min_u64(LINE_BYTES, c->d.bytes - number * LINE_BYTES),
		   number * LINE_BYTES, e);
	if (rc < 0) {
		free(l);
		c->lines--;
		return rc;
	}
	l->number = number;
	list_add(&c->lru, &l->lru);
	list_add(bucket, &l->bucket);
	*ret = l;
	return 0;
}

int imagefs_cache_read(struct imagefs_cache *c, void *buf, size_t bytes, uint64_t off,
		       struct err *e)
{
	uint8_t *out = buf;

	c->failed.code = 0;
	if (!range_inside(range_of(off, bytes), c->d.bytes))
		return err_set(e, -EBADMSG, "%zu bytes at %llu lie outside of the device of %llu",
			       bytes, (unsigned long long)off, (unsigned long long)c->d.bytes);
	if (bytes >= LINE_BYTES)
		return fetch(c, buf, bytes, off, e);
	while (bytes) {
		size_t at = off % LINE_BYTES;
		size_t n = bytes < LINE_BYTES - at ? bytes : LINE_BYTES - at;
		struct line *l;
		int rc = find(c, off / LINE_BYTES, &l, e);

		if (rc < 0)
			return rc;
		memcpy(out, l->data + at, n);
		out += n;
		off += n;
		bytes -= n;
	}
	return 0;
}
