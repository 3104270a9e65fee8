/* SPDX-License-Identifier: Apache-2.0 */
/* test_auth.c - challenges and token answers */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "auth.h"

static void test_challenges(void **state)
{
	static const struct {
		const char *text;
		enum auth_scheme scheme;
		const char *realm, *service, *scope;
	} c[] = {
	    {"Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull\"", AUTH_BEARER,
	     "https://a/t", "s", "repository:x:pull"},
	    {"bearer REALM=\"https://a/t?x=1,2\" , service = s", AUTH_BEARER, "https://a/t?x=1,2",
	     "s", ""},
	    {"Basic realm=\"x\"", AUTH_BASIC, "x", "", ""},
	    {"Basic", AUTH_BASIC, "", "", ""},
	    {"Negotiate abcd==, Basic realm=\"x\", Bearer realm=\"https://a\"", AUTH_BEARER,
	     "https://a", "", ""},
	    {"Bearer realm=\"https://a\", Basic realm=\"x\"", AUTH_BEARER, "https://a", "", ""},
	    {"Bearer realm=\"https://a\\\"b\\\\\"", AUTH_BEARER, "https://a\"b\\", "", ""},
	    {"Bearer realm=\"https://a\",error=\"insufficient_scope\",scope=\"a b\"", AUTH_BEARER,
	     "https://a", "", "a b"},
	    {"Bearer", AUTH_NONE, "", "", ""},
	    {"Bearer realm=\"unterminated", AUTH_NONE, "", "", ""},
	    {"Bearer realm=\"a\nb\"", AUTH_NONE, "", "", ""},
	    {"Digest realm=\"x\", nonce=\"y\"", AUTH_NONE, "", "", ""},
	    {"", AUTH_NONE, "", "", ""},
	    {",,, = ,\"", AUTH_NONE, "", "", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct auth_challenge ch = {0};
		bool ok = auth_challenge_parse(c[i].text, strlen(c[i].text), &ch);

		if (ok != (c[i].scheme != AUTH_NONE) || ch.scheme != c[i].scheme ||
		    strcmp(ch.realm, c[i].realm) != 0 || strcmp(ch.service, c[i].service) != 0 ||
		    strcmp(ch.scope, c[i].scope) != 0)
			fail_msg("%s: %d \"%s\" \"%s\" \"%s\"", c[i].text, ch.scheme, ch.realm,
				 ch.service, ch.scope);
	}
}

/* A parameter that does not fit spoils its challenge, not the others. */
static void test_long(void **state)
{
	struct auth_challenge ch = {0};
	char text[4096];
	int n = snprintf(text, sizeof(text), "Basic realm=\"x\", Bearer realm=\"");

	(void)state;
	memset(text + n, 'a', 3000);
	strcpy(text + n + 3000, "\"");
	assert_true(auth_challenge_parse(text, strlen(text), &ch));
	assert_int_equal(ch.scheme, AUTH_BASIC);
}

static void test_tokens(void **state)
{
	static const struct {
		const char *json;
		int rc;
		const char *token;
		uint64_t life;
	} c[] = {
	    {"{\"token\":\"a\",\"access_token\":\"b\",\"expires_in\":300}", 0, "a", 300},
	    {"{\"access_token\":\"b\"}", 0, "b", 60},
	    {"{\"token\":\"\",\"access_token\":\"b\",\"expires_in\":0}", 0, "b", 60},
	    {"{\"token\":\"t\",\"expires_in\":-5}", 0, "t", 60},
	    {"{\"token\":\"t\",\"expires_in\":1e30}", 0, "t", 7 * 86400},
	    {"{\"token\":\"a\\r\\nX: y\"}", -EPROTO, NULL, 0},
	    {"{\"token\":5}", -EPROTO, NULL, 0},
	    {"{}", -EPROTO, NULL, 0},
	    {"[]", -EPROTO, NULL, 0},
	    {"", -EPROTO, NULL, 0},
	    {"{\"token\":\"a\"", -EPROTO, NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		char *token = NULL;
		uint64_t life = 0;

		if (auth_token_parse(c[i].json, strlen(c[i].json), &token, &life) != c[i].rc)
			fail_msg("%s", c[i].json);
		if (c[i].rc)
			continue;
		assert_string_equal(token, c[i].token);
		assert_int_equal(life, c[i].life);
		free(token);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_challenges),
	    cmocka_unit_test(test_long),
	    cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
