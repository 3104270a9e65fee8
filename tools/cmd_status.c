/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_status.c - headstart status: what is mounted and what it has cost
 *
 * Looks at records, locks, /proc/self/mountinfo and asks servers over their sockets; never at
 * anything that is mounted, which may be dead.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "commands.h"
#include "control.h"
#include "err.h"
#include "mountinfo.h"
#include "options.h"
#include "state.h"
#include "text.h"

static const struct option_def status_options[] = {
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print everything as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", status_options},
    {"State", state_options},
    {"General", general_options},
    {0},
};

static const struct command command = {
    .name = "status",
    .usage = "[OPTIONS] [DIR|ID|NAME]...",
    .purpose = "Show mounts and running containers of headstart: what serves them, what opening "
	       "cost, what was fetched, how long reads took. What died is shown as dead.",
    .groups = groups,
    .examples = "  headstart status\n"
		"  headstart status /mnt/nginx --json\n",
    .notes =
	"States: starting, serving, ending, hung (the server does not answer), unmounted (only "
	"another mount namespace still has it), orphaned (a run whose command was killed), "
	"dead (the server is gone): 'headstart umount' cleans up after the last four. unserved: "
	"a container whose server is gone, so that reading what it has not read yet fails; stop "
	"it, or 'headstart umount --force'.",
    .max_operands = UINT_MAX,
};

static double number(const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static const char *string(const cJSON *j, const char *key)
{
	const char *v = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, key));

	return v ? v : "";
}

static bool is_mounted(const struct record *rec, const struct mountinfo *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (rec->loop && rec->dir && !strcmp(list[i].source, rec->loop) &&
		    !strcmp(list[i].dir, rec->dir))
			return true;
	return false;
}

static const char *state_of(const struct record *rec, bool server, bool client, bool answers,
			    bool mounted)
{
	bool run = !strcmp(rec->kind, "run");

	if (!server)
		return !client ? "dead" : !rec->loop ? "starting" : run ? "unserved" : "ending";
	if (!answers)
		return "hung";
	if (run)
		return client ? "serving" : "orphaned";
	if (mounted)
		return "serving";
	return client ? "starting" : "unmounted";
}

static void add_string(cJSON *j, const char *key, const char *v)
{
	if (v && *v)
		cJSON_AddStringToObject(j, key, v);
}

static cJSON *describe(const struct record *rec, const struct mountinfo *list, size_t count)
{
	cJSON *j = cJSON_CreateObject(), *reply = NULL;
	pid_t pid, client_pid;
	bool server = record_holder(rec, "server.lock", &pid);
	bool client = record_holder(rec, "client.lock", &client_pid);
	bool mounted = is_mounted(rec, list, count);

	if (server && control_ask(rec->path, "status", CONTROL_TIMEOUT_MS, &reply, NULL))
		reply = NULL;
	cJSON_AddStringToObject(j, "id", rec->id);
	cJSON_AddStringToObject(j, "kind", rec->kind);
	add_string(j, "name", rec->name);
	cJSON_AddStringToObject(j, "state", state_of(rec, server, client, reply, mounted));
	cJSON_AddStringToObject(j, "image", rec->image);
	add_string(j, "digest", rec->digest);
	add_string(j, "dir", rec->dir);
	cJSON_AddBoolToObject(j, "mounted", mounted);
	add_string(j, "fstype", rec->fstype);
	add_string(j, "loop", rec->loop);
	cJSON_AddNumberToObject(j, "bytes", (double)rec->bytes);
	cJSON_AddNumberToObject(j, "created", (double)rec->created_s);
	if (server)
		cJSON_AddNumberToObject(j, "pid", pid);
	if (client)
		cJSON_AddNumberToObject(j, "client_pid", client_pid);
	if (reply)
		cJSON_AddItemToObject(j, "server", reply);
	return j;
}

static const char *size(double bytes, char *out)
{
	return text_size(bytes > 0 ? (uint64_t)bytes : 0, out, 24);
}

static const char *duration(double ns, char *out)
{
	if (ns >= 1e9)
		snprintf(out, 24, "%.2f s", ns / 1e9);
	else if (ns >= 1e6)
		snprintf(out, 24, "%.1f ms", ns / 1e6);
	else
		snprintf(out, 24, "%.0f us", ns / 1e3);
	return out;
}

static void print_server(const cJSON *server)
{
	const cJSON *o = cJSON_GetObjectItemCaseSensitive(server, "open");
	const cJSON *s = cJSON_GetObjectItemCaseSensitive(server, "stats");
	char a[24], b[24], c[24], d[24];

	printf("  opened   %.0f layers, %.0f dependent exchanges, %.0f requests, %s, %s\n",
	       number(server, "layers"), number(o, "exchanges"), number(o, "requests"),
	       size(number(o, "bytes"), a), duration(number(o, "ns"), b));
	printf("  fetched  %s in %.0f requests over %.0f connections; %.0f retries, %.0f errors\n",
	       size(number(s, "fetched_bytes"), a), number(s, "requests"), number(s, "connections"),
	       number(s, "retries"), number(s, "fetch_errors"));
	printf("  cache    %s of %s used; %s read from it; %s stored, %s refused\n",
	       size(number(s, "cache_used_bytes"), a), size(number(s, "cache_limit_bytes"), b),
	       size(number(s, "cache_hit_bytes"), c), size(number(s, "cache_stored_bytes"), d),
	       number(s, "cache_refused_bytes") > 0 ? "some" : "none");
	printf("  reads    %.0f, %s; p50 %s, p99 %s, longest %s\n", number(s, "reads"),
	       size(number(s, "read_bytes"), a), duration(number(s, "read_p50_ns"), b),
	       duration(number(s, "read_p99_ns"), c), duration(number(s, "read_max_ns"), d));
	printf("           waited %s for the network; %.0f failed, %.0f bad blocks\n",
	       duration(number(s, "stalled_ns"), a), number(s, "read_errors"),
	       number(s, "bad_blocks"));
}

static void print_prefetch(const cJSON *p)
{
	char a[24], b[24];

	if (!p)
		return;
	printf("  prefetch list %s", string(p, "state"));
	if (*string(p, "why"))
		printf(" (%s)", string(p, "why"));
	if (number(p, "planned_bytes") > 0) {
		printf("; %s planned, %s fetched, %s", size(number(p, "planned_bytes"), a),
		       size(number(p, "fetched_bytes"), b), string(p, "end"));
		if (cJSON_GetObjectItemCaseSensitive(p, "coverage"))
			printf("; %.0f %% of it used, %.1f %% of reads were here in time",
			       100 * number(p, "accuracy"), 100 * number(p, "coverage"));
	}
	putchar('\n');
}

static void print_one(const cJSON *j)
{
	const cJSON *server = cJSON_GetObjectItemCaseSensitive(j, "server");
	char bytes[24];

	printf("%s  %s  %s", string(j, "id"), string(j, "kind"), string(j, "state"));
	if (number(j, "pid") > 0)
		printf("  pid %.0f", number(j, "pid"));
	if (*string(j, "name"))
		printf("  name %s", string(j, "name"));
	printf("\n  image    %s\n", string(j, "image"));
	if (*string(j, "digest"))
		printf("  digest   %s\n", string(j, "digest"));
	if (*string(j, "dir"))
		printf("  mounted  %s%s\n", string(j, "dir"),
		       cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "mounted"))
			   ? ""
			   : " (not any more)");
	if (*string(j, "loop"))
		printf("  device   %s, %s, %s\n", string(j, "loop"), string(j, "fstype"),
		       size(number(j, "bytes"), bytes));
	if (server) {
		print_server(server);
		print_prefetch(cJSON_GetObjectItemCaseSensitive(server, "prefetch"));
	}
}

static void print_all(const cJSON *all)
{
	const cJSON *j;
	char *text;

	if (common.json) {
		text = cJSON_Print(all);
		puts(text ? text : "[]");
		free(text);
		return;
	}
	if (!cJSON_GetArraySize(all))
		puts("nothing is mounted");
	cJSON_ArrayForEach(j, all)
	{
		print_one(j);
	}
}

static int collect(int argc, char **argv, cJSON *all, struct err *e)
{
	struct record **list;
	struct mountinfo *mounts;
	size_t count, mount_count;
	int r = mountinfo_read(&mounts, &mount_count, e);

	if (r)
		return r;
	if (!argc) {
		r = record_list(common.run_dir, &list, &count, e);
		for (size_t i = 0; !r && i < count; i++)
			cJSON_AddItemToArray(all, describe(list[i], mounts, mount_count));
		if (!r)
			record_list_free(list, count);
	}
	for (int i = 0; i < argc && !r; i++) {
		struct record *rec;

		r = record_find(common.run_dir, argv[i], &rec, e);
		if (r)
			break;
		cJSON_AddItemToArray(all, describe(rec, mounts, mount_count));
		record_free(rec);
	}
	mountinfo_free(mounts, mount_count);
	return r;
}

int cmd_status(int argc, char **argv)
{
	struct err e = {0};
	cJSON *all;
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	common_log();
	all = cJSON_CreateArray();
	r = collect(argc - first, argv + first, all, &e);
	if (!r)
		print_all(all);
	else
		fprintf(stderr, "headstart status: %s\n", e.msg);
	cJSON_Delete(all);
	return r ? EXIT_FAILED : EXIT_OK;
}
