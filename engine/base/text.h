/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - numbers with suffixes, formatted strings, whole small files
 *
 * Cold paths only: these allocate.
 */
#ifndef HS_BASE_TEXT_H
#define HS_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* text_printf - like asprintf, but aborts when memory is out; caller frees */
char *text_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* text_dup - strdup that aborts when memory is out; NULL stays NULL */
char *text_dup(const char *s);

/* xmalloc_zero - calloc for cold paths, aborts when memory is out */
void *xmalloc_zero(size_t count, size_t bytes);

/*
 * xgrow - make room for one more item in an array of @count
 * @room: in items, 0 for an array that is NULL yet; doubled when it is used up. Returns the array;
 * new items are not set. Aborts when memory is out.
 */
void *xgrow(void *array, size_t *room, size_t count, size_t item_bytes);

/*
 * text_parse_size - "4096", "64K", "1.5G"; K M G T are powers of 1024
 * Returns 0, -EINVAL not a size or too large.
 */
int text_parse_size(const char *s, uint64_t *ret_bytes);

/* text_parse_time - "250ms", "2s", "1m", "10" (seconds); 0 or -EINVAL */
int text_parse_time(const char *s, uint64_t *ret_ns);

/* text_size - "1.5 MiB" style into @out, at least 16 bytes; returns @out */
const char *text_size(uint64_t bytes, char *out, size_t out_bytes);

bool text_starts_with(const char *s, const char *prefix);
bool text_ends_with(const char *s, const char *suffix);

/*
 * text_read_file - a whole regular file of at most @max_bytes, NUL-terminated behind its bytes
 * @ret_data: caller frees. @ret_len may be NULL.
 * Returns 0, -errno of open or read, -EFBIG when larger.
 */
int text_read_file(const char *path, size_t max_bytes, char **ret_data, size_t *ret_len,
		   struct err *e);

/*
 * text_write_file - replace a file atomically: temporary name in the same directory, fsync, rename
 * Returns 0 or -errno.
 */
int text_write_file(const char *path, const void *data, size_t len, unsigned int mode,
		    struct err *e);

/* text_mkdirs - mkdir -p; 0 or -errno */
int text_mkdirs(const char *path, unsigned int mode, struct err *e);

#endif
