/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_task.h - what /proc tells about processes: their cgroup, their descendants, their mounts
 *
 * Processes come and go while they are looked at; who is gone is left out. The parsers are pure.
 */
#ifndef HS_TRACE_PROC_TASK_H
#define HS_TRACE_PROC_TASK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

/*
 * proc_cgroup_id - the version 2 cgroup of @pid, as BPF programs see it
 * @ret_path: as in /proc/PID/cgroup, "/default/web"; may be NULL; caller frees
 * Returns 0, -ENOENT no such process, -EOPNOTSUPP no version 2 hierarchy is mounted here.
 */
int proc_cgroup_id(pid_t pid, uint64_t *ret_id, char **ret_path, struct err *e);

/* proc_cgroup_root - where the version 2 hierarchy is mounted; NULL: nowhere; caller frees */
char *proc_cgroup_root(void);

/* proc_cgroup_parse - the path in the "0::" line of a /proc/PID/cgroup; NULL: none; caller frees */
char *proc_cgroup_parse(const char *text);

/* proc_stat_parent - parent in a line of /proc/PID/stat, whatever the name in it; 0: no such line
 */
pid_t proc_stat_parent(const char *stat);

/* proc_stat_start - when it began, in ticks since the host's start; 0: no such line */
uint64_t proc_stat_start(const char *stat);
/* proc_start_ns - when a process began, by CLOCK_BOOTTIME; 0: there is none */
uint64_t proc_start_ns(pid_t pid);

/* proc_descendants - @fn is called for every process below @pid, in no order; 0 or -errno */
int proc_descendants(pid_t pid, void (*fn)(void *arg, pid_t pid), void *arg, struct err *e);

/* One line of a mountinfo; strings with their escapes resolved. */
struct proc_mount {
	uint32_t dev; /* major << 20 | minor */
	char *root;   /* what of the file system is mounted */
	char *dir;    /* mount point, as the process sees it */
	char *fstype;
	char *source;
	char *options; /* of the file system: escapes left in, commas separate */
};

/* proc_mount_parse - the topmost mount at exactly @dir; 0 or -ENOENT */
int proc_mount_parse(const char *mountinfo, const char *dir, struct proc_mount *ret);
/* proc_mount_at - the same for a living process (0: ourselves) */
int proc_mount_at(pid_t pid, const char *dir, struct proc_mount *ret, struct err *e);
void proc_mount_done(struct proc_mount *m);

/* proc_unescape - \040 and the like, in place */
void proc_unescape(char *s);

#endif
