/* SPDX-License-Identifier: Apache-2.0 */
/* container.c - see container.h */
#include "container.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "pagewarm.h"
#include "runfiles.h"
#include "runtime.h"
#include "state.h"
#include "supervise.h"
#include "text.h"

#define PASSWD_MAX_BYTES (4u << 20)
#define STATE_MAX_BYTES	 (4u << 20)
#define MAX_BINDS	 256u

struct container_options container_opts = {
    .read_ahead = READ_AHEAD_AUTO,
    .stop_timeout = 10 * NS_PER_SEC,
};

const struct option_def container_option_defs[] = {
    {"name", 0, OPTION_STRING, "NAME", &container_opts.name, "a name for 'status' and 'umount'",
     NULL},
    {"env", 'e', OPTION_LIST, "K=V", &container_opts.env, "set a variable; K alone passes ours on",
     NULL},
    {"volume", 'v', OPTION_LIST, "SRC:DST[:ro]", &container_opts.volumes,
     "mount SRC of the host on DST", NULL},
    {"workdir", 'w', OPTION_STRING, "DIR", &container_opts.working_dir, "directory to start in",
     "the image's"},
    {"user", 'u', OPTION_STRING, "USER[:GROUP]", &container_opts.user, "names or numbers",
     "the image's"},
    {"entrypoint", 0, OPTION_STRING, "PROGRAM", &container_opts.entrypoint,
     "replace the image's entrypoint, and drop its command", NULL},
    {"hostname", 0, OPTION_STRING, "NAME", &container_opts.hostname, "host name inside", "the id"},
    {"net", 0, OPTION_STRING, "none|host|ns:PATH", &container_opts.net,
     "network: loopback only, the host's, or the namespace at PATH", "none"},
    {"tty", 't', OPTION_FLAG, NULL, &container_opts.tty, "give it a terminal", NULL},
    {"interactive", 'i', OPTION_FLAG, NULL, &container_opts.interactive, "pass standard input on",
     NULL},
    {"read-only", 0, OPTION_FLAG, NULL, &container_opts.read_only,
     "its root filesystem is read-only", NULL},
    {"rm", 0, OPTION_FLAG, NULL, &container_opts.rm_accepted,
     "remove what it wrote when it ends; always so", NULL},
    {"keep", 0, OPTION_FLAG, NULL, &container_opts.keep, "keep what it wrote, below --state-dir",
     NULL},
    {"stop-timeout", 0, OPTION_TIME, "TIME", &container_opts.stop_timeout,
     "after a signal to stop, kill it when it still runs after TIME", "10s"},
    {"runtime", 0, OPTION_STRING, "PROGRAM", &container_opts.runtime, "OCI runtime",
     "runc, else crun"},
    {"read-ahead", 0, OPTION_SIZE, "SIZE", &container_opts.read_ahead,
     "read ahead of the loop device", "none while a recorded list is replayed, else 128K"},
    {0},
};

/* ---- before anything is started ---- */

static int check_name(struct err *e)
{
	struct record **list;
	size_t count;
	int r;

	if (!container_opts.name)
		return 0;
	for (const char *p = container_opts.name; *p; p++)
		if (!isalnum((unsigned char)*p) && (p == container_opts.name || !strchr("_.-", *p)))
			return err_set(e, -EINVAL,
				       "--name: letters, digits, '_', '.' and '-' only");
	if (!*container_opts.name)
		return err_set(e, -EINVAL, "--name is empty");
	r = record_list(common.run_dir, &list, &count, e);
	if (r)
		return r;
	for (size_t i = 0; i < count && !r; i++)
		if (list[i]->name && !strcmp(list[i]->name, container_opts.name))
			r = err_set(e, -EEXIST, "the name '%s' is taken by %s%s",
				    container_opts.name, list[i]->id,
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

static int parse_net(struct container *u, struct err *e)
{
	if (!container_opts.net || !strcmp(container_opts.net, "none")) {
		u->netns = NULL;
	} else if (!strcmp(container_opts.net, "host")) {
		u->netns = "";
	} else if (text_starts_with(container_opts.net, "ns:/")) {
		u->netns = container_opts.net + 3;
		if (access(u->netns, F_OK))
			return err_set(e, -errno, "--net: %s: %s", u->netns, strerror(errno));
	} else {
		return err_set(e, -EINVAL, "--net is none, host or ns:/PATH, not '%s'",
			       container_opts.net);
	}
	return 0;
}

static int parse_volumes(struct container *u, struct err *e)
{
	if (container_opts.volumes.count > MAX_BINDS)
		return err_set(e, -EINVAL, "more than %u volumes", MAX_BINDS);
	/* room for the image's volumes and three files of /etc */
	u->binds = xmalloc_zero(2 * MAX_BINDS + 3, sizeof(*u->binds));
	for (size_t i = 0; i < container_opts.volumes.count; i++) {
		struct run_bind *b = &u->binds[u->bind_count];
		int r = run_bind_parse(text_dup(container_opts.volumes.item[i]), b, e);

		if (r)
			return r;
		if (access(b->source, F_OK))
			return err_set(e, -errno, "volume %s: %s", b->source, strerror(errno));
		u->bind_count++;
	}
	return 0;
}

static int check_options(struct container *u, struct err *e)
{
	int r = check_name(e);

	if (container_opts.tty && !isatty(STDIN_FILENO))
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

static int make_directories(struct container *u, struct err *e)
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

static int mount_overlay(struct container *u, struct err *e)
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

static int make_tree(struct container *u, const char *ref, struct err *e)
{
	int r;

	u->start_ns = clock_now_ns();
	r = attach_start(&u->a, "run", ref, e);
	if (r)
		return r;
	u->a.rec->name = text_dup(container_opts.name);
	u->served_ns = clock_now_ns();
	r = runtime_find(container_opts.runtime, &u->a.rec->runtime, e);
	r = r ? r : attach_loop(&u->a, container_opts.read_ahead, e);
	if (!r && u->hooks && u->hooks->looped)
		r = u->hooks->looped(u->hooks->arg, &u->a.loop, e);
	r = r ? r : enter_namespace(u->a.rec, e);
	r = r ? r : make_directories(u, e);
	u->looped_ns = clock_now_ns();
	r = r ? r : attach_mount(&u->a, u->lower, 0, e);
	if (!r)
		u->warm_pid = pagewarm_start(u->a.rec, u->lower);
	u->mounted_ns = clock_now_ns();
	r = r ? r : mount_overlay(u, e);
	u->overlaid_ns = clock_now_ns();
	return r;
}

/* ---- config.json and what it names ---- */

static bool is_bound(const struct container *u, const char *target)
{
	for (size_t i = 0; i < u->bind_count; i++)
		if (!strcmp(u->binds[i].target, target))
			return true;
	return false;
}

static int add_image_volumes(struct container *u, int root_fd, struct err *e)
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

static int add_etc(struct container *u, const char *host, struct err *e)
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

static int resolve_user(struct container *u, int root_fd, struct err *e)
{
	_cleanup_free_ char *passwd = NULL;
	_cleanup_free_ char *group = NULL;

	/* an image need not have them; then only numbers can be resolved */
	(void)runfiles_read(root_fd, "etc/passwd", PASSWD_MAX_BYTES, &passwd);
	(void)runfiles_read(root_fd, "etc/group", PASSWD_MAX_BYTES, &group);
	return run_user_resolve(container_opts.user ? container_opts.user : u->image.user, passwd,
				group, &u->user, e);
}

static const char *get_env(const char *key)
{
	return getenv(key);
}

static int write_config(struct container *u, char **args, struct err *e)
{
	const char *host = container_opts.hostname ? container_opts.hostname : u->a.rec->id;
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
	    .entrypoint = container_opts.entrypoint,
	    .env = container_opts.env.item,
	    .getenv = get_env,
	    .working_dir = container_opts.working_dir,
	    .hostname = host,
	    .netns = u->netns,
	    .cgroup_path = cgroup,
	    .binds = u->binds,
	    .bind_count = u->bind_count,
	    .tty = container_opts.tty,
	    .read_only = container_opts.read_only,
	};
	r = run_spec_json(&spec, &text, e);
	return r ? r : text_write_file(path, text, strlen(text), 0600, e);
}

int container_run(struct container *u, const char *image, char **args,
		  const struct container_hooks *hooks, struct err *e)
{
	int r;

	*u = (struct container){.hooks = hooks};
	r = check_options(u, e);
	if (r)
		return r;
	report_dead();
	r = make_tree(u, image, e);
	r = r ? r : run_image_parse(u->a.server.config, &u->image, e);
	r = r ? r : write_config(u, args, e);
	u->prepared_ns = clock_now_ns();
	r = r ? r : supervise_container(u, e);
	u->ended_ns = clock_now_ns();
	return r;
}

/* ---- from its name to its end, and back ---- */

static void unmount(const char *dir)
{
	if (umount2(dir, UMOUNT_NOFOLLOW) && umount2(dir, UMOUNT_NOFOLLOW | MNT_DETACH))
		log_error("cannot unmount dir=%s error=%s", dir, strerror(errno));
}

void container_tear_down(struct container *u)
{
	_cleanup_free_ char *state = u->state ? text_dup(u->state) : NULL;
	struct err e = {0};

	pagewarm_end(u->warm_pid);
	if (u->a.rec)
		runtime_delete(u->a.rec);
	if (u->overlaid)
		unmount(u->rootfs);
	if (state && container_opts.keep)
		fprintf(stderr, "headstart run: kept %s\n", state);
	else if (state && tree_remove(state, &e))
		log_error("cannot clean up error=%s", e.msg);
	attach_undo(&u->a);
	u->torn_down_ns = clock_now_ns();
}

void container_done(struct container *u)
{
	/* bind sources and the parsed texts live as long as the process */
	run_image_done(&u->image);
	run_user_done(&u->user);
	free(u->binds);
	free(u->lower);
	free(u->rootfs);
}

pid_t container_pid(const struct record *rec)
{
	_cleanup_free_ char *path = text_printf("%s/runtime/%s/state.json", rec->path, rec->id);
	_cleanup_free_ char *text = NULL;
	cJSON *j;
	const cJSON *pid;
	pid_t found = 0;
	size_t len;

	if (text_read_file(path, STATE_MAX_BYTES, &text, &len, NULL))
		return 0;
	j = cJSON_Parse(text);
	pid = cJSON_GetObjectItemCaseSensitive(j, "init_process_pid"); /* runc */
	if (!pid)
		pid = cJSON_GetObjectItemCaseSensitive(j, "pid"); /* crun */
	if (cJSON_IsNumber(pid))
		found = (pid_t)pid->valueint;
	cJSON_Delete(j);
	return found;
}
