/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: which parts of an ELF file a start reads. Input: the file. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "elf_parts.h"
#include "err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_parts(const struct elf_head *h, const struct elf_dynamic *d, bool text)
{
	struct range part[ELF_PARTS];
	size_t count = elf_start_parts(h, d, text, part);

	assert(count >= 1 && count <= ELF_PARTS);
	for (size_t n = 0; n < count; n++) {
		assert(part[n].len && range_inside(part[n], h->file_bytes));
		assert(n == 0 || part[n].off > range_end(part[n - 1]));
	}
}

static void check_dynamic(const uint8_t *data, const struct elf_head *h)
{
	size_t bytes = (size_t)min_u64(h->dynamic.len, ELF_DYNAMIC_BYTES);
	/* a copy, so that reading behind it is seen */
	uint8_t *copy = malloc(bytes ? bytes : 1);
	struct elf_dynamic d;
	struct err e = {0};
	const char *s;

	assert(copy);
	memcpy(copy, data + h->dynamic.off, bytes);
	if (elf_dynamic_parse(copy, bytes, h, &d, &e)) {
		assert(e.msg[0]);
		free(copy);
		return;
	}
	assert(range_inside(d.strings, h->file_bytes) && range_inside(d.tables, h->file_bytes));
	assert(d.needed_count <= ELF_NEEDED);
	for (size_t n = 0; n < d.needed_count; n++) {
		s = elf_string(data + d.strings.off, d.strings.len, d.needed[n]);
		assert(!s || strlen(s) < d.strings.len);
	}
	check_parts(h, &d, false);
	check_parts(h, &d, true);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t head = size < ELF_HEAD_BYTES ? size : ELF_HEAD_BYTES;
	struct elf_head h;
	struct err e = {0};

	if (elf_head_parse(data, head, size, &h, &e)) {
		assert(e.msg[0] && e.code < 0);
		return 0;
	}
	check_parts(&h, NULL, true);
	check_dynamic(data, &h);
	return 0;
}
