/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mountinfo.h - what is mounted, without touching any of it
 *
 * A file system whose server died or hangs must never be looked at with stat(2) and the like by a
 * command that is there to report or to clean up; /proc/self/mountinfo is always safe.
 */
#ifndef HS_TOOLS_MOUNTINFO_H
#define HS_TOOLS_MOUNTINFO_H

#include <stddef.h>

struct err;

struct mountinfo {
	unsigned int major, minor;
	char *dir; /* mount point */
	char *fstype;
	char *source; /* "" when there is none */
};

/* mountinfo_parse - lines of the file; lines that make no sense are left out; order is kept */
void mountinfo_parse(const char *text, struct mountinfo **ret, size_t *ret_count);
int mountinfo_read(struct mountinfo **ret, size_t *ret_count, struct err *e);
void mountinfo_free(struct mountinfo *m, size_t count);

/* mountinfo_at - topmost mount at exactly @dir, NULL when there is none */
const struct mountinfo *mountinfo_at(const struct mountinfo *m, size_t count, const char *dir);

/*
 * mountinfo_path - absolute path of @dir, links in its parents resolved, itself not touched
 * NULL with errno when a parent cannot be resolved; caller frees.
 */
char *mountinfo_path(const char *dir);

#endif
