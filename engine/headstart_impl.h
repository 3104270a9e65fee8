/* SPDX-License-Identifier: Apache-2.0 */
/* headstart_impl.h - the inside of the public objects, for the files of the public interface */
#ifndef HS_ENGINE_HEADSTART_IMPL_H
#define HS_ENGINE_HEADSTART_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "headstart.h"
#include "loop.h"
#include "oci.h"
#include "resolve.h"
#include "temp_dir.h"

struct artifact_search;
struct cache;
struct fuse_device;
struct image;
struct net;
struct path;
struct replay;

struct hs_engine {
	struct cache *cache;
	struct net *net;
	struct loop *loop;
	struct path *path;
	pthread_t thread;
	bool running;
	struct temp_dir private_cache; /* if none was given */
	uint64_t timeout_ns;
	enum pull pull;
	struct oci_platform platform;
};

struct hs_image {
	struct hs_engine *eng;
	struct resolved resolved;
	struct image *image;	   /* NULL: its layers are not known yet */
	atomic_bool open;	   /* and not only its blobs */
	struct layer_hints *hints; /* of every layer, as the manifest told them; immutable */
	char *config;
	struct replay *replay;		/* of the loop thread, until closed */
	struct artifact_search *search; /* a thread, until closed; or NULL */
	struct hs_open_cost cost;
	const struct hs_open_options *options; /* while it is being opened; NULL: none */
};

struct hs_device {
	struct fuse_device *fuse;
};

/* One errand on the loop that a thread waits for. */
struct errand {
	struct mail mail;
	void (*run)(struct errand *er); /* loop thread; ends in errand_end(), perhaps later */
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool done;
};

/* artifact_search_start - look for what @o names, tell it; artifact_search_end() waits for that */
void artifact_search_start(struct hs_image *img, const struct hs_open_options *o);
void artifact_search_end(struct hs_image *img);

/* quiet_thread - pthread_create() with all signals blocked: they are for threads that expect them
 */
int quiet_thread(pthread_t *ret, void *(*run)(void *arg), void *arg);

/* errand_end - tell who waits that it is done; @er may be gone afterwards */
void errand_end(struct errand *er);
/* errand_wait - run @run on the loop and block until errand_end() */
void errand_wait(struct loop *l, struct errand *er, void (*run)(struct errand *er));

#endif
