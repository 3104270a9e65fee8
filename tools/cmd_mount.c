/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_mount.c - headstart mount: the root filesystem of an image, read-only */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attach.h"
#include "cleanup.h"
#include "clock.h"
#include "commands.h"
#include "err.h"
#include "interrupt.h"
#include "mountinfo.h"
#include "options.h"
#include "state.h"
#include "text.h"

static uint64_t read_ahead = READ_AHEAD_AUTO;
static bool allow_suid, allow_dev;

static const struct option_def mount_options[] = {
    {"read-ahead", 0, OPTION_SIZE, "SIZE", &read_ahead,
     "read ahead of the loop device; less starts sooner on a slow link, more reads "
     "whole files faster",
     "none while a recorded list is replayed, else 128K"},
    {"suid", 0, OPTION_FLAG, NULL, &allow_suid, "honour set-user-id bits and file capabilities",
     NULL},
    {"dev", 0, OPTION_FLAG, NULL, &allow_dev, "let device nodes be opened", NULL},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print the result as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", mount_options},	    {"Image", image_options},
    {"Registry", registry_options}, {"Cache and reads", engine_options},
    {"Prefetch", prefetch_options}, {"State", state_options},
    {"General", general_options},   {0},
};

static const struct command command = {
    .name = "mount",
    .usage = "[OPTIONS] IMAGE DIR",
    .purpose = "Mount the root filesystem of the accelerated image IMAGE on the directory DIR, "
	       "read-only. Blocks are fetched when they are read. A background process serves "
	       "them until DIR is unmounted, by 'headstart umount' or by umount(8).",
    .groups = groups,
    .examples = "  headstart mount docker://127.0.0.1:5000/nginx:1_accelerated /mnt/nginx\n"
		"  headstart mount ./config.v1.json /mnt/image\n"
		"  headstart umount /mnt/nginx\n",
    .notes = "Needs root, /dev/fuse and a loop device.",
    .min_operands = 2,
    .max_operands = 2,
};

/* The directory as an absolute path that mountinfo will show; it must be free. */
static int check_dir(const char *dir, char **ret, struct err *e)
{
	_cleanup_free_ char *path = mountinfo_path(dir);
	char *real;
	struct mountinfo *list;
	struct stat st;
	size_t count;
	bool taken;
	int r;

	if (!path)
		return err_set(e, -errno, "%s: %s", dir, strerror(errno));
	r = mountinfo_read(&list, &count, e);
	if (r)
		return r;
	taken = mountinfo_at(list, count, path) != NULL;
	mountinfo_free(list, count);
	if (taken)
		return err_set(e, -EBUSY, "something is mounted on %s already", path);
	if (stat(path, &st))
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "%s is not a directory", path);
	real = realpath(path, NULL); /* DIR itself may be a link */
	if (!real)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	*ret = real;
	return 0;
}

static void print_result(const struct attach *a, uint64_t ns)
{
	const struct record *r = a->rec;
	const cJSON *requests = cJSON_GetObjectItemCaseSensitive(a->server.opened, "requests");
	char size[24];

	if (!common.json) {
		printf("%s on %s: %s, %s, ready in %.0f ms\n", r->id, r->dir, r->fstype,
		       text_size(r->bytes, size, sizeof(size)), (double)ns / 1e6);
		return;
	}
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "id", r->id);
	cJSON_AddStringToObject(j, "image", r->image);
	cJSON_AddStringToObject(j, "digest", r->digest);
	cJSON_AddStringToObject(j, "dir", r->dir);
	cJSON_AddStringToObject(j, "fstype", r->fstype);
	cJSON_AddStringToObject(j, "loop", r->loop);
	cJSON_AddNumberToObject(j, "bytes", (double)r->bytes);
	cJSON_AddNumberToObject(j, "pid", (double)a->server.pid);
	cJSON_AddNumberToObject(j, "requests", requests ? requests->valuedouble : 0);
	cJSON_AddNumberToObject(j, "ready_ns", (double)ns);
	char *text = cJSON_Print(j);

	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

static int do_mount(const char *image, const char *dir, struct attach *a, struct err *e)
{
	unsigned long flags = (allow_suid ? 0 : MS_NOSUID) | (allow_dev ? 0 : MS_NODEV);
	uint64_t start = clock_now_ns();
	int r = attach_start(a, "mount", image, e);

	if (r)
		return r;
	a->rec->dir = text_dup(dir);
	r = attach_loop(a, read_ahead, e);
	if (!r)
		r = attach_mount(a, dir, flags, e);
	if (r)
		return r;
	print_result(a, clock_now_ns() - start);
	return attach_settle(a, e);
}

int cmd_mount(int argc, char **argv)
{
	_cleanup_free_ char *dir = NULL;
	struct attach a = {0};
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	common_log();
	interrupt_catch();
	r = check_dir(argv[first + 1], &dir, &e);
	if (!r)
		r = do_mount(argv[first], dir, &a, &e);
	if (!r)
		return EXIT_OK;
	attach_undo(&a);
	fprintf(stderr, "headstart mount: %s\n", e.msg);
	return EXIT_FAILED;
}
