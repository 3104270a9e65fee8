/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - see control.h */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "text.h"

static void free_json(cJSON **j)
{
	cJSON_Delete(*j);
}

/*
 * An address has room for 107 bytes only; a path through /proc/self/fd is short whatever the
 * directory is called. The caller closes *ret_dir_fd when it has used the address.
 */
static int socket_address(const char *dir, struct sockaddr_un *a, int *ret_dir_fd, struct err *e)
{
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_set(e, -errno, "%s: %s", dir, strerror(errno));
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%s", fd, CONTROL_SOCKET);
	*ret_dir_fd = fd;
	return 0;
}

int control_listen(const char *dir, int *ret_fd, struct err *e)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	_cleanup_fd_ int dir_fd = -1;
	struct sockaddr_un a;
	int r;

	if (fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	r = socket_address(dir, &a, &dir_fd, e);
	if (r)
		return r;
	(void)unlinkat(dir_fd, CONTROL_SOCKET, 0); /* usually not there */
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 16) ||
	    fchmodat(dir_fd, CONTROL_SOCKET, 0600, 0))
		return err_set(e, -errno, "%s/%s: %s", dir, CONTROL_SOCKET, strerror(errno));
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* Returns 0 when @events are there, -ETIMEDOUT, -EINTR (@interruptible) or another errno. */
static int wait_for(int fd, short events, uint64_t deadline_ns, bool interruptible)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		uint64_t now = clock_now_ns();
		int ms = -1, n;

		if (deadline_ns != UINT64_MAX) {
			if (now >= deadline_ns)
				return -ETIMEDOUT;
			ms = (int)((deadline_ns - now) / NS_PER_MS + 1);
		}
		n = poll(&p, 1, ms);
		if (n > 0)
			return 0;
		if (n < 0 && (errno != EINTR || interruptible))
			return -errno;
	}
}

static uint64_t deadline_of(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : clock_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

int control_send(int fd, const cJSON *j, int timeout_ms)
{
	_cleanup_free_ char *text = cJSON_PrintUnformatted(j);
	uint64_t deadline = deadline_of(timeout_ms);
	size_t len, sent = 0;

	if (!text)
		return -ENOMEM;
	len = strlen(text);
	text[len++] = '\n'; /* over the NUL */
	while (sent < len) {
		ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r;

		if (n >= 0) {
			sent += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		r = wait_for(fd, POLLOUT, deadline, false);
		if (r)
			return r;
	}
	return 0;
}

static int receive_line(int fd, size_t max_bytes, uint64_t deadline_ns, bool interruptible,
			char **ret)
{
	_cleanup_free_ char *line = NULL;
	size_t len = 0, room = 0;

	for (;;) {
		char *end;
		ssize_t n;
		int r = wait_for(fd, POLLIN, deadline_ns, interruptible);

		if (r)
			return r;
		if (room - len < 2) {
			if (room >= max_bytes)
				return -EPROTO;
			room = room ? room * 2 : 4096;
			line = realloc(line, room);
			if (!line)
				abort();
		}
		n = recv(fd, line + len, room - len - 1, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		end = memchr(line + len, '\n', (size_t)n);
		len += (size_t)n;
		if (end) {
			*end = '\0';
			*ret = steal_ptr(line);
			return 0;
		}
	}
}

int control_receive(int fd, size_t max_bytes, int timeout_ms, bool interruptible, cJSON **ret,
		    struct err *e)
{
	_cleanup_free_ char *line = NULL;
	int r = receive_line(fd, max_bytes, deadline_of(timeout_ms), interruptible, &line);

	if (r == -ECONNRESET)
		return err_set(e, r, "the server ended without an answer");
	if (r == -ETIMEDOUT)
		return err_set(e, r, "the server does not answer");
	if (r)
		return err_set(e, r, "server: %s", strerror(-r));
	*ret = cJSON_Parse(line);
	if (!cJSON_IsObject(*ret)) {
		cJSON_Delete(*ret);
		return err_set(e, -EPROTO, "the server's answer is not JSON");
	}
	return 0;
}

static bool peer_allowed(int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) &&
	       (who.uid == 0 || who.uid == geteuid());
}

void control_serve_one(int listen_fd, cJSON *(*answer)(void *arg, const char *op), void *arg)
{
	_cleanup_fd_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	_cleanup_(free_json) cJSON *request = NULL;
	_cleanup_(free_json) cJSON *reply = NULL;
	const char *op;

	if (fd < 0 || !peer_allowed(fd))
		return;
	if (control_receive(fd, CONTROL_REQUEST_BYTES, CONTROL_TIMEOUT_MS, false, &request, NULL))
		return;
	op = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "op"));
	reply = answer(arg, op ? op : "");
	/* a client that went away has its reason */
	(void)control_send(fd, reply, CONTROL_TIMEOUT_MS);
}

int control_ask(const char *dir, const char *op, int timeout_ms, cJSON **ret, struct err *e)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	_cleanup_(free_json) cJSON *request = cJSON_CreateObject();
	_cleanup_fd_ int dir_fd = -1;
	struct sockaddr_un a;
	int r;

	if (fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	r = socket_address(dir, &a, &dir_fd, e);
	if (r)
		return r;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return err_set(e, errno == EAGAIN ? -ETIMEDOUT : -errno, "%s/%s: %s", dir,
			       CONTROL_SOCKET, strerror(errno));
	cJSON_AddStringToObject(request, "op", op);
	r = control_send(fd, request, timeout_ms);
	if (r)
		return err_set(e, r, "%s/%s: %s", dir, CONTROL_SOCKET, strerror(-r));
	return control_receive(fd, CONTROL_LINE_BYTES, timeout_ms, false, ret, e);
}
