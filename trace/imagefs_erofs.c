/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imagefs_erofs.c - EROFS: flat, tail-packed and chunked files; of compressed ones the metadata
 *
 * An inode is addressed by its number: 32-byte slots from the start of the metadata area. What
 * follows it there (attributes, a packed tail, chunk or compression indexes) is found from the
 * inode alone, so nothing has to be scanned, but all inodes are only known by walking.
 */
#include "imagefs_impl.h"

#include "bytes.h"
#include "cleanup.h"
#include "err.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SUPER_OFF  1024u
#define SUPER_SIZE 128u
#define SLOT_BYTES 32u
/* fields of the superblock */
#define SB_BLOCK_BITS	12
#define SB_ROOT		14
#define SB_META_BLOCK	40
#define SB_XATTR_BLOCK	44
#define SB_INCOMPAT	80
#define SB_DIR_BITS	90
#define SB_PREFIXES	91
#define SB_PREFIX_START 92
#define SB_PACKED	96

#define INCOMPAT_PACKED 0x20u
#define INCOMPAT_KNOWN	0x7fu

/* layouts of data */
enum { FLAT_PLAIN, COMPRESSED_FULL, FLAT_INLINE, COMPRESSED_COMPACT, CHUNKED };

#define CHUNK_BITS    0x1fu
#define CHUNK_INDEXES 0x20u
#define NO_BLOCK      0xffffffffu
#define MAX_CHUNKS    (64u << 20)
#define DIRENT_BYTES  12u
/* the header of compression indexes */
#define ADVISE_TWO_BYTES   0x0001u
#define ADVISE_PACKED_TAIL 0x0008u
#define WHOLE_FRAGMENT	   0x80u
#define XATTR_HEAD	   12u

struct reader {
	unsigned int block_bits;
	uint64_t block_bytes;
	uint64_t meta_off, xattr_off; /* bytes */
	uint64_t prefixes_off, packed_ino;
	unsigned int prefixes;
};

struct inode {
	uint64_t ino, off;   /* where it lies */
	uint64_t body_bytes; /* itself with its attributes */
	uint64_t bytes;	     /* of the file */
	uint64_t head_bytes; /* before the attributes */
	uint32_t mode, links, u;
	unsigned int layout;
};

static const struct reader *reader(const struct imagefs *fs)
{
	return fs->reader;
}

static bool compressed(const struct inode *in)
{
	return in->layout == COMPRESSED_FULL || in->layout == COMPRESSED_COMPACT;
}

static int damaged(const struct inode *in, const char *what, struct err *e)
{
	return err_set(e, -EBADMSG, "erofs: inode %llu: %s", (unsigned long long)in->ino, what);
}

static int read_inode(struct imagefs *fs, uint64_t ino, struct inode *ret, struct err *e)
{
	const struct reader *r = reader(fs);
	struct inode in = {.ino = ino, .head_bytes = 32};
	uint64_t size = imagefs_cache_bytes(fs->dev);
	unsigned int format, attrs;
	uint8_t p[64];
	int rc;

	if (ino > size / SLOT_BYTES || r->meta_off + ino * SLOT_BYTES > size - SLOT_BYTES)
		return err_set(e, -ENOENT, "erofs: there is no inode %llu",
			       (unsigned long long)ino);
	in.off = r->meta_off + ino * SLOT_BYTES;
	rc = imagefs_cache_read(fs->dev, p, 32, in.off, e);
	if (rc < 0)
		return rc;
	format = get_le16(p);
	attrs = get_le16(p + 2);
	in.mode = get_le16(p + 4);
	in.layout = format >> 1 & 7;
	in.u = get_le32(p + 16);
	if (format & ~0xfu || in.layout > CHUNKED)
		return damaged(&in, "unknown format", e);
	if (format & 1) {
		in.head_bytes = 64;
		rc = imagefs_cache_read(fs->dev, p, 64, in.off, e);
		if (rc < 0)
			return rc;
		in.bytes = get_le64(p + 8);
		in.links = get_le32(p + 44);
	} else {
		in.bytes = get_le32(p + 8);
		in.links = get_le16(p + 6);
	}
	in.body_bytes = in.head_bytes + (attrs ? XATTR_HEAD + 4 * (attrs - 1) : 0);
	if (in.bytes > INT64_MAX)
		return damaged(&in, "impossible size", e);
	*ret = in;
	return 0;
}

static int erofs_node(struct imagefs *fs, uint64_t ino, struct imagefs_node *ret, struct err *e)
{
	struct inode in;
	int rc = read_inode(fs, ino, &in, e);

	if (rc < 0)
		return rc;
	*ret = (struct imagefs_node){
	    .ino = ino, .mode = in.mode, .links = in.links, .bytes = in.bytes};
	switch (in.mode & S_IFMT) {
	case S_IFREG:
		ret->type = IMAGEFS_FILE;
		return 0;
	case S_IFDIR:
		ret->type = IMAGEFS_DIR;
		return 0;
	case S_IFLNK:
		ret->type = IMAGEFS_SYMLINK;
		return 0;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		ret->type = IMAGEFS_OTHER;
		ret->bytes = 0;
		return 0;
	default:
		return damaged(&in, "neither file nor directory nor anything else", e);
	}
}

/* --- where data lie --- */

static int give_flat(struct imagefs *fs, const struct inode *in, uint64_t off, uint64_t end,
		     imagefs_run_fn *fn, void *arg, struct err *e)
{
	const struct reader *r = reader(fs);
	uint64_t unit = r->block_bytes, blocks = (in->bytes + unit - 1) / unit;
	uint64_t plain = in->layout == FLAT_INLINE ? blocks - 1 : blocks;
	uint64_t plain_bytes = min_u64(plain * unit, in->bytes);
	struct imagefs_run run = {0, (uint64_t)in->u * unit, plain_bytes, false};
	int rc;

	if (run.bytes &&
	    !range_inside(range_of(run.dev_off, run.bytes), imagefs_cache_bytes(fs->dev)))
		return damaged(in, "its data lie outside of the device", e);
	if (run.bytes && off < run.bytes && end > 0) {
		rc = fn(arg, &run);
		if (rc)
			return rc;
	}
	if (plain == blocks || end <= plain_bytes)
		return 0;
	run = (struct imagefs_run){plain_bytes, in->off + in->body_bytes, in->bytes - plain_bytes,
				   true};
	if (run.dev_off % unit + run.bytes > unit ||
	    !range_inside(range_of(run.dev_off, run.bytes), imagefs_cache_bytes(fs->dev)))
		return damaged(in, "its packed tail crosses a block", e);
	return fn(arg, &run);
}

struct chunks {
	unsigned int unit; /* bytes of an index */
	uint64_t bytes;	   /* of a chunk */
	uint64_t table;	   /* where the indexes begin */
	uint64_t count;
};

static int chunk_layout(struct imagefs *fs, const struct inode *in, struct chunks *ret,
			struct err *e)
{
	struct chunks c = {.unit = in->u & CHUNK_INDEXES ? 8 : 4};
	unsigned int bits = reader(fs)->block_bits + (in->u & CHUNK_BITS);

	if ((in->u & 0xffff) & ~(CHUNK_BITS | CHUNK_INDEXES) || bits > 46)
		return damaged(in, "unknown format of chunks", e);
	c.bytes = 1ull << bits;
	c.count = (in->bytes + c.bytes - 1) >> bits;
	c.table = round_up(in->off + in->body_bytes, c.unit);
	if (c.count > MAX_CHUNKS ||
	    !range_inside(range_of(c.table, c.count * c.unit), imagefs_cache_bytes(fs->dev)))
		return damaged(in, "too many chunks", e);
	*ret = c;
	return 0;
}

/* The run of one chunk; bytes 0: a hole. */
static int chunk_run(struct imagefs *fs, const struct inode *in, const struct chunks *c, uint64_t n,
		     struct imagefs_run *ret, struct err *e)
{
	struct imagefs_run run = {.file_off = n * c->bytes};
	uint32_t block;
	uint8_t p[8];
	int rc = imagefs_cache_read(fs->dev, p, c->unit, c->table + n * c->unit, e);

	if (rc < 0)
		return rc;
	block = get_le32(c->unit == 8 ? p + 4 : p);
	if (block != NO_BLOCK) {
		if (c->unit == 8 && get_le16(p + 2))
			return err_set(e, -EOPNOTSUPP, "erofs: inode %llu lies on another device",
				       (unsigned long long)in->ino);
		run.bytes = min_u64(c->bytes, in->bytes - run.file_off);
		run.dev_off = block * reader(fs)->block_bytes;
		if (!range_inside(range_of(run.dev_off, run.bytes), imagefs_cache_bytes(fs->dev)))
			return damaged(in, "a chunk lies outside of the device", e);
	}
	*ret = run;
	return 0;
}

static int give_chunks(struct imagefs *fs, const struct inode *in, uint64_t off, uint64_t end,
		       imagefs_run_fn *fn, void *arg, struct err *e)
{
	struct imagefs_run held = {0}, next;
	struct chunks c;
	int rc = chunk_layout(fs, in, &c, e);

	if (rc < 0)
		return rc;
	for (uint64_t n = off / c.bytes; n < c.count && n * c.bytes < end; n++) {
		rc = chunk_run(fs, in, &c, n, &next, e);
		if (rc < 0)
			return rc;
		if (held.bytes && next.bytes && held.file_off + held.bytes == next.file_off &&
		    held.dev_off + held.bytes == next.dev_off) {
			held.bytes += next.bytes;
			continue;
		}
		rc = held.bytes ? fn(arg, &held) : 0;
		if (rc)
			return rc;
		held = next;
	}
	return held.bytes ? fn(arg, &held) : 0;
}

static int give_runs(struct imagefs *fs, const struct inode *in, uint64_t off, uint64_t end,
		     imagefs_run_fn *fn, void *arg, struct err *e)
{
	end = min_u64(end, in->bytes);
	if (off >= end)
		return 0;
	if (compressed(in))
		return err_set(e, -EOPNOTSUPP, "erofs: inode %llu is compressed",
			       (unsigned long long)in->ino);
	return in->layout == CHUNKED ? give_chunks(fs, in, off, end, fn, arg, e)
				     : give_flat(fs, in, off, end, fn, arg, e);
}

static int erofs_runs(struct imagefs *fs, uint64_t ino, uint64_t off, uint64_t end,
		      imagefs_run_fn *fn, void *arg, struct err *e)
{
	struct inode in;
	int rc = read_inode(fs, ino, &in, e);

	if (rc == 0 && !S_ISREG(in.mode) && !S_ISDIR(in.mode) && !S_ISLNK(in.mode))
		return 0;
	return rc < 0 ? rc : give_runs(fs, &in, off, end, fn, arg, e);
}

/* --- directories and links --- */

/* Bytes of a directory or link that are there: the caller has compared with the size. */
static int load(struct imagefs *fs, const struct inode *in, uint64_t off, void *buf, uint64_t bytes,
		struct err *e)
{
	struct imagefs_fill w = {fs, buf, off, off + bytes, e};

	memset(buf, 0, bytes);
	return give_runs(fs, in, off, off + bytes, imagefs_fill, &w, e);
}

struct names {
	const uint8_t *p;
	size_t bytes, count;
};

static int names_of_block(const struct inode *in, const uint8_t *p, size_t bytes, struct names *ret,
			  struct err *e)
{
	size_t first = bytes >= DIRENT_BYTES ? get_le16(p + 8) : 0;

	if (first < DIRENT_BYTES || first % DIRENT_BYTES || first >= bytes)
		return damaged(in, "the directory is damaged", e);
	*ret = (struct names){p, bytes, first / DIRENT_BYTES};
	return 0;
}

/* Name @n of a block; "." and ".." are names here. */
static int name_at(const struct inode *in, const struct names *d, size_t n, const char **ret,
		   size_t *ret_len, struct err *e)
{
	const uint8_t *entry = d->p + n * DIRENT_BYTES;
	size_t at = get_le16(entry + 8);
	size_t end = n + 1 < d->count ? get_le16(entry + DIRENT_BYTES + 8) : d->bytes;

	if (at < d->count * DIRENT_BYTES || at >= end || end > d->bytes)
		return damaged(in, "a name lies outside of its block", e);
	*ret = (const char *)d->p + at;
	/* the last name of a block ends with it, or with a NUL */
	*ret_len = n + 1 < d->count ? end - at : strnlen(*ret, end - at);
	return 0;
}

static bool is_dots(const char *name, size_t len)
{
	return (len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.');
}

static int list_block(const struct inode *in, const uint8_t *p, size_t bytes, imagefs_entry_fn *fn,
		      void *arg, struct err *e)
{
	struct names d = {0};
	int rc = names_of_block(in, p, bytes, &d, e);

	for (size_t n = 0; rc == 0 && n < d.count; n++) {
		const char *name;
		size_t len;

		rc = name_at(in, &d, n, &name, &len, e);
		if (rc < 0 || is_dots(name, len))
			continue;
		if (!imagefs_name_ok(name, len))
			return damaged(in, "the directory has an invalid name", e);
		rc = fn(arg, name, len, get_le64(p + n * DIRENT_BYTES));
	}
	return rc;
}

static int open_dir(struct imagefs *fs, uint64_t ino, struct inode *ret, struct err *e)
{
	int rc = read_inode(fs, ino, ret, e);

	if (rc == 0 && !S_ISDIR(ret->mode))
		rc = err_set(e, -ENOTDIR, "erofs: inode %llu is no directory",
			     (unsigned long long)ino);
	if (rc == 0 && ret->bytes > imagefs_cache_bytes(fs->dev))
		rc = damaged(ret, "the directory is larger than the device", e);
	if (rc == 0 && ret->bytes > IMAGEFS_DIR_BYTES)
		rc = err_set(e, -EFBIG, "erofs: directory %llu is too large",
			     (unsigned long long)ino);
	return rc;
}

static int erofs_list(struct imagefs *fs, uint64_t ino, imagefs_entry_fn *fn, void *arg,
		      struct err *e)
{
	uint64_t unit = reader(fs)->block_bytes;
	_cleanup_free_ uint8_t *buf = xmalloc_zero(1, unit);
	struct inode in;
	int rc = open_dir(fs, ino, &in, e);

	for (uint64_t off = 0; rc == 0 && off < in.bytes; off += unit) {
		uint64_t n = min_u64(unit, in.bytes - off);

		fs->listed += n;
		rc = load(fs, &in, off, buf, n, e);
		if (rc == 0)
			rc = list_block(&in, buf, n, fn, arg, e);
	}
	return rc;
}

static int erofs_link(struct imagefs *fs, uint64_t ino, char **ret, struct err *e)
{
	_cleanup_free_ char *p = NULL;
	struct inode in;
	int rc = read_inode(fs, ino, &in, e);

	if (rc < 0)
		return rc;
	if (!S_ISLNK(in.mode) || in.bytes == 0 || in.bytes >= IMAGEFS_LINK_BYTES)
		return damaged(&in, "no link of a possible length", e);
	p = xmalloc_zero(1, in.bytes + 1);
	rc = load(fs, &in, 0, p, in.bytes, e);
	if (rc == 0)
		*ret = steal_ptr(p);
	return rc;
}

/* --- metadata --- */

/* Whole blocks around a range. */
static int add_blocks(struct imagefs *fs, struct imagefs_ranges *rs, uint64_t off, uint64_t bytes,
		      struct err *e)
{
	uint64_t unit = reader(fs)->block_bytes, size = imagefs_cache_bytes(fs->dev);

	if (off >= size || bytes == 0)
		return 0;
	bytes = min_u64(bytes, size - off);
	return imagefs_ranges_add(rs, round_down(off, unit),
				  round_up(off + bytes, unit) - round_down(off, unit), e);
}

static int erofs_mount_metadata(struct imagefs *fs, struct imagefs_ranges *rs, struct err *e)
{
	const struct reader *r = reader(fs);
	int rc = add_blocks(fs, rs, 0, SUPER_OFF + SUPER_SIZE, e);

	/* a prefix has at most 255 bytes, its length before it */
	if (rc == 0 && r->prefixes)
		rc = add_blocks(fs, rs, r->prefixes_off, r->prefixes * 260ull, e);
	if (rc == 0 && r->packed_ino)
		rc = add_blocks(fs, rs, r->meta_off + r->packed_ino * SLOT_BYTES, 64, e);
	return rc;
}

/* Attributes that inodes share lie apart. */
static int shared_attributes(struct imagefs *fs, const struct inode *in, struct imagefs_ranges *rs,
			     struct err *e)
{
	uint8_t head[XATTR_HEAD], id[4], entry[4];
	uint64_t at = in->off + in->head_bytes;
	int rc;

	if (in->body_bytes == in->head_bytes)
		return 0;
	rc = imagefs_cache_read(fs->dev, head, sizeof(head), at, e);
	for (unsigned int n = 0; rc == 0 && n < head[4]; n++) {
		uint64_t off;

		if (XATTR_HEAD + 4ull * (n + 1) > in->body_bytes - in->head_bytes)
			return damaged(in, "its shared attributes are damaged", e);
		rc = imagefs_cache_read(fs->dev, id, 4, at + XATTR_HEAD + 4ull * n, e);
		if (rc < 0)
			break;
		off = reader(fs)->xattr_off + 4ull * get_le32(id);
		rc = imagefs_cache_read(fs->dev, entry, 4, off, e);
		if (rc == 0)
			rc = add_blocks(fs, rs, off, 4u + entry[0] + get_le16(entry + 2), e);
	}
	return rc;
}

/* Header and indexes of a compressed file, and a last cluster that is packed behind them. */
static int index_bytes(struct imagefs *fs, const struct inode *in, uint64_t *ret, struct err *e)
{
	uint64_t at = round_up(in->off + in->body_bytes, 8), begin = at + 8, count, bytes;
	unsigned int bits = reader(fs)->block_bits, advise;
	uint8_t head[8];
	int rc = imagefs_cache_read(fs->dev, head, sizeof(head), at, e);

	if (rc < 0)
		return rc;
	advise = get_le16(head + 4);
	bits += head[7] & 7;
	count = head[7] & WHOLE_FRAGMENT ? 0 : (in->bytes + (1ull << bits) - 1) >> bits;
	if (count > MAX_CHUNKS)
		return damaged(in, "too many compressed clusters", e);
	if (in->layout == COMPRESSED_FULL) {
		bytes = 8 + count * 8;
	} else {
		/* 4 bytes each up to a multiple of 32, then 2 in groups of 16, then 4 again */
		uint64_t first = min_u64(count, (32 - begin % 32) % 32 / 4), small = 0;

		if (advise & ADVISE_TWO_BYTES)
			small = round_down(count - first, 16);
		bytes = count * 4 - small * 2;
	}
	if (advise & ADVISE_PACKED_TAIL)
		bytes += get_le16(head + 2);
	*ret = begin + bytes - (in->off + in->body_bytes);
	return 0;
}

/* How much behind the inode and its attributes belongs to it. */
static int behind_bytes(struct imagefs *fs, const struct inode *in, uint64_t *ret, struct err *e)
{
	uint64_t unit = reader(fs)->block_bytes, at = in->off + in->body_bytes, blocks;
	struct chunks c;
	int rc;

	blocks = (in->bytes + unit - 1) / unit;
	*ret = 0;
	if (in->layout == FLAT_INLINE && blocks) {
		*ret = in->bytes - (blocks - 1) * unit;
	} else if (in->layout == CHUNKED) {
		rc = chunk_layout(fs, in, &c, e);
		if (rc < 0)
			return rc;
		*ret = c.table + c.count * c.unit - at;
	} else if (compressed(in)) {
		return index_bytes(fs, in, ret, e);
	}
	return 0;
}

static int add_inode(struct imagefs *fs, const struct inode *in, struct imagefs_ranges *rs,
		     struct err *e)
{
	bool data = S_ISREG(in->mode) || S_ISDIR(in->mode) || S_ISLNK(in->mode);
	uint64_t behind = 0;
	int rc = data ? behind_bytes(fs, in, &behind, e) : 0;

	if (rc == 0)
		rc = add_blocks(fs, rs, in->off, in->body_bytes + behind, e);
	return rc < 0 ? rc : shared_attributes(fs, in, rs, e);
}

static int erofs_inode_metadata(struct imagefs *fs, uint64_t ino, struct imagefs_ranges *rs,
				struct err *e)
{
	struct inode in;
	int rc = read_inode(fs, ino, &in, e);

	return rc < 0 ? rc : add_inode(fs, &in, rs, e);
}

struct adding {
	struct imagefs *fs;
	struct imagefs_ranges *ranges;
	uint64_t off, end; /* of the file: only this */
	struct err *e;
};

static int add_run(void *arg, const struct imagefs_run *run)
{
	struct adding *a = arg;
	struct range r =
	    range_clip(range_of(run->file_off, run->bytes), range_of(a->off, a->end - a->off));

	return r.len == 0 ? 0
			  : add_blocks(a->fs, a->ranges, run->dev_off + (r.off - run->file_off),
				       r.len, a->e);
}

static int add_data(struct imagefs *fs, const struct inode *in, uint64_t off, uint64_t end,
		    struct imagefs_ranges *rs, struct err *e)
{
	struct adding a = {fs, rs, off, end, e};

	return give_runs(fs, in, off, end, add_run, &a, e);
}

/* As the kernel's look-up goes: the last block whose first name is not behind @name, by halving. */
static int erofs_dir_metadata(struct imagefs *fs, uint64_t ino, const char *name, size_t len,
			      struct imagefs_ranges *rs, struct err *e)
{
	uint64_t unit = reader(fs)->block_bytes, low = 0, high;
	_cleanup_free_ uint8_t *buf = xmalloc_zero(1, unit);
	struct inode in;
	int rc = open_dir(fs, ino, &in, e);

	if (rc < 0)
		return rc;
	if (!name)
		return add_data(fs, &in, 0, in.bytes, rs, e);
	for (high = (in.bytes + unit - 1) / unit; rc == 0 && low < high;) {
		uint64_t mid = low + (high - low) / 2, off = mid * unit;
		uint64_t bytes = min_u64(unit, in.bytes - off);
		const char *first;
		struct names d = {0};
		size_t n;
		int cmp;

		rc = add_data(fs, &in, off, off + bytes, rs, e);
		if (rc == 0)
			rc = load(fs, &in, off, buf, bytes, e);
		if (rc == 0)
			rc = names_of_block(&in, buf, bytes, &d, e);
		if (rc == 0)
			rc = name_at(&in, &d, 0, &first, &n, e);
		if (rc < 0)
			return rc;
		cmp = memcmp(name, first, len < n ? len : n);
		if (cmp < 0 || (cmp == 0 && len < n))
			high = mid;
		else
			low = mid + 1;
	}
	return rc;
}

static int add_named(void *arg, const char *path, const struct imagefs_node *n)
{
	struct adding *a = arg;
	struct inode in;
	int rc = read_inode(a->fs, n->ino, &in, a->e);

	(void)path;
	if (rc == 0)
		rc = add_inode(a->fs, &in, a->ranges, a->e);
	if (rc == 0 && (n->type == IMAGEFS_DIR || n->type == IMAGEFS_SYMLINK))
		rc = add_data(a->fs, &in, 0, in.bytes, a->ranges, a->e);
	return rc;
}

static int erofs_metadata(struct imagefs *fs, struct imagefs_ranges *rs, struct err *e)
{
	struct adding a = {.fs = fs, .ranges = rs, .e = e};
	int rc = erofs_mount_metadata(fs, rs, e);

	return rc < 0 ? rc : imagefs_walk(fs, add_named, &a, e);
}

static void erofs_close(struct imagefs *fs)
{
	free(fs->reader);
}

static const struct imagefs_ops ops = {
    .kind = "erofs",
    .close = erofs_close,
    .node = erofs_node,
    .list = erofs_list,
    .link = erofs_link,
    .runs = erofs_runs,
    .mount_metadata = erofs_mount_metadata,
    .inode_metadata = erofs_inode_metadata,
    .dir_metadata = erofs_dir_metadata,
    .metadata = erofs_metadata,
};

int imagefs_erofs_open(struct imagefs *fs, const uint8_t *super, struct err *e)
{
	uint32_t incompat = get_le32(super + SB_INCOMPAT);
	unsigned int bits = super[SB_BLOCK_BITS];
	struct reader *r;

	if (incompat & ~INCOMPAT_KNOWN)
		return err_set(e, -EOPNOTSUPP, "erofs: unknown features 0x%x",
			       incompat & ~INCOMPAT_KNOWN);
	if (bits < 9 || bits > 16 || super[SB_DIR_BITS])
		return err_set(e, -EBADMSG, "erofs: the superblock is damaged");
	r = xmalloc_zero(1, sizeof(*r));
	r->block_bits = bits;
	r->block_bytes = 1ull << bits;
	r->meta_off = (uint64_t)get_le32(super + SB_META_BLOCK) << bits;
	r->xattr_off = (uint64_t)get_le32(super + SB_XATTR_BLOCK) << bits;
	r->prefixes = super[SB_PREFIXES];
	r->prefixes_off = 4ull * get_le32(super + SB_PREFIX_START);
	if (incompat & INCOMPAT_PACKED)
		r->packed_ino = get_le64(super + SB_PACKED);
	if (r->packed_ino > imagefs_cache_bytes(fs->dev) / SLOT_BYTES)
		r->packed_ino = 0;
	fs->reader = r;
	fs->ops = &ops;
	fs->root = get_le16(super + SB_ROOT);
	return 0;
}
