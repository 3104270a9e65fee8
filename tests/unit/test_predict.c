/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_predict.c - the static list of small images: what must be in it, and what must not
 *
 * The image is a directory tree in ext4 (mke2fs -d), read through a file. ELF files are made here,
 * so that the libraries of this machine do not matter.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "elf_make.h"
#include "err.h"
#include "imagefs.h"
#include "predict.h"
#include "prefetch_list.h"
#include "ranges.h"
#include "text.h"

static char dir[] = "/tmp/hs-predict-XXXXXX";

struct world {
	int fd;
	struct imagefs *fs;
	struct prefetch_list *l;
};

static int disk_read(void *arg, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	const struct world *w = arg;

	(void)e;
	assert_int_equal(pread(w->fd, buf, bytes, (off_t)off), bytes);
	return 0;
}

static int shell(const char *cmd)
{
	char *line = text_printf("cd %s && { %s; } >out 2>&1", dir, cmd);
	int rc = system(line);

	free(line);
	return rc;
}

static void put(const char *path, const void *data, size_t bytes, unsigned int mode)
{
	char *full = text_printf("%s/tree%s", dir, path), *parent = text_dup(full);
	int fd;

	*strrchr(parent, '/') = 0;
	assert_int_equal(text_mkdirs(parent, 0755, NULL), 0);
	fd = open(full, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	free(parent);
	free(full);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text), strncmp(text, "#!", 2) == 0 ? 0755 : 0644);
}

static void put_elf(const char *path, struct elf_make m)
{
	size_t bytes;
	uint8_t *p;

	m.text_bytes = m.text_bytes ? m.text_bytes : 20000;
	p = elf_make(&m, &bytes);
	put(path, p, bytes, 0755);
	free(p);
}

/* A loader, a C library and the cache that names them. */
static void put_system(void)
{
	static const char *const pairs[] = {
	    "libc.so.6",   "/usr/lib/libc.so.6",   "libapp.so.1", "/usr/lib/arm/libapp.so.1",
	    "libapp.so.1", "/usr/lib/libapp.so.1", NULL};
	size_t bytes;
	uint8_t *cache = ldcache_make(pairs, 0, &bytes);

	assert_int_equal(shell("rm -rf tree && mkdir -p tree/lost+found"), 0);
	put("/etc/ld.so.cache", cache, bytes, 0644);
	free(cache);
	put_text("/etc/passwd", "root:x:0:0::/:/bin/sh\n");
	put_text("/etc/shadow", "nobody reads this\n");
	put_elf("/lib64/ld-linux-x86-64.so.2", (struct elf_make){0});
	put_elf("/usr/lib/libc.so.6", (struct elf_make){0});
	put_elf("/usr/lib/libunused.so", (struct elf_make){0});
	put_elf("/bin/sh", (struct elf_make){.interp = "/lib64/ld-linux-x86-64.so.2",
					     .needed = {"libc.so.6"}});
}

static void open_world(struct world *w, const char *config, const struct predict_options *o)
{
	struct imagefs_device d = {.read = disk_read, .arg = w};
	char *path = text_printf("%s/disk.img", dir);
	struct predict_options mine;
	struct err e = {0};
	struct stat st;

	assert_int_equal(shell("rm -f disk.img && mke2fs -q -F -t ext4 -d tree disk.img 32M"), 0);
	w->fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(w->fd >= 0 && fstat(w->fd, &st) == 0);
	free(path);
	d.bytes = (uint64_t)st.st_size;
	assert_int_equal(imagefs_open(&d, &w->fs, &e), 0);
	predict_options_default(&mine);
	if (predict_touches(w->fs, config, o ? o : &mine, &w->l, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(w->l->origin, PREFETCH_PREDICTED);
}

static void close_world(struct world *w)
{
	prefetch_list_free(w->l);
	imagefs_close(w->fs);
	close(w->fd);
}

/* Bytes of the list that touch a file; 0: it is not in it. */
static uint64_t touched(const struct world *w, const char *path)
{
	uint64_t sum = 0;

	for (size_t n = 0; n < w->l->touch_count; n++) {
		const struct prefetch_touch *t = &w->l->touches[n];

		if (t->file == PREFETCH_NO_FILE)
			continue;
		assert_true(t->file < w->l->file_count);
		assert_true(t->bytes && t->off + t->bytes <= w->l->files[t->file].bytes);
		if (strcmp(w->l->files[t->file].path, path) == 0)
			sum += t->bytes;
	}
	return sum;
}

static void wants(const struct world *w, const char *const *paths)
{
	for (; *paths; paths++) {
		if (!touched(w, *paths))
			fail_msg("%s is not in the list", *paths);
	}
}

static void wants_not(const struct world *w, const char *const *paths)
{
	for (; *paths; paths++) {
		if (touched(w, *paths))
			fail_msg("%s is in the list", *paths);
	}
}

static uint64_t metadata_bytes(const struct world *w)
{
	uint64_t sum = 0;
	bool files = false;

	for (size_t n = 0; n < w->l->touch_count; n++) {
		const struct prefetch_touch *t = &w->l->touches[n];

		assert_true(n == 0 || t->at_ms >= t[-1].at_ms);
		files = files || t->file != PREFETCH_NO_FILE;
		assert_true(!files || t->file != PREFETCH_NO_FILE); /* metadata first */
		sum += files ? 0 : t->bytes;
	}
	return sum;
}

static void test_script(void **state)
{
	static const char config[] =
	    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Env\":[\"PATH=/opt/bin:/"
	    "bin\","
	    "\"APPDATA=/data\"],\"Entrypoint\":[\"entry.sh\"],\"Cmd\":[\"app\",\"-c\",\"/srv/"
	    "my.conf\"]},"
	    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
	static const char *const in[] = {"/etc/passwd",
					 "/opt/bin/entry.sh",
					 "/bin/sh",
					 "/lib64/ld-linux-x86-64.so.2",
					 "/usr/lib/libc.so.6",
					 "/etc/ld.so.cache",
					 "/opt/app/bin/app-1.2",
					 "/opt/app/lib/libown.so",
					 "/usr/lib/libapp.so.1",
					 "/srv/my.conf",
					 "/data/settings",
					 "/etc/app/app.conf",
					 "/usr/lib/app/extra.so",
					 "/opt/bin/tool",
					 NULL};
	static const char *const out[] = {
	    "/etc/shadow", "/usr/lib/libunused.so", "/usr/lib/arm/libapp.so.1",
	    "/data/large", "/opt/bin/other",	    "/srv/other.conf",
	    NULL};
	struct world w;
	uint64_t text = 20000;

	(void)state;
	put_system();
	put_text("/opt/bin/entry.sh", "#!/bin/sh\n# other is not called\nif tool --check; then\n"
				      "  echo other\nfi\nexec \"$@\"\n");
	put_elf("/opt/bin/tool", (struct elf_make){.needed = {"libc.so.6"}});
	put_elf("/opt/bin/other", (struct elf_make){0});
	put_elf("/opt/app/bin/app-1.2",
		(struct elf_make){.interp = "/lib64/ld-linux-x86-64.so.2",
				  .runpath = "/nowhere:$ORIGIN/../lib",
				  .needed = {"libown.so", "libapp.so.1", "libc.so.6", "libnone.so"},
				  .text_bytes = text * 20});
	assert_int_equal(shell("ln -s ../app/bin/app-1.2 tree/opt/bin/app"), 0);
	put_elf("/opt/app/lib/libown.so", (struct elf_make){.text_bytes = text * 80});
	put_elf("/usr/lib/libapp.so.1", (struct elf_make){0});
	put_elf("/usr/lib/arm/libapp.so.1", (struct elf_make){.machine = 40});
	put_elf("/usr/lib/app/extra.so", (struct elf_make){0});
	put_text("/etc/app/app.conf", "load extra.so; # load other.so\n");
	put_text("/srv/my.conf", "x=1\n");
	put_text("/srv/other.conf", "x=1\n");
	put_text("/data/settings", "y=2\n");
	put("/data/large", dir, 1, 0644);
	assert_int_equal(shell("truncate -s 1M tree/data/large"), 0);

	open_world(&w, config, NULL);
	wants(&w, in);
	wants_not(&w, out);
	/* the program's code, but of a large library only what linking takes */
	assert_true(touched(&w, "/opt/app/bin/app-1.2") > text * 20);
	assert_true(touched(&w, "/opt/app/lib/libown.so") < text * 2);
	assert_true(metadata_bytes(&w) > 0);
	close_world(&w);
}

static void test_python(void **state)
{
	static const char config[] =
	    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Entrypoint\":[\"python3\","
	    "\"app.py\"],\"WorkingDir\":\"/"
	    "srv\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
	static const char *const in[] = {
	    "/usr/bin/python3.11",
	    "/usr/lib/libc.so.6",
	    "/srv/app.py",
	    "/srv/local/__init__.py",
	    "/srv/local/sub.py",
	    "/srv/local/peer.py",
	    "/usr/lib/python3.11/__pycache__/json.cpython-311.pyc",
	    "/usr/lib/python3.11/encodings/__init__.py",
	    "/usr/lib/python3.11/below.py",
	    "/usr/lib/python3/dist-packages/fast.cpython-311-x86_64-linux-gnu.so",
	    "/usr/lib/libapp.so.1",
	    NULL};
	static const char *const out[] = {"/srv/local/unused.py", "/usr/lib/python3.11/json.py",
					  "/usr/lib/python3.11/os.py",
					  "/usr/lib/python3.11/other.py", NULL};
	struct world w;

	(void)state;
	put_system();
	put_elf("/usr/bin/python3.11", (struct elf_make){.interp = "/lib64/ld-linux-x86-64.so.2",
							 .needed = {"libc.so.6"}});
	assert_int_equal(shell("ln -s python3.11 tree/usr/bin/python3"), 0);
	put_text("/srv/app.py",
		 "import os, json\nfrom local import sub\nimport local.app\nimport app\n"
		 "def later():\n    import other\n");
	put_text("/srv/local/__init__.py", "from .sub import thing\n");
	put_text("/srv/local/sub.py", "from . import peer\nfrom .. import beyond\nimport fast\n");
	put_text("/srv/local/peer.py", "from local.sub import x\n");
	put_text("/srv/local/unused.py", "import other\n");
	put_text("/usr/lib/python3.11/json.py", "import os\n");
	put_text("/usr/lib/python3.11/__pycache__/json.cpython-311.pyc", "compiled");
	put_text("/usr/lib/python3.11/os.py", "import below\n");
	put_text("/usr/lib/python3.11/below.py", "\n");
	put_text("/usr/lib/python3.11/other.py", "\n");
	put_text("/usr/lib/python3.11/encodings/__init__.py", "\n");
	put_elf("/usr/lib/python3/dist-packages/fast.cpython-311-x86_64-linux-gnu.so",
		(struct elf_make){.needed = {"libapp.so.1"}});
	put_elf("/usr/lib/libapp.so.1", (struct elf_make){0});

	open_world(&w, config, NULL);
	wants(&w, in);
	wants_not(&w, out);
	close_world(&w);
}

static void test_node(void **state)
{
	static const char config[] =
	    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"node\",\"--x\","
	    "\"server.js\"],\"WorkingDir\":\"/"
	    "app\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
	static const char *const in[] = {"/usr/local/bin/node",
					 "/app/server.js",
					 "/app/package.json",
					 "/app/lib/a.js",
					 "/app/lib/index.js",
					 "/app/node_modules/web/package.json",
					 "/app/node_modules/web/lib/main.js",
					 "/app/node_modules/@s/x/index.js",
					 NULL};
	static const char *const out[] = {"/app/lib/unused.js", "/app/node_modules/web/index.js",
					  NULL};
	struct world w;

	(void)state;
	put_system();
	put_elf("/usr/local/bin/node", (struct elf_make){.interp = "/lib64/ld-linux-x86-64.so.2",
							 .needed = {"libc.so.6"}});
	put_text("/app/package.json", "{\"main\": \"server.js\"}");
	put_text("/app/server.js", "const fs = require('fs'), a = require(\"./lib/a\");\n"
				   "import web from 'web';\nrequire(name); require('./none');\n");
	put_text("/app/lib/a.js", "module.exports = require('.'); import('../server.js')\n");
	put_text("/app/lib/index.js", "export { x } from '@s/x';\n");
	put_text("/app/lib/unused.js", "\n");
	put_text("/app/node_modules/web/package.json", "{\"name\":\"web\",\"main\":\"lib/main\"}");
	put_text("/app/node_modules/web/lib/main.js", "\n");
	put_text("/app/node_modules/web/index.js", "\n");
	put_text("/app/node_modules/@s/x/index.js", "\n");

	open_world(&w, config, NULL);
	wants(&w, in);
	wants_not(&w, out);
	close_world(&w);
}

/* musl's loader has its own list of directories and no cache. */
static void test_musl(void **state)
{
	static const char config[] =
	    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"/app\"]},"
	    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
	static const char *const in[] = {"/app", "/lib/ld-musl-x86_64.so.1", "/opt/own/liba.so",
					 "/etc/ld-musl-x86_64.path", NULL};
	static const char *const out[] = {"/etc/ld.so.cache", "/usr/lib/liba.so", NULL};
	struct world w;

	(void)state;
	put_system();
	put_elf("/app",
		(struct elf_make){.interp = "/lib/ld-musl-x86_64.so.1", .needed = {"liba.so"}});
	put_elf("/lib/ld-musl-x86_64.so.1", (struct elf_make){0});
	put_elf("/opt/own/liba.so", (struct elf_make){0});
	put_elf("/usr/lib/liba.so", (struct elf_make){0});
	put_text("/etc/ld-musl-x86_64.path", "/lib\n/opt/own\n");
	open_world(&w, config, NULL);
	wants(&w, in);
	wants_not(&w, out);
	close_world(&w);
}

/* Scripts that are their first line, with and without its end. */
static void test_one_line(void **state)
{
	static const char config[] =
	    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Entrypoint\":[\"/one\"],"
	    "\"Cmd\":[\"/app\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
	static const char *const in[] = {"/one", "/bin/sh", "/app", NULL};
	static const char *const scripts[] = {"#!/bin/sh", "#!/bin/sh\n", "#!/bin/sh -e", "#!"};
	struct world w;

	(void)state;
	for (size_t n = 0; n < sizeof(scripts) / sizeof(scripts[0]); n++) {
		put_system();
		put_elf("/app", (struct elf_make){0});
		put_text("/one", scripts[n]);
		open_world(&w, config, NULL);
		if (n < 3)
			wants(&w, in);
		close_world(&w);
	}
}

/* CPU time of looking for what a program requires that has @names names, each requiring them all.
 */
static clock_t look_for(unsigned int names)
{
	static const char config[] =
	    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"node\","
	    "\"/app/0.js\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
	static const char *const in[] = {"/usr/local/bin/node", "/app/0.js", "/app/9.js", NULL};
	size_t room = 1u << 20, at = 0;
	char *text = malloc(room), command[96];
	struct world w;
	clock_t began;

	assert_non_null(text);
	put_system();
	put_elf("/usr/local/bin/node", (struct elf_make){0});
	for (unsigned int n = 0; at + 64 < room; n++) {
		if (n < names)
			at += (size_t)snprintf(text + at, room - at, "require('./%u.js')\n", n);
		else
			at += (size_t)snprintf(text + at, room - at, "require('%x')\n", n);
	}
	put("/app/0.js", text, at, 0644);
	free(text);
	snprintf(command, sizeof(command),
		 "for n in $(seq %u); do ln tree/app/0.js tree/app/$n.js; done", names - 1);
	assert_int_equal(shell(command), 0);
	began = clock();
	open_world(&w, config, NULL);
	began = clock() - began;
	wants(&w, in);
	close_world(&w);
	return began;
}

/* A program that requires without end: eight times the work takes no longer, since it ends before.
 */
static void test_spent(void **state)
{
	clock_t some = look_for(15), more = look_for(120);

	(void)state;
	if (more > 3 * some)
		fail_msg("15 names took %ld ms, 120 took %ld", (long)(some * 1000 / CLOCKS_PER_SEC),
			 (long)(more * 1000 / CLOCKS_PER_SEC));
}

/* Budgets, and images that name nothing that is there. */
static void test_limits(void **state)
{
	static const char config[] =
	    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Entrypoint\":[\"/loop\"],"
	    "\"Cmd\":[\"/bin/sh\",\"/missing\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
	struct predict_options o;
	struct device_touches d = {0};
	struct prefetch_list *l;
	struct world w;
	struct err e = {0};
	uint64_t all, some;

	(void)state;
	put_system();
	put_text("/loop", "#!/loop\n/loop\nloop\n/bin/sh /loop\n");
	for (int n = 0; n < 400; n++) {
		char path[64];

		snprintf(path, sizeof(path), "/many/%d/%d", n % 20, n);
		put_text(path, "x");
	}
	open_world(&w, config, NULL);
	all = metadata_bytes(&w);
	assert_true(touched(&w, "/bin/sh") && touched(&w, "/loop"));

	/* from touches of files to ranges of the device */
	assert_int_equal(device_touches_add(&d, w.l, w.fs, 3, false, &e), 0);
	assert_true(d.count >= w.l->touch_count && d.bytes > all);
	assert_int_equal(d.touches[0].run, 3);
	assert_int_equal(d.lost_touches, 0);
	free(w.l->files[0].path);
	w.l->files[0].path = text_dup("/gone");
	device_touches_done(&d);
	assert_int_equal(device_touches_add(&d, w.l, w.fs, 0, true, &e), 0);
	assert_int_equal(d.missing_files, 1);
	assert_true(d.lost_touches >= 1);
	device_touches_done(&d);

	/* what no device has */
	w.l->touch_count = 1;
	w.l->touches[0] = (struct prefetch_touch){PREFETCH_NO_FILE, 0, 4096, UINT64_C(1) << 63};
	assert_int_equal(device_touches_add(&d, w.l, w.fs, 0, true, &e), 0);
	assert_int_equal(d.bytes, imagefs_device_bytes(w.fs) - 4096);
	assert_int_equal(d.lost_touches, 0);
	w.l->touches[0].off = UINT64_C(1) << 62;
	assert_int_equal(device_touches_add(&d, w.l, w.fs, 0, true, &e), 0);
	assert_int_equal(d.count, 1);
	assert_int_equal(d.lost_touches, 1);
	device_touches_done(&d);
	close_world(&w);

	/* too much metadata: that of the list's files only */
	predict_options_default(&o);
	o.metadata_bytes = 4096;
	o.file_bytes = 30000;
	open_world(&w, config, &o);
	some = metadata_bytes(&w);
	assert_true(some > 0 && some < all);
	for (size_t n = 0, sum = 0; n < w.l->touch_count; n++) {
		sum += w.l->touches[n].file == PREFETCH_NO_FILE ? 0 : w.l->touches[n].bytes;
		assert_true(sum <= o.file_bytes);
	}
	assert_int_equal(predict_touches(w.fs, "{", &o, &l, &e), -EBADMSG);
	assert_int_equal(predict_touches(w.fs, NULL, &o, &l, &e), 0);
	assert_int_equal(l->file_count, 0);
	assert_true(l->touch_count > 0);
	prefetch_list_free(l);
	close_world(&w);
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char *cmd = text_printf("rm -rf %s", dir);
	int rc = system(cmd);

	(void)state;
	free(cmd);
	return rc;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_script),   cmocka_unit_test(test_python),
	    cmocka_unit_test(test_node),     cmocka_unit_test(test_musl),
	    cmocka_unit_test(test_one_line), cmocka_unit_test(test_spent),
	    cmocka_unit_test(test_limits),
	};

	if (system("command -v mke2fs >/dev/null") != 0) {
		print_message("mke2fs is not installed\n");
		return 77;
	}
	return cmocka_run_group_tests_name("predict", tests, make_dir, remove_dir);
}
