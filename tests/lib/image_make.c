/* SPDX-License-Identifier: Apache-2.0 */
/* image_make.c - see image_make.h */
#include "image_make.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "oci.h"
#include "tar_envelope.h"
#include "text.h"
#include "zfile.h"

struct growing {
	uint8_t *p;
	size_t len, cap;
};

static void grow(struct growing *g, const void *p, size_t n)
{
	if (g->len + n > g->cap) {
		g->cap = 2 * (g->len + n);
		g->p = realloc(g->p, g->cap);
		assert(g->p);
	}
	if (p)
		memcpy(g->p + g->len, p, n);
	else
		memset(g->p + g->len, 0, n);
	g->len += n;
}

static void encode_lsmt(const struct layer_shape *sh, const struct lsmt_segment *seg, size_t count,
			const uint8_t *data, struct growing *out)
{
	struct lsmt_segment *own = xmalloc_zero(count + 1, sizeof(*own));
	struct lsmt_header h = {.virtual_bytes = sh->device_bytes};
	uint8_t head[LSMT_HEADER_BYTES], *records;
	uint64_t moff = LSMT_HEADER_BYTES;
	struct err e = {0};

	lsmt_uuid_from_chain("sha256:"
			     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
			     h.uuid);
	h.flags = LSMT_FLAG_HEADER | LSMT_FLAG_DATA | LSMT_FLAG_SEALED;
	lsmt_encode_header(&h, head);
	grow(out, head, sizeof(head));
	for (size_t n = 0; n < count; n++) {
		own[n] = seg[n];
		own[n].moff = moff;
		if (seg[n].zeroed)
			continue;
		grow(out, data, seg[n].len);
		data += seg[n].len;
		moff += seg[n].len;
	}
	if (lsmt_index_encode(own, count, moff, &records, &h.index_count, &e)) {
		fprintf(stderr, "layer_make: %s\n", e.msg);
		abort();
	}
	h.index_offset = moff;
	grow(out, records, h.index_count * LSMT_RECORD_BYTES);
	h.flags &= ~LSMT_FLAG_HEADER;
	lsmt_encode_header(&h, head);
	grow(out, head, sizeof(head));
	free(records);
	free(own);
}

static void encode_zfile(const struct layer_shape *sh, const struct growing *plain,
			 struct growing *out)
{
	struct zfile_info info = {
	    .original_bytes = plain->len,
	    .block_bytes = sh->block_bytes,
	    .codec = sh->codec,
	    .verify = true,
	    .has_crc = true,
	    .final = true,
	};
	struct codec *c = codec_new();
	uint8_t head[ZFILE_HEADER_BYTES], word[4];
	uint8_t *block = malloc(2 * ZFILE_BLOCK_BYTES_MAX);
	struct growing table = {0};
	size_t start = out->len;

	assert(block);
	grow(out, NULL, sizeof(head));
	for (uint64_t off = 0; off < plain->len; off += info.block_bytes) {
		long n = zfile_block_encode(info.codec, 3, c, plain->p + off,
					    min_u64(info.block_bytes, plain->len - off), block,
					    2 * ZFILE_BLOCK_BYTES_MAX);

		assert(n > 0);
		grow(out, block, (size_t)n);
		put_le32(word, (uint32_t)n);
		grow(&table, word, sizeof(word));
		info.block_count++;
	}
	info.index_offset = out->len - start;
	info.index_crc = zfile_table_crc(0, table.p, table.len);
	grow(out, table.p, table.len);
	zfile_encode_head(&info, ZFILE_HEAD_FINAL, head);
	memcpy(out->p + start, head, sizeof(head));
	zfile_encode_head(&info, ZFILE_TRAILER, head);
	grow(out, head, sizeof(head));
	free(table.p);
	free(block);
	codec_free(c);
}

void layer_make(const struct layer_shape *sh, const struct lsmt_segment *seg, size_t count,
		const void *data, struct made_blob *ret)
{
	struct growing plain = {0}, payload = {0}, blob = {0};
	uint8_t envelope[TAR_ENVELOPE_HEAD_BYTES];

	encode_lsmt(sh, seg, count, data, &plain);
	if (sh->codec) {
		encode_zfile(sh, &plain, &payload);
		free(plain.p);
	} else {
		payload = plain;
	}
	if (sh->tar) {
		tar_envelope_head(payload.len, envelope);
		grow(&blob, envelope, sizeof(envelope));
		grow(&blob, payload.p, payload.len);
		grow(&blob, NULL, tar_envelope_tail_bytes(payload.len));
		free(payload.p);
	} else {
		blob = payload;
	}
	made_copy(blob.p, blob.len, ret);
	free(blob.p);
}

void layer_make_random(const struct layer_shape *sh, struct test_random *r, uint64_t data_bytes,
		       uint8_t *truth, struct made_blob *ret)
{
	uint64_t mean = sh->device_bytes / 400, off = test_random_below(r, 64) * 512, used = 0;
	uint64_t gap = mean * (sh->device_bytes - data_bytes) / (data_bytes + 1) + 1;
	struct lsmt_segment *seg = xmalloc_zero(4096, sizeof(*seg));
	uint8_t *data = xmalloc_zero(1, sh->device_bytes);
	size_t count = 0;

	while (count < 4096) {
		uint64_t len = 512 * (1 + test_random_below(r, 2 * mean / 512 + 1));

		if (off + len > sh->device_bytes || used + len > sh->device_bytes)
			break;
		seg[count].off = off;
		seg[count].len = (uint32_t)len;
		seg[count].zeroed = test_random_below(r, 10) == 0;
		if (seg[count].zeroed) {
			memset(truth + off, 0, len);
		} else {
			test_random_fill(r, data + used, len);
			memcpy(truth + off, data + used, len);
			used += len;
		}
		off += len + 512 * test_random_below(r, 2 * gap / 512 + 1);
		count++;
	}
	layer_make(sh, seg, count, data, ret);
	free(seg);
	free(data);
}

void made_copy(const void *p, size_t len, struct made_blob *ret)
{
	*ret = (struct made_blob){.bytes = malloc(len + 1), .len = len};
	assert(ret->bytes);
	memcpy(ret->bytes, p, len);
	digest_of(p, len, ret->digest);
	/* heads are 20 KiB, tails 128 KiB: see engine/path/open.c */
	if (len > (256u << 10))
		ret->data = range_of(24u << 10, len - (160u << 10));
}

void made_done(struct made_blob *b)
{
	free(b->bytes);
	b->bytes = NULL;
}

/* --- layouts ------------------------------------------------------------------------------- */

static void write_file(const char *path, const void *p, size_t len)
{
	FILE *f = fopen(path, "we");

	if (!f || fwrite(p, 1, len, f) != len || fclose(f)) {
		perror(path);
		abort();
	}
}

void layout_new(struct layout *l, const char *dir)
{
	_cleanup_free_ char *blobs = text_printf("%s/blobs/sha256", dir);
	_cleanup_free_ char *mark = text_printf("%s/oci-layout", dir);
	static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

	memset(l, 0, sizeof(*l));
	assert(strlen(dir) < sizeof(l->dir));
	strcpy(l->dir, dir);
	assert(text_mkdirs(blobs, 0755, NULL) == 0);
	write_file(mark, version, strlen(version));
}

void layout_blob(const struct layout *l, const void *p, size_t len, char ret_digest[static 72])
{
	_cleanup_free_ char *path = NULL;

	digest_of(p, len, ret_digest);
	path = text_printf("%s/blobs/sha256/%s", l->dir, ret_digest + strlen("sha256:"));
	write_file(path, p, len);
}

static size_t store_json(const struct layout *l, cJSON *doc, char ret_digest[static 72])
{
	char *text = cJSON_PrintUnformatted(doc);
	size_t len = strlen(text);

	layout_blob(l, text, len, ret_digest);
	free(text);
	cJSON_Delete(doc);
	return len;
}

static cJSON *descriptor(const char *type, const char *digest, size_t len)
{
	cJSON *d = cJSON_CreateObject();

	cJSON_AddStringToObject(d, "mediaType", type);
	cJSON_AddStringToObject(d, "digest", digest);
	cJSON_AddNumberToObject(d, "size", (double)len);
	return d;
}

static cJSON *layer_descriptor(const struct made_blob *b)
{
	cJSON *d = descriptor(b->target || b->ordinary ? OCI_TYPE_LAYER_GZIP : OCI_TYPE_LAYER,
			      b->digest, b->len);
	cJSON *a;
	char size[32];

	if (b->ordinary)
		return d;
	a = cJSON_AddObjectToObject(d, "annotations");
	snprintf(size, sizeof(size), "%zu", b->len);
	cJSON_AddStringToObject(a, OBD_ANNOTATION_DIGEST, b->digest);
	cJSON_AddStringToObject(a, OBD_ANNOTATION_SIZE, size);
	if (b->target)
		cJSON_AddStringToObject(a, OBD_ANNOTATION_TARGET, b->target);
	return d;
}

static void write_index(const struct layout *l)
{
	_cleanup_free_ char *path = text_printf("%s/index.json", l->dir);
	cJSON *doc = cJSON_CreateObject(), *list;
	char *text;

	cJSON_AddNumberToObject(doc, "schemaVersion", 2);
	list = cJSON_AddArrayToObject(doc, "manifests");
	for (size_t n = 0; n < l->count; n++) {
		cJSON *d = descriptor(OCI_TYPE_MANIFEST, l->digests[n], l->sizes[n]);
		cJSON *a = cJSON_AddObjectToObject(d, "annotations");

		cJSON_AddStringToObject(a, "org.opencontainers.image.ref.name", l->tags[n]);
		cJSON_AddItemToArray(list, d);
	}
	text = cJSON_PrintUnformatted(doc);
	assert(text_write_file(path, text, strlen(text), 0644, NULL) == 0);
	free(text);
	cJSON_Delete(doc);
}

void layout_image(struct layout *l, const char *tag, const struct made_blob *layers, size_t count,
		  const char *platform, char *ret_digest)
{
	static const char config[] = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},"
				     "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
	cJSON *doc = cJSON_CreateObject(), *list;
	char digest[72];
	size_t len, at = 0;

	layout_blob(l, config, strlen(config), digest);
	cJSON_AddNumberToObject(doc, "schemaVersion", 2);
	cJSON_AddStringToObject(doc, "mediaType", OCI_TYPE_MANIFEST);
	cJSON_AddItemToObject(doc, "config", descriptor(OCI_TYPE_CONFIG, digest, strlen(config)));
	list = cJSON_AddArrayToObject(doc, "layers");
	for (size_t n = 0; n < count; n++) {
		char unused[72];

		layout_blob(l, layers[n].bytes, layers[n].len, unused);
		cJSON_AddItemToArray(list, layer_descriptor(&layers[n]));
	}
	len = store_json(l, doc, digest);
	if (platform) {
		cJSON *d = descriptor(OCI_TYPE_MANIFEST, digest, len);
		cJSON *p = cJSON_AddObjectToObject(d, "platform");

		cJSON_AddStringToObject(p, "os", "linux");
		cJSON_AddStringToObject(p, "architecture", platform);
		doc = cJSON_CreateObject();
		cJSON_AddNumberToObject(doc, "schemaVersion", 2);
		cJSON_AddStringToObject(doc, "mediaType", OCI_TYPE_INDEX);
		cJSON_AddItemToArray(cJSON_AddArrayToObject(doc, "manifests"), d);
		len = store_json(l, doc, digest);
	}
	while (at < l->count && strcmp(l->tags[at], tag) != 0)
		at++;
	assert(at < sizeof(l->tags) / sizeof(l->tags[0]) && strlen(tag) < sizeof(l->tags[0]));
	if (at == l->count)
		l->count++;
	strcpy(l->tags[at], tag);
	strcpy(l->digests[at], digest);
	l->sizes[at] = len;
	write_index(l);
	if (ret_digest)
		strcpy(ret_digest, digest);
}
