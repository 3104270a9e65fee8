/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_run.c - headstart run: a container whose root filesystem arrives as it is read
 *
 * After the loop device is there, this process moves into a mount namespace of its own, where the
 * image and the overlay are mounted. So they cannot outlive this process and its container: when
 * both are gone, however they died, the kernel unmounts everything, the loop device clears itself
 * and the server ends. What is left for `headstart umount` after a kill -9 is files.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "attach.h"
#include "cleanup.h"
#include "clock.h"
#include "commands.h"
#include "control.h"
#include "err.h"
#include "interrupt.h"
#include "log.h"
#include "oci_runtime.h"
#include "options.h"
#include "runfiles.h"
#include "runtime.h"
#include "state.h"
#include "text.h"

#define PASSWD_MAX_BYTES (4u << 20)
#define MAX_BINDS	 256u
#define KILL_GRACE_NS	 (5 * NS_PER_SEC) /* for the runtime, after its container was killed */

static const char *name, *entrypoint, *user, *working_dir, *hostname, *net, *runtime;
static struct option_list env, volumes;
static bool tty, interactive, keep, rm_accepted, read_only, stats;
static uint64_t read_ahead = 128u << 10;
static uint64_t stop_timeout = 10 * NS_PER_SEC;

static const struct option_def run_options[] = {
    {"name", 0, OPTION_STRING, "NAME", &name, "a name for 'status' and 'umount'", NULL},
    {"env", 'e', OPTION_LIST, "K=V", &env, "set a variable; K alone passes ours on", NULL},
    {"volume", 'v', OPTION_LIST, "SRC:DST[:ro]", &volumes, "mount SRC of the host on DST", NULL},
    {"workdir", 'w', OPTION_STRING, "DIR", &working_dir, "directory to start in", "the image's"},
    {"user", 'u', OPTION_STRING, "USER[:GROUP]", &user, "names or numbers", "the image's"},
    {"entrypoint", 0, OPTION_STRING, "PROGRAM", &entrypoint,
     "replace the image's entrypoint, and drop its command", NULL},
    {"hostname", 0, OPTION_STRING, "NAME", &hostname, "host name inside", "the id"},
    {"net", 0, OPTION_STRING, "none|host|ns:PATH", &net,
     "network: loopback only, the host's, or the namespace at PATH", "none"},
    {"tty", 't', OPTION_FLAG, NULL, &tty, "give it a terminal", NULL},
    {"interactive", 'i', OPTION_FLAG, NULL, &interactive, "pass standard input on", NULL},
    {"read-only", 0, OPTION_FLAG, NULL, &read_only, "its root filesystem is read-only", NULL},
    {"rm", 0, OPTION_FLAG, NULL, &rm_accepted, "remove what it wrote when it ends; always so",
     NULL},
    {"keep", 0, OPTION_FLAG, NULL, &keep, "keep what it wrote, below --state-dir", NULL},
    {"stop-timeout", 0, OPTION_TIME, "TIME", &stop_timeout,
     "after a signal to stop, kill it when it still runs after TIME", "10s"},
    {"runtime", 0, OPTION_STRING, "PROGRAM", &runtime, "OCI runtime", "runc, else crun"},
    {"read-ahead", 0, OPTION_SIZE, "SIZE", &read_ahead, "read ahead of the loop device", "128K"},
    {"stats", 0, OPTION_FLAG, NULL, &stats, "say at the end what took how long", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", run_options},
    {"Image", image_options},
    {"Registry", registry_options},
    {"Cache and reads", engine_options},
    {"State", state_options},
    {"General", general_options},
    {0},
};

static const struct command command = {
    .name = "run",
    .usage = "[OPTIONS] IMAGE [COMMAND [ARG]...]",
    .purpose = "Run a container from the accelerated image IMAGE, in the foreground. Its root "
	       "filesystem is fetched as it is read; what it writes goes to a directory of its "
	       "own. The exit code is the container's.",
    .groups = groups,
    .examples = "  headstart run docker://127.0.0.1:5000/nginx:1_accelerated\n"
		"  headstart run -it --net=host oci:./layout:debian bash\n"
		"  headstart run -e MODE=test -v /data:/data:ro --stats IMAGE check\n",
    .notes =
	"SIGINT, SIGTERM and SIGHUP stop the container (the latter two with the image's stop "
	"signal); a second one kills it. Needs root and runc or crun. No seccomp profile is set.",
    .stop_after = 1,
    .min_operands = 1,
    .max_operands = UINT_MAX,
};

struct run {
	struct attach a;
	struct run_image image;
	struct run_user user;
	struct run_bind *binds;
	size_t bind_count;
	char *lower, *rootfs, *state; /* paths */
	const char *netns;	      /* as in struct run_spec */
	bool overlaid;
	int code;

	/* for --stats: when each step was done */
	uint64_t start_ns, served_ns, looped_ns, mounted_ns, overlaid_ns, prepared_ns, ended_ns,
	    torn_down_ns;
};

static void free_json(cJSON **j)
{
	cJSON_Delete(*j);
}

/* ---- before anything is started ---- */

static int check_name(struct err *e)
{
	struct record **list;
	size_t count;
	int r;

	if (!name)
		return 0;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && (p == name || !strchr("_.-", *p)))
			return err_set(e, -EINVAL,
				       "--name: letters, digits, '_', '.' and '-' only");
	if (!*name)
		return err_set(e, -EINVAL, "--name is empty");
	r = record_list(common.run_dir, &list, &count, e);
	if (r)
		return r;
	for (size_t i = 0; i < count && !r; i++)
		if (list[i]->name && !strcmp(list[i]->name, name))
			r = err_set(e, -EEXIST, "the name '%s' is taken by %s%s", name, list[i]->id,
				    record_is_dead(list[i])
					? ", which is dead; 'headstart umount' removes it"
					: "");
	record_list_free(list, count);
	return r;
}

static void report_dead(void)
{
	struct record **list;
	size_t count, n = 0;

	if (record_list(common.run_dir, &list, &count, NULL))
		return;
	for (size_t i = 0; i < count; i++)
		n += record_is_dead(list[i]);
	if (n)
		log_warn(
		    "%zu mounts or runs were left behind by a crash; 'headstart umount --dead' "
		    "cleans up",
		    n);
	record_list_free(list, count);
}

static int parse_net(struct run *u, struct err *e)
{
	if (!net || !strcmp(net, "none")) {
		u->netns = NULL;
	} else if (!strcmp(net, "host")) {
		u->netns = "";
	} else if (text_starts_with(net, "ns:/")) {
		u->netns = net + 3;
		if (access(u->netns, F_OK))
			return err_set(e, -errno, "--net: %s: %s", u->netns, strerror(errno));
	} else {
		return err_set(e, -EINVAL, "--net is none, host or ns:/PATH, not '%s'", net);
	}
	return 0;
}

static int parse_volumes(struct run *u, struct err *e)
{
	if (volumes.count > MAX_BINDS)
		return err_set(e, -EINVAL, "more than %u volumes", MAX_BINDS);
	/* room for the image's volumes and three files of /etc */
	u->binds = xmalloc_zero(2 * MAX_BINDS + 3, sizeof(*u->binds));
	for (size_t i = 0; i < volumes.count; i++) {
		struct run_bind *b = &u->binds[u->bind_count];
		int r = run_bind_parse(text_dup(volumes.item[i]), b, e);

		if (r)
			return r;
		if (access(b->source, F_OK))
			return err_set(e, -errno, "volume %s: %s", b->source, strerror(errno));
		u->bind_count++;
	}
	return 0;
}

static int check_options(struct run *u, struct err *e)
{
	int r = check_name(e);

	if (tty && !isatty(STDIN_FILENO))
		return err_set(e, -EINVAL, "-t needs a terminal on standard input");
	if (!r)
		r = parse_net(u, e);
	return r ? r : parse_volumes(u, e);
}

/* ---- the tree ---- */

static int make_dir(const char *path, struct err *e)
{
	return mkdir(path, 0755) ? err_set(e, -errno, "%s: %s", path, strerror(errno)) : 0;
}

static int enter_namespace(const struct record *rec, struct err *e)
{
	_cleanup_free_ char *dev = record_file(rec, "dev");

	if (unshare(CLONE_NEWNS) || mount("", "/", NULL, MS_REC | MS_SLAVE, NULL))
		return err_set(e, -errno, "cannot make a mount namespace: %s", strerror(errno));
	/* our copy would keep the server's file system alive after the server unmounted it */
	if (umount2(dev, UMOUNT_NOFOLLOW | MNT_DETACH))
		return err_set(e, -errno, "%s: %s", dev, strerror(errno));
	return 0;
}

static int make_directories(struct run *u, struct err *e)
{
	static const char *const below[] = {"upper", "work", "volumes"};
	struct record *rec = u->a.rec;
	_cleanup_free_ char *real = NULL;
	int r = text_mkdirs(common.state_dir, 0711, e);

	if (r)
		return r;
	real = realpath(common.state_dir, NULL);
	if (!real)
		return err_set(e, -errno, "%s: %s", common.state_dir, strerror(errno));
	rec->state_path = text_printf("%s/%s", real, rec->id);
	u->state = rec->state_path;
	u->lower = record_file(rec, "lower");
	u->rootfs = record_file(rec, "rootfs");
	/* before the record tells of it: nothing but this run may ever own that name */
	if (mkdir(u->state, 0711)) {
		r = err_set(e, -errno, "%s: %s", u->state, strerror(errno));
		free(steal_ptr(rec->state_path));
		u->state = NULL;
		return r;
	}
	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]) && !r; i++) {
		_cleanup_free_ char *path = text_printf("%s/%s", u->state, below[i]);

		r = make_dir(path, e);
	}
	r = r ? r : make_dir(u->lower, e);
	return r ? r : make_dir(u->rootfs, e);
}

static int mount_overlay(struct run *u, struct err *e)
{
	_cleanup_free_ char *upper = text_printf("%s/upper", u->state);
	_cleanup_free_ char *work = text_printf("%s/work", u->state);
	struct stat st;
	int r;

	/* the root directory of the overlay is the upper's: it must look like the image's */
	if (stat(u->lower, &st) || chown(upper, st.st_uid, st.st_gid) ||
	    chmod(upper, st.st_mode & 07777))
		return err_set(e, -errno, "the image's root directory: %s", strerror(errno));
	r = rootfs_overlay(u->lower, upper, work, u->rootfs, e);
	u->overlaid = !r;
	return r;
}

static int make_tree(struct run *u, const char *ref, struct err *e)
{
	int r;

	u->start_ns = clock_now_ns();
	r = attach_start(&u->a, "run", ref, e);
	if (r)
		return r;
	u->a.rec->name = text_dup(name);
	u->served_ns = clock_now_ns();
	r = runtime_find(runtime, &u->a.rec->runtime, e);
	r = r ? r : attach_loop(&u->a, read_ahead, e);
	r = r ? r : enter_namespace(u->a.rec, e);
	r = r ? r : make_directories(u, e);
	u->looped_ns = clock_now_ns();
	r = r ? r : attach_mount(&u->a, u->lower, 0, e);
	u->mounted_ns = clock_now_ns();
	r = r ? r : mount_overlay(u, e);
	u->overlaid_ns = clock_now_ns();
	return r;
}

/* ---- config.json and what it names ---- */

static bool is_bound(const struct run *u, const char *target)
{
	for (size_t i = 0; i < u->bind_count; i++)
		if (!strcmp(u->binds[i].target, target))
			return true;
	return false;
}

static int add_image_volumes(struct run *u, int root_fd, struct err *e)
{
	for (size_t i = 0; u->image.volumes[i]; i++) {
		const char *target = u->image.volumes[i];
		_cleanup_free_ char *dir = text_printf("%s/volumes/%zu", u->state, i);
		int r;

		if (*target != '/' || !target[strspn(target, "/")] || i >= MAX_BINDS) {
			char quoted[128];

			log_warn("a volume of the image makes no sense; left out path=%s",
				 log_quote(target, quoted, sizeof(quoted)));
			continue;
		}
		if (is_bound(u, target))
			continue;
		r = runfiles_volume(root_fd, target, dir, e);
		if (r)
			return r;
		u->binds[u->bind_count++] =
		    (struct run_bind){.source = steal_ptr(dir), .target = target};
	}
	return 0;
}

static int add_etc(struct run *u, const char *host, struct err *e)
{
	static const char *const files[] = {"hostname", "hosts", "resolv.conf"};
	static const char *const targets[] = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};
	int r = runfiles_etc(u->a.rec->path, host, u->netns, e);

	for (size_t i = 0; i < 3 && !r; i++)
		if (!is_bound(u, targets[i]))
			u->binds[u->bind_count++] = (struct run_bind){
			    .source = record_file(u->a.rec, files[i]),
			    .target = targets[i],
			};
	return r;
}

static int resolve_user(struct run *u, int root_fd, struct err *e)
{
	_cleanup_free_ char *passwd = NULL;
	_cleanup_free_ char *group = NULL;

	/* an image need not have them; then only numbers can be resolved */
	(void)runfiles_read(root_fd, "etc/passwd", PASSWD_MAX_BYTES, &passwd);
	(void)runfiles_read(root_fd, "etc/group", PASSWD_MAX_BYTES, &group);
	return run_user_resolve(user ? user : u->image.user, passwd, group, &u->user, e);
}

static const char *get_env(const char *key)
{
	return getenv(key);
}

static int write_config(struct run *u, char **args, struct err *e)
{
	const char *host = hostname ? hostname : u->a.rec->id;
	_cleanup_free_ char *path = record_file(u->a.rec, "config.json");
	_cleanup_free_ char *cgroup = runtime_cgroup(u->a.rec, "");
	_cleanup_free_ char *text = NULL;
	_cleanup_fd_ int root_fd = open(u->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct run_spec spec;
	int r;

	if (root_fd < 0)
		return err_set(e, -errno, "%s: %s", u->rootfs, strerror(errno));
	r = add_etc(u, host, e);
	r = r ? r : add_image_volumes(u, root_fd, e);
	r = r ? r : resolve_user(u, root_fd, e);
	if (r)
		return r;
	spec = (struct run_spec){
	    .image = &u->image,
	    .user = &u->user,
	    .rootfs = u->rootfs,
	    .args = (const char *const *)args,
	    .entrypoint = entrypoint,
	    .env = env.item,
	    .getenv = get_env,
	    .working_dir = working_dir,
	    .hostname = host,
	    .netns = u->netns,
	    .cgroup_path = cgroup,
	    .binds = u->binds,
	    .bind_count = u->bind_count,
	    .tty = tty,
	    .read_only = read_only,
	};
	r = run_spec_json(&spec, &text, e);
	return r ? r : text_write_file(path, text, strlen(text), 0600, e);
}

/* ---- while it runs ---- */

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
			const struct signalfd_siginfo *info)
{
	int sig = (int)info->ssi_signo;
	bool stop = sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT;

	if (stop && ++s->stops > 1) {
		kill_container(rec, s);
		return;
	}
	if (stop)
		s->deadline_ns = clock_now_ns() + stop_timeout;
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

static int supervise(const struct record *rec, struct supervision *s, int signal_fd)
{
	_cleanup_fd_ int server_fd = watch_server(rec);

	for (;;) {
		struct pollfd p[] = {{.fd = signal_fd, .events = POLLIN},
				     {.fd = server_fd, .events = POLLIN}};
		struct signalfd_siginfo info;
		int status, ms = -1;

		if (waitpid(s->pid, &status, WNOHANG) == s->pid)
			return exit_code(status);
		if (s->deadline_ns) {
			uint64_t now = clock_now_ns();

			if (now >= s->deadline_ns)
				kill_container(rec, s);
			else
				ms = (int)((s->deadline_ns - now) / NS_PER_MS + 1);
		}
		if (poll(p, 2, ms) <= 0)
			continue;
		if (p[1].revents) {
			log_error("the server of %s died: what the container has not read yet "
				  "fails from now on; its last words are in %s/log",
				  rec->id, rec->path);
			cleanup_fd(&server_fd);
		}
		if (read(signal_fd, &info, sizeof(info)) == sizeof(info) &&
		    info.ssi_signo != SIGCHLD)
			pass_signal(rec, s, &info);
	}
}

static int run_container(struct run *u, struct err *e)
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
	s.pid = runtime_run(u->a.rec, u->a.rec->path, !interactive && !tty, e);
	if (s.pid < 0)
		return s.pid;
	u->code = supervise(u->a.rec, &s, signal_fd);
	if (restore)
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before); /* if the runtime was killed */
	return 0;
}

/* ---- afterwards ---- */

static double since(uint64_t from, uint64_t to)
{
	return to > from ? (double)(to - from) / 1e6 : 0;
}

static double number(const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static void print_stats(const struct run *u, const cJSON *status)
{
	const cJSON *o = cJSON_GetObjectItemCaseSensitive(status, "open");
	const cJSON *s = cJSON_GetObjectItemCaseSensitive(status, "stats");
	char a[24], b[24];

	fprintf(stderr,
		"headstart run: %s\n"
		"  image open and served %9.1f ms  %.0f dependent exchanges\n"
		"  loop device           %9.1f ms\n"
		"  file system           %9.1f ms\n"
		"  overlay               %9.1f ms\n"
		"  users, volumes, config%9.1f ms\n"
		"  container             %9.1f ms\n"
		"  tear-down             %9.1f ms\n"
		"  fetched               %9s     in %.0f requests\n"
		"  read                  %9s     in %.0f reads, %.1f ms waited for the network\n",
		u->a.rec ? u->a.rec->id : "", since(u->start_ns, u->served_ns),
		number(o, "exchanges"), since(u->served_ns, u->looped_ns),
		since(u->looped_ns, u->mounted_ns), since(u->mounted_ns, u->overlaid_ns),
		since(u->overlaid_ns, u->prepared_ns), since(u->prepared_ns, u->ended_ns),
		since(u->ended_ns, u->torn_down_ns),
		text_size((uint64_t)number(s, "fetched_bytes"), a, sizeof(a)),
		number(s, "requests"), text_size((uint64_t)number(s, "read_bytes"), b, sizeof(b)),
		number(s, "reads"), number(s, "stalled_ns") / 1e6);
}

static void unmount(const char *dir)
{
	if (umount2(dir, UMOUNT_NOFOLLOW) && umount2(dir, UMOUNT_NOFOLLOW | MNT_DETACH))
		log_error("cannot unmount dir=%s error=%s", dir, strerror(errno));
}

/* Everything back, whatever was done. */
static void tear_down(struct run *u)
{
	_cleanup_free_ char *state = u->state ? text_dup(u->state) : NULL;
	struct err e = {0};

	if (u->a.rec)
		runtime_delete(u->a.rec);
	if (u->overlaid)
		unmount(u->rootfs);
	if (state && keep)
		fprintf(stderr, "headstart run: kept %s\n", state);
	else if (state && tree_remove(state, &e))
		log_error("cannot clean up error=%s", e.msg);
	attach_undo(&u->a);
	u->torn_down_ns = clock_now_ns();
}

static void free_run(struct run *u)
{
	/* bind sources and the parsed texts live as long as the process */
	run_image_done(&u->image);
	run_user_done(&u->user);
	free(u->binds);
	free(u->lower);
	free(u->rootfs);
}

static int run(struct run *u, const char *ref, char **args, struct err *e)
{
	int r = check_options(u, e);

	if (r)
		return r;
	report_dead();
	r = make_tree(u, ref, e);
	r = r ? r : run_image_parse(u->a.server.config, &u->image, e);
	r = r ? r : write_config(u, args, e);
	u->prepared_ns = clock_now_ns();
	r = r ? r : run_container(u, e);
	u->ended_ns = clock_now_ns();
	return r;
}

int cmd_run(int argc, char **argv)
{
	_cleanup_(free_json) cJSON *status = NULL;
	struct run u = {0};
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	common_log();
	interrupt_catch();
	r = run(&u, argv[first], argv + first + 1, &e);
	if (!r && stats && control_ask(u.a.rec->path, "status", CONTROL_TIMEOUT_MS, &status, NULL))
		status = NULL;
	tear_down(&u);
	if (!r && stats)
		print_stats(&u, status);
	free_run(&u);
	if (!r)
		return u.code;
	fprintf(stderr, "headstart run: %s\n", e.msg);
	return EXIT_FAILED;
}
