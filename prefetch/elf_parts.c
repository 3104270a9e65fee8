/* SPDX-License-Identifier: Apache-2.0 */
/* elf_parts.c - see elf_parts.h */
#include "elf_parts.h"

#include "bytes.h"
#include "err.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define PAGE 4096u

/* Offsets of fields in 64-bit structures. */
enum {
	EH_CLASS = 4,
	EH_DATA = 5,
	EH_TYPE = 16,
	EH_MACHINE = 18,
	EH_PHOFF = 32,
	EH_PHENTSIZE = 54,
	EH_PHNUM = 56,
	EH_BYTES = 64,
	PH_FLAGS = 4,
	PH_OFFSET = 8,
	PH_VADDR = 16,
	PH_FILESZ = 32,
	PH_BYTES = 56,
	DYN_BYTES = 16,
};

static int add_load(struct elf_head *h, const uint8_t *p, struct range r, struct err *e)
{
	uint32_t flags = get_le32(p + PH_FLAGS);
	struct elf_segment *s = &h->load[h->load_count];

	if (r.len == 0)
		return 0;
	if (h->load_count == ELF_SEGMENTS)
		return err_set(e, -EOPNOTSUPP, "elf: more than %u segments", ELF_SEGMENTS);
	*s = (struct elf_segment){.off = r.off,
				  .addr = get_le64(p + PH_VADDR),
				  .bytes = r.len,
				  .write = flags & PF_W,
				  .exec = flags & PF_X};
	if (!range_checked(range_of(s->addr, s->bytes)))
		return err_set(e, -EBADMSG, "elf: a segment's address is impossible");
	if (h->load_count && s->off < s[-1].off)
		return err_set(e, -EOPNOTSUPP, "elf: segments are not in the order of the file");
	h->load_count++;
	return 0;
}

int elf_head_parse(const void *buf, size_t bytes, uint64_t file_bytes, struct elf_head *ret,
		   struct err *e)
{
	struct elf_head h = {.file_bytes = file_bytes, .unwind_off = UINT64_MAX};
	const uint8_t *p = buf;
	uint64_t at;
	unsigned int count;

	if (bytes < EH_BYTES || file_bytes < bytes || memcmp(p, ELFMAG, SELFMAG) != 0)
		return err_set(e, -ENOENT, "elf: not an ELF file");
	if (p[EH_CLASS] != ELFCLASS64 || p[EH_DATA] != ELFDATA2LSB ||
	    get_le16(p + EH_PHENTSIZE) != PH_BYTES)
		return err_set(e, -EOPNOTSUPP, "elf: not a little-endian 64-bit file");
	if (get_le16(p + EH_TYPE) != ET_EXEC && get_le16(p + EH_TYPE) != ET_DYN)
		return err_set(e, -EOPNOTSUPP, "elf: neither program nor library");
	h.machine = get_le16(p + EH_MACHINE);
	at = get_le64(p + EH_PHOFF);
	count = get_le16(p + EH_PHNUM);
	if (!range_inside(range_of(at, (uint64_t)count * PH_BYTES), bytes))
		return err_set(e, -EBADMSG, "elf: the program headers lie outside");
	for (unsigned int n = 0; n < count; n++) {
		const uint8_t *ph = p + at + n * PH_BYTES;
		struct range r = range_of(get_le64(ph + PH_OFFSET), get_le64(ph + PH_FILESZ));
		uint32_t type = get_le32(ph);
		int rc = 0;

		if (type != PT_LOAD && type != PT_INTERP && type != PT_DYNAMIC &&
		    type != PT_GNU_EH_FRAME)
			continue;
		if (!range_inside(r, file_bytes))
			return err_set(e, -EBADMSG, "elf: a segment lies outside of the file");
		if (type == PT_LOAD)
			rc = add_load(&h, ph, r, e);
		else if (type == PT_INTERP)
			h.interp = r;
		else if (type == PT_DYNAMIC)
			h.dynamic = r;
		else if (r.len)
			h.unwind_off = r.off;
		if (rc < 0)
			return rc;
	}
	*ret = h;
	return 0;
}

/* Where an address lies in the file; only what is loaded does. */
static bool to_file(const struct elf_head *h, uint64_t addr, uint64_t bytes, struct range *ret)
{
	for (size_t n = 0; n < h->load_count; n++) {
		const struct elf_segment *s = &h->load[n];

		if (addr < s->addr || !range_inside(range_of(addr - s->addr, bytes), s->bytes))
			continue;
		*ret = range_of(s->off + (addr - s->addr), bytes);
		return true;
	}
	return false;
}

/* Tables lie together: the smallest range around all of them. */
static void add_table(const struct elf_head *h, uint64_t addr, uint64_t bytes, struct range *all)
{
	struct range r;

	if (addr == 0 || !to_file(h, addr, bytes, &r))
		return;
	if (all->len == 0) {
		*all = r;
	} else {
		uint64_t end = max_u64(range_end(*all), range_end(r));

		all->off = min_u64(all->off, r.off);
		all->len = end - all->off;
	}
}

int elf_dynamic_parse(const void *buf, size_t bytes, const struct elf_head *h,
		      struct elf_dynamic *ret, struct err *e)
{
	struct elf_dynamic d = {.rpath = UINT64_MAX, .runpath = UINT64_MAX, .soname = UINT64_MAX};
	uint64_t strings = 0, strings_bytes = 0, rela = 0, rela_bytes = 0, plt = 0, relr = 0,
		 relr_bytes = 0;
	const uint8_t *p = buf;

	for (size_t at = 0; bytes - at >= DYN_BYTES; at += DYN_BYTES) {
		uint64_t tag = get_le64(p + at), value = get_le64(p + at + 8);

		switch (tag) {
		case DT_NULL:
			bytes = at;
			break;
		case DT_NEEDED:
			if (d.needed_count == ELF_NEEDED)
				return err_set(e, -EBADMSG, "elf: needs more than %u libraries",
					       ELF_NEEDED);
			d.needed[d.needed_count++] = value;
			break;
		case DT_RPATH:
			d.rpath = value;
			break;
		case DT_RUNPATH:
			d.runpath = value;
			break;
		case DT_SONAME:
			d.soname = value;
			break;
		case DT_STRTAB:
			strings = value;
			break;
		case DT_STRSZ:
			strings_bytes = value;
			break;
		case DT_HASH:
		case DT_GNU_HASH:
		case DT_SYMTAB:
		case DT_VERSYM:
		case DT_VERNEED:
			/* their sizes are not told: the next one begins where they end */
			add_table(h, value, 16, &d.tables);
			break;
		case DT_RELA:
			rela = value;
			break;
		case DT_RELASZ:
			rela_bytes = value;
			break;
		case DT_JMPREL:
			plt = value;
			break;
		case DT_PLTRELSZ:
			d.plt_bytes = value;
			break;
		case DT_RELR:
			relr = value;
			break;
		case DT_RELRSZ:
			relr_bytes = value;
			break;
		default:
			break;
		}
		if (tag == DT_NULL)
			break;
	}
	if (!to_file(h, strings, strings_bytes, &d.strings))
		return err_set(e, -EBADMSG, "elf: the strings of dynamic linking lie outside");
	add_table(h, strings, strings_bytes, &d.tables);
	add_table(h, rela, rela_bytes, &d.tables);
	add_table(h, plt, d.plt_bytes, &d.tables);
	add_table(h, relr, relr_bytes, &d.tables);
	/* 24 bytes of relocation for 16 of code, and what is before and behind */
	d.plt_bytes = min_u64(d.plt_bytes, h->file_bytes) / 24 * 16 + PAGE;
	*ret = d;
	return 0;
}

const char *elf_string(const void *p, size_t bytes, uint64_t off)
{
	const char *s = p;

	if (off >= bytes || !memchr(s + off, 0, bytes - off))
		return NULL;
	return s + off;
}

/* Ascending, and no byte twice: what begins before the end of the last one is cut. */
static void put_part(struct range *ret, size_t *count, struct range r)
{
	uint64_t end = *count ? range_end(ret[*count - 1]) : 0;

	if (range_end(r) <= end || r.len == 0)
		return;
	if (*count && r.off <= end) {
		ret[*count - 1].len = range_end(r) - ret[*count - 1].off;
		return;
	}
	ret[(*count)++] = r;
}

size_t elf_start_parts(const struct elf_head *h, const struct elf_dynamic *d, bool text,
		       struct range *ret)
{
	size_t count = 0;

	put_part(ret, &count, range_of(0, min_u64(ELF_HEAD_BYTES, h->file_bytes)));
	for (size_t n = 0; n < h->load_count; n++) {
		const struct elf_segment *s = &h->load[n];
		struct range whole = range_of(s->off, s->bytes);

		if (s->write) {
			put_part(ret, &count, whole);
			continue;
		}
		if (d)
			put_part(ret, &count, range_clip(d->tables, whole));
		if (text && range_inside(range_of(h->unwind_off, 0), range_end(whole)) &&
		    h->unwind_off >= whole.off)
			/* unwind tables come last in their segment */
			put_part(ret, &count, range_of(whole.off, h->unwind_off - whole.off));
		else if (text)
			put_part(ret, &count, whole);
		else if (s->exec && d)
			put_part(ret, &count,
				 range_of(whole.off, min_u64(d->plt_bytes, whole.len)));
		else if (s->exec)
			put_part(ret, &count, range_of(whole.off, min_u64(PAGE, whole.len)));
	}
	return count;
}
