/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - where the time of a start went, as one JSON document
 *
 * {"origin_unix_ns", "image", "digest", "phases": [{"name", "start_ns", "end_ns"}],
 *  "requests": [{"start_ns", "end_ns", "bytes", "kind"}], "stalls": [{..., "off", "bytes"}],
 *  "stats": {...}, "prefetch": {...}}; times in ns since the command began.
 */
#ifndef HS_TOOLS_REPORT_H
#define HS_TOOLS_REPORT_H

#include <cjson/cJSON.h>

struct container;
struct err;

/* report_write - @server: its answer to {"op":"report"}; 0 or -errno */
int report_write(const char *path, const struct container *u, const cJSON *server, struct err *e);

#endif
