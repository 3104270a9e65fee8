/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool.c - memory pieces first, then one unlinked file for the rest
 */
#include "spool.h"

#include "cleanup.h"
#include "err.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE_BYTES (2u << 20)

struct spool {
	struct spool_budget *budget;
	uint8_t **piece;
	size_t pieces, room;
	uint64_t memory_bytes; /* of the content, at its start */
	uint64_t file_bytes;   /* of the content, behind it */
	int fd;
};

struct spool *spool_new(struct spool_budget *budget)
{
	struct spool *s = xmalloc_zero(1, sizeof(*s));

	s->budget = budget;
	s->fd = -1;
	return s;
}

void spool_free(struct spool *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->pieces; i++)
		free(s->piece[i]);
	s->budget->used -= (uint64_t)s->pieces * PIECE_BYTES;
	free(s->piece);
	cleanup_fd(&s->fd);
	free(s);
}

uint64_t spool_bytes(const struct spool *s)
{
	return s->memory_bytes + s->file_bytes;
}

static int open_file(struct spool *s, struct err *e)
{
	const char *dir = s->budget->dir;
	char *name;

	if (!dir)
		dir = getenv("TMPDIR");
	if (!dir || !*dir)
		dir = "/var/tmp";
	s->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->fd >= 0)
		return 0;
	/* not every file system has O_TMPFILE; the name lives for an instant */
	name = text_printf("%s/headstart-XXXXXX", dir);
	s->fd = mkostemp(name, O_CLOEXEC);
	if (s->fd >= 0)
		unlink(name);
	free(name);
	return s->fd >= 0 ? 0
			  : err_set(e, -errno, "temporary file in %s: %s", dir, strerror(errno));
}

/* Whether the next piece may be memory. */
static int add_piece(struct spool *s)
{
	if (s->budget->used + PIECE_BYTES > s->budget->limit)
		return 0;
	s->budget->used += PIECE_BYTES;
	if (s->pieces == s->room) {
		s->room = s->room ? s->room * 2 : 16;
		s->piece = realloc(s->piece, s->room * sizeof(*s->piece));
		if (!s->piece)
			abort();
	}
	s->piece[s->pieces] = aligned_alloc(PIECE_BYTES, PIECE_BYTES);
	if (!s->piece[s->pieces])
		abort();
	/* faulting in 4 KiB pages was 8 % of a conversion's CPU time; a small layer has one piece
	 * and should not take more pages than it fills. Refused where there are none: no harm. */
	if (s->pieces)
		(void)madvise(s->piece[s->pieces], PIECE_BYTES, MADV_HUGEPAGE);
	s->pieces++;
	return 1;
}

static int append_file(struct spool *s, const uint8_t *p, size_t bytes, struct err *e)
{
	if (s->fd < 0) {
		int rc = open_file(s, e);

		if (rc < 0)
			return rc;
	}
	while (bytes) {
		ssize_t n = pwrite(s->fd, p, bytes, (off_t)s->file_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "writing a temporary file: %s", strerror(errno));
		p += n;
		bytes -= (size_t)n;
		s->file_bytes += (uint64_t)n;
	}
	return 0;
}

int spool_append(struct spool *s, const void *data, size_t bytes, struct err *e)
{
	const uint8_t *p = data;

	while (bytes && !s->file_bytes) {
		size_t at = s->memory_bytes % PIECE_BYTES, n = PIECE_BYTES - at;

		if (s->memory_bytes == (uint64_t)s->pieces * PIECE_BYTES && !add_piece(s))
			break;
		if (n > bytes)
			n = bytes;
		memcpy(s->piece[s->memory_bytes / PIECE_BYTES] + at, p, n);
		s->memory_bytes += n;
		p += n;
		bytes -= n;
	}
	return bytes ? append_file(s, p, bytes, e) : 0;
}

int spool_read(struct spool *s, uint64_t off, void *buf, size_t bytes, struct err *e)
{
	uint8_t *p = buf;

	if (off > spool_bytes(s) || bytes > spool_bytes(s) - off)
		return err_set(e, -EINVAL, "read behind the end of a spool");
	while (bytes) {
		ssize_t n;

		if (off < s->memory_bytes) {
			size_t at = off % PIECE_BYTES;

			n = (ssize_t)(PIECE_BYTES - at < bytes ? PIECE_BYTES - at : bytes);
			if ((uint64_t)n > s->memory_bytes - off)
				n = (ssize_t)(s->memory_bytes - off);
			memcpy(p, s->piece[off / PIECE_BYTES] + at, (size_t)n);
		} else {
			n = pread(s->fd, p, bytes, (off_t)(off - s->memory_bytes));
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return err_set(e, n ? -errno : -EIO, "reading a temporary file: %s",
					       n ? strerror(errno) : "it is too short");
		}
		p += n;
		off += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}
