/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_sim.c - ring.h in a simulated world, see sim.h
 *
 * All state is in one static world; one thread. What will happen is a set of busy ops and of calls,
 * each with a virtual due time; ring_wait() lets everything happen that is due, and moves the clock
 * to the next due time only when nothing was. An op takes effect when it completes. Of a file,
 * every page holds what reads see, what power loss leaves, and the writes between the two.
 */
#include "ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "loop.h"
#include "range.h"
#include "sim.h"
#include "text.h"

#define SIM_PAGE_BYTES	   4096u
#define SIM_MAX_FILE_BYTES (1ull << 30)
#define SIM_FIRST_FD	   100
#define SIM_MAX_TURNS	   10000000u /* sim_run() gives up: something keeps waking itself */

enum sim_kind { SIM_READ, SIM_WRITE, SIM_FDATASYNC, SIM_POLL };

/* Words of op->sim. */
enum sim_word {
	SIM_WHAT, /* sim_kind, descriptor << 8, failing << 62, cancelled << 63 */
	SIM_BUF,
	SIM_BYTES,
	SIM_OFF, /* fdatasync: last write it covers; poll: events */
	SIM_DUE_NS,
	SIM_ORDER, /* breaks ties of the due time */
};

#define SIM_FAILING   (1ull << 62)
#define SIM_CANCELLED (1ull << 63)

/* One write to one page that is not durable yet. */
struct pending {
	struct list link;
	uint64_t seq;
	bool lost; /* an fdatasync failed on it */
	uint32_t off, len;
	uint8_t bytes[];
};

struct page {
	uint8_t live[SIM_PAGE_BYTES];
	uint8_t durable[SIM_PAGE_BYTES];
	struct list pending; /* struct pending, by seq */
};

struct file {
	struct page *pages;
	size_t npages;
	uint64_t bytes, durable_bytes;
};

struct call {
	struct list link;
	uint64_t due_ns, order;
	void (*fn)(void *arg);
	void *arg;
	struct loop *loop; /* with @mail: fn and arg unused */
	struct mail *mail;
};

struct ring {
	uint64_t world; /* number of the world it was made in */
};

static struct {
	struct sim_options opt;
	uint64_t number;
	uint64_t random;
	uint64_t now_ns;
	uint64_t ops, orders, writes;
	bool kicked;
	struct list busy;  /* struct op */
	struct list calls; /* struct call */
	struct file *files;
	size_t nfiles;
} world = {.busy = {&world.busy, &world.busy}, .calls = {&world.calls, &world.calls}};

uint64_t sim_random(uint64_t below)
{
	uint64_t z = world.random += 0x9e3779b97f4a7c15ull; /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return below ? z % below : 0;
}

uint64_t sim_delay_ns(void)
{
	return world.opt.max_delay_ns ? sim_random(world.opt.max_delay_ns + 1) : 0;
}

static bool chance(unsigned int percent)
{
	return percent && sim_random(100) < percent;
}

uint64_t sim_op_count(void)
{
	return world.ops;
}

/* ---- files ---- */

static void file_grow(struct file *f, uint64_t bytes)
{
	size_t npages = (size_t)(round_up(bytes, SIM_PAGE_BYTES) / SIM_PAGE_BYTES);
	struct page *pages;

	if (npages <= f->npages)
		return;
	/* Lists point at their pages: a plain realloc would leave them dangling. */
	pages = xmalloc_zero(npages, sizeof(*pages));
	for (size_t i = 0; i < npages; i++) {
		list_init(&pages[i].pending);
		if (i >= f->npages)
			continue;
		memcpy(pages[i].live, f->pages[i].live, SIM_PAGE_BYTES);
		memcpy(pages[i].durable, f->pages[i].durable, SIM_PAGE_BYTES);
		for (struct list *n; (n = list_pop(&f->pages[i].pending));)
			list_add_tail(&pages[i].pending, n);
	}
	free(f->pages);
	f->pages = pages;
	f->npages = npages;
}

static struct file *file_of(int fd)
{
	if (fd < SIM_FIRST_FD || (size_t)(fd - SIM_FIRST_FD) >= world.nfiles)
		return NULL;
	return &world.files[fd - SIM_FIRST_FD];
}

int sim_file_new(const void *bytes, size_t len)
{
	struct file *f;

	assert(len <= SIM_MAX_FILE_BYTES);
	world.files = realloc(world.files, (world.nfiles + 1) * sizeof(*f));
	assert(world.files);
	f = &world.files[world.nfiles++];
	memset(f, 0, sizeof(*f));
	file_grow(f, len);
	f->bytes = f->durable_bytes = len;
	for (size_t at = 0; bytes && at < len; at += SIM_PAGE_BYTES) {
		size_t n = (size_t)min_u64(len - at, SIM_PAGE_BYTES);

		memcpy(f->pages[at / SIM_PAGE_BYTES].live, (const char *)bytes + at, n);
		memcpy(f->pages[at / SIM_PAGE_BYTES].durable, (const char *)bytes + at, n);
	}
	return SIM_FIRST_FD + (int)world.nfiles - 1;
}

static size_t file_read(const struct file *f, uint64_t off, uint8_t *buf, size_t len)
{
	struct range r = range_clip(range_of(off, len), range_of(0, f->bytes));

	for (uint64_t at = r.off; at < range_end(r);) {
		uint64_t in = at % SIM_PAGE_BYTES;
		uint64_t n = min_u64(SIM_PAGE_BYTES - in, range_end(r) - at);

		memcpy(buf + (at - off), f->pages[at / SIM_PAGE_BYTES].live + in, n);
		at += n;
	}
	return (size_t)r.len;
}

static void file_write(struct file *f, uint64_t off, const uint8_t *buf, size_t len)
{
	uint64_t seq = ++world.writes;

	file_grow(f, off + len);
	for (uint64_t at = off; at < off + len;) {
		struct page *p = &f->pages[at / SIM_PAGE_BYTES];
		uint32_t in = (uint32_t)(at % SIM_PAGE_BYTES);
		uint32_t n = (uint32_t)min_u64(SIM_PAGE_BYTES - in, off + len - at);
		struct pending *w = xmalloc_zero(1, sizeof(*w) + n);

		w->seq = seq;
		w->off = in;
		w->len = n;
		memcpy(w->bytes, buf + (at - off), n);
		memcpy(p->live + in, w->bytes, n);
		list_add_tail(&p->pending, &w->link);
		at += n;
	}
	f->bytes = max_u64(f->bytes, off + len);
}

/* The oldest @n writes of page @i become durable. */
static void page_persist(struct file *f, size_t i, size_t n)
{
	while (n-- > 0) {
		struct pending *w =
		    list_entry(list_pop(&f->pages[i].pending), struct pending, link);

		memcpy(f->pages[i].durable + w->off, w->bytes, w->len);
		f->durable_bytes =
		    max_u64(f->durable_bytes, (uint64_t)i * SIM_PAGE_BYTES + w->off + w->len);
		free(w);
	}
}

static void file_sync(struct file *f, uint64_t upto_seq, bool failed)
{
	for (size_t i = 0; i < f->npages; i++) {
		size_t n = 0, persist = 0;

		list_for_each (node, &f->pages[i].pending) {
			struct pending *w = list_entry(node, struct pending, link);

			if (w->seq > upto_seq)
				break;
			n++;
			if (failed)
				w->lost = true;
			/* a page goes out as a whole, with what was lost on it before */
			if (!w->lost)
				persist = n;
		}
		page_persist(f, i, persist);
	}
}

static void file_power_cut(struct file *f)
{
	for (size_t i = 0; i < f->npages; i++) {
		struct page *p = &f->pages[i];
		size_t n = 0;

		list_for_each (node, &p->pending)
			n++;
		page_persist(f, i, (size_t)sim_random(n + 1));
		for (struct list *node; (node = list_pop(&p->pending));)
			free(list_entry(node, struct pending, link));
		memcpy(p->live, p->durable, SIM_PAGE_BYTES);
	}
	f->bytes = f->durable_bytes;
}

size_t sim_file_read(int fd, uint64_t off, void *buf, size_t len)
{
	struct file *f = file_of(fd);

	assert(f);
	return file_read(f, off, buf, len);
}

size_t sim_file_bytes(int fd)
{
	struct file *f = file_of(fd);

	assert(f);
	return (size_t)f->bytes;
}

/* ---- what will happen ---- */

static void call_add(struct call c, uint64_t delay_ns)
{
	struct call *copy = xmalloc_zero(1, sizeof(*copy));

	*copy = c;
	copy->due_ns = world.now_ns + delay_ns;
	copy->order = ++world.orders;
	list_add_tail(&world.calls, &copy->link);
}

void sim_call_later(void (*fn)(void *arg), void *arg, uint64_t delay_ns)
{
	call_add((struct call){.fn = fn, .arg = arg}, delay_ns);
}

void sim_post_later(struct loop *l, struct mail *m, uint64_t delay_ns)
{
	call_add((struct call){.loop = l, .mail = m}, delay_ns);
}

void sim_forget(void *arg)
{
	list_for_each_safe (node, &world.calls) {
		struct call *c = list_entry(node, struct call, link);

		if (c->mail || c->arg != arg)
			continue;
		list_del(&c->link);
		free(c);
	}
}

static void op_submit(struct op *op, enum sim_kind kind, int fd, const void *buf, size_t bytes,
		      uint64_t off)
{
	assert(!op->busy);
	op->busy = true;
	op->res = 0;
	op->sim[SIM_WHAT] = (uint64_t)kind | (uint64_t)(uint32_t)fd << 8;
	op->sim[SIM_BUF] = (uint64_t)(uintptr_t)buf;
	op->sim[SIM_BYTES] = bytes;
	op->sim[SIM_OFF] = off;
	op->sim[SIM_DUE_NS] = world.now_ns + sim_delay_ns();
	op->sim[SIM_ORDER] = ++world.orders;
	if (++world.ops == world.opt.fail_nth)
		op->sim[SIM_WHAT] |= SIM_FAILING;
	list_add_tail(&world.busy, &op->link);
}

static enum sim_kind op_kind(const struct op *op)
{
	return (enum sim_kind)(op->sim[SIM_WHAT] & 0xff);
}

static struct file *op_file(const struct op *op)
{
	return file_of((int)(uint32_t)(op->sim[SIM_WHAT] >> 8 & 0xffffffff));
}

/* How much of a transfer of @bytes happens. */
static size_t transfer_bytes(size_t bytes)
{
	if (bytes > 1 && chance(world.opt.short_percent))
		return 1 + (size_t)sim_random(bytes - 1);
	return bytes;
}

static int op_failed(struct op *op, struct file *f)
{
	uint8_t *buf = (uint8_t *)(uintptr_t)op->sim[SIM_BUF];

	/* A failed write may have changed a part of the file, a failed read a part of the buffer.
	 */
	if (op_kind(op) == SIM_WRITE)
		file_write(f, op->sim[SIM_OFF], buf, (size_t)sim_random(op->sim[SIM_BYTES] + 1));
	else if (op_kind(op) == SIM_READ)
		memset(buf, 0xee, (size_t)sim_random(op->sim[SIM_BYTES] + 1));
	else if (op_kind(op) == SIM_FDATASYNC)
		file_sync(f, op->sim[SIM_OFF], true);
	return world.opt.fail_errno;
}

/* What @op does to the world; returns its result. */
static int op_perform(struct op *op)
{
	uint8_t *buf = (uint8_t *)(uintptr_t)op->sim[SIM_BUF];
	struct file *f = op_file(op);
	uint64_t off = op->sim[SIM_OFF];
	size_t n;

	if (op->sim[SIM_WHAT] & SIM_CANCELLED)
		return -ECANCELED;
	if (op_kind(op) == SIM_POLL)
		return op->sim[SIM_WHAT] & SIM_FAILING ? world.opt.fail_errno : (int)off;
	if (!f)
		return -EBADF;
	if (op->sim[SIM_WHAT] & SIM_FAILING)
		return op_failed(op, f);
	if (chance(world.opt.eintr_percent))
		return -EINTR;
	switch (op_kind(op)) {
	case SIM_READ:
		return (int)file_read(f, off, buf, transfer_bytes(op->sim[SIM_BYTES]));
	case SIM_WRITE:
		if (off > SIM_MAX_FILE_BYTES || op->sim[SIM_BYTES] > SIM_MAX_FILE_BYTES - off)
			return -EFBIG;
		n = transfer_bytes(op->sim[SIM_BYTES]);
		file_write(f, off, buf, n);
		return (int)n;
	case SIM_FDATASYNC:
		file_sync(f, off, false);
		return 0;
	case SIM_POLL:
		break;
	}
	return -EINVAL;
}

static void op_complete(struct op *op)
{
	int res = op_perform(op);

	list_del(&op->link);
	op->res = res;
	op->busy = false;
	if (op->task)
		task_wake(op->task);
}

static void call_happen(struct call *c)
{
	list_del(&c->link);
	if (c->mail)
		loop_post(c->loop, c->mail);
	else
		c->fn(c->arg);
	free(c);
}

/* The next thing to happen: earliest, then submitted first. At most one of the two is set. */
static void find_next(struct op **ret_op, struct call **ret_call, uint64_t *ret_due)
{
	uint64_t due = UINT64_MAX, order = UINT64_MAX;

	*ret_op = NULL;
	*ret_call = NULL;
	list_for_each (node, &world.busy) {
		struct op *op = list_entry(node, struct op, link);

		if (op->sim[SIM_DUE_NS] > due ||
		    (op->sim[SIM_DUE_NS] == due && op->sim[SIM_ORDER] > order))
			continue;
		*ret_op = op;
		due = op->sim[SIM_DUE_NS];
		order = op->sim[SIM_ORDER];
	}
	list_for_each (node, &world.calls) {
		struct call *c = list_entry(node, struct call, link);

		if (c->due_ns > due || (c->due_ns == due && c->order > order))
			continue;
		*ret_op = NULL;
		*ret_call = c;
		due = c->due_ns;
		order = c->order;
	}
	*ret_due = due;
}

/* Lets everything happen that is due; returns the due time of what is next, UINT64_MAX: nothing. */
static uint64_t happen(bool *ret_any)
{
	struct op *op;
	struct call *call;
	uint64_t due;

	*ret_any = false;
	for (;;) {
		find_next(&op, &call, &due);
		if ((!op && !call) || due > world.now_ns)
			return due;
		if (op)
			op_complete(op);
		else
			call_happen(call);
		*ret_any = true;
	}
}

/* ---- ring.h ---- */

int ring_new(unsigned int entries, struct ring **ret, struct err *e)
{
	struct ring *r = xmalloc_zero(1, sizeof(*r));

	(void)entries; /* nothing is ever full here */
	(void)e;       /* and nothing fails */
	r->world = world.number;
	*ret = r;
	return 0;
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	assert(r->world == world.number);
	assert(list_empty(&world.busy));
	free(r);
}

void ring_read(struct ring *r, struct op *op, int fd, void *buf, size_t bytes, uint64_t off)
{
	(void)r; /* one world for all rings */
	op_submit(op, SIM_READ, fd, buf, bytes, off);
}

void ring_write(struct ring *r, struct op *op, int fd, const void *buf, size_t bytes, uint64_t off)
{
	(void)r; /* one world for all rings */
	op_submit(op, SIM_WRITE, fd, buf, bytes, off);
}

void ring_fdatasync(struct ring *r, struct op *op, int fd)
{
	(void)r; /* one world for all rings */
	op_submit(op, SIM_FDATASYNC, fd, NULL, 0, world.writes);
}

void ring_poll(struct ring *r, struct op *op, int fd, unsigned int events)
{
	(void)r; /* one world for all rings */
	op_submit(op, SIM_POLL, fd, NULL, 0, events);
}

void ring_cancel(struct ring *r, struct op *op)
{
	(void)r; /* one world for all rings */
	/* The race: the cancel finds the op, or comes too late and the op ends as it would have. */
	if (op->busy && sim_random(2)) {
		op->sim[SIM_WHAT] |= SIM_CANCELLED;
		op->sim[SIM_DUE_NS] = world.now_ns;
	}
}

void ring_wait(struct ring *r, uint64_t deadline_ns)
{
	bool any, kicked = world.kicked;
	uint64_t next = happen(&any);

	(void)r; /* one world for all rings */
	if (!any && !kicked && deadline_ns > world.now_ns) {
		if (next > deadline_ns || next == UINT64_MAX) {
			/* Without a deadline the real ring would sleep for ever. */
			if (deadline_ns != UINT64_MAX)
				world.now_ns = deadline_ns;
		} else {
			world.now_ns = next;
			happen(&any);
		}
	}
	world.kicked = false;
}

void ring_kick(struct ring *r)
{
	(void)r; /* one world for all rings */
	world.kicked = true;
}

uint64_t ring_now_ns(struct ring *r)
{
	(void)r; /* one world for all rings */
	return world.now_ns;
}

/* ---- the world ---- */

static void drop_pending(void)
{
	for (struct list *n; (n = list_pop(&world.busy));)
		list_entry(n, struct op, link)->busy = false;
	for (struct list *n; (n = list_pop(&world.calls));)
		free(list_entry(n, struct call, link));
	world.kicked = false;
}

void sim_reset(const struct sim_options *o)
{
	drop_pending();
	for (size_t i = 0; i < world.nfiles; i++) {
		file_power_cut(&world.files[i]); /* frees what is pending */
		free(world.files[i].pages);
	}
	free(world.files);
	world.files = NULL;
	world.nfiles = 0;
	world.opt = *o;
	world.number++;
	world.random = o->seed;
	world.now_ns = NS_PER_SEC;
	world.ops = world.orders = world.writes = 0;
}

void sim_kill(void)
{
	list_for_each (n, &world.busy) {
		struct op *op = list_entry(n, struct op, link);
		struct file *f = op_file(op);
		uint64_t bytes = op->sim[SIM_BYTES];

		if (!f || op->sim[SIM_WHAT] & SIM_CANCELLED)
			continue;
		if (op_kind(op) == SIM_WRITE)
			file_write(f, op->sim[SIM_OFF], (uint8_t *)(uintptr_t)op->sim[SIM_BUF],
				   (size_t)sim_random(bytes + 1));
		else if (op_kind(op) == SIM_FDATASYNC && sim_random(2))
			file_sync(f, op->sim[SIM_OFF], false);
	}
	drop_pending();
}

void sim_power_cut(void)
{
	sim_kill();
	for (size_t i = 0; i < world.nfiles; i++)
		file_power_cut(&world.files[i]);
}

bool sim_idle(void)
{
	return list_empty(&world.busy) && list_empty(&world.calls);
}

bool sim_run(struct loop *l, bool (*done)(void *arg), void *arg)
{
	unsigned int quiet = 0;

	for (unsigned int n = 0; n < SIM_MAX_TURNS; n++) {
		if (done(arg))
			return true;
		quiet = loop_turn(l, true) ? 0 : quiet + 1;
		/* twice, because a kick that came late makes one turn end early */
		if (quiet > 1 && sim_idle())
			break;
	}
	return done(arg);
}
