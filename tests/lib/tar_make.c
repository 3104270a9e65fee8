/* SPDX-License-Identifier: Apache-2.0 */
#include "tar_make.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tar_make_init(struct tar_make *t)
{
	memset(t, 0, sizeof(*t));
	t->mode = 0644;
	t->mtime = 1000000000;
}

void tar_make_done(struct tar_make *t)
{
	free(t->p);
	t->p = NULL;
}

static void put(struct tar_make *t, const void *p, size_t bytes)
{
	size_t padded = (bytes + 511) / 512 * 512;

	if (t->bytes + padded > t->room) {
		t->room = (t->bytes + padded) * 2;
		t->p = realloc(t->p, t->room);
		assert(t->p);
	}
	memset(t->p + t->bytes, 0, padded);
	if (bytes)
		memcpy(t->p + t->bytes, p, bytes);
	t->bytes += padded;
}

static void header(struct tar_make *t, char type, const char *name, const char *link, uint64_t size)
{
	uint8_t h[512] = {0};
	unsigned int sum = 0;
	size_t n = strlen(name), l = link ? strlen(link) : 0;

	memcpy(h, name, n < 100 ? n : 100);
	snprintf((char *)h + 100, 8, "%07o", t->mode);
	snprintf((char *)h + 108, 8, "%07o", t->uid & 07777777);
	snprintf((char *)h + 116, 8, "%07o", t->gid & 07777777);
	snprintf((char *)h + 124, 12, "%011llo", (unsigned long long)size & 077777777777ull);
	snprintf((char *)h + 136, 12, "%011llo",
		 t->mtime < 0 ? 0 : (unsigned long long)t->mtime & 077777777777ull);
	memset(h + 148, ' ', 8);
	h[156] = (uint8_t)type;
	if (l)
		memcpy(h + 157, link, l < 100 ? l : 100);
	memcpy(h + 257, "ustar\00000", 8);
	for (int i = 0; i < 512; i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
	h[155] = ' ';
	put(t, h, sizeof(h));
}

void tar_make_pax(struct tar_make *t, const char *key, const void *value, size_t bytes)
{
	size_t body = strlen(key) + bytes + 3, len = body + 1;
	char digits[24];

	while ((size_t)snprintf(digits, sizeof(digits), "%zu", len) + body != len)
		len++;
	assert(t->pax_bytes + len <= sizeof(t->pax));
	t->pax_bytes += (size_t)sprintf((char *)t->pax + t->pax_bytes, "%zu %s=", len, key);
	memcpy(t->pax + t->pax_bytes, value, bytes);
	t->pax_bytes += bytes;
	t->pax[t->pax_bytes++] = '\n';
}

void tar_make_add(struct tar_make *t, char type, const char *name, const char *link,
		  const void *data, size_t bytes, uint64_t claimed)
{
	if (strlen(name) > 100)
		tar_make_pax(t, "path", name, strlen(name));
	if (link && strlen(link) > 100)
		tar_make_pax(t, "linkpath", link, strlen(link));
	if (t->pax_bytes) {
		header(t, 'x', "pax", NULL, t->pax_bytes);
		put(t, t->pax, t->pax_bytes);
		t->pax_bytes = 0;
	}
	header(t, type, name, link, claimed);
	put(t, data, bytes);
}

void tar_make_file(struct tar_make *t, const char *name, const char *text)
{
	tar_make_add(t, '0', name, NULL, text, strlen(text), strlen(text));
}

void tar_make_dir(struct tar_make *t, const char *name)
{
	unsigned int mode = t->mode;

	t->mode = 0755;
	tar_make_add(t, '5', name, NULL, NULL, 0, 0);
	t->mode = mode;
}

void tar_make_link(struct tar_make *t, char type, const char *name, const char *target)
{
	tar_make_add(t, type, name, target, NULL, 0, 0);
}

void tar_make_end(struct tar_make *t)
{
	static const uint8_t zeros[1024];

	put(t, zeros, sizeof(zeros));
}
