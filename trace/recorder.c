/* SPDX-License-Identifier: Apache-2.0 */
/* recorder.c - see recorder.h */
#include "recorder.h"

#include <errno.h>
#include <linux/types.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "cleanup.h"
#include "err.h"
#include "log.h"
#include "proc_task.h"
#include "startup_event.h"
#include <startup.skel.h>
#include "text.h"

#define RING_STANDARD_BYTES (8u << 20)
#define RING_MAX_BYTES	    (1u << 30)

struct recorder {
	struct startup_bpf *bpf;
	struct ring_buffer *ring;
	bool demand;
	bool follows, awaits; /* their programs are attached */
	int stats_fd;	      /* while it is open, the kernel measures programs; -1 */
	uint64_t last_ns;     /* of the event handed over last */

	/* of the call in progress */
	void (*fn)(void *arg, const struct recorder_event *ev);
	void *arg;
};

/* ---- what this kernel has ---- */

/* The prototype behind a tracepoint's BTF; NULL: no such tracepoint. Parameter 0 is its context. */
static const struct btf_type *tracepoint(const struct btf *btf, const char *name)
{
	_cleanup_free_ char *full = text_printf("btf_trace_%s", name);
	int id = btf__find_by_name_kind(btf, full, BTF_KIND_TYPEDEF);
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, (__u32)id) : NULL;

	t = t ? btf__type_by_id(btf, t->type) : NULL;
	t = t && btf_is_ptr(t) ? btf__type_by_id(btf, t->type) : NULL;
	return t && btf_is_func_proto(t) ? t : NULL;
}

static unsigned int arguments(const struct btf_type *proto)
{
	return proto && btf_vlen(proto) ? btf_vlen(proto) - 1u : 0;
}

/* Whether argument @n is a pointer to struct @name. */
static bool argument_is(const struct btf *btf, const struct btf_type *proto, unsigned int n,
			const char *name)
{
	const struct btf_type *t;

	if (n >= arguments(proto))
		return false;
	t = btf__type_by_id(btf, btf_params(proto)[n + 1].type);
	while (t && (btf_is_ptr(t) || btf_is_mod(t)))
		t = btf__type_by_id(btf, t->type);
	return t && btf_is_struct(t) && !strcmp(btf__name_by_offset(btf, t->name_off), name);
}

/* Choose the programs that fit this kernel. */
static int choose(struct recorder *r, const struct btf *btf, struct err *e)
{
	struct startup_bpf *b = r->bpf;
	const struct btf_type *added = tracepoint(btf, "mm_filemap_add_to_page_cache");
	const struct btf_type *queued = tracepoint(btf, "block_bio_queue");
	bool demand[] = {tracepoint(btf, "mm_filemap_get_pages") != NULL,
			 tracepoint(btf, "mm_filemap_fault") != NULL,
			 tracepoint(btf, "mm_filemap_map_pages") != NULL};
	bool folio = argument_is(btf, added, 0, "folio"), page = argument_is(btf, added, 0, "page");

	/* so that tests see what older kernels do */
	if (getenv("HEADSTART_TRACE_PLAIN"))
		demand[0] = demand[1] = demand[2] = false;
	r->demand = demand[0] && demand[1] && demand[2];
	bpf_program__set_autoload(b->progs.on_get_pages, demand[0]);
	bpf_program__set_autoload(b->progs.on_fault, demand[1]);
	bpf_program__set_autoload(b->progs.on_map_pages, demand[2]);
	bpf_program__set_autoload(b->progs.on_cached, folio);
	bpf_program__set_autoload(b->progs.on_cached_page, page);
	bpf_program__set_autoload(b->progs.on_bio, arguments(queued) == 1);
	bpf_program__set_autoload(b->progs.on_queue_bio, arguments(queued) == 2);
	bpf_program__set_autoload(b->progs.on_fork, tracepoint(btf, "sched_process_fork") != NULL);
	bpf_program__set_autoload(b->progs.on_exit, tracepoint(btf, "sched_process_exit") != NULL);
	bpf_program__set_autoload(b->progs.on_cgroup_mkdir,
				  tracepoint(btf, "cgroup_mkdir") != NULL);
	if (!r->demand && !folio && !page && !queued)
		return err_set(e, -EOPNOTSUPP,
			       "this kernel has no tracepoint of the page cache or the block layer "
			       "that is known here");
	if (!r->demand)
		log_warn("this kernel cannot tell what was demanded (Linux 6.12 can); recording "
			 "what was fetched, read-ahead included");
	return 0;
}

/* ---- loading ---- */

/* The last line that the library or the verifier had to say, for the message. */
static char last_words[256];

static int print_libbpf(enum libbpf_print_level level, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));

static int print_libbpf(enum libbpf_print_level level, const char *fmt, va_list args)
{
	char line[1024];
	size_t len;

	vsnprintf(line, sizeof(line), fmt, args);
	len = strcspn(line, "\n");
	line[len] = '\0';
	if (level == LIBBPF_WARN && len)
		snprintf(last_words, sizeof(last_words), "%.255s", line);
	log_debug("libbpf text=\"%s\"", line);
	return (int)len;
}

static int refuse(int r, const char *what, struct err *e)
{
	if (r == -EPERM || r == -EACCES)
		return err_set(e, -EPERM,
			       "%s: not permitted; needs root, or CAP_BPF and "
			       "CAP_PERFMON",
			       what);
	return err_set(e, r, "%s: %s%s%s", what, strerror(-r), *last_words ? "; " : "", last_words);
}

static int attach(struct bpf_program *p, struct bpf_link **link, struct err *e)
{
	if (!bpf_program__autoload(p))
		return 0;
	*link = bpf_program__attach(p);
	return *link ? 0 : refuse(-errno, bpf_program__name(p), e);
}

static int attach_readers(struct startup_bpf *b, struct err *e)
{
	int r = attach(b->progs.on_get_pages, &b->links.on_get_pages, e);

	r = r ? r : attach(b->progs.on_fault, &b->links.on_fault, e);
	r = r ? r : attach(b->progs.on_map_pages, &b->links.on_map_pages, e);
	r = r ? r : attach(b->progs.on_cached, &b->links.on_cached, e);
	r = r ? r : attach(b->progs.on_cached_page, &b->links.on_cached_page, e);
	r = r ? r : attach(b->progs.on_bio, &b->links.on_bio, e);
	return r ? r : attach(b->progs.on_queue_bio, &b->links.on_queue_bio, e);
}

static int handle(void *ctx, void *data, size_t bytes)
{
	struct recorder *r = ctx;
	const struct startup_event *in = data;
	struct recorder_event ev;

	if (bytes < sizeof(*in))
		return 0;
	ev = (struct recorder_event){
	    /* of two processors one may have looked at the clock first and been told second */
	    .at_ns = in->at_ns > r->last_ns ? in->at_ns : r->last_ns,
	    .ino = in->ino,
	    .off = in->off,
	    .bytes = in->bytes,
	    .file_bytes = in->flags & STARTUP_DEVICE ? 0 : in->size,
	    .dev = in->dev,
	    .pid = in->tgid,
	    .kind = (enum trace_kind)in->kind,
	    .device = in->flags & STARTUP_DEVICE,
	    .ahead = in->flags & STARTUP_AHEAD,
	};
	memcpy(ev.comm, in->comm, sizeof(in->comm));
	r->last_ns = ev.at_ns;
	r->fn(r->arg, &ev);
	return 0;
}

static int load(struct recorder *r, uint64_t ring_bytes, struct err *e)
{
	struct startup_bpf *b = r->bpf = startup_bpf__open();
	struct btf *btf;
	int err;

	if (!b)
		return refuse(-errno, "cannot open the BPF programs", e);
	btf = btf__load_vmlinux_btf();
	if (!btf)
		return err_set(e, -EOPNOTSUPP,
			       "this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)");
	err = choose(r, btf, e);
	btf__free(btf);
	if (err)
		return err;
	b->rodata->page_shift = (__u32)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));
	b->rodata->wake_bytes = ring_bytes / 4;
	err = bpf_map__set_max_entries(b->maps.events, (__u32)ring_bytes);
	err = err ? err : startup_bpf__load(b);
	if (err)
		return refuse(err, "cannot load the BPF programs", e);
	r->ring = ring_buffer__new(bpf_map__fd(b->maps.events), handle, r, NULL);
	if (!r->ring)
		return refuse(-errno, "cannot map the ring buffer", e);
	return attach_readers(b, e);
}

int recorder_new(uint64_t ring_bytes, struct recorder **ret, struct err *e)
{
	struct recorder *r;
	int err;

	ring_bytes = ring_bytes ? ring_bytes : RING_STANDARD_BYTES;
	if (ring_bytes & (ring_bytes - 1) || ring_bytes < (uint64_t)sysconf(_SC_PAGESIZE) ||
	    ring_bytes > RING_MAX_BYTES)
		return err_set(e, -EINVAL,
			       "the ring buffer's size is a power of two from 4K to 1G");
	libbpf_set_print(print_libbpf);
	last_words[0] = '\0';
	r = xmalloc_zero(1, sizeof(*r));
	r->stats_fd = -1;
	err = load(r, ring_bytes, e);
	if (err) {
		recorder_free(r);
		return err;
	}
	*ret = r;
	return 0;
}

void recorder_skip_mapped(struct recorder *r)
{
	bpf_link__destroy(r->bpf->links.on_map_pages);
	r->bpf->links.on_map_pages = NULL;
}

void recorder_stop(struct recorder *r)
{
	startup_bpf__detach(r->bpf);
}

void recorder_free(struct recorder *r)
{
	if (!r)
		return;
	cleanup_fd(&r->stats_fd);
	ring_buffer__free(r->ring);
	startup_bpf__destroy(r->bpf);
	free(r);
}

bool recorder_demand(const struct recorder *r)
{
	return r->demand;
}

/* ---- filters ---- */

int recorder_add_device(struct recorder *r, uint32_t major, uint32_t minor, struct err *e)
{
	volatile struct startup_bpf__bss *s = r->bpf->bss;

	if (s->device_count >= STARTUP_MAX_DEVICES)
		return err_set(e, -ENOSPC, "more than %d devices", STARTUP_MAX_DEVICES);
	s->devices[s->device_count] = major << 20 | (minor & 0xfffff);
	__atomic_store_n(&r->bpf->bss->device_count, s->device_count + 1, __ATOMIC_RELEASE);
	return 0;
}

int recorder_add_cgroup(struct recorder *r, uint64_t cgroup_id, struct err *e)
{
	__u8 one = 1;

	if (bpf_map__update_elem(r->bpf->maps.cgroups, &cgroup_id, sizeof(cgroup_id), &one,
				 sizeof(one), BPF_ANY))
		return err_set(e, -ENOSPC, "more than %d cgroups", STARTUP_MAX_CGROUPS);
	/* also done by the program that waits for cgroups */
	__atomic_fetch_add(&r->bpf->bss->generation, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&r->bpf->bss->cgroup_count, 1, __ATOMIC_SEQ_CST);
	return 0;
}

int recorder_await_cgroup(struct recorder *r, const char *name, struct err *e)
{
	struct startup_name key = {0};
	struct startup_bpf *b = r->bpf;
	_cleanup_free_ char *root = proc_cgroup_root();
	__u8 one = 1;
	int err;

	if (!root || !bpf_program__autoload(b->progs.on_cgroup_mkdir))
		return err_set(e, -EOPNOTSUPP, "waiting for a cgroup needs cgroup version 2");
	if (!*name || strlen(name) >= sizeof(key.text))
		return err_set(e, -EINVAL, "a cgroup's name has 1 to %zu bytes",
			       sizeof(key.text) - 1);
	memcpy(key.text, name, strlen(name));
	if (bpf_map__update_elem(b->maps.awaited, &key, sizeof(key), &one, sizeof(one), BPF_ANY))
		return err_set(e, -ENOSPC, "too many cgroups to wait for");
	if (r->awaits)
		return 0;
	err = attach(b->progs.on_cgroup_mkdir, &b->links.on_cgroup_mkdir, e);
	r->awaits = !err;
	return err;
}

static void add_process(void *arg, pid_t pid)
{
	struct recorder *r = arg;
	__u32 key = (__u32)pid;
	__u8 one = 1;

	if (bpf_map__update_elem(r->bpf->maps.processes, &key, sizeof(key), &one, sizeof(one),
				 BPF_ANY))
		__atomic_fetch_add(&r->bpf->bss->forks_missed, 1, __ATOMIC_SEQ_CST);
}

int recorder_add_pid(struct recorder *r, pid_t pid, struct err *e)
{
	struct startup_bpf *b = r->bpf;
	int err = 0;

	if (!bpf_program__autoload(b->progs.on_fork) || !bpf_program__autoload(b->progs.on_exit))
		return err_set(e, -EOPNOTSUPP, "this kernel has no tracepoints of fork and exit");
	if (!r->follows) {
		err = attach(b->progs.on_exit, &b->links.on_exit, e);
		err = err ? err : attach(b->progs.on_fork, &b->links.on_fork, e);
		r->follows = !err;
	}
	if (err)
		return err;
	/* from now on new children are followed; then those who are there already */
	add_process(r, pid);
	__atomic_fetch_add(&b->bss->process_count, 1, __ATOMIC_SEQ_CST);
	/* a child of somebody not added yet may be born meanwhile: the second look finds it */
	for (int i = 0; i < 2 && !err; i++)
		err = proc_descendants(pid, add_process, r, e);
	return err;
}

bool recorder_following(const struct recorder *r)
{
	__u32 key;

	return !bpf_map__get_next_key(r->bpf->maps.processes, NULL, &key, sizeof(key));
}

/* ---- events ---- */

int recorder_fd(const struct recorder *r)
{
	return bpf_map__fd(r->bpf->maps.events);
}

int recorder_poll(struct recorder *r, int timeout_ms,
		  void (*fn)(void *arg, const struct recorder_event *ev), void *arg)
{
	struct pollfd p = {.fd = recorder_fd(r), .events = POLLIN};

	if (timeout_ms && poll(&p, 1, timeout_ms) < 0)
		return -errno;
	r->fn = fn;
	r->arg = arg;
	return ring_buffer__consume(r->ring);
}

uint64_t recorder_lost(const struct recorder *r)
{
	return __atomic_load_n(&r->bpf->bss->lost, __ATOMIC_RELAXED);
}

uint64_t recorder_missed(const struct recorder *r)
{
	return __atomic_load_n(&r->bpf->bss->forks_missed, __ATOMIC_RELAXED);
}

/* ---- what it costs ---- */

int recorder_measure(struct recorder *r, struct err *e)
{
	if (r->stats_fd < 0)
		r->stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	return r->stats_fd < 0 ? refuse(-errno, "the kernel's statistics of BPF programs", e) : 0;
}

int recorder_cost(const struct recorder *r, uint64_t *ret_calls, uint64_t *ret_ns, struct err *e)
{
	struct bpf_program *p;

	*ret_calls = *ret_ns = 0;
	bpf_object__for_each_program(p, r->bpf->obj)
	{
		struct bpf_prog_info info = {0};
		__u32 len = sizeof(info);

		if (!bpf_program__autoload(p))
			continue;
		if (bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &len))
			return refuse(-errno, bpf_program__name(p), e);
		*ret_calls += info.run_cnt;
		*ret_ns += info.run_time_ns;
	}
	return 0;
}
