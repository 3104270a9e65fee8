/* SPDX-License-Identifier: Apache-2.0 */
/* span.c - see span.h */
#include "span.h"

#include <assert.h>
#include <stdlib.h>

#include "bufpool.h"
#include "loop.h"
#include "path.h"
#include "text.h"

struct span *span_find(struct path *p, const struct stream *s, uint64_t number)
{
	list_for_each (n, &p->spans) {
		struct span *sp = list_entry(n, struct span, link);

		if (sp->stream == s && sp->number == number) {
			list_del(&sp->link);
			list_add(&p->spans, &sp->link);
			return sp;
		}
	}
	return NULL;
}

struct span *span_new(struct path *p, const struct stream *s, uint64_t number, uint64_t bytes)
{
	struct span *sp = xmalloc_zero(1, sizeof(*sp));

	sp->stream = s;
	sp->number = number;
	sp->bytes = bytes;
	sp->users = 1;
	list_init(&sp->waiters);
	list_add(&p->spans, &sp->link);
	return sp;
}

static void release(struct path *p, struct span *sp)
{
	list_del(&sp->link);
	if (sp->ready)
		p->span_bytes -= sp->bytes;
	bufpool_put(p->stage_bufs, sp->buf, sp->bytes);
	free(sp);
}

void span_wait(struct span *sp, struct span_waiter *w)
{
	if (list_empty(&w->link))
		list_add_tail(&sp->waiters, &w->link);
}

void span_forget(struct span_waiter *w)
{
	list_del(&w->link);
}

void span_settle(struct path *p, struct span *sp, bool ok)
{
	struct list *n;

	assert(!sp->ready);
	while ((n = list_pop(&sp->waiters)))
		task_wake(list_entry(n, struct span_waiter, link)->task);
	if (!ok) {
		assert(sp->users == 1);
		release(p, sp);
		return;
	}
	sp->ready = true;
	p->span_bytes += sp->bytes;
}

void span_hold(struct span *sp)
{
	assert(sp->ready);
	sp->users++;
}

void span_drop(struct path *p, struct span *sp)
{
	assert(sp->users && sp->ready);
	sp->users--;
	span_trim(p, p->opt.memory_bytes / 8);
}

void span_trim(struct path *p, uint64_t keep_bytes)
{
	struct list *n = p->spans.prev;

	while (p->span_bytes > keep_bytes && n != &p->spans) {
		struct span *sp = list_entry(n, struct span, link);

		n = n->prev;
		if (sp->ready && !sp->users)
			release(p, sp);
	}
}

void span_purge(struct path *p, const struct stream *s)
{
	list_for_each_safe (n, &p->spans) {
		struct span *sp = list_entry(n, struct span, link);

		if (sp->stream == s) {
			assert(sp->ready && !sp->users);
			release(p, sp);
		}
	}
}
