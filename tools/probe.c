/* SPDX-License-Identifier: Apache-2.0 */
/* probe.c - see probe.h */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "text.h"

#define HTTP_EVERY_NS (50 * NS_PER_MS)
#define EXEC_EVERY_NS (200 * NS_PER_MS)
#define HTTP_LIMIT_NS (5 * NS_PER_SEC)
#define EXEC_LIMIT_NS (30 * NS_PER_SEC)

/* ---- HTTP ---- */

int probe_url_parse(const char *url, struct probe_url *ret, struct err *e)
{
	static const char scheme[] = "http://";
	const char *start = url + strlen(scheme), *end, *host, *host_end, *port;

	if (text_starts_with(url, "https://"))
		return err_set(e, -EINVAL, "--until-http cannot speak TLS: %s; use --until-exec",
			       url);
	if (!text_starts_with(url, scheme))
		return err_set(e, -EINVAL, "--until-http takes http://HOST[:PORT][/PATH], not '%s'",
			       url);
	end = start + strcspn(start, "/?#");
	host = start;
	if (*host == '[') {
		host_end = memchr(host, ']', (size_t)(end - host));
		port = host_end ? host_end + 1 : NULL;
		host++;
	} else {
		host_end = memchr(host, ':', (size_t)(end - host));
		host_end = host_end ? host_end : end;
		port = host_end;
	}
	if (!host_end || host_end == host || memchr(start, '@', (size_t)(end - start)) ||
	    (port < end && (*port != ':' || port + 1 == end ||
			    strspn(port + 1, "0123456789") != (size_t)(end - port - 1))) ||
	    strpbrk(url, " \t\r\n"))
		return err_set(e, -EINVAL, "--until-http takes http://HOST[:PORT][/PATH], not '%s'",
			       url);
	*ret = (struct probe_url){
	    .host = text_printf("%.*s", (int)(host_end - host), host),
	    .port =
		port < end ? text_printf("%.*s", (int)(end - port - 1), port + 1) : text_dup("80"),
	    .authority = text_printf("%.*s", (int)(end - start), start),
	    .path = text_printf("%s%.*s", *end == '/' ? "" : "/", (int)strcspn(end, "#"), end),
	};
	return 0;
}

void probe_url_done(struct probe_url *u)
{
	free(u->host);
	free(u->port);
	free(u->authority);
	free(u->path);
	*u = (struct probe_url){0};
}

unsigned int probe_http_status(const char *answer)
{
	unsigned int code;

	if (sscanf(answer, "HTTP/1.%*u %3u", &code) != 1)
		return 0;
	return code;
}

/* In the child: one connection, one question. */
static bool try_http(const struct probe_url *u)
{
	const struct timeval limit = {.tv_sec = 2};
	_cleanup_free_ char *question = text_printf("GET %s HTTP/1.0\r\nHost: %s\r\n"
						    "User-Agent: headstart\r\n\r\n",
						    u->path, u->authority);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
	unsigned int status = 0;

	if (getaddrinfo(u->host, u->port, &hints, &list))
		return false;
	for (struct addrinfo *a = list; a && !status; a = a->ai_next) {
		_cleanup_fd_ int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		size_t want = strlen(question), len = 0;
		char answer[64];
		ssize_t n = 0;

		if (fd < 0)
			continue;
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		if (connect(fd, a->ai_addr, a->ai_addrlen) ||
		    send(fd, question, want, MSG_NOSIGNAL) != (ssize_t)want)
			continue;
		while (len < sizeof(answer) - 1 &&
		       (n = recv(fd, answer + len, sizeof(answer) - 1 - len, 0)) > 0)
			len += (size_t)n;
		answer[len] = '\0';
		status = probe_http_status(answer);
	}
	freeaddrinfo(list);
	return status >= 200 && status < 400;
}

/* ---- a try ---- */

static void run_try(const struct probe *p, pid_t parent)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	/* a group of its own: a Ctrl-C is not for it, and all of it can be ended */
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || setns(p->netns, CLONE_NEWNET))
		_exit(1);
	if (p->http)
		_exit(try_http(&p->url) ? 0 : 1);
	(void)dup2(STDERR_FILENO, STDOUT_FILENO); /* ours is for data */
	execl("/bin/sh", "sh", "-c", p->exec, (char *)NULL);
	_exit(127);
}

static void start_try(struct probe *p)
{
	pid_t parent = getpid(), child = fork();

	p->next_ns = clock_now_ns() + (p->http ? HTTP_EVERY_NS : EXEC_EVERY_NS);
	if (child < 0)
		return; /* again next time */
	if (!child)
		run_try(p, parent);
	p->child = child;
	p->child_fd = (int)syscall(SYS_pidfd_open, child, 0);
	p->started_ns = clock_now_ns();
}

/* The child, if it has ended or takes too long. */
static void look_after_try(struct probe *p)
{
	uint64_t limit = p->http ? HTTP_LIMIT_NS : EXEC_LIMIT_NS;
	int status;

	if (waitpid(p->child, &status, WNOHANG) != p->child) {
		if (clock_now_ns() - p->started_ns < limit)
			return;
		(void)kill(-p->child, SIGKILL);
		(void)kill(p->child, SIGKILL); /* before it had its group */
		(void)waitpid(p->child, &status, 0);
	}
	if (p->child_fd >= 0)
		close(p->child_fd);
	p->child = 0;
	p->child_fd = -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		p->ready_by = p->http ? "http" : "exec";
}

/* ---- lines ---- */

static void match_lines(struct probe *p, struct probe_stream *s)
{
	char *nl;

	while (s->len && ((nl = memchr(s->line, '\n', s->len)) || s->len == sizeof(s->line) - 1)) {
		size_t len = nl ? (size_t)(nl - s->line) : s->len;
		size_t used = nl ? len + 1 : len;

		s->line[len] = '\0';
		/* a regular expression ends at a NUL, and so does the line here */
		if (!p->ready_by && !regexec(&p->pattern, s->line, 0, NULL, 0))
			p->ready_by = "log";
		memmove(s->line, s->line + used, s->len - used);
		s->len -= used;
	}
}

static void write_out(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nobody reads it any more; the container need not end by that */
		data += n;
		len -= (size_t)n;
	}
}

static void pass_on(struct probe *p, struct probe_stream *s)
{
	for (int turns = 0; s->from >= 0 && turns < 64; turns++) {
		char *to = s->line + s->len;
		ssize_t n = read(s->from, to, sizeof(s->line) - 1 - s->len);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			close(s->from);
			s->from = -1;
			return;
		}
		write_out(s->to, to, (size_t)n);
		s->len += (size_t)n;
		match_lines(p, s);
	}
}

/* ---- from its options to its end ---- */

int probe_open(struct probe *p, struct err *e)
{
	p->netns = p->child_fd = -1;
	for (int i = 0; i < 2; i++) {
		p->stream[i].from = p->saved[i] = -1;
		p->stream[i].to = i ? STDERR_FILENO : STDOUT_FILENO;
	}
	if ((p->http && p->exec) || (p->http && p->log) || (p->exec && p->log))
		return err_set(e, -EINVAL,
			       "only one of --until-http, --until-exec and --until-log");
	if (p->log) {
		int r = regcomp(&p->pattern, p->log, REG_EXTENDED | REG_NOSUB);

		if (r) {
			char text[128];

			regerror(r, &p->pattern, text, sizeof(text));
			return err_set(e, -EINVAL, "--until-log: %s", text);
		}
		p->pattern_set = true;
	}
	return p->http ? probe_url_parse(p->http, &p->url, e) : 0;
}

int probe_divert(struct probe *p, bool errors_only, struct err *e)
{
	for (int i = 0; i < 2; i++) {
		int own = i ? STDERR_FILENO : STDOUT_FILENO, ends[2] = {-1, -1};

		if (!p->log && (i || !errors_only))
			continue;
		p->saved[i] = fcntl(own, F_DUPFD_CLOEXEC, 3);
		if (p->saved[i] < 0)
			return err_set(e, -errno, "standard streams: %s", strerror(errno));
		if (!p->log) {
			(void)dup2(STDERR_FILENO, own);
			continue;
		}
		if (pipe2(ends, O_CLOEXEC))
			return err_set(e, -errno, "pipe: %s", strerror(errno));
		(void)fcntl(ends[0], F_SETFL, O_NONBLOCK); /* of our end only */
		(void)dup2(ends[1], own);
		close(ends[1]);
		p->stream[i].from = ends[0];
	}
	/* while our own are away, what comes has to go to where they were */
	p->stream[0].to = p->saved[errors_only && p->log ? 1 : 0];
	p->stream[1].to = p->saved[1];
	return 0;
}

void probe_restore(struct probe *p)
{
	for (int i = 0; i < 2; i++) {
		int own = i ? STDERR_FILENO : STDOUT_FILENO;

		if (p->saved[i] < 0)
			continue;
		(void)dup2(p->saved[i], own);
	}
	if (p->log && p->saved[0] >= 0 && p->stream[0].to == p->saved[1])
		p->stream[0].to = STDERR_FILENO;
	else
		p->stream[0].to = STDOUT_FILENO;
	p->stream[1].to = STDERR_FILENO;
	for (int i = 0; i < 2; i++)
		cleanup_fd(&p->saved[i]);
}

void probe_network(struct probe *p, pid_t pid)
{
	_cleanup_free_ char *path = text_printf("/proc/%d/ns/net", (int)pid);

	if (p->netns < 0 && (p->http || p->exec))
		p->netns = open(path, O_RDONLY | O_CLOEXEC);
}

size_t probe_wait(const struct probe *p, struct pollfd *ret, size_t room)
{
	size_t n = 0;

	for (int i = 0; i < 2 && n < room; i++)
		if (p->stream[i].from >= 0)
			ret[n++] = (struct pollfd){.fd = p->stream[i].from, .events = POLLIN};
	if (p->child && p->child_fd >= 0 && n < room)
		ret[n++] = (struct pollfd){.fd = p->child_fd, .events = POLLIN};
	return n;
}

bool probe_turn(struct probe *p)
{
	pass_on(p, &p->stream[0]);
	pass_on(p, &p->stream[1]);
	if (p->child)
		look_after_try(p);
	else if ((p->http || p->exec) && p->netns >= 0 && !p->ready_by &&
		 clock_now_ns() >= p->next_ns)
		start_try(p);
	return p->ready_by != NULL;
}

void probe_close(struct probe *p)
{
	int status;

	probe_restore(p);
	if (p->child) {
		(void)kill(-p->child, SIGKILL);
		(void)kill(p->child, SIGKILL);
		(void)waitpid(p->child, &status, 0);
		p->child = 0;
	}
	pass_on(p, &p->stream[0]);
	pass_on(p, &p->stream[1]);
	for (int i = 0; i < 2; i++)
		cleanup_fd(&p->stream[i].from);
	cleanup_fd(&p->netns);
	cleanup_fd(&p->child_fd);
	probe_url_done(&p->url);
	if (p->pattern_set)
		regfree(&p->pattern);
	p->pattern_set = false;
}
