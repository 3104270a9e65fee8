/* SPDX-License-Identifier: Apache-2.0 */
/* test_starts.c - the pure parsers of the static list: ELF, ld.so.cache, imports of Python */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"
#include "elf_make.h"
#include "elf_parts.h"
#include "err.h"
#include "ldcache.h"
#include "python_imports.h"
#include "text.h"

#define TEXT 100000u

static uint8_t *make(size_t *ret_bytes)
{
	struct elf_make m = {.interp = "/lib64/ld-linux-x86-64.so.2",
			     .runpath = "$ORIGIN/../lib",
			     .needed = {"libone.so.1", "libc.so.6"},
			     .text_bytes = TEXT};

	return elf_make(&m, ret_bytes);
}

static void test_elf(void **state)
{
	struct elf_dynamic d;
	struct elf_head h;
	struct err e = {0};
	size_t bytes;
	uint8_t *p = make(&bytes);
	const char *strings;

	(void)state;
	assert_int_equal(elf_head_parse(p, ELF_HEAD_BYTES, bytes, &h, &e), 0);
	assert_int_equal(h.machine, 62);
	assert_int_equal(h.load_count, 4);
	assert_string_equal((char *)p + h.interp.off, "/lib64/ld-linux-x86-64.so.2");
	assert_int_equal(elf_dynamic_parse(p + h.dynamic.off, h.dynamic.len, &h, &d, &e), 0);
	strings = (char *)p + d.strings.off;
	assert_int_equal(d.needed_count, 2);
	assert_string_equal(elf_string(strings, d.strings.len, d.needed[0]), "libone.so.1");
	assert_string_equal(elf_string(strings, d.strings.len, d.needed[1]), "libc.so.6");
	assert_string_equal(elf_string(strings, d.strings.len, d.runpath), "$ORIGIN/../lib");
	assert_null(elf_string(strings, d.strings.len, d.rpath));
	assert_null(elf_string(strings, d.strings.len, d.strings.len));
	assert_null(elf_string("abc", 3, 1));
	free(p);
}

static bool has(const struct range *part, size_t count, uint64_t off)
{
	for (size_t n = 0; n < count; n++) {
		if (off >= part[n].off && off < range_end(part[n]))
			return true;
	}
	return false;
}

static void test_parts(void **state)
{
	struct range part[ELF_PARTS];
	uint64_t constant = ELF_MAKE_TABLES + TEXT, data = constant + ELF_MAKE_CONST;
	struct elf_dynamic d;
	struct elf_head h;
	size_t bytes, count;
	uint8_t *p = make(&bytes);

	(void)state;
	assert_int_equal(elf_head_parse(p, ELF_HEAD_BYTES, bytes, &h, NULL), 0);
	assert_int_equal(elf_dynamic_parse(p + h.dynamic.off, h.dynamic.len, &h, &d, NULL), 0);
	for (int text = 0; text < 2; text++) {
		count = elf_start_parts(&h, &d, text, part);
		for (size_t n = 1; n < count; n++)
			assert_true(part[n].off > range_end(part[n - 1]));
		assert_true(has(part, count, 0));
		assert_true(has(part, count, d.strings.off));
		assert_true(has(part, count, range_end(d.tables) - 1));
		assert_true(has(part, count, ELF_MAKE_TABLES)); /* .init */
		assert_int_equal(has(part, count, ELF_MAKE_TABLES + TEXT - 1), text);
		assert_int_equal(has(part, count, constant), text);
		assert_false(has(part, count, constant + ELF_MAKE_CONST / 2)); /* unwinding */
		assert_true(has(part, count, data) && has(part, count, bytes - 1));
	}
	/* a static program */
	count = elf_start_parts(&h, NULL, true, part);
	assert_true(has(part, count, ELF_MAKE_TABLES + TEXT - 1));
	free(p);
}

static void test_bad_elf(void **state)
{
	struct elf_dynamic d;
	struct elf_head h;
	struct err e = {0};
	size_t bytes;
	uint8_t *p = make(&bytes);

	(void)state;
	assert_int_equal(elf_head_parse("#!/bin/sh", 9, 9, &h, &e), -ENOENT);
	assert_int_equal(elf_head_parse(p, 63, 63, &h, &e), -ENOENT);
	assert_int_equal(elf_head_parse(p, 200, bytes, &h, &e), -EBADMSG); /* headers cut off */
	assert_int_equal(elf_head_parse(p, 4096, ELF_MAKE_TABLES, &h, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "outside of the file"));
	p[4] = 1;
	assert_int_equal(elf_head_parse(p, 4096, bytes, &h, &e), -EOPNOTSUPP);
	p[4] = 2;
	assert_int_equal(elf_head_parse(p, 4096, bytes, &h, &e), 0);
	/* strings of dynamic linking that are not in the file */
	put_le64(p + h.dynamic.off + 3 * 16 + 8, 0x7fffffffffffull);
	assert_int_equal(elf_dynamic_parse(p + h.dynamic.off, h.dynamic.len, &h, &d, &e), -EBADMSG);
	for (size_t at = 0; at < h.dynamic.len; at += 16)
		put_le64(p + h.dynamic.off + at, 1);
	h.dynamic.len = 4096;
	assert_int_equal(elf_dynamic_parse(p + h.dynamic.off, 1024, &h, &d, &e), -EBADMSG);
	free(p);
}

static void test_ldcache(void **state)
{
	static const char *const pairs[] = {
	    "liba.so.1", "/lib32/liba.so.1", "liba.so.1", "/usr/lib/liba.so.1",
	    "libb.so",	 "/b/libb.so",	     NULL};
	struct ldcache c;
	struct err e = {0};

	(void)state;
	for (int old = 0; old < 2; old++) {
		size_t bytes;
		uint8_t *p = ldcache_make(pairs, old, &bytes);

		assert_int_equal(ldcache_parse(p, bytes, &c, &e), 0);
		assert_string_equal(ldcache_find(&c, "liba.so.1", 0), "/lib32/liba.so.1");
		assert_string_equal(ldcache_find(&c, "liba.so.1", 1), "/usr/lib/liba.so.1");
		assert_null(ldcache_find(&c, "liba.so.1", 2));
		assert_string_equal(ldcache_find(&c, "libb.so", 0), "/b/libb.so");
		assert_null(ldcache_find(&c, "lib", 0));
		/* the last string has no end: its entry is none */
		p[bytes - 1] = 'x';
		assert_null(ldcache_find(&c, "libb.so", 0));
		put_le32(p + (old ? 32 : 0) + 20, 1000);
		assert_int_equal(ldcache_parse(p, bytes, &c, &e), -EBADMSG);
		assert_int_equal(ldcache_parse(p, 20, &c, &e), old ? -EBADMSG : -EOPNOTSUPP);
		free(p);
	}
	assert_int_equal(ldcache_parse("", 0, &c, &e), -EOPNOTSUPP);
}

/* Everything that was found, as one line. */
static int note(void *arg, unsigned int level, const char *module, const char *name)
{
	char **all = arg, *old = *all;

	*all = text_printf("%s%.*s%s%s%s ", old, (int)level, "......", module, name ? ":" : "",
			   name ? name : "");
	free(old);
	return 0;
}

static void check_imports(const char *text, bool script, const char *truth)
{
	char *all = text_dup("");

	assert_int_equal(python_imports(text, strlen(text), script, note, &all), 0);
	assert_string_equal(all, truth);
	free(all);
}

static void test_python(void **state)
{
	(void)state;
	check_imports("import a, b.c as d ,e\nfrom . import x\nfrom ..y.z import (one as two,\n"
		      "\tthree, # why\n)\nfrom m import *\n",
		      false, "a b.c e .:x ..y.z:one ..y.z:three m:* ");
	check_imports("'''\nimport no\n'''\nx = 'import no'; import yes\n# import no\n"
		      "\"\"\"a\\\"\"\"\nimport no\n\"\"\"\nimport\\\n  split\n",
		      false, "yes split ");
	check_imports(
	    "def f():\n    import no\n    if x:\n        import no\nimport yes\n"
	    "class A:\n  import no\ntry:\n    import t\nexcept ImportError:\n    import u\n",
	    false, "yes t u ");
	check_imports("if TYPE_CHECKING:\n    import no\nelse:\n    import yes\n"
		      "if sys.platform == 'win32':\n  import no\nif not x:\n  import also\n",
		      false, "yes also ");
	check_imports("if __name__ == '__main__':\n    import s\n", false, "");
	check_imports("if __name__ == '__main__':\n    import s\n", true, "s ");
	check_imports("importlib.x()\nfrom_x = 1\nimport \nfrom\nfrom a\nfrom a importx\n", false,
		      "");
	check_imports("x = '''never closed\nimport no\n", false, "");
	check_imports("x = f(1,\nimport no\n", false, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_elf),	    cmocka_unit_test(test_parts),
	    cmocka_unit_test(test_bad_elf), cmocka_unit_test(test_ldcache),
	    cmocka_unit_test(test_python),
	};

	return cmocka_run_group_tests_name("starts", tests, NULL, NULL);
}
