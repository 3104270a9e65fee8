/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container.h - a container whose root filesystem arrives as it is read, in the foreground
 *
 *	record -> server -> loop device -> [mount namespace] image -> overlay -> config.json ->
 *runtime
 *
 * After the loop device is there, this process moves into a mount namespace of its own, where the
 * image and the overlay are mounted. So they cannot outlive this process and its container: when
 * both are gone, however they died, the kernel unmounts everything, the loop device clears itself
 * and the server ends. What is left for `headstart umount` after a kill -9 is files.
 *
 * One container per process; the options are one static object that commands put in their tables.
 */
#ifndef HS_TOOLS_CONTAINER_H
#define HS_TOOLS_CONTAINER_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attach.h"
#include "oci_runtime.h"
#include "options.h"

struct err;

struct container_options {
	const char *name, *entrypoint, *user, *working_dir, *hostname, *net, *runtime;
	struct option_list env, volumes;
	bool tty, interactive, keep, rm_accepted, read_only;
	uint64_t read_ahead; /* of the loop device, bytes */
	uint64_t stop_timeout;
};

extern struct container_options container_opts;
extern const struct option_def container_option_defs[];

/* What a caller that watches the container hooks in; any member may be NULL. */
struct container_hooks {
	void *arg;
	/* the loop device is there, nothing has been read from it; non-zero ends it all */
	int (*looped)(void *arg, const struct loopdev *l, struct err *e);
	/* the runtime has been started as @pid, a child of ours */
	void (*started)(void *arg, pid_t pid);
	/* we were told to end by @sig, which is passed on to the container */
	void (*signalled)(void *arg, int sig);
	/* descriptors to wait for besides ours: fill at most @room, lower @timeout_ms if need be */
	size_t (*wait)(void *arg, struct pollfd *p, size_t room, int *timeout_ms);
	/* after each wait; true: stop the container now (asked again until it has ended) */
	bool (*turn)(void *arg, const struct pollfd *p, size_t count);
};

struct container {
	struct attach a;
	struct run_image image;
	struct run_user user;
	struct run_bind *binds;
	size_t bind_count;
	char *lower, *rootfs, *state; /* paths */
	const char *netns;	      /* as in struct run_spec */
	bool overlaid;
	pid_t warm_pid; /* see pagewarm.h; 0: none */
	int code;	/* exit code, once it ran */
	const struct container_hooks *hooks;

	/* when each step was done; clock_now_ns(); 0: not reached */
	uint64_t start_ns, served_ns, looped_ns, mounted_ns, overlaid_ns, prepared_ns, ended_ns,
	    torn_down_ns;
};

/*
 * container_run - from the image's name until the container has ended; @u is zeroed before
 * @hooks: may be NULL; @args: NULL-terminated command or nothing
 * Returns 0 with u->code, or a negative errno. In both cases the server may still be asked, then
 * container_tear_down() takes everything back, and container_done() frees.
 */
int container_run(struct container *u, const char *image, char **args,
		  const struct container_hooks *hooks, struct err *e);
void container_tear_down(struct container *u);
void container_done(struct container *u);

/* container_pid - the container's first process, as the runtime's state tells; 0: not (yet) there
 */
pid_t container_pid(const struct record *rec);

#endif
