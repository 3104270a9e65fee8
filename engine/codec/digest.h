/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest.h - SHA-256 and its "sha256:<64 hex>" text
 */
#ifndef HS_CODEC_DIGEST_H
#define HS_CODEC_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#define DIGEST_TEXT_BYTES 72 /* "sha256:" + 64 + NUL */

struct digest; /* one running hash; one thread at a time */

struct digest *digest_new(void);
void digest_add(struct digest *d, const void *p, size_t len);
/* digest_text - finish; @d can then only be freed */
void digest_text(struct digest *d, char out[static DIGEST_TEXT_BYTES]);
void digest_free(struct digest *d); /* NULL is fine */

/* digest_of - one buffer at once */
void digest_of(const void *p, size_t len, char out[static DIGEST_TEXT_BYTES]);

/* digest_valid - whether @s is exactly "sha256:" and 64 lower-case hex digits */
bool digest_valid(const char *s);

#endif
