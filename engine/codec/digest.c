/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - SHA-256 by OpenSSL's EVP, which picks SHA-NI where the CPU has it */
#include "digest.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "bytes.h"
#include "text.h"

#define DIGEST_PREFIX	    "sha256:"
#define DIGEST_PREFIX_BYTES (sizeof(DIGEST_PREFIX) - 1)
#define DIGEST_HEX_BYTES    64

struct digest {
	EVP_MD_CTX *ctx;
};

static void must(int openssl_result)
{
	/* SHA-256 over memory fails only when memory is out */
	if (openssl_result != 1)
		abort();
}

struct digest *digest_new(void)
{
	struct digest *d = xmalloc_zero(1, sizeof(*d));

	d->ctx = EVP_MD_CTX_new();
	if (!d->ctx)
		abort();
	must(EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
	return d;
}

void digest_add(struct digest *d, const void *p, size_t len)
{
	if (len > 0)
		must(EVP_DigestUpdate(d->ctx, p, len));
}

void digest_text(struct digest *d, char out[static DIGEST_TEXT_BYTES])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	must(EVP_DigestFinal_ex(d->ctx, md, &len));
	assert(len * 2 == DIGEST_HEX_BYTES);
	memcpy(out, DIGEST_PREFIX, DIGEST_PREFIX_BYTES);
	bytes_hex(md, len, out + DIGEST_PREFIX_BYTES);
}

void digest_free(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

void digest_of(const void *p, size_t len, char out[static DIGEST_TEXT_BYTES])
{
	struct digest *d = digest_new();

	digest_add(d, p, len);
	digest_text(d, out);
	digest_free(d);
}

bool digest_valid(const char *s)
{
	if (strncmp(s, DIGEST_PREFIX, DIGEST_PREFIX_BYTES) != 0)
		return false;
	s += DIGEST_PREFIX_BYTES;
	return strspn(s, "0123456789abcdef") == DIGEST_HEX_BYTES && s[DIGEST_HEX_BYTES] == '\0';
}
