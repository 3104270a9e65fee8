/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer_writer.c - LSMT inside ZFile inside the tar envelope, written as a stream
 *
 *   tar head 1536 | ZFile header 512 | blocks | jump table | ZFile trailer | tar tail
 *                                      ^ LSMT header, data, index, trailer, compressed
 *
 * The first two are made last and kept apart from the spool; the final ZFile header carries the
 * index position (0x1B), so a reader needs no look at the trailer.
 */
#include "layer_writer.h"

#include "bytes.h"
#include "err.h"
#include "lsmt.h"
#include "tar_envelope.h"
#include "text.h"
#include "zfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_BYTES (TAR_ENVELOPE_HEAD_BYTES + ZFILE_HEADER_BYTES)
/* longest segment kept while collecting: whole 4 KiB blocks that fit one record */
#define SEGMENT_BYTES (LSMT_RECORD_MAX_SECTORS / 8 * 4096u)

struct layer_blob {
	uint8_t prefix[PREFIX_BYTES];
	struct spool *spool;
	uint64_t plain_bytes;
	struct layout_note note;
	char digest[DIGEST_TEXT_BYTES];
};

struct layer_writer {
	struct layer_writer_options o;
	struct lsmt_header head;
	struct layer_blob *blob;

	uint64_t plain_bytes; /* of the LSMT stream so far */
	struct lsmt_segment *seg;
	size_t segs, seg_room;

	uint32_t *stored; /* jump table */
	size_t blocks, block_room;
	uint64_t stored_bytes;

	/* batches in flight are a ring: oldest first, the last one is being filled */
	struct squeeze_batch **ring;
	unsigned int ring_size, oldest, in_flight;
	struct squeeze_batch *filling;
	struct squeeze_batch **idle;
	unsigned int idle_count;
};

/* Take the oldest batch out of the ring and its output into the spool. */
static int collect(struct layer_writer *w, struct err *e)
{
	struct squeeze_batch *b = w->ring[w->oldest];
	int rc;

	squeeze_wait(w->o.pool, b);
	w->oldest = (w->oldest + 1) % w->ring_size;
	w->in_flight--;
	w->idle[w->idle_count++] = b;
	if (b->result < 0)
		return err_set(e, b->result, "compressing a block failed");
	for (uint32_t i = 0; i < b->blocks; i++) {
		w->stored = xgrow(w->stored, &w->block_room, w->blocks, sizeof(*w->stored));
		w->stored[w->blocks++] = b->stored[i];
	}
	w->stored_bytes += b->out_bytes;
	rc = spool_append(w->blob->spool, b->out, b->out_bytes, e);
	return rc;
}

static int submit(struct layer_writer *w, struct err *e)
{
	int rc = 0;

	if (w->in_flight == w->ring_size)
		rc = collect(w, e);
	if (rc < 0)
		return rc;
	w->ring[(w->oldest + w->in_flight++) % w->ring_size] = w->filling;
	squeeze_submit(w->o.pool, w->filling);
	w->filling = NULL;
	return 0;
}

/* Append to the LSMT stream. */
static int put(struct layer_writer *w, const void *data, size_t bytes, struct err *e)
{
	const uint8_t *p = data;
	int rc = 0;

	w->plain_bytes += bytes;
	while (bytes && rc == 0) {
		struct squeeze_batch *b = w->filling;
		size_t n = bytes;

		if (!b) {
			b = w->idle_count ? w->idle[--w->idle_count]
					  : squeeze_batch_new(&w->o.format);
			b->in_bytes = 0;
			w->filling = b;
		}
		if (n > SQUEEZE_BATCH_BYTES - b->in_bytes)
			n = SQUEEZE_BATCH_BYTES - b->in_bytes;
		memcpy(b->in + b->in_bytes, p, n);
		b->in_bytes += (uint32_t)n;
		p += n;
		bytes -= n;
		if (b->in_bytes == SQUEEZE_BATCH_BYTES)
			rc = submit(w, e);
	}
	return rc;
}

struct layer_writer *layer_writer_new(const struct layer_writer_options *o)
{
	struct layer_writer *w = xmalloc_zero(1, sizeof(*w));
	uint8_t head[LSMT_HEADER_BYTES];

	w->o = *o;
	w->ring_size = squeeze_threads(o->pool) * 2 + 2;
	w->ring = xmalloc_zero(w->ring_size, sizeof(*w->ring));
	w->idle = xmalloc_zero(w->ring_size + 1, sizeof(*w->idle));
	w->blob = xmalloc_zero(1, sizeof(*w->blob));
	w->blob->spool = spool_new(o->budget);
	w->head.flags = LSMT_FLAG_HEADER | LSMT_FLAG_DATA | LSMT_FLAG_SEALED;
	w->head.virtual_bytes = o->virtual_bytes;
	lsmt_uuid_from_chain(o->chain_id, w->head.uuid);
	if (o->parent_chain_id)
		lsmt_uuid_from_chain(o->parent_chain_id, w->head.parent);
	lsmt_encode_header(&w->head, head);
	/* a batch is larger: this cannot reach the pool, hence not fail */
	(void)put(w, head, sizeof(head), NULL);
	return w;
}

void layer_writer_free(struct layer_writer *w)
{
	if (!w)
		return;
	for (; w->in_flight; w->in_flight--) {
		squeeze_wait(w->o.pool, w->ring[w->oldest]);
		squeeze_batch_free(w->ring[w->oldest]);
		w->oldest = (w->oldest + 1) % w->ring_size;
	}
	while (w->idle_count)
		squeeze_batch_free(w->idle[--w->idle_count]);
	squeeze_batch_free(w->filling);
	layer_blob_free(w->blob);
	free(w->ring);
	free(w->idle);
	free(w->seg);
	free(w->stored);
	free(w);
}

int layer_writer_add(void *arg, uint64_t dev_off, const void *data, size_t bytes, struct err *e)
{
	struct layer_writer *w = arg;
	uint64_t moff = w->plain_bytes;
	int rc = put(w, data, bytes, e);

	while (rc == 0 && bytes) {
		struct lsmt_segment *last = w->segs ? &w->seg[w->segs - 1] : NULL;
		uint32_t n;

		if (!last || last->off + last->len != dev_off || last->moff + last->len != moff ||
		    last->len >= SEGMENT_BYTES) {
			w->seg = xgrow(w->seg, &w->seg_room, w->segs, sizeof(*w->seg));
			last = &w->seg[w->segs++];
			*last = (struct lsmt_segment){.off = dev_off, .moff = moff};
		}
		n = SEGMENT_BYTES - last->len;
		if (n > bytes)
			n = (uint32_t)bytes;
		last->len += n;
		dev_off += n;
		moff += n;
		bytes -= n;
	}
	return rc;
}

static int by_offset(const void *a, const void *b)
{
	const struct lsmt_segment *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static int put_index(struct layer_writer *w, struct err *e)
{
	uint8_t trailer[LSMT_HEADER_BYTES];
	uint8_t *records = NULL;
	int rc;

	if (w->segs)
		qsort(w->seg, w->segs, sizeof(*w->seg), by_offset);
	w->head.index_offset = w->plain_bytes;
	rc = lsmt_index_encode(w->seg, w->segs, w->plain_bytes, &records, &w->head.index_count, e);
	if (rc < 0)
		return rc;
	w->head.flags = LSMT_FLAG_DATA | LSMT_FLAG_SEALED;
	lsmt_encode_header(&w->head, trailer);
	rc = put(w, records, w->head.index_count * LSMT_RECORD_BYTES, e);
	free(records);
	return rc < 0 ? rc : put(w, trailer, sizeof(trailer), e);
}

/* Jump table, ZFile trailer and headers, envelope: all that needs the final sizes. */
static int put_frame(struct layer_writer *w, struct err *e)
{
	struct layer_blob *b = w->blob;
	struct zfile_info info = {
	    .index_offset = ZFILE_HEADER_BYTES + w->stored_bytes,
	    .block_count = w->blocks,
	    .original_bytes = w->plain_bytes,
	    .block_bytes = w->o.format.block_bytes,
	    .codec = w->o.format.codec,
	    .verify = true,
	    .has_crc = true,
	    .final = true,
	};
	uint64_t payload = info.index_offset + w->blocks * 4ull + ZFILE_HEADER_BYTES;
	uint8_t *table = xmalloc_zero(w->blocks + 1, 4);
	uint8_t trailer[ZFILE_HEADER_BYTES], tail[TAR_ENVELOPE_TAIL_MAX + 1] = {0};
	int rc;

	for (size_t i = 0; i < w->blocks; i++)
		put_le32(table + i * 4, w->stored[i]);
	info.index_crc = zfile_table_crc(0, table, w->blocks * 4);
	zfile_encode_head(&info, ZFILE_TRAILER, trailer);
	rc = spool_append(b->spool, table, w->blocks * 4, e);
	free(table);
	if (rc == 0)
		rc = spool_append(b->spool, trailer, sizeof(trailer), e);
	if (rc == 0)
		rc = spool_append(b->spool, tail, tar_envelope_tail_bytes(payload), e);
	tar_envelope_head(payload, b->prefix);
	zfile_encode_head(&info, ZFILE_HEAD_FINAL, b->prefix + TAR_ENVELOPE_HEAD_BYTES);
	b->plain_bytes = w->plain_bytes;
	return rc;
}

/* How many last bytes of the finished blob hold plain byte @plain and all behind it. */
static uint64_t bytes_from(const struct layer_writer *w, uint64_t plain)
{
	uint64_t first = plain / w->o.format.block_bytes, off = PREFIX_BYTES;

	for (uint64_t i = 0; i < first && i < w->blocks; i++)
		off += w->stored[i];
	return layer_blob_bytes(w->blob) - off;
}

static void note_layout(struct layer_writer *w, uint64_t index, uint64_t metadata, uint64_t start)
{
	w->blob->note = (struct layout_note){
	    .payload_off = TAR_ENVELOPE_HEAD_BYTES,
	    .payload_bytes = 2ull * ZFILE_HEADER_BYTES + w->stored_bytes + w->blocks * 4ull,
	    .open_bytes = bytes_from(w, index),
	    .metadata_bytes = bytes_from(w, metadata),
	    .start_bytes = bytes_from(w, start),
	};
}

int layer_writer_finish(struct layer_writer *w, uint64_t metadata_bytes, uint64_t start_bytes,
			struct layer_blob **ret, struct err *e)
{
	uint64_t index = w->plain_bytes;
	int rc = put_index(w, e);

	if (rc == 0 && w->filling)
		rc = submit(w, e);
	while (rc == 0 && w->in_flight)
		rc = collect(w, e);
	if (rc == 0)
		rc = put_frame(w, e);
	if (rc < 0)
		return rc;
	note_layout(w, index, index - metadata_bytes, index - start_bytes);
	*ret = w->blob;
	w->blob = NULL;
	return 0;
}

uint64_t layer_blob_bytes(const struct layer_blob *b)
{
	return PREFIX_BYTES + spool_bytes(b->spool);
}

const struct layout_note *layer_blob_note(const struct layer_blob *b)
{
	return &b->note;
}

uint64_t layer_blob_plain_bytes(const struct layer_blob *b)
{
	return b->plain_bytes;
}

int layer_blob_read(struct layer_blob *b, uint64_t off, void *buf, size_t bytes, struct err *e)
{
	uint8_t *p = buf;

	if (off < PREFIX_BYTES) {
		size_t n = PREFIX_BYTES - (size_t)off < bytes ? PREFIX_BYTES - (size_t)off : bytes;

		memcpy(p, b->prefix + off, n);
		p += n;
		off += n;
		bytes -= n;
	}
	return bytes ? spool_read(b->spool, off - PREFIX_BYTES, p, bytes, e) : 0;
}

int layer_blob_digest(struct layer_blob *b, char ret[static DIGEST_TEXT_BYTES], struct err *e)
{
	const size_t room = 256u << 10;

	if (!b->digest[0]) {
		struct digest *d = digest_new();
		uint8_t *buf = xmalloc_zero(1, room);
		uint64_t bytes = layer_blob_bytes(b);
		int rc = 0;

		for (uint64_t off = 0; rc == 0 && off < bytes; off += room) {
			size_t n = bytes - off < room ? (size_t)(bytes - off) : room;

			rc = layer_blob_read(b, off, buf, n, e);
			if (rc == 0)
				digest_add(d, buf, n);
		}
		if (rc == 0)
			digest_text(d, b->digest);
		digest_free(d);
		free(buf);
		if (rc < 0)
			return rc;
	}
	memcpy(ret, b->digest, DIGEST_TEXT_BYTES);
	return 0;
}

void layer_blob_free(struct layer_blob *b)
{
	if (!b)
		return;
	spool_free(b->spool);
	free(b);
}
