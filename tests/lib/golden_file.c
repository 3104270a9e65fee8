/* SPDX-License-Identifier: Apache-2.0 */
/* golden_file.c - the unpacked golden vectors */
#include "golden_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "tar_envelope.h"
#include "text.h"
#include "zfile.h"

#ifndef HS_GOLDEN_DIR
#define HS_GOLDEN_DIR "golden"
#endif

#define GOLDEN_MAX_BYTES (256u << 20)

uint8_t *golden_read(const char *name, size_t *ret_bytes)
{
	_cleanup_free_ char *path = text_printf("%s/%s", HS_GOLDEN_DIR, name);
	struct err e = {0};
	char *data;

	if (text_read_file(path, GOLDEN_MAX_BYTES, &data, ret_bytes, &e) < 0) {
		fprintf(stderr, "golden vector: %s\n", e.msg);
		exit(1);
	}
	return (uint8_t *)data;
}

uint8_t *golden_zfile(const uint8_t *p, size_t bytes, size_t *ret_bytes)
{
	struct zfile_table *t = NULL;
	struct zfile_info i;
	struct codec *c;
	uint8_t *out;
	int r;

	if (!zfile_detect(p, bytes) || zfile_parse_header(p, bytes, &i, NULL) < 0)
		return NULL;
	if (!i.final && zfile_parse_trailer(p + bytes - ZFILE_HEADER_BYTES, bytes, &i, NULL) < 0)
		return NULL;
	if (zfile_table_new(&i, p + i.index_offset, &t, NULL) < 0)
		return NULL;
	c = codec_new();
	out = xmalloc_zero(1, i.original_bytes + 1);
	for (uint64_t n = 0; n < i.block_count; n++) {
		struct range b = zfile_blocks(t, n, 1);

		r = zfile_block_decode(&i, n, c, p + b.off, b.len, out + n * i.block_bytes);
		if (r < 0) {
			free(out);
			out = NULL;
			break;
		}
	}
	codec_free(c);
	zfile_table_free(t);
	*ret_bytes = i.original_bytes;
	return out;
}

uint8_t *golden_layer(const char *name, size_t *ret_bytes)
{
	_cleanup_free_ uint8_t *blob = golden_read(name, ret_bytes);
	size_t head = *ret_bytes < TAR_ENVELOPE_HEAD_BYTES ? *ret_bytes : TAR_ENVELOPE_HEAD_BYTES;
	struct range payload;
	uint8_t *layer;

	if (tar_envelope_parse(blob, head, *ret_bytes, &payload, NULL) < 0)
		return NULL;
	if (zfile_detect(blob + payload.off, payload.len))
		return golden_zfile(blob + payload.off, payload.len, ret_bytes);
	layer = xmalloc_zero(1, payload.len + 1);
	memcpy(layer, blob + payload.off, payload.len);
	*ret_bytes = payload.len;
	return layer;
}

const struct golden_row *golden_manifest(void)
{
	static struct golden_row rows[256];
	size_t n = 0, bytes;
	char *text, *line;

	if (rows[0].name)
		return rows;
	text = (char *)golden_read("manifest.tsv", &bytes);
	while ((line = strsep(&text, "\n"))) {
		char *field[10] = {0};

		if (line[0] == '#' || line[0] == '\0')
			continue;
		for (int f = 0; f < 10; f++)
			field[f] = strsep(&line, "\t");
		if (!field[9] || n == sizeof(rows) / sizeof(rows[0]) - 1) {
			fprintf(stderr, "golden manifest: bad line\n");
			exit(1);
		}
		rows[n++] = (struct golden_row){
		    .name = field[0],
		    .kind = field[1],
		    .expected = field[2],
		    .size = field[4],
		    .image_sha256 = field[5],
		    .mapped_sha256 = field[6],
		    .mappings = field[7],
		};
	}
	return rows;
}
