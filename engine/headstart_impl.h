/* SPDX-License-Identifier: Apache-2.0 */
/* headstart_impl.h - the inside of struct hs_engine, for the files of the public interface */
#ifndef HS_ENGINE_HEADSTART_IMPL_H
#define HS_ENGINE_HEADSTART_IMPL_H

#include <pthread.h>

#include "headstart.h"
#include "resolve.h"

struct cache;
struct loop;
struct net;
struct path;

/* Set up once; from then on only @running changes, at the end. */
struct hs_engine {
	struct cache *cache;
	struct net *net;
	struct loop *loop;
	struct path *path;
	pthread_t thread;
	bool running;
	char *private_cache; /* made by us, removed at the end */
	uint64_t timeout_ns;
	enum pull pull;
	struct oci_platform platform;
};

#endif
