/* SPDX-License-Identifier: Apache-2.0 */
/*
 * headstart.c - the public interface: one engine is a cache, a network thread and a loop thread
 *
 * The calling threads are the control plane. What they need of the loop they post as mail and wait
 * for; nothing here touches loop-owned state directly.
 */
#include "headstart_impl.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "blob.h"
#include "cache.h"
#include "cleanup.h"
#include "clock.h"
#include "flight.h"
#include "fuse.h"
#include "image.h"
#include "lsmt.h"
#include "net.h"
#include "oci.h"
#include "open.h"
#include "path.h"
#include "reader.h"
#include "replay.h"
#include "request.h"
#include "resolve.h"
#include "span.h"
#include "text.h"
#include "timeline.h"

#define RING_ENTRIES	 256u
#define TIMELINE_ENTRIES 65536u

/* --- mail from the control plane ------------------------------------------------------------ */

void errand_end(struct errand *er)
{
	pthread_mutex_lock(&er->lock);
	er->done = true;
	pthread_cond_signal(&er->ended);
	pthread_mutex_unlock(&er->lock);
}

static void errand_deliver(struct mail *m)
{
	struct errand *er = container_of(m, struct errand, mail);

	er->run(er);
}

void errand_wait(struct loop *l, struct errand *er, void (*run)(struct errand *er))
{
	er->run = run;
	er->mail.deliver = errand_deliver;
	er->done = false;
	pthread_mutex_init(&er->lock, NULL);
	pthread_cond_init(&er->ended, NULL);
	loop_post(l, &er->mail);
	pthread_mutex_lock(&er->lock);
	while (!er->done)
		pthread_cond_wait(&er->ended, &er->lock);
	pthread_mutex_unlock(&er->lock);
	pthread_mutex_destroy(&er->lock);
	pthread_cond_destroy(&er->ended);
}

/* Control plane only: a bounded poll for things that end by themselves within their deadlines. */
static void nap(void)
{
	struct timespec ts = {.tv_nsec = (long)NS_PER_MS};

	(void)nanosleep(&ts, NULL); /* waking early is fine */
}

/* --- engine --------------------------------------------------------------------------------- */

static void *loop_main(void *arg)
{
	loop_run(arg);
	return NULL;
}

struct stop_errand {
	struct errand er;
	struct path *path;
	bool idle;
};

static void run_stop(struct errand *er)
{
	struct stop_errand *s = container_of(er, struct stop_errand, er);

	path_stop(s->path);
	s->idle = path_idle(s->path);
	errand_end(er);
}

static void stop_loop(struct hs_engine *eng)
{
	struct stop_errand s = {.path = eng->path};

	for (;;) {
		errand_wait(eng->loop, &s.er, run_stop);
		if (s.idle)
			break;
		nap();
	}
	loop_stop(eng->loop);
	pthread_join(eng->thread, NULL);
	eng->running = false;
}

void hs_engine_free(struct hs_engine *eng)
{
	if (!eng)
		return;
	if (eng->running)
		stop_loop(eng);
	path_free(eng->path);
	/* The network thread may still be inside a loop_post() whose mail has been delivered. */
	net_free(eng->net);
	loop_free(eng->loop);
	cache_close(eng->cache);
	temp_dir_remove(&eng->private_cache);
	oci_platform_done(&eng->platform);
	free(eng);
}

int quiet_thread(pthread_t *ret, void *(*run)(void *arg), void *arg)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(ret, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

static int open_cache(struct hs_engine *eng, const struct hs_options *o, struct err *e)
{
	const char *dir = o->cache_dir;
	int r = 0;

	if (!dir) {
		r = temp_dir_make(&eng->private_cache, e);
		dir = eng->private_cache.path;
	}
	return r ? r : cache_open(dir, o->cache_bytes, &eng->cache, e);
}

static int open_net(struct hs_engine *eng, const struct hs_options *o, struct err *e)
{
	struct net_options n = {
	    .creds = o->creds,
	    .authfile = o->authfile,
	    .cacert = o->cacert,
	    .client_cert = o->client_cert,
	    .client_key = o->client_key,
	    .hosts_dir = o->hosts_dir,
	    .insecure = o->insecure,
	    .max_conns = o->max_conns,
	    .timeout_ns = eng->timeout_ns,
	    .user_agent = "headstart/" HS_VERSION,
	};

	return net_new(&n, &eng->net, e);
}

static int start_loop(struct hs_engine *eng, const struct hs_options *o, struct err *e)
{
	struct path_options po;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int rc;

	path_options_default(&po);
	po.read_timeout_ns = eng->timeout_ns;
	if (o->memory_bytes)
		po.memory_bytes = o->memory_bytes;
	po.read_around_bytes = (uint32_t)min_u64(o->read_around_bytes, BUFPOOL_MAX_BYTES);
	po.workers = o->workers ? o->workers : (unsigned int)(cpus > 1 ? cpus : 1);
	rc = loop_new(RING_ENTRIES, &eng->loop, e);
	if (!rc)
		rc = path_new(eng->loop, &po, &eng->path, e);
	if (rc)
		return rc;
	if (o->timeline)
		eng->path->timeline = timeline_new(TIMELINE_ENTRIES);
	rc = quiet_thread(&eng->thread, loop_main, eng->loop);
	if (rc)
		return err_set(e, -rc, "cannot start the loop thread: %s", strerror(rc));
	eng->running = true;
	return 0;
}

int hs_engine_new(const struct hs_options *o, struct hs_engine **ret, struct err *e)
{
	static const enum pull pulls[] = {
	    [HS_PULL_ALWAYS] = PULL_ALWAYS,
	    [HS_PULL_MISSING] = PULL_MISSING,
	    [HS_PULL_NEVER] = PULL_NEVER,
	};
	struct hs_engine *eng = xmalloc_zero(1, sizeof(*eng));
	int rc = 0;

	eng->timeout_ns = o->read_timeout_ns ? o->read_timeout_ns : 60 * NS_PER_SEC;
	eng->pull = pulls[o->pull];
	if (o->platform)
		rc = oci_platform_parse(o->platform, &eng->platform, e);
	else
		oci_platform_host(&eng->platform);
	if (rc)
		err_wrap(e, rc, "platform \"%s\"", o->platform);
	if (!rc)
		rc = open_cache(eng, o, e);
	if (!rc)
		rc = open_net(eng, o, e);
	if (!rc)
		rc = start_loop(eng, o, e);
	if (rc) {
		hs_engine_free(eng);
		return rc;
	}
	*ret = eng;
	return 0;
}

struct stats_errand {
	struct errand er;
	const struct path *path;
	struct path_stats stats;
};

static void run_stats(struct errand *er)
{
	struct stats_errand *s = container_of(er, struct stats_errand, er);

	s->stats = s->path->stats;
	errand_end(er);
}

void hs_stats_get(struct hs_engine *eng, struct hs_stats *ret)
{
	struct stats_errand s = {.path = eng->path};
	const struct path_stats *p = &s.stats;
	struct net_stats n;
	struct cache_stats c;

	errand_wait(eng->loop, &s.er, run_stats);
	net_stats_get(eng->net, &n);
	cache_stats_get(eng->cache, &c);
	*ret = (struct hs_stats){
	    .requests = n.requests,
	    .fetched_bytes = n.bytes,
	    .retries = n.retries,
	    .connections = n.connections,
	    .fetch_errors = p->fetch_errors,
	    .reads = p->reads,
	    .read_bytes = p->read_bytes,
	    .read_errors = p->read_errors,
	    .cache_hit_bytes = p->cache_hit_bytes,
	    .joined_fetches = p->joined_fetches,
	    .bad_blocks = p->bad_blocks,
	    .read_p50_ns = hist_quantile(&p->latency, 0.5),
	    .read_p99_ns = hist_quantile(&p->latency, 0.99),
	    .read_max_ns = p->latency.max_ns,
	    .stalled_ns = p->stalled_ns,
	    .asked_bytes = p->asked_bytes,
	    .asked_local_bytes = p->asked_local_bytes,
	    .cache_used_bytes = c.used_bytes,
	    .cache_limit_bytes = c.limit_bytes,
	    .cache_stored_bytes = c.stored_bytes,
	    .cache_refused_bytes = c.refused_bytes,
	};
}

/* --- images --------------------------------------------------------------------------------- */

/* The image config arrives while the layers are being opened. */
struct config_job {
	const struct resolve_env *env;
	const struct resolved *resolved;
	char *json;
	struct err err;
	int rc;
};

static void *config_main(void *arg)
{
	struct config_job *job = arg;

	job->rc = resolve_config(job->env, job->resolved, &job->json, &job->err);
	return NULL;
}

static void layers_begun(void *arg)
{
	struct hs_image *img = arg;

	if (img->options && img->options->blobs)
		img->options->blobs(img->options->arg, img);
}

static int open_layers(struct hs_image *img, struct err *e)
{
	struct hs_engine *eng = img->eng;
	struct reader reader;
	int rc;

	reader_init(&reader, eng->timeout_ns, eng->pull == PULL_NEVER);
	reader.begun = layers_begun;
	reader.begun_arg = img;
	rc = image_open(&reader, img->image, img->resolved.specs, e);
	img->cost.exchanges = reader.cost.exchanges;
	reader_done(&reader);
	return rc;
}

static int open_image(struct hs_image *img, const struct resolve_env *env, struct err *e)
{
	struct config_job job = {.env = env, .resolved = &img->resolved};
	pthread_t thread;
	int rc;

	if (!img->resolved.config_digest)
		return open_layers(img, e);
	rc = quiet_thread(&thread, config_main, &job);
	if (rc)
		return err_set(e, -rc, "cannot start a thread: %s", strerror(rc));
	rc = open_layers(img, e);
	pthread_join(thread, NULL);
	img->config = job.json;
	if (!rc && job.rc) {
		rc = job.rc;
		if (e)
			*e = job.err;
	}
	return rc;
}

int hs_image_open(struct hs_engine *eng, const char *ref, struct hs_image **ret, struct err *e)
{
	return hs_image_open_with(eng, ref, NULL, ret, e);
}

int hs_image_open_with(struct hs_engine *eng, const char *ref, const struct hs_open_options *o,
		       struct hs_image **ret, struct err *e)
{
	struct resolve_env env = {
	    .net = eng->net,
	    .cache = eng->cache,
	    .pull = eng->pull,
	    .platform = eng->platform,
	};
	struct hs_image *img = xmalloc_zero(1, sizeof(*img));
	struct net_stats before, after;
	int rc;

	img->eng = eng;
	img->cost.start_ns = clock_now_ns();
	net_stats_get(eng->net, &before);
	rc = resolve_image(&env, ref, &img->resolved, e);
	if (!rc) {
		img->image = image_new(img->resolved.specs, img->resolved.count);
		img->resolved.blobs_taken = true;
		img->hints = xmalloc_zero(img->resolved.count, sizeof(*img->hints));
		for (size_t n = 0; n < img->resolved.count; n++)
			img->hints[n] = img->resolved.specs[n].hints;
		img->cost.resolved_ns = clock_now_ns();
		if (o && o->artifact_type)
			artifact_search_start(img, o);
		img->options = o;
		rc = open_image(img, &env, e);
		atomic_store(&img->open, !rc);
		if (rc)
			err_wrap(e, rc, "%s", ref);
	}
	if (rc) {
		hs_image_close(img);
		return rc;
	}
	img->options = NULL;
	net_stats_get(eng->net, &after);
	img->cost.requests = after.requests - before.requests;
	img->cost.bytes = after.bytes - before.bytes;
	img->cost.opened_ns = clock_now_ns();
	img->cost.ns = img->cost.opened_ns - img->cost.start_ns;
	*ret = img;
	return 0;
}

struct close_errand {
	struct errand er;
	struct hs_image *img;
	bool quiet;
};

static void run_close(struct errand *er)
{
	struct close_errand *c = container_of(er, struct close_errand, er);
	struct image *i = c->img->image;

	c->quiet = true;
	if (c->img->replay) {
		replay_stop(c->img->replay);
		c->quiet = replay_idle(c->img->replay);
	}
	for (size_t n = 0; n < i->blob_count; n++) {
		flight_cancel_all(i->blobs[n]);
		c->quiet &= list_empty(&i->blobs[n]->flights);
	}
	for (size_t n = 0; c->quiet && n < i->layer_count; n++)
		span_purge(c->img->eng->path, &i->layers[n].target);
	if (c->quiet)
		replay_free(steal_ptr(c->img->replay));
	errand_end(er);
}

void hs_image_close(struct hs_image *img)
{
	struct close_errand c = {.img = img};

	if (!img)
		return;
	artifact_search_end(img);
	while (img->image) {
		errand_wait(img->eng->loop, &c.er, run_close);
		if (c.quiet)
			break;
		nap();
	}
	image_free(img->image);
	resolved_done(&img->resolved);
	free(img->config);
	free(img->hints);
	free(img);
}

uint64_t hs_image_bytes(const struct hs_image *img)
{
	return img->image->bytes;
}

const char *hs_image_digest(const struct hs_image *img)
{
	return img->resolved.digest;
}

const char *hs_image_config(const struct hs_image *img)
{
	return img->config;
}

void hs_image_open_cost(const struct hs_image *img, struct hs_open_cost *ret)
{
	*ret = img->cost;
}

struct read_errand {
	struct errand er;
	struct request req;
	struct path *path;
};

static void read_done(struct request *r)
{
	errand_end(&container_of(r, struct read_errand, req)->er);
}

static void run_read(struct errand *er)
{
	struct read_errand *rd = container_of(er, struct read_errand, er);

	request_start(rd->path, &rd->req);
}

int hs_image_read(struct hs_image *img, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	struct read_errand rd = {
	    .path = img->eng->path,
	    .req =
		{
		    .image = img->image,
		    .range = range_of(off, bytes),
		    .buf = buf,
		    .prio = PRIO_DEMAND,
		    .done = read_done,
		},
	};

	if (!bytes)
		return 0;
	if (!range_inside(rd.req.range, img->image->bytes))
		return err_set(e, -EINVAL,
			       "read of %zu bytes at %llu is behind the end of the device", bytes,
			       (unsigned long long)off);
	errand_wait(img->eng->loop, &rd.er, run_read);
	if (rd.req.res)
		return err_set(e, rd.req.res, "cannot read %zu bytes at %llu of the device: %s",
			       bytes, (unsigned long long)off, strerror(-rd.req.res));
	return 0;
}

bool hs_image_next_data(const struct hs_image *img, uint64_t off, uint64_t *ret_off,
			uint64_t *ret_bytes)
{
	uint64_t end = img->image->bytes;

	while (off < end) {
		struct map_piece mp = image_map_next(img->image->map, range_of(off, end - off));

		if (!mp.zero) {
			*ret_off = mp.range.off;
			*ret_bytes = mp.range.len;
			return true;
		}
		off = range_end(mp.range);
	}
	return false;
}

size_t hs_image_layer_count(const struct hs_image *img)
{
	return img->image->layer_count;
}

void hs_image_layer(const struct hs_image *img, size_t n, struct hs_layer_info *ret)
{
	static const char *const kinds[] = {
	    [LAYER_LSMT] = "lsmt",
	    [LAYER_WARP] = "warp",
	    [LAYER_RW] = "rw",
	};
	const struct layer *l = &img->image->layers[n];
	const struct stream *s = &l->main;
	const struct blob *b = s->blob;
	bool packed = s->kind == STREAM_ZFILE;

	*ret = (struct hs_layer_info){
	    .digest = b->digest,
	    .name = b->digest[0] ? "" : b->name,
	    .kind = kinds[l->kind],
	    .envelope = l->enveloped ? "tar" : "none",
	    .codec = packed ? codec_name(s->zinfo.codec) : "none",
	    .block_bytes = packed ? s->zinfo.block_bytes : 0,
	    .block_crc = packed && s->zinfo.verify,
	    .stored_bytes = b->bytes,
	    .plain_bytes = s->bytes,
	    .virtual_bytes = l->header.virtual_bytes,
	    .segments = l->segments,
	    .blocks = packed ? s->zinfo.block_count : 0,
	    .cached_bytes = b->cache ? cache_present_bytes(b->cache) : b->bytes,
	    .uuid = l->header.uuid,
	    .parent_uuid = l->header.parent,
	};
}

void hs_image_map_totals(const struct hs_image *img, uint64_t *ret_mappings, uint64_t *ret_data,
			 uint64_t *ret_zeroed)
{
	image_map_totals(img->image->map, ret_mappings, ret_data, ret_zeroed);
}

bool hs_image_mapping(const struct hs_image *img, size_t n, uint64_t *ret_off, uint64_t *ret_bytes,
		      bool *ret_zeroed)
{
	struct map_piece mp;

	if (!image_map_mapping(img->image->map, n, &mp))
		return false;
	*ret_off = mp.range.off;
	*ret_bytes = mp.range.len;
	*ret_zeroed = mp.zero;
	return true;
}

size_t hs_image_blob_count(const struct hs_image *img)
{
	return img->image->blob_count;
}

void hs_image_blob(const struct hs_image *img, size_t n, struct hs_blob_info *ret)
{
	const struct blob *b = img->image->blobs[n];

	*ret = (struct hs_blob_info){b->digest, b->bytes, blob_is_local(b)};
}

static uint32_t blob_number(const struct image *i, const struct blob *b)
{
	uint32_t n = 0;

	while (i->blobs[n] != b)
		n++;
	return n;
}

/* Stored ranges on their way out; neighbours are fused. */
struct stored_run {
	const struct image *image;
	struct hs_stored run;
	int (*fn)(void *arg, const struct hs_stored *s);
	void *arg;
};

static int end_run(struct stored_run *r)
{
	return r->run.bytes ? r->fn(r->arg, &r->run) : 0;
}

/* The first part of [plain) of @s that has one plan; how long it is in *ret_done. */
static int add_stored(struct stored_run *r, const struct stream *s, struct range plain,
		      uint64_t *ret_done)
{
	struct hs_stored *run = &r->run;
	struct stream_plan plan;
	uint32_t blob = blob_number(r->image, s->blob);
	int rc = 0;

	*ret_done = stream_plan(s, plain, &plan);
	if (run->bytes && blob == run->blob && plan.stored.off >= run->off &&
	    plan.stored.off <= run->off + run->bytes) {
		run->bytes = max_u64(run->off + run->bytes, range_end(plan.stored)) - run->off;
	} else {
		rc = end_run(r);
		*run = (struct hs_stored){blob, plan.stored.off, plan.stored.len};
	}
	return rc;
}

int hs_image_stored(const struct hs_image *img, uint64_t off, uint64_t bytes,
		    int (*fn)(void *arg, const struct hs_stored *s), void *arg)
{
	struct stored_run run = {.image = img->image, .fn = fn, .arg = arg};
	struct range rest = range_of(off, bytes);

	if (!range_inside(rest, img->image->bytes))
		return -EINVAL;
	while (rest.len) {
		struct map_piece mp = image_map_next(img->image->map, rest);
		uint64_t done = mp.range.len;
		int rc = mp.zero ? 0
				 : add_stored(&run, image_stream(img->image, &mp),
					      range_of(mp.moff, mp.range.len), &done);

		if (rc)
			return rc;
		rest = range_of(rest.off + done, rest.len - done);
	}
	return end_run(&run);
}

int hs_image_stored_layer(const struct hs_image *img, size_t layer, uint64_t off, uint64_t bytes,
			  int (*fn)(void *arg, const struct hs_stored *s), void *arg)
{
	struct stored_run run = {.image = img->image, .fn = fn, .arg = arg};
	struct range rest = range_of(off, bytes);

	if (layer >= img->image->layer_count ||
	    !range_inside(rest, img->image->layers[layer].main.bytes))
		return -EINVAL;
	while (rest.len) {
		uint64_t done;
		int rc = add_stored(&run, &img->image->layers[layer].main, rest, &done);

		if (rc)
			return rc;
		rest = range_of(rest.off + done, rest.len - done);
	}
	return end_run(&run);
}

bool hs_image_opening(const struct hs_image *img, size_t n, struct hs_stored *ret)
{
	const struct image *i = img->image;

	if (n >= i->opening_count)
		return false;
	*ret = (struct hs_stored){
	    .blob = blob_number(i, i->opening[n].blob),
	    .off = i->opening[n].range.off,
	    .bytes = i->opening[n].range.len,
	};
	return true;
}

/* --- devices -------------------------------------------------------------------------------- */

int hs_device_new(struct hs_image *img, const char *dir, struct hs_device **ret, struct err *e)
{
	struct fuse_options o = {
	    .path = img->eng->path,
	    .image = img->image,
	    .bytes = img->image->bytes,
	    .dir = dir,
	};
	struct hs_device *d = xmalloc_zero(1, sizeof(*d));
	int rc = fuse_device_new(&o, &d->fuse, e);

	if (rc) {
		free(d);
		return rc;
	}
	*ret = d;
	return 0;
}

int hs_device_wait(struct hs_device *d, uint64_t linger_ns)
{
	return fuse_device_wait(d->fuse, linger_ns);
}

bool hs_device_in_use(const struct hs_device *d)
{
	struct fuse_stats s;

	fuse_device_stats(d->fuse, &s);
	return s.openers > 0;
}

void hs_device_stop(struct hs_device *d)
{
	fuse_device_stop(d->fuse);
}

void hs_device_free(struct hs_device *d)
{
	if (!d)
		return;
	fuse_device_free(d->fuse);
	free(d);
}
