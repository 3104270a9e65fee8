/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of tar_envelope and zfile. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "golden_file.h"
#include "tar_envelope.h"
#include "test_random.h"
#include "zfile.h"

static void test_tar_pax(void **state)
{
	static const uint64_t sizes[] = {1, 511, 512, 9, 10, 99, 123456789, 1ull << 40};
	uint8_t head[TAR_ENVELOPE_HEAD_BYTES];
	struct range r;

	(void)state;
	tar_envelope_head(123456789, head);
	assert_memory_equal(head + 512, "18 size=123456789\n", 19);
	for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		uint64_t tail = tar_envelope_tail_bytes(sizes[n]);
		struct err e = {0};

		tar_envelope_head(sizes[n], head);
		assert_int_equal((1536 + sizes[n] + tail) % 512, 0);
		assert_in_range(tail, 1024, TAR_ENVELOPE_TAIL_MAX);
		assert_int_equal(tar_envelope_parse(head, 1536, 1536 + sizes[n] + tail, &r, &e), 1);
		assert_int_equal(r.off, 1536);
		assert_int_equal(r.len, sizes[n]);
		/* a missing tail is nobody's loss, a missing byte of payload is */
		assert_int_equal(tar_envelope_parse(head, 1536, 1536 + sizes[n], &r, &e), 1);
		assert_int_equal(tar_envelope_parse(head, 1536, 1535 + sizes[n], &r, &e), -EBADMSG);
		assert_true(e.msg[0] != '\0');
		assert_int_equal(tar_envelope_parse(head, 1000, 1000, &r, &e), -EBADMSG);
	}
}

static void resum(uint8_t *h)
{
	unsigned int sum = 0;

	memset(h + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += h[i];
	(void)snprintf((char *)h + 148, 8, "%6o ", sum);
}

static void pax_text(uint8_t *head, const char *text)
{
	tar_envelope_head(5, head);
	memset(head + 512, 0, 512);
	memcpy(head + 512, text, strlen(text));
	(void)snprintf((char *)head + 124, 12, "%10o ", (unsigned int)strlen(text) & 07777);
	resum(head);
}

static void test_tar_pax_records(void **state)
{
	static const char *const bad[] = {"18 size=12345678\n",
					  "x size=1\n",
					  "9 size=x1\n",
					  "0 size=1\n",
					  "9 size=11",
					  "99999999999999999999 size=1\n",
					  "3 \n",
					  "31 size=99999999999999999999999\n",
					  "10 size=-1\n"};
	uint8_t head[TAR_ENVELOPE_HEAD_BYTES];
	struct range r;

	(void)state;
	pax_text(head, "11 path=ab\n11 size=700\n9 other=\n");
	assert_int_equal(tar_envelope_parse(head, 1536, 4096, &r, NULL), -EBADMSG);
	pax_text(head, "11 path=ab\n12 size=700\n7 abc=\n");
	assert_int_equal(tar_envelope_parse(head, 1536, 4096, &r, NULL), 1);
	assert_int_equal(r.len, 700);
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		pax_text(head, bad[n]);
		if (tar_envelope_parse(head, 1536, 4096, &r, NULL) != -EBADMSG)
			fail_msg("accepted %s", bad[n]);
	}
	/* no size record: the octal field of the member counts */
	pax_text(head, "11 path=ab\n");
	memcpy(head + 1024 + 124, "00000001000", 12);
	assert_int_equal(tar_envelope_parse(head, 1536, 4096, &r, NULL), 1);
	assert_int_equal(r.len, 512);
	memcpy(head + 1024 + 124, "0000000100x", 12);
	assert_int_equal(tar_envelope_parse(head, 1536, 4096, &r, NULL), -EBADMSG);
}

static void test_tar_plain(void **state)
{
	size_t bytes;
	uint8_t *tar = golden_read("edge/tar-plain-ustar-zfile.tar", &bytes);
	struct range r;

	(void)state;
	assert_int_equal(tar_envelope_parse(tar, 1536, bytes, &r, NULL), 1);
	assert_int_equal(r.off, 512);
	assert_int_equal(tar_envelope_parse(tar, 512, bytes, &r, NULL), 1);
	assert_int_equal(tar_envelope_parse(tar, 511, 511, &r, NULL), 0);
	assert_int_equal(r.off, 0);
	assert_int_equal(r.len, 511);
	/* base-256 sizes are GNU's way to 8 GiB and more */
	memset(tar + 124, 0, 12);
	tar[124] = 0x80;
	tar[132] = 0x12;
	resum(tar);
	assert_int_equal(tar_envelope_parse(tar, 512, 1ull << 40, &r, NULL), 1);
	assert_int_equal(r.len, 0x12000000ull);
	memset(tar + 124, 0xFF, 12);
	resum(tar);
	assert_int_equal(tar_envelope_parse(tar, 512, 1ull << 40, &r, NULL), -EBADMSG);
	tar[0] ^= 1; /* checksum: no envelope at all then */
	assert_int_equal(tar_envelope_parse(tar, 512, 9999, &r, NULL), 0);
	assert_int_equal(r.len, 9999);
	tar[0] ^= 1;
	tar[156] = '5';
	resum(tar);
	assert_int_equal(tar_envelope_parse(tar, 512, 9999, &r, NULL), 0);
	free(tar);
}

/* A final header over @blocks blocks of which the table would say @stored each. */
static struct zfile_info info_of(uint64_t blocks, uint32_t stored)
{
	return (struct zfile_info){
	    .index_offset = 512 + blocks * stored,
	    .block_count = blocks,
	    .original_bytes = blocks * 4096,
	    .block_bytes = 4096,
	    .codec = CODEC_LZ4,
	    .verify = true,
	    .has_crc = true,
	};
}

static void redigest(uint8_t *h)
{
	memset(h + 28, 0, 4);
	put_le32(h + 28, crc32c_raw(0, h, 512));
}

static int header_with(int at, uint64_t v, int bytes, struct err *e)
{
	struct zfile_info i = info_of(10, 100), back;
	uint8_t h[512];

	zfile_encode_head(&i, ZFILE_HEAD_FINAL, h);
	for (int n = 0; n < bytes; n++)
		h[at + n] = (uint8_t)(v >> 8 * n);
	redigest(h);
	return zfile_parse_header(h, 512 + 1000 + 40 + 512, &back, e);
}

static void test_zfile_header_fields(void **state)
{
	struct err e = {0};

	(void)state;
	assert_int_equal(header_with(24, 0, 4, &e), 0); /* size: not looked at */
	assert_int_equal(header_with(68, 0x55555555, 4, &e), 0);
	assert_int_equal(header_with(100, 0x5555555555555555, 8, &e), 0);
	assert_int_equal(header_with(33, 0xFFFFFFFF, 4, &e), 0); /* unknown flags */
	assert_int_equal(header_with(72, 0, 4, &e), -EBADMSG);
	assert_int_equal(header_with(72, 256, 4, &e), -EBADMSG);
	assert_int_equal(header_with(72, 4097, 4, &e), -EBADMSG);
	assert_int_equal(header_with(72, 131072, 4, &e), -EBADMSG);
	assert_int_equal(header_with(72, 8192, 4, &e), -EBADMSG); /* ten blocks are too many then */
	assert_int_equal(header_with(76, 0, 1, &e), -EOPNOTSUPP);
	assert_int_equal(header_with(76, 3, 1, &e), -EOPNOTSUPP);
	assert_int_equal(header_with(76, 2, 1, &e), 0);
	assert_int_equal(header_with(84, 1, 4, &e), -EOPNOTSUPP);
	assert_int_equal(header_with(40, 511, 8, &e), -EBADMSG);
	assert_int_equal(header_with(40, 512 + 1000 + 512 + 1, 8, &e), -EBADMSG);
	assert_int_equal(header_with(40, UINT64_MAX - 3, 8, &e), -EBADMSG);
	assert_int_equal(header_with(48, 11, 8, &e), -EBADMSG);
	assert_int_equal(header_with(48, 1ull << 62, 8, &e), -EBADMSG);
	assert_int_equal(header_with(56, UINT64_MAX, 8, &e), -EBADMSG);
	assert_int_equal(header_with(56, 9 * 4096, 8, &e), -EBADMSG);
	assert_int_equal(header_with(56, 9 * 4096 + 1, 8, &e), 0);
	assert_int_equal(header_with(0, 0, 1, &e), -EBADMSG);
}

static void test_zfile_digest(void **state)
{
	struct zfile_info i = info_of(10, 100), back;
	uint8_t h[512];

	(void)state;
	zfile_encode_head(&i, ZFILE_HEAD_FINAL, h);
	assert_int_equal(h[32], 0x1B);
	h[200] ^= 1;
	assert_int_equal(zfile_parse_header(h, 4096, &back, NULL), -EBADMSG);
	h[32] &= (uint8_t)~0x10; /* without bit 4 nobody looks */
	assert_int_equal(zfile_parse_header(h, 4096, &back, NULL), 0);
	assert_false(back.has_crc);
	zfile_encode_head(&i, ZFILE_HEAD_FIRST, h);
	assert_int_equal(h[32], 0x13);
	assert_int_equal(zfile_parse_header(h, 4096, &back, NULL), 0);
	assert_false(back.final);
	assert_int_equal(zfile_parse_trailer(h, 4096, &back, NULL), -EBADMSG);
	zfile_encode_head(&i, ZFILE_TRAILER, h);
	assert_int_equal(h[32], 0x16);
	assert_false(zfile_detect(h, 512));
	assert_int_equal(zfile_parse_header(h, 4096, &back, NULL), -EBADMSG);
	assert_int_equal(zfile_parse_trailer(h, 512 + 1000 + 40 + 512, &back, NULL), 0);
	assert_int_equal(back.block_count, 10);
	assert_int_equal(zfile_parse_trailer(h, 512 + 1000 + 39 + 512, &back, NULL), -EBADMSG);
	assert_int_equal(zfile_parse_trailer(h, 512, &back, NULL), -EBADMSG);
}

static int table_with(struct zfile_info *i, const uint32_t *len, bool right_crc)
{
	struct zfile_table *t;
	uint8_t p[40];
	int r;

	for (int n = 0; n < 10; n++)
		put_le32(p + 4 * n, len[n]);
	i->index_crc = zfile_table_crc(0, p, 40) ^ !right_crc;
	r = zfile_table_new(i, p, &t, NULL);
	if (r == 0) {
		assert_int_equal(zfile_blocks(t, 0, 10).off, 512);
		assert_int_equal(zfile_blocks(t, 0, 10).len, i->index_offset - 512);
		assert_int_equal(zfile_blocks(t, 9, 1).len, len[9]);
		assert_int_equal(zfile_blocks(t, 10, 0).off, i->index_offset);
		zfile_table_free(t);
	}
	return r;
}

static void test_zfile_table(void **state)
{
	uint32_t len[10] = {100, 100, 100, 100, 100, 100, 100, 100, 100, 100};
	struct zfile_info i = info_of(10, 100);

	(void)state;
	assert_int_equal(table_with(&i, len, true), 0);
	assert_int_equal(table_with(&i, len, false), -EBADMSG);
	i.has_crc = false;
	assert_int_equal(table_with(&i, len, false), 0);
	len[3] = 101;
	assert_int_equal(table_with(&i, len, true), -EBADMSG);
	len[4] = 99;
	assert_int_equal(table_with(&i, len, true), 0);
	len[0] = 4;
	len[1] = 196;
	assert_int_equal(table_with(&i, len, true), -EBADMSG);
	i.verify = false;
	assert_int_equal(table_with(&i, len, true), 0);
	len[0] = 0;
	len[1] = 200;
	assert_int_equal(table_with(&i, len, true), -EBADMSG);
	len[0] = 65537;
	i.index_offset += 65537;
	assert_int_equal(table_with(&i, len, true), -EBADMSG);
	len[0] = 65536;
	i.index_offset--;
	assert_int_equal(table_with(&i, len, true), 0);
	zfile_table_free(NULL);
}

static void test_zfile_block(void **state)
{
	struct zfile_info i = info_of(2, 100);
	uint8_t plain[4096], stored[5000], back[4096];
	struct codec *c = codec_new();
	long n;

	(void)state;
	memset(plain, 'a', sizeof(plain));
	n = zfile_block_encode(CODEC_LZ4, 0, c, plain, 4096, stored, sizeof(stored));
	assert_true(n > 4);
	assert_int_equal(zfile_block_decode(&i, 0, c, stored, (size_t)n, back), 0);
	assert_memory_equal(plain, back, 4096);
	for (long k = 0; k < n; k++) {
		stored[k] ^= 0x40;
		assert_int_equal(zfile_block_decode(&i, 0, c, stored, (size_t)n, back), -EBADMSG);
		stored[k] ^= 0x40;
	}
	for (long k = 0; k < n; k++)
		assert_int_equal(zfile_block_decode(&i, 0, c, stored, (size_t)k, back), -EBADMSG);
	/* right in itself, but shorter than the block is */
	n = zfile_block_encode(CODEC_LZ4, 0, c, plain, 4095, stored, sizeof(stored));
	assert_int_equal(zfile_block_decode(&i, 0, c, stored, (size_t)n, back), -EBADMSG);
	i.original_bytes = 4096 + 4095;
	assert_int_equal(zfile_block_plain_bytes(&i, 0), 4096);
	assert_int_equal(zfile_block_plain_bytes(&i, 1), 4095);
	assert_int_equal(zfile_block_decode(&i, 1, c, stored, (size_t)n, back), 0);
	i.verify = false;
	assert_int_equal(zfile_block_decode(&i, 1, c, stored, (size_t)n - 4, back), 0);
	assert_int_equal(zfile_block_encode(CODEC_LZ4, 0, c, plain, 4096, stored, 3), -ENOSPC);
	assert_int_equal(zfile_block_encode(CODEC_LZ4, 0, c, plain, 4096, stored, 8), -ENOSPC);
	codec_free(c);
}

/* 64 KiB of noise does not fit upstream's 64 KiB buffer once it has been "compressed". */
static void test_zfile_block_too_large(void **state)
{
	uint8_t *plain = malloc(65536), *stored = malloc(70000);
	struct test_random noise = {.state = 7};
	struct codec *c = codec_new();

	(void)state;
	for (int n = 0; n < 65536; n++)
		plain[n] = (uint8_t)test_random_u64(&noise);
	assert_int_equal(zfile_block_encode(CODEC_ZSTD, 3, c, plain, 65536, stored, 70000),
			 -EOVERFLOW);
	assert_int_equal(zfile_block_encode(CODEC_LZ4, 0, c, plain, 65536, stored, 70000),
			 -EOVERFLOW);
	codec_free(c);
	free(plain);
	free(stored);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tar_pax),	 cmocka_unit_test(test_tar_pax_records),
	    cmocka_unit_test(test_tar_plain),	 cmocka_unit_test(test_zfile_header_fields),
	    cmocka_unit_test(test_zfile_digest), cmocka_unit_test(test_zfile_table),
	    cmocka_unit_test(test_zfile_block),	 cmocka_unit_test(test_zfile_block_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
