/* SPDX-License-Identifier: Apache-2.0 */
/* presence.c - see presence.h */
#include "presence.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define WORD_BITS    64u
#define BITMAP_ALIGN 4096u
#define MAX_RESTARTS 8u

size_t presence_words(uint64_t blob_bytes)
{
	uint64_t units = round_up(blob_bytes, CACHE_UNIT_BYTES) / CACHE_UNIT_BYTES;
	uint64_t bytes = round_up(units ? units : 1, WORD_BITS) / 8;

	return (size_t)(round_up(bytes, BITMAP_ALIGN) / sizeof(uint64_t));
}

static uint64_t unit_count(const struct presence *p)
{
	return round_up(p->bytes, CACHE_UNIT_BYTES) / CACHE_UNIT_BYTES;
}

/* The units that @r touches, as [off, off + len) of unit numbers. */
static struct range units_of(struct range r)
{
	uint64_t first = r.off / CACHE_UNIT_BYTES;

	if (!r.len)
		return range_of(first, 0);
	return range_of(first, (range_end(r) - 1) / CACHE_UNIT_BYTES + 1 - first);
}

/* Bits of word @w that lie in @units. */
static uint64_t word_mask(struct range units, uint64_t w)
{
	struct range in = range_clip(units, range_of(w * WORD_BITS, WORD_BITS));

	if (!in.len)
		return 0;
	return (in.len == WORD_BITS ? ~0ull : (1ull << in.len) - 1) << (in.off % WORD_BITS);
}

static uint64_t word_get(const struct presence *p, uint64_t w)
{
	return atomic_load_explicit(&p->live[w], memory_order_acquire);
}

bool presence_has(const struct presence *p, struct range r)
{
	struct range u;

	if (!range_inside(r, p->bytes))
		return false;
	u = units_of(r);
	if (!u.len)
		return true;
	for (uint64_t w = u.off / WORD_BITS; w * WORD_BITS < range_end(u); w++)
		if (~word_get(p, w) & word_mask(u, w))
			return false;
	return true;
}

/* First unit in @u whose bit is @set; the end of @u when there is none. */
static uint64_t find_unit(const struct presence *p, struct range u, bool set)
{
	if (!u.len)
		return range_end(u);
	for (uint64_t w = u.off / WORD_BITS; w * WORD_BITS < range_end(u); w++) {
		uint64_t bits = word_get(p, w);

		bits = (set ? bits : ~bits) & word_mask(u, w);
		if (bits)
			return w * WORD_BITS + (uint64_t)__builtin_ctzll(bits);
	}
	return range_end(u);
}

struct range presence_missing(const struct presence *p, struct range r)
{
	struct range u = units_of(range_clip(r, range_of(0, p->bytes)));
	uint64_t first = find_unit(p, u, false);
	uint64_t end = find_unit(p, range_of(first, range_end(u) - first), true);

	if (first == end)
		return range_of(r.off, 0);
	return range_clip(range_of(first * CACHE_UNIT_BYTES, (end - first) * CACHE_UNIT_BYTES),
			  range_of(0, p->bytes));
}

uint64_t presence_count(const struct presence *p)
{
	uint64_t units = unit_count(p), n = 0;
	struct range last;

	if (!units)
		return 0;
	for (uint64_t w = 0; w * WORD_BITS < units; w++)
		n += (uint64_t)__builtin_popcountll(word_get(p, w) &
						    word_mask(range_of(0, units), w));
	last = range_of((units - 1) * CACHE_UNIT_BYTES, 0);
	last.len = p->bytes - last.off;
	return n * CACHE_UNIT_BYTES - (presence_has(p, last) ? CACHE_UNIT_BYTES - last.len : 0);
}

static bool is_unsafe(struct presence *p)
{
	return atomic_load(p->unsafe) != 0;
}

static void clear_live(struct presence *p, struct range r)
{
	struct range u = units_of(r);

	for (uint64_t w = u.off / WORD_BITS; w * WORD_BITS < range_end(u); w++)
		atomic_fetch_and(&p->live[w], ~word_mask(u, w));
}

int presence_set(struct presence *p, struct range r)
{
	struct range u = units_of(r);

	assert(range_inside(r, p->bytes) && r.off % CACHE_UNIT_BYTES == 0);
	assert(range_end(r) % CACHE_UNIT_BYTES == 0 || range_end(r) == p->bytes);
	for (uint64_t w = u.off / WORD_BITS; w * WORD_BITS < range_end(u); w++)
		atomic_fetch_or(&p->live[w], word_mask(u, w));
	/*
	 * Who declares the blob unsafe sets @unsafe and then reduces LIVE. Whichever of the two is
	 * second sees the first one's change.
	 */
	if (!is_unsafe(p))
		return 0;
	clear_live(p, r);
	return -EIO;
}

/* Worth trying again at once, as it was. */
static bool passing(int res)
{
	return res == -EINTR || res == -EAGAIN;
}

/* ---- write ---- */

static void write_more(struct presence_write *w)
{
	ring_write(loop_ring(w->task.loop), &w->op, w->p->data_fd,
		   (const char *)w->buf + w->done_bytes, (size_t)(w->range.len - w->done_bytes),
		   w->range.off + w->done_bytes);
}

static void write_end(struct presence_write *w, int res)
{
	w->res = res;
	w->busy = false;
	task_done(&w->task);
	w->done(w);
}

static void write_step(struct task *t)
{
	struct presence_write *w = container_of(t, struct presence_write, task);

	if (w->op.busy)
		return;
	if (w->op.res < 0 && !passing(w->op.res)) {
		bool full = w->op.res == -ENOSPC || w->op.res == -EDQUOT || w->op.res == -EFBIG;

		write_end(w, full ? -ENOSPC : -EIO);
		return;
	}
	if (w->op.res == 0 && w->done_bytes < w->range.len) {
		write_end(w, -EIO); /* a regular file that takes nothing and says nothing */
		return;
	}
	if (w->op.res > 0)
		w->done_bytes += (uint64_t)w->op.res;
	if (w->done_bytes < w->range.len) {
		write_more(w);
		return;
	}
	write_end(w, w->discard ? -EIO : presence_set(w->p, w->range));
}

void presence_write_start(struct loop *l, struct presence_write *w)
{
	assert(!w->busy && w->range.len && range_inside(w->range, w->p->bytes));
	task_init(&w->task, l, write_step);
	w->op = (struct op){.task = &w->task};
	w->done_bytes = 0;
	w->busy = true;
	write_more(w);
}

/* ---- sync and drop ---- */

enum job_state {
	JOB_SNAPSHOT,  /* wants the lock for the snapshot */
	JOB_SYNC_DATA, /* fdatasync of the data in flight */
	JOB_UPDATE,    /* wants the lock for the bitmap */
	JOB_READ,      /* reading SYNCED; from here on the lock is held */
	JOB_WRITE,     /* writing SYNCED */
	JOB_SYNC_MAP,  /* fdatasync of the map in flight */
	JOB_TAKE_BACK, /* the data's fdatasync failed: wants the lock to reduce LIVE */
	JOB_TAKE_READ, /* reading SYNCED for that */
};

/* Whether the lock is held now; otherwise the job is woken when it may have it. */
static bool lock(struct presence_job *j)
{
	struct presence *p = j->p;

	if (p->holder == j)
		return true;
	if (p->holder) {
		if (list_empty(&j->wait))
			list_add_tail(&p->waiters, &j->wait);
		return false;
	}
	p->holder = j;
	if (p->lock_file)
		p->lock_file(p, true);
	return true;
}

static void unlock(struct presence_job *j)
{
	struct presence *p = j->p;
	struct list *next;

	if (p->holder != j)
		return;
	if (p->lock_file)
		p->lock_file(p, false);
	p->holder = NULL;
	next = list_pop(&p->waiters);
	if (next)
		task_wake(&list_entry(next, struct presence_job, wait)->task);
}

static void job_end(struct presence_job *j, int res)
{
	unlock(j);
	j->res = res;
	j->busy = false;
	task_done(&j->task);
	task_wake(j->owner);
}

static struct ring *job_ring(struct presence_job *j)
{
	return loop_ring(j->task.loop);
}

static void read_more(struct presence_job *j)
{
	ring_read(job_ring(j), &j->op, j->p->map_fd, (char *)j->synced + j->io.off + j->io_done,
		  (size_t)(j->io.len - j->io_done), j->p->synced_off + j->io.off + j->io_done);
}

static void map_write_more(struct presence_job *j)
{
	ring_write(job_ring(j), &j->op, j->p->map_fd, (char *)j->synced + j->io.off + j->io_done,
		   (size_t)(j->io.len - j->io_done), j->p->synced_off + j->io.off + j->io_done);
}

/* Starts reading SYNCED: all of it, or for a drop the words it needs. */
static void read_start(struct presence_job *j, int state)
{
	struct range words = range_of(0, presence_words(j->p->bytes));

	if (j->kind == PRESENCE_DROP) {
		struct range u = units_of(j->range);

		words.off = u.off / WORD_BITS;
		words.len = (range_end(u) - 1) / WORD_BITS + 1 - words.off;
	}
	j->io = range_of(words.off * sizeof(uint64_t), words.len * sizeof(uint64_t));
	j->io_done = 0;
	j->state = state;
	read_more(j);
}

/*
 * Changes what was read into what SYNCED shall be, and narrows @io to the words that change.
 * Returns whether any do.
 */
static bool update_synced(struct presence_job *j)
{
	uint64_t first = j->io.off / sizeof(uint64_t);
	uint64_t end = range_end(j->io) / sizeof(uint64_t);
	uint64_t lo = end, hi = first;

	for (uint64_t w = first; w < end; w++) {
		uint64_t want = j->kind == PRESENCE_SYNC
				    ? j->synced[w] | j->snapshot[w]
				    : j->synced[w] & ~word_mask(units_of(j->range), w);

		if (want == j->synced[w])
			continue;
		j->synced[w] = want;
		lo = min_u64(lo, w);
		hi = w + 1;
	}
	if (lo == end)
		return false;
	j->io = range_of(lo * sizeof(uint64_t), (hi - lo) * sizeof(uint64_t));
	j->io_done = 0;
	return true;
}

/* The last step of both kinds; a drop takes LIVE back whatever became of the disk. */
static void job_finish(struct presence_job *j, int res)
{
	if (j->kind == PRESENCE_DROP)
		clear_live(j->p, j->range);
	job_end(j, res);
}

/*
 * SYNCED could not be written or made durable: what a read of it says and what is on disk may now
 * differ for good, so that a later drop could believe that its bits are gone already.
 */
static void map_failed(struct presence_job *j, int res)
{
	atomic_store(j->p->unsafe, 1);
	job_finish(j, res);
}

static void step_snapshot(struct presence_job *j)
{
	struct presence *p = j->p;

	if (!lock(j))
		return;
	if (is_unsafe(p)) {
		job_end(j, -EIO);
		return;
	}
	j->seen_drops = atomic_load_explicit(p->drops, memory_order_acquire);
	for (size_t w = 0; w < presence_words(p->bytes); w++)
		j->snapshot[w] = word_get(p, w);
	unlock(j);
	j->state = JOB_SYNC_DATA;
	ring_fdatasync(job_ring(j), &j->op, p->data_fd);
}

static void step_sync_data(struct presence_job *j)
{
	if (passing(j->op.res)) {
		ring_fdatasync(job_ring(j), &j->op, j->p->data_fd);
		return;
	}
	if (j->op.res < 0) {
		atomic_store(j->p->unsafe, 1);
		j->state = JOB_TAKE_BACK;
	} else {
		j->state = JOB_UPDATE;
	}
	task_wake(&j->task);
}

static void step_update(struct presence_job *j)
{
	struct presence *p = j->p;

	if (!lock(j))
		return;
	if (is_unsafe(p)) {
		job_finish(j, -EIO);
		return;
	}
	if (j->kind == PRESENCE_DROP) {
		atomic_fetch_add_explicit(p->drops, 1, memory_order_acq_rel);
	} else if (atomic_load_explicit(p->drops, memory_order_acquire) != j->seen_drops) {
		/* The snapshot may hold bits that a drop has taken back since. */
		unlock(j);
		if (++j->restarts > MAX_RESTARTS) {
			job_end(j, -EAGAIN);
			return;
		}
		j->state = JOB_SNAPSHOT;
		task_wake(&j->task);
		return;
	}
	read_start(j, JOB_READ);
}

/* Adds a transfer's result; returns 0 when all of @io is done, -EAGAIN more to do, or the error. */
static int transfer_result(struct presence_job *j)
{
	if (j->op.res < 0 && !passing(j->op.res))
		return j->op.res == -ENOSPC || j->op.res == -EDQUOT ? -ENOSPC : -EIO;
	if (j->op.res == 0)
		return -EIO; /* the map is shorter than it was made */
	if (j->op.res > 0)
		j->io_done += (uint64_t)j->op.res;
	return j->io_done < j->io.len ? -EAGAIN : 0;
}

static void step_read(struct presence_job *j)
{
	int r = transfer_result(j);

	if (r == -EAGAIN) {
		read_more(j);
	} else if (r < 0) {
		job_finish(j, r);
	} else if (update_synced(j)) {
		j->state = JOB_WRITE;
		map_write_more(j);
	} else if (j->kind == PRESENCE_DROP) {
		/* Clear in what we read, but who cleared it may have died before its fdatasync. */
		j->state = JOB_SYNC_MAP;
		ring_fdatasync(job_ring(j), &j->op, j->p->map_fd);
	} else {
		job_finish(j, 0);
	}
}

static void step_write(struct presence_job *j)
{
	int r = transfer_result(j);

	if (r == -EAGAIN) {
		map_write_more(j);
	} else if (r < 0) {
		map_failed(j, r);
	} else {
		j->state = JOB_SYNC_MAP;
		ring_fdatasync(job_ring(j), &j->op, j->p->map_fd);
	}
}

static void step_sync_map(struct presence_job *j)
{
	if (passing(j->op.res))
		ring_fdatasync(job_ring(j), &j->op, j->p->map_fd);
	else if (j->op.res < 0)
		map_failed(j, -EIO);
	else
		job_finish(j, 0);
}

static void step_take_back(struct presence_job *j)
{
	if (lock(j))
		read_start(j, JOB_TAKE_READ);
}

static void step_take_read(struct presence_job *j)
{
	int r = transfer_result(j);

	if (r == -EAGAIN) {
		read_more(j);
		return;
	}
	/* What cannot be read counts as not synced. */
	for (size_t w = 0; w < presence_words(j->p->bytes); w++)
		atomic_fetch_and(&j->p->live[w], r < 0 ? 0 : j->synced[w]);
	job_end(j, -EIO);
}

static void job_step(struct task *t)
{
	struct presence_job *j = container_of(t, struct presence_job, task);

	if (j->op.busy)
		return;
	switch ((enum job_state)j->state) {
	case JOB_SNAPSHOT:
		step_snapshot(j);
		break;
	case JOB_SYNC_DATA:
		step_sync_data(j);
		break;
	case JOB_UPDATE:
		step_update(j);
		break;
	case JOB_READ:
		step_read(j);
		break;
	case JOB_WRITE:
		step_write(j);
		break;
	case JOB_SYNC_MAP:
		step_sync_map(j);
		break;
	case JOB_TAKE_BACK:
		step_take_back(j);
		break;
	case JOB_TAKE_READ:
		step_take_read(j);
		break;
	}
}

void presence_job_start(struct loop *l, struct presence_job *j)
{
	assert(!j->busy);
	task_init(&j->task, l, job_step);
	list_init(&j->wait);
	j->op = (struct op){.task = &j->task};
	j->restarts = 0;
	j->res = 0;
	j->busy = true;
	if (j->kind == PRESENCE_DROP) {
		j->range = range_clip(j->range, range_of(0, j->p->bytes));
		if (!j->range.len) {
			j->busy = false;
			task_wake(j->owner);
			return;
		}
		j->state = JOB_UPDATE;
	} else {
		j->state = JOB_SNAPSHOT;
	}
	task_wake(&j->task);
}
