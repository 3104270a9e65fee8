/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch_list.c - prefetch lists as bytes (see prefetch_list.h, trace/FORMAT.md)
 *
 * A list comes from a registry: every count is checked against the bytes that are there and the
 * limits before anything is allocated for it, and every range against its blob.
 */
#include "prefetch_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockfile.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "range.h"
#include "text.h"

#define MAGIC	     "HSPLIST\n"
#define VERSION	     1u
#define TEXT_BYTES   4096u
#define PATH_BYTES   4095u
#define PATHS_BYTES  (32u << 20)  /* together: shared beginnings make much of few bytes */
#define BLOCK_BYTES  (256u << 10) /* a block is ended when it has grown to this */
#define SHA256_BYTES 32

enum block {
	BLOCK_HEAD = 1,
	BLOCK_BLOBS = 2,
	BLOCK_RANGES = 3,
	BLOCK_FILES = 4,
	BLOCK_TOUCHES = 5,
	BLOCK_END = 6,
};

void prefetch_list_free(struct prefetch_list *l)
{
	if (!l)
		return;
	free(l->image);
	free(l->blobs);
	free(l->ranges);
	for (size_t i = 0; i < l->file_count; i++)
		free(l->files[i].path);
	free(l->files);
	free(l->touches);
	free(l);
}

static void free_list(struct prefetch_list **l)
{
	prefetch_list_free(*l);
}

uint64_t prefetch_list_bytes(const struct prefetch_list *l)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < l->range_count; i++)
		sum += l->ranges[i].bytes;
	return sum;
}

/* --- what makes a list valid, read or to be written ----------------------------------------- */

static int by_digest(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_blobs(const struct prefetch_list *l, struct err *e)
{
	_cleanup_free_ const char **sorted = xmalloc_zero(l->blob_count, sizeof(*sorted));

	for (size_t i = 0; i < l->blob_count; i++) {
		sorted[i] = l->blobs[i].digest;
		if (*sorted[i] && !digest_valid(sorted[i]))
			return err_set(e, -EBADMSG, "blob %zu: no digest", i);
	}
	qsort(sorted, l->blob_count, sizeof(*sorted), by_digest);
	for (size_t i = 1; i < l->blob_count; i++)
		if (*sorted[i] && !strcmp(sorted[i - 1], sorted[i]))
			return err_set(e, -EBADMSG, "blob %s is listed twice", sorted[i]);
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct prefetch_range *x = *(const struct prefetch_range *const *)a;
	const struct prefetch_range *y = *(const struct prefetch_range *const *)b;

	if (x->blob != y->blob)
		return x->blob < y->blob ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static int check_ranges(const struct prefetch_list *l, struct err *e)
{
	_cleanup_free_ const struct prefetch_range **sorted =
	    xmalloc_zero(l->range_count, sizeof(*sorted));

	for (size_t i = 0; i < l->range_count; i++) {
		const struct prefetch_range *r = sorted[i] = &l->ranges[i];

		if (r->blob >= l->blob_count)
			return err_set(e, -EBADMSG, "range %zu: there is no blob %u", i, r->blob);
		if (!r->bytes || !range_inside(range_of(r->off, r->bytes), l->blobs[r->blob].bytes))
			return err_set(e, -EBADMSG, "range %zu is empty or not inside its blob", i);
	}
	qsort(sorted, l->range_count, sizeof(*sorted), by_place);
	for (size_t i = 1; i < l->range_count; i++)
		if (sorted[i - 1]->blob == sorted[i]->blob &&
		    sorted[i - 1]->off + sorted[i - 1]->bytes > sorted[i]->off)
			return err_set(e, -EBADMSG, "range %zu overlaps another one",
				       (size_t)(sorted[i] - l->ranges));
	return 0;
}

static int check_touches(const struct prefetch_list *l, struct err *e)
{
	for (size_t i = 0; i < l->touch_count; i++) {
		const struct prefetch_touch *t = &l->touches[i];

		if (t->file != PREFETCH_NO_FILE && t->file >= l->file_count)
			return err_set(e, -EBADMSG, "touch %zu: there is no file %u", i, t->file);
		if (!range_checked(range_of(t->off, t->bytes)))
			return err_set(e, -EBADMSG, "touch %zu: its end cannot be", i);
	}
	return 0;
}

static int check_files(const struct prefetch_list *l, struct err *e)
{
	size_t sum = 0;

	for (size_t i = 0; i < l->file_count; i++) {
		size_t len = strlen(l->files[i].path);

		if (l->files[i].path[0] != '/' || len > PATH_BYTES)
			return err_set(e, -EBADMSG, "file %zu has no absolute path", i);
		sum += len;
	}
	return sum > PATHS_BYTES ? err_set(e, -EBADMSG, "more than %u bytes of paths", PATHS_BYTES)
				 : 0;
}

static int check(const struct prefetch_list *l, struct err *e)
{
	int r;

	if (l->origin < PREFETCH_RECORDED || l->origin > PREFETCH_IMPORTED)
		return err_set(e, -EBADMSG, "origin %u is not known", (unsigned int)l->origin);
	if (*l->image_digest && !digest_valid(l->image_digest))
		return err_set(e, -EBADMSG, "no digest of an image");
	if (l->blob_count > PREFETCH_LIST_MAX_BLOBS || l->range_count > PREFETCH_LIST_MAX_RANGES ||
	    l->file_count > PREFETCH_LIST_MAX_FILES || l->touch_count > PREFETCH_LIST_MAX_TOUCHES)
		return err_set(e, -EBADMSG, "more blobs, ranges, files or touches than allowed");
	r = check_blobs(l, e);
	if (!r)
		r = check_ranges(l, e);
	if (!r)
		r = check_files(l, e);
	return r ? r : check_touches(l, e);
}

/* --- parsing -------------------------------------------------------------------------------- */

struct parser {
	struct prefetch_list *l;
	size_t blob_cap, range_cap, file_cap, touch_cap;
	size_t path_bytes; /* so far */
	bool ended;
};

static int bad_block(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "%s block: malformed", what);
}

/* The number of items of a block, with room for them behind the @have there are. */
static int take_count(struct blockview *v, size_t encoded, size_t have, size_t max, size_t item,
		      void *array, size_t *cap, size_t *ret, struct err *e)
{
	size_t n = blockview_count(v, encoded), want = *cap;
	void *p, **to = array;

	if (v->bad)
		return bad_block(e, "a");
	if (n > max - have)
		return err_set(e, -EBADMSG, "more than %zu entries of a kind", max);
	while (want < have + n)
		want = want ? want * 2 : 64;
	if (want > *cap) {
		p = realloc(*to, want * item);
		if (!p)
			return err_set(e, -ENOMEM, "no memory");
		*to = p;
		*cap = want;
	}
	*ret = n;
	return 0;
}

static int parse_head(struct prefetch_list *l, struct blockview *v, struct err *e)
{
	_cleanup_free_ char *digest = NULL;
	uint64_t origin = blockview_var(v), runs;

	digest = blockview_text(v, DIGEST_TEXT_BYTES - 1);
	l->image = blockview_text(v, TEXT_BYTES);
	l->created_s = blockview_var(v);
	runs = blockview_var(v);
	if (v->bad || runs > UINT32_MAX || origin > PREFETCH_IMPORTED)
		return bad_block(e, "head");
	strcpy(l->image_digest, digest);
	l->origin = (enum prefetch_origin)origin;
	l->runs = (uint32_t)runs;
	return 0;
}

static void digest_from(const uint8_t *raw, char out[static DIGEST_TEXT_BYTES])
{
	static const char hex[] = "0123456789abcdef";

	memcpy(out, "sha256:", 7);
	for (size_t i = 0; i < SHA256_BYTES; i++) {
		out[7 + 2 * i] = hex[raw[i] >> 4];
		out[8 + 2 * i] = hex[raw[i] & 15];
	}
	out[7 + 2 * SHA256_BYTES] = '\0';
}

static int parse_blobs(struct parser *p, struct blockview *v, struct err *e)
{
	struct prefetch_list *l = p->l;
	size_t n;
	int r = take_count(v, 2, l->blob_count, PREFETCH_LIST_MAX_BLOBS, sizeof(*l->blobs),
			   &l->blobs, &p->blob_cap, &n, e);

	if (r)
		return r;
	while (n--) {
		struct prefetch_blob b = {0};
		uint64_t kind = blockview_var(v);
		const uint8_t *raw = kind == 1 ? blockview_bytes(v, SHA256_BYTES) : NULL;

		if (raw)
			digest_from(raw, b.digest);
		b.bytes = blockview_var(v);
		if (v->bad || kind > 1)
			return bad_block(e, "blobs");
		l->blobs[l->blob_count++] = b;
	}
	return 0;
}

/* Bit 0 of a tag: another blob (file) follows; the rest: milliseconds, told from those before. */
static bool take_tag(struct blockview *v, uint32_t *at_ms)
{
	uint64_t tag = blockview_var(v);

	*at_ms += (uint32_t)blockfile_unzigzag(tag >> 1);
	return tag & 1;
}

static void put_tag(struct blockbuf *b, bool other, uint32_t at_ms, uint32_t before)
{
	uint64_t ms = blockfile_zigzag((uint64_t)at_ms - before);

	blockbuf_var(b, ms << 1 | other);
}

static int parse_ranges(struct parser *p, struct blockview *v, struct err *e)
{
	struct prefetch_list *l = p->l;
	uint64_t end[PREFETCH_LIST_MAX_BLOBS] = {0}, blob = 0;
	uint32_t at_ms = 0;
	size_t n;
	int r = take_count(v, 3, l->range_count, PREFETCH_LIST_MAX_RANGES, sizeof(*l->ranges),
			   &l->ranges, &p->range_cap, &n, e);

	if (r)
		return r;
	while (n--) {
		struct prefetch_range to = {0};

		if (take_tag(v, &at_ms))
			blob = blockview_var(v);
		if (v->bad || blob >= l->blob_count)
			return bad_block(e, "ranges");
		to.blob = (uint32_t)blob;
		to.at_ms = at_ms;
		to.off = end[blob] + blockview_zigzag(v);
		to.bytes = blockview_var(v);
		end[blob] = to.off + to.bytes;
		if (v->bad || !range_checked(range_of(to.off, to.bytes)))
			return bad_block(e, "ranges");
		l->ranges[l->range_count++] = to;
	}
	return 0;
}

static int parse_files(struct parser *p, struct blockview *v, struct err *e)
{
	struct prefetch_list *l = p->l;
	const char *before = "";
	size_t n;
	int r = take_count(v, 3, l->file_count, PREFETCH_LIST_MAX_FILES, sizeof(*l->files),
			   &l->files, &p->file_cap, &n, e);

	if (r)
		return r;
	while (n--) {
		uint64_t shared = blockview_var(v);
		_cleanup_free_ char *rest = NULL;

		if (v->bad || shared > strlen(before))
			return bad_block(e, "files");
		rest = blockview_text(v, PATH_BYTES - (size_t)shared);
		uint64_t bytes = blockview_var(v);
		if (v->bad)
			return bad_block(e, "files");
		p->path_bytes += shared + strlen(rest);
		if (p->path_bytes > PATHS_BYTES)
			return err_set(e, -EBADMSG, "more than %u bytes of paths", PATHS_BYTES);
		l->files[l->file_count].path = text_printf("%.*s%s", (int)shared, before, rest);
		l->files[l->file_count].bytes = bytes;
		before = l->files[l->file_count++].path;
	}
	return 0;
}

static int parse_touches(struct parser *p, struct blockview *v, struct err *e)
{
	struct prefetch_list *l = p->l;
	uint64_t end = 0, file = UINT64_MAX;
	uint32_t at_ms = 0;
	size_t n;
	int r = take_count(v, 3, l->touch_count, PREFETCH_LIST_MAX_TOUCHES, sizeof(*l->touches),
			   &l->touches, &p->touch_cap, &n, e);

	if (r)
		return r;
	while (n--) {
		struct prefetch_touch to = {0};

		if (take_tag(v, &at_ms)) {
			file = blockview_var(v);
			end = 0;
		}
		if (v->bad || file > l->file_count)
			return bad_block(e, "touches");
		to.file = file ? (uint32_t)(file - 1) : PREFETCH_NO_FILE;
		to.at_ms = at_ms;
		to.off = end + blockview_zigzag(v);
		to.bytes = blockview_var(v);
		end = to.off + to.bytes;
		if (v->bad)
			return bad_block(e, "touches");
		l->touches[l->touch_count++] = to;
	}
	return 0;
}

static int parse_block(struct parser *p, uint32_t type, struct blockview *v, struct err *e)
{
	switch (type) {
	case BLOCK_HEAD:
		return err_set(e, -EBADMSG, "a second head block");
	case BLOCK_BLOBS:
		return parse_blobs(p, v, e);
	case BLOCK_RANGES:
		return parse_ranges(p, v, e);
	case BLOCK_FILES:
		return parse_files(p, v, e);
	case BLOCK_TOUCHES:
		return parse_touches(p, v, e);
	case BLOCK_END:
		p->ended = true;
		return 0;
	default:
		return 0; /* of a later minor change; it may be skipped */
	}
}

int prefetch_list_parse(const void *p, size_t bytes, struct prefetch_list **ret, struct err *e)
{
	_cleanup_(free_list) struct prefetch_list *l = xmalloc_zero(1, sizeof(*l));
	struct parser parser = {.l = l};
	struct blockview v;
	struct blockiter it;
	uint32_t version, type;
	int r;

	if (bytes > PREFETCH_LIST_MAX_BYTES)
		return err_set(e, -EBADMSG, "prefetch list: larger than %u bytes",
			       PREFETCH_LIST_MAX_BYTES);
	r = blockiter_start(&it, p, bytes, MAGIC, VERSION, &version, e);
	if (r)
		return r == -ENOENT ? err_set(e, -ENOENT, "not a prefetch list")
				    : err_wrap(e, r, "prefetch list");
	if (!blockiter_next(&it, &type, &v) || type != BLOCK_HEAD)
		return err_set(e, -EBADMSG, "prefetch list: the head block is missing or damaged");
	r = parse_head(l, &v, e);
	while (!r && !parser.ended && blockiter_next(&it, &type, &v))
		r = parse_block(&parser, type, &v, e);
	if (!r && (!parser.ended || it.at != it.len))
		r = err_set(e, -EBADMSG,
			    parser.ended ? "bytes behind its end" : "cut off or damaged");
	if (!r)
		r = check(l, e);
	if (r)
		return err_wrap(e, r, "prefetch list");
	*ret = steal_ptr(l);
	return 0;
}

int prefetch_list_load(const char *path, struct prefetch_list **ret, struct err *e)
{
	_cleanup_free_ uint8_t *p = NULL;
	size_t bytes;
	int r = blockfile_load(path, PREFETCH_LIST_MAX_BYTES, &p, &bytes, e);

	if (r)
		return r;
	r = prefetch_list_parse(p, bytes, ret, e);
	return r ? err_wrap(e, r, "%s", path) : 0;
}

/* --- encoding ------------------------------------------------------------------------------- */

static void put_head(struct blockbuf *b, const struct prefetch_list *l)
{
	blockbuf_head(b, MAGIC, VERSION);
	blockbuf_begin(b, BLOCK_HEAD);
	blockbuf_var(b, l->origin);
	blockbuf_text(b, l->image_digest);
	blockbuf_text(b, l->image);
	blockbuf_var(b, l->created_s);
	blockbuf_var(b, l->runs);
	blockbuf_end(b);
}

static uint8_t hex_value(char c)
{
	return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void put_blobs(struct blockbuf *b, const struct prefetch_list *l)
{
	struct blockitems w = {.to = b, .type = BLOCK_BLOBS, .full = BLOCK_BYTES};

	for (size_t i = 0; i < l->blob_count; i++) {
		const char *hex = l->blobs[i].digest + 7;

		blockbuf_var(&w.items, *l->blobs[i].digest ? 1 : 0);
		for (size_t k = 0; *l->blobs[i].digest && k < SHA256_BYTES; k++, hex += 2)
			blockbuf_u8(&w.items,
				    (uint8_t)(hex_value(hex[0]) << 4 | hex_value(hex[1])));
		blockbuf_var(&w.items, l->blobs[i].bytes);
		blockitems_next(&w);
	}
	blockitems_done(&w);
}

static void put_ranges(struct blockbuf *b, const struct prefetch_list *l)
{
	struct blockitems w = {.to = b, .type = BLOCK_RANGES, .full = BLOCK_BYTES};
	uint64_t end[PREFETCH_LIST_MAX_BLOBS] = {0};
	uint32_t blob = 0, at_ms = 0;

	for (size_t i = 0; i < l->range_count; i++) {
		const struct prefetch_range *r = &l->ranges[i];

		put_tag(&w.items, r->blob != blob, r->at_ms, at_ms);
		if (r->blob != blob)
			blockbuf_var(&w.items, r->blob);
		blockbuf_zigzag(&w.items, r->off - end[r->blob]);
		blockbuf_var(&w.items, r->bytes);
		blob = r->blob;
		at_ms = r->at_ms;
		end[blob] = r->off + r->bytes;
		if (blockitems_next(&w)) {
			blob = at_ms = 0;
			memset(end, 0, sizeof(end));
		}
	}
	blockitems_done(&w);
}

static void put_files(struct blockbuf *b, const struct prefetch_list *l)
{
	struct blockitems w = {.to = b, .type = BLOCK_FILES, .full = BLOCK_BYTES};
	const char *before = "";

	for (size_t i = 0; i < l->file_count; i++) {
		const char *path = l->files[i].path;
		size_t shared = 0;

		while (path[shared] && path[shared] == before[shared])
			shared++;
		blockbuf_var(&w.items, shared);
		blockbuf_text(&w.items, path + shared);
		blockbuf_var(&w.items, l->files[i].bytes);
		before = blockitems_next(&w) ? "" : path;
	}
	blockitems_done(&w);
}

static void put_touches(struct blockbuf *b, const struct prefetch_list *l)
{
	struct blockitems w = {.to = b, .type = BLOCK_TOUCHES, .full = BLOCK_BYTES};
	uint64_t end = 0;
	uint32_t file = 0, at_ms = 0;
	bool first = true;

	for (size_t i = 0; i < l->touch_count; i++) {
		const struct prefetch_touch *t = &l->touches[i];
		bool other = first || t->file != file;

		put_tag(&w.items, other, t->at_ms, at_ms);
		if (other)
			blockbuf_var(&w.items,
				     t->file == PREFETCH_NO_FILE ? 0 : (uint64_t)t->file + 1);
		blockbuf_zigzag(&w.items, t->off - (other ? 0 : end));
		blockbuf_var(&w.items, t->bytes);
		file = t->file;
		end = t->off + t->bytes;
		first = blockitems_next(&w);
		at_ms = first ? 0 : t->at_ms;
	}
	blockitems_done(&w);
}

int prefetch_list_encode(const struct prefetch_list *l, unsigned int halves, uint8_t **ret,
			 size_t *ret_bytes, struct err *e)
{
	struct blockbuf b = {0};
	int r = check(l, e);

	if (r)
		return err_wrap(e, r, "prefetch list");
	put_head(&b, l);
	if (halves & PREFETCH_RANGES) {
		put_blobs(&b, l);
		put_ranges(&b, l);
	}
	if (halves & PREFETCH_FILES) {
		put_files(&b, l);
		put_touches(&b, l);
	}
	blockbuf_begin(&b, BLOCK_END);
	blockbuf_end(&b);
	if (b.len > PREFETCH_LIST_MAX_BYTES) {
		blockbuf_done(&b);
		return err_set(e, -EFBIG, "prefetch list: larger than %u bytes",
			       PREFETCH_LIST_MAX_BYTES);
	}
	*ret = b.p;
	*ret_bytes = b.len;
	return 0;
}

int prefetch_list_save(const struct prefetch_list *l, const char *path, struct err *e)
{
	_cleanup_free_ uint8_t *p = NULL;
	size_t bytes;
	int r = prefetch_list_encode(l, PREFETCH_RANGES | PREFETCH_FILES, &p, &bytes, e);

	return r ? r : blockfile_save(path, p, bytes, e);
}

const char *prefetch_origin_name(enum prefetch_origin o)
{
	switch (o) {
	case PREFETCH_RECORDED:
		return "recorded";
	case PREFETCH_PREDICTED:
		return "predicted";
	case PREFETCH_PORTED:
		return "ported";
	case PREFETCH_IMPORTED:
		return "imported";
	}
	return "unknown";
}
