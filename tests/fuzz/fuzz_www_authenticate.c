/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_www_authenticate.c - challenges, and the token answers behind them */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct auth_challenge c = {0};
	char *token = NULL;
	uint64_t life = 0;

	if (auth_challenge_parse((const char *)data, len, &c)) {
		assert(c.scheme != AUTH_NONE);
		assert(memchr(c.realm, '\0', sizeof(c.realm)));
		assert(memchr(c.scope, '\0', sizeof(c.scope)));
		assert(!strchr(c.realm, '\n') && !strchr(c.service, '\r'));
	}
	if (auth_token_parse((const char *)data, len, &token, &life) == 0) {
		assert(token[0] && life >= 1 && !strchr(token, '\n'));
		free(token);
	}
	return 0;
}
