/* SPDX-License-Identifier: Apache-2.0 */
/* timeline.c - see timeline.h */
#include "timeline.h"

#include <stdlib.h>

#include "text.h"

struct timeline *timeline_new(size_t room)
{
	struct timeline *t = xmalloc_zero(1, sizeof(*t) + room * sizeof(struct timeline_entry));

	t->room = room;
	return t;
}

void timeline_free(struct timeline *t)
{
	free(t);
}

void timeline_add(struct timeline *t, enum timeline_kind kind, uint64_t start_ns, uint64_t end_ns,
		  uint64_t off, uint64_t bytes)
{
	if (!t)
		return;
	if (t->count == t->room) {
		t->dropped++;
		return;
	}
	t->entry[t->count++] = (struct timeline_entry){start_ns, end_ns, off, bytes, kind};
}
