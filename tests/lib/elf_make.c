/* SPDX-License-Identifier: Apache-2.0 */
/* elf_make.c - see elf_make.h */
#include "elf_make.h"

#include <assert.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "text.h"

#define STRINGS_AT 4096u
#define RELA_AT	   6144u
#define RELA_BYTES 240u

struct building {
	uint8_t *p;
	size_t strings;	  /* used */
	size_t headers;	  /* used */
	uint8_t *dynamic; /* next entry */
};

static uint64_t put_string(struct building *b, const char *s)
{
	uint64_t off = b->strings;

	assert(STRINGS_AT + off + strlen(s) + 1 < RELA_AT);
	strcpy((char *)b->p + STRINGS_AT + off, s);
	b->strings += strlen(s) + 1;
	return off;
}

static void put_header(struct building *b, uint32_t type, uint32_t flags, uint64_t off,
		       uint64_t bytes)
{
	uint8_t *h = b->p + 64 + 56 * b->headers++;

	put_le32(h, type);
	put_le32(h + 4, flags);
	put_le64(h + 8, off);
	put_le64(h + 16, off + 0x10000);
	put_le64(h + 32, bytes);
	put_le64(h + 40, bytes);
}

static void put_dynamic(struct building *b, uint64_t tag, uint64_t value)
{
	put_le64(b->dynamic, tag);
	put_le64(b->dynamic + 8, value);
	b->dynamic += 16;
}

uint8_t *elf_make(const struct elf_make *m, size_t *ret_bytes)
{
	size_t text = ELF_MAKE_TABLES, constant = text + m->text_bytes;
	size_t data = constant + ELF_MAKE_CONST, all = data + ELF_MAKE_DATA;
	struct building b = {.p = xmalloc_zero(1, all), .strings = 1};

	memcpy(b.p, ELFMAG, SELFMAG);
	b.p[4] = ELFCLASS64;
	b.p[5] = ELFDATA2LSB;
	put_le16(b.p + 16, ET_DYN);
	put_le16(b.p + 18, m->machine ? m->machine : EM_X86_64);
	put_le64(b.p + 32, 64);
	put_le16(b.p + 54, 56);
	memset(b.p + text, 0x90, m->text_bytes);
	b.dynamic = b.p + data;
	if (m->interp) {
		strcpy((char *)b.p + 1024, m->interp);
		put_header(&b, PT_INTERP, PF_R, 1024, strlen(m->interp) + 1);
	}
	put_header(&b, PT_LOAD, PF_R, 0, ELF_MAKE_TABLES);
	put_header(&b, PT_LOAD, PF_R | PF_X, text, m->text_bytes);
	put_header(&b, PT_LOAD, PF_R, constant, ELF_MAKE_CONST);
	put_header(&b, PT_LOAD, PF_R | PF_W, data, ELF_MAKE_DATA);
	put_header(&b, PT_DYNAMIC, PF_R | PF_W, data, 1024);
	put_header(&b, PT_GNU_EH_FRAME, PF_R, constant + ELF_MAKE_CONST / 2, 100);
	for (size_t n = 0; n < 8 && m->needed[n]; n++)
		put_dynamic(&b, DT_NEEDED, put_string(&b, m->needed[n]));
	if (m->runpath)
		put_dynamic(&b, DT_RUNPATH, put_string(&b, m->runpath));
	if (m->rpath)
		put_dynamic(&b, DT_RPATH, put_string(&b, m->rpath));
	put_dynamic(&b, DT_STRTAB, 0x10000 + STRINGS_AT);
	put_dynamic(&b, DT_STRSZ, b.strings);
	put_dynamic(&b, DT_RELA, 0x10000 + RELA_AT);
	put_dynamic(&b, DT_RELASZ, RELA_BYTES);
	put_dynamic(&b, DT_NULL, 0);
	put_le16(b.p + 56, (uint16_t)b.headers);
	*ret_bytes = all;
	return b.p;
}

uint8_t *ldcache_make(const char *const *pairs, int old, size_t *ret_bytes)
{
	size_t count = 0, head = old ? 32 : 0, strings = 0, at;
	uint8_t *p, *c;

	for (; pairs[2 * count]; count++)
		strings += strlen(pairs[2 * count]) + strlen(pairs[2 * count + 1]) + 2;
	p = xmalloc_zero(1, head + 48 + 24 * count + strings);
	if (old) {
		memcpy(p, "ld.so-1.7.0", 11);
		put_le32(p + 12, 1); /* 16 + 12, rounded up */
	}
	c = p + head;
	memcpy(c, "glibc-ld.so.cache1.1", 20);
	put_le32(c + 20, (uint32_t)count);
	put_le32(c + 24, (uint32_t)strings);
	at = 48 + 24 * count;
	for (size_t n = 0; n < count; n++) {
		uint8_t *entry = c + 48 + 24 * n;

		put_le32(entry, 0x303);
		for (size_t i = 0; i < 2; i++) {
			put_le32(entry + 4 + 4 * i, (uint32_t)at);
			strcpy((char *)c + at, pairs[2 * n + i]);
			at += strlen(pairs[2 * n + i]) + 1;
		}
	}
	*ret_bytes = head + at;
	return p;
}
