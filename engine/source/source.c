/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - see source.h */
#include "source.h"

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>

struct source *source_ref(struct source *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void source_unref(struct source *s)
{
	uint32_t before;

	if (!s)
		return;
	before = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);
	assert(before > 0);
	if (before == 1)
		s->ops->free(s);
}
