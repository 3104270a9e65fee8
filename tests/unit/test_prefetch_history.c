/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_prefetch_history.c - what lists were worth: when a start is audited, when a list has
 * expired, what is kept
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../../tools/prefetch_history.c"

#define IMAGE "sha256:00112233"

static char dir[] = "/tmp/hs-history-XXXXXX";

/* One start as a server writes it: with accuracy only where pages were not warmed. */
static cJSON *start(const char *list, double accuracy)
{
	cJSON *s = cJSON_CreateObject();

	cJSON_AddStringToObject(s, "list", list);
	if (accuracy >= 0)
		cJSON_AddNumberToObject(s, "accuracy", accuracy);
	return s;
}

/* @starts further starts with a list that is used to @accuracy; returns how many were audited. */
static unsigned int live(const char *list, double accuracy, unsigned int starts)
{
	unsigned int audited = 0;

	for (unsigned int n = 0; n < starts; n++) {
		cJSON *h = history_load(dir, IMAGE);
		bool audit = history_audit_due(h, list);

		cJSON_Delete(h);
		audited += audit;
		history_add(dir, IMAGE, start(list, audit ? accuracy : -1));
	}
	return audited;
}

static bool expired(const char *list)
{
	cJSON *h = history_load(dir, IMAGE);
	bool is = history_expired(h, list);

	cJSON_Delete(h);
	return is;
}

static void test_good_list(void **state)
{
	(void)state;
	assert_int_equal(live("good", 0.9, 2), 0); /* a node's first starts are helped */
	assert_int_equal(live("good", 0.9, 1), 1);
	assert_int_equal(live("good", 0.9, 10), 0);
	assert_int_equal(live("good", 0.9, 1), 1);
	assert_int_equal(live("good", 0.9, 100), 9);
	assert_false(expired("good"));
}

static void test_bad_list_expires(void **state)
{
	(void)state;
	assert_int_equal(live("bad", 0.1, 4), 2);
	assert_false(expired("bad"));
	live("bad", 0.1, 1);
	assert_true(expired("bad"));
	assert_false(expired("good")); /* others have not */
	assert_false(expired("new"));
}

/* One bad start is no proof: the next ones are looked at, and it is good. */
static void test_one_bad_start(void **state)
{
	(void)state;
	assert_int_equal(live("mixed", 0.1, 3), 1);
	assert_int_equal(live("mixed", 0.8, 1), 1);
	assert_int_equal(live("mixed", 0.8, 10), 0);
	assert_false(expired("mixed"));
}

static void test_worth(void **state)
{
	struct history_worth w;
	cJSON *h = history_load(dir, IMAGE);

	(void)state;
	history_worth(h, "bad", &w);
	assert_int_equal(w.starts, 5);
	assert_int_equal(w.telling, 3);
	assert_true(w.expired && w.accuracy > 0.09 && w.accuracy < 0.11);
	history_worth(h, "nobody's", &w);
	assert_true(!w.starts && !w.telling && !w.expired);
	cJSON_Delete(h);
}

static void test_bounded_and_damaged(void **state)
{
	char path[96];
	cJSON *h;

	(void)state;
	live("many", 0.9, 3 * HISTORY_STARTS);
	h = history_load(dir, IMAGE);
	assert_int_equal(cJSON_GetArraySize(h), HISTORY_STARTS);
	cJSON_Delete(h);
	snprintf(path, sizeof(path), "%s/prefetch/00112233.json", dir);
	assert_int_equal(text_write_file(path, "[{\"list\":", 9, 0600, NULL), 0);
	h = history_load(dir, IMAGE);
	assert_int_equal(cJSON_GetArraySize(h), 0);
	cJSON_Delete(h);
	assert_int_equal(text_write_file(path, "[1,{\"list\":3},\"x\"]", 18, 0600, NULL), 0);
	assert_false(expired("x"));
	live("x", 0.9, 1);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good_list),		cmocka_unit_test(test_bad_list_expires),
	    cmocka_unit_test(test_one_bad_start),	cmocka_unit_test(test_worth),
	    cmocka_unit_test(test_bounded_and_damaged),
	};
	int rc;

	if (!mkdtemp(dir))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	(void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS); /* the next run has its own */
	return rc;
}
