/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - the background process that serves one mount
 *
 * One process per mount: what a bad image, a full memory limit or a bug takes down is that one
 * mount; stopping it is killing a process; and limits (memory, connections, log) are per mount.
 *What mounts could share, the fetched bytes, they share through the cache directory, which several
 *processes may use. The price is one connection pool and one decoder pool per mount.
 *
 * The server is forked off by the command that mounts and talks to it over a socket pair:
 *
 *	server: {"ready":true, ...} or {"error":...}	once, when the device exists or cannot
 *	client: {"attached":true, ["loop":N]}	when the loop device holds the file
 *
 * If the client's end closes before "attached", the client failed or was killed and the server
 *ends. Afterwards it lives as long as somebody has the device open: unmounting the file system
 *clears the loop device, which closes the file, which ends the server. It also ends on SIGTERM, on
 *{"op":"stop"} and when its FUSE file system was unmounted. It never touches anything that is
 *mounted from its own device.
 */
#ifndef HS_TOOLS_SERVER_H
#define HS_TOOLS_SERVER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct loopdev;
struct record;

/* The client's view of a server that is ready. */
struct server {
	int sock; /* -1 once attached */
	pid_t pid;
	uint64_t bytes;
	bool exact;    /* a list that tells what a start reads is replayed, or still looked for */
	char *digest;  /* "" for a config.v1.json */
	char *config;  /* image config, NULL for a config.v1.json */
	cJSON *opened; /* "exchanges", "requests", "bytes", "ns" */
};

/*
 * server_start - fork a server for @rec, open @image in it, wait until its device is there
 *
 * Engine options come from the common ones. Returns 0, -EINTR a signal came, or what failed
 * in the server, with its message.
 */
int server_start(const struct record *rec, const char *image, struct server *ret, struct err *e);

/*
 * server_attached - the loop device holds the file; the server now lives by its openers
 * @loop: whose read-ahead it shall choose from now on, or NULL
 */
int server_attached(struct server *s, const struct loopdev *loop, struct err *e);

/* server_done - forget; ends a server that was not told server_attached() */
void server_done(struct server *s);

/* server_wait_end - until no server of @rec lives; 0 or -ETIMEDOUT; not ended by signals */
int server_wait_end(const struct record *rec, uint64_t timeout_ns);

/* server_device_path - the file that the server of @rec offers; caller frees */
char *server_device_path(const struct record *rec);

#endif
