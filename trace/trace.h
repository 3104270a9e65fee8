/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.h - what one start was seen to read: in memory, and as a file (trace/FORMAT.md)
 *
 * An event says that a process touched a range of an object: a file of the image, or the image's
 * block device itself (file system metadata). Objects and processes are numbered in order of their
 * first event. Plain data; the writer appends whole blocks, so that what a crash leaves is good up
 * to there; paths of objects come last, after the start, and may be missing then.
 */
#ifndef HS_TRACE_TRACE_H
#define HS_TRACE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define TRACE_MAX_BYTES	    (512u << 20)
#define TRACE_MAX_EVENTS    (16u << 20)
#define TRACE_MAX_OBJECTS   (1u << 20)
#define TRACE_MAX_PROCESSES 65536u
#define TRACE_PATH_BYTES    4096u

enum trace_kind {
	TRACE_READ = 1,	  /* demand: read(2) and the like asked for these pages, cached or not */
	TRACE_FAULT = 2,  /* demand: a page fault on a mapping */
	TRACE_MAPPED = 3, /* fault-around mapped these cached pages: perhaps demand */
	TRACE_CACHED = 4, /* pages entered the page cache: demand, read-ahead or metadata */
	TRACE_BLOCK = 5,  /* a read reached the block device */
};

enum trace_object_kind {
	TRACE_FILE = 1,	  /* of the file system on device @dev, or of a directory tree */
	TRACE_DEVICE = 2, /* the block device @dev itself: offsets are device bytes */
};

struct trace_object {
	enum trace_object_kind kind;
	uint32_t dev;	/* kernel number: major << 20 | minor */
	uint64_t ino;	/* FILE */
	uint64_t bytes; /* size when first seen; 0 not known */
	char *path;	/* inside the image, absolute; NULL: not attributed */
};

struct trace_process {
	uint32_t pid; /* thread group */
	char comm[17];
};

struct trace_event {
	uint64_t at_ns; /* since the trace's start; ascending */
	uint64_t off, bytes;
	uint32_t object, process; /* indexes */
	uint8_t kind;		  /* enum trace_kind */
	bool ahead;		  /* BLOCK: flagged as read-ahead by the kernel */
};

/* How the demand events are to be taken. */
enum trace_precision {
	TRACE_EXACT = 1,   /* read-ahead was off: READ and FAULT are all demand and nothing else */
	TRACE_WINDOWS = 2, /* read-ahead on: MAPPED windows up to 64 KiB count as demand too */
	TRACE_FETCHED = 3, /* no demand tracepoints in this kernel: CACHED and BLOCK only */
};

struct trace {
	/* the head */
	char *image;	  /* as it was named; "" not known */
	char digest[72];  /* of its manifest; "" not known (overlayfs start) */
	char *kernel;	  /* uname release */
	char *filter;	  /* for people: "device 7:3", "cgroup /default/web" */
	uint64_t unix_ns; /* CLOCK_REALTIME at the trace's start */
	enum trace_precision precision;
	uint64_t read_ahead_bytes; /* of the device; UINT64_MAX not known */

	struct trace_object *objects;
	size_t object_count;
	struct trace_process *processes;
	size_t process_count;
	struct trace_event *events;
	size_t event_count;

	/* the end block; zeros when @truncated */
	uint64_t lost_events; /* the ring buffer was full */
	uint64_t
	    unattributed_events; /* of objects without a path; DEVICE objects are not counted */
	uint64_t ended_ns;	 /* since the start */
	char *ended_by;		 /* "idle", "limit", "signal", "probe", "exit"; "" */
	bool truncated;
};

void trace_free(struct trace *t); /* NULL is fine */

/*
 * trace_is_demand - whether somebody waited for what @ev, an event of @t, names
 * File system metadata is read through the device, without an event of demand of its own and never
 * ahead: there, what entered the page cache was demanded.
 */
bool trace_is_demand(const struct trace *t, const struct trace_event *ev);

/* trace_parse - whole file; 0, -ENOENT not a trace, -EOPNOTSUPP newer version, -EBADMSG, -EFBIG */
int trace_parse(const void *p, size_t bytes, struct trace **ret, struct err *e);
int trace_load(const char *path, struct trace **ret, struct err *e);

/* trace_encode - the reverse; caller frees */
int trace_encode(const struct trace *t, uint8_t **ret, size_t *ret_bytes, struct err *e);

/* The writer of a running recording: blocks are appended as they fill, or every second. */
struct trace_writer;

/*
 * trace_writer_open - @head: only the members of the head are used
 * The file is PATH from the start, so that something is there after a crash. 0 or -errno.
 */
int trace_writer_open(const char *path, const struct trace *head, struct trace_writer **ret,
		      struct err *e);
/* trace_writer_object/process - the number of a known or new one; UINT32_MAX: too many */
uint32_t trace_writer_object(struct trace_writer *w, enum trace_object_kind kind, uint32_t dev,
			     uint64_t ino, uint64_t bytes);
uint32_t trace_writer_process(struct trace_writer *w, uint32_t pid, const char *comm);
/*
 * trace_writer_add - an event told late takes the time of the one before it
 * Returns 0, -EINVAL an object or process that does not exist or a range that wraps, -EFBIG over
 * TRACE_MAX_EVENTS, -errno of the write.
 */
int trace_writer_add(struct trace_writer *w, const struct trace_event *ev, struct err *e);
int trace_writer_flush(struct trace_writer *w, struct err *e);
size_t trace_writer_objects(const struct trace_writer *w); /* how many there are */
const struct trace_object *trace_writer_object_at(const struct trace_writer *w, size_t n);
void trace_writer_path(struct trace_writer *w, size_t object, const char *path, uint64_t bytes);
/* trace_writer_close - paths and the end block; NULL is fine; @lost: events of the ring */
int trace_writer_close(struct trace_writer *w, uint64_t lost, uint64_t ended_ns,
		       const char *ended_by, struct err *e);

#endif
