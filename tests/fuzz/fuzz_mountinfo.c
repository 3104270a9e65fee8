/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_mountinfo.c - texts of /proc, with the names that somebody's mounts and programs have */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attribute.h"
#include "proc_task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1), *path;
	struct proc_mount m;
	struct overlay_parts p;

	if (!text)
		return 0;
	memcpy(text, data, len);
	text[len] = '\0';
	if (!proc_mount_parse(text, "/", &m)) {
		assert(!strcmp(m.dir, "/") && m.fstype && m.source && m.root);
		if (!overlay_parse(m.options, &p)) {
			assert(p.lower_count > 0);
			for (size_t i = 0; i < p.lower_count; i++)
				assert(p.lower[i][0]);
			overlay_done(&p);
		}
		proc_mount_done(&m);
	}
	path = proc_cgroup_parse(text);
	assert(!path || path[0] == '/');
	free(path);
	assert(proc_stat_parent(text) >= 0);
	(void)proc_stat_start(text);
	free(text);
	return 0;
}
