/* SPDX-License-Identifier: Apache-2.0 */
/* test_recording - what is summed up of a trace; URLs and answers of readiness probes */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../tools/probe.c"
#include "../../tools/recording.c"
#include "../../tools/trace_summary.c"

static void check_url(const char *url, const char *host, const char *port, const char *path)
{
	struct probe_url u;
	struct err e = {0};

	if (probe_url_parse(url, &u, &e))
		fail_msg("%s: %s", url, e.msg);
	assert_string_equal(u.host, host);
	assert_string_equal(u.port, port);
	assert_string_equal(u.path, path);
	probe_url_done(&u);
}

static void test_urls(void **state)
{
	static const char *const bad[] = {
	    "",
	    "127.0.0.1",
	    "http://",
	    "http://:80/",
	    "http://h:/",
	    "http://h:80x/",
	    "http://u@h/",
	    "http://[::1/",
	    "http://[::1]80/",
	    "https://h/",
	    "ftp://h/",
	    "http://h/a b",
	    "http://h/\r\nX: y",
	    "http://h:80:81/",
	    "http:///path",
	    "http://[]/",
	};
	struct probe_url u;
	struct err e = {0};

	(void)state;
	check_url("http://127.0.0.1", "127.0.0.1", "80", "/");
	check_url("http://localhost:8080/a/b?c=d#e", "localhost", "8080", "/a/b?c=d");
	check_url("http://[::1]:81?x", "::1", "81", "/?x");
	check_url("http://[::1]", "::1", "80", "/");
	check_url("http://h#f", "h", "80", "/");
	assert_int_equal(probe_url_parse("http://[::1]:81/", &u, &e), 0);
	assert_string_equal(u.authority, "[::1]:81");
	probe_url_done(&u);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (probe_url_parse(bad[i], &u, &e) != -EINVAL)
			fail_msg("taken: '%s'", bad[i]);
}

static void test_answers(void **state)
{
	(void)state;
	assert_int_equal(probe_http_status("HTTP/1.1 204 No Content\r\n"), 204);
	assert_int_equal(probe_http_status("HTTP/1.0 503 x"), 503);
	assert_int_equal(probe_http_status("HTTP/1.1 "), 0);
	assert_int_equal(probe_http_status("HTTP/2 200"), 0);
	assert_int_equal(probe_http_status("SSH-2.0"), 0);
	assert_int_equal(probe_http_status(""), 0);
}

/* Lines cut by reads, and one that never ends. */
static void test_lines(void **state)
{
	struct probe p = {.log = "^re+ady$"};
	struct probe_stream *s = &p.stream[0];
	struct err e = {0};

	(void)state;
	assert_int_equal(probe_open(&p, &e), 0);
	memcpy(s->line, "not ready\nrea", 13);
	s->len = 13;
	match_lines(&p, s);
	assert_null(p.ready_by);
	assert_int_equal(s->len, 3);
	memcpy(s->line + 3, "dy\nmore", 7);
	s->len += 7;
	match_lines(&p, s);
	assert_string_equal(p.ready_by, "log");
	assert_int_equal(s->len, 4);
	memset(s->line, 'x', sizeof(s->line));
	s->len = sizeof(s->line) - 1;
	match_lines(&p, s);
	assert_int_equal(s->len, 0);
	probe_close(&p);
	p = (struct probe){.log = "x", .http = "http://h/"};
	assert_int_equal(probe_open(&p, &e), -EINVAL);
	probe_close(&p);
}

static void again(struct trace_summary *s, const struct trace *t)
{
	trace_summary_done(s);
	trace_summary_make(s, t);
}

static void test_sum(void **state)
{
	struct trace_object objects[] = {
	    {.kind = TRACE_FILE, .path = (char[]){"/a"}},
	    {.kind = TRACE_DEVICE},
	    {.kind = TRACE_FILE},
	};
	struct trace_process process = {.pid = 1};
	struct trace_event events[] = {
	    {.off = 8192, .bytes = 4096, .kind = TRACE_FAULT},
	    {.off = 0, .bytes = 8192, .kind = TRACE_READ},
	    {.off = 4096, .bytes = 8192, .kind = TRACE_READ},
	    {.off = 40960, .bytes = 100, .kind = TRACE_READ},
	    {.off = 65536, .bytes = 65536, .kind = TRACE_CACHED},
	    {.off = 65536, .bytes = 65536, .kind = TRACE_MAPPED},
	    {.off = 131072, .bytes = 131072, .kind = TRACE_MAPPED},
	    {.off = 0, .bytes = 4096, .kind = TRACE_CACHED, .object = 1},
	    {.off = 0, .bytes = 4096, .kind = TRACE_BLOCK, .object = 1},
	    {.off = 8192, .bytes = 4096, .kind = TRACE_BLOCK, .object = 1},
	    {.off = 0, .bytes = 1, .kind = TRACE_READ, .object = 2},
	};
	struct trace t = {
	    .precision = TRACE_EXACT,
	    .objects = objects,
	    .object_count = 3,
	    .processes = &process,
	    .process_count = 1,
	    .events = events,
	    .event_count = sizeof(events) / sizeof(events[0]),
	};
	struct trace_summary s;

	(void)state;
	trace_summary_make(&s, &t);
	assert_int_equal(s.demand_events, 5);
	assert_int_equal(s.demand_bytes, 12288 + 100 + 1);
	assert_int_equal(s.metadata_bytes, 4096);
	assert_int_equal(s.demand_files, 2);
	assert_int_equal(s.unnamed_files, 1);
	t.precision = TRACE_WINDOWS;
	again(&s, &t);
	assert_int_equal(s.demand_bytes, 12288 + 100 + 1 + 65536);
	t.precision = TRACE_FETCHED;
	again(&s, &t);
	assert_int_equal(s.demand_bytes, 65536);
	assert_int_equal(s.demand_files, 1);
	assert_int_equal(s.metadata_bytes, 4096 + 4096);
	t.event_count = 0;
	again(&s, &t);
	assert_int_equal(s.demand_bytes, 0);
	trace_summary_done(&s);
}

/* A trace that is full is the end of a recording; a disk that is full is its failure. */
static void test_full(void **state)
{
	char path[] = "/tmp/hs-recording-XXXXXX";
	struct recorder_event ev = {.kind = TRACE_READ, .dev = 7, .bytes = 1, .comm = "x"};
	struct trace head = {
	    .image = (char[]){""}, .kernel = "", .filter = (char[]){""}, .precision = TRACE_EXACT};
	struct recording g = {0};
	struct err e = {0};
	int fd = mkstemp(path), full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0 && full >= 0);
	close(fd);
	/* the writer's file has the number that was just freed */
	assert_int_equal(trace_writer_open(path, &head, &g.writer, &e), 0);
	take(&g, &ev);
	assert_int_equal(g.error, 0);
	for (uint64_t n = 1; n <= TRACE_MAX_OBJECTS; n++)
		(void)trace_writer_object(g.writer, TRACE_FILE, 7, n, 0);
	ev.ino = TRACE_MAX_OBJECTS + 1;
	take(&g, &ev);
	assert_true(recording_full(&g));

	g.error = 0;
	assert_int_equal(dup2(full, fd), fd);
	flush(&g, NS_PER_SEC);
	assert_int_equal(g.error, -ENOSPC);
	assert_false(recording_full(&g));
	assert_int_equal(trace_writer_close(g.writer, 0, 0, "limit", &e), -ENOSPC);
	close(full);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_urls),  cmocka_unit_test(test_answers),
	    cmocka_unit_test(test_lines), cmocka_unit_test(test_sum),
	    cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
