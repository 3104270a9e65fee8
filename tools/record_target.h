/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record_target.h - somebody else's start: a container of containerd, or a process
 *
 * A container may not be there yet: its cgroup is waited for by name in the kernel, so that nothing
 * is missed. Where its root filesystem comes from is learnt while it lives, and walked after the
 * recording, when most of it can be found without the container.
 */
#ifndef HS_TOOLS_RECORD_TARGET_H
#define HS_TOOLS_RECORD_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "attribute.h"
#include "trace.h"

struct err;
struct recording;

struct record_target {
	/* what is asked for */
	const char *container, *namespace, *containerd_dir; /* container: NULL: a process */
	pid_t pid; /* of the process, or of the container's first one; 0: not there yet */

	/* what is known */
	bool filtered;		     /* by its own cgroup or process, not by a cgroup to come */
	int pid_fd;		     /* -1 */
	bool rooted;		     /* what follows is known */
	struct overlay_parts layers; /* none: its root is no overlay */
	char *tree;		     /* a directory that shows its root; may be gone later */
	char *image, *filter;	     /* for the head; NULL: not known */
	char digest[72];
	uint64_t read_ahead_bytes; /* UINT64_MAX: not known, or several */
};

/* record_target_open - add filters to @g; 0, -ESRCH no such process, -EOPNOTSUPP */
int record_target_open(struct record_target *t, struct recording *g, struct err *e);
void record_target_close(struct record_target *t);

/*
 * record_target_turn - look whether more is known by now
 * Returns 0, or an error that ends the recording.
 */
int record_target_turn(struct record_target *t, struct recording *g, struct err *e);
bool record_target_ended(const struct record_target *t, const struct recording *g);

/* record_target_head - what is known of it, for the trace */
void record_target_head(const struct record_target *t, struct trace *ret);

/* record_target_device - walk the file system of the image on the loop device @dev */
int record_target_device(struct attribution *a, uint32_t dev, struct err *e);

/* record_target_name - paths for the files of @g's trace; what cannot be found stays without */
void record_target_name(const struct record_target *t, struct recording *g);

#endif
