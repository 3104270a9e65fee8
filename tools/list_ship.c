/* SPDX-License-Identifier: Apache-2.0 */
/* list_ship.c - see list_ship.h */
#include "list_ship.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "prefetch_list.h"

#define PULL_TRIES 3

int list_push(struct hs_engine *eng, const char *image, const struct prefetch_list *l,
	      struct shipped_list *ret, struct err *e)
{
	_cleanup_free_ uint8_t *ranges = NULL;
	_cleanup_free_ uint8_t *files = NULL;
	struct hs_artifact_part parts[2];
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = prefetch_list_encode(l, PREFETCH_RANGES, &ranges, &ret->ranges_bytes, e);
	if (!rc)
		rc = prefetch_list_encode(l, PREFETCH_FILES, &files, &ret->files_bytes, e);
	if (rc)
		return rc;
	/* the first part is the one that comes along with the list of referrers */
	parts[0] = (struct hs_artifact_part){PREFETCH_RANGES_MEDIA, ranges, ret->ranges_bytes};
	parts[1] = (struct hs_artifact_part){PREFETCH_FILES_MEDIA, files, ret->files_bytes};
	return hs_artifact_put(eng, image, PREFETCH_LIST_TYPE, parts, 2, false, ret->digest, e);
}

static int get_half(struct hs_engine *eng, const char *image, const char *media,
		    struct prefetch_list **ret, struct hs_artifact *a, struct err *e)
{
	int rc =
	    hs_artifact_get(eng, image, PREFETCH_LIST_TYPE, media, PREFETCH_LIST_MAX_BYTES, a, e);

	if (rc)
		return rc;
	rc = prefetch_list_parse(a->bytes, a->len, ret, e);
	if (rc) {
		hs_artifact_done(a);
		(void)err_wrap(e, rc, "list %.19s...", a->digest);
		/* -ENOENT of the parser would read as "there is none" */
		if (rc == -ENOENT && e)
			e->code = -EBADMSG;
		return rc == -ENOENT ? -EBADMSG : rc;
	}
	return 0;
}

/* Give @l the files and touches of @files. */
static int join(struct prefetch_list *l, struct prefetch_list *files, struct err *e)
{
	if (l->origin != files->origin || l->created_s != files->created_s ||
	    strcmp(l->image_digest, files->image_digest) != 0)
		return err_set(e, -EBADMSG, "the halves are not of one list");
	if (l->file_count || l->touch_count)
		return 0; /* somebody pushed it in one piece */
	l->files = steal_ptr(files->files);
	l->file_count = files->file_count;
	l->touches = steal_ptr(files->touches);
	l->touch_count = files->touch_count;
	files->file_count = files->touch_count = 0;
	return 0;
}

int list_pull(struct hs_engine *eng, const char *image, struct prefetch_list **ret,
	      struct shipped_list *ret_about, struct err *e)
{
	int rc = -EAGAIN;

	for (int tries = 0; rc == -EAGAIN && tries < PULL_TRIES; tries++) {
		struct prefetch_list *l = NULL, *files = NULL;
		struct hs_artifact a, b;

		rc = get_half(eng, image, PREFETCH_RANGES_MEDIA, &l, &a, e);
		if (rc)
			return rc;
		rc = get_half(eng, image, PREFETCH_FILES_MEDIA, &files, &b, e);
		if (!rc && strcmp(a.digest, b.digest) != 0)
			rc =
			    err_set(e, -EAGAIN, "%s: the list was replaced again and again", image);
		if (!rc)
			rc = join(l, files, e);
		if (!rc) {
			memset(ret_about, 0, sizeof(*ret_about));
			memcpy(ret_about->digest, a.digest, sizeof(a.digest));
			(void)snprintf(ret_about->created, sizeof(ret_about->created), "%s",
				       a.created); /* cut is fine */
			ret_about->ranges_bytes = a.len;
			ret_about->files_bytes = b.len;
			*ret = steal_ptr(l);
		}
		hs_artifact_done(&a);
		if (files)
			hs_artifact_done(&b);
		prefetch_list_free(l);
		prefetch_list_free(files);
	}
	return rc;
}
