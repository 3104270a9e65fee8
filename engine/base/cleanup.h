/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup.h - scoped ownership for cold paths
 *
 * Never on something an operation in flight can reach.
 */
#ifndef HS_BASE_CLEANUP_H
#define HS_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static inline void cleanup_file(FILE **f)
{
	if (*f)
		(void)fclose(*f); /* read side, or already flushed and checked */
}

#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))
#define _cleanup_fd_   __attribute__((cleanup(cleanup_fd)))
#define _cleanup_file_ __attribute__((cleanup(cleanup_file)))
#define _cleanup_(fn)  __attribute__((cleanup(fn)))

/* steal_ptr - give a pointer away out of a cleaned-up variable */
#define steal_ptr(p)                                                                               \
	({                                                                                         \
		__typeof__(p) stolen_ = (p);                                                       \
		(p) = NULL;                                                                        \
		stolen_;                                                                           \
	})

/* steal_fd - give a descriptor away out of a cleaned-up variable */
static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
