/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cache_full.c - a file system that somebody else has filled
 *
 * On a small tmpfs in a mount namespace of its own; skipped where there are no user namespaces.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache.h"
#include "cleanup.h"
#include "digest.h"
#include "err.h"
#include "log.h"
#include "text.h"

#define MIB	 (1u << 20)
#define FS_BYTES (8 * MIB)

static char dir[] = "/tmp/hs-cache-full-XXXXXX";

/* Returns whether @dir is an empty file system of FS_BYTES now. */
static bool make_file_system(void)
{
	char size[32];

	if (!mkdtemp(dir))
		return false;
	if ((geteuid() || unshare(CLONE_NEWNS)) && unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return false;
	snprintf(size, sizeof(size), "size=%u", FS_BYTES);
	return !mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("tmpfs", dir, "tmpfs", 0, size);
}

static int open_blob(struct cache *c, unsigned int id, uint64_t bytes, struct cache_blob **ret)
{
	char digest[DIGEST_TEXT_BYTES];
	struct err e = {0};

	digest_of(&id, sizeof(id), digest);
	return cache_blob_open(c, digest, bytes, ret, &e);
}

/* Writes until nothing more fits. */
static void fill_file_system(void)
{
	_cleanup_free_ char *path = text_printf("%s/other", dir);
	static const char block[4096];
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	close(fd);
}

static void test_old_blobs_make_room(void **state)
{
	_cleanup_free_ uint8_t *buf = calloc(1, 2 * MIB);
	struct cache_blob *b, *other;
	struct cache *c;
	struct err e = {0};

	(void)state;
	assert_int_equal(cache_open(dir, 0, &c, &e), 0);
	assert_int_equal(open_blob(c, 1, 2 * MIB, &b), 0);
	assert_int_equal(cache_store_now(b, range_of(0, 2 * MIB), buf), 0);
	cache_blob_close(b);
	fill_file_system();
	/* the map of a new blob does not fit, but nobody uses the old blob */
	assert_int_equal(open_blob(c, 2, 64 * MIB, &b), 0);
	assert_int_equal(cache_store_now(b, range_of(0, MIB), buf), 0);
	/* and what is in use stays, whatever else wants to be opened */
	fill_file_system();
	assert_int_equal(open_blob(c, 3, 64 * MIB, &other), -ENOSPC);
	assert_true(cache_has(b, range_of(0, MIB)));
	cache_blob_close(b);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_old_blobs_make_room),
	};
	int r = 77;

	log_open(LOG_LEVEL_ERROR, STDERR_FILENO);
	if (make_file_system()) {
		r = cmocka_run_group_tests(tests, NULL, NULL);
		(void)umount2(dir, MNT_DETACH); /* the namespace goes with us anyway */
	} else {
		printf("skipped: cannot mount a tmpfs: %s\n", strerror(errno));
	}
	(void)rmdir(dir); /* outside of the namespace it is empty */
	return r;
}
