/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h - where the bytes of one remote blob come from
 *
 * A source answers ranged fetches of one immutable blob. Sources are shared by reference count
 * and may be used from any thread. A fetch belongs to the source from source_start() until its
 * @done has been called - exactly once, on a thread of the source's choosing, also after a cancel.
 * The buffer is written only in between.
 */
#ifndef HS_SOURCE_SOURCE_H
#define HS_SOURCE_SOURCE_H

#include <stdint.h>

#include "list.h"
#include "range.h"

/* Why bytes are wanted. Demand overtakes prefetch at every queue. */
enum prio { PRIO_PREFETCH, PRIO_DEMAND };

#define FETCH_WHY_BYTES 256

struct source;

struct fetch {
	/* the caller sets, before source_start() */
	struct range range; /* inside the blob, length > 0 */
	void *buf;	    /* range.len bytes */
	enum prio prio;
	uint64_t timeout_ns;	       /* all tries together; 0 = the source's default */
	void (*done)(struct fetch *f); /* must not block */

	/* the source sets, before calling @done */
	int res; /* 0: buf is full; -EIO, -ETIMEDOUT, -EACCES, -ENOENT, -EPROTO,
		    -ECANCELED otherwise */
	unsigned int
	    exchanges; /* dependent HTTP exchanges this fetch took: redirect, token, retry */
	char
	    why[FETCH_WHY_BYTES]; /* for people, when res < 0: host, status; no secrets, no query */

	/* the source's own, while in flight */
	struct source *source;
	void *priv;
	struct list link;
};

struct source_ops {
	void (*start)(struct source *s, struct fetch *f);
	void (*raise)(struct source *s, struct fetch *f);  /* to PRIO_DEMAND; f is in flight */
	void (*cancel)(struct source *s, struct fetch *f); /* f may complete meanwhile: harmless */
	void (*free)(struct source *s);
};

struct source {
	const struct source_ops *ops;
	uint64_t bytes;	  /* size of the blob */
	const char *name; /* for messages: "host/repo@sha256:..." */
	_Atomic uint32_t refs;
};

static inline void source_start(struct source *s, struct fetch *f)
{
	s->ops->start(s, f);
}

static inline void source_raise(struct source *s, struct fetch *f)
{
	s->ops->raise(s, f);
}

static inline void source_cancel(struct source *s, struct fetch *f)
{
	s->ops->cancel(s, f);
}

struct source *source_ref(struct source *s);
void source_unref(struct source *s); /* NULL is fine; no fetch may be in flight at the last one */

#endif
