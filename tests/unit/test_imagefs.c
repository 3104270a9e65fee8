/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_imagefs.c - file systems as mkfs makes them, and damaged ones, read without mounting
 *
 * A tree of files is put into images of many kinds; what imagefs tells of each is compared with the
 * tree. Then a copy of the image that has nothing but the metadata and the extents imagefs named is
 * unpacked by debugfs or fsck.erofs, which must find everything there.
 */
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
#include <unistd.h>

#include <cmocka.h>

#include "err.h"
#include "imagefs.h"
#include "text.h"

#define MAX_RANGES 65536

static char dir[] = "/tmp/hs-imagefs-XXXXXX";

struct disk {
	int fd;
	uint64_t bytes;
	uint64_t bad_from; /* reads behind it fail */
	uint64_t reads;
};

struct piece {
	uint64_t off, bytes;
	bool metadata;
};

struct world {
	struct disk disk;
	struct imagefs *fs;
	struct piece *pieces;
	size_t count;
	size_t names;
	bool compressed;
};

static int disk_read(void *arg, void *buf, size_t bytes, uint64_t off, struct err *e)
{
	struct disk *d = arg;

	d->reads++;
	assert_true(off + bytes <= d->bytes);
	if (off + bytes > d->bad_from)
		return err_set(e, -EIO, "the disk is on fire");
	assert_int_equal(pread(d->fd, buf, bytes, (off_t)off), bytes);
	return 0;
}

static int shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Runs in the test's directory; what it says goes to a file there. */
static int shell(const char *fmt, ...)
{
	char *line, *cmd;
	va_list ap;
	int rc;

	va_start(ap, fmt);
	assert_true(vasprintf(&line, fmt, ap) > 0);
	va_end(ap);
	cmd = text_printf("cd %s && { %s; } >out 2>&1", dir, line);
	rc = system(cmd);
	if (rc)
		print_message("%s: %d\n", line, rc);
	free(cmd);
	free(line);
	return rc;
}

static char *in_dir(const char *name)
{
	return text_printf("%s/%s", dir, name);
}

static int open_disk(struct world *w, const char *name, struct err *e)
{
	struct imagefs_device d = {.read = disk_read, .arg = &w->disk};
	char *path = in_dir(name);
	struct stat st;

	w->disk.fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(w->disk.fd >= 0 && fstat(w->disk.fd, &st) == 0);
	free(path);
	w->disk.bytes = d.bytes = (uint64_t)st.st_size;
	w->disk.bad_from = UINT64_MAX;
	return imagefs_open(&d, &w->fs, e);
}

static void close_disk(struct world *w)
{
	imagefs_close(w->fs);
	close(w->disk.fd);
	free(w->pieces);
	memset(w, 0, sizeof(*w));
}

/* --- the tree --- */

static void put_file(const char *name, size_t bytes, uint32_t seed)
{
	char *path = in_dir(name), *p = xmalloc_zero(1, bytes + 1);
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

	for (size_t n = 0; n < bytes; n++) {
		seed = seed * 1103515245 + 12345;
		p[n] = (char)(seed >> 20);
	}
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, bytes), bytes);
	close(fd);
	free(path);
	free(p);
}

/* Every other 4 KiB are a hole: a deep extent tree. */
static void put_holes(const char *name, unsigned int count)
{
	char *path = in_dir(name), block[4096];
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	for (unsigned int n = 0; n < count; n++) {
		memset(block, (int)(n % 250 + 1), sizeof(block));
		assert_int_equal(pwrite(fd, block, sizeof(block), (off_t)n * 8192), sizeof(block));
	}
	/* mke2fs forgets a hole at the end of a file where data may be inline */
	assert_int_equal(pwrite(fd, "end", 3, (off_t)count * 8192 + 97), 3);
	close(fd);
	free(path);
}

static int make_tree(void **state)
{
	static const size_t sizes[] = {0, 1, 59, 60, 61, 100, 511, 4095, 4096, 4097, 12288, 70000};
	char name[300];

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(shell("mkdir -p tree/a/b/c tree/many tree/empty tree/bin"), 0);
	for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		snprintf(name, sizeof(name), "tree/a/f%zu", sizes[n]);
		put_file(name, sizes[n], (uint32_t)n);
	}
	put_file("tree/a/b/c/large", 1500000, 77);
	put_holes("tree/a/b/holes", 600);
	for (unsigned int n = 0; n < 1200; n++) {
		snprintf(name, sizeof(name), "tree/many/a name of some length %u", n);
		put_file(name, n % 7, n);
	}
	memset(name, 0, sizeof(name));
	strcpy(name, "tree/");
	memset(name + 5, 'n', 254); /* mkfs.erofs 1.5 fails with 255 */
	put_file(name, 3, 1);
	memset(name, 0, sizeof(name));
	memset(name, 'x', 200);
	assert_int_equal(shell("ln -s a/b tree/short && ln -s /%s tree/long", name), 0);
	assert_int_equal(shell("ln -s ../../short/c/large tree/a/b/up && ln -s /a/b/up tree/abs"),
			 0);
	assert_int_equal(shell("ln -s loop2 tree/loop1 && ln -s loop1 tree/loop2"), 0);
	assert_int_equal(shell("ln tree/a/f4097 tree/bin/hard"), 0);
	return 0;
}

static int remove_tree(void **state)
{
	char *cmd = text_printf("rm -rf %s", dir);

	(void)state;
	assert_int_equal(system(cmd), 0);
	free(cmd);
	return 0;
}

/* --- comparing --- */

struct compare {
	struct world *w;
	const uint8_t *truth;
	uint64_t next;
	uint64_t bytes; /* in extents */
};

static void add_piece(struct world *w, uint64_t off, uint64_t bytes, bool metadata)
{
	assert_true(bytes > 0 && off + bytes <= w->disk.bytes && w->count < MAX_RANGES);
	w->pieces[w->count++] = (struct piece){off, bytes, metadata};
}

static int check_extent(void *arg, uint64_t file_off, uint64_t dev_off, uint64_t bytes)
{
	struct compare *c = arg;
	uint8_t *p = xmalloc_zero(1, bytes);

	assert_true(file_off >= c->next && bytes > 0);
	c->next = file_off + bytes;
	c->bytes += bytes;
	assert_int_equal(pread(c->w->disk.fd, p, bytes, (off_t)dev_off), bytes);
	assert_memory_equal(p, c->truth + file_off, bytes);
	add_piece(c->w, dev_off, bytes, false);
	free(p);
	return 0;
}

static void check_content(struct world *w, const char *path, const struct imagefs_node *n,
			  bool first)
{
	char *truth, *got = xmalloc_zero(1, n->bytes + 1);
	struct compare c = {.w = w};
	struct err e = {0};
	uint64_t cut = n->bytes / 3;
	long rc;

	assert_int_equal(text_read_file(path, 64 << 20, &truth, NULL, &e), 0);
	c.truth = (const uint8_t *)truth;
	rc = imagefs_read(w->fs, n->ino, 0, got, n->bytes + 1, &e);
	if (w->compressed && rc == -EOPNOTSUPP) {
		assert_int_equal(imagefs_extents(w->fs, n->ino, 0, n->bytes, check_extent, &c, &e),
				 -EOPNOTSUPP);
	} else {
		if (rc != (long)n->bytes)
			fail_msg("%s: %ld bytes, %s", path, rc, e.msg);
		assert_memory_equal(got, truth, n->bytes);
		assert_int_equal(imagefs_read(w->fs, n->ino, cut, got, cut, &e), cut);
		assert_memory_equal(got, truth + cut, cut);
		assert_int_equal(imagefs_read(w->fs, n->ino, n->bytes, got, 1, &e), 0);
		if (first)
			assert_int_equal(
			    imagefs_extents(w->fs, n->ino, 0, UINT64_MAX, check_extent, &c, &e), 0);
	}
	free(truth);
	free(got);
}

static int check_name(void *arg, const char *path, const struct imagefs_node *n)
{
	struct world *w = arg;
	char *real = text_printf("%s/tree%s", dir, path), *target;
	char truth[4096] = {0};
	struct imagefs_node again;
	struct stat st;

	if (strcmp(path, "/lost+found") == 0) {
		free(real);
		return 0;
	}
	w->names++;
	assert_int_equal(lstat(real, &st), 0);
	assert_int_equal(imagefs_lookup(w->fs, path, false, &again, NULL, NULL), 0);
	assert_int_equal(again.ino, n->ino);
	assert_int_equal(again.type, n->type);
	assert_int_equal(again.bytes, n->bytes);
	assert_int_equal(n->mode, st.st_mode);
	if (n->type != IMAGEFS_DIR) {
		assert_int_equal(n->links, st.st_nlink);
		assert_int_equal(n->bytes, st.st_size);
	}
	switch (n->type) {
	case IMAGEFS_FILE:
		assert_true(S_ISREG(st.st_mode));
		check_content(w, real, n, strcmp(path, "/bin/hard") != 0);
		break;
	case IMAGEFS_DIR:
		assert_true(S_ISDIR(st.st_mode));
		break;
	case IMAGEFS_SYMLINK:
		assert_true(readlink(real, truth, sizeof(truth) - 1) > 0);
		assert_int_equal(imagefs_link(w->fs, n->ino, &target, NULL), 0);
		assert_string_equal(target, truth);
		free(target);
		break;
	case IMAGEFS_OTHER:
	default:
		fail_msg("%s is neither", path);
	}
	free(real);
	return 0;
}

static size_t tree_names;

static int count_name(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	(void)path;
	(void)st;
	(void)flag;
	(void)f;
	tree_names++;
	return 0;
}

static int note_metadata(void *arg, uint64_t off, uint64_t bytes)
{
	struct world *w = arg;

	if (w->count) {
		const struct piece *last = &w->pieces[w->count - 1];

		assert_true(off > last->off + last->bytes);
	}
	add_piece(w, off, bytes, true);
	return 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* A sparse file with nothing but the pieces. */
static void copy_pieces(const struct world *w, const char *name)
{
	char *path = in_dir(name);
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)w->disk.bytes), 0);
	for (size_t n = 0; n < w->count; n++) {
		const struct piece *p = &w->pieces[n];
		uint8_t *data = xmalloc_zero(1, p->bytes);

		assert_int_equal(pread(w->disk.fd, data, p->bytes, (off_t)p->off), p->bytes);
		assert_int_equal(pwrite(fd, data, p->bytes, (off_t)p->off), p->bytes);
		free(data);
	}
	close(fd);
	free(path);
}

static void walk_tree(struct world *w)
{
	char *tree = in_dir("tree");
	struct err e = {0};

	tree_names = 0;
	assert_int_equal(nftw(tree, count_name, 16, FTW_PHYS), 0);
	free(tree);
	w->names = 0;
	if (imagefs_walk(w->fs, check_name, w, &e))
		fail_msg("walk: %s", e.msg);
	assert_int_equal(w->names, tree_names);
}

static void check_links(struct world *w)
{
	struct imagefs_node n, m;
	struct err e = {0};
	uint64_t listed;
	char *real, byte;

	assert_int_equal(imagefs_lookup(w->fs, "/abs", true, &n, &real, &e), 0);
	assert_string_equal(real, "/a/b/c/large");
	assert_int_equal(imagefs_lookup(w->fs, real, true, &m, NULL, &e), 0);
	assert_int_equal(n.ino, m.ino);
	free(real);
	assert_int_equal(imagefs_lookup(w->fs, "//short/./../b/c//../up", true, &m, &real, &e), 0);
	assert_int_equal(n.ino, m.ino);
	free(real);
	assert_int_equal(imagefs_lookup(w->fs, "/../../short/..", true, &m, &real, &e), 0);
	assert_string_equal(real, "/a");
	free(real);
	assert_int_equal(imagefs_lookup(w->fs, "/short", false, &m, &real, &e), 0);
	assert_int_equal(m.type, IMAGEFS_SYMLINK);
	assert_string_equal(real, "/short");
	free(real);
	assert_int_equal(imagefs_lookup(w->fs, "/loop1", true, &m, NULL, &e), -ELOOP);
	assert_int_equal(imagefs_lookup(w->fs, "/loop1", false, &m, NULL, &e), 0);
	assert_int_equal(imagefs_lookup(w->fs, "/long", true, &m, NULL, &e), -ENOENT);
	assert_int_equal(imagefs_lookup(w->fs, "/a/none", true, &m, NULL, &e), -ENOENT);
	assert_int_equal(imagefs_lookup(w->fs, "/a/f1/x", true, &m, NULL, &e), -ENOTDIR);
	assert_int_equal(imagefs_lookup(w->fs, "/a/f1/..", true, &m, NULL, &e), -ENOTDIR);
	assert_int_equal(imagefs_lookup(w->fs, "a", true, &m, NULL, &e), -EINVAL);
	assert_int_equal(imagefs_node(w->fs, UINT64_MAX / 64, &m, &e), -ENOENT);
	assert_int_equal(imagefs_lookup(w->fs, "/a", true, &m, NULL, &e), 0);
	assert_int_equal(imagefs_read(w->fs, m.ino, 0, &byte, 1, &e), -EINVAL);
	assert_true(imagefs_is_absence(-ELOOP) && imagefs_is_absence(-ENOENT));
	assert_false(imagefs_is_absence(0) || imagefs_is_absence(-EBADMSG));
	/* every look-up is counted, of what is not there too */
	listed = imagefs_listed_bytes(w->fs);
	assert_int_equal(imagefs_lookup(w->fs, "/a/none", true, &m, NULL, &e), -ENOENT);
	assert_true(imagefs_listed_bytes(w->fs) > listed + 512);
}

/* Only what one path takes, and the file behind it: it must be found and read from that. */
static void check_path(struct world *w)
{
	struct world small = {0};
	struct imagefs_node n;
	struct err e = {0};
	char *truth, *got, *tree = in_dir("tree/a/b/c/large");
	size_t bytes;

	w->count = 0;
	assert_int_equal(imagefs_path_metadata(w->fs, "/abs", note_metadata, w, &e), 0);
	assert_int_equal(text_read_file(tree, 64 << 20, &truth, &bytes, &e), 0);
	assert_int_equal(imagefs_lookup(w->fs, "/abs", true, &n, NULL, &e), 0);
	if (!w->compressed) {
		struct compare c = {.w = w, .truth = (const uint8_t *)truth};

		assert_int_equal(imagefs_extents(w->fs, n.ino, 0, bytes, check_extent, &c, &e), 0);
		copy_pieces(w, "path.img");
		assert_int_equal(open_disk(&small, "path.img", &e), 0);
		got = xmalloc_zero(1, bytes);
		if (imagefs_lookup(small.fs, "/abs", true, &n, NULL, &e) ||
		    imagefs_read(small.fs, n.ino, 0, got, bytes, &e) != (long)bytes)
			fail_msg("%s", e.msg);
		assert_memory_equal(got, truth, bytes);
		free(got);
		close_disk(&small);
	}
	free(truth);
	free(tree);
}

static void check_image(const char *kind, const char *how)
{
	struct world w = {.pieces = xmalloc_zero(MAX_RANGES, sizeof(struct piece))};
	struct piece *pieces = w.pieces;
	struct world copy = {.pieces = xmalloc_zero(MAX_RANGES, sizeof(struct piece))};
	bool shared = strstr(how, "chunk") != NULL;
	uint64_t metadata = 0;
	struct err e = {0};
	int rc;

	w.compressed = copy.compressed = strstr(how, "-z") != NULL;
	if (open_disk(&w, "disk.img", &e))
		fail_msg("%s: %s", how, e.msg);
	assert_string_equal(imagefs_kind(w.fs), kind);
	rc = imagefs_metadata(w.fs, note_metadata, &w, &e);
	if (rc)
		fail_msg("%s: %s", how, e.msg);
	for (size_t n = 0; n < w.count; n++)
		metadata += w.pieces[n].bytes;
	walk_tree(&w);
	check_links(&w);

	/* disjoint but for chunks that files have in common, and enough for others */
	qsort(pieces, w.count, sizeof(*pieces), by_offset);
	for (size_t n = 1; n < w.count; n++)
		assert_true(pieces[n].off >= pieces[n - 1].off + pieces[n - 1].bytes ||
			    (shared && !pieces[n].metadata && !pieces[n - 1].metadata));
	copy_pieces(&w, "copy.img");
	assert_int_equal(open_disk(&copy, "copy.img", &e), 0);
	walk_tree(&copy);
	assert_true(copy.disk.reads < 3000);
	close_disk(&copy);
	/* debugfs 1.47.0 does not dump files of up to 60 bytes whose data are inline */
	if (!w.compressed && !strstr(how, "-O inline")) {
		assert_int_equal(shell("rm -rf got && mkdir got"), 0);
		if (strcmp(kind, "ext4") == 0)
			assert_int_equal(
			    shell("debugfs -c -R 'rdump / got' copy.img && rmdir got/lost+found"),
			    0);
		else
			assert_int_equal(shell("fsck.erofs --extract=got copy.img"), 0);
		if (shell("diff -r --no-dereference tree got"))
			fail_msg("%s %s: what was copied is not all, see %s/out", kind, how, dir);
	}
	check_path(&w);
	print_message("%s %s: %llu bytes of metadata in %llu reads\n", kind, how,
		      (unsigned long long)metadata, (unsigned long long)w.disk.reads);
	close_disk(&w);
}

static bool have(const char *program)
{
	if (shell("command -v %s", program) == 0)
		return true;
	print_message("%s is not installed\n", program);
	return false;
}

static void test_ext4(void **state)
{
	static const char *const how[] = {
	    "-t ext4 -b 4096",
	    "-t ext4 -b 1024",
	    "-t ext2 -b 1024",
	    "-t ext3 -b 4096",
	    "-t ext4 -b 2048 -O ^metadata_csum,^uninit_bg,^64bit",
	    "-t ext4 -b 4096 -I 256 -O inline_data",
	    "-t ext4 -b 1024 -O meta_bg,^resize_inode -g 1024",
	    "-t ext4 -b 4096 -O ^has_journal,sparse_super2,^flex_bg",
	};

	(void)state;
	if (!have("mkfs.ext4") || !have("debugfs"))
		skip();
	for (size_t n = 0; n < sizeof(how) / sizeof(how[0]); n++) {
		assert_int_equal(
		    shell("rm -f disk.img && mke2fs -q -F -N 3000 %s -d tree disk.img 64M", how[n]),
		    0);
		check_image("ext4", how[n]);
	}
}

/* Directories with an index, inodes with attributes: what the kernel and others make later. */
static void test_indexed(void **state)
{
	(void)state;
	if (!have("mkfs.ext4") || !have("e2fsck"))
		skip();
	assert_int_equal(
	    shell("rm -f disk.img && mke2fs -q -F -t ext4 -b 1024 -N 3000 -d tree disk.img 64M"),
	    0);
	assert_true(shell("e2fsck -fyD disk.img") <= 1 << 8);
	check_image("ext4", "optimised by e2fsck");
}

static void test_erofs(void **state)
{
	static const char *const how[] = {
	    "",	     "-Enoinline_data",		"--chunksize=4096", "-Eforce-inode-extended",
	    "-zlz4", "-zlz4 -Elegacy-compress",
	};

	(void)state;
	if (!have("mkfs.erofs") || !have("fsck.erofs"))
		skip();
	for (size_t n = 0; n < sizeof(how) / sizeof(how[0]); n++) {
		assert_int_equal(
		    shell("rm -f disk.img && mkfs.erofs --quiet %s disk.img tree", how[n]), 0);
		check_image("erofs", how[n]);
	}
}

/* --- hostile ones --- */

static int any_name(void *arg, const char *path, const struct imagefs_node *n)
{
	(void)path;
	(void)n;
	(*(size_t *)arg)++;
	return 0;
}

static int any_extent(void *arg, uint64_t file_off, uint64_t dev_off, uint64_t bytes)
{
	(void)arg;
	(void)file_off;
	(void)dev_off;
	(void)bytes;
	return 0;
}

static int any_range(void *arg, uint64_t off, uint64_t bytes)
{
	(void)arg;
	(void)off;
	(void)bytes;
	return 0;
}

static void test_loop(void **state)
{
	struct world w = {0};
	struct err e = {0};
	size_t names = 0;

	(void)state;
	if (!have("mkfs.ext4") || !have("debugfs"))
		skip();
	assert_int_equal(shell("rm -f disk.img && mke2fs -q -F -t ext4 -d tree disk.img 64M"), 0);
	assert_int_equal(shell("debugfs -w -R 'ln /a /a/b/c/again' disk.img"), 0);
	assert_int_equal(open_disk(&w, "disk.img", &e), 0);
	assert_int_equal(imagefs_walk(w.fs, any_name, &names, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "/a/b/c/again"));
	close_disk(&w);
}

static void test_outside(void **state)
{
	struct imagefs_node n;
	struct world w = {0};
	struct err e = {0};
	char buf[16];

	(void)state;
	if (!have("mkfs.ext4") || !have("debugfs"))
		skip();
	assert_int_equal(shell("rm -f disk.img && mke2fs -q -F -t ext2 -d tree disk.img 64M"), 0);
	assert_int_equal(shell("debugfs -w -R 'sif /a/f4096 block[0] 99999999' disk.img"), 0);
	assert_int_equal(open_disk(&w, "disk.img", &e), 0);
	assert_int_equal(imagefs_lookup(w.fs, "/a/f4096", true, &n, NULL, &e), 0);
	assert_int_equal(imagefs_extents(w.fs, n.ino, 0, 4096, any_extent, NULL, &e), -EBADMSG);
	assert_int_equal(imagefs_read(w.fs, n.ino, 0, buf, sizeof(buf), &e), -EBADMSG);
	close_disk(&w);

	/* the device ends before the file system does */
	assert_int_equal(shell("truncate -s 32M disk.img"), 0);
	assert_int_equal(open_disk(&w, "disk.img", &e), -EBADMSG);
	close_disk(&w);
	assert_int_equal(shell("truncate -s 1500 disk.img"), 0);
	assert_int_equal(open_disk(&w, "disk.img", &e), -EOPNOTSUPP);
	close_disk(&w);
}

/* What the device says is what the caller gets, through libext2fs as well. */
static void test_device_error(void **state)
{
	struct imagefs_node n;
	struct world w = {0};
	struct err e = {0};

	(void)state;
	if (!have("mkfs.ext4"))
		skip();
	assert_int_equal(shell("rm -f disk.img && mke2fs -q -F -t ext4 -d tree disk.img 64M"), 0);
	assert_int_equal(open_disk(&w, "disk.img", &e), 0);
	w.disk.bad_from = 0;
	assert_int_equal(
	    imagefs_lookup(w.fs, "/many/a name of some length 1199", true, &n, NULL, &e), -EIO);
	assert_non_null(strstr(e.msg, "on fire"));
	assert_int_equal(imagefs_metadata(w.fs, any_range, NULL, &e), -EIO);
	w.disk.bad_from = UINT64_MAX;
	assert_int_equal(
	    imagefs_lookup(w.fs, "/many/a name of some length 1199", true, &n, NULL, &e), 0);
	close_disk(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ext4),    cmocka_unit_test(test_indexed),
	    cmocka_unit_test(test_erofs),   cmocka_unit_test(test_loop),
	    cmocka_unit_test(test_outside), cmocka_unit_test(test_device_error),
	};

	return cmocka_run_group_tests_name("imagefs", tests, make_tree, remove_tree);
}
