/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_run.c - headstart run: a container whose root filesystem arrives as it is read */
#include <limits.h>
#include <stdio.h>

#include "clock.h"
#include "cleanup.h"
#include "commands.h"
#include "container.h"
#include "control.h"
#include "err.h"
#include "interrupt.h"
#include "options.h"
#include "report.h"
#include "state.h"
#include "text.h"

static bool stats;
static const char *report;

static const struct option_def run_options[] = {
    {"warm-pages", 0, OPTION_FLAG, NULL, &common.warm_pages,
     "read the files of a recorded list into the page cache; =false leaves it", "true"},
    {"stats", 0, OPTION_FLAG, NULL, &stats, "say at the end what took how long", NULL},
    {"report", 0, OPTION_STRING, "FILE", &report,
     "write a JSON report of the start: phases, requests, waits, prefetch", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", container_option_defs},
    {"", run_options},
    {"Image", image_options},
    {"Registry", registry_options},
    {"Cache and reads", engine_options},
    {"Prefetch", prefetch_options},
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

static void free_json(cJSON **j)
{
	cJSON_Delete(*j);
}

static double since(uint64_t from, uint64_t to)
{
	return to > from ? (double)(to - from) / 1e6 : 0;
}

static double number(const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static void print_stats(const struct container *u, const cJSON *status)
{
	const cJSON *o = cJSON_GetObjectItemCaseSensitive(status, "open");
	const cJSON *s = cJSON_GetObjectItemCaseSensitive(status, "stats");
	const cJSON *p = cJSON_GetObjectItemCaseSensitive(status, "prefetch");
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
	if (number(p, "planned_bytes") <= 0)
		return;
	fprintf(stderr,
		"  prefetched            %9s     %.0f %% of it used; %.1f %% of what was read was "
		"here in time\n",
		text_size((uint64_t)number(p, "fetched_bytes"), a, sizeof(a)),
		100 * number(p, "accuracy"), 100 * number(p, "coverage"));
}

int cmd_run(int argc, char **argv)
{
	_cleanup_(free_json) cJSON *status = NULL;
	struct container u = {0};
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	common_log();
	interrupt_catch();
	r = container_run(&u, argv[first], argv + first + 1, NULL, &e);
	if (!r && (stats || report) &&
	    control_ask(u.a.rec->path, "report", CONTROL_TIMEOUT_MS, &status, NULL))
		status = NULL;
	if (!r && report && report_write(report, &u, status, &e)) {
		fprintf(stderr, "headstart run: %s\n", e.msg);
		e = (struct err){0};
	}
	container_tear_down(&u);
	if (!r && stats)
		print_stats(&u, status);
	container_done(&u);
	if (!r)
		return u.code;
	fprintf(stderr, "headstart run: %s\n", e.msg);
	return EXIT_FAILED;
}
