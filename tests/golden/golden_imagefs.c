/* SPDX-License-Identifier: Apache-2.0 */
/*
 * golden_imagefs.c - the file systems inside the golden images, read without mounting them
 *
 * The truth is what the Linux kernel showed of them: truth/<name>.list.tsv. Of every file its size,
 * mode, links, content and target are compared, and its extents with its content.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "digest.h"
#include "headstart.h"
#include "imagefs.h"
#include "text.h"

#define COLUMNS 12

enum { PATH, TYPE, MODE, UID, GID, SIZE, SHA, TARGET, XATTRS, LINKS };

static struct hs_engine *eng;

/* Fields of one line; returns how many there are. */
static size_t split(char *line, char **col)
{
	size_t n = 0;

	while (line && n < COLUMNS)
		col[n++] = strsep(&line, "\t");
	return n;
}

/* %XX back to bytes, in place. */
static void unquote(char *s)
{
	char *out = s;

	while (*s) {
		unsigned int v;

		if (*s == '%' && sscanf(s + 1, "%2x", &v) == 1) {
			*out++ = (char)v;
			s += 3;
		} else {
			*out++ = *s++;
		}
	}
	*out = 0;
}

static int device_read(void *arg, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	return hs_image_read(arg, buf, bytes, off, e);
}

struct content {
	struct hs_image *img;
	const uint8_t *truth;
	uint64_t next;
};

/* What lies between extents must be zeros, and they hold the file's bytes. */
static int check_extent(void *arg, uint64_t file_off, uint64_t dev_off, uint64_t bytes)
{
	struct content *c = arg;
	uint8_t *p = xmalloc_zero(1, bytes);

	assert_true(file_off >= c->next && bytes > 0);
	c->next = file_off + bytes;
	assert_int_equal(hs_image_read(c->img, p, bytes, dev_off, NULL), 0);
	assert_memory_equal(p, c->truth + file_off, bytes);
	free(p);
	return 0;
}

static void check_file(struct hs_image *img, struct imagefs *fs, const struct imagefs_node *n,
		       char **col)
{
	uint8_t *p = xmalloc_zero(1, n->bytes + 1);
	struct content c = {.img = img, .truth = p};
	char sum[DIGEST_TEXT_BYTES];
	struct err e = {0};

	assert_int_equal(n->type, IMAGEFS_FILE);
	assert_int_equal(n->bytes, strtoull(col[SIZE], NULL, 10));
	assert_int_equal(n->links, strtoull(col[LINKS], NULL, 10));
	assert_int_equal(imagefs_read(fs, n->ino, 0, p, n->bytes + 1, &e), n->bytes);
	digest_of(p, n->bytes, sum);
	if (strcmp(sum + strlen("sha256:"), col[SHA]) != 0)
		fail_msg("%s: wrong content", col[PATH]);
	if (imagefs_extents(fs, n->ino, 0, n->bytes, check_extent, &c, &e))
		fail_msg("%s: %s", col[PATH], e.msg);
	if (n->bytes > 1) {
		uint8_t half[4096];
		uint64_t off = n->bytes / 2;
		long got = imagefs_read(fs, n->ino, off, half, sizeof(half), &e);

		assert_true(got > 0 && off + (uint64_t)got <= n->bytes);
		assert_memory_equal(half, p + off, got);
	}
	free(p);
}

static void check_line(struct hs_image *img, struct imagefs *fs, char **col)
{
	struct imagefs_node n;
	struct err e = {0};
	char *path, *real, *target;

	unquote(col[PATH]);
	path = strcmp(col[PATH], ".") == 0 ? text_dup("/") : text_printf("/%s", col[PATH]);
	if (imagefs_lookup(fs, path, false, &n, &real, &e))
		fail_msg("%s: %s", path, e.msg);
	assert_string_equal(real, path);
	if (col[TYPE][0] != 'l' && (n.mode & 07777) != strtoul(col[MODE], NULL, 8))
		fail_msg("%s: mode %o, not %s", path, n.mode & 07777, col[MODE]);
	switch (col[TYPE][0]) {
	case 'f':
		check_file(img, fs, &n, col);
		break;
	case 'd':
		assert_int_equal(n.type, IMAGEFS_DIR);
		break;
	case 'l':
		assert_int_equal(n.type, IMAGEFS_SYMLINK);
		assert_int_equal(imagefs_link(fs, n.ino, &target, &e), 0);
		unquote(col[TARGET]);
		assert_string_equal(target, col[TARGET]);
		free(target);
		break;
	default:
		assert_int_equal(n.type, IMAGEFS_OTHER);
	}
	free(real);
	free(path);
}

static int count(void *arg, const char *path, const struct imagefs_node *n)
{
	size_t *names = arg;

	assert_true(path[0] == '/' && n->links > 0);
	(*names)++;
	return 0;
}

struct ranges {
	uint64_t end, bytes;
};

static int check_range(void *arg, uint64_t off, uint64_t bytes)
{
	struct ranges *r = arg;

	assert_true(bytes > 0 && off >= r->end);
	r->end = off + bytes;
	r->bytes += bytes;
	return 0;
}

static void check_image(const char *name, const char *listing)
{
	char *config = text_printf("cfg/%s.config.v1.json", name);
	char *text, *line, *save = NULL, *col[COLUMNS];
	struct ranges all = {0}, some = {0};
	struct imagefs_device dev = {.read = device_read};
	struct err e = {0};
	size_t names = 0, lines = 0;
	struct hs_image *img;
	struct imagefs *fs;

	if (hs_image_open(eng, config, &img, &e))
		fail_msg("%s: %s", name, e.msg);
	dev.arg = img;
	dev.bytes = hs_image_bytes(img);
	if (imagefs_open(&dev, &fs, &e))
		fail_msg("%s: %s", name, e.msg);
	assert_string_equal(imagefs_kind(fs), strstr(name, "erofs") ? "erofs" : "ext4");
	assert_int_equal(text_read_file(listing, 1 << 22, &text, NULL, &e), 0);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (*line == '#')
			continue;
		assert_true(split(line, col) > LINKS);
		check_line(img, fs, col);
		lines++;
	}
	if (imagefs_walk(fs, count, &names, &e))
		fail_msg("%s: %s", name, e.msg);
	assert_int_equal(names, lines);
	if (imagefs_metadata(fs, check_range, &all, &e))
		fail_msg("%s: %s", name, e.msg);
	assert_true(all.bytes > 0 && all.end <= dev.bytes);
	if (imagefs_path_metadata(fs, "/", check_range, &some, &e))
		fail_msg("%s: %s", name, e.msg);
	assert_true(some.bytes > 0 && some.bytes <= all.bytes);
	print_message("%s: %s, %zu names, %llu bytes of metadata\n", name, imagefs_kind(fs), names,
		      (unsigned long long)all.bytes);
	imagefs_close(fs);
	hs_image_close(img);
	free(text);
	free(config);
}

static void test_listings(void **state)
{
	char *text, *line, *save = NULL, *col[COLUMNS];
	struct err e = {0};
	size_t images = 0;

	(void)state;
	assert_int_equal(text_read_file("manifest.tsv", 1 << 20, &text, NULL, &e), 0);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (*line == '#' || split(line, col) < 11 || strcmp(col[1], "config") != 0 ||
		    strcmp(col[2], "ok") != 0 || strcmp(col[10], "-") == 0)
			continue;
		check_image(col[0], col[10]);
		images++;
	}
	assert_true(images > 20);
	free(text);
}

/* An image that has no file system is told apart from a damaged one. */
static void test_no_file_system(void **state)
{
	struct imagefs_device dev = {.read = device_read};
	struct imagefs *fs;
	struct hs_image *img;
	struct err e = {0};

	(void)state;
	assert_int_equal(hs_image_open(eng, "cfg/edge-base.lsmt.config.v1.json", &img, &e), 0);
	dev.arg = img;
	dev.bytes = hs_image_bytes(img);
	assert_int_equal(imagefs_open(&dev, &fs, &e), -EOPNOTSUPP);
	assert_true(strlen(e.msg) > 20);
	hs_image_close(img);
}

static int load(void **state)
{
	struct hs_options o = {.workers = 2};

	(void)state;
	assert_int_equal(chdir(HS_GOLDEN_DIR), 0);
	return hs_engine_new(&o, &eng, NULL);
}

static int unload(void **state)
{
	(void)state;
	hs_engine_free(eng);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_listings),
					   cmocka_unit_test(test_no_file_system)};

	return cmocka_run_group_tests_name("golden file systems", tests, load, unload);
}
