/* SPDX-License-Identifier: Apache-2.0 */
/* ldcache.c - see ldcache.h */
#include "ldcache.h"

#include "bytes.h"
#include "err.h"
#include "range.h"

#include <errno.h>
#include <string.h>

#define OLD_MAGIC	"ld.so-1.7.0"
#define OLD_HEAD_BYTES	16u
#define OLD_ENTRY_BYTES 12u
#define MAGIC		"glibc-ld.so.cache1.1"
#define HEAD_BYTES	48u
#define ENTRY_BYTES	24u
#define ENTRY_NAME	4
#define ENTRY_PATH	8
#define ENTRY_HARDWARE	16

int ldcache_parse(const void *buf, size_t bytes, struct ldcache *ret, struct err *e)
{
	struct ldcache c = {.p = buf, .bytes = bytes};

	if (bytes >= OLD_HEAD_BYTES && memcmp(c.p, OLD_MAGIC, strlen(OLD_MAGIC)) == 0) {
		uint64_t skip = OLD_HEAD_BYTES + (uint64_t)get_le32(c.p + 12) * OLD_ENTRY_BYTES;

		skip = round_up(skip, 8);
		if (skip > bytes)
			return err_set(e, -EBADMSG, "ld.so.cache: the old part is cut off");
		c.p += skip;
		c.bytes -= skip;
	}
	if (c.bytes < HEAD_BYTES || memcmp(c.p, MAGIC, strlen(MAGIC)) != 0)
		return err_set(e, -EOPNOTSUPP, "ld.so.cache: another format");
	c.count = get_le32(c.p + 20);
	if (!range_inside(range_of(HEAD_BYTES, (uint64_t)c.count * ENTRY_BYTES), c.bytes))
		return err_set(e, -EBADMSG, "ld.so.cache: %u entries do not fit", c.count);
	*ret = c;
	return 0;
}

/* NULL when it is not a whole string of the file. */
static const char *string_at(const struct ldcache *c, uint32_t off)
{
	if (off >= c->bytes || !memchr(c->p + off, 0, c->bytes - off))
		return NULL;
	return (const char *)c->p + off;
}

const char *ldcache_find(const struct ldcache *c, const char *name, unsigned int n)
{
	for (uint32_t i = 0; i < c->count; i++) {
		const uint8_t *entry = c->p + HEAD_BYTES + (size_t)i * ENTRY_BYTES;
		const char *key = string_at(c, get_le32(entry + ENTRY_NAME));
		const char *path = string_at(c, get_le32(entry + ENTRY_PATH));

		if (!key || !path || strcmp(key, name) != 0 || get_le64(entry + ENTRY_HARDWARE))
			continue;
		if (n-- == 0)
			return path;
	}
	return NULL;
}
