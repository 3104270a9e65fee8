/* SPDX-License-Identifier: Apache-2.0 */
/* elf_make.h - small ELF files and ld.so.caches with given contents */
#ifndef HS_TESTS_ELF_MAKE_H
#define HS_TESTS_ELF_MAKE_H

#include <stddef.h>
#include <stdint.h>

/* What the file says of itself; NULL: nothing. */
struct elf_make {
	uint16_t machine; /* 0: x86-64 */
	const char *interp, *runpath, *rpath;
	const char *needed[8];
	size_t text_bytes; /* of the executable segment */
};

/*
 * Where parts lie in the file: head and tables in the first ELF_MAKE_TABLES bytes, then text, then
 * ELF_MAKE_CONST bytes of constants with unwind tables at their half, then ELF_MAKE_DATA writable
 * bytes with the dynamic section.
 */
#define ELF_MAKE_TABLES 8192u
#define ELF_MAKE_CONST	8192u
#define ELF_MAKE_DATA	4096u

/* elf_make - caller frees */
uint8_t *elf_make(const struct elf_make *m, size_t *ret_bytes);

/* ldcache_make - pairs of name and path, then NULL; @old: behind the old format; caller frees */
uint8_t *ldcache_make(const char *const *pairs, int old, size_t *ret_bytes);

#endif
