/* SPDX-License-Identifier: Apache-2.0 */
/*
 * referrers.h - artifacts that lie beside an image and refer to it (OCI 1.1)
 *
 * An artifact is an image manifest with an artifactType, the empty config, parts as layers, and the
 * image's manifest as its subject. A registry with the referrers API lists it by itself; elsewhere,
 * and in OCI directories, the list is an index under the tag "sha256-<hex of the subject>". There
 * the entry carries the artifact's manifest inline, and that the first part, so that finding and
 * reading it is one exchange. Inline content counts only when it has the digest and size that its
 * descriptor says; what does not is fetched.
 *
 * Control plane: blocks. Any thread, several at a time on one store.
 */
#ifndef HS_SOURCE_REFERRERS_H
#define HS_SOURCE_REFERRERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct store;
struct store_manifest;

#define REFERRERS_MAX_PARTS 16
#define REFERRERS_MAX_TRIED 4 /* of one type, newest first, until one can be read */

struct referrer_part {
	const char *media_type;
	const void *bytes;
	size_t len;
};

struct referrer {
	char digest[72]; /* of the artifact's manifest */
	char *created;	 /* as annotated; "" */
	char *bytes;	 /* of the part; NUL behind */
	size_t len;
	bool was_inline; /* all of it came with the list */
};

void referrer_done(struct referrer *r);

/*
 * referrers_find - one part of the newest artifact of @type that refers to @subject
 * @subject:    digest of the image's manifest
 * @media_type: of the part
 * @max_bytes:  of the part; a larger one is -EFBIG
 * @timeout_ns: for all of it, with little patience for errors; 0: as long as other requests take
 * Returns 0, -ENOENT there is none, -EBADMSG corrupt or no such part, or an error of the store.
 */
int referrers_find(struct store *s, const char *subject, const char *type, const char *media_type,
		   size_t max_bytes, uint64_t timeout_ns, struct referrer *ret, struct err *e);

/*
 * referrers_attach - store an artifact that refers to @subject and see to it that it is found
 * @keep: leave others of @type in the list; the newest counts. (The referrers API lists what there
 *        is: older ones stay there in any case.)
 * A list under the fallback tag is changed by reading, writing and looking again, since nothing
 * locks a tag: of several writers none is lost unless one sleeps between its reading and writing
 * for longer than others look again. Entries of others are kept as they are.
 * Returns 0, -EINVAL, -ENOSPC the list is full, -EBADMSG the tag names no index, -EAGAIN others
 * kept overwriting the list, or an error of the store.
 */
int referrers_attach(struct store *s, const struct store_manifest *subject, const char *type,
		     const struct referrer_part *parts, size_t count, bool keep,
		     char ret_digest[static 72], struct err *e);

#endif
