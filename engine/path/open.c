/* SPDX-License-Identifier: Apache-2.0 */
/* open.c - see open.h */
#include "open.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blob.h"
#include "cleanup.h"
#include "err.h"
#include "log.h"
#include "lsmt.h"
#include "reader.h"
#include "tar_envelope.h"
#include "text.h"
#include "usage.h"
#include "zfile.h"

/* Tar prefix, ZFile header and a typical first block. */
#define HEAD_BYTES (20u << 10)
/* Jump table, LSMT index and file system metadata lie at the end of a blob. */
#define TAIL_MIN_BYTES (128u << 10)
#define TAIL_MAX_BYTES (1u << 20)
/* When the table began before the tail, the LSMT index is right before the table. */
#define INDEX_MARGIN_BYTES (256u << 10)

static struct range head_range(const struct blob *b)
{
	return range_of(0, min_u64(b->bytes, HEAD_BYTES));
}

static struct range tail_range(const struct blob *b)
{
	uint64_t len = max_u64(TAIL_MIN_BYTES, min_u64(b->bytes / 64, TAIL_MAX_BYTES));

	len = min_u64(len, b->bytes);
	return range_of(b->bytes - len, len);
}

/* Between head and tail, bytes that are not worth a request of their own. */
#define WHOLE_GAP_BYTES (64u << 10)

/* A growing list of ranges for one round. */
struct wants {
	struct reader_want *list;
	size_t count, cap;
};

static void wants_add(struct wants *w, struct blob *b, struct range r)
{
	if (blob_is_local(b) || !r.len)
		return;
	if (w->count == w->cap) {
		w->cap = w->cap ? 2 * w->cap : 64;
		w->list = realloc(w->list, w->cap * sizeof(*w->list));
		if (!w->list)
			abort();
	}
	w->list[w->count++] = (struct reader_want){b, r};
}

/* What a new connection brings in its first round trip. */
#define EXACT_PIECE_BYTES (14u << 10)
#define EXACT_PIECES	  4u

/*
 * Just these bytes, which all must be here before anything goes on: over as many connections as
 * bring them in one round trip or two, since those are new and slow to start.
 */
static void want_exactly(struct wants *w, struct blob *b, struct range r)
{
	uint64_t piece = max_u64(EXACT_PIECE_BYTES, round_up(r.len / EXACT_PIECES + 1, 512));

	while (r.len) {
		uint64_t len = min_u64(piece, r.len);

		wants_add(w, b, range_of(r.off, len));
		r = range_of(r.off + len, r.len - len);
	}
}

/* What opening takes of a blob: head and tail, or all of it when it is small, or as hinted. */
static void want_ends(struct wants *w, const struct layer_spec *spec)
{
	struct blob *b = spec->blob;
	struct range head = head_range(b), tail = tail_range(b);

	if (spec->hints.open_bytes) {
		want_exactly(w, b,
			     range_of(b->bytes - spec->hints.open_bytes, spec->hints.open_bytes));
		return;
	}

	if (range_end(head) + WHOLE_GAP_BYTES >= tail.off) {
		wants_add(w, b, range_of(0, b->bytes));
	} else {
		wants_add(w, b, head);
		wants_add(w, b, tail);
	}
}

/* The trailer of a ZFile, whose place is known. */
static int open_trailer(struct reader *r, struct stream *s, struct err *e)
{
	uint8_t trailer[ZFILE_HEADER_BYTES];
	int rc = reader_stored(r, s->blob,
			       range_of(s->base + s->bytes - sizeof(trailer), sizeof(trailer)),
			       trailer, e);

	return rc ? rc : zfile_parse_trailer(trailer, s->bytes, &s->zinfo, e);
}

/* Envelope and, if there is one, the ZFile header: everything the head of the blob can tell. */
static int open_head(struct reader *r, struct layer *l, struct err *e)
{
	struct stream *s = &l->main;
	struct blob *b = s->blob;
	uint8_t head[TAR_ENVELOPE_HEAD_BYTES], zhead[ZFILE_HEADER_BYTES];
	size_t n = min_u64(sizeof(head), b->bytes);
	struct range payload;
	int rc;

	if (!n)
		return err_set(e, -EBADMSG, "the blob is empty");
	rc = reader_stored(r, b, range_of(0, n), head, e);
	if (rc)
		return rc;
	rc = tar_envelope_parse(head, n, b->bytes, &payload, e);
	if (rc < 0)
		return rc;
	l->enveloped = rc > 0;
	s->base = payload.off;
	s->bytes = payload.len;
	s->kind = STREAM_RAW;
	if (payload.len < sizeof(zhead))
		return 0;
	rc = reader_stored(r, b, range_of(payload.off, sizeof(zhead)), zhead, e);
	if (rc || !zfile_detect(zhead, sizeof(zhead)))
		return rc;
	s->kind = STREAM_ZFILE;
	rc = zfile_parse_header(zhead, payload.len, &s->zinfo, e);
	if (rc || s->zinfo.final)
		return rc;
	if (payload.len < 2 * ZFILE_HEADER_BYTES)
		return err_set(e, -EBADMSG, "the ZFile is too short for its trailer");
	return open_trailer(r, s, e);
}

/* The same from the hints of the manifest: the head is not looked at. */
static int open_hinted(struct reader *r, struct layer *l, const struct layer_hints *h,
		       struct err *e)
{
	struct stream *s = &l->main;

	l->enveloped = h->payload.off > 0;
	l->hinted = true;
	s->base = h->payload.off;
	s->bytes = h->payload.len;
	s->kind = STREAM_ZFILE;
	return open_trailer(r, s, e);
}

/* The jump table, which makes the layer's plain bytes addressable. */
static int open_table(struct reader *r, struct layer *l, struct err *e)
{
	struct stream *s = &l->main;
	struct range at;
	_cleanup_free_ void *table = NULL;
	int rc;

	if (s->kind != STREAM_ZFILE)
		return 0;
	at = zfile_index_range(&s->zinfo);
	table = malloc(at.len ? at.len : 1);
	if (!table)
		return err_set(e, -ENOSPC, "no memory for a jump table of %llu bytes",
			       (unsigned long long)at.len);
	rc = reader_stored(r, s->blob, range_of(s->base + at.off, at.len), table, e);
	if (rc)
		return rc;
	rc = zfile_table_new(&s->zinfo, table, &s->table, e);
	if (!rc)
		s->bytes = s->zinfo.original_bytes;
	return rc;
}

static int check_uses_target(const struct layer *l, const struct lsmt_index *index, struct err *e)
{
	for (size_t n = 0; n < index->count; n++) {
		const struct lsmt_segment *seg = &index->seg[n];
		const struct stream *s = seg->tag ? &l->target : &l->main;

		if (seg->zeroed)
			continue;
		if (!s->blob)
			return err_set(e, -EBADMSG,
				       "the layer refers to a target it was not given");
		if (!range_inside(range_of(seg->moff, seg->len), round_up(s->bytes, 512)))
			return err_set(e, -EBADMSG, "record %zu points behind the end of %s", n,
				       s->blob->name);
	}
	return 0;
}

/* LSMT header, trailer and index of a sealed layer. */
static int open_index(struct reader *r, struct layer *l, struct lsmt_index *ret, struct err *e)
{
	struct stream *s = &l->main;
	uint8_t block[LSMT_HEADER_BYTES];
	_cleanup_free_ void *records = NULL;
	struct lsmt_header first;
	struct range at;
	int rc;

	if (s->bytes < 2 * LSMT_HEADER_BYTES)
		return err_set(e, -EBADMSG, "neither a ZFile nor an LSMT layer (%llu bytes)",
			       (unsigned long long)s->bytes);
	/* the header says nothing that the trailer does not, and would be one more request */
	rc = l->hinted ? 0 : reader_plain(r, s, range_of(0, sizeof(block)), block, e);
	if (!rc && !l->hinted)
		rc = lsmt_parse_header(block, &first, e);
	if (!rc)
		rc =
		    reader_plain(r, s, range_of(s->bytes - sizeof(block), sizeof(block)), block, e);
	if (!rc)
		rc = lsmt_parse_trailer(block, s->bytes, &l->header, e);
	if (rc)
		return rc;
	at = lsmt_index_range(&l->header);
	records = malloc(at.len ? at.len : 1);
	if (!records)
		abort();
	rc = reader_plain(r, s, at, records, e);
	if (rc)
		return rc;
	rc = lsmt_index_parse(&l->header, l->kind == LAYER_WARP ? LSMT_WARP : LSMT_NORMAL, records,
			      ret, e);
	if (!rc && l->kind == LAYER_WARP)
		rc = check_uses_target(l, ret, e);
	return rc;
}

static int open_target(struct layer *l, const struct layer_spec *spec, struct err *e)
{
	struct stream *s = &l->target;
	int rc;

	if (!s->blob)
		return 0;
	s->kind = STREAM_RAW;
	s->bytes = s->blob->bytes;
	if (!spec->gzip_index)
		return 0;
	rc = gzidx_parse(spec->gzip_index, spec->gzip_index_bytes, s->blob->bytes, &s->gzidx, e);
	if (rc)
		return err_wrap(e, rc, "gzip index of %s", s->blob->name);
	s->kind = STREAM_GZIP;
	s->bytes = s->gzidx->plain_bytes;
	for (size_t n = 0; n < s->gzidx->count; n++) {
		if (gzidx_span_plain(s->gzidx, n).len > STREAM_SPAN_MAX ||
		    gzidx_span_stored(s->gzidx, n).len > STREAM_SPAN_MAX)
			return err_set(e, -EBADMSG,
				       "gzip index of %s: span %zu is larger than %u bytes",
				       s->blob->name, n, STREAM_SPAN_MAX);
	}
	return 0;
}

/* Present ranges of a sparse read-write layer, as the file system tells them. */
static int sparse_extents(int fd, uint64_t bytes, struct range **ret, size_t *ret_count,
			  struct err *e)
{
	struct range *list = NULL;
	size_t count = 0, cap = 0;
	off_t at = LSMT_HEADER_BYTES;

	while ((uint64_t)at < bytes) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole < 0) {
			free(list);
			return err_set(e, -EIO, "cannot find its data extents: %s",
				       strerror(errno));
		}
		if (count == cap) {
			cap = cap ? 2 * cap : 64;
			list = realloc(list, cap * sizeof(*list));
			if (!list)
				abort();
		}
		list[count++] = range_of((uint64_t)data, (uint64_t)(hole - data));
		at = hole;
	}
	*ret = list;
	*ret_count = count;
	return 0;
}

static int open_sparse(struct layer *l, struct lsmt_index *ret, struct err *e)
{
	struct blob *b = l->main.blob;
	_cleanup_free_ struct range *extents = NULL;
	size_t count = 0;
	int rc;

	if (b->fd_off)
		return err_set(e, -EOPNOTSUPP,
			       "a sparse read-write layer must be a file of its own");
	rc = sparse_extents(b->fd, b->bytes, &extents, &count, e);
	return rc ? rc : lsmt_index_sparse(extents, count, l->header.virtual_bytes, ret, e);
}

static int open_rw(struct reader *r, struct layer *l, const struct layer_spec *spec,
		   struct lsmt_index *ret, struct err *e)
{
	uint8_t block[LSMT_HEADER_BYTES];
	_cleanup_free_ void *records = NULL;
	struct lsmt_header index_header;
	struct blob *index = spec->rw_index;
	size_t bytes;
	int rc;

	l->main.kind = STREAM_RAW;
	l->main.bytes = l->main.blob->bytes;
	if (l->main.bytes < sizeof(block))
		return err_set(e, -EBADMSG, "too short for an LSMT header");
	rc = reader_stored(r, l->main.blob, range_of(0, sizeof(block)), block, e);
	if (!rc)
		rc = lsmt_parse_header(block, &l->header, e);
	if (rc)
		return rc;
	if (l->header.flags & LSMT_FLAG_SPARSE)
		return open_sparse(l, ret, e);
	if (!index || index->bytes < sizeof(block))
		return err_set(e, -EBADMSG, "its index file is too short for an LSMT header");
	rc = reader_stored(r, index, range_of(0, sizeof(block)), block, e);
	if (!rc)
		rc = lsmt_parse_rw_index_header(block, &index_header, e);
	if (rc)
		return rc;
	bytes = index->bytes - sizeof(block);
	if (bytes / LSMT_RECORD_BYTES > LSMT_RW_MAX_RECORDS)
		return err_set(e, -EBADMSG, "its index has too many records");
	records = malloc(bytes ? bytes : 1);
	if (!records)
		abort();
	rc = reader_stored(r, index, range_of(sizeof(block), bytes), records, e);
	return rc ? rc : lsmt_index_replay(records, bytes, l->main.bytes, ret, e);
}

/* Round two: tables that began before the tail, with the index that precedes them. */
static void want_tables(struct image *i, struct wants *w)
{
	for (size_t n = 0; n < i->layer_count; n++) {
		struct stream *s = &i->layers[n].main;
		struct range at;
		uint64_t off;

		if (i->layers[n].kind == LAYER_RW || s->kind != STREAM_ZFILE || i->layers[n].hinted)
			continue;
		at = zfile_index_range(&s->zinfo);
		at.off += s->base;
		/* Brought along by the tail read already? Then this adds nothing. */
		if (at.off >= tail_range(s->blob).off)
			continue;
		off = at.off > INDEX_MARGIN_BYTES ? at.off - INDEX_MARGIN_BYTES : 0;
		wants_add(w, s->blob, range_of(off, range_end(at) - off));
	}
}

/* Kept with the image: what is here once it is open need not be prefetched. */
static void note_opening(struct image *i, const struct wants *w)
{
	size_t count = i->opening_count + w->count;
	struct image_part *list = w->count ? realloc(i->opening, count * sizeof(*list)) : NULL;

	if (!w->count)
		return;
	if (!list)
		abort();
	for (size_t n = 0; n < w->count; n++)
		list[i->opening_count + n] = (struct image_part){w->list[n].blob, w->list[n].range};
	i->opening = list;
	i->opening_count = count;
}

static int open_layers(struct reader *r, struct image *i, const struct layer_spec *specs,
		       struct lsmt_index *indexes, struct err *e)
{
	_cleanup_free_ struct reader_want *owned = NULL;
	struct wants heads = {0}, tables = {0};
	size_t n = 0;
	int rc;

	for (n = 0; n < i->layer_count; n++)
		want_ends(&heads, &specs[n]);
	note_opening(i, &heads);
	rc = reader_fetch(r, heads.list, heads.count, e);
	free(heads.list);
	if (rc)
		return rc;
	for (n = 0; !rc && n < i->layer_count; n++) {
		if (specs[n].hints.open_bytes)
			rc = open_hinted(r, &i->layers[n], &specs[n].hints, e);
		else if (i->layers[n].kind != LAYER_RW)
			rc = open_head(r, &i->layers[n], e);
		if (rc)
			return err_wrap(e, rc, "layer %zu (%s)", n, specs[n].blob->name);
	}
	want_tables(i, &tables);
	owned = tables.list;
	note_opening(i, &tables);
	rc = reader_fetch(r, tables.list, tables.count, e);
	if (rc)
		return rc;
	for (n = 0; n < i->layer_count; n++) {
		struct layer *l = &i->layers[n];

		if (l->kind == LAYER_RW) {
			rc = open_rw(r, l, &specs[n], &indexes[n], e);
		} else {
			rc = open_table(r, l, e);
			if (!rc)
				rc = open_target(l, &specs[n], e);
			if (!rc)
				rc = open_index(r, l, &indexes[n], e);
		}
		if (rc)
			return err_wrap(e, rc, "layer %zu (%s)", n, specs[n].blob->name);
		l->segments = indexes[n].count;
	}
	return 0;
}

static int set_device_size(struct image *i, struct err *e)
{
	for (size_t n = i->layer_count; n-- > 0;) {
		uint64_t v = i->layers[n].header.virtual_bytes;

		if (!v)
			continue;
		if (v % LSMT_SECTOR_BYTES || v > 1ull << 59)
			return err_set(e, -EBADMSG, "layer %zu (%s): impossible device size %llu",
				       n, i->layers[n].main.blob->name, (unsigned long long)v);
		i->bytes = v;
		return 0;
	}
	return err_set(e, -EBADMSG, "no layer says how large the device is");
}

static int try_open(struct reader *r, struct image *i, const struct layer_spec *specs,
		    struct err *e)
{
	struct lsmt_index *indexes = xmalloc_zero(i->layer_count, sizeof(*indexes));
	int rc = open_layers(r, i, specs, indexes, e);

	if (!rc)
		rc = set_device_size(i, e);
	if (!rc)
		rc = image_map_build(indexes, i->layer_count, i->bytes, &i->map, e);
	for (size_t n = 0; n < i->layer_count; n++)
		lsmt_index_done(&indexes[n]);
	free(indexes);
	return rc;
}

static void set_layers(struct image *i, const struct layer_spec *specs)
{
	for (size_t n = 0; n < i->layer_count; n++) {
		struct layer *l = &i->layers[n];

		stream_done(&l->main);
		stream_done(&l->target);
		memset(l, 0, sizeof(*l));
		l->kind = specs[n].kind;
		l->main.blob = specs[n].blob;
		l->target.blob = specs[n].target;
	}
}

static void add_blob(struct image *i, struct blob *b)
{
	for (size_t n = 0; b && n < i->blob_count; n++) {
		if (i->blobs[n] == b)
			return;
	}
	if (b)
		i->blobs[i->blob_count++] = b;
}

struct image *image_new(const struct layer_spec *specs, size_t count)
{
	struct image *i = xmalloc_zero(1, sizeof(*i));

	assert(count > 0);
	i->layers = xmalloc_zero(count, sizeof(*i->layers));
	i->blobs = xmalloc_zero(3 * count, sizeof(struct blob *));
	i->layer_count = count;
	for (size_t n = 0; n < count; n++) {
		add_blob(i, specs[n].blob);
		add_blob(i, specs[n].target);
		add_blob(i, specs[n].rw_index);
	}
	return i;
}

/* From now on who asks for what is written down. */
static void keep_usage(struct image *i)
{
	for (size_t n = 0; n < i->layer_count; n++) {
		struct layer *l = &i->layers[n];

		l->main.usage = usage_new(&l->main);
		if (l->target.blob)
			l->target.usage = usage_new(&l->target);
	}
}

/* The hints led nowhere: without them. Returns whether there were any. */
static bool drop_hints(struct layer_spec *specs, size_t count)
{
	bool any = false;

	for (size_t n = 0; n < count; n++) {
		any |= specs[n].hints.open_bytes != 0;
		memset(&specs[n].hints, 0, sizeof(specs[n].hints));
	}
	return any;
}

int image_open(struct reader *r, struct image *i, struct layer_spec *specs, struct err *e)
{
	size_t count = i->layer_count;
	int rc = 0;

	if (count > LSMT_MAX_LAYERS)
		return err_set(e, -EBADMSG, "the image has %zu layers, at most %d are possible",
			       count, LSMT_MAX_LAYERS);
	for (int tries = 0;; tries++) {
		struct wants ends = {0};

		set_layers(i, specs);
		i->opening_count = 0;
		rc = try_open(r, i, specs, e);
		if (rc == -EBADMSG && drop_hints(specs, count)) {
			log_warn("the manifest's layout annotations do not fit its layers: opening "
				 "without them error=%s",
				 e ? e->msg : "");
			set_layers(i, specs);
			i->opening_count = 0;
			rc = try_open(r, i, specs, e);
		}
		/*
		 * Perhaps the cache is corrupt, or a transfer was, and not the image: look at
		 * fresh bytes once, and again as long as that leads to others that were cached.
		 * Without a network nothing is dropped: there is nothing better to be had.
		 */
		if (rc != -EBADMSG || r->no_fetch || !r->looked_count || (tries && !r->from_cache))
			break;
		for (size_t n = 0; !tries && n < count; n++)
			want_ends(&ends, &specs[n]);
		reader_forget(r, ends.list, ends.count);
		free(ends.list);
	}
	if (!rc)
		keep_usage(i);
	return rc;
}
