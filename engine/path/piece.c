/* SPDX-License-Identifier: Apache-2.0 */
/* piece.c - see piece.h */
#include "piece.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "path.h"
#include "request.h"
#include "request_piece.h"
#include "ring.h"

static void piece_step(struct task *t);

struct piece *piece_get(struct request *r, struct stream *stream, struct range want, void *dst,
			uint64_t *ret_bytes)
{
	struct path *p = r->path;
	struct piece *pc = p->free_pieces;

	if (!pc)
		return NULL;
	p->free_pieces = pc->next;
	memset(pc, 0, sizeof(*pc));
	pc->req = r;
	pc->stream = stream;
	pc->dst = dst;
	*ret_bytes = stream_plan(stream, want, &pc->plan);
	pc->want = range_of(want.off, *ret_bytes);
	pc->state = stream->kind == STREAM_GZIP ? PIECE_SPAN : PIECE_BUFFER;
	task_init(&pc->task, p->loop, piece_step);
	pc->op.task = &pc->task;
	pc->flight_wait.task = pc->buf_wait.task = pc->span_wait.task = &pc->task;
	list_init(&pc->flight_wait.link);
	list_init(&pc->buf_wait.link);
	list_init(&pc->span_wait.link);
	list_init(&pc->link);
	return pc;
}

static void drop_flights(struct piece *pc)
{
	while (pc->flight_count)
		flight_drop(pc->flights[--pc->flight_count]);
}

void piece_hold_flights(struct piece *pc)
{
	struct range r = pc->plan.stored;
	struct blob *b = pc->stream->blob;

	if (blob_is_local(b))
		return;
	while (r.len && pc->flight_count < PIECE_FLIGHTS) {
		struct flight *f = flight_next(b, r);
		uint64_t end;

		if (!f)
			return;
		flight_hold(f);
		pc->flights[pc->flight_count++] = f;
		end = range_end(f->range);
		if (end >= range_end(r))
			return;
		r = range_of(end, range_end(r) - end);
	}
}

void piece_start(struct piece *pc)
{
	task_wake(&pc->task);
}

static void release_stage(struct piece *pc)
{
	if (pc->stage && pc->stage != pc->dst)
		bufpool_put(pc->req->path->stage_bufs, pc->stage, pc->plan.stored.len);
	pc->stage = NULL;
}

static void finish(struct piece *pc)
{
	struct request *r = pc->req;
	struct path *p = r->path;

	assert(!pc->op.busy && !pc->decoding);
	drop_flights(pc);
	release_stage(pc);
	flight_forget(&pc->flight_wait);
	bufpool_forget(&pc->buf_wait);
	span_forget(&pc->span_wait);
	if (pc->span) {
		if (pc->span_owner)
			span_settle(p, pc->span, false);
		else
			span_drop(p, pc->span);
	}
	list_del(&pc->link);
	task_done(&pc->task);
	if (pc->res && !r->res)
		r->res = pc->res;
	pc->next = p->free_pieces;
	p->free_pieces = pc;
	request_piece_done(r);
}

static void fail(struct piece *pc, int res)
{
	pc->res = res;
	pc->state = PIECE_DONE;
}

static void stall_begin(struct piece *pc)
{
	if (!pc->stall_since_ns)
		pc->stall_since_ns = loop_now_ns(pc->req->path->loop);
	pc->req->stalled = true;
}

static void stall_end(struct piece *pc)
{
	if (pc->stall_since_ns)
		pc->req->path->stats.stalled_ns +=
		    loop_now_ns(pc->req->path->loop) - pc->stall_since_ns;
	pc->stall_since_ns = 0;
}

static bool try_buffers(struct piece *pc)
{
	struct bufpool *pool = pc->req->path->stage_bufs;

	if (pc->span)
		return bufpool_get_pair(pool, pc->plan.plain.len, &pc->span->buf,
					pc->plan.stored.len, &pc->stage, &pc->buf_wait);
	pc->stage = bufpool_get(pool, pc->plan.stored.len, &pc->buf_wait);
	return pc->stage != NULL;
}

/* Returns false when the piece has to wait. */
static bool step_span(struct piece *pc)
{
	struct path *p = pc->req->path;
	struct span *sp = span_find(p, pc->stream, pc->plan.first);

	if (sp && !sp->ready) {
		span_wait(sp, &pc->span_wait);
		return false;
	}
	if (sp) {
		span_hold(sp);
		pc->span = sp;
		memcpy(pc->dst, (char *)sp->buf + (pc->want.off - pc->plan.plain.off),
		       pc->want.len);
		pc->state = PIECE_DONE;
		return true;
	}
	pc->span = span_new(p, pc->stream, pc->plan.first, pc->plan.plain.len);
	pc->span_owner = true;
	pc->state = PIECE_BUFFER;
	return true;
}

static bool step_buffer(struct piece *pc)
{
	struct path *p = pc->req->path;

	if (pc->stream->kind == STREAM_RAW) {
		pc->stage = pc->dst;
	} else if (!try_buffers(pc)) {
		span_trim(p, 0); /* idle decoded spans are worth less than a read that waits */
		if (!try_buffers(pc)) {
			drop_flights(pc); /* who waits for one pool holds nothing of another */
			bufpool_wait(p->stage_bufs, &pc->buf_wait);
			return false;
		}
	}
	pc->state = PIECE_GATHER;
	return true;
}

/* The flight among those held, failed ones included, or any live one, that covers blob byte @off.
 */
static struct flight *covering_flight(struct piece *pc, uint64_t off)
{
	struct flight *f = flight_find(pc->stream->blob, off);

	for (unsigned int i = 0; !f && i < pc->flight_count; i++) {
		struct flight *held = pc->flights[i];

		if (range_overlaps(held->range, range_of(off, 1)) && !held->stale)
			f = held;
	}
	return f;
}

/* A ring read came back. */
static void take_read(struct piece *pc)
{
	struct path *p = pc->req->path;
	struct blob *b = pc->stream->blob;
	uint64_t skipped;

	pc->reading = false;
	if (pc->op.res > 0) {
		pc->gathered += (uint64_t)pc->op.res;
		if (!blob_is_local(b))
			p->stats.cache_hit_bytes += (uint64_t)pc->op.res;
		return;
	}
	if (pc->op.res == -EINTR || pc->op.res == -EAGAIN)
		return;
	/* A cache file that cannot be read, or is shorter than its map says, is as good as empty.
	 */
	if (!blob_is_local(b) && pc->tries == 0) {
		pc->tries++;
		if (log_rate_ok(&p->again_log, loop_now_ns(p->loop), &skipped))
			log_warn("cache of blob %s cannot be read at offset %llu (%s): fetching "
				 "again (and %llu more)",
				 b->name, (unsigned long long)(pc->plan.stored.off + pc->gathered),
				 pc->op.res ? strerror(-pc->op.res) : "file too short",
				 (unsigned long long)skipped);
		flight_spoil(b, pc->plan.stored);
		return;
	}
	if (log_rate_ok(&p->bad_log, loop_now_ns(p->loop), &skipped))
		log_error("cannot read blob %s at offset %llu: %s (and %llu more)", b->name,
			  (unsigned long long)(pc->plan.stored.off + pc->gathered),
			  pc->op.res ? strerror(-pc->op.res) : "file ends too early",
			  (unsigned long long)skipped);
	fail(pc, -EIO);
}

static bool gather_flight(struct piece *pc, struct flight *f, struct range rest)
{
	struct range part = range_clip(f->range, rest);

	switch (f->state) {
	case FLIGHT_PARKED:
		/*
		 * It waits for a buffer, perhaps for one of those that we hold. What vanishes
		 * by this is in the cache or is brought again.
		 */
		drop_flights(pc);
		flight_hold(f);
		pc->flights[pc->flight_count++] = f;
		stall_begin(pc);
		flight_wait(f, &pc->flight_wait);
		return false;
	case FLIGHT_FETCHING:
		stall_begin(pc);
		flight_wait(f, &pc->flight_wait);
		return false;
	case FLIGHT_FAILED:
		fail(pc, f->res);
		return true;
	case FLIGHT_LANDED:
		break;
	}
	memcpy((char *)pc->stage + pc->gathered, (char *)f->buf + (part.off - f->range.off),
	       part.len);
	pc->gathered += part.len;
	return true;
}

static bool step_gather(struct piece *pc)
{
	struct path *p = pc->req->path;
	struct blob *b = pc->stream->blob;

	while (pc->state == PIECE_GATHER) {
		struct range stored = pc->plan.stored, rest;
		struct flight *f = NULL;

		if (pc->op.busy)
			return false;
		if (pc->reading) {
			take_read(pc);
			continue;
		}
		if (p->stopping) {
			fail(pc, -ECANCELED);
			break;
		}
		if (pc->gathered == stored.len) {
			stall_end(pc);
			pc->state = PIECE_DECODE;
			break;
		}
		rest = range_of(stored.off + pc->gathered, stored.len - pc->gathered);
		if (!blob_is_local(b))
			f = covering_flight(pc, rest.off);
		if (f) {
			if (!gather_flight(pc, f, rest))
				return false;
			continue;
		}
		if (!blob_is_local(b)) {
			struct range miss = cache_missing(b->cache, rest);

			if (miss.len && miss.off <= rest.off) {
				/* Not stored, or dropped since: have it brought again. */
				drop_flights(pc);
				flight_want(p, b, rest, pc->req->prio);
				piece_hold_flights(pc);
				continue;
			}
			if (miss.len)
				rest.len = miss.off - rest.off;
		}
		pc->reading = true;
		ring_read(loop_ring(p->loop), &pc->op, b->fd, (char *)pc->stage + pc->gathered,
			  rest.len, b->fd_off + rest.off);
		return false;
	}
	return true;
}

static int decode(struct piece *pc, struct decoder *d)
{
	if (pc->stream->kind == STREAM_ZFILE)
		return stream_decode_blocks(pc->stream, &pc->plan, d, pc->stage, pc->want, pc->dst,
					    &pc->bad);
	pc->bad = pc->plan.stored;
	return stream_decode_span(pc->stream, &pc->plan, d, pc->stage, pc->span->buf);
}

/* Worker thread. */
static void run_decode(struct work *w, void *ctx)
{
	struct piece *pc = container_of(w, struct piece, work);

	pc->decode_res = decode(pc, ctx);
}

static void deliver_decoded(struct mail *m)
{
	struct piece *pc = container_of(m, struct piece, work.done);

	pc->decoded = true;
	task_wake(&pc->task);
}

/* Whether another piece found the bad bytes out, and dropped them, after this one took them. */
static bool spoiled_since(const struct piece *pc)
{
	const struct blob *b = pc->stream->blob;
	const struct flight *live = flight_next(b, pc->bad);

	for (unsigned int i = 0; i < pc->flight_count; i++) {
		if (pc->flights[i]->stale && range_overlaps(pc->flights[i]->range, pc->bad))
			return true;
	}
	for (unsigned int i = 0; live && i < pc->flight_count; i++) {
		if (pc->flights[i] == live)
			return false;
	}
	return live || !cache_has(b->cache, pc->bad);
}

static void gather_again(struct piece *pc)
{
	drop_flights(pc);
	piece_hold_flights(pc);
	pc->gathered = 0;
	pc->state = PIECE_GATHER;
}

/* The stored bytes are not what was once written: once more from the network, then give up. */
static void take_bad_block(struct piece *pc)
{
	struct path *p = pc->req->path;
	struct blob *b = pc->stream->blob;
	uint64_t skipped;

	/* Pieces that share a block find out together; the first has it brought again for all. */
	if (!blob_is_local(b) && pc->regathers < PIECE_REGATHERS && spoiled_since(pc)) {
		pc->regathers++;
		gather_again(pc);
		return;
	}
	p->stats.bad_blocks++;
	if (!blob_is_local(b) && pc->tries == 0) {
		pc->tries++;
		if (log_rate_ok(&p->again_log, loop_now_ns(p->loop), &skipped))
			log_warn("corrupt block: blob=%s offset=%llu: fetching again (and %llu "
				 "more)",
				 b->name, (unsigned long long)pc->bad.off,
				 (unsigned long long)skipped);
		flight_spoil(b, pc->plan.stored); /* its neighbours came the same way */
		gather_again(pc);
		return;
	}
	if (log_rate_ok(&p->bad_log, loop_now_ns(p->loop), &skipped))
		log_error("corrupt block: blob=%s offset=%llu bytes=%llu: reads of it fail (and "
			  "%llu more)",
			  b->name, (unsigned long long)pc->bad.off, (unsigned long long)pc->bad.len,
			  (unsigned long long)skipped);
	fail(pc, -EIO);
}

static bool step_decode(struct piece *pc)
{
	struct path *p = pc->req->path;

	if (pc->stream->kind == STREAM_RAW) {
		pc->state = PIECE_DONE;
		return true;
	}
	if (!pc->decoding) {
		pc->decoded = false;
		if (pc->plan.plain.len <= PIECE_INLINE_BYTES) {
			pc->decode_res = decode(pc, p->inline_ctx);
		} else {
			pc->decoding = true;
			pc->work.run = run_decode;
			pc->work.loop = p->loop;
			pc->work.done.deliver = deliver_decoded;
			workers_submit(p->workers, &pc->work);
			return false;
		}
	} else if (!pc->decoded) {
		return false;
	}
	pc->decoding = false;
	if (pc->decode_res) {
		take_bad_block(pc);
		return true;
	}
	if (pc->span) {
		memcpy(pc->dst, (char *)pc->span->buf + (pc->want.off - pc->plan.plain.off),
		       pc->want.len);
		span_settle(p, pc->span, true);
		pc->span_owner = false;
	}
	pc->state = PIECE_DONE;
	return true;
}

static void piece_step(struct task *t)
{
	struct piece *pc = container_of(t, struct piece, task);
	bool on = true;

	while (on) {
		if (pc->req->path->stopping && pc->state < PIECE_GATHER)
			fail(pc, -ECANCELED);
		switch (pc->state) {
		case PIECE_SPAN:
			on = step_span(pc);
			break;
		case PIECE_BUFFER:
			on = step_buffer(pc);
			break;
		case PIECE_GATHER:
			on = step_gather(pc);
			break;
		case PIECE_DECODE:
			on = step_decode(pc);
			break;
		case PIECE_DONE:
			stall_end(pc);
			finish(pc);
			return;
		}
	}
}
