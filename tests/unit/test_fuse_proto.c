/* SPDX-License-Identifier: Apache-2.0 */
/* test_fuse_proto.c - requests of the FUSE protocol, good and hostile, and their answers */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse_proto.h"

#define DISK_BYTES 1000448u /* not a multiple of 4096 */

static const struct fuse_fs fs = {.bytes = DISK_BYTES, .mtime_s = 1234, .max_background = 64};

/* A request as the kernel would write it; the buffer ends exactly behind it. */
static char *request(uint32_t opcode, uint64_t node, const void *args, size_t bytes,
		     size_t *ret_len)
{
	struct fuse_in_header head = {
	    .len = (uint32_t)(sizeof(head) + bytes),
	    .opcode = opcode,
	    .unique = 77,
	    .nodeid = node,
	};
	char *buf = malloc(head.len);

	assert_non_null(buf);
	memcpy(buf, &head, sizeof(head));
	if (bytes)
		memcpy(buf + sizeof(head), args, bytes);
	*ret_len = head.len;
	return buf;
}

struct reply {
	struct fuse_out_header head;
	char data[FUSE_OUT_BYTES];
};

/* Parse and answer; returns the length of the answer. */
static size_t ask(uint32_t opcode, uint64_t node, const void *args, size_t bytes, struct reply *out)
{
	struct fuse_call c;
	size_t len, n;
	char *buf = request(opcode, node, args, bytes, &len);
	char *raw = malloc(FUSE_OUT_BYTES);

	assert_non_null(raw);
	assert_int_equal(fuse_parse(buf, len, &c), 0);
	n = fuse_answer(&fs, &c, raw);
	assert_true(n <= FUSE_OUT_BYTES);
	memset(out, 0, sizeof(*out));
	memcpy(out, raw, n);
	if (n) {
		assert_int_equal(out->head.len, n);
		assert_int_equal(out->head.unique, 77);
	}
	free(raw);
	free(buf);
	return n;
}

static int error_of(uint32_t opcode, uint64_t node, const void *args, size_t bytes)
{
	struct reply r;

	assert_true(ask(opcode, node, args, bytes, &r) >= sizeof(r.head));
	if (r.head.error)
		assert_int_equal(r.head.len, sizeof(r.head));
	return r.head.error;
}

static void init_takes_only_what_is_known(void **state)
{
	struct fuse_init_in in = {
	    .major = FUSE_KERNEL_VERSION,
	    .minor = 45,
	    .max_readahead = 131072,
	    .flags = 0xffffffffu,
	};
	struct fuse_init_out out;
	struct reply r;

	(void)state;
	assert_int_equal(ask(FUSE_INIT, 0, &in, sizeof(in), &r), sizeof(r.head) + sizeof(out));
	assert_int_equal(r.head.error, 0);
	memcpy(&out, r.data, sizeof(out));
	assert_int_equal(out.major, 7);
	assert_int_equal(out.minor, 31);
	assert_int_equal(out.max_pages, 256);
	assert_int_equal(out.max_background, 64);
	assert_int_equal(out.max_readahead, 131072);
	assert_int_equal(out.flags,
			 FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS);
	/* nothing that was not offered */
	in.flags = FUSE_ASYNC_READ;
	ask(FUSE_INIT, 0, &in, sizeof(in), &r);
	memcpy(&out, r.data, sizeof(out));
	assert_int_equal(out.flags, FUSE_ASYNC_READ);
	assert_int_equal(out.max_pages, 0);
}

static void init_of_other_versions(void **state)
{
	struct fuse_init_in in = {.major = 8, .minor = 0};
	struct fuse_init_out out;
	struct reply r;

	(void)state;
	ask(FUSE_INIT, 0, &in, 16, &r);
	memcpy(&out, r.data, sizeof(out));
	assert_int_equal(r.head.error, 0);
	assert_int_equal(out.major, 7);
	in = (struct fuse_init_in){.major = 7, .minor = 22};
	assert_int_equal(error_of(FUSE_INIT, 0, &in, 16), -EPROTO);
	in = (struct fuse_init_in){.major = 6, .minor = 40};
	assert_int_equal(error_of(FUSE_INIT, 0, &in, 16), -EPROTO);
	assert_int_equal(error_of(FUSE_INIT, 0, &in, 15), -EINVAL);
}

static void lookup_finds_the_disk_alone(void **state)
{
	struct fuse_entry_out out;
	struct reply r;

	(void)state;
	assert_int_equal(ask(FUSE_LOOKUP, FUSE_NODE_ROOT, "disk", 5, &r),
			 sizeof(r.head) + sizeof(out));
	memcpy(&out, r.data, sizeof(out));
	assert_int_equal(out.nodeid, FUSE_NODE_DISK);
	assert_int_equal(out.attr.size, DISK_BYTES);
	assert_int_equal(out.attr.mode, S_IFREG | 0400);
	assert_true(out.entry_valid > 86400);
	assert_int_equal(error_of(FUSE_LOOKUP, FUSE_NODE_ROOT, "disks", 6), -ENOENT);
	assert_int_equal(error_of(FUSE_LOOKUP, FUSE_NODE_ROOT, "dis", 4), -ENOENT);
	assert_int_equal(error_of(FUSE_LOOKUP, FUSE_NODE_ROOT, "", 1), -ENOENT);
	assert_int_equal(error_of(FUSE_LOOKUP, FUSE_NODE_ROOT, "disk", 4), -EINVAL); /* no NUL */
	assert_int_equal(error_of(FUSE_LOOKUP, FUSE_NODE_ROOT, NULL, 0), -EINVAL);
	assert_int_equal(error_of(FUSE_LOOKUP, FUSE_NODE_DISK, "disk", 5), -ENOTDIR);
	assert_int_equal(error_of(FUSE_LOOKUP, 99, "disk", 5), -ESTALE);
}

static void attributes(void **state)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;
	struct reply r;

	(void)state;
	ask(FUSE_GETATTR, FUSE_NODE_ROOT, &in, sizeof(in), &r);
	memcpy(&out, r.data, sizeof(out));
	assert_int_equal(out.attr.mode, S_IFDIR | 0500);
	ask(FUSE_GETATTR, FUSE_NODE_DISK, &in, sizeof(in), &r);
	memcpy(&out, r.data, sizeof(out));
	assert_int_equal(out.attr.size, DISK_BYTES);
	assert_int_equal(out.attr.blocks, DISK_BYTES / 512);
	assert_int_equal(error_of(FUSE_GETATTR, 3, &in, sizeof(in)), -ESTALE);
}

static void open_is_for_reading(void **state)
{
	struct fuse_open_in in = {.flags = O_RDONLY | O_DIRECT};
	struct fuse_open_out out;
	struct reply r;

	(void)state;
	assert_int_equal(ask(FUSE_OPEN, FUSE_NODE_DISK, &in, sizeof(in), &r),
			 sizeof(r.head) + sizeof(out));
	memcpy(&out, r.data, sizeof(out));
	assert_int_equal(out.open_flags, FOPEN_KEEP_CACHE);
	in.flags = O_RDWR;
	assert_int_equal(error_of(FUSE_OPEN, FUSE_NODE_DISK, &in, sizeof(in)), -EROFS);
	in.flags = O_WRONLY;
	assert_int_equal(error_of(FUSE_OPEN, FUSE_NODE_DISK, &in, sizeof(in)), -EROFS);
	in.flags = O_RDONLY | O_TRUNC;
	assert_int_equal(error_of(FUSE_OPEN, FUSE_NODE_DISK, &in, sizeof(in)), -EROFS);
	in.flags = O_RDONLY;
	assert_int_equal(error_of(FUSE_OPEN, FUSE_NODE_ROOT, &in, sizeof(in)), -EISDIR);
	assert_int_equal(error_of(FUSE_OPEN, FUSE_NODE_DISK, &in, 3), -EINVAL);
}

static uint32_t clipped(uint64_t off, uint32_t bytes)
{
	struct fuse_read_in in = {.offset = off, .size = bytes};
	struct fuse_call c;
	size_t len;
	char *buf = request(FUSE_READ, FUSE_NODE_DISK, &in, sizeof(in), &len);

	assert_int_equal(fuse_parse(buf, len, &c), 0);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.off, off);
	free(buf);
	return fuse_read_bytes(&c, DISK_BYTES);
}

static void reads_are_clipped(void **state)
{
	struct fuse_read_in in = {.size = 4096};

	(void)state;
	assert_int_equal(clipped(0, 4096), 4096);
	assert_int_equal(clipped(DISK_BYTES - 512, 4096), 512);
	assert_int_equal(clipped(DISK_BYTES, 4096), 0);
	assert_int_equal(clipped(UINT64_MAX, 4096), 0);
	assert_int_equal(clipped(UINT64_MAX - 4095, UINT32_MAX), 0);
	assert_int_equal(clipped(0, UINT32_MAX), DISK_BYTES);
	assert_int_equal(clipped(0, 0), 0);
	assert_int_equal(error_of(FUSE_READ, FUSE_NODE_ROOT, &in, sizeof(in)), -EISDIR);
	assert_int_equal(error_of(FUSE_READ, FUSE_NODE_DISK, &in, sizeof(in) - 1), -EINVAL);
}

/* Names of a directory reply of at most @room bytes from offset @off; returns the last offset. */
static uint64_t list_names(uint64_t off, uint32_t room, char *names)
{
	struct fuse_read_in in = {.offset = off, .size = room};
	struct fuse_dirent d;
	struct reply r;
	size_t at = 0, n = ask(FUSE_READDIR, FUSE_NODE_ROOT, &in, sizeof(in), &r) - sizeof(r.head);

	assert_int_equal(r.head.error, 0);
	assert_true(n <= room);
	while (at < n) {
		memcpy(&d, r.data + at, FUSE_NAME_OFFSET);
		strncat(names, r.data + at + FUSE_NAME_OFFSET, d.namelen);
		strcat(names, " ");
		off = d.off;
		at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);
	}
	assert_int_equal(at, n);
	return off;
}

static void the_directory_lists_the_disk(void **state)
{
	char names[64] = "";
	uint64_t off;

	(void)state;
	assert_int_equal(list_names(0, 4096, names), 3);
	assert_string_equal(names, ". .. disk ");
	assert_int_equal(list_names(3, 4096, names), 3);
	assert_int_equal(list_names(UINT64_MAX, 4096, names), UINT64_MAX);
	assert_string_equal(names, ". .. disk ");
	/* one entry at a time */
	names[0] = '\0';
	for (off = 0; off < 3;)
		off = list_names(off, 32, names);
	assert_string_equal(names, ". .. disk ");
	assert_int_equal(list_names(0, 8, names), 0);
}

static void silent_calls_get_no_answer(void **state)
{
	struct fuse_interrupt_in intr = {.unique = 42};
	struct fuse_forget_in forget = {.nlookup = 1};
	struct fuse_call c;
	struct reply r;
	size_t len;
	char *buf;

	(void)state;
	assert_int_equal(ask(FUSE_FORGET, FUSE_NODE_DISK, &forget, sizeof(forget), &r), 0);
	assert_int_equal(ask(FUSE_BATCH_FORGET, 0, "01234567", 8, &r), 0);
	assert_int_equal(ask(FUSE_INTERRUPT, 0, &intr, sizeof(intr), &r), 0);
	assert_int_equal(ask(FUSE_INTERRUPT, 0, &intr, 1, &r), 0); /* hostile: still none */
	buf = request(FUSE_INTERRUPT, 0, &intr, sizeof(intr), &len);
	assert_int_equal(fuse_parse(buf, len, &c), 0);
	assert_int_equal(c.target, 42);
	free(buf);
}

static void the_rest_is_refused(void **state)
{
	(void)state;
	assert_int_equal(error_of(FUSE_FLUSH, FUSE_NODE_DISK, NULL, 0), -ENOSYS);
	assert_int_equal(error_of(FUSE_GETXATTR, FUSE_NODE_DISK, NULL, 0), -ENOSYS);
	assert_int_equal(error_of(FUSE_WRITE, FUSE_NODE_DISK, NULL, 0), -EROFS);
	assert_int_equal(error_of(FUSE_SETATTR, FUSE_NODE_DISK, NULL, 0), -EROFS);
	assert_int_equal(error_of(0, 0, NULL, 0), -ENOSYS);
	for (uint32_t op = 50; op < 300; op++)
		assert_int_equal(error_of(op, FUSE_NODE_DISK, "x", 1), -ENOSYS);
	assert_int_equal(error_of(UINT32_MAX, FUSE_NODE_DISK, NULL, 0), -ENOSYS);
	assert_int_equal(error_of(FUSE_STATFS, FUSE_NODE_ROOT, NULL, 0), 0);
	assert_int_equal(error_of(FUSE_DESTROY, 0, NULL, 0), 0);
	assert_int_equal(error_of(FUSE_RELEASE, FUSE_NODE_DISK, NULL, 0), 0);
}

static void lengths_that_lie(void **state)
{
	struct fuse_read_in in = {.size = 4096};
	struct fuse_call c;
	size_t len;
	char *buf = request(FUSE_READ, FUSE_NODE_DISK, &in, sizeof(in), &len), *part;
	uint32_t lie = (uint32_t)len + 1;

	(void)state;
	for (size_t n = 0; n < len; n++) {
		part = malloc(n ? n : 1);
		assert_non_null(part);
		memcpy(part, buf, n);
		if (n < sizeof(struct fuse_in_header)) {
			assert_int_equal(fuse_parse(part, n, &c), -EBADMSG);
		} else {
			assert_int_equal(fuse_parse(part, n, &c), 0);
			assert_int_equal(c.error, -EINVAL);
		}
		free(part);
	}
	memcpy(buf, &lie, sizeof(lie));
	assert_int_equal(fuse_parse(buf, len, &c), 0);
	assert_int_equal(c.error, -EINVAL);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(init_takes_only_what_is_known),
	    cmocka_unit_test(init_of_other_versions),
	    cmocka_unit_test(lookup_finds_the_disk_alone),
	    cmocka_unit_test(attributes),
	    cmocka_unit_test(open_is_for_reading),
	    cmocka_unit_test(reads_are_clipped),
	    cmocka_unit_test(the_directory_lists_the_disk),
	    cmocka_unit_test(silent_calls_get_no_answer),
	    cmocka_unit_test(the_rest_is_refused),
	    cmocka_unit_test(lengths_that_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
