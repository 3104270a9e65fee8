/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.c - one stream of bytes out of gzip, zstd or plain input
 *
 * DETECT gathers the four bytes that tell the kinds apart and then feeds them as input.
 * gzip: MEMBER until ISA-L says the member is finished and its CRC right, then BETWEEN; a zero byte
 * there starts PADDING (tape-style fill), which must stay zero to the end.
 */
#include "unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include "bytes.h"
#include "err.h"
#include "range.h"
#include "text.h"

#define HEAD_BYTES	     4
#define ZSTD_MAGIC	     0xFD2FB528u
#define ZSTD_SKIPPABLE_MAGIC 0x184D2A50u
#define ZSTD_SKIPPABLE_MASK  0xFFFFFFF0u
#define UNPACK_PIECE_BYTES   (1u << 30) /* ISA-L counts in 32 bits */

enum unpack_state {
	UNPACK_DETECT,
	UNPACK_PLAIN,
	UNPACK_GZIP_MEMBER,
	UNPACK_GZIP_BETWEEN,
	UNPACK_GZIP_PADDING,
	UNPACK_ZSTD_FRAME,
	UNPACK_ZSTD_BETWEEN,
	UNPACK_FAILED,
};

struct unpack {
	enum unpack_state state;
	uint8_t head[HEAD_BYTES];
	size_t head_len;
	size_t head_pos; /* < head_len while the detected bytes are still to be decoded */
	ZSTD_DCtx *zstd;
	struct inflate_state *isal;
};

/* The input of one decoding call: what is left of the detected bytes, then the caller's. */
struct source {
	const uint8_t *p;
	size_t len;
	bool from_head;
};

struct unpack *unpack_new(void)
{
	return xmalloc_zero(1, sizeof(struct unpack));
}

void unpack_free(struct unpack *u)
{
	if (!u)
		return;
	ZSTD_freeDCtx(u->zstd);
	free(u->isal);
	free(u);
}

static int fail(struct unpack *u, struct err *e, const char *what)
{
	u->state = UNPACK_FAILED;
	return err_set(e, -EBADMSG, "layer: %s", what);
}

static void start_member(struct unpack *u)
{
	isal_inflate_init(u->isal);
	u->isal->crc_flag = ISAL_GZIP;
	u->state = UNPACK_GZIP_MEMBER;
}

static void detect(struct unpack *u)
{
	uint32_t magic = u->head_len == HEAD_BYTES ? get_le32(u->head) : 0;

	if (u->head_len >= 2 && u->head[0] == 0x1F && u->head[1] == 0x8B) {
		u->isal = xmalloc_zero(1, sizeof(*u->isal));
		start_member(u);
	} else if (magic == ZSTD_MAGIC || (magic & ZSTD_SKIPPABLE_MASK) == ZSTD_SKIPPABLE_MAGIC) {
		u->zstd = ZSTD_createDCtx();
		if (!u->zstd)
			abort();
		u->state = UNPACK_ZSTD_FRAME;
	} else {
		u->state = UNPACK_PLAIN;
	}
}

static struct source source_now(const struct unpack *u, const uint8_t *in, size_t in_bytes)
{
	if (u->head_pos < u->head_len)
		return (struct source){u->head + u->head_pos, u->head_len - u->head_pos, true};
	return (struct source){in, in_bytes, false};
}

static void source_take(struct unpack *u, const struct source *s, size_t n, const uint8_t **in,
			size_t *in_bytes)
{
	if (s->from_head) {
		u->head_pos += n;
	} else if (n) { /* at the end of the input there is none to move on in */
		*in += n;
		*in_bytes -= n;
	}
}

/* Each decoder advances by *ret_used and *ret_made; 0 or -EBADMSG. */
static int step_gzip(struct unpack *u, const struct source *s, uint8_t *out, size_t out_bytes,
		     size_t *ret_used, size_t *ret_made, struct err *e)
{
	struct inflate_state *z = u->isal;
	uint32_t in_len = (uint32_t)min_u64(s->len, UNPACK_PIECE_BYTES);
	uint32_t out_len = (uint32_t)min_u64(out_bytes, UNPACK_PIECE_BYTES);
	int r;

	z->next_in = (uint8_t *)s->p;
	z->avail_in = in_len;
	z->next_out = out;
	z->avail_out = out_len;
	r = isal_inflate(z);
	if (r == ISAL_INCORRECT_CHECKSUM)
		return fail(u, e, "gzip checksum is wrong");
	if (r < 0)
		return fail(u, e, "gzip stream is corrupt");
	*ret_used = in_len - z->avail_in;
	*ret_made = out_len - z->avail_out;
	if (z->block_state == ISAL_BLOCK_FINISH)
		u->state = UNPACK_GZIP_BETWEEN;
	return 0;
}

static int step_zstd(struct unpack *u, const struct source *s, uint8_t *out, size_t out_bytes,
		     size_t *ret_used, size_t *ret_made, struct err *e)
{
	ZSTD_inBuffer zin = {s->p, s->len, 0};
	ZSTD_outBuffer zout = {out, out_bytes, 0};
	size_t r = ZSTD_decompressStream(u->zstd, &zout, &zin);

	if (ZSTD_isError(r)) {
		u->state = UNPACK_FAILED;
		return err_set(e, -EBADMSG, "layer: zstd stream is corrupt: %s",
			       ZSTD_getErrorName(r));
	}
	*ret_used = zin.pos;
	*ret_made = zout.pos;
	u->state = r == 0 ? UNPACK_ZSTD_BETWEEN : UNPACK_ZSTD_FRAME;
	return 0;
}

/* One move of the machine; *ret_used and *ret_made stay 0 when it needs what is not there. */
static int move(struct unpack *u, const struct source *s, uint8_t *out, size_t out_bytes,
		size_t *ret_used, size_t *ret_made, struct err *e)
{
	switch (u->state) {
	case UNPACK_PLAIN:
		*ret_used = *ret_made = min_u64(s->len, out_bytes);
		if (*ret_made)
			memcpy(out, s->p, *ret_made);
		return 0;
	case UNPACK_GZIP_BETWEEN:
		if (s->len == 0)
			return 0;
		if (s->p[0] == 0) {
			u->state = UNPACK_GZIP_PADDING;
			return 0;
		}
		start_member(u);
		return step_gzip(u, s, out, out_bytes, ret_used, ret_made, e);
	case UNPACK_GZIP_MEMBER:
		return step_gzip(u, s, out, out_bytes, ret_used, ret_made, e);
	case UNPACK_GZIP_PADDING:
		if (!bytes_zero(s->p, s->len))
			return fail(u, e, "bytes after the end of the gzip stream");
		*ret_used = s->len;
		return 0;
	case UNPACK_ZSTD_BETWEEN:
		if (s->len == 0)
			return 0;
		return step_zstd(u, s, out, out_bytes, ret_used, ret_made, e);
	case UNPACK_ZSTD_FRAME:
		return step_zstd(u, s, out, out_bytes, ret_used, ret_made, e);
	case UNPACK_DETECT:
	case UNPACK_FAILED:
		break;
	}
	return err_set(e, -EBADMSG, "layer: stream has already failed");
}

/* Whether the stream may end where it is. */
static bool complete(const struct unpack *u)
{
	return u->state == UNPACK_PLAIN || u->state == UNPACK_GZIP_BETWEEN ||
	       u->state == UNPACK_GZIP_PADDING || u->state == UNPACK_ZSTD_BETWEEN;
}

int unpack_step(struct unpack *u, const uint8_t **in, size_t *in_bytes, bool eof, uint8_t *out,
		size_t out_bytes, size_t *ret_out_bytes, struct err *e)
{
	size_t done = 0;

	*ret_out_bytes = 0;
	if (u->state == UNPACK_DETECT) {
		while (u->head_len<HEAD_BYTES && * in_bytes> 0) {
			u->head[u->head_len++] = *(*in)++;
			(*in_bytes)--;
		}
		if (u->head_len < HEAD_BYTES && !eof)
			return 1;
		detect(u);
	}
	while (done < out_bytes) {
		struct source s = source_now(u, *in, *in_bytes);
		enum unpack_state before = u->state;
		size_t used = 0, made = 0;
		int r = move(u, &s, out + done, out_bytes - done, &used, &made, e);

		if (r < 0)
			return r;
		source_take(u, &s, used, in, in_bytes);
		done += made;
		if (used == 0 && made == 0 && u->state == before)
			break;
	}
	*ret_out_bytes = done;
	if (!eof || *in_bytes > 0 || u->head_pos < u->head_len)
		return 1;
	if (complete(u))
		return 0;
	if (done == out_bytes)
		return 1; /* the decoder may hold output back */
	return fail(u, e, "stream ends too early");
}
