/* SPDX-License-Identifier: Apache-2.0 */
/* The layout annotation: what is accepted is inside the blob; everything else is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "layout_note.h"

static void test_good(void **state)
{
	static const char *const good[] = {
	    "1536,7000,4096,5000,6000",
	    "0,10000,512,512,10000",
	    "1536,7000,4096,4096,4096,later,things",
	    "1536,7000,1465,1465,1465",
	};
	char text[LAYOUT_NOTE_BYTES];
	struct layout_note n, again;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(layout_note_parse(good[i], 10000, &n), 0);
		layout_note_text(&n, text);
		assert_int_equal(layout_note_parse(text, 10000, &again), 0);
		assert_memory_equal(&n, &again, sizeof(n));
	}
	assert_int_equal(n.payload_off, 1536);
	assert_int_equal(n.payload_bytes, 7000);
	assert_int_equal(n.open_bytes, 1465);
}

static void test_bad(void **state)
{
	static const char *const bad[] = {
	    "",
	    "1536",
	    "1536,7000,4096,5000",
	    "1536,7000,4096,5000,",
	    "1536, 7000,4096,5000,6000",
	    "-1,7000,4096,5000,6000",
	    "1536,7000,4096,5000,6000x",
	    "0x600,7000,4096,5000,6000",
	    "1536,9000,4096,5000,6000",	    /* payload behind the end */
	    "18446744073709551615,2,3,4,5", /* wraps */
	    "2,18446744073709551615,3,4,5", /* wraps */
	    "99999999999999999999,1,1,1,1", /* no 64-bit number */
	    "1536,7000,1464,5000,6000",	    /* opening would not reach the trailer */
	    "1536,7000,9000,9500,9500",	    /* opening would reach before the payload */
	    "1536,7000,4096,4000,6000",	    /* metadata includes the opening */
	    "1536,7000,4096,5000,4900",	    /* a start includes the metadata */
	    "1536,7000,4096,5000,10001",    /* behind the start of the blob */
	};
	struct layout_note n;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(layout_note_parse(bad[i], 10000, &n), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good),
	    cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
