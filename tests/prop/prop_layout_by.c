/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of layers that are laid out for a start, over random images and random lists: the
 * device is the same byte for byte, what the list names lies at the end of its layer in the list's
 * order, the result does not depend on threads or on what is reused.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "convert.h"
#include "digest.h"
#include "err.h"
#include "headstart.h"
#include "hot_order.h"
#include "imagefs.h"
#include "imageref.h"
#include "layout_note.h"
#include "log.h"
#include "oci.h"
#include "prefetch_list.h"
#include "progress.h"
#include "store.h"
#include "tar_make.h"
#include "test_random.h"
#include "text.h"

#define ROUNDS	     4
#define LAYERS	     3
#define FILES	     40
#define TOUCHES	     120
#define DEVICE_BYTES (64ull << 20)
#define BLOCK	     4096u

static struct test_random rnd;
static char dir[] = "/tmp/hs-layout-by-XXXXXX";
static char e2fsck[] = "/sbin/e2fsck";

/* --- a source image ----------------------------------------------------------------------------
 */

static void file_name(unsigned int n, char out[static 64])
{
	/* "d1" is a link to "d0": the path of the list is the one behind it */
	snprintf(out, 64, "d%u/file-%02u", n % 4, n);
}

static void add_file(struct tar_make *t, unsigned int n)
{
	size_t len = (size_t)test_random_below(&rnd, test_random_below(&rnd, 4) ? 40000 : 400000);
	uint8_t *p = malloc(len + 1);
	char name[64];

	test_random_fill(&rnd, p, len);
	if (len > 30000 && test_random_below(&rnd, 2))
		memset(p + 8000, 0, 14000); /* holes */
	file_name(n, name);
	tar_make_add(t, '0', name, "", p, len, len);
	free(p);
}

static void make_layer(struct tar_make *t, unsigned int layer)
{
	tar_make_init(t);
	if (!layer) {
		tar_make_dir(t, "d0");
		tar_make_link(t, '2', "d1", "d0");
		tar_make_dir(t, "d2");
	}
	for (unsigned int n = 0; n < FILES; n++)
		if (test_random_below(&rnd, layer ? 4 : 2) == 0)
			add_file(t, n);
	if (layer == 1)
		tar_make_file(t, "d2/.wh.file-02", "");
	tar_make_file(t, "last", "it");
	tar_make_end(t);
}

static int give(void *arg, uint64_t off, void *buf, size_t len)
{
	memcpy(buf, (const uint8_t *)arg + off, len);
	return 0;
}

static void put(struct store *s, const void *p, size_t len, char digest[static 72])
{
	struct err e = {0};

	digest_of(p, len, digest);
	if (store_put_blob(s, digest, len, give, (void *)p, &e))
		fail_msg("%s", e.msg);
}

static void parse_name(const char *sub, struct imageref *ret)
{
	char text[128];

	snprintf(text, sizeof(text), "oci:%s/%s:1", dir, sub);
	assert_int_equal(imageref_parse(text, ret, NULL), 0);
}

static void make_source(const char *sub)
{
	char digests[LAYERS][72], config_digest[72], *config, *manifest, *ids = text_dup("");
	char *layers = text_dup("");
	struct imageref r;
	struct store *s;
	struct err e = {0};

	parse_name(sub, &r);
	if (store_open(NULL, &r, true, &s, &e))
		fail_msg("%s", e.msg);
	imageref_done(&r);
	for (unsigned int n = 0; n < LAYERS; n++) {
		struct tar_make t;
		char *more;

		make_layer(&t, n);
		put(s, t.p, t.bytes, digests[n]);
		more = text_printf("%s%s\"%s\"", ids, n ? "," : "", digests[n]);
		free(ids);
		ids = more;
		more = text_printf("%s%s{\"mediaType\":\"" OCI_TYPE_LAYER
				   "\",\"digest\":\"%s\",\"size\":%zu}",
				   layers, n ? "," : "", digests[n], t.bytes);
		free(layers);
		layers = more;
		tar_make_done(&t);
	}
	config =
	    text_printf("{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{},\"rootfs\":"
			"{\"type\":\"layers\",\"diff_ids\":[%s]}}",
			ids);
	put(s, config, strlen(config), config_digest);
	manifest = text_printf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST
			       "\",\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG
			       "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[%s]}",
			       config_digest, strlen(config), layers);
	if (store_put_manifest(s, OCI_TYPE_MANIFEST, manifest, strlen(manifest), "1", &e))
		fail_msg("%s", e.msg);
	store_close(s);
	free(ids);
	free(layers);
	free(config);
	free(manifest);
}

/* --- a list ------------------------------------------------------------------------------------
 */

static struct prefetch_list *make_list(void)
{
	struct prefetch_list *l = xmalloc_zero(1, sizeof(*l));

	l->origin = PREFETCH_RECORDED;
	l->file_count = FILES / 2 + 1;
	l->files = xmalloc_zero(l->file_count, sizeof(*l->files));
	for (unsigned int n = 0; n < FILES / 2; n++) {
		char name[64];

		file_name(n * 2, name);
		if (name[1] == '1')
			name[1] = '0';
		l->files[n].path = text_printf("/%s", name);
		l->files[n].bytes = 400000;
	}
	l->files[FILES / 2].path = text_dup("/no/such/file");
	l->touches = xmalloc_zero(TOUCHES, sizeof(*l->touches));
	for (size_t n = 0; n < TOUCHES; n++) {
		struct prefetch_touch *t = &l->touches[n];

		t->file = (uint32_t)test_random_below(&rnd, l->file_count + 1);
		if (t->file == l->file_count)
			t->file = PREFETCH_NO_FILE;
		t->off = test_random_below(&rnd, 60000);
		t->bytes = 1 + test_random_below(&rnd, 30000);
		if (n % 40 == 0)
			t->bytes = 1ull << 40;
	}
	l->touch_count = TOUCHES;
	return l;
}

/* --- conversions -------------------------------------------------------------------------------
 */

struct made {
	struct convert_result result;
	char ref[160];
};

static void convert(const char *from, const char *to, const struct hot_order *order, bool reuse,
		    unsigned int threads, struct made *ret)
{
	struct imageref source, target;
	struct convert_options o = {
	    .source = &source,
	    .target = &target,
	    .format = {.codec = CODEC_ZSTD, .level = 1, .block_bytes = 16384},
	    .device_bytes = DEVICE_BYTES,
	    .max_bytes = DEVICE_BYTES,
	    .oci = true,
	    .reuse = reuse,
	    .upload = true,
	    .order = order,
	    .threads = threads,
	    .memory_bytes = 1u << 20,
	    .progress = progress_new(true),
	};
	struct err e = {0};

	parse_name(from, &source);
	parse_name(to, &target);
	if (convert_run(&o, &ret->result, &e))
		fail_msg("%s", e.msg);
	snprintf(ret->ref, sizeof(ret->ref), "oci:%s/%s@%s", dir, to, ret->result.digest);
	progress_free(o.progress);
	imageref_done(&source);
	imageref_done(&target);
}

static struct hs_image *open_image(struct hs_engine *eng, const struct made *m)
{
	struct hs_image *img;
	struct err e = {0};

	if (hs_image_open(eng, m->ref, &img, &e))
		fail_msg("%s", e.msg);
	return img;
}

static void same_device(struct hs_image *a, struct hs_image *b, const char *dump)
{
	uint64_t off = 0, len, totals[2][3];
	uint8_t *p = malloc(1u << 20), *q = malloc(1u << 20);
	FILE *f = fopen(dump, "w");

	assert_non_null(f);
	hs_image_map_totals(a, &totals[0][0], &totals[0][1], &totals[0][2]);
	hs_image_map_totals(b, &totals[1][0], &totals[1][1], &totals[1][2]);
	assert_int_equal(totals[0][1], totals[1][1]);
	assert_int_equal(totals[0][2], totals[1][2]);
	while (hs_image_next_data(a, off, &off, &len)) {
		uint64_t there, n = len < 1u << 20 ? len : 1u << 20;

		assert_true(hs_image_next_data(b, off, &there, &len));
		assert_int_equal(there, off);
		assert_int_equal(hs_image_read(a, p, n, off, NULL), 0);
		assert_int_equal(hs_image_read(b, q, n, off, NULL), 0);
		assert_memory_equal(p, q, n);
		assert_int_equal(fseek(f, (long)off, SEEK_SET), 0);
		assert_int_equal(fwrite(q, 1, n, f), n);
		off += n;
	}
	assert_int_equal(ftruncate(fileno(f), (off_t)DEVICE_BYTES), 0);
	assert_int_equal(fclose(f), 0);
	free(p);
	free(q);
}

static void check_clean(const char *dump)
{
	char *command = text_printf("%s -fn %s >/dev/null 2>&1", e2fsck, dump);

	if (access(e2fsck, X_OK) == 0)
		assert_int_equal(system(command), 0);
	free(command);
}

/* --- where things lie --------------------------------------------------------------------------
 */

struct place {
	uint32_t blob;
	uint64_t off, bytes;
};

static int one_place(void *arg, const struct hs_stored *s)
{
	struct place *p = arg;

	*p = (struct place){s->blob, s->off, s->bytes};
	return 0;
}

struct extent_out {
	uint64_t dev[512];
	uint32_t lblk[512];
	size_t count;
};

static int one_extent(void *arg, uint64_t file_off, uint64_t dev_off, uint64_t bytes)
{
	struct extent_out *x = arg;

	for (uint64_t at = 0; at < bytes; at += BLOCK) {
		assert_true(x->count < 512);
		x->lblk[x->count] = (uint32_t)((file_off + at) / BLOCK);
		x->dev[x->count++] = dev_off + at;
	}
	return 0;
}

static void start_offsets(const struct made *m, const char *sub, uint64_t start[LAYERS])
{
	struct store_manifest sm;
	struct oci_manifest *om;
	struct imageref r;
	struct store *s;

	parse_name(sub, &r);
	assert_int_equal(store_open(NULL, &r, false, &s, NULL), 0);
	imageref_done(&r);
	assert_int_equal(store_get_manifest(s, m->result.digest, &sm, NULL), 0);
	assert_int_equal(oci_manifest_parse(sm.bytes, sm.len, &om, NULL), 0);
	assert_non_null(om->config.data);
	for (size_t n = 0; n < LAYERS; n++) {
		const char *text = oci_annotation(&om->layers[n], LAYOUT_NOTE_ANNOTATION);
		struct layout_note note;

		assert_non_null(text);
		assert_int_equal(layout_note_parse(text, om->layers[n].size, &note), 0);
		start[n] = om->layers[n].size - note.start_bytes;
		assert_true(note.start_bytes >= note.metadata_bytes);
	}
	oci_manifest_free(om);
	store_manifest_done(&sm);
	store_close(s);
}

static size_t hot_seen; /* blocks, over all rounds */

static void check_places(struct hs_image *img, const struct hot_order *order,
			 const uint64_t start[LAYERS])
{
	static struct {
		bool known;
		struct place p;
	} by_rank[1u << 16];
	struct imagefs *fs;
	struct err e = {0};
	uint64_t last[LAYERS] = {0};
	size_t hot = 0;

	memset(by_rank, 0, sizeof(by_rank));
	if (imagefs_open_image(img, &fs, &e))
		fail_msg("%s", e.msg);
	for (unsigned int n = 0; n < FILES; n++) {
		struct imagefs_node node;
		struct extent_out x = {0};
		const struct hot_file *f;
		char name[64], *real = NULL, *path;

		file_name(n, name);
		path = text_printf("/%s", name);
		if (imagefs_lookup(fs, path, true, &node, &real, &e) == 0) {
			f = hot_order_find(order, real + 1);
			assert_int_equal(
			    imagefs_extents(fs, node.ino, 0, node.bytes, one_extent, &x, &e), 0);
			for (size_t i = 0; i < x.count; i++) {
				uint32_t rank = HOT_ORDER_COLD;
				struct place p = {0};

				assert_int_equal(
				    hs_image_stored(img, x.dev[i], BLOCK, one_place, &p), 0);
				assert_true(p.bytes > 0);
				if (f)
					(void)hot_order_run(order, f, x.lblk[i], 1, &rank);
				if (rank == HOT_ORDER_COLD) {
					/* one stored block may hold the last of these */
					assert_true(p.off <= start[p.blob]);
					continue;
				}
				assert_true(p.off >= start[p.blob]);
				by_rank[rank].known = true;
				by_rank[rank].p = p;
				hot++;
			}
		}
		free(real);
		free(path);
	}
	for (size_t n = 0; n < sizeof(by_rank) / sizeof(by_rank[0]); n++) {
		if (!by_rank[n].known)
			continue;
		assert_true(by_rank[n].p.off >= last[by_rank[n].p.blob]);
		last[by_rank[n].p.blob] = by_rank[n].p.off;
	}
	hot_seen += hot;
	imagefs_close(fs);
}

static void one_round(struct hs_engine *eng, unsigned int round)
{
	struct prefetch_list *list = make_list();
	struct hot_order *order = hot_order_new(list), *again = hot_order_new(list);
	char source[16], plain[16], ordered[16], other[16], dump[64];
	struct made p, o, x;
	struct hs_image *a, *b;
	uint64_t start[LAYERS];

	snprintf(source, sizeof(source), "s%u", round);
	snprintf(plain, sizeof(plain), "p%u", round);
	snprintf(ordered, sizeof(ordered), "o%u", round);
	snprintf(other, sizeof(other), "x%u", round);
	snprintf(dump, sizeof(dump), "%s/dump", dir);
	make_source(source);
	convert(source, plain, NULL, true, 2, &p);
	convert(source, ordered, order, true, 2, &o);
	a = open_image(eng, &p);
	b = open_image(eng, &o);
	same_device(a, b, dump);
	check_clean(dump);
	start_offsets(&o, ordered, start);
	check_places(b, order, start);
	hs_image_close(a);
	hs_image_close(b);

	/* on other threads; over what was converted plainly, of which nothing can be reused */
	assert_string_equal(hot_order_id(order), hot_order_id(again));
	convert(source, other, again, false, 1, &x);
	assert_string_equal(x.result.digest, o.result.digest);
	convert_result_done(&x.result);
	convert(source, plain, again, true, 1, &x);
	assert_string_equal(x.result.digest, o.result.digest);
	for (size_t n = 0; n < LAYERS; n++)
		assert_false(x.result.images[0].layers[n].reused);
	convert_result_done(&x.result);
	/* the same once more: all of it is */
	convert(source, ordered, order, true, 1, &x);
	assert_string_equal(x.result.digest, o.result.digest);
	for (size_t n = 0; n < LAYERS; n++)
		assert_true(x.result.images[0].layers[n].reused);
	convert_result_done(&x.result);
	/* and without an order it is the plain image again */
	convert(source, ordered, NULL, true, 1, &x);
	assert_string_equal(x.result.digest, p.result.digest);
	convert_result_done(&x.result);
	convert_result_done(&p.result);
	convert_result_done(&o.result);
	hot_order_free(order);
	hot_order_free(again);
	prefetch_list_free(list);
}

static void test_layout_by(void **state)
{
	struct hs_options o = {.hosts_dir = "/nonexistent"};
	struct hs_engine *eng;
	struct err e = {0};

	(void)state;
	if (hs_engine_new(&o, &eng, &e))
		fail_msg("%s", e.msg);
	for (unsigned int n = 0; n < ROUNDS; n++)
		one_round(eng, n);
	hs_engine_free(eng);
	assert_true(hot_seen > 20 * ROUNDS); /* that there was something to look at */
}

/* A list that claims all there could be, over and over, is cut short; what came first counts. */
static void test_endless(void **state)
{
	struct prefetch_touch *touches = xmalloc_zero(4098, sizeof(*touches));
	struct prefetch_list list = {.touches = touches, .touch_count = 4098};
	const struct hot_file *f;
	struct hot_order *order;
	uint32_t rank;

	(void)state;
	touches[0] = (struct prefetch_touch){PREFETCH_NO_FILE, 0, 7 * BLOCK, 1};
	for (size_t n = 1; n < 4097; n++)
		touches[n] = (struct prefetch_touch){PREFETCH_NO_FILE, 0, n * 2 * BLOCK,
						     (HOT_ORDER_MAX_BLOCKS / 2) * (uint64_t)BLOCK};
	touches[4097] = (struct prefetch_touch){PREFETCH_NO_FILE, 0, 0, UINT64_C(1) << 63};
	order = hot_order_new(&list);
	f = hot_order_find(order, HOT_ORDER_DEVICE);
	assert_non_null(f);
	assert_int_equal(hot_order_run(order, f, 7, 1, &rank), 1);
	assert_int_equal(rank, 0);
	hot_order_free(order);
	/* one that claims it once is ordered up to the limit */
	touches[1] = touches[4097];
	list.touch_count = 2;
	order = hot_order_new(&list);
	f = hot_order_find(order, HOT_ORDER_DEVICE);
	assert_non_null(f);
	assert_int_equal(hot_order_run(order, f, 8, UINT32_MAX, &rank), HOT_ORDER_MAX_BLOCKS - 8);
	assert_int_equal(rank, 8);
	hot_order_free(order);
	free(touches);
}

/* A layer in which there is nothing to order is reused by the next conversion with that order. */
static void test_nothing_to_order(void **state)
{
	struct prefetch_list list = {0};
	struct prefetch_file file = {.path = (char *)"/last"};
	struct prefetch_touch touch = {.bytes = 1};
	struct hot_order *order, *none;
	struct made p, o, x;

	(void)state;
	none = hot_order_new(&list); /* no files at all */
	list.files = &file;
	list.file_count = 1;
	list.touches = &touch;
	list.touch_count = 1;
	order = hot_order_new(&list);
	assert_string_not_equal(hot_order_id(none), hot_order_id(order));
	make_source("n");
	convert("n", "np", NULL, true, 2, &p);
	convert("n", "no", none, true, 2, &o);
	for (size_t n = 0; n < LAYERS; n++) {
		assert_false(o.result.images[0].layers[n].ordered);
		assert_string_equal(o.result.images[0].layers[n].digest,
				    p.result.images[0].layers[n].digest);
	}
	convert("n", "no", none, true, 2, &x);
	for (size_t n = 0; n < LAYERS; n++)
		assert_true(x.result.images[0].layers[n].reused);
	assert_string_equal(x.result.digest, o.result.digest);
	convert_result_done(&x.result);
	/* another order may find something in them: it does, "last" is in every layer */
	convert("n", "no", order, true, 2, &x);
	for (size_t n = 0; n < LAYERS; n++) {
		assert_false(x.result.images[0].layers[n].reused);
		assert_true(x.result.images[0].layers[n].ordered);
		assert_int_equal(x.result.images[0].layers[n].hot_bytes, BLOCK);
	}
	convert_result_done(&x.result);
	convert_result_done(&p.result);
	convert_result_done(&o.result);
	hot_order_free(order);
	hot_order_free(none);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_layout_by),
	    cmocka_unit_test(test_nothing_to_order),
	    cmocka_unit_test(test_endless),
	};
	int rc;

	log_open(LOG_LEVEL_ERROR, 2);
	rnd = test_random_start("prop_layout_by");
	if (!mkdtemp(dir))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	(void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS); /* the next run has its own */
	return rc;
}
