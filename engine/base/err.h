/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - an error code with a sentence for the person who has to act on it
 *
 * Cold paths return 0 or a negative errno and fill a caller-owned struct err; hot
 * paths return the errno alone. Nothing here allocates. The vocabulary of codes is:
 * -EBADMSG corrupt data, -EPROTO a peer broke its protocol, -ETIMEDOUT, -EIO other I/O,
 * -ENOSPC a budget is used up, -EOPNOTSUPP missing feature, -ECANCELED shutdown,
 * -EINVAL wrong argument, -ENOENT not there, -EACCES credentials refused.
 */
#ifndef HS_BASE_ERR_H
#define HS_BASE_ERR_H

#define ERR_MSG_BYTES 512

/* Zero-initialise before use. @msg is cut, never overrun, and always terminated. */
struct err {
	int code; /* negative errno; 0 while unset */
	char msg[ERR_MSG_BYTES];
};

/*
 * err_set - record a failure; replaces what was there
 * @e:    may be NULL
 * @code: negative errno, returned unchanged so that callers can `return err_set(...)`
 */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * err_wrap - put context in front of the message, "<context>: <message>"
 *
 * Returns e->code, or @code when @e is NULL.
 */
int err_wrap(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
