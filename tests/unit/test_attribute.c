/* SPDX-License-Identifier: Apache-2.0 */
/* test_attribute - inodes to paths through directory trees, and what overlay mounts are made of */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "attribute.h"
#include "cleanup.h"
#include "err.h"
#include "text.h"
#include "trace.h"

static char dir[] = "/tmp/headstart-attribute-XXXXXX";

static char *in_dir(const char *name)
{
	return text_printf("%s/%s", dir, name);
}

static void make_dir(const char *name)
{
	_cleanup_free_ char *path = in_dir(name);

	assert_int_equal(text_mkdirs(path, 0755, NULL), 0);
}

static struct stat make_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = in_dir(name);
	struct stat st;

	assert_int_equal(text_write_file(path, text, strlen(text), 0644, NULL), 0);
	assert_false(stat(path, &st));
	return st;
}

static uint32_t dev_of(const struct stat *st)
{
	return major(st->st_dev) << 20 | minor(st->st_dev);
}

static void want(struct attribution *a, const struct stat *st)
{
	attribution_want(a, dev_of(st), st->st_ino);
}

static const char *find(const struct attribution *a, const struct stat *st, uint64_t *ret_bytes)
{
	return attribution_find(a, dev_of(st), st->st_ino, ret_bytes);
}

static int add(struct attribution *a, const char *name)
{
	_cleanup_free_ char *path = in_dir(name);
	struct err e = {0};

	return attribution_add_tree(a, path, &e);
}

static void test_tree(void **state)
{
	_cleanup_free_ char *from = NULL;
	_cleanup_free_ char *to = NULL;
	struct attribution *a = attribution_new();
	struct stat deep, plain, outside, linked, root;
	struct err e = {0};
	uint64_t bytes;
	const char *path;

	(void)state;
	make_dir("t/a/b/c");
	make_dir("elsewhere");
	deep = make_file("t/a/b/c/deep", "1234");
	plain = make_file("t/plain", "x");
	outside = make_file("elsewhere/outside", "yy");
	linked = make_file("t/zz", "linked");
	from = in_dir("t/zz");
	to = in_dir("t/a/zz");
	assert_false(link(from, to));
	free(from);
	free(to);
	from = in_dir("t/a/way-out");
	to = in_dir("elsewhere");
	assert_false(symlink(to, from));
	free(to);
	to = in_dir("t");
	assert_false(stat(to, &root));

	want(a, &deep);
	want(a, &deep);
	want(a, &plain);
	want(a, &outside);
	want(a, &linked);
	want(a, &root);
	/* the same number on another device is another file */
	attribution_want(a, dev_of(&plain) ^ 1, plain.st_ino);
	assert_int_equal(add(a, "t"), 0);
	assert_string_equal(find(a, &deep, &bytes), "/a/b/c/deep");
	assert_int_equal(bytes, 4);
	assert_string_equal(find(a, &plain, NULL), "/plain");
	assert_string_equal(find(a, &root, NULL), "/");
	path = find(a, &linked, NULL);
	assert_true(path && (!strcmp(path, "/zz") || !strcmp(path, "/a/zz")));
	assert_null(find(a, &outside, NULL)); /* links are not followed */
	assert_null(attribution_find(a, dev_of(&plain) ^ 1, plain.st_ino, NULL));
	assert_int_equal(attribution_missing(a), 2);
	/* what was not wanted is not kept */
	assert_null(attribution_find(a, dev_of(&deep), deep.st_ino + 1000000, NULL));
	assert_int_equal(add(a, "absent"), -ENOENT);
	assert_int_equal(add(a, "t/plain"), -ENOTDIR);
	assert_true(attribution_add_tree(a, "/proc/self/fd/999", &e) < 0);
	attribution_free(a);
	attribution_free(NULL);
}

static void test_layers(void **state)
{
	struct attribution *a = attribution_new();
	struct stat old, new, only;

	(void)state;
	make_dir("lower/etc");
	make_dir("upper/etc");
	old = make_file("lower/etc/both", "old");
	only = make_file("lower/etc/only", "only");
	new = make_file("upper/etc/both", "newer");
	want(a, &old);
	want(a, &new);
	want(a, &only);
	assert_int_equal(add(a, "upper"), 0);
	assert_int_equal(add(a, "lower"), 0);
	assert_string_equal(find(a, &new, NULL), "/etc/both");
	assert_string_equal(find(a, &old, NULL), "/etc/both");
	assert_string_equal(find(a, &only, NULL), "/etc/only");
	assert_int_equal(attribution_missing(a), 0);
	attribution_free(a);
}

/* Through a writer and back. */
static void test_objects(void **state)
{
	_cleanup_free_ char *path = in_dir("trace");
	struct attribution *a = attribution_new();
	const struct trace head = {.image = "i", .kernel = "k", .filter = "f", .precision = 1};
	struct trace_event ev = {.bytes = 1, .kind = TRACE_READ};
	struct stat st = make_file("t/named", "abc");
	struct trace_writer *w;
	struct trace *t;
	struct err e = {0};

	(void)state;
	assert_int_equal(trace_writer_open(path, &head, &w, &e), 0);
	ev.process = trace_writer_process(w, 1, "x");
	for (uint64_t i = 0; i < 2; i++) {
		ev.object =
		    trace_writer_object(w, TRACE_FILE, dev_of(&st), st.st_ino + i * 1000000, 0);
		assert_int_equal(trace_writer_add(w, &ev, &e), 0);
	}
	ev.object = trace_writer_object(w, TRACE_DEVICE, dev_of(&st), 0, 0);
	assert_int_equal(trace_writer_add(w, &ev, &e), 0);
	attribution_want_objects(a, w);
	assert_int_equal(attribution_missing(a), 2);
	assert_int_equal(add(a, "t"), 0);
	attribution_name_objects(a, w);
	assert_int_equal(trace_writer_close(w, 0, 1, "exit", &e), 0);
	assert_int_equal(trace_load(path, &t, &e), 0);
	assert_string_equal(t->objects[0].path, "/named");
	assert_int_equal(t->objects[0].bytes, 3);
	assert_null(t->objects[1].path);
	assert_int_equal(t->unattributed_events, 1);
	trace_free(t);
	attribution_free(a);
}

static void test_overlay_parse(void **state)
{
	struct overlay_parts p;

	(void)state;
	assert_int_equal(overlay_parse("rw,lowerdir=/a:/b,upperdir=/u,workdir=/w", &p), 0);
	assert_int_equal(p.lower_count, 2);
	assert_string_equal(p.lower[0], "/a");
	assert_string_equal(p.lower[1], "/b");
	assert_string_equal(p.upper, "/u");
	overlay_done(&p);
	/* a colon, a backslash, a comma and a blank in names, as the kernel prints them */
	assert_int_equal(
	    overlay_parse("ro,lowerdir=/a\\134:b:/c\\134\\134d::/e\\054f\\040g,index=off", &p), 0);
	assert_int_equal(p.lower_count, 3);
	assert_string_equal(p.lower[0], "/a:b");
	assert_string_equal(p.lower[1], "/c\\d");
	assert_string_equal(p.lower[2], "/e,f g");
	assert_null(p.upper);
	overlay_done(&p);
	/* the newer mount interface */
	assert_int_equal(overlay_parse("rw,lowerdir+=/a:x,lowerdir+=/b,upperdir=/u", &p), 0);
	assert_int_equal(p.lower_count, 2);
	assert_string_equal(p.lower[0], "/a:x");
	overlay_done(&p);
	assert_int_equal(overlay_parse("rw,upperdir=/u", &p), -EINVAL);
	assert_int_equal(overlay_parse("rw,lowerdir=", &p), -EINVAL);
	assert_int_equal(overlay_parse("", &p), -EINVAL);
}

static void test_overlay_resolve(void **state)
{
	_cleanup_free_ char *options =
	    text_printf("rw,lowerdir=2/fs:1/fs,upperdir=%s/snapshots/3/fs,workdir=/w", dir);
	_cleanup_free_ char *bare = text_dup("ro,lowerdir=2/fs:1/fs");
	_cleanup_free_ char *first = in_dir("snapshots/2/fs");
	_cleanup_free_ char *hint = in_dir("snapshots");
	struct overlay_parts p;
	struct err e = {0};

	(void)state;
	make_dir("snapshots/1/fs");
	make_dir("snapshots/2/fs");
	make_dir("snapshots/3/fs");
	assert_int_equal(overlay_parse(options, &p), 0);
	assert_int_equal(overlay_resolve(&p, NULL, &e), 0);
	assert_string_equal(p.lower[0], first);
	/* absolute ones stay */
	assert_int_equal(overlay_resolve(&p, "/", &e), 0);
	assert_string_equal(p.lower[0], first);
	overlay_done(&p);
	assert_int_equal(overlay_parse(bare, &p), 0);
	assert_int_equal(overlay_resolve(&p, NULL, &e), -ENOENT);
	assert_string_equal(p.lower[0], "2/fs");
	assert_int_equal(overlay_resolve(&p, hint, &e), 0);
	assert_string_equal(p.lower[0], first);
	overlay_done(&p);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tree),
	    cmocka_unit_test(test_layers),
	    cmocka_unit_test(test_objects),
	    cmocka_unit_test(test_overlay_parse),
	    cmocka_unit_test(test_overlay_resolve),
	};
	int failed;

	if (!mkdtemp(dir))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS); /* what is left is in /tmp */
	return failed;
}
