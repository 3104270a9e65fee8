/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_umount.c - headstart umount: end mounts, clean up after what crashed */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "attach.h"
#include "cleanup.h"
#include "clock.h"
#include "commands.h"
#include "err.h"
#include "options.h"
#include "runtime.h"
#include "state.h"
#include "text.h"

#define CLIENT_END_NS (30 * NS_PER_SEC)

static bool force, all, dead;

static const struct option_def umount_options[] = {
    {"force", 'f', OPTION_FLAG, NULL, &force,
     "unmount although it is in use, end the server, kill a running container", NULL},
    {"all", 'a', OPTION_FLAG, NULL, &all, "every mount and run", NULL},
    {"dead", 0, OPTION_FLAG, NULL, &dead, "everything that a crash left behind", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", umount_options},
    {"State", state_options},
    {"General", general_options},
    {0},
};

static const struct command command = {
    .name = "umount",
    .usage = "[OPTIONS] [DIR|ID|NAME]...",
    .purpose = "End mounts of headstart: unmount the file system, detach its loop device, wait "
	       "until its server has ended. What a killed server or a killed 'headstart run' "
	       "left behind is cleaned up the same way.",
    .groups = groups,
    .examples = "  headstart umount /mnt/nginx\n"
		"  headstart umount 3f09c2d1a7be\n"
		"  headstart umount --dead      # after a crash\n",
    .notes = "Needs root.",
    .max_operands = UINT_MAX,
};

/* A run whose command lives cleans up after itself; it only has to be told. */
static int end_live_run(const struct record *rec, pid_t client, struct err *e)
{
	uint64_t deadline = clock_now_ns() + CLIENT_END_NS;
	const struct timespec pause = {.tv_nsec = 20000000};

	if (!force)
		return err_set(e, -EBUSY, "%s is a running container; stop it, or use --force",
			       rec->id);
	(void)runtime_kill(rec, "KILL"); /* perhaps it is just ending */
	if (client > 0)
		(void)kill(client, SIGTERM);
	while (record_holder(rec, "client.lock", NULL)) {
		if (clock_now_ns() > deadline)
			return err_set(e, -ETIMEDOUT, "'headstart run' (pid %d) does not end",
				       (int)client);
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int end_run(const struct record *rec, struct err *e)
{
	pid_t client;
	int r;

	if (record_holder(rec, "client.lock", &client)) {
		r = end_live_run(rec, client, e);
		if (r)
			return r;
	}
	runtime_delete(rec);
	/* with the container its mount namespace is gone, and so are loop device and server */
	if (rec->state_path)
		r = tree_remove(rec->state_path, e);
	else
		r = 0;
	return r ? r : detach_remains(rec, force, e);
}

static int end_one(const struct record *rec, struct err *e)
{
	pid_t client;

	if (!strcmp(rec->kind, "run"))
		return end_run(rec, e);
	if (record_holder(rec, "client.lock", &client) && !force)
		return err_set(e, -EBUSY, "%s is just being mounted by pid %d", rec->id,
			       (int)client);
	return detach_mount(rec, force, e);
}

static int report(const char *what, const struct err *e)
{
	fprintf(stderr, "headstart umount: %s%s%s\n", what ? what : "", what ? ": " : "", e->msg);
	return EXIT_FAILED;
}

static int end_many(void)
{
	struct record **list;
	size_t count;
	struct err e = {0};
	int code = EXIT_OK;

	if (record_list(common.run_dir, &list, &count, &e))
		return report(NULL, &e);
	/* newest first: one may be mounted inside another */
	for (size_t i = count; i-- > 0;)
		if ((all || record_is_dead(list[i])) && end_one(list[i], &e))
			code = report(list[i]->id, &e);
	record_list_free(list, count);
	return code;
}

int cmd_umount(int argc, char **argv)
{
	int first, code = EXIT_OK, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	if ((all || dead) == (first < argc))
		return options_usage(&command, first < argc ? "a name, or --all or --dead, not both"
							    : "what is to be unmounted?");
	common_log();
	if (all || dead)
		return end_many();
	for (int i = first; i < argc; i++) {
		struct record *rec;
		struct err e = {0};

		r = record_find(common.run_dir, argv[i], &rec, &e);
		if (!r) {
			r = end_one(rec, &e);
			record_free(rec);
		}
		if (r)
			code = report(NULL, &e);
	}
	return code;
}
