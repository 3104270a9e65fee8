/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - records of mounts and runs in the run directory
 *
 * RUN-DIR/ID/ belongs to one mount or run:
 *
 *	record.json	what it is; written by the command that made it, replaced atomically
 *	server.lock	held (flock) by the server process as long as it lives; holds its pid
 *	client.lock	held by the command that mounts, or by `headstart run` while it runs
 *	control.sock	see control.h
 *	log		of the server
 *	dev/		where the server mounts its FUSE file system
 *	lower/ rootfs/	mount points of a run, runtime/ state of its OCI runtime
 *
 * Whether somebody lives is asked of the locks, never of a pid: pids come back. Whoever ends a
 *mount or run removes the directory last; a directory whose locks are free is left over from a
 *crash.
 */
#ifndef HS_TOOLS_STATE_H
#define HS_TOOLS_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

#define RECORD_ID_CHARS 12

/* All strings owned by the record, NULL when not known (yet). */
struct record {
	char id[RECORD_ID_CHARS + 1];
	char *path;  /* RUN-DIR/ID */
	char *kind;  /* "mount" or "run" */
	char *name;  /* run: --name */
	char *image; /* as it was named */
	char *digest;
	char *dir; /* mount: where */
	char *fstype;
	char *loop;	  /* "/dev/loop3" */
	char *state_path; /* run: upper, work, bundle */
	char *runtime;	  /* run: path of the OCI runtime */
	uint64_t created_s;
	uint64_t bytes; /* of the device */
};

/* record_create - a new directory with an id of its own; nothing is written into it yet */
int record_create(const char *run_dir, const char *kind, struct record **ret, struct err *e);
int record_save(const struct record *r, struct err *e);
/* record_load - -ENOENT no such directory, -EBADMSG not a record (yet) */
int record_load(const char *run_dir, const char *id, struct record **ret, struct err *e);
void record_free(struct record *r); /* NULL is fine */

/* record_file - RUN-DIR/ID/NAME; caller frees */
char *record_file(const struct record *r, const char *name);

/*
 * record_lock - take @name ("server.lock", "client.lock") and write our pid into it
 * The lock lives as long as any copy of the descriptor. -EBUSY when somebody has it.
 */
int record_lock(const struct record *r, const char *name, int *ret_fd, struct err *e);
/* record_write_pid - after a fork: the pid behind a lock that was inherited */
void record_write_pid(int lock_fd);
/* record_holder - whether somebody holds it, and the pid written there (0: not known) */
bool record_holder(const struct record *r, const char *name, pid_t *ret_pid);

/* record_is_dead - nobody looks after it any more; `headstart umount` would clean it up */
bool record_is_dead(const struct record *r);

/* record_list - all that can be read, oldest first; an absent run directory has none */
int record_list(const char *run_dir, struct record ***ret, size_t *ret_count, struct err *e);
void record_list_free(struct record **list, size_t count);

/*
 * record_find - by id (or an unambiguous start of it), name, or directory
 * -ENOENT nothing of that name, -EINVAL an ambiguous start
 */
int record_find(const char *run_dir, const char *key, struct record **ret, struct err *e);

/* record_remove - the directory and all in it, but nothing that is mounted there */
int record_remove(const struct record *r, struct err *e);

/*
 * tree_remove - rm -rf without following links or crossing into another file system
 * Any depth is fine: a container may have made it. 0 also when it was not there.
 */
int tree_remove(const char *path, struct err *e);

#endif
