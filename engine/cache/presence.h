/* SPDX-License-Identifier: Apache-2.0 */
/*
 * presence.h - which units of a blob are here, and the order of writes that keeps that true
 *
 * One struct presence is one blob's LIVE bitmap (shared with other processes) and the place of its
 * SYNCED bitmap on disk. All I/O goes through a ring, so that the simulated one can cut the power
 * between any two steps. The rule: a bit is never set for bytes that are not there.
 *
 *   write  write all bytes, then set LIVE
 *   sync   lock; snapshot LIVE; unlock; fdatasync data; lock; when no drop came between: SYNCED on
 *          disk |= snapshot, fdatasync map; unlock
 *   drop   lock; count it in @drops; SYNCED on disk &= ~range, fdatasync map; LIVE &= ~range;
 * unlock
 *
 * An fdatasync of the data that fails means that bytes behind LIVE bits may be lost, and a second
 * one would succeed without saving them. So it sets @unsafe for good: nothing is synced or written
 * any more, and LIVE falls back to SYNCED.
 *
 * The lock excludes jobs of this struct by @holder, and other processes by @lock_file.
 */
#ifndef HS_CACHE_PRESENCE_H
#define HS_CACHE_PRESENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "range.h"

#define CACHE_UNIT_BYTES 512u

struct presence {
	/* set once */
	uint64_t bytes;	     /* size of the blob */
	uint64_t synced_off; /* of SYNCED in the map file */
	int data_fd, map_fd;
	void (*lock_file)(struct presence *p,
			  bool lock); /* excludes other processes; may be NULL */

	/* any thread and process */
	_Atomic uint64_t *live; /* presence_words() words */
	_Atomic uint64_t *drops;
	_Atomic uint32_t *unsafe; /* see above */

	/* thread of the jobs */
	struct presence_job *holder;
	struct list waiters; /* struct presence_job */
};

/* presence_words - 64-bit words of one bitmap; whole pages, so that both bitmaps are page-aligned
 */
size_t presence_words(uint64_t blob_bytes);

/* presence_has - whether every byte of @r is here; false outside the blob. Any thread. */
bool presence_has(const struct presence *p, struct range r);

/* presence_missing - first run of absent units in @r, whole units, clipped to the blob. Any thread.
 */
struct range presence_missing(const struct presence *p, struct range r);

/* presence_count - bytes that are here. Any thread. */
uint64_t presence_count(const struct presence *p);

/*
 * presence_set - @r, whole units or up to the blob's end, has been written completely
 * Who sees the bit sees the bytes. Any thread. Returns 0, -EIO the blob has become unsafe.
 */
int presence_set(struct presence *p, struct range r);

/* One write of whole units; embed it, belongs to the machine while @busy. */
struct presence_write {
	/* caller sets */
	struct presence *p;
	struct range range; /* starts on a unit; ends on one or at the blob's end */
	const void *buf;
	void (*done)(struct presence_write *w); /* @res is set; may free or reuse @w */
	bool discard; /* may be set while busy: the bytes proved wrong, mark nothing */
	/* machine sets */
	int res; /* 0, -ENOSPC, -EIO */
	bool busy;
	uint64_t done_bytes;
	struct op op;
	struct task task;
};

/* presence_write_start - loop thread @l; @done is called later, from a step */
void presence_write_start(struct loop *l, struct presence_write *w);

enum presence_kind { PRESENCE_SYNC, PRESENCE_DROP };

/* A sync or a drop; embed it. All jobs of one struct presence run on one loop. */
struct presence_job {
	/* caller sets */
	struct presence *p;
	enum presence_kind kind;
	struct range range; /* PRESENCE_DROP: widened to whole units */
	struct task *owner; /* woken at the end */
	uint64_t *snapshot; /* PRESENCE_SYNC: presence_words() words */
	uint64_t *synced;   /* presence_words() words */
	/* machine sets */
	int res; /* 0, -EIO, -ENOSPC, -EAGAIN drops kept coming */
	bool busy;
	int state;
	unsigned int restarts;
	uint64_t seen_drops;
	struct range io; /* part of SYNCED that is read or written, byte offsets in the bitmap */
	uint64_t io_done;
	struct list wait; /* in waiters */
	struct op op;
	struct task task;
};

void presence_job_start(struct loop *l, struct presence_job *j);

#endif
