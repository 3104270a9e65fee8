/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pagewarm.h - what a list says that a start reads goes into the page cache before it is read
 *
 * Where a recorded list is replayed the kernel reads nothing ahead (see READ_AHEAD_AUTO), and every
 * page that a start touches would be a trip of its own through loop device and server. So a child
 * process reads the list's files ahead, in their order, as soon as their stored bytes are on this
 * node, with few large reads. It lives in the container's mount namespace and ends with its work,
 * with its parent, or by pagewarm_end().
 *
 * What it reads counts as asked for: a start that is helped in this way tells nothing of the list's
 * accuracy. Now and then the server asks it not to, and measures; see autoprefetch_pages().
 */
#ifndef HS_TOOLS_PAGEWARM_H
#define HS_TOOLS_PAGEWARM_H

#include <sys/types.h>

struct record;

/*
 * pagewarm_start - @root: where the image's file system is mounted
 * Returns the child's pid, or 0: it is not wanted or cannot be; a start goes on without it.
 */
pid_t pagewarm_start(const struct record *rec, const char *root);

/* pagewarm_end - end the child and wait for it; 0 is fine */
void pagewarm_end(pid_t pid);

#endif
