/* SPDX-License-Identifier: Apache-2.0 */
/*
 * headstart.h - the public interface of the headstart engine
 *
 * Everything hangs off a struct hs_engine; a process may have several. Functions block and may be
 * called from any thread unless they say otherwise. Errors are a negative errno and a message in
 * @e (see base/err.h), which may be NULL.
 */
#ifndef HS_ENGINE_H
#define HS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct hs_engine;
struct hs_artifact;
struct hs_image;
struct hs_device;

/* When to ask the registry although the answer is in the cache. */
enum hs_pull {
	HS_PULL_ALWAYS,	 /* a tag is resolved again (one request); default */
	HS_PULL_MISSING, /* a tag that was resolved before is not asked for again */
	HS_PULL_NEVER,	 /* what is not in the cache fails; no connection is made at open */
};

/* Strings are copied; NULL and 0 mean the default. */
struct hs_options {
	const char *cache_dir; /* NULL: no cache, everything stays in memory or is fetched again */
	uint64_t cache_bytes;  /* limit; 0: most of the free space */
	const char *creds, *authfile, *cacert, *client_cert, *client_key, *hosts_dir;
	bool insecure;		    /* plain HTTP for the named registry only */
	unsigned int max_conns;	    /* per host */
	unsigned int workers;	    /* decoding threads; 0: number of CPUs, at least 1 */
	uint64_t read_timeout_ns;   /* a read that takes longer fails with EIO; default 60 s */
	uint64_t memory_bytes;	    /* buffers of the read path; default 128 MiB */
	uint64_t read_around_bytes; /* fetched behind a miss, at low priority; at most 16 MiB */
	enum hs_pull pull;
	const char *platform; /* "linux/arm64"; NULL: this machine's */
	bool timeline;	      /* keep what hs_timeline_get() tells */
};

int hs_engine_new(const struct hs_options *o, struct hs_engine **ret, struct err *e);
void hs_engine_free(struct hs_engine *eng); /* images and devices closed first; NULL is fine */

/*
 * hs_image_open - fetch and check the metadata of one image
 * @ref: docker://..., oci:..., docker-archive:... or the path of a config.v1.json
 * Returns 0, -EINVAL bad name, -ENOENT, -EACCES, -EBADMSG corrupt or not an overlaybd image,
 * -ETIMEDOUT, -EIO, -ENOSPC.
 */
int hs_image_open(struct hs_engine *eng, const char *ref, struct hs_image **ret, struct err *e);

/* What may begin while an image is being opened. Zero-initialise. */
struct hs_open_options {
	void *arg;
	/*
	 * The image's blobs are known (hs_image_blob, hs_prefetch_add), its layers are not open yet
	 * (everything else): what that takes has been asked for. On the caller's thread; may be
	 * NULL; not called when opening fails before that.
	 */
	void (*blobs)(void *arg, struct hs_image *img);
	/*
	 * Look for an artifact of this type beside the image, in parallel with everything else.
	 * @artifact is called once, on a thread of its own, perhaps after the image is open: with
	 * @a, valid during the call, or with NULL and why. hs_image_close() cuts it short.
	 */
	const char *artifact_type, *artifact_media; /* NULL: don't look */
	size_t artifact_max_bytes;
	bool (*artifact)(void *arg, struct hs_image *img, struct hs_artifact *a,
			 const struct err *why);
	/* the same for another part of it, if @artifact returned true; NULL: none is wanted */
	const char *more_media;
	/* what it returns does not matter */
	bool (*more)(void *arg, struct hs_image *img, struct hs_artifact *a, const struct err *why);
};

/* hs_image_open_with - hs_image_open() with things to begin meanwhile; @o NULL: none */
int hs_image_open_with(struct hs_engine *eng, const char *ref, const struct hs_open_options *o,
		       struct hs_image **ret, struct err *e);
void hs_image_close(struct hs_image *img); /* NULL is fine */

uint64_t hs_image_bytes(const struct hs_image *img); /* size of the device, multiple of 512 */
const char *
hs_image_digest(const struct hs_image *img); /* of the manifest; "" for a config.v1.json */
/* hs_image_config - the OCI image config as JSON, NULL for a config.v1.json; owned by the image */
const char *hs_image_config(const struct hs_image *img);

/* hs_image_read - any range inside the device; 0, -EINVAL, -EIO, -ETIMEDOUT */
int hs_image_read(struct hs_image *img, void *buf, size_t bytes, uint64_t off, struct err *e);

/*
 * hs_image_next_data - first run at or behind @off that is stored (neither hole nor zeroed)
 * Returns false when there is none.
 */
bool hs_image_next_data(const struct hs_image *img, uint64_t off, uint64_t *ret_off,
			uint64_t *ret_bytes);

/* What one layer is; strings owned by the image. */
struct hs_layer_info {
	const char *digest;   /* "" for a local file */
	const char *name;     /* file name of a local layer, else "" */
	const char *kind;     /* "lsmt", "warp", "rw" */
	const char *envelope; /* "none", "tar" */
	const char *codec;    /* "none", "lz4", "zstd" */
	uint32_t block_bytes; /* 0 when not compressed */
	bool block_crc;
	uint64_t stored_bytes;	/* blob as stored */
	uint64_t plain_bytes;	/* decompressed layer */
	uint64_t virtual_bytes; /* as its LSMT header says */
	uint64_t segments;	/* index records */
	uint64_t blocks;	/* compressed blocks */
	uint64_t cached_bytes;	/* of stored_bytes, here already */
	const char *uuid, *parent_uuid;
};

size_t hs_image_layer_count(const struct hs_image *img);
void hs_image_layer(const struct hs_image *img, size_t n, struct hs_layer_info *ret);
/* merged map: number of mappings, bytes of data and of explicit zeros */
void hs_image_map_totals(const struct hs_image *img, uint64_t *ret_mappings, uint64_t *ret_data,
			 uint64_t *ret_zeroed);

/*
 * hs_image_mapping - mapping @n of the merged map, ascending, explicit zeros included
 * Returns false behind the last one.
 */
bool hs_image_mapping(const struct hs_image *img, size_t n, uint64_t *ret_off, uint64_t *ret_bytes,
		      bool *ret_zeroed);

/* --- stored bytes: what prefetching is about ----------------------------------------------------
 */

/* Stored (compressed) bytes of one blob of an image. */
struct hs_stored {
	uint32_t blob; /* number, < hs_image_blob_count() */
	uint64_t off, bytes;
};

struct hs_blob_info {
	const char *digest; /* "" for a local file without one; owned by the image */
	uint64_t bytes;
	bool local; /* a file of this machine: never fetched */
};

/* Blobs are numbered in the order of the layers, bottom first; known before layers are open. */
size_t hs_image_blob_count(const struct hs_image *img);
void hs_image_blob(const struct hs_image *img, size_t n, struct hs_blob_info *ret);

/*
 * hs_image_stored - what reading [off, off + bytes) of the device takes
 * @fn: called with whole stored blocks, in device order, neighbours fused; non-zero stops
 * Returns 0, what @fn returned, or -EINVAL a range behind the end of the device.
 */
int hs_image_stored(const struct hs_image *img, uint64_t off, uint64_t bytes,
		    int (*fn)(void *arg, const struct hs_stored *s), void *arg);

/*
 * hs_image_stored_layer - the same for plain bytes of layer @layer's file (0: bottom), as traces of
 * overlaybd name them: LSMT header, data and index
 * Returns 0, what @fn returned, or -EINVAL no such layer or behind its end.
 */
int hs_image_stored_layer(const struct hs_image *img, size_t layer, uint64_t off, uint64_t bytes,
			  int (*fn)(void *arg, const struct hs_stored *s), void *arg);

/* hs_image_opening - stored range @n that opening the image reads anyway; false behind the last */
bool hs_image_opening(const struct hs_image *img, size_t n, struct hs_stored *ret);

/* --- prefetching ---------------------------------------------------------------------------------
 */

/*
 * hs_prefetch_add - bring stored ranges to this node before they are asked for, in this order
 * @instead: of what was added before and has not been begun; else behind it
 * @budget_bytes: stop when so much was fetched in all; 0: no limit
 * @ret_first: number of the first of them among all that were added; those of local blobs do not
 * count; may be NULL
 * Goes on in the background, at a lower priority than every read, and joined by reads that want
 * the same bytes; more ranges may follow. What is local, cached or on its way is not fetched.
 * Ranges must lie inside their blobs: 0, or -EINVAL and nothing is added.
 */
int hs_prefetch_add(struct hs_image *img, const struct hs_stored *ranges, size_t count,
		    bool instead, uint64_t budget_bytes, size_t *ret_first, struct err *e);

/*
 * hs_prefetch_landed - how many ranges from the first one on are here completely
 * @ret_final: nothing more of what was added will come
 */
size_t hs_prefetch_landed(struct hs_image *img, bool *ret_final);
/* hs_set_read_around - from now on; 0: nothing, as when a list tells better what comes next */
void hs_set_read_around(struct hs_engine *eng, uint64_t bytes);
/*
 * hs_prefetch_ends - the ends of layers that a start reads, as far as the manifest tells of them
 * @laid_out: only if file data of some layer was laid out for a start: metadata, and that data;
 * else file system metadata of all layers. Returns how many layers were laid out, or all.
 */
size_t hs_prefetch_ends(struct hs_image *img, bool laid_out, uint64_t budget_bytes);
void hs_prefetch_stop(struct hs_image *img); /* nothing more is started */

enum hs_prefetch_end {
	HS_PREFETCH_NONE, /* nothing was added */
	HS_PREFETCH_RUNNING,
	HS_PREFETCH_COMPLETE,
	HS_PREFETCH_OVER_BUDGET,
	HS_PREFETCH_STOPPED,
	HS_PREFETCH_BEHIND, /* reads got to most ranges first */
};

/* What prefetching one image was worth; bytes are stored (compressed) ones. */
struct hs_prefetch_stats {
	enum hs_prefetch_end end;
	uint64_t planned_bytes;	     /* of all ranges that were added */
	uint64_t fetched_bytes;	     /* by it; the rest was here or somebody else was first */
	uint64_t used_bytes;	     /* of the fetched ones, in blocks that were asked for since */
	uint64_t planned_used_bytes; /* of the planned ones, the same */
	uint64_t failed_fetches;
	uint64_t ranges, late_ranges; /* late: reads asked before */
	uint64_t start_ns, end_ns;    /* clock_now_ns(): added; last bytes came */
};

void hs_prefetch_stats_get(struct hs_image *img, struct hs_prefetch_stats *ret);

/* One thing that took time. */
enum hs_event_kind { HS_EVENT_DEMAND, HS_EVENT_PREFETCH, HS_EVENT_STALL };

struct hs_event {
	enum hs_event_kind
	    kind; /* a fetch somebody waited for, one nobody did, a read that waited */
	uint64_t start_ns, end_ns; /* clock_now_ns() */
	uint64_t off, bytes;	   /* fetch: stored, of its blob; stall: of the device */
};

/*
 * hs_timeline_get - the first 64 Ki events since the engine was made with @timeline set
 * Returns their number; caller frees *@ret. @ret_dropped: how many came later.
 */
size_t hs_timeline_get(struct hs_engine *eng, struct hs_event **ret, uint64_t *ret_dropped);

/* --- artifacts: what lies beside an image in its registry and refers to it
 * ------------------------ */

/* One part (an OCI layer) of an artifact. */
struct hs_artifact_part {
	const char *media_type;
	const void *bytes;
	size_t len;
};

struct hs_artifact {
	char digest[72]; /* of the artifact's manifest */
	char *created;	 /* annotation org.opencontainers.image.created; "" */
	char *bytes;	 /* of the part that was asked for; NUL behind */
	size_t len;
	bool was_inline; /* came with the list of referrers: no request of its own */
};

void hs_artifact_done(struct hs_artifact *a);

/*
 * hs_artifact_put - attach an artifact to the image @ref names; the image's digest does not change
 * @type: artifactType; @parts: stored as layers, the first inline in the descriptors as well where
 * the whole stays under 4 MiB; replaces artifacts of the same type unless @keep
 * Works with registries that have the referrers API and, by the tag fallback, with those that do
 * not, and with OCI directories. Returns 0, -EOPNOTSUPP the image cannot have any (docker-archive,
 * config.v1.json), or an error of the store.
 */
int hs_artifact_put(struct hs_engine *eng, const char *ref, const char *type,
		    const struct hs_artifact_part *parts, size_t count, bool keep,
		    char ret_digest[72], struct err *e);

/*
 * hs_artifact_get - newest artifact of @type that refers to the image @ref names
 * @media_type: which part. Returns 0, -ENOENT there is none, -EBADMSG, or an error of the store.
 */
int hs_artifact_get(struct hs_engine *eng, const char *ref, const char *type,
		    const char *media_type, size_t max_bytes, struct hs_artifact *ret,
		    struct err *e);

/*
 * hs_image_acceleration - what overlaybd itself would prefetch for the image @ref names
 * Its acceleration layer, an extra top layer that opening leaves alone, holds a trace of overlaybd
 * or a list of files; which of them, its bytes tell. Caller frees *@ret, NUL behind.
 * Returns 0, -ENOENT the image has none, -EBADMSG a corrupt layer or more than @max_bytes,
 * -EOPNOTSUPP a config.v1.json, or an error of the store.
 */
int hs_image_acceleration(struct hs_engine *eng, const char *ref, size_t max_bytes, char **ret,
			  size_t *ret_len, struct err *e);

/* What opening cost: dependent HTTP exchanges after the manifest was known, and all requests. */
struct hs_open_cost {
	unsigned int exchanges;
	uint64_t requests;
	uint64_t bytes;
	uint64_t ns;
	/* clock_now_ns() when it began, when its blobs were known, when it was open */
	uint64_t start_ns, resolved_ns, opened_ns;
};

void hs_image_open_cost(const struct hs_image *img, struct hs_open_cost *ret);

/*
 * hs_device_new - serve the image as one file over FUSE
 * @dir: an existing directory; a FUSE file system with one read-only file "disk" is mounted on it
 * The process must never read that file itself. Needs CAP_SYS_ADMIN and /dev/fuse.
 */
int hs_device_new(struct hs_image *img, const char *dir, struct hs_device **ret, struct err *e);

/*
 * hs_device_wait - block until the device has been opened at least once and has no opener left
 * for @linger_ns, its mount is gone, or hs_device_stop() was called
 * Returns 0 idle, 1 unmounted by somebody, 2 stopped.
 */
int hs_device_wait(struct hs_device *d, uint64_t linger_ns);
/* hs_device_in_use - whether somebody has the file open now; any thread */
bool hs_device_in_use(const struct hs_device *d);
void hs_device_stop(struct hs_device *d); /* any thread, async-signal-safe */
void hs_device_free(struct hs_device *d); /* unmounts; NULL is fine; before hs_image_close() */

/* Counters of one engine; a snapshot. Bytes are compressed unless said otherwise. */
struct hs_stats {
	uint64_t requests; /* HTTP */
	uint64_t fetched_bytes;
	uint64_t retries;
	uint64_t connections;
	uint64_t fetch_errors;
	uint64_t reads;	     /* device or hs_image_read() */
	uint64_t read_bytes; /* decompressed */
	uint64_t read_errors;
	uint64_t cache_hit_bytes; /* read from the cache file */
	uint64_t joined_fetches;  /* reads that found their bytes already on the way */
	uint64_t bad_blocks;	  /* blocks that failed their check, before the retry */
	uint64_t read_p50_ns, read_p99_ns, read_max_ns;
	uint64_t stalled_ns;	    /* sum of time reads waited for the network */
	uint64_t asked_bytes;	    /* decompressed, asked of the device; holes not counted */
	uint64_t asked_local_bytes; /* of these, here already when they were asked for */
	uint64_t cache_used_bytes, cache_limit_bytes, cache_stored_bytes, cache_refused_bytes;
};

void hs_stats_get(struct hs_engine *eng, struct hs_stats *ret);

#endif
