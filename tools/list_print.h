/* SPDX-License-Identifier: Apache-2.0 */
/* list_print.h - a prefetch list for people, and as JSON */
#ifndef HS_TOOLS_LIST_PRINT_H
#define HS_TOOLS_LIST_PRINT_H

#include <stdbool.h>

struct cJSON;
struct prefetch_list;

/* list_print - to standard output; @ranges, @files: one line for each, in the list's order */
void list_print(const struct prefetch_list *l, bool ranges, bool files);

/* list_json - all of it; cJSON_Delete() by the caller */
struct cJSON *list_json(const struct prefetch_list *l);

#endif
