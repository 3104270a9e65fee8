/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c - a repository of a registry as a store, and its blobs as sources */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "digest.h"
#include "err.h"
#include "hosts_toml.h"
#include "http.h"
#include "imageref.h"
#include "log.h"
#include "net_impl.h"
#include "oci.h"
#include "source.h"
#include "store_impl.h"
#include "text.h"

#define STREAM_PIECE   (4u << 20)
#define STREAM_PIECES  3
#define STREAM_TIME_NS (120 * NS_PER_SEC)
#define SMALL_TIME_NS  (120 * NS_PER_SEC)
#define HURRY_TRIES    2

#define MANIFEST_ACCEPT                                                                            \
	OCI_TYPE_INDEX ", " OCI_TYPE_MANIFEST ", " DOCKER_TYPE_LIST ", " DOCKER_TYPE_MANIFEST

static struct registry *registry_of(struct store *s)
{
	return container_of(s, struct registry, s);
}

/* --- one blob as a source ----------------------------------------------------------------------
 */

struct blob_source {
	struct source s;
	struct net *net;
	struct origin *origin;
	char *path, *name;
	char *place_key;
};

static void fetch_done(struct http_job *j)
{
	struct fetch *f = j->fetch;

	f->res = j->res;
	f->exchanges = j->exchanges;
	f->why[0] = '\0';
	if (j->res < 0)
		(void)snprintf(f->why, sizeof(f->why), "%.255s", j->why);
	http_job_free(j);
	f->done(f);
}

static void blob_start(struct source *s, struct fetch *f)
{
	struct blob_source *b = container_of(s, struct blob_source, s);
	struct http_job *j = http_job_new(b->net);

	f->source = s;
	f->res = -EINPROGRESS;
	j->method = HTTP_GET;
	j->origin = origin_ref(b->origin);
	j->need = HOST_PULL;
	j->scope = b->origin->scope_pull;
	j->path = text_dup(b->path);
	j->place_key = b->place_key;
	j->ranged = true;
	j->range = f->range;
	j->blob_bytes = s->bytes;
	j->buf = f->buf;
	j->prio = f->prio;
	j->timeout_ns = f->timeout_ns;
	j->fetch = f;
	j->done = fetch_done;
	http_submit(j);
}

static void blob_raise(struct source *s, struct fetch *f)
{
	struct blob_source *b = container_of(s, struct blob_source, s);

	http_raise(b->net, (uint64_t)(uintptr_t)f->priv);
}

static void blob_cancel(struct source *s, struct fetch *f)
{
	struct blob_source *b = container_of(s, struct blob_source, s);

	http_cancel(b->net, (uint64_t)(uintptr_t)f->priv);
}

static void blob_free(struct source *s)
{
	struct blob_source *b = container_of(s, struct blob_source, s);

	origin_unref(b->origin);
	free(b->path);
	free(b->name);
	free(b->place_key);
	free(b);
}

static const struct source_ops blob_ops = {
    .start = blob_start,
    .raise = blob_raise,
    .cancel = blob_cancel,
    .free = blob_free,
};

static struct source *blob_source_new(struct registry *g, const char *digest, uint64_t bytes)
{
	struct blob_source *b = xmalloc_zero(1, sizeof(*b));

	b->net = g->net;
	b->origin = origin_ref(g->origin);
	b->path = text_printf("%s/blobs/%s", g->origin->repo, digest);
	b->name = text_printf("%s@%s", g->origin->name, digest);
	b->place_key = text_dup(b->name);
	b->s.ops = &blob_ops;
	b->s.bytes = bytes;
	b->s.name = b->name;
	atomic_store(&b->s.refs, 1);
	return &b->s;
}

static int registry_place(struct store *s, const char *digest, uint64_t bytes,
			  struct blob_place *ret, struct err *e)
{
	(void)e; /* nothing is asked, so nothing can fail */
	*ret = (struct blob_place){
	    .fd = -1, .bytes = bytes, .source = blob_source_new(registry_of(s), digest, bytes)};
	return 0;
}

/* --- small requests ----------------------------------------------------------------------------
 */

struct http_job *registry_job(struct registry *g, int method, unsigned int need, char *path)
{
	struct http_job *j = http_job_new(g->net);

	j->method = (enum http_method)method;
	j->origin = origin_ref(g->origin);
	j->need = need;
	j->scope = need & HOST_PUSH ? g->origin->scope_push : g->origin->scope_pull;
	j->path = path;
	j->owner = g;
	j->prio = PRIO_DEMAND;
	j->timeout_ns = max_u64(g->net->timeout_ns, SMALL_TIME_NS);
	return j;
}

int registry_error(struct http_job *j, struct err *e)
{
	int rc = j->res					? j->res
		 : j->status == 404			? -ENOENT
		 : j->status == 401 || j->status == 403 ? -EACCES
							: -EIO;

	if (j->res)
		err_set(e, rc, "%s", j->why);
	else
		err_set(e, rc, "%s: HTTP %ld", j->origin->name, j->status);
	http_job_free(j);
	return rc;
}

/* A tag or digest goes into a path: nothing else may. */
static int check_ref(struct registry *g, const char *ref, struct err *e)
{
	size_t len = strlen(ref);

	if (digest_valid(ref))
		return 0;
	if (!len || len > 128 ||
	    strspn(ref, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
		return err_set(e, -EINVAL, "%s: not a tag or digest", g->origin->name);
	return 0;
}

static void hurry(struct http_job *j, const struct store_ask *ask)
{
	if (!ask->timeout_ns)
		return;
	j->timeout_ns = ask->timeout_ns;
	j->max_tries = HURRY_TRIES;
	j->quiet = true; /* nothing that had to work */
}

struct http_job *registry_manifest_job(struct registry *g, int method, const char *ref,
				       const struct store_ask *ask)
{
	struct http_job *j;
	/* only a mirror that may resolve is asked for what a tag means */
	unsigned int need = digest_valid(ref) ? HOST_PULL : HOST_PULL | HOST_RESOLVE;

	if (ask->fresh)
		need |= HOST_PUSH;
	j = registry_job(g, method, need, text_printf("%s/manifests/%s", g->origin->repo, ref));
	j->accept = MANIFEST_ACCEPT;
	j->max_body = OCI_MANIFEST_MAX_BYTES;
	hurry(j, ask);
	return j;
}

static char *media_type_of(const struct http_job *j)
{
	return j->h_type ? text_printf("%.*s", (int)strcspn(j->h_type, "; \t"), j->h_type) : NULL;
}

static int registry_get_manifest(struct store *s, const char *ref, const struct store_ask *ask,
				 struct store_manifest *ret, struct err *e)
{
	struct registry *g = registry_of(s);
	struct http_job *j;
	int rc;

	if (!ref)
		ref = "latest";
	rc = check_ref(g, ref, e);
	if (rc)
		return rc;
	j = registry_manifest_job(g, HTTP_GET, ref, ask);
	if (http_run(j))
		return registry_error(j, e);
	ret->bytes = j->buf;
	ret->len = j->len;
	j->buf = NULL;
	ret->media_type = media_type_of(j);
	if (ret->media_type && strcmp(ret->media_type, OCI_TYPE_INDEX) != 0 &&
	    strcmp(ret->media_type, OCI_TYPE_MANIFEST) != 0 &&
	    strcmp(ret->media_type, DOCKER_TYPE_LIST) != 0 &&
	    strcmp(ret->media_type, DOCKER_TYPE_MANIFEST) != 0) {
		/* some servers say application/json: the text itself tells better */
		free(ret->media_type);
		ret->media_type = NULL;
	}
	if (j->h_digest && digest_valid(j->h_digest))
		memcpy(ret->digest, j->h_digest, sizeof(ret->digest));
	http_job_free(j);
	return 0;
}

static int registry_resolve(struct store *s, const char *ref, char ret_digest[static 72],
			    struct err *e)
{
	static const struct store_ask ask;
	struct registry *g = registry_of(s);
	struct store_manifest m = {0};
	struct http_job *j;
	int rc;

	if (!ref)
		ref = "latest";
	rc = check_ref(g, ref, e);
	if (rc)
		return rc;
	j = registry_manifest_job(g, HTTP_HEAD, ref, &ask);
	if (http_run(j) == 0 && j->h_digest && digest_valid(j->h_digest)) {
		memcpy(ret_digest, j->h_digest, 72);
		http_job_free(j);
		return 0;
	}
	if (j->res && j->res != -EIO && j->res != -EPROTO)
		return registry_error(j, e);
	http_job_free(j);
	/* no HEAD, or no digest in its answer */
	rc = store_get_manifest(s, ref, &m, e);
	if (rc)
		return rc;
	memcpy(ret_digest, m.digest, sizeof(m.digest));
	store_manifest_done(&m);
	return 0;
}

static int registry_get_blob(struct store *s, const char *digest, size_t max_bytes,
			     const struct store_ask *ask, char **ret, size_t *ret_len,
			     struct err *e)
{
	struct registry *g = registry_of(s);
	char *key = text_printf("%s@%s", g->origin->name, digest);
	struct http_job *j = registry_job(g, HTTP_GET, HOST_PULL,
					  text_printf("%s/blobs/%s", g->origin->repo, digest));
	int rc;

	j->place_key = key;
	j->max_body = max_bytes ? max_bytes : 1;
	hurry(j, ask);
	rc = http_run(j);
	free(key);
	j->place_key = NULL;
	if (rc)
		return registry_error(j, e);
	*ret = j->buf;
	*ret_len = j->len;
	j->buf = NULL;
	http_job_free(j);
	return 0;
}

static int registry_has(struct store *s, const char *digest, struct err *e)
{
	struct registry *g = registry_of(s);
	struct http_job *j = registry_job(g, HTTP_HEAD, HOST_PULL | HOST_PUSH,
					  text_printf("%s/blobs/%s", g->origin->repo, digest));

	j->any_status = true;
	if (http_run(j) == 0 && (j->status == 200 || j->status == 404)) {
		int there = j->status == 200;

		http_job_free(j);
		return there;
	}
	return registry_error(j, e);
}

static int registry_blob_bytes(struct store *s, const char *digest, uint64_t *ret_bytes,
			       struct err *e)
{
	struct registry *g = registry_of(s);
	struct http_job *j = registry_job(g, HTTP_HEAD, HOST_PULL,
					  text_printf("%s/blobs/%s", g->origin->repo, digest));
	int64_t bytes;

	if (http_run(j))
		return registry_error(j, e);
	bytes = j->h_length;
	http_job_free(j);
	if (bytes < 0)
		return err_set(e, -EPROTO, "%s: no length of blob %.19s...", s->name, digest);
	*ret_bytes = (uint64_t)bytes;
	return 0;
}

/* --- a whole blob, in order --------------------------------------------------------------------
 */

/*
 * Successive ranges, a few ahead of the sink. So no transfer is ever paused while the sink is busy,
 * a broken connection costs one piece, and several connections share a long line.
 */
struct piece {
	struct fetch f;
	sem_t done;
	bool busy;
};

static void piece_done(struct fetch *f)
{
	struct piece *p = container_of(f, struct piece, f);

	sem_post(&p->done);
}

static void piece_wait(struct piece *p)
{
	while (sem_wait(&p->done) && errno == EINTR)
		;
	p->busy = false;
}

static void piece_start(struct source *src, struct piece *p, uint64_t *next, uint64_t bytes)
{
	uint64_t len = min_u64(bytes - *next, STREAM_PIECE);

	if (!len)
		return;
	p->f.range = range_of(*next, len);
	p->f.prio = PRIO_DEMAND;
	p->f.timeout_ns = STREAM_TIME_NS;
	p->f.done = piece_done;
	p->busy = true;
	*next += len;
	source_start(src, &p->f);
}

static int stream_pieces(struct source *src, uint64_t bytes, uint64_t *ret_passed,
			 int (*sink)(void *arg, const void *p, size_t len), void *arg,
			 struct err *e)
{
	struct piece pieces[STREAM_PIECES];
	uint64_t next = 0, passed = 0;
	int rc = 0;

	memset(pieces, 0, sizeof(pieces));
	for (int i = 0; i < STREAM_PIECES; i++) {
		sem_init(&pieces[i].done, 0, 0);
		if (next < bytes) {
			uint64_t len = min_u64(bytes - next, STREAM_PIECE);

			pieces[i].f.buf = malloc((size_t)len);
			if (!pieces[i].f.buf)
				abort();
			piece_start(src, &pieces[i], &next, bytes);
		}
	}
	for (int i = 0; passed < bytes; i = (i + 1) % STREAM_PIECES) {
		struct piece *p = &pieces[i];

		piece_wait(p);
		if (p->f.res) {
			rc = err_set(e, p->f.res, "%s", p->f.why);
			break;
		}
		rc = sink(arg, p->f.buf, (size_t)p->f.range.len);
		if (rc) {
			rc = err_set(e, rc, "%s: reading was stopped", src->name);
			break;
		}
		passed += p->f.range.len;
		piece_start(src, p, &next, bytes);
	}
	for (int i = 0; i < STREAM_PIECES; i++) {
		if (pieces[i].busy) {
			source_cancel(src, &pieces[i].f);
			piece_wait(&pieces[i]);
		}
		free(pieces[i].f.buf);
		sem_destroy(&pieces[i].done);
	}
	*ret_passed = passed;
	return rc;
}

static int to_file(struct http_job *j, const void *p, size_t len)
{
	int fd = (int)(intptr_t)j->buf;
	uint64_t off = j->len;

	if (len > j->blob_bytes - off)
		return -EPROTO;
	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p = (const char *)p + n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* For servers without ranges: all of it into an unnamed file first. */
static int stream_whole(struct registry *g, const char *digest, uint64_t bytes,
			int (*sink)(void *arg, const void *p, size_t len), void *arg, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	_cleanup_free_ char *name = text_printf("%s/headstart-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	_cleanup_fd_ int fd = mkostemp(name, O_CLOEXEC);
	_cleanup_free_ char *buf = NULL;
	struct http_job *j;

	if (fd < 0) {
		int saved = errno;

		return err_set(e, -saved, "cannot create %s: %s", name, strerror(saved));
	}
	(void)unlink(name); /* nobody else needs it by name */
	log_info("server has no ranges, going through a temporary file repo=%s bytes=%llu",
		 g->origin->name, (unsigned long long)bytes);
	for (int tries = 0;; tries++) {
		j = registry_job(g, HTTP_GET, HOST_PULL,
				 text_printf("%s/blobs/%s", g->origin->repo, digest));
		j->sink = to_file;
		j->buf = (void *)(intptr_t)fd;
		j->blob_bytes = bytes;
		j->timeout_ns = 3600 * NS_PER_SEC;
		if (http_run(j) == 0 && j->len == bytes) {
			http_job_free(j);
			break;
		}
		if (!j->res) {
			j->res = -EPROTO;
			(void)snprintf(j->why, sizeof(j->why), "%s: blob is shorter than said",
				       g->origin->name);
		}
		if (tries >= 2 || (j->res != -EIO && j->res != -EPROTO && j->res != -ETIMEDOUT))
			return registry_error(j, e);
		http_job_free(j);
	}
	buf = xmalloc_zero(1, 256u << 10);
	for (uint64_t off = 0; off < bytes;) {
		ssize_t n = pread(fd, buf, 256u << 10, (off_t)off);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, -EIO, "cannot read back the temporary file");
		rc = sink(arg, buf, (size_t)n);
		if (rc)
			return err_set(e, rc, "%s: reading was stopped", g->origin->name);
		off += (uint64_t)n;
	}
	return 0;
}

static int registry_stream(struct store *s, const char *digest, uint64_t bytes,
			   int (*sink)(void *arg, const void *p, size_t len), void *arg,
			   struct err *e)
{
	struct registry *g = registry_of(s);
	struct source *src = blob_source_new(g, digest, bytes);
	uint64_t passed = 0;
	int rc = stream_pieces(src, bytes, &passed, sink, arg, e);

	source_unref(src);
	if (rc == -EPROTO && !passed && bytes)
		rc = stream_whole(g, digest, bytes, sink, arg, e);
	return rc;
}

/* --- the store ---------------------------------------------------------------------------------
 */

static void registry_close(struct store *s)
{
	struct registry *g = registry_of(s);

	origin_unref(g->origin);
	free(g->s.name);
	free(g);
}

static void registry_cancel(struct store *s)
{
	struct registry *g = registry_of(s);

	http_cancel_all(g->net, g);
}

static const struct store_ops registry_ops = {
    .close = registry_close,
    .cancel = registry_cancel,
    .get_manifest = registry_get_manifest,
    .resolve = registry_resolve,
    .get_blob = registry_get_blob,
    .stream = registry_stream,
    .place = registry_place,
    .has = registry_has,
    .blob_bytes = registry_blob_bytes,
    .mount = registry_mount,
    .put_blob = registry_put_blob,
    .put_manifest = registry_put_manifest,
    .get_referrers = registry_get_referrers,
    .list_tags = registry_list_tags,
};

int registry_open(struct net *net, const struct imageref *r, struct store **ret, struct err *e)
{
	struct registry *g = xmalloc_zero(1, sizeof(*g));
	int rc = origin_new(net, r, &g->origin, e);

	if (rc) {
		free(g);
		return rc;
	}
	g->s.ops = &registry_ops;
	g->s.name = text_dup(g->origin->name);
	g->net = net;
	*ret = &g->s;
	return 0;
}
