/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docker_archive.c - the tar file of "docker save" as a read-only store
 *
 * There is no manifest in such a file that a registry would know. One is made when it is asked for:
 * Docker schema 2, with digests from hashing the members. Members stay where they are and are read
 * in place.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "imageref.h"
#include "list.h"
#include "log.h"
#include "oci.h"
#include "range.h"
#include "store_impl.h"
#include "tar_scan.h"
#include "text.h"

#define HASH_BYTES	   (1u << 20)
#define ARCHIVE_MAX_IMAGES 256

struct part {
	uint64_t off, bytes;
	char digest[DIGEST_TEXT_BYTES];
	const char *media_type;
};

/* One entry of manifest.json. */
struct saved_image {
	char *config;
	char **tags, **layers; /* NULL-terminated */
	size_t tag_count, layer_count;
};

struct docker_archive {
	struct store s;
	int fd;
	char *tag; /* of the name; NULL */
	struct tar_index index;
	struct saved_image *images;
	size_t image_count;

	pthread_mutex_t lock; /* what follows; hashing is done once */
	struct part *parts;
	size_t part_count, part_cap;
};

static struct docker_archive *archive_of(struct store *s)
{
	return container_of(s, struct docker_archive, s);
}

static int read_at(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct docker_archive *a = arg;
	char *p = buf;

	while (len) {
		ssize_t n = pread(a->fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EBADMSG;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* --- manifest.json -----------------------------------------------------------------------------
 */

static int string_list(const cJSON *list, size_t max, char ***ret, size_t *ret_count)
{
	size_t n = 0;

	if (cJSON_IsNull(list) || !list) {
		*ret = xmalloc_zero(1, sizeof(char *));
		return 0;
	}
	if (!cJSON_IsArray(list) || (size_t)cJSON_GetArraySize(list) > max)
		return -EBADMSG;
	*ret = xmalloc_zero((size_t)cJSON_GetArraySize(list) + 1, sizeof(char *));
	for (const cJSON *x = list->child; x; x = x->next) {
		if (!cJSON_IsString(x))
			return -EBADMSG; /* the caller frees what is there */
		(*ret)[n++] = text_dup(x->valuestring);
	}
	*ret_count = n;
	return 0;
}

static int parse_images(struct docker_archive *a, const cJSON *root)
{
	if (!cJSON_IsArray(root) || !root->child || cJSON_GetArraySize(root) > ARCHIVE_MAX_IMAGES)
		return -EBADMSG;
	a->images = xmalloc_zero((size_t)cJSON_GetArraySize(root), sizeof(*a->images));
	for (const cJSON *x = root->child; x; x = x->next) {
		struct saved_image *m = &a->images[a->image_count++];
		const cJSON *config = cJSON_GetObjectItemCaseSensitive(x, "Config");

		if (!cJSON_IsString(config))
			return -EBADMSG;
		m->config = text_dup(config->valuestring);
		if (string_list(cJSON_GetObjectItemCaseSensitive(x, "RepoTags"), 1024, &m->tags,
				&m->tag_count) ||
		    string_list(cJSON_GetObjectItemCaseSensitive(x, "Layers"), OCI_MAX_LAYERS,
				&m->layers, &m->layer_count))
			return -EBADMSG;
	}
	return 0;
}

static int load(struct docker_archive *a, struct err *e)
{
	const struct tar_member *m;
	struct stat st;
	cJSON *root;
	char *text;
	int rc;

	if (fstat(a->fd, &st) || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a regular file", a->s.name);
	rc = tar_scan((uint64_t)st.st_size, read_at, a, &a->index, e);
	if (rc)
		return err_wrap(e, rc, "%s", a->s.name);
	m = tar_find(&a->index, "manifest.json");
	if (!m || m->bytes > OCI_MANIFEST_MAX_BYTES)
		return err_set(e, -EBADMSG,
			       "%s is not a docker archive: it has no usable manifest.json",
			       a->s.name);
	text = xmalloc_zero(1, (size_t)m->bytes + 1);
	rc = read_at(a, m->off, text, (size_t)m->bytes);
	if (rc) {
		free(text);
		return err_set(e, rc, "%s: cannot read manifest.json", a->s.name);
	}
	root = cJSON_ParseWithLength(text, (size_t)m->bytes);
	free(text);
	rc = parse_images(a, root);
	cJSON_Delete(root);
	return rc ? err_set(e, rc, "%s: manifest.json is malformed", a->s.name) : 0;
}

/* "nginx", "nginx:1" and "docker.io/library/nginx:1" mean what docker means by them. */
static bool same_name(const char *a, const char *b)
{
	char *x = text_printf("docker://%s", a), *y = text_printf("docker://%s", b);
	struct imageref r = {0}, q = {0};
	bool same = strcmp(a, b) == 0;

	if (!same && imageref_parse(x, &r, NULL) == 0) {
		if (imageref_parse(y, &q, NULL) == 0) {
			char *s = imageref_text(&r), *t = imageref_text(&q);

			same = strcmp(s, t) == 0;
			free(s);
			free(t);
			imageref_done(&q);
		}
		imageref_done(&r);
	}
	free(x);
	free(y);
	return same;
}

static int find_image(struct docker_archive *a, const char *ref, const struct saved_image **ret,
		      struct err *e)
{
	char quoted[128];

	if (!ref) {
		if (a->image_count == 1) {
			*ret = &a->images[0];
			return 0;
		}
		return err_set(e, -ENOENT, "%s holds %zu images; name one as %s:NAME:TAG",
			       a->s.name, a->image_count, a->s.name);
	}
	if (ref[0] == '@') {
		char *end;
		unsigned long n = strtoul(ref + 1, &end, 10);

		if (ref[1] >= '0' && ref[1] <= '9' && !*end && n < a->image_count) {
			*ret = &a->images[n];
			return 0;
		}
	}
	for (size_t i = 0; i < a->image_count; i++) {
		for (size_t k = 0; k < a->images[i].tag_count; k++) {
			if (same_name(a->images[i].tags[k], ref)) {
				*ret = &a->images[i];
				return 0;
			}
		}
	}
	return err_set(e, -ENOENT, "%s holds no image \"%s\"", a->s.name,
		       log_quote(ref, quoted, sizeof(quoted)));
}

/* --- members as blobs --------------------------------------------------------------------------
 */

static int hash_member(struct docker_archive *a, const struct tar_member *m, struct part *ret,
		       struct err *e)
{
	_cleanup_free_ unsigned char *buf = xmalloc_zero(1, HASH_BYTES);
	struct digest *d = digest_new();
	unsigned char magic[4] = {0};
	int rc = 0;

	for (uint64_t off = 0; off < m->bytes && !rc;) {
		size_t len = (size_t)min_u64(m->bytes - off, HASH_BYTES);

		rc = read_at(a, m->off + off, buf, len);
		if (!rc)
			digest_add(d, buf, len);
		if (!off && len >= 4)
			memcpy(magic, buf, 4);
		off += len;
	}
	digest_text(d, ret->digest);
	digest_free(d);
	if (rc)
		return err_set(e, rc, "%s: cannot read %s", a->s.name, m->name);
	ret->off = m->off;
	ret->bytes = m->bytes;
	ret->media_type = magic[0] == 0x1f && magic[1] == 0x8b ? DOCKER_TYPE_LAYER_GZIP
			  : get_le32(magic) == 0xfd2fb528      ? OCI_TYPE_LAYER_ZSTD
							       : DOCKER_TYPE_LAYER;
	return 0;
}

/* A member's part; hashed the first time. Returned by value: the table may move. */
static int part_of(struct docker_archive *a, const char *name, struct part *ret, struct err *e)
{
	const struct tar_member *m = tar_find(&a->index, name);
	char quoted[128];
	int rc;

	if (!m)
		return err_set(e, -EBADMSG, "%s: member \"%s\" of manifest.json is not there",
			       a->s.name, log_quote(name, quoted, sizeof(quoted)));
	for (size_t i = 0; i < a->part_count; i++) {
		if (a->parts[i].off == m->off) {
			*ret = a->parts[i];
			return 0;
		}
	}
	rc = hash_member(a, m, ret, e);
	if (rc)
		return rc;
	a->parts = xgrow(a->parts, &a->part_cap, a->part_count, sizeof(*a->parts));
	a->parts[a->part_count++] = *ret;
	return 0;
}

static void add_descriptor(cJSON *d, const char *type, const struct part *p)
{
	cJSON_AddStringToObject(d, "mediaType", type);
	cJSON_AddNumberToObject(d, "size", (double)p->bytes);
	cJSON_AddStringToObject(d, "digest", p->digest);
}

static int make_manifest(struct docker_archive *a, const struct saved_image *m,
			 struct store_manifest *ret, struct err *e)
{
	cJSON *root = cJSON_CreateObject(), *layers, *x;
	struct part p;
	int rc;

	cJSON_AddNumberToObject(root, "schemaVersion", 2);
	cJSON_AddStringToObject(root, "mediaType", DOCKER_TYPE_MANIFEST);
	rc = part_of(a, m->config, &p, e);
	if (!rc)
		add_descriptor(cJSON_AddObjectToObject(root, "config"), DOCKER_TYPE_CONFIG, &p);
	layers = cJSON_AddArrayToObject(root, "layers");
	for (size_t i = 0; i < m->layer_count && !rc; i++) {
		rc = part_of(a, m->layers[i], &p, e);
		if (rc)
			break;
		x = cJSON_CreateObject();
		add_descriptor(x, p.media_type, &p);
		cJSON_AddItemToArray(layers, x);
	}
	if (!rc) {
		ret->bytes = cJSON_PrintUnformatted(root);
		if (!ret->bytes)
			abort();
		ret->len = strlen(ret->bytes);
		ret->media_type = text_dup(DOCKER_TYPE_MANIFEST);
		digest_of(ret->bytes, ret->len, ret->digest);
	}
	cJSON_Delete(root);
	return rc;
}

static int archive_get_manifest(struct store *s, const char *ref, const struct store_ask *ask,
				struct store_manifest *ret, struct err *e)
{
	struct docker_archive *a = archive_of(s);
	const struct saved_image *m = NULL;
	int rc;

	(void)ask; /* a file is there or not */
	if (!ref)
		ref = a->tag;
	pthread_mutex_lock(&a->lock);
	if (ref && digest_valid(ref)) {
		/* one that was made before */
		rc = -ENOENT;
		for (size_t i = 0; i < a->image_count && rc == -ENOENT; i++) {
			rc = make_manifest(a, &a->images[i], ret, e);
			if (!rc && strcmp(ret->digest, ref) != 0) {
				store_manifest_done(ret);
				rc = err_set(e, -ENOENT, "%s holds no manifest %.19s...", a->s.name,
					     ref);
			}
		}
	} else {
		rc = find_image(a, ref, &m, e);
		if (!rc)
			rc = make_manifest(a, m, ret, e);
	}
	pthread_mutex_unlock(&a->lock);
	return rc;
}

/* Hash image after image until the digest is found. */
static int find_part(struct docker_archive *a, const char *digest, struct part *ret, struct err *e)
{
	struct part p;
	int rc;

	for (size_t i = 0; i < a->part_count; i++) {
		if (strcmp(a->parts[i].digest, digest) == 0) {
			*ret = a->parts[i];
			return 0;
		}
	}
	for (size_t i = 0; i < a->image_count; i++) {
		const struct saved_image *m = &a->images[i];

		for (size_t k = 0; k <= m->layer_count; k++) {
			rc = part_of(a, k ? m->layers[k - 1] : m->config, &p, e);
			if (rc)
				return rc;
			if (strcmp(p.digest, digest) == 0) {
				*ret = p;
				return 0;
			}
		}
	}
	return err_set(e, -ENOENT, "%s holds no blob %.19s...", a->s.name, digest);
}

static int archive_place(struct store *s, const char *digest, uint64_t bytes,
			 struct blob_place *ret, struct err *e)
{
	struct docker_archive *a = archive_of(s);
	struct part p;
	int rc, fd;

	pthread_mutex_lock(&a->lock);
	rc = find_part(a, digest, &p, e);
	pthread_mutex_unlock(&a->lock);
	if (rc)
		return rc;
	if (bytes != UINT64_MAX && bytes != p.bytes)
		return err_set(e, -EBADMSG, "%s: blob %.19s... has %llu bytes, not %llu", a->s.name,
			       digest, (unsigned long long)p.bytes, (unsigned long long)bytes);
	fd = fcntl(a->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return err_set(e, -errno, "cannot duplicate a descriptor");
	*ret = (struct blob_place){.fd = fd, .fd_off = p.off, .bytes = p.bytes};
	return 0;
}

static int archive_has(struct store *s, const char *digest, struct err *e)
{
	struct docker_archive *a = archive_of(s);
	struct part p;
	int rc;

	pthread_mutex_lock(&a->lock);
	rc = find_part(a, digest, &p, e);
	pthread_mutex_unlock(&a->lock);
	return rc == 0 ? 1 : rc == -ENOENT ? 0 : rc;
}

static int archive_list_tags(struct store *s, size_t max, char ***ret, struct err *e)
{
	struct docker_archive *a = archive_of(s);
	size_t all = 0, n = 0;
	char **tags;

	(void)e; /* it is all in memory */
	for (size_t i = 0; i < a->image_count; i++)
		all += a->images[i].tag_count;
	tags = store_tags_new(all);
	for (size_t i = 0; i < a->image_count; i++)
		for (size_t k = 0; k < a->images[i].tag_count && n < max; k++)
			tags[n++] = text_dup(a->images[i].tags[k]);
	*ret = tags;
	return 0;
}

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

static void archive_close(struct store *s)
{
	struct docker_archive *a = archive_of(s);

	if (a->fd >= 0)
		close(a->fd);
	for (size_t i = 0; i < a->image_count; i++) {
		free(a->images[i].config);
		free_list(a->images[i].tags);
		free_list(a->images[i].layers);
	}
	free(a->images);
	free(a->parts);
	tar_index_done(&a->index);
	pthread_mutex_destroy(&a->lock);
	free(a->tag);
	free(a->s.name);
	free(a);
}

static const struct store_ops archive_ops = {
    .close = archive_close,
    .get_manifest = archive_get_manifest,
    .place = archive_place,
    .has = archive_has,
    .list_tags = archive_list_tags,
};

int docker_archive_open(const struct imageref *r, struct store **ret, struct err *e)
{
	struct docker_archive *a = xmalloc_zero(1, sizeof(*a));
	int rc = 0;

	a->s.ops = &archive_ops;
	a->s.name = text_printf("docker-archive:%s", r->path);
	a->tag = text_dup(r->tag);
	pthread_mutex_init(&a->lock, NULL);
	a->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (a->fd < 0) {
		rc = -errno;
		err_set(e, rc, "cannot open %s: %s", r->path, strerror(-rc));
	} else {
		rc = load(a, e);
	}
	if (rc) {
		archive_close(&a->s);
		return rc;
	}
	*ret = &a->s;
	return 0;
}
