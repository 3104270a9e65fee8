/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runfiles.h - files around a container: /etc/hosts and friends, anonymous volumes, users
 *
 * Everything that is looked up in the image's tree is looked up inside that tree, whatever links it
 * holds (openat2 with RESOLVE_IN_ROOT).
 */
#ifndef HS_TOOLS_RUNFILES_H
#define HS_TOOLS_RUNFILES_H

#include <stddef.h>

struct err;

/*
 * runfiles_read - a regular file of the tree at @root_fd
 * Returns 0, -ENOENT also when it is no regular file, -EFBIG, -errno; caller frees.
 */
int runfiles_read(int root_fd, const char *path, size_t max_bytes, char **ret);

/*
 * runfiles_etc - make DIR/hostname, DIR/hosts and DIR/resolv.conf
 * @netns: as in struct run_spec: only a network that leads somewhere has name servers
 */
int runfiles_etc(const char *dir, const char *hostname, const char *netns, struct err *e);

/*
 * runfiles_volume - make @dir a copy of the tree's directory @path: content, modes, owners
 * An absent @path makes it empty. Devices and the like are left out.
 */
int runfiles_volume(int root_fd, const char *path, const char *dir, struct err *e);

#endif
