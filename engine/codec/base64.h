/* SPDX-License-Identifier: Apache-2.0 */
/* base64.h - the encoding of inline data in JSON documents */
#ifndef HS_CODEC_BASE64_H
#define HS_CODEC_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* base64_text_bytes - length of the text for @bytes, without its NUL */
static inline size_t base64_text_bytes(size_t bytes)
{
	return (bytes + 2) / 3 * 4;
}

/* base64_encode - at most 1 GiB, padded; caller frees */
char *base64_encode(const void *p, size_t bytes);

/*
 * base64_decode - padded, without line breaks; a NUL behind the bytes, caller frees
 * Returns 0 or -EBADMSG.
 */
int base64_decode(const char *text, size_t len, char **ret, size_t *ret_bytes);

#endif
