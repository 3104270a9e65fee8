/* SPDX-License-Identifier: Apache-2.0 */
/* supervise.c - see supervise.h */
#include "supervise.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "container.h"
#include "err.h"
#include "interrupt.h"
#include "log.h"
#include "pagewarm.h"
#include "runtime.h"
#include "state.h"

#define KILL_GRACE_NS (5 * NS_PER_SEC) /* for the runtime, after its container was killed */
#define WATCHED_FDS   8		       /* of the hooks */

struct supervision {
	pid_t pid; /* of the runtime */
	int stop_signal;
	unsigned int stops;   /* times it was told to end */
	uint64_t deadline_ns; /* then it is killed, or after that its runtime; 0: none */
	bool killed;
};

static void kill_container(const struct record *rec, struct supervision *s)
{
	/* not there yet or not any more: then the runtime itself is what hangs */
	if (s->killed || runtime_kill(rec, "KILL"))
		(void)kill(s->pid, SIGKILL); /* a child of ours until we wait for it */
	s->killed = true;
	s->deadline_ns = clock_now_ns() + KILL_GRACE_NS;
}

/* A signal to us. From the terminal, the runtime had it as well, being in our process group. */
static void pass_signal(const struct record *rec, struct supervision *s,
			const struct signalfd_siginfo *info, const struct container_hooks *h)
{
	int sig = (int)info->ssi_signo;
	bool stop = sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT;

	if (stop && h && h->signalled)
		h->signalled(h->arg, sig);
	if (stop && ++s->stops > 1) {
		kill_container(rec, s);
		return;
	}
	if (stop)
		s->deadline_ns = clock_now_ns() + container_opts.stop_timeout;
	if (sig == SIGTERM || sig == SIGHUP)
		sig = s->stop_signal;
	if (sig == SIGKILL)
		kill_container(rec, s);
	else if (info->ssi_code != SI_KERNEL)
		(void)kill(s->pid, sig); /* the runtime passes it on */
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A descriptor that becomes readable when the server ends; -1: none. */
static int watch_server(const struct record *rec)
{
	pid_t pid;

	return record_holder(rec, "server.lock", &pid) ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

/* The watcher wants it stopped: as a first signal from outside would do, and once only. */
static void stop_politely(struct supervision *s)
{
	if (s->stops++)
		return;
	s->deadline_ns = clock_now_ns() + container_opts.stop_timeout;
	(void)kill(s->pid, s->stop_signal); /* gone already: the next turn finds out */
}

static int supervise(struct container *u, struct supervision *s, int signal_fd)
{
	const struct container_hooks *h = u->hooks;
	const struct record *rec = u->a.rec;
	_cleanup_fd_ int server_fd = watch_server(rec);

	for (;;) {
		struct pollfd p[2 + WATCHED_FDS] = {{.fd = signal_fd, .events = POLLIN},
						    {.fd = server_fd, .events = POLLIN}};
		struct signalfd_siginfo info;
		int status, ms = -1, ready;
		size_t watched = 0;

		if (waitpid(s->pid, &status, WNOHANG) == s->pid)
			return exit_code(status);
		pagewarm_reap(&u->warm_pid);
		if (s->deadline_ns) {
			uint64_t now = clock_now_ns();

			if (now >= s->deadline_ns)
				kill_container(rec, s);
			else
				ms = (int)((s->deadline_ns - now) / NS_PER_MS + 1);
		}
		if (h && h->wait)
			watched = h->wait(h->arg, p + 2, WATCHED_FDS, &ms);
		ready = poll(p, 2 + watched, ms);
		if (h && h->turn && h->turn(h->arg, p + 2, ready > 0 ? watched : 0))
			stop_politely(s);
		if (ready <= 0)
			continue;
		if (p[1].revents) {
			log_error("the server of %s died: what the container has not read yet "
				  "fails from now on; its last words are in %s/log",
				  rec->id, rec->path);
			cleanup_fd(&server_fd);
		}
		if (read(signal_fd, &info, sizeof(info)) == sizeof(info) &&
		    info.ssi_signo != SIGCHLD)
			pass_signal(rec, s, &info, h);
	}
}

int supervise_container(struct container *u, struct err *e)
{
	static const int passed[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	struct supervision s = {.stop_signal = SIGTERM};
	_cleanup_fd_ int signal_fd = -1;
	struct termios before;
	sigset_t set;
	bool restore = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &before);
	int r;

	if (u->image.stop_signal) {
		s.stop_signal = run_signal_parse(u->image.stop_signal);
		if (s.stop_signal < 0)
			return err_set(e, -EINVAL, "the image's stop signal makes no sense: '%s'",
				       u->image.stop_signal);
	}
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
		sigaddset(&set, passed[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	r = interrupt_check(e); /* what comes from now on, the descriptor tells */
	if (r)
		return r;
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0)
		return err_set(e, -errno, "signalfd: %s", strerror(errno));
	runtime_prepare(u->a.rec->runtime);
	s.pid = runtime_run(u->a.rec, u->a.rec->path,
			    !container_opts.interactive && !container_opts.tty, e);
	if (s.pid < 0)
		return s.pid;
	if (u->hooks && u->hooks->started)
		u->hooks->started(u->hooks->arg, s.pid);
	u->code = supervise(u, &s, signal_fd);
	if (restore)
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before); /* if the runtime was killed */
	return 0;
}
