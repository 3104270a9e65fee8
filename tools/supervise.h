/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise.h - between the start of a container and its end: signals, time limits, its server
 */
#ifndef HS_TOOLS_SUPERVISE_H
#define HS_TOOLS_SUPERVISE_H

struct container;
struct err;

/*
 * supervise_container - start the runtime and wait until it has ended; sets u->code
 * Returns 0, -EINTR a signal came before it began, -EINVAL the image's stop signal, -errno.
 */
int supervise_container(struct container *u, struct err *e);

#endif
