/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interrupt.h - Ctrl-C and friends as a flag, so that a command can undo what it did
 *
 * Blocking calls return EINTR; every command looks at the flag between its steps.
 */
#ifndef HS_TOOLS_INTERRUPT_H
#define HS_TOOLS_INTERRUPT_H

#include <stdbool.h>

struct err;

void interrupt_catch(void); /* SIGINT, SIGTERM, SIGHUP from now on */
bool interrupt_pending(void);
/* interrupt_check - 0, or -EINTR with a message */
int interrupt_check(struct err *e);

#endif
