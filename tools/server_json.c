/* SPDX-License-Identifier: Apache-2.0 */
/* server_json.c - see server_json.h */
#include "server_json.h"

#include <stdlib.h>

#include "cleanup.h"
#include "headstart.h"

void add_number(cJSON *j, const char *key, uint64_t v)
{
	cJSON_AddNumberToObject(j, key, (double)v);
}

cJSON *open_json(const struct hs_image *img)
{
	struct hs_open_cost c;
	cJSON *j = cJSON_CreateObject();

	hs_image_open_cost(img, &c);
	add_number(j, "exchanges", c.exchanges);
	add_number(j, "requests", c.requests);
	add_number(j, "bytes", c.bytes);
	add_number(j, "ns", c.ns);
	add_number(j, "start_ns", c.start_ns);
	add_number(j, "resolved_ns", c.resolved_ns);
	add_number(j, "opened_ns", c.opened_ns);
	return j;
}

cJSON *stats_json(struct hs_engine *eng)
{
	struct hs_stats s;
	cJSON *j = cJSON_CreateObject();

	hs_stats_get(eng, &s);
	add_number(j, "requests", s.requests);
	add_number(j, "fetched_bytes", s.fetched_bytes);
	add_number(j, "retries", s.retries);
	add_number(j, "connections", s.connections);
	add_number(j, "fetch_errors", s.fetch_errors);
	add_number(j, "reads", s.reads);
	add_number(j, "read_bytes", s.read_bytes);
	add_number(j, "read_errors", s.read_errors);
	add_number(j, "cache_hit_bytes", s.cache_hit_bytes);
	add_number(j, "joined_fetches", s.joined_fetches);
	add_number(j, "bad_blocks", s.bad_blocks);
	add_number(j, "read_p50_ns", s.read_p50_ns);
	add_number(j, "read_p99_ns", s.read_p99_ns);
	add_number(j, "read_max_ns", s.read_max_ns);
	add_number(j, "stalled_ns", s.stalled_ns);
	add_number(j, "asked_bytes", s.asked_bytes);
	add_number(j, "asked_local_bytes", s.asked_local_bytes);
	add_number(j, "cache_used_bytes", s.cache_used_bytes);
	add_number(j, "cache_limit_bytes", s.cache_limit_bytes);
	add_number(j, "cache_stored_bytes", s.cache_stored_bytes);
	add_number(j, "cache_refused_bytes", s.cache_refused_bytes);
	return j;
}

void events_json(cJSON *j, struct hs_engine *eng)
{
	cJSON *requests = cJSON_AddArrayToObject(j, "requests");
	cJSON *stalls = cJSON_AddArrayToObject(j, "stalls");
	_cleanup_free_ struct hs_event *events = NULL;
	uint64_t dropped;
	size_t count = hs_timeline_get(eng, &events, &dropped);

	for (size_t n = 0; n < count; n++) {
		const struct hs_event *v = &events[n];
		const double row[] = {(double)v->start_ns, (double)v->end_ns, (double)v->off,
				      (double)v->bytes, v->kind == HS_EVENT_PREFETCH};

		cJSON_AddItemToArray(v->kind == HS_EVENT_STALL ? stalls : requests,
				     cJSON_CreateDoubleArray(row, 5));
	}
	add_number(j, "dropped", dropped);
}
