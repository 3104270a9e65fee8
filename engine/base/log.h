/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one line per event that a person may need
 *
 * error: needs a person. warn: degraded, says what we do instead. info: lifecycle.
 * debug: free. Lines are key=value after a short sentence; untrusted strings go through
 * log_quote(); secrets and URL queries are never logged. Thread-safe; a line is one write(2).
 */
#ifndef HS_BASE_LOG_H
#define HS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* log_open - choose level and destination descriptor; default is WARN to standard error */
void log_open(enum log_level level, int fd);

bool log_enabled(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * log_quote - copy an untrusted string with everything but printable ASCII escaped
 * @out: at least 1 byte; cut to fit, always terminated. Returns @out.
 */
const char *log_quote(const char *s, char *out, size_t out_bytes);

/*
 * struct log_rate - lets one line pass per @every_ns, counts the others
 *
 * Zero-initialise, set @every_ns. Not thread-safe: one owner.
 */
struct log_rate {
	uint64_t every_ns;
	uint64_t last_ns;
	uint64_t skipped;
};

/* log_rate_ok - whether a line may be written now; @ret_skipped: lines swallowed before it */
bool log_rate_ok(struct log_rate *r, uint64_t now_ns, uint64_t *ret_skipped);

#endif
