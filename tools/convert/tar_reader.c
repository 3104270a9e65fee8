/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_reader.c - libarchive's tar reader, kept from touching names
 *
 * In a UTF-8 locale libarchive turns PAX names into normalisation form C, which makes other names
 * of them. In the "C" locale it cannot convert them at all, says so with ARCHIVE_WARN and hands out
 * the bytes as they are: so that is the locale of the thread while it is inside libarchive.
 */
#include "tar_reader.h"

#include "err.h"
#include "text.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct tar_reader {
	struct archive *a;
	locale_t c_locale;
	tar_input_fn *input;
	void *arg;
	struct err error; /* of the input */
	bool opened, ended;
	uint64_t last_off;
	struct xattr *xattrs;
	size_t xattr_room;
};

static la_ssize_t input_cb(struct archive *a, void *arg, const void **ret_p)
{
	struct tar_reader *r = arg;
	size_t bytes = 0;
	int rc = r->error.code ? r->error.code : r->input(r->arg, ret_p, &bytes, &r->error);

	if (rc < 0) {
		if (!r->error.code)
			(void)err_set(&r->error, rc, "reading the layer failed");
		archive_set_error(a, EIO, "%s", r->error.msg);
		return ARCHIVE_FATAL;
	}
	return (la_ssize_t)bytes;
}

int tar_reader_new(tar_input_fn *input, void *arg, struct tar_reader **ret, struct err *e)
{
	struct tar_reader *r = xmalloc_zero(1, sizeof(*r));

	r->input = input;
	r->arg = arg;
	r->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	r->a = archive_read_new();
	if (!r->a || !r->c_locale) {
		tar_reader_free(r);
		return err_set(e, -ENOMEM, "out of memory");
	}
	archive_read_support_format_tar(r->a);
	archive_read_support_format_empty(r->a);
	*ret = r;
	return 0;
}

void tar_reader_free(struct tar_reader *r)
{
	if (!r)
		return;
	if (r->a)
		archive_read_free(r->a);
	if (r->c_locale)
		freelocale(r->c_locale);
	free(r->xattrs);
	free(r);
}

static int fail(struct tar_reader *r, struct err *e)
{
	const char *why = archive_error_string(r->a);

	if (r->error.code)
		return err_set(e, r->error.code, "%s", r->error.msg);
	return err_set(e, -EBADMSG, "not a valid tar stream: %s", why ? why : "unknown reason");
}

/* What follows the end marker belongs to the stream: its digest covers it. */
static int drain(struct tar_reader *r, struct err *e)
{
	const void *p;
	size_t bytes;
	int rc;

	do {
		bytes = 0;
		rc = r->input(r->arg, &p, &bytes, e);
	} while (rc == 0 && bytes);
	return rc;
}

static int take_xattrs(struct tar_reader *r, struct archive_entry *a, struct tar_entry *ret,
		       struct err *e)
{
	size_t count = (size_t)archive_entry_xattr_reset(a), n = 0;
	struct xattr x;

	if (count > 4096)
		return err_set(e, -E2BIG, "%zu extended attributes", count);
	if (count > r->xattr_room) {
		free(r->xattrs);
		r->xattrs = xmalloc_zero(count, sizeof(*r->xattrs));
		r->xattr_room = count;
	}
	while (n < count && archive_entry_xattr_next(a, &x.name, &x.value, &x.bytes) == ARCHIVE_OK)
		if (x.name)
			r->xattrs[n++] = x;
	/* libarchive has them last to first; a key given twice counts as given last */
	for (size_t i = 0; i < n / 2; i++) {
		x = r->xattrs[i];
		r->xattrs[i] = r->xattrs[n - 1 - i];
		r->xattrs[n - 1 - i] = x;
	}
	ret->xattrs = r->xattrs;
	ret->xattr_count = n;
	return 0;
}

static int take_type(struct archive_entry *a, struct tar_entry *ret, struct err *e)
{
	ret->link = archive_entry_hardlink(a);
	if (ret->link) {
		ret->type = TAR_HARDLINK;
		return 0;
	}
	switch (archive_entry_filetype(a)) {
	case AE_IFREG:
		ret->type = TAR_FILE;
		break;
	case AE_IFDIR:
		ret->type = TAR_DIR;
		break;
	case AE_IFLNK:
		ret->type = TAR_SYMLINK;
		ret->link = archive_entry_symlink(a);
		if (!ret->link || !*ret->link)
			return err_set(e, -EBADMSG, "a symbolic link without a target");
		break;
	case AE_IFCHR:
		ret->type = TAR_CHAR;
		break;
	case AE_IFBLK:
		ret->type = TAR_BLOCK;
		break;
	case AE_IFIFO:
		ret->type = TAR_FIFO;
		break;
	case AE_IFSOCK:
		ret->type = TAR_SOCKET;
		break;
	default:
		return err_set(e, -EBADMSG, "a hard link without a target, or an unknown type");
	}
	return 0;
}

/* libarchive gives the sign of "-1.5" to the seconds only; the fraction counts forward in an inode.
 */
static void fix_negative(int64_t *sec, uint32_t *ns)
{
	if (*sec >= 0 || !*ns)
		return;
	*sec -= 1;
	*ns = 1000000000u - *ns;
}

static int take_entry(struct tar_reader *r, struct archive_entry *a, struct tar_entry *ret,
		      struct err *e)
{
	int rc;

	memset(ret, 0, sizeof(*ret));
	ret->path = archive_entry_pathname(a);
	if (!ret->path)
		ret->path = "";
	rc = take_type(a, ret, e);
	if (rc < 0)
		return rc;
	ret->mode = (uint32_t)archive_entry_perm(a) & 07777;
	ret->uid = archive_entry_uid(a);
	ret->gid = archive_entry_gid(a);
	if (ret->type == TAR_FILE && archive_entry_size(a) < 0)
		return err_set(e, -EBADMSG, "a negative size");
	ret->bytes = ret->type == TAR_FILE ? (uint64_t)archive_entry_size(a) : 0;
	ret->dev_major = (uint64_t)archive_entry_rdevmajor(a);
	ret->dev_minor = (uint64_t)archive_entry_rdevminor(a);
	ret->mtime = archive_entry_mtime(a);
	ret->mtime_ns = (uint32_t)archive_entry_mtime_nsec(a);
	fix_negative(&ret->mtime, &ret->mtime_ns);
	ret->atime = ret->mtime;
	ret->atime_ns = ret->mtime_ns;
	if (archive_entry_atime_is_set(a)) {
		ret->atime = archive_entry_atime(a);
		ret->atime_ns = (uint32_t)archive_entry_atime_nsec(a);
		fix_negative(&ret->atime, &ret->atime_ns);
	}
	return take_xattrs(r, a, ret, e);
}

int tar_reader_next(struct tar_reader *r, struct tar_entry *ret, struct err *e)
{
	struct archive_entry *a = NULL;
	locale_t before = uselocale(r->c_locale);
	int rc = 0, la = ARCHIVE_OK;

	if (!r->opened)
		la = archive_read_open(r->a, r, NULL, input_cb, NULL);
	r->opened = true;
	if (la >= ARCHIVE_WARN && !r->ended)
		la = archive_read_next_header(r->a, &a);
	r->last_off = 0;
	if (r->ended || la == ARCHIVE_EOF) {
		rc = r->ended ? 0 : drain(r, e);
		r->ended = true;
	} else if (la < ARCHIVE_WARN) {
		rc = fail(r, e);
	} else {
		rc = take_entry(r, a, ret, e);
		if (rc < 0)
			rc = err_wrap(e, rc, "entry \"%.200s\"", ret->path);
		else
			rc = 1;
	}
	(void)uselocale(before);
	return rc;
}

int tar_reader_data(struct tar_reader *r, const void **ret_p, size_t *ret_bytes, uint64_t *ret_off,
		    struct err *e)
{
	locale_t before = uselocale(r->c_locale);
	la_int64_t off = 0;
	int la, rc;

	do {
		la = archive_read_data_block(r->a, ret_p, ret_bytes, &off);
	} while (la == ARCHIVE_OK && !*ret_bytes);
	if (la == ARCHIVE_EOF)
		rc = 0;
	else if (la < ARCHIVE_WARN)
		rc = fail(r, e);
	else if (off < 0 || (uint64_t)off < r->last_off)
		rc = err_set(e, -EBADMSG, "a sparse file whose pieces overlap or go back");
	else
		rc = 1;
	*ret_off = (uint64_t)off;
	if (rc == 1)
		r->last_off = (uint64_t)off + *ret_bytes;
	(void)uselocale(before);
	return rc;
}
