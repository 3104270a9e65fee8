/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_proto.h - requests of the kernel's FUSE protocol, and the answers of a one-file file system
 *
 * The file system is a directory (node 1) with one read-only regular file, "disk" (node 2).
 * Everything here is a pure function over bytes. Requests are parsed with the kernel's own
 * structures from <linux/fuse.h>: both sides run on one machine, in its byte order. A request that
 * is too short, lies about its length or asks for something unknown is answered with an error;
 * nothing that the other side of /dev/fuse sends makes these functions read outside of what they
 * were given.
 */
#ifndef HS_DEVICE_FUSE_PROTO_H
#define HS_DEVICE_FUSE_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUSE_DISK_NAME "disk"
#define FUSE_NODE_ROOT 1u
#define FUSE_NODE_DISK 2u
#define FUSE_MAX_READ  (1u << 20) /* 256 pages */
#define FUSE_IN_BYTES  65536u	  /* buffer for one request */
#define FUSE_OUT_BYTES 4096u	  /* buffer for every answer but that of a READ */
#define FUSE_OUT_HEAD  16u	  /* header in front of the data of a READ's answer */

/* What the answers depend on; constant while mounted, but for what INIT agreed on. */
struct fuse_fs {
	uint64_t bytes;		 /* size of "disk" */
	uint64_t mtime_s;	 /* of both nodes */
	uint16_t max_background; /* asynchronous requests the kernel may have in flight */
};

/* One request. Strings point into the parsed buffer. */
struct fuse_call {
	uint32_t opcode;
	uint64_t unique;
	uint64_t node;
	int error;   /* 0, or the negative errno to answer with */
	bool silent; /* no answer is expected (FORGET, INTERRUPT) */

	uint64_t off;	  /* READ, READDIR */
	uint32_t bytes;	  /* READ, READDIR: wanted at most */
	uint32_t flags;	  /* OPEN: open(2) flags; INIT: offered */
	const char *name; /* LOOKUP; @name_bytes without the NUL */
	size_t name_bytes;
	uint64_t target;	/* INTERRUPT: the request that it is about */
	uint32_t major, minor;	/* INIT */
	uint32_t max_readahead; /* INIT */
};

/*
 * fuse_parse - one request as read from /dev/fuse
 *
 * Returns 0 (then @ret->error may still hold an errno to answer), or -EBADMSG when not even the
 * header is there, so that nobody can be answered.
 */
int fuse_parse(const void *buf, size_t bytes, struct fuse_call *ret);

/*
 * fuse_answer - the complete answer to every call but a good READ
 * @out: FUSE_OUT_BYTES
 * Returns its length, 0 when no answer is expected.
 */
size_t fuse_answer(const struct fuse_fs *fs, const struct fuse_call *c, void *out);

/*
 * fuse_read_range - what a READ gets of a file of @bytes: clipped at its end, perhaps empty
 */
uint32_t fuse_read_bytes(const struct fuse_call *c, uint64_t bytes);

/* fuse_head - header of an answer with @data_bytes behind it, or of an error; @out: FUSE_OUT_HEAD
 */
void fuse_head(uint64_t unique, int error, size_t data_bytes, void *out);

#endif
