/* SPDX-License-Identifier: Apache-2.0 */
/* tar_scan.c - see tar_scan.h */
#include "tar_scan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "err.h"
#include "range.h"
#include "text.h"

#define BLOCK	      512u
#define PAX_MAX_BYTES (1u << 20)
#define MAX_LINKS     8

struct scan {
	uint64_t bytes;
	int (*read)(void *arg, uint64_t off, void *buf, size_t len);
	void *arg;
	struct err *e;
	/* for the next member */
	char *name, *link;
	bool has_size;
	uint64_t size;
};

static void forget(struct scan *s)
{
	free(s->name);
	free(s->link);
	s->name = s->link = NULL;
	s->has_size = false;
}

/* Octal text or GNU's base 256; false for rubbish and what does not fit. */
static bool number(const unsigned char *p, size_t len, uint64_t *ret)
{
	uint64_t v = 0;
	bool digits = false;

	if (*p & 0x80) {
		v = *p & 0x7f;
		if (v & 0x40)
			return false; /* negative */
		for (size_t i = 1; i < len; i++) {
			if (v >> 55)
				return false;
			v = v << 8 | p[i];
		}
		*ret = v;
		return true;
	}
	while (len && *p == ' ') {
		p++;
		len--;
	}
	for (; len && *p >= '0' && *p <= '7'; p++, len--) {
		if (v >> 60)
			return false;
		v = v << 3 | (uint64_t)(*p - '0');
		digits = true;
	}
	if (len && *p != ' ' && *p != '\0')
		return false;
	*ret = v;
	return digits;
}

static bool checksum_ok(const unsigned char *b)
{
	uint64_t want;
	uint64_t sum = 0;

	if (!number(b + 148, 8, &want))
		return false;
	for (unsigned int i = 0; i < BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : b[i];
	return sum == want;
}

static char *field(const unsigned char *p, size_t len)
{
	return text_printf("%.*s", (int)strnlen((const char *)p, len), (const char *)p);
}

/* "./a/b", "/a/b" and "a/b" are the same member. */
static const char *clean(const char *name)
{
	for (;;) {
		if (name[0] == '/')
			name++;
		else if (name[0] == '.' && name[1] == '/')
			name += 2;
		else
			return name;
	}
}

/* Where a symbolic link in @name leads, as a name in the archive; "" when out of it. */
static char *follow_name(const char *name, const char *target)
{
	char *out = xmalloc_zero(1, strlen(name) + strlen(target) + 2), *slash;
	size_t len = 0;

	if (target[0] != '/') {
		strcpy(out, name); /* fits, see above */
		slash = strrchr(out, '/');
		len = slash ? (size_t)(slash - out) : 0;
		out[len] = '\0';
	}
	while (*target) {
		size_t part = strcspn(target, "/");

		if (part == 2 && target[0] == '.' && target[1] == '.') {
			if (!len) {
				out[0] = '\0';
				return out;
			}
			out[len] = '\0';
			slash = strrchr(out, '/');
			len = slash ? (size_t)(slash - out) : 0;
		} else if (part && !(part == 1 && target[0] == '.')) {
			if (len)
				out[len++] = '/';
			memcpy(out + len, target, part);
			len += part;
		}
		out[len] = '\0';
		target += part;
		while (*target == '/')
			target++;
	}
	return out;
}

/* Records "LEN KEY=VALUE\n" of a PAX header. */
static int pax(struct scan *s, const char *p, size_t len)
{
	while (len) {
		size_t n = 0, i = 0, key_len;
		const char *eq, *value;
		size_t value_len;

		while (i < len && p[i] >= '0' && p[i] <= '9' && n < PAX_MAX_BYTES)
			n = n * 10 + (size_t)(p[i++] - '0');
		if (!i || i >= len || p[i] != ' ' || n > len || n < i + 3 || p[n - 1] != '\n')
			return err_set(s->e, -EBADMSG, "malformed PAX header in tar");
		eq = memchr(p + i + 1, '=', n - i - 2);
		if (!eq)
			return err_set(s->e, -EBADMSG, "malformed PAX header in tar");
		key_len = (size_t)(eq - (p + i + 1));
		value = eq + 1;
		value_len = (size_t)(p + n - 1 - value);
		if (key_len == 4 && memcmp(p + i + 1, "path", 4) == 0) {
			free(s->name);
			s->name = text_printf("%.*s", (int)value_len, value);
		} else if (key_len == 8 && memcmp(p + i + 1, "linkpath", 8) == 0) {
			free(s->link);
			s->link = text_printf("%.*s", (int)value_len, value);
		} else if (key_len == 4 && memcmp(p + i + 1, "size", 4) == 0) {
			s->size = 0;
			for (size_t k = 0; k < value_len; k++) {
				if (value[k] < '0' || value[k] > '9' || s->size >> 59)
					return err_set(s->e, -EBADMSG, "malformed size in tar");
				s->size = s->size * 10 + (uint64_t)(value[k] - '0');
			}
			s->has_size = true;
		} else if (key_len > 11 && memcmp(p + i + 1, "GNU.sparse.", 11) == 0) {
			return err_set(s->e, -EOPNOTSUPP, "sparse members in an image archive");
		}
		p += n;
		len -= n;
	}
	return 0;
}

/* The content of an extension header. */
static int extension(struct scan *s, char type, uint64_t off, uint64_t size)
{
	char *buf;
	int rc;

	if (size > PAX_MAX_BYTES || (type != 'x' && size > TAR_SCAN_NAME_BYTES * 4))
		return err_set(s->e, -EBADMSG, "extension header in tar is too large");
	buf = xmalloc_zero(1, (size_t)size + 1);
	rc = size ? s->read(s->arg, off, buf, (size_t)size) : 0;
	if (rc) {
		err_set(s->e, rc, "cannot read the archive");
	} else if (type == 'x') {
		rc = pax(s, buf, (size_t)size);
	} else if (type == 'L') {
		free(s->name);
		s->name = text_dup(buf);
	} else {
		free(s->link);
		s->link = text_dup(buf);
	}
	free(buf);
	return rc;
}

static int add(struct scan *s, struct tar_index *x, const unsigned char *b, uint64_t off,
	       uint64_t size)
{
	bool ustar = memcmp(b + 257, "ustar", 5) == 0;
	char type = (char)b[156];
	struct tar_member *m;
	char *name = s->name, *link = s->link;

	if (x->count >= TAR_SCAN_MAX_MEMBERS)
		return err_set(s->e, -EBADMSG, "archive has more than %u members",
			       TAR_SCAN_MAX_MEMBERS);
	x->members = xgrow(x->members, &x->cap, x->count, sizeof(*x->members));
	s->name = s->link = NULL;
	if (!name) {
		name = field(b, 100);
		if (ustar && b[345] && b[262] == '\0') {
			char *prefix = field(b + 345, 155), *both;

			both = text_printf("%s/%s", prefix, name);
			free(prefix);
			free(name);
			name = both;
		}
	}
	if (!link)
		link = field(b + 157, 100);
	m = &x->members[x->count++];
	*m = (struct tar_member){.off = off, .bytes = size, .kind = TAR_OTHER};
	m->name = text_dup(clean(name));
	if (type == '0' || type == '\0' || type == '7') {
		m->kind = TAR_FILE;
	} else if (type == '1') {
		m->kind = TAR_LINK;
		m->target = text_dup(clean(link));
	} else if (type == '2') {
		m->kind = TAR_LINK;
		m->target = follow_name(m->name, link);
	}
	free(name);
	free(link);
	return 0;
}

static int not_tar(struct scan *s, const unsigned char *b, uint64_t off)
{
	if (off == 0 && b[0] == 0x1f && b[1] == 0x8b)
		return err_set(s->e, -EOPNOTSUPP,
			       "archive is compressed with gzip; gunzip it first");
	if (off == 0 && get_le32(b) == 0xfd2fb528)
		return err_set(s->e, -EOPNOTSUPP,
			       "archive is compressed with zstd; unzstd it first");
	return err_set(s->e, -EBADMSG, "not a tar file: bad header at offset %llu",
		       (unsigned long long)off);
}

static int scan(struct scan *s, struct tar_index *x)
{
	unsigned char b[BLOCK];
	uint64_t off = 0;

	while (off < s->bytes) {
		uint64_t size = 0, end;
		char type;
		int rc;

		if (s->bytes - off < BLOCK)
			return off ? err_set(s->e, -EBADMSG, "tar file is cut short")
				   : err_set(s->e, -EBADMSG, "not a tar file: too short");
		rc = s->read(s->arg, off, b, BLOCK);
		if (rc)
			return err_set(s->e, rc, "cannot read the archive");
		if (bytes_zero(b, BLOCK))
			return off ? 0 : err_set(s->e, -EBADMSG, "archive is empty");
		if (!checksum_ok(b) || !number(b + 124, 12, &size))
			return not_tar(s, b, off);
		type = (char)b[156];
		off += BLOCK;
		if (type == 'S')
			return err_set(s->e, -EOPNOTSUPP, "sparse members in an image archive");
		if (type == 'x' || type == 'L' || type == 'K') {
			if (!range_inside(range_of(off, size), s->bytes))
				return err_set(s->e, -EBADMSG, "tar file is cut short");
			rc = extension(s, type, off, size);
		} else if (type != 'g') {
			if (s->has_size)
				size = s->size;
			if (type == '1' || type == '2' || type == '5')
				size = 0;
			if (!range_inside(range_of(off, size), s->bytes))
				return err_set(s->e, -EBADMSG, "tar file is cut short");
			rc = add(s, x, b, off, size);
			forget(s);
		}
		if (rc)
			return rc;
		if (!range_inside(range_of(off, size), s->bytes))
			return err_set(s->e, -EBADMSG, "tar file is cut short");
		end = off + size;
		/* the last member's padding may be missing */
		off = end > s->bytes - s->bytes % BLOCK ? s->bytes : round_up(end, BLOCK);
	}
	return x->count ? 0 : err_set(s->e, -EBADMSG, "archive is empty");
}

int tar_scan(uint64_t bytes, int (*read)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
	     struct tar_index *ret, struct err *e)
{
	struct scan s = {.bytes = bytes, .read = read, .arg = arg, .e = e};
	struct tar_index x = {0};
	int rc = scan(&s, &x);

	forget(&s);
	if (rc) {
		tar_index_done(&x);
		return rc;
	}
	*ret = x;
	return 0;
}

void tar_index_done(struct tar_index *x)
{
	for (size_t i = 0; i < x->count; i++) {
		free(x->members[i].name);
		free(x->members[i].target);
	}
	free(x->members);
	memset(x, 0, sizeof(*x));
}

const struct tar_member *tar_find(const struct tar_index *x, const char *name)
{
	name = clean(name);
	for (int hops = 0; hops <= MAX_LINKS; hops++) {
		const struct tar_member *m = NULL;

		for (size_t i = x->count; i > 0 && !m; i--)
			if (strcmp(x->members[i - 1].name, name) == 0)
				m = &x->members[i - 1];
		if (!m || m->kind == TAR_OTHER)
			return NULL;
		if (m->kind == TAR_FILE)
			return m;
		name = m->target;
	}
	return NULL;
}
