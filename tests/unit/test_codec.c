/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of codec/: crc32c, digest, codec, unpack, inflate. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "base64.h"
#include "codec.h"
#include "crc32c.h"
#include "digest.h"
#include "err.h"
#include "golden_file.h"
#include "gz_make.h"
#include "inflate.h"
#include "test_random.h"
#include "unpack.h"

static void test_crc_golden(void **state)
{
	(void)state;
	assert_int_equal(crc32c_raw(0, "123456789", 9), 0x58E3FA20u);
	assert_int_equal(crc32c_raw(100007, "123456789", 9), 0x3C9BD4E0u);
	assert_int_equal((uint32_t)~crc32c_raw(~0u, "123456789", 9), 0xE3069283u);
	assert_int_equal(crc32c_raw(crc32c_raw(7, "1234", 4), "56789", 5),
			 crc32c_raw(7, "123456789", 9));
	assert_int_equal(crc32c_raw(5, NULL, 0), 5);
}

static void test_digest(void **state)
{
	char out[DIGEST_TEXT_BYTES], parts[DIGEST_TEXT_BYTES];
	struct digest *d = digest_new();

	(void)state;
	digest_of("abc", 3, out);
	assert_string_equal(out, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f2"
				 "0015ad");
	digest_add(d, "a", 1);
	digest_add(d, NULL, 0);
	digest_add(d, "bc", 2);
	digest_text(d, parts);
	digest_free(d);
	digest_free(NULL);
	assert_string_equal(out, parts);

	assert_true(digest_valid(out));
	out[10] = 'G';
	assert_false(digest_valid(out));
	out[10] = 'A';
	assert_false(digest_valid(out));
	out[10] = '1';
	out[70] = '\0';
	assert_false(digest_valid(out));
	assert_false(digest_valid(""));
	assert_false(digest_valid("sha256:"));
	assert_false(digest_valid("sha512:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61"
				  "f20015ad"));
	assert_int_equal(strlen(parts), 71);
}

static void test_codec_round(void **state)
{
	static const enum codec_id ids[] = {CODEC_LZ4, CODEC_ZSTD};
	struct test_random rnd = {.state = 42};
	uint8_t plain[16384], packed[20000], again[20000], back[16384];
	struct codec *c = codec_new();

	(void)state;
	for (int k = 0; k < 2; k++) {
		for (size_t len = 1; len <= sizeof(plain); len = len * 3 + 1) {
			long n, m;

			test_random_fill(&rnd, plain, len);
			n = codec_encode(c, ids[k], 3, plain, len, packed, sizeof(packed));
			assert_in_range(n, 1, codec_bound(ids[k], len));
			m = codec_encode(c, ids[k], 3, plain, len, again, sizeof(again));
			assert_int_equal(n, m);
			assert_memory_equal(packed, again, n);
			assert_int_equal(codec_decode(c, ids[k], packed, n, back, sizeof(back)),
					 len);
			assert_memory_equal(plain, back, len);
			assert_int_equal(codec_decode(c, ids[k], packed, n, back, len - 1),
					 -EBADMSG);
			assert_int_equal(codec_decode(c, ids[k], packed, n - 1, back, len),
					 -EBADMSG);
			assert_int_equal(codec_encode(c, ids[k], 3, plain, len, packed, 1),
					 -ENOSPC);
		}
		assert_int_equal(codec_decode(c, ids[k], "\xff\xff\xff\xff\xff", 5, back, 100),
				 -EBADMSG);
	}
	assert_int_equal(codec_decode(c, (enum codec_id)0, packed, 5, back, 5), -EOPNOTSUPP);
	codec_free(c);
	codec_free(NULL);
}

/* Without context reuse the output must be the same: nothing leaks from one call into the next. */
static void test_codec_deterministic(void **state)
{
	struct test_random rnd = {.state = 43};
	uint8_t plain[8192], a[9000], b[9000];
	struct codec *used = codec_new();

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct codec *fresh = codec_new();
		enum codec_id id = i % 2 ? CODEC_ZSTD : CODEC_LZ4;
		long n, m;

		test_random_fill(&rnd, plain, sizeof(plain));
		n = codec_encode(used, id, 3, plain, sizeof(plain), a, sizeof(a));
		m = codec_encode(fresh, id, 3, plain, sizeof(plain), b, sizeof(b));
		assert_int_equal(n, m);
		assert_memory_equal(a, b, n);
		codec_free(fresh);
	}
	codec_free(used);
}

static void test_codec_names(void **state)
{
	enum codec_id id;

	(void)state;
	assert_int_equal(codec_parse("zstd", &id), 0);
	assert_int_equal(id, CODEC_ZSTD);
	assert_int_equal(codec_parse("lz4", &id), 0);
	assert_int_equal(id, CODEC_LZ4);
	assert_int_equal(codec_parse("gzip", &id), -EINVAL);
	assert_string_equal(codec_name(CODEC_LZ4), "lz4");
	assert_string_equal(codec_name((enum codec_id)9), "unknown");
}

/* Feed in pieces of @step bytes and take out in pieces of @room; the length made, or -errno. */
static long unpack_all(const uint8_t *in, size_t in_bytes, size_t step, size_t room, uint8_t *out,
		       size_t out_bytes)
{
	struct unpack *u = unpack_new();
	size_t made = 0, fed = 0;
	struct err e = {0};
	int r = 1;

	for (size_t calls = 0; r == 1; calls++) {
		const uint8_t *p = in + fed;
		size_t n = in_bytes - fed < step ? in_bytes - fed : step, left = n, got;
		bool eof = fed + n == in_bytes;

		assert_true(calls < 4 * (in_bytes + out_bytes) + 16);
		if (room > out_bytes - made)
			room = out_bytes - made;
		assert_true(room > 0);
		r = unpack_step(u, &p, &left, eof, out + made, room, &got, &e);
		assert_true(r < 0 || got + (n - left) > 0 || eof || r == 0);
		fed += n - left;
		if (r >= 0)
			made += got;
	}
	if (r < 0)
		assert_true(e.msg[0] != '\0');
	unpack_free(u);
	return r < 0 ? r : (long)made;
}

static void check_unpack(const uint8_t *in, size_t in_bytes, const uint8_t *plain,
			 size_t plain_bytes)
{
	static const size_t steps[] = {1, 7, 4096, 1u << 30};
	uint8_t *out = malloc(plain_bytes + 70000);

	for (int s = 0; s < 4; s++) {
		size_t room = s == 0 ? 333 : 65536;

		assert_int_equal(unpack_all(in, in_bytes, steps[s], room, out, plain_bytes + 70000),
				 plain_bytes);
		assert_memory_equal(out, plain, plain_bytes);
	}
	free(out);
}

static void test_unpack_gzip(void **state)
{
	struct test_random rnd = {.state = 44};
	uint8_t *plain = malloc(300000), *gz, *out = malloc(400000);
	size_t bytes;

	(void)state;
	test_random_fill(&rnd, plain, 300000);
	gz = gz_make(&rnd, plain, 300000, 1, &bytes);
	check_unpack(gz, bytes, plain, 300000);
	assert_int_equal(unpack_all(gz, bytes - 1, 4096, 4096, out, 400000), -EBADMSG);
	assert_int_equal(unpack_all(gz, bytes - 9, 4096, 4096, out, 400000), -EBADMSG);
	assert_int_equal(unpack_all(gz, bytes / 2, 4096, 4096, out, 400000), -EBADMSG);
	assert_int_equal(unpack_all(gz, 3, 1, 4096, out, 400000), -EBADMSG);
	gz[bytes - 6] ^= 1; /* CRC */
	assert_int_equal(unpack_all(gz, bytes, 4096, 4096, out, 400000), -EBADMSG);
	gz[bytes - 6] ^= 1;
	gz[bytes - 2] ^= 1; /* length */
	assert_int_equal(unpack_all(gz, bytes, 4096, 4096, out, 400000), -EBADMSG);
	free(gz);

	gz = gz_make(&rnd, plain, 300000, 5, &bytes);
	check_unpack(gz, bytes, plain, 300000);
	gz = realloc(gz, bytes + 1024);
	memset(gz + bytes, 0, 1024);
	check_unpack(gz, bytes + 1024, plain, 300000);
	check_unpack(gz, bytes + 1, plain, 300000);
	gz[bytes + 1000] = 1;
	assert_int_equal(unpack_all(gz, bytes + 1024, 4096, 4096, out, 400000), -EBADMSG);
	gz[bytes] = 'x';
	assert_int_equal(unpack_all(gz, bytes + 1, 4096, 4096, out, 400000), -EBADMSG);
	free(gz);
	free(plain);
	free(out);
}

static void test_unpack_zstd(void **state)
{
	static const uint8_t skippable[12] = {0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
	struct test_random rnd = {.state = 45};
	uint8_t *plain = malloc(300000), *z = malloc(400000), *out = malloc(400000);
	size_t n;

	(void)state;
	test_random_fill(&rnd, plain, 300000);
	n = ZSTD_compress(z, 400000, plain, 100000, 3);
	n += ZSTD_compress(z + n, 400000 - n, plain + 100000, 200000, 1);
	check_unpack(z, n, plain, 300000);
	assert_int_equal(unpack_all(z, n - 1, 4096, 4096, out, 400000), -EBADMSG);
	z[n / 2] ^= 0x10;
	memmove(z + 12, z, n);
	memcpy(z, skippable, 12);
	z[12 + n / 2] ^= 0x10;
	check_unpack(z, n + 12, plain, 300000);
	z[n + 12] = 7;
	assert_int_equal(unpack_all(z, n + 13, 4096, 4096, out, 400000), -EBADMSG);
	free(plain);
	free(z);
	free(out);
}

static void test_unpack_plain(void **state)
{
	uint8_t plain[2000];

	(void)state;
	memset(plain, 'p', sizeof(plain));
	check_unpack(plain, sizeof(plain), plain, sizeof(plain));
	for (size_t n = 0; n < 6; n++)
		check_unpack(plain, n, plain, n);
	plain[0] = 0x1F;
	check_unpack(plain, 1, plain, 1);
	check_unpack(plain, sizeof(plain), plain, sizeof(plain));
}

/* Spans that start in a member and end in the third one behind it, an empty one between. */
static void test_inflate_members(void **state)
{
	struct test_random rnd = {.state = 46};
	uint8_t plain[60000], out[60000], *gz[3];
	struct inflate *s = inflate_new();
	size_t bytes[3], used = 0;
	uint8_t *all;

	(void)state;
	test_random_fill(&rnd, plain, sizeof(plain));
	gz[0] = gz_make(&rnd, plain, 20000, 1, &bytes[0]);
	gz[1] = gz_make(&rnd, plain, 0, 1, &bytes[1]);
	gz[2] = gz_make(&rnd, plain + 20000, 40000, 1, &bytes[2]);
	all = malloc(bytes[0] + bytes[1] + bytes[2]);
	for (int i = 0; i < 3; i++) {
		memcpy(all + used, gz[i], bytes[i]);
		used += bytes[i];
		free(gz[i]);
	}
	/* zlib writes ten bytes of header */
	assert_int_equal(inflate_span(s, 0, 0, NULL, 0, all + 10, used - 10, out, 60000), 0);
	assert_memory_equal(plain, out, 60000);
	assert_int_equal(inflate_span(s, 0, 0, NULL, 0, all + 10, used - 10, out, 20001), 0);
	assert_int_equal(inflate_span(s, 0, 0, NULL, 0, all + 10, 0, out, 0), 0);
	assert_int_equal(inflate_span(s, 0, 0, NULL, 0, all + 10, used / 3, out, 60000), -EBADMSG);
	assert_int_equal(inflate_span(s, 8, 0, NULL, 0, all + 10, used - 10, out, 60000), -EBADMSG);
	all[bytes[0]] ^= 0xFF; /* magic of the second member */
	assert_int_equal(inflate_span(s, 0, 0, NULL, 0, all + 10, used - 10, out, 60000), -EBADMSG);
	assert_int_equal(inflate_span(s, 0, 0, NULL, 0, all + 10, used - 10, out, 20000), 0);
	free(all);
	inflate_free(s);
	inflate_free(NULL);
}

static void test_unpack_golden(void **state)
{
	static const char *const packed[] = {"src/L1.tar.gz", "src/L1.tar.zst"};
	size_t plain_bytes, bytes;
	uint8_t *plain = golden_read("src/L1.tar", &plain_bytes);

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint8_t *in = golden_read(packed[i], &bytes);
		uint8_t *out = malloc(plain_bytes + 1);

		assert_int_equal(unpack_all(in, bytes, 65536, 65536, out, plain_bytes + 1),
				 plain_bytes);
		assert_memory_equal(out, plain, plain_bytes);
		free(out);
		free(in);
	}
	free(plain);
}

static void test_base64(void **state)
{
	static const char *const bad[] = {
	    "YQ", "YQ=", "Y===", "=YQ=", "YQ==YQ==", " YQ==", "YQ=\n", "Y Q=", "Y*==", "YQ==\n"};
	char bytes[300], *text, *back;
	size_t len;

	(void)state;
	for (size_t n = 0; n < sizeof(bytes); n++) {
		bytes[n] = (char)(n * 7);
		text = base64_encode(bytes, n);
		assert_int_equal(strlen(text), base64_text_bytes(n));
		assert_int_equal(base64_decode(text, strlen(text), &back, &len), 0);
		assert_int_equal(len, n);
		assert_memory_equal(back, bytes, n);
		free(back);
		free(text);
	}
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
		assert_int_equal(base64_decode(bad[n], strlen(bad[n]), &back, &len), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_base64),
	    cmocka_unit_test(test_crc_golden),
	    cmocka_unit_test(test_digest),
	    cmocka_unit_test(test_codec_round),
	    cmocka_unit_test(test_codec_deterministic),
	    cmocka_unit_test(test_codec_names),
	    cmocka_unit_test(test_unpack_gzip),
	    cmocka_unit_test(test_unpack_zstd),
	    cmocka_unit_test(test_unpack_plain),
	    cmocka_unit_test(test_inflate_members),
	    cmocka_unit_test(test_unpack_golden),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
