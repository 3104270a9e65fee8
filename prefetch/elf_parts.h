/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elf_parts.h - what of an ELF file a start reads: pure, over parts of the file
 *
 * Little-endian 64-bit files. Three steps, each over bytes that the one before named: the head
 * (program headers), the dynamic section, its strings. Everything is checked against the size of
 * the file; nothing is allocated.
 *
 * Measured over recorded starts of nginx, redis, postgres and python (pages touched of all): tables
 * of dynamic linking 88-99 %, what is writable 85-100 %, .init and .plt 60-95 %, text of the
 * executable 19-84 %, of the C library 35 %, of other libraries under 10 %, .eh_frame 0.
 */
#ifndef HS_PREFETCH_ELF_PARTS_H
#define HS_PREFETCH_ELF_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "range.h"

struct err;

#define ELF_HEAD_BYTES	  4096u /* enough for the program headers of nearly all files */
#define ELF_SEGMENTS	  16u
#define ELF_NEEDED	  128u
#define ELF_DYNAMIC_BYTES (64u << 10)
#define ELF_STRING_BYTES  (4u << 20)
#define ELF_PARTS	  (2 * ELF_SEGMENTS + 4)

struct elf_segment {
	uint64_t off, addr, bytes; /* bytes: in the file */
	bool write, exec;
};

struct elf_head {
	uint64_t file_bytes;
	uint16_t machine; /* 62 x86-64, 183 arm64 */
	struct elf_segment load[ELF_SEGMENTS];
	size_t load_count;
	struct range interp;  /* name of the interpreter; len 0: static */
	struct range dynamic; /* len 0: none */
	uint64_t unwind_off;  /* .eh_frame_hdr; UINT64_MAX: none */
};

struct elf_dynamic {
	struct range strings;
	uint64_t needed[ELF_NEEDED]; /* offsets in the strings */
	size_t needed_count;
	uint64_t rpath, runpath, soname; /* UINT64_MAX: none */
	struct range tables;		 /* hash, symbols, strings, versions, relocations */
	uint64_t plt_bytes;		 /* at most, of .init and .plt */
};

/* elf_head_parse - @p: first bytes of the file; 0, -ENOENT no ELF, -EOPNOTSUPP, -EBADMSG */
int elf_head_parse(const void *p, size_t bytes, uint64_t file_bytes, struct elf_head *ret,
		   struct err *e);
/* elf_dynamic_parse - @p: the bytes of h->dynamic, at most ELF_DYNAMIC_BYTES of them */
int elf_dynamic_parse(const void *p, size_t bytes, const struct elf_head *h,
		      struct elf_dynamic *ret, struct err *e);
/* elf_string - string at @off of d->strings' bytes; NULL: outside or without an end */
const char *elf_string(const void *p, size_t bytes, uint64_t off);

/*
 * elf_start_parts - ranges of the file that a start reads, ascending, not overlapping
 * @d: NULL for a static file; @text: code and constants as well, all but the unwind tables
 * @ret: ELF_PARTS; returns how many
 */
size_t elf_start_parts(const struct elf_head *h, const struct elf_dynamic *d, bool text,
		       struct range *ret);

#endif
