/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * startup_event.h - what the BPF programs and their loader share; includes nothing
 *
 * Include a header that has __u32 and the like before this one.
 */
#ifndef HS_BPF_STARTUP_EVENT_H
#define HS_BPF_STARTUP_EVENT_H

#define STARTUP_MAX_DEVICES   8
#define STARTUP_MAX_CGROUPS   256
#define STARTUP_MAX_PROCESSES 16384
#define STARTUP_NAME_BYTES    128 /* of a cgroup's directory, NUL included */
#define STARTUP_COMM_BYTES    16

/* startup_event.kind: numbers of enum trace_kind */
#define STARTUP_READ   1
#define STARTUP_FAULT  2
#define STARTUP_MAPPED 3
#define STARTUP_CACHED 4
#define STARTUP_BLOCK  5

/* startup_event.flags */
#define STARTUP_DEVICE 1 /* the block device itself, no file */
#define STARTUP_AHEAD  2 /* flagged as read-ahead by the kernel */

struct startup_event {
	__u64 at_ns; /* CLOCK_MONOTONIC */
	__u64 ino;
	__u64 off, bytes; /* clipped to @size, but for BLOCK */
	__u64 size;	  /* of the file or device; 0: not known */
	__u32 dev;	  /* major << 20 | minor */
	__u32 tgid;
	__u8 kind, flags;
	__u8 reserved[6];
	char comm[STARTUP_COMM_BYTES];
};

/* Name of a cgroup to wait for; NUL and zeros behind. */
struct startup_name {
	char text[STARTUP_NAME_BYTES];
};

#endif
