/* SPDX-License-Identifier: Apache-2.0 */
/* interrupt.c - see interrupt.h */
#include "interrupt.h"

#include <errno.h>
#include <signal.h>

#include "err.h"

static volatile sig_atomic_t caught;

static void note(int sig)
{
	caught = sig;
}

void interrupt_catch(void)
{
	struct sigaction a = {.sa_handler = note}, before; /* no SA_RESTART */

	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	/* nohup(1) shall work */
	if (!sigaction(SIGHUP, NULL, &before) && before.sa_handler != SIG_IGN)
		sigaction(SIGHUP, &a, NULL);
}

bool interrupt_pending(void)
{
	return caught != 0;
}

int interrupt_check(struct err *e)
{
	return caught ? err_set(e, -EINTR, "interrupted; everything is undone") : 0;
}
