/* SPDX-License-Identifier: Apache-2.0 */
/* Traces as files: what is written is read back, and what was cut off is good up to there. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockfile.h"
#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "test_random.h"
#include "text.h"
#include "trace.h"
#include "trace_blocks.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct trace head = {
    .image = (char *)"docker://r/web:1",
    .digest = DIGEST,
    .kernel = (char *)"6.1.0",
    .filter = (char *)"device 7:3",
    .unix_ns = 1700000000123456789u,
    .precision = TRACE_EXACT,
    .read_ahead_bytes = UINT64_MAX,
};

static char *temporary(void)
{
	char *path = text_dup("/tmp/headstart-trace-XXXXXX");
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	return path;
}

static struct trace_event event(uint64_t at_ns, uint32_t object, uint32_t process, uint64_t off,
				uint64_t bytes)
{
	return (struct trace_event){
	    .at_ns = at_ns,
	    .object = object,
	    .process = process,
	    .off = off,
	    .bytes = bytes,
	    .kind = TRACE_READ,
	};
}

/* A recording of @events events of some objects and processes; the last object has no path. */
static void record(const char *path, size_t events)
{
	struct trace_writer *w;
	struct err e = {0};

	assert_int_equal(trace_writer_open(path, &head, &w, &e), 0);
	for (size_t i = 0; i < events; i++) {
		uint32_t o =
		    trace_writer_object(w, i % 11 ? TRACE_FILE : TRACE_DEVICE, 0x700003, i % 11, 0);
		uint32_t p = trace_writer_process(w, 100 + i % 3, i % 2 ? "nginx" : "sh");
		struct trace_event ev = event(i * 1000000, o, p, i % 7 * 4096, 4096);

		ev.kind = (uint8_t)(TRACE_READ + i % 5);
		ev.ahead = i % 5 == 4;
		assert_int_equal(trace_writer_add(w, &ev, &e), 0);
	}
	assert_int_equal(trace_writer_objects(w), 11);
	assert_int_equal(trace_writer_object_at(w, 5)->ino, 5);
	for (size_t i = 1; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "/f%zu", i);
		trace_writer_path(w, i, name, 10000);
	}
	assert_int_equal(trace_writer_close(w, 3, 77, "idle", &e), 0);
}

static void test_written_is_read(void **state)
{
	char *path = temporary();
	struct trace *t, *again;
	struct err e = {0};
	uint8_t *p;
	size_t bytes;

	(void)state;
	record(path, 20000);
	assert_int_equal(trace_load(path, &t, &e), 0);
	assert_string_equal(t->image, head.image);
	assert_string_equal(t->digest, DIGEST);
	assert_string_equal(t->kernel, "6.1.0");
	assert_string_equal(t->filter, "device 7:3");
	assert_int_equal(t->unix_ns, head.unix_ns);
	assert_int_equal(t->precision, TRACE_EXACT);
	assert_true(t->read_ahead_bytes == UINT64_MAX);
	assert_int_equal(t->event_count, 20000);
	assert_int_equal(t->object_count, 11);
	assert_int_equal(t->process_count, 6);
	assert_false(t->truncated);
	assert_int_equal(t->lost_events, 3);
	assert_int_equal(t->unattributed_events, 20000 / 11);
	assert_int_equal(t->ended_ns, 77);
	assert_string_equal(t->ended_by, "idle");
	for (size_t i = 0; i < t->event_count; i++) {
		const struct trace_event *ev = &t->events[i];

		assert_int_equal(ev->at_ns, i * 1000000);
		assert_int_equal(ev->object, i % 11);
		assert_int_equal(t->processes[ev->process].pid, 100 + i % 3);
		assert_int_equal(ev->off, i % 7 * 4096);
		assert_int_equal(ev->bytes, 4096);
		assert_int_equal(ev->kind, 1 + i % 5);
		assert_int_equal(ev->ahead, i % 5 == 4);
	}
	assert_string_equal(t->objects[9].path, "/f9");
	assert_int_equal(t->objects[9].bytes, 10000);
	assert_null(t->objects[10].path);
	assert_null(t->objects[0].path);

	/* encoding it again and reading that is the same trace, and has one form */
	assert_int_equal(trace_encode(t, &p, &bytes, &e), 0);
	assert_int_equal(trace_parse(p, bytes, &again, &e), 0);
	assert_int_equal(again->event_count, t->event_count);
	assert_memory_equal(again->events, t->events, t->event_count * sizeof(*t->events));
	trace_free(again);
	free(p);
	trace_free(t);
	unlink(path);
	free(path);
}

static void test_late_event(void **state)
{
	char *path = temporary();
	struct trace_writer *w;
	struct trace *t;
	struct err e = {0};

	(void)state;
	assert_int_equal(trace_writer_open(path, &head, &w, &e), 0);
	trace_writer_object(w, TRACE_DEVICE, 1, 0, 0);
	trace_writer_process(w, 1, "a command name that is far too long");
	for (unsigned int i = 0; i < 2; i++) {
		struct trace_event ev = event(1000 - i, 0, 0, 0, 1);

		assert_int_equal(trace_writer_add(w, &ev, &e), 0);
	}
	struct trace_event bad = event(2000, 1, 0, 0, 1);
	assert_int_equal(trace_writer_add(w, &bad, &e), -EINVAL);
	bad = event(2000, 0, 0, UINT64_MAX, 2);
	assert_int_equal(trace_writer_add(w, &bad, &e), -EINVAL);
	assert_int_equal(trace_writer_close(w, 0, 0, NULL, &e), 0);
	assert_int_equal(trace_load(path, &t, &e), 0);
	assert_int_equal(t->event_count, 2);
	assert_int_equal(t->events[1].at_ns, 1000);
	assert_string_equal(t->processes[0].comm, "a command name t");
	assert_string_equal(t->ended_by, "");
	trace_free(t);
	unlink(path);
	free(path);
}

/* A second of the start that is over is in the file, whatever happens then. */
static void test_seconds_are_flushed(void **state)
{
	char *path = temporary();
	struct trace_writer *w;
	struct trace *t;
	struct err e = {0};

	(void)state;
	assert_int_equal(trace_writer_open(path, &head, &w, &e), 0);
	trace_writer_object(w, TRACE_DEVICE, 1, 0, 0);
	trace_writer_process(w, 1, "x");
	for (unsigned int i = 0; i < 25; i++) {
		struct trace_event ev = event(i * 100000000u, 0, 0, i, 1);

		assert_int_equal(trace_writer_add(w, &ev, &e), 0);
	}
	assert_int_equal(trace_load(path, &t, &e), 0);
	assert_int_equal(t->event_count, 22); /* two whole seconds and the events that ended them */
	assert_true(t->truncated);
	trace_free(t);
	assert_int_equal(trace_writer_flush(w, &e), 0);
	assert_int_equal(trace_load(path, &t, &e), 0);
	assert_int_equal(t->event_count, 25);
	trace_free(t);
	assert_int_equal(trace_writer_close(w, 0, 0, "signal", &e), 0);
	unlink(path);
	free(path);
}

/* Many lengths, and the last one is all but one byte. */
static size_t next_cut(size_t n, size_t bytes)
{
	size_t next = n + 1 + n / 97;

	return next < bytes || n == bytes - 1 ? next : bytes - 1;
}

static void test_cut_off(void **state)
{
	char *path = temporary();
	size_t bytes, last = 0;
	struct err e = {0};
	uint8_t *p;

	(void)state;
	record(path, 30000);
	assert_int_equal(blockfile_load(path, TRACE_MAX_BYTES, &p, &bytes, &e), 0);
	for (size_t n = 0; n < bytes; n = next_cut(n, bytes)) {
		struct trace *t;
		int r = trace_parse(p, n, &t, &e);

		if (n < 8)
			assert_int_equal(r, -ENOENT);
		else if (r)
			assert_int_equal(r, -EBADMSG);
		if (r) {
			assert_int_equal(last, 0); /* once the head is there, all goes */
			continue;
		}
		assert_true(t->truncated);
		assert_true(t->event_count >= last && t->event_count <= 30000);
		last = t->event_count;
		trace_free(t);
	}
	assert_int_equal(last, 30000);
	free(p);
	unlink(path);
	free(path);
}

/* A damaged byte ends the trace there and is no error; in the head it is one. */
static void test_damaged(void **state)
{
	char *path = temporary();
	size_t bytes;
	struct err e = {0};
	struct trace *t;
	uint8_t *p;

	(void)state;
	record(path, 30000);
	assert_int_equal(blockfile_load(path, TRACE_MAX_BYTES, &p, &bytes, &e), 0);
	p[bytes / 2] ^= 1;
	assert_int_equal(trace_parse(p, bytes, &t, &e), 0);
	assert_true(t->truncated && t->event_count > 0 && t->event_count < 30000);
	assert_int_equal(t->lost_events, 0);
	trace_free(t);
	p[BLOCKFILE_HEAD_BYTES + 9] ^= 1;
	assert_int_equal(trace_parse(p, bytes, &t, &e), -EBADMSG);
	p[8] ^= 1;
	assert_int_equal(trace_parse(p, bytes, &t, &e), -EBADMSG);
	p[0] ^= 1;
	assert_int_equal(trace_parse(p, bytes, &t, &e), -ENOENT);
	free(p);
	unlink(path);
	free(path);
}

/* A file made of @fill's block between the head and the end. */
static int parse_with(void (*fill)(struct blockbuf *b), struct trace **ret, struct err *e)
{
	struct blockbuf b = {0};
	struct trace_object o = {.kind = TRACE_FILE};
	struct trace_process p = {.pid = 1, .comm = "x"};
	int r;

	trace_put_head(&b, &head);
	trace_put_objects(&b, &o, 1);
	trace_put_processes(&b, &p, 1);
	fill(&b);
	trace_put_end(&b, 0, 0, 0, "idle");
	r = trace_parse(b.p, b.len, ret, e);
	blockbuf_done(&b);
	return r;
}

static void one_event(struct blockbuf *b, uint8_t bits, const uint64_t *numbers, size_t count)
{
	blockbuf_begin(b, TRACE_BLOCK_EVENTS);
	blockbuf_var(b, 1);
	blockbuf_u8(b, bits);
	for (size_t i = 0; i < count; i++)
		blockbuf_var(b, numbers[i]);
	blockbuf_end(b);
}

static void good_event(struct blockbuf *b)
{
	one_event(b, 1, (uint64_t[]){5, 8, 4}, 3);
}

static void unknown_block(struct blockbuf *b)
{
	blockbuf_begin(b, 99);
	blockbuf_text(b, "of a later headstart");
	blockbuf_end(b);
	good_event(b);
}

static void longer_block(struct blockbuf *b)
{
	blockbuf_begin(b, TRACE_BLOCK_PROCESSES);
	blockbuf_var(b, 1);
	blockbuf_var(b, 1);
	blockbuf_text(b, "y");
	blockbuf_text(b, "a member of a later headstart");
	blockbuf_end(b);
	good_event(b);
}

static void bad_kind(struct blockbuf *b)
{
	one_event(b, 6, (uint64_t[]){5, 8, 4}, 3);
}

static void bad_bits(struct blockbuf *b)
{
	one_event(b, 0x41, (uint64_t[]){5, 8, 4}, 3);
}

static void bad_object(struct blockbuf *b)
{
	one_event(b, 0x11, (uint64_t[]){5, 1, 8, 4}, 4);
}

static void bad_process(struct blockbuf *b)
{
	one_event(b, 0x21, (uint64_t[]){5, 1, 8, 4}, 4);
}

static void bad_range(struct blockbuf *b)
{
	one_event(b, 1, (uint64_t[]){5, 1, 4}, 3); /* offset -1 */
}

static void bad_order(struct blockbuf *b)
{
	one_event(b, 1, (uint64_t[]){5, 8, 4}, 3);
	one_event(b, 1, (uint64_t[]){4, 8, 4}, 3);
}

static void bad_count(struct blockbuf *b)
{
	blockbuf_begin(b, TRACE_BLOCK_EVENTS);
	blockbuf_var(b, 1u << 24);
	blockbuf_u64(b, 0);
	blockbuf_end(b);
}

static void bad_path(struct blockbuf *b)
{
	struct trace_object o = {.path = (char *)"relative"};

	trace_put_paths(b, &o, 1);
}

static void bad_paths(struct blockbuf *b)
{
	struct trace_object o = {.path = (char *)"/twice"};

	trace_put_paths(b, &o, 1);
	trace_put_paths(b, &o, 1);
}

static void bad_second_head(struct blockbuf *b)
{
	struct blockbuf h = {0};

	trace_put_head(&h, &head);
	blockbuf_put(b, h.p + BLOCKFILE_HEAD_BYTES, h.len - BLOCKFILE_HEAD_BYTES);
	blockbuf_done(&h);
}

static void test_rules(void **state)
{
	static void (*const refused[])(struct blockbuf *) = {
	    bad_kind,  bad_bits,  bad_object, bad_process, bad_range,
	    bad_order, bad_count, bad_path,   bad_paths,   bad_second_head,
	};
	static void (*const fine[])(struct blockbuf *) = {good_event, unknown_block, longer_block};
	struct trace *t;

	(void)state;
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		struct err e = {0};

		assert_int_equal(parse_with(fine[i], &t, &e), 0);
		assert_false(t->truncated);
		assert_int_equal(t->event_count, 1);
		assert_int_equal(t->events[0].off, 4);
		trace_free(t);
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct err e = {0};

		assert_int_equal(parse_with(refused[i], &t, &e), -EBADMSG);
		assert_true(e.msg[0]);
	}
}

static void test_newer_version(void **state)
{
	struct blockbuf b = {0};
	struct err e = {0};
	struct trace *t;

	(void)state;
	trace_put_head(&b, &head);
	put_le32(b.p + 8, TRACE_VERSION + 1);
	assert_int_equal(trace_parse(b.p, b.len, &t, &e), -EBADMSG); /* its checksum is wrong */
	put_le32(b.p + 12, ~crc32c_raw(~0u, b.p, 12));
	assert_int_equal(trace_parse(b.p, b.len, &t, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "version 2"));
	blockbuf_done(&b);
}

static void test_numbers(void **state)
{
	static const uint8_t not_numbers[][11] = {
	    {0x80}, {0x80, 0x00}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}};
	static const size_t lengths[] = {1, 2, 10};
	struct test_random r = test_random_start("numbers");
	struct blockbuf b = {0};

	(void)state;
	for (unsigned int i = 0; i < 10000; i++) {
		uint64_t v =
		    i < 2 ? 0 - (uint64_t)i : test_random_u64(&r) >> test_random_below(&r, 64);
		struct blockview view;

		b.len = 0;
		blockbuf_var(&b, v);
		blockbuf_zigzag(&b, v);
		blockbuf_u8(&b, 7);
		view = (struct blockview){.p = b.p, .len = b.len};
		assert_true(blockview_var(&view) == v);
		assert_true(blockview_zigzag(&view) == v);
		assert_int_equal(blockview_u8(&view), 7);
		assert_false(view.bad);
		assert_int_equal(blockview_u8(&view), 0);
		assert_true(view.bad);
	}
	for (size_t i = 0; i < 3; i++) {
		struct blockview view = {.p = not_numbers[i], .len = lengths[i]};

		blockview_var(&view);
		assert_true(view.bad);
	}
	blockbuf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_written_is_read),
	    cmocka_unit_test(test_late_event),
	    cmocka_unit_test(test_seconds_are_flushed),
	    cmocka_unit_test(test_cut_off),
	    cmocka_unit_test(test_damaged),
	    cmocka_unit_test(test_rules),
	    cmocka_unit_test(test_newer_version),
	    cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
