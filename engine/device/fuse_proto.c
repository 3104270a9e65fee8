/* SPDX-License-Identifier: Apache-2.0 */
/* fuse_proto.c - see fuse_proto.h */
#include "fuse_proto.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>

/* Since 7.23 the answer to INIT has its present size. */
#define OLDEST_MINOR 23
#define OUR_MINOR    31

/* Nothing changes while it is mounted: names and attributes are good for ever. */
#define VALID_SECONDS (365ull * 86400)

static const uint32_t flags_wanted =
    FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS;

/* The next @size bytes of the request's arguments, or NULL when they are not there. */
static const void *take(const void *buf, size_t bytes, size_t *at, size_t size)
{
	const void *p = (const char *)buf + *at;

	if (bytes - *at < size)
		return NULL;
	*at += size;
	return p;
}

static int parse_name(const char *p, size_t bytes, struct fuse_call *c)
{
	const char *end = memchr(p, '\0', bytes);

	if (!end)
		return -EINVAL;
	c->name = p;
	c->name_bytes = (size_t)(end - p);
	return 0;
}

static int parse_init(const void *buf, size_t bytes, size_t at, struct fuse_call *c)
{
	/* newer kernels append fields; these four are there since 7.6 */
	uint32_t in[4];
	const void *p = take(buf, bytes, &at, sizeof(in));

	if (!p)
		return -EINVAL;
	memcpy(in, p, sizeof(in));
	c->major = in[0];
	c->minor = in[1];
	c->max_readahead = in[2];
	c->flags = in[3];
	return 0;
}

static int parse_args(const void *buf, size_t bytes, size_t at, struct fuse_call *c)
{
	struct fuse_interrupt_in intr;
	struct fuse_read_in read;
	struct fuse_open_in open;
	const void *p;

	switch (c->opcode) {
	case FUSE_INIT:
		return parse_init(buf, bytes, at, c);
	case FUSE_LOOKUP:
		return parse_name((const char *)buf + at, bytes - at, c);
	case FUSE_READ:
	case FUSE_READDIR:
		p = take(buf, bytes, &at, sizeof(read));
		if (!p)
			return -EINVAL;
		memcpy(&read, p, sizeof(read));
		c->off = read.offset;
		c->bytes = read.size;
		return 0;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		p = take(buf, bytes, &at, sizeof(open));
		if (!p)
			return -EINVAL;
		memcpy(&open, p, sizeof(open));
		c->flags = open.flags;
		return 0;
	case FUSE_INTERRUPT:
		p = take(buf, bytes, &at, sizeof(intr));
		if (!p)
			return -EINVAL;
		memcpy(&intr, p, sizeof(intr));
		c->target = intr.unique;
		return 0;
	default:
		return 0; /* answered without looking at the arguments */
	}
}

/* Errors that the call itself decides, whatever the file system holds. */
static int check_node(const struct fuse_call *c)
{
	bool root = c->node == FUSE_NODE_ROOT, disk = c->node == FUSE_NODE_DISK;

	switch (c->opcode) {
	case FUSE_LOOKUP:
	case FUSE_OPENDIR:
	case FUSE_READDIR:
		return root ? 0 : disk ? -ENOTDIR : -ESTALE;
	case FUSE_OPEN:
		if (!disk)
			return root ? -EISDIR : -ESTALE;
		return (c->flags & O_ACCMODE) == O_RDONLY && !(c->flags & O_TRUNC) ? 0 : -EROFS;
	case FUSE_READ:
		return disk ? 0 : root ? -EISDIR : -ESTALE;
	case FUSE_GETATTR:
		return root || disk ? 0 : -ESTALE;
	case FUSE_SETATTR:
	case FUSE_WRITE:
	case FUSE_CREATE:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_SYMLINK:
		return -EROFS;
	case FUSE_INIT:
	case FUSE_STATFS:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_DESTROY:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return 0;
	default:
		/*
		 * FLUSH among them: the kernel then never sends another one, and a reader that
		 * is killed does not wait for this server at its close().
		 */
		return -ENOSYS;
	}
}

int fuse_parse(const void *buf, size_t bytes, struct fuse_call *ret)
{
	struct fuse_in_header head;

	if (bytes < sizeof(head))
		return -EBADMSG;
	memcpy(&head, buf, sizeof(head));
	*ret = (struct fuse_call){
	    .opcode = head.opcode,
	    .unique = head.unique,
	    .node = head.nodeid,
	    .silent = head.opcode == FUSE_FORGET || head.opcode == FUSE_BATCH_FORGET ||
		      head.opcode == FUSE_INTERRUPT,
	};
	if (head.len != bytes)
		ret->error = -EINVAL;
	if (!ret->error)
		ret->error = parse_args(buf, bytes, sizeof(head), ret);
	if (!ret->error)
		ret->error = check_node(ret);
	return 0;
}

uint32_t fuse_read_bytes(const struct fuse_call *c, uint64_t bytes)
{
	uint32_t len = c->bytes < FUSE_MAX_READ ? c->bytes : FUSE_MAX_READ;

	if (c->off >= bytes)
		return 0;
	return bytes - c->off < len ? (uint32_t)(bytes - c->off) : len;
}

void fuse_head(uint64_t unique, int error, size_t data_bytes, void *out)
{
	struct fuse_out_header head = {
	    .len = (uint32_t)(sizeof(head) + (error ? 0 : data_bytes)),
	    .error = error,
	    .unique = unique,
	};

	_Static_assert(sizeof(head) == FUSE_OUT_HEAD, "size of the header");
	memcpy(out, &head, sizeof(head));
}

static void fill_attr(const struct fuse_fs *fs, uint64_t node, struct fuse_attr *a)
{
	bool disk = node == FUSE_NODE_DISK;

	*a = (struct fuse_attr){
	    .ino = node,
	    .size = disk ? fs->bytes : 0,
	    .blocks = disk ? fs->bytes / 512 : 0,
	    .atime = fs->mtime_s,
	    .mtime = fs->mtime_s,
	    .ctime = fs->mtime_s,
	    .mode = disk ? S_IFREG | 0400 : S_IFDIR | 0500,
	    .nlink = disk ? 1 : 2,
	    .blksize = 4096,
	};
}

static size_t answer_init(const struct fuse_fs *fs, const struct fuse_call *c, void *out,
			  int *error)
{
	struct fuse_init_out o = {.major = FUSE_KERNEL_VERSION, .minor = OUR_MINOR};

	if (c->major < FUSE_KERNEL_VERSION ||
	    (c->major == FUSE_KERNEL_VERSION && c->minor < OLDEST_MINOR)) {
		*error = -EPROTO;
		return 0;
	}
	/* a newer major is answered with ours alone; the kernel then sends a second INIT */
	if (c->major == FUSE_KERNEL_VERSION) {
		o.max_readahead = c->max_readahead;
		o.flags = c->flags & flags_wanted;
		o.max_background = fs->max_background;
		o.congestion_threshold = (uint16_t)(fs->max_background / 4 * 3);
		o.max_write = 4096;
		o.time_gran = 1000000000;
		o.max_pages = o.flags & FUSE_MAX_PAGES ? FUSE_MAX_READ / 4096 : 0;
	}
	memcpy(out, &o, sizeof(o));
	return sizeof(o);
}

static size_t answer_lookup(const struct fuse_fs *fs, const struct fuse_call *c, void *out,
			    int *error)
{
	struct fuse_entry_out o = {
	    .nodeid = FUSE_NODE_DISK,
	    .entry_valid = VALID_SECONDS,
	    .attr_valid = VALID_SECONDS,
	};

	if (c->name_bytes != strlen(FUSE_DISK_NAME) ||
	    memcmp(c->name, FUSE_DISK_NAME, c->name_bytes)) {
		*error = -ENOENT;
		return 0;
	}
	fill_attr(fs, FUSE_NODE_DISK, &o.attr);
	memcpy(out, &o, sizeof(o));
	return sizeof(o);
}

static size_t answer_readdir(const struct fuse_call *c, char *out, size_t room)
{
	static const struct {
		const char *name;
		uint64_t node;
		uint32_t type;
	} entry[] = {
	    {".", FUSE_NODE_ROOT, S_IFDIR >> 12},
	    {"..", FUSE_NODE_ROOT, S_IFDIR >> 12},
	    {FUSE_DISK_NAME, FUSE_NODE_DISK, S_IFREG >> 12},
	};
	size_t len = 0;

	if (c->bytes < room)
		room = c->bytes;
	for (uint64_t i = c->off; i < sizeof(entry) / sizeof(entry[0]); i++) {
		struct fuse_dirent d = {
		    .ino = entry[i].node,
		    .off = i + 1,
		    .namelen = (uint32_t)strlen(entry[i].name),
		    .type = entry[i].type,
		};
		size_t need = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);

		if (need > room - len)
			break;
		memset(out + len, 0, need);
		memcpy(out + len, &d, FUSE_NAME_OFFSET);
		memcpy(out + len + FUSE_NAME_OFFSET, entry[i].name, d.namelen);
		len += need;
	}
	return len;
}

static size_t answer_statfs(const struct fuse_fs *fs, void *out)
{
	struct fuse_statfs_out o = {
	    .st =
		{
		    .blocks = fs->bytes / 4096,
		    .files = 2,
		    .bsize = 4096,
		    .namelen = 255,
		    .frsize = 4096,
		},
	};

	memcpy(out, &o, sizeof(o));
	return sizeof(o);
}

/* The data behind the header; *error is set instead when there is none. */
static size_t answer_data(const struct fuse_fs *fs, const struct fuse_call *c, char *out,
			  int *error)
{
	struct fuse_open_out open = {0};
	struct fuse_attr_out attr = {.attr_valid = VALID_SECONDS};

	switch (c->opcode) {
	case FUSE_INIT:
		return answer_init(fs, c, out, error);
	case FUSE_LOOKUP:
		return answer_lookup(fs, c, out, error);
	case FUSE_GETATTR:
		fill_attr(fs, c->node, &attr.attr);
		memcpy(out, &attr, sizeof(attr));
		return sizeof(attr);
	case FUSE_OPEN:
		open.open_flags = FOPEN_KEEP_CACHE;
		memcpy(out, &open, sizeof(open));
		return sizeof(open);
	case FUSE_OPENDIR:
		memcpy(out, &open, sizeof(open));
		return sizeof(open);
	case FUSE_READDIR:
		return answer_readdir(c, out, FUSE_OUT_BYTES - FUSE_OUT_HEAD);
	case FUSE_STATFS:
		return answer_statfs(fs, out);
	default:
		return 0; /* RELEASE, RELEASEDIR, DESTROY: an empty answer */
	}
}

size_t fuse_answer(const struct fuse_fs *fs, const struct fuse_call *c, void *out)
{
	int error = c->error;
	size_t data = 0;

	if (c->silent)
		return 0;
	if (!error)
		data = answer_data(fs, c, (char *)out + FUSE_OUT_HEAD, &error);
	fuse_head(c->unique, error, data, out);
	return FUSE_OUT_HEAD + (error ? 0 : data);
}
