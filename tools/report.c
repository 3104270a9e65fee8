/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - see report.h */
#include "report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "clock.h"
#include "container.h"
#include "err.h"
#include "state.h"
#include "text.h"

static double number(const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static void add_times(cJSON *o, double origin, double start, double end)
{
	cJSON_AddNumberToObject(o, "start_ns", start - origin);
	cJSON_AddNumberToObject(o, "end_ns", end - origin);
}

/* A phase that was not reached is left out. */
static void add_phase(cJSON *list, const char *name, double origin, double start, double end)
{
	cJSON *o;

	if (start <= 0 || end < start)
		return;
	o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "name", name);
	add_times(o, origin, start, end);
	cJSON_AddItemToArray(list, o);
}

static void add_phases(cJSON *j, const struct container *u, const cJSON *server)
{
	const cJSON *opened = cJSON_GetObjectItemCaseSensitive(server, "open");
	double origin = (double)u->start_ns;
	cJSON *list = cJSON_AddArrayToObject(j, "phases");

	add_phase(list, "server start", origin, origin, number(opened, "start_ns"));
	add_phase(list, "manifest", origin, number(opened, "start_ns"),
		  number(opened, "resolved_ns"));
	add_phase(list, "layers and config", origin, number(opened, "resolved_ns"),
		  number(opened, "opened_ns"));
	add_phase(list, "serving", origin, number(opened, "opened_ns"), (double)u->served_ns);
	add_phase(list, "loop device", origin, (double)u->served_ns, (double)u->looped_ns);
	add_phase(list, "file system", origin, (double)u->looped_ns, (double)u->mounted_ns);
	add_phase(list, "overlay", origin, (double)u->mounted_ns, (double)u->overlaid_ns);
	add_phase(list, "users, config", origin, (double)u->overlaid_ns, (double)u->prepared_ns);
	add_phase(list, "container", origin, (double)u->prepared_ns, (double)u->ended_ns);
}

static double column(const cJSON *row, int n)
{
	const cJSON *v = cJSON_GetArrayItem(row, n);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

/* Rows as in events_json() become objects. */
static void add_events(cJSON *j, const char *name, const cJSON *server, double origin, bool kinds)
{
	const cJSON *rows = cJSON_GetObjectItemCaseSensitive(server, name), *row;
	cJSON *list = cJSON_AddArrayToObject(j, name);

	cJSON_ArrayForEach(row, rows)
	{
		cJSON *o = cJSON_CreateObject();

		add_times(o, origin, column(row, 0), column(row, 1));
		cJSON_AddNumberToObject(o, "off", column(row, 2));
		cJSON_AddNumberToObject(o, "bytes", column(row, 3));
		if (kinds)
			cJSON_AddStringToObject(o, "kind",
						column(row, 4) > 0 ? "prefetch" : "demand");
		cJSON_AddItemToArray(list, o);
	}
}

/* Members of the server's answer that are passed on, its times made relative. */
static void add_server(cJSON *j, const cJSON *server, double origin)
{
	static const char *const objects[] = {"open", "stats", "prefetch"};
	static const char *const times[] = {"start_ns", "end_ns", "found_ns", "resolved_ns",
					    "opened_ns"};

	for (size_t n = 0; n < sizeof(objects) / sizeof(objects[0]); n++) {
		cJSON *o = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(server, objects[n]), 1);

		for (size_t t = 0; t < sizeof(times) / sizeof(times[0]); t++) {
			cJSON *v = cJSON_GetObjectItemCaseSensitive(o, times[t]);

			if (cJSON_IsNumber(v) && v->valuedouble > 0)
				cJSON_SetNumberValue(v, v->valuedouble - origin);
		}
		if (o)
			cJSON_AddItemToObject(j, objects[n], o);
	}
}

int report_write(const char *path, const struct container *u, const cJSON *server, struct err *e)
{
	double origin = (double)u->start_ns;
	struct timespec now;
	_cleanup_free_ char *text = NULL;
	cJSON *j = cJSON_CreateObject();

	clock_gettime(CLOCK_REALTIME, &now);
	cJSON_AddNumberToObject(j, "origin_unix_ns",
				(double)now.tv_sec * 1e9 + (double)now.tv_nsec -
				    ((double)clock_now_ns() - origin));
	cJSON_AddStringToObject(j, "image", u->a.rec ? u->a.rec->image : "");
	cJSON_AddStringToObject(j, "digest", u->a.rec && u->a.rec->digest ? u->a.rec->digest : "");
	cJSON_AddNumberToObject(j, "exit_code", u->code);
	add_phases(j, u, server);
	add_events(j, "requests", server, origin, true);
	add_events(j, "stalls", server, origin, false);
	add_server(j, server, origin);
	cJSON_AddNumberToObject(j, "dropped", number(server, "dropped"));
	text = cJSON_PrintUnformatted(j);
	cJSON_Delete(j);
	if (!text)
		return err_set(e, -ENOMEM, "no memory for the report");
	return text_write_file(path, text, strlen(text), 0644, e);
}
