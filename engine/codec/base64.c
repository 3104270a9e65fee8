/* SPDX-License-Identifier: Apache-2.0 */
/* base64.c - see base64.h */
#include "base64.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "text.h"

#define MAX_BYTES (1u << 30)

char *base64_encode(const void *p, size_t bytes)
{
	char *out = xmalloc_zero(1, base64_text_bytes(bytes) + 1);

	assert(bytes <= MAX_BYTES);
	if (bytes)
		(void)EVP_EncodeBlock((unsigned char *)out, p, (int)bytes); /* cannot fail */
	return out;
}

int base64_decode(const char *text, size_t len, char **ret, size_t *ret_bytes)
{
	size_t pad = 0;
	char *out;

	while (pad < 2 && pad < len && text[len - 1 - pad] == '=')
		pad++;
	/* OpenSSL lets white space at both ends pass */
	if (len % 4 || len > MAX_BYTES || memchr(text, '=', len - pad) ||
	    strcspn(text, " \t\r\n") < len)
		return -EBADMSG;
	out = xmalloc_zero(1, len / 4 * 3 + 1);
	if (len &&
	    EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)text, (int)len) < 0) {
		free(out);
		return -EBADMSG;
	}
	*ret_bytes = len / 4 * 3 - pad;
	out[*ret_bytes] = '\0';
	*ret = out;
	return 0;
}
