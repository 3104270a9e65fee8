/* SPDX-License-Identifier: Apache-2.0 */
/* imagefs.c - what all file systems have in common: paths, links, walking, reading */
#include "imagefs_impl.h"

#include "bytes.h"
#include "cleanup.h"
#include "err.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SUPER_OFF     1024u
#define SUPER_BYTES   1024u
#define EXT4_MAGIC    0xef53u
#define EXT4_MAGIC_AT 56
#define EROFS_MAGIC   0xe0f5e1e2u
#define LINKS_MAX     40
#define INODE_COST    256u
#define LOOKUP_BYTES  (1u << 30) /* of directories on the way */

int imagefs_open(const struct imagefs_device *d, struct imagefs **ret, struct err *e)
{
	_cleanup_free_ struct imagefs *fs = xmalloc_zero(1, sizeof(*fs));
	uint8_t super[SUPER_BYTES];
	int rc;

	if (d->bytes < SUPER_OFF + SUPER_BYTES)
		return err_set(e, -EOPNOTSUPP, "the device is too small for a file system");
	fs->dev = imagefs_cache_new(d);
	rc = imagefs_cache_read(fs->dev, super, sizeof(super), SUPER_OFF, e);
	if (rc == 0 && get_le32(super) == EROFS_MAGIC)
		rc = imagefs_erofs_open(fs, super, e);
	else if (rc == 0 && get_le16(super + EXT4_MAGIC_AT) == EXT4_MAGIC)
		rc = imagefs_ext4_open(fs, super, e);
	else if (rc == 0)
		rc = err_set(e, -EOPNOTSUPP, "the device holds neither ext4 nor EROFS");
	if (rc < 0) {
		imagefs_cache_free(fs->dev);
		return rc;
	}
	*ret = steal_ptr(fs);
	return 0;
}

void imagefs_close(struct imagefs *fs)
{
	if (!fs)
		return;
	fs->ops->close(fs);
	imagefs_cache_free(fs->dev);
	free(fs);
}

const char *imagefs_kind(const struct imagefs *fs)
{
	return fs->ops->kind;
}

uint64_t imagefs_listed_bytes(const struct imagefs *fs)
{
	return fs->listed;
}

uint64_t imagefs_device_bytes(const struct imagefs *fs)
{
	return imagefs_cache_bytes(fs->dev);
}

int imagefs_node(struct imagefs *fs, uint64_t ino, struct imagefs_node *ret, struct err *e)
{
	return fs->ops->node(fs, ino, ret, e);
}

bool imagefs_name_ok(const char *name, size_t len)
{
	return len && len <= 255 && !memchr(name, '/', len) && !memchr(name, 0, len) &&
	       !(len == 1 && name[0] == '.') && !(len == 2 && name[0] == '.' && name[1] == '.');
}

/* --- ranges --- */

static int by_offset(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* Ascending, and what touches becomes one. */
static void tidy_ranges(struct imagefs_ranges *rs)
{
	size_t used = 0;

	if (rs->count == 0)
		return;
	qsort(rs->r, rs->count, sizeof(*rs->r), by_offset);
	for (size_t n = 1; n < rs->count; n++) {
		struct range *last = &rs->r[used], *r = &rs->r[n];

		if (r->off <= range_end(*last))
			last->len = max_u64(range_end(*last), range_end(*r)) - last->off;
		else
			rs->r[++used] = *r;
	}
	rs->count = used + 1;
}

int imagefs_ranges_add(struct imagefs_ranges *rs, uint64_t off, uint64_t bytes, struct err *e)
{
	struct range *last = rs->count ? &rs->r[rs->count - 1] : NULL;
	bool full = rs->count == rs->room;

	if (bytes == 0)
		return 0;
	if (last && last->off <= off && off <= range_end(*last)) {
		last->len = max_u64(range_end(*last), off + bytes) - last->off;
		return 0;
	}
	if (full)
		tidy_ranges(rs);
	if (rs->room == 0 || (full && rs->count * 2 >= rs->room)) {
		if (rs->count >= IMAGEFS_RANGES)
			return err_set(e, -EFBIG, "more than %u ranges of metadata",
				       IMAGEFS_RANGES);
		rs->r = xgrow(rs->r, &rs->room, rs->room, sizeof(*rs->r));
	}
	rs->r[rs->count++] = range_of(off, bytes);
	return 0;
}

/* Ascending, fused, inside of the device. */
static int tell_ranges(struct imagefs *fs, struct imagefs_ranges *rs, imagefs_range_fn *fn,
		       void *arg)
{
	struct range all = range_of(0, imagefs_cache_bytes(fs->dev));

	tidy_ranges(rs);
	for (size_t n = 0; n < rs->count; n++) {
		struct range r = range_clip(rs->r[n], all);
		int rc = r.len ? fn(arg, r.off, r.len) : 0;

		if (rc)
			return rc;
	}
	return 0;
}

/* --- paths --- */

struct resolve {
	struct imagefs *fs;
	struct err *e;
	uint64_t *dirs; /* from the root down; room for every component */
	size_t depth;
	char *real; /* path of what was found so far; "" is the root */
	size_t real_len;
	unsigned int links;
	uint64_t listed_before;	       /* of the file system */
	struct imagefs_ranges *ranges; /* metadata on the way; may be NULL */
};

struct find_name {
	const char *name;
	size_t len;
	uint64_t ino;
};

static int match_name(void *arg, const char *name, size_t len, uint64_t ino)
{
	struct find_name *f = arg;

	if (len != f->len || memcmp(name, f->name, len) != 0)
		return 0;
	f->ino = ino;
	return 1;
}

/* One name in the directory that the path has reached. */
static int step_into(struct resolve *r, const char *name, size_t len, struct imagefs_node *ret)
{
	struct imagefs *fs = r->fs;
	struct find_name f = {name, len, 0};
	uint64_t dir = r->dirs[r->depth - 1];
	int rc = 0;

	fs->listed += INODE_COST;
	if (fs->listed - r->listed_before > LOOKUP_BYTES)
		return err_set(r->e, -ELOOP, "%s: the directories on the way are too large",
			       r->real);
	if (r->ranges)
		rc = fs->ops->dir_metadata(fs, dir, name, len, r->ranges, r->e);
	if (rc == 0)
		rc = fs->ops->list(fs, dir, match_name, &f, r->e);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return err_set(r->e, -ENOENT, "%s/%.*s is not in the image", r->real, (int)len,
			       name);
	rc = fs->ops->node(fs, f.ino, ret, r->e);
	if (rc == 0 && r->ranges)
		rc = fs->ops->inode_metadata(fs, f.ino, r->ranges, r->e);
	return rc == -ENOENT
		   ? err_set(r->e, -EBADMSG, "%s/%.*s has no inode", r->real, (int)len, name)
		   : rc;
}

static void step_up(struct resolve *r)
{
	if (r->depth == 1)
		return;
	r->depth--;
	r->real_len = (size_t)(strrchr(r->real, '/') - r->real);
	r->real[r->real_len] = 0;
}

static int step_down(struct resolve *r, const char *name, size_t len, uint64_t ino)
{
	if (r->real_len + len + 2 > PATH_BYTES)
		return err_set(r->e, -ENAMETOOLONG, "a path in the image is too long");
	r->real[r->real_len++] = '/';
	memcpy(r->real + r->real_len, name, len);
	r->real_len += len;
	r->real[r->real_len] = 0;
	r->dirs[r->depth++] = ino;
	return 0;
}

/* The target of a link takes the place of its name before what is left of the path. */
static int put_link(struct resolve *r, uint64_t ino, const char *left, char **ret_todo)
{
	_cleanup_free_ char *target = NULL;
	int rc;

	if (++r->links > LINKS_MAX)
		return err_set(r->e, -ELOOP, "more than %d links on the way", LINKS_MAX);
	rc = r->fs->ops->link(r->fs, ino, &target, r->e);
	if (rc < 0)
		return rc;
	if (strlen(target) + strlen(left) + 2 > 2 * PATH_BYTES)
		return err_set(r->e, -ENAMETOOLONG, "a path in the image is too long");
	if (target[0] == '/') {
		r->depth = 1;
		r->real_len = 0;
		r->real[0] = 0;
	}
	*ret_todo = text_printf("%s/%s", target, left);
	return 0;
}

/* @todo is taken over. */
static int resolve_path(struct resolve *r, char *todo, bool follow, struct imagefs_node *ret)
{
	_cleanup_free_ char *text = todo;
	struct imagefs_node node;
	const char *p = text;
	int rc = r->fs->ops->node(r->fs, r->fs->root, &node, r->e);

	r->dirs[0] = r->fs->root;
	r->depth = 1;
	if (rc < 0)
		return rc;
	for (;;) {
		size_t len;
		const char *left;

		p += strspn(p, "/");
		len = strcspn(p, "/");
		left = p + len;
		if (len == 0)
			break;
		if (node.type != IMAGEFS_DIR)
			return err_set(r->e, -ENOTDIR, "%s is no directory", r->real);
		if (len == 1 && p[0] == '.') {
			p = left;
			continue;
		}
		if (len == 2 && p[0] == '.' && p[1] == '.') {
			step_up(r);
			p = left;
			continue;
		}
		rc = step_into(r, p, len, &node);
		if (rc < 0)
			return rc;
		if (node.type == IMAGEFS_SYMLINK && (follow || left[strspn(left, "/")])) {
			char *next = NULL;

			rc = put_link(r, node.ino, left, &next);
			if (!next)
				return rc;
			free(text);
			p = text = next;
			node.type = IMAGEFS_DIR; /* the one that holds the link, or the root */
			continue;
		}
		rc = step_down(r, p, len, node.ino);
		if (rc < 0)
			return rc;
		p = left;
	}
	return r->fs->ops->node(r->fs, r->dirs[r->depth - 1], ret, r->e);
}

static int resolve(struct imagefs *fs, const char *path, bool follow, struct imagefs_ranges *ranges,
		   struct imagefs_node *ret, char **ret_real, struct err *e)
{
	_cleanup_free_ uint64_t *dirs = xmalloc_zero(PATH_BYTES / 2 + 2, sizeof(*dirs));
	_cleanup_free_ char *real = xmalloc_zero(1, PATH_BYTES);
	struct resolve r = {
	    .fs = fs,
	    .e = e,
	    .dirs = dirs,
	    .real = real,
	    .listed_before = fs->listed,
	    .ranges = ranges,
	};
	int rc;

	if (path[0] != '/')
		return err_set(e, -EINVAL, "%s is no absolute path", path);
	if (strlen(path) >= PATH_BYTES)
		return err_set(e, -ENAMETOOLONG, "a path in the image is too long");
	rc = resolve_path(&r, text_dup(path), follow, ret);
	if (rc < 0)
		return rc;
	if (ret_real)
		*ret_real = r.real_len ? steal_ptr(real) : text_dup("/");
	return 0;
}

int imagefs_lookup(struct imagefs *fs, const char *path, bool follow, struct imagefs_node *ret,
		   char **ret_real, struct err *e)
{
	return resolve(fs, path, follow, NULL, ret, ret_real, e);
}

bool imagefs_is_absence(int rc)
{
	return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -ENAMETOOLONG ||
	       rc == -EINVAL;
}

int imagefs_link(struct imagefs *fs, uint64_t ino, char **ret, struct err *e)
{
	struct imagefs_node node;
	int rc = fs->ops->node(fs, ino, &node, e);

	if (rc == 0 && node.type != IMAGEFS_SYMLINK)
		rc = err_set(e, -EINVAL, "inode %llu is no link", (unsigned long long)ino);
	return rc < 0 ? rc : fs->ops->link(fs, ino, ret, e);
}

/* --- contents --- */

struct clip {
	uint64_t off, end;
	imagefs_extent_fn *fn;
	void *arg;
};

static int clip_run(void *arg, const struct imagefs_run *run)
{
	struct clip *c = arg;
	struct range r =
	    range_clip(range_of(run->file_off, run->bytes), range_of(c->off, c->end - c->off));

	if (r.len == 0 || run->packed)
		return 0;
	return c->fn(c->arg, r.off, run->dev_off + (r.off - run->file_off), r.len);
}

int imagefs_extents(struct imagefs *fs, uint64_t ino, uint64_t off, uint64_t bytes,
		    imagefs_extent_fn *fn, void *arg, struct err *e)
{
	struct clip c = {.off = off, .end = off + bytes, .fn = fn, .arg = arg};

	if (!range_checked(range_of(off, bytes)))
		c.end = UINT64_MAX;
	return c.end == off ? 0 : fs->ops->runs(fs, ino, off, c.end, clip_run, &c, e);
}

int imagefs_fill(void *arg, const struct imagefs_run *run)
{
	struct imagefs_fill *w = arg;
	struct range r =
	    range_clip(range_of(run->file_off, run->bytes), range_of(w->off, w->end - w->off));

	if (r.len == 0)
		return 0;
	return imagefs_cache_read(w->fs->dev, w->buf + (r.off - w->off), r.len,
				  run->dev_off + (r.off - run->file_off), w->e);
}

long imagefs_read(struct imagefs *fs, uint64_t ino, uint64_t off, void *buf, size_t bytes,
		  struct err *e)
{
	struct imagefs_fill w = {.fs = fs, .buf = buf, .off = off, .e = e};
	_cleanup_free_ uint8_t *inlined = NULL;
	struct imagefs_node node;
	size_t inlined_bytes = 0;
	int rc = fs->ops->node(fs, ino, &node, e);

	if (rc == 0 && node.type != IMAGEFS_FILE)
		rc = err_set(e, -EINVAL, "inode %llu is no regular file", (unsigned long long)ino);
	if (rc == 0 && fs->ops->inlined)
		rc = fs->ops->inlined(fs, ino, &inlined, &inlined_bytes, e);
	if (rc < 0)
		return rc;
	if (off >= node.bytes || bytes == 0)
		return 0;
	bytes = (size_t)min_u64(bytes, node.bytes - off);
	w.end = off + bytes;
	memset(buf, 0, bytes);
	if (inlined) {
		if (off < inlined_bytes)
			memcpy(buf, inlined + off, min_u64(bytes, inlined_bytes - off));
		return (long)bytes;
	}
	rc = fs->ops->runs(fs, ino, off, w.end, imagefs_fill, &w, e);
	return rc < 0 ? rc : (long)bytes;
}

/* --- metadata --- */

int imagefs_metadata(struct imagefs *fs, imagefs_range_fn *fn, void *arg, struct err *e)
{
	struct imagefs_ranges rs = {0};
	int rc = fs->ops->metadata(fs, &rs, e);

	if (rc >= 0)
		rc = tell_ranges(fs, &rs, fn, arg);
	free(rs.r);
	return rc;
}

int imagefs_path_metadata(struct imagefs *fs, const char *path, imagefs_range_fn *fn, void *arg,
			  struct err *e)
{
	struct imagefs_ranges rs = {0};
	struct imagefs_node node;
	int rc = fs->ops->mount_metadata(fs, &rs, e);

	if (rc >= 0)
		rc = fs->ops->inode_metadata(fs, fs->root, &rs, e);
	if (rc >= 0)
		rc = resolve(fs, path, true, &rs, &node, NULL, e);
	if (rc >= 0 && node.type == IMAGEFS_DIR)
		rc = fs->ops->dir_metadata(fs, node.ino, NULL, 0, &rs, e);
	if (rc >= 0)
		rc = tell_ranges(fs, &rs, fn, arg);
	free(rs.r);
	return rc;
}
