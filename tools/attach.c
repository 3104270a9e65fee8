/* SPDX-License-Identifier: Apache-2.0 */
/* attach.c - see attach.h */
#include "attach.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "control.h"
#include "err.h"
#include "interrupt.h"
#include "log.h"
#include "mountinfo.h"
#include "options.h"
#include "state.h"
#include "text.h"

#define SERVER_END_NS  (10 * NS_PER_SEC)
#define SERVER_STOP_NS (20 * NS_PER_SEC) /* longer than its own limit */

static char *loop_tag(const struct record *rec)
{
	return text_printf("headstart:%s", rec->id);
}

int attach_start(struct attach *a, const char *kind, const char *image, struct err *e)
{
	int r;

	*a = (struct attach){.client_lock = -1, .loop.fd = -1, .server.sock = -1};
	r = record_create(common.run_dir, kind, &a->rec, e);
	if (!r)
		r = record_lock(a->rec, "client.lock", &a->client_lock, e);
	if (r)
		return r;
	a->rec->image = text_dup(image);
	r = record_save(a->rec, e); /* what is killed from now on can be found */
	if (r)
		return r;
	r = server_start(a->rec, image, &a->server, e);
	if (r == -EINTR)
		return interrupt_check(e);
	if (r)
		return r;
	a->served = true;
	a->rec->digest = text_dup(a->server.digest);
	a->rec->bytes = a->server.bytes;
	return interrupt_check(e);
}

int attach_loop(struct attach *a, uint64_t read_ahead_bytes, struct err *e)
{
	_cleanup_free_ char *file = server_device_path(a->rec);
	_cleanup_free_ char *tag = loop_tag(a->rec);
	int r;

	a->read_ahead_auto = read_ahead_bytes == READ_AHEAD_AUTO;
	if (a->read_ahead_auto)
		read_ahead_bytes = a->server.exact ? 0 : READ_AHEAD_NORMAL;
	r = loopdev_attach(file, tag, a->rec->bytes, read_ahead_bytes, &a->loop, e);
	if (r)
		return r;
	a->rec->loop = text_dup(a->loop.path);
	r = record_save(a->rec, e); /* a mount that follows can be found if we are killed */
	return r ? r : interrupt_check(e);
}

int attach_mount(struct attach *a, const char *dir, unsigned long flags, struct err *e)
{
	const char *type;
	int r = rootfs_mount(&a->loop, dir, flags, &type, e);

	if (r)
		return r;
	a->mounted = true;
	a->dir = dir;
	a->rec->fstype = text_dup(type);
	r = record_save(a->rec, e);
	if (!r)
		r = server_attached(&a->server, a->read_ahead_auto ? &a->loop : NULL, e);
	return r ? r : interrupt_check(e);
}

int attach_settle(struct attach *a, struct err *e)
{
	int r = interrupt_check(e);

	if (r)
		return r;
	loopdev_close(&a->loop);
	server_done(&a->server);
	cleanup_fd(&a->client_lock);
	record_free(a->rec);
	*a = (struct attach){.client_lock = -1, .loop.fd = -1, .server.sock = -1};
	return 0;
}

void attach_undo(struct attach *a)
{
	struct err e = {0};

	if (!a->rec)
		return;
	if (a->mounted && umount2(a->dir, UMOUNT_NOFOLLOW) &&
	    umount2(a->dir, UMOUNT_NOFOLLOW | MNT_DETACH))
		log_error("cannot unmount dir=%s error=%s", a->dir, strerror(errno));
	loopdev_close(&a->loop);
	server_done(&a->server); /* an unattached server ends by this */
	if (detach_remains(a->rec, true, &e))
		log_error("cannot undo id=%s error=%s", a->rec->id, e.msg);
	cleanup_fd(&a->client_lock); /* until here nobody else cleans up */
	record_free(a->rec);
	*a = (struct attach){.client_lock = -1, .loop.fd = -1, .server.sock = -1};
}

/* Append "pid 12 (name)" to @text for a process with something open below device @dev. */
static void add_user_of(const char *pid, dev_t dev, char *text, size_t bytes)
{
	static const char *const links[] = {"cwd", "root", "exe"};
	_cleanup_free_ char *comm_path = text_printf("/proc/%.16s/comm", pid);
	_cleanup_free_ char *fd_dir = text_printf("/proc/%s/fd", pid);
	_cleanup_file_ FILE *comm = NULL;
	char name[32] = "?";
	struct stat st;
	bool uses = false;
	size_t len = strlen(text);
	DIR *d;

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]) && !uses; i++) {
		_cleanup_free_ char *path = text_printf("/proc/%s/%s", pid, links[i]);

		uses = !stat(path, &st) && st.st_dev == dev;
	}
	d = uses ? NULL : opendir(fd_dir);
	for (struct dirent *f; d && !uses && (f = readdir(d));)
		uses = !fstatat(dirfd(d), f->d_name, &st, 0) && st.st_dev == dev;
	if (d)
		closedir(d);
	if (!uses || len > bytes - 64)
		return;
	comm = fopen(comm_path, "re");
	if (comm && fgets(name, sizeof(name), comm))
		name[strcspn(name, "\n")] = '\0';
	snprintf(text + len, bytes - len, "%spid %.16s (%s)", len ? ", " : "", pid, name);
}

/*
 * Who keeps a file system of a living server busy. The inodes looked at are in use and so in
 * memory: this asks nothing of the server.
 */
static void find_users(dev_t dev, char *text, size_t bytes)
{
	DIR *proc = opendir("/proc");

	text[0] = '\0';
	for (struct dirent *d; proc && (d = readdir(proc));)
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9')
			add_user_of(d->d_name, dev, text, bytes);
	if (proc)
		closedir(proc);
}

/* Unmount @rec->dir if what is mounted there is ours. */
static int unmount_dir(const struct record *rec, bool force, struct err *e)
{
	_cleanup_free_ char *tag = loop_tag(rec);
	struct mountinfo *list;
	size_t count;
	const struct mountinfo *m;
	int r = mountinfo_read(&list, &count, e);

	if (r)
		return r;
	m = mountinfo_at(list, count, rec->dir);
	/* another mount may have got the same place and loop number since */
	if (!m || !rec->loop || strcmp(m->source, rec->loop) || !loopdev_has_tag(rec->loop, tag)) {
		mountinfo_free(list, count);
		return 0; /* unmounted already */
	}
	if (!umount2(rec->dir, UMOUNT_NOFOLLOW)) {
		r = 0;
	} else if (errno == EBUSY && force) {
		r = umount2(rec->dir, UMOUNT_NOFOLLOW | MNT_DETACH)
			? err_set(e, -errno, "cannot unmount %s: %s", rec->dir, strerror(errno))
			: 0;
	} else if (errno == EBUSY) {
		char users[256] = "";

		if (record_holder(rec, "server.lock", NULL))
			find_users(makedev(m->major, m->minor), users, sizeof(users));
		r = err_set(e, -EBUSY, "%s is in use%s%s; --force unmounts it nevertheless",
			    rec->dir, *users ? " by " : "", users);
	} else {
		r = err_set(e, -errno, "cannot unmount %s: %s", rec->dir, strerror(errno));
	}
	mountinfo_free(list, count);
	return r;
}

/* Make a living server end: ask, then insist. */
static void stop_server(const struct record *rec)
{
	cJSON *reply;
	pid_t pid;

	if (!record_holder(rec, "server.lock", &pid))
		return;
	if (!control_ask(rec->path, "stop", CONTROL_TIMEOUT_MS, &reply, NULL)) {
		cJSON_Delete(reply);
		if (!server_wait_end(rec, SERVER_STOP_NS))
			return;
	}
	/* the lock is held, so the pid in it is the server's */
	if (record_holder(rec, "server.lock", &pid) && pid > 0) {
		log_warn("killing a server that does not end pid=%d", (int)pid);
		(void)kill(pid, SIGKILL);
		(void)server_wait_end(rec, SERVER_STOP_NS); /* the caller finds out */
	}
}

int detach_remains(const struct record *rec, bool force, struct err *e)
{
	_cleanup_free_ char *dev = record_file(rec, "dev");
	_cleanup_free_ char *tag = loop_tag(rec);
	bool alive = server_wait_end(rec, force ? NS_PER_SEC : SERVER_END_NS) != 0;
	int r;

	if (alive && force) {
		stop_server(rec);
		alive = record_holder(rec, "server.lock", NULL);
	}
	if (alive)
		return err_set(e, -ETIMEDOUT,
			       "the server of %s does not end: another mount namespace may still "
			       "hold the mount; --force ends it nevertheless",
			       rec->id);
	if (rec->loop && loopdev_has_tag(rec->loop, tag))
		(void)loopdev_detach(rec->loop, NULL); /* else it goes with its last user */
	/* EINVAL: not mounted, as it should be */
	if (umount2(dev, UMOUNT_NOFOLLOW) && errno != EINVAL && errno != ENOENT &&
	    umount2(dev, UMOUNT_NOFOLLOW | MNT_DETACH))
		return err_set(e, -errno, "cannot unmount %s: %s", dev, strerror(errno));
	r = record_remove(rec, e);
	return r;
}

int detach_mount(const struct record *rec, bool force, struct err *e)
{
	int r = rec->dir ? unmount_dir(rec, force, e) : 0;

	return r ? r : detach_remains(rec, force, e);
}
