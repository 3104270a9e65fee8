/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach.h - the steps from an image name to a mounted file system, and all of them backwards
 *
 *	record -> server -> loop device -> file system mounted
 *
 * A step that fails leaves what was done before it to attach_undo(), which goes back in order: file
 * system, loop device, server (which unmounts FUSE), record.
 */
#ifndef HS_TOOLS_ATTACH_H
#define HS_TOOLS_ATTACH_H

#include <stdbool.h>
#include <stdint.h>

#include "rootfs.h"
#include "server.h"

struct err;
struct record;

struct attach {
	struct record *rec;
	int client_lock;
	struct server server;
	bool served;
	struct loopdev loop;
	bool read_ahead_auto; /* the server goes on choosing */
	bool mounted;
	const char *dir; /* where, while mounted; the caller's */
};

/*
 * attach_start - make a record of @kind and a server for @image
 * Every one of these returns 0, -EINTR after a signal, or a negative errno; on failure the
 * caller calls attach_undo().
 */
int attach_start(struct attach *a, const char *kind, const char *image, struct err *e);
/* @read_ahead_bytes: READ_AHEAD_AUTO: as the server's prefetch list asks for */
int attach_loop(struct attach *a, uint64_t read_ahead_bytes, struct err *e);
int attach_mount(struct attach *a, const char *dir, unsigned long flags, struct err *e);

/* attach_settle - the mount is complete: it now lives without us; the record is kept */
int attach_settle(struct attach *a, struct err *e);

/* attach_undo - take back what was done; harmless after attach_settle() and on a zeroed object */
void attach_undo(struct attach *a);

/*
 * detach_mount - end the mount of @rec, whatever state it is in
 * @force: unmount lazily although it is in use, and end the server
 * Returns 0, -EBUSY in use (the message says by whom), -ETIMEDOUT the server did not end.
 */
int detach_mount(const struct record *rec, bool force, struct err *e);

/*
 * detach_remains - what a dead server left: loop device, FUSE mount, record
 * Also waits for a living server to end, and makes it with @force.
 */
int detach_remains(const struct record *rec, bool force, struct err *e);

#endif
