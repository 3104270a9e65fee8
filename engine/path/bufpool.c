/* SPDX-License-Identifier: Apache-2.0 */
/* bufpool.c - see bufpool.h; free buffers are chained through their first bytes */
#include "bufpool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "range.h"
#include "text.h"

#define CLASS_COUNT 13 /* 4 KiB << 12 == 16 MiB */

struct free_buf {
	struct free_buf *next;
};

struct bufpool {
	uint64_t budget_bytes;
	uint64_t used_bytes; /* handed out */
	uint64_t kept_bytes; /* in the free chains */
	struct free_buf *chain[CLASS_COUNT];
	struct list waiters;
};

static unsigned int class_of(size_t bytes)
{
	unsigned int c = 0;

	assert(bytes <= BUFPOOL_MAX_BYTES);
	while (((size_t)BUFPOOL_MIN_BYTES << c) < bytes)
		c++;
	return c;
}

struct bufpool *bufpool_new(uint64_t budget_bytes)
{
	struct bufpool *p = xmalloc_zero(1, sizeof(*p));

	p->budget_bytes = max_u64(budget_bytes, 2ull * BUFPOOL_MAX_BYTES);
	list_init(&p->waiters);
	return p;
}

static void drop_chains(struct bufpool *p)
{
	for (unsigned int c = 0; c < CLASS_COUNT; c++) {
		while (p->chain[c]) {
			struct free_buf *b = p->chain[c];

			p->chain[c] = b->next;
			free(b);
		}
	}
	p->kept_bytes = 0;
}

void bufpool_free(struct bufpool *p)
{
	if (!p)
		return;
	assert(p->used_bytes == 0);
	assert(list_empty(&p->waiters));
	drop_chains(p);
	free(p);
}

/* Whether @w may take now, and @bytes more fit. Nothing out means that anything fits. */
static bool may_take(const struct bufpool *p, uint64_t bytes, const struct bufpool_waiter *w)
{
	if (!list_empty(&p->waiters) && p->waiters.next != &w->link)
		return false;
	return !p->used_bytes || p->used_bytes + bytes <= p->budget_bytes;
}

static uint64_t class_bytes(size_t bytes)
{
	return (uint64_t)BUFPOOL_MIN_BYTES << class_of(bytes);
}

static void *take(struct bufpool *p, size_t bytes)
{
	unsigned int c = class_of(bytes);
	size_t size = (size_t)BUFPOOL_MIN_BYTES << c;
	struct free_buf *b = p->chain[c];

	if (b) {
		p->chain[c] = b->next;
		p->kept_bytes -= size;
	} else {
		/* Free buffers of other classes count too: give them back before growing. */
		if (p->used_bytes + p->kept_bytes + size > p->budget_bytes)
			drop_chains(p);
		b = aligned_alloc(BUFPOOL_MIN_BYTES, size);
		if (!b)
			return NULL;
	}
	p->used_bytes += size;
	return b;
}

void *bufpool_get(struct bufpool *p, size_t bytes, struct bufpool_waiter *w)
{
	void *buf = may_take(p, class_bytes(bytes), w) ? take(p, bytes) : NULL;

	if (buf)
		bufpool_forget(w);
	return buf;
}

bool bufpool_get_pair(struct bufpool *p, size_t a_bytes, void **ret_a, size_t b_bytes, void **ret_b,
		      struct bufpool_waiter *w)
{
	void *a, *b;

	if (!may_take(p, class_bytes(a_bytes) + class_bytes(b_bytes), w))
		return false;
	a = take(p, a_bytes);
	b = a ? take(p, b_bytes) : NULL;
	if (!b) {
		bufpool_put(p, a, a_bytes);
		return false;
	}
	bufpool_forget(w);
	*ret_a = a;
	*ret_b = b;
	return true;
}

void bufpool_put(struct bufpool *p, void *buf, size_t bytes)
{
	unsigned int c = class_of(bytes);
	struct free_buf *b = buf;

	if (!buf)
		return;
	b->next = p->chain[c];
	p->chain[c] = b;
	p->used_bytes -= (size_t)BUFPOOL_MIN_BYTES << c;
	p->kept_bytes += (size_t)BUFPOOL_MIN_BYTES << c;
	bufpool_wake_all(p);
}

void bufpool_wake_all(struct bufpool *p)
{
	/* Everyone looks, in order; who is first in line gets the buffer. */
	list_for_each (n, &p->waiters)
		task_wake(list_entry(n, struct bufpool_waiter, link)->task);
}

void bufpool_wait(struct bufpool *p, struct bufpool_waiter *w)
{
	if (list_empty(&w->link))
		list_add_tail(&p->waiters, &w->link);
}

void bufpool_forget(struct bufpool_waiter *w)
{
	list_del(&w->link);
}

uint64_t bufpool_used_bytes(const struct bufpool *p)
{
	return p->used_bytes;
}
