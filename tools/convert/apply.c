/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply.c - entries, whiteouts and links of an OCI layer
 *
 * Names of the archive are cleaned first: leading slashes go, "." goes, ".." is resolved within the
 * name and must not climb above the root. What remains is walked inside the file system; symbolic
 * links among the parents are followed there, as a runtime unpacking the layer into a root
 * directory does, with the root as their highest parent.
 */
#include "apply.h"

#include "apply_file.h"
#include "bytes.h"
#include "err.h"
#include "ext4.h"
#include "hot_hold.h"
#include "hot_order.h"
#include "log.h"
#include "text.h"
#include "tree.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHITEOUT	    ".wh."
#define WHITEOUT_META	    ".wh..wh."
#define WHITEOUT_OPAQUE	    ".wh..wh..opq"
#define PATH_BYTES	    4096u
#define MAX_SYMLINKS	    40u
#define METADATA_HOLD_BYTES (64u << 20)
#define WORK_PATH	    (PATH_BYTES + EXT4_SYMLINK_MAX + 2)

struct apply {
	struct ext4 *x;
	struct tree *t;
	struct tar_reader *tar;
	struct apply_file file;
	struct apply_stats *stats;

	/* the last parent that was walked to */
	char last_path[PATH_BYTES];
	uint32_t last_ino;     /* 0: none */
	char real[PATH_BYTES]; /* where a walk has come to, links resolved; of the last one */
	size_t real_len;       /* PATH_BYTES: too long to be told */
	char last_real[PATH_BYTES];
	bool last_real_known;

	char work[2][WORK_PATH]; /* rest of the path while links are followed */
};

/* --- names --- */

/*
 * clean_path - relative to the root, no empty, "." or ".." component
 * @out: PATH_BYTES; "" for the root itself
 */
static int clean_path(const char *path, char *out, struct err *e)
{
	size_t len = 0;

	for (const char *p = path; *p;) {
		const char *end = strchrnul(p, '/');
		size_t n = (size_t)(end - p);

		if (n == 2 && p[0] == '.' && p[1] == '.') {
			char *slash;

			if (!len)
				return err_set(e, -EBADMSG, "the name leaves the image's root");
			out[len] = 0;
			slash = strrchr(out, '/');
			len = slash ? (size_t)(slash - out) : 0;
		} else if (n && !(n == 1 && p[0] == '.')) {
			if (n > TREE_NAME_MAX)
				return err_set(e, -ENAMETOOLONG, "a name of %zu bytes", n);
			if (len + n + 2 > PATH_BYTES)
				return err_set(e, -ENAMETOOLONG, "a path of more than %u bytes",
					       PATH_BYTES - 1);
			if (len)
				out[len++] = '/';
			memcpy(out + len, p, n);
			len += n;
		}
		p = *end ? end + 1 : end;
	}
	out[len] = 0;
	return 0;
}

/* --- inodes --- */

static uint32_t time_extra(int64_t sec, uint32_t ns)
{
	return (uint32_t)(((uint64_t)(sec - (int32_t)sec) >> 32) & 3) | ns << 2;
}

/* ext4 holds 1901 to 2446; outside of it the nearest time is kept. */
static int64_t clamp_time(int64_t sec, uint32_t *ns)
{
	if (sec >= -(1ll << 31) && sec < (1ll << 34) - (1ll << 31))
		return sec;
	*ns = 0;
	return sec < 0 ? -(1ll << 31) : (1ll << 34) - (1ll << 31) - 1;
}

static int fill_inode(const struct tar_entry *te, uint32_t type, struct ext2_inode_large *in,
		      struct err *e)
{
	uint32_t mns = te->mtime_ns, ans = te->atime_ns;
	int64_t mtime = clamp_time(te->mtime, &mns), atime = clamp_time(te->atime, &ans);

	if (te->uid < 0 || te->uid > UINT32_MAX || te->gid < 0 || te->gid > UINT32_MAX)
		return err_set(e, -EOVERFLOW, "owner %lld:%lld does not fit 32 bits",
			       (long long)te->uid, (long long)te->gid);
	in->i_mode = (uint16_t)(type | te->mode);
	in->i_uid = (uint16_t)te->uid;
	in->osd2.linux2.l_i_uid_high = (uint16_t)(te->uid >> 16);
	in->i_gid = (uint16_t)te->gid;
	in->osd2.linux2.l_i_gid_high = (uint16_t)(te->gid >> 16);
	in->i_extra_isize = sizeof(*in) - EXT2_GOOD_OLD_INODE_SIZE;
	in->i_mtime = in->i_ctime = in->i_crtime = (uint32_t)mtime;
	in->i_mtime_extra = in->i_ctime_extra = in->i_crtime_extra = time_extra(mtime, mns);
	in->i_atime = (uint32_t)atime;
	in->i_atime_extra = time_extra(atime, ans);
	return 0;
}

/* --- removing --- */

/* One name of a file is gone. */
static int drop_file(struct apply *a, uint32_t ino, struct err *e)
{
	struct ext2_inode_large in;
	int rc = ext4_inode_read(a->x, ino, &in, e);

	if (rc < 0)
		return rc;
	if (LINUX_S_ISDIR(in.i_mode))
		return err_set(e, -EBADMSG, "inode %u is a directory under a file's name", ino);
	if (in.i_links_count <= 1)
		return ext4_inode_release(a->x, ino, e);
	in.i_links_count--;
	return ext4_inode_write(a->x, ino, &in, e);
}

/* A queue of directories, so that depth costs heap and not stack. */
struct todo {
	struct {
		uint32_t parent, ino;
		const char *name; /* in the parent's block: lives as long as the entry */
		size_t len;
		bool touched;
	} * item;
	size_t count, room;
};

static void todo_add(struct todo *q, uint32_t parent, uint32_t ino, const char *name, size_t len,
		     bool touched)
{
	q->item = xgrow(q->item, &q->room, q->count, sizeof(*q->item));
	q->item[q->count].parent = parent;
	q->item[q->count].ino = ino;
	q->item[q->count].name = name;
	q->item[q->count].len = len;
	q->item[q->count++].touched = touched;
}

/* Everything below a directory and the directory itself; its name is the caller's. */
static int drop_tree(struct apply *a, uint32_t ino, struct err *e)
{
	struct todo q = {0};
	int rc = 0;

	a->last_ino = 0;
	todo_add(&q, 0, ino, NULL, 0, false);
	for (size_t i = 0; rc == 0 && i < q.count; i++) {
		struct tree_entry te;
		struct dir *d;
		const char *name;
		uint32_t pos = 0;
		size_t len;

		if (q.count > ext4_inode_count(a->x))
			rc =
			    err_set(e, -EBADMSG, "the directories of the layers below form a loop");
		else
			rc = tree_dir(a->t, q.item[i].ino, &d, e);
		while (rc == 0 && dir_next(d, &pos, &name, &len, &te)) {
			if (te.type == EXT2_FT_DIR)
				todo_add(&q, 0, te.ino, NULL, 0, false);
			else
				rc = drop_file(a, te.ino, e);
		}
		if (rc == 0) {
			tree_forget(a->t, q.item[i].ino);
			rc = ext4_inode_release(a->x, q.item[i].ino, e);
		}
	}
	free(q.item);
	return rc;
}

static int drop_entry(struct apply *a, const struct tree_entry *te, struct err *e)
{
	return te->type == EXT2_FT_DIR ? drop_tree(a, te->ino, e) : drop_file(a, te->ino, e);
}

/*
 * Hide what lower layers left in a directory, at every depth; what this layer has named stays, and
 * so do directories on the way to it.
 */
static int make_opaque(struct apply *a, uint32_t ino, struct err *e)
{
	struct todo q = {0};
	int rc = 0;

	todo_add(&q, 0, ino, NULL, 0, true);
	for (size_t i = 0; rc == 0 && i < q.count; i++) {
		struct tree_entry te;
		struct dir *d;
		const char *name;
		uint32_t pos = 0;
		size_t len;

		if (q.count > ext4_inode_count(a->x))
			rc =
			    err_set(e, -EBADMSG, "the directories of the layers below form a loop");
		else
			rc = tree_dir(a->t, q.item[i].ino, &d, e);
		while (rc == 0 && dir_next(d, &pos, &name, &len, &te)) {
			if (te.type == EXT2_FT_DIR) {
				todo_add(&q, q.item[i].ino, te.ino, name, len, te.touched);
			} else if (!te.touched) {
				rc = drop_file(a, te.ino, e);
				if (rc == 0)
					dir_remove(d, name, len);
			}
		}
	}
	for (size_t i = q.count; rc == 0 && i-- > 1;) {
		struct dir *d, *parent;

		if (q.item[i].touched)
			continue;
		rc = tree_dir(a->t, q.item[i].ino, &d, e);
		if (rc < 0 || dir_count(d))
			continue;
		rc = tree_dir(a->t, q.item[i].parent, &parent, e);
		if (rc == 0) {
			dir_remove(parent, q.item[i].name, q.item[i].len);
			rc = drop_tree(a, q.item[i].ino, e);
		}
	}
	free(q.item);
	return rc;
}

/* --- walking --- */

/* Give a name to an inode; what had it before goes away. */
static int place(struct apply *a, struct dir *d, const char *name, uint32_t ino, uint8_t type,
		 struct err *e)
{
	size_t len = strlen(name);
	struct tree_entry old;
	int rc;

	if (!dir_find(d, name, len, &old))
		return dir_add(d, name, len, ino, type, e);
	if (old.type == EXT2_FT_SYMLINK)
		a->last_ino = 0; /* the last walk may have come through it */
	rc = drop_entry(a, &old, e);
	if (rc == 0)
		dir_replace(d, name, len, ino, type);
	return rc;
}

static int new_dir(struct apply *a, struct dir *parent, const char *name,
		   const struct tar_entry *te, uint32_t *ret_ino, struct err *e)
{
	struct ext2_inode_large in = {0};
	uint32_t ino;
	int rc = fill_inode(te, LINUX_S_IFDIR, &in, e);

	if (rc == 0)
		rc = ext4_inode_new(a->x, true, &ino, e);
	if (rc < 0)
		return rc;
	in.i_links_count = 2;
	rc = ext4_inode_write(a->x, ino, &in, e);
	if (rc < 0)
		return rc;
	tree_make_dir(a->t, ino, dir_ino(parent));
	*ret_ino = ino;
	return place(a, parent, name, ino, EXT2_FT_DIR, e);
}

/* Keep account of where a walk is. */
static void real_down(struct apply *a, const char *name, size_t len)
{
	if (a->real_len + len + 2 > PATH_BYTES) {
		a->real_len = PATH_BYTES;
		return;
	}
	if (a->real_len)
		a->real[a->real_len++] = '/';
	memcpy(a->real + a->real_len, name, len);
	a->real_len += len;
}

static void real_up(struct apply *a)
{
	if (a->real_len == PATH_BYTES)
		return;
	while (a->real_len && a->real[a->real_len - 1] != '/')
		a->real_len--;
	if (a->real_len)
		a->real_len--;
}

/*
 * walk - the directory a clean path names
 * @create: make missing directories (root's, 0755), and follow symbolic links to missing ones
 * Returns 0, -ENOENT, -ENOTDIR (both without a message unless @create), -ELOOP.
 */
static int walk(struct apply *a, const char *path, bool create, struct dir **ret, struct err *e)
{
	static const struct tar_entry made = {.type = TAR_DIR, .mode = 0755};
	unsigned int links = 0, which = 0;
	const char *p = path;
	struct dir *d;
	int rc = tree_dir(a->t, EXT2_ROOT_INO, &d, e);

	a->real_len = 0;
	while (rc == 0 && *p) {
		const char *end = strchrnul(p, '/');
		size_t len = (size_t)(end - p);
		char name[TREE_NAME_MAX + 1];
		struct tree_entry te;

		if (!len || (len == 1 && p[0] == '.')) {
			p = *end ? end + 1 : end;
			continue;
		}
		if (len > TREE_NAME_MAX)
			return err_set(e, -ENAMETOOLONG, "a symbolic link names %zu bytes", len);
		memcpy(name, p, len);
		name[len] = 0;
		if (len == 2 && name[0] == '.' && name[1] == '.') {
			te.ino = dir_parent(d);
			te.type = EXT2_FT_DIR;
		} else if (!dir_find(d, name, len, &te)) {
			if (!create)
				return -ENOENT;
			rc = new_dir(a, d, name, &made, &te.ino, e);
			if (rc < 0)
				return rc;
			te.type = EXT2_FT_DIR;
		}
		if (te.type == EXT2_FT_SYMLINK) {
			char *to = a->work[which ^= 1];
			size_t tlen;

			if (++links > MAX_SYMLINKS)
				return err_set(e, -ELOOP, "too many symbolic links at \"%s\"",
					       name);
			rc = ext4_symlink_read(a->x, te.ino, to, &tlen, e);
			if (rc < 0)
				return rc;
			if (tlen + 1 + strlen(end) + 1 > WORK_PATH)
				return err_set(e, -ENAMETOOLONG, "path through \"%s\" too long",
					       name);
			memcpy(to + tlen, end, strlen(end) + 1); /* with its slash, or "" */
			p = to;
			if (*p == '/') {
				rc = tree_dir(a->t, EXT2_ROOT_INO, &d, e);
				a->real_len = 0;
			}
			continue;
		}
		if (te.type != EXT2_FT_DIR) {
			if (!create)
				return -ENOTDIR;
			return err_set(e, -EBADMSG, "its parent \"%s\" is not a directory", name);
		}
		rc = tree_dir(a->t, te.ino, &d, e);
		if (len == 2 && name[0] == '.' && name[1] == '.')
			real_up(a);
		else
			real_down(a, name, len);
		p = *end ? end + 1 : end;
	}
	*ret = d;
	return rc;
}

/* Split a clean path, walk to its parent; @ret_name points into @path. */
static int walk_parent(struct apply *a, char *path, bool create, struct dir **ret,
		       const char **ret_name, struct err *e)
{
	char *slash = strrchr(path, '/');
	int rc;

	*ret_name = slash ? slash + 1 : path;
	if (slash)
		*slash = 0;
	if (a->last_ino && !strcmp(slash ? path : "", a->last_path)) {
		rc = tree_dir(a->t, a->last_ino, ret, e);
	} else {
		rc = walk(a, slash ? path : "", create, ret, e);
		if (rc == 0) {
			a->last_ino = dir_ino(*ret);
			strcpy(a->last_path, slash ? path : "");
			a->last_real_known = a->real_len < PATH_BYTES;
			if (a->last_real_known)
				memcpy(a->last_real, a->real, a->real_len);
			a->last_real[a->last_real_known ? a->real_len : 0] = 0;
		}
	}
	if (slash)
		*slash = '/';
	return rc;
}

/* --- entries --- */

static int apply_whiteout(struct apply *a, char *path, const char *base, struct err *e)
{
	bool opaque = !strcmp(base, WHITEOUT_OPAQUE);
	const char *name = base + strlen(WHITEOUT);
	struct tree_entry te;
	struct dir *d;
	const char *unused;
	int rc;

	if (!opaque && text_starts_with(base, WHITEOUT_META))
		return 0; /* bookkeeping of aufs */
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return err_set(e, -EBADMSG, "a whiteout of \"%s\"", name);
	rc = walk_parent(a, path, false, &d, &unused, e);
	if (rc == -ENOENT || rc == -ENOTDIR)
		return 0; /* nothing to hide */
	if (rc < 0)
		return rc;
	if (opaque)
		return make_opaque(a, dir_ino(d), e);
	if (!dir_find(d, name, strlen(name), &te))
		return 0;
	/* a whiteout hides lower layers only, whatever the order of the entries */
	if (te.touched)
		return te.type == EXT2_FT_DIR ? make_opaque(a, te.ino, e) : 0;
	if (te.type == EXT2_FT_SYMLINK || te.type == EXT2_FT_DIR)
		a->last_ino = 0; /* the last walk may have come through it */
	dir_remove(d, name, strlen(name));
	return drop_entry(a, &te, e);
}

static int set_xattrs(struct apply *a, uint32_t ino, const struct tar_entry *te, bool fresh,
		      struct err *e)
{
	if (fresh && !te->xattr_count)
		return 0;
	return ext4_xattrs_set(a->x, ino, te->xattrs, te->xattr_count, e);
}

static int apply_dir(struct apply *a, struct dir *d, const char *name, const struct tar_entry *te,
		     struct err *e)
{
	struct ext2_inode_large in;
	struct tree_entry old = {.ino = EXT2_ROOT_INO, .type = EXT2_FT_DIR};
	uint32_t ino;
	int rc;

	if (d && !(dir_find(d, name, strlen(name), &old) && old.type == EXT2_FT_DIR)) {
		rc = new_dir(a, d, name, te, &ino, e);
		return rc < 0 ? rc : set_xattrs(a, ino, te, true, e);
	}
	rc = ext4_inode_read(a->x, old.ino, &in, e);
	if (rc == 0)
		rc = fill_inode(te, LINUX_S_IFDIR, &in, e);
	if (rc == 0)
		rc = ext4_inode_write(a->x, old.ino, &in, e);
	if (rc == 0)
		rc = set_xattrs(a, old.ino, te, false, e);
	if (rc == 0 && d)
		dir_touch(d, name, strlen(name));
	return rc;
}

static int apply_hardlink(struct apply *a, struct dir *d, const char *name,
			  const struct tar_entry *te, struct err *e)
{
	char path[PATH_BYTES];
	struct ext2_inode_large in;
	struct tree_entry target, old;
	struct dir *td;
	const char *tname;
	int rc = clean_path(te->link, path, e);

	if (rc < 0)
		return err_wrap(e, rc, "hard link to \"%.200s\"", te->link);
	rc = walk_parent(a, path, false, &td, &tname, e);
	if ((rc < 0 && rc != -ENOENT && rc != -ENOTDIR))
		return rc;
	if (rc < 0 || !*path || !dir_find(td, tname, strlen(tname), &target))
		return err_set(e, -EBADMSG, "a hard link to \"%.200s\", which is not there",
			       te->link);
	if (target.type == EXT2_FT_DIR)
		return err_set(e, -EBADMSG, "a hard link to the directory \"%.200s\"", te->link);
	if (dir_find(d, name, strlen(name), &old) && old.ino == target.ino) {
		dir_touch(d, name, strlen(name));
		return 0;
	}
	rc = ext4_inode_read(a->x, target.ino, &in, e);
	if (rc < 0)
		return rc;
	if (in.i_links_count >= EXT4_MAX_LINKS)
		return err_set(e, -EMLINK, "more than %u hard links to \"%.200s\"", EXT4_MAX_LINKS,
			       te->link);
	in.i_links_count++;
	rc = ext4_inode_write(a->x, target.ino, &in, e);
	return rc < 0 ? rc : place(a, d, name, target.ino, target.type, e);
}

static int fill_symlink(struct apply *a, const struct tar_entry *te, struct ext2_inode_large *in,
			struct err *e)
{
	size_t len = strlen(te->link);
	uint8_t block[BLOCK_BYTES] = {0};
	struct extents runs = {0};
	uint64_t start;
	uint32_t got;
	int rc;

	if (len > EXT4_SYMLINK_MAX)
		return err_set(e, -ENAMETOOLONG, "a symbolic link of %zu bytes", len);
	in->i_mode = LINUX_S_IFLNK | 0777;
	in->i_size = (uint32_t)len;
	if (len < sizeof(in->i_block)) {
		memcpy(in->i_block, te->link, len);
		return 0;
	}
	rc = ext4_alloc(a->x, 1, &start, &got, e);
	if (rc < 0)
		return rc;
	memcpy(block, te->link, len);
	blockmap_write(ext4_map(a->x), start, block);
	extents_add(&runs, 0, start, 1);
	rc = ext4_extents_set(a->x, in, &runs, e);
	extents_done(&runs);
	return rc;
}

static int fill_device(const struct tar_entry *te, struct ext2_inode_large *in, struct err *e)
{
	uint32_t major = (uint32_t)te->dev_major, minor = (uint32_t)te->dev_minor;

	if (te->dev_major > 0xfff || te->dev_minor > 0xfffff)
		return err_set(e, -EOVERFLOW, "device number %llu:%llu does not fit",
			       (unsigned long long)te->dev_major,
			       (unsigned long long)te->dev_minor);
	if (major < 256 && minor < 256)
		in->i_block[0] = major << 8 | minor;
	else
		in->i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
	return 0;
}

/* The content of a file named @name in the directory that was walked to last. */
static int fill_file(struct apply *a, const char *name, const struct tar_entry *te,
		     struct ext2_inode_large *in, struct err *e)
{
	char path[PATH_BYTES];
	int n = -1;

	if (a->file.hold && a->last_ino && a->last_real_known)
		n = snprintf(path, sizeof(path), "%s%s%s", a->last_real, *a->last_real ? "/" : "",
			     name);
	return apply_file_data(&a->file, a->tar, te, n > 0 && n < (int)sizeof(path) ? path : NULL,
			       in, e);
}

static int fill_by_type(struct apply *a, const char *name, const struct tar_entry *te,
			struct ext2_inode_large *in, struct err *e)
{
	switch (te->type) {
	case TAR_FILE:
		return fill_file(a, name, te, in, e);
	case TAR_SYMLINK:
		return fill_symlink(a, te, in, e);
	case TAR_CHAR:
	case TAR_BLOCK:
		return fill_device(te, in, e);
	case TAR_FIFO:
		return 0;
	case TAR_DIR:
	case TAR_HARDLINK:
	case TAR_SOCKET:
		break;
	}
	return err_set(e, -EINVAL, "unexpected type");
}

static int apply_other(struct apply *a, struct dir *d, const char *name, const struct tar_entry *te,
		       struct err *e)
{
	static const struct {
		uint16_t mode;
		uint8_t ft;
	} kind[] = {
	    [TAR_FILE] = {LINUX_S_IFREG, EXT2_FT_REG_FILE},
	    [TAR_SYMLINK] = {LINUX_S_IFLNK, EXT2_FT_SYMLINK},
	    [TAR_CHAR] = {LINUX_S_IFCHR, EXT2_FT_CHRDEV},
	    [TAR_BLOCK] = {LINUX_S_IFBLK, EXT2_FT_BLKDEV},
	    [TAR_FIFO] = {LINUX_S_IFIFO, EXT2_FT_FIFO},
	};
	struct ext2_inode_large in = {0};
	uint32_t ino;
	int rc = fill_inode(te, kind[te->type].mode, &in, e);

	if (rc == 0)
		rc = ext4_inode_new(a->x, false, &ino, e);
	if (rc == 0)
		rc = fill_by_type(a, name, te, &in, e);
	if (rc < 0)
		return rc;
	in.i_links_count = 1;
	rc = ext4_inode_write(a->x, ino, &in, e);
	if (rc == 0)
		rc = set_xattrs(a, ino, te, true, e);
	if (rc < 0)
		return rc;
	return place(a, d, name, ino, kind[te->type].ft, e);
}

static int apply_entry(struct apply *a, const struct tar_entry *te, struct err *e)
{
	char path[PATH_BYTES];
	const char *name, *base;
	struct dir *d;
	int rc = clean_path(te->path, path, e);

	if (rc < 0)
		return rc;
	if (!*path) {
		if (te->type != TAR_DIR)
			return err_set(e, -EBADMSG, "the root can only be a directory");
		return apply_dir(a, NULL, NULL, te, e);
	}
	base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	if (text_starts_with(base, WHITEOUT))
		return apply_whiteout(a, path, base, e);
	if (te->type == TAR_SOCKET) {
		char quoted[256];

		log_warn("socket skipped path=%s", log_quote(te->path, quoted, sizeof(quoted)));
		a->stats->skipped_sockets++;
		return 0;
	}
	rc = walk_parent(a, path, true, &d, &name, e);
	if (rc < 0)
		return rc;
	switch (te->type) {
	case TAR_DIR:
		return apply_dir(a, d, name, te, e);
	case TAR_HARDLINK:
		return apply_hardlink(a, d, name, te, e);
	case TAR_FILE:
	case TAR_SYMLINK:
	case TAR_CHAR:
	case TAR_BLOCK:
	case TAR_FIFO:
	case TAR_SOCKET:
		break;
	}
	return apply_other(a, d, name, te, e);
}

struct metadata_out {
	apply_sink_fn *sink;
	void *arg;
	struct hot_hold *last;	     /* NULL: all goes out at once, in the order of the device */
	const struct hot_file *file; /* the device, in the order of @last */
	struct apply_stats *stats;
	struct err *e;
};

static int send_block(void *arg, uint64_t block, const void *data)
{
	struct metadata_out *m = arg;
	uint32_t rank = HOT_ORDER_COLD;

	m->stats->metadata_bytes += BLOCK_BYTES;
	if (m->last && block <= UINT32_MAX)
		hot_order_run(hot_hold_order(m->last), m->file, (uint32_t)block, 1, &rank);
	if (rank != HOT_ORDER_COLD && hot_hold_add(m->last, rank, block * BLOCK_BYTES, data, 1))
		return 0;
	return m->sink(m->arg, block * BLOCK_BYTES, data, BLOCK_BYTES, m->e);
}

/* Metadata, and what was held back: [the rest of the metadata] [held data] [metadata]. */
static int send_rest(struct apply *a, struct hot_hold *hold, struct metadata_out *out)
{
	const struct hot_order *order = hold ? hot_hold_order(hold) : NULL;
	int rc;

	if (order && hot_hold_bytes(hold))
		out->file = hot_order_find(order, HOT_ORDER_DEVICE);
	if (out->file)
		out->last = hot_hold_new(order, METADATA_HOLD_BYTES);
	else if (hold && (rc = hot_hold_send(hold, out->sink, out->arg, out->e)))
		return rc;
	rc = blockmap_each_dirty(ext4_map(a->x), send_block, out);
	a->stats->last_metadata_bytes =
	    out->last ? hot_hold_bytes(out->last) : a->stats->metadata_bytes;
	if (rc == 0 && out->last)
		rc = hot_hold_send(hold, out->sink, out->arg, out->e);
	if (rc == 0 && out->last)
		rc = hot_hold_send(out->last, out->sink, out->arg, out->e);
	hot_hold_free(out->last);
	return rc;
}

static int apply_entries(struct apply *a, struct err *e)
{
	struct tar_entry te;
	char quoted[300];
	int rc;

	while ((rc = tar_reader_next(a->tar, &te, e)) == 1) {
		a->stats->entries++;
		rc = apply_entry(a, &te, e);
		if (rc < 0)
			return err_wrap(e, rc, "entry \"%s\"",
					log_quote(te.path, quoted, sizeof(quoted)));
	}
	return rc;
}

int apply_layer(struct ext4 *x, tar_input_fn *input, void *input_arg, apply_sink_fn *sink,
		void *sink_arg, struct hot_hold *hold, struct apply_stats *ret, struct err *e)
{
	struct metadata_out out = {.sink = sink, .arg = sink_arg, .stats = ret, .e = e};
	struct apply *a = xmalloc_zero(1, sizeof(*a));
	int rc;

	memset(ret, 0, sizeof(*ret));
	a->x = x;
	a->stats = ret;
	apply_file_init(&a->file, x, sink, sink_arg, hold, ret);
	rc = tar_reader_new(input, input_arg, &a->tar, e);
	if (rc == 0)
		rc = ext4_begin(x, e);
	if (rc == 0) {
		a->t = tree_new(x);
		rc = apply_entries(a, e);
	}
	if (rc == 0)
		rc = tree_flush(a->t, e);
	if (rc == 0)
		rc = ext4_end(x, e);
	if (rc == 0)
		rc = send_rest(a, hold, &out);
	tree_free(a->t);
	tar_reader_free(a->tar);
	apply_file_done(&a->file);
	free(a);
	return rc;
}
