/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_page.h - a trace as JSON, and as a picture: one HTML page that needs nothing else
 *
 * The page is tools/trace_page.html with the JSON put into it; what comes from the trace cannot end
 * the element that holds it.
 */
#ifndef HS_TOOLS_TRACE_PAGE_H
#define HS_TOOLS_TRACE_PAGE_H

#include <stdbool.h>

struct cJSON;
struct err;
struct trace;
struct trace_summary;

/* trace_json - summary, files and processes by first touch, and @events; cJSON_Delete() it */
struct cJSON *trace_json(const struct trace *t, const struct trace_summary *s, bool events);

/* trace_page_write - 0 or -errno */
int trace_page_write(const struct trace *t, const struct trace_summary *s, const char *path,
		     struct err *e);

#endif
