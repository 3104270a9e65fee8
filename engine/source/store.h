/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - one place that holds images: a registry repository, an OCI directory, a docker archive
 *
 * Control plane: every call blocks and may come from any thread. Digests of everything that is
 * returned as a whole are verified before it is returned.
 */
#ifndef HS_SOURCE_STORE_H
#define HS_SOURCE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct imageref;
struct net;
struct source;
struct store;

struct store_manifest {
	char *bytes; /* exactly as stored, NUL behind; digest verified */
	size_t len;
	char *media_type;
	char digest[72];
};

void store_manifest_done(struct store_manifest *m);

/*
 * Where the raw bytes of a blob can be read: a local file, or a remote source.
 * The receiver closes @fd or unrefs @source.
 */
struct blob_place {
	int fd; /* >= 0: local; the blob is [fd_off, fd_off + bytes) of it */
	uint64_t fd_off;
	struct source *source; /* when fd < 0 */
	uint64_t bytes;
};

/*
 * store_open - @r of kind DOCKER, OCI or ARCHIVE; @net only used for DOCKER (else may be NULL)
 * No I/O for a registry (a connection may be opened ahead). @create: make an OCI directory.
 * Returns 0, -ENOENT, -EBADMSG not an OCI layout or archive, -EINVAL.
 */
int store_open(struct net *net, const struct imageref *r, bool create, struct store **ret,
	       struct err *e);
void store_close(struct store *s); /* NULL is fine */
/* store_cancel - calls that other threads have under way end soon, most with -ECANCELED */
void store_cancel(struct store *s);

/*
 * store_get_manifest - manifest or index by @ref: a tag, a digest, or NULL for an OCI directory
 * or archive with one image. Returns 0, -ENOENT, -EACCES, -ETIMEDOUT, -EIO, -EPROTO, -EBADMSG.
 */
int store_get_manifest(struct store *s, const char *ref, struct store_manifest *ret, struct err *e);

/* store_resolve - digest of a tag without its body (HEAD where there is one); same errors */
int store_resolve(struct store *s, const char *ref, char ret_digest[static 72], struct err *e);

/* store_get_blob - a small blob (config) as a whole, verified; caller frees */
int store_get_blob(struct store *s, const char *digest, size_t max_bytes, char **ret,
		   size_t *ret_len, struct err *e);

/*
 * store_stream_blob - a blob from its start to its end, in order
 * @sink: called with successive pieces on the calling thread; non-zero return stops with it.
 * The digest is verified at the end: on -EBADMSG everything the sink got is worthless. A
 * connection that breaks is resumed by range, not started over.
 */
int store_stream_blob(struct store *s, const char *digest, uint64_t bytes,
		      int (*sink)(void *arg, const void *p, size_t len), void *arg, struct err *e);

/* store_place - where blob bytes can be read; no request is made for a registry */
int store_place(struct store *s, const char *digest, uint64_t bytes, struct blob_place *ret,
		struct err *e);

/* store_has_blob - 1 there, 0 not there, or negative errno */
int store_has_blob(struct store *s, const char *digest, struct err *e);

/* store_blob_bytes - size of a blob that is there; 0, -ENOENT or another negative errno */
int store_blob_bytes(struct store *s, const char *digest, uint64_t *ret_bytes, struct err *e);

/* store_mount_blob - cross-repository mount; 1 done, 0 not possible, or negative errno */
int store_mount_blob(struct store *s, const char *digest, const char *from_repo, struct err *e);

/*
 * store_put_blob - upload a blob whose digest and size are known
 * @source: called for [off, off+len) in ascending order; a retry starts again at 0
 * Nothing is visible under the digest unless all bytes arrived.
 */
int store_put_blob(struct store *s, const char *digest, uint64_t bytes,
		   int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
		   struct err *e);

/*
 * store_put_manifest - store @bytes; @tag names it, NULL: by digest only
 * The last step of a push; for an OCI directory it updates index.json atomically.
 */
int store_put_manifest(struct store *s, const char *media_type, const void *bytes, size_t len,
		       const char *tag, struct err *e);

/*
 * store_put_referrer - store_put_manifest() by digest, of an image manifest with a subject
 * @ret_listed: the store lists it by itself; else the list under the fallback tag is to be kept
 */
int store_put_referrer(struct store *s, const void *bytes, size_t len, bool *ret_listed,
		       struct err *e);

/*
 * What is said to refer to a manifest: an OCI index each, NULL when there is none. They are as good
 * as who wrote them: nothing in them is verified.
 */
struct store_referrers {
	char *tagged; /* what the fallback tag names */
	size_t tagged_len;
	char *listed; /* answer of the referrers API */
	size_t listed_len;
};

void store_referrers_done(struct store_referrers *r);

/*
 * store_get_referrers - both lists, or the one that this registry is known to have; one exchange
 * @type: artifactType that is looked for, as a hint to the API
 * @timeout_ns: with little patience for errors; 0: as for everything else
 * Returns 0, -ENOENT neither exists, or an error when neither could be asked.
 */
int store_get_referrers(struct store *s, const char *subject, const char *type, uint64_t timeout_ns,
			struct store_referrers *ret, struct err *e);

/* store_fallback_tag - "sha256-<hex>" of a digest */
void store_fallback_tag(const char *digest, char ret_tag[static 72]);

/*
 * The same as without _within, but done after @timeout_ns, with little patience for errors.
 * store_get_tag_fresh: from where store_put_manifest() would write to, no mirror in between.
 */
int store_get_manifest_within(struct store *s, const char *ref, uint64_t timeout_ns,
			      struct store_manifest *ret, struct err *e);
int store_get_blob_within(struct store *s, const char *digest, size_t max_bytes,
			  uint64_t timeout_ns, char **ret, size_t *ret_len, struct err *e);
int store_get_tag_fresh(struct store *s, const char *tag, struct store_manifest *ret,
			struct err *e);

/* store_list_tags - at most @max tags, NULL-terminated; caller frees each and the array */
int store_list_tags(struct store *s, size_t max, char ***ret, struct err *e);

#endif
