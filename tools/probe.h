/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - whether a container is ready: asked again and again, in its network, without waiting
 *
 * HTTP and commands are tried by a child process that has joined the container's network
 * namespace; the next try begins when the one before has ended. Log lines are matched as they pass.
 */
#ifndef HS_TOOLS_PROBE_H
#define HS_TOOLS_PROBE_H

#include <poll.h>
#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

/* Where an http:// URL leads; strings owned by it. */
struct probe_url {
	char *host; /* without brackets */
	char *port;
	char *authority; /* as in the Host header */
	char *path;
};

/* probe_url_parse - 0 or -EINVAL; https is refused */
int probe_url_parse(const char *url, struct probe_url *ret, struct err *e);
void probe_url_done(struct probe_url *u);

/* probe_http_status - code in the first line of an answer; 0: that is none */
unsigned int probe_http_status(const char *answer);

/* A stream of the container that passes through us. */
struct probe_stream {
	int from; /* our end of a pipe; -1: none or at its end */
	int to;	  /* where its bytes go */
	char line[8192];
	size_t len;
};

/* Zero-initialise; set what is wanted; then probe_open(). */
struct probe {
	const char *http, *exec, *log; /* NULL: not asked */

	struct probe_url url;
	regex_t pattern;
	bool pattern_set;
	int netns;   /* of the container; -1 until known */
	pid_t child; /* a try under way; 0: none */
	int child_fd;
	uint64_t started_ns, next_ns;
	struct probe_stream stream[2]; /* standard output and error */
	int saved[2];		       /* ours, while the pipes are in their place; -1 */
	const char *ready_by;	       /* "http", "exec", "log"; NULL: not yet */
};

int probe_open(struct probe *p, struct err *e);
void probe_close(struct probe *p); /* ends a try, forwards what is left; after probe_open() only */

/*
 * probe_divert - from now on what is started writes into our pipes, if --until-log asks for it
 * @errors_only: its standard output goes to our standard error
 */
int probe_divert(struct probe *p, bool errors_only, struct err *e);
void probe_restore(struct probe *p); /* our own streams again */

/* probe_network - the container's network namespace is that of @pid; once */
void probe_network(struct probe *p, pid_t pid);

size_t probe_wait(const struct probe *p, struct pollfd *ret, size_t room);
/* probe_turn - pass streams on, look after tries; true once it was ready */
bool probe_turn(struct probe *p);

#endif
