/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - how commands talk to a server process
 *
 * A Unix stream socket RUN-DIR/ID/control.sock. The client sends one JSON object in one line,
 * {"op":"status"}, {"op":"report"}, {"op":"pages"} or
 * {"op":"stop"}, and gets one line back, with "error" in it
 * when it was refused; then the server closes. Only root and the server's own user are answered.
 * Both sides give up after a while, so that neither can be made to hang by the other.
 */
#ifndef HS_TOOLS_CONTROL_H
#define HS_TOOLS_CONTROL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define CONTROL_SOCKET	      "control.sock"
#define CONTROL_LINE_BYTES    (32u << 20) /* a ready line holds an image config */
#define CONTROL_REQUEST_BYTES 4096u
#define CONTROL_TIMEOUT_MS    3000

/* control_listen - @dir: RUN-DIR/ID, any length of path; a socket that is there is replaced */
int control_listen(const char *dir, int *ret_fd, struct err *e);

/*
 * control_serve_one - accept one client of @listen_fd and answer it
 * @answer: makes the reply to @request; never NULL
 */
void control_serve_one(int listen_fd, cJSON *(*answer)(void *arg, const char *op), void *arg);

/*
 * control_ask - one request, one reply
 * Returns 0, -ECONNREFUSED or -ENOENT nobody there, -ETIMEDOUT no answer in time, -EPROTO.
 */
int control_ask(const char *dir, const char *op, int timeout_ms, cJSON **ret, struct err *e);

/*
 * control_send - @j as one line; the descriptor may be non-blocking; 0 or -errno
 * control_receive - one line, parsed; -ECONNRESET when the other side ended first; -EINTR after a
 * signal when @interruptible; @timeout_ms < 0: no limit
 */
int control_send(int fd, const cJSON *j, int timeout_ms);
int control_receive(int fd, size_t max_bytes, int timeout_ms, bool interruptible, cJSON **ret,
		    struct err *e);

#endif
