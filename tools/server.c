/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - see server.h; client side above, the server process below */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "autoprefetch.h"
#include "cleanup.h"
#include "clock.h"
#include "control.h"
#include "err.h"
#include "headstart.h"
#include "log.h"
#include "options.h"
#include "rootfs.h"
#include "server_json.h"
#include "state.h"
#include "text.h"

#define TEARDOWN_SECONDS 15
#define MIN_FILES	 65536
#define SOUGHT_LOOK_MS	 5
#define START_LOOK_MS	 500
#define START_LASTS_NS	 (30 * NS_PER_SEC) /* most starts are over by then */

static void free_json(cJSON **j)
{
	cJSON_Delete(*j);
}

char *server_device_path(const struct record *rec)
{
	return record_file(rec, "dev/disk");
}

/* ---- the client's side ---- */

static void run_server(const struct record *rec, const char *image, int sock, int lock_fd)
    __attribute__((noreturn));

/* Returns in the parent only: 0 or -errno. */
static int fork_server(const struct record *rec, const char *image, int sock, int lock_fd)
{
	sigset_t all, before;
	pid_t pid;

	/* a Ctrl-C between fork and setsid would hit the server as well */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid = fork();
	if (pid == 0) {
		(void)setsid(); /* cannot fail: we were just forked */
		pid = fork();
		if (pid != 0)
			_exit(pid < 0);
		for (int s = 1; s < NSIG; s++)
			(void)signal(s, SIG_DFL); /* refused for some, which are default anyway */
		sigprocmask(SIG_SETMASK, &before, NULL);
		run_server(rec, image, sock, lock_fd);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return -errno;
	for (;;) {
		int status;

		if (waitpid(pid, &status, 0) == pid)
			return status ? -EAGAIN : 0;
		if (errno != EINTR)
			return -errno;
	}
}

static int take_ready(cJSON *j, struct server *s, struct err *e)
{
	const char *error = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "error"));
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(j, "code");
	const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(j, "bytes");
	const cJSON *pid = cJSON_GetObjectItemCaseSensitive(j, "pid");
	const char *digest = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "digest"));

	if (error)
		return err_set(e,
			       cJSON_IsNumber(code) && code->valueint < 0 ? code->valueint : -EIO,
			       "%s", error);
	if (!cJSON_IsNumber(bytes) || !cJSON_IsNumber(pid))
		return err_set(e, -EPROTO, "the server's answer lacks size or pid");
	s->bytes = (uint64_t)bytes->valuedouble;
	s->pid = (pid_t)pid->valueint;
	s->exact = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "exact"));
	s->digest = text_dup(digest ? digest : "");
	s->config = text_dup(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "config")));
	s->opened = cJSON_DetachItemFromObjectCaseSensitive(j, "open");
	return 0;
}

int server_start(const struct record *rec, const char *image, struct server *ret, struct err *e)
{
	_cleanup_(free_json) cJSON *ready = NULL;
	_cleanup_fd_ int lock_fd = -1;
	struct server s = {.sock = -1};
	int pair[2], r;

	r = record_lock(rec, "server.lock", &lock_fd, e);
	if (r)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_set(e, -errno, "socketpair: %s", strerror(errno));
	fflush(NULL);
	r = fork_server(rec, image, pair[1], lock_fd);
	close(pair[1]);
	s.sock = pair[0];
	if (r) {
		server_done(&s);
		return err_set(e, r, "cannot start the server: %s", strerror(-r));
	}
	r = control_receive(s.sock, CONTROL_LINE_BYTES, -1, true, &ready, e);
	if (!r)
		r = take_ready(ready, &s, e);
	if (r) {
		server_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}

int server_attached(struct server *s, const struct loopdev *loop, struct err *e)
{
	_cleanup_(free_json) cJSON *j = cJSON_CreateObject();
	int r;

	cJSON_AddTrueToObject(j, "attached");
	if (loop)
		cJSON_AddNumberToObject(j, "loop", loop->number);
	r = control_send(s->sock, j, CONTROL_TIMEOUT_MS);
	cleanup_fd(&s->sock);
	return r ? err_set(e, r, "the server died: %s", strerror(-r)) : 0;
}

void server_done(struct server *s)
{
	cleanup_fd(&s->sock);
	free(s->digest);
	free(s->config);
	cJSON_Delete(s->opened);
	s->digest = s->config = NULL;
	s->opened = NULL;
}

int server_wait_end(const struct record *rec, uint64_t timeout_ns)
{
	uint64_t deadline = clock_now_ns() + timeout_ns;
	const struct timespec pause = {.tv_nsec = 5000000};
	pid_t pid;

	while (record_holder(rec, "server.lock", &pid)) {
		_cleanup_fd_ int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
		uint64_t now = clock_now_ns();

		if (now >= deadline)
			return -ETIMEDOUT;
		/* asked again with the descriptor in hand: the pid is that of the holder */
		if (fd >= 0 && record_holder(rec, "server.lock", NULL)) {
			struct pollfd p = {.fd = fd, .events = POLLIN};

			(void)poll(&p, 1, (int)((deadline - now) / NS_PER_MS + 1));
		} else {
			nanosleep(&pause, NULL);
		}
	}
	return 0;
}

/* ---- the server process ---- */

struct serving {
	const struct record *rec;
	const char *image_name;
	struct hs_engine *engine;
	struct hs_image *image;
	struct hs_device *device;
	struct autoprefetch prefetch;
	uint64_t start_ns;
	int sock; /* to the client, until attached */
	int listen_fd;
	int stop_fd; /* eventfd: the control thread shall end */
	atomic_bool attached, abandoned;
	int loop; /* whose read-ahead is ours to choose; -1: none. Of the control thread */
	uint64_t attached_ns;
	bool cut_off; /* ended while the loop device still had the file */
};

static struct hs_device *volatile signalled_device;
static volatile sig_atomic_t signalled;

static void on_term(int sig)
{
	struct hs_device *d = signalled_device;

	(void)sig;
	signalled = 1;
	if (d)
		hs_device_stop(d);
}

static cJSON *answer(void *arg, const char *op)
{
	struct serving *s = arg;
	cJSON *j = cJSON_CreateObject();

	if (!strcmp(op, "stop")) {
		log_info("told to stop");
		hs_device_stop(s->device);
		cJSON_AddTrueToObject(j, "ok");
	} else if (!strcmp(op, "pages")) {
		autoprefetch_pages(&s->prefetch, s->image, j);
	} else if (!strcmp(op, "status") || !strcmp(op, "report")) {
		add_number(j, "pid", (uint64_t)getpid());
		cJSON_AddStringToObject(j, "image", s->image_name);
		cJSON_AddStringToObject(j, "digest", hs_image_digest(s->image));
		add_number(j, "bytes", hs_image_bytes(s->image));
		add_number(j, "layers", hs_image_layer_count(s->image));
		add_number(j, "uptime_ns", clock_now_ns() - s->start_ns);
		cJSON_AddBoolToObject(j, "attached", atomic_load(&s->attached));
		cJSON_AddItemToObject(j, "open", open_json(s->image));
		cJSON_AddItemToObject(j, "stats", stats_json(s->engine));
		cJSON_AddItemToObject(j, "prefetch",
				      autoprefetch_json(&s->prefetch, s->image, s->engine));
		if (!strcmp(op, "report"))
			events_json(j, s->engine);
	} else {
		cJSON_AddStringToObject(j, "error", "unknown op");
	}
	return j;
}

/*
 * Whether the device stays in use now that the client is gone. Its own loop device goes with it
 * within moments; only a mount keeps one.
 */
static bool settled_in_use(const struct hs_device *d)
{
	const struct timespec pause = {.tv_nsec = 20000000};

	for (int i = 0; i < 50 && hs_device_in_use(d); i++)
		nanosleep(&pause, NULL);
	return hs_device_in_use(d);
}

/* What the client says, or that it is gone. */
static void hear_client(struct serving *s)
{
	_cleanup_(free_json) cJSON *j = NULL;

	if (!control_receive(s->sock, CONTROL_REQUEST_BYTES, CONTROL_TIMEOUT_MS, false, &j, NULL) &&
	    cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "attached"))) {
		const cJSON *loop = cJSON_GetObjectItemCaseSensitive(j, "loop");

		s->loop = cJSON_IsNumber(loop) ? loop->valueint : -1;
		s->attached_ns = clock_now_ns();
		atomic_store(&s->attached, true);
	} else if (settled_in_use(s->device)) {
		log_warn("the client went away, but it had mounted the device; serving on");
		atomic_store(&s->attached, true);
	} else {
		log_warn("the client went away before the device was attached; ending");
		atomic_store(&s->abandoned, true);
		hs_device_stop(s->device);
	}
	cleanup_fd(&s->sock);
}

/*
 * Choose the loop device's read-ahead: none as long as a list that is exact may be of use, then
 * what serves throughput. Returns ms until it is to be looked at again, -1: never.
 */
static int tend_read_ahead(struct serving *s)
{
	struct hs_prefetch_stats p;

	if (s->loop < 0)
		return -1;
	if (autoprefetch_sought(&s->prefetch))
		return SOUGHT_LOOK_MS;
	if (autoprefetch_exact(&s->prefetch)) {
		hs_prefetch_stats_get(s->image, &p);
		if (p.end == HS_PREFETCH_RUNNING ||
		    clock_now_ns() - s->attached_ns < START_LASTS_NS)
			return START_LOOK_MS;
	}
	loopdev_read_ahead((unsigned int)s->loop, READ_AHEAD_NORMAL);
	s->loop = -1;
	return -1;
}

static void *control_thread(void *arg)
{
	struct serving *s = arg;

	for (;;) {
		struct pollfd p[3] = {
		    {.fd = s->stop_fd, .events = POLLIN},
		    {.fd = s->listen_fd, .events = POLLIN},
		    {.fd = s->sock, .events = POLLIN}, /* -1 later: ignored by poll */
		};

		if (poll(p, 3, tend_read_ahead(s)) < 0)
			continue; /* EINTR; nothing else can come of three good descriptors */
		if (p[0].revents)
			return NULL;
		if (p[2].revents)
			hear_client(s);
		if (p[1].revents)
			control_serve_one(s->listen_fd, answer, s);
	}
}

static cJSON *ready_json(struct serving *s)
{
	cJSON *j = cJSON_CreateObject();
	const char *config = hs_image_config(s->image);

	cJSON_AddTrueToObject(j, "ready");
	cJSON_AddBoolToObject(
	    j, "exact", autoprefetch_exact(&s->prefetch) || autoprefetch_sought(&s->prefetch));
	add_number(j, "pid", (uint64_t)getpid());
	add_number(j, "bytes", hs_image_bytes(s->image));
	cJSON_AddStringToObject(j, "digest", hs_image_digest(s->image));
	if (config)
		cJSON_AddStringToObject(j, "config", config);
	cJSON_AddItemToObject(j, "open", open_json(s->image));
	return j;
}

/* Everything up to the point where the client can go on. */
static int set_up(struct serving *s, struct err *e)
{
	_cleanup_free_ char *dev = record_file(s->rec, "dev");
	_cleanup_free_ char *files = record_file(s->rec, AUTOPREFETCH_FILES);
	struct hs_options options;
	int r;

	common_engine(&options);
	options.timeline = true;
	options.read_around_bytes = common.read_around;
	r = autoprefetch_init(&s->prefetch, options.cache_dir,
			      strcmp(s->rec->kind, "run") ? NULL : files, e);
	r = r ? r : hs_engine_new(&options, &s->engine, e);
	s->prefetch.engine = s->engine;
	if (!r)
		r = hs_image_open_with(s->engine, s->image_name, &s->prefetch.options, &s->image,
				       e);
	if (r)
		return r;
	/* names of the command line are used up; the user's directory is not to be held */
	if (chdir("/"))
		log_warn("chdir error=%s", strerror(errno));
	if (mkdir(dev, 0700) && errno != EEXIST)
		return err_set(e, -errno, "%s: %s", dev, strerror(errno));
	r = hs_device_new(s->image, dev, &s->device, e);
	if (!r)
		r = control_listen(s->rec->path, &s->listen_fd, e);
	if (r)
		return r;
	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	return s->stop_fd < 0 ? err_set(e, -errno, "eventfd: %s", strerror(errno)) : 0;
}

static void wait_for_end(struct serving *s)
{
	const struct timespec pause = {.tv_nsec = 20000000};

	for (;;) {
		int r = hs_device_wait(s->device, 0); /* the loop device opens it once */

		/* opened and closed by a passer-by while the client was still about to attach it */
		if (r == 0 && !atomic_load(&s->attached) && !atomic_load(&s->abandoned)) {
			nanosleep(&pause, NULL);
			continue;
		}
		s->cut_off = r != 0 && atomic_load(&s->attached);
		log_info("serving ends reason=%s", r == 0 ? "idle" : r == 1 ? "unmounted" : "stop");
		return;
	}
}

static int serve(struct serving *s, struct err *e)
{
	_cleanup_(free_json) cJSON *ready = NULL;
	pthread_t thread;
	uint64_t one = 1;
	int r = set_up(s, e);

	if (r)
		return r;
	signalled_device = s->device;
	if (signalled)
		return err_set(e, -ECANCELED, "ended by a signal");
	ready = ready_json(s);
	r = control_send(s->sock, ready, CONTROL_TIMEOUT_MS);
	if (r)
		return err_set(e, r, "the client is gone: %s", strerror(-r));
	r = pthread_create(&thread, NULL, control_thread, s);
	if (r)
		return err_set(e, -r, "cannot start a thread: %s", strerror(r));
	log_info("serving image=%s bytes=%llu", s->image_name,
		 (unsigned long long)hs_image_bytes(s->image));
	wait_for_end(s);
	(void)!write(s->stop_fd, &one, sizeof(one)); /* cannot be full */
	pthread_join(thread, NULL);
	return 0;
}

static void tear_down(struct serving *s)
{
	/*
	 * A read that still waits for a dead network would hold us for its whole deadline; the
	 * cache does not mind being killed. The FUSE file system is unmounted first in any case.
	 */
	signalled_device = NULL;
	(void)signal(SIGALRM, SIG_DFL);
	alarm(TEARDOWN_SECONDS);
	hs_device_free(s->device);
	if (s->image)
		autoprefetch_done(&s->prefetch, s->image, s->engine);
	hs_image_close(s->image);
	autoprefetch_free(&s->prefetch);
	hs_engine_free(s->engine);
	cleanup_fd(&s->listen_fd);
	cleanup_fd(&s->stop_fd);
}

/* Standard streams to the log, everything but @a and @b closed. */
static void settle_descriptors(const struct record *rec, int a, int b)
{
	_cleanup_free_ char *path = record_file(rec, "log");
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	unsigned int low = (unsigned int)(a < b ? a : b), high = (unsigned int)(a < b ? b : a);

	if (log < 0)
		log = open("/dev/null", O_WRONLY | O_CLOEXEC);
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(log, STDOUT_FILENO);
	(void)dup2(log, STDERR_FILENO);
	if (low > 3)
		(void)close_range(3, low - 1, 0);
	if (high > low + 1)
		(void)close_range(low + 1, high - 1, 0);
	(void)close_range(high + 1, ~0u, 0);
}

static void set_limits(void)
{
	struct rlimit files;

	if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur < MIN_FILES) {
		files.rlim_cur = files.rlim_max < MIN_FILES ? files.rlim_max : MIN_FILES;
		(void)setrlimit(RLIMIT_NOFILE, &files); /* fewer connections and layers then */
	}
	(void)prctl(PR_SET_NAME, "headstart-serve");
}

static void run_server(const struct record *rec, const char *image, int sock, int lock_fd)
{
	struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	struct serving s = {
	    .rec = rec,
	    .image_name = image,
	    .start_ns = clock_now_ns(),
	    .sock = sock,
	    .listen_fd = -1,
	    .stop_fd = -1,
	    .loop = -1,
	};
	struct err e = {0};
	bool info = common.log_level < LOG_LEVEL_INFO;
	int r;

	umask(077);
	settle_descriptors(rec, sock, lock_fd);
	record_write_pid(lock_fd);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	sigaction(SIGTERM, &term, NULL);
	sigaction(SIGINT, &term, NULL);
	set_limits();
	log_open(info ? LOG_LEVEL_INFO : (enum log_level)common.log_level, STDERR_FILENO);
	r = serve(&s, &e);
	if (r) {
		_cleanup_(free_json) cJSON *j = cJSON_CreateObject();

		log_error("cannot serve error=%s", e.msg);
		cJSON_AddStringToObject(j, "error", e.msg);
		cJSON_AddNumberToObject(j, "code", r);
		if (s.sock >= 0)
			(void)control_send(s.sock, j, CONTROL_TIMEOUT_MS); /* perhaps gone */
	}
	tear_down(&s);
	/*
	 * The record of a run tells of more than this server, its client removes it; and that of a
	 * mount which is still there, now dead, is what `headstart umount` needs.
	 */
	if (!strcmp(rec->kind, "mount") && !s.cut_off && record_remove(rec, &e))
		log_error("cannot remove the record error=%s", e.msg);
	_exit(r ? 1 : 0);
}
