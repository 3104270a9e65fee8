/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden vectors at the level of the parsers: plain ZFiles and traces of the manifest, and every
 * layer of every configuration through tar envelope, ZFile, LSMT index and map. Whole images are
 * read through the engine by another test.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>

#include <cmocka.h>

#include "bytes.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "golden_file.h"
#include "gzidx.h"
#include "image_config.h"
#include "inflate.h"
#include "lsmt.h"
#include "map.h"
#include "obd_trace.h"
#include "tar_envelope.h"
#include "text.h"
#include "zfile.h"

static void test_zfiles(void **state)
{
	int seen = 0;

	(void)state;
	for (const struct golden_row *row = golden_manifest(); row->name; row++) {
		char sum[DIGEST_TEXT_BYTES];
		size_t bytes;
		uint8_t *plain;

		if (strcmp(row->kind, "zfile") != 0)
			continue;
		seen++;
		plain = golden_layer(row->name, &bytes);
		if (strcmp(row->expected, "ok") == 0)
			assert_non_null(plain);
		if (!plain)
			continue;
		digest_of(plain, bytes, sum);
		assert_string_equal(sum + 7, row->image_sha256);
		free(plain);
	}
	assert_int_equal(seen, 12);
}

static void test_traces(void **state)
{
	int seen = 0;

	(void)state;
	for (const struct golden_row *row = golden_manifest(); row->name; row++) {
		struct obd_trace_record *rec = NULL;
		size_t bytes, count = 0, again_bytes;
		uint8_t *file, *again;
		int r;

		if (strcmp(row->kind, "trace") != 0)
			continue;
		seen++;
		file = golden_read(row->name, &bytes);
		r = obd_trace_parse(file, bytes, &rec, &count, NULL);
		if (strcmp(row->expected, "valid") == 0) {
			assert_int_equal(r, 0);
			assert_int_equal(count, strtoul(row->mappings, NULL, 10));
			assert_int_equal(obd_trace_encode(rec, count, &again, &again_bytes, NULL),
					 0);
			assert_int_equal(again_bytes, bytes);
			free(again);
			free(rec);
		} else {
			assert_int_equal(r, -EBADMSG);
		}
		free(file);
	}
	assert_int_equal(seen, 4);
}

/* trace.tsv is the decoded text of trace.bin. */
static void test_trace_text(void **state)
{
	struct obd_trace_record *rec;
	size_t bytes, count, n = 0;
	uint8_t *file = golden_read("trace/trace.bin", &bytes);
	char *text = (char *)golden_read("trace/trace.tsv", &bytes), *at = text, *line;
	size_t file_bytes;

	(void)state;
	free(file);
	file = golden_read("trace/trace.bin", &file_bytes);
	assert_int_equal(obd_trace_parse(file, file_bytes, &rec, &count, NULL), 0);
	(void)strsep(&at, "\n"); /* column names */
	while ((line = strsep(&at, "\n")) && *line) {
		uint64_t layer, len, off;

		assert_int_equal(
		    sscanf(line, "R\t%" SCNu64 "\t%" SCNu64 "\t%" SCNu64, &layer, &len, &off), 3);
		assert_true(n < count);
		assert_int_equal(rec[n].layer, layer);
		assert_int_equal(rec[n].range.len, len);
		assert_int_equal(rec[n].range.off, off);
		n++;
	}
	assert_int_equal(n, count);
	free(text);
	free(file);
	free(rec);
}

/* A sealed layer in memory, opened. */
struct layer {
	uint8_t *p;
	size_t bytes;
	struct lsmt_header header, trailer;
	struct lsmt_index index;
};

static int layer_load(const char *name, enum lsmt_kind kind, struct layer *l)
{
	memset(l, 0, sizeof(*l));
	l->p = golden_layer(name, &l->bytes);
	if (!l->p || l->bytes < 2 * LSMT_HEADER_BYTES ||
	    lsmt_parse_header(l->p, &l->header, NULL) < 0 ||
	    lsmt_parse_trailer(l->p + l->bytes - LSMT_HEADER_BYTES, l->bytes, &l->trailer, NULL) <
		0)
		return -EBADMSG;
	return lsmt_index_parse(&l->trailer, kind, l->p + l->trailer.index_offset, &l->index, NULL);
}

static void layer_drop(struct layer *l)
{
	free(l->p);
	lsmt_index_done(&l->index);
}

static void hash_image(struct image_map *m, struct layer *layers, char sum[DIGEST_TEXT_BYTES])
{
	static const uint8_t zero[65536];
	struct range left = range_of(0, image_map_bytes(m));
	struct digest *d = digest_new();

	while (left.len > 0) {
		struct map_piece p = image_map_next(m, left);

		assert_int_equal(p.range.off, left.off);
		assert_in_range(p.range.len, 1, left.len);
		for (uint64_t done = 0; done < p.range.len;) {
			uint64_t n = min_u64(p.range.len - done, sizeof(zero));

			if (!p.zero)
				assert_true(p.moff + done + n <= layers[p.layer].bytes);
			digest_add(d, p.zero ? zero : layers[p.layer].p + p.moff + done, n);
			done += n;
		}
		left.off += p.range.len;
		left.len -= p.range.len;
	}
	digest_text(d, sum);
	digest_free(d);
}

/* The manifest's second hash: per mapping its offset, its length, its bytes. */
static void hash_mappings(struct image_map *m, struct layer *layers, char sum[DIGEST_TEXT_BYTES])
{
	struct digest *d = digest_new();
	struct map_piece p;

	for (size_t n = 0; image_map_mapping(m, n, &p); n++) {
		uint8_t head[16], *zeros = xmalloc_zero(1, p.range.len);

		put_le64(head, p.range.off);
		put_le64(head + 8, p.range.len);
		digest_add(d, head, sizeof(head));
		digest_add(d, p.zero ? zeros : layers[p.layer].p + p.moff, p.range.len);
		free(zeros);
	}
	digest_text(d, sum);
	digest_free(d);
}

static bool is_native(const struct image_config *c)
{
	for (size_t n = 0; n < c->lower_count; n++)
		if (!c->lowers[n].file || c->lowers[n].target_file)
			return false;
	return !c->upper_data;
}

/* Whether the file of a lower is there; one golden case is about one that is not. */
static bool lower_exists(const struct image_config_lower *l)
{
	_cleanup_free_ char *path = text_printf("%s/%s", HS_GOLDEN_DIR, l->file);

	return access(path, R_OK) == 0;
}

static void check_config(const struct golden_row *row, const struct image_config *c)
{
	struct lsmt_index *indexes = xmalloc_zero(c->lower_count, sizeof(*indexes));
	struct layer *layers = xmalloc_zero(c->lower_count, sizeof(*layers));
	bool ok = true;

	for (size_t n = 0; n < c->lower_count; n++) {
		ok = ok && lower_exists(&c->lowers[n]) &&
		     layer_load(c->lowers[n].file, LSMT_NORMAL, &layers[n]) == 0;
		indexes[n] = layers[n].index;
	}
	if (ok != (strcmp(row->expected, "ok") == 0))
		fail_msg("%s: %s", row->name, ok ? "opened" : "refused");
	if (ok) {
		uint64_t device = 0, mappings, data, zeroed;
		char sum[DIGEST_TEXT_BYTES];
		struct image_map *m;

		for (size_t n = 0; n < c->lower_count; n++)
			if (layers[n].trailer.virtual_bytes > 0)
				device = layers[n].trailer.virtual_bytes;
		assert_int_equal(device, strtoull(row->size, NULL, 10));
		assert_int_equal(image_map_build(indexes, c->lower_count, device, &m, NULL), 0);
		hash_image(m, layers, sum);
		assert_string_equal(sum + 7, row->image_sha256);
		hash_mappings(m, layers, sum);
		assert_string_equal(sum + 7, row->mapped_sha256);
		image_map_totals(m, &mappings, &data, &zeroed);
		assert_int_equal(mappings, strtoull(row->mappings, NULL, 10));
		image_map_free(m);
	}
	for (size_t n = 0; n < c->lower_count; n++)
		layer_drop(&layers[n]);
	free(layers);
	free(indexes);
}

static void test_native_configs(void **state)
{
	int seen = 0;

	(void)state;
	for (const struct golden_row *row = golden_manifest(); row->name; row++) {
		_cleanup_free_ char *name = text_printf("cfg/%s.config.v1.json", row->name);
		struct image_config *c;
		struct err e = {0};
		uint8_t *json;
		size_t bytes;

		if (strcmp(row->kind, "config") != 0)
			continue;
		json = golden_read(name, &bytes);
		if (image_config_parse((char *)json, bytes, &c, &e) < 0)
			fail_msg("%s: %s", row->name, e.msg);
		if (is_native(c)) {
			check_config(row, c);
			seen++;
		}
		image_config_free(c);
		free(json);
	}
	assert_in_range(seen, 60, 90);
}

/* Replaying rw.ops over zeros must give what the replayed index gives. */
static void test_rw_replay(void **state)
{
	size_t index_bytes, data_bytes, ops_bytes;
	uint8_t *index = golden_read("rw/rw.index", &index_bytes);
	uint8_t *data = golden_read("rw/rw.data", &data_bytes);
	char *ops = (char *)golden_read("rw/rw.ops", &ops_bytes), *at = ops, *line;
	struct lsmt_header h;
	struct lsmt_index i;
	uint8_t *want, *got;
	uint64_t device;

	(void)state;
	assert_int_equal(lsmt_parse_rw_index_header(index, &h, NULL), 0);
	assert_int_equal(lsmt_parse_header(data, &h, NULL), 0);
	device = h.virtual_bytes;
	assert_int_equal(device, 64 << 20);
	assert_int_equal(lsmt_index_replay(index + 4096, index_bytes - 4096, data_bytes, &i, NULL),
			 0);
	want = xmalloc_zero(1, device);
	got = xmalloc_zero(1, device);
	while ((line = strsep(&at, "\n")) && *line) {
		unsigned long off, len, byte = 0;

		assert_true(sscanf(line, "%*c %lu %lu %lx", &off, &len, &byte) >= 2);
		memset(want + off, (int)byte, len);
	}
	for (size_t n = 0; n < i.count; n++) {
		const struct lsmt_segment *s = &i.seg[n];

		assert_true(n == 0 || s[-1].off + s[-1].len <= s->off);
		assert_int_equal(s->tag, 0);
		if (!s->zeroed)
			memcpy(got + s->off, data + s->moff, s->len);
	}
	assert_memory_equal(want, got, device);
	free(want);
	free(got);
	lsmt_index_done(&i);
	free(index);
	free(data);
	free(ops);
}

/* Our writer over a real index gives the real records again. */
static void test_reencode(void **state)
{
	static const char *const names[] = {"native/L1.lsmt", "native/L2.lsmt", "rw/rw.lsmt",
					    "comp/LC.lsmt"};

	(void)state;
	for (int n = 0; n < 4; n++) {
		uint8_t *records, head[4096];
		struct layer l;
		uint64_t count;

		assert_int_equal(layer_load(names[n], LSMT_NORMAL, &l), 0);
		assert_int_equal(lsmt_index_encode(l.index.seg, l.index.count,
						   l.trailer.index_offset, &records, &count, NULL),
				 0);
		assert_int_equal(count, l.trailer.index_count);
		/* zeroed records need any moffset up to the end of the data; upstream's varies */
		for (uint64_t k = 0; k < count * 16; k += 16) {
			const uint8_t *theirs = l.p + l.trailer.index_offset + k;

			assert_int_equal(get_le64(records + k), get_le64(theirs));
			if (get_le64(theirs + 8) >> 55 & 1)
				assert_int_equal(get_le64(records + k + 8) >> 55, 1);
			else
				assert_int_equal(get_le64(records + k + 8), get_le64(theirs + 8));
		}
		lsmt_encode_header(&l.header, head);
		assert_memory_equal(head, l.p, 4096);
		lsmt_encode_header(&l.trailer, head);
		assert_memory_equal(head, l.p + l.bytes - 4096, 4096);
		free(records);
		layer_drop(&l);
	}
}

/* Upstream's blob is what our writers make of its parts, byte for byte. */
static void test_rewrite_blob(void **state)
{
	uint8_t head[TAR_ENVELOPE_HEAD_BYTES], first[512], table[4096];
	size_t bytes;
	uint8_t *blob = golden_read("edge/base.lz4-4k.tar", &bytes);
	struct zfile_table *t;
	struct zfile_info i;
	struct range r;
	uint8_t *z;

	(void)state;
	assert_int_equal(tar_envelope_parse(blob, 1536, bytes, &r, NULL), 1);
	tar_envelope_head(r.len, head);
	assert_memory_equal(head, blob, sizeof(head));
	assert_int_equal(r.off + r.len + tar_envelope_tail_bytes(r.len), bytes);
	z = blob + r.off;
	assert_int_equal(zfile_parse_header(z, r.len, &i, NULL), 0);
	assert_true(i.final);
	zfile_encode_head(&i, ZFILE_HEAD_FINAL, first);
	assert_memory_equal(first, z, 512);
	zfile_encode_head(&i, ZFILE_TRAILER, first);
	assert_memory_equal(first, z + r.len - 512, 512);
	assert_int_equal(zfile_table_new(&i, z + i.index_offset, &t, NULL), 0);
	assert_true(i.block_count * 4 <= sizeof(table));
	for (uint64_t n = 0; n < i.block_count; n++)
		put_le32(table + 4 * n, (uint32_t)zfile_blocks(t, n, 1).len);
	assert_int_equal(zfile_table_crc(0, table, i.block_count * 4), i.index_crc);
	zfile_table_free(t);
	free(blob);

	blob = golden_read("edge/base.trailer-only.zstd-16k.zfile", &bytes);
	assert_int_equal(zfile_parse_trailer(blob + bytes - 512, bytes, &i, NULL), 0);
	zfile_encode_head(&i, ZFILE_HEAD_FIRST, first);
	assert_memory_equal(first, blob, 512);
	free(blob);
}

/* Every byte of the original layers through their stored checkpoints, and the warp records. */
static void check_turbo(const char *meta, const char *target, const char *plain_name, bool packed)
{
	_cleanup_free_ char *index_name = text_printf("turbo/%s.gzip.meta", meta);
	_cleanup_free_ char *fs =
	    text_printf("turbo/%s.%.*s.fs.meta", meta, (int)strcspn(meta, "-"), meta);
	size_t index_bytes, gz_bytes, plain_bytes = 0;
	uint8_t *index, *gz, *plain, window[32768];
	struct inflate *s;
	struct gzidx *g;
	struct layer l;
	bool remote = false;

	assert_int_equal(layer_load(fs, LSMT_WARP, &l), 0);
	for (size_t n = 0; n < l.index.count; n++)
		remote |= l.index.seg[n].tag == 1;
	assert_true(remote);
	if (!packed) {
		layer_drop(&l);
		return;
	}
	index = golden_read(index_name, &index_bytes);
	gz = golden_read(target, &gz_bytes);
	plain = golden_read(plain_name, &plain_bytes);
	assert_int_equal(gzidx_parse(index, index_bytes, gz_bytes, &g, NULL), 0);
	assert_int_equal(g->plain_bytes, plain_bytes);
	s = inflate_new();
	for (size_t n = 0; n < g->count; n++) {
		struct range p = gzidx_span_plain(g, n), c = gzidx_span_stored(g, n);
		bool prime = g->point[n].bits > 0;
		long w = gzidx_window(g, n, window, sizeof(window));
		uint8_t *out = xmalloc_zero(1, p.len + 1);

		assert_true(w >= 0);
		assert_int_equal(inflate_span(s, g->point[n].bits, gz[c.off], window, (size_t)w,
					      gz + c.off + prime, c.len - prime, out, p.len),
				 0);
		assert_memory_equal(out, plain + p.off, p.len);
		free(out);
	}
	inflate_free(s);
	gzidx_free(g);
	free(plain);
	free(gz);
	free(index);
	layer_drop(&l);
}

static void test_turbo(void **state)
{
	(void)state;
	check_turbo("ext4-gz.L1", "src/L1.tar.gz", "src/L1.tar", true);
	check_turbo("ext4-gz.L2", "src/L2.tar.gz", "src/L2.tar", true);
	check_turbo("ext4-gz.L3", "src/L3.tar.gz", "src/L3.tar", true);
	check_turbo("erofs-gz.L1", "src/L1.tar.gz", "src/L1.tar", true);
	check_turbo("erofs-gz.L3", "src/L3e.tar.gz", "src/L3e.tar", true);
	check_turbo("ext4-tar.L1", NULL, NULL, false);
	check_turbo("erofs-tar.L2", NULL, NULL, false);
}

static void test_turbo_broken(void **state)
{
	static const char *const names[] = {"edge/gzip-meta-crc-bad.gzip.meta",
					    "edge/gzip-meta-target-size.gzip.meta",
					    "edge/gzip-meta-truncated.gzip.meta"};
	size_t bytes, gz_bytes;
	uint8_t *gz = golden_read("src/L3.tar.gz", &gz_bytes);

	(void)state;
	free(gz);
	for (int n = 0; n < 3; n++) {
		uint8_t *index = golden_read(names[n], &bytes);
		struct err e = {0};
		struct gzidx *g;

		assert_int_equal(gzidx_parse(index, bytes, gz_bytes, &g, &e), -EBADMSG);
		assert_true(e.msg[0] != '\0');
		free(index);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_zfiles),	 cmocka_unit_test(test_traces),
	    cmocka_unit_test(test_trace_text),	 cmocka_unit_test(test_native_configs),
	    cmocka_unit_test(test_rw_replay),	 cmocka_unit_test(test_reencode),
	    cmocka_unit_test(test_rewrite_blob), cmocka_unit_test(test_turbo),
	    cmocka_unit_test(test_turbo_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
