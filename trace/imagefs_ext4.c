/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imagefs_ext4.c - ext4 (and ext2, ext3) through libext2fs, reading only
 *
 * The library opens, finds inodes and steps through trees and indirect blocks; what bounds it is
 * ours: sizes are checked before it allocates by them, trees may not be deeper than the kernel's,
 * runs of a file ascend and are not more than the device has blocks.
 */
#include "imagefs_impl.h"

#include "bytes.h"
#include "cleanup.h"
#include "err.h"
#include "ext2_device.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TREE_DEPTH	 5
#define DESCRIPTOR_BYTES (16u << 20)
#define TABLE_PIECE	 (256u << 10)

/* fields of the superblock that are checked before the library sees it */
#define SB_BLOCKS_LO	4
#define SB_LOG_BLOCK	24
#define SB_BLOCKS_GROUP 32
#define SB_INODES_GROUP 40
#define SB_MAGIC	56
#define SB_REV		76
#define SB_INODE_BYTES	88
#define SB_INCOMPAT	96
#define SB_DESC_BYTES	254
#define SB_BLOCKS_HI	336
/* fields of an inode */
#define INODE_MODE  0
#define INODE_LINKS 26

struct view {
	ext2_filsys fs;
	uint64_t block_bytes;
	uint64_t blocks;
};

static ext2_filsys lib(struct imagefs *f)
{
	return ((struct view *)f->reader)->fs;
}

static uint64_t block_bytes(struct imagefs *f)
{
	return ((struct view *)f->reader)->block_bytes;
}

/* What the library said, or what the device said below it. */
static int fail(struct imagefs *f, errcode_t rc, const char *what, uint64_t ino, struct err *e)
{
	const struct err *io = imagefs_cache_failed(f->dev);

	if (io->code)
		return err_set(e, io->code, "ext4: %s of inode %llu: %s", what,
			       (unsigned long long)ino, io->msg);
	if (rc == ENOMEM || rc == EXT2_ET_NO_MEMORY)
		return err_set(e, -ENOMEM, "ext4: %s of inode %llu: out of memory", what,
			       (unsigned long long)ino);
	return err_set(e, -EBADMSG, "ext4: %s of inode %llu: %s", what, (unsigned long long)ino,
		       error_message(rc));
}

/* --- inodes --- */

static int read_inode(struct imagefs *f, uint64_t ino, struct ext2_inode *in, struct err *e)
{
	ext2_filsys fs = lib(f);
	errcode_t rc;

	if (ino == 0 || ino > fs->super->s_inodes_count)
		return err_set(e, -ENOENT, "ext4: there is no inode %llu", (unsigned long long)ino);
	rc = ext2fs_read_inode(fs, (ext2_ino_t)ino, in);
	if (rc)
		return fail(f, rc, "reading", ino, e);
	if (in->i_links_count == 0 || in->i_mode == 0)
		return err_set(e, -ENOENT, "ext4: inode %llu is not in use",
			       (unsigned long long)ino);
	return 0;
}

static int ext4_node(struct imagefs *f, uint64_t ino, struct imagefs_node *ret, struct err *e)
{
	struct ext2_inode in;
	int rc = read_inode(f, ino, &in, e);

	if (rc < 0)
		return rc;
	*ret = (struct imagefs_node){.ino = ino,
				     .mode = in.i_mode,
				     .links = in.i_links_count,
				     .bytes = EXT2_I_SIZE(&in),
				     .type = IMAGEFS_OTHER};
	if (LINUX_S_ISREG(in.i_mode))
		ret->type = IMAGEFS_FILE;
	else if (LINUX_S_ISDIR(in.i_mode))
		ret->type = IMAGEFS_DIR;
	else if (LINUX_S_ISLNK(in.i_mode))
		ret->type = IMAGEFS_SYMLINK;
	return 0;
}

/* --- blocks of an inode --- */

/* One stretch: data, or (@tree) a block that only says where data lies. */
struct stretch {
	bool tree, unwritten;
	uint64_t at, block, count; /* at: in blocks of the file */
};

typedef int stretch_fn(void *arg, const struct stretch *s);

struct stretches {
	struct imagefs *f;
	uint64_t ino;
	uint64_t to; /* blocks of the file from here on do not matter */
	stretch_fn *fn;
	void *arg;
	struct err *e;
	/* where it is */
	uint64_t next, total;
	struct stretch held; /* indirect blocks come one by one */
	int rc;
};

static bool block_ok(struct imagefs *f, uint64_t block, uint64_t count)
{
	const struct view *v = f->reader;

	return block != 0 && range_inside(range_of(block, count), v->blocks);
}

/* Data that was met: ascending, inside, and not more than there is. */
static int check_data(struct stretches *w, const struct stretch *s)
{
	const struct view *v = w->f->reader;

	w->total += s->count;
	if (s->count == 0 || s->at < w->next || w->total > v->blocks ||
	    !block_ok(w->f, s->block, s->count))
		return err_set(w->e, -EBADMSG,
			       "ext4: the blocks of inode %llu are out of order or outside",
			       (unsigned long long)w->ino);
	w->next = s->at + s->count;
	return 0;
}

static int extent_stretches(struct stretches *w, struct ext2_inode *in)
{
	unsigned int depth = get_le16((const uint8_t *)in->i_block + 6);
	ext2_extent_handle_t h;
	struct ext2fs_extent x;
	int op = EXT2_EXTENT_ROOT, err = 0;
	errcode_t rc;

	if (depth > TREE_DEPTH)
		return err_set(w->e, -EBADMSG, "ext4: inode %llu has an extent tree of depth %u",
			       (unsigned long long)w->ino, depth);
	rc = ext2fs_extent_open2(lib(w->f), (ext2_ino_t)w->ino, in, &h);
	if (rc)
		return fail(w->f, rc, "extent tree", w->ino, w->e);
	/* the root comes as its first entry; every inner entry twice, on the way down and up */
	for (; !err; op = EXT2_EXTENT_NEXT) {
		struct stretch s = {0};

		rc = ext2fs_extent_get(h, op, &x);
		if (rc == EXT2_ET_EXTENT_NO_NEXT)
			break;
		if (rc) {
			err = fail(w->f, rc, "extent tree", w->ino, w->e);
			break;
		}
		if (x.e_flags & EXT2_EXTENT_FLAGS_SECOND_VISIT)
			continue;
		s.at = x.e_lblk;
		s.block = x.e_pblk;
		if (x.e_flags & EXT2_EXTENT_FLAGS_LEAF) {
			s.count = x.e_len;
			s.unwritten = x.e_flags & EXT2_EXTENT_FLAGS_UNINIT;
			err = check_data(w, &s);
			if (err == 0 && s.at >= w->to)
				break;
		} else {
			s.tree = true;
			s.count = 1;
			if (!block_ok(w->f, s.block, 1))
				err = err_set(w->e, -EBADMSG,
					      "ext4: the extent tree of inode %llu leads outside",
					      (unsigned long long)w->ino);
			else if (s.at >= w->to)
				break;
		}
		if (err == 0)
			err = w->fn(w->arg, &s);
	}
	ext2fs_extent_free(h);
	return err;
}

static int give_held(struct stretches *w)
{
	int rc = 0;

	if (w->held.count)
		rc = w->fn(w->arg, &w->held);
	w->held.count = 0;
	return rc;
}

static int indirect_block(ext2_filsys fs, blk64_t *block, e2_blkcnt_t at, blk64_t ref, int ref_at,
			  void *arg)
{
	struct stretches *w = arg;
	struct stretch s = {.tree = at < 0, .block = *block, .count = 1};

	(void)fs;
	(void)ref;
	(void)ref_at;
	if (s.tree) {
		const struct view *v = w->f->reader;

		if (!block_ok(w->f, s.block, 1) || ++w->total > v->blocks)
			w->rc = err_set(w->e, -EBADMSG,
					"ext4: indirect blocks of inode %llu are not sane",
					(unsigned long long)w->ino);
		else
			w->rc = w->fn(w->arg, &s);
		return w->rc ? BLOCK_ABORT : 0;
	}
	s.at = (uint64_t)at;
	if (s.at >= w->to)
		return BLOCK_ABORT;
	w->rc = check_data(w, &s);
	if (w->rc)
		return BLOCK_ABORT;
	if (w->held.count && w->held.at + w->held.count == s.at &&
	    w->held.block + w->held.count == s.block) {
		w->held.count++;
		return 0;
	}
	w->rc = give_held(w);
	w->held = s;
	return w->rc ? BLOCK_ABORT : 0;
}

/* Every stretch of an inode that begins before block @to of it; returns what @fn returned. */
static int each_stretch(struct imagefs *f, uint64_t ino, struct ext2_inode *in, uint64_t to,
			stretch_fn *fn, void *arg, struct err *e)
{
	struct stretches w = {.f = f, .ino = ino, .to = to, .fn = fn, .arg = arg, .e = e};
	errcode_t rc;

	if (in->i_flags & EXT4_INLINE_DATA_FL || !ext2fs_inode_has_valid_blocks2(lib(f), in))
		return 0;
	if (in->i_flags & EXT4_EXTENTS_FL)
		return extent_stretches(&w, in);
	rc = ext2fs_block_iterate3(lib(f), (ext2_ino_t)ino, BLOCK_FLAG_READ_ONLY, NULL,
				   indirect_block, &w);
	if (w.rc)
		return w.rc;
	if (rc)
		return fail(f, rc, "indirect blocks", ino, e);
	return give_held(&w);
}

struct runs {
	struct imagefs *f;
	uint64_t off, size;
	imagefs_run_fn *fn;
	void *arg;
};

static int run_of_stretch(void *arg, const struct stretch *s)
{
	struct runs *w = arg;
	uint64_t unit = block_bytes(w->f);
	struct imagefs_run r = {.file_off = s->at * unit, .dev_off = s->block * unit};

	if (s->tree || s->unwritten || r.file_off >= w->size)
		return 0;
	r.bytes = min_u64(s->count * unit, w->size - r.file_off);
	return r.file_off + r.bytes <= w->off ? 0 : w->fn(w->arg, &r);
}

static int ext4_runs(struct imagefs *f, uint64_t ino, uint64_t off, uint64_t end,
		     imagefs_run_fn *fn, void *arg, struct err *e)
{
	struct runs w = {.f = f, .off = off, .fn = fn, .arg = arg};
	struct ext2_inode in;
	int rc = read_inode(f, ino, &in, e);

	if (rc < 0)
		return rc;
	w.size = EXT2_I_SIZE(&in);
	end = min_u64(end, w.size);
	return each_stretch(f, ino, &in, (end + block_bytes(f) - 1) / block_bytes(f),
			    run_of_stretch, &w, e);
}

static int ext4_inlined(struct imagefs *f, uint64_t ino, uint8_t **ret, size_t *ret_bytes,
			struct err *e)
{
	_cleanup_free_ uint8_t *p = NULL;
	struct ext2_inode in;
	size_t bytes = 0;
	errcode_t rc;
	int err = read_inode(f, ino, &in, e);

	*ret = NULL;
	if (err < 0)
		return err;
	if (!(in.i_flags & EXT4_INLINE_DATA_FL))
		return 0;
	rc = ext2fs_inline_data_size(lib(f), (ext2_ino_t)ino, &bytes);
	if (rc)
		return fail(f, rc, "inline data", ino, e);
	if (bytes > block_bytes(f))
		return err_set(e, -EBADMSG, "ext4: inode %llu claims %zu bytes of inline data",
			       (unsigned long long)ino, bytes);
	/* the library writes the inode's own 60 bytes in any case */
	p = xmalloc_zero(1, bytes + sizeof(in.i_block));
	rc = ext2fs_inline_data_get(lib(f), (ext2_ino_t)ino, NULL, p, &bytes);
	if (rc)
		return fail(f, rc, "inline data", ino, e);
	*ret = steal_ptr(p);
	*ret_bytes = (size_t)min_u64(bytes, EXT2_I_SIZE(&in));
	return 0;
}

/* --- directories and links --- */

struct listing {
	struct imagefs *f;
	uint64_t ino;
	uint64_t blocks; /* of the directory */
	uint64_t listed; /* bytes of them */
	imagefs_entry_fn *fn;
	void *arg;
	uint8_t *buf;
	struct err *e;
	/* where a name lies: ext4_dir_metadata() */
	struct imagefs_ranges *ranges;
	bool indexed;
};

static int list_bytes(struct listing *w, uint8_t *p, size_t bytes)
{
	ext2_filsys fs = lib(w->f);
	size_t at = 0;

	while (at + 8 <= bytes) {
		struct ext2_dir_entry *d = (void *)(p + at);
		unsigned int len = 0, name = (unsigned int)ext2fs_dirent_name_len(d);
		int rc = 0;

		if (ext2fs_get_rec_len(fs, d, &len) || len < 8 || len % 4 || len > bytes - at ||
		    name + 8 > len || (d->inode && d->inode > fs->super->s_inodes_count))
			return err_set(w->e, -EBADMSG, "ext4: directory %llu is damaged",
				       (unsigned long long)w->ino);
		at += len;
		if (d->inode == 0 || (name == 1 && d->name[0] == '.') ||
		    (name == 2 && d->name[0] == '.' && d->name[1] == '.'))
			continue;
		if (!imagefs_name_ok(d->name, name))
			return err_set(w->e, -EBADMSG, "ext4: directory %llu has an invalid name",
				       (unsigned long long)w->ino);
		rc = w->fn(w->arg, d->name, name, d->inode);
		if (rc)
			return rc;
	}
	return 0;
}

/* Blocks of inner nodes of an index look like one empty entry. */
static bool inner_node(struct listing *w)
{
	struct ext2_dir_entry *d = (void *)w->buf;
	unsigned int len = 0;

	return w->indexed && d->inode == 0 && !ext2fs_get_rec_len(lib(w->f), d, &len) &&
	       len == block_bytes(w->f);
}

static int list_stretch(void *arg, const struct stretch *s)
{
	struct listing *w = arg;
	uint64_t unit = block_bytes(w->f);

	for (uint64_t n = 0; !s->tree && !s->unwritten && n < s->count; n++) {
		errcode_t err;
		int rc;

		if (s->at + n >= w->blocks)
			return 0;
		w->f->listed += unit;
		w->listed += unit;
		if (w->listed > IMAGEFS_DIR_BYTES)
			return err_set(w->e, -EFBIG, "ext4: directory %llu is too large",
				       (unsigned long long)w->ino);
		err =
		    ext2fs_read_dir_block4(lib(w->f), s->block + n, w->buf, 0, (ext2_ino_t)w->ino);
		if (err)
			return fail(w->f, err, "directory", w->ino, w->e);
		rc = list_bytes(w, w->buf, unit);
		if (rc < 0)
			return rc;
		if (w->ranges && (!w->indexed || rc || s->at + n == 0 || inner_node(w))) {
			int full = imagefs_ranges_add(w->ranges, (s->block + n) * unit, unit, w->e);

			if (full < 0)
				return full;
		}
		if (rc)
			return rc;
	}
	return 0;
}

/* Entries of a directory whose data are in its inode: its parent, then two areas of entries. */
static int list_inline(struct listing *w)
{
	_cleanup_free_ uint8_t *p = NULL;
	size_t bytes = 0, first = sizeof(((struct ext2_inode *)0)->i_block);
	int rc = ext4_inlined(w->f, w->ino, &p, &bytes, w->e);

	if (rc < 0 || bytes < 4)
		return rc;
	rc = list_bytes(w, p + 4, (bytes < first ? bytes : first) - 4);
	return rc || bytes <= first ? rc : list_bytes(w, p + first, bytes - first);
}

static int list_dir(struct listing *w, struct err *e)
{
	_cleanup_free_ uint8_t *buf = NULL;
	struct ext2_inode in;
	int rc = read_inode(w->f, w->ino, &in, e);

	if (rc < 0)
		return rc;
	if (!LINUX_S_ISDIR(in.i_mode))
		return err_set(e, -ENOTDIR, "ext4: inode %llu is no directory",
			       (unsigned long long)w->ino);
	if (in.i_flags & EXT4_INLINE_DATA_FL)
		return list_inline(w);
	w->buf = buf = xmalloc_zero(1, block_bytes(w->f));
	w->blocks = EXT2_I_SIZE(&in) / block_bytes(w->f);
	w->indexed = in.i_flags & EXT2_INDEX_FL;
	return each_stretch(w->f, w->ino, &in, w->blocks, list_stretch, w, e);
}

static int ext4_list(struct imagefs *f, uint64_t ino, imagefs_entry_fn *fn, void *arg,
		     struct err *e)
{
	struct listing w = {.f = f, .ino = ino, .fn = fn, .arg = arg, .e = e};

	return list_dir(&w, e);
}

static int append_link(void *arg, const struct imagefs_run *r)
{
	struct imagefs_run *first = arg;

	if (first->bytes == 0)
		*first = *r;
	return 1;
}

static int ext4_link(struct imagefs *f, uint64_t ino, char **ret, struct err *e)
{
	_cleanup_free_ char *p = NULL;
	struct imagefs_run first = {0};
	struct ext2_inode in;
	uint64_t bytes;
	int rc = read_inode(f, ino, &in, e);

	if (rc < 0)
		return rc;
	bytes = EXT2_I_SIZE(&in);
	if (!LINUX_S_ISLNK(in.i_mode) || bytes == 0 || bytes >= IMAGEFS_LINK_BYTES)
		return err_set(e, -EBADMSG, "ext4: inode %llu is no link of a possible length",
			       (unsigned long long)ino);
	p = xmalloc_zero(1, bytes + 1);
	if (in.i_flags & EXT4_INLINE_DATA_FL) {
		_cleanup_free_ uint8_t *data = NULL;
		size_t len;

		rc = ext4_inlined(f, ino, &data, &len, e);
		if (rc < 0)
			return rc;
		memcpy(p, data, len);
	} else if (ext2fs_is_fast_symlink(&in)) {
		memcpy(p, in.i_block, min_u64(bytes, sizeof(in.i_block)));
	} else {
		rc = ext4_runs(f, ino, 0, bytes, append_link, &first, e);
		if (rc < 0)
			return rc;
		if (first.file_off || first.bytes < bytes)
			return err_set(e, -EBADMSG, "ext4: link %llu has no target",
				       (unsigned long long)ino);
		rc = imagefs_cache_read(f->dev, p, bytes, first.dev_off, e);
		if (rc < 0)
			return rc;
	}
	*ret = steal_ptr(p);
	return 0;
}

/* --- metadata --- */

struct gathering {
	struct imagefs *f;
	struct imagefs_ranges *ranges;
	bool data;	/* what the blocks hold is metadata as well */
	uint64_t first; /* this many blocks of data are */
	struct err *e;
};

static int gather_stretch(void *arg, const struct stretch *s)
{
	struct gathering *w = arg;
	uint64_t unit = block_bytes(w->f), count = s->count;

	if (!s->tree && !w->data) {
		if (s->at >= w->first)
			return 0;
		count = min_u64(count, w->first - s->at);
	}
	return imagefs_ranges_add(w->ranges, s->block * unit, count * unit, w->e);
}

/* The tree and attributes of an inode; with its data where these are metadata. */
static int gather_inode(struct imagefs *f, uint64_t ino, struct ext2_inode *in, bool dirs,
			struct imagefs_ranges *rs, struct err *e)
{
	struct gathering w = {.f = f, .ranges = rs, .e = e};
	uint64_t acl = ext2fs_file_acl_block(lib(f), in);
	int rc;

	w.data = (dirs && LINUX_S_ISDIR(in->i_mode)) || LINUX_S_ISLNK(in->i_mode) ||
		 (in->i_flags & EXT4_EA_INODE_FL);
	/* the journal's own superblock is read by every mount */
	w.first = ino == EXT2_JOURNAL_INO ? 1 : 0;
	if (acl) {
		if (!block_ok(f, acl, 1))
			return err_set(e, -EBADMSG, "ext4: attributes of inode %llu lie outside",
				       (unsigned long long)ino);
		rc = imagefs_ranges_add(rs, acl * block_bytes(f), block_bytes(f), e);
		if (rc < 0)
			return rc;
	}
	/* nothing but the inode says where the data of a shallow tree are */
	if (!w.data && !w.first && in->i_flags & EXT4_EXTENTS_FL &&
	    get_le16((const uint8_t *)in->i_block + 6) == 0)
		return 0;
	return each_stretch(f, ino, in, UINT64_MAX, gather_stretch, &w, e);
}

static int ext4_inode_metadata(struct imagefs *f, uint64_t ino, struct imagefs_ranges *rs,
			       struct err *e)
{
	ext2_filsys fs = lib(f);
	uint64_t unit = block_bytes(f), at, table;
	struct ext2_inode in;
	int rc = read_inode(f, ino, &in, e);

	if (rc < 0)
		return rc;
	table = ext2fs_inode_table_loc(fs, ext2fs_group_of_ino(fs, (ext2_ino_t)ino));
	at = (ino - 1) % fs->super->s_inodes_per_group * EXT2_INODE_SIZE(fs->super);
	rc = imagefs_ranges_add(rs, (table + at / unit) * unit, unit, e);
	return rc < 0 ? rc : gather_inode(f, ino, &in, false, rs, e);
}

struct wanted {
	const char *name;
	size_t len;
};

static int is_wanted(void *arg, const char *name, size_t len, uint64_t ino)
{
	const struct wanted *w = arg;

	(void)ino;
	return w->name && w->len == len && memcmp(w->name, name, len) == 0;
}

static int ext4_dir_metadata(struct imagefs *f, uint64_t ino, const char *name, size_t len,
			     struct imagefs_ranges *rs, struct err *e)
{
	struct wanted want = {name, len};
	struct listing w = {
	    .f = f, .ino = ino, .fn = is_wanted, .arg = &want, .e = e, .ranges = rs};
	int rc = list_dir(&w, e);

	return rc < 0 ? rc : 0;
}

static int ext4_mount_metadata(struct imagefs *f, struct imagefs_ranges *rs, struct err *e)
{
	ext2_filsys fs = lib(f);
	uint64_t unit = block_bytes(f), size = imagefs_cache_bytes(f->dev);
	int rc = imagefs_ranges_add(rs, 0, min_u64(unit < 2048 ? 2048 : unit, size), e);

	for (dgrp_t n = 0; rc == 0 && n < fs->desc_blocks; n++) {
		uint64_t b = ext2fs_descriptor_block_loc2(fs, fs->super->s_first_data_block, n);

		rc = imagefs_ranges_add(rs, b * unit, unit, e);
	}
	return rc;
}

/* How many inodes of a group may be in use. */
static int inodes_in_use(struct imagefs *f, dgrp_t g, uint32_t *ret, struct err *e)
{
	ext2_filsys fs = lib(f);
	uint32_t per_group = fs->super->s_inodes_per_group, unused;
	_cleanup_free_ uint8_t *map = NULL;
	int rc;

	if (ext2fs_has_group_desc_csum(fs)) {
		unused = ext2fs_bg_itable_unused(fs, g);
		*ret = ext2fs_bg_flags_test(fs, g, EXT2_BG_INODE_UNINIT) || unused > per_group
			   ? 0
			   : per_group - unused;
		return 0;
	}
	map = xmalloc_zero(1, (per_group + 7) / 8);
	rc = imagefs_cache_read(f->dev, map, (per_group + 7) / 8,
				ext2fs_inode_bitmap_loc(fs, g) * block_bytes(f), e);
	if (rc < 0)
		return rc;
	while (per_group && !(map[(per_group - 1) / 8] >> ((per_group - 1) % 8) & 1))
		per_group--;
	*ret = per_group;
	return 0;
}

/* The inodes @first.. whose raw bytes are in @p. */
static int gather_table(struct imagefs *f, const uint8_t *p, uint64_t first, uint32_t count,
			struct imagefs_ranges *rs, struct err *e)
{
	ext2_filsys fs = lib(f);
	size_t step = EXT2_INODE_SIZE(fs->super);

	for (uint32_t n = 0; n < count; n++, p += step) {
		uint64_t ino = first + n;
		struct ext2_inode in;
		int rc;

		if (get_le16(p + INODE_MODE) == 0 || get_le16(p + INODE_LINKS) == 0)
			continue;
		if (ino < EXT2_FIRST_INODE(fs->super) && ino != EXT2_ROOT_INO &&
		    ino != EXT2_JOURNAL_INO)
			continue;
		rc = read_inode(f, ino, &in, e);
		if (rc == -ENOENT)
			continue;
		if (rc == 0)
			rc = gather_inode(f, ino, &in, true, rs, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int ext4_metadata(struct imagefs *f, struct imagefs_ranges *rs, struct err *e)
{
	ext2_filsys fs = lib(f);
	uint64_t unit = block_bytes(f), step = EXT2_INODE_SIZE(fs->super), seen = 0;
	uint32_t piece = TABLE_PIECE / (uint32_t)step;
	_cleanup_free_ uint8_t *buf = xmalloc_zero(1, TABLE_PIECE);
	int rc = ext4_mount_metadata(f, rs, e);

	for (dgrp_t g = 0; rc == 0 && g < fs->group_desc_count; g++) {
		uint64_t table = ext2fs_inode_table_loc(fs, g) * unit;
		uint32_t used = 0;

		rc = inodes_in_use(f, g, &used, e);
		if (rc < 0 || used == 0)
			continue;
		seen += used;
		if (seen > IMAGEFS_INODES)
			return err_set(e, -EFBIG, "ext4: more than %u inodes", IMAGEFS_INODES);
		/* the kernel reads ahead up to the block behind the last inode in use */
		rc = imagefs_ranges_add(
		    rs, table, min_u64(used * step / unit + 1, fs->inode_blocks_per_group) * unit,
		    e);
		for (uint32_t n = 0; rc == 0 && n < used; n += piece) {
			uint32_t count = used - n < piece ? used - n : piece;

			rc = imagefs_cache_read(f->dev, buf, count * step, table + n * step, e);
			if (rc == 0)
				rc = gather_table(
				    f, buf, (uint64_t)g * fs->super->s_inodes_per_group + n + 1,
				    count, rs, e);
		}
	}
	return rc;
}

static void ext4_close(struct imagefs *f)
{
	struct view *v = f->reader;

	ext2fs_free(v->fs);
	free(v);
}

static const struct imagefs_ops ops = {
    .kind = "ext4",
    .close = ext4_close,
    .node = ext4_node,
    .list = ext4_list,
    .link = ext4_link,
    .runs = ext4_runs,
    .inlined = ext4_inlined,
    .mount_metadata = ext4_mount_metadata,
    .inode_metadata = ext4_inode_metadata,
    .dir_metadata = ext4_dir_metadata,
    .metadata = ext4_metadata,
};

/* What the library would allocate and loop by. */
static int check_super(const struct imagefs *f, const uint8_t *sb, struct view *v, struct err *e)
{
	uint32_t log = get_le32(sb + SB_LOG_BLOCK), per_group = get_le32(sb + SB_BLOCKS_GROUP);
	bool wide = get_le32(sb + SB_INCOMPAT) & EXT4_FEATURE_INCOMPAT_64BIT;
	uint32_t inode = get_le32(sb + SB_REV) ? get_le16(sb + SB_INODE_BYTES) : 128;
	uint32_t desc = wide ? get_le16(sb + SB_DESC_BYTES) : 32;
	uint32_t per_inodes = get_le32(sb + SB_INODES_GROUP);

	if (log > 6 || per_group == 0 || desc < 32 || inode < 128 || inode & (inode - 1) ||
	    inode > 1024u << log || per_inodes == 0 || per_inodes > 8 * (1024u << log))
		return err_set(e, -EBADMSG, "ext4: the superblock is damaged");
	v->block_bytes = 1024u << log;
	v->blocks = get_le32(sb + SB_BLOCKS_LO);
	if (wide)
		v->blocks |= (uint64_t)get_le32(sb + SB_BLOCKS_HI) << 32;
	if (v->blocks == 0 || v->blocks > imagefs_cache_bytes(f->dev) / v->block_bytes)
		return err_set(e, -EBADMSG, "ext4: %llu blocks do not fit into the device",
			       (unsigned long long)v->blocks);
	if ((v->blocks / per_group + 1) * desc > DESCRIPTOR_BYTES)
		return err_set(e, -EBADMSG, "ext4: more group descriptors than %u MiB",
			       DESCRIPTOR_BYTES >> 20);
	if (get_le32(sb + SB_INCOMPAT) & EXT3_FEATURE_INCOMPAT_JOURNAL_DEV)
		return err_set(e, -EOPNOTSUPP, "ext4: this is a journal of its own");
	return 0;
}

static errcode_t read_device(void *arg, void *buf, uint64_t bytes, uint64_t off)
{
	return imagefs_cache_read(arg, buf, bytes, off, NULL) ? EXT2_ET_SHORT_READ : 0;
}

int imagefs_ext4_open(struct imagefs *f, const uint8_t *super, struct err *e)
{
	const struct ext2_device dev = {.read = read_device, .arg = f->dev};
	_cleanup_free_ struct view *v = xmalloc_zero(1, sizeof(*v));
	errcode_t err;
	int rc = check_super(f, super, v, e);

	if (rc < 0)
		return rc;
	initialize_ext2_error_table();
	err = ext2fs_open2("image", NULL, EXT2_FLAG_64BITS, 0, 0, ext2_device_io(&dev), &v->fs);
	if (err == EXT2_ET_UNSUPP_FEATURE || err == EXT2_ET_RO_UNSUPP_FEATURE)
		return err_set(e, -EOPNOTSUPP, "ext4: %s", error_message(err));
	if (err)
		return fail(f, err, "opening the file system", 0, e);
	f->reader = steal_ptr(v);
	f->ops = &ops;
	f->root = EXT2_ROOT_INO;
	return 0;
}
