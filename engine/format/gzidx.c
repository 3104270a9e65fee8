/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzidx.c - gzip.meta read: header, entry array, windows
 *
 * Every size in the file is checked against the bytes that are there, and every span against what
 * deflate can expand to, so that a lying index cannot ask for more memory than its target earns.
 */
#include "gzidx.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "gzidx_layout.h"
#include "text.h"

/* 258 bytes out of two bits is the most that deflate can do. */
#define DEFLATE_MAX_RATIO 1032u

struct header {
	uint64_t count, index_start, area_bytes;
};

static int parse_header(const uint8_t *p, size_t bytes, uint64_t target_bytes, struct gzidx *g,
			struct header *h, struct err *e)
{
	if (bytes < GZIDX_HEADER_BYTES || memcmp(p, GZIDX_MAGIC, sizeof(GZIDX_MAGIC)) != 0)
		return err_set(e, -EBADMSG, "magic not found");
	if (crc32c_raw(0, p, GZIDX_CRC) != get_le32(p + GZIDX_CRC))
		return err_set(e, -EBADMSG, "header checksum does not match");
	if (p[GZIDX_MAJOR] != 1)
		return err_set(e, -EOPNOTSUPP, "version %u is not known", p[GZIDX_MAJOR]);
	g->window_algo = p[GZIDX_ALGO];
	if (g->window_algo != GZIDX_ALGO_RAW && g->window_algo != GZIDX_ALGO_ZLIB)
		return err_set(e, -EOPNOTSUPP, "window compression %u is not known",
			       g->window_algo);
	g->window_bytes = get_le32(p + GZIDX_WINDOW);
	g->gzip_bytes = get_le64(p + GZIDX_GZIP_BYTES);
	g->plain_bytes = get_le64(p + GZIDX_PLAIN_BYTES);
	h->count = get_le64(p + GZIDX_COUNT);
	h->index_start = get_le64(p + GZIDX_INDEX_START);
	h->area_bytes = get_le64(p + GZIDX_AREA_BYTES);
	if (g->window_bytes == 0 || g->window_bytes > GZIDX_WINDOW_BYTES)
		return err_set(e, -EBADMSG, "window of %" PRIu32 " bytes", g->window_bytes);
	if (get_le32(p + GZIDX_ENTRY_SIZE) != GZIDX_ENTRY_BYTES)
		return err_set(e, -EBADMSG, "entries of unknown size");
	if (g->gzip_bytes != target_bytes)
		return err_set(e, -EBADMSG,
			       "made for a target of %" PRIu64 " bytes, this one has %" PRIu64,
			       g->gzip_bytes, target_bytes);
	if (get_le64(p + GZIDX_FILE_BYTES) != bytes || h->index_start < GZIDX_HEADER_BYTES ||
	    h->index_start > bytes || h->area_bytes != bytes - h->index_start)
		return err_set(e, -EBADMSG, "file is cut or has been added to");
	if (h->count == 0 || h->count > GZIDX_MAX_POINTS ||
	    h->count * GZIDX_ENTRY_BYTES / DEFLATE_MAX_RATIO > h->area_bytes)
		return err_set(e, -EBADMSG, "%" PRIu64 " points are impossible", h->count);
	return 0;
}

static int unpack_entries(const uint8_t *p, const struct header *h, uint8_t algo, uint8_t *out,
			  struct err *e)
{
	uLongf want = h->count * GZIDX_ENTRY_BYTES, got = want;

	if (algo == GZIDX_ALGO_RAW) {
		if (h->area_bytes != want)
			return err_set(e, -EBADMSG, "entry area does not hold %" PRIu64 " points",
				       h->count);
		memcpy(out, p, want);
		return 0;
	}
	if (uncompress(out, &got, p, h->area_bytes) != Z_OK || got != want)
		return err_set(e, -EBADMSG, "entry area cannot be unpacked");
	return 0;
}

static int check_point(const struct gzidx *g, size_t n, const struct header *h, struct err *e)
{
	const struct gzidx_point *p = &g->point[n], *before = n > 0 ? p - 1 : NULL;
	struct range window = range_of(p->win_off, p->win_bytes);
	uint32_t window_max =
	    g->window_algo == GZIDX_ALGO_RAW ? g->window_bytes : 2 * GZIDX_WINDOW_BYTES;

	if (before ? p->out_off <= before->out_off || p->in_off <= before->in_off : p->out_off != 0)
		return err_set(e, -EBADMSG, "point %zu is out of order", n);
	if (p->bits > 7 || p->in_off < 1 || p->in_off > g->gzip_bytes ||
	    p->out_off > g->plain_bytes)
		return err_set(e, -EBADMSG, "point %zu lies outside the target", n);
	if (p->win_bytes > window_max || window.off < GZIDX_HEADER_BYTES ||
	    !range_inside(window, h->index_start))
		return err_set(e, -EBADMSG, "window of point %zu lies outside the file", n);
	return 0;
}

static int check_spans(const struct gzidx *g, struct err *e)
{
	for (size_t n = 0; n < g->count; n++) {
		struct range plain = gzidx_span_plain(g, n), stored = gzidx_span_stored(g, n);

		if (plain.len / DEFLATE_MAX_RATIO > stored.len)
			return err_set(e, -EBADMSG, "span %zu expands more than deflate can", n);
	}
	return 0;
}

static int fill(struct gzidx *g, uint64_t target_bytes, struct err *e)
{
	struct header h = {0};
	uint8_t *entries;
	int r = parse_header(g->file, g->file_bytes, target_bytes, g, &h, e);

	if (r < 0)
		return r;
	entries = xmalloc_zero(h.count, GZIDX_ENTRY_BYTES);
	r = unpack_entries(g->file + h.index_start, &h, g->window_algo, entries, e);
	if (r < 0) {
		free(entries);
		return r;
	}
	g->point = xmalloc_zero(h.count, sizeof(*g->point));
	g->count = h.count;
	for (size_t n = 0; n < g->count; n++) {
		const uint8_t *p = entries + n * GZIDX_ENTRY_BYTES;

		g->point[n] = (struct gzidx_point){
		    .out_off = get_le64(p + GZIDX_ENTRY_OUT),
		    .in_off = get_le64(p + GZIDX_ENTRY_IN),
		    .win_off = get_le64(p + GZIDX_ENTRY_WIN),
		    .win_bytes = get_le32(p + GZIDX_ENTRY_WIN_BYTES),
		    .bits = p[GZIDX_ENTRY_BITS],
		};
	}
	free(entries);
	for (size_t n = 0; n < g->count; n++) {
		r = check_point(g, n, &h, e);
		if (r < 0)
			return r;
	}
	return check_spans(g, e);
}

int gzidx_parse(const void *file, size_t bytes, uint64_t target_bytes, struct gzidx **ret,
		struct err *e)
{
	struct gzidx *g = xmalloc_zero(1, sizeof(*g));
	int r;

	g->file = xmalloc_zero(1, bytes + 1);
	memcpy(g->file, file, bytes);
	g->file_bytes = bytes;
	r = fill(g, target_bytes, e);
	if (r < 0) {
		gzidx_free(g);
		return err_wrap(e, r, "gzip index");
	}
	*ret = g;
	return 0;
}

void gzidx_free(struct gzidx *g)
{
	if (!g)
		return;
	free(g->point);
	free(g->file);
	free(g);
}

size_t gzidx_find(const struct gzidx *g, uint64_t out_off)
{
	size_t lo = 0, hi = g->count;

	/* point 0 is at 0: lo always holds, hi never does */
	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (g->point[mid].out_off <= out_off)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

struct range gzidx_span_plain(const struct gzidx *g, size_t n)
{
	uint64_t end = n + 1 < g->count ? g->point[n + 1].out_off : g->plain_bytes;

	return range_of(g->point[n].out_off, end - g->point[n].out_off);
}

struct range gzidx_span_stored(const struct gzidx *g, size_t n)
{
	uint64_t off = g->point[n].in_off - (g->point[n].bits > 0);
	uint64_t end = n + 1 < g->count ? g->point[n + 1].in_off : g->gzip_bytes;

	return range_of(off, end - off);
}

long gzidx_window(const struct gzidx *g, size_t n, void *out, size_t out_bytes)
{
	const struct gzidx_point *p = &g->point[n];
	uLongf len = out_bytes;

	/* what is stored for the first one is 32 KiB of nothing */
	if (n == 0 || p->win_bytes == 0)
		return 0;
	if (out_bytes < g->window_bytes)
		return -EBADMSG;
	if (g->window_algo == GZIDX_ALGO_RAW) {
		memcpy(out, g->file + p->win_off, p->win_bytes);
		return (long)p->win_bytes;
	}
	if (uncompress(out, &len, g->file + p->win_off, p->win_bytes) != Z_OK ||
	    len > g->window_bytes)
		return -EBADMSG;
	return (long)len;
}
