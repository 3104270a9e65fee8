/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - see log.h */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES 2048

static _Atomic int log_level = LOG_LEVEL_WARN;
static _Atomic int log_fd = STDERR_FILENO;

void log_open(enum log_level level, int fd)
{
	atomic_store(&log_level, (int)level);
	atomic_store(&log_fd, fd);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	char line[LINE_BYTES];
	va_list ap;
	int n, m;

	if (!log_enabled(level))
		return;
	n = snprintf(line, sizeof(line), "headstart: %s: ", names[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n += m;
	if (n > LINE_BYTES - 2)
		n = LINE_BYTES - 2;
	line[n++] = '\n';
	/* There is nobody to tell that the log cannot be written. */
	if (write(atomic_load(&log_fd), line, (size_t)n) < 0)
		return;
}

const char *log_quote(const char *s, char *out, size_t out_bytes)
{
	size_t o = 0;

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c >= 0x20 && c < 0x7f && c != '\\' && c != '"') {
			if (o + 2 > out_bytes)
				break;
			out[o++] = (char)c;
		} else {
			if (o + 5 > out_bytes)
				break;
			o += (size_t)snprintf(out + o, out_bytes - o, "\\x%02x", c);
		}
	}
	out[o] = '\0';
	return out;
}

bool log_rate_ok(struct log_rate *r, uint64_t now_ns, uint64_t *ret_skipped)
{
	if (r->last_ns && now_ns - r->last_ns < r->every_ns) {
		r->skipped++;
		return false;
	}
	*ret_skipped = r->skipped;
	r->skipped = 0;
	r->last_ns = now_ns ? now_ns : 1;
	return true;
}
