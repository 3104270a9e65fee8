/* SPDX-License-Identifier: Apache-2.0 */
/* layer_tar.c - see layer_tar.h */
#include "layer_tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "err.h"
#include "text.h"

struct layer_tar_member {
	struct archive *a;
	struct archive_entry *entry;
};

static const char *plain_name(const char *name)
{
	for (;;) {
		if (*name == '/')
			name++;
		else if (text_starts_with(name, "./"))
			name += 2;
		else
			return name;
	}
}

static int not_a_tar(struct archive *a, const char *otherwise, struct err *e)
{
	const char *why = archive_error_string(a);

	return err_set(e, -EBADMSG, "not a tar archive: %s", why ? why : otherwise);
}

int layer_tar_read(struct layer_tar_member *m, size_t max_bytes, uint8_t **ret, size_t *ret_len,
		   struct err *e)
{
	int64_t size = archive_entry_size(m->entry);
	_cleanup_free_ uint8_t *buf = NULL;

	if (size < 0 || (uint64_t)size > max_bytes)
		return err_set(e, -EBADMSG, "member of %lld bytes is too large", (long long)size);
	buf = malloc((size_t)size + 1);
	if (!buf)
		abort();
	if (archive_read_data(m->a, buf, (size_t)size) != size)
		return err_set(e, -EBADMSG, "the layer archive is cut short");
	buf[size] = '\0';
	*ret = steal_ptr(buf);
	*ret_len = (size_t)size;
	return 0;
}

static int walk(struct archive *a, uint64_t max_bytes,
		int (*member)(void *arg, const char *name, struct layer_tar_member *m,
			      struct err *e),
		void *arg, struct err *e)
{
	struct layer_tar_member m = {.a = a};
	uint64_t left = max_bytes;
	int rc = 0, n;

	while (!rc && (n = archive_read_next_header(a, &m.entry)) != ARCHIVE_EOF) {
		const char *name = n < ARCHIVE_WARN ? NULL : archive_entry_pathname(m.entry);
		int64_t size;

		if (!name)
			return not_a_tar(a, "no name", e);
		size = archive_entry_size(m.entry);
		/* a small gzip file may hold very much to pass over */
		if (size < 0 || (uint64_t)size > left)
			return err_set(e, -EBADMSG, "the layer archive holds more than %llu bytes",
				       (unsigned long long)max_bytes);
		left -= (uint64_t)size;
		if (archive_entry_filetype(m.entry) == AE_IFREG && !archive_entry_hardlink(m.entry))
			rc = member(arg, plain_name(name), &m, e);
	}
	return rc;
}

int layer_tar_walk(const void *p, size_t len, uint64_t max_bytes,
		   int (*member)(void *arg, const char *name, struct layer_tar_member *m,
				 struct err *e),
		   void *arg, struct err *e)
{
	struct archive *a = archive_read_new();
	int rc;

	if (!a)
		abort();
	if (archive_read_support_filter_gzip(a) < ARCHIVE_WARN ||
	    archive_read_support_format_tar(a) < ARCHIVE_WARN ||
	    archive_read_open_memory(a, p, len) != ARCHIVE_OK)
		rc = not_a_tar(a, "empty", e);
	else
		rc = walk(a, max_bytes, member, arg, e);
	archive_read_free(a);
	return rc;
}
