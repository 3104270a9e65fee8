/* SPDX-License-Identifier: Apache-2.0 */
/* lsmt.c - LSMT headers, trailers and the index of sealed layers, read and written */
#include "lsmt.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "err.h"
#include "lsmt_record.h"
#include "text.h"

static const uint8_t MAGIC[24] = {
    'L',  'S',	'M',  'T',  0x00, 0x01, 0x02, 0x00, 0x65, 0x7E, 0x63, 0xD2,
    0x94, 0x44, 0x08, 0x4C, 0xA2, 0xD2, 0xC8, 0xEC, 0x4F, 0xCF, 0xAE, 0x8A,
};

enum {
	FIELD_SIZE = 24,
	FIELD_FLAGS = 28,
	FIELD_INDEX_OFFSET = 32,
	FIELD_INDEX_COUNT = 40,
	FIELD_VIRTUAL = 48,
	FIELD_UUID = 56,
	FIELD_PARENT = 93,
	FIELD_VERSION = 132,
	FIELD_SUB_VERSION = 133,
	FIELD_USER_TAG = 134,
};

#define STRUCT_BYTES	 390u
#define USER_TAG_BYTES	 256u
#define UUID_ZERO	 "00000000-0000-0000-0000-000000000000"
#define DEVICE_MAX_BYTES (1ull << 59)

static bool uuid_valid(const uint8_t *s)
{
	for (int i = 0; i < LSMT_UUID_BYTES - 1; i++) {
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? s[i] != '-' : !isxdigit(s[i]))
			return false;
	}
	return true;
}

static void get_uuid(const uint8_t *s, char out[static LSMT_UUID_BYTES])
{
	if (uuid_valid(s))
		memcpy(out, s, LSMT_UUID_BYTES - 1);
	else
		memcpy(out, UUID_ZERO, LSMT_UUID_BYTES - 1);
	out[LSMT_UUID_BYTES - 1] = '\0';
}

/* Size and version fields are wrong in real blobs and are not looked at. */
static int decode(const uint8_t *p, const char *what, struct lsmt_header *ret, struct err *e)
{
	if (memcmp(p, MAGIC, sizeof(MAGIC)) != 0)
		return err_set(e, -EBADMSG, "lsmt %s: magic not found", what);
	memset(ret, 0, sizeof(*ret));
	ret->flags = get_le32(p + FIELD_FLAGS);
	ret->index_offset = get_le64(p + FIELD_INDEX_OFFSET);
	ret->index_count = get_le64(p + FIELD_INDEX_COUNT);
	ret->virtual_bytes = get_le64(p + FIELD_VIRTUAL);
	get_uuid(p + FIELD_UUID, ret->uuid);
	get_uuid(p + FIELD_PARENT, ret->parent);
	memcpy(ret->user_tag, p + FIELD_USER_TAG, USER_TAG_BYTES);
	if (ret->virtual_bytes > DEVICE_MAX_BYTES)
		return err_set(e, -EBADMSG, "lsmt %s: device of %" PRIu64 " bytes", what,
			       ret->virtual_bytes);
	return 0;
}

int lsmt_parse_header(const void *p4096, struct lsmt_header *ret, struct err *e)
{
	struct lsmt_header h;
	int r = decode(p4096, "header", &h, e);

	if (r < 0)
		return r;
	if (!(h.flags & LSMT_FLAG_HEADER) || !(h.flags & LSMT_FLAG_DATA))
		return err_set(e, -EBADMSG, "lsmt header: not the header of a data file");
	*ret = h;
	return 0;
}

int lsmt_parse_trailer(const void *p4096, uint64_t layer_bytes, struct lsmt_header *ret,
		       struct err *e)
{
	struct lsmt_header h;
	int r = decode(p4096, "trailer", &h, e);

	if (r < 0)
		return r;
	if ((h.flags & LSMT_FLAG_HEADER) || !(h.flags & LSMT_FLAG_DATA) ||
	    !(h.flags & LSMT_FLAG_SEALED))
		return err_set(e, -EBADMSG, "lsmt trailer: not the trailer of a sealed layer");
	if (h.index_count > LSMT_RO_MAX_RECORDS)
		return err_set(e, -EBADMSG, "lsmt trailer: %" PRIu64 " index records are too many",
			       h.index_count);
	if (layer_bytes < 2 * LSMT_HEADER_BYTES || h.index_offset < LSMT_HEADER_BYTES ||
	    !range_inside(lsmt_index_range(&h), layer_bytes - LSMT_HEADER_BYTES))
		return err_set(e, -EBADMSG, "lsmt trailer: index lies outside the layer");
	*ret = h;
	return 0;
}

int lsmt_parse_rw_index_header(const void *p4096, struct lsmt_header *ret, struct err *e)
{
	struct lsmt_header h;
	int r = decode(p4096, "index header", &h, e);

	if (r < 0)
		return r;
	if (!(h.flags & LSMT_FLAG_HEADER) || (h.flags & LSMT_FLAG_DATA) ||
	    (h.flags & LSMT_FLAG_SEALED) || h.index_offset != LSMT_HEADER_BYTES)
		return err_set(e, -EBADMSG, "lsmt index header: not a read-write index file");
	*ret = h;
	return 0;
}

struct range lsmt_index_range(const struct lsmt_header *trailer)
{
	return range_of(trailer->index_offset, trailer->index_count * LSMT_RECORD_BYTES);
}

/* Reader rule 5, of one record. @end: sector behind the data. */
static bool data_inside(const struct lsmt_record *rec, uint64_t end)
{
	if (rec->moff < LSMT_HEADER_BYTES / LSMT_SECTOR_BYTES)
		return false;
	if (rec->zeroed)
		return rec->moff <= end;
	return rec->moff < end && rec->len <= end - rec->moff;
}

/* In a warp layer all tags are shifted so that the smallest is 0; 0 and 1 are then defined. */
static uint8_t least_tag(const uint8_t *p, uint64_t count)
{
	uint8_t least = UINT8_MAX;

	for (uint64_t n = 0; n < count; n++) {
		struct lsmt_record rec;

		if (lsmt_record_get(p + n * LSMT_RECORD_BYTES, &rec) && rec.tag < least)
			least = rec.tag;
	}
	return least;
}

static int check_record(struct lsmt_record *rec, enum lsmt_kind kind, uint8_t tag_base,
			uint64_t data_end, struct err *e)
{
	bool remote = false;

	if (kind == LSMT_WARP) {
		rec->tag = (uint8_t)(rec->tag - tag_base);
		if (rec->tag > 1)
			return err_set(e, -EBADMSG, "lsmt index: source tag %u in a warp layer",
				       rec->tag);
		remote = rec->tag == 1;
	} else {
		rec->tag = 0;
	}
	if (remote) {
		/* upstream leaves the zeroed bit of these uninitialised: they are always data */
		rec->zeroed = false;
		if (rec->moff > LSMT_DEVICE_MAX_SECTORS)
			return err_set(e, -EBADMSG, "lsmt index: target sector %" PRIu64,
				       rec->moff);
	} else if (!data_inside(rec, data_end)) {
		return err_set(e, -EBADMSG,
			       "lsmt index: record at sector %" PRIu64
			       " is mapped outside the data",
			       rec->off);
	}
	return 0;
}

int lsmt_index_parse(const struct lsmt_header *trailer, enum lsmt_kind kind, const void *records,
		     struct lsmt_index *ret, struct err *e)
{
	const uint8_t *p = records;
	uint64_t data_end = trailer->index_offset / LSMT_SECTOR_BYTES;
	uint8_t tag_base = kind == LSMT_WARP ? least_tag(p, trailer->index_count) : 0;
	struct lsmt_index i = {0};
	uint64_t next = 0;

	i.seg = xmalloc_zero(trailer->index_count + 1, sizeof(*i.seg));
	for (uint64_t n = 0; n < trailer->index_count; n++) {
		struct lsmt_record rec;
		int r;

		if (!lsmt_record_get(p + n * LSMT_RECORD_BYTES, &rec))
			continue;
		if (rec.off < next) {
			lsmt_index_done(&i);
			return err_set(e, -EBADMSG,
				       "lsmt index: record %" PRIu64 " overlaps or is out of order",
				       n);
		}
		next = rec.off + rec.len;
		r = check_record(&rec, kind, tag_base, data_end, e);
		if (r < 0) {
			lsmt_index_done(&i);
			return r;
		}
		if (rec.len > 0)
			i.seg[i.count++] = lsmt_record_segment(&rec);
	}
	*ret = i;
	return 0;
}

void lsmt_index_done(struct lsmt_index *i)
{
	free(i->seg);
	i->seg = NULL;
	i->count = 0;
}

static void put_uuid(uint8_t *p, const char *uuid)
{
	memcpy(p, uuid_valid((const uint8_t *)uuid) ? uuid : UUID_ZERO, LSMT_UUID_BYTES - 1);
}

void lsmt_encode_header(const struct lsmt_header *h, uint8_t out[static LSMT_HEADER_BYTES])
{
	memset(out, 0, LSMT_HEADER_BYTES);
	memcpy(out, MAGIC, sizeof(MAGIC));
	put_le32(out + FIELD_SIZE, STRUCT_BYTES);
	put_le32(out + FIELD_FLAGS, h->flags);
	put_le64(out + FIELD_INDEX_OFFSET, h->index_offset);
	put_le64(out + FIELD_INDEX_COUNT, h->index_count);
	put_le64(out + FIELD_VIRTUAL, h->virtual_bytes);
	put_uuid(out + FIELD_UUID, h->uuid);
	put_uuid(out + FIELD_PARENT, h->parent);
	out[FIELD_VERSION] = 1;
	out[FIELD_SUB_VERSION] = 1;
	memcpy(out + FIELD_USER_TAG, h->user_tag, strnlen(h->user_tag, USER_TAG_BYTES));
}

/* A run of segments that continue each other, in sectors; longer than one record can be. */
struct run {
	uint64_t off, moff, len;
	uint8_t tag;
	bool zeroed;
};

static bool run_continues(const struct run *r, const struct lsmt_segment *s)
{
	return r->len > 0 && r->zeroed == s->zeroed && r->tag == s->tag &&
	       r->off + r->len == s->off / LSMT_SECTOR_BYTES &&
	       (r->zeroed || r->moff + r->len == s->moff / LSMT_SECTOR_BYTES);
}

/* Write @r as records at @out when given, and return how many there are. */
static uint64_t run_flush(const struct run *r, uint64_t end_sector, uint8_t *out)
{
	uint64_t n = 0;

	for (uint64_t done = 0; done < r->len; n++) {
		struct lsmt_record rec = {
		    .off = r->off + done,
		    .len = (uint32_t)min_u64(r->len - done, LSMT_RECORD_MAX_SECTORS),
		    .moff = r->zeroed ? end_sector : r->moff + done,
		    .tag = r->tag,
		    .zeroed = r->zeroed,
		};

		if (out)
			lsmt_record_put(&rec, out + n * LSMT_RECORD_BYTES);
		done += rec.len;
	}
	return n;
}

static uint64_t encode_runs(const struct lsmt_segment *seg, size_t count, uint64_t end_sector,
			    uint8_t *out)
{
	struct run run = {0};
	uint64_t n = 0;

	for (size_t i = 0; i <= count; i++) {
		if (i < count && run_continues(&run, &seg[i])) {
			run.len += seg[i].len / LSMT_SECTOR_BYTES;
			continue;
		}
		n += run_flush(&run, end_sector, out ? out + n * LSMT_RECORD_BYTES : NULL);
		if (i < count)
			run = (struct run){
			    .off = seg[i].off / LSMT_SECTOR_BYTES,
			    .moff = seg[i].moff / LSMT_SECTOR_BYTES,
			    .len = seg[i].len / LSMT_SECTOR_BYTES,
			    .tag = seg[i].tag,
			    .zeroed = seg[i].zeroed,
			};
	}
	return n;
}

/* What is written must pass our own reader. */
static bool encodable(const struct lsmt_segment *s, uint64_t next, uint64_t end_of_data)
{
	if (s->off < next || s->off % LSMT_SECTOR_BYTES || s->len % LSMT_SECTOR_BYTES ||
	    s->len == 0 || s->off > DEVICE_MAX_BYTES - s->len)
		return false;
	if (s->zeroed)
		return true;
	if (s->moff % LSMT_SECTOR_BYTES || s->moff > DEVICE_MAX_BYTES)
		return false;
	return s->tag != 0 || (s->moff >= LSMT_HEADER_BYTES &&
			       range_inside(range_of(s->moff, s->len), end_of_data));
}

int lsmt_index_encode(const struct lsmt_segment *seg, size_t count, uint64_t end_of_data,
		      uint8_t **ret_records, uint64_t *ret_count, struct err *e)
{
	uint64_t end_sector = end_of_data / LSMT_SECTOR_BYTES;
	uint64_t real, padded, next = 0;
	uint8_t *out;

	if (end_of_data < LSMT_HEADER_BYTES || end_of_data % LSMT_SECTOR_BYTES)
		return err_set(e, -EINVAL, "lsmt index: data ends at %" PRIu64, end_of_data);
	for (size_t i = 0; i < count; i++) {
		if (!encodable(&seg[i], next, end_of_data))
			return err_set(
			    e, -EINVAL,
			    "lsmt index: segment %zu is misaligned, out of order or out of bounds",
			    i);
		next = seg[i].off + seg[i].len;
	}
	real = encode_runs(seg, count, end_sector, NULL);
	padded = round_up(real, LSMT_PAD_RECORDS);
	if (padded > LSMT_RO_MAX_RECORDS)
		return err_set(e, -EOVERFLOW, "lsmt index: %" PRIu64 " records are too many", real);
	out = xmalloc_zero(padded + 1, LSMT_RECORD_BYTES);
	encode_runs(seg, count, end_sector, out);
	for (uint64_t n = real; n < padded; n++)
		put_le64(out + n * LSMT_RECORD_BYTES, LSMT_INVALID_OFFSET);
	*ret_records = out;
	*ret_count = padded;
	return 0;
}

void lsmt_uuid_from_chain(const char *chain_id, char out[static LSMT_UUID_BYTES])
{
	const char *colon = strchr(chain_id, ':');
	const char *hex = colon ? colon + 1 : chain_id;

	memcpy(out, UUID_ZERO, LSMT_UUID_BYTES);
	for (int i = 0; i < LSMT_UUID_BYTES - 1; i++) {
		if (out[i] == '-')
			continue;
		if (!isxdigit((unsigned char)*hex))
			break;
		out[i] = (char)toupper((unsigned char)*hex++);
	}
}
