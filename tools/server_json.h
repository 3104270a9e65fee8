/* SPDX-License-Identifier: Apache-2.0 */
/* server_json.h - what a server tells of its engine and image */
#ifndef HS_TOOLS_SERVER_JSON_H
#define HS_TOOLS_SERVER_JSON_H

#include <cjson/cJSON.h>
#include <stdint.h>

struct hs_engine;
struct hs_image;

void add_number(cJSON *j, const char *key, uint64_t v);
cJSON *open_json(const struct hs_image *img); /* what opening cost */
cJSON *stats_json(struct hs_engine *eng);

/*
 * events_json - the time line: "requests" and "stalls", arrays of [start_ns, end_ns, off, bytes,
 * kind], kind 0 demand, 1 prefetch; "dropped": how many more there were. Times are clock_now_ns().
 */
void events_json(cJSON *j, struct hs_engine *eng);

#endif
