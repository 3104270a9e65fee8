/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ext4_apply.c - layers applied to a small device, looked at with libext2fs and e2fsck
 *
 * The device is a sparse temporary file; every check reads it with code that is not ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "apply.h"
#include "digest.h"
#include "err.h"
#include "ext4.h"
#include "tar_make.h"
#include "text.h"

#define SEED	     "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define DEVICE_BYTES (256ull << 20)

struct world {
	struct ext4 *x;
	uint64_t bytes;
	char path[64];
	int fd;
	struct digest *digest; /* of everything the sink got, offsets included */
	struct tar_make tar;
	struct apply_stats stats;
	struct err e;
	/* input */
	const uint8_t *in;
	size_t in_bytes, step;
};

static int input(void *arg, const void **ret_p, size_t *ret_bytes, struct err *e)
{
	struct world *w = arg;

	(void)e;
	*ret_bytes = w->in_bytes < w->step ? w->in_bytes : w->step;
	*ret_p = w->in;
	w->in += *ret_bytes;
	w->in_bytes -= *ret_bytes;
	return 0;
}

static int sink(void *arg, uint64_t off, const void *p, size_t bytes, struct err *e)
{
	struct world *w = arg;

	(void)e;
	assert_int_equal(off % BLOCK_BYTES, 0);
	assert_int_equal(bytes % BLOCK_BYTES, 0);
	assert_true(off + bytes <= w->bytes);
	assert_int_equal(pwrite(w->fd, p, bytes, (off_t)off), bytes);
	digest_add(w->digest, &off, sizeof(off));
	digest_add(w->digest, p, bytes);
	return 0;
}

static void open_world(struct world *w, uint64_t bytes)
{
	memset(w, 0, sizeof(*w));
	strcpy(w->path, "/tmp/test_ext4_apply.XXXXXX");
	w->fd = mkstemp(w->path);
	assert_true(w->fd >= 0);
	assert_int_equal(ftruncate(w->fd, (off_t)bytes), 0);
	w->bytes = bytes;
	w->step = 10000;
	w->digest = digest_new();
	tar_make_init(&w->tar);
	assert_int_equal(ext4_new(bytes, NULL, &w->x, &w->e), 0);
	assert_int_equal(ext4_format(w->x, SEED, &w->e), 0);
}

static int setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	open_world(w, DEVICE_BYTES);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	ext4_free(w->x);
	digest_free(w->digest);
	tar_make_done(&w->tar);
	close(w->fd);
	unlink(w->path);
	free(w);
	return 0;
}

/* Apply what was added since the last call as one layer. */
static int layer(struct world *w)
{
	int rc;

	tar_make_end(&w->tar);
	w->in = w->tar.p;
	w->in_bytes = w->tar.bytes;
	memset(&w->e, 0, sizeof(w->e));
	rc = apply_layer(w->x, input, w, sink, w, NULL, &w->stats, &w->e);
	assert_int_equal(rc, w->e.code);
	w->tar.bytes = 0;
	return rc;
}

static void good(struct world *w)
{
	if (layer(w) < 0)
		fail_msg("%s", w->e.msg);
}

static void bad(struct world *w, int code, const char *words)
{
	assert_int_equal(layer(w), code);
	if (!strstr(w->e.msg, words))
		fail_msg("\"%s\" is not in \"%s\"", words, w->e.msg);
	ext4_free(w->x); /* of no more use: a new one for the next case */
	assert_int_equal(ext4_new(w->bytes, NULL, &w->x, NULL), 0);
	assert_int_equal(ext4_format(w->x, SEED, NULL), 0);
}

static void fsck(struct world *w)
{
	char command[512];
	int status;

	snprintf(
	    command, sizeof(command),
	    "PATH=$PATH:/sbin:/usr/sbin; e2fsck -fn %s >%s.log 2>&1 || { cat %s.log; false; }; "
	    "r=$?; rm -f %s.log; exit $r",
	    w->path, w->path, w->path, w->path);
	status = system(command);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- looking --- */

static bool look(struct world *w, const char *path, uint32_t *ret_ino, struct ext2_inode_large *ret)
{
	ext2_filsys fs;
	ext2_ino_t ino = 0;
	bool there;

	assert_int_equal(ext2fs_open(w->path, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs), 0);
	there = ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) == 0;
	if (there)
		assert_int_equal(ext2fs_read_inode_full(fs, ino, (void *)ret, sizeof(*ret)), 0);
	*ret_ino = ino;
	ext2fs_close_free(&fs);
	return there;
}

static bool there(struct world *w, const char *path)
{
	struct ext2_inode_large in;
	uint32_t ino;

	return look(w, path, &ino, &in);
}

static struct ext2_inode_large inode(struct world *w, const char *path)
{
	struct ext2_inode_large in;
	uint32_t ino;

	if (!look(w, path, &ino, &in))
		fail_msg("%s is missing", path);
	return in;
}

static void content(struct world *w, const char *path, const void *want, size_t bytes)
{
	ext2_filsys fs;
	ext2_ino_t ino;
	ext2_file_t f;
	unsigned int got = 0;
	char *buf = malloc(bytes + 1);

	assert_int_equal(ext2fs_open(w->path, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs), 0);
	if (ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino))
		fail_msg("%s is missing", path);
	assert_int_equal(ext2fs_file_open(fs, ino, 0, &f), 0);
	assert_int_equal(ext2fs_file_get_size(f), bytes);
	assert_int_equal(ext2fs_file_read(f, buf, (unsigned int)bytes, &got), 0);
	assert_int_equal(got, bytes);
	assert_memory_equal(buf, want, bytes);
	ext2fs_file_close(f);
	ext2fs_close_free(&fs);
	free(buf);
}

static void says(struct world *w, const char *path, const char *text)
{
	content(w, path, text, strlen(text));
}

/* --- tests --- */

static void test_empty_layer(void **state)
{
	struct world *w = *state;

	good(w);
	fsck(w);
	assert_false(there(w, "/lost+found"));
	good(w); /* nothing on nothing */
	assert_int_equal(w->stats.metadata_bytes, 0);
	fsck(w);
}

static void test_whiteouts(void **state)
{
	struct world *w = *state;

	tar_make_dir(&w->tar, "d");
	tar_make_file(&w->tar, "d/a", "a");
	tar_make_file(&w->tar, "d/b", "b");
	tar_make_dir(&w->tar, "d/sub");
	tar_make_file(&w->tar, "d/sub/c", "c");
	tar_make_dir(&w->tar, "tree");
	tar_make_file(&w->tar, "tree/x/y/z", "z");
	tar_make_file(&w->tar, "keep", "k");
	good(w);
	/* contents before the markers: order must not matter */
	tar_make_file(&w->tar, "d/new", "n");
	tar_make_file(&w->tar, "d/sub/new", "sn");
	tar_make_file(&w->tar, "d/.wh..wh..opq", "");
	tar_make_file(&w->tar, ".wh.tree", "");
	tar_make_file(&w->tar, "fresh", "f");
	tar_make_file(&w->tar, ".wh.fresh", ""); /* hides lower layers only */
	tar_make_file(&w->tar, ".wh.absent", "");
	tar_make_file(&w->tar, "no/such/dir/.wh.x", "");
	tar_make_file(&w->tar, ".wh..wh.plnk", "");
	good(w);
	fsck(w);
	assert_false(there(w, "/d/a"));
	assert_false(there(w, "/d/b"));
	assert_false(there(w, "/d/sub/c"));
	assert_false(there(w, "/tree"));
	assert_false(there(w, "/no"));
	assert_false(there(w, "/.wh..wh.plnk"));
	says(w, "/d/new", "n");
	says(w, "/d/sub/new", "sn");
	says(w, "/fresh", "f");
	says(w, "/keep", "k");
}

static void test_type_changes(void **state)
{
	struct world *w = *state;

	tar_make_file(&w->tar, "a", "file");
	tar_make_file(&w->tar, "b/in/ner", "x");
	tar_make_link(&w->tar, '2', "c", "b");
	tar_make_file(&w->tar, "t", "one");
	tar_make_link(&w->tar, '1', "t2", "t");
	good(w);
	tar_make_dir(&w->tar, "a");
	tar_make_file(&w->tar, "a/x", "x");
	tar_make_file(&w->tar, "b", "now a file");
	tar_make_dir(&w->tar, "c"); /* replaces the link, does not follow it */
	tar_make_file(&w->tar, "c/y", "y");
	tar_make_file(&w->tar, "t", "two"); /* the other name keeps the old content */
	tar_make_file(&w->tar, "t", "three");
	good(w);
	fsck(w);
	says(w, "/a/x", "x");
	says(w, "/b", "now a file");
	says(w, "/c/y", "y");
	says(w, "/t", "three");
	says(w, "/t2", "one");
	assert_int_equal(inode(w, "/t2").i_links_count, 1);
}

static void test_hard_links(void **state)
{
	struct world *w = *state;

	tar_make_file(&w->tar, "dir/a", "content");
	tar_make_link(&w->tar, '2', "sym", "nowhere");
	good(w);
	tar_make_link(&w->tar, '1', "dir/b", "dir/a");
	tar_make_link(&w->tar, '1', "c", "/dir/../dir/a");
	tar_make_link(&w->tar, '1', "c", "c");	    /* itself: nothing */
	tar_make_link(&w->tar, '1', "sym2", "sym"); /* to the link, not what it names */
	good(w);
	fsck(w);
	says(w, "/c", "content");
	assert_int_equal(inode(w, "/dir/a").i_links_count, 3);
	/* a link that replaces the directory its target is in */
	tar_make_link(&w->tar, '1', "dir", "dir/a");
	good(w);
	fsck(w);
	says(w, "/dir", "content");
	assert_int_equal(inode(w, "/c").i_links_count, 2);
	tar_make_link(&w->tar, '1', "x", "missing");
	bad(w, -EBADMSG, "not there");
	tar_make_dir(&w->tar, "d");
	tar_make_link(&w->tar, '1', "x", "d");
	bad(w, -EBADMSG, "directory");
}

static void test_parents(void **state)
{
	struct world *w = *state;

	w->tar.uid = 7;
	tar_make_dir(&w->tar, "usr/lib");
	tar_make_link(&w->tar, '2', "lib", "usr/lib");
	tar_make_file(&w->tar, "lib/inside", "1");
	tar_make_link(&w->tar, '2', "abs", "/usr/lib");
	tar_make_file(&w->tar, "abs/second", "2");
	tar_make_link(&w->tar, '2', "dangling", "made/here");
	tar_make_file(&w->tar, "dangling/third", "3");
	tar_make_file(&w->tar, "/absolute/name", "4");
	tar_make_file(&w->tar, "./dot/./name", "5");
	tar_make_file(&w->tar, "a/../b/file", "6");
	good(w);
	fsck(w);
	says(w, "/usr/lib/inside", "1");
	says(w, "/usr/lib/second", "2");
	says(w, "/made/here/third", "3");
	says(w, "/absolute/name", "4");
	says(w, "/dot/name", "5");
	says(w, "/b/file", "6");
	assert_false(there(w, "/a"));
	assert_int_equal(inode(w, "/usr").i_uid, 0); /* nobody named it */
	assert_int_equal(inode(w, "/usr").i_mode, LINUX_S_IFDIR | 0755);
	assert_int_equal(inode(w, "/usr/lib").i_uid, 7);
}

static void test_hostile_names(void **state)
{
	static const struct {
		char type;
		const char *name, *link;
		int code;
		const char *words;
	} c[] = {
	    {'0', "../x", NULL, -EBADMSG, "leaves the image's root"},
	    {'0', "a/../../x", NULL, -EBADMSG, "leaves the image's root"},
	    {'5', "..", NULL, -EBADMSG, "leaves the image's root"},
	    {'0', "/..", NULL, -EBADMSG, "leaves the image's root"},
	    {'0', ".wh...", NULL, -EBADMSG, "whiteout of \"..\""},
	    {'0', ".wh..", NULL, -EBADMSG, "whiteout of \".\""},
	    {'0', "d/.wh.", NULL, -EBADMSG, "whiteout of \"\""},
	    {'1', "x", "../../etc/passwd", -EBADMSG, "leaves the image's root"},
	    {'1', "x", "/", -EBADMSG, "not there"},
	    {'0', ".", NULL, -EBADMSG, "root can only be a directory"},
	    {'2', "/", "x", -EBADMSG, "root can only be a directory"},
	};
	struct world *w = *state;
	char name[5000];

	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		tar_make_link(&w->tar, c[i].type, c[i].name, c[i].link);
		bad(w, c[i].code, c[i].words);
		assert_non_null(strstr(w->e.msg, "entry \""));
	}
	memset(name, 'n', 256);
	name[256] = 0;
	tar_make_file(&w->tar, name, "");
	bad(w, -ENAMETOOLONG, "256 bytes");
	for (size_t i = 0; i < 4200; i++)
		name[i] = i % 100 == 99 ? '/' : 'p';
	name[4200] = 0;
	tar_make_file(&w->tar, name, "");
	bad(w, -ENAMETOOLONG, "4095");
	memset(name, 's', 4096);
	name[4096] = 0;
	tar_make_pax(&w->tar, "linkpath", name, 4096);
	tar_make_link(&w->tar, '2', "sym", "short");
	bad(w, -ENAMETOOLONG, "4096 bytes");
	tar_make_file(&w->tar, "file", "");
	tar_make_file(&w->tar, "file/below", "");
	bad(w, -EBADMSG, "not a directory");
}

static void test_symlinks_stay_inside(void **state)
{
	struct world *w = *state;

	tar_make_link(&w->tar, '2', "up", "../../../../..");
	tar_make_file(&w->tar, "up/etc/passwd", "caught");
	tar_make_link(&w->tar, '2', "up2", "/../tmp");
	tar_make_file(&w->tar, "up2/x", "caught too");
	good(w);
	fsck(w);
	says(w, "/etc/passwd", "caught");
	says(w, "/tmp/x", "caught too");
	tar_make_link(&w->tar, '2', "l1", "l2");
	tar_make_link(&w->tar, '2', "l2", "l1");
	tar_make_file(&w->tar, "l1/x", "");
	bad(w, -ELOOP, "too many symbolic links");
}

/* r: the directory of the last entry is remembered; a link on the way to it may change */
static void test_changed_link_on_the_way(void **state)
{
	struct world *w = *state;

	tar_make_dir(&w->tar, "one");
	tar_make_dir(&w->tar, "two");
	tar_make_link(&w->tar, '2', "way", "one");
	tar_make_file(&w->tar, "way/a", "a");
	tar_make_link(&w->tar, '2', "way", "two");
	tar_make_file(&w->tar, "way/b", "b");
	good(w);
	tar_make_file(&w->tar, "way/c", "c");
	tar_make_file(&w->tar, ".wh.one", "");
	tar_make_dir(&w->tar, "way");
	tar_make_file(&w->tar, "way/d", "d");
	good(w);
	fsck(w);
	says(w, "/two/b", "b");
	says(w, "/two/c", "c");
	says(w, "/way/d", "d");
	assert_false(there(w, "/one"));
}

static void test_broken_archives(void **state)
{
	struct world *w = *state;

	tar_make_add(&w->tar, '0', "short", NULL, "abc", 3, 100000);
	bad(w, -EBADMSG, "entry \"short\"");
	tar_make_add(&w->tar, '0', "huge", NULL, "abc", 3, 077777777777ull);
	bad(w, -EBADMSG, "entry \"huge\"");
	memset(w->tar.p, 'x', 512);
	w->tar.bytes = 512;
	bad(w, -EBADMSG, "not a valid tar");
	tar_make_pax(&w->tar, "size", "99999999999999999999", 20);
	tar_make_add(&w->tar, '0', "big", NULL, "abc", 3, 3);
	assert_true(layer(w) < 0 || there(w, "/big"));
}

static void test_device_full(void **state)
{
	struct world *w = *state;
	size_t bytes = 300u << 20;
	uint8_t *p = malloc(bytes);

	memset(p, 1, bytes);
	tar_make_file(&w->tar, "fits", "x");
	tar_make_add(&w->tar, '0', "toobig", NULL, p, bytes, bytes);
	free(p);
	bad(w, -ENOSPC, "entry \"toobig\"");
}

static void test_metadata(void **state)
{
	static const struct {
		const char *mtime;
		int64_t sec;
		uint32_t ns;
	} times[] = {
	    {"-1000000.5", -1000001, 500000000},
	    {"0", 0, 0},
	    {"1234567890.123456789", 1234567890, 123456789},
	    {"2147483648", 2147483648ll, 0},
	    {"5000000000.25", 5000000000ll, 250000000},
	    {"15032385535", 15032385535ll, 0},
	    {"99999999999", (1ll << 34) - (1ll << 31) - 1, 0},
	};
	struct world *w = *state;
	struct ext2_inode_large in;
	char name[16];

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		snprintf(name, sizeof(name), "t%zu", i);
		tar_make_pax(&w->tar, "mtime", times[i].mtime, strlen(times[i].mtime));
		tar_make_file(&w->tar, name, "");
	}
	tar_make_pax(&w->tar, "uid", "4294967294", 10);
	tar_make_pax(&w->tar, "gid", "3000000000", 10);
	w->tar.mode = 07777;
	tar_make_file(&w->tar, "owned", "");
	good(w);
	fsck(w);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		snprintf(name, sizeof(name), "/t%zu", i);
		in = inode(w, name);
		assert_int_equal((int64_t)(int32_t)in.i_mtime +
				     ((int64_t)(in.i_mtime_extra & 3) << 32),
				 times[i].sec);
		assert_int_equal(in.i_mtime_extra >> 2, times[i].ns);
	}
	in = inode(w, "/owned");
	assert_int_equal(inode_uid(in), 4294967294u);
	assert_int_equal(inode_gid(in), 3000000000u);
	assert_int_equal(in.i_mode, LINUX_S_IFREG | 07777);
	tar_make_pax(&w->tar, "uid", "4294967296", 10);
	tar_make_file(&w->tar, "owned", "");
	bad(w, -EOVERFLOW, "32 bits");
}

static void test_xattrs(void **state)
{
	static const uint8_t acl[] = {2,   0,	0,   0,	   1,	0,    6,    0,	 255, 255, 255,
				      255, 2,	0,   4,	   0,	0xe8, 3,    0,	 0,   4,   0,
				      4,   0,	255, 255,  255, 255,  0x10, 0,	 4,   0,   255,
				      255, 255, 255, 0x20, 0,	0,    0,    255, 255, 255, 255};
	struct world *w = *state;
	struct ext2_xattr_handle *h;
	ext2_filsys fs;
	ext2_ino_t ino;
	uint8_t big[5000];
	void *value;
	size_t len;

	memset(big, 'v', sizeof(big));
	tar_make_pax(&w->tar, "SCHILY.xattr.user.first", "1", 1);
	tar_make_pax(&w->tar, "SCHILY.xattr.user.big", big, 3000);
	tar_make_file(&w->tar, "f", "");
	tar_make_pax(&w->tar, "SCHILY.xattr.system.posix_acl_access", acl, sizeof(acl));
	tar_make_pax(&w->tar, "SCHILY.xattr.system.posix_acl_default", acl, sizeof(acl));
	tar_make_dir(&w->tar, "d");
	tar_make_pax(&w->tar, "SCHILY.xattr.user.gone", big, 1000);
	tar_make_dir(&w->tar, "e");
	good(w);
	fsck(w);
	tar_make_pax(&w->tar, "SCHILY.xattr.user.now", "2", 1);
	tar_make_dir(&w->tar, "e"); /* replaces all of them, block and inode */
	tar_make_file(&w->tar, "f", "");
	good(w);
	fsck(w);
	assert_int_equal(ext2fs_open(w->path, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs), 0);
	assert_int_equal(ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, "/e", &ino), 0);
	assert_int_equal(ext2fs_xattrs_open(fs, ino, &h), 0);
	assert_int_equal(ext2fs_xattrs_read(h), 0);
	assert_int_equal(ext2fs_xattr_get(h, "user.now", &value, &len), 0);
	ext2fs_free_mem(&value);
	assert_int_not_equal(ext2fs_xattr_get(h, "user.gone", &value, &len), 0);
	ext2fs_xattrs_close(&h);
	assert_int_equal(ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, "/d", &ino), 0);
	assert_int_equal(ext2fs_xattrs_open(fs, ino, &h), 0);
	assert_int_equal(ext2fs_xattrs_read(h), 0);
	assert_int_equal(ext2fs_xattr_get(h, "system.posix_acl_default", &value, &len), 0);
	assert_int_equal(len, sizeof(acl));
	/* entries without a qualifier have no id on disk; the library shows 0, the kernel -1 */
	for (size_t at = 4; at < sizeof(acl); at += 8)
		if (acl[at + 4] == 255)
			memset((uint8_t *)value + at + 4, 255, 4);
	assert_memory_equal(value, acl, sizeof(acl));
	ext2fs_free_mem(&value);
	ext2fs_xattrs_close(&h);
	ext2fs_close_free(&fs);

	tar_make_pax(&w->tar, "SCHILY.xattr.user.big", big, 5000);
	tar_make_file(&w->tar, "g", "");
	bad(w, -E2BIG, "entry \"g\"");
	tar_make_pax(&w->tar, "SCHILY.xattr.system.nfs4_acl", "x", 1);
	tar_make_file(&w->tar, "g", "");
	bad(w, -EOPNOTSUPP, "nfs4_acl");
	tar_make_pax(&w->tar, "SCHILY.xattr.system.posix_acl_access", "rubbish", 7);
	tar_make_file(&w->tar, "g", "");
	bad(w, -EBADMSG, "not a valid ACL");
}

/* Every second block is zeros: an extent each, a tree with blocks of its own; then all is freed. */
static void test_many_extents(void **state)
{
	struct world *w = *state;
	size_t blocks = 3001;
	uint8_t *p = calloc(blocks, 4096);

	for (size_t i = 0; i < blocks; i += 2)
		memset(p + i * 4096 + 100, (int)(i % 250) + 1, 300);
	w->step = 70001; /* pieces that do not fit blocks */
	tar_make_add(&w->tar, '0', "holes", NULL, p, blocks * 4096 - 17, blocks * 4096 - 17);
	good(w);
	fsck(w);
	content(w, "/holes", p, blocks * 4096 - 17);
	assert_true(w->stats.hole_bytes >= 1499 * 4096);
	tar_make_file(&w->tar, ".wh.holes", "");
	good(w);
	fsck(w);
	assert_false(there(w, "/holes"));
	free(p);
}

static void test_many_names(void **state)
{
	struct world *w = *state;
	struct timespec a, b;
	char name[64];

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	for (int i = 0; i < 12000; i++) {
		snprintf(name, sizeof(name), "many/name-%d-%.*s", i, i % 30,
			 "abcdefghijklmnopqrstuvwxyzabcdef");
		tar_make_link(&w->tar, '2', name, "x");
	}
	good(w);
	fsck(w);
	for (int i = 0; i < 12000; i += 3) {
		snprintf(name, sizeof(name), "many/.wh.name-%d-%.*s", i, i % 30,
			 "abcdefghijklmnopqrstuvwxyzabcdef");
		tar_make_file(&w->tar, name, "");
	}
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "many/again-%d", i);
		tar_make_link(&w->tar, '2', name, "y");
	}
	good(w);
	fsck(w);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	assert_false(there(w, "/many/name-0-"));
	assert_int_equal(inode(w, "/many/again-2999").i_size, 1);
	/* quadratic code takes minutes */
	assert_true(b.tv_sec - a.tv_sec < 20);
}

/* Adding one file changes a handful of blocks, whatever is there already. */
static void test_small_change_is_small(void **state)
{
	struct world *w = *state;
	char name[32];

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "d%d/f%d", i % 10, i);
		tar_make_file(&w->tar, name, "x");
	}
	good(w);
	tar_make_file(&w->tar, "d5/one-more", "y");
	good(w);
	fsck(w);
	assert_true(w->stats.metadata_bytes <= 8 * 4096);
}

static int read_file(void *arg, uint64_t off, void *buf, size_t bytes, struct err *e)
{
	(void)e;
	return pread(*(int *)arg, buf, bytes, (off_t)off) == (ssize_t)bytes ? 0 : -EIO;
}

static void second_layer(struct world *w)
{
	tar_make_file(&w->tar, ".wh.gone", "");
	tar_make_file(&w->tar, "d/b", "new content");
	tar_make_link(&w->tar, '1', "link", "d/a");
	tar_make_dir(&w->tar, "d/sub");
	tar_make_pax(&w->tar, "SCHILY.xattr.user.x", "1", 1);
	tar_make_file(&w->tar, "d/sub/x", "x");
	good(w);
}

/* A layer on reused layers, read through lower_reader, is the layer made in one go. */
static void test_reused_lower_gives_same_bytes(void **state)
{
	struct world *w = *state;
	struct lower_reader lower = {.read = read_file, .arg = &w->fd};
	struct ext4 *whole = w->x;
	char first[DIGEST_TEXT_BYTES], second[DIGEST_TEXT_BYTES];
	char copy[80];
	int original = w->fd, fd;
	char command[256];

	for (int i = 0; i < 500; i++) {
		char name[32];

		snprintf(name, sizeof(name), "gone/%d", i);
		tar_make_file(&w->tar, name, "g");
	}
	tar_make_file(&w->tar, "d/a", "a");
	tar_make_file(&w->tar, "d/b", "b");
	good(w);
	snprintf(copy, sizeof(copy), "%s.copy", w->path);
	snprintf(command, sizeof(command), "cp --sparse=always %s %s", w->path, copy);
	assert_int_equal(system(command), 0);

	digest_free(w->digest);
	w->digest = digest_new();
	second_layer(w);
	fsck(w);
	digest_text(w->digest, first);

	fd = open(copy, O_RDWR);
	assert_true(fd >= 0);
	w->fd = fd;
	assert_int_equal(ext4_new(w->bytes, &lower, &w->x, NULL), 0);
	digest_free(w->digest);
	w->digest = digest_new();
	second_layer(w);
	digest_text(w->digest, second);
	assert_string_equal(first, second);
	ext4_free(w->x);
	w->x = whole;
	w->fd = original;
	close(fd);
	unlink(copy);
}

/* A device of the layers below that is not one of ours, or damaged, is refused. */
static void test_corrupt_lower(void **state)
{
	struct world *w = *state;
	struct lower_reader lower = {.read = read_file, .arg = &w->fd};
	struct ext4 *own = w->x;
	uint8_t junk[4096];
	struct ext2_inode_large in;
	uint32_t ino;

	tar_make_file(&w->tar, "d/a", "a");
	good(w);
	assert_true(look(w, "/d", &ino, &in));
	memset(junk, 0xff, sizeof(junk));
	/* the directory's block: its first extent starts at byte 20 of i_block */
	assert_int_equal(pwrite(w->fd, junk, 4096, (off_t)in.i_block[5] * 4096), 4096);
	assert_int_equal(ext4_new(w->bytes, &lower, &w->x, NULL), 0);
	tar_make_file(&w->tar, "d/b", "b");
	assert_int_equal(layer(w), -EBADMSG);
	assert_non_null(strstr(w->e.msg, "corrupt"));
	ext4_free(w->x);
	assert_int_equal(pwrite(w->fd, junk, 4096, 0), 4096);
	assert_int_equal(ext4_new(w->bytes, &lower, &w->x, NULL), 0);
	assert_true(layer(w) < 0);
	ext4_free(w->x);
	w->x = own;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_empty_layer),
	    T(test_whiteouts),
	    T(test_type_changes),
	    T(test_hard_links),
	    T(test_parents),
	    T(test_hostile_names),
	    T(test_symlinks_stay_inside),
	    T(test_changed_link_on_the_way),
	    T(test_broken_archives),
	    T(test_device_full),
	    T(test_metadata),
	    T(test_xattrs),
	    T(test_many_extents),
	    T(test_many_names),
	    T(test_small_change_is_small),
	    T(test_reused_lower_gives_same_bytes),
	    T(test_corrupt_lower),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
