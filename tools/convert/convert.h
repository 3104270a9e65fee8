/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.h - an image, or all images of an index, into the overlaybd format
 *
 * Blobs go up first, then the config, then manifests by digest, and the tag last: at no moment does
 * the destination hold a tag whose image is not complete. The output depends on the source and the
 * options in struct convert_format only.
 */
#ifndef HS_CONVERT_CONVERT_H
#define HS_CONVERT_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "layout_note.h"
#include "squeeze.h"

struct err;
struct imageref;
struct hot_order;
struct net;
struct progress;

#define ANNOTATION_CHAIN      "containerd.io/snapshot/headstart/source-chain-id"
#define ANNOTATION_CONVERSION "containerd.io/snapshot/headstart/conversion"
/* a layer in which this layout (its ID) found nothing to order: as every conversion makes it */
#define ANNOTATION_UNORDERED "containerd.io/snapshot/headstart/unordered-by"

struct convert_options {
	struct net *net;
	const struct imageref *source, *target;
	const char *platform; /* "linux/arm64"; NULL: this machine's */
	bool all_platforms;

	struct layer_format format;
	uint64_t device_bytes;
	uint64_t max_bytes; /* uncompressed, all layers of one image */
	bool oci;	    /* media types */
	bool referrer;	    /* artifactType and subject */
	bool reuse;	    /* look for layers converted before */
	bool upload;
	const struct hot_order *order; /* what layers keep at their ends, in its order; NULL */
	const char *dump_dir;	       /* write config.json and manifest.json here, or NULL */
	unsigned int threads;	       /* that compress */
	uint64_t memory_bytes;	       /* for compressed layers that wait */
	const char *spool_dir;	       /* when that is not enough; NULL: default */
	const char *creds, *authfile, *cacert, *cert, *key,
	    *hosts_dir; /* for reading reused layers */
	bool insecure;
	struct progress *progress;
};

struct convert_layer {
	char source_digest[DIGEST_TEXT_BYTES];
	char digest[DIGEST_TEXT_BYTES];
	char chain_id[DIGEST_TEXT_BYTES];
	uint64_t source_bytes;	      /* as stored */
	uint64_t bytes;		      /* of the converted blob */
	uint64_t plain_bytes;	      /* of the LSMT layer; 0 when reused */
	uint64_t tar_bytes;	      /* uncompressed source; 0 when reused */
	uint64_t hot_bytes;	      /* plain, laid out at the end; 0 when reused */
	char note[LAYOUT_NOTE_BYTES]; /* for its descriptor; "" not known */
	bool ordered;		      /* the order found something in it */
	bool reused;		      /* found converted, not downloaded */
	bool sent;		      /* uploaded, not there already */
};

struct convert_image {
	char *platform; /* "linux/amd64" */
	char source_digest[DIGEST_TEXT_BYTES];
	char digest[DIGEST_TEXT_BYTES]; /* of the new manifest */
	struct convert_layer *layers;
	size_t layer_count;
};

struct convert_result {
	char digest[DIGEST_TEXT_BYTES]; /* what the tag names now */
	const char *media_type;
	struct convert_image *images;
	size_t image_count;
	uint64_t tar_bytes, source_bytes, stored_bytes, sent_bytes;
	uint64_t wall_ns, cpu_ns;
};

/* convert_run - convert_result_done() by the caller, also after a failure */
int convert_run(const struct convert_options *o, struct convert_result *ret, struct err *e);
void convert_result_done(struct convert_result *r);

#endif
