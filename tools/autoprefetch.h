/* SPDX-License-Identifier: Apache-2.0 */
/*
 * autoprefetch.h - a server's prefetch: where its list comes from, and what it was worth
 *
 * The list is a file, or the artifact beside the image, looked for while the image is being opened.
 * Replay begins as soon as list and blobs are known, before anything is mounted. No list, a bad
 * one or one that proved useless is one log line, never a failure.
 */
#ifndef HS_TOOLS_AUTOPREFETCH_H
#define HS_TOOLS_AUTOPREFETCH_H

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "headstart.h"

struct err;
struct prefetch_list;

/* What became of the search for a list. */
enum list_state { LIST_OFF, LIST_SOUGHT, LIST_NONE, LIST_BAD, LIST_EXPIRED, LIST_USED };

struct autoprefetch {
	struct hs_open_options options; /* for hs_image_open_with() */
	struct prefetch_list *file;	/* from --prefetch=FILE */
	struct hs_engine *engine;	/* the caller sets it before it opens the image */
	char *cache_dir;		/* where histories are; NULL: nowhere */

	pthread_mutex_t lock; /* what follows: written by the thread that looks for the list */
	enum list_state state;
	char digest[72]; /* of the artifact, or of the file */
	bool exact;
	char origin[16]; /* "recorded", "predicted", ... */
	char why[512];	 /* BAD: what was wrong */
	uint64_t found_ns;
	uint64_t dropped_bytes; /* ranges of blobs that the image does not have */
	size_t first_range; /* of the image's prefetch: what was added before is not the list's */
	uint32_t *at_ms;    /* when the start touches them, in order */
	size_t range_count;
	char *files_path; /* where the touches go; NULL: nowhere */
	bool files_here;
	bool audit; /* pages are not warmed this time, so that the list's worth is seen */
};

#define AUTOPREFETCH_FILES "start.files" /* in the record's directory */

/*
 * autoprefetch_init - from the command line's --prefetch and --prefetch-budget
 * @files_path: where the list's files go for who warms pages; NULL: nobody does
 * Reads the list file if there is one: 0 or what was wrong with it.
 */
int autoprefetch_init(struct autoprefetch *a, const char *cache_dir, const char *files_path,
		      struct err *e);
/* autoprefetch_done - remember what it was worth, for the next start of this image */
void autoprefetch_done(struct autoprefetch *a, struct hs_image *img, struct hs_engine *eng);
void autoprefetch_free(struct autoprefetch *a); /* the image is closed */

/* autoprefetch_sought - whether a list may still be found; any thread */
bool autoprefetch_sought(struct autoprefetch *a);
/* autoprefetch_exact - whether a list is replayed that was made of what a start read; any thread */
bool autoprefetch_exact(struct autoprefetch *a);

/*
 * autoprefetch_pages - the answer to who warms pages: "wanted", "final", "landed_ms", "file"
 */
void autoprefetch_pages(struct autoprefetch *a, struct hs_image *img, cJSON *j);

/* autoprefetch_json - the object "prefetch" of status and report */
cJSON *autoprefetch_json(struct autoprefetch *a, struct hs_image *img, struct hs_engine *eng);

#endif
