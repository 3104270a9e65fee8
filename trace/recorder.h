/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recorder.h - the BPF programs at work: load, filter, and hand over what they see
 *
 * Events pass in the kernel when they meet any of the filters: a device (of the file system, or
 * read directly), a cgroup with everything below it, a process with its descendants. Filters may be
 * added while it runs. One thread polls; the rest of the kernel is not slowed beyond the
 * tracepoint.
 */
#ifndef HS_TRACE_RECORDER_H
#define HS_TRACE_RECORDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "trace.h"

struct err;
struct recorder;

/*
 * One event as the kernel told it; times are CLOCK_MONOTONIC and do not go back.
 *
 * What is read of directories and symbolic links through their own page cache (EROFS) is READ: the
 * kernel reads them for who looks them up, never ahead. A READ that lies within the one before it
 * on the same processor is left out.
 */
struct recorder_event {
	uint64_t at_ns;
	uint64_t ino;
	uint64_t off, bytes; /* clipped to the file's size */
	uint64_t file_bytes; /* i_size; 0 for a device */
	uint32_t dev;	     /* s_dev of a file, bd_dev of a device */
	uint32_t pid;
	enum trace_kind kind;
	bool device; /* an access to the block device itself */
	bool ahead;
	char comm[17];
};

/*
 * recorder_new - load and attach; nothing passes until a filter is added
 * @ring_bytes: size of the ring buffer, a power of two; 0: 8 MiB
 * Returns 0, -EPERM (needs root or CAP_BPF + CAP_PERFMON), -EOPNOTSUPP what this kernel lacks.
 */
int recorder_new(uint64_t ring_bytes, struct recorder **ret, struct err *e);
void recorder_free(struct recorder *r); /* detaches; NULL is fine */
/* recorder_skip_mapped - no MAPPED events, which tell nothing new when the read-ahead is off */
void recorder_skip_mapped(struct recorder *r);
/* recorder_stop - nothing more passes; what is there can still be polled for */
void recorder_stop(struct recorder *r);

/* recorder_demand - whether the kernel has the demand tracepoints; else CACHED and BLOCK only */
bool recorder_demand(const struct recorder *r);

int recorder_add_device(struct recorder *r, uint32_t major, uint32_t minor, struct err *e);
/* recorder_add_cgroup - @cgroup_id of version 2 (proc_task.h); with all below it, now or later */
int recorder_add_cgroup(struct recorder *r, uint64_t cgroup_id, struct err *e);
/* recorder_add_pid - with its descendants, now or later; the pid as the host has it */
int recorder_add_pid(struct recorder *r, pid_t pid, struct err *e);
bool recorder_following(const struct recorder *r); /* whether one of those processes lives */
/*
 * recorder_await_cgroup - a cgroup that is made later and whose directory is called @name is
 * filtered for from its very first event
 */
int recorder_await_cgroup(struct recorder *r, const char *name, struct err *e);

/*
 * recorder_fd - readable when there are events; but who sleeps on it is woken only when a quarter
 * of the ring is full, because waking costs more than the event: poll at least every 100 ms or so
 */
int recorder_fd(const struct recorder *r);
/*
 * recorder_poll - hand what is there to @fn; waits for it at most @timeout_ms
 * Returns the number of events or -errno.
 */
int recorder_poll(struct recorder *r, int timeout_ms,
		  void (*fn)(void *arg, const struct recorder_event *ev), void *arg);
uint64_t recorder_lost(const struct recorder *r); /* events the ring had no room for */
/* recorder_missed - processes that could not be followed: there were too many */
uint64_t recorder_missed(const struct recorder *r);

/*
 * recorder_measure - have the kernel measure the programs from now on (5.8), which costs some
 * itself recorder_cost - calls and time of all of them since
 */
int recorder_measure(struct recorder *r, struct err *e);
int recorder_cost(const struct recorder *r, uint64_t *ret_calls, uint64_t *ret_ns, struct err *e);

#endif
