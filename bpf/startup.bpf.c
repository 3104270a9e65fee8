/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * startup.bpf.c - what a start reads, as seen at the page cache
 *
 * Demand is asked at the page cache (get_pages, fault), because the block layer flags a whole
 * read-ahead window alike. What passes is decided first and as cheaply as can be: most calls are
 * about somebody else's reads. The loader leaves out programs whose tracepoint this kernel does not
 * have, and those for other signatures of it.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "startup_event.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* set by the loader before loading */
const volatile __u32 page_shift = 12;
const volatile __u64 wake_bytes = 1 << 20;

/* filters; the loader may add while we run. Unused devices are 0, which is none. */
__u32 devices[STARTUP_MAX_DEVICES];
__u32 device_count, cgroup_count, process_count;
__u32 generation; /* of the cgroup filter: verdicts of older ones do not count */

/* counters */
__u64 lost, forks_missed;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STARTUP_MAX_CGROUPS);
	__type(key, __u64);
	__type(value, __u8);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct startup_name);
	__type(value, __u8);
} awaited SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STARTUP_MAX_PROCESSES);
	__type(key, __u32);
	__type(value, __u8);
} processes SEC(".maps");

struct verdict {
	__u32 generation;
	__u32 wanted;
};

/* Whether a cgroup lies in one that is filtered for; found out once for each. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct verdict);
} verdicts SEC(".maps");

/* The range that this CPU was last asked for. */
struct recent {
	__u64 ino, off, end;
	__u32 dev, tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct recent);
} recently SEC(".maps");

/* ---- whom it is about ---- */

static __noinline bool judge_cgroup(__u64 id)
{
	struct verdict v = {.generation = generation};

	for (int level = 0; level < 32; level++) {
		__u64 up = bpf_get_current_ancestor_cgroup_id(level);

		if (!up)
			break;
		if (bpf_map_lookup_elem(&cgroups, &up)) {
			v.wanted = 1;
			break;
		}
	}
	bpf_map_update_elem(&verdicts, &id, &v, BPF_ANY);
	return v.wanted;
}

static __always_inline bool in_cgroup(void)
{
	__u64 id = bpf_get_current_cgroup_id();
	struct verdict *v = bpf_map_lookup_elem(&verdicts, &id);

	if (v && v->generation == generation)
		return v->wanted;
	return judge_cgroup(id);
}

static __always_inline bool wanted(__u32 dev)
{
	if (device_count) {
		for (int i = 0; i < STARTUP_MAX_DEVICES; i++)
			if (devices[i] == dev)
				return true;
	}
	if (cgroup_count && in_cgroup())
		return true;
	if (process_count) {
		__u32 tgid = bpf_get_current_pid_tgid() >> 32;

		return bpf_map_lookup_elem(&processes, &tgid) != NULL;
	}
	return false;
}

/* ---- telling it ---- */

static __always_inline struct startup_event *event_new(__u32 dev, __u8 kind)
{
	struct startup_event *ev = bpf_ringbuf_reserve(&events, sizeof(*ev), 0);

	if (!ev) {
		__sync_fetch_and_add(&lost, 1);
		return NULL;
	}
	ev->at_ns = bpf_ktime_get_ns();
	ev->dev = dev;
	ev->tgid = bpf_get_current_pid_tgid() >> 32;
	ev->kind = kind;
	bpf_get_current_comm(ev->comm, sizeof(ev->comm));
	return ev;
}

/* The reader looks by itself several times a second; it is woken only when the ring fills up. */
static __always_inline void event_send(struct startup_event *ev)
{
	bool wake = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wake_bytes;

	bpf_ringbuf_submit(ev, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

/*
 * Whether this CPU has just told the same: a long read(2) asks again for its rest after each batch
 * of pages, and many short ones ask for one page over and over.
 */
static __always_inline bool repeated(__u64 ino, __u32 dev, __u64 off, __u64 end)
{
	__u32 zero = 0, tgid = bpf_get_current_pid_tgid() >> 32;
	struct recent *r = bpf_map_lookup_elem(&recently, &zero);

	if (!r)
		return false;
	if (r->ino == ino && r->dev == dev && r->tgid == tgid && r->off <= off && end <= r->end)
		return true;
	r->ino = ino;
	r->dev = dev;
	r->tgid = tgid;
	r->off = off;
	r->end = end;
	return false;
}

static __always_inline __u64 folio_pages(struct folio *folio)
{
	struct folio___order *old = (void *)folio;
	unsigned long flags = 0;
	__u64 order = 0;

	/* the flags come first in all versions, but not with one type */
	bpf_probe_read_kernel(&flags, sizeof(flags), folio);
	if (!(flags & (1ul << bpf_core_enum_value(enum pageflags, PG_head))))
		return 1;
	if (bpf_core_field_exists(old->_folio_order))
		order = BPF_CORE_READ(old, _folio_order);
	else if (bpf_core_field_exists(folio->_flags_1))
		order = BPF_CORE_READ(folio, _flags_1) & 0xff;
	return 1ull << (order & 31);
}

/* @folio: its pages, counted for those who pass only; NULL: @pages of them */
static __always_inline void tell(struct inode *inode, __u64 index, __u64 pages, struct folio *folio,
				 __u8 kind)
{
	__u32 type = inode->i_mode & S_IFMT, dev;
	bool device = type == S_IFBLK; /* of bdevfs: which device is told by i_rdev alone */
	struct startup_event *ev;
	__u64 off, end, size;

	dev = device ? inode->i_rdev : inode->i_sb->s_dev;
	if (!wanted(dev))
		return;
	if (folio)
		pages = folio_pages(folio);
	size = inode->i_size;
	off = index << page_shift;
	end = (index + pages) << page_shift;
	if (end > size)
		end = size;
	if (off >= end)
		return;
	if (kind == STARTUP_READ && repeated(inode->i_ino, dev, off, end))
		return;
	/* directories and links are read by the kernel for who looks them up, and never ahead */
	if (kind == STARTUP_CACHED && (type == S_IFDIR || type == S_IFLNK))
		kind = STARTUP_READ;
	ev = event_new(dev, kind);
	if (!ev)
		return;
	ev->ino = device ? 0 : inode->i_ino;
	ev->off = off;
	ev->bytes = end - off;
	ev->size = size;
	ev->flags = device ? STARTUP_DEVICE : 0;
	event_send(ev);
}

/* ---- demand: since 6.12 ---- */

SEC("tp_btf/mm_filemap_get_pages")
int BPF_PROG(on_get_pages, struct address_space *mapping, unsigned long first, unsigned long last)
{
	tell(mapping->host, first, last - first + 1, NULL, STARTUP_READ);
	return 0;
}

SEC("tp_btf/mm_filemap_fault")
int BPF_PROG(on_fault, struct address_space *mapping, unsigned long index)
{
	tell(mapping->host, index, 1, NULL, STARTUP_FAULT);
	return 0;
}

SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(on_map_pages, struct address_space *mapping, unsigned long first, unsigned long last)
{
	tell(mapping->host, first, last - first + 1, NULL, STARTUP_MAPPED);
	return 0;
}

/* ---- what was fetched ---- */

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(on_cached, struct folio *folio)
{
	tell(folio->mapping->host, folio->index, 1, folio, STARTUP_CACHED);
	return 0;
}

/* before 5.16 */
SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(on_cached_page, struct page *page)
{
	tell(page->mapping->host, page->index, 1, NULL, STARTUP_CACHED);
	return 0;
}

static __always_inline void tell_bio(struct bio *bio)
{
	unsigned int opf = bio->bi_opf;
	struct startup_event *ev;
	__u32 dev;

	if ((opf & REQ_OP_MASK) != REQ_OP_READ)
		return;
	if (bpf_core_field_exists(bio->bi_bdev)) {
		dev = bio->bi_bdev->bd_dev;
	} else {
		struct bio___disk *old = (void *)bio;

		dev = (__u32)old->bi_disk->major << 20 | (__u32)old->bi_disk->first_minor;
	}
	if (!wanted(dev))
		return;
	ev = event_new(dev, STARTUP_BLOCK);
	if (!ev)
		return;
	ev->ino = 0;
	ev->off = bio->bi_iter.bi_sector << 9;
	ev->bytes = bio->bi_iter.bi_size;
	ev->size = 0;
	ev->flags = STARTUP_DEVICE;
	if (opf & (1u << bpf_core_enum_value(enum req_flag_bits, __REQ_RAHEAD)))
		ev->flags |= STARTUP_AHEAD;
	event_send(ev);
}

SEC("tp_btf/block_bio_queue")
int BPF_PROG(on_bio, struct bio *bio)
{
	tell_bio(bio);
	return 0;
}

/* before 5.11 */
SEC("tp_btf/block_bio_queue")
int BPF_PROG(on_queue_bio, struct request_queue *q, struct bio *bio)
{
	tell_bio(bio);
	return 0;
}

/* ---- filters that follow what happens ---- */

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 from = parent->tgid, to = child->tgid;
	__u8 one = 1;

	if (from == to || !bpf_map_lookup_elem(&processes, &from))
		return 0;
	if (bpf_map_update_elem(&processes, &to, &one, BPF_ANY))
		__sync_fetch_and_add(&forks_missed, 1);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	__u32 tgid = task->tgid;

	if (task->signal->live.counter <= 0) /* the last thread */
		bpf_map_delete_elem(&processes, &tgid);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_cgroup_mkdir, struct cgroup *cgroup)
{
	struct startup_name name = {};
	__u64 id = cgroup->kn->id;
	__u8 one = 1;

	if (cgroup->root->hierarchy_id != 0) /* 0: version 2, whose ids we compare */
		return 0;
	bpf_probe_read_kernel_str(name.text, sizeof(name.text), cgroup->kn->name);
	if (!bpf_map_lookup_elem(&awaited, &name))
		return 0;
	bpf_map_update_elem(&cgroups, &id, &one, BPF_ANY);
	__sync_fetch_and_add(&generation, 1);
	__sync_fetch_and_add(&cgroup_count, 1);
	return 0;
}
