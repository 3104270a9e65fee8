/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden traces and prefetch lists, written by a script from trace/FORMAT.md and not by our
 * encoder: good ones are read as they were meant and encoded again to the same bytes; damaged,
 * cut and newer ones fail, or end early, as the page says.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "prefetch_list.h"
#include "text.h"
#include "trace.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DEV    (7u << 20 | 3)

static uint8_t *load(const char *name, size_t *ret_bytes)
{
	_cleanup_free_ char *path = text_printf("%s/tests/golden/files/%s", HS_SOURCE_DIR, name);
	struct err e = {0};
	char *p;

	assert_int_equal(text_read_file(path, 1 << 20, &p, ret_bytes, &e), 0);
	return (uint8_t *)p;
}

static int read_trace(const char *name, struct trace **ret)
{
	size_t bytes;
	_cleanup_free_ uint8_t *p = load(name, &bytes);
	struct err e = {0};
	int r = trace_parse(p, bytes, ret, &e);

	assert_true(!r == !e.msg[0]);
	return r;
}

static int read_list(const char *name, struct prefetch_list **ret)
{
	size_t bytes;
	_cleanup_free_ uint8_t *p = load(name, &bytes);
	struct err e = {0};
	int r = prefetch_list_parse(p, bytes, ret, &e);

	assert_true(!r == !e.msg[0]);
	return r;
}

static void check_event(const struct trace *t, size_t n, uint64_t at_ns, uint8_t kind,
			uint32_t object, uint32_t process, uint64_t off, uint64_t bytes)
{
	const struct trace_event *ev = &t->events[n];

	assert_int_equal(ev->at_ns, at_ns);
	assert_int_equal(ev->kind, kind);
	assert_int_equal(ev->object, object);
	assert_int_equal(ev->process, process);
	assert_int_equal(ev->off, off);
	assert_int_equal(ev->bytes, bytes);
	assert_int_equal(ev->ahead, n == 3);
}

static void check_trace(const struct trace *t)
{
	assert_string_equal(t->image, "docker://r.example/web:1");
	assert_string_equal(t->digest, DIGEST);
	assert_string_equal(t->kernel, "6.1.0-13-amd64");
	assert_string_equal(t->filter, "device 7:3");
	assert_int_equal(t->unix_ns, 1700000000123456789u);
	assert_int_equal(t->precision, TRACE_EXACT);
	assert_int_equal(t->read_ahead_bytes, 0);
	assert_int_equal(t->object_count, 3);
	assert_int_equal(t->objects[0].kind, TRACE_DEVICE);
	assert_int_equal(t->objects[1].kind, TRACE_FILE);
	assert_int_equal(t->objects[1].dev, DEV);
	assert_int_equal(t->objects[1].ino, 131);
	assert_int_equal(t->objects[1].bytes, 9000);
	assert_int_equal(t->process_count, 2);
	assert_int_equal(t->processes[1].pid, 41);
	assert_string_equal(t->processes[0].comm, "runc:[2:INIT]");
	assert_int_equal(t->event_count, 6);
	check_event(t, 0, 1000, TRACE_CACHED, 0, 0, 1024, 4096);
	check_event(t, 1, 1250, TRACE_READ, 1, 1, 0, 8192);
	check_event(t, 2, 1250, TRACE_FAULT, 1, 1, 8192, 808);
	check_event(t, 3, 5001250, TRACE_BLOCK, 0, 1, 67108864, 131072);
	check_event(t, 4, 5001260, TRACE_MAPPED, 0, 1, 67108864 - 65536, 65536);
	check_event(t, 5, 5001560, TRACE_READ, 2, 0, 0, 5);
}

static void test_trace(void **state)
{
	size_t bytes, again_bytes;
	_cleanup_free_ uint8_t *p = load("trace-1.bin", &bytes), *again = NULL;
	struct err e = {0};
	struct trace *t;

	(void)state;
	assert_int_equal(trace_parse(p, bytes, &t, &e), 0);
	check_trace(t);
	assert_string_equal(t->objects[1].path, "/usr/sbin/nginx");
	assert_null(t->objects[2].path);
	assert_int_equal(t->lost_events, 2);
	assert_int_equal(t->unattributed_events, 1);
	assert_int_equal(t->ended_ns, 9000000000u);
	assert_string_equal(t->ended_by, "idle");
	assert_false(t->truncated);
	assert_int_equal(trace_encode(t, &again, &again_bytes, &e), 0);
	assert_int_equal(again_bytes, bytes);
	assert_memory_equal(again, p, bytes);
	trace_free(t);
}

static void test_other_traces(void **state)
{
	struct trace *t;

	(void)state;
	/* the end block is gone, what was before it is there */
	assert_int_equal(read_trace("trace-1-cut.bin", &t), 0);
	check_trace(t);
	assert_string_equal(t->objects[1].path, "/usr/sbin/nginx");
	assert_true(t->truncated);
	assert_int_equal(t->lost_events, 0);
	assert_string_equal(t->ended_by, "");
	trace_free(t);
	/* a bit of the events block is wrong: the trace ends before it */
	assert_int_equal(read_trace("trace-1-damaged.bin", &t), 0);
	assert_true(t->truncated);
	assert_int_equal(t->event_count, 0);
	assert_int_equal(t->process_count, 2);
	trace_free(t);
	/* a block type that is not known is skipped */
	assert_int_equal(read_trace("trace-1-more.bin", &t), 0);
	check_trace(t);
	assert_false(t->truncated);
	trace_free(t);
	assert_int_equal(read_trace("trace-1-bad-object.bin", &t), -EBADMSG);
	assert_int_equal(read_trace("trace-2-newer.bin", &t), -EOPNOTSUPP);
	assert_int_equal(read_trace("list-1.bin", &t), -ENOENT);
}

static void check_range(const struct prefetch_list *l, size_t n, uint32_t blob, uint32_t at_ms,
			uint64_t off, uint64_t bytes)
{
	assert_int_equal(l->ranges[n].blob, blob);
	assert_int_equal(l->ranges[n].at_ms, at_ms);
	assert_int_equal(l->ranges[n].off, off);
	assert_int_equal(l->ranges[n].bytes, bytes);
}

static void check_touch(const struct prefetch_list *l, size_t n, uint32_t file, uint32_t at_ms,
			uint64_t off, uint64_t bytes)
{
	assert_int_equal(l->touches[n].file, file);
	assert_int_equal(l->touches[n].at_ms, at_ms);
	assert_int_equal(l->touches[n].off, off);
	assert_int_equal(l->touches[n].bytes, bytes);
}

static void check_list(const struct prefetch_list *l, unsigned int halves)
{
	assert_int_equal(l->origin, PREFETCH_RECORDED);
	assert_string_equal(l->image_digest, DIGEST);
	assert_string_equal(l->image, "docker://r.example/web:1");
	assert_int_equal(l->created_s, 1700000000);
	assert_int_equal(l->runs, 3);
	assert_int_equal(l->range_count, halves & PREFETCH_RANGES ? 4 : 0);
	assert_int_equal(l->touch_count, halves & PREFETCH_FILES ? 4 : 0);
	if (halves & PREFETCH_RANGES) {
		assert_int_equal(l->blob_count, 3);
		assert_string_equal(l->blobs[0].digest, "sha256:000102030405060708090a0b0c0d0e0f"
							"101112131415161718191a1b1c1d1e1f");
		assert_int_equal(l->blobs[1].bytes, 70000);
		assert_string_equal(l->blobs[2].digest, "");
		check_range(l, 0, 0, 0, 500000, 40000);
		check_range(l, 1, 1, 3, 0, 70000);
		check_range(l, 2, 0, 3, 0, 12345);
		check_range(l, 3, 0, 23, 13345, 1);
		assert_int_equal(prefetch_list_bytes(l), 40000 + 70000 + 12345 + 1);
	}
	if (halves & PREFETCH_FILES) {
		assert_int_equal(l->file_count, 3);
		assert_string_equal(l->files[1].path, "/etc/nginx/mime.types");
		assert_string_equal(l->files[2].path, "/usr/sbin/nginx");
		assert_int_equal(l->files[2].bytes, 1234567);
		check_touch(l, 0, PREFETCH_NO_FILE, 0, 1024, 4096);
		check_touch(l, 1, 2, 1, 0, 4096);
		check_touch(l, 2, 2, 1, 12288, 4096);
		check_touch(l, 3, 0, 1, 0, 643);
	}
}

static void check_halves(const char *name, unsigned int halves)
{
	size_t bytes, again_bytes;
	_cleanup_free_ uint8_t *p = load(name, &bytes), *again = NULL;
	struct prefetch_list *l;
	struct err e = {0};

	assert_int_equal(prefetch_list_parse(p, bytes, &l, &e), 0);
	check_list(l, halves);
	assert_int_equal(prefetch_list_encode(l, halves, &again, &again_bytes, &e), 0);
	assert_int_equal(again_bytes, bytes);
	assert_memory_equal(again, p, bytes);
	prefetch_list_free(l);
}

static void test_lists(void **state)
{
	(void)state;
	check_halves("list-1.bin", PREFETCH_RANGES | PREFETCH_FILES);
	check_halves("list-1-ranges.bin", PREFETCH_RANGES);
	check_halves("list-1-files.bin", PREFETCH_FILES);
}

static void test_other_lists(void **state)
{
	static const char *const refused[] = {"list-1-cut.bin", "list-1-damaged.bin",
					      "list-1-longer.bin", "list-1-outside.bin",
					      "list-1-twice.bin"};
	struct prefetch_list *l;

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_int_equal(read_list(refused[i], &l), -EBADMSG);
	assert_int_equal(read_list("list-2-newer.bin", &l), -EOPNOTSUPP);
	assert_int_equal(read_list("trace-1.bin", &l), -ENOENT);
	assert_int_equal(read_list("list-1-more.bin", &l), 0);
	check_list(l, PREFETCH_RANGES | PREFETCH_FILES);
	prefetch_list_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_trace),
	    cmocka_unit_test(test_other_traces),
	    cmocka_unit_test(test_lists),
	    cmocka_unit_test(test_other_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
