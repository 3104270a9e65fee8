/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - see store.h: checks, verification and dispatch; what all kinds have in common */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "imageref.h"
#include "oci.h"
#include "source.h"
#include "store_impl.h"
#include "text.h"

#define COPY_BYTES (256u << 10)

void store_manifest_done(struct store_manifest *m)
{
	free(m->bytes);
	free(m->media_type);
	memset(m, 0, sizeof(*m));
}

int store_open(struct net *net, const struct imageref *r, bool create, struct store **ret,
	       struct err *e)
{
	switch (r->kind) {
	case IMAGEREF_DOCKER:
		return registry_open(net, r, ret, e);
	case IMAGEREF_OCI:
		return oci_layout_open(r, create, ret, e);
	case IMAGEREF_ARCHIVE:
		if (create)
			return err_set(e, -EOPNOTSUPP, "docker archives can only be read");
		return docker_archive_open(r, ret, e);
	case IMAGEREF_CONFIG:
		break;
	}
	return err_set(e, -EINVAL, "%s is an image description, not a place that holds images",
		       r->path);
}

void store_cancel(struct store *s)
{
	if (s->ops->cancel)
		s->ops->cancel(s);
}

void store_close(struct store *s)
{
	if (s)
		s->ops->close(s);
}

static int check_digest(const struct store *s, const char *digest, struct err *e)
{
	if (digest && digest_valid(digest))
		return 0;
	return err_set(e, -EINVAL, "%s: not a sha256 digest", s->name);
}

static int verify(const struct store *s, const void *p, size_t len, const char *want, struct err *e)
{
	char got[DIGEST_TEXT_BYTES];

	digest_of(p, len, got);
	if (strcmp(got, want) == 0)
		return 0;
	return err_set(e, -EBADMSG, "%s: content of %.19s... has digest %.19s...", s->name, want,
		       got);
}

static int get_manifest(struct store *s, const char *ref, const struct store_ask *ask,
			struct store_manifest *ret, struct err *e)
{
	struct store_manifest m = {0};
	char got[DIGEST_TEXT_BYTES];
	int rc = s->ops->get_manifest(s, ref, ask, &m, e);

	if (rc)
		return rc;
	digest_of(m.bytes, m.len, got);
	if (ref && digest_valid(ref))
		rc = verify(s, m.bytes, m.len, ref, e);
	else if (m.digest[0] && strcmp(m.digest, got) != 0)
		rc = verify(s, m.bytes, m.len, m.digest, e);
	if (!rc && !m.media_type) {
		enum oci_kind kind;

		rc = oci_kind_of(m.bytes, m.len, &kind, e);
		if (rc)
			rc = err_wrap(e, rc, "%s", s->name);
		else
			m.media_type =
			    text_dup(kind == OCI_KIND_INDEX ? OCI_TYPE_INDEX : OCI_TYPE_MANIFEST);
	}
	if (rc) {
		store_manifest_done(&m);
		return rc;
	}
	memcpy(m.digest, got, sizeof(got));
	*ret = m;
	return 0;
}

int store_get_manifest(struct store *s, const char *ref, struct store_manifest *ret, struct err *e)
{
	static const struct store_ask ask;

	return get_manifest(s, ref, &ask, ret, e);
}

int store_get_manifest_within(struct store *s, const char *ref, uint64_t timeout_ns,
			      struct store_manifest *ret, struct err *e)
{
	struct store_ask ask = {.timeout_ns = timeout_ns};

	return get_manifest(s, ref, &ask, ret, e);
}

int store_get_tag_fresh(struct store *s, const char *tag, struct store_manifest *ret, struct err *e)
{
	static const struct store_ask ask = {.fresh = true};

	return get_manifest(s, tag, &ask, ret, e);
}

int store_resolve(struct store *s, const char *ref, char ret_digest[static 72], struct err *e)
{
	struct store_manifest m = {0};
	int rc;

	if (s->ops->resolve)
		return s->ops->resolve(s, ref, ret_digest, e);
	rc = store_get_manifest(s, ref, &m, e);
	if (rc)
		return rc;
	memcpy(ret_digest, m.digest, sizeof(m.digest));
	store_manifest_done(&m);
	return 0;
}

/* --- whole blobs -------------------------------------------------------------------------------
 */

static int read_place(struct store *s, const struct blob_place *p, uint64_t bytes,
		      int (*sink)(void *arg, const void *p, size_t len), void *arg, struct err *e)
{
	_cleanup_free_ char *buf = xmalloc_zero(1, COPY_BYTES);
	uint64_t off = 0;

	while (off < bytes) {
		size_t want = (size_t)min_u64(bytes - off, COPY_BYTES);
		ssize_t n = pread(p->fd, buf, want, (off_t)(p->fd_off + off));
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			rc = -errno;
			return err_set(e, rc, "%s: cannot read: %s", s->name, strerror(-rc));
		}
		if (n == 0)
			return err_set(e, -EBADMSG, "%s: blob ends early", s->name);
		rc = sink(arg, buf, (size_t)n);
		if (rc)
			return err_set(e, rc, "%s: reading was stopped", s->name);
		off += (uint64_t)n;
	}
	return 0;
}

static int get_local(struct store *s, const char *digest, size_t max_bytes, char **ret,
		     size_t *ret_len, struct err *e)
{
	struct blob_place p = {.fd = -1};
	size_t len = 0;
	char *buf;
	int rc = s->ops->place(s, digest, UINT64_MAX, &p, e);

	if (rc)
		return rc;
	if (p.bytes > max_bytes) {
		close(p.fd);
		return err_set(e, -EFBIG, "%s: blob %.19s... is larger than %zu bytes", s->name,
			       digest, max_bytes);
	}
	buf = xmalloc_zero(1, (size_t)p.bytes + 1);
	while (len < p.bytes) {
		ssize_t n = pread(p.fd, buf + len, (size_t)p.bytes - len, (off_t)(p.fd_off + len));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = n ? -errno : -EBADMSG;
			break;
		}
		len += (size_t)n;
	}
	close(p.fd);
	if (rc) {
		free(buf);
		return err_set(e, rc, "%s: cannot read blob %.19s...", s->name, digest);
	}
	*ret = buf;
	*ret_len = len;
	return 0;
}

int store_get_blob(struct store *s, const char *digest, size_t max_bytes, char **ret,
		   size_t *ret_len, struct err *e)
{
	return store_get_blob_within(s, digest, max_bytes, 0, ret, ret_len, e);
}

int store_get_blob_within(struct store *s, const char *digest, size_t max_bytes,
			  uint64_t timeout_ns, char **ret, size_t *ret_len, struct err *e)
{
	struct store_ask ask = {.timeout_ns = timeout_ns};
	char *buf = NULL;
	size_t len = 0;
	int rc = check_digest(s, digest, e);

	if (!rc)
		rc = s->ops->get_blob ? s->ops->get_blob(s, digest, max_bytes, &ask, &buf, &len, e)
				      : get_local(s, digest, max_bytes, &buf, &len, e);
	if (!rc)
		rc = verify(s, buf, len, digest, e);
	if (rc) {
		free(buf);
		return rc;
	}
	*ret = buf;
	if (ret_len)
		*ret_len = len;
	return 0;
}

struct hashing {
	struct digest *d;
	uint64_t seen;
	int (*sink)(void *arg, const void *p, size_t len);
	void *arg;
};

static int hash_and_pass(void *arg, const void *p, size_t len)
{
	struct hashing *h = arg;

	digest_add(h->d, p, len);
	h->seen += len;
	return h->sink(h->arg, p, len);
}

int store_stream_blob(struct store *s, const char *digest, uint64_t bytes,
		      int (*sink)(void *arg, const void *p, size_t len), void *arg, struct err *e)
{
	struct hashing h = {.sink = sink, .arg = arg};
	char got[DIGEST_TEXT_BYTES];
	int rc = check_digest(s, digest, e);

	if (rc)
		return rc;
	h.d = digest_new();
	if (s->ops->stream) {
		rc = s->ops->stream(s, digest, bytes, hash_and_pass, &h, e);
	} else {
		struct blob_place p = {.fd = -1};

		rc = s->ops->place(s, digest, bytes, &p, e);
		if (!rc) {
			rc = read_place(s, &p, bytes, hash_and_pass, &h, e);
			close(p.fd);
		}
	}
	if (!rc) {
		digest_text(h.d, got);
		if (h.seen != bytes || strcmp(got, digest) != 0)
			rc = err_set(e, -EBADMSG, "%s: content of %.19s... has digest %.19s...",
				     s->name, digest, got);
	}
	digest_free(h.d);
	return rc;
}

int store_place(struct store *s, const char *digest, uint64_t bytes, struct blob_place *ret,
		struct err *e)
{
	int rc = check_digest(s, digest, e);

	return rc ? rc : s->ops->place(s, digest, bytes, ret, e);
}

int store_has_blob(struct store *s, const char *digest, struct err *e)
{
	int rc = check_digest(s, digest, e);

	return rc ? rc : s->ops->has(s, digest, e);
}

int store_blob_bytes(struct store *s, const char *digest, uint64_t *ret_bytes, struct err *e)
{
	struct blob_place p = {.fd = -1};
	int rc = check_digest(s, digest, e);

	if (rc)
		return rc;
	if (s->ops->blob_bytes)
		return s->ops->blob_bytes(s, digest, ret_bytes, e);
	rc = s->ops->place(s, digest, UINT64_MAX, &p, e);
	if (rc)
		return rc;
	*ret_bytes = p.bytes;
	close(p.fd);
	return 0;
}

/* --- writing -----------------------------------------------------------------------------------
 */

int store_mount_blob(struct store *s, const char *digest, const char *from_repo, struct err *e)
{
	int rc = check_digest(s, digest, e);

	if (rc)
		return rc;
	return s->ops->mount ? s->ops->mount(s, digest, from_repo, e) : 0;
}

int store_put_blob(struct store *s, const char *digest, uint64_t bytes,
		   int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
		   struct err *e)
{
	int rc = check_digest(s, digest, e);

	if (rc)
		return rc;
	if (!s->ops->put_blob)
		return err_set(e, -EOPNOTSUPP, "%s can only be read", s->name);
	return s->ops->put_blob(s, digest, bytes, source, arg, e);
}

static int put_manifest(struct store *s, const char *media_type, const void *bytes, size_t len,
			const char *tag, bool *ret_listed, struct err *e)
{
	char digest[DIGEST_TEXT_BYTES];

	if (!s->ops->put_manifest)
		return err_set(e, -EOPNOTSUPP, "%s can only be read", s->name);
	if (len > OCI_MANIFEST_MAX_BYTES)
		return err_set(e, -EINVAL, "manifest is larger than %u bytes",
			       OCI_MANIFEST_MAX_BYTES);
	digest_of(bytes, len, digest);
	return s->ops->put_manifest(s, media_type, bytes, len, digest, tag, ret_listed, e);
}

int store_put_manifest(struct store *s, const char *media_type, const void *bytes, size_t len,
		       const char *tag, struct err *e)
{
	bool listed; /* of no interest for what has no subject */

	return put_manifest(s, media_type, bytes, len, tag, &listed, e);
}

/* --- what refers to a manifest -----------------------------------------------------------------
 */

int store_put_referrer(struct store *s, const void *bytes, size_t len, bool *ret_listed,
		       struct err *e)
{
	*ret_listed = false;
	return put_manifest(s, OCI_TYPE_MANIFEST, bytes, len, NULL, ret_listed, e);
}

void store_referrers_done(struct store_referrers *r)
{
	free(r->tagged);
	free(r->listed);
	memset(r, 0, sizeof(*r));
}

void store_fallback_tag(const char *digest, char ret_tag[static 72])
{
	(void)snprintf(ret_tag, 72, "sha256-%.64s", digest + strlen("sha256:")); /* fits */
}

int store_get_referrers(struct store *s, const char *subject, const char *type, uint64_t timeout_ns,
			struct store_referrers *ret, struct err *e)
{
	struct store_manifest m = {0};
	char tag[72];
	int rc = check_digest(s, subject, e);

	if (rc)
		return rc;
	memset(ret, 0, sizeof(*ret));
	if (s->ops->get_referrers)
		return s->ops->get_referrers(s, subject, type, timeout_ns, ret, e);
	if (!s->ops->put_manifest)
		return err_set(e, -ENOENT, "%s has nothing that refers to an image", s->name);
	store_fallback_tag(subject, tag);
	rc = store_get_manifest_within(s, tag, timeout_ns, &m, e);
	if (rc)
		return rc;
	ret->tagged = steal_ptr(m.bytes);
	ret->tagged_len = m.len;
	store_manifest_done(&m);
	return 0;
}

char **store_tags_new(size_t max)
{
	return xmalloc_zero(max + 1, sizeof(char *));
}

int store_list_tags(struct store *s, size_t max, char ***ret, struct err *e)
{
	if (max > 1000000)
		max = 1000000;
	return s->ops->list_tags(s, max, ret, e);
}
