/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime.h - runc or crun, with a state directory of its own per run
 */
#ifndef HS_TOOLS_RUNTIME_H
#define HS_TOOLS_RUNTIME_H

#include <sys/types.h>

struct err;
struct record;

/*
 * runtime_find - absolute path of @name (a path, or a name looked up in $PATH)
 * @name: NULL: runc, else crun. Returns 0 or -ENOENT; caller frees.
 */
int runtime_find(const char *name, char **ret, struct err *e);

/*
 * runtime_prepare - in the caller's own mount namespace: make the place fit for the runtime
 *
 * crun refuses hosts with cgroup v1 and v2 mixed as long as it sees the v2 tree; here it is
 * unmounted.
 */
void runtime_prepare(const char *path);

/*
 * runtime_run - start the container of @rec from @bundle in the foreground, with our streams
 * @null_stdin: it reads from /dev/null instead
 * Returns the pid of the runtime, or -errno. It gets SIGTERM when we die.
 */
pid_t runtime_run(const struct record *rec, const char *bundle, int null_stdin, struct err *e);

/* runtime_kill - send a signal to the container's first process; output is thrown away */
int runtime_kill(const struct record *rec, const char *signal);

/* runtime_cgroup - cgroup of the container of @rec below @root ("": as a config.json names it) */
char *runtime_cgroup(const struct record *rec, const char *root);

/* runtime_delete - kill and forget the container of @rec, if there is one, and its cgroups */
void runtime_delete(const struct record *rec);

#endif
